"""The connection to one kernel: its websocket, the two threads that serve it, and its state.

This is the only place where threads live:

``gateway-reader-<id8>``
    opens the websocket, receives, decodes and delivers.  It alone reads the socket and gives it
    back at the end.
``gateway-heartbeat-<id8>``
    pings, gives up a websocket of which nothing is heard any more, and asks the gateway whether
    a kernel that announced its shutdown is gone.

The gateway is reached in the caller's thread, so that its error is raised to the caller.  The
handshake is the reader's, since a gateway holds it back until its kernel answers, for a minute
perhaps: the caller waits for that only so long as a gateway that refuses would take.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from time import monotonic
from typing import Any

from jupyter_client.session import Session

from .channels import Channel
from .deadline import Deadline
from .errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayError,
    GatewayTimeout,
    KernelRestarted,
    WireError,
)
from .liveness import Verdict, verdict_of
from .transport import Opening, Transport
from .wire import FORMATS, Message

__all__ = ["PING_INTERVAL", "SILENCE_LIMIT", "Connection", "State"]

PING_INTERVAL = 30.0
"""Seconds between two pings, as the gateways themselves do."""

SILENCE_LIMIT = 90.0
"""Seconds without a single byte after which a gateway counts as gone; theirs is the same."""

_CLOSE_TIMEOUT = 1.0
_REFUSAL_TIMEOUT = 2.0
_DOUBT_INTERVAL = 0.25
_DOUBT_LIMIT = 20


class State(Enum):
    """Of a connection.  ``CLOSED`` is final."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class Connection:
    """The websocket of one kernel and the threads that serve it.

    Opened once and closed once.  Holds no reference to the client, so that a client that is
    dropped can be collected, and its threads ended.

    Parameters
    ----------
    name : str
        Of the kernel, for the names of the threads and the log.
    dial : callable
        Reaches the gateway.
    kernel_exists : callable
        Asks the gateway; raises GatewayError where it cannot tell.
    channels : mapping
        By name, where messages are delivered.
    session : jupyter_client.session.Session
        Whose ``pack`` and ``unpack`` write and read JSON.
    send_timeout : float
        Seconds that a gateway may take to accept a message.
    log : logging.Logger or adapter
    """

    def __init__(
        self,
        name: str,
        *,
        dial: Callable[[], Opening],
        kernel_exists: Callable[[], bool],
        channels: Mapping[str, Channel],
        session: Session,
        send_timeout: float,
        log: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self.name = name
        self._dial = dial
        self._kernel_exists = kernel_exists
        self._channels = channels
        self._session = session
        self._send_timeout = send_timeout
        self._log = log
        # Guards what follows; never held during I/O.  Taken as a lock, because a Ctrl-C in the
        # Python code of a Condition can leave it locked; only the heartbeat waits for changes.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._state = State.CONNECTING
        self._opening: Opening | None = None
        self._transport: Transport | None = None
        self._failure: BaseException | None = None
        self._settled = _Event()  # no longer connecting
        self._closing = False
        self._verdict = Verdict.ALIVE
        self._reader = threading.Thread(
            target=self._run_reader, name=f"gateway-reader-{name[:8]}", daemon=True
        )
        self._heartbeat = threading.Thread(
            target=self._run_heartbeat, name=f"gateway-heartbeat-{name[:8]}", daemon=True
        )

    def __repr__(self) -> str:
        return f"<Connection {self.name[:8]}, {self._state.value}, kernel {self._verdict.name}>"

    @property
    def state(self) -> State:
        """What the connection does now."""
        return self._state

    @property
    def verdict(self) -> Verdict:
        """What is known of the kernel."""
        return self._verdict

    def is_beating(self, within: float) -> bool:
        """Whether the kernel lives as far as known, and a byte came within so many seconds."""
        transport = self._transport
        return (
            self._state is State.OPEN
            and transport is not None
            and monotonic() - transport.last_received <= within
            and self._verdict in (Verdict.ALIVE, Verdict.DOUBTFUL)
        )

    # --- opening, sending, closing --------------------------------------------------------------

    def open(self) -> None:
        """Reach the gateway, in the caller's thread, and start the threads.

        Where the gateway then holds the handshake back, this returns before it is done:
        :meth:`send` waits for it.

        Raises
        ------
        GatewayError
            As :func:`gateway_blocking.transport.dial` and ``Opening.complete``.
        GatewayConnectionClosed
            Another thread closed the connection meanwhile.
        """
        try:
            opening = self._dial()
        except BaseException:
            self._set_state(State.CLOSED)
            raise
        with self._lock:  # which close() takes too: it finds either nothing or both threads
            if not self._closing:
                self._opening = opening
                self._reader.start()
                self._heartbeat.start()
        if self._opening is None:
            opening.close()
        else:
            self._settled.wait(_REFUSAL_TIMEOUT)
        if self._closing:
            raise _stopped(self.name)
        if self._failure is not None and self._transport is None:  # else it was open, and is lost
            raise self._failure

    def send(
        self, channel: str, message: Mapping[str, Any], timeout: float | Deadline | None = None
    ) -> None:
        """Send a message, in the caller's thread.

        Parameters
        ----------
        channel : str
            The channel's name.
        message : mapping
            As ``session.msg`` makes it, with ``buffers`` where it has any.
        timeout : float, optional
            Seconds that the gateway may take to accept it.

        Raises
        ------
        GatewayConnectionClosed
            The connection is closed, or broke just now.
        GatewayTimeout
            The gateway did not accept it in time, or not even the connection.
        MessageTooLarge, WireError
            It cannot be sent at all.
        """
        deadline = Deadline.of(timeout)
        if not self._settled.wait(deadline.left()):
            raise GatewayTimeout(
                f"kernel {self.name} does not answer, and until it does the gateway holds its"
                " websocket back"
            )
        transport = self._transport
        if transport is None or self._state is not State.OPEN:
            raise GatewayConnectionClosed(
                f"cannot send a message to kernel {self.name}: the connection is"
                f" {self._state.value}; start_channels() opens a new one"
            ) from self._failure
        opcode, payload = FORMATS[transport.subprotocol].encode(
            channel, message, self._session.pack
        )
        try:
            transport.send(opcode, payload, self._send_timeout if timeout is None else deadline)
        except ConnectionError as lost:
            raise _closed(self.name, lost) from lost

    def close(self) -> None:
        """Close the connection and end its threads, in about a second at most.

        Idempotent, and may be called by any thread.
        """
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        if self._opening is None:
            self._set_state(State.CLOSED)
            return
        if self._transport is not None and self._reader.is_alive():
            self._transport.send_close()
            _join(self._reader, _CLOSE_TIMEOUT)
        self._abort()
        for thread in (self._reader, self._heartbeat):
            _join(thread, _CLOSE_TIMEOUT / 2)
            if thread.is_alive() and thread is not threading.current_thread():
                self._log.warning("the thread %s has not ended in time", thread.name)

    def abandon(self) -> None:
        """End the connection without waiting for anything, for a client that was dropped."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self._abort()

    def _abort(self) -> None:
        if (socket := self._transport or self._opening) is not None:
            socket.abort()

    # --- the kernel's life ----------------------------------------------------------------------

    def kernel_ended(self, verdict: Verdict, text: str = "") -> None:
        """End every wait for an answer of a kernel that gives none any more.

        Parameters
        ----------
        verdict : Verdict
            What became of the kernel.
        text : str, optional
            How it came, where more is known.
        """
        with self._lock:
            if self._verdict is verdict:
                return
            self._verdict = verdict
        kind = KernelRestarted if verdict is Verdict.RESTARTED else DeadKernelError
        hint = "; wait_for_ready() goes on with it" if verdict is Verdict.RESTARTED else ""
        error = kind(text or f"kernel {self.name} {verdict.value}{hint}")
        self._log.info("%s", str(error))  # not a warning: who waits, now or later, is told
        for channel in self._channels.values():
            channel.kernel_died(error)

    def revive(self) -> None:
        """Trust the kernel again, whatever was heard of it before."""
        with self._lock:
            self._verdict = Verdict.ALIVE
        for channel in self._channels.values():
            channel.revive()

    def _note(self, message: Message) -> None:
        """See what an iopub message says of the kernel's life."""
        verdict = verdict_of(message)
        if verdict is Verdict.DOUBTFUL:
            with self._lock:
                if self._verdict is Verdict.ALIVE:
                    self._verdict = verdict
                    self._changed.notify_all()
        elif verdict is not None:
            self.kernel_ended(verdict)

    # --- the reader -----------------------------------------------------------------------------

    def _run_reader(self) -> None:
        assert self._opening is not None
        error: BaseException = GatewayConnectionClosed("the connection was closed here")
        try:
            self._read(self._complete(self._opening))
        except GatewayError as lost:
            error = lost
        except Exception as bug:  # told to everybody who waits, by _end
            self._log.exception("the reader of kernel %s failed", self.name)
            error = bug
        finally:
            (self._transport or self._opening).close()
            self._failure = error
            self._end(error)
            self._set_state(State.CLOSED)

    def _complete(self, opening: Opening) -> Transport:
        transport = opening.complete()
        with self._lock:
            self._transport = transport  # from here on close() says goodbye to it
            if self._closing:
                raise _stopped(self.name)
        self._set_state(State.OPEN)
        return transport

    def _read(self, transport: Transport) -> None:
        decode = FORMATS[transport.subprotocol].decode
        unpack = self._session.unpack
        while True:
            opcode, payload = transport.receive()
            try:
                name, message = decode(opcode, payload, unpack)
                if name == "iopub":
                    self._note(message)
                if (channel := self._channels.get(name)) is None:
                    self._log.debug("kernel %s: a message on channel %r", self.name, name)
                else:
                    channel.deliver(message)
            except WireError as error:
                self._log.warning("kernel %s: a malformed message: %s", self.name, str(error))
            except Exception:  # one message that nobody foresaw must not end all the others
                self._log.exception("kernel %s: a message could not be handled", self.name)

    def _end(self, error: BaseException) -> None:
        """Tell everybody who waits that nothing comes any more."""
        if self._closing:
            closed = _stopped(self.name)
        elif self._transport is None:
            closed = GatewayConnectionClosed(f"kernel {self.name} was not connected to: {error}")
            closed.__cause__ = error
        else:
            self._log.info("kernel %s: the connection was lost: %s", self.name, str(error))
            closed = _closed(self.name, error)
            closed.__cause__ = error
        for channel in self._channels.values():
            channel.close(closed)

    def _set_state(self, state: State) -> None:
        with self._lock:
            self._log.debug("kernel %s: %s -> %s", self.name, self._state.value, state.value)
            self._state = state
            self._changed.notify_all()
        self._settled.set()

    # --- the heartbeat --------------------------------------------------------------------------

    def _run_heartbeat(self) -> None:
        while self._sleep(PING_INTERVAL):
            if self._verdict is Verdict.DOUBTFUL:
                self._resolve_doubt()
            if (transport := self._transport) is None:
                continue  # the handshake has its own deadline
            silence = monotonic() - transport.last_received
            if silence > SILENCE_LIMIT:
                transport.abort(f"nothing was heard of the gateway for {silence:.0f} s")
                return
            try:
                transport.ping()
            except GatewayError:
                return  # the reader learns of it as well, and tells

    def _sleep(self, seconds: float) -> bool:
        """Sleep; False where the connection ends meanwhile.  Doubt about the kernel wakes."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ending or self._verdict is Verdict.DOUBTFUL, seconds
            )
            return not self._ending

    @property
    def _ending(self) -> bool:
        return self._closing or self._state is State.CLOSED

    def _resolve_doubt(self) -> None:
        """Ask the gateway about a kernel that said it shuts down, which takes a moment."""
        for _ in range(_DOUBT_LIMIT):
            try:
                if not self._kernel_exists():
                    self.kernel_ended(Verdict.GONE)
                    return
            except GatewayError as error:
                self._log.debug("kernel %s: cannot ask for it: %s", self.name, str(error))
            with self._changed:
                if self._changed.wait_for(lambda: self._ending, _DOUBT_INTERVAL):
                    return
                if self._verdict is not Verdict.DOUBTFUL:
                    return
        with self._changed:
            if self._verdict is Verdict.DOUBTFUL:
                self._verdict = Verdict.ALIVE


class _Event:
    """An event that is set once.

    Not ``threading.Event``, which waits on a Condition: a Ctrl-C in the Python code of that can
    leave its lock locked.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[threading.Lock] = []

    def set(self) -> None:
        self._is_set = True  # before the list is taken: who comes later, sees it
        waiting, self._waiting = self._waiting, []
        for news in waiting:
            news.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False where it is not after so many seconds."""
        if not self._is_set:
            news = threading.Lock()
            news.acquire()
            self._waiting.append(news)
            if not self._is_set:
                news.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        return self._is_set


def _stopped(name: str) -> GatewayConnectionClosed:
    return GatewayConnectionClosed(f"the channels of kernel {name} were stopped")


def _closed(name: str, error: BaseException) -> GatewayConnectionClosed:
    return GatewayConnectionClosed(f"the connection to kernel {name} was lost: {error}")


def _join(thread: threading.Thread, timeout: float) -> None:
    if thread is not threading.current_thread() and thread.is_alive():
        thread.join(timeout)
