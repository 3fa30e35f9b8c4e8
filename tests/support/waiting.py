"""Waits for what another thread, process or server does."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_time(act: Callable[[], float], enough: float) -> float:
    """The seconds that an act takes, which returns them: the least of up to five tries.

    A busy neighbour prolongs one of them, and a wait that is too long all of them.
    """
    taken = act()
    for _ in range(4):
        if taken < enough:
            break
        taken = min(taken, act())
    return taken


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Fail where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
