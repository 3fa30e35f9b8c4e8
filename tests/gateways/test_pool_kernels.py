"""A pool of kernels on a real gateway: warm, healthy, fair, and nothing is left of it."""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import (
    BlockingGatewayKernelManager,
    DeadKernelError,
    ExecutionError,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    KernelPool,
    MessageTooLarge,
    NoSuchKernelSpec,
    PoolClosed,
    PoolSetupFailed,
    PoolTimeout,
    start_new_kernel,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.pool_model import PoolStats
from support.faultproxy import FaultProxy
from support.kernels import deaf_cell
from support.leaks import nothing_left
from support.owners import kernels, program, wait_until_gone
from support.ports import free_port
from support.servers import Server, kernels_of, own_gateway
from support.waiting import wait_until

PID = "import os\nos.getpid()"


@pytest.fixture
def options(gateway: LocalGateway) -> Iterator[dict[str, Any]]:
    """Options of a pool on the session's gateway; nothing is left at the end."""
    with nothing_left(gateway):
        yield gateway.options()


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_quiet(stats: PoolStats) -> bool:
    """Return True if all kernels are idle."""
    return stats.size == stats.idle


# --- kernels that are warm ------------------------------------------------------------------------


def test_a_checkout_of_a_warm_kernel_takes_a_fraction_of_a_start(options: dict[str, Any]) -> None:
    """It is one round trip to the kernel."""
    begun = time.perf_counter()
    manager, client = start_new_kernel(**options)
    start = time.perf_counter() - begun
    with manager, client, KernelPool(1, 1, reset=None, **options) as pool:
        pool.wait()
        taken = []
        for _ in range(20):
            wait_until(lambda: is_quiet(pool.stats()))
            begun = time.perf_counter()
            with pool.kernel():
                taken.append(time.perf_counter() - begun)
    assert statistics.median(taken) < start / 10


def test_a_kernel_has_executed_the_setup_code_and_nothing_else(options: dict[str, Any]) -> None:
    """Also after a restart: the variables of the last caller are gone."""
    with KernelPool(1, 1, setup="x = 40", **options) as pool:
        for _ in range(2):
            with pool.kernel(timeout=60) as kc:
                done = kc.run("x += 2\n'y' in globals(), x")
                assert done.text() == "(False, 42)"
                assert done.execution_count == 1
                kc.run("y = 1")
        assert pool.stats().resets >= 1


def test_reset_none_keeps_the_variables(options: dict[str, Any]) -> None:
    """The kernel goes to the next caller as it is."""
    with KernelPool(1, 1, setup="x = 0", reset=None, **options) as pool:
        results = [pool.run("x += 1; x", kernel_timeout=60).text() for _ in range(3)]
    assert results == ["1", "2", "3"]


def test_reset_new_replaces_the_kernel(options: dict[str, Any]) -> None:
    """Each caller has a kernel of its own."""
    with KernelPool(1, 1, reset="new", **options) as pool:
        ids = {pool.run("", kernel_timeout=60).kernel_id for _ in range(3)}
    assert len(ids) == 3


def test_a_pool_has_its_kernels_and_grows_to_its_largest_size(
    gateway: LocalGateway, options: dict[str, Any]
) -> None:
    """Callers that wait are a reason for more kernels, up to the limit; idle ones end."""
    before = len(kernels_of(gateway))
    with KernelPool(1, 2, reset=None, idle_timeout=0.1, **options) as pool:
        pool.wait()
        assert len(kernels_of(gateway)) == before + 1
        with pool.kernel(), pool.kernel(timeout=60):
            with pytest.raises(PoolTimeout, match=r"at most 2 kernels \(2 in use\)"):
                pool.kernel(timeout=0).__enter__()
            assert len(kernels_of(gateway)) == before + 2
        wait_until(lambda: len(kernels_of(gateway)) == before + 1)
        assert pool.stats().failures == 1


def test_callers_get_their_kernels_in_the_order_in_which_they_came(
    options: dict[str, Any],
) -> None:
    """Each waits for the one before."""
    order: list[int] = []

    def use(number: int) -> None:
        with pool.kernel(timeout=60):
            order.append(number)

    with KernelPool(1, 1, reset=None, **options) as pool, ThreadPoolExecutor(4) as threads:
        with pool.kernel(timeout=60):
            for number in range(4):
                threads.submit(use, number)
                wait_until(lambda: pool.stats().waiting == number + 1)  # noqa: B023 - called now
        threads.shutdown()
    assert order == [0, 1, 2, 3]


# --- what a caller leaves -------------------------------------------------------------------------


def leave_busy(kc: Any, folder: Path) -> None:
    """Send code that an interrupt ends, and wait until it runs."""
    kc.execute(f"open({str(folder / 'busy')!r}, 'w').close(); import time; time.sleep(600)")
    wait_until((folder / "busy").exists)


def leave_deaf(kc: Any, folder: Path) -> None:
    """Send code that no interrupt ends."""
    kc.execute(deaf_cell(folder / "deaf"))
    wait_until((folder / "deaf").exists)


def leave_messages(kc: Any, folder: Path) -> None:
    """Take neither replies nor output."""
    for number in range(5):
        kc.execute(f"print({number})")
    kc.kernel_info(reply=True, timeout=60)


LEAVE = {
    "busy": leave_busy,
    "deaf": leave_deaf,
    "messages": leave_messages,
    "restarted": lambda kc, folder: kc.restart_kernel(),
    "killed": lambda kc, folder: kill(int(kc.run(PID).text())),
    "shut down": lambda kc, folder: kc.rest.delete_kernel(kc.kernel_id),
    "stopped": lambda kc, folder: kc.stop_channels(),
}


OTHERS = [(left, reset) for left in ("busy", "killed", "shut down") for reset in ("restart", "new")]


@pytest.mark.parametrize(("left", "reset"), [*((left, None) for left in LEAVE), *OTHERS])
def test_the_next_caller_gets_a_kernel_that_is_ready_whatever_the_last_one_left(
    left: str, reset: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    """Idle, alive, with the setup code, and without messages of others."""
    with KernelPool(1, 1, setup="x = 42", reset=reset, **options) as pool:
        with pool.kernel(timeout=60) as kc:
            LEAVE[left](kc, tmp_path)
        with pool.kernel(timeout=60) as kc:
            assert not kc.shell_channel.msg_ready()
            # A gateway asks each new process itself, and the kernel may reply to that late.
            assert {message["msg_type"] for message in kc.iopub_channel.get_msgs()} <= {"status"}
            assert kc.run("x", timeout=60).text() == "42"


def test_the_exception_of_a_caller_is_its_own(options: dict[str, Any]) -> None:
    """The kernel comes back all the same."""
    with KernelPool(1, 1, reset=None, **options) as pool:
        with pytest.raises(ZeroDivisionError), pool.kernel(timeout=60):
            raise ZeroDivisionError
        assert pool.run("1").text() == "1"


def test_a_checkout_is_used_once(options: dict[str, Any]) -> None:
    """Its kernel belongs to others afterwards."""
    with KernelPool(1, 1, reset=None, **options) as pool:
        checkout = pool.kernel(timeout=60)
        with checkout:
            pass
        with pytest.raises(RuntimeError, match="call kernel\\(\\) of the pool again"):
            checkout.__enter__()
        assert pool.run("1").text() == "1"


def test_a_checkout_that_is_forgotten_is_returned(options: dict[str, Any]) -> None:
    """When it is collected."""
    with KernelPool(1, 1, reset=None, **options) as pool:
        checkout = pool.kernel(timeout=60)
        checkout.__enter__()
        del checkout
        gc.collect()
        assert pool.run("1", kernel_timeout=60).text() == "1"


# --- deaths ---------------------------------------------------------------------------------------


def test_an_idle_kernel_that_was_killed_is_not_given_to_a_caller(options: dict[str, Any]) -> None:
    """Before the gateway knows it, the health check does."""
    with KernelPool(1, 1, setup="x = 42", reset=None, **options) as pool:
        pid = int(pool.run(PID, kernel_timeout=60).text())
        wait_until(lambda: is_quiet(pool.stats()))
        kill(pid)
        with pool.kernel(timeout=60) as kc:
            assert kc.run("x", timeout=60).text() == "42"
            assert int(kc.run(PID).text()) != pid
        assert pool.stats().found_dead


def test_an_idle_kernel_that_died_is_replaced_without_a_caller(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool looks at what the connections have heard."""
    monkeypatch.setattr("gateway_blocking.pool_state.POOL_WATCH_INTERVAL", 0.1)
    with KernelPool(1, 1, reset=None, **options) as pool:
        with pool.kernel(timeout=60) as kc:
            kernel_id = kc.kernel_id
        wait_until(lambda: is_quiet(pool.stats()))
        BlockingGatewayKernelManager(**options).rest.delete_kernel(kernel_id)
        wait_until(lambda: pool.stats().starts == 2)
        assert pool.run("", kernel_timeout=60).kernel_id != kernel_id


def test_a_kernel_that_dies_in_use_is_an_error_of_its_caller(options: dict[str, Any]) -> None:
    """The code is not executed again, and the next caller has another kernel."""
    with KernelPool(1, 1, reset=None, **options) as pool:
        done = pool.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", timeout=60)
        assert done.status == "died"
        assert isinstance(done.exception, DeadKernelError)
        assert pool.run("1", kernel_timeout=60).text() == "1"


# --- gateways -------------------------------------------------------------------------------------


def test_callers_wait_while_the_gateway_is_away(gateway: LocalGateway, proxy: FaultProxy) -> None:
    """Kernels that were lost are replaced, and nothing is left."""
    options = {**gateway.options(), "url": proxy.url}
    # A start that was cut off is searched for so long.
    options |= {"request_timeout": 10, "kernel_launch_timeout": 8}
    with nothing_left(gateway), KernelPool(1, 2, **options) as pool:
        pool.wait()
        with pool.kernel() as kc, ThreadPoolExecutor(3) as threads:
            with proxy.refusing():
                for link in proxy.links:
                    link.cut("rst")
                jobs = [threads.submit(pool.run, "6 * 7", kernel_timeout=None) for _ in range(3)]
                wait_until(lambda: pool.stats().start_failures)
                with pytest.raises(PoolTimeout, match="the last failure: ") as info:
                    pool.kernel(timeout=0.5).__enter__()
                assert isinstance(info.value.__cause__, GatewayError)
            assert [job.result(timeout=90).text() for job in jobs] == ["42"] * 3
            assert kc.run("6 * 7", timeout=60).text() == "42"


def test_a_gateway_that_was_never_there_is_the_cause_of_the_timeout(unused_port: int) -> None:
    """Callers may wait for it, and hear what the matter is."""
    with nothing_left(), KernelPool(1, url=f"http://127.0.0.1:{unused_port}") as pool:
        for wait in (pool.wait, lambda timeout: pool.kernel(timeout).__enter__()):
            with pytest.raises(PoolTimeout, match="the last failure: ") as info:
                wait(timeout=1)
            assert isinstance(info.value.__cause__, GatewayConnectionError)


@pytest.fixture
def unused_port() -> int:
    """A port at which nothing listens."""
    return free_port()


def test_a_full_gateway_serves_callers_as_kernels_come_back() -> None:
    """A caller that does not get one in time is told that the gateway is full."""
    with own_gateway("--KernelGatewayApp.max_kernels=1") as gateway, nothing_left(gateway):
        options = gateway.options()
        with KernelPool(1, 3, reset=None, **options) as pool, ThreadPoolExecutor(3) as threads:
            pool.wait()
            with pool.kernel(), pytest.raises(PoolTimeout, match="max_kernels|limit") as info:
                pool.kernel(timeout=1).__enter__()
            assert isinstance(info.value.__cause__, GatewayFull)
            jobs = [threads.submit(pool.run, "6 * 7", kernel_timeout=60) for _ in range(6)]
            assert [job.result(timeout=60).text() for job in jobs] == ["42"] * 6
        manager, client = start_new_kernel(**options)
        with manager, client, KernelPool(0, 1, **options) as pool, ThreadPoolExecutor() as threads:
            job = threads.submit(pool.run, "6 * 7", kernel_timeout=60)
            wait_until(lambda: pool.stats().start_failures)
            manager.shutdown_kernel()
            assert job.result(timeout=60).text() == "42"


def test_setup_code_that_fails_is_an_error_at_once(options: dict[str, Any]) -> None:
    """For wait() and for callers, and its kernels are shut down."""
    with KernelPool(1, 2, setup="import no_such_module", **options) as pool:
        text = "failed: ModuleNotFoundError: No module named 'no_such_module'; correct the setup= "
        with pytest.raises(PoolSetupFailed, match=text) as info:
            pool.wait(timeout=60)
        assert isinstance(info.value.__cause__, ExecutionError)
        with pytest.raises(PoolSetupFailed):
            pool.run("1", kernel_timeout=60)


def test_a_kernelspec_that_does_not_exist_is_an_error_at_once(options: dict[str, Any]) -> None:
    """It has the text of a start."""
    with (
        KernelPool(1, 2, kernel_name="cobol", **options) as pool,
        pytest.raises(NoSuchKernelSpec, match="no kernelspec 'cobol'"),
    ):
        pool.run("1", kernel_timeout=60)


# --- run and map ----------------------------------------------------------------------------------


def test_map_yields_results_in_order_and_a_failure_ends_no_other(options: dict[str, Any]) -> None:
    """An exception, a timeout and a death are results."""
    bad = {
        3: "1 / 0",
        5: "import time; time.sleep(600)",
        7: "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    }
    codes = [bad.get(number, f"{number}") for number in range(10)]
    with KernelPool(1, 3, reset=None, **options) as pool:
        results = list(pool.map(codes, timeout=5))
    assert [done.code for done in results] == codes
    statuses = {3: "error", 5: "timeout", 7: "died"}
    assert [done.status for done in results] == [statuses.get(n, "ok") for n in range(10)]
    assert [done.text() for done in results if done.ok] == [
        c for n, c in enumerate(codes) if n not in bad
    ]


def test_map_takes_codes_as_they_are_needed_and_interrupts_at_its_end(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """It takes a few in advance, and no more."""
    taken = []

    def codes() -> Iterator[str]:
        yield "1"
        for number in range(1000):
            taken.append(number)
            yield f"open({str(tmp_path / 'begun')!r}, 'w').close()\nimport time; time.sleep(600)"

    with KernelPool(2, 2, reset=None, **options) as pool:
        results = pool.map(codes())
        assert next(results).text() == "1"
        wait_until((tmp_path / "begun").exists)
        begun = time.monotonic()
        results.close()  # type: ignore[attr-defined]  # of a generator
        assert time.monotonic() - begun < 30
        assert len(taken) <= 4
        assert pool.run("1", kernel_timeout=60).text() == "1"


def test_code_that_cannot_be_sent_is_a_result_of_map(options: dict[str, Any]) -> None:
    """The others are executed."""
    with KernelPool(1, 1, reset=None, **options) as pool:
        results = list(pool.map(["1", "'" + "x" * 11_000_000 + "'", "2"]))
    assert [done.status for done in results] == ["ok", "error", "ok"]
    assert results[1].error is not None
    assert results[1].error.ename == "MessageTooLarge"
    with pytest.raises(MessageTooLarge, match="send it in parts"):
        results[1].raise_for_error()


def test_map_raises_what_prevents_every_code(options: dict[str, Any]) -> None:
    """There is no kernel, and there will be none."""
    with KernelPool(0, 2, setup="1 / 0", **options) as pool, pytest.raises(PoolSetupFailed):
        list(pool.map(["1", "2"]))


# --- the end --------------------------------------------------------------------------------------


def test_close_fails_those_who_wait_and_a_kernel_in_use_ends_later(
    gateway: LocalGateway, options: dict[str, Any]
) -> None:
    """The error says what to do."""
    pool = KernelPool(1, 1, reset=None, **options)
    pool.open()
    with ThreadPoolExecutor(1) as threads, pool.kernel(timeout=60) as kc:
        job = threads.submit(pool.run, "1", kernel_timeout=60)
        wait_until(lambda: pool.stats().waiting == 1)
        pool.close()
        with pytest.raises(PoolClosed, match="was closed; make another pool"):
            job.result(timeout=60)
        assert kc.run("1", timeout=60).text() == "1"
        assert kc.kernel_id in kernels_of(gateway)
    assert pool.stats().size == 0
    for use in (pool.open, pool.wait, pool.kernel().__enter__):
        with pytest.raises(PoolClosed, match="was closed"):
            use()
    pool.close()


def test_a_pool_that_was_not_opened_says_so(options: dict[str, Any]) -> None:
    """It has no threads and no kernels."""
    pool = KernelPool(**options)
    with pytest.raises(PoolClosed, match="not open yet; use it in a `with` block"):
        pool.run("1")
    pool.close()


def test_close_ends_a_setup_that_runs(options: dict[str, Any], tmp_path: Path) -> None:
    """It does not wait for it."""
    begun = tmp_path / "begun"
    setup = f"open({str(begun)!r}, 'w').close()\nimport time; time.sleep(600)"
    with KernelPool(1, 1, setup=setup, **options):
        wait_until(begun.exists)


def test_a_pool_that_is_dropped_ends_its_kernels_and_threads(options: dict[str, Any]) -> None:
    """As soon as it is collected."""
    pool = KernelPool(1, 2, reset=None, **options)
    pool.open()
    with pool.kernel(timeout=60) as kc:
        kc.run("1")
    del pool, kc
    gc.collect()


def test_a_pool_belongs_to_its_process(server: Server, tmp_path: Path) -> None:
    """A child that was forked hears so, and disturbs nothing."""
    code = """
pool = KernelPool(1, 1, reset=None)
with pool:
    with pool.kernel(timeout=60) as kc:
        if (pid := os.fork()) == 0:
            try:
                pool.run("1")
            except PoolClosed as error:
                text = str(error)
            pool.close()
            os._exit(0 if "make another pool here" in text else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        tell(status=status, works=kc.run("1", timeout=60).text())
"""
    with program(server, tmp_path, code) as owner:
        assert owner.told() == {"status": 0, "works": "1"}
        assert owner.process.wait(60) == 0


@pytest.fixture
def server(gateway: LocalGateway) -> Server:
    """The session's Kernel Gateway."""
    return Server(gateway.url, {"auth_token": gateway.token})


ENDINGS = {"end": ("", 0), "SIGTERM": ("with", signal.SIGTERM), "SIGKILL": ("", signal.SIGKILL)}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_kernels_end_with_their_process(ending: str, server: Server, tmp_path: Path) -> None:
    """Also if the pool was not closed, and while a kernel is in use."""
    how, number = ENDINGS[ending]
    code = """
pool = KernelPool(2, 3)
def use():
    pool.wait()
    with pool.kernel(timeout=60) as kc:
        tell(kernels=[kc.kernel_id])
        wait()
"""
    code += "with pool: use()\n" if how else "pool.open(); use()\n"
    before = kernels(server)
    with program(server, tmp_path, code) as owner:
        owner.told()
        owner.end(number)
        wait_until(lambda: kernels(server) <= before)
        wait_until_gone(server)


# --- everything at once ---------------------------------------------------------------------------


def test_no_caller_of_many_hangs_or_gets_a_dead_kernel() -> None:
    """Eight threads use kernels that are killed at random moments."""
    from soak_pool import soak

    with own_gateway() as gateway, nothing_left(gateway):
        seed = random.randrange(1000)
        outcome = soak(gateway, checkouts=80, kill_pause=1.0, seed=seed, least_kills=3)
    assert outcome.violations == []
    assert outcome.checkouts >= 80
    assert outcome.kills >= 3
