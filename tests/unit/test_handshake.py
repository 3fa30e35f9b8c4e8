"""The websocket's handshake: what is sent, what a response means, and how long it is waited for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_blocking import handshake
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
)
from gateway_blocking.handshake import Endpoint, Handshake

URL = "ws://gateway.example:8888/api/kernels/k/channels"


class Peer:
    """The other end of the socket that a handshake takes for its connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def answers(self, head: str, body: str = "") -> None:
        """Answer before it is asked, which makes no difference to the client."""
        lines = [*head.splitlines(), f"Content-Length: {len(body)}", "", body]
        self.sock.sendall("\r\n".join(lines).encode("latin-1"))

    @property
    def asked(self) -> list[bytes]:
        """The lines of the request, after the handshake has ended."""
        self.sock.settimeout(30)
        return self.sock.recv(65536).split(b"\r\n")


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, Peer]]:
    """The socket that each connection gets, and the other end of it."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(Handshake, "_connect_to", lambda self, *_: self._hold(ours))
    monkeypatch.setattr(handshake, "_SOCKET_OPTIONS", [])  # TCP's
    with ours, theirs:
        yield ours, Peer(theirs)


@pytest.fixture
def peer(pair: tuple[socket.socket, Peer]) -> Peer:
    return pair[1]


def opening(url: str = URL, headers: dict[str, str] | None = None, **options: Any) -> None:
    """Open a websocket, as a connection does."""
    Handshake(Endpoint(url, headers or {}, **options)).connect().upgrade().close()


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (URL, b"gateway.example:8888"),
        ("ws://gateway.example:80/x", b"gateway.example"),
        ("ws://gateway.example:443/x", b"gateway.example:443"),
        ("ws://[::1]:8888/x", b"[::1]:8888"),
    ],
)
def test_the_host_has_its_port_unless_the_scheme_implies_it(
    url: str, host: bytes, peer: Peer
) -> None:
    """A proxy that chooses a server by Host compares the text."""
    peer.answers("HTTP/1.1 404 Not Found")
    with pytest.raises(NoSuchKernel):
        opening(url)
    assert b"Host: " + host in peer.asked


def test_headers_are_sent_once_in_latin_1_and_without_those_of_the_connection(
    peer: Peer,
) -> None:
    """``Connection: close`` would contradict the handshake's own, and servers decode Latin-1."""
    peer.answers("HTTP/1.1 404 Not Found")
    headers = {"Authorization": "token clé", "Connection": "close", "Host": "other.example"}
    with pytest.raises(NoSuchKernel):
        opening(headers=headers, subprotocols=("v1", "v2"))
    lines = [line.lower() for line in peer.asked]
    assert b"authorization: token cl\xe9" in lines
    assert [line for line in lines if line.startswith(b"connection")] == [b"connection: upgrade"]
    assert [line for line in lines if line.startswith(b"host")] == [b"host: other.example"]
    assert b"sec-websocket-protocol: v1, v2" in lines


def test_a_header_with_a_line_break_is_not_sent(peer: Peer) -> None:
    """It could add a header, or a request; the error shows none of it."""
    with pytest.raises(GatewayConnectionError, match="a header with a line break") as caught:
        opening(headers={"X-Secret": "sesame\r\nX-Other: 1"})
    assert "sesame" not in str(caught.value)


# --- what a response means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        ("401 Unauthorized", GatewayAuthError, "no token was sent"),
        ("403 Forbidden", GatewayAuthError, "or the user may not use this kernel"),
        ("404 Not Found", NoSuchKernel, "404, Not Found"),
        ("429 Too Many Requests", GatewayHTTPError, "try again later"),
        ("503 Service Unavailable", GatewayHTTPError, "not available now"),
        ("200 OK", GatewayHTTPError, "lets websockets through"),
        ("302 Found\r\nLocation: /login?next=x", GatewayHTTPError, "redirects to a login page"),
    ],
)
def test_a_refusal_is_an_error_with_status_and_advice(
    status: str, kind: type[GatewayHTTPError], text: str, peer: Peer
) -> None:
    """Each kind of refusal has its class, as with REST."""
    peer.answers(f"HTTP/1.1 {status}")
    with pytest.raises(kind, match=text) as caught:
        opening()
    assert type(caught.value) is kind
    assert caught.value.status_code == int(status[:3])
    assert str(caught.value).startswith(f"cannot open the websocket {URL}: the gateway answered")


def test_a_redirect_names_the_option_that_the_url_came_from(peer: Peer) -> None:
    """To change ``url`` does not help if ``ws_url`` is set."""
    peer.answers("HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/")
    with pytest.raises(GatewayHTTPError, match=r"set ws_url \(JUPYTER_GATEWAY_WS_URL\)"):
        opening(url_option="ws_url")


def test_the_cookies_of_a_refusal_are_kept(peer: Peer) -> None:
    """A load balancer sets the cookie that finds the server again with any response."""
    kept: list[list[str]] = []
    peer.answers("HTTP/1.1 503 Busy\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2")
    with pytest.raises(GatewayHTTPError):
        opening(keep_cookies=kept.append)
    assert kept == [["a=1; Path=/", "b=2"]]


def test_a_gateway_that_closes_the_connection_is_no_gateway(peer: Peer) -> None:
    """The error says what to check."""
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(GatewayConnectionError, match="check that it is a gateway"):
        opening()


def test_a_gateway_that_does_not_answer_is_waited_for_until_the_timeout(peer: Peer) -> None:
    """The error names the option, and why a gateway holds the handshake back."""
    with pytest.raises(
        GatewayTimeout, match=r"no response within 0.05 s \(request_timeout\).*kernel"
    ):
        opening(handshake_timeout=0.05)


def test_bytes_that_trickle_do_not_prolong_the_timeout(peer: Peer) -> None:
    """One deadline is for the whole response."""
    peer.sock.sendall(b"HTTP/1.1 101 Switching")
    with pytest.raises(GatewayTimeout, match="within 0.05 s"):
        opening(handshake_timeout=0.05)


# --- through a proxy ------------------------------------------------------------------------------


def test_a_tunnel_is_asked_for_with_the_login_of_the_proxy(peer: Peer) -> None:
    """The password is decoded, as it stands quoted in a URL; errors do not show it."""
    peer.sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    with pytest.raises(
        GatewayConnectionError, match="407 Proxy Auth.*the proxy http://proxy.example:3128"
    ) as caught:
        opening(proxy="http://me:p%40ss@proxy.example:3128")
    assert peer.asked[:3] == [
        b"CONNECT gateway.example:8888 HTTP/1.1",
        b"Host: gateway.example:8888",
        b"Proxy-Authorization: Basic bWU6cEBzcw==",
    ]
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


def test_the_handshake_follows_in_the_tunnel(peer: Peer) -> None:
    """The proxy's response is not taken for the gateway's."""
    peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\n")
    peer.answers("HTTP/1.1 404 Not Found")
    with pytest.raises(NoSuchKernel):
        opening("ws://[::1]:8888/x", proxy="http://proxy.example")
    assert peer.asked[:2] == [b"CONNECT [::1]:8888 HTTP/1.1", b"Host: [::1]:8888"]


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"x" * 2000])
def test_a_proxy_that_does_not_speak_http_is_an_error(
    said: bytes, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may close the connection, or say anything without an end."""
    monkeypatch.setattr(handshake, "_LONGEST_HEAD", 1000)
    peer.sock.sendall(said)
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(GatewayConnectionError, match="CONNECT is not HTTP.*through the proxy"):
        opening(proxy="http://proxy.example")


def test_a_proxy_that_does_not_answer_is_waited_for_until_the_timeout(peer: Peer) -> None:
    """It is part of connecting."""
    with pytest.raises(GatewayTimeout, match=r"no connection within 0.05 s \(connect_timeout\)"):
        opening(proxy="http://proxy.example", connect_timeout=0.05)


def test_a_proxy_of_another_kind_is_refused_before_it_is_connected() -> None:
    """A SOCKS proxy would not understand CONNECT."""
    with pytest.raises(GatewayConnectionError, match="an http:// proxy only"):
        opening(proxy="socks5://proxy.example")


# --- the end --------------------------------------------------------------------------------------


def test_an_aborted_handshake_goes_no_further(peer: Peer) -> None:
    """abort() may come before there is a socket, which is then given up when it is made."""
    attempt = Handshake(Endpoint(URL, {}))
    attempt.abort()
    with pytest.raises(GatewayConnectionError, match="closed here while it was being opened"):
        attempt.connect()


@pytest.mark.parametrize("step", ["connect", "upgrade"])
def test_a_failed_handshake_closes_its_socket(step: str, pair: tuple[socket.socket, Peer]) -> None:
    """No caller has it to close it."""
    sock, peer = pair
    peer.answers("HTTP/1.1 404 Not Found")
    with pytest.raises(GatewayError):
        opening(proxy="http://proxy.example" if step == "connect" else None)
    assert sock.fileno() == -1


def test_each_address_gets_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without a route must not use up the time of the next; the first error is told."""
    timeouts: list[float] = []

    class Unreachable:
        """A socket whose peer is not there."""

        def __init__(self, *_: Any) -> None:
            self.close = self.shutdown = lambda *_: None

        def settimeout(self, seconds: float) -> None:
            timeouts.append(seconds)

        def connect(self, address: tuple[str, int]) -> None:
            raise OSError(f"no route to {address[0]}")

    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 1)) for host in ("a", "b", "c")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(handshake.socket, "socket", Unreachable)
    with pytest.raises(GatewayConnectionError, match="no route to a"):
        Handshake(Endpoint(URL, {}, connect_timeout=60)).connect()
    assert [round(seconds / 10) for seconds in timeouts] == [2, 3, 6]
