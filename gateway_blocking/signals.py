"""SIGTERM within a block that has something to clean up: it ends the block as an exception does.

Python leaves SIGTERM to the system, which ends the process where it stands, and a kernel behind
a gateway would go on running.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from weakref import WeakSet

from .forking import register_after_fork

__all__ = ["SigtermRaises"]


class SigtermRaises:
    """Within its ``with``, a SIGTERM raises ``SystemExit(128 + SIGTERM)`` in the main thread.

    Only where it would end the process at once: a handler of somebody else's is left alone.
    Such blocks may be nested and overlap; with the last one ends what the first has begun.
    """

    def __init__(self) -> None:
        self._waits = self._came = False
        register_after_fork(self._after_fork)

    def __enter__(self) -> SigtermRaises:
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, _unwind):
            _blocks.add(self)
            signal.signal(signal.SIGTERM, _unwind)
        return self

    def __exit__(self, *exc_info: object) -> None:
        came, self._waits, self._came = self._came, False, False
        try:
            if came:
                signal.raise_signal(signal.SIGTERM)  # anew, and for the blocks around this one
        finally:
            self._after_fork()

    @contextmanager
    def end(self) -> Iterator[None]:
        """Begin the end of the block: a SIGTERM that comes now waits until it is over."""
        self._waits = True
        try:
            yield
        finally:
            self.__exit__()

    def _after_fork(self) -> None:
        """End the block; in a child process at once, because it has nothing to clean up."""
        global _unwinding
        self._waits = self._came = False
        _blocks.discard(self)
        if not _blocks:
            _unwinding = _NEVER
            if _is_main_thread() and signal.getsignal(signal.SIGTERM) is _unwind:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _holds_back(self) -> bool:
        """Whether a SIGTERM has to wait; it is remembered then."""
        self._came = self._waits
        return self._waits


_SHORTLY = 0.01  # seconds
_ONCE = 1.0  # seconds
_NEVER = float("-inf")

_blocks: WeakSet[SigtermRaises] = WeakSet()
_unwinding = _NEVER  # since when


def _unwind(number: int, _frame: FrameType | None) -> None:
    global _unwinding
    blocks = list(_blocks)
    if not blocks:  # the last one ended in another thread, which cannot set a handler
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    elif getattr(_forks, "under_way", False):  # Python drops what is raised in what it calls then
        threading.Timer(_SHORTLY, os.kill, (os.getpid(), number)).start()
    elif not any(block._holds_back() for block in blocks):
        # Who ends a process may do it twice, the process and its group; one has to be enough, and
        # is not to interrupt what the other began.
        if monotonic() - _unwinding > _ONCE:
            _unwinding = monotonic()
            raise SystemExit(128 + number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_forks = threading.local()

if sys.platform != "win32":
    # Python drops what a child gets before it is told of the fork, and terminated it may be at
    # once.  Held back until the handler is the default again, the signal ends it.  The parent's
    # is sent anew.

    def _before_fork() -> None:
        _forks.under_way = True
        _forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def _after_fork() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forks.mask)
        _forks.under_way = False

    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
