"""The endpoints of REST, with a real gateway and with scripted servers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests_mock

from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayHTTPError,
    NoSuchKernel,
    NoSuchKernelSpec,
)
from gateway_blocking.local import LocalGateway
from support.calls import CALLS, FAILED, MODEL, SECRET
from support.rawserver import Peer
from support.scripted import (
    NOT_THERE,
    Call,
    error_of,
    rest_of,
    says,
    scripted,
)

ANSWER = {"id": "k", "name": "n", "kernelspecs": {}, "spec": {}}
LISTED = [ANSWER]
ENDPOINTS: list[tuple[Call, str, str, Any]] = [
    (lambda r: r.api_version(), "GET", "/api", None),
    (lambda r: r.list_kernels(), "GET", "/api/kernels", None),
    (lambda r: r.get_kernel("a/b"), "GET", "/api/kernels/a%2Fb", None),
    (lambda r: r.interrupt_kernel("k"), "POST", "/api/kernels/k/interrupt", {}),
    (lambda r: r.restart_kernel("k"), "POST", "/api/kernels/k/restart", {}),
    (lambda r: r.list_kernelspecs(), "GET", "/api/kernelspecs", None),
    (lambda r: r.get_kernelspec("c++ 17/x"), "GET", "/api/kernelspecs/c%2B%2B%2017%2Fx", None),
    (lambda r: r.start_kernel(None, {}), "POST", "/api/kernels", {"env": {}}),
    (
        lambda r: r.start_kernel("ir", {"KERNEL_X": "1"}, path="sub", kernel_id="k"),
        "POST",
        "/api/kernels",
        {"name": "ir", "env": {"KERNEL_X": "1"}, "path": "sub", "kernel_id": "k"},
    ),
]


@pytest.mark.parametrize(("call", "method", "path", "body"), ENDPOINTS)
def test_a_method_is_a_request(call: Call, method: str, path: str, body: Any) -> None:
    """Each sends what its endpoint takes, and gives the JSON of the answer."""
    with requests_mock.Mocker() as gateway, rest_of("http://h/base/") as rest:
        answer = LISTED if (method, path) == ("GET", "/api/kernels") else ANSWER
        gateway.request(method, requests_mock.ANY, json=answer)
        assert call(rest) == answer or path.endswith("/interrupt")
        (request,) = gateway.request_history
        assert (request.method, request.url) == (method, f"http://h/base{path}")
        sent = request.body.read() if hasattr(request.body, "read") else request.body
        assert (json.loads(sent) if sent else None) == body


@pytest.mark.parametrize("call", [CALLS["DELETE"], lambda r: r.interrupt_kernel("k")])
def test_no_content_is_fine(call: Call) -> None:
    """204 has no body to be read."""
    with scripted(says(b"", "204 No Content")) as server, rest_of(server) as rest:
        assert call(rest) is None


def test_the_whole_life_of_a_kernel(gateway: LocalGateway) -> None:
    """All methods, with a real Kernel Gateway."""
    with rest_of(gateway.url, auth_token=gateway.token, request_timeout=60) as rest:
        assert rest.api_version()["version"]
        specs = rest.list_kernelspecs()
        name = specs["default"]
        assert rest.get_kernelspec(name)["spec"] == specs["kernelspecs"][name]["spec"]
        model = rest.start_kernel(name, {})
        kernel_id = model["id"]
        try:
            assert model["name"] == name
            assert rest.get_kernel(kernel_id)["id"] == kernel_id
            assert kernel_id in [kernel["id"] for kernel in rest.list_kernels()]
            rest.interrupt_kernel(kernel_id)
            assert rest.restart_kernel(kernel_id)["id"] == kernel_id
        finally:
            rest.delete_kernel(kernel_id)
        for gone in (
            rest.get_kernel,
            rest.delete_kernel,
            rest.interrupt_kernel,
            rest.restart_kernel,
        ):
            with pytest.raises(NoSuchKernel, match=kernel_id):
                gone(kernel_id)
        with pytest.raises(NoSuchKernelSpec, match="nothing-here"):
            rest.get_kernelspec("nothing-here")
        with pytest.raises(NoSuchKernelSpec, match=f"'nothing-here'; it has .*{name}"):
            rest.start_kernel("nothing-here", {})


def test_a_wrong_token(gateway: LocalGateway) -> None:
    """A real gateway says no; the error says what to look at, and not the token."""
    error = error_of(lambda rest: rest.list_kernels(), gateway.url, auth_token=SECRET)
    assert isinstance(error, GatewayAuthError)
    assert error.status_code == 401
    assert "auth_token" in str(error)
    assert SECRET not in str(error)


def test_many_threads_share_one() -> None:
    """Each gets its own answer."""

    def echo(peer: Peer) -> None:
        path = peer.request.decode().split()[1]
        says({"id": path.rpartition("/")[2], "name": "n"})(peer)

    with (
        scripted(echo) as server,
        rest_of(server) as rest,
        ThreadPoolExecutor(8) as pool,
    ):
        ids = [str(n) for n in range(200)]
        assert [model["id"] for model in pool.map(rest.get_kernel, ids)] == ids


def test_it_can_be_used_after_a_close() -> None:
    """A manager's cleanup closes it, and a later call opens a connection again."""
    with scripted(says(MODEL)) as server, rest_of(server) as rest:
        rest.close()
        rest.close()
        assert rest.get_kernel("k") == MODEL
        rest._http.closing.open()  # as another thread does that is faster with the same
        rest.close()
        assert rest.get_kernel("k") == MODEL


def test_a_list_is_asked_for_again_while_a_kernel_starts() -> None:
    """All servers answer 500 at that moment; another answer, or 500 for good, is told."""
    with scripted(FAILED, FAILED, FAILED, says([MODEL])) as server, rest_of(server) as rest:
        assert rest.list_kernels() == [MODEL]
    assert server.lines == ["GET /api/kernels"] * 4
    with scripted(FAILED, NOT_THERE) as server:
        error = error_of(lambda rest: rest.list_kernels(), server)
    assert isinstance(error, GatewayHTTPError)
    assert (error.status_code, len(server.lines)) == (404, 2)
    with scripted(FAILED) as server:
        error = error_of(lambda rest: rest.list_kernels(), server)
    assert isinstance(error, GatewayHTTPError)
    assert (error.status_code, len(server.lines)) == (500, 5)


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("when", ["after the answer", "before the answer"])
def test_no_connection_outlives_a_close(timeout: float | None, when: str) -> None:
    """Nor where an error is kept, whose traceback has the answer, which has its connection."""
    asked, may_answer, ended = threading.Event(), threading.Event(), threading.Event()

    def keep_alive(peer: Peer) -> None:
        asked.set()
        assert may_answer.wait(20)
        peer.answer("404 Not Found", b"{}")
        peer.wait_for_end()
        ended.set()

    with scripted(keep_alive) as server, rest_of(server) as rest, ThreadPoolExecutor(1) as pool:
        failing = pool.submit(rest.get_kernel, "k", timeout)
        assert asked.wait(20)
        if when == "before the answer":
            rest.close()
        may_answer.set()
        error = failing.exception(timeout=20)
        rest.close()
        assert ended.wait(20)
        assert isinstance(error, NoSuchKernel)
        assert error.__traceback__
