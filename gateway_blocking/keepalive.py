"""Pings, and the silence of a websocket (no I/O, no clock)."""

from __future__ import annotations

from .actions import NO_ACTIONS, Action, Actions, PollKernel, PollReason, SendPing, TransportInfo
from .liveness import PollResult, should_abort
from .timers import Timer, Timers

__all__ = ["Keepalive"]


class Keepalive:
    """Decides when to ping the gateway, to poll the kernel, and to give up a silent websocket.

    Not thread-safe: the protocol serializes the calls.

    Parameters
    ----------
    timers : Timers
        ``PING`` and ``SILENCE`` are this object's.
    interval, timeout : float
        Seconds between pings, and seconds after which a missing answer counts; an interval of 0
        means no pings.
    now : float
        Seconds on the monotonic clock.
    """

    def __init__(self, timers: Timers, interval: float, timeout: float, now: float) -> None:
        self._timers = timers
        self._interval = interval
        self._patience = interval + timeout
        if interval:
            timers.arm(Timer.PING, now + interval)

    def connection_opened(self, now: float) -> None:
        """Begin to watch a new websocket."""
        if self._interval:
            self._timers.arm(Timer.SILENCE, now + self._patience)

    def connection_lost(self) -> None:
        """Stop watching the websocket."""
        self._timers.cancel(Timer.SILENCE)

    def ping(self, epoch: int, now: float, *, is_writable: bool, is_alive: bool) -> Actions:
        """Handle ``PING``.

        Parameters
        ----------
        epoch : int
            Epoch of the current websocket.
        now : float
            Seconds on the monotonic clock.
        is_writable : bool
            Whether the websocket accepts messages.
        is_alive : bool
            Whether the kernel is not known to have ended.  It is polled also while the gateway
            holds a handshake back.
        """
        self._timers.arm(Timer.PING, now + self._interval)
        actions: list[Action] = []
        if is_writable:
            actions.append(SendPing(epoch))
        if is_alive:
            actions.append(PollKernel(epoch, PollReason.PING))
        return actions

    def check(self, epoch: int, transport: TransportInfo, now: float) -> Actions:
        """Handle ``SILENCE``: poll the kernel if nothing was received for too long."""
        limit = transport.last_received + self._patience
        if now < limit:
            self._timers.arm(Timer.SILENCE, limit)
            return NO_ACTIONS
        return (PollKernel(epoch, PollReason.SILENCE),)

    def should_abort(self, result: PollResult, transport: TransportInfo, now: float) -> bool:
        """Return True if the websocket is lost, as the result of that poll tells."""
        self._timers.arm(Timer.SILENCE, now + self._interval)
        return not transport.has_input and should_abort(
            now - transport.last_received,
            result,
            ever_heard=transport.last_received > transport.opened,
            acknowledged=transport.is_acknowledged,
            patience=self._patience,
        )
