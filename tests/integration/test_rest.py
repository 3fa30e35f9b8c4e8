"""The REST interface: with a real gateway, and with servers that refuse, stall, cut and lie."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import requests_mock
from jupyter_client.kernelspec import NoSuchKernel as NoSuchLocalSpec
from urllib3.exceptions import ProtocolError
from urllib3.util.retry import Retry

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager
from gateway_blocking.adapters import RetryPolicy
from gateway_blocking.config import GatewayClient
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    GatewayHTTPError,
    GatewayTimeout,
    KernelsNotListed,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from gateway_blocking.launch import choose_kernel_id
from gateway_blocking.local import LocalGateway
from gateway_blocking.models import ModelError
from gateway_blocking.rest import GatewayREST
from gateway_blocking.traits import Seconds
from support.rawserver import Peer, Script, certificate, serving
from support.scripted import (
    BUSY,
    COOKIE,
    CUT_BODY,
    CUT_CHUNK,
    CUT_HEADERS,
    NOT_THERE,
    Call,
    Server,
    error_of,
    read,
    rest_of,
    says,
    scripted,
    sends,
    stalls,
)
from support.servers import jupyter_server, kernel_gateway, own_gateway

SECRET = "sesame-open"
LOOK = "GET /api/kernels/k"
MODEL = {"id": "k", "name": "python3"}
SPECS = {"default": "python3", "kernelspecs": {"python3": {"spec": {}}, "ir": {"spec": {}}}}

CALLS: dict[str, Call] = {
    "GET": lambda rest: rest.get_kernel("k"),
    "DELETE": lambda rest: rest.delete_kernel("k"),
    "POST": lambda rest: rest.start_kernel("python3", {}),
}


# --- endpoints ----------------------------------------------------------------------------------

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


# --- what the gateway answers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda r: r.get_kernel("k"), NoSuchKernel),
        (lambda r: r.delete_kernel("k"), NoSuchKernel),
        (lambda r: r.interrupt_kernel("k"), NoSuchKernel),
        (lambda r: r.restart_kernel("k"), NoSuchKernel),
        (lambda r: r.get_kernelspec("ir"), NoSuchKernelSpec),
        (lambda r: r.list_kernels(), GatewayHTTPError),
        (lambda r: r.start_kernel("ir", {}), GatewayHTTPError),
    ],
)
def test_404_means_what_was_asked_for(call: Call, kind: type[GatewayHTTPError]) -> None:
    """A kernel, a kernelspec, or else a wrong URL."""
    with scripted(NOT_THERE) as server:
        error = error_of(call, server)
    assert type(error) is kind
    assert isinstance(error, GatewayHTTPError)
    assert (error.status_code, error.message) == (404, "Kernel does not exist: k")
    if kind is GatewayHTTPError:
        assert "base path" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        ("400 Bad Request", GatewayHTTPError, ""),
        ("401 Unauthorized", GatewayAuthError, "auth_token"),
        ("403 Forbidden", GatewayAuthError, "the user may not do this"),
        ("405 Method Not Allowed", GatewayHTTPError, ""),
        ("424 Failed Dependency", GatewayHTTPError, "JupyterHub"),
        ("429 Too Many Requests", GatewayHTTPError, "later"),
        ("500 Internal Server Error", GatewayHTTPError, ""),
        ("502 Bad Gateway", GatewayHTTPError, "behind this proxy"),
        ("503 Service Unavailable", GatewayHTTPError, "not available now"),
        ("504 Gateway Timeout", GatewayHTTPError, "in time"),
        ("599 Whatever", GatewayHTTPError, ""),
    ],
)
def test_an_error_has_its_parts_and_says_what_to_do(
    status: str, kind: type[GatewayHTTPError], advice: str
) -> None:
    """Method, URL, status, the gateway's reason and message; what to do where that is known."""
    body = {"reason": "The Reason", "message": "The message.", "traceback": SECRET}
    with scripted(says(body, status)) as server:
        error = error_of(CALLS["POST"], server)
    assert type(error) is kind
    assert isinstance(error, GatewayHTTPError)
    assert (error.method, error.url) == ("POST", f"http://{server.where}/api/kernels")
    assert error.status_code == int(status[:3])
    assert (error.reason, error.message) == ("The Reason", "The message.")
    for part in (error.method, error.url, status[:3], "The Reason", "The message.", advice):
        assert part in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        (b"", "Oops", ""),
        (b"<html>\n <h1>No</h1></html>", "Oops", "a page"),
        (b"[1, 2]", "Oops", "'[1, 2]'"),
        (b"<HTML><Title>It\n failed</Title>" + b"x" * 500, "Oops", "a page, 'It failed'"),
        (b'"text"', "Oops", "'\"text\"'"),
        (b"null", "Oops", "'null'"),
        (b"\xff\xfe\x00\x01", "Oops", "'\ufffd\ufffd\\x00\\x01'"),
        (b"x" * 10_000, "Oops", repr("x" * 200)),
        (b'{"message": null, "reason": null}', "Oops", ""),
        (b'{"message": ["a"], "reason": 5}', "5", "['a']"),
        (b"{}", "Oops", ""),
    ],
)
def test_an_error_may_have_any_body(body: bytes, reason: str, message: str) -> None:
    """An error page of a proxy is no second error; a long one is cut."""
    with scripted(says(body, "500 Oops")) as server:
        error = error_of(CALLS["GET"], server)
    assert isinstance(error, GatewayHTTPError)
    assert (error.status_code, error.reason, error.message) == (500, reason, message)


@pytest.mark.parametrize("kernel_id", ["..", ".", ""])
@pytest.mark.parametrize("call", ["get_kernel", "delete_kernel", "interrupt_kernel"])
def test_an_id_that_leads_elsewhere_is_no_kernel(call: str, kernel_id: str) -> None:
    """A DELETE of what is above all kernels is not sent."""
    with scripted(says(MODEL)) as server, rest_of(server) as rest:
        with pytest.raises(NoSuchKernel):
            getattr(rest, call)(kernel_id)
        with pytest.raises(NoSuchSession):
            rest.delete_session(kernel_id)
    assert server.lines == []


FULL_GATEWAYS = [
    "Resource Limit",
    "A max kernels limit has been set to 1 and there are currently 1 active and pending kernel.",
    "A max kernels per user limit has been set to 1 and user 'ada' currently has 1 active and"
    " pending kernel.",
]


@pytest.mark.parametrize("message", FULL_GATEWAYS)
def test_a_full_gateway_is_no_wrong_login(message: str) -> None:
    """What a Kernel Gateway and an Enterprise Gateway say at their limits."""
    with scripted(says({"reason": "Forbidden", "message": message}, "403 Forbidden")) as server:
        error = error_of(start, server, auth_token="t")
    assert type(error) is GatewayFull
    assert message in str(error)
    assert "token" not in str(error)
    assert "KG_MAX_KERNELS" in error.advice
    assert str(error).endswith(error.advice)


def test_a_real_gateway_that_is_full() -> None:
    """One that may run no kernel at all."""
    with (
        own_gateway("--KernelGatewayApp.max_kernels=0") as full,
        BlockingGatewayKernelManager(**full.options()) as km,
        pytest.raises(GatewayFull),
    ):
        km.start_kernel()


@pytest.mark.parametrize("listed", [True, False])
def test_a_gateway_that_does_not_list_its_kernels(
    listed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A Kernel Gateway does not by default: its 403 is told from one for a wrong login."""
    args = [f"--JupyterWebsocketPersonality.list_kernels={listed}"]
    with (
        kernel_gateway(tmp_path_factory.mktemp("gateway"), *args) as server,
        rest_of(server.url, **server.options) as rest,
    ):
        if listed:
            assert rest.list_kernels() == []
        else:
            with pytest.raises(KernelsNotListed, match="KG_LIST_KERNELS=True"):
                rest.list_kernels()


def test_403_for_all_is_no_matter_of_the_list() -> None:
    """A wrong token, on a Jupyter Server."""
    with scripted(says({}, "403 Forbidden")) as server:
        error = error_of(lambda rest: rest.list_kernels(), server)
    assert type(error) is GatewayAuthError
    assert server.lines == ["GET /api/kernels", "GET /api/kernelspecs"]


def test_credentials_that_expire_are_told_at_the_first_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, and not where they never were accepted; the heartbeat meets it within seconds."""
    caplog.set_level(logging.WARNING, "tests")
    refusal, forbidden = says({}, "401 Unauthorized"), says({}, "403 Forbidden")
    specs = says({"default": "", "kernelspecs": {}})
    for scripts, times in (
        ((says(MODEL), refusal), 1),
        ((refusal,), 0),
        ((says(MODEL), forbidden), 1),  # by a Jupyter Server
        ((says(MODEL), *(forbidden, specs) * 3), 0),  # only this kernel is another's
        ((forbidden,), 0),
    ):
        caplog.clear()
        options = {"log": logging.getLogger("tests"), "auth_token": SECRET}
        with scripted(*scripts) as server, rest_of(server, **options) as rest:
            for _ in range(4):
                with suppress(GatewayAuthError):
                    rest.get_kernel("k")
        told = [record.getMessage() for record in caplog.records if record.name == "tests"]
        assert len(told) == times
        assert all("the token may have expired" in text and SECRET not in text for text in told)


def test_a_500_says_where_more_is_told() -> None:
    """In the gateway's log."""
    with scripted(says({}, "500 Oops")) as server:
        assert str(error_of(CALLS["GET"], server)).endswith("its log says more")


@pytest.mark.usefixtures("quick_looks")
def test_a_502_at_the_start_is_told_once() -> None:
    """Although each look for the kernel was answered so as well."""
    page = says(b"<html><title>502 Bad Gateway</title>", "502 Oops")
    with scripted(page) as server:
        text = str(error_of(start, server, request_timeout=1))
    assert text.count("502 Bad Gateway") == 1
    assert "the result was the same" in text


@pytest.mark.parametrize("body", [b"blocked by policy", b'{"message": "blocked by policy"}'])
def test_a_websocket_that_is_refused_though_requests_are_allowed(body: bytes) -> None:
    """Then the token is not the reason, and what is said stands in the body."""
    refusal = says(body, "403 Forbidden")
    with scripted(says(MODEL), refusal) as server:
        kc = BlockingGatewayKernelClient(kernel_id="k", url=f"http://{server.where}")
        kc.rest.get_kernel("k")
        with pytest.raises(GatewayAuthError) as caught:
            kc.start_channels()
        kc.rest.close()
    assert "blocked by policy" in str(caught.value)
    assert "requests are allowed" in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("body", [b"[" * 60_000, b"\x1b[2J\xff", b"[1]", b"5", b"null", b""])
def test_a_websocket_that_is_refused_with_any_body(body: bytes) -> None:
    """Nested too deeply, no text, or no object: it is a refusal like any other."""
    with scripted(says(body, "403 Forbidden")) as server:
        kc = BlockingGatewayKernelClient(kernel_id="k", url=f"http://{server.where}")
        with pytest.raises(GatewayAuthError) as caught:
            kc.start_channels()
    assert str(caught.value).isprintable()


def test_403_on_the_list_tells_of_the_switch() -> None:
    """A Kernel Gateway does not list its kernels unless it is told to."""
    with scripted(says({}, "403 Forbidden")) as server:
        assert "KG_LIST_KERNELS=True" in str(error_of(lambda r: r.list_kernels(), server))
        assert "KG_LIST_KERNELS" not in str(error_of(CALLS["POST"], server))
        assert "KG_LIST_KERNELS" not in str(error_of(CALLS["GET"], server))


FAILED = says({"message": "Unhandled error"}, "500 Internal Server Error")


def test_an_unknown_kernelspec_is_named_with_the_known_ones() -> None:
    """Servers answer a plain 500; the list of kernelspecs tells why."""
    with scripted(FAILED, says(SPECS)) as server:
        error = error_of(lambda r: r.start_kernel("julia", {}), server)
    assert isinstance(error, NoSuchKernelSpec)
    url = f"http://{server.where}/api/kernels"
    text = "the gateway has no kernelspec 'julia'; it has ir, python3"
    assert str(error) == f"POST {url}: {text}"
    assert isinstance(error.__cause__, GatewayHTTPError)
    assert error.status_code == 500
    assert server.lines == ["POST /api/kernels", "GET /api/kernelspecs"]


def test_the_kernelspecs_are_those_of_the_kernels_user() -> None:
    """A gateway may have others for other users: those who are not asked for are not named."""
    with scripted(FAILED, says(SPECS), FAILED, says(SPECS)) as server:
        error_of(lambda r: r.start_kernel("julia", {"KERNEL_USERNAME": "b&b"}), server)
        error_of(lambda r: r.start_kernel("julia", {}), server, http_user="ada")
    assert server.lines[1::2] == [f"GET /api/kernelspecs?user={user}" for user in ("b%26b", "ada")]


@pytest.mark.parametrize("second", [says(SPECS), says({}, "403 Forbidden"), FAILED])
def test_a_500_for_another_reason_stays_one(second: Script) -> None:
    """Where the kernelspec is there, or cannot be looked up."""
    with scripted(FAILED, second) as server:
        error = error_of(lambda r: r.start_kernel("python3", {}), server)
    assert type(error) is GatewayHTTPError
    assert "Unhandled error" in str(error)


def test_an_unknown_kernelspec_is_jupyter_clients_error(gateway: LocalGateway) -> None:
    """Code that catches its NoSuchKernel and reads the name goes on working."""
    with GatewayREST(GatewayClient(**gateway.options())) as rest:
        for ask in (rest.get_kernelspec, lambda name: rest.start_kernel(name, {})):
            with pytest.raises(NoSuchLocalSpec) as caught:
                ask("julia")
            assert isinstance(caught.value, NoSuchKernelSpec)
            assert caught.value.name == "julia"
            assert copy.copy(caught.value).name == "julia"
            assert "julia" in str(caught.value)


def test_no_name_needs_no_look_at_the_kernelspecs() -> None:
    """The gateway's own default cannot be unknown."""
    with scripted(FAILED) as server:
        error_of(lambda r: r.start_kernel(None, {}), server)
    assert len(server.lines) == 1


@pytest.mark.parametrize(
    ("second", "kind"), [(NOT_THERE, NoSuchKernel), (says(MODEL), GatewayHTTPError)]
)
def test_a_restart_that_fails_asks_whether_the_kernel_exists(
    second: Script, kind: type[GatewayHTTPError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers answer 500 to the restart of a kernel that is gone."""
    monkeypatch.setattr("gateway_blocking.rest.RESTART_TIMEOUT", 0)
    with scripted(FAILED, second) as server:
        assert type(error_of(lambda r: r.restart_kernel("k"), server)) is kind
    assert server.lines == ["POST /api/kernels/k/restart", "GET /api/kernels/k"]


@pytest.fixture(scope="module", params=["Kernel Gateway", "Jupyter Server"])
def server_with_kernels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """The options of a client for it."""
    folder = tmp_path_factory.mktemp("server")
    make = kernel_gateway if request.param == "Kernel Gateway" else jupyter_server
    with make(folder) as server:
        yield server.client_options()


@pytest.mark.parametrize("action", ["restart_kernel", "interrupt_kernel", "delete_kernel"])
def test_a_kernel_that_the_gateway_is_just_restarting(
    action: str, server_with_kernels: dict[str, Any]
) -> None:
    """Whatever is done then: servers answer 500 to it at that moment, and do it a little later."""
    with BlockingGatewayKernelManager(**server_with_kernels) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            with pytest.raises(DeadKernelError):
                kc.execute("import os; os._exit(1)", reply=True, timeout=60)
            getattr(km.rest, action)(km.kernel_id)


def test_a_500_for_good_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that changes a kernel is made again, but not for ever; a close ends that, too."""
    monkeypatch.setattr("gateway_blocking.rest.RESTART_TIMEOUT", 1)
    done = says(b"", "204 No Content")
    with scripted(FAILED, says(MODEL), FAILED, FAILED, done) as server, rest_of(server) as rest:
        rest.interrupt_kernel("k")
    assert server.lines == [f"POST {LOOK[4:]}/interrupt", LOOK] * 2 + [f"POST {LOOK[4:]}/interrupt"]
    with scripted(FAILED) as server:
        error = error_of(CALLS["DELETE"], server)
    assert isinstance(error, GatewayHTTPError)
    assert error.status_code == 500


@pytest.mark.parametrize("method", CALLS)
def test_a_redirect_is_not_followed(method: str) -> None:
    """The credentials do not leave, and a POST does not become a GET; the error says where to."""
    with scripted(says(MODEL)) as other:
        target = f"http://me:{SECRET}@{other.where}/login?next={SECRET}"
        with scripted(says(b"", "302 Found", Location=target)) as server:
            error = error_of(CALLS[method], server, auth_token=SECRET)
        assert isinstance(error, GatewayHTTPError)
        assert error.status_code == 302
        assert f"redirects to a login page, http://{other.where}/login: the token" in str(error)
        assert SECRET not in str(error)
        assert not other.lines
        assert len(server.lines) == 1


# --- answers that cannot be used ----------------------------------------------------------------

GIVEN_BACK = [
    ({"id": 5, "name": "n"}, "k", "id is a whole number, not text"),
    ({"id": "mine"}, "mine", "it has no name"),
    ({"id": "a\x1b[2J", "name": "n"}, "k", "id has a control character"),
    ({"id": "x" * 10**6, "name": "n"}, "k", "id has 1000000 characters"),
    ({"id": "\ud800", "name": "n"}, "k", "id has a control character"),
    ([], "k", "it is a list, not an object"),
]


@pytest.mark.parametrize(("answer", "kernel_id", "fault"), GIVEN_BACK)
def test_a_kernel_whose_model_cannot_be_used_is_given_back(
    answer: Any, kernel_id: str, fault: str
) -> None:
    """It was started, and no caller could ever shut it down; the error says what is wrong."""
    with scripted(says(answer, "201 Created"), says(b"", "204 No Content")) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)
    assert len(str(error)) < 1000
    assert server.lines == ["POST /api/kernels", f"DELETE /api/kernels/{kernel_id}"]


@pytest.mark.usefixtures("quick_looks")
def test_a_kernel_whose_model_is_nested_too_deeply_is_given_back() -> None:
    """It is no JSON that can be read, at the start nor at a look."""
    deep = says(b"[" * 200_000, "201 Created")
    with scripted(deep, deep, deep, deep, says(b"", "204 No Content")) as server:
        error = error_of(start, server, request_timeout=0.1)
    assert type(error) is GatewayConnectionError
    assert server.lines == ["POST /api/kernels", LOOK, LOOK, LOOK, "DELETE /api/kernels/k"]


def test_a_session_whose_model_cannot_be_used_is_given_back() -> None:
    """Its kernel was started; but not where the session attached to one."""
    answer = says({"id": "s", "path": "a", "kernel": None}, "201 Created")
    done = says(b"", "204 No Content")
    for kernel, ended in (({"name": "python3"}, ["DELETE /api/sessions/s"]), ({"id": "k"}, [])):
        create = partial(GatewayREST.create_session, wanted={"kernel": kernel})
        with scripted(answer, done) as server:
            assert "it has no" in str(error_of(create, server))
        assert server.lines == ["POST /api/sessions", *ended]


@pytest.mark.parametrize(
    ("call", "answer", "fault"),
    [
        (lambda r: r.get_kernel("k"), {"id": None, "name": "n"}, "id is null, not text"),
        (lambda r: r.list_kernels(), [MODEL, {"id": True}], "[1] has no name"),
        (lambda r: r.list_kernels(), {}, "it is an object, not a list"),
        (lambda r: r.list_kernelspecs(), {"kernelspecs": {"a": None}}, "kernelspecs.a is null"),
        (
            lambda r: r.get_kernelspec("a"),
            {"spec": {"argv": 5}},
            "spec.argv is a whole number, not a",
        ),
        (lambda r: r.list_sessions(), [{"id": "s"}], "[0] has no kernel"),
        (lambda r: r.restart_kernel("k"), [1], "it is a list, not an object"),
        (lambda r: r.api_version(), {"version": 3}, "version is a whole number, not text"),
    ],
)
def test_a_model_is_checked(call: Call, answer: Any, fault: str) -> None:
    """Whatever it is that cannot be used, it is an error that says where it is."""
    with scripted(says(answer)) as server:
        error = error_of(call, server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)
    assert isinstance(error.__cause__, ModelError)


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_json_that_is_nested_too_deeply_is_no_json(status: str) -> None:
    """Python's own parser raises a RecursionError for it."""
    with scripted(says(b"[" * 200_000, status)) as server:
        error = error_of(CALLS["GET"], server, max_request_retries=0)
    assert isinstance(error, GatewayConnectionError if "200" in status else GatewayHTTPError)


def test_a_page_with_many_titles_costs_no_time() -> None:
    """A regular expression needed 100 s for it, in which no other thread could run."""
    for page in (b"<title>" * 60_000, b"<html><title" + b" " * 400_000):
        with scripted(says(page, "500 Oops")) as server:
            begin = time.process_time()
            assert "a page" in str(error_of(CALLS["GET"], server))
            assert time.process_time() - begin < 5


def test_what_a_server_says_is_shown_without_control_characters() -> None:
    """A terminal would obey them; and in one line that is not too long."""
    body = {"reason": "\x1b]52;c;eA==\x07 \u202e", "message": "a\nb\x1b[2J" + "x" * 10**4}
    with scripted(says(body, "500 Oops", Retry_After="\x1b[2J")) as server:
        text = str(error_of(CALLS["GET"], server))
    assert text.isprintable()
    assert "a b\\x1b[2J" in text
    assert len(text) < 1000


def test_an_id_of_the_users_that_is_no_text_for_a_url() -> None:
    """A lone surrogate, as a file name may have one: there is no such kernel."""
    with scripted(says(MODEL)) as server:
        error = error_of(lambda rest: rest.get_kernel("\ud800"), server)
    assert isinstance(error, NoSuchKernel)
    assert "\\ud800" in str(error)
    assert server.lines == []


@pytest.mark.parametrize("name", ["get_kernel", "delete_kernel", "get_kernelspec", "start_kernel"])
def test_a_value_of_a_megabyte_is_shortened_in_a_text(name: str) -> None:
    """One that was given here; whatever is asked with it."""
    how = {"env": {}} if name == "start_kernel" else {}
    with scripted(NOT_THERE if name != "start_kernel" else FAILED, says(SPECS)) as server:
        error = error_of(lambda rest: getattr(rest, name)("x" * 60_000, **how), server)
    assert len(str(error)) < 1500


def zipped(content: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        content = gzip.compress(content, mtime=0)
    return content


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "identity", "GZIP"])
def test_an_answer_may_be_compressed(encoding: str) -> None:
    """As it is asked for; by proxies, mostly."""
    body = json.dumps(MODEL).encode()
    answer = says(body if encoding == "identity" else zipped(body), Content_Encoding=encoding)
    with scripted(answer) as server, rest_of(server) as rest:
        assert rest.get_kernel("k") == MODEL
    assert server.headers[0]["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "encoding", "fault"),
    [
        (zipped(bytes(17 * 1024**2)), "gzip", "more than 16777216 bytes"),
        (bytes(17 * 1024**2), "identity", "more than 16777216 bytes"),
        (zipped(b"{}", 3), "gzip, gzip, gzip", "an encoding that was not asked for"),
        (b"{}", "br", "an encoding that was not asked for"),
        (b"{}", "gzip", "it is not gzip"),
        (zipped(b"{}") + bytes(2**20), "gzip", "goes on after the end of its gzip data"),
        (zipped(b"{}")[:-4], "gzip", "its gzip data break off"),
    ],
    ids=["zipped", "plain", "three times", "another", "none", "continued", "cut off"],
)
def test_an_answer_that_is_not_read(body: bytes, encoding: str, fault: str) -> None:
    """It is too large once it is decoded, or a way around that limit."""
    with scripted(says(body, Content_Encoding=encoding)) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)


def test_a_file_may_be_larger() -> None:
    """A logo, say; up to 64 MiB."""
    body = bytes(17 * 1024**2)
    with scripted(says(body)) as server, rest_of(server) as rest:
        assert rest.get_kernelspec_resource("a", "logo.png") == body


HOSTILE = """
import resource, sys
from gateway_blocking import GatewayClient, GatewayError
from gateway_blocking.models import ModelError
from gateway_blocking.rest import GatewayREST

with GatewayREST(GatewayClient(url=sys.argv[1], request_timeout=60)) as rest:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        rest.get_kernel("k")
    except GatewayError as error:
        print(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def without_end(peer: Peer) -> None:
    peer.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sock.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
@pytest.mark.parametrize("kind", ["empty blocks", "continued"])
def test_gzip_data_without_end_are_not_read_on(kind: str, status: str) -> None:
    """They decode to two bytes, but zlib keeps what follows their end, and copies it each time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    begun = packer.compress(b"{}") + packer.flush(zlib.Z_SYNC_FLUSH)
    more = b"\x00\x00\x00\xff\xff" * 20_000
    ended = threading.Event()

    def script(peer: Peer) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n".encode()
        peer.sock.sendall(head + (zipped(b"{}") if kind == "continued" else begun))
        try:
            while True:
                peer.sock.sendall(more)
        finally:
            ended.set()

    with scripted(script) as server:
        error = error_of(CALLS["GET"], server, request_timeout=60)
        assert ended.wait(30)
    assert not isinstance(error, GatewayTimeout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "500 Oops", "503 Busy"])
@pytest.mark.parametrize("kind", ["gzip", "three times gzip", "without end", "arrays"])
def test_no_answer_costs_much_memory(kind: str, status: str, bomb: bytes) -> None:
    """Where 2 MB had become 12 GB: in a process of its own, less than 600 MB."""
    headers = {"Content_Encoding": "gzip", "Location": "/elsewhere"}
    scripts: dict[str, Script] = {
        "gzip": says(bomb, status, **headers),
        "three times gzip": says(zipped(bomb, 2), status, Content_Encoding="gzip, gzip, gzip"),
        "without end": without_end,
        "arrays": says(b"[" + b"[]," * 5_000_000 + b"[]]", status, Location="/elsewhere"),
    }
    with scripted(scripts[kind]) as server:
        url = f"http://{server.where}"
        command = [sys.executable, "-c", HOSTILE, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said, used = done.stdout.splitlines()
    assert said.startswith(f"GET {url}/api/kernels/k: ")
    assert int(used) < 600_000  # kB


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 GiB, in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(2**10)) + packer.flush()


# --- what is repeated ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Timeout"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_passing_failure_is_tried_again(method: str, status: str) -> None:
    """A gateway that restarts behind its proxy is there again in a moment."""
    bad = says({}, status)
    with scripted(bad, bad, says(MODEL)) as server, rest_of(server) as rest:
        CALLS[method](rest)
    assert len(server.lines) == 3


@pytest.mark.parametrize("status", ["501 Oops", "404 Not Found", "401 Unauthorized", "429 Slow"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_clear_answer_is_not_asked_for_again(method: str, status: str) -> None:
    """The same would come."""
    with scripted(says({}, status)) as server:
        error_of(CALLS[method], server)
    assert len(server.lines) == 1


@pytest.mark.parametrize("fault", [sends(b""), Peer.reset, sends(b"HTTP/1.")])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_lost_connection_is_tried_again(method: str, fault: Script) -> None:
    """Closed or reset before there was a status."""
    with scripted(fault, says(MODEL)) as server, rest_of(server) as rest:
        CALLS[method](rest)
    assert len(server.lines) == 2


@pytest.mark.parametrize(
    "fault",
    [sends(CUT_BODY), sends(CUT_CHUNK), sends(CUT_HEADERS), says(b""), says(b"{"), says(b"<html>")],
)
def test_half_an_answer_is_a_lost_connection(fault: Script) -> None:
    """A GET is made again where the body is cut, or is not JSON: nobody marks an early end."""
    with scripted(fault, says(MODEL)) as server, rest_of(server) as rest:
        assert rest.get_kernel("k") == MODEL
    assert len(server.lines) == 2


@pytest.mark.parametrize("retries", [-3, 0, 1, 4, 99])
def test_the_number_of_tries_is_an_option(retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than max_request_retries, which counts from 0 to 10."""
    monkeypatch.setattr("gateway_blocking.adapters.RETRY_PAUSE", 0)
    tries = 1 + max(0, min(retries, 10))
    with scripted(BUSY) as server:
        error = error_of(CALLS["GET"], server, max_request_retries=retries)
    assert isinstance(error, GatewayHTTPError)
    assert error.status_code == 503
    assert len(server.lines) == tries


@pytest.mark.parametrize(
    "fault",
    [
        BUSY,
        says({}, "503 Service Unavailable", Retry_After="0"),
        sends(b""),
        Peer.reset,
        sends(CUT_BODY),
        sends(CUT_HEADERS),
        says(b"<html>"),
        sends(b"rubbish\r\n\r\n"),
    ],
)
def test_a_post_that_reached_the_gateway_is_never_repeated(fault: Script) -> None:
    """Whatever went wrong then: the kernel may have been started."""
    with scripted(fault, says(MODEL)) as server:
        error = error_of(CALLS["POST"], server)
    assert isinstance(error, (GatewayConnectionError, GatewayHTTPError))
    assert server.lines == ["POST /api/kernels"]


def test_a_post_is_not_repeated_after_a_tls_error(tmp_path: Path) -> None:
    """The request was read when the TLS broke; urllib3 itself would send it again."""
    tls, cert = certificate(tmp_path)

    def spoil(peer: Peer) -> None:
        socket.socket.sendall(peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))  # past the TLS

    with scripted(spoil, says(MODEL), tls=tls) as server:
        error = error_of(CALLS["POST"], f"https://{server.where}", ca_certs=cert)
    assert isinstance(error, GatewayConnectionError)
    assert server.lines == ["POST /api/kernels"]


@pytest.mark.parametrize("method", CALLS)
def test_a_gateway_that_comes_up_is_found(method: str) -> None:
    """Refused connections are tried again with any method, for nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    server = Server("")

    def come_up() -> None:
        time.sleep(0.3)
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(30)
            sock, _ = listener.accept()
            with sock:
                peer = Peer(sock)
                read(peer, server)
                says(MODEL)(peer)

    thread = threading.Thread(target=come_up)
    thread.start()
    try:
        with rest_of(f"http://127.0.0.1:{port}", max_request_retries=6) as rest:
            CALLS[method](rest)
    finally:
        thread.join()
    assert len(server.lines) == 1


@pytest.mark.parametrize("first", [BUSY, sends(b""), Peer.reset])
def test_a_delete_that_was_done_by_a_lost_try_is_done(first: Script) -> None:
    """404 on the second try: the first one did it, and its answer was lost."""
    with scripted(first, NOT_THERE) as server, rest_of(server) as rest:
        rest.delete_kernel("k")
    assert server.lines == ["DELETE /api/kernels/k"] * 2


def test_a_delete_is_done_when_its_status_says_so() -> None:
    """What is lost behind it does not matter."""
    with scripted(sends(b"HTTP/1.1 204 No Content\r\n")) as server, rest_of(server) as rest:
        rest.delete_kernel("k")
    assert len(server.lines) == 1


def test_a_get_after_a_lost_try_still_finds_nothing() -> None:
    """What is done for a DELETE is "no such kernel" for a GET."""
    with scripted(BUSY, NOT_THERE) as server:
        assert isinstance(error_of(CALLS["GET"], server), NoSuchKernel)


def test_the_pause_before_a_repetition_grows() -> None:
    """None before the first; later ones are of uneven length, so that not all come at once."""
    policy: Retry = RetryPolicy.of(GatewayClient(max_request_retries=10))
    pauses = []
    for _ in range(10):
        policy = policy.increment("GET", "/", error=ProtocolError("lost"))
        pauses.append(policy.get_backoff_time())
    assert pauses[0] == 0
    for pause, least in zip(pauses[1:], (0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5, 5), strict=True):
        assert least <= pause <= 1.5 * least


def test_retry_after_is_respected() -> None:
    """The gateway knows best when it is back; at the second try as at the first."""
    later = says({}, "503 Service Unavailable", Retry_After="1")
    with scripted(BUSY, later, says(MODEL)) as server, rest_of(server) as rest:
        start = time.monotonic()
        assert rest.get_kernel("k") == MODEL
        assert time.monotonic() - start >= 1


def test_429_with_retry_after_is_tried_again() -> None:
    """Too many requests, but not for long."""
    slow = says({}, "429 Slow", Retry_After="0")
    with scripted(slow, says(MODEL)) as server, rest_of(server) as rest:
        assert rest.get_kernel("k") == MODEL


def test_a_long_retry_after_is_not_slept_through() -> None:
    """More than the request's time-out is told to the caller instead, at once."""
    later = says({"message": "maintenance"}, "503 Service Unavailable", Retry_After="3600")
    with scripted(later) as server:
        start = time.monotonic()
        error = error_of(CALLS["GET"], server)
        assert time.monotonic() - start < 9
    assert isinstance(error, GatewayHTTPError)
    assert error.status_code == 503
    assert "maintenance" in str(error)
    assert "Retry-After: 3600" in str(error)
    assert len(server.lines) == 1


def test_a_retry_after_that_nobody_understands_is_none() -> None:
    """It is neither an error of its own nor a reason to give up."""
    soon = says({}, "503 Busy", Retry_After="soon")
    with scripted(soon, says(MODEL)) as server, rest_of(server) as rest:
        assert rest.get_kernel("k") == MODEL


@pytest.mark.parametrize("fault", [BUSY, sends(b""), Peer.reset, sends(CUT_BODY)])
def test_an_interrupt_is_never_repeated(fault: Script) -> None:
    """The second one may hit the next cell."""
    with scripted(fault, says(b"", "204 No Content")) as server:
        error_of(lambda rest: rest.interrupt_kernel("k"), server)
    assert server.lines == ["POST /api/kernels/k/interrupt"]


# --- a start that is not answered -----------------------------------------------------------------

BAD_GATEWAY = says({}, "502 Bad Gateway")
GATEWAY_TIMEOUT = says({}, "504 Gateway Timeout")
LOST: list[tuple[Script, type[GatewayError]]] = [
    (sends(b""), GatewayConnectionError),
    (Peer.reset, GatewayConnectionError),
    (sends(CUT_BODY), GatewayConnectionError),
    (sends(CUT_CHUNK), GatewayConnectionError),
    (sends(CUT_HEADERS), GatewayConnectionError),
    (says(b'{"id'), GatewayConnectionError),
    (stalls(), GatewayTimeout),
    (stalls(CUT_BODY), GatewayTimeout),
    (BAD_GATEWAY, GatewayHTTPError),
    (GATEWAY_TIMEOUT, GatewayHTTPError),
]


@pytest.mark.parametrize("pad", [0, 2])
def test_a_start_that_is_never_answered_takes_twice_its_time_at_most(pad: int) -> None:
    """The search for the kernel is a part of the call, and no look has a time of its own."""
    options = {"request_timeout": 2, "kernel_launch_timeout": 1, "launch_timeout_pad": pad}
    with scripted(stalls()) as server:
        begin = time.monotonic()
        error = error_of(start, server, **options)
        took = time.monotonic() - begin
    assert isinstance(error, GatewayTimeout)
    assert "the kernel may have started anyway" in str(error)
    assert took < 2 * max(2, 1 + pad) + 4, "the rest is for a busy machine; it had been 20 s"


def start(rest: GatewayREST) -> Any:
    return rest.start_kernel("python3", {}, kernel_id="k")


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_blocking.launch.SEARCH_PAUSE", 0.05)
    monkeypatch.setattr("gateway_blocking.launch.RETRY_PAUSE_MAX", 0.2)


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("fault", [fault for fault, _ in LOST])
def test_a_kernel_whose_start_was_not_answered_is_found(
    fault: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for once and then looked for, whatever hits the looks on the way."""
    caplog.set_level(logging.INFO, "tests")
    scripts = (fault, NOT_THERE, Peer.reset, says(MODEL))
    options = {"request_timeout": 1, "log": logging.getLogger("tests")}
    with scripted(*scripts) as server, rest_of(server, **options) as rest:
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels", LOOK, LOOK, LOOK]
    lost, found = [record for record in caplog.records if record.name == "tests"]
    assert lost.levelname == "WARNING"
    assert lost.getMessage().endswith("now looking for kernel k")
    assert (found.levelname, found.getMessage()) == (
        "INFO",
        "kernel k was started anyway, and is used",
    )


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(("fault", "kind"), LOST)
def test_a_kernel_that_is_not_found_is_the_error_that_it_was(
    fault: Script, kind: type[GatewayError]
) -> None:
    """It says what was tried, what may have been left behind, and how to find that."""
    begin = time.monotonic()
    with scripted(fault, NOT_THERE) as server:
        error = error_of(start, server, request_timeout=1)
    assert time.monotonic() - begin >= 1, "a start may take that long"
    assert type(error) is kind
    assert str(error).startswith(f"POST http://{server.where}/api/kernels: ")
    looks = len(server.lines) - 1
    assert f"; looked for kernel k {looks} times, and it is not there" in str(error)
    assert str(error).endswith(
        "; the kernel may have started anyway: see `jupyter gateway kernels`"
    )
    assert server.lines == ["POST /api/kernels"] + [LOOK] * looks
    assert looks >= 3
    if isinstance(error, GatewayHTTPError):
        assert error.status_code in (502, 504)
    else:
        assert error.__cause__ is not None


def test_the_looks_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses double up to a limit, and the last look is at the end of the time."""
    pauses: list[float] = []

    class Clock:
        def wait(self, deadline: Deadline) -> bool:
            assert deadline.timeout is not None
            pauses.append(deadline.timeout)
            return False

        def open(self) -> None:
            pass

    def start_by_clock(rest: GatewayREST) -> Any:
        monkeypatch.setattr(rest._http, "closing", Clock())
        return start(rest)

    monkeypatch.setattr("gateway_blocking.deadline.monotonic", lambda: sum(pauses))
    with scripted(sends(b""), NOT_THERE) as server:
        error_of(start_by_clock, server, kernel_launch_timeout=20, launch_timeout_pad=2)
    assert pauses == [0.5, 1, 2, 4, 5, 5, 4.5]


def test_a_close_ends_the_looking() -> None:
    """Nobody is kept waiting for a kernel by an interface that was closed; it still works."""
    with scripted(sends(b""), NOT_THERE) as server, rest_of(server, request_timeout=300) as rest:
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(start, rest)
            while len(server.lines) < 3:
                time.sleep(0.01)
            rest.close()
            with pytest.raises(GatewayConnectionError, match="the kernel may have started anyway"):
                starting.result(timeout=30)
        with pytest.raises(NoSuchKernel):
            rest.get_kernel("k")


@pytest.mark.usefixtures("quick_looks")
def test_a_gateway_that_is_away_for_a_moment_is_asked_again() -> None:
    """What a look meets may be the same fault that took the answer."""
    scripts = (Peer.reset, sends(b""), BUSY, FAILED, sends(CUT_BODY), says(MODEL))
    with scripted(*scripts) as server, rest_of(server) as rest:
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels"] + [LOOK] * 5


@pytest.mark.parametrize(
    "answer", [sends(b"SSH-2.0-x\r\n\r\n"), says({}), says([]), says(b"<html>")]
)
def test_a_start_that_no_gateway_answered_is_not_looked_for(answer: Script) -> None:
    """Who speaks no HTTP, or has a page or other JSON, did not start a kernel."""
    with scripted(answer) as server:
        error = error_of(start, server)
    assert server.lines == ["POST /api/kernels"]
    assert type(error) is GatewayConnectionError
    assert "check that it is a gateway" in str(error) or "check that this is the URL" in str(error)
    assert "may run" not in str(error)


@pytest.mark.parametrize(
    "look",
    [
        says({}, "401 Unauthorized"),
        says({}, "403 Forbidden"),
        says(b"", "302 Found", Location="/login"),
        says(b"<html><title>Log in</title>"),
    ],
)
def test_a_look_that_will_never_be_answered_is_the_last(look: Script) -> None:
    """One that is not allowed to look, or meets a login page, need not wait."""
    with scripted(Peer.reset, look) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert "looked for kernel k 1 times, and at last this came: " in str(error)
    assert server.lines == ["POST /api/kernels", LOOK]


@pytest.mark.parametrize(
    "status", ["400 No", "401 No", "403 No", "404 No", "409 No", "429 No", "503 No", "302 Found"]
)
def test_a_start_that_was_refused_is_not_looked_for(status: str) -> None:
    """The gateway has said that there is no kernel."""
    with scripted(says({}, status), says(MODEL)) as server:
        error = error_of(start, server)
    assert isinstance(error, GatewayHTTPError)
    assert "anyway" not in str(error)
    assert server.lines == ["POST /api/kernels"]


def test_a_start_that_failed_is_not_looked_for() -> None:
    """500 is the gateway's own no; its kernelspecs may tell why."""
    with scripted(FAILED, says(SPECS)) as server:
        assert "anyway" not in str(error_of(start, server))
    assert server.lines == ["POST /api/kernels", "GET /api/kernelspecs"]


def test_a_server_that_takes_the_id_for_one_to_attach_to_is_asked_without() -> None:
    """As a Jupyter Server in front of a gateway does: it answers 201, and null."""
    scripts = (says(None, "201 Created"), says(MODEL, "201 Created"))
    with scripted(*scripts) as server, rest_of(server) as rest:
        assert start(rest) == MODEL
    with_id, without = server.bodies
    assert with_id.pop("kernel_id")
    assert without == with_id


def test_a_start_that_was_never_sent_is_not_looked_for(tls: tuple[ssl.SSLContext, str]) -> None:
    """No connection, no TLS, no trust: the gateway has not read it."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    errors = [error_of(start, f"http://127.0.0.1:{port}")]
    with serving(lambda peer: peer.wait_for_end()) as where:
        errors.append(error_of(start, f"https://{where}", connect_timeout=0.5))
    with scripted(says(MODEL), tls=tls[0]) as server:
        errors.append(error_of(start, f"https://{server.where}"))
    assert server.lines == []
    for error in errors:
        assert isinstance(error, (GatewayConnectionError, GatewayTimeout))
        assert "looked for" not in str(error)
        assert "anyway" not in str(error)


def test_a_start_that_broke_in_tls_is_looked_for(tls: tuple[ssl.SSLContext, str]) -> None:
    """It was sent; what TLS says afterwards does not mean that it was not."""

    def spoil(peer: Peer) -> None:
        socket.socket.sendall(peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))

    with (
        scripted(spoil, says(MODEL), tls=tls[0]) as server,
        rest_of(f"https://{server.where}", ca_certs=tls[1]) as rest,
    ):
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels", LOOK]


def test_a_start_that_is_answered_204_twice_is_an_error() -> None:
    """A Jupyter Server in front of a gateway answers the first, which has an ID, so."""
    nothing = says(b"", "204 No Content")
    with scripted(nothing, nothing) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert "is JSON, but it is null, not an object" in str(error)
    assert server.lines == ["POST /api/kernels"] * 2


@pytest.mark.usefixtures("quick_looks")
def test_a_second_request_is_looked_for_by_the_id_of_the_environment() -> None:
    """It has no other ID; without one, there is nothing to look for."""
    nothing = says(b"", "204 No Content")
    with scripted(nothing, Peer.reset, says(MODEL)) as server, rest_of(server) as rest:
        assert rest.start_kernel(None, {"KERNEL_ID": "k"}, kernel_id="other") == MODEL
    assert server.lines == ["POST /api/kernels"] * 2 + [LOOK]
    with scripted(nothing, Peer.reset) as server:
        error = error_of(lambda r: r.start_kernel(None, {}, kernel_id="other"), server)
    assert "may have started anyway" in error.advice
    assert server.lines == ["POST /api/kernels"] * 2


def test_without_an_id_there_is_nothing_to_look_for() -> None:
    """The error says that there may be a kernel."""
    with scripted(Peer.reset, says(MODEL)) as server:
        error = error_of(CALLS["POST"], server)
    assert str(error).endswith(
        "; the kernel may have started anyway: see `jupyter gateway kernels`"
    )
    assert server.lines == ["POST /api/kernels"]


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([NOT_THERE, says(b"", "204 No Content")], ["was shut down"]),
        ([says({}, "403 Forbidden")], ["may run anyway: DELETE http"]),
    ],
)
def test_a_start_that_is_interrupted_leaves_no_kernel(
    answers: list[Script], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A Ctrl-C while the gateway works on it: the kernel is shut down as soon as it is there."""
    caplog.set_level(logging.INFO, "tests")
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt(peer: Peer) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        peer.wait_for_end()

    with (
        scripted(interrupt, *answers) as server,
        rest_of(server, log=logging.getLogger("tests")) as rest,
        pytest.raises(KeyboardInterrupt),
    ):
        start(rest)
    assert server.lines == ["POST /api/kernels"] + ["DELETE /api/kernels/k"] * len(answers)
    told = [record.getMessage() for record in caplog.records if record.name == "tests"]
    assert [words in text for words, text in zip(said, told[-1:], strict=True)] == [True]


def test_a_start_has_a_connection_of_its_own() -> None:
    """One that was kept, and that the server closes just now, would look like a lost answer."""
    server = Server("")

    def keep(peer: Peer) -> None:
        read(peer, server)
        peer.answer("200 OK", json.dumps(MODEL).encode())
        peer.request = b""
        read(peer, server)  # only the end can come now
        server.lines.append("a second request")

    with serving(keep) as where, rest_of(f"http://{where}") as rest:
        rest.get_kernel("k")
        assert start(rest) == MODEL
    assert server.lines == [LOOK, "POST /api/kernels"]


def test_a_start_shares_the_cookies() -> None:
    """With all that comes before and after it."""
    with scripted(says(MODEL, **COOKIE)) as server:
        with rest_of(server, accept_cookies=True) as rest:
            rest.get_kernel("k")
            start(rest)
        with rest_of(server, accept_cookies=True) as rest:
            start(rest)
            rest.get_kernel("k")
    assert [h.get("cookie") for h in server.headers] == [None, "one=1", None, "one=1"]


@pytest.mark.usefixtures("quick_looks")
def test_a_look_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the error nor in the log."""
    caplog.set_level(logging.DEBUG)
    with scripted(Peer.reset, NOT_THERE) as server:
        error = error_of(
            start,
            f"http://me:{SECRET}@{server.where}",
            log=logging.getLogger("tests"),
            request_timeout=0.5,
            headers={"X-Secret": SECRET},
        )
    assert {headers["x-secret"] for headers in server.headers} == {SECRET}
    assert SECRET not in "".join(traceback.format_exception(error))
    assert "now looking for" in caplog.text
    assert SECRET not in caplog.text


def test_an_id_is_chosen() -> None:
    """The first that is fit is taken, so that the kernel can be found by it; or a new one."""
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    assert choose_kernel_id(one, two) == one
    unfit = (None, "", "mine", one.upper(), one.replace("-", ""), f"{{{one}}}", str(uuid.uuid1()))
    assert choose_kernel_id(*unfit, two) == two
    new = choose_kernel_id(*unfit)
    assert new not in unfit
    assert choose_kernel_id(new) == new
    assert choose_kernel_id() != choose_kernel_id()


# --- time-outs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", CUT_HEADERS, CUT_BODY, CUT_CHUNK])
@pytest.mark.parametrize("method", CALLS)
def test_silence_is_a_time_out_and_not_tried_again(method: str, begun: bytes) -> None:
    """At any point of the answer; one time-out is long enough to wait."""
    with scripted(stalls(begun)) as server:
        error = error_of(CALLS[method], server, request_timeout=0.5)
    assert isinstance(error, GatewayTimeout)
    assert "no response within 0.5 s (request_timeout)" in str(error)
    assert len(server.lines) == 1


def trickles(answer: bytes) -> Script:
    """Sends an answer byte by byte, for ever."""

    def script(peer: Peer) -> None:
        for byte in itertools.chain(answer, itertools.repeat(ord("x"))):
            peer.sock.sendall(bytes([byte]))
            time.sleep(0.02)

    return script


TRICKLES = [
    b"",
    b"HTTP/1.1 200 OK\r\nX-Long: ",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n",
]


@pytest.mark.parametrize("answer", TRICKLES)
@pytest.mark.parametrize("timeout", [None, 1.0])
def test_an_answer_that_trickles_extends_no_request(answer: bytes, timeout: float | None) -> None:
    """The whole answer, its head and its body, has to come within the timeout."""
    with scripted(trickles(answer)) as server:
        begin = time.monotonic()
        error = error_of(lambda rest: rest.get_kernel("k", timeout), server, request_timeout=1)
        assert time.monotonic() - begin < 15, "that is much for a second, and little for for ever"
    assert isinstance(error, GatewayTimeout)
    assert len(server.lines) == 1


def test_a_refusal_that_trickles_is_one() -> None:
    """Its status has come, and says enough."""
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n"

    def refuse(peer: Peer) -> None:
        peer.sock.sendall(head)
        trickles(b"")(peer)

    with scripted(refuse) as server:
        error = error_of(CALLS["GET"], server, request_timeout=1)
    assert isinstance(error, NoSuchKernel)


def test_no_way_to_the_gateway_is_a_time_out_of_its_own() -> None:
    """Told from a gateway that does not answer, by its text and by its option; tried once.  And
    with the websocket as with REST."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # fill the queue of a server that accepts nobody: more are not answered
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        start = time.monotonic()
        where = f"http://127.0.0.1:{address[1]}"
        error = error_of(CALLS["GET"], where, connect_timeout=1)
        took = time.monotonic() - start
        kc = BlockingGatewayKernelClient(kernel_id="k", url=where, connect_timeout=1)
        with pytest.raises(GatewayTimeout, match=r"no connection within 1 s \(connect_timeout\)"):
            kc.start_channels()
    assert isinstance(error, GatewayTimeout)
    assert "no connection within 1 s (connect_timeout)" in str(error)
    assert took < 2.5, "it was tried again"


def test_a_port_that_does_not_speak_tls() -> None:
    """A gateway without TLS waits for a request, and we for its part of the handshake."""
    with serving(lambda peer: peer.wait_for_end()) as where:
        error = error_of(CALLS["GET"], f"https://{where}", connect_timeout=0.5)
    assert isinstance(error, GatewayTimeout)
    assert "no TLS handshake within 0.5 s (connect_timeout)" in str(error)
    assert "http://" in str(error)


@pytest.mark.parametrize("begun", [b"", CUT_HEADERS, CUT_BODY, CUT_CHUNK])
@pytest.mark.parametrize("timeout", [0, 0.3])
def test_a_look_with_a_time_out_takes_no_longer(timeout: float, begun: bytes) -> None:
    """Whatever the options say; the error names this time-out and none of theirs."""
    with scripted(stalls(begun)) as server:
        begin = time.monotonic()
        error = error_of(lambda rest: rest.get_kernel("k", timeout), server)
        assert time.monotonic() - begin < 5
    assert isinstance(error, GatewayTimeout)
    assert re.search(rf"within {timeout} s[;]", str(error))
    assert "_timeout" not in str(error)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (BUSY, GatewayHTTPError),
        (says({}, "503 Service Unavailable", Retry_After="1"), GatewayHTTPError),
        (Peer.reset, GatewayConnectionError),
        (sends(b""), GatewayConnectionError),
        (sends(CUT_BODY), GatewayConnectionError),
        (says(b"{"), GatewayConnectionError),
        (NOT_THERE, NoSuchKernel),
    ],
)
def test_a_look_with_a_time_out_is_one(fault: Script, kind: type[GatewayError]) -> None:
    """Who gives it asks again by himself."""
    with scripted(fault, says(MODEL)) as server, rest_of(server) as rest:
        with pytest.raises(GatewayError) as caught:
            rest.get_kernel("k", timeout=10)
        assert type(caught.value) is kind
        assert rest.get_kernel("k", timeout=10) == MODEL
    assert server.lines == [LOOK, LOOK]


# --- no answer ----------------------------------------------------------------------------------


def test_a_gateway_that_is_down() -> None:
    """The error says so."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    error = error_of(CALLS["POST"], f"http://127.0.0.1:{port}/base")
    assert type(error) is GatewayConnectionError
    assert str(error).startswith(f"POST http://127.0.0.1:{port}/base/api/kernels: ")
    assert "refused; check that the gateway is running, and that the port is right" in str(error)


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error asks for the host name."""

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = error_of(CALLS["GET"], "http://gateway.invalid")
    assert type(error) is GatewayConnectionError
    assert "check the host name, and" in str(error)


@pytest.mark.parametrize("fault", [sends(b""), Peer.reset, sends(b"SSH-2.0-x\r\nand\nmore\r\n")])
def test_something_that_is_no_gateway(fault: Script) -> None:
    """The error asks whether it is one, in one line."""
    with scripted(fault) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert "check that it is a gateway, and whether it wants https://" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(("method", "tries"), [("GET", 3), ("POST", 1), ("DELETE", 1)])
def test_a_login_page_is_no_answer(method: str, tries: int) -> None:
    """200 and HTML: the error shows its title, and says what it may be."""
    with scripted(says(b"<html><title>Log in</title>")) as server:
        error = error_of(CALLS[method], server)
    assert type(error) is GatewayConnectionError
    assert (
        "is not JSON but a page, 'Log in'; check that this is the URL of a gateway, and not"
        in str(error)
    )
    assert len(server.lines) == tries


@pytest.mark.parametrize("fault", [CUT_BODY, CUT_CHUNK])
def test_an_answer_that_is_always_cut(fault: bytes) -> None:
    """Is an error in the end, with its cause."""
    with scripted(sends(fault)) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert error.__cause__ is not None
    assert len(server.lines) == 3


# --- TLS ----------------------------------------------------------------------------------------


@contextmanager
def secure(tls: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[str]:
    with scripted(says(MODEL), tls=tls) as server:
        yield f"https://{host}:{server.where.rpartition(':')[2]}"


def by_websocket(gateway: GatewayClient) -> None:
    """The handshake that the other transport makes with the same options."""
    parts = urlsplit(gateway.url or "")
    assert parts.hostname
    address = ("127.0.0.1", parts.port)
    with (
        socket.create_connection(address, timeout=10) as sock,
        gateway.ssl_context().wrap_socket(sock, server_hostname=parts.hostname) as wrapped,
    ):
        wrapped.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert wrapped.recv(100)  # where TLS 1.3 tells of a client's certificate that is missing


def check_both(url: str, **options: Any) -> None:
    """Ask by REST and by the websocket's TLS, which must agree; the error is that of REST."""
    gateway = GatewayClient(url=url, max_request_retries=0, **options)
    try:
        by_websocket(gateway)
        agreed = True
    except OSError:
        agreed = False
    with GatewayREST(gateway) as rest:
        try:
            assert rest.get_kernel("k") == MODEL
        except GatewayConnectionError:
            assert not agreed, "the websocket trusts it, REST does not"
            raise
    assert agreed, "REST trusts it, the websocket does not"


def test_an_unknown_authority_is_not_trusted(tls: tuple[ssl.SSLContext, str]) -> None:
    """By neither transport; the error names the options."""
    refused = pytest.raises(GatewayConnectionError, match=r"ca_certs .* to this certificate")
    with secure(tls[0]) as url, refused:
        check_both(url)


def test_ca_certs_is_trusted(tls: tuple[ssl.SSLContext, str]) -> None:
    """By both, and without a client certificate."""
    with secure(tls[0]) as url:
        check_both(url, ca_certs=tls[1])


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_validate_cert_can_be_switched_off(
    tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both, also where the environment names authorities."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    with secure(tls[0]) as url:
        check_both(url, validate_cert=False)


def test_the_environment_does_not_replace_ca_certs(
    tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests alone would take REQUESTS_CA_BUNDLE before the session's own."""
    _, other = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", other)
    monkeypatch.setenv("SSL_CERT_FILE", other)
    with secure(tls[0]) as url:
        check_both(url, ca_certs=tls[1])
        with pytest.raises(GatewayConnectionError, match="ca_certs"):
            check_both(url)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_may_name_the_authorities(
    variable: str, tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both transports, where the configuration does not."""
    monkeypatch.setenv(variable, tls[1])
    with secure(tls[0]) as url:
        check_both(url)


def test_a_certificate_for_another_host(tls: tuple[ssl.SSLContext, str]) -> None:
    """Is refused by both, and the error says what is wrong with it."""
    refused = pytest.raises(GatewayConnectionError, match="for another host")
    with secure(tls[0], host="localhost") as url, refused:
        check_both(url, ca_certs=tls[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """Is sent by both where it is configured; where it is missing the error asks for it."""
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    server, cert = certificate(tmp_path / "server")
    _, client = certificate(tmp_path / "client")
    server.minimum_version = server.maximum_version = version
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(client)
    key = str(tmp_path / "client" / "key.pem")
    both = tmp_path / "both.pem"
    both.write_text(Path(client).read_text() + Path(key).read_text())
    with secure(server) as url:
        check_both(url, ca_certs=cert, client_cert=client, client_key=key)
        check_both(url, ca_certs=cert, client_cert=str(both))
        with pytest.raises(GatewayConnectionError) as caught:
            check_both(url, ca_certs=cert)
    # With TLS 1.3 the refusal may come as a reset, which does not tell.
    assert "client_cert" in str(caught.value) or "does it want https" in str(caught.value)


@pytest.mark.parametrize("option", ["ca_certs", "client_cert"])
@pytest.mark.parametrize("content", [None, "rubbish"])
def test_a_file_that_cannot_be_used_is_named(
    option: str, content: str | None, tls: tuple[ssl.SSLContext, str], tmp_path: Path
) -> None:
    """By its option; it is not a failure of the gateway."""
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    with secure(tls[0]) as url:
        error = error_of(CALLS["GET"], url, **{"ca_certs": tls[1], option: str(file)})
    assert f"{option}='{file}'" in str(error)
    assert "cannot be used" in str(error)


def test_a_client_certificate_without_its_key(
    tls: tuple[ssl.SSLContext, str], tmp_path: Path
) -> None:
    """OpenSSL only says ``PEM lib``; the error says what is missing."""
    _, client = certificate(tmp_path)
    with secure(tls[0]) as url:
        error = error_of(CALLS["GET"], url, ca_certs=tls[1], client_cert=client)
    assert "private key, without a password, in the same file or in that of" in str(error)


def test_https_to_a_gateway_without() -> None:
    """The error asks whether there is TLS at all."""
    with serving(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as where:
        error = error_of(CALLS["GET"], f"https://{where}")
    assert type(error) is GatewayConnectionError
    assert str(error).endswith(
        "; this port may speak http:// only: check url (JUPYTER_GATEWAY_URL)"
    )


def test_http_to_a_gateway_with_tls(tls: tuple[ssl.SSLContext, str]) -> None:
    """The error asks for https."""
    with scripted(says(MODEL), tls=tls[0]) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert str(error).endswith("; this port wants https://")


# --- headers ------------------------------------------------------------------------------------


def test_headers_are_made_for_each_request() -> None:
    """A token that changes is sent at once, with the user's own headers."""
    with scripted(says(MODEL)) as server, rest_of(server, headers={"X-One": "1"}) as rest:
        for token in ("one", "two"):
            rest.gateway.auth_token = token
            rest.get_kernel("k")
    assert [h["authorization"] for h in server.headers] == ["token one", "token two"]
    assert {h["x-one"] for h in server.headers} == {"1"}


def test_each_try_of_a_request_has_the_headers() -> None:
    """A repeated request is still logged in."""
    scripts = (BUSY, says(b"{"), says(MODEL))
    with scripted(*scripts) as server, rest_of(server, auth_token="t") as rest:
        rest.get_kernel("k")
    assert [h["authorization"] for h in server.headers] == ["token t"] * 3


@pytest.mark.parametrize("options", [{"auth_token": "mine"}, {"http_user": "mine"}, {}])
def test_netrc_does_not_replace_the_login(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it add one: the configuration says who one is."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(says(MODEL)) as server, rest_of(server, **options) as rest:
        assert requests.utils.get_netrc_auth(f"http://{server.where}"), "the file is not read"
        rest.get_kernel("k")
        expected = rest.gateway.request_headers().get("Authorization")
    assert server.headers[0].get("authorization") == expected


def test_a_login_in_the_url_is_sent_as_a_header() -> None:
    """As tornado does it for jupyter_server."""
    with scripted(says(MODEL)) as server, rest_of(f"http://me:{SECRET}@{server.where}") as rest:
        rest.get_kernel("k")
        assert server.headers[0]["authorization"].startswith("Basic ")
        assert server.headers[0]["host"] == server.where
        assert SECRET not in repr(rest)


# --- nothing secret, and a log ------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        says({}, "401 Unauthorized"),
        says({}, "403 Forbidden"),
        says(b"", "302 Found", Location="/login"),
        FAILED,
        BUSY,
        NOT_THERE,
        says(b"<html>"),
        sends(b""),
        sends(CUT_BODY),
        Peer.reset,
        stalls(),
    ],
)
@pytest.mark.parametrize("method", CALLS)
def test_no_failure_shows_a_secret(
    method: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error with all of its causes, nor any line of any log."""
    caplog.set_level(logging.DEBUG)
    gateway_log = logging.getLogger("tests")
    with scripted(script) as server:
        error = error_of(
            CALLS[method],
            f"http://me:{SECRET}@{server.where}",
            log=gateway_log,
            request_timeout=0.5,
            auth_token=SECRET,
            headers={"X-Secret": SECRET},
            http_pwd=SECRET,
        )
    assert SECRET in server.headers[0]["x-secret"]
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in caplog.text
    cause: BaseException | None = error
    while cause := cause and cause.__cause__:  # what reports of errors show of an exception
        request = getattr(cause, "request", None)
        assert SECRET not in str(vars(request) if request else "")


def test_a_repetition_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By urllib3, in words that are no internal name of anybody's."""
    with scripted(Peer.reset, says(MODEL)) as server, rest_of(server) as rest:
        rest.get_kernel("k")
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("Retrying (1 try left) after connection broken by")


def test_each_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its outcome and duration; one that fails, too."""
    caplog.set_level(logging.DEBUG, "tests")
    with scripted(says(MODEL), stalls()) as server:
        options = {"log": logging.getLogger("tests"), "request_timeout": 0.5}
        with rest_of(server, **options) as rest:
            rest.get_kernel("k")
            with pytest.raises(GatewayTimeout):
                rest.delete_kernel("k")
    url = f"http://{server.where}/api/kernels/k"
    first, second = [r.getMessage() for r in caplog.records if r.name == "tests"]
    assert re.fullmatch(rf"GET {re.escape(url)}: 200 in \d+\.\d\d\d s", first)
    assert re.fullmatch(rf"DELETE {re.escape(url)}: ReadTimeout after \d+\.\d\d\d s", second)


def test_a_huge_time_is_no_error_of_a_request() -> None:
    """On both transports, whose libraries do not take it."""
    seconds = [
        name for name, trait in GatewayClient.class_traits().items() if isinstance(trait, Seconds)
    ]
    options = {name: 1e10 for name in seconds if "interval" not in name}
    with scripted(says({"id": "k", "name": "n"})) as server, rest_of(server, **options) as rest:
        assert rest.get_kernel("k")["id"] == "k"
        assert rest.get_kernel("k", timeout=1e10)["id"] == "k"
