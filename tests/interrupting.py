"""A signal whose handler raises, as that of a Ctrl-C does, at any moment of a call."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from queue import Empty

from gateway_blocking.errors import GatewayError


def interrupt_often(call: Callable[[], object], is_well: Callable[[], bool]) -> None:
    """Interrupt a call that is made again and again, for two seconds; it is well after each."""
    armed = False

    def interrupt(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    interrupted, end = 0, time.monotonic() + 2
    try:
        while time.monotonic() < end:
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + interrupted % 97 * 1e-6)
                    while True:
                        try:
                            call()
                        except (Empty, GatewayError):
                            pass
                finally:
                    armed = False
            except KeyboardInterrupt:
                interrupted += 1
            assert is_well(), f"not after interruption {interrupted}"
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 100
