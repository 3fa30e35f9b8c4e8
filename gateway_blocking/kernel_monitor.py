"""The status of a kernel, and the effect of its end on the calls that wait (no I/O)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .actions import Sink
from .errors import DeadKernelError
from .liveness import KernelStatus, PollResult, status_from_message
from .messages import Message
from .outcomes import death
from .requests_table import RequestTable
from .timers import Timer, Timers

__all__ = ["KernelMonitor"]

_SHUTDOWN_POLL_INTERVAL = 0.25  # seconds
_SHUTDOWN_POLLS = 20  # of a kernel that announced its shutdown, before it counts as alive again


class KernelMonitor:
    """The status of a kernel, from its messages and from the gateway.

    Not thread-safe: the protocol serializes the calls.

    Parameters
    ----------
    name : str
        ID of the kernel, used in texts.
    sinks : mapping of str to Sink
        The channels that are told of the kernel's end.
    requests : RequestTable
        The requests in flight.
    timers : Timers
        ``SHUTDOWN_POLL`` is this object's.
    on_change : callable
        Called when the kernel's end is known, or no longer holds; must not block.
    """

    def __init__(
        self,
        name: str,
        sinks: Mapping[str, Sink],
        requests: RequestTable,
        timers: Timers,
        on_change: Callable[[], None],
    ) -> None:
        self.status = KernelStatus.ALIVE
        self.death: DeadKernelError | None = None
        """Error of every call that waits for a kernel which will not reply."""
        self.revivals = 0
        """Number of calls of :meth:`revive`: an earlier poll tells of an earlier process."""
        self._name = name
        self._sinks = sinks
        self._requests = requests
        self._timers = timers
        self._on_change = on_change
        self._polls_left = 0

    def ended(self, status: KernelStatus, text: str = "") -> None:
        """Fail all pending requests because the kernel will not reply.

        Parameters
        ----------
        status : KernelStatus
            Status of the kernel from now on.
        text : str, optional
            Text of the error, if more is known than the status says.
        """
        was_heard = self._requests.incarnation is not None
        was_known = self.status is status
        error = self.death if was_known and not text else None
        error = error or death(self._name, status, text, was_heard=was_heard)
        # First: an interruption must not make callers wait for ever.  The next call repeats it.
        for request in self._requests.outstanding():
            self._sinks[request.channel].request_failed(request.msg_id, error)
        if not was_known:
            for sink in self._sinks.values():
                sink.kernel_died(error)
        self._requests.end_incarnation()
        self.death, self.status = error, status
        self._timers.cancel(Timer.SHUTDOWN_POLL)
        if not was_known:
            self._on_change()

    def revive(self) -> None:
        """Trust the kernel again, whatever was heard of it before."""
        self.status, self.death = KernelStatus.ALIVE, None
        self.revivals += 1
        for sink in self._sinks.values():
            sink.revive()
        self._on_change()

    def status_received(self, message: Message, incarnation: str | None, now: float) -> None:
        """See what a message says of the kernel process that was known until now."""
        status = status_from_message(message, incarnation)
        if status is KernelStatus.SHUTTING_DOWN:
            self._expect_shutdown(now)
        elif status is not None:
            self.ended(status)

    def polled(self, result: PollResult, now: float) -> None:
        """See what the gateway's response to any poll says."""
        if result is PollResult.DEAD:
            self.ended(KernelStatus.DEAD)
        elif result is PollResult.GONE:
            self._expect_shutdown(now)  # and poll again: another gateway may have responded

    def _expect_shutdown(self, now: float) -> None:
        """Have the gateway polled several times until it is clear whether the kernel is gone."""
        if self.status is KernelStatus.ALIVE:
            self.status = KernelStatus.SHUTTING_DOWN
            self._polls_left = _SHUTDOWN_POLLS
            self._timers.arm(Timer.SHUTDOWN_POLL, now)

    def shutdown_polled(self, result: PollResult, now: float) -> None:
        """See whether a kernel that announced its shutdown is gone."""
        if self.status is not KernelStatus.SHUTTING_DOWN:
            return
        self._polls_left -= 1
        if result in (PollResult.GONE, PollResult.DEAD):
            self.ended(KernelStatus.GONE)
        elif self._polls_left:
            self._timers.arm(Timer.SHUTDOWN_POLL, now + _SHUTDOWN_POLL_INTERVAL)
        else:
            self.status = KernelStatus.ALIVE
