"""A signal whose handler raises, as that of a Ctrl-C does, at any moment of a call."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from queue import Empty

import pytest

from gateway_blocking.errors import GatewayError

not_in_python_3_10 = pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="Python 3.10 itself may run a signal handler between a with's body and its release",
)


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
