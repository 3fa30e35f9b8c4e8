"""Deadlines: a time-out that several steps share."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from gateway_blocking.deadline import Deadline


def test_it_counts_down_and_passes() -> None:
    """The time that is left shrinks, is never negative, and is 0 at the deadline."""
    deadline = Deadline(0.05)
    first = deadline.left()
    time.sleep(0.01)
    second = deadline.left()
    assert first is not None
    assert second is not None
    assert 0 <= second < first <= 0.05
    time.sleep(0.06)
    assert deadline.left() == 0.0
    assert deadline.passed()


def test_a_long_one_has_not_passed() -> None:
    """Before its moment it has not passed, and remembers what it was made from."""
    deadline = Deadline(60)
    assert not deadline.passed()
    assert deadline.timeout == 60


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_none_and_infinity_never_come(timeout: float | None) -> None:
    """Both mean "wait as long as it takes", as None does for a lock or a socket."""
    deadline = Deadline(timeout)
    assert deadline.left() is None
    assert deadline.timeout is None
    assert not deadline.passed()


@pytest.mark.parametrize("timeout", [(2**31 - 0.5) / 1000, 1e10, 1e300])
def test_what_the_system_cannot_wait_for_never_comes(timeout: float) -> None:
    """poll() takes 25 days at most, a lock some centuries: more is as good as no end."""
    assert Deadline(timeout).left() is None
    assert not Deadline(timeout).passed()
    assert Deadline(None).within(timeout).left() is None
    assert 999_000 < (Deadline(1e6).left() or 0) <= 1e6


def test_zero_has_passed_at_once() -> None:
    """A time-out of 0 is a look without a wait."""
    assert Deadline(0).passed()
    assert Deadline(0).left() == 0.0


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan])
def test_nonsense_is_refused(timeout: float) -> None:
    """A negative time-out is an error of the caller's, as in queue.Queue.get; so is a NaN."""
    with pytest.raises(ValueError, match=f"^timeout must not be negative, got {timeout!r}$"):
        Deadline(timeout)
    with pytest.raises(ValueError, match=f"^settle must not be negative, got {timeout!r}$"):
        Deadline(timeout, "settle")


@pytest.mark.parametrize("timeout", ["5", "python3", [5]])
def test_what_is_no_number_is_refused(timeout: Any) -> None:
    """In words that say what was to be one."""
    with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, got ['\[]"):
        Deadline(timeout)


def test_within_is_the_earlier_one() -> None:
    """A step's own limit holds only where it is shorter than what is left of the whole."""
    whole = Deadline(10)
    assert whole.within(60) is whole
    assert whole.within(1).timeout == 1
    assert Deadline(None).within(3).timeout == 3
    assert Deadline(0).within(5).passed()


def test_of_keeps_a_deadline_and_starts_a_time_out() -> None:
    """A deadline that is handed on goes on; seconds begin to count now."""
    deadline = Deadline(7)
    assert Deadline.of(deadline) is deadline
    assert Deadline.of(7).timeout == 7
    assert Deadline.of(None).left() is None


def test_repr_tells_what_is_left() -> None:
    """A log line with a deadline in it can be read."""
    assert repr(Deadline(None)) == "<Deadline: none>"
    assert repr(Deadline(0)) == "<Deadline: 0.000 s left>"
