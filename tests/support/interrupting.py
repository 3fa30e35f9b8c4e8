"""A signal whose handler raises, as that of a Ctrl-C does, at any moment of a call."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from queue import Empty
from types import FrameType

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

    def drop(unraisable: sys.UnraisableHookArgs) -> None:
        """Take a finalizer that is interrupted for no fault: Python drops that."""
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            tell(unraisable)

    tell, sys.unraisablehook = sys.unraisablehook, drop
    previous = signal.signal(signal.SIGALRM, interrupt)
    interrupted, begun = 0, time.monotonic()
    try:
        while (passed := time.monotonic() - begun) < 2 or interrupted < least:
            assert passed < 90, f"only {interrupted} interruptions of {least}"
            try:
                try:
                    armed = True
                    # Once more if a finalizer is interrupted, because Python drops that.
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + interrupted % 97 * 1e-6, 0.05)
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
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        sys.unraisablehook = tell


def interrupt_at_each_moment(
    *modules: str,
) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Give, again and again, what makes a call that is interrupted one moment later than before.

    A moment is one at which Python runs the handler of a signal: the start of a function of the
    package, and the return of a function written in C that it called.  The last call given is not
    interrupted, because it has fewer moments.  Each calls what it is given once.

    >>> for interrupted in interrupt_at_each_moment():  # doctest: +SKIP
    ...     interrupted(thing.do)
    ...     assert thing.is_well()
    """
    for last in count():
        moments = 0

        def watch(frame: FrameType, event: str, _: object, last: int = last) -> None:
            nonlocal moments
            here = frame.f_globals.get("__name__", "").startswith(("gateway_blocking", *modules))
            if here and event in ("call", "c_return"):
                moments += 1
                if moments == last + 1:
                    sys.setprofile(None)
                    raise KeyboardInterrupt(f"at moment {last}, in {frame.f_code.co_qualname}")

        def call(do: Callable[[], object]) -> None:
            sys.setprofile(watch)
            try:
                do()
            except KeyboardInterrupt:
                pass
            finally:
                sys.setprofile(None)

        yield call
        if moments <= last:
            assert last, "there was nothing to interrupt"
            return
