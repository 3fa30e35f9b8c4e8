"""The second thread of a connection: it performs what the protocol asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty
from time import monotonic

from .actions import (
    Action,
    LogMessage,
    PollKernel,
    ReportResent,
    SendPing,
    SendRequest,
    State,
    TransportInfo,
)
from .deadline import Deadline
from .errors import GatewayError, GatewayTimeout
from .liveness import KernelStatus, PollResult, poll_result
from .reader import Reader
from .runner import ProtocolRunner

__all__ = ["Heartbeat"]

_PAUSE_AFTER_BUG = 1.0  # seconds, so that a fault that repeats itself does not fill the log


class Heartbeat:
    """Pings, polls the kernel, sends what is sent again, and aborts a silent websocket.

    Parameters
    ----------
    runner : ProtocolRunner
        The protocol whose actions are performed.
    reader : Reader
        Has the websocket that the actions are performed on.
    kernel_state : callable
        Returns the kernel's ``execution_state``: see :class:`.Connection`.
    send_timeout : float
        Seconds that a gateway may take to accept a message.
    """

    def __init__(
        self,
        runner: ProtocolRunner,
        reader: Reader,
        kernel_state: Callable[[], str],
        send_timeout: float,
    ) -> None:
        self._runner = runner
        self._protocol = runner.protocol
        self._reader = reader
        self._kernel_state = kernel_state
        self._send_timeout = send_timeout
        # Each takes a round trip, so that the other actions come first.
        self._polls: deque[PollKernel] = deque()
        self._logged = State.CONNECTING, KernelStatus.ALIVE

    def run(self) -> None:
        """Do the work of the thread."""
        while not self._runner.is_closing and self._protocol.state is not State.CLOSED:
            self._runner.stay_if_muted()
            try:
                self._log_changes()
                self._runner.abort_if_asked()
                self._do_next()
            except Exception:  # the next action is performed all the same
                self._runner.log.exception("an action for kernel %s failed", self._runner.name)
                self._runner.pause(_PAUSE_AFTER_BUG)
        self._log_changes()

    def _log_changes(self) -> None:
        state, status = self._protocol.state, self._protocol.kernel_status
        if (state, status) != self._logged:
            self._logged = state, status
            what = str(self._protocol.death or status.value)
            self._runner.log.debug("kernel %s: %s; %s", self._runner.name, state.name, what)

    def _do_next(self) -> None:
        self._fire_timers()
        action = self._next_action()
        if isinstance(action, PollKernel):
            self._polls.append(action)
        elif action is not None:
            self._perform(action)
        elif self._polls:
            self._poll(self._polls.popleft())

    def _fire_timers(self) -> None:
        with self._runner.mutex.plain:
            if self._protocol.next_timer() > monotonic():
                return
        transport = self._transport_info()
        self._runner.event(lambda now: self._protocol.timer_expired(now, transport))

    def _next_action(self) -> Action | None:
        """Return the next action; None if there is none before a timer or a poll is due."""
        with self._runner.mutex.plain:
            due = self._protocol.next_timer()
        left = 0.0 if self._polls else max(0.0, due - monotonic())
        try:
            return self._runner.inbox.get(timeout=Deadline(left).left())
        except Empty:
            return None

    def _perform(self, action: Action) -> None:
        assert not isinstance(action, LogMessage)
        with self._runner.mutex.plain:
            is_current = action.epoch == self._protocol.epoch
            transport = self._reader.transport if is_current else None
        if transport is None:
            return  # it was lost meanwhile
        if isinstance(action, SendRequest):
            try:
                transport.send(action.opcode, action.payload, self._send_timeout)
            except GatewayError as error:
                transport.abort(str(error))  # the reader learns of it, too
        elif isinstance(action, ReportResent):
            self._runner.event(self._protocol.requests_resent, action.epoch)
        elif isinstance(action, SendPing):
            try:
                transport.ping()
            except GatewayError as error:  # the reader learns of it, too
                self._runner.log.debug("kernel %s: %s", self._runner.name, str(error))

    def _poll(self, action: PollKernel) -> None:
        """Ask the gateway for the kernel."""
        try:
            result = poll_result(self._kernel_state())
        except GatewayTimeout:
            result = PollResult.TIMEOUT
        except GatewayError as error:
            self._runner.log.debug(
                "kernel %s: cannot ask for it: %s", self._runner.name, str(error)
            )
            result = PollResult.ERROR
        except Exception:  # the protocol waits for a result
            self._runner.log.exception("kernel %s could not be polled", self._runner.name)
            result = PollResult.ERROR
        self._runner.stay_if_muted()
        self._runner.event(self._protocol.kernel_polled, action, result, self._transport_info())

    def _transport_info(self) -> TransportInfo | None:
        transport = self._reader.transport
        if transport is None:
            return None
        return TransportInfo(
            opened=transport.opened,
            last_received=transport.last_received,
            has_input=transport.has_input(),
            is_acknowledged=transport.is_acknowledged(),
        )
