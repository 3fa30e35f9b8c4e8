"""The things that the decisions of a pool are about: limits, kernels, callers, tasks (no I/O)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, get_args

from .errors import (
    DeadKernelError,
    GatewayConnectionError,
    GatewayFull,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernelSpec,
)

__all__ = [
    "Job",
    "Member",
    "Phase",
    "PoolLimits",
    "PoolStats",
    "Reset",
    "Task",
    "Ticket",
    "is_permanent",
]

Reset = Literal["restart", "new"]

_NEVER = float("inf")


@dataclass(frozen=True)
class PoolLimits:
    """The options of a pool that concern its size and the life of its kernels.

    Raises
    ------
    TypeError, ValueError
        An option is not a number, is out of its range, or has an unknown value.
    """

    min_size: int = 2
    max_size: int = 8
    max_uses: int | None = None
    max_age: float | None = None
    idle_timeout: float | None = None
    reset: Reset | None = "restart"

    def __post_init__(self) -> None:
        for name, least in (("min_size", 0), ("max_size", 1), ("max_uses", 1)):
            value = getattr(self, name)
            if name == "max_uses" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}")
        if self.max_size < self.min_size:
            raise ValueError(
                f"max_size must be at least min_size ({self.min_size}), got {self.max_size}"
            )
        for name in ("max_age", "idle_timeout"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} must be a number of seconds, got {value!r}")
            if not value > 0:  # a NaN is not
                raise ValueError(f"{name} must be more than 0 seconds, got {value!r}")
        if self.reset is not None and self.reset not in get_args(Reset):
            raise ValueError(f"reset must be 'restart', 'new' or None, got {self.reset!r}")


class Phase(Enum):
    """Phase in the life of a kernel of the pool."""

    STARTING = "it starts, and runs the setup code"
    IDLE = "it is ready for a caller"
    LENT = "a caller has it"
    RESETTING = "it came back, and is made ready again"
    ENDING = "it is shut down"


@dataclass(eq=False)
class Member:
    """A kernel of the pool, as the state sees it."""

    number: int
    born: float
    expires: float = _NEVER
    phase: Phase = Phase.STARTING
    uses: int = 0
    idle_since: float = 0.0
    under_way: bool = True
    """True while a worker performs a task with it."""
    due: float = 0.0
    """The time of its next task."""
    attempts: int = 0
    """Number of failed attempts to end it."""


class Ticket:
    """The place of one caller in the queue, and then its kernel.

    Parameters
    ----------
    wake : callable
        Wakes the caller; must not block.
    """

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self.wake = wake
        self.number = 0
        """The place in the queue, which the caller keeps if its kernel turns out to be dead."""
        self.since = 0.0
        self.member: Member | None = None
        self.error: Exception | None = None
        self.is_used = self.is_over = False

    @property
    def is_waiting(self) -> bool:
        """True if there is neither a kernel nor an error yet."""
        return self.member is None and self.error is None


class Job(Enum):
    """Kind of a task."""

    START = "start a kernel"
    RESET = "reset a kernel"
    END = "shut a kernel down"
    WATCH = "find idle kernels that have died"


class Task(NamedTuple):
    """Something to do outside the lock; :meth:`PoolState.done` reports the outcome."""

    job: Job
    member: Member | None = None


@dataclass(frozen=True)
class PoolStats:
    """Figures of a pool: the first ones at this moment, the others since it was opened.

    Attributes
    ----------
    size, idle, in_use, starting, resetting, ending : int
        Number of kernels, in all and by what they do.
    waiting : int
        Number of callers that wait for a kernel.
    checkouts : int
        Number of times that a caller got a kernel.
    queued : int
        Number of callers that had to wait.
    wait_seconds : float
        Seconds that callers have waited, in all.
    failures : int
        Number of callers that got no kernel: after a timeout, an error or a Ctrl-C.
    starts, start_failures : int
        Number of kernels that were started, and of attempts that failed.
    resets : int
        Number of kernels that came back and were made ready again.
    reset_failures : int
        Number of kernels that were replaced because they could not be made ready again.
    found_dead : int
        Number of kernels that turned out to be dead, or did not respond, when a caller or the pool
        looked at them.
    left : int
        Number of kernels that could not be shut down.  They end with this process.
    """

    size: int = 0
    idle: int = 0
    in_use: int = 0
    starting: int = 0
    resetting: int = 0
    ending: int = 0
    waiting: int = 0
    checkouts: int = 0
    queued: int = 0
    wait_seconds: float = 0.0
    failures: int = 0
    starts: int = 0
    start_failures: int = 0
    resets: int = 0
    reset_failures: int = 0
    found_dead: int = 0
    left: int = 0


def is_permanent(error: BaseException) -> bool:
    """Return True if another attempt to start a kernel would fail in the same way."""
    if isinstance(error, GatewayFull | NoSuchKernelSpec):
        return isinstance(error, NoSuchKernelSpec)  # whose status is 500 on most servers
    if isinstance(error, GatewayHTTPError) and not isinstance(error, DeadKernelError):
        return error.status_code < 500 and error.status_code not in (404, 408, 429)
    return not isinstance(error, GatewayConnectionError | GatewayTimeout | DeadKernelError)
