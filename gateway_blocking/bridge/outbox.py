"""Events from any thread for a thread that waits for ZMQ sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Outbox"]

_T = TypeVar("_T")


class Outbox(Generic[_T]):
    """A queue with a file descriptor that can be polled while there is something in it.

    Any thread, and a signal handler, may put events; one thread at a time takes.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[_T] = SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, which is readable if there may be events."""
        return self._reader.fileno()

    def put(self, event: _T) -> None:
        """Add an event, and wake the thread that waits."""
        self._queue.put(event)
        self.wake()

    def put_quietly(self, event: _T) -> None:
        """Add an event, which the thread that calls this is about to take itself."""
        self._queue.put(event)

    def wake(self) -> None:
        """Make the descriptor readable."""
        try:
            self._writer.send(b"\0")
        except OSError:
            pass  # it is full, so that the thread wakes anyway; or it is closed

    def rest(self) -> None:
        """Make the descriptor unreadable until the next wake."""
        try:
            while self._reader.recv(4096):
                pass
        except OSError:
            pass  # it is empty

    def take_all(self) -> Iterator[_T]:
        """Yield the events that are there."""
        while True:
            try:
                yield self._queue.get_nowait()
            except Empty:
                return

    def close(self) -> None:
        """Close the descriptors; events can still be put, and are dropped."""
        self._reader.close()
        self._writer.close()
