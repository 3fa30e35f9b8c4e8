"""Requests that are sent again, and requests that are not."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from urllib3.exceptions import ProtocolError
from urllib3.util.retry import Retry

from gateway_blocking.adapters import RetryPolicy
from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayHTTPError,
    NoSuchKernel,
)
from support.calls import CALLS, MODEL
from support.rawserver import Peer, Script, certificate
from support.scripted import (
    BUSY,
    CUT_BODY,
    CUT_CHUNK,
    CUT_HEADERS,
    NOT_THERE,
    Server,
    error_of,
    read,
    rest_of,
    says,
    scripted,
    sends,
)


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
    """A body that is lost behind it does not matter."""
    with scripted(sends(b"HTTP/1.1 204 No Content\r\n")) as server, rest_of(server) as rest:
        rest.delete_kernel("k")
    assert len(server.lines) == 1


def test_a_get_after_a_lost_try_still_finds_nothing() -> None:
    """A 404 that is a success for a DELETE is "no such kernel" for a GET."""
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
