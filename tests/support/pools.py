"""Pools whose kernels are fake: they start at once, and are ready until a test says otherwise."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway_blocking import KernelNotReady, KernelPool
from gateway_blocking.pool_model import PoolStats
from support.waiting import wait_until

URL = "http://127.0.0.1:1"


class FakeKernel:
    """A kernel that is ready at once, until a test says otherwise."""

    made: list[FakeKernel]
    start_error: Exception | None = None
    end_error: Exception | None = None

    def __init__(self, *_: object) -> None:
        self.made.append(self)
        self.seems_alive = self.answers = True
        self.is_running = False
        self.calls: list[str] = []

    @property
    def running_client(self) -> FakeKernel:
        return self

    def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.is_running = True

    def is_ready(self, timeout: float) -> bool:
        assert self.is_running
        return self.answers

    def reset(self, restart: bool) -> None:
        self.calls.append(f"reset {restart}")
        if not self.answers:
            raise KernelNotReady("it does not answer")

    def stop(self) -> None:
        self.calls.append("stop")

    def end(self) -> None:
        if self.end_error is not None:
            raise self.end_error
        self.is_running = False


@contextmanager
def fake_kernels() -> Iterator[list[FakeKernel]]:
    """Give the kernels of pools, which are fake; none of them is left, and no thread of a pool."""
    FakeKernel.made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_blocking.pool.PoolKernel", FakeKernel)
        yield FakeKernel.made
        wait_until(lambda: not _threads() or gc.collect() < 0)
    assert not any(kernel.is_running for kernel in FakeKernel.made)


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gateway-pool")]


def new_pool(*sizes: int, **options: Any) -> KernelPool:
    return KernelPool(*sizes, **{"url": URL, "reset": None, **options})


def is_quiet(stats: PoolStats) -> bool:
    return stats.size == stats.idle


def use(pool: KernelPool) -> None:
    with pool.kernel(timeout=60):
        pass
