"""One open websocket: receive, send, ping, close.

Its socket comes from :mod:`~gateway_blocking.handshake`.  From there on it is ours: non-blocking,
read ahead by :class:`~gateway_blocking.frames.FrameReader`, and every read and write of TLS under
one lock that is never held during a wait.  With a blocking or timed TLS socket, a reader and a
writer thread share OpenSSL's state, and Python before 3.13 then reports an end of the stream by
mistake.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
from collections import deque
from time import monotonic

if sys.platform != "win32":
    import fcntl
    import termios

from .deadline import Deadline
from .errors import (
    GatewayConnectionError,
    GatewayError,
    GatewayTimeout,
    MessageTooLarge,
    WireError,
)
from .frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, build_frame
from .locks import Lock, RLock

__all__ = ["MAX_INCOMING", "MAX_OUTGOING", "Transport", "shut_down"]

MAX_OUTGOING = 10 * 1024 * 1024
"""Largest message to the gateway, in bytes: tornado resets the connection above its 10 MiB."""

MAX_INCOMING = 2 * 1024 * 1024 * 1024
"""Largest message from the gateway, in bytes, by default; a gateway itself has no limit."""

_PROMPT_READS = 16
_ACK_DELAY = 0.002  # seconds
_AT_ONCE = Deadline(0)
_SLICE = 1.0  # seconds: on Windows no signal interrupts a longer wait
_MAX_WAITING = 8  # control frames
_TORN = "a message was sent in part only"


class Transport:
    """An open websocket.  One thread receives; any number of threads may send.

    The end of it raises :exc:`GatewayConnectionError`, in the receiver and in the senders alike.
    """

    def __init__(
        self, sock: socket.socket, subprotocol: str = "", max_incoming: int = MAX_INCOMING
    ) -> None:
        sock.setblocking(False)
        self.subprotocol = subprotocol
        self.opened = self.last_received = monotonic()
        """Time of the last byte that came, on the monotonic clock: any byte is a sign of life."""
        self._sock = sock
        self._frames = FrameReader(max_incoming)
        # Around a single read or write, never around a wait; the holder may come to abort().
        self._io_lock = RLock()
        self._send_lock = Lock()  # around a whole frame
        # Under the send lock: what is left of a control frame, and whether it is unknown how much
        # of a frame was sent.
        self._rest = b""
        self._torn = False
        # Control frames that could not be written yet.  Of many pings, only the last has to be
        # answered (RFC 6455, section 5.5.3): a server that does not read cannot pile them up.
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._prompt_reads = 0
        self._aborted: str | None = None

    def __repr__(self) -> str:
        return f"<Transport {self.subprotocol or 'default'} {self._aborted or 'open'}>"

    @property
    def is_aborted(self) -> bool:
        """True if :meth:`abort` was called."""
        return self._aborted is not None

    # --- receiving ------------------------------------------------------------------------------

    def receive(self) -> tuple[int, bytes | memoryview]:
        """Return the next message: its opcode, TEXT or BINARY, and its payload.

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
                with self._io_lock.plain:  # only the reader thread comes here
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
        late = GatewayTimeout("the gateway is not reading: another message waits to be sent")
        with self._send_lock.within(deadline, late):
            self._prompt_reads = _PROMPT_READS
            self._write(frame, deadline)
        try:
            self._send_waiting()
        except GatewayConnectionError:
            pass  # the message was sent; that the connection is lost, the receiver notices

    def ping(self) -> None:
        """Send a ping; never wait."""
        self._send_control(PING, b"")

    def has_input(self) -> bool:
        """Return True if bytes came that the receiver has not read yet."""
        return _wait(self._sock, timeout=0)

    def is_acknowledged(self) -> bool:
        """Return True if the gateway's host has confirmed all that was sent, as far as is known.

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
        while self._waiting:
            try:
                with self._send_lock.within(_AT_ONCE, _Busy()):
                    while self._waiting:
                        if not self._write(b"", None):
                            return  # the gateway is not reading
                        self._write(self._waiting.popleft(), None)
            except _Busy:
                return

    def _write(self, frame: bytes, deadline: Deadline | None) -> bool:
        """Write the rest of an earlier frame, and this one; without a deadline, what goes at once.

        Requires the send lock.  Return False if the rest is still there, and this frame unsent.
        An interruption sends a frame never or ends the connection, because nothing can follow
        half of one; it is not known what was sent if the interruption comes right after that.
        """
        try:
            if self._torn:  # an interruption came into what follows an interruption
                self.abort(_TORN)
            if self._rest:
                self._rest = self._rest[self._write_some(self._rest, deadline) :]
                self._torn = False
            if self._rest:
                return False
            self._rest = frame[self._write_some(frame, deadline) :]
            self._torn = False
        except BaseException as error:
            if self._torn:
                self.abort(_TORN)
            if isinstance(error, OSError) and not isinstance(error, GatewayError):
                raise self._lost(error) from error
            raise
        return True

    def _write_some(self, data: bytes, deadline: Deadline | None) -> int:
        """Write all of it or, without a deadline, what goes at once; return how much that is."""
        view, written = memoryview(data), 0
        while written < len(view):
            try:
                with self._io_lock:
                    if self._aborted:
                        raise self._lost(None)
                    self._torn = True
                    count = self._sock.send(view[written:])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                # OpenSSL insists on getting the same bytes again.
                self._torn = written > 0 or isinstance(want, ssl.SSLError)
                if deadline is None:
                    break
                write = not isinstance(want, ssl.SSLWantReadError)
                timeout = deadline.within(_SLICE).left()
                if not _wait(self._sock, write=write, timeout=timeout) and deadline.passed():
                    raise GatewayTimeout(
                        f"the gateway did not take the message within {deadline.timeout:g} s"
                    ) from None
            except OSError:
                self._torn = written > 0
                raise
            else:
                written += count
        return written

    # --- ending ---------------------------------------------------------------------------------

    def send_close(self) -> None:
        """Send a close frame, if that is possible without waiting."""
        try:
            self._send_control(CLOSE, b"\x03\xe8")  # 1000, a normal closure
        except GatewayConnectionError:
            pass  # it is gone already

    def abort(self, reason: str = "it was closed here") -> None:
        """End the connection at once, and wake a receiver and senders that wait."""
        with self._io_lock:
            self._aborted = self._aborted or reason
            shut_down(self._sock)

    def close(self) -> None:
        """Give the file descriptor back; only after the receiver has ended."""
        self.abort()
        self._sock.close()

    def close_after_fork(self) -> None:
        """Give the file descriptor back in a child process; the connection is its parent's."""
        self._sock.close()

    def _lost(self, error: BaseException | None) -> GatewayConnectionError:
        if self._aborted:
            return GatewayConnectionError(f"the websocket was given up: {self._aborted}")
        if error is None:
            return GatewayConnectionError("the gateway closed the websocket without a word")
        return GatewayConnectionError(f"the websocket broke: {error}")


class _Busy(Exception):
    """Error of a lock that another, sending thread holds for too long."""


def shut_down(sock: socket.socket) -> None:
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
        return _poll(sock, write, timeout)
    except ValueError:  # the socket was closed meanwhile, which the next read or write tells
        return True


if sys.platform == "win32":

    def _poll(sock: socket.socket, write: bool, timeout: float | None) -> bool:
        """Wait with ``select()``, in slices of a second, since a Ctrl-C does not interrupt it."""
        some, deadline = [sock], Deadline(timeout)
        while True:
            left = deadline.left()
            seconds = _SLICE if left is None else min(left, _SLICE)
            if any(select.select([] if write else some, some if write else [], some, seconds)):
                return True
            if deadline.passed():
                return False

else:

    def _poll(sock: socket.socket, write: bool, timeout: float | None) -> bool:
        """Wait with ``poll()``: cheaper than a selector, and no descriptor of its own."""
        poll = select.poll()
        poll.register(sock, select.POLLOUT if write else select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))


if sys.platform == "linux":

    def _acknowledge(sock: socket.socket) -> None:
        """Send the acknowledgement that Linux would delay; the option resets itself."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            pass  # the connection is ending, or is not TCP: the next read tells

else:

    def _acknowledge(sock: socket.socket) -> None:
        """Do nothing: only Linux has the option."""


if sys.platform == "win32":

    def _unacknowledged(sock: socket.socket) -> int:
        """Return 0: Windows does not tell how many bytes the other side has not confirmed yet."""
        return 0

else:

    def _unacknowledged(sock: socket.socket) -> int:
        """Return how many bytes the other side has not confirmed; 0 if the system does not tell."""
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
