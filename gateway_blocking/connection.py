"""The connection to one kernel: its websocket, the two threads that serve it, and its state.

This is the only place where threads live:

``gateway-reader-<id8>``
    opens the websocket, receives, decodes and delivers; opens it again when it is lost, and then
    finds out what became of the requests that were under way (see :mod:`.recovery`).  It alone
    reads a socket and gives it back at the end.
``gateway-heartbeat-<id8>``
    pings, gives up a websocket of which nothing is heard any more, and looks whether the kernel
    still exists, which a websocket does not tell.

The gateway is reached for the first time in the caller's thread, so that its error is raised to
the caller.  The handshake is the reader's, since a gateway holds it back until its kernel
answers, for a minute perhaps: the caller waits for that only so long as a gateway that refuses
would take.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

from jupyter_client.session import Session, msg_header

from .advice import exceeded_limit, for_lost_output
from .channels import Channel
from .deadline import Deadline
from .errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    GatewayTimeout,
    KernelGone,
    KernelRestarted,
    NoSuchKernel,
    ReplyLost,
    WireError,
    copy_for_raise,
)
from .escape import printable
from .forking import register_after_fork
from .handshake import Endpoint, Handshake
from .liveness import (
    LIVING,
    STATUS_MSG_TYPES,
    KernelStatus,
    PollResult,
    should_abort,
    status_from_message,
)
from .locks import Latch, RLock, Waiters, apart
from .recovery import (
    Barrier,
    Recovery,
    Step,
    execution_outcome,
    is_final,
    is_idempotent,
    is_safe_to_resend,
    is_worth_repeating,
)
from .requests_table import Disposition, Request, RequestTable
from .transport import Transport
from .wire import FORMATS, Message, Unreadable

__all__ = ["Connection", "State"]

_CLOSE_TIMEOUT = 2.0
_GOODBYE_TIMEOUT = 1.0
_REFUSAL_TIMEOUT = 2.0
_DOUBT_INTERVAL = 0.25
_DOUBT_LIMIT = 20
_WRITER_TIMEOUT = 1.0
_PROBE_PATIENCE = 2.0
_LOOK_INTERVAL = 1.0
_SETTLE_TIME = 0.3
_AUDIT_PATIENCE = 1.0  # for a reply that comes after the "idle", on another channel
_NEVER = float("inf")
# An execution that does nothing, not even count, and that an error before it does not abort.
_EMPTY = {
    "code": "",
    "silent": True,
    "store_history": False,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": False,
}


class State(Enum):
    """Of a connection.  ``CLOSED`` is final."""

    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    RECOVERING = "asking what became of the requests that were under way"
    CLOSED = "closed"


class Connection:
    """The websocket of one kernel and the threads that serve it.

    Opened once and closed once; where the websocket is lost in between, another takes its place.
    Holds no reference to the client, so that a client that is dropped can be collected, and its
    threads ended.

    Parameters
    ----------
    name : str
        Of the kernel, for the names of the threads and the log.
    endpoint : callable
        ``endpoint(session_id)``: where the websocket leads, as the configuration says at this
        moment.
    kernel_state : callable
        Asks the gateway for the kernel's ``execution_state``, ``"gone"`` where it has no such
        kernel; raises GatewayTimeout or another GatewayError where it does not answer.
    channels : mapping
        By name, where messages are delivered.
    session : jupyter_client.session.Session
        Whose ``pack`` and ``unpack`` write and read JSON.
    send_timeout : float
        Seconds that a gateway may take to accept a message.
    ping_interval, ping_timeout : float
        Seconds between pings, and until a missing answer counts; an interval of 0 for no pings.
    delays : callable
        Gives the seconds to wait before each try to open a lost websocket again.
    log : logging.Logger or adapter
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
    ) -> None:
        self.name = printable(name, 200)  # for texts
        self._endpoint = endpoint
        self._kernel_state = kernel_state
        self._channels = channels
        self._session = session
        self._session_id = session.session  # by which the gateway knows us
        self._send_timeout = send_timeout
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._delays = delays
        self._log = log
        # Guards what follows; never held during I/O.  Its holder may come upon it again: see
        # `close_nowait`.  Only our own threads wait for the condition: see `locks`.
        self._lock = RLock()
        self._changed = threading.Condition(self._lock.plain)
        self._waiters = Waiters()  # of the state, for users' threads
        self._state = State.CONNECTING
        self._socket: Handshake | Transport | None = None  # what close() is to end
        self._transport: Transport | None = None  # the last that was open
        self._epoch = 0  # of transports
        self._failure: BaseException | None = None
        self._closing = self._muted = False
        self._status = KernelStatus.ALIVE
        self._death: DeadKernelError | None = None
        self._requests = RequestTable(session.session)
        # What is asked after a reconnection; the reader and the heartbeat go on with it.
        self._recovery: Recovery | None = None
        self._recovering = threading.Lock()
        self._prefix = f"recovery_{uuid4().hex}_"
        self._limit = ""  # of output, that the server said was exceeded
        self._has_asked = False
        # On the monotonic clock, when the heartbeat is to do what.
        self._beat_at = monotonic() + ping_interval if ping_interval else _NEVER
        self._judge_at = 0.0
        self._settle_at = self._probe_at = self._doubt_at = _NEVER
        self._audit_at = _NEVER
        self._suspects_everything = False
        self._doubts = 0  # questions that are left
        self._tries: Iterator[float] | None = None
        self._reader = threading.Thread(
            target=self._run,
            args=[self._run_reader],
            name=f"gateway-reader-{name[:8]}",
            daemon=True,
        )
        self._heartbeat = threading.Thread(
            target=self._run,
            args=[self._run_heartbeat],
            name=f"gateway-heartbeat-{name[:8]}",
            daemon=True,
        )
        self._ended = {thread: Latch() for thread in (self._reader, self._heartbeat)}
        register_after_fork(self._after_fork)

    def __repr__(self) -> str:
        return f"<Connection {self.name[:8]}, {self._state.name}, kernel {self._status.name}>"

    @property
    def state(self) -> State:
        """What the connection does now."""
        return self._state

    @property
    def status(self) -> KernelStatus:
        """What is known of the kernel."""
        return self._status

    def is_beating(self, within: float) -> bool:
        """Whether the kernel lives as far as known, and a byte came within so many seconds."""
        transport = self._transport
        return (
            self._state not in (State.CONNECTING, State.CLOSED)
            and transport is not None
            and monotonic() - transport.last_received <= within
            and self._status in LIVING
        )

    def missing(self, msg_id: str) -> int | None:
        """See :meth:`.RequestTable.missing`."""
        return self._requests.missing(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """See :meth:`.RequestTable.may_lack_output`."""
        return self._requests.may_lack_output(msg_id)

    # --- opening, sending, closing --------------------------------------------------------------

    def open(self) -> None:
        """Reach the gateway, in the caller's thread, and start the threads.

        Where the gateway then holds the handshake back, this returns before it is done:
        :meth:`send` waits for it.

        Raises
        ------
        GatewayError
            As :class:`.Handshake` does.
        GatewayConnectionClosed
            Another thread closed the connection meanwhile.
        """
        try:
            self._new_handshake().connect()
            apart(self._start_threads)
        except BaseException as error:
            closed_by_another = self._closing
            self._announce_close()  # after an interruption the threads run by now, or never will
            if not self.was_started:
                self._drop_socket()
                self._set_state(State.CLOSED)
            if closed_by_another and isinstance(error, GatewayError):
                raise _stopped(self.name) from error
            raise
        self._waiters.wait_while(
            lambda: self._state is State.CONNECTING, Deadline(_REFUSAL_TIMEOUT)
        )
        if self._closing:
            raise _stopped(self.name)
        if self._failure is not None and self._transport is None:  # else it was open, and is lost
            raise self._failure

    def _start_threads(self) -> None:
        with self._lock.plain:  # which close() takes too: it finds either no thread or both
            if self._closing:
                raise _stopped(self.name)
            self._reader.start()
            self._heartbeat.start()

    @property
    def was_started(self) -> bool:
        """Return whether its threads were started, which an :meth:`open` that failed may not do."""
        return self._reader.ident is not None

    @property
    def is_usable(self) -> bool:
        """Return whether it was opened and neither ended nor began to end."""
        return self.was_started and not self._ending

    def _new_handshake(self) -> Handshake:
        opening = Handshake(self._endpoint(self._session_id))
        with self._lock:
            if self._closing:
                raise _stopped(self.name)
            self._socket = opening
        return opening

    def send(
        self, channel: str, message: Mapping[str, Any], timeout: float | Deadline | None = None
    ) -> None:
        """Send a message, in the caller's thread; once there is a connection to send it with.

        A message that was sent is known: if the connection is lost before it is answered, it is
        sent again where it is certain that it is not executed twice, and else its reply is
        :exc:`.ReplyLost`.

        Parameters
        ----------
        channel : str
            The channel's name.
        message : mapping
            As ``session.msg`` makes it, with ``buffers`` where it has any.
        timeout : float, optional
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
        deadline = Deadline.of(timeout)
        while True:
            transport = self._writable(channel, deadline)
            request = self._enter(channel, message, transport)
            if request is None:
                continue  # it was lost meanwhile
            try:
                limit = self._send_timeout if timeout is None else deadline
                transport.send(*request.frame, limit)
            except GatewayConnectionError:
                # Not all of it was written, so that the gateway cannot have the whole: it may be
                # sent again.  Unless the reader, tired of waiting for this thread, cares for it.
                if not self._strike(request):
                    return
                transport.abort()  # so that the reader notices, too
                self._waiters.wait_while(partial(self._is_current, transport), deadline)
            except BaseException:
                self._strike(request)
                raise
            else:
                request.writing = False
                return

    def _writable(self, channel: str, deadline: Deadline) -> Transport:
        """Wait until messages on this channel may be sent; return the websocket."""
        good = (State.OPEN,) if channel == "shell" else (State.OPEN, State.RECOVERING)
        if not self._waiters.wait_while(
            lambda: self._death is None and self._state not in (*good, State.CLOSED), deadline
        ):
            raise GatewayTimeout(
                f"no message could be sent to kernel {self.name} within {deadline.timeout:g} s:"
                + (
                    " it does not answer, and until it does the gateway holds its websocket back"
                    if self._state is State.CONNECTING
                    else " the connection was lost and is not open again"
                )
            )
        if self._death is not None:
            raise copy_for_raise(self._death)
        if self._transport is None or self._state is State.CLOSED:
            raise GatewayConnectionClosed(
                f"cannot send a message to kernel {self.name}: the connection is"
                f" closed ({self._failure}); start_channels() opens a new one"
            ) from self._failure
        return self._transport

    def _enter(
        self, channel: str, message: Mapping[str, Any], transport: Transport
    ) -> Request | None:
        """Note a message that is about to be sent; None where the transport is lost meanwhile."""
        encode = FORMATS[transport.subprotocol].encode
        frame = encode(channel, message, self._session.pack)
        header = message["header"]
        request = Request(
            msg_id=header["msg_id"],
            msg_type=header["msg_type"],
            channel=channel,
            subprotocol=transport.subprotocol,
            frame=frame,
            subshell=subshell if type(subshell := header.get("subshell_id")) is str else None,
        )
        with self._lock:
            if not self._is_current(transport):
                return None
            request.epoch = self._epoch
            self._requests.add(request)
        return request

    def _strike(self, request: Request) -> bool:
        """Forget a request that was not sent; False where the reader took it over."""
        with self._lock:
            if request.writing:
                self._requests.discard(request)
            return request.writing

    def give_up(self, msg_ids: Collection[str]) -> None:
        """Wait for these replies no more; one that comes all the same is dropped."""
        with self._lock:
            self._requests.ignore_replies(msg_ids)

    def _is_current(self, transport: Transport) -> bool:
        return self._transport is transport and self._is_writable()

    def _is_writable(self) -> bool:
        return self._state in (State.OPEN, State.RECOVERING)

    def close(self) -> None:
        """Close the connection and end its threads, in two seconds at most.

        Idempotent, and may be called by any thread.
        """
        self._announce_close()
        if not self.was_started:
            self._abort()
            self._set_state(State.CLOSED)
            return
        deadline = Deadline(_CLOSE_TIMEOUT)
        if isinstance(self._socket, Transport):
            self._socket.send_close()
            self._has_ended(self._reader, deadline.within(_GOODBYE_TIMEOUT))
        self._abort()
        for thread in (self._reader, self._heartbeat):
            if not self._has_ended(thread, deadline):
                self._log.warning("the thread %s has not ended in time", thread.name)

    def _has_ended(self, thread: threading.Thread, deadline: Deadline) -> bool:
        """Wait for the end of a thread of ours; return False if it does not come in time.

        Interrupted, ``Thread.join()`` takes a thread that runs for one that has ended, until
        Python 3.12.  The old reader would then close the channels of the next connection.
        """
        return thread is threading.current_thread() or self._ended[thread].wait(deadline)

    def close_nowait(self) -> None:
        """End the connection without waiting for anything, for a client that was dropped.

        Garbage is collected in any thread, and anywhere in its work: also in one of ours, that
        holds the locks which this takes.
        """
        self._announce_close()
        self._abort()

    def mute(self) -> None:
        """Deliver nothing any more: the interpreter ends, and its kernels are being deleted.

        Daemon threads that wait for a reply go on waiting, as for a local kernel, until the process
        is gone.  They are not to end with an error at that moment, which would be printed.
        """
        self._muted = True

    def _stay_if_muted(self) -> None:
        """Keep our own thread here for what is left of the process, if it is muted."""
        if self._muted:
            Latch().wait(Deadline(None))

    def _after_fork(self) -> None:
        """End in a child process, which has not the threads, and shares the socket."""
        self._lock = RLock()
        self._changed = threading.Condition(self._lock.plain)
        self._waiters, self._recovering = Waiters(), threading.Lock()
        self._closing, self._state = True, State.CLOSED
        if self._socket is not None:
            self._socket.close_after_fork()
        self._socket = self._transport = None
        for ended in self._ended.values():
            ended.open()

    def _announce_close(self) -> None:
        with self._lock:
            self._closing = True
            self._changed.notify_all()

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    # --- the state ------------------------------------------------------------------------------

    def _set_state(self, state: State) -> None:
        self._log.debug("kernel %s: %s -> %s", self.name, self._state.name, state.name)
        with self._lock:
            self._state = state
            self._changed.notify_all()
        self._waiters.notify_all()

    @property
    def _ending(self) -> bool:
        return self._closing or self._state is State.CLOSED

    # --- the kernel's life ----------------------------------------------------------------------

    def kernel_ended(self, status: KernelStatus, text: str = "") -> None:
        """End every wait for an answer of a kernel that gives none any more.

        Parameters
        ----------
        status : KernelStatus
            What became of the kernel.
        text : str, optional
            How it came, where more is known.
        """
        if self._muted:
            return
        with self._lock:
            lost = self._requests.outstanding()
            if status is KernelStatus.GONE and self._requests.incarnation is None:
                text = text or (
                    f"kernel {self.name} is gone before it said anything: it died while starting,"
                    " most likely, or was shut down or culled; the gateway's log says more"
                )
            error = _death(self.name, status, text)
            self._requests.end_incarnation()
            known, self._status, self._death = self._status is status, status, error
        for request in lost:
            self._channels[request.channel].request_failed(request.msg_id, error)
        if known:
            return
        self._log.debug("%s", str(error))  # who waits, now or later, is told
        for channel in self._channels.values():
            channel.kernel_died(error)
        self._waiters.notify_all()

    def revive(self) -> None:
        """Trust the kernel again, whatever was heard of it before."""
        with self._lock:
            self._status, self._death = KernelStatus.ALIVE, None
        for channel in self._channels.values():
            channel.revive()
        # The new process may listen elsewhere, and a gateway looks for that only when asked anew.
        if self._transport is not None and self._is_writable():
            self._transport.send_close()
            self._transport.abort("the kernel was restarted")

    def before_restart(self) -> tuple[str | None, list[Request]]:
        """Return the kernel process and its pending requests, for a client about to restart it."""
        with self._lock:
            return self._requests.incarnation, self._requests.outstanding()

    def restarted(self, incarnation: str | None, asked: list[Request], error: GatewayError) -> None:
        """Fail with `error` what was asked of the process before the client's own restart."""
        with self._lock:
            lost = [
                request
                for request in self._requests.outstanding()
                if request in asked or (incarnation and request.incarnation == incarnation)
            ]
            self._requests.abandon(*lost)
            if self._requests.incarnation == incarnation:
                self._requests.end_incarnation()
        for request in lost:
            self._channels[request.channel].request_failed(request.msg_id, error)
        self.revive()

    def _see_life(self, message: Message, incarnation: str | None) -> None:
        """See what an iopub message says of the life of the kernel process known so far."""
        status = status_from_message(message, incarnation)
        if status is KernelStatus.SHUTTING_DOWN:
            self._doubt()
        elif status is not None:
            self.kernel_ended(status)

    def _run(self, work: Callable[[], None]) -> None:
        """Do the work of a thread of ours, and tell of its end."""
        try:
            work()
        finally:
            self._ended[threading.current_thread()].open()

    # --- the reader -----------------------------------------------------------------------------

    def _run_reader(self) -> None:
        error: BaseException = GatewayConnectionClosed("the connection was closed here")
        try:
            transport = self._complete_first()
            while True:
                try:
                    self._read(transport)
                except GatewayError as lost:
                    self._stay_if_muted()
                    transport = self._reopen(transport, lost)
        except GatewayError as end:
            error = end
        except Exception as bug:  # told to everybody who waits, by _end
            self._log.exception("the reader of kernel %s failed", self.name)
            error = bug
        finally:
            if self._socket is not None:
                self._socket.close()
            self._failure = error
            self._end(error)
            self._set_state(State.CLOSED)

    def _complete_first(self) -> Transport:
        """Do the handshake; if it is refused once more, where there is another login by now."""
        assert isinstance(self._socket, Handshake)
        refused = self._socket.endpoint
        try:
            return self._complete(State.OPEN)
        except GatewayAuthError:
            again = self._new_handshake()  # for which the token's renewer was asked
            if again.endpoint.headers == refused.headers:
                raise
            again.connect()
            return self._complete(State.OPEN)

    def _complete(self, state: State) -> Transport:
        """Do the handshake with the gateway that was reached."""
        assert isinstance(self._socket, Handshake)
        transport = self._socket.upgrade()
        with self._lock:
            self._socket = self._transport = transport  # from here on close() says goodbye to it
            self._epoch += 1
            if self._closing:
                raise _stopped(self.name)
        self._set_state(state)
        return transport

    def _read(self, transport: Transport) -> None:
        decode = FORMATS[transport.subprotocol].decode
        unpack = self._session.unpack
        while True:
            opcode, payload = transport.receive()
            self._stay_if_muted()
            try:
                name, message = decode(opcode, payload, unpack)
                self._hear(name, message, len(payload))
            except Unreadable as error:
                self._log.warning("kernel %s: a message cannot be read: %s", self.name, str(error))
                if error.channel != "iopub" and not error.message["parent_header"]:
                    self._suspect(everything=True)  # it may be the reply to any request
                self._hear(error.channel, error.message, len(payload), unreadable=str(error))
            except WireError as error:
                self._log.warning("kernel %s: a malformed message: %s", self.name, str(error))
                self._miss_a_message()
            except GatewayError:  # of what was sent in answer to the message
                raise
            except Exception:  # one message that nobody foresaw must not end all the others
                self._log.exception("kernel %s: a message could not be handled", self.name)
                self._miss_a_message()

    def _hear(self, name: str, message: Message, size: int, unreadable: str = "") -> None:
        """Take note of a message, and deliver it, if it can be read."""
        incarnation = self._requests.incarnation
        with self._lock.plain:
            heard = self._requests.receive(name, message, unreadable)
        if heard is Disposition.NEW_PROCESS:
            self.kernel_ended(KernelStatus.RESTARTED)
            with self._lock.plain:
                heard = self._requests.receive(name, message, unreadable)
        if name == "iopub" and message["msg_type"] in STATUS_MSG_TYPES:
            self._see_life(message, incarnation)
        if name == "iopub" and message["msg_type"] == "stream":
            self._see_limit(message)
        if message["msg_type"] == "status" and self._requests.is_unreplied(
            message["parent_header"]
        ):
            self._suspect()  # the reply may come yet, on its own channel
        if self._has_asked:
            if (message["parent_header"].get("msg_id") or "").startswith(self._prefix):
                self._recover(message)  # it answers to a question of our own
                return
        if heard is Disposition.DUPLICATE or heard is Disposition.STALE:
            self._log.debug(
                "kernel %s: a %.200r dropped: %s", self.name, message["msg_type"], heard
            )
            return
        if heard is Disposition.DELIVER_INCOMPLETE:
            self._warn_of_gap(message["parent_header"]["msg_id"])
        if heard is Disposition.LOST:
            self._reply_is_unreadable(name, message, unreadable)
        elif unreadable:
            pass  # what it told is lost, and counted as that
        elif (channel := self._channels.get(name)) is None:
            self._log.debug("kernel %s: a message on channel %r", self.name, name)
        else:
            channel.deliver(message, size)

    def _reply_is_unreadable(self, name: str, message: Message, why: str) -> None:
        """Fail the request that waits for a message of which only the headers can be read."""
        msg_id, msg_type = message["parent_header"]["msg_id"], message["msg_type"]
        text = f"no reply to the request {msg_id} to kernel {self.name}: the kernel "
        if name == "stdin":
            name = "shell"  # where the request was sent that asks for input
            text += (
                f"executes it, and waits for an answer to a question that cannot be read ({why});"
                " interrupt_kernel() of the manager ends that"
            )
        else:
            text += f"executed it, once, but its {msg_type} cannot be read: {why}"
        self._channels[name].deliver_loss(ReplyLost(text, msg_id=msg_id, executed=True))

    def _warn_of_gap(self, msg_id: str) -> None:
        missing, why = self._requests.missing(msg_id), self._requests.why_unreadable(msg_id)
        self._log.warning(
            "kernel %s: output %s messages of the execution %s %s",
            self.name,
            "may be missing: perhaps" if missing is None else f"is missing: at least {missing}",
            msg_id,
            f"came, but cannot be read: {why}"
            if why
            else f"did not come; {for_lost_output(self._limit)}",
        )

    def _see_limit(self, message: Message) -> None:
        """Note a limit that the server, and not the kernel, says was exceeded."""
        if message["header"].get("session") != self._requests.incarnation:
            content = message["content"]
            self._limit = exceeded_limit(content.get("text")) or self._limit

    def _end(self, error: BaseException) -> None:
        """Tell everybody who waits that nothing comes any more."""
        if self._closing:
            closed: GatewayError = _stopped(self.name)
        elif self._death is not None:
            closed = self._death
        elif self._transport is None:
            closed = GatewayConnectionClosed(f"kernel {self.name} was not connected to: {error}")
            closed.__cause__ = error
        else:
            self._log.warning("%s", str(error))
            closed = _closed(self.name, error)
            closed.__cause__ = error
        for channel in self._channels.values():
            channel.close(closed)

    # --- reconnecting ---------------------------------------------------------------------------

    def _reopen(self, lost: Transport, error: GatewayError) -> Transport:
        """Open the websocket again; raise what ends that for good."""
        if self._closing:
            raise error
        lost.close()
        with self._recovering:
            self._recovery, self._settle_at, self._probe_at = None, _NEVER, _NEVER
            self._set_state(State.RECONNECTING)
        self._wait_for_writers()
        self._log.info("kernel %s: %s; opening the websocket again", self.name, str(error))
        began, tried, refused = monotonic(), 0, False
        self._tries = self._tries or self._delays()
        for delay in self._tries:
            if not self._sleep(delay):
                raise _stopped(self.name)
            tried += 1
            try:
                self._new_handshake().connect()
                transport = self._complete(State.RECOVERING)
                self._start_recovery(transport)
            except GatewayError as failure:
                self._log.info("kernel %s: not opened yet: %s", self.name, str(failure))
                error = failure
                self._drop_socket()
                if is_final(error) and (refused or not isinstance(error, GatewayAuthError)):
                    break
                refused = isinstance(error, GatewayAuthError)  # the token's renewer is asked again
            else:
                return transport
        if isinstance(error, NoSuchKernel):
            self.kernel_ended(KernelStatus.GONE)
        raise GatewayConnectionError(
            f"{error} (and the websocket could not be opened again, tried {tried} times within"
            f" {monotonic() - began:.0f} s)"
        ) from error

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _wait_for_writers(self) -> None:
        """Wait until each thread that was sending knows whether it could: they are being woken."""
        deadline = Deadline(_WRITER_TIMEOUT)
        while True:
            with self._lock:
                writing = [r for r in self._requests.outstanding() if r.writing]
                if not writing or deadline.passed():
                    for request in writing:  # what became of it, the kernel will tell
                        request.writing = False
                    return
                self._changed.wait(0.005)

    def _start_recovery(self, transport: Transport) -> None:
        with self._recovering:
            self._recovery = recovery = Recovery(self._prefix)
            with self._lock:
                self._requests.expect_replay()
                self._probe_at = monotonic() + _PROBE_PATIENCE
                self._changed.notify_all()
            self._ask(transport, "control", recovery.question)

    def _ask(
        self,
        transport: Transport,
        channel: str,
        *msg_ids: str,
        execution: bool = False,
        subshell: str | None = None,
    ) -> None:
        """Send a question of our own, or an empty execution: two alike if a msg_id comes twice."""
        if channel == "control":  # on shell it comes after all output that is in doubt
            with self._lock:
                self._requests.ask(*msg_ids)
        self._has_asked = True
        session = self._session  # whose msg() is not made for threads
        msg_type, content = (
            ("execute_request", _EMPTY) if execution else ("kernel_info_request", {})
        )
        header = msg_header(msg_ids[0], msg_type, session.username, session.session)
        if subshell is not None:
            header["subshell_id"] = subshell
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        frame = FORMATS[transport.subprotocol].encode(channel, message, session.pack)
        for _ in msg_ids:
            transport.send(*frame, self._send_timeout)

    def _recover(self, message: Message) -> None:
        """Go on with the recovery after an answer to one of its questions."""
        with self._recovering:
            if (recovery := self._recovery) is None or (transport := self._transport) is None:
                return
            step = recovery.hear(message)
            if step is Step.TESTING and not any(
                is_worth_repeating(request, recovery.incarnation)
                for request in self._in_doubt(transport)
            ):
                recovery.go_on_without_test()
                step = recovery.step
            if step is Step.TESTING:
                self._ask(transport, "control", recovery.copy, recovery.copy)
            elif step is Step.FENCING:
                self._ask(transport, "control", recovery.fence)
            elif step is Step.WAITING:
                self._go_on(recovery, transport)
            elif step is Step.GRACE:
                self._begin_to_settle()

    def _begin_to_settle(self) -> None:
        with self._lock:
            self._settle_at, self._probe_at = monotonic() + _SETTLE_TIME, _NEVER
            self._changed.notify_all()
        if self._state is State.RECOVERING:
            self._set_state(State.OPEN)

    def _go_on(self, recovery: Recovery, transport: Transport, deaf: bool = False) -> None:
        """Send again what may be, then the barriers; then let new requests pass.

        Not yet to a kernel that may be deaf: they would be lost.
        """
        assert self._recovering.locked()
        self._tries = None  # this was a success
        recovery.polls = recovery.idle_polls = 0
        self._probe_at = monotonic() + _PROBE_PATIENCE
        for request in self._in_doubt(transport):
            if is_safe_to_resend(request, recovery.incarnation, recovery.ignores_repetitions):
                request.sent += 1
                recovery.repeated.add(request.msg_id)
                harmless = is_idempotent(request)
                frame = self._redated(request) if harmless else request.frame
                transport.send(*frame, self._send_timeout)
                if harmless:  # a new request, whose answer is as certain as any
                    request.epoch = self._epoch
        self._set_barriers(recovery, transport, self._in_doubt())
        if not deaf:
            self._set_state(State.OPEN)

    def _set_barriers(
        self, recovery: Recovery, transport: Transport, in_doubt: Iterable[Request]
    ) -> None:
        """Send what tells, once it is answered, that these requests are done."""
        recovery.in_doubt = list(in_doubt)
        on_control = recovery.lost or any(r.channel == "control" for r in recovery.in_doubt)
        questions = ["control", "shell"] if on_control and recovery.has_control else ["shell"]
        executions = {
            request.subshell
            for request in recovery.in_doubt
            if request.channel != "control" and not request.idle
        }
        barriers = [Barrier(channel) for channel in questions]
        barriers += [Barrier("shell", True, subshell) for subshell in executions]
        for barrier in barriers:
            self._set_barrier(recovery, transport, barrier)

    def _set_barrier(self, recovery: Recovery, transport: Transport, barrier: Barrier) -> None:
        self._ask(
            transport,
            barrier.channel,
            recovery.ask(barrier),
            execution=barrier.execution,
            subshell=barrier.subshell,
        )

    def _redated(self, request: Request) -> tuple[int, bytes]:
        """Return the frame of a request that a kernel is to answer even if it had it before."""
        format_ = FORMATS[request.subprotocol]
        channel, message = format_.decode(*request.frame, self._session.unpack)
        message["header"]["date"] = datetime.now(UTC)
        return format_.encode(channel, message, self._session.pack)

    def _in_doubt(self, transport: Transport | None = None) -> list[Request]:
        """Return what was sent on an earlier websocket, and is not answered.

        If `transport` is given, only what can be sent on that as it is.
        """
        with self._lock:
            return [
                request
                for request in self._requests.outstanding()
                if request.epoch < self._epoch
                and (transport is None or request.subprotocol == transport.subprotocol)
            ]

    def _settle(self, recovery: Recovery) -> None:
        """Fail what has no reply: the kernel is done with all that was sent before."""
        for request in recovery.in_doubt:
            with self._lock:
                if self._recovery is not recovery:
                    return  # the websocket was lost once more
                if not (recovery.has_passed(request) and self._requests.is_outstanding(request)):
                    continue
                self._requests.abandon(request)
            repeated = request.msg_id in recovery.repeated
            executed, why = execution_outcome(request, repeated, recovery.lost)
            error = ReplyLost(
                f"no reply to the {request.msg_type} {request.msg_id} to kernel {self.name}: {why}",
                msg_id=request.msg_id,
                executed=executed,
            )
            self._log.warning("%s", str(error))
            self._channels[request.channel].deliver_loss(error)
        with self._lock:
            if self._recovery is not recovery:
                return
            self._recovery, self._settle_at = None, _NEVER
            self._requests.replay_is_over()
            unfinished = self._requests.forget_unfinished(self._epoch)
        for msg_id in unfinished:
            self._warn_of_gap(msg_id)
            error = ReplyLost("the last output was lost with the connection", msg_id=msg_id)
            self._channels["iopub"].request_failed(msg_id, error)

    # --- requests without a reply ---------------------------------------------------------------

    def _miss_a_message(self) -> None:
        """Take note that a message is lost, which may be any reply or any output."""
        with self._lock:
            self._requests.expect_loss()
        self._suspect(everything=True)

    def _suspect(self, everything: bool = False) -> None:
        """Have it found out, soon, whether replies are missing.

        Without `everything`, to the requests only that the kernel is done with.
        """
        with self._lock:
            self._suspects_everything = self._suspects_everything or everything
            if self._audit_at == _NEVER:
                self._audit_at = monotonic() + _AUDIT_PATIENCE
                self._changed.notify_all()

    def _audit(self) -> None:
        """Set barriers behind the requests whose replies may be missing: see :meth:`_suspect`."""
        with self._recovering:
            with self._lock:
                transport = self._transport
                if self._recovery is not None or self._state is not State.OPEN or not transport:
                    self._audit_at = monotonic() + _AUDIT_PATIENCE
                    return
                everything, self._suspects_everything = self._suspects_everything, False
                self._audit_at = _NEVER
                requests = self._requests
                suspects = requests.outstanding() if everything else requests.unreplied()
                if not suspects:
                    return
                self._recovery = recovery = Recovery(self._prefix, lost=False)
                self._probe_at = monotonic() + _PROBE_PATIENCE
            self._set_barriers(recovery, transport, suspects)

    # --- the heartbeat --------------------------------------------------------------------------

    def _run_heartbeat(self) -> None:
        while self._sleep_until(self._due):
            self._stay_if_muted()
            try:
                self._do_what_is_due(monotonic())
            except GatewayError as error:  # of the websocket: the reader learns of it, too
                self._log.debug("kernel %s: %s", self.name, str(error))
            except Exception:  # a heart goes on beating
                self._log.exception("the heartbeat of kernel %s failed", self.name)
                self._sleep(_LOOK_INTERVAL)

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._doubt_at:
            self._resolve_doubt()
        if now >= self._settle_at and (recovery := self._recovery) is not None:
            self._settle(recovery)
        if now >= self._probe_at and (recovery := self._recovery) is not None:
            self._look_for_deafness(recovery)
        if now >= self._audit_at:
            self._audit()
        if now >= self._silent_at() and self._transport is not None:
            self._judge_silence(self._transport)
        if now >= self._beat_at:
            self._beat()

    def _due(self) -> float:
        """When there is something to do next."""
        moments = (
            self._beat_at,
            self._doubt_at,
            self._settle_at,
            self._probe_at,
            self._audit_at,
        )
        return min(*moments, self._silent_at())

    def _silent_at(self) -> float:
        """When nothing will have been heard of the gateway for too long."""
        if not self._ping_interval or self._transport is None or not self._is_writable():
            return _NEVER
        limit = self._transport.last_received + self._ping_interval + self._ping_timeout
        return max(limit, self._judge_at)

    def _sleep_until(self, due: Callable[[], float]) -> bool:
        """Sleep until something is due, which changes may bring forward; False at the end."""
        with self._changed:
            while not self._ending:
                if (left := due() - monotonic()) <= 0:
                    return True
                self._changed.wait(Deadline(left).left())
        return False

    def _sleep(self, seconds: float) -> bool:
        """Sleep; False where the connection is closed meanwhile."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, seconds)

    def _beat(self) -> None:
        """Ask for a sign of life, and whether the kernel still exists."""
        self._beat_at = monotonic() + self._ping_interval
        if self._is_writable() and self._transport is not None:
            self._transport.ping()
        if self._status in LIVING:  # also while a gateway holds a handshake back
            self._look()

    def _look(self) -> PollResult:
        """Ask the gateway for the kernel; what it says of its end is taken to heart."""
        try:
            state = self._kernel_state()
        except GatewayTimeout:
            return PollResult.TIMEOUT
        except GatewayError as error:
            self._log.debug("kernel %s: cannot ask for it: %s", self.name, str(error))
            return PollResult.ERROR
        if state == "dead":
            self.kernel_ended(KernelStatus.DEAD)
        elif state == "gone":
            self._doubt()  # and ask once more: whoever answers may be in a muddle
        return PollResult.BUSY if state == "busy" else PollResult.IDLE

    def _judge_silence(self, transport: Transport) -> None:
        """Give a websocket up of which nothing is heard any more."""
        look = self._look()
        self._judge_at = monotonic() + self._ping_interval
        silence = monotonic() - transport.last_received
        if not transport.has_input() and should_abort(
            silence,
            look,
            ever_heard=transport.last_received > transport.opened,
            acknowledged=transport.is_acknowledged(),
            patience=self._ping_interval + self._ping_timeout,
        ):
            transport.abort(f"nothing was heard of the gateway for {silence:.0f} s")

    def _look_for_deafness(self, recovery: Recovery) -> None:
        """See why a kernel does not answer after the websocket was opened again.

        Either it is busy; or it does not know the control channel; or it is deaf: it takes the
        new connection for a double of the old one, and drops what comes from it.  Another
        ``session_id`` helps then, for which the gateway replays nothing, though.
        """
        look = self._look()
        with self._recovering:
            if self._recovery is not recovery or recovery.step is Step.GRACE:
                return
            transport = self._transport
            assert transport is not None
            recovery.polls += 1
            recovery.idle_polls += look is PollResult.IDLE
            self._probe_at = monotonic() + _LOOK_INTERVAL * min(recovery.polls, 10)
            if recovery.step is not Step.WAITING:
                if recovery.idle_polls or recovery.polls > 3:
                    recovery.go_on_without_control()
                    self._go_on(recovery, transport, deaf=look is PollResult.IDLE)
            elif recovery.is_deaf():
                self._session_id = self._requests.other_session()
                transport.abort("the kernel is not busy, and does not answer on this websocket")
            elif look is PollResult.IDLE and recovery.is_to_ask_again():
                if recovery.forget_subshells():
                    self._begin_to_settle()
                for barrier in tuple(recovery.unanswered):
                    self._set_barrier(recovery, transport, barrier)

    def _doubt(self) -> None:
        """Have the gateway asked about the kernel, soon and several times."""
        with self._lock:
            if self._status is KernelStatus.ALIVE:
                self._status = KernelStatus.SHUTTING_DOWN
                self._doubts, self._doubt_at = _DOUBT_LIMIT, monotonic()
                self._changed.notify_all()

    def _resolve_doubt(self) -> None:
        """Ask the gateway about a kernel that said it shuts down, which takes a moment."""
        if self._status is not KernelStatus.SHUTTING_DOWN:
            self._doubt_at = _NEVER
            return
        try:
            state = self._kernel_state()
        except GatewayError as error:
            self._log.debug("kernel %s: cannot ask for it: %s", self.name, str(error))
        else:
            if state in ("gone", "dead"):
                self.kernel_ended(KernelStatus.GONE)
        with self._lock:
            self._doubts -= 1
            self._doubt_at = monotonic() + _DOUBT_INTERVAL
            if self._status is KernelStatus.SHUTTING_DOWN and not self._doubts:
                self._status = KernelStatus.ALIVE
            if self._status is not KernelStatus.SHUTTING_DOWN:
                self._doubt_at = _NEVER


def _death(name: str, status: KernelStatus, text: str) -> DeadKernelError:
    """Return the error of a call that waits for a kernel which will not reply."""
    if status is KernelStatus.RESTARTED:
        return KernelRestarted(
            text or f"kernel {name} {status.value} Call wait_for_ready() to continue."
        )
    kind = KernelGone if status is KernelStatus.GONE else DeadKernelError
    return kind(text or f"kernel {name} {status.value}")


def _stopped(name: str) -> GatewayConnectionClosed:
    return GatewayConnectionClosed(f"the channels of kernel {name} were stopped")


def _closed(name: str, error: BaseException) -> GatewayConnectionClosed:
    return GatewayConnectionClosed(
        f"the connection to kernel {name} was lost: {error}; what was asked of the kernel before"
        " may have been executed or not"
    )
