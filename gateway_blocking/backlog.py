"""The bound on the messages that a client keeps until a caller takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from typing import Protocol

__all__ = ["Backlog", "Bounded"]


class Bounded(Protocol):
    """A queue that a :class:`Backlog` bounds."""

    size: int
    """Bytes of the messages in the queue."""

    @property
    def queue(self) -> Sized:
        """The messages."""

    def has_reader(self) -> bool:
        """Return True if a task reads the queue."""

    def drop_oldest(self) -> None:
        """Drop the oldest message of the queue."""


class Backlog:
    """The bound on the messages that the channels of one client keep.

    The oldest message of the largest queue is dropped first, so that a flood of output displaces
    no replies.  A channel that a coroutine reads keeps all messages, and each channel keeps its
    last one.  All methods except :meth:`warn` require the mutex of the channels.

    Parameters
    ----------
    limit : int
        Bytes, as the messages came, plus a fixed cost for each message; 0 for no bound.
    warn : callable
        ``warn(text)``, called when messages are dropped for the first time.
    """

    def __init__(self, limit: int = 0, warn: Callable[[str], None] = lambda text: None) -> None:
        self._limit = limit or math.inf
        self._warn = warn
        self._queues: list[Bounded] = []
        self.must_warn = False
        self._has_warned = False

    def join(self, queue: Bounded) -> None:
        """Bound this queue, too."""
        self._queues.append(queue)

    def check(self) -> None:
        """Drop messages until the rest is within the bound."""
        while sum([each.size for each in self._queues]) > self._limit:
            unread = [q for q in self._queues if len(q.queue) > 1 and not q.has_reader()]
            if not unread:
                return
            max(unread, key=lambda queue: queue.size).drop_oldest()
            self.must_warn = not self._has_warned

    def warn(self) -> None:
        """Warn that messages were dropped.  Requires that no mutex is held: a handler runs."""
        self.must_warn, self._has_warned = False, True
        self._warn(
            f"messages that no caller takes fill {self._limit:,} bytes, and the oldest are dropped:"
            " take them with get_iopub_msg() and the like, or change max_unread_size"
        )
