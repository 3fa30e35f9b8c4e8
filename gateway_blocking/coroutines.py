"""Support for callers that are coroutines: what nbclient needs of a blocking client, and why.

nbclient runs an event loop with several tasks, and calls manager and client in these ways:

- It awaits the result of a method if that is awaitable: ``await ensure_async(kc.get_msg())``.  A
  call that blocks would stop the other tasks of the loop, so :meth:`.Channel.get_msg` is
  awaitable if a coroutine calls it directly (:func:`called_by_coroutine`), and blocks otherwise.
- A task reads the ``iopub`` channel while the shutdown of the kernel blocks the loop.  The
  awaitable that ``shutdown_kernel()`` returns gives that task time (:class:`QueueDrain`).
- It has a ``startup_timeout``, and does not pass it on (:func:`startup_timeout_of_caller`).
- It shuts the kernel down in a ``finally`` block, in which an error of the shutdown would replace
  the error of the notebook (:func:`error_before_cleanup_of_caller`).
- It polls ``is_alive()`` each second while a cell runs, and reports a dead kernel in its own
  words (:meth:`AwaitableMailbox.take_async`).
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import weakref
from collections.abc import Generator, Sequence
from functools import partial
from time import monotonic
from typing import Any

from .deadline import Deadline
from .errors import DeadKernelError
from .locks import Lock
from .mailbox import Mailbox
from .messages import Message
from .timeouts import DEATH_GRACE, DRAIN_INTERVAL, YIELD_INTERVAL

__all__ = [
    "AwaitableMailbox",
    "QueueDrain",
    "called_by_coroutine",
    "error_before_cleanup_of_caller",
    "startup_timeout_of_caller",
]


class AwaitableMailbox(Mailbox):
    """A :class:`.Mailbox` whose messages a coroutine can await."""

    def __init__(self, mutex: Lock) -> None:
        super().__init__(mutex)
        self._yielded = 0.0
        self._reader: weakref.ref[asyncio.Task[Any]] | None = None

    async def take_async(self, timeout: float | None = None) -> Message:
        """Take the next message as :meth:`take` does, while the event loop goes on.

        A wait that is cancelled or abandoned takes no message, because the message is taken only
        when the waiting coroutine runs again.  The death of a kernel is raised some seconds late:
        nbclient notices it within one second, and then reports it in its own words.
        """
        deadline = Deadline(timeout)
        grace_is_over = False
        self._note_reader(asyncio.current_task())
        while True:
            if monotonic() - self._yielded > YIELD_INTERVAL:  # a flood must not starve the loop
                await asyncio.sleep(0)
                self._yielded = monotonic()
            loop = asyncio.get_running_loop()
            news = loop.create_future()
            listener = partial(_resolve_in, loop, news)
            with self.mutex:
                if self.queue:
                    return self._get()
                dying = isinstance(self.error, DeadKernelError)
                if grace_is_over or not dying:
                    self._raise_if_ended()
                if deadline.passed():
                    raise self._empty()
                self._listeners.append(listener)
            left = deadline.left()
            if dying:
                left = DEATH_GRACE if left is None else min(left, DEATH_GRACE)
            try:
                await asyncio.wait((news,), timeout=left)
            finally:
                self._remove_listener(listener)
            grace_is_over = dying and not news.done()
            self._yielded = monotonic()

    def _note_reader(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and (self._reader is None or self._reader() is not task):
            self._reader = weakref.ref(task)

    def has_reader(self) -> bool:
        """Return True if an unfinished task took the last message, or waits for the next."""
        task = None if self._reader is None else self._reader()
        return task is not None and not (task.done() or task.get_loop().is_closed())


def _resolve_in(loop: asyncio.AbstractEventLoop, news: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, news)
    except RuntimeError:
        pass  # the loop was closed, and no task waits in it any more


def _resolve(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


class QueueDrain:
    """An awaitable that ends when the tasks of the event loop have read what is in these queues.

    A blocking call returns it, because messages came while the call blocked the event loop.  A
    caller need not await it.
    """

    def __init__(self, queues: Sequence[Mailbox]) -> None:
        self._queues = queues

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        before = -1  # as long as the number of messages falls, a task reads them
        while 0 < (left := sum(len(each.queue) for each in self._queues)) != before:
            before = left
            await asyncio.sleep(DRAIN_INTERVAL)


# These functions look at the caller of the function that calls them: frame 2, seen from here.


def called_by_coroutine() -> bool:
    """Return True if a running coroutine directly called the function that calls this."""
    if asyncio._get_running_loop() is None:
        return False
    caller = sys._getframe(2).f_code
    return bool(caller.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))


def startup_timeout_of_caller() -> float | None:
    """Return nbclient's ``startup_timeout`` if it called the function that calls this, else None.

    nbclient starts a kernel in a coroutine of its client, and does not pass this option on.
    """
    caller = sys._getframe(2)
    if asyncio._get_running_loop() is None or not caller.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    found = getattr(caller.f_locals.get("self"), "startup_timeout", None)
    return float(found) if isinstance(found, int | float) else None


def error_before_cleanup_of_caller() -> BaseException | None:
    """Return the error that ended an execution, if nbclient calls to clean up after it, else None.

    nbclient cleans up in a ``finally`` block, in which another error would replace that one.
    """
    if sys._getframe(2).f_code.co_name != "_async_cleanup_kernel":
        return None
    return sys.exception()
