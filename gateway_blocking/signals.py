"""SIGTERM as an exception, in blocks that have something to clean up.

By default, SIGTERM ends the process at once.  The reaper then deletes its kernels, but not in a
container, where the reaper ends as well, and where process 1 ignores a SIGTERM without a handler.
(Measured with Python 3.11 in a PID namespace of Linux, as process 1 and below an init: without this
module one kernel of one was left behind, with it none.)
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
from .timeouts import SIGTERM_AFTER_FORK, SIGTERM_REPEATED

__all__ = ["SigtermRaises", "known_signals"]


def known_signals(*names: str) -> list[signal.Signals]:
    """Return those of these signals that this system has."""
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


class SigtermRaises:
    """Context manager in which a SIGTERM raises ``SystemExit(128 + SIGTERM)`` in the main thread.

    It does so only if SIGTERM would end the process at once, and leaves another handler alone.
    Blocks may be nested and overlap; the end of the last one restores the default handler.
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
                signal.raise_signal(signal.SIGTERM)  # again, for the blocks around this one
        finally:
            self._after_fork()

    @contextmanager
    def end(self) -> Iterator[None]:
        """Enter the end of the block: a SIGTERM that arrives in it is raised after it."""
        self._waits = True
        try:
            yield
        finally:
            self.__exit__()

    def _after_fork(self) -> None:
        """End the block; a child process has nothing to clean up."""
        global _unwinding
        self._waits = self._came = False
        _blocks.discard(self)
        if not _blocks:
            _unwinding = _NEVER
            if _is_main_thread() and signal.getsignal(signal.SIGTERM) is _unwind:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def holds_back(self) -> bool:
        """Return True if a SIGTERM has to wait, and remember it."""
        self._came = self._waits
        return self._waits


_NEVER = float("-inf")

_blocks: WeakSet[SigtermRaises] = WeakSet()
_unwinding = _NEVER  # monotonic time of the last SystemExit


def _unwind(number: int, _frame: FrameType | None) -> None:
    global _unwinding
    blocks = list(_blocks)
    if not blocks:  # the last one ended in another thread, which cannot set a handler
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    elif getattr(_forks, "under_way", False):  # Python drops what is raised in what it calls then
        threading.Timer(SIGTERM_AFTER_FORK, os.kill, (os.getpid(), number)).start()
    elif not any(block.holds_back() for block in blocks):
        # A supervisor may send SIGTERM twice, to the process and to its group.  The second one must
        # not interrupt the clean-up that the first one began.
        if monotonic() - _unwinding > SIGTERM_REPEATED:
            _unwinding = monotonic()
            raise SystemExit(128 + number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_forks = threading.local()

if sys.platform != "win32":
    # Python drops a signal that a child gets before it has handled the fork, and a child may be
    # terminated at once.  The signal is blocked until the handler is the default again, and then
    # ends the child.  The parent's signal is sent again.

    def _before_fork() -> None:
        _forks.under_way = True
        _forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    def _after_fork() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forks.mask)
        _forks.under_way = False

    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
