"""The channels of a kernel: queues of messages from which a caller can claim its replies.

The reader thread delivers messages, and any number of threads take them.  A thread that waits for
the reply to its own request claims the reply by the ``msg_id`` of the request, before it sends the
request; no other thread sees that reply.  A message without a claim waits in the queue of its
channel, as in jupyter_client.

All queues of one client share one lock.  A message therefore goes either to a claim or to the
queue, and none is lost while a claim ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from queue import Empty
from typing import Any, cast

from jupyter_client.channelsabc import ChannelABC, HBChannelABC
from jupyter_client.session import Session

from .backlog import Backlog
from .coroutines import AwaitableMailbox, called_by_coroutine
from .deadline import Deadline
from .errors import GatewayConnectionClosed, GatewayError, ReplyLost, copy_for_raise
from .locks import Lock
from .mailbox import Mailbox
from .messages import Message

__all__ = ["Channel", "Claim", "HBChannel", "close_after_fork"]

_REMEMBERED = 1000  # requests that failed, or whose messages are dropped
_MESSAGE_COST = 2048  # bytes of a small message in addition to its frame (measured: 2.2 kB)


class Channel(AwaitableMailbox):
    """A channel of a kernel: ``shell``, ``iopub``, ``stdin`` or ``control``.

    It has the methods of jupyter_client's ``ZMQSocketChannel``, and any number of threads may use
    it.

    Parameters
    ----------
    name : str
        Name of the channel.
    send : callable
        ``send(name, message, timeout)``, which sends a message on this channel.
    session : Session
        The factory of messages.
    mutex : Lock
        The lock that the queues of one client share.
    backlog : Backlog, optional
        The bound that the channels of one client share.

    Attributes
    ----------
    dropped : int
        Number of messages that were dropped since the channel was started, because no caller took
        them.
    """

    socket = None  # there is none: the channels share one websocket

    def __init__(
        self,
        name: str,
        send: Callable[[str, Mapping[str, Any], float | Deadline | None], None],
        session: Session,
        mutex: Lock,
        backlog: Backlog | None = None,
    ) -> None:
        super().__init__(mutex)
        self.dropped = 0
        self._backlog = backlog or Backlog()
        self._backlog.join(self)
        self.name = name
        self.session = session
        self._send = send
        self._started = False
        self._claims: dict[str, Claim] = {}
        self._failures: dict[str, GatewayError] = {}  # by the msg_id of the request
        self._muted: dict[str, None] = {}  # requests whose messages are dropped

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else "stopped"
        return f"<Channel {self.name}, {state}, {len(self.queue)} messages>"  # without the lock

    # --- the queue ------------------------------------------------------------------------------

    def reset(self, mutex: Lock) -> None:
        """Empty the queue and give it a new lock, which no thread holds."""
        super().reset(mutex)
        self.size = 0
        """Bytes of the messages in the queue."""

    def add(self, item: Message | ReplyLost, size: int = 0, origin: Mailbox | None = None) -> None:
        """Put an item in, and drop older ones if there are too many.  Requires the mutex."""
        super().add(item, size)
        self.size += size
        self._backlog.check()

    def _taken(self, size: int, origin: Mailbox | None) -> None:
        self.size = self.size - size if self.queue else 0

    def _empty(self) -> Empty:
        if self._started:
            return Empty()
        return Empty(f"the {self.name} channel was not started: call start_channels() first")

    def drop_oldest(self) -> None:
        """Drop the oldest message, to make room for others.  Requires the mutex."""
        _, size, _ = self.queue.popleft()
        self._taken(size, None)
        self.dropped += 1

    # --- for the client -------------------------------------------------------------------------

    def get_msg(self, timeout: float | None = None) -> Message:
        """Return the next message.  Block, except directly in a coroutine, where it is awaitable.

        nbclient does ``await channel.get_msg(...)`` in an event loop with other tasks, which a
        blocking call would stop.  A coroutine that calls this method gets an awaitable.  Every
        other caller blocks, even a function that a coroutine calls, and the code of a notebook
        cell, where an event loop always runs.  In a coroutine, prefer :meth:`take_async`, which has
        the right type, or :meth:`take`, which blocks.

        Parameters and errors are those of :meth:`take`.
        """
        if called_by_coroutine():
            return cast(Message, self.take_async(timeout))  # typed for all other callers
        return self.take(timeout)

    def get_msgs(self) -> list[Message]:
        """Return all messages that are there, without waiting."""
        with self.mutex:
            messages: list[Message] = []
            while self.queue and not (messages and isinstance(self.queue[0][0], ReplyLost)):
                messages.append(self._get())
            return messages

    def msg_ready(self) -> bool:
        """Return True if a message is there; awaitable in a coroutine, as :meth:`get_msg`."""
        ready = not self.empty()
        return cast(bool, _completed(ready)) if called_by_coroutine() else ready

    def send(self, msg: Mapping[str, Any], timeout: float | Deadline | None = None) -> None:
        """Send a message that ``session.msg()`` or the caller made.

        Raises
        ------
        GatewayConnectionError, GatewayTimeout, MessageTooLarge, WireError
            See :meth:`gateway_blocking.connection.Connection.send`.
        """
        self._send(self.name, msg, timeout)

    def claim(self, msg_id: str) -> Claim:
        """Return a :class:`Claim` on the messages whose parent is `msg_id`."""
        return Claim(msg_id, self)

    def get_reply(self, msg_id: str, timeout: float | None = None) -> Message:
        """Return the reply to `msg_id`, even if it has come already; other messages stay.

        Raises
        ------
        ReplyLost, KernelRestarted, KernelGone
            The request itself failed with this error, perhaps long ago.
        queue.Empty, GatewayConnectionClosed, DeadKernelError
            As :meth:`take`.
        """
        with self.claim(msg_id) as claim:
            with self.mutex:
                for place, (item, size, _) in enumerate(self.queue):
                    if _answers(item, msg_id):
                        del self.queue[place]
                        self._taken(size, None)
                        if isinstance(item, ReplyLost):
                            raise item
                        message: Message = item
                        return message
                if msg_id in self._failures:
                    raise copy_for_raise(self._failures[msg_id])
            return claim.take(timeout)

    def start(self) -> None:
        """Accept messages, and forget those of an earlier connection."""
        with self.mutex:
            self._started = True
            self.error = None
            self._failures.clear()
            self.queue.clear()
            self.size = self.dropped = 0

    def stop(self) -> None:
        """Accept no more messages; those that are there can still be taken."""
        self.close(GatewayConnectionClosed(f"the {self.name} channel was stopped"))

    def close(self, error: GatewayError | None = None) -> None:
        """Accept no more messages, for the reason that `error` states."""
        with self.mutex:
            self._started = False
            self._end(error or GatewayConnectionClosed(f"the {self.name} channel was closed"))

    def is_alive(self) -> bool:
        """Return True if the channel was started, and neither stopped nor disconnected since."""
        return self._started

    # --- for claims, with the mutex held --------------------------------------------------------

    def add_claim(self, msg_id: str, claim: Claim) -> None:
        """Deliver the messages whose parent is `msg_id` to `claim`.  Requires the mutex."""
        self._claims[msg_id] = claim

    def has_claim(self, msg_id: str) -> bool:
        """Return True if there is a claim on messages of this parent.  Requires the mutex."""
        return msg_id in self._claims

    def remove_claim(self, msg_id: str, claim: Claim) -> None:
        """End what :meth:`add_claim` began.  Requires the mutex."""
        if self._claims.get(msg_id) is claim:
            del self._claims[msg_id]

    def mute(self, msg_id: str) -> None:
        """Drop messages of this parent that come after their claim.  Requires the mutex."""
        self._muted[msg_id] = None
        if len(self._muted) > _REMEMBERED:
            del self._muted[next(iter(self._muted))]

    # --- for the connection ---------------------------------------------------------------------

    def deliver(self, message: dict[str, Any], size: int = 0) -> None:
        """Deliver a message of this many bytes to its claim, or put it into the queue."""
        size += _MESSAGE_COST
        with self.mutex.plain:  # in the reader thread
            if self._started:
                claim = self._claims.get(message["parent_header"].get("msg_id", ""))
                if claim is not None:
                    claim.add(cast(Message, message), size, self)
                elif message["parent_header"].get("msg_id") not in self._muted:
                    self.add(cast(Message, message), size)

    def after_delivery(self) -> None:
        """Warn once if messages were dropped.  Requires that no mutex is held: a handler runs."""
        if self._backlog.must_warn:
            self._backlog.warn()

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        """Raise `error` to each caller that waits for the reply to `msg_id`, now or later."""
        with self.mutex:
            self._request_failed(msg_id, error)

    def _request_failed(self, msg_id: str, error: GatewayError) -> None:
        self._failures[msg_id] = error
        if len(self._failures) > _REMEMBERED:
            del self._failures[next(iter(self._failures))]
        if (claim := self._claims.get(msg_id)) is not None:
            claim.fail(error)

    def deliver_loss(self, lost: ReplyLost) -> None:
        """Deliver the error that stands in place of a reply.

        It is raised to the caller that claimed the reply, or to the caller that takes it from the
        queue.
        """
        with self.mutex:
            self._request_failed(lost.msg_id, lost)
            has_owner = lost.msg_id in self._claims or lost.msg_id in self._muted
            if self._started and not has_owner:
                self.add(lost)

    def kernel_died(self, error: GatewayError) -> None:
        """End each wait with `error`, and each later one until :meth:`revive`."""
        with self.mutex:
            if self._started:
                self._end(error)

    def revive(self) -> None:
        """Accept that the kernel replies again."""
        with self.mutex:
            if self._started:
                self.error = None

    def close_after_fork(self, mutex: Lock, error: GatewayError) -> None:
        """Close the channel in a child process, with a lock that no thread of the parent holds."""
        for each in (self, *self._claims.values()):
            each.reset(mutex)
        self.close(error)

    def _end(self, error: GatewayError) -> None:
        for each in (self, *self._claims.values()):
            each.fail(error)


class Claim(Mailbox):
    """A claim on the messages that answer one request, within its ``with`` block.

    The messages may come from one channel or from several.  A caller enters the block before it
    sends the request.  Messages that are not taken go back to their channels, so that a reply that
    comes after a timeout is still available there.

    >>> with Claim(msg_id, shell, iopub) as claim:  # doctest: +SKIP
    ...     shell.send(request)
    ...     first = claim.take(timeout=10)

    Entering raises RuntimeError if another thread has claimed the same messages.

    Parameters
    ----------
    msg_id : str
        The request.
    *channels : Channel
        The channels on which answers come, all with the same mutex.
    give_back : bool
        Whether messages that are not taken go back to their channels, or are dropped.
    mute : bool
        Whether messages that come afterwards are dropped, because the request is not the user's.
    """

    def __init__(
        self, msg_id: str, *channels: Channel, give_back: bool = True, mute: bool = False
    ) -> None:
        super().__init__(channels[0].mutex)
        self.msg_ids = [msg_id]
        """The requests whose answers are claimed."""
        self._channels = channels
        self._give_back, self._mute = give_back, mute
        self.origin: Mailbox = channels[0]
        """The channel of the message that was taken last."""

    def __enter__(self) -> Claim:
        with self.mutex:
            self._register(self.msg_ids[0])
            for channel in self._channels:
                self.error = self.error or channel.error
        return self

    def add_request(self, msg_id: str) -> None:
        """Claim the answers to one more request."""
        with self.mutex:
            self.msg_ids.append(msg_id)
            self._register(msg_id)

    def _register(self, msg_id: str) -> None:
        if any(channel.has_claim(msg_id) for channel in self._channels):
            raise RuntimeError(f"another thread waits for the reply to {msg_id} already")
        for channel in self._channels:
            channel.add_claim(msg_id, self)

    def __exit__(self, *exc_info: object) -> None:
        with self.mutex:
            for channel in self._channels:
                for msg_id in self.msg_ids:
                    channel.remove_claim(msg_id, self)
                    if self._mute:
                        channel.mute(msg_id)
            while self.queue and self._give_back:
                message, size, origin = self.queue.popleft()
                origin.add(message, size)

    def _taken(self, size: int, origin: Mailbox | None) -> None:
        assert origin is not None
        self.origin = origin

    def holds(self, *msg_types: str) -> bool:
        """Return True if a message of one of these types is there."""
        with self.mutex:
            return any(message["msg_type"] in msg_types for message, *_ in self.queue)

    def has_ended(self) -> bool:
        """Return True if no message can come any more."""
        return self.error is not None


class HBChannel:
    """The heartbeat channel, which tells if gateway and kernel were heard of lately.

    It has the methods of jupyter_client's ``HBChannel``.  A gateway does not forward the heartbeat
    channel of the kernel; the heartbeat thread of the websocket takes its place.

    Parameters
    ----------
    is_beating : callable
        ``is_beating(seconds)``, which returns True if a sign of life came within so many seconds.
    time_to_dead : float
        Seconds without a sign of life after which :meth:`is_beating` returns False.
    """

    def __init__(self, is_beating: Callable[[float], bool], time_to_dead: float) -> None:
        self.time_to_dead = time_to_dead
        self._is_beating = is_beating
        self._started = False
        self._paused = False

    def start(self) -> None:
        """Start the channel."""
        self._started = True

    def stop(self) -> None:
        """Stop the channel."""
        self._started = False

    close = stop

    def is_alive(self) -> bool:
        """Return True if the channel is started."""
        return self._started

    def pause(self) -> None:
        """Make :meth:`is_beating` return False until :meth:`unpause`."""
        self._paused = True

    def unpause(self) -> None:
        """End :meth:`pause`."""
        self._paused = False

    def is_beating(self) -> bool:
        """Return True if the channel is started and not paused, and the kernel seems alive."""
        return self._started and not self._paused and self._is_beating(self.time_to_dead)


def close_after_fork(channels: Iterable[Channel], error: GatewayError) -> None:
    """Close the channels of one client in a child process: their messages are the parent's."""
    mutex = Lock()
    for channel in channels:
        channel.close_after_fork(mutex, error)


ChannelABC.register(Channel)
HBChannelABC.register(HBChannel)


def _answers(item: Message | ReplyLost, msg_id: str) -> bool:
    if isinstance(item, ReplyLost):
        return item.msg_id == msg_id
    return bool(item["parent_header"].get("msg_id") == msg_id)


async def _completed(ready: bool) -> bool:
    """Return what is known already to a coroutine that awaits it."""
    return ready
