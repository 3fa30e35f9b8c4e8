"""One open websocket: connect, receive, send, ping, close; and the tuning of its socket.

websocket-client makes the connection and the handshake.  From there on the socket is ours:
non-blocking, read ahead by :class:`~gateway_blocking.frames.FrameReader`, and every read and
write of TLS under one lock that nobody holds while waiting.  With a blocking or timed TLS socket
a reader and a writer thread share OpenSSL's state, and Python before 3.13 then reports an end
of the stream that is none.
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import sys
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import websocket

if sys.platform != "win32":
    import fcntl
    import termios

from .advice import NO_WAY, for_connection, for_login, for_proxy, for_redirect, for_tls
from .deadline import Deadline
from .errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    MessageTooLarge,
    NoSuchKernel,
    WireError,
)
from .frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, build_frame

__all__ = ["MAX_INCOMING", "MAX_OUTGOING", "Endpoint", "Opening", "Transport"]

_Socket = TypeVar("_Socket", bound=socket.socket)

MAX_OUTGOING = 10 * 1024 * 1024
"""Bytes in one message to the gateway: tornado resets the connection above its 10 MiB."""

MAX_INCOMING = 2 * 1024 * 1024 * 1024
"""Bytes in one message from the gateway, by default; the gateways themselves have no limit."""

_PROMPT_READS = 16
_LONGEST_HEAD = 65536  # bytes of an answer of a proxy
_ACK_DELAY = 0.002  # seconds

# A peer that is gone is noticed, idle or not, after about a minute, also by TCP itself.
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
    """Where a websocket leads and what opens it; made anew for each attempt.

    ``connect_timeout`` bounds reaching the host, ``handshake_timeout`` the whole HTTP upgrade,
    which a gateway holds back until the kernel answers (seconds); ``max_incoming`` a message of
    the gateway's (bytes).
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    subprotocols: tuple[str, ...] = ()
    ssl_context: ssl.SSLContext | None = None
    connect_timeout: float = 40.0
    handshake_timeout: float = 42.0
    max_incoming: int = MAX_INCOMING
    proxy: str | None = field(default=None, repr=False)
    keep_cookies: Callable[[list[str]], None] | None = field(default=None, repr=False)
    """Called with each ``Set-Cookie`` of the answer, whatever that is."""


class Transport:
    """An open websocket.  One thread receives; any number of threads may send.

    Everything that ends it raises :exc:`GatewayConnectionError`, in the receiver and in the
    senders alike.
    """

    def __init__(
        self, sock: socket.socket, subprotocol: str = "", max_incoming: int = MAX_INCOMING
    ) -> None:
        sock.setblocking(False)
        self.subprotocol = subprotocol
        self.opened = self.last_received = monotonic()
        """When a byte last came, on the monotonic clock: any byte is a sign of life."""
        self._sock = sock
        self._frames = FrameReader(max_incoming)
        self._io_lock = threading.Lock()  # around a single read or write, never around a wait
        self._send_lock = threading.Lock()  # around a whole frame
        self._outgoing = bytearray()  # what is being written, under the send lock
        self._waiting: deque[bytes] = deque()  # control frames that nobody could write yet
        self._prompt_reads = 0
        self._aborted: str | None = None

    def __repr__(self) -> str:
        return f"<Transport {self.subprotocol or 'default'} {self._aborted or 'open'}>"

    # --- receiving ------------------------------------------------------------------------------

    def receive(self) -> tuple[int, bytes | memoryview]:
        """The next message: its opcode, TEXT or BINARY, and its payload.

        Waits without an end: an idle kernel is silent.  :meth:`abort` ends the wait.
        """
        while True:
            try:
                frame = self._frames.next_frame()
            except WireError as error:
                self.abort(str(error))
                raise GatewayConnectionError(f"the websocket was given up: {error}") from error
            if frame is None:
                self._fill()
            elif (opcode := frame[0]) == TEXT or opcode == BINARY:
                return frame
            elif opcode == PING:
                self._send_control(PONG, bytes(frame[1]))
            elif opcode == CLOSE:
                raise GatewayConnectionError(_close_text(bytes(frame[1])))

    def _fill(self) -> None:
        """Receive at least one byte."""
        space = self._frames.space()
        while True:
            try:
                with self._io_lock:
                    count = self._sock.recv_into(space)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._await_input()
            except ssl.SSLWantWriteError:
                _wait(self._sock, write=True)
            except (OSError, ValueError) as error:
                raise self._lost(error) from error
            else:
                if count == 0:
                    raise self._lost(None)
                if self._prompt_reads > 0:
                    self._prompt_reads -= 1
                    _acknowledge(self._sock)
                self._frames.received(count)
                self.last_received = monotonic()
                return

    def _await_input(self) -> None:
        """Wait for input, and do not let the other side wait for TCP's acknowledgement.

        A gateway sends the answer to one request as several small frames, and Nagle's algorithm
        holds each back until the one before is acknowledged, which Linux delays by 40 ms.  So
        the first reads after a request acknowledge at once.  In a longer stream that would cost
        a packet and a wake-up for every frame: there the frames of 2 ms may gather first.
        """
        if self._prompt_reads == 0:
            if _wait(self._sock, timeout=_ACK_DELAY):
                return
            _acknowledge(self._sock)
        _wait(self._sock)

    # --- sending --------------------------------------------------------------------------------

    def send(self, opcode: int, payload: bytes, timeout: float | Deadline | None = None) -> None:
        """Send one message.

        Raises
        ------
        MessageTooLarge
            More than :data:`MAX_OUTGOING` bytes; nothing was sent.
        GatewayTimeout
            The gateway did not take the message in time.  If some of it was sent, the
            connection is given up, because nothing can follow half a frame.
        GatewayConnectionError
            The connection is lost.
        """
        if len(payload) > MAX_OUTGOING:
            raise MessageTooLarge(
                f"the message has {len(payload):,} bytes, and a gateway resets the connection at"
                f" more than {MAX_OUTGOING:,}: send it in parts, or by way of a file"
            )
        frame = build_frame(opcode, payload)
        deadline = Deadline.of(timeout)
        left = deadline.left()
        if not self._send_lock.acquire(timeout=-1 if left is None else left):
            raise GatewayTimeout("the gateway is not reading: another message waits to be sent")
        try:
            self._prompt_reads = _PROMPT_READS
            self._outgoing += frame
            self._flush(deadline, len(frame))
        finally:
            self._send_lock.release()
        self._send_waiting()

    def ping(self) -> None:
        """Ask the gateway for a sign of life; never waits."""
        self._send_control(PING, b"")

    def has_input(self) -> bool:
        """Whether something came that was not read yet, by a receiver that is behind."""
        return _wait(self._sock, timeout=0)

    def is_acknowledged(self) -> bool:
        """Whether the gateway's host has confirmed all that was sent, as far as can be known.

        Its operating system does that, also for a gateway that is too busy or stopped; not so
        where packets get lost.
        """
        return _unacknowledged(self._sock) == 0

    def _send_control(self, opcode: int, payload: bytes) -> None:
        """Send a control frame now, or right after what another thread is sending.

        The receiving thread answers pings with it and must not wait for a sender, which may
        itself be waiting for a gateway that wants its output to be read first.
        """
        self._waiting.append(build_frame(opcode, payload))
        self._send_waiting()

    def _send_waiting(self) -> None:
        # Who finds the lock taken leaves its frame to the holder, who looks again after release.
        while self._waiting and self._send_lock.acquire(blocking=False):
            try:
                while self._waiting:
                    self._outgoing += self._waiting.popleft()
                self._flush(None)
            finally:
                self._send_lock.release()

    def _flush(self, deadline: Deadline | None, frame_size: int = 0) -> None:
        """Write what is outgoing, under the send lock; without a deadline, what goes at once."""
        retry_owed = False  # OpenSSL insists on getting the same bytes again
        try:
            while self._outgoing:
                try:
                    with self._io_lock:
                        if self._aborted:
                            raise self._lost(None)
                        count = self._sock.send(self._outgoing)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                    if deadline is None:
                        return
                    retry_owed = isinstance(want, ssl.SSLError)
                    write = not isinstance(want, ssl.SSLWantReadError)
                    if not _wait(self._sock, write=write, timeout=deadline.left()):
                        raise GatewayTimeout(
                            f"the gateway did not take the message within {deadline.timeout:g} s"
                        ) from None
                else:
                    del self._outgoing[:count]
        except BaseException as error:  # KeyboardInterrupt too: nothing can follow half a frame
            if retry_owed or len(self._outgoing) < frame_size:
                self.abort("a message was sent in part only")
                self._outgoing.clear()
            elif frame_size:
                del self._outgoing[-frame_size:]
            if isinstance(error, OSError) and not isinstance(error, GatewayError):
                raise self._lost(error) from error
            raise

    # --- ending ---------------------------------------------------------------------------------

    def send_close(self) -> None:
        """Say goodbye, if that goes without waiting."""
        try:
            self._send_control(CLOSE, b"\x03\xe8")  # 1000, a normal closure
        except GatewayConnectionError:
            pass  # it is gone already

    def abort(self, reason: str = "it was closed here") -> None:
        """End the connection at once: a receiver and senders that wait are woken."""
        with self._io_lock:
            self._aborted = self._aborted or reason
            _shut_down(self._sock)

    def close(self) -> None:
        """Give the file descriptor back; only after the receiver has ended."""
        self.abort()
        self._sock.close()

    def disinherit(self) -> None:
        """Give the file descriptor back in a child process; the connection is its parent's."""
        self._sock.close()

    def _lost(self, error: BaseException | None) -> GatewayConnectionError:
        if self._aborted:
            return GatewayConnectionError(f"the websocket was given up: {self._aborted}")
        if error is None:
            return GatewayConnectionError("the gateway closed the websocket without a word")
        return GatewayConnectionError(f"the websocket broke: {error}")


def _shut_down(sock: socket.socket) -> None:
    """End the connection, and wake every thread that waits for it.

    Only ``shutdown`` of the raw socket does that; ``SSLSocket.shutdown`` would turn the socket
    into a plain one under the eyes of the other threads.
    """
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was faster


def _wait(sock: socket.socket, *, write: bool = False, timeout: float | None = None) -> bool:
    """Wait until `sock` can be read (or written), has an error, or `timeout` seconds passed."""
    try:
        if hasattr(select, "poll"):  # cheaper than a selector, and no descriptor of its own
            poll = select.poll()
            poll.register(sock, select.POLLOUT if write else select.POLLIN)
            return bool(poll.poll(None if timeout is None else timeout * 1000))
        some = [sock]
        return any(select.select([] if write else some, some if write else [], some, timeout))
    except ValueError:  # the socket was closed meanwhile, which the next read or write tells
        return True


if hasattr(socket, "TCP_QUICKACK"):

    def _acknowledge(sock: socket.socket) -> None:
        """Send the acknowledgement that Linux would delay; the option resets itself."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            pass  # the connection is ending, or is not TCP: the next read tells

else:

    def _acknowledge(sock: socket.socket) -> None:
        """Only Linux has the option."""


def _unacknowledged(sock: socket.socket) -> int:
    """How many bytes the other side has not confirmed yet; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    try:
        answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # no TCP, another system, or closed meanwhile
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _close_text(payload: bytes) -> str:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None
    reason = payload[2:].decode("utf-8", "replace")
    what = "without a code" if code is None else f"with code {code}"
    return f"the gateway closed the websocket {what}" + (f": {reason}" if reason else "")


# --- connecting -----------------------------------------------------------------------------------


class Opening:
    """A websocket that is being opened: :meth:`reach` the gateway, then :meth:`complete` it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._sock: socket.socket | None = None
        self._aborted = False

    def reach(self) -> Opening:
        """Reach the gateway, as far as TCP and TLS go.

        Raises
        ------
        GatewayConnectionError
            The host cannot be reached, or does not speak TLS there.
        GatewayTimeout
            It did not answer within the endpoint's ``connect_timeout``.
        """
        try:
            self._connect()
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception) or isinstance(error, GatewayError):
                raise
            raise _not_reached(error, self.endpoint) from error
        return self

    def _connect(self) -> None:
        """A TCP connection to the gateway, through a proxy and TLS where they are asked for."""
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
            sock.settimeout(_io_limit(deadline))
            sock = endpoint.ssl_context.wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
            self._hold(sock).do_handshake()

    def _connect_to(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """As ``socket.create_connection``, with a socket that :meth:`abort` knows meanwhile."""
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            self.close()  # that of the address before
            try:
                sock = self._hold(socket.socket(family, kind, protocol))
                sock.settimeout(_io_limit(deadline))  # (0 would mean not to wait at all)
                sock.connect(address)
            except OSError as failure:
                error = error or failure
            else:
                return sock
        raise error or OSError("the name has no address")

    def _tunnel_to(self, target: str, proxy: str, deadline: Deadline) -> socket.socket:
        """A connection through an HTTP proxy."""
        parts = urlsplit(proxy)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        if parts.scheme != "http":
            raise GatewayConnectionError(
                f"a websocket can go through an http:// proxy only; {for_proxy(shown)}"
            )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        login = f"{user}:{password}" if user else ""
        try:
            sock = self._connect_to(parts.hostname or "", parts.port or 80, deadline)
            _ask_for_tunnel(sock, target, login, deadline)
        except TimeoutError:
            raise
        except OSError as error:
            raise GatewayConnectionError(f"{error}; {for_proxy(shown)}") from error
        return sock

    def _hold(self, sock: _Socket) -> _Socket:
        self._sock = sock
        if self._aborted:
            raise GatewayConnectionError("the websocket was closed here while it was being opened")
        return sock

    def complete(self) -> Transport:
        """Do the handshake, which a gateway holds back until its kernel answers.

        Raises
        ------
        GatewayConnectionError
            The other side does not speak websocket, or ended the connection.
        GatewayTimeout
            It did not answer within the endpoint's ``handshake_timeout``.
        GatewayAuthError, NoSuchKernel, GatewayHTTPError
            The gateway refused: 401 or 403, 404, anything else.
        """
        assert self._sock is not None, "reach() it first"
        endpoint = self.endpoint
        ws = websocket.WebSocket(enable_multithread=False)
        try:
            _handshake(ws, self._sock, endpoint)
            return Transport(self._sock, _subprotocol(ws, endpoint), endpoint.max_incoming)
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception) or isinstance(error, GatewayError):
                raise
            raise _refused(error, endpoint, ws) from error

    def abort(self) -> None:
        """End it at once: a thread that waits in :meth:`reach` or :meth:`complete` is woken."""
        self._aborted = True
        if self._sock is not None:
            _shut_down(self._sock)

    def close(self) -> None:
        """Give the file descriptor back."""
        if self._sock is not None:
            self._sock.close()

    disinherit = close


def _io_limit(deadline: Deadline) -> float | None:
    """For ``settimeout``, to which 0 would mean not to wait at all."""
    left = deadline.left()
    return None if left is None else max(left, 0.001)


def _ask_for_tunnel(sock: socket.socket, target: str, login: str, deadline: Deadline) -> None:
    """CONNECT, which http.client does with a time-out for each byte of the answer."""
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
            raise OSError(f"the proxy's answer to CONNECT is none: {head[:80]!r}")
        head += byte
    status, _, reason = head.split(b"\n")[0].decode("latin-1").partition(" ")[2].partition(" ")
    if not status.startswith("2"):
        raise OSError(f"Tunnel connection failed: {status} {reason.strip()}")


def _handshake(ws: websocket.WebSocket, sock: socket.socket, endpoint: Endpoint) -> None:
    headers = {name.lower(): value for name, value in endpoint.headers.items()}
    if endpoint.subprotocols:
        # Not as `subprotocols=`: websocket-client then refuses a server that selects none.
        headers["sec-websocket-protocol"] = ", ".join(endpoint.subprotocols)
    if any(bad in text for pair in headers.items() for text in pair for bad in "\r\n"):
        raise GatewayConnectionError("a header with a line break in it cannot be sent")
    upgrade = _Upgrade(sock, Deadline(endpoint.handshake_timeout))
    try:
        ws.connect(
            endpoint.url,
            socket=upgrade,
            header=headers,
            suppress_origin=True,  # behind a proxy that rewrites Host, a gateway refuses its own
            redirect_limit=0,  # websocket-client would take the credentials along
        )
        if ws.getstatus() != 101:  # a redirect, which it lets pass before 1.9.1
            raise websocket.WebSocketException("the server redirects")
    finally:
        if endpoint.keep_cookies is not None and upgrade.cookies:
            endpoint.keep_cookies(upgrade.cookies)


class _Upgrade:
    """The socket of a handshake, with two things kept from websocket-client.

    Time: each receive ends at one deadline, also for a server that trickles; websocket-client
    reads byte by byte, with its time-out for each.

    Cookies: it has one jar for all of a process, and keeps what it reads and adds what it kept
    there, with a domain but without path or expiry.  So it gets to see none, and those that it
    adds, by the name ``Cookie``, are not sent.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self.cookies: list[str] = []
        self._sock = sock
        self._deadline = deadline
        self._in_head = True
        self._line = b""  # of the answer's head: what is not taken yet

    def send(self, data: bytes) -> int:
        lines = data.split(b"\r\n")
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
    """What the server selected, "" for none."""
    selected: str = (ws.getheaders() or {}).get("sec-websocket-protocol", "")
    if selected and selected not in endpoint.subprotocols:
        raise GatewayConnectionError(
            f"the gateway chose the subprotocol {selected!r}, which was not offered"
        )
    return selected


# What a refused handshake means, by status.
_REFUSALS: Mapping[int, tuple[type[GatewayHTTPError], str]] = {
    401: (GatewayAuthError, ""),  # what to do depends on what was sent
    403: (GatewayAuthError, "the token is wrong or missing, or the user may not use this kernel"),
    404: (
        NoSuchKernel,
        "the kernel was shut down or culled, or the gateway was restarted; or a proxy in between"
        " does not let websockets through",
    ),
}
_NO_WEBSOCKET = (GatewayHTTPError, "does a proxy in between let websockets through?")
_REASON = re.compile(r"Handshake status \d+ (.*?) -\+-\+- ")


def _tried(endpoint: Endpoint) -> tuple[str, str]:
    """What was tried, as errors say it, and the URL in it."""
    parts = urlsplit(endpoint.url)
    where = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
    return f"cannot open the websocket {where}", where


def _not_reached(error: Exception, endpoint: Endpoint) -> GatewayError:
    """The error for a gateway that could not be reached."""
    tried, _ = _tried(endpoint)
    if isinstance(error, TimeoutError):
        return GatewayTimeout(
            f"{tried}: no connection within {endpoint.connect_timeout:g} s (connect_timeout);"
            f" {NO_WAY}"
        )
    return GatewayConnectionError(f"{tried}: {error}{_advice(error)}")


def _refused(error: Exception, endpoint: Endpoint, ws: websocket.WebSocket) -> GatewayError:
    """The error for a handshake that failed."""
    tried, where = _tried(endpoint)
    status = getattr(error, "status_code", None) or ws.getstatus()
    if status is not None and status != 101:
        kind, advice = _REFUSALS.get(status, _NO_WEBSOCKET)
        advice = advice or for_login(endpoint.headers)
        found = _REASON.match(str(error))  # before 1.9.1 websocket-client has it only there
        reason = found[1] if found else ""
        if 300 <= status < 400:
            target = urlsplit((ws.getheaders() or {}).get("location", ""))
            target = target._replace(netloc=target.netloc.rpartition("@")[2], query="", fragment="")
            advice = for_redirect(target.geturl())
        message = _body_message(getattr(error, "resp_body", None))
        said = f"{status} {reason}".rstrip() + (f" ({message})" if message else "")
        return kind(
            f"{tried}: the gateway answered {said}; {advice}",
            method="GET",
            url=where,
            status_code=status,
            reason=reason,
            message=message,
        )
    if isinstance(error, TimeoutError | websocket.WebSocketTimeoutException):
        return GatewayTimeout(
            f"{tried}: no answer within {endpoint.handshake_timeout:g} s (request_timeout); a"
            " gateway holds it back until the kernel answers: is the kernel starting, or the"
            " gateway overloaded?"
        )
    return GatewayConnectionError(f"{tried}: {error}{_advice(error)}")


def _advice(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"; {for_tls(error)}"
    if isinstance(error, OSError | websocket.WebSocketConnectionClosedException):
        return f"; {for_connection(error)}"
    return ""


def _body_message(body: bytes | None) -> str:
    """A gateway's own word on it: ``message`` and ``reason`` of a JSON body."""
    try:
        said = json.loads(body or b"")
        return " ".join(str(said[key]) for key in ("message", "reason") if said.get(key))[:200]
    except (ValueError, TypeError, AttributeError):
        return ""
