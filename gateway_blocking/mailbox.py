"""A queue of messages that can end, and from which any number of threads take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, Queue

from .deadline import Deadline
from .errors import GatewayError, ReplyLost, copy_for_raise
from .locks import Lock, wait
from .messages import Message

__all__ = ["Mailbox"]


class Mailbox(Queue[Message]):
    """A queue of messages that can come to an end.

    After :meth:`fail`, the messages in the queue can still be taken; then every call raises the
    error.  Any number of threads may take messages, and any thread may put some in.

    Parameters
    ----------
    mutex : Lock
        The lock of the queue, which several queues may share.
    """

    def __init__(self, mutex: Lock) -> None:
        self.error: GatewayError | None = None
        """The error that ended the queue, or None."""
        self.reset(mutex)

    def reset(self, mutex: Lock) -> None:
        """Empty the queue and give it a new lock, which no thread holds."""
        super().__init__()
        self.mutex: Lock = mutex  # type: ignore[assignment]  # it has what a Queue uses
        self.not_empty = threading.Condition(mutex)  # type: ignore[arg-type]
        self.not_full = threading.Condition(mutex)  # type: ignore[arg-type]
        self.all_tasks_done = threading.Condition(mutex)  # type: ignore[arg-type]
        self._listeners: list[Callable[[], None]] = []

    # --- for callers ----------------------------------------------------------------------------

    def take(self, timeout: float | Deadline | None = None) -> Message:
        """Take the next message, and wait for it if there is none.

        Parameters
        ----------
        timeout : float or Deadline, optional
            Seconds to wait for the message; by default as long as one can come.  A timeout of 0
            takes a message that is there.  A deadline that has passed does not: it ends a loop
            that takes one message after another, even if they come faster than they are handled.

        Raises
        ------
        queue.Empty
            No message came in time.
        ReplyLost
            This error stands in place of a reply; the next call goes on with the next message.
        GatewayConnectionClosed, DeadKernelError
            No message can come any more.
        ValueError
            The timeout is negative.
        """
        deadline = Deadline.of(timeout)
        if deadline is timeout and deadline.passed():
            raise Empty
        with self.mutex:
            if self.queue:
                return self._get()
        while True:
            news = threading.Lock()
            news.acquire()
            with self.mutex:
                if self.queue:
                    return self._get()
                self._raise_if_ended()
                if deadline.passed():
                    raise self._empty()
                self._listeners.append(news.release)
            try:
                wait(news, deadline)
            finally:
                self._remove_listener(news.release)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Take the next message: :meth:`take` under the name that a plain queue has for it."""
        return self.take(timeout if block else 0)

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        """Put a message in, without ever waiting for room."""
        with self.mutex:
            self.add(item)

    # --- with the mutex held --------------------------------------------------------------------

    def add(self, item: Message | ReplyLost, size: int = 0, origin: Mailbox | None = None) -> None:
        """Put an item in, with its size in bytes and its channel.  Requires the mutex."""
        # One tuple in one call, so that an interruption cannot separate the three.
        self.queue.append((item, size, origin))
        if self._listeners:
            self._notify_listeners()

    def fail(self, error: GatewayError) -> None:
        """End the queue with `error`.  Requires the mutex."""
        self.error = error
        self._notify_listeners()

    def _put(self, item: Message) -> None:
        self.add(item)

    def _get(self) -> Message:
        item: Message | ReplyLost
        item, size, origin = self.queue.popleft()
        self._taken(size, origin)
        if isinstance(item, ReplyLost):
            raise item
        return item

    def _taken(self, size: int, origin: Mailbox | None) -> None:
        """Note that a message of this size left the queue.  Requires the mutex."""

    def _raise_if_ended(self) -> None:
        if self.error is not None:
            raise copy_for_raise(self.error)

    def _empty(self) -> Empty:
        """Return the error of a call for which no message came in time."""
        return Empty()

    def _notify_listeners(self) -> None:
        # All listeners: one in an event loop that has stopped must not keep the news from others.
        listeners, self._listeners = self._listeners, []
        for notify in listeners:
            notify()

    def _remove_listener(self, listener: Callable[[], None]) -> None:
        with self.mutex:
            if listener in self._listeners:
                self._listeners.remove(listener)
