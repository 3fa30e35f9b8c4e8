"""The steps of a recovery, as actions (no I/O).

:class:`RecoveryDriver` turns what a :class:`.Recovery` decides into the frames that are sent, and
its end into the errors of the requests that get no reply.  A recovery begins when a websocket was
opened again; a smaller one, an *audit*, when replies may be missing although the websocket is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from jupyter_client.session import Session, msg_header

from .actions import (
    NO_ACTIONS,
    Action,
    Actions,
    LogMessage,
    PollKernel,
    PollReason,
    ReportResent,
    SendRequest,
    Sink,
)
from .errors import ReplyLost, WireError
from .liveness import PollResult
from .messages import Message
from .outcomes import execution_outcome, missing_output, reply_lost
from .reconnection import Reconnection
from .recovery import (
    Barrier,
    Recovery,
    Step,
    is_idempotent,
    is_safe_to_resend,
    is_worth_repeating,
)
from .requests_table import Request, RequestTable
from .timers import Timer, Timers
from .wire import FORMATS

__all__ = ["RecoveryDriver"]

# Seconds.
_PROBE_TIMEOUT = 2.0  # for the kernel's answer to a question, before the gateway is polled
_PROBE_INTERVAL = 1.0  # between these polls; it grows with their number
_SETTLE_DELAY = 0.3  # for what is on its way behind the answer that ends a recovery
_AUDIT_DELAY = 1.0  # for a reply that comes after the "idle", on another channel

_PATIENT_PROBES = 3  # polls of a busy kernel after which its control channel counts as missing

# An execution that does nothing, not even count, and that an error before it does not abort.
_EMPTY = {
    "code": "",
    "silent": True,
    "store_history": False,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": False,
}


class RecoveryDriver:
    """The recovery of the requests in flight: what is asked, sent again, and failed.

    Not thread-safe: the protocol serializes the calls.

    Parameters
    ----------
    name : str
        ID of the kernel, used in texts.
    session : jupyter_client.session.Session
        Source of the user name, and of ``pack`` and ``unpack``.
    sinks : mapping of str to Sink
        Channels that errors are delivered into, by name.
    requests : RequestTable
        The requests in flight.
    timers : Timers
        ``PROBE``, ``SETTLE`` and ``AUDIT`` are this object's.
    reconnection : Reconnection
        Is told when the kernel answers on a new websocket.
    """

    def __init__(
        self,
        name: str,
        *,
        session: Session,
        sinks: Mapping[str, Sink],
        requests: RequestTable,
        timers: Timers,
        reconnection: Reconnection,
    ) -> None:
        self.limit = ""
        """Name of the gateway's output limit that was exceeded, as far as known."""
        self._name = name
        self._session = session
        self._sinks = sinks
        self._requests = requests
        self._timers = timers
        self._reconnection = reconnection
        self.recovery: Recovery | None = None
        """The recovery that is under way."""
        self._prefix = f"recovery_{uuid4().hex}_"
        self._probes = 0
        self._has_asked = False
        self._suspects_everything = False
        self._epoch = 0
        self._subprotocol = ""

    # --- websockets -----------------------------------------------------------------------------

    def connection_opened(self, epoch: int, subprotocol: str) -> None:
        """Take note of the websocket that frames are made for from now on."""
        self._epoch, self._subprotocol = epoch, subprotocol
        if epoch > 1:  # what came before may come again, from now on
            self._requests.expect_replay()

    def cancel(self) -> None:
        """Forget the recovery, because its websocket is lost."""
        self.recovery = None
        self._timers.cancel(Timer.PROBE, Timer.SETTLE)

    def begin(self, now: float) -> Actions:
        """Ask the kernel which process it is, after the websocket was opened again."""
        self.recovery = recovery = Recovery(self._prefix)
        self._probe_after(_PROBE_TIMEOUT, now)
        return self._ask("control", recovery.question)

    # --- answers --------------------------------------------------------------------------------

    def is_answer(self, message: Message) -> bool:
        """Return True if a message answers a question of the connection itself."""
        parent_id = message["parent_header"].get("msg_id") if self._has_asked else None
        return isinstance(parent_id, str) and parent_id.startswith(self._prefix)

    def answer_received(self, message: Message, now: float) -> Actions:
        """Continue the recovery after an answer."""
        recovery = self.recovery
        if recovery is None:
            return NO_ACTIONS
        step = recovery.receive(message)
        if step is Step.TESTING and not any(
            request.subprotocol == self._subprotocol
            and is_worth_repeating(request, recovery.incarnation)
            for request in self._in_flight()
        ):
            recovery.go_on_without_test()
            step = recovery.step
        if step is Step.TESTING:
            self._probe_after(_PROBE_TIMEOUT, now)
            return self._ask("control", recovery.copy, recovery.copy)
        if step is Step.FENCING:
            self._probe_after(_PROBE_TIMEOUT, now)
            return self._ask("control", recovery.fence)
        if step is Step.WAITING:
            return self._resend(recovery, now)
        if step is Step.GRACE:
            return self._begin_to_settle(recovery, now)
        return NO_ACTIONS

    def _resend(self, recovery: Recovery, now: float, *, session_ignored: bool = False) -> Actions:
        """Send again what is safe to send again, then the barriers; then let new requests pass.

        New requests wait longer if the kernel may ignore this session: they would be lost.
        """
        self._reconnection.succeeded()
        recovery.polls = recovery.idle_polls = 0
        self._probe_after(_PROBE_TIMEOUT, now)
        actions: list[Action] = []
        for request in self._in_flight():
            if request.subprotocol == self._subprotocol and is_safe_to_resend(
                request, recovery.incarnation, recovery.ignores_repetitions
            ):
                request.sent += 1
                recovery.repeated.add(request.msg_id)
                frame = request.frame
                if is_idempotent(request):  # a new request, whose reply is as certain as any
                    frame, request.epoch = self._redated(request), self._epoch
                actions.append(SendRequest(self._epoch, *frame))
        actions += self._set_barriers(recovery, self._in_flight())
        if not session_ignored:
            actions.append(self._let_requests_pass(recovery))
        return actions

    def _let_requests_pass(self, recovery: Recovery) -> Action:
        """Have new requests admitted; what was not sent again by now never is."""
        for request in self._in_flight():
            # A later recovery would have it executed after newer requests.
            request.is_overtaken = request.msg_id not in recovery.repeated
        return ReportResent(self._epoch)

    def _begin_to_settle(self, recovery: Recovery, now: float) -> Actions:
        self._timers.cancel(Timer.PROBE)
        self._timers.arm(Timer.SETTLE, now + _SETTLE_DELAY)
        return (self._let_requests_pass(recovery),)

    def settle(self) -> Actions:
        """Fail what has no reply: the kernel is done with all that was sent before."""
        recovery, self.recovery = self.recovery, None
        assert recovery is not None
        actions: list[Action] = []
        for request in recovery.in_doubt:
            if recovery.has_passed(request) and self._requests.is_outstanding(request):
                self._requests.abandon(request)
                repeated = request.msg_id in recovery.repeated
                executed, why = execution_outcome(request, repeated, recovery.lost)
                lost = reply_lost(self._name, request, executed, why)
                self._sinks[request.channel].deliver_loss(lost)
                actions.append(LogMessage("warning", str(lost)))
        self._requests.replay_is_over()
        for msg_id in self._requests.forget_unfinished(self._epoch):
            text = missing_output(self._name, msg_id, self._requests, self.limit)
            actions.append(LogMessage("warning", text))
            lost = ReplyLost("the last output was lost with the connection", msg_id=msg_id)
            self._sinks["iopub"].request_failed(msg_id, lost)
        return actions

    # --- no answer ------------------------------------------------------------------------------

    def _probe_after(self, delay: float, now: float) -> None:
        """Have the kernel polled after a delay; a poll that is under way counts no more."""
        self._probes += 1
        self._timers.arm(Timer.PROBE, now + delay)

    def probe(self) -> Actions:
        """Poll the kernel, because it has not answered in time."""
        return (PollKernel(self._epoch, PollReason.PROBE, self._probes),)

    @property
    def is_session_ignored(self) -> bool:
        """True if the kernel ignores this session, as two polls have told.

        It takes the new connection for a duplicate of the old one, and drops its messages.  Another
        ``session_id`` helps then, for which the gateway replays nothing.
        """
        return self.recovery is not None and self.recovery.is_session_ignored()

    def probe_polled(self, poll: PollKernel, result: PollResult, now: float) -> Actions:
        """See why a kernel does not answer on this websocket.

        It may be busy.  Or it has no control channel.  Or the question was lost.  The result of a
        poll that was begun before the last question tells none of this.
        """
        recovery = self.recovery
        if recovery is None or recovery.step is Step.GRACE or poll.probe != self._probes:
            return NO_ACTIONS
        is_idle = result is PollResult.IDLE
        recovery.polls += 1
        recovery.idle_polls += is_idle
        self._probe_after(_PROBE_INTERVAL * min(recovery.polls, 10), now)
        if recovery.step is not Step.WAITING:
            if not (recovery.idle_polls or recovery.polls > _PATIENT_PROBES):
                return NO_ACTIONS
            recovery.go_on_without_control()
            return self._resend(recovery, now, session_ignored=is_idle)
        if is_idle and recovery.is_to_ask_again():
            return self._ask_again(recovery, now)
        return NO_ACTIONS

    def _ask_again(self, recovery: Recovery, now: float) -> Actions:
        """Send the barriers once more, because they may have been lost."""
        if recovery.forget_subshells():
            return self._begin_to_settle(recovery, now)
        actions: list[Action] = []
        for barrier in tuple(recovery.unanswered):
            actions += self._set_barrier(recovery, barrier)
        return actions

    # --- audits ---------------------------------------------------------------------------------

    def suspect(self, now: float, *, everything: bool = False) -> None:
        """Begin an audit soon.

        Without `everything`, it is only of the requests that the kernel is done with.
        """
        self._suspects_everything = self._suspects_everything or everything
        if not self._timers.is_armed(Timer.AUDIT):
            self._timers.arm(Timer.AUDIT, now + _AUDIT_DELAY)

    def audit(self, now: float, *, is_open: bool) -> Actions:
        """Set barriers behind the requests whose replies may be missing."""
        if self.recovery is not None or not is_open:
            self._timers.arm(Timer.AUDIT, now + _AUDIT_DELAY)
            return NO_ACTIONS
        everything, self._suspects_everything = self._suspects_everything, False
        suspects = self._requests.outstanding() if everything else self._requests.unreplied()
        # A barrier could overtake a request that is being written.
        written = [request for request in suspects if not request.writing]
        if len(written) < len(suspects):
            self.suspect(now, everything=everything)
        suspects = written
        if not suspects:
            return NO_ACTIONS
        self.recovery = recovery = Recovery(self._prefix, lost=False)
        self._probe_after(_PROBE_TIMEOUT, now)
        return self._set_barriers(recovery, suspects)

    # --- frames ---------------------------------------------------------------------------------

    def _in_flight(self) -> list[Request]:
        """Return what was sent on an earlier websocket and is not answered."""
        return [r for r in self._requests.outstanding() if r.epoch < self._epoch]

    def _set_barriers(self, recovery: Recovery, in_doubt: Iterable[Request]) -> list[Action]:
        """Send what proves, once it is answered, that these requests are done."""
        recovery.in_doubt = list(in_doubt)
        on_control = recovery.lost or any(r.channel == "control" for r in recovery.in_doubt)
        channels = ["control", "shell"] if on_control and recovery.has_control else ["shell"]
        subshells = {
            request.subshell
            for request in recovery.in_doubt
            if request.channel != "control" and not request.idle
        }
        barriers = [Barrier(channel) for channel in channels]
        barriers += [Barrier("shell", True, subshell) for subshell in subshells]
        return [action for b in barriers for action in self._set_barrier(recovery, b)]

    def _set_barrier(self, recovery: Recovery, barrier: Barrier) -> list[Action]:
        msg_id = recovery.ask(barrier)
        return self._ask(
            barrier.channel, msg_id, execution=barrier.execution, subshell=barrier.subshell
        )

    def _ask(
        self,
        channel: str,
        *msg_ids: str,
        execution: bool = False,
        subshell: str | None = None,
    ) -> list[Action]:
        """Send a question, or an empty execution: two alike if a msg_id is given twice."""
        if channel == "control":  # on shell it comes after all output that is in doubt
            self._requests.ask(*msg_ids)
        self._has_asked = True
        msg_type = "execute_request" if execution else "kernel_info_request"
        content: dict[str, Any] = _EMPTY if execution else {}
        session = self._session  # its msg() is not thread-safe
        header = msg_header(msg_ids[0], msg_type, session.username, session.session)
        if subshell is not None:
            header["subshell_id"] = subshell
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        frame = FORMATS[self._subprotocol].encode(channel, message, session.pack)
        return [SendRequest(self._epoch, *frame) for _ in msg_ids]

    def _redated(self, request: Request) -> tuple[int, bytes]:
        """Return the frame of a request that a kernel is to answer even if it had it before."""
        format_ = FORMATS[request.subprotocol]
        try:
            channel, message = format_.decode(*request.frame, self._session.unpack)
        except WireError:  # a relayed request, which its kernel cannot read either
            return request.frame
        if isinstance(date := message["header"].get("date"), datetime):
            message["header"]["date"] = date + timedelta(microseconds=1)
        return format_.encode(channel, message, self._session.pack)
