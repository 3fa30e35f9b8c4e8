"""The pauses between the attempts of one operation."""

from __future__ import annotations

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.locks import Latch
from gateway_blocking.retry import Backoff


class Clock(Latch):
    """A latch whose waits take no time, and that notes them."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self.is_open = False

    def wait(self, deadline: Deadline) -> bool:
        assert deadline.timeout is not None
        self.pauses.append(deadline.timeout)
        return self.is_open


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gateway_blocking.deadline.monotonic", lambda: sum(clock.pauses))
    return clock


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    """Each of the attempts is allowed, and no more."""
    backoff = Backoff(0.5, 4, attempts=5, closing=clock)
    assert [backoff.wait() for _ in range(6)] == [True] * 5 + [False]
    assert clock.pauses == [0.5, 1, 2, 4, 4]


def test_the_deadline_shortens_the_last_pause(clock: Clock) -> None:
    """One attempt follows it; then there is none."""
    backoff = Backoff(1, 8, deadline=Deadline(5), closing=clock)
    assert [backoff.wait() for _ in range(4)] == [True, True, True, False]
    assert clock.pauses == [1, 2, 2]


def test_a_pause_may_be_limited(clock: Clock) -> None:
    """The next pause is not shorter for it."""
    backoff = Backoff(2, 8, closing=clock)
    assert backoff.wait(at_most=0.5)
    assert backoff.wait()
    assert clock.pauses == [0.5, 4]


def test_jitter_prolongs_a_pause(clock: Clock) -> None:
    """By the given part at most."""
    for _ in range(50):
        Backoff(1, 1, jitter=0.5, closing=clock).wait()
    assert all(1 <= pause <= 1.5 for pause in clock.pauses)
    assert len(set(clock.pauses)) > 1


def test_closing_ends_the_attempts() -> None:
    """At once, if it is open already."""
    closing = Latch()
    closing.open()
    assert not Backoff(60, 60, closing=closing).wait()
