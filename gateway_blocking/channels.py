"""The channels of a kernel: queues of messages from which replies can be claimed.

The reader thread delivers; any number of threads take.  A thread that waits for the reply to
its own request claims it by the request's ``msg_id`` before it sends the request, and no other
thread sees that reply.  What nobody claimed waits in the channel's queue, as in jupyter_client.

All queues of one client share one lock, so that a message goes either to a claim or to the
queue and never gets lost where a claim is just being given up.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from queue import Empty, Queue
from time import monotonic
from typing import Any

from jupyter_client.channelsabc import ChannelABC, HBChannelABC
from jupyter_client.session import Session

from .deadline import Deadline
from .errors import DeadKernelError, GatewayConnectionClosed, GatewayError, ReplyLost, fresh
from .locks import Lock, wait
from .wire import Message

__all__ = [
    "Backlog",
    "Channel",
    "Claim",
    "HBChannel",
    "Mailbox",
    "Settling",
    "called_by_coroutine",
    "error_before_clean_up_of_caller",
    "disinherit",
    "startup_timeout_of_caller",
]

_YIELD_EVERY = 0.02
_DEATH_GRACE = 3.0
_SETTLE_STEP = 0.01
_REMEMBERED = 1000  # requests that failed
_MESSAGE_COST = 2048  # bytes of a small message besides its frame (measured: 2.2 kB)


class Mailbox(Queue[Message]):
    """A queue of messages that can come to an end.

    After :meth:`fail`, what is in it can still be taken; then every taker gets the error.
    """

    def __init__(self, mutex: Lock) -> None:
        self._error: GatewayError | None = None
        self._yielded = 0.0
        self._begin(mutex)

    def _begin(self, mutex: Lock) -> None:
        """Be empty, with a lock that nobody holds."""
        super().__init__()
        self.mutex: Lock = mutex  # type: ignore[assignment]  # it has what a Queue uses
        self.not_empty = threading.Condition(mutex)  # type: ignore[arg-type]
        self.not_full = threading.Condition(mutex)  # type: ignore[arg-type]
        self.all_tasks_done = threading.Condition(mutex)  # type: ignore[arg-type]
        self._listeners: list[Callable[[], None]] = []

    def take(self, timeout: float | Deadline | None = None) -> Message:
        """Take the next message, and wait for it if there is none.

        Parameters
        ----------
        timeout : float or Deadline, optional
            Seconds to wait for it; by default as long as one can come.  A timeout of 0 takes a
            message that is there.  A deadline that has passed does not: it ends a loop that
            takes one message after another, also if they come faster than they are handled.

        Raises
        ------
        queue.Empty
            None came in time.
        ReplyLost
            In place of a reply; the next call goes on with the next message.
        GatewayConnectionClosed, DeadKernelError
            None can come any more.
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
                self._check()
                if deadline.passed():
                    raise Empty
                self._listeners.append(news.release)
            try:
                wait(news, deadline)
            finally:
                self._forget(news.release)

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """:meth:`take`, by the name that it has for a plain queue."""
        return self.take(timeout if block else 0)

    def put(self, item: Message, block: bool = True, timeout: float | None = None) -> None:
        """Put a message in; never waits."""
        with self.mutex:
            self._put(item)

    async def take_async(self, timeout: float | None = None) -> Message:
        """As :meth:`take`, for an event loop, which goes on while this waits.

        A cancelled or forgotten wait takes no message, because the message is taken only when
        the waiting coroutine runs again.  A kernel's death is raised a few seconds late:
        nbclient finds out by itself within one second, and then says so in its own words.
        """
        deadline = Deadline(timeout)
        mourned = False
        self._is_read_by(asyncio.current_task())
        while True:
            if monotonic() - self._yielded > _YIELD_EVERY:  # a flood must not starve the loop
                await asyncio.sleep(0)
                self._yielded = monotonic()
            loop = asyncio.get_running_loop()
            news = loop.create_future()
            listener = partial(_tell, loop, news)
            with self.mutex:
                if self.queue:
                    return self._get()
                dying = isinstance(self._error, DeadKernelError)
                if mourned or not dying:
                    self._check()
                if deadline.passed():
                    raise Empty
                self._listeners.append(listener)
            left = deadline.left()
            if dying:
                left = _DEATH_GRACE if left is None else min(left, _DEATH_GRACE)
            try:
                await asyncio.wait((news,), timeout=left)
            finally:
                self._forget(listener)
            mourned = dying and not news.done()
            self._yielded = monotonic()

    def _is_read_by(self, task: asyncio.Task[Any] | None) -> None:
        """Take note of a coroutine that reads."""

    def _fail(self, error: GatewayError) -> None:
        self._error = error
        self._wake()

    def _check(self) -> None:
        if self._error is not None:
            raise fresh(self._error)

    def _put(self, item: Message, size: int = 0, origin: Channel | None = None) -> None:
        """Put a message in, with its size and where it came; requires the lock."""
        # All in one, so that an interruption cannot part them.
        self.queue.append((item, size, origin))
        if self._listeners:
            self._wake()

    def _get(self) -> Message:
        item: Message | ReplyLost
        item, size, origin = self.queue.popleft()
        self._taken(size, origin)
        if isinstance(item, ReplyLost):  # it stands where the reply would
            raise item
        return item

    def _taken(self, size: int, origin: Channel | None) -> None:
        """Take note of a message that left the queue."""

    def _wake(self) -> None:
        # All of them: one that was left behind in a stopped loop must not hide the news.
        listeners, self._listeners = self._listeners, []
        for tell in listeners:
            tell()

    def _forget(self, listener: Callable[[], None]) -> None:
        with self.mutex:
            if listener in self._listeners:
                self._listeners.remove(listener)


def _tell(loop: asyncio.AbstractEventLoop, news: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_resolve, news)
    except RuntimeError:
        pass  # the loop was closed: nobody waits there any more


def _resolve(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


class Backlog:
    """The bound of what the channels of one client keep until a caller takes it.

    The oldest message goes first, of the channel that has most: a flood of output displaces no
    replies.  A channel that a coroutine reads keeps all, and every channel its last message.

    All but :meth:`warn` requires the channels' mutex.

    Parameters
    ----------
    limit : int
        Bytes, as the messages came, with some for what each costs besides; 0 for no bound.
    warn : callable
        ``warn(text)``, called once.
    """

    def __init__(self, limit: int = 0, warn: Callable[[str], None] = lambda text: None) -> None:
        self._limit = limit or math.inf
        self._warn = warn
        self._channels: list[Channel] = []
        self.must_warn = False
        self._has_warned = False

    def join(self, channel: Channel) -> None:
        """Bound this channel, too."""
        self._channels.append(channel)

    def check(self) -> None:
        """Drop messages until what is left is within the bound."""
        while sum([channel.size for channel in self._channels]) > self._limit:
            unread = [c for c in self._channels if len(c.queue) > 1 and not c.has_reader()]
            if not unread:
                return
            max(unread, key=lambda channel: channel.size).drop_oldest()
            self.must_warn = not self._has_warned

    def warn(self) -> None:
        """Tell that messages were dropped; without the mutex, for a handler may do anything."""
        self.must_warn, self._has_warned = False, True
        self._warn(
            f"messages that no caller takes fill {self._limit:,} bytes, and the oldest are dropped:"
            " take them with get_iopub_msg() and the like, or change max_unread_size"
        )


class Channel(Mailbox):
    """One channel of a kernel: ``shell``, ``iopub``, ``stdin`` or ``control``.

    Has the methods of jupyter_client's ``ZMQSocketChannel``.

    Parameters
    ----------
    name : str
        The channel's name.
    send : callable
        ``send(name, message, timeout)``, which sends a message on this channel.
    session : Session
        The factory of messages.
    mutex : Lock
        The lock that the queues of one client share.
    backlog : Backlog, optional
        The bound that they share.

    Attributes
    ----------
    dropped : int
        How many messages were dropped since the channel was started, because no caller took them.
    """

    socket = None  # there is none: the channels share one websocket

    def __init__(
        self,
        name: str,
        send: Callable[[str, Message, float | Deadline | None], None],
        session: Session,
        mutex: Lock,
        backlog: Backlog | None = None,
    ) -> None:
        super().__init__(mutex)
        self.dropped = 0
        self._backlog = backlog or Backlog()
        self._backlog.join(self)
        self._reader: weakref.ref[asyncio.Task[Any]] | None = None
        self.name = name
        self.session = session
        self._send = send
        self._started = False
        self._claims: dict[str, Claim] = {}
        self._failures: dict[str, GatewayError] = {}  # by the msg_id of the request

    def __repr__(self) -> str:
        state = "started" if self.is_alive() else "stopped"
        return f"<Channel {self.name}, {state}, {len(self.queue)} messages>"  # without the lock

    # --- what is in the queue -------------------------------------------------------------------

    def _begin(self, mutex: Lock) -> None:
        super()._begin(mutex)
        self.size = 0
        """Bytes of the messages in the queue."""

    def _put(self, item: Message, size: int = 0, origin: Channel | None = None) -> None:
        super()._put(item, size)
        self.size += size
        self._backlog.check()

    def _taken(self, size: int, origin: Channel | None) -> None:
        self.size = self.size - size if self.queue else 0

    def drop_oldest(self) -> None:
        """Make room for others."""
        _, size, _ = self.queue.popleft()
        self._taken(size, None)
        self.dropped += 1

    def _is_read_by(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and (self._reader is None or self._reader() is not task):
            self._reader = weakref.ref(task)

    def has_reader(self) -> bool:
        """Return whether a task that is not done took the last message, or waits for it."""
        task = None if self._reader is None else self._reader()
        return task is not None and not (task.done() or task.get_loop().is_closed())

    # --- for the client -------------------------------------------------------------------------

    def get_msg(self, timeout: float | None = None) -> Any:
        """Return the next message.  Block, except directly in a coroutine, where it is awaitable.

        ``await channel.get_msg(...)`` is what nbclient does, with other tasks beside it in its
        event loop, which a blocking call would stop.  A coroutine that calls this gets an
        awaitable; every other caller blocks, also one that is called by a coroutine, or code
        of a notebook cell, where an event loop always runs.  To block in a coroutine all the
        same, use :meth:`take` or the client's ``get_iopub_msg`` and its like.

        Parameters and errors are those of :meth:`take`.
        """
        return self.take_async(timeout) if called_by_coroutine() else self.take(timeout)

    def get_msgs(self) -> list[Message]:
        """All messages that are there, without waiting."""
        with self.mutex:
            messages: list[Message] = []
            while self.queue and not (messages and isinstance(self.queue[0][0], ReplyLost)):
                messages.append(self._get())
            return messages

    def msg_ready(self) -> Any:
        """Whether a message is there; awaitable directly in a coroutine, as :meth:`get_msg`."""
        ready = not self.empty()
        return _answer(ready) if called_by_coroutine() else ready

    def send(self, msg: Message, timeout: float | Deadline | None = None) -> None:
        """Send a message, made by ``session.msg`` or by hand.

        Raises
        ------
        GatewayConnectionError, GatewayTimeout, MessageTooLarge, WireError
            See :meth:`gateway_blocking.connection.Connection.send`.
        """
        self._send(self.name, msg, timeout)

    def claim(self, msg_id: str) -> Claim:
        """Have the messages whose parent is `msg_id` put aside: see :class:`Claim`."""
        return Claim(msg_id, self)

    def get_reply(self, msg_id: str, timeout: float | None = None) -> Message:
        """Return the reply to `msg_id`, even if it has come already; other messages stay.

        Raises
        ------
        ReplyLost, KernelRestarted, KernelGone
            The request itself came to this end, perhaps long ago.
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
                    raise fresh(self._failures[msg_id])
            return claim.take(timeout)

    def start(self) -> None:
        """Let messages in, forgetting those of an earlier connection."""
        with self.mutex:
            self._started = True
            self._error = None
            self._failures.clear()
            self.queue.clear()
            self.size = self.dropped = 0

    def stop(self) -> None:
        """Let no more messages in; those that are there can still be taken."""
        self.close(GatewayConnectionClosed(f"the {self.name} channel was stopped"))

    def close(self, error: GatewayError | None = None) -> None:
        """:meth:`stop`, for a reason."""
        with self.mutex:
            self._started = False
            self._end(error or GatewayConnectionClosed(f"the {self.name} channel was closed"))

    def is_alive(self) -> bool:
        """Whether the channel was started, and neither stopped nor disconnected since."""
        return self._started

    # --- for the connection ---------------------------------------------------------------------

    def deliver(self, message: Message, size: int = 0) -> None:
        """Give a message of so many bytes to who claimed it, or put it into the queue."""
        size += _MESSAGE_COST
        with self.mutex.plain:  # in the reader thread
            if self._started:
                claim = self._claims.get(message["parent_header"].get("msg_id", ""))
                if claim is None:
                    self._put(message, size)
                else:
                    claim._put(message, size, self)
        if self._backlog.must_warn:
            self._backlog.warn()

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        """No reply to `msg_id` will come: who waits for just that, now or later, is told."""
        with self.mutex:
            self._request_failed(msg_id, error)

    def _request_failed(self, msg_id: str, error: GatewayError) -> None:
        self._failures[msg_id] = error
        if len(self._failures) > _REMEMBERED:
            del self._failures[next(iter(self._failures))]
        if (claim := self._claims.get(msg_id)) is not None:
            claim._fail(error)

    def deliver_loss(self, lost: ReplyLost) -> None:
        """:meth:`request_failed`; and where nobody claimed the reply, this stands in its place.

        Whoever takes it from the queue gets it raised.
        """
        with self.mutex:
            self._request_failed(lost.msg_id, lost)
            if self._started and lost.msg_id not in self._claims:
                self._put(lost)  # type: ignore[arg-type]  # see _get

    def kernel_died(self, error: GatewayError) -> None:
        """End every wait with `error`, and every later one, until :meth:`revive`."""
        with self.mutex:
            if self._started:
                self._end(error)

    def revive(self) -> None:
        """Accept that the kernel answers again."""
        with self.mutex:
            if self._started:
                self._error = None

    def _end(self, error: GatewayError) -> None:
        for box in (self, *self._claims.values()):
            box._fail(error)


class Claim(Mailbox):
    """Within its ``with``, the answers to one request, from one channel or several.

    Best entered before the request is sent.  What is not taken goes back to its channel, so
    that a reply that comes after a timeout can still be had from there.

    >>> with Claim(msg_id, shell, iopub) as claim:  # doctest: +SKIP
    ...     shell.send(request)
    ...     first = claim.take(timeout=10)

    With ``give_back=False``, what is not taken is dropped.

    Raises RuntimeError on entering where somebody else waits for the same answers.
    """

    def __init__(self, msg_id: str, *channels: Channel, give_back: bool = True) -> None:
        super().__init__(channels[0].mutex)
        self.msg_ids = [msg_id]
        """The requests whose answers are claimed."""
        self._channels = channels
        self._give_back = give_back
        self.origin = channels[0]
        """The channel on which the message came that was taken last."""

    def __enter__(self) -> Claim:
        with self.mutex:
            self._register(self.msg_ids[0])
            for channel in self._channels:
                self._error = self._error or channel._error
        return self

    def add(self, msg_id: str) -> None:
        """Claim the answers to one more request."""
        with self.mutex:
            self.msg_ids.append(msg_id)
            self._register(msg_id)

    def _register(self, msg_id: str) -> None:
        if any(msg_id in channel._claims for channel in self._channels):
            raise RuntimeError(f"another thread waits for the reply to {msg_id} already")
        for channel in self._channels:
            channel._claims[msg_id] = self

    def __exit__(self, *exc_info: object) -> None:
        with self.mutex:
            for channel in self._channels:
                for msg_id in self.msg_ids:
                    if channel._claims.get(msg_id) is self:
                        del channel._claims[msg_id]
            while self.queue and self._give_back:
                message, size, origin = self.queue.popleft()
                origin._put(message, size)

    def _taken(self, size: int, origin: Channel | None) -> None:
        assert origin is not None
        self.origin = origin

    def holds(self, *msg_types: str) -> bool:
        """Return whether a message of one of these types is there."""
        with self.mutex:
            return any(message["msg_type"] in msg_types for message, *_ in self.queue)

    def has_ended(self) -> bool:
        """Return whether no message comes any more."""
        return self._error is not None


class HBChannel:
    """The heartbeat: whether gateway and kernel were lately heard of.

    Has the methods of jupyter_client's ``HBChannel``.  The beats are those of the websocket's
    own heartbeat thread, because a gateway does not pass the kernel's heartbeat channel on.

    Parameters
    ----------
    is_beating : callable
        ``is_beating(seconds)``: whether a sign of life came within so many seconds.
    time_to_dead : float
        Seconds without a sign of life after which the heart counts as stopped.
    """

    def __init__(self, is_beating: Callable[[float], bool], time_to_dead: float) -> None:
        self.time_to_dead = time_to_dead
        self._is_beating = is_beating
        self._started = False
        self._paused = False

    def start(self) -> None:
        """Start to judge."""
        self._started = True

    def stop(self) -> None:
        """Stop to judge."""
        self._started = False

    close = stop

    def is_alive(self) -> bool:
        """Whether the channel was started."""
        return self._started

    def pause(self) -> None:
        """Say nothing, until :meth:`unpause`: :meth:`is_beating` is False."""
        self._paused = True

    def unpause(self) -> None:
        """Judge again."""
        self._paused = False

    def is_beating(self) -> bool:
        """Whether the channel is started, not paused, and the kernel not known to be dead."""
        return self._started and not self._paused and self._is_beating(self.time_to_dead)


def disinherit(channels: Iterable[Channel], error: GatewayError) -> None:
    """End the channels of one client in a child process, where another has their messages."""
    mutex = Lock()
    for channel in channels:
        for box in (channel, *channel._claims.values()):
            box._begin(mutex)
        channel.close(error)


ChannelABC.register(Channel)
HBChannelABC.register(HBChannel)


def _answers(item: Message | ReplyLost, msg_id: str) -> bool:
    if isinstance(item, ReplyLost):
        return item.msg_id == msg_id
    return bool(item["parent_header"].get("msg_id") == msg_id)


def called_by_coroutine() -> bool:
    """Whether the function that asks was called directly in a running coroutine."""
    if asyncio._get_running_loop() is None:
        return False
    caller = sys._getframe(2).f_code
    return bool(caller.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))


def startup_timeout_of_caller() -> float | None:
    """Return nbclient's ``startup_timeout`` if it called the function that asks, else None.

    It starts a kernel by a coroutine of its client, and does not hand this option on.
    """
    caller = sys._getframe(2)
    if asyncio._get_running_loop() is None or not caller.f_code.co_flags & inspect.CO_COROUTINE:
        return None
    found = getattr(caller.f_locals.get("self"), "startup_timeout", None)
    return float(found) if isinstance(found, int | float) else None


def error_before_clean_up_of_caller() -> BaseException | None:
    """Return the error that ended an execution, if nbclient cleans up after it by this call.

    It does so in a ``finally``: what the function that asks raises would replace that error.
    """
    if sys._getframe(2).f_code.co_name != "_async_cleanup_kernel":
        return None
    return sys.exception()


async def _answer(ready: bool) -> bool:
    return ready


class Settling:
    """What a call that is done may give a coroutine to await.

    Tasks that read these channels beside it then take what came while the call blocked their
    event loop.  Nothing is amiss where it is not awaited.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels

    def __await__(self) -> Generator[Any, None, None]:
        return self._settle().__await__()

    async def _settle(self) -> None:
        before = -1  # as long as messages get fewer, somebody takes them
        while 0 < (there := sum(len(channel.queue) for channel in self._channels)) != before:
            before = there
            await asyncio.sleep(_SETTLE_STEP)
