"""Decisions of a pool of kernels: who gets which kernel, and what to do next (no I/O, no clock).

Events go in, such as a request of a caller or the end of a task, with the time `now`.  Tasks come
out of :meth:`PoolState.next_task`: start a kernel, reset one, end one, look at the idle ones.  The
shell around this (:mod:`.pool_workers`) calls each method under a lock, and performs the tasks
without it.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable

from .errors import PoolClosed, PoolTimeout
from .pool_model import (
    Job,
    Member,
    Phase,
    PoolLimits,
    PoolStats,
    Task,
    Ticket,
    is_permanent,
)
from .timeouts import (
    POOL_END_ATTEMPTS,
    POOL_START_PAUSE,
    POOL_START_PAUSE_MAX,
    POOL_WATCH_INTERVAL,
)

__all__ = ["PoolState"]

_NEVER = float("inf")

_COUNTED = (
    *("checkouts", "queued", "failures", "starts", "start_failures"),
    *("resets", "reset_failures", "found_dead", "left"),
)


class PoolState:
    """The kernels of a pool and the callers that wait for one.

    Requires a lock around each call.

    Parameters
    ----------
    limits : PoolLimits
        The options.
    spread : callable
        ``spread(a, b)`` returns a random number between them, so that not all kernels reach
        `max_age` at once.
    """

    def __init__(
        self, limits: PoolLimits, spread: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.limits = limits
        self._spread = spread
        self._members: list[Member] = []
        self._waiting: list[Ticket] = []  # in the order in which they came
        self._refusal: PoolClosed | None = PoolClosed(
            "the pool is not open yet", advice="use it in a `with` block, or call its open()"
        )
        self._numbers = 0
        self._failed_starts = 0  # in sequence
        self._failed_at = -_NEVER
        self._start_due = 0.0
        self._watch_due = _NEVER
        self.is_closed = False
        self.last_error: Exception | None = None
        """Why a kernel could not be started or reset, until one is started."""
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._wait_seconds = 0.0

    # --- the pool -------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Accept callers, and start kernels.

        Raises
        ------
        PoolClosed
            The pool was closed before.
        """
        if self.is_closed:
            assert self._refusal is not None
            raise self._refusal
        if self._refusal is not None:
            self._refusal, self._watch_due = None, now + POOL_WATCH_INTERVAL

    def close(self, now: float, error: PoolClosed) -> None:
        """Refuse all callers with this error, also those that wait, and end the kernels.

        A kernel that a caller has ends when the caller returns it.
        """
        if self.is_closed:
            return
        self.is_closed, self._refusal = True, error
        for ticket in self._take_all_waiting():
            self._fail(ticket, error)
        for member in self._in(Phase.IDLE, Phase.RESETTING):
            if not member.under_way:
                self._end(member, now)

    @property
    def is_over(self) -> bool:
        """True if the pool is closed and has nothing to do, except for kernels that are lent."""
        return self.is_closed and not self._count(*set(Phase) - {Phase.LENT})

    @property
    def is_warm(self) -> bool:
        """True if at least `min_size` kernels have been started and are ready or in use."""
        warm = self._count(Phase.IDLE, Phase.LENT, Phase.RESETTING)
        return warm >= self.limits.min_size

    @property
    def hopeless(self) -> Exception | None:
        """The error because of which waiting for kernels does not help; None if it may."""
        return self._refusal or self._permanent_error

    @property
    def _permanent_error(self) -> Exception | None:
        """The error because of which no kernel can be started, if there is none at all."""
        error = self.last_error
        if error is None or not self._failed_starts or self._alive:
            return None
        return error if is_permanent(error) else None

    def stats(self) -> PoolStats:
        """Return the figures of this moment."""
        return PoolStats(
            size=len(self._members),
            idle=self._count(Phase.IDLE),
            in_use=self._count(Phase.LENT),
            starting=self._count(Phase.STARTING),
            resetting=self._count(Phase.RESETTING),
            ending=self._count(Phase.ENDING),
            waiting=len(self._waiting),
            wait_seconds=self._wait_seconds,
            **self._counts,
        )

    def timeout_error(self, what: str) -> PoolTimeout:
        """Return the error of a wait whose timeout passed; its cause is the last failure."""
        stats = self.stats()
        phases = {"in use": stats.in_use, "starting": stats.starting, "idle": stats.idle}
        phases |= {"resetting": stats.resetting, "ending": stats.ending}
        known = ", ".join(f"{count} {phase}" for phase, count in phases.items() if count)
        text = f"{what}: the pool has {stats.size} of at most {self.limits.max_size} kernels"
        text += f" ({known})" if known else ""
        if self.last_error is None:
            error = PoolTimeout(text, advice="raise max_size or the timeout")
        else:
            error = PoolTimeout(f"{text}; the last failure: {self.last_error}")
        error.__cause__ = self.last_error
        return error

    # --- callers --------------------------------------------------------------------------------

    def request(self, ticket: Ticket, now: float) -> None:
        """Put a caller into the queue, and serve it if it is its turn."""
        if ticket.is_over or ticket.number:
            return
        self._numbers += 1
        ticket.number, ticket.since = self._numbers, now
        if self._refusal is not None:
            self._fail(ticket, self._refusal)
            return
        self._waiting.append(ticket)
        self._serve(now)
        if ticket.is_waiting:
            self._counts["queued"] += 1

    def accept(self, ticket: Ticket) -> None:
        """Note that the kernel is healthy, and that the caller uses it now."""
        ticket.is_used = True
        self._counts["checkouts"] += 1

    def reject(self, ticket: Ticket, now: float) -> None:
        """Take back a kernel that failed its health check; its caller waits again, in its place."""
        member = ticket.member
        if ticket.is_over or member is None:
            return
        ticket.member, ticket.since = None, now
        self._counts["found_dead"] += 1
        self._give_back(member, now)
        if self._refusal is not None:
            self._fail(ticket, self._refusal)
            return
        insort(self._waiting, ticket, key=lambda each: each.number)
        self._serve(now)

    def cancel(self, ticket: Ticket, error: Exception) -> None:
        """Let a caller fail that waits or is about to wait; one that has a kernel keeps it."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        if ticket.is_waiting:
            ticket.number = ticket.number or -1
            self._fail(ticket, error)

    def release(self, ticket: Ticket, now: float) -> None:
        """End a checkout or a wait: a caller returns its kernel, or gives up."""
        if ticket.is_over:
            return
        ticket.is_over = True
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self._wait_seconds += now - ticket.since
        if not ticket.is_used and ticket.error is None and ticket.number:
            self._counts["failures"] += 1
        if (member := ticket.member) is None:
            return
        if ticket.is_used:
            member.uses += 1
            self._give_back(member, now)
        elif self.is_closed:
            self._end(member, now)
        else:
            self._ready(member, now)

    def _give_back(self, member: Member, now: float) -> None:
        limits = self.limits
        worn = limits.max_uses is not None and member.uses >= limits.max_uses
        if self.is_closed or worn or limits.reset == "new" or now >= member.expires:
            self._end(member, now)
        else:
            member.phase, member.due = Phase.RESETTING, now

    def _ready(self, member: Member, now: float) -> None:
        member.phase, member.idle_since = Phase.IDLE, now
        self._serve(now)

    def _serve(self, now: float) -> None:
        """Give idle kernels to callers; the kernel that was used last, so that others age."""
        while self._waiting and (idle := self._in(Phase.IDLE)):
            member = max(idle, key=lambda each: each.idle_since)
            ticket = self._waiting.pop(0)
            member.phase, ticket.member = Phase.LENT, member
            self._wait_seconds += now - ticket.since
            ticket.wake()

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        ticket.error = error
        self._counts["failures"] += 1
        ticket.wake()

    def _take_all_waiting(self) -> list[Ticket]:
        waiting, self._waiting = self._waiting, []
        return waiting

    # --- tasks ----------------------------------------------------------------------------------

    def next_task(self, now: float) -> Task | None:
        """Return something to do at this moment, or None; each task is returned once.

        Kernels that end come first, because they make room for others.
        """
        self._expire(now)
        for phase, job in ((Phase.ENDING, Job.END), (Phase.RESETTING, Job.RESET)):
            for member in self._in(phase):
                if not member.under_way and member.due <= now:
                    member.under_way = True
                    return Task(job, member)
        if self._next_start() <= now:
            return Task(Job.START, self._new_member(now))
        if self._watch_due <= now and not self.is_closed:
            self._watch_due = now + POOL_WATCH_INTERVAL
            if self._count(Phase.IDLE):
                return Task(Job.WATCH)
        return None

    def next_due(self) -> float:
        """Return when :meth:`next_task` may have something to do, if nothing happens before."""
        times = [self._next_start(), _NEVER if self.is_closed else self._watch_due]
        for member in self._in(Phase.ENDING, Phase.RESETTING):
            if not member.under_way:
                times.append(member.due)
        times.extend(map(self._expiry, self._in(Phase.IDLE)))
        return min(times)

    def _next_start(self) -> float:
        """Return when to start another kernel; infinity if that is not needed or not possible."""
        alive = self._alive
        coming = self._count(Phase.STARTING, Phase.RESETTING, Phase.IDLE)
        # If another start would fail just as well, only a caller is a reason for it.
        least = 0 if self._permanent_error else self.limits.min_size
        wanted = max(least - len(alive), len(self._waiting) - coming)
        if self.is_closed or self._refusal or wanted <= 0:
            return _NEVER
        if len(self._members) >= self.limits.max_size:
            return _NEVER
        starting = self._in(Phase.STARTING)
        if self._failed_starts and starting:
            # One start at a time shows if it is over.  One that hangs does not hold up the others.
            return max(self._start_due, starting[-1].born + POOL_START_PAUSE_MAX)
        return self._start_due

    def _new_member(self, now: float) -> Member:
        self._numbers += 1
        member = Member(self._numbers, now)
        if self.limits.max_age is not None:
            member.expires = now + self.limits.max_age * self._spread(0.9, 1.0)
        self._members.append(member)
        return member

    def _expiry(self, member: Member) -> float:
        """Return when an idle kernel is to end."""
        timeout = self.limits.idle_timeout
        if timeout is None or len(self._alive) <= self.limits.min_size:
            return member.expires
        return min(member.expires, member.idle_since + timeout)

    def _expire(self, now: float) -> None:
        for member in sorted(self._in(Phase.IDLE), key=lambda each: each.idle_since):
            if self._expiry(member) <= now:
                self._end(member, now)

    def _end(self, member: Member, now: float) -> None:
        member.phase, member.due = Phase.ENDING, now

    # --- outcomes -------------------------------------------------------------------------------

    def done(self, task: Task, now: float, error: Exception | None = None) -> None:
        """Note the outcome of a task; `error` is None if it was performed."""
        if (member := task.member) is None:
            return
        member.under_way = False
        if task.job is Job.END:
            self._ended(member, now, error)
        elif error is not None:
            self._end(member, now)
            if not self.is_closed:
                self.last_error = error
                self._failed(task, now)
        else:
            self._succeeded(task.job, member, now)

    def _succeeded(self, job: Job, member: Member, now: float) -> None:
        self._counts["starts" if job is Job.START else "resets"] += 1
        if job is Job.START:
            self._failed_starts, self._start_due = 0, now
        if not self._failed_starts:
            self.last_error = None
        if self.is_closed:
            self._end(member, now)
        else:
            self._ready(member, now)

    def _failed(self, task: Task, now: float) -> None:
        assert task.member is not None
        if task.job is Job.RESET:
            self._counts["reset_failures"] += 1
            return
        self._counts["start_failures"] += 1
        if task.member.born > self._failed_at:  # else it was begun before the failure of another
            pause = POOL_START_PAUSE * 2 ** min(self._failed_starts, 60)
            self._start_due = now + min(pause, POOL_START_PAUSE_MAX) * self._spread(0.8, 1.2)
            self._failed_starts += 1
            self._failed_at = now
        if (error := self._permanent_error) is not None:
            for ticket in self._take_all_waiting():
                self._wait_seconds += now - ticket.since
                self._fail(ticket, error)

    def _ended(self, member: Member, now: float, error: Exception | None) -> None:
        if error is not None:
            member.attempts += 1
            if not self.is_closed and member.attempts < POOL_END_ATTEMPTS:
                pause = POOL_START_PAUSE * 2**member.attempts
                member.due = now + min(pause, POOL_START_PAUSE_MAX)
                return
            self._counts["left"] += 1
        self._members.remove(member)

    def found_dead(self, member: Member, now: float) -> None:
        """Replace an idle kernel that has died; it may be lent or ending by now."""
        if member.phase is Phase.IDLE:
            self._counts["found_dead"] += 1
            self._end(member, now)

    # --- members --------------------------------------------------------------------------------

    @property
    def idle(self) -> list[Member]:
        """The kernels that are ready for a caller."""
        return self._in(Phase.IDLE)

    @property
    def unfinished(self) -> list[Member]:
        """The kernels that a worker is just starting or resetting."""
        return [each for each in self._in(Phase.STARTING, Phase.RESETTING) if each.under_way]

    @property
    def _alive(self) -> list[Member]:
        return [each for each in self._members if each.phase is not Phase.ENDING]

    def _in(self, *phases: Phase) -> list[Member]:
        return [each for each in self._members if each.phase in phases]

    def _count(self, *phases: Phase) -> int:
        return len(self._in(*phases))
