"""The manager of several kernels, by the names of jupyter_client's MultiKernelManager."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from jupyter_client.multikernelmanager import MultiKernelManager

from gateway_blocking import (
    BlockingGatewayKernelManager,
    GatewayAuthError,
    GatewayError,
    NoSuchKernel,
    NoSuchKernelSpec,
    RemoteNotSupported,
)
from gateway_blocking import BlockingGatewayMultiKernelManager as Kernels
from gateway_blocking.local import LocalGateway
from support.interrupting import interrupt_often
from support.servers import kernels_of, own_gateway


@pytest.fixture
def kernels(gateway: LocalGateway) -> Iterator[Kernels]:
    with Kernels(**gateway.options()) as kernels:
        yield kernels


@pytest.fixture(scope="module")
def open_gateway() -> Iterator[LocalGateway]:
    """One that lets its kernels be listed."""
    with own_gateway("--JupyterWebsocketPersonality.list_kernels=True") as gateway:
        yield gateway


def value_of(kernels: Kernels, kernel_id: str, expression: str) -> str:
    """What an expression is in a kernel."""
    with kernels.get_kernel(kernel_id).client() as kc:
        kc.wait_for_ready(timeout=60)
        reply = kc.execute("", user_expressions={"it": expression}, reply=True, timeout=60)
    text: str = reply["content"]["user_expressions"]["it"]["data"]["text/plain"]
    return text


def test_from_start_to_end(kernels: Kernels, gateway: LocalGateway) -> None:
    """Started, used, interrupted, restarted, shut down; by id, as jupyter_client has it."""
    assert isinstance(kernels, MultiKernelManager)
    assert kernels.shared_context is False
    before = kernels_of(gateway)
    kernel_id = kernels.start_kernel(kernel_name="python3")
    assert kernel_id in kernels
    assert len(kernels) == 1
    assert kernels.list_kernel_ids() == [kernel_id]
    assert isinstance(kernels.get_kernel(kernel_id), BlockingGatewayKernelManager)
    assert kernels.kernel_model(kernel_id)["name"] == "python3"
    assert kernels.is_alive(kernel_id) is True
    assert value_of(kernels, kernel_id, "6 * 7") == "42"
    kernels.interrupt_kernel(kernel_id)
    kernels.restart_kernel(kernel_id)
    assert value_of(kernels, kernel_id, "6 * 7") == "42"
    kernels.shutdown_kernel(kernel_id)
    assert kernel_id not in kernels
    assert len(kernels) == 0
    assert kernels_of(gateway) == before


def test_what_is_not_ours(kernels: Kernels) -> None:
    """A KeyError, as of jupyter_client; but nothing to let go of is none."""
    for name in ("get_kernel", "kernel_model", "shutdown_kernel", "restart_kernel"):
        with pytest.raises(KeyError):
            getattr(kernels, name)("no-such-kernel-at-all")
    for name in ("interrupt_kernel", "is_alive"):
        with pytest.raises(KeyError):
            getattr(kernels, name)("no-such-kernel-at-all")
    assert kernels.remove_kernel("no-such-kernel-at-all") is None
    assert not kernels.kernel_culled("no-such-kernel-at-all")


def test_what_cannot_be_started(kernels: Kernels) -> None:
    """Is not ours then."""
    with pytest.raises(NoSuchKernelSpec, match="cobol"):
        kernels.start_kernel(kernel_name="cobol")
    with pytest.raises(NoSuchKernel):
        kernels.start_kernel(kernel_id="1-2-3-4-5")
    assert len(kernels) == 0


def test_attaching(kernels: Kernels, gateway: LocalGateway) -> None:
    """A kernel that somebody else started is listed, used, and left running."""
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        assert kernels.start_kernel(kernel_id=km.kernel_id) == km.kernel_id
        manager = kernels.get_kernel(km.kernel_id)
        assert kernels.start_kernel(kernel_id=km.kernel_id) == km.kernel_id
        assert kernels.get_kernel(km.kernel_id) is manager
        assert len(kernels) == 1
        kernels.shutdown_all()
        assert len(kernels) == 0
        assert km.is_alive()


@pytest.mark.parametrize("lists", [False, True])
def test_kernels_that_are_gone(
    lists: bool, gateway: LocalGateway, open_gateway: LocalGateway
) -> None:
    """Deleted behind our back: not ours any longer, but known to have been, also where the
    gateway does not let its kernels be listed.  Others of the gateway are not ours."""
    server = open_gateway if lists else gateway
    with Kernels(**server.options()) as kernels, Kernels(**server.options()) as others:
        others.start_kernel()
        one, two, three = (kernels.start_kernel() for _ in range(3))
        for gone in (one, two):
            kernels.rest.delete_kernel(gone)
        assert kernels.kernel_culled(one)
        assert [model["id"] for model in kernels.list_kernels()] == [three]
        assert kernels.kernel_culled(two)
        assert not kernels.kernel_culled(three)
        with pytest.raises(KeyError):
            kernels.kernel_model(one)
        assert len(others) == 1


def test_shutting_down_all(kernels: Kernels, caplog: pytest.LogCaptureFixture) -> None:
    """A kernel that fails does not keep the others; one error tells of all, and they stay."""
    ids = [kernels.start_kernel() for _ in range(3)]
    stubborn = kernels.get_kernel(ids[1])
    original = stubborn.shutdown_kernel

    def fail(**kwargs: Any) -> None:
        raise GatewayError("not today")

    stubborn.shutdown_kernel = fail
    with pytest.raises(GatewayError, match=f"1 kernels could not .*{ids[1]}: not today") as caught:
        kernels.shutdown_all(now=True)
    assert str(caught.value.__cause__) == "not today"
    assert list(kernels._kernels) == [ids[1]]
    stubborn.shutdown_kernel = original
    kernels.shutdown_all()
    assert len(kernels) == 0


def test_many_threads(kernels: Kernels) -> None:
    """Sixteen start, use and stop kernels at once; nobody sees another's."""

    def use(number: int) -> None:
        kernel_id = kernels.start_kernel(env={"KERNEL_NUMBER": str(number)})
        assert value_of(kernels, kernel_id, "__import__('os').environ['KERNEL_NUMBER']") == repr(
            str(number)
        )
        assert kernel_id in kernels.list_kernel_ids()
        if number % 2:
            kernels.shutdown_kernel(kernel_id)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(16)))
    assert len(kernels) == 8
    kernels.shutdown_all()


def test_two_managers_share_nothing(gateway: LocalGateway) -> None:
    """In one process, on one gateway: the reference keeps its kernels in a class attribute."""
    with Kernels(**gateway.options()) as one, Kernels(**gateway.options()) as two:
        kernel_id = one.start_kernel()
        assert kernel_id not in two
        assert two.list_kernels() == []


def test_jupyter_clients_own_multi_kernel_manager(
    gateway_env: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Given our manager class, it starts kernels on the gateway: it makes up their ids."""
    name = "gateway_blocking.BlockingGatewayKernelManager"
    kernels = MultiKernelManager(kernel_manager_class=name, shared_context=False)
    with caplog.at_level(logging.ERROR):
        kernel_id = kernels.start_kernel()
        try:
            assert kernel_id in kernels_of(gateway_env)
            assert kernels.is_alive(kernel_id)
        finally:
            kernels.shutdown_all()
            assert kernel_id not in kernels_of(gateway_env)
    assert not caplog.records


def test_control_c_at_any_moment_leaves_it_usable(kernels: Kernels) -> None:
    """Nobody else waits for a lock that is never released."""
    interrupt_often(lambda: kernels.remove_kernel("none"), lambda: not kernels._lock.locked())


def test_what_its_manager_shut_down_was_not_culled(kernels: Kernels) -> None:
    """But it is not there any more."""
    kernel_id = kernels.start_kernel()
    kernels.get_kernel(kernel_id).shutdown_kernel()
    assert kernels.list_kernels() == []
    assert kernel_id not in kernels
    assert not kernels.kernel_culled(kernel_id)


def test_what_is_just_starting_is_shut_down_with_all(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what other threads start while the ``with`` ends: nothing is left, and they are told."""
    all_begun, start_one = Barrier(5), BlockingGatewayKernelManager.start_kernel

    def start(km: BlockingGatewayKernelManager, **options: Any) -> None:
        all_begun.wait(60)
        start_one(km, **options)

    monkeypatch.setattr(BlockingGatewayKernelManager, "start_kernel", start)
    before = kernels_of(gateway)
    with ThreadPoolExecutor(4) as pool:
        with Kernels(**gateway.options()) as kernels:
            starts = [pool.submit(kernels.start_kernel) for _ in range(4)]
            all_begun.wait(60)
        assert len(kernels) == 0
        assert sorted(kernels_of(gateway)) == sorted(before)
        for error in (each.exception(60) for each in starts):
            assert error is None or "shut this kernel down while it started" in str(error)


def test_all_are_shut_down_though_the_interpreter_ends(gateway: LocalGateway) -> None:
    """When threads cannot be started any more."""
    script = (
        "import atexit, os\n"
        "from gateway_blocking import BlockingGatewayMultiKernelManager\n"
        "kernels = BlockingGatewayMultiKernelManager()\n"
        "print(*[kernels.start_kernel() for _ in range(2)])\n"
        "atexit.register(kernels.shutdown_all)\n"
    )
    names = {"JUPYTER_GATEWAY_URL": gateway.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert not set(run.stdout.split()) & set(kernels_of(gateway))


def test_any_failure_leaves_the_others(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: all the others are shut down."""
    ids = [kernels.start_kernel() for _ in range(3)]

    def fail(**_: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(kernels.get_kernel(ids[0]), "shutdown_kernel", fail)
        with pytest.raises(GatewayError, match="the disk is full"):
            kernels.shutdown_all()
    assert list(kernels._kernels) == ids[:1]


def test_a_kernel_can_be_attached_to_again(kernels: Kernels, gateway: LocalGateway) -> None:
    """After it was let go of by its manager; it runs, and so was not culled."""
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        kernel_id = str(km.kernel_id)
        kernels.start_kernel(kernel_id=kernel_id)
        kernels.get_kernel(kernel_id).shutdown_kernel()
        assert kernels.list_kernels() == []
        assert not kernels.kernel_culled(kernel_id)
        kernels.start_kernel(kernel_id=kernel_id)
        kernels.interrupt_kernel(kernel_id)
        assert kernels.list_kernel_ids() == [kernel_id]


def test_an_interrupted_start_leaves_no_kernel(gateway: LocalGateway) -> None:
    """One that comes after the kernel was started, and before its id is known to the caller."""

    def interrupt(_: str, data: dict[str, Any]) -> None:
        if data.get("action") == "start":
            raise KeyboardInterrupt

    before = kernels_of(gateway)
    kernels = Kernels(**gateway.options(), event_logger=interrupt)
    with pytest.raises(KeyboardInterrupt):
        kernels.start_kernel()
    assert len(kernels) == 0
    assert kernels_of(gateway) == before
    kernels.rest.close()


def test_a_failed_attachment_keeps_who_was_there(kernels: Kernels) -> None:
    """The manager of the same kernel that came first."""
    kernel_id = kernels.start_kernel()
    there, token = kernels.get_kernel(kernel_id), kernels.gateway.auth_token
    kernels.gateway.auth_token = "wrong"
    with pytest.raises(GatewayAuthError):
        kernels.start_kernel(kernel_id=kernel_id)
    kernels.gateway.auth_token = token
    assert kernels.get_kernel(kernel_id) is there


def test_many_threads_on_a_fresh_one(gateway: LocalGateway) -> None:
    """An object that is made when it is first asked for is made once."""
    for _ in range(10):
        kernels = Kernels(**gateway.options())
        together = Barrier(8)

        def look(kernels: Kernels = kernels, together: Barrier = together) -> tuple[int, ...]:
            together.wait(60)
            made = (kernels.rest, kernels.gateway, kernels.kernel_spec_manager, kernels._kernels)
            return tuple(id(each) for each in made)

        with ThreadPoolExecutor(8) as pool:
            assert len({each.result() for each in [pool.submit(look) for _ in range(8)]}) == 1


def test_the_id_of_a_new_kernel_is_its_subclasses_to_choose(gateway: LocalGateway) -> None:
    """By the method that jupyter_client has for it."""
    chosen = "3f7f64a1-3b4c-4c55-9a52-9f7f0d6a0f11"

    class Choosing(Kernels):
        def new_kernel_id(self, **kwargs: Any) -> str:
            return chosen

    with Choosing(**gateway.options()) as kernels:
        assert kernels.start_kernel() == chosen


def test_what_may_be_awaited_goes_to_the_same_gateway(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By jupyter_client's own code; also where the environment names another one."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://127.0.0.1:9")

    async def use() -> None:
        kernel_id = await kernels._async_start_kernel(kernel_name="python3")
        await kernels._async_restart_kernel(kernel_id)
        assert kernels.kernel_model(kernel_id)["name"] == "python3"
        await kernels._async_shutdown_kernel(kernel_id)
        await kernels._async_shutdown_all()

    asyncio.run(use())
    with pytest.raises(RemoteNotSupported):
        kernels.pre_start_kernel()
