"""Locks, waits and calls that a signal may interrupt at any moment.

Python runs the handler of a signal in the main thread, and the handler of a Ctrl-C raises there.
It does so at the start of a function that is written in Python, at a jump backward, after a call
of a function that is written in C, and while such a function waits.  For a lock this means:

- ``threading.Condition``, ``Event`` and ``Queue`` take and release theirs in methods written in
  Python.  A handler that raises at the start of ``__exit__`` leaves the lock locked, always.
- ``with lock:`` on Python 3.14 enters the block after the call of ``lock.__enter__``, which is
  written in C.  A handler that raises in between leaves the lock locked (measured with 3.14.10:
  after 13,803 of 31,473 signals; with 3.11.7 and 3.15.2: after none).

:class:`Lock` depends on neither.  Its ``__enter__`` is written in Python, and gives the lock back
if it is interrupted.  Its ``__exit__`` is the method of the lock underneath, written in C.

On Windows, no signal interrupts a wait for a lock.  On the other systems a signal wakes no thread
if it comes just before the thread sleeps, or if the system gives it to another thread (measured:
4 of 1,200 beside a busy thread).  So all waits here go in slices of a second.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

from .deadline import Deadline

__all__ = ["Latch", "Lock", "Waiters", "RLock", "apart", "wait"]

_SLICE = 1.0  # seconds
_NEVER = Deadline(None)

_T = TypeVar("_T")


class _Entry:
    """A lock underneath, and until when ``with`` waits for it."""

    __slots__ = ("__exit__", "__weakref__", "_deadline", "_error", "plain")

    __exit__: Callable[..., None]
    plain: threading.Lock
    """The lock underneath, for our own threads: no signal interrupts them, and it is faster."""

    def __init__(
        self, plain: threading.Lock, deadline: Deadline = _NEVER, error: Exception | None = None
    ) -> None:
        self.plain, self._deadline, self._error = plain, deadline, error
        self.__exit__ = plain.__exit__

    def __enter__(self) -> None:
        acquire = self.plain.acquire
        got: list[bool] = []
        try:
            got.extend(map(acquire, (False,)))  # one call: it is acquired, and that is known
            while not got[-1]:
                left = self._deadline.left()
                if left == 0 and self._error is not None:
                    raise self._error
                got.extend(map(acquire, (True,), (_SLICE if left is None else min(left, _SLICE),)))
        except BaseException:
            if got and got[-1]:
                self.plain.release()
            raise

    def within(self, deadline: Deadline, error: Exception) -> _Entry:
        """Return what takes this lock in a ``with``, and raises `error` if that takes too long."""
        return _Entry(self.plain, deadline, error)


class Lock(_Entry):
    """A lock that an interruption never leaves locked.

    A user's thread takes it by ``with``, and by that only.  The other methods are those of
    ``threading.Lock``, whose place it takes in a ``threading.Condition``.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock; nothing gives it back if an interruption comes next."""
        return self.plain.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock."""
        self.plain.release()

    def locked(self) -> bool:
        """Return whether any thread holds the lock."""
        return self.plain.locked()


class RLock(_Entry):
    """A :class:`Lock` that its holder may take again."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(threading.RLock())  # type: ignore[arg-type]  # it has what is used here


class Waiters:
    """What threads that wait for a change are woken with."""

    def __init__(self) -> None:
        self._waiting: list[threading.Lock] = []

    def notify_all(self) -> None:
        """Wake all threads that wait."""
        for _ in range(len(self._waiting)):
            try:
                news = self._waiting.pop()
            except IndexError:  # another thread tells them, too
                return
            news.release()

    def wait_while(self, condition: Callable[[], object], deadline: Deadline) -> bool:
        """Wait until the condition does not hold any more; return False if that is not in time."""
        while condition():
            news = threading.Lock()
            news.acquire()
            self._waiting.append(news)
            try:
                if condition():
                    if deadline.passed():
                        return False
                    wait(news, deadline)
            finally:
                self._forget(news)
        return True

    def _forget(self, news: threading.Lock) -> None:
        try:
            self._waiting.remove(news)
        except ValueError:
            pass  # another thread is just telling


class Latch:
    """An event that threads wait for until one of them opens it, for good."""

    def __init__(self) -> None:
        self._is_open = False
        self._waiters = Waiters()

    def open(self) -> None:
        """Let all threads go on that wait for it, and all that come later."""
        self._is_open = True
        self._waiters.notify_all()

    def wait(self, deadline: Deadline) -> bool:
        """Wait until it is open; return False if that is not in time."""
        return self._waiters.wait_while(lambda: not self._is_open, deadline)


def wait(news: threading.Lock, deadline: Deadline) -> None:
    """Wait until another thread releases `news`, for a second at most: the caller then looks again.

    So a change is noticed even if the thread that tells of it was interrupted before it could.
    """
    left = deadline.left()
    news.acquire(timeout=_SLICE if left is None else min(left, _SLICE))


def apart(do: Callable[[], _T]) -> _T:
    """Call `do` in a thread that no signal interrupts, and wait for it.

    It is called as a whole or, if the signal comes first, not at all: an interruption ends only
    the wait.  ``Thread.start()`` needs this.  Interrupted, it leaves a thread that runs and that
    its caller takes for one that was not started, or on Python 3.14 a lock that every other
    thread needs to start.

    Parameters
    ----------
    do : callable
        A call that takes no time to speak of, and does not use ``threading.current_thread()``.
    """
    results: list[_T] = []
    errors: list[BaseException] = []
    done = Latch()

    def call() -> None:
        try:
            results.append(do())
        except BaseException as error:  # raised to the caller
            errors.append(error)
        finally:
            done.open()

    try:
        _thread.start_new_thread(call, ())
    except RuntimeError:  # while the interpreter ends, no thread can be started any more
        return do()
    done.wait(_NEVER)
    if errors:
        raise errors[0]
    return results[0]
