"""Requests that get no response, or one that comes too late."""

from __future__ import annotations

import itertools
import re
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
)
from support.calls import CALLS, LOOK, MODEL
from support.rawserver import Peer, Script, serving
from support.scripted import (
    BUSY,
    CUT_BODY,
    CUT_CHUNK,
    CUT_HEADERS,
    NOT_THERE,
    error_of,
    rest_of,
    says,
    scripted,
    sends,
    stalls,
)

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
