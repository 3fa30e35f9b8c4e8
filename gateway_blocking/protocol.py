"""The state machine of one kernel connection (no I/O, no thread, no clock).

:class:`KernelProtocol` is told what happens (a websocket was opened, a message came, a timer
expired) and returns what is to be done about it (send this, poll the kernel, log that).
``now``, in seconds on a monotonic clock, is an argument.  So every decision of a connection can be
tested as a function, with a time of the test's own.

:class:`~gateway_blocking.connection.Connection` is the shell around it: it calls the events under
one mutex, and performs the actions without it.  Messages and errors are delivered into the sinks
*inside* an event, so that the order of deliveries is the order of events.

The module is longer than others because all events of the machine stand side by side.  What one
event decides alone is elsewhere: :mod:`.reconnection`, :mod:`.recovery_driver`,
:mod:`.kernel_monitor`, :mod:`.keepalive`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from jupyter_client.session import Session

from .actions import (
    NO_ACTIONS,
    Action,
    Actions,
    GiveUp,
    LogMessage,
    PollKernel,
    PollReason,
    RestartToken,
    Retry,
    Sink,
    State,
    TransportInfo,
)
from .advice import exceeded_limit
from .errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayError,
    NoSuchKernel,
    copy_for_raise,
)
from .keepalive import Keepalive
from .kernel_monitor import KernelMonitor
from .liveness import (
    LIVING,
    STATUS_MSG_TYPES,
    KernelStatus,
    PollResult,
)
from .messages import Message
from .outcomes import connection_lost, missing_output, not_connected, stopped, unreadable_reply
from .reconnection import Reconnection
from .recovery_driver import RecoveryDriver
from .requests_table import Disposition, Request, RequestTable
from .timers import Timer, Timers

__all__ = ["KernelProtocol"]

_WRITER_TIMEOUT = 1.0  # seconds, for a thread that was writing when its websocket was lost


class KernelProtocol:
    """The state of one kernel connection, and every decision about it.

    Not thread-safe: the caller serializes the events.

    Parameters
    ----------
    name : str
        ID of the kernel, used in texts.
    session : jupyter_client.session.Session
        Source of the session ID, the user name, and ``pack`` and ``unpack``.
    sinks : mapping of str to Sink
        Channels that messages are delivered into, by name.
    ping_interval, ping_timeout : float
        Seconds between pings, and seconds after which a missing answer counts; an interval of 0
        means no pings.
    delays : callable
        Returns an iterator over the seconds to wait before each attempt to open a lost websocket
        again.
    on_change : callable
        Called inside an event when the state or the kernel's status changed; must not block.
    on_timer : callable
        Called inside an event when a timer was armed; must not block.
    now : float
        Seconds on a monotonic clock.
    """

    def __init__(
        self,
        name: str,
        *,
        session: Session,
        sinks: Mapping[str, Sink],
        ping_interval: float,
        ping_timeout: float,
        delays: Callable[[], Iterator[float]],
        on_change: Callable[[], None],
        on_timer: Callable[[], None],
        now: float,
    ) -> None:
        self.name = name
        self.state = State.CONNECTING
        self.epoch = 0
        """Number of websockets that were opened."""
        self.failure: BaseException | None = None
        """Error that ended the connection."""
        self.abort_reason = ""
        """Why the current websocket must be aborted; "" if it need not be.

        It is not an action, which an interruption could lose: it stays until the loss is reported.
        """
        self._sinks = sinks
        self._on_change = on_change
        self._timers = Timers(on_timer)
        self._requests = RequestTable(session.session)
        self._reconnection = Reconnection(delays)
        self._recovery = RecoveryDriver(
            name,
            session=session,
            sinks=sinks,
            requests=self._requests,
            timers=self._timers,
            reconnection=self._reconnection,
        )
        self._monitor = KernelMonitor(name, sinks, self._requests, self._timers, on_change)
        self._keepalive = Keepalive(self._timers, ping_interval, ping_timeout, now)

    def __repr__(self) -> str:
        return (
            f"<KernelProtocol {self.name[:8]}, {self.state.name},"
            f" kernel {self.kernel_status.name}, epoch {self.epoch}>"
        )

    @property
    def session_id(self) -> str:
        """ID by which the gateway knows this client."""
        return self._requests.session_id

    @property
    def is_writable(self) -> bool:
        """True if the current websocket accepts messages."""
        return self.state is State.OPEN or self.state is State.RECOVERING

    @property
    def has_requests(self) -> bool:
        """True if a request is in flight, which gets the error that ends the connection."""
        return bool(self._requests.outstanding())

    def _set_state(self, state: State) -> None:
        self.state = state
        self._on_change()

    # --- timers ---------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """Return when :meth:`timer_expired` is to be called; infinity if no timer is armed."""
        return self._timers.next()

    def timer_expired(self, now: float, transport: TransportInfo | None) -> Actions:
        """Handle each timer that is due.

        Parameters
        ----------
        now : float
            Seconds on the monotonic clock.
        transport : TransportInfo or None
            The current websocket; None if there is none.
        """
        actions: list[Action] = []
        for timer in self._timers.expired(now):
            self._timers.cancel(timer)
            actions += self._handle(timer, now, transport)
        revival = self._monitor.revivals
        return [
            replace(action, revival=revival) if isinstance(action, PollKernel) else action
            for action in actions
        ]

    def _handle(self, timer: Timer, now: float, transport: TransportInfo | None) -> Actions:
        if timer is Timer.PING:
            is_alive = self.kernel_status in LIVING
            return self._keepalive.ping(
                self.epoch, now, is_writable=self.is_writable, is_alive=is_alive
            )
        if timer is Timer.SILENCE:
            if transport is None or not self.is_writable:
                return NO_ACTIONS
            return self._keepalive.check(self.epoch, transport, now)
        if timer is Timer.WRITERS:
            return self._stop_waiting_for_writers(now)
        if timer is Timer.SETTLE:
            return self._recovery.settle()
        if timer is Timer.AUDIT:
            return self._recovery.audit(now, is_open=self.state is State.OPEN)
        if timer is Timer.PROBE:
            return self._recovery.probe()
        return (PollKernel(self.epoch, PollReason.SHUTDOWN),)

    # --- websockets -----------------------------------------------------------------------------

    def connection_opened(self, subprotocol: str, now: float) -> Actions:
        """Note that a websocket is open; begin to recover what was in flight on the last one."""
        if self.state is State.CLOSED:
            return NO_ACTIONS
        self.epoch += 1
        self._recovery.connection_opened(self.epoch, subprotocol)
        self._keepalive.connection_opened(now)
        if self.epoch == 1:
            self._set_state(State.OPEN)
            return NO_ACTIONS
        self._set_state(State.RECOVERING)
        if self._timers.is_armed(Timer.WRITERS):
            return NO_ACTIONS  # the recovery begins when they have reported
        return self._recovery.begin(now)

    def connection_lost(self, error: GatewayError, now: float) -> Retry | GiveUp:
        """Decide what follows the loss of the current websocket."""
        if self.state is State.CLOSED:
            return GiveUp(error)
        self.abort_reason = ""
        self._recovery.cancel()
        self._keepalive.connection_lost()
        if any(request.writing for request in self._requests.outstanding()):
            self._timers.arm(Timer.WRITERS, now + _WRITER_TIMEOUT)
        self._set_state(State.RECONNECTING)
        return self._reconnection.lost(error, now)

    def connection_failed(
        self, error: GatewayError, now: float, *, credentials_changed: bool = False
    ) -> Retry | GiveUp:
        """Decide what follows an attempt to open the websocket that failed.

        Parameters
        ----------
        error : GatewayError
            Why it failed.
        now : float
            Seconds on the monotonic clock.
        credentials_changed : bool
            Whether another attempt would present other credentials.
        """
        if self.state is State.CLOSED:
            return GiveUp(stopped(self.name))
        if self.epoch == 0:
            return self._reconnection.handshake_failed(
                error, credentials_changed=credentials_changed
            )
        decision = self._reconnection.failed(error, now)
        if isinstance(decision, GiveUp) and isinstance(error, NoSuchKernel):
            self.kernel_ended(KernelStatus.GONE)
        return decision

    def close(self, error: BaseException | None = None) -> None:
        """End the connection; every wait for it ends with an error.  Idempotent.

        Parameters
        ----------
        error : BaseException, optional
            Error that ended it; None if its client stopped it.
        """
        if self.state is State.CLOSED:
            return
        self.failure = error or GatewayConnectionClosed("the connection was closed here")
        if error is None:
            told: GatewayError = stopped(self.name)
        elif self.death is not None:
            told = self.death
        else:
            told = connection_lost(self.name, error, was_open=self.epoch > 0)
        self._timers.cancel()
        self._recovery.cancel()
        for sink in self._sinks.values():
            sink.close(told)
        self._set_state(State.CLOSED)

    def _request_abort(self, reason: str) -> None:
        """Have the current websocket aborted; a request that is made now waits for the next."""
        self.abort_reason = reason
        self._set_state(State.RECONNECTING)

    # --- requests -------------------------------------------------------------------------------

    def epoch_to_send(self, channel: str) -> int | None:
        """Return the epoch of the websocket that may send on a channel; None if there is none yet.

        Raises
        ------
        DeadKernelError, KernelRestarted, KernelGone
            The kernel will not reply.
        GatewayConnectionClosed
            The connection is closed.
        """
        if self.death is not None:
            raise copy_for_raise(self.death)
        if self.state is State.CLOSED:
            raise not_connected(self.name, self.failure)
        # While it recovers, a new request must not overtake an older one that is sent again.
        is_open = self.state is State.OPEN or (self.is_writable and channel != "shell")
        return self.epoch if is_open else None

    def register(self, request: Request, epoch: int) -> bool:
        """Add a request that is about to be written; return False if its websocket is lost.

        The caller reports :meth:`request_sent` or :meth:`request_not_sent` afterwards.
        """
        if epoch != self.epoch or not self.is_writable:
            return False
        request.epoch = epoch
        self._requests.add(request)
        return True

    def request_sent(self, request: Request, now: float) -> Actions:
        """Note that all of a request was written."""
        request.writing = False
        self._writer_reported(now)
        return NO_ACTIONS

    def request_not_sent(self, request: Request, now: float) -> bool:
        """Note that not all of a request was written, so that the kernel cannot have it.

        Returns
        -------
        bool
            True if the caller may send it again.  The recovery may have it already, or the kernel
            ended meanwhile, with which the request has failed.
        """
        if not request.writing:
            return False
        request.writing = False
        may_send_again = self._requests.discard(request)
        self._writer_reported(now)
        return may_send_again

    def _writer_reported(self, now: float) -> None:
        if not self._timers.is_armed(Timer.WRITERS):
            return
        if not any(request.writing for request in self._requests.outstanding()):
            # The caller's thread may be interrupted, and leaves the rest to the second thread.
            self._timers.arm(Timer.WRITERS, now)

    def _stop_waiting_for_writers(self, now: float) -> Actions:
        for request in self._requests.outstanding():
            if request.epoch < self.epoch or self.state is State.RECONNECTING:
                request.writing = False  # what became of it, the kernel will tell
        return self._recovery.begin(now) if self.state is State.RECOVERING else NO_ACTIONS

    def requests_resent(self, epoch: int, now: float) -> Actions:
        """Let new requests pass: what was sent again is on its way before them."""
        if epoch == self.epoch and self.state is State.RECOVERING:
            self._set_state(State.OPEN)
        return NO_ACTIONS

    def ignore_replies(self, msg_ids: Collection[str]) -> None:
        """Wait for the replies to these requests no more, and drop one that comes all the same."""
        self._requests.ignore_replies(msg_ids)

    def missing(self, msg_id: str) -> int | None:
        """Return how many messages of an execution have not come; None if that is not known."""
        return self._requests.missing(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """Return False if no loss is known that could be of the output of an execution."""
        return self._requests.may_lack_output(msg_id)

    # --- messages -------------------------------------------------------------------------------

    def message_received(
        self, channel: str, message: Message, size: int, now: float, unreadable: str = ""
    ) -> Actions:
        """Take note of a message, and deliver it unless it is a duplicate or out of date.

        Parameters
        ----------
        channel : str
            Name of the channel.
        message : Message
            The message.
        size : int
            Number of bytes that it came in.
        now : float
            Seconds on the monotonic clock.
        unreadable : str, optional
            Why only the headers of the message could be read.
        """
        if self.state is State.CLOSED:
            return NO_ACTIONS
        incarnation = self._requests.incarnation
        disposition = self._requests.receive(channel, message, unreadable)
        if disposition is Disposition.NEW_PROCESS:
            self.kernel_ended(KernelStatus.RESTARTED)
            disposition = self._requests.receive(channel, message, unreadable)
        if channel == "iopub":
            self._note_output(message, incarnation, now)
        elif unreadable and not message["parent_header"]:
            self._recovery.suspect(now, everything=True)  # it may be the reply to any request
        if self._recovery.is_answer(message):
            return self._recovery.answer_received(message, now)
        if disposition is Disposition.DELIVER and not unreadable and channel in self._sinks:
            self._sinks[channel].deliver(message, size)
            return NO_ACTIONS
        return self._deliver_unusual(channel, message, size, disposition, unreadable)

    def _note_output(self, message: Message, incarnation: str | None, now: float) -> None:
        """See what a message on iopub says besides what its client is interested in."""
        msg_type = message["msg_type"]
        if msg_type in STATUS_MSG_TYPES:
            self._monitor.status_received(message, incarnation, now)
            if msg_type == "status" and self._requests.is_unreplied(message["parent_header"]):
                self._recovery.suspect(now)  # the reply may come yet, on its own channel
        elif (
            msg_type == "stream" and message["header"].get("session") != self._requests.incarnation
        ):
            text = message["content"].get("text")  # of the server, not of the kernel
            self._recovery.limit = exceeded_limit(text) or self._recovery.limit

    def _deliver_unusual(
        self, channel: str, message: Message, size: int, disposition: Disposition, unreadable: str
    ) -> Actions:
        """Deliver a message that is not simply for the channel's queue, or drop it."""
        msg_type = message["msg_type"]
        if disposition is Disposition.DUPLICATE or disposition is Disposition.STALE:
            text = f"kernel {self.name}: a {msg_type!r:.200} dropped: {disposition}"
            return (LogMessage("debug", text),)
        msg_id = message["parent_header"].get("msg_id", "")
        if disposition is Disposition.LOST:
            lost = unreadable_reply(self.name, channel, msg_id, msg_type, unreadable)
            # A request that asks for input was sent on shell.
            self._sinks["shell" if channel == "stdin" else channel].deliver_loss(lost)
        elif not unreadable:
            if (sink := self._sinks.get(channel)) is None:
                text = f"kernel {self.name}: a message on channel {channel!r}"
                return (LogMessage("debug", text),)
            sink.deliver(message, size)
        if disposition is Disposition.DELIVER_INCOMPLETE:
            text = missing_output(self.name, msg_id, self._requests, self._recovery.limit)
            return (LogMessage("warning", text),)
        return NO_ACTIONS

    def message_lost(self, now: float) -> Actions:
        """Note that a message came which cannot be read at all: any reply or any output."""
        if self.state is State.CLOSED:
            return NO_ACTIONS
        self._requests.expect_loss()
        self._recovery.suspect(now, everything=True)
        return NO_ACTIONS

    # --- the kernel's status --------------------------------------------------------------------

    @property
    def kernel_status(self) -> KernelStatus:
        """Status of the kernel, as far as known."""
        return self._monitor.status

    @property
    def death(self) -> DeadKernelError | None:
        """Error of every call that waits for a kernel which will not reply."""
        return self._monitor.death

    def kernel_ended(self, status: KernelStatus, text: str = "") -> None:
        """Fail all pending requests: see :meth:`.KernelMonitor.ended`."""
        self._monitor.ended(status, text)

    def revive(self) -> None:
        """Trust the kernel again, whatever was heard of it before.

        The websocket is opened again: the new process may listen on other ports, and a gateway
        looks for them only when a client connects.  It gets another ``session_id`` if no request
        is in flight, for whose replies the old one would be needed.  Two websockets of one
        ``session_id`` that were open while the kernel was restarted may exclude each other: the
        kernel then reads from one, and the gateway listens on the other (measured on
        jupyter_server 2.21).
        """
        self._monitor.revive()
        if not self.has_requests:
            self._requests.change_session_id()
        if self.is_writable:
            self._request_abort("the kernel was restarted")

    def kernel_restarting(self) -> RestartToken:
        """Remember the kernel process that the client is about to restart."""
        return RestartToken(self._requests.incarnation, tuple(self._requests.outstanding()))

    def kernel_restarted(self, token: RestartToken, error: GatewayError) -> None:
        """Fail what was asked of the process before the restart, and connect to the new one."""
        lost = [
            request
            for request in self._requests.outstanding()
            if request in token.requests
            or (token.incarnation and request.incarnation == token.incarnation)
        ]
        for request in lost:  # first: an interruption must not make their callers wait for ever
            self._sinks[request.channel].request_failed(request.msg_id, error)
        self._requests.abandon(*lost)
        if self._requests.incarnation == token.incarnation:
            self._requests.end_incarnation()
        self.revive()

    def kernel_polled(
        self, poll: PollKernel, result: PollResult, transport: TransportInfo | None, now: float
    ) -> Actions:
        """Handle the gateway's response to a poll.

        A poll that began before the kernel was restarted may tell of the process before.
        """
        if self.state is State.CLOSED or poll.revival != self._monitor.revivals:
            return NO_ACTIONS
        if poll.reason is PollReason.SHUTDOWN:
            self._monitor.shutdown_polled(result, now)
            return NO_ACTIONS
        self._monitor.polled(result, now)
        if poll.epoch != self.epoch or not self.is_writable or transport is None:
            return NO_ACTIONS
        if poll.reason is PollReason.SILENCE and self._keepalive.should_abort(
            result, transport, now
        ):
            silence = now - transport.last_received
            self._request_abort(f"nothing was received from the gateway for {silence:.0f} s")
        if poll.reason is PollReason.PROBE:
            actions = self._recovery.probe_polled(poll, result, now)
            if self._recovery.is_session_ignored:
                self._requests.change_session_id()
                reason = "the kernel is not busy, and does not answer on this websocket"
                self._request_abort(reason)
            return actions
        return NO_ACTIONS
