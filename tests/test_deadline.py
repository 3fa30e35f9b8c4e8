"""Deadlines."""

from __future__ import annotations

import math
import time

import pytest

from gateway_blocking.deadline import Deadline


def test_a_deadline_is_shared_by_steps() -> None:
    """left() shrinks to 0, passed() turns true."""
    deadline = Deadline(0.05)
    first = deadline.left()
    assert first is not None
    assert 0 < first <= 0.05
    time.sleep(0.06)
    assert deadline.left() == 0
    assert deadline.passed()


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_no_deadline(timeout: float | None) -> None:
    """None and infinity never come."""
    assert Deadline(timeout).left() is None
    assert not Deadline(timeout).passed()
    assert repr(Deadline(timeout)) == "<Deadline: none>"


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan])
def test_nonsense(timeout: float) -> None:
    """A negative time-out is a ValueError, and so is no number."""
    with pytest.raises(ValueError, match="negative"):
        Deadline(timeout)


def test_the_sooner_of_two() -> None:
    """within() gives this one, or a nearer one."""
    near, far = Deadline(1), Deadline(100)
    assert near.within(50) is near
    assert far.within(1) is not far
    assert Deadline(None).within(2).timeout == 2
    assert Deadline.of(near) is near
    assert Deadline.of(3).timeout == 3
