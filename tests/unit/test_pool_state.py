"""The decisions of a pool of kernels, with a time of the tests' own."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway_blocking import (
    DeadKernelError,
    ExecutionError,
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    GatewayHTTPError,
    GatewayTimeout,
    KernelGone,
    NoSuchKernel,
    NoSuchKernelSpec,
    PoolClosed,
    PoolSetupFailed,
)
from gateway_blocking.pool_model import Job, Member, PoolLimits, Task, Ticket, is_permanent
from gateway_blocking.pool_state import PoolState

AWAY, WRONG = GatewayConnectionError("away"), PoolSetupFailed("wrong")


def opened(**limits: Any) -> PoolState:
    """Return the state of a pool that was opened at time 0; nothing is random."""
    state = PoolState(PoolLimits(**{"min_size": 1, "max_size": 2, **limits}), lambda a, b: b)
    state.open(0.0)
    return state


def perform(state: PoolState, now: float, error: Exception | None = None) -> list[Job]:
    """Perform all tasks of this moment, with this outcome; return their kinds."""
    jobs = []
    while (task := state.next_task(now)) is not None:
        state.done(task, now, error)
        jobs.append(task.job)
    return jobs


def ask(state: PoolState, now: float = 0.0) -> Ticket:
    """Let a caller ask for a kernel."""
    ticket = Ticket()
    state.request(ticket, now)
    return ticket


def use(state: PoolState, now: float = 0.0) -> Ticket:
    """Let a caller use a kernel; there must be an idle one."""
    ticket = ask(state, now)
    assert ticket.member is not None
    state.accept(ticket)
    return ticket


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        ({"min_size": -1}, ValueError, "min_size must be at least 0, got -1"),
        ({"max_size": 0, "min_size": 0}, ValueError, "max_size must be at least 1, got 0"),
        ({"min_size": 9}, ValueError, r"max_size must be at least min_size \(9\), got 8"),
        ({"min_size": 1.5}, TypeError, "min_size must be a whole number, got 1.5"),
        ({"max_size": None}, TypeError, "max_size must be a whole number, got None"),
        ({"max_size": True}, TypeError, "max_size must be a whole number, got True"),
        ({"max_uses": 0}, ValueError, "max_uses must be at least 1, got 0"),
        ({"max_age": 0}, ValueError, "max_age must be more than 0 seconds, got 0"),
        ({"max_age": float("nan")}, ValueError, "max_age must be more than 0 seconds, got nan"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout must be a number of seconds, got '1'"),
        ({"reset": "reuse"}, ValueError, "reset must be 'restart', 'new' or None, got 'reuse'"),
    ],
)
def test_limits_that_are_not_valid_are_an_error(
    limits: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The text names the option, what it must be, and its value."""
    with pytest.raises(error, match=f"^{text}$"):
        PoolLimits(**limits)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (PoolSetupFailed("x"), True),
        (ExecutionError("NameError", "x"), True),
        (NoSuchKernelSpec("x", status_code=500), True),
        (NoSuchKernelSpec("x", status_code=404), True),
        (GatewayAuthError("x", status_code=401), True),
        (GatewayAuthError("x", status_code=403), True),
        (GatewayHTTPError("x", status_code=400), True),
        (TypeError("x"), True),
        (GatewayError("x"), True),
        (GatewayFull("x", status_code=403), False),
        (GatewayHTTPError("x", status_code=429), False),
        (GatewayHTTPError("x", status_code=503), False),
        (NoSuchKernel("x", status_code=404), False),
        (KernelGone("x"), False),
        (DeadKernelError("x"), False),
        (GatewayTimeout("x"), False),
        (GatewayConnectionError("x"), False),
    ],
)
def test_is_permanent_tells_if_waiting_helps(error: Exception, permanent: bool) -> None:
    """A gateway that is away, full or slow may start a kernel later; wrong code stays wrong."""
    assert is_permanent(error) is permanent


# --- the size -------------------------------------------------------------------------------------


def test_a_pool_that_is_opened_starts_its_least_number_of_kernels() -> None:
    """Not before it is opened, and no more than that."""
    state = PoolState(PoolLimits(2, 4))
    assert state.next_task(0.0) is None
    state.open(0.0)
    assert perform(state, 0.0) == [Job.START, Job.START]
    assert state.is_warm
    assert state.stats().idle == 2


def test_a_pool_grows_by_the_callers_that_wait_and_no_further() -> None:
    """Each caller without a kernel is a reason to start one, up to the largest number."""
    state = opened(min_size=1, max_size=3)
    tickets = [ask(state) for _ in range(5)]
    assert [task.job for task in iter(lambda: state.next_task(0.0), None)] == [Job.START] * 3
    assert all(ticket.is_waiting for ticket in tickets)


def test_a_kernel_that_ends_counts_until_it_is_gone() -> None:
    """There are never more kernels than `max_size`, not even for a moment."""
    state = opened(min_size=1, max_size=1, reset="new")
    perform(state, 0.0)
    state.release(use(state), 1.0)
    task = state.next_task(1.0)
    assert task is not None
    assert task.job is Job.END
    assert state.next_task(1.0) is None
    state.done(task, 2.0)
    assert perform(state, 2.0) == [Job.START]


def test_an_idle_kernel_ends_after_its_timeout_and_the_least_number_stays() -> None:
    """The kernels that were used last stay."""
    state = opened(min_size=1, max_size=2, idle_timeout=10.0, reset=None)
    tickets = [ask(state), ask(state)]
    perform(state, 0.0)
    for now, ticket in enumerate(tickets, 1):
        state.accept(ticket)
        state.release(ticket, float(now))
        perform(state, float(now))
    assert perform(state, 10.9) == [Job.WATCH]
    assert Job.END in perform(state, 11.0)
    assert perform(state, 1000.0) == [Job.WATCH]
    assert state.stats().idle == 1


def test_an_old_kernel_is_replaced_when_it_is_idle_or_returned() -> None:
    """A caller keeps its kernel, however old that is."""
    state = opened(min_size=1, max_size=2, max_age=10.0, reset=None)
    perform(state, 0.0)
    ticket = use(state)
    assert Job.END not in perform(state, 20.0)
    state.release(ticket, 20.0)
    assert perform(state, 20.0) == [Job.END, Job.START]
    assert perform(state, 30.0) == [Job.END, Job.START, Job.WATCH]


def test_kernels_of_one_age_are_not_replaced_at_the_same_moment() -> None:
    """Each gets its own share of `max_age`."""
    factors = iter([0.9, 1.0])
    state = PoolState(PoolLimits(2, 2, max_age=100.0), lambda a, b: next(factors))
    state.open(0.0)
    perform(state, 0.0)
    assert state.next_due() == 5.0  # the first look at the idle kernels
    perform(state, 5.0)
    assert Job.END not in perform(state, 89.0)
    task = state.next_task(90.0)
    assert task is not None
    assert task.job is Job.END
    assert state.stats().idle == 1


# --- what happens to a kernel that comes back -----------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "jobs"),
    [
        ({"reset": "restart"}, [Job.RESET]),
        ({"reset": None}, [Job.RESET]),
        ({"reset": "new"}, [Job.END, Job.START]),
        ({"max_uses": 1}, [Job.END, Job.START]),
        ({"max_uses": 2}, [Job.RESET]),
    ],
)
def test_a_returned_kernel_is_reset_or_replaced(limits: dict[str, Any], jobs: list[Job]) -> None:
    """As the options say; a kernel that has had its last caller is replaced."""
    state = opened(**limits)
    perform(state, 0.0)
    state.release(use(state), 1.0)
    assert perform(state, 1.0) == jobs
    assert state.stats().idle == 1


def test_a_kernel_that_cannot_be_reset_is_replaced() -> None:
    """Its caller is served by the new one."""
    state = opened(min_size=1, max_size=1)
    perform(state, 0.0)
    state.release(use(state), 1.0)
    later = ask(state, 1.0)
    task = state.next_task(1.0)
    assert task is not None
    state.done(task, 1.0, DeadKernelError("dead"))
    assert perform(state, 1.0) == [Job.END, Job.START]
    assert later.member is not None
    assert state.stats().reset_failures == 1


def test_a_kernel_that_was_not_used_needs_no_reset() -> None:
    """A caller that gives up while it gets a kernel passes it on."""
    state = opened(min_size=1, max_size=1)
    perform(state, 0.0)
    first, second = ask(state), ask(state)
    state.release(first, 1.0)
    assert second.member is not None
    assert state.stats().resets == 0


def test_an_idle_kernel_that_died_is_replaced() -> None:
    """Only if no caller has got it since the pool looked."""
    state = opened(min_size=1, max_size=1)
    perform(state, 0.0)
    (member,) = state.idle
    ticket = use(state)
    state.found_dead(member, 1.0)
    assert perform(state, 1.0) == []
    state.release(ticket, 1.0)
    perform(state, 1.0)
    state.found_dead(member, 2.0)
    assert perform(state, 2.0) == [Job.END, Job.START]
    assert state.stats().found_dead == 1


# --- callers --------------------------------------------------------------------------------------


def test_callers_are_served_in_the_order_in_which_they_came() -> None:
    """Also if one of them gives up."""
    state = opened(min_size=1, max_size=1, reset=None)
    tickets = [ask(state) for _ in range(4)]
    state.release(tickets[1], 0.0)
    perform(state, 0.0)
    for number in (0, 2, 3):
        assert tickets[number].member is not None
        state.accept(tickets[number])
        state.release(tickets[number], 1.0)
        perform(state, 1.0)


def test_a_caller_whose_kernel_is_dead_keeps_its_place() -> None:
    """It waits again, before those that came later."""
    state = opened(min_size=1, max_size=1)
    perform(state, 0.0)
    first, second = ask(state), ask(state)
    state.reject(first, 1.0)
    assert first.is_waiting
    perform(state, 1.0)
    assert first.member is not None
    assert second.is_waiting


def test_the_kernel_that_was_used_last_is_given_first() -> None:
    """So that the others reach their timeout."""
    state = opened(min_size=2, max_size=2, reset=None)
    perform(state, 0.0)
    used = [use(state), use(state)]
    for now, ticket in enumerate(reversed(used), 1):
        state.release(ticket, float(now))
        perform(state, float(now))
    assert use(state, 3.0).member is used[0].member


def test_a_caller_that_is_woken_has_a_kernel_or_an_error() -> None:
    """The wake is called in the change, and sees its result."""
    woken = []
    state = opened(min_size=0, max_size=1)
    tickets = [Ticket(lambda n=n: woken.append((n, tickets[n].is_waiting))) for n in (0, 1)]
    for ticket in tickets:
        state.request(ticket, 0.0)
    perform(state, 0.0)
    state.close(1.0, PoolClosed("closed"))
    assert woken == [(0, False), (1, False)]


def test_a_request_that_comes_after_its_own_end_is_nothing() -> None:
    """A Ctrl-C may overtake the request, which is made in another thread."""
    state = opened(min_size=1, max_size=1)
    ticket = Ticket()
    state.release(ticket, 0.0)
    state.request(ticket, 0.0)
    perform(state, 0.0)
    assert state.stats().waiting == 0
    assert state.stats().idle == 1


def test_a_cancelled_caller_fails_and_one_with_a_kernel_keeps_it() -> None:
    """It fails if it waits, and also if it is about to wait."""
    state = opened(min_size=1, max_size=1)
    waiting, unknown = ask(state), Ticket()
    error = PoolClosed("cancelled")
    state.cancel(waiting, error)
    state.cancel(unknown, error)
    state.request(unknown, 0.0)
    assert waiting.error is unknown.error is error
    perform(state, 0.0)
    user = use(state)
    state.cancel(user, error)
    assert user.error is None


# --- failures -------------------------------------------------------------------------------------


def next_start(state: PoolState, now: float) -> tuple[float, Task]:
    """Perform everything until the next start is due; return when that is, and the start."""
    while True:
        task = state.next_task(now)
        if task is None:
            now = state.next_due()
        elif task.job is Job.START:
            return now, task
        else:
            state.done(task, now)


def test_after_failures_one_start_at_a_time_is_tried_ever_later() -> None:
    """From half a second up to ten, and up to a fifth more; a success ends that."""
    state = opened(min_size=2, max_size=4)
    for task in [state.next_task(0.0), state.next_task(0.0)]:
        assert task is not None
        state.done(task, 0.0, AWAY)
    now, pauses = 0.0, []
    for _ in range(7):
        due, task = next_start(state, now)
        pauses.append(due - now)
        now = due
        assert (other := state.next_task(now)) is None or other.job is Job.WATCH
        state.done(task, now, AWAY)
    assert pauses == pytest.approx([0.6, 1.2, 2.4, 4.8, 9.6, 12.0, 12.0])
    perform(state, now + 20)
    assert state.stats().idle == 2


def test_a_start_that_hangs_holds_up_no_other_for_long() -> None:
    """After a failure, another one is tried beside it after ten seconds."""
    state = opened(min_size=0, max_size=3)
    tickets = [ask(state) for _ in range(3)]
    perform(state, 0.0, AWAY)
    now, hangs = next_start(state, 0.0)
    later, other = next_start(state, now)
    assert later == now + 10
    state.done(other, later)
    assert [ticket.is_waiting for ticket in tickets] == [False, True, True]
    assert [job for job in perform(state, later) if job is Job.START] == [Job.START]
    state.done(hangs, later)
    assert not tickets[2].is_waiting


def test_callers_wait_for_a_gateway_that_is_away() -> None:
    """The timeout of the caller tells of the last failure, which is the cause."""
    state = opened()
    ticket = ask(state)
    perform(state, 0.0, AWAY)
    assert ticket.is_waiting
    error = state.timeout_error("no kernel was free within 3 s")
    assert error.__cause__ is AWAY
    assert str(error).startswith("no kernel was free within 3 s: the pool has ")
    assert str(error).endswith("; the last failure: away")


def test_the_timeout_of_a_busy_pool_says_what_its_kernels_do() -> None:
    """And what helps."""
    state = opened(min_size=2, max_size=2)
    perform(state, 0.0)
    use(state)
    state.release(use(state), 0.0)
    assert str(state.timeout_error("no kernel was free within 3 s")) == (
        "no kernel was free within 3 s: the pool has 2 of at most 2 kernels (1 in use, 1 resetting)"
        "; raise max_size or the timeout"
    )


def test_an_error_that_stays_fails_all_callers_if_there_is_no_kernel() -> None:
    """The next caller is a reason to try again, and nothing else is."""
    state = opened(min_size=1, max_size=1)
    tickets = [ask(state), ask(state)]
    task = state.next_task(0.0)
    assert task is not None
    state.done(task, 0.0, WRONG)
    assert [ticket.error for ticket in tickets] == [WRONG, WRONG]
    assert state.hopeless is WRONG
    assert perform(state, 0.0) == [Job.END]
    assert Job.START not in perform(state, 1000.0)
    ticket = ask(state, 1000.0)
    assert perform(state, 1000.0) == [Job.START]
    assert ticket.member is not None
    assert state.hopeless is None


def test_an_error_that_stays_leaves_callers_of_other_kernels_alone() -> None:
    """A kernel that is in use comes back some time."""
    state = opened(min_size=1, max_size=2)
    perform(state, 0.0)
    user, waiting = use(state), ask(state)
    task = state.next_task(0.0)
    assert task is not None
    state.done(task, 0.0, WRONG)
    assert waiting.is_waiting
    state.release(user, 0.1)
    perform(state, 0.1)
    assert waiting.member is not None


def test_a_kernel_that_cannot_be_shut_down_is_tried_again_and_then_left() -> None:
    """It counts meanwhile, so that the gateway does not get too many kernels."""
    state = opened(min_size=1, max_size=1, reset="new")
    perform(state, 0.0)
    state.release(use(state), 0.0)
    now, attempts = 0.0, 0
    while state.stats().ending:
        task = state.next_task(now)
        if task is None:
            now = state.next_due()
        elif task.job is Job.END:
            attempts += 1
            assert state.stats().size == 1
            state.done(task, now, AWAY)
        else:
            state.done(task, now)
    assert attempts == 20
    assert 120 < now < 240
    assert state.stats().left == 1
    assert Job.START in perform(state, now)


# --- open and close -------------------------------------------------------------------------------


def test_a_pool_that_is_not_open_refuses_callers() -> None:
    """The text says what to do."""
    state = PoolState(PoolLimits())
    assert str(ask(state).error) == (
        "the pool is not open yet; use it in a `with` block, or call its open()"
    )


def test_close_fails_those_who_wait_and_ends_what_is_idle() -> None:
    """A kernel in use ends when it is returned; then the pool is over."""
    state = opened(min_size=2, max_size=2)
    perform(state, 0.0)
    user = use(state)
    state.release(use(state), 0.0)
    waiting, closed = ask(state), PoolClosed("closed")
    state.close(1.0, closed)
    assert waiting.error is closed
    assert perform(state, 1.0) == [Job.END]
    assert state.is_over
    assert ask(state).error is closed
    state.release(user, 2.0)
    assert not state.is_over
    assert perform(state, 2.0) == [Job.END]
    assert state.is_over
    with pytest.raises(PoolClosed, match="^closed$"):
        state.open(3.0)


def test_a_kernel_that_is_just_starting_ends_after_a_close() -> None:
    """And its failure is no failure of the pool."""
    state = opened(min_size=2, max_size=2)
    tasks = [state.next_task(0.0), state.next_task(0.0)]
    state.close(0.0, PoolClosed("closed"))
    assert len(state.unfinished) == 2
    for task, error in zip(tasks, (None, AWAY), strict=True):
        assert task is not None
        state.done(task, 1.0, error)
    assert state.last_error is None
    assert perform(state, 1.0) == [Job.END, Job.END]
    assert state.is_over


# --- anything in any order ------------------------------------------------------------------------

OUTCOMES = st.sampled_from([None, None, None, AWAY, WRONG, GatewayFull("full", status_code=403)])


class Pool(RuleBasedStateMachine):
    """Callers, workers, failures and the clock, in any order."""

    @initialize(
        limits=st.builds(
            PoolLimits,
            st.integers(0, 2),
            st.integers(2, 3),
            max_uses=st.sampled_from([None, 1, 2]),
            max_age=st.sampled_from([None, 20.0]),
            idle_timeout=st.sampled_from([None, 7.0]),
            reset=st.sampled_from(["restart", "new", None]),
        )
    )
    def begin(self, limits: PoolLimits) -> None:
        """Open a pool."""
        self.limits, self.now = limits, 0.0
        self.state = PoolState(limits, lambda a, b: (a + b) / 2)
        self.state.open(0.0)
        self.tickets: list[Ticket] = []
        self.tasks: list[Task] = []
        self.alive: dict[Member, bool] = {}  # on the gateway: whether a worker is busy with it
        self.served: list[Ticket] = []

    # --- callers

    @rule(number=st.integers(1, 3))
    def ask(self, number: int) -> None:
        """Let callers come."""
        for _ in range(number):
            ticket = Ticket()
            ticket.wake = partial(self.served.append, ticket)
            self.tickets.append(ticket)
            self.state.request(ticket, self.now)

    @rule()
    def give_up_before(self) -> None:
        """Let a Ctrl-C overtake a request."""
        ticket = Ticket()
        self.state.release(ticket, self.now)
        self.state.request(ticket, self.now)

    def _held(self, used: bool) -> list[Ticket]:
        return [t for t in self.tickets if t.member is not None and t.is_used is used]

    @precondition(lambda self: self._held(used=False))
    @rule(data=st.data(), healthy=st.booleans())
    def check(self, data: st.DataObject, healthy: bool) -> None:
        """Let a caller check its kernel."""
        ticket = data.draw(st.sampled_from(self._held(used=False)))
        if healthy:
            self.state.accept(ticket)
        else:
            self.state.reject(ticket, self.now)

    @precondition(lambda self: self._held(used=True))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """Let a caller return the kernel that it has used."""
        ticket = data.draw(st.sampled_from(self._held(used=True)))
        self.state.release(ticket, self.now)
        self.tickets.remove(ticket)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Let a caller return its kernel, give up, or hear of its error."""
        ticket = data.draw(st.sampled_from(self.tickets))
        self.state.release(ticket, self.now)
        self.state.release(ticket, self.now)  # as after a Ctrl-C
        self.tickets.remove(ticket)

    @precondition(lambda self: len(self.tickets) > 2)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Let a wait be cancelled."""
        ticket = data.draw(st.sampled_from(self.tickets))
        self.state.cancel(ticket, PoolClosed("cancelled"))

    # --- workers

    @precondition(lambda self: len(self.tasks) < 3)
    @rule()
    def take(self) -> None:
        """Let a worker take a task."""
        task = self.state.next_task(self.now)
        if task is None:
            due = self.state.next_due()
            assert due > self.now, "it says that there is something to do, and there is not"
            if due < float("inf"):
                assert self.state.next_task(self.now + (due - self.now) * 0.99) is None
            return
        assert not (self.state.is_closed and task.job is Job.START)
        self._begin_task(task)

    def _begin_task(self, task: Task) -> None:
        if task.member is not None:
            if task.job is Job.START:
                assert task.member not in self.alive
            else:
                assert self.alive[task.member] is False, "two workers have one kernel"
            assert all(each.member is not task.member for each in self.tickets if not each.is_over)
            self.alive[task.member] = True
        self.tasks.append(task)

    @rule()
    def work(self) -> None:
        """Let a worker do everything that is to be done at this moment."""
        while (task := self.state.next_task(self.now)) is not None:
            self._begin_task(task)
            self.tasks.remove(task)
            self._end_task(task, None)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), outcome=OUTCOMES)
    def finish(self, data: st.DataObject, outcome: Exception | None) -> None:
        """Let a worker report."""
        task = data.draw(st.sampled_from(self.tasks))
        self.tasks.remove(task)
        self._end_task(task, outcome)

    def _end_task(self, task: Task, outcome: Exception | None) -> None:
        left = self.state.stats().left
        self.state.done(task, self.now, outcome)
        if task.member is None:
            return
        self.alive[task.member] = False
        if task.job is Job.END and (outcome is None or self.state.stats().left > left):
            del self.alive[task.member]

    @precondition(lambda self: self.state.idle)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Let the pool see that an idle kernel has died."""
        self.state.found_dead(data.draw(st.sampled_from(self.state.idle)), self.now)

    # --- the pool

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @precondition(lambda self: len(self.tickets) > 3)
    @rule()
    def close(self) -> None:
        """Close the pool."""
        self.state.close(self.now, PoolClosed("closed"))

    # --- what always holds

    @invariant()
    def sizes_fit(self) -> None:
        """Never more kernels than allowed, and each is in one place."""
        stats = self.state.stats()
        assert stats.size == len(self.alive) <= self.limits.max_size
        parts = (stats.idle, stats.in_use, stats.starting, stats.resetting, stats.ending)
        assert sum(parts) == stats.size
        lent = [each.member for each in self.tickets if each.member is not None]
        assert len(set(lent)) == len(lent) == stats.in_use
        uses = self.limits.max_uses
        assert all(m.uses < uses for m in lent if uses is not None)

    @invariant()
    def the_queue_is_fair(self) -> None:
        """No caller waits beside an idle kernel, or is overtaken."""
        waiting = [each for each in self.tickets if each.is_waiting]
        assert self.state.stats().waiting == len(waiting)
        assert not (waiting and self.state.stats().idle)
        assert not (waiting and self.state.is_closed)
        for ticket in self.served:
            if ticket.error is None and ticket.member is not None:
                assert all(ticket.number < each.number for each in waiting)
        self.served.clear()

    def teardown(self) -> None:
        """Let everything succeed from now on: every caller is served, and nothing is left."""
        if not hasattr(self, "state"):
            return
        self._settle()
        for _ in range(len(self.tickets)):
            ready = [each for each in self.tickets if not each.is_waiting]
            assert ready, "callers wait, and nothing happens any more"
            for ticket in ready:
                if ticket.member is not None and not ticket.is_used:
                    self.state.accept(ticket)
                self.state.release(ticket, self.now)
                self.tickets.remove(ticket)
            self._settle()
            if not self.tickets:
                break
        stats = self.state.stats()
        assert not stats.waiting
        assert self.state.is_closed or self.state.hopeless or stats.idle >= self.limits.min_size
        self.state.close(self.now, PoolClosed("closed"))
        self._settle()
        assert self.state.is_over
        assert not self.alive

    def _settle(self) -> None:
        for _ in range(100):
            while self.tasks:
                self._end_task(self.tasks.pop(), None)
            if (task := self.state.next_task(self.now)) is not None:
                self._begin_task(task)
            elif self.state.next_due() < self.now + (60.0 if self.state.stats().waiting else 5.0):
                self.now = self.state.next_due()
            else:
                return


def test_a_pool_serves_everyone_whatever_happens() -> None:
    """No kernel too many, none twice, none left; no caller is overtaken or forgotten."""
    run_state_machine_as_test(Pool, settings=settings(stateful_step_count=30))
