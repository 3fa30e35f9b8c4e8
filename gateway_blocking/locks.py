"""Locks and waits in threads that a signal may interrupt at any moment.

Python runs a signal's handler in the main thread, between two of its steps, and the handler of a
Ctrl-C raises there.  ``threading.Condition`` and ``Event`` are written in Python: raised in them,
it can leave their lock locked.  A ``with`` of a plain lock is a single step, and safe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .deadline import Deadline

__all__ = ["News", "acquire"]

_LOOK = 1.0  # seconds


def acquire(lock: threading.Lock, deadline: Deadline, got: list[bool] | None = None) -> bool:
    """Acquire a lock, if that comes about in time.

    Python looks whether a signal came, and then lets the thread sleep: one that comes in between,
    or that the system gave to another thread, wakes nobody (measured: 4 of 1,200 beside a busy
    thread).  So the sleep is interrupted every second.

    Parameters
    ----------
    lock : threading.Lock
        The lock, or one that another thread releases to wake this one.
    deadline : Deadline
        Until when to wait.
    got : list, optional
        Its last item becomes whether the lock was acquired, in one step with that.  Where a
        signal may come next, and the lock is to be released again, only this tells::

            got: list[bool] = []
            try:
                if acquire(lock, deadline, got):
                    ...
            finally:
                if got and got[-1]:
                    lock.release()
    """
    got = [] if got is None else got
    while True:
        left = deadline.left()
        got.extend(map(lock.acquire, (True,), (_LOOK if left is None else min(left, _LOOK),)))
        if got[-1] or deadline.passed():
            return got[-1]


class News:
    """What threads that wait for a change are woken with."""

    def __init__(self) -> None:
        self._waiting: list[threading.Lock] = []

    def tell(self) -> None:
        """Wake everybody who waits."""
        for _ in range(len(self._waiting)):
            try:
                news = self._waiting.pop()
            except IndexError:  # another thread tells them, too
                return
            news.release()

    def wait_while(self, condition: Callable[[], object], deadline: Deadline) -> bool:
        """Wait until the condition does not hold any more; False where that is not in time."""
        while condition():
            news = threading.Lock()
            news.acquire()
            self._waiting.append(news)
            try:
                if condition() and not acquire(news, deadline):
                    return False
            finally:
                self._forget(news)
        return True

    def _forget(self, news: threading.Lock) -> None:
        try:
            self._waiting.remove(news)
        except ValueError:
            pass  # somebody is just telling
