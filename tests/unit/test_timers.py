"""Timers: when the next one expires, and which do."""

from __future__ import annotations

from math import inf

from gateway_blocking.timers import Timer, Timers


def test_next_is_the_earliest_of_all_timers() -> None:
    """The second thread sleeps until then."""
    timers = Timers(lambda: None)
    assert timers.next() == inf
    timers.arm(Timer.PING, 10.0)
    timers.arm(Timer.PROBE, 2.0)
    assert timers.next() == 2.0
    timers.cancel(Timer.PROBE)
    assert timers.next() == 10.0


def test_arm_replaces_the_time_and_calls_the_hook() -> None:
    """A thread that sleeps until the later time has to be woken."""
    armed: list[float] = []
    timers = Timers(lambda: armed.append(timers.next()))
    timers.arm(Timer.SETTLE, 5.0)
    timers.arm(Timer.SETTLE, 3.0)
    assert armed == [5.0, 3.0]


def test_expired_has_all_that_are_due_in_the_order_of_their_definition() -> None:
    """A timer that is due at this very moment counts; the later ones stay armed."""
    timers = Timers(lambda: None)
    timers.arm(Timer.AUDIT, 1.0)
    timers.arm(Timer.WRITERS, 2.0)
    timers.arm(Timer.SHUTDOWN_POLL, 2.1)
    assert timers.expired(2.0) == [Timer.WRITERS, Timer.AUDIT]
    assert timers.is_armed(Timer.SHUTDOWN_POLL)


def test_cancel_without_a_name_disarms_every_timer() -> None:
    """A connection that is closed wakes its thread no more."""
    timers = Timers(lambda: None)
    for timer in Timer:
        timers.arm(timer, 1.0)
    timers.cancel()
    assert timers.next() == inf
    assert not any(timers.is_armed(timer) for timer in Timer)
