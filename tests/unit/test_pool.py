"""A pool of kernels without kernels: its threads, its callers and its options."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway_blocking import (
    GatewayClient,
    GatewayConnectionError,
    KernelPool,
    PoolClosed,
    PoolTimeout,
)
from support.pools import URL, FakeKernel, fake_kernels, new_pool, use
from support.waiting import wait_until


@pytest.fixture(autouse=True)
def made() -> Iterator[list[FakeKernel]]:
    """The kernels of the test's pools."""
    with fake_kernels() as made:
        yield made


# --- options --------------------------------------------------------------------------------------


def test_an_unknown_option_is_an_error_that_names_the_nearest() -> None:
    """As for a manager."""
    with pytest.raises(TypeError, match=r"KernelPool got .* 'kernel_nam'.*kernel_name"):
        new_pool(kernel_nam="python3")
    with pytest.raises(TypeError, match="pass either gateway= or url=, not both"):
        new_pool(gateway=GatewayClient(url=URL))
    with pytest.raises(TypeError, match="setup must be code as a str, got 1"):
        new_pool(setup=1)
    with pytest.raises(ValueError, match="max_size must be at least min_size"):
        new_pool(3, 2)
    with pytest.raises(GatewayConnectionError, match="no gateway is configured"):
        KernelPool()


def test_arguments_that_a_pool_cannot_fulfil_are_an_error() -> None:
    """Before anything is executed."""
    pool = new_pool()
    with pytest.raises(ValueError, match="on_timeout='leave' is not possible in a pool"):
        pool.run("1", on_timeout="leave")
    with pytest.raises(ValueError, match="check=True is not possible in map"):
        pool.map(["1"], check=True)
    with pytest.raises(TypeError, match="codes must be an iterable of codes, got a single str"):
        pool.map("1")
    with pytest.raises(ValueError, match="^timeout must not be negative, got -1$"):
        pool.kernel(timeout=-1)
    with pytest.raises(ValueError, match="^kernel_timeout must not be negative, got -1$"):
        pool.map(["1"], kernel_timeout=-1)


def test_a_code_that_is_no_text_is_an_error_of_map() -> None:
    """It is raised in the loop."""
    with new_pool() as pool, pytest.raises(TypeError, match="each code must be a str, got 1"):
        list(pool.map([1]))  # type: ignore[list-item]


# --- threads --------------------------------------------------------------------------------------


def test_a_pool_starts_its_threads_when_it_is_opened_and_ends_them_when_it_is_closed() -> None:
    """Their names contain the name of the pool."""
    pool = new_pool(1, 3)
    assert not [t for t in threading.enumerate() if pool.name in t.name]
    with pool:
        pool.open()
        pool.wait(60)
        names = sorted(t.name for t in threading.enumerate() if f"{pool.name}-" in t.name)
        assert names == [f"gateway-{pool.name}-worker-{number}" for number in (1, 2, 3)]
        assert repr(pool) == f"<KernelPool '{pool.name}': 1 kernels, 1 idle, 0 callers wait>"
    assert not [t for t in threading.enumerate() if f"{pool.name}-" in t.name]


def test_close_does_not_wait_for_a_start_that_hangs(
    made: list[FakeKernel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the thread, which ends later."""
    hangs, goes_on = threading.Event(), threading.Event()

    def start(kernel: FakeKernel) -> None:
        hangs.set()
        assert goes_on.wait(60)
        kernel.is_running = True

    monkeypatch.setattr(FakeKernel, "start", start)
    pool = new_pool(1, 1)
    pool.open()
    assert hangs.wait(60)
    pool.close(timeout=0.01)
    assert f"gateway-{pool.name}-worker-1" in caplog.text
    assert made[0].calls == ["stop"]
    goes_on.set()


def test_the_pool_of_a_caller_is_not_collected() -> None:
    """Its kernel is in use."""
    pool = new_pool(1, 1)
    pool.open()
    checkout = pool.kernel(timeout=60)
    with checkout as kernel:
        del pool
        gc.collect()
        assert kernel.is_running  # type: ignore[attr-defined]


# --- callers --------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_answer_is_not_given_to_a_caller(made: list[FakeKernel]) -> None:
    """The caller waits for another."""
    with new_pool(1, 1) as pool:
        pool.wait(60)
        made[0].answers = False
        with pool.kernel(timeout=60) as kernel:
            assert kernel is made[1]
        stats = pool.stats()
        assert (stats.found_dead, stats.reset_failures) == (1, 1)


def test_a_timeout_of_zero_gets_a_kernel_that_is_idle() -> None:
    """And does not wait for another."""
    with new_pool(1, 1) as pool:
        pool.wait(60)
        with pool.kernel(timeout=0), pytest.raises(PoolTimeout, match="within 0 s"):
            pool.kernel(timeout=0).__enter__()


@pytest.mark.parametrize("error", [GatewayConnectionError("away"), ValueError("wrong")])
def test_wait_tells_why_no_kernel_could_be_started(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, if waiting does not help; otherwise after its timeout."""
    monkeypatch.setattr(FakeKernel, "start_error", error)
    with new_pool(1, 1) as pool:
        if isinstance(error, ValueError):
            with pytest.raises(ValueError, match="^wrong$"):
                pool.wait(60)
        else:
            with pytest.raises(PoolTimeout, match="0.1 s: .*; the last failure: away") as info:
                pool.wait(0.1)
            assert info.value.__cause__ is error


def test_a_kernel_that_cannot_be_shut_down_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again."""
    monkeypatch.setattr("gateway_blocking.pool_state.POOL_START_PAUSE", 0.01)
    with new_pool(1, 1, reset="new") as pool:
        monkeypatch.setattr(FakeKernel, "end_error", GatewayConnectionError("away"))
        with pool.kernel(timeout=60):
            pass
        wait_until(lambda: pool.stats().ending)
        monkeypatch.setattr(FakeKernel, "end_error", None)
        wait_until(lambda: pool.stats().starts == 2)


def test_many_callers_are_all_served() -> None:
    """Kernels that stop answering are replaced meanwhile."""
    with new_pool(1, 3, max_uses=7) as pool, ThreadPoolExecutor(8) as threads:

        def use_and_break(number: int) -> bool:
            with pool.kernel(timeout=60) as kernel:
                kernel.answers = bool(number % 5)  # type: ignore[attr-defined]
                return kernel.is_running  # type: ignore[attr-defined]

        assert all(threads.map(use_and_break, range(400)))
        stats = pool.stats()
        assert stats.checkouts == 400
        assert stats.failures == 0


def test_close_wakes_all_callers() -> None:
    """Each raises PoolClosed."""
    with new_pool(1, 1) as pool, ThreadPoolExecutor(4) as threads, pool.kernel(timeout=60):
        jobs = [threads.submit(use, pool) for _ in range(4)]
        wait_until(lambda: pool.stats().waiting == 4)
        pool.close()
        assert all(isinstance(job.exception(60), PoolClosed) for job in jobs)
