"""BlockingGatewayKernelManager: its kernel, from start to shutdown, without a server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from requests_mock import Mocker

from gateway_blocking import BlockingGatewayKernelManager, start_new_kernel
from gateway_blocking.errors import GatewayHTTPError, NoSuchKernel, RemoteNotSupported

pytestmark = pytest.mark.usefixtures("_without_reaper")

URL = "http://gateway.example:8888"
KERNELS = f"{URL}/api/kernels"
KERNEL = {"id": "k", "name": "python3", "execution_state": "idle"}


@pytest.fixture
def mocker() -> Iterator[Mocker]:
    with Mocker() as mocker:
        mocker.post(KERNELS, json=KERNEL, status_code=201)
        mocker.get(f"{KERNELS}/k", json=KERNEL)
        mocker.delete(f"{KERNELS}/k", status_code=204)
        yield mocker


def manager(**options: Any) -> BlockingGatewayKernelManager:
    log = logging.getLogger("tests")
    return BlockingGatewayKernelManager(url=URL, log=log, max_request_retries=0, **options)


def sent(mocker: Mocker) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in mocker.request_history]


def test_manager_in_a_with_block_shuts_its_kernel_down(mocker: Mocker) -> None:
    """Also if the block fails; the error stays what it was."""
    with pytest.raises(ZeroDivisionError), manager() as km:
        km.start_kernel()
        assert km.has_kernel
        assert km.owned_kernel
        assert "kernel k" in repr(km)
        raise ZeroDivisionError
    assert sent(mocker)[-1] == ("DELETE", "/api/kernels/k")
    assert not km.has_kernel


def test_manager_that_attaches_to_a_kernel_leaves_it_running(mocker: Mocker) -> None:
    """It did not start it."""
    with manager(kernel_id="k") as km:
        km.start_kernel()
        assert not km.owned_kernel
    assert "DELETE" not in [method for method, _ in sent(mocker)]


def test_attaching_to_a_kernel_that_is_missing_is_an_error(mocker: Mocker) -> None:
    """No kernel is started in its place."""
    mocker.get(f"{KERNELS}/k", status_code=404)
    km = manager(kernel_id="k")
    with pytest.raises(NoSuchKernel):
        km.start_kernel()
    assert not km.has_kernel
    assert "POST" not in [method for method, _ in sent(mocker)]


def test_start_that_fails_leaves_no_kernel(mocker: Mocker) -> None:
    """The manager can start one later."""
    mocker.post(KERNELS, status_code=403, json={"reason": "Resource Limit"})
    with manager() as km:
        with pytest.raises(GatewayHTTPError, match="Resource Limit"):
            km.start_kernel()
        assert not km.has_kernel
        mocker.post(KERNELS, json=KERNEL, status_code=201)
        km.start_kernel()
        assert km.has_kernel


def test_shutdown_of_a_kernel_that_is_gone_is_no_error(mocker: Mocker) -> None:
    """It was culled, or another client shut it down: it is what was wanted."""
    km = manager()
    km.start_kernel()
    mocker.delete(f"{KERNELS}/k", status_code=404)
    mocker.get(f"{KERNELS}/k", status_code=404)
    km.shutdown_kernel(now=True)
    assert not km.has_kernel
    km.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    ("state", "status", "is_alive"),
    [("idle", 200, True), ("busy", 200, True), ("dead", 200, False), ("", 404, False)],
)
def test_is_alive_asks_the_gateway(mocker: Mocker, state: str, status: int, is_alive: bool) -> None:
    """A kernel that the gateway gave up restarting is in its list, and dead."""
    with manager() as km:
        km.start_kernel()
        mocker.get(f"{KERNELS}/k", json={**KERNEL, "execution_state": state}, status_code=status)
        assert km.is_alive() is is_alive


def test_what_a_remote_kernel_has_not_is_an_error_that_says_why() -> None:
    """There is no process on this machine."""
    with pytest.raises(RemoteNotSupported):
        manager().pre_start_kernel()


def test_start_new_kernel_refuses_a_misspelt_option_before_it_starts(mocker: Mocker) -> None:
    """The value is not shown: it may be a token."""
    with pytest.raises(TypeError, match="auth_token") as caught:
        start_new_kernel(url=URL, auth_tokem="secret")
    assert "secret" not in str(caught.value)
    assert sent(mocker) == []
