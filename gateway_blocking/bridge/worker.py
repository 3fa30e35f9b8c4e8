"""A thread of a bridge that does one thing after another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..locks import apart
from ..threads import DaemonThread

__all__ = ["Worker"]


class Worker:
    """A thread that does what another thread gives it, in order.

    Parameters
    ----------
    name : str
        Name of the thread.
    failed : callable
        Called in the thread with each exception of its work.
    """

    def __init__(self, name: str, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._given = 0  # written by the thread that gives, and by its signal handlers
        self._done = 0  # written by the thread that works
        self._stops: SimpleQueue[None] = SimpleQueue()  # wakes a pause
        self._thread = DaemonThread(name, self._run)

    def start(self) -> None:
        """Start the thread."""
        apart(self._thread.start)

    def stop(self) -> None:
        """End the thread after what was given to it."""
        self._stops.put(None)
        self._queue.put(None)

    def do(self, work: Callable[[], object]) -> None:
        """Have this done after all that was given before; a signal handler may call this."""
        self._given += 1
        self._queue.put(work)

    def pause(self, seconds: float) -> None:
        """Wait for so long, or until the worker is stopped; only its own work calls this."""
        with suppress(Empty):
            self._stops.get(timeout=seconds)

    @property
    def is_idle(self) -> bool:
        """True if all that was given is done.  Only the thread that gives can rely on it."""
        return self._done == self._given

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception as error:
                self._failed(error)
            self._done += 1
