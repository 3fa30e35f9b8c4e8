"""The connection to one kernel: two threads and a websocket around a :class:`.KernelProtocol`.

``gateway-reader-<id8>``
    opens the websocket, receives, decodes, and reports each message; opens it again after a loss.
    It alone reads a socket and closes it at the end, and it never sends a request.
``gateway-heartbeat-<id8>``
    performs what the protocol asks for: it pings, polls the kernel, sends what is sent again, and
    aborts a websocket from which nothing comes any more.

A caller's thread reaches the gateway for the first time, so that the error is raised to the
caller, and writes its own requests.  The handshake is the reader's, because a gateway completes it
only when its kernel responds, which may take a minute: the caller waits for it only as long as a
gateway that refuses would take.

Every decision is the protocol's.  Its events are serialized by one mutex, which is never held
during I/O; its actions are performed without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from time import monotonic
from typing import Any

from jupyter_client.session import Session

from .actions import RestartToken, State
from .channels import Channel
from .deadline import Deadline
from .errors import GatewayError
from .escape import printable
from .forking import register_after_fork
from .handshake import Endpoint
from .heartbeat import Heartbeat
from .liveness import LIVING, KernelStatus
from .locks import apart
from .outcomes import stopped
from .reader import Reader
from .runner import ProtocolRunner
from .sender import Sender
from .threads import DaemonThread
from .transport import Transport
from .wire import FORMATS, Format

__all__ = ["Connection"]

# Seconds.
_CLOSE_TIMEOUT = 2.0
_GOODBYE_TIMEOUT = 1.0
_REFUSAL_TIMEOUT = 2.0


class Connection:
    """The websocket of one kernel, and the threads that serve it.

    It is opened once and closed once; if the websocket is lost in between, another takes its
    place.  It holds no reference to the client, so that a client that is dropped can be collected.
    Any thread may call its methods.

    Parameters
    ----------
    name : str
        ID of the kernel, used in thread names and texts.
    endpoint : callable
        ``endpoint(session_id)`` returns where the websocket leads, as the configuration says at
        this moment.
    kernel_state : callable
        Returns the kernel's ``execution_state``, or ``"gone"`` if the gateway has no such kernel;
        raises GatewayTimeout or another GatewayError if the gateway does not respond.
    channels : mapping of str to Channel
        Channels that messages are delivered into, by name.
    session : jupyter_client.session.Session
        Source of the session ID, and of ``pack`` and ``unpack``, which write and read JSON.
    send_timeout : float
        Seconds that a gateway may take to accept a message.
    ping_interval, ping_timeout : float
        Seconds between pings, and seconds after which a missing answer counts; an interval of 0
        means no pings.
    delays : callable
        Returns an iterator over the seconds to wait before each attempt to open a lost websocket
        again.
    log : logging.Logger or adapter
        The log.
    formats : mapping of str to Format, optional
        Format of each subprotocol.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: Callable[[str], Endpoint],
        kernel_state: Callable[[], str],
        channels: Mapping[str, Channel],
        session: Session,
        send_timeout: float,
        ping_interval: float,
        ping_timeout: float,
        delays: Callable[[], Iterator[float]],
        log: logging.Logger | logging.LoggerAdapter[Any],
        formats: Mapping[str, Format] = FORMATS,
    ) -> None:
        self.name = printable(name, 200)  # for texts
        self._runner = ProtocolRunner(
            self.name,
            log,
            session=session,
            sinks=channels,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            delays=delays,
        )
        self._protocol = self._runner.protocol
        self._reader = Reader(self._runner, endpoint, channels, session, formats)
        self._sender = Sender(self._runner, self._reader, session, send_timeout)
        self._heartbeat = Heartbeat(self._runner, self._reader, kernel_state, send_timeout)
        self._threads = (
            DaemonThread(f"gateway-reader-{name[:8]}", self._reader.run),
            DaemonThread(f"gateway-heartbeat-{name[:8]}", self._heartbeat.run),
        )
        register_after_fork(self._after_fork)

    def __repr__(self) -> str:
        return f"<Connection {self.name[:8]}, {self.state.name}, kernel {self.kernel_status.name}>"

    @property
    def state(self) -> State:
        """What the connection does now."""
        return self._protocol.state

    @property
    def kernel_status(self) -> KernelStatus:
        """Status of the kernel, as far as known."""
        return self._protocol.kernel_status

    @property
    def was_started(self) -> bool:
        """True if its threads were started, which an :meth:`open` that failed may not have done."""
        return self._threads[0].was_started

    @property
    def is_usable(self) -> bool:
        """True if it was opened and neither ended nor began to end."""
        return self.was_started and not (self._runner.is_closing or self.state is State.CLOSED)

    def is_beating(self, within: float) -> bool:
        """Return True if the kernel is not known to be dead and a byte came in so many seconds."""
        transport = self._reader.transport
        return (
            self.state not in (State.CONNECTING, State.CLOSED)
            and transport is not None
            and monotonic() - transport.last_received <= within
            and self.kernel_status in LIVING
        )

    def missing(self, msg_id: str) -> int | None:
        """Return how many messages of an execution have not come; None if that is not known."""
        with self._runner.mutex:
            return self._protocol.missing(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """Return False if no loss is known that could be of the output of an execution."""
        with self._runner.mutex:
            return self._protocol.may_lack_output(msg_id)

    # --- opening --------------------------------------------------------------------------------

    def open(self) -> None:
        """Reach the gateway, in the caller's thread, and start the threads.

        If the gateway then holds the handshake back, this returns before it is complete:
        :meth:`send` waits for it.

        Raises
        ------
        GatewayError
            As :class:`.Handshake` does.
        GatewayConnectionClosed
            Another thread closed the connection meanwhile.
        """
        try:
            self._reader.reach()
            apart(self._start_threads)
        except BaseException as error:
            closed_by_another = self._runner.is_closing
            self._announce_close()  # after an interruption the threads run by now, or never will
            if not self.was_started:
                self._reader.close()
            if closed_by_another and isinstance(error, GatewayError):
                raise stopped(self.name) from error
            raise
        self._runner.waiters.wait_while(
            lambda: self.state is State.CONNECTING, Deadline(_REFUSAL_TIMEOUT)
        )
        if self._runner.is_closing:
            raise stopped(self.name)
        failure = self._protocol.failure
        if failure is not None and not self._protocol.epoch:  # else it was open, and is lost
            raise failure

    def _start_threads(self) -> None:
        with self._runner.mutex.plain:  # which close() takes too: it finds none or both
            if self._runner.is_closing:
                raise stopped(self.name)
            for thread in self._threads:
                thread.start()

    # --- sending, in callers' threads -----------------------------------------------------------

    def send(
        self, channel: str, message: Mapping[str, Any], timeout: float | Deadline | None = None
    ) -> None:
        """Send a message, as soon as there is a connection to send it with.

        A message that was sent is known: if the connection is lost before it is answered, it is
        sent again if it is certain that it is not executed twice, and else its reply is
        :exc:`.ReplyLost`.

        Parameters
        ----------
        channel : str
            Name of the channel.
        message : mapping
            Message as ``session.msg`` makes it, with ``buffers`` if it has any.
        timeout : float or Deadline, optional
            Seconds until the gateway has accepted it.

        Raises
        ------
        GatewayConnectionClosed
            The connection is closed, or was lost and could not be opened again.
        GatewayTimeout
            The gateway did not accept it in time, or not even the connection.  It was not sent.
        DeadKernelError, KernelRestarted, KernelGone
            The kernel is not the one that the message is meant for; it was not sent.
        MessageTooLarge, WireError
            It cannot be sent at all.
        """
        self._sender.send(channel, message, timeout)

    def ignore_replies(self, msg_ids: Collection[str]) -> None:
        """Wait for the replies to these requests no more, and drop one that comes all the same."""
        with self._runner.mutex:
            self._protocol.ignore_replies(msg_ids)

    # --- the kernel's end and restart -----------------------------------------------------------

    def kernel_ended(self, status: KernelStatus, text: str = "") -> None:
        """Fail all pending requests: see :meth:`.KernelMonitor.ended`."""
        if not self._runner.is_muted:
            with self._runner.mutex:
                self._protocol.kernel_ended(status, text)
                death = self._protocol.death
            self._runner.log.debug("%s", str(death))

    def revive(self) -> None:
        """Trust the kernel again: see :meth:`.KernelProtocol.revive`."""
        with self._runner.mutex:
            self._protocol.revive()
        self._runner.abort_if_asked()

    def kernel_restarting(self) -> RestartToken:
        """Return what :meth:`kernel_restarted` needs to know of the kernel before the restart."""
        with self._runner.mutex:
            return self._protocol.kernel_restarting()

    def kernel_restarted(self, token: RestartToken, error: GatewayError) -> None:
        """Fail what was asked of the kernel before the restart, and connect to the new process."""
        with self._runner.mutex:
            self._protocol.kernel_restarted(token, error)
        self._runner.abort_if_asked()

    # --- closing --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection and end its threads, in two seconds at most.  Idempotent."""
        self._announce_close()
        if not self.was_started:
            self._reader.abort()
            return
        deadline = Deadline(_CLOSE_TIMEOUT)
        if isinstance(self._reader.socket, Transport):
            self._reader.socket.send_close()
            self._threads[0].has_ended(deadline.within(_GOODBYE_TIMEOUT))
        self._reader.abort()
        for thread in self._threads:
            if not thread.has_ended(deadline):
                self._runner.log.warning("the thread %s has not ended in time", thread.name)

    def _announce_close(self) -> None:
        self._runner.is_closing = True
        self._runner.close()

    def close_nowait(self) -> None:
        """End the connection without waiting for anything, for a client that was dropped.

        Garbage is collected in any thread, and anywhere in its work: also in one of ours, that
        holds the mutex.  So this takes no lock of the protocol.
        """
        self._runner.is_closing = True
        self._runner.wake()
        self._reader.abort()

    def mute(self) -> None:
        """Deliver nothing any more: the interpreter ends, and its kernels are being deleted.

        Daemon threads that wait for a reply go on waiting, as for a local kernel, until the process
        is gone.  They are not to end with an error at that moment, which would be printed.
        """
        self._runner.is_muted = True

    def _after_fork(self) -> None:
        """End in a child process, which does not have the threads, and shares the socket."""
        self._runner.after_fork()
        self._reader.after_fork()
        for thread in self._threads:
            thread.after_fork()
