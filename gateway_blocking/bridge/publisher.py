"""The publishing of a bridge, with bounds for front ends that do not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq

from .sockets import send_frames

__all__ = ["Publisher"]

_BIG = 16_384  # bytes of a frame that is tracked; of smaller ones only the number is bounded


class Publisher:
    """Publishes messages on an XPUB socket.  Requires one thread at a time.

    ZMQ keeps what a front end has not read.  It keeps no more messages than the socket's high-water
    mark, and this class bounds the bytes of the big ones.  The caller waits for a front end that
    reads, but slowly; what one does not read is dropped.

    Parameters
    ----------
    socket : zmq.Socket
        The XPUB socket.
    limit : int
        Bytes of big messages that may wait to be sent; 0 for no limit.
    """

    def __init__(self, socket: zmq.Socket[bytes], limit: int) -> None:
        self._socket = socket
        self._limit = limit
        self._unsent: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._size = 0
        self._is_stalled = False
        socket.xpub_nodrop = 1  # so that a message which some front end has no room for is noticed
        socket.copy_threshold = _BIG

    @property
    def is_full(self) -> bool:
        """True if more bytes wait to be sent than is right."""
        while self._unsent and self._unsent[0][0].done:
            self._size -= self._unsent.popleft()[1]
            self._is_stalled = False
        return 0 < self._limit < self._size

    def publish(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Publish a message without waiting; return False if a front end is known not to get it."""
        is_big = max(map(len, frames)) >= _BIG
        if is_big and self._is_stalled and self.is_full:
            return False
        try:
            self._send(frames, is_big=is_big)
        except zmq.Again:
            self._socket.xpub_nodrop = 0  # the others get it
            self._send(frames, is_big=is_big)
            self._socket.xpub_nodrop = 1
            return False
        return True

    def _send(self, frames: Sequence[bytes | memoryview], *, is_big: bool) -> None:
        if not is_big:
            send_frames(self._socket, frames)
            return
        # Without a copy, and with a tracker that tells when no front end waits for it any more.
        tracker = self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
        assert tracker is not None
        size = sum(map(len, frames))
        self._unsent.append((tracker, size))
        self._size += size

    def to_wait_for(self) -> zmq.MessageTracker | None:
        """Return what to wait for before more is published; None if there is room, or no hope."""
        return self._unsent[0][0] if self.is_full and not self._is_stalled else None

    def stalled(self) -> None:
        """Take note that the wait was in vain: drop big messages until there is room."""
        self._is_stalled = True
