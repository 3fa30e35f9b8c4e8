"""A thread of the library's own, whose end can be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .deadline import Deadline
from .locks import Latch

__all__ = ["DaemonThread"]

_LAST_STEPS = 1.0  # seconds at most, for what a thread does after its work is done


class DaemonThread:
    """A daemon thread.

    Interrupted, ``Thread.join()`` takes a thread that runs for one that has ended, until Python
    3.12.  So the end is told by a latch.

    Parameters
    ----------
    name : str
        Name of the thread.
    work : callable
        Work of the thread.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name = name
        self._work = work
        self._ended = Latch()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.open()

    def start(self) -> None:
        """Start it; to be called by a thread that no signal interrupts: see :func:`.apart`."""
        self._thread.start()

    @property
    def was_started(self) -> bool:
        """True if it was started."""
        return self._thread.ident is not None

    def is_alive(self) -> bool:
        """Return True if it runs."""
        return self._thread.is_alive()

    def has_ended(self, deadline: Deadline) -> bool:
        """Wait for its end; return False if it does not end in time.

        Called by the thread itself, it returns True.
        """
        if self._thread is threading.current_thread():
            return True
        if not self._ended.wait(deadline):
            return False
        if self.was_started:
            self._thread.join(_LAST_STEPS)
        return True

    def after_fork(self) -> None:
        """Count as ended, in a child process that does not have the thread."""
        self._ended.open()
