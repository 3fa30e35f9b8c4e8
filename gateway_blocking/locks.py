"""Locks, waits and calls that a signal may interrupt at any moment.

Python runs a signal handler in the main thread, and the handler of a Ctrl-C raises an exception.
Python runs it at the start of a function that is written in Python, at a jump backward, after a
call of a function that is written in C, and while such a function waits.  For a lock this means:

- ``threading.Condition``, ``Event`` and ``Queue`` acquire and release their locks in methods that
  are written in Python.  A handler that raises at the start of ``__exit__`` leaves the lock locked.
- ``with lock:`` on Python 3.14 enters the block after the call of ``lock.__enter__``, which is
  written in C.  A handler that raises in between leaves the lock locked (measured with 3.14.10:
  after 13,803 of 31,473 signals; with 3.11.7 and 3.15.2: after none).

:class:`Lock` avoids both.  Its ``__enter__`` is written in Python, and releases the lock if it is
interrupted.  Its ``__exit__`` is the method of the underlying lock, which is written in C.

On Windows, no signal interrupts a wait for a lock.  On the other systems, a signal wakes no thread
if it arrives just before the thread sleeps, or if the system delivers it to another thread
(measured: 4 of 1,200 beside a busy thread).  So every wait here is divided into slices of a second.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

from .deadline import Deadline
from .timeouts import LOCK_SLICE

__all__ = ["Latch", "Lock", "Waiters", "RLock", "apart", "wait"]

_NEVER = Deadline(None)

_T = TypeVar("_T")


class _Entry:
    """An underlying lock, and the deadline until which ``with`` waits for it."""

    __slots__ = ("__exit__", "__weakref__", "_deadline", "_error", "plain")

    __exit__: Callable[..., None]
    plain: threading.Lock
    """The underlying lock, for threads of this package: no signal interrupts them."""

    def __init__(
        self, plain: threading.Lock, deadline: Deadline = _NEVER, error: Exception | None = None
    ) -> None:
        self.plain, self._deadline, self._error = plain, deadline, error
        self.__exit__ = plain.__exit__

    def __enter__(self) -> None:
        acquire = self.plain.acquire
        got: list[bool] = []
        try:
            # A single call in C: an interruption cannot come between acquiring and knowing it.
            got.extend(map(acquire, (False,)))
            while not got[-1]:
                left = self._deadline.left()
                if left == 0 and self._error is not None:
                    raise self._error
                got.extend(map(acquire, (True,), (_slice(left),)))
        except BaseException:
            if got and got[-1]:
                self.plain.release()
            raise

    def within(self, deadline: Deadline, error: Exception) -> _Entry:
        """Return a context manager that takes this lock, or raises `error` after the deadline."""
        return _Entry(self.plain, deadline, error)


class Lock(_Entry):
    """A lock that an interruption never leaves locked.

    A user's thread takes it only by ``with``.  The other methods are those of ``threading.Lock``,
    which it replaces in a ``threading.Condition``.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock; an interruption right after the call leaves it locked."""
        return self.plain.acquire(blocking, timeout)

    def release(self) -> None:
        """Release the lock."""
        self.plain.release()

    def locked(self) -> bool:
        """Return True if any thread holds the lock."""
        return self.plain.locked()


class RLock(_Entry):
    """A :class:`Lock` that its holder may acquire again."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(threading.RLock())  # type: ignore[arg-type]  # it has the methods used here


class Waiters:
    """Threads that wait for a change, and the means to wake them.

    Any number of threads may use one object.
    """

    def __init__(self) -> None:
        self._waiting: list[threading.Lock] = []

    def notify_all(self) -> None:
        """Wake all threads that wait."""
        for _ in range(len(self._waiting)):
            try:
                waiter = self._waiting.pop()
            except IndexError:  # another thread notifies them, too
                return
            waiter.release()

    def wait_while(self, condition: Callable[[], object], deadline: Deadline) -> bool:
        """Wait as long as the condition is true; return False if the deadline passes."""
        while condition():
            waiter = threading.Lock()
            waiter.acquire()
            self._waiting.append(waiter)
            try:
                if condition():
                    if deadline.passed():
                        return False
                    wait(waiter, deadline)
            finally:
                self._forget(waiter)
        return True

    def _forget(self, waiter: threading.Lock) -> None:
        try:
            self._waiting.remove(waiter)
        except ValueError:
            pass  # another thread has just notified it


class Latch:
    """An event that happens once: one thread opens the latch, and others wait for that."""

    def __init__(self) -> None:
        self._is_open = False
        self._waiters = Waiters()

    def open(self) -> None:
        """Wake the threads that wait for it; later waits end at once."""
        self._is_open = True
        self._waiters.notify_all()

    def wait(self, deadline: Deadline) -> bool:
        """Wait until the latch is open; return False if the deadline passes."""
        return self._waiters.wait_while(lambda: not self._is_open, deadline)


def wait(lock: threading.Lock, deadline: Deadline) -> None:
    """Wait until another thread releases a locked lock, but for a second at most.

    The caller then checks its condition again.  So it notices a change even if an interruption
    kept the other thread from releasing the lock.
    """
    lock.acquire(timeout=_slice(deadline.left()))


def _slice(left: float | None) -> float:
    """Return the seconds of the next slice of a wait that has so much time left."""
    return LOCK_SLICE if left is None else min(left, LOCK_SLICE)


def apart(do: Callable[[], _T]) -> _T:
    """Call `do` in a thread that no signal interrupts, and wait for the result.

    An interruption ends only the wait: the call is made as a whole, or not at all if the signal
    comes first.  ``Thread.start()`` needs this.  If it is interrupted, the thread runs although its
    caller takes it for one that was not started, or on Python 3.14 a lock stays locked that every
    other thread needs to start.

    Parameters
    ----------
    do : callable
        Function that returns within milliseconds, and does not use ``threading.current_thread()``.
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
