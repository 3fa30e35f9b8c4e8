"""Opening of a websocket: TCP, a proxy's tunnel, TLS, websocket-client's handshake.

The result is a :class:`~gateway_blocking.transport.Transport`, which reads and writes the socket
without websocket-client.
"""

from __future__ import annotations

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import websocket

from .advice import NO_WAY, WEBSOCKET_HELD_BACK, for_connection, for_proxy, for_timeout, http_only
from .deadline import Deadline
from .errors import GatewayConnectionError, GatewayError, GatewayTimeout, NoSuchKernel
from .responses import RequestInfo, Response, http_error
from .tls import DirectTLSSocket, HandshakeTimeout, TLSSocket
from .traits import safe_url
from .transport import MAX_INCOMING, Transport, shut_down

__all__ = ["Endpoint", "Handshake"]

_Socket = TypeVar("_Socket", bound=socket.socket)
_LONGEST_HEAD = 65536  # bytes of a proxy's response
_HANDSHAKE_HEADERS = ("connection", "upgrade", "sec-websocket-key", "sec-websocket-version")

# TCP itself notices after about a minute that the peer is gone, whether the socket is idle or not.
_SOCKET_OPTIONS = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 60_000),
    )
    if hasattr(socket, name)
]


@dataclass(frozen=True)
class Endpoint:
    """Address of a websocket, and the options to open it with; made anew for each attempt.

    ``connect_timeout`` bounds TCP, the proxy's tunnel and TLS together; ``handshake_timeout`` the
    HTTP upgrade, which a gateway completes only when the kernel responds (both in seconds);
    ``max_incoming`` one message from the gateway (in bytes).
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    subprotocols: tuple[str, ...] = ()
    ssl_context: ssl.SSLContext | None = None
    connect_timeout: float = 40.0
    handshake_timeout: float = 42.0
    max_incoming: int = MAX_INCOMING
    proxy: str | None = field(default=None, repr=False)
    rest_allowed: bool = False
    """True if requests with the same credentials were answered."""
    url_option: str = "url"
    """Option that the URL comes from."""
    keep_cookies: Callable[[list[str]], None] | None = field(default=None, repr=False)
    """Called with the ``Set-Cookie`` headers of the response, whatever its status is."""


class Handshake:
    """The opening of one websocket: first :meth:`connect`, then :meth:`upgrade`.

    One thread opens it.  Any thread may call :meth:`abort`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._sock: socket.socket | None = None
        self._aborted = False

    def connect(self) -> Handshake:
        """Connect to the gateway: TCP, the proxy's tunnel if there is one, and TLS.

        Raises
        ------
        GatewayConnectionError
            The host cannot be reached, or does not speak TLS on this port.
        GatewayTimeout
            The endpoint's ``connect_timeout`` passed.
        """
        try:
            self._open_socket()
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception) or isinstance(error, GatewayError):
                raise
            raise _connection_error(error, self.endpoint) from error
        return self

    def _open_socket(self) -> None:
        """Open the socket, through a proxy and with TLS if the endpoint asks for them."""
        endpoint = self.endpoint
        parts = urlsplit(endpoint.url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
        deadline = Deadline(endpoint.connect_timeout)
        if endpoint.proxy is None:
            sock = self._connect_to(host, port, deadline)
        else:
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            sock = self._tunnel_to(target, endpoint.proxy, deadline)
        for option in _SOCKET_OPTIONS:
            sock.setsockopt(*option)
        if endpoint.ssl_context is not None:
            is_direct = endpoint.proxy is None
            endpoint.ssl_context.sslsocket_class = DirectTLSSocket if is_direct else TLSSocket
            sock.settimeout(_io_limit(deadline))
            sock = endpoint.ssl_context.wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
            self._hold(sock).do_handshake()

    def _connect_to(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """Connect like ``socket.create_connection``, with a socket that :meth:`abort` knows.

        Each address of the host gets an equal share of the time that is left.  An address that does
        not answer, such as an IPv6 address without a route, must not use up the time of the others.
        """
        error: OSError | None = None
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            self.close()  # the socket of the address before
            try:
                sock = self._hold(socket.socket(family, kind, protocol))
                limit = _io_limit(deadline)
                sock.settimeout(limit and limit / (len(found) - tried))
                sock.connect(address)
            except OSError as failure:
                error = error or failure
            else:
                return sock
        raise error or OSError("the name has no address")

    def _tunnel_to(self, target: str, proxy: str, deadline: Deadline) -> socket.socket:
        """Return a socket that is connected to `target` through an HTTP proxy."""
        parts = urlsplit(proxy)
        if parts.scheme != "http":
            text = "a websocket can go through an http:// proxy only"
            raise self._error(text, for_proxy(safe_url(proxy)))
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        login = f"{user}:{password}" if user else ""
        try:
            sock = self._connect_to(parts.hostname or "", parts.port or 80, deadline)
            _ask_for_tunnel(sock, target, login, deadline)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._error(str(error), for_proxy(safe_url(proxy), str(error))) from error
        return sock

    def _hold(self, sock: _Socket) -> _Socket:
        self._sock = sock
        if self._aborted:
            raise self._error("the websocket was closed here while it was being opened")
        return sock

    def _error(self, cause: str, advice: str = "") -> GatewayConnectionError:
        return GatewayConnectionError(f"{_request(self.endpoint)}: {cause}", advice=advice)

    def upgrade(self) -> Transport:
        """Upgrade the connection to a websocket, and return it.

        A gateway completes the upgrade only when its kernel responds.

        Raises
        ------
        GatewayConnectionError
            The server does not speak websocket, or closed the connection.
        GatewayTimeout
            The endpoint's ``handshake_timeout`` passed.
        GatewayAuthError, NoSuchKernel, GatewayHTTPError
            The gateway refused with 401 or 403, with 404, or with another status.
        """
        assert self._sock is not None, "connect() it first"
        endpoint = self.endpoint
        ws = websocket.WebSocket(enable_multithread=False)
        try:
            _handshake(ws, self._sock, endpoint)
            return Transport(self._sock, _subprotocol(ws, endpoint), endpoint.max_incoming)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception) or isinstance(error, GatewayError):
                raise
            raise _upgrade_error(error, endpoint, ws) from error

    def abort(self) -> None:
        """Shut the socket down, which wakes a thread that waits in another method."""
        self._aborted = True
        if self._sock is not None:
            shut_down(self._sock)

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            self._sock.close()

    close_after_fork = close


def _io_limit(deadline: Deadline) -> float | None:
    """Return the time that is left for ``settimeout``, to which 0 means not to wait at all."""
    left = deadline.left()
    return None if left is None else max(left, 0.001)


def _ask_for_tunnel(sock: socket.socket, target: str, login: str, deadline: Deadline) -> None:
    """Send CONNECT to a proxy, and read its response within the deadline.

    http.client would wait for the timeout at each byte of the response.
    """
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    lines += [f"Proxy-Authorization: Basic {b64encode(login.encode()).decode()}"] if login else []
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        if deadline.passed():
            raise TimeoutError("timed out")
        sock.settimeout(_io_limit(deadline))
        byte = sock.recv(1)
        if not byte or len(head) > _LONGEST_HEAD:
            raise OSError(f"the proxy's answer to CONNECT is not HTTP: {head[:80]!r}")
        head += byte
    status, _, reason = head.split(b"\n")[0].decode("latin-1").partition(" ")[2].partition(" ")
    if not status.startswith("2"):
        raise OSError(f"Tunnel connection failed: {status} {reason.strip()}")


def _handshake(ws: websocket.WebSocket, sock: socket.socket, endpoint: Endpoint) -> None:
    headers = {name.lower(): value for name, value in endpoint.headers.items()}
    host = headers.pop("host", None) or _host_header(endpoint.url)
    for name in _HANDSHAKE_HEADERS:  # the user's are for REST; here they would be sent twice
        headers.pop(name, None)
    if endpoint.subprotocols:
        # Not as `subprotocols=`: websocket-client then refuses a server that selects none.
        headers["sec-websocket-protocol"] = ", ".join(endpoint.subprotocols)
    if any(bad in text for pair in headers.items() for text in pair for bad in "\r\n"):
        raise GatewayConnectionError(
            f"{_request(endpoint)}: a header with a line break in it cannot be sent"
        )
    upgrade = _Upgrade(sock, Deadline(endpoint.handshake_timeout))
    try:
        ws.connect(
            endpoint.url,
            socket=upgrade,
            header=headers,
            host=host,
            suppress_origin=True,  # behind a proxy that rewrites Host, a gateway refuses its own
            redirect_limit=0,  # websocket-client would take the credentials along
        )
        if ws.getstatus() != 101:  # a redirect, which it lets pass before 1.9.1
            raise websocket.WebSocketException("the server redirects")
    finally:
        if endpoint.keep_cookies is not None and upgrade.cookies:
            endpoint.keep_cookies(upgrade.cookies)


def _host_header(url: str) -> str:
    """Return the ``Host`` that REST sends, without the port if that is the scheme's default."""
    parts = urlsplit(url)
    usual = f":{443 if parts.scheme == 'wss' else 80}"
    return parts.netloc.removesuffix(usual)


class _Upgrade:
    """The socket of a handshake, which keeps three habits of websocket-client in check.

    Encoding: websocket-client sends headers as UTF-8.  REST sends Latin-1, which servers decode.

    Time: websocket-client reads byte by byte, and waits for its timeout at each.  Here, one
    deadline ends every receive, also if a server trickles.

    Cookies: websocket-client has one jar for the whole process, keeps what it reads there with a
    domain but without path or expiry, and sends it again.  So it never sees a cookie, and the
    ``Cookie`` headers that it adds are not sent.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.cookies: list[str] = []
        self._sock = sock
        self._deadline = deadline
        self._in_head = True
        self._line = b""  # of the response's head: the part that is not taken yet

    def send(self, data: bytes) -> int:
        lines = data.decode().encode("latin-1").split(b"\r\n")
        self._sock.settimeout(self._left())
        self._sock.sendall(b"\r\n".join(line for line in lines if line[:7] != b"Cookie:"))
        return len(data)

    def recv(self, size: int) -> bytes:
        if self._in_head and not self._line:
            self._line = self._next_line()
            self._in_head = bool(self._line.strip())
        if not self._line:
            return self._receive(size)
        taken, self._line = self._line[:size], self._line[size:]
        return taken

    def _next_line(self) -> bytes:
        while True:
            line = bytearray()
            while line[-1:] != b"\n" and (byte := self._receive(1)):
                line += byte
            name, _, value = line.partition(b":")
            if name.lower() != b"set-cookie":
                return bytes(line)
            self.cookies.append(value.decode("latin-1").strip())

    def _receive(self, size: int) -> bytes:
        self._sock.settimeout(self._left())
        return self._sock.recv(size)

    def _left(self) -> float | None:
        left = self._deadline.left()
        if left == 0:
            raise TimeoutError("timed out")
        return left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _subprotocol(ws: websocket.WebSocket, endpoint: Endpoint) -> str:
    """Return the subprotocol that the server selected, "" for none."""
    selected: str = (ws.getheaders() or {}).get("sec-websocket-protocol", "")
    if selected and selected not in endpoint.subprotocols:
        raise GatewayConnectionError(
            f"{_request(endpoint)}: the gateway selected the subprotocol {selected!r}, which was"
            " not offered"
        )
    return selected


# --- errors ---------------------------------------------------------------------------------------

_REASON = re.compile(r"Handshake status \d+ (.*?) -\+-\+- ")


def _request(endpoint: Endpoint) -> RequestInfo:
    return RequestInfo(
        "GET",
        safe_url(endpoint.url),
        safe_url(endpoint.proxy or ""),
        is_websocket=True,
        rest_allowed=endpoint.rest_allowed,
        url_option=endpoint.url_option,
    )


def _connection_error(error: Exception, endpoint: Endpoint) -> GatewayError:
    """Return the error for a gateway that could not be reached."""
    request, limit = _request(endpoint), f"{endpoint.connect_timeout:g} s (connect_timeout)"
    if isinstance(error, TimeoutError):
        if isinstance(error, HandshakeTimeout):
            advice = for_timeout(http_only(endpoint.url_option), "connect_timeout")
            return GatewayTimeout(f"{request}: no TLS handshake within {limit}", advice=advice)
        advice = for_timeout(NO_WAY, "connect_timeout")
        return GatewayTimeout(f"{request}: no connection within {limit}", advice=advice)
    return GatewayConnectionError(f"{request}: {error}", advice=_advice(error, endpoint))


def _upgrade_error(error: Exception, endpoint: Endpoint, ws: websocket.WebSocket) -> GatewayError:
    """Return the error for an upgrade that failed."""
    request = _request(endpoint)
    status = getattr(error, "status_code", None) or ws.getstatus()
    if status is not None and status != 101:
        return http_error(request, _response(error, endpoint, ws, status), NoSuchKernel)
    if isinstance(error, TimeoutError | websocket.WebSocketTimeoutException):
        late = f"no response within {endpoint.handshake_timeout:g} s (request_timeout)"
        advice = for_timeout(WEBSOCKET_HELD_BACK, "request_timeout")
        return GatewayTimeout(f"{request}: {late}", advice=advice)
    return GatewayConnectionError(f"{request}: {error}", advice=_advice(error, endpoint))


def _response(
    error: Exception, endpoint: Endpoint, ws: websocket.WebSocket, status: int
) -> Response:
    """Return the response that refused an upgrade."""
    found = _REASON.match(str(error))  # before 1.9.1, only the text of the error has the reason
    headers = {name.title(): value for name, value in (ws.getheaders() or {}).items()}
    body = getattr(error, "resp_body", None) or b""
    return Response(
        status, found[1] if found else "", headers, body, endpoint.url, endpoint.headers
    )


def _advice(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, OSError | UnicodeError | websocket.WebSocketConnectionClosedException):
        encrypted = endpoint.url.startswith("wss:")
        return for_connection(error, endpoint.url_option, encrypted=encrypted)
    return ""
