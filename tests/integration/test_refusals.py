"""Responses that refuse a request, and what becomes of them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from jupyter_client.kernelspec import NoSuchKernel as NoSuchLocalSpec

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager
from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayFull,
    GatewayHTTPError,
    KernelsNotListed,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.calls import CALLS, FAILED, LOOK, MODEL, SECRET, SPECS, start
from support.rawserver import Script
from support.scripted import (
    NOT_THERE,
    Call,
    error_of,
    rest_of,
    says,
    scripted,
)
from support.servers import jupyter_server, kernel_gateway, own_gateway


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
    """A Kernel Gateway and an Enterprise Gateway say so at their limits."""
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
    """The kernelspec is there, or the kernelspecs cannot be listed."""
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
