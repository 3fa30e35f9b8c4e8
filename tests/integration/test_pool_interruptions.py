"""A Ctrl-C at any moment, in callers of a pool of kernels."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from gateway_blocking import KernelPool
from support.interrupting import interrupt_at_each_moment, interrupt_often
from support.pools import FakeKernel, fake_kernels, is_quiet, new_pool, use
from support.waiting import wait_until


@pytest.fixture(autouse=True)
def made() -> Iterator[list[FakeKernel]]:
    """The kernels of the test's pools."""
    with fake_kernels() as made:
        yield made


def is_whole(pool: KernelPool) -> bool:
    """Return True if the kernel is idle again, and no caller waits."""
    wait_until(lambda: is_quiet(pool.stats()) or gc.collect() < 0)
    stats = pool.stats()
    return (stats.size, stats.idle, stats.waiting) == (1, 1, 0)


def test_a_caller_that_is_interrupted_at_any_moment_leaves_no_trace() -> None:
    """Its kernel comes back, and its place in the queue is free."""
    with new_pool(1, 1) as pool:
        pool.wait(60)
        for interrupted in interrupt_at_each_moment():
            interrupted(lambda: use(pool))
            assert is_whole(pool)


def test_a_caller_that_is_interrupted_in_the_queue_leaves_it() -> None:
    """At any moment, by a signal."""
    with new_pool(1, 1) as pool, pool.kernel(timeout=60):

        def has_left() -> bool:
            wait_until(lambda: not pool.stats().waiting or gc.collect() < 0)
            return True

        interrupt_often(lambda: pool.kernel(timeout=60).__enter__(), has_left, least=20)


def test_a_close_that_is_interrupted_can_be_repeated() -> None:
    """At whatever moment."""
    for interrupted in interrupt_at_each_moment():
        pool = new_pool(1, 1)
        pool.open()
        interrupted(pool.close)
        pool.close()
        assert not pool.stats().size
