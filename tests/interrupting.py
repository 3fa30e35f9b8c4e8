"""A signal whose handler raises, as that of a Ctrl-C does, at any moment of a call."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from queue import Empty

from gateway_blocking.errors import GatewayError


def interrupt_often(
    call: Callable[[], object],
    is_well: Callable[[], bool],
    *expected: type[Exception],
    least: int = 100,
) -> None:
    """Interrupt a call that is made again and again, and see that it is well after each time.

    It goes on for two seconds, and longer on a busy machine, until so many signals have come.
    """
    armed = False

    def interrupt(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    interrupted, begun = 0, time.monotonic()
    try:
        while (passed := time.monotonic() - begun) < 2 or interrupted < least:
            assert passed < 90, f"only {interrupted} interruptions of {least}"
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + interrupted % 97 * 1e-6)
                    while True:
                        try:
                            call()
                        except (Empty, GatewayError, *expected):
                            pass
                finally:
                    armed = False
            except KeyboardInterrupt:
                interrupted += 1
            assert is_well(), f"not after interruption {interrupted}"
    finally:
        signal.signal(signal.SIGALRM, previous)
