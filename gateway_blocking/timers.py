"""The timers of a :class:`.KernelProtocol` (no I/O, no clock)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

__all__ = ["Timer", "Timers"]

_NEVER = float("inf")


class Timer(Enum):
    """A reason to wake the protocol.  Each timer expires once, and is armed again if needed."""

    PING = "it is time to ping the gateway and to poll the kernel"
    SILENCE = "nothing has been received for too long"
    WRITERS = "threads that were writing when the websocket was lost have not reported"
    PROBE = "the kernel has not answered a question of the connection"
    SETTLE = "everything that was on its way has arrived"
    AUDIT = "replies may be missing although the websocket is open"
    SHUTDOWN_POLL = "it is time to poll a kernel that announced its shutdown"


class Timers:
    """When each timer expires, in seconds on the caller's monotonic clock.

    Parameters
    ----------
    on_arm : callable
        Called when a timer was armed; must not block.
    """

    def __init__(self, on_arm: Callable[[], None]) -> None:
        self._on_arm = on_arm
        self._due = dict.fromkeys(Timer, _NEVER)

    def arm(self, timer: Timer, when: float) -> None:
        """Let a timer expire at `when`, in place of the time before."""
        self._due[timer] = when
        self._on_arm()

    def cancel(self, *timers: Timer) -> None:
        """Disarm timers; all of them if none is named."""
        for timer in timers or Timer:
            self._due[timer] = _NEVER

    def is_armed(self, timer: Timer) -> bool:
        """Return True if a timer has not expired yet."""
        return self._due[timer] != _NEVER

    def next(self) -> float:
        """Return when the next timer expires; infinity if no timer is armed."""
        return min(self._due.values())

    def expired(self, now: float) -> list[Timer]:
        """Return the timers that are due, in the order of their definition."""
        return [timer for timer, when in self._due.items() if when <= now]
