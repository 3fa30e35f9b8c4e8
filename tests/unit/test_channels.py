"""Channels: who gets which message, and what ends a wait."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import Any

import pytest
from jupyter_client.channelsabc import ChannelABC, HBChannelABC
from jupyter_client.session import Session

from gateway_blocking import coroutines
from gateway_blocking.backlog import Backlog
from gateway_blocking.channels import Channel, Claim, HBChannel
from gateway_blocking.coroutines import QueueDrain
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    KernelRestarted,
    ReplyLost,
)
from gateway_blocking.locks import Lock

SESSION = Session(key=b"secret")


def message(parent: str = "", msg_type: str = "stream", **content: Any) -> dict[str, Any]:
    made: dict[str, Any] = SESSION.msg(msg_type, content)
    made["parent_header"] = {"msg_id": parent} if parent else {}
    return made


def started(name: str = "shell", mutex: Lock | None = None) -> Channel:
    channel = Channel(name, lambda *sent: None, SESSION, mutex or Lock())
    channel.start()
    return channel


@pytest.fixture
def channel() -> Channel:
    return started()


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine in an event loop of this test's own."""
    loop = asyncio.new_event_loop()
    yield lambda work: loop.run_until_complete(asyncio.wait_for(work, 30))
    loop.close()


def test_a_channel_is_what_it_says(channel: Channel) -> None:
    """A queue.Queue, a ChannelABC, alive once started, without a socket."""
    assert isinstance(channel, Queue)
    assert isinstance(channel, ChannelABC)
    assert channel.is_alive()
    assert channel.socket is None
    assert "shell, started, 0 messages" in repr(channel)


def test_messages_come_in_order(channel: Channel) -> None:
    """First in, first out; msg_ready and get_msgs look without waiting."""
    assert not channel.msg_ready()
    sent = [message(n=n) for n in range(4)]
    for one in sent:
        channel.deliver(one)
    assert channel.msg_ready()
    assert channel.get_msg() is sent[0]
    assert channel.get_msg(1) is sent[1]
    assert channel.get_msgs() == sent[2:]
    with pytest.raises(Empty):
        channel.get_msg(timeout=0)


def test_a_deadline_that_has_passed_takes_nothing(channel: Channel) -> None:
    """So a loop over many messages ends in time; a timeout of 0 takes what is there."""
    channel.deliver(message())
    with pytest.raises(Empty):
        channel.take(Deadline(0))
    assert channel.take(0)["msg_type"] == "stream"


def test_a_channel_that_is_not_started_takes_nothing_in() -> None:
    """Nor does one that was stopped; starting again forgets what was left."""
    channel = Channel("iopub", lambda *sent: None, SESSION, Lock())
    channel.deliver(message())
    assert channel.qsize() == 0
    channel.start()
    channel.deliver(message())
    channel.stop()
    channel.deliver(message())
    assert channel.qsize() == 1
    channel.start()
    assert channel.qsize() == 0


def test_send_passes_on(channel: Channel) -> None:
    """The channel's name, the message and the time-out go to the connection."""
    sent: list[Any] = []
    channel = Channel("control", lambda *args: sent.append(args), SESSION, Lock())
    one = message()
    channel.send(one, 3)
    assert sent == [("control", one, 3)]


# --- claims ---------------------------------------------------------------------------------------


def test_a_claimed_reply_goes_to_its_claim_only(channel: Channel) -> None:
    """And what nobody claimed to the queue."""
    with channel.claim("a") as claim:
        channel.deliver(message("b"))
        channel.deliver(message("a"))
        assert claim.take(timeout=0)["parent_header"]["msg_id"] == "a"
        assert channel.get_msg(timeout=0)["parent_header"]["msg_id"] == "b"
        with pytest.raises(Empty):
            claim.take(timeout=0)
    channel.deliver(message("a"))
    assert channel.qsize() == 1


def test_what_is_left_of_a_claim_goes_back_to_its_channel() -> None:
    """Each message to the channel it came on, so that a late reply is not lost."""
    mutex = Lock()
    shell, iopub = started("shell", mutex), started("iopub", mutex)
    with Claim("a", shell, iopub) as claim:
        iopub.deliver(message("a", "status"))
        shell.deliver(message("a", "execute_reply"))
        iopub.deliver(message("a", "stream"))
        assert claim.holds("execute_reply", "input_request")
        assert not claim.holds("input_request")
        assert claim.take()["msg_type"] == "status"
    assert [m["msg_type"] for m in shell.get_msgs()] == ["execute_reply"]
    assert [m["msg_type"] for m in iopub.get_msgs()] == ["stream"]


def test_what_comes_after_a_muted_claim_is_dropped() -> None:
    """It answers a request that is not the user's; even a reply that is lost is not told."""
    mutex = Lock()
    shell, iopub = started(mutex=mutex), started("iopub", mutex)
    with Claim("ours", shell, iopub, give_back=False, mute=True) as claim:
        claim.add_request("again")
        shell.deliver(message("ours"))
    for parent in ("ours", "again", "theirs"):
        for channel in (shell, iopub):
            channel.deliver(message(parent))
    shell.deliver_loss(ReplyLost("lost", msg_id="again"))
    for channel in (shell, iopub):
        assert [each["parent_header"]["msg_id"] for each in channel.get_msgs()] == ["theirs"]
        assert channel.empty()


def test_get_reply_finds_what_came_already(channel: Channel) -> None:
    """And leaves everything else where it is; or waits for it."""
    for parent in "abc":
        channel.deliver(message(parent))
    assert channel.get_reply("b", timeout=0)["parent_header"]["msg_id"] == "b"
    assert [m["parent_header"]["msg_id"] for m in channel.get_msgs()] == ["a", "c"]
    threading.Timer(0.02, channel.deliver, [message("d")]).start()
    assert channel.get_reply("d", timeout=10)["parent_header"]["msg_id"] == "d"
    with pytest.raises(Empty):
        channel.get_reply("e", timeout=0)


def test_many_threads_get_each_their_own(channel: Channel) -> None:
    """16 threads, 100 replies each, delivered in reverse order by another thread."""
    requests: Queue[str] = Queue()

    def ask(worker: int) -> None:
        for n in range(100):
            msg_id = f"{worker}-{n}"
            with channel.claim(msg_id) as claim:
                requests.put(msg_id)
                assert claim.take(timeout=30)["parent_header"]["msg_id"] == msg_id

    def answer() -> None:
        left = 1600
        while left:
            batch = [requests.get(timeout=30)]
            while not requests.empty():
                batch.append(requests.get())
            for msg_id in reversed(batch):
                channel.deliver(message(msg_id))
            left -= len(batch)

    with ThreadPoolExecutor(17) as pool:
        work = [pool.submit(answer), *(pool.submit(ask, worker) for worker in range(16))]
        for one in work:
            one.result(timeout=60)
    assert channel.qsize() == 0


# --- the end --------------------------------------------------------------------------------------


def test_the_end_comes_after_what_is_there(channel: Channel) -> None:
    """Messages that came can be taken; then everybody gets the error, with its cause."""
    channel.deliver(message())
    closed = GatewayConnectionClosed("it broke")
    closed.__cause__ = GatewayConnectionError("reset")
    channel.close(closed)
    assert not channel.is_alive()
    channel.get_msg()
    with pytest.raises(GatewayConnectionClosed, match="it broke") as first:
        channel.get_msg()
    with pytest.raises(GatewayConnectionClosed, match="it broke") as second:
        channel.get_msg(timeout=5)
    assert first.value is not second.value
    assert second.value.__cause__ is closed.__cause__


def test_the_end_wakes_who_waits(channel: Channel) -> None:
    """On the channel and with claims alike."""

    def claimed(msg_id: str) -> Any:
        with channel.claim(msg_id) as claim:
            return claim.take()

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(channel.get_msg), pool.submit(channel.get_msg)]
        waiting += [pool.submit(claimed, "a"), pool.submit(claimed, "b")]
        time.sleep(0.02)
        channel.close(GatewayConnectionClosed("it broke"))
        for one in waiting:
            with pytest.raises(GatewayConnectionClosed):
                one.result(timeout=10)


def test_a_dead_kernel_ends_waits_until_it_is_revived(channel: Channel) -> None:
    """Also the waits that begin later; after revive() messages come as before."""
    channel.kernel_died(KernelRestarted("gone"))
    with pytest.raises(DeadKernelError):
        channel.get_msg()
    with channel.claim("a") as claim, pytest.raises(DeadKernelError):
        claim.take()
    assert channel.is_alive()
    channel.revive()
    with pytest.raises(Empty):
        channel.get_msg(timeout=0)


def test_a_negative_timeout_is_an_error(channel: Channel) -> None:
    """A ValueError, not a wait for ever."""
    with pytest.raises(ValueError, match="negative"):
        channel.get_msg(-1)


def test_settling_lets_others_take(channel: Channel, run: Callable[..., Any]) -> None:
    """Who awaits it goes on when nobody takes any more; it need not be awaited."""

    async def work() -> tuple[list[str], int]:
        taken = []

        async def reader() -> None:
            for _ in range(3):
                taken.append((await channel.get_msg())["msg_type"])

        task = asyncio.ensure_future(reader())
        await asyncio.sleep(0)
        for number in range(5):  # nobody is there for the last two
            channel.deliver(message(msg_type=str(number)))
        QueueDrain([channel])
        await QueueDrain([channel])
        await task
        return taken, channel.qsize()

    assert run(work()) == (["0", "1", "2"], 2)


def test_one_reply_is_for_one_thread(channel: Channel) -> None:
    """A second claim to the same reply is refused, and does not disturb the first."""
    iopub = started("iopub", channel.mutex)
    with Claim("1", channel) as first:
        with pytest.raises(RuntimeError, match="another thread waits"), Claim("1", iopub, channel):
            pass
        channel.deliver(message("1", "execute_reply"))
        assert first.take(timeout=0)["msg_type"] == "execute_reply"
    with Claim("1", iopub, channel):
        assert len(channel._claims) == 1
    assert channel._claims == iopub._claims == {}


def test_control_c_ends_a_wait(channel: Channel) -> None:
    """KeyboardInterrupt comes out of a wait without a time-out."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            channel.get_msg()
    finally:
        signal.signal(signal.SIGALRM, previous)


# --- what no caller takes -------------------------------------------------------------------------


class Bounded:
    """Two channels of one client, which keep 100,000 bytes until a caller takes them."""

    def __init__(self, limit: int = 100_000) -> None:
        self.warnings: list[str] = []
        mutex, backlog = Lock(), Backlog(limit, self.warnings.append)
        self.shell, self.iopub = (
            Channel(name, lambda *sent: None, SESSION, mutex, backlog)
            for name in ("shell", "iopub")
        )
        self.shell.start()
        self.iopub.start()

    def flood(self, count: int = 100, size: int = 10_000, parent: str = "") -> None:
        for number in range(count):
            self.iopub.deliver(message(parent, n=number), size)
            self.iopub.after_delivery()


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [m["content"]["n"] for m in messages]


def test_what_no_caller_takes_is_bounded() -> None:
    """The oldest messages are dropped, counted, and warned of once; the reply stays."""
    client = Bounded()
    client.shell.deliver(message("a", "execute_reply"), 5_000)
    client.flood()
    kept = client.iopub.get_msgs()
    assert 5 <= len(kept) <= 9
    assert numbers(kept) == list(range(100))[-len(kept) :]
    assert client.iopub.dropped == 100 - len(kept)
    client.flood()
    assert client.shell.dropped == 0
    assert client.shell.get_reply("a", timeout=0)["msg_type"] == "execute_reply"
    assert len(client.warnings) == 1
    assert "max_unread_size" in client.warnings[0]
    client.iopub.start()
    assert client.iopub.dropped == client.iopub.size == 0


def test_the_last_message_stays_however_large_it_is() -> None:
    """Else it could not be had at all."""
    client = Bounded()
    client.flood(2, 1_000_000)
    assert numbers(client.iopub.get_msgs()) == [1]


def test_no_limit_is_no_limit() -> None:
    """As before: all of it is kept."""
    client = Bounded(0)
    client.flood(1000, 1_000_000)
    assert client.iopub.qsize() == 1000
    assert client.warnings == []


def test_what_is_taken_makes_room() -> None:
    """In whatever way; a small message in between does not hide a large one."""
    client = Bounded()
    for _ in range(50):
        client.flood(3, 20_000)
        client.iopub.deliver(message("mine", n=3))
        assert client.iopub.get_reply("mine", timeout=0)["content"]["n"] == 3
        assert client.iopub.take(0)["content"]["n"] == 0
        assert numbers(client.iopub.get_msgs()) == [1, 2]
        assert client.iopub.size == 0
    assert client.iopub.dropped == 0


def test_what_is_claimed_is_not_dropped() -> None:
    """It belongs to the thread that waits for it; what it leaves counts again."""
    client = Bounded()
    with Claim("a", client.iopub) as claim:
        client.flood(parent="a")
        assert numbers([claim.take(0) for _ in range(50)]) == list(range(50))
    kept = numbers(client.iopub.get_msgs())
    assert kept == list(range(100))[-len(kept) :]
    assert client.iopub.dropped == 50 - len(kept) > 0


def test_what_a_coroutine_reads_is_not_dropped(run: Any) -> None:
    """As nbclient's, which may be busy with something else for a while."""
    client = Bounded()

    async def read() -> list[int]:
        first = await client.iopub.get_msg(timeout=30)
        client.flood()
        more = [await client.iopub.get_msg(timeout=30) for _ in range(100)]
        return numbers([first, *more])

    async def main() -> list[int]:
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        client.flood(1)
        return await reading

    assert run(main()) == [0, *range(100)]
    client.flood()
    assert client.iopub.dropped > 0  # the task is done


# --- one class for blocking and for event loops ---------------------------------------------------


def test_directly_in_a_coroutine_it_is_awaitable(channel: Channel, run: Any) -> None:
    """The event loop goes on while it waits; the reader's thread wakes it."""
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            if len(ticks) == 4:  # the loop goes on: only then is there something to get
                threading.Timer(0, channel.deliver, [message("a")]).start()
            await asyncio.sleep(0)

    async def main() -> Any:
        ticking = asyncio.ensure_future(tick())
        got = await channel.get_msg(timeout=None)
        ticking.cancel()
        assert await channel.msg_ready() is False
        return got

    assert run(main())["parent_header"]["msg_id"] == "a"


def test_a_function_called_by_a_coroutine_blocks(channel: Channel, run: Any) -> None:
    """As does code of a notebook cell, where a loop always runs; and take() everywhere."""
    channel.deliver(message("a"))
    channel.deliver(message("b"))

    def ordinary() -> Any:
        return channel.get_msg(timeout=0)

    async def main() -> Any:
        return ordinary(), channel.take(timeout=0)

    assert [m["parent_header"]["msg_id"] for m in run(main())] == ["a", "b"]


def test_awaiting_ends_with_its_timeout(channel: Channel, run: Any) -> None:
    """Empty, as in jupyter_client; a negative time-out is a ValueError."""

    async def main(timeout: float) -> None:
        await channel.get_msg(timeout=timeout)

    for timeout in (0, 0.1):
        with pytest.raises(Empty):
            run(main(timeout))
    with pytest.raises(ValueError, match="negative"):
        run(main(-1))
    assert channel._listeners == []


def test_a_cancelled_wait_takes_nothing_along(channel: Channel, run: Any) -> None:
    """The message goes to the next one who waits, and no listener is left."""

    async def main() -> Any:
        waiting = asyncio.ensure_future(channel.get_msg())
        await asyncio.sleep(0.05)
        waiting.cancel()
        channel.deliver(message("a"))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await channel.get_msg(timeout=0)

    assert run(main())["parent_header"]["msg_id"] == "a"
    assert channel._listeners == []


def test_cancelled_at_the_moment_of_the_message(channel: Channel, run: Any) -> None:
    """Woken and then cancelled before it runs again: still nothing is lost."""

    async def main() -> Any:
        for _ in range(50):
            waiting = asyncio.ensure_future(channel.get_msg())
            await asyncio.sleep(0.001)
            channel.deliver(message("a"))
            await asyncio.sleep(0)
            waiting.cancel()
            try:
                await waiting
            except asyncio.CancelledError:
                await channel.get_msg(timeout=0)

    run(main())
    assert channel.qsize() == 0


def test_a_wait_forgotten_in_a_stopped_loop_disturbs_nobody(channel: Channel) -> None:
    """nbclient leaves such waits behind; they take no message, closed loop or not."""
    for close in (False, True):
        loop = asyncio.new_event_loop()
        forgotten = loop.create_task(channel.take_async())
        loop.run_until_complete(asyncio.sleep(0.01))
        if close:
            loop.close()
        channel.deliver(message("a"))
        assert channel.get_msg(timeout=0)["parent_header"]["msg_id"] == "a"
        newer = asyncio.new_event_loop()
        threading.Timer(0.02, channel.deliver, [message("b")]).start()
        got = newer.run_until_complete(channel.take_async(timeout=10))
        assert got["parent_header"]["msg_id"] == "b"
        newer.close()
        if not close:
            forgotten.cancel()
            loop.run_until_complete(asyncio.gather(forgotten, return_exceptions=True))
            loop.close()
        else:
            forgotten._log_destroy_pending = False  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError):
                forgotten.get_coro().throw(RuntimeError)  # type: ignore[union-attr]


def test_a_loop_may_stop_between_two_waits(channel: Channel, run: Any) -> None:
    """papermill runs one loop per cell: the channel remembers none."""
    for n in range(3):
        channel.deliver(message(str(n)))
        assert run(channel.take_async())["parent_header"]["msg_id"] == str(n)


def test_a_flood_does_not_starve_the_loop(channel: Channel, run: Any) -> None:
    """With a message always there, other tasks still run now and then."""
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0)

    async def main() -> None:
        ticking = asyncio.ensure_future(tick())
        end = time.monotonic() + 30
        while len(ticks) <= 5:
            assert time.monotonic() < end, "the other task does not run"
            channel.deliver(message())
            await channel.get_msg(timeout=None)
        ticking.cancel()

    run(main())


def test_death_is_told_late_to_a_coroutine(
    channel: Channel, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nbclient, which looks by itself every second, can tell in its own words."""
    monkeypatch.setattr(coroutines, "DEATH_GRACE", 0.2)
    channel.kernel_died(DeadKernelError("gone"))
    start = time.monotonic()

    async def main() -> None:
        await channel.get_msg()

    with pytest.raises(DeadKernelError):
        run(main())
    assert time.monotonic() - start > 0.15

    async def lost() -> None:
        await channel.get_msg()

    channel.close(GatewayConnectionClosed("it broke"))
    with pytest.raises(GatewayConnectionClosed):
        run(lost())


# --- the heartbeat --------------------------------------------------------------------------------


def test_the_heartbeat_channel() -> None:
    """Beats while it is started, not paused, and the connection says so."""
    asked: list[float] = []

    def beats(within: float) -> bool:
        asked.append(within)
        return True

    hb = HBChannel(beats, time_to_dead=7)
    assert isinstance(hb, HBChannelABC)
    assert not hb.is_alive()
    assert not hb.is_beating()
    hb.start()
    assert hb.is_alive()
    assert hb.is_beating()
    assert asked == [7]
    hb.pause()
    assert not hb.is_beating()
    hb.unpause()
    assert hb.is_beating()
    hb.stop()
    assert not hb.is_beating()
    assert not HBChannel(lambda within: False, 1).is_beating()


# --- replies that are lost ------------------------------------------------------------------------


def lost(msg_id: str) -> ReplyLost:
    return ReplyLost(f"no reply to {msg_id}", msg_id=msg_id, executed=True)


def test_a_lost_reply_stands_where_the_reply_would(channel: Channel) -> None:
    """It is raised once, in its turn; the next call goes on with the next message."""
    channel.deliver(message("a"))
    channel.deliver_loss(lost("b"))
    channel.deliver(message("c"))
    assert channel.get_msg()["parent_header"]["msg_id"] == "a"
    assert channel.msg_ready()
    with pytest.raises(ReplyLost) as failure:
        channel.get_msg(timeout=0)
    assert failure.value.msg_id == "b"
    assert failure.value.executed is True
    assert channel.get_msg(timeout=0)["parent_header"]["msg_id"] == "c"
    with pytest.raises(Empty):
        channel.get_msg(timeout=0)


def test_a_lost_reply_wakes_who_waits(channel: Channel, run: Any) -> None:
    """A thread and a coroutine; also who uses the channel as the queue that it is."""

    async def main() -> None:
        await channel.get_msg(timeout=20)

    for wait in (lambda: channel.get_msg(timeout=20), lambda: channel.get(timeout=20)):
        threading.Timer(0.05, channel.deliver_loss, [lost("a")]).start()
        with pytest.raises(ReplyLost):
            wait()
    threading.Timer(0.05, channel.deliver_loss, [lost("a")]).start()
    with pytest.raises(ReplyLost):
        run(main())
    assert channel.qsize() == 0


def test_get_msgs_loses_nothing_beside_a_lost_reply(channel: Channel) -> None:
    """It gives what came before, raises at the next call, and then gives what came after."""
    for parent in "ab":
        channel.deliver(message(parent))
    channel.deliver_loss(lost("c"))
    channel.deliver(message("d"))
    assert [m["parent_header"]["msg_id"] for m in channel.get_msgs()] == ["a", "b"]
    with pytest.raises(ReplyLost):
        channel.get_msgs()
    assert [m["parent_header"]["msg_id"] for m in channel.get_msgs()] == ["d"]
    assert channel.get_msgs() == []


def test_get_reply_raises_only_its_own_lost_reply(channel: Channel) -> None:
    """Others wait for theirs, and messages for whoever takes them."""
    channel.deliver_loss(lost("a"))
    channel.deliver(message("b"))
    channel.deliver_loss(lost("c"))
    with pytest.raises(ReplyLost, match="no reply to c"):
        channel.get_reply("c", timeout=0)
    with pytest.raises(ReplyLost, match="no reply to c"):
        channel.get_reply("c")  # asked again, told again
    assert channel.get_reply("b", timeout=0)["parent_header"]["msg_id"] == "b"
    with pytest.raises(ReplyLost, match="no reply to a"):
        channel.get_reply("a", timeout=0)
    assert channel.qsize() == 0


def test_who_claimed_the_reply_is_told_that_it_is_lost(channel: Channel) -> None:
    """After what came before; the error is not in the queue as well, and goes on at once."""
    iopub = started("iopub", channel.mutex)
    with Claim("a", channel, iopub) as claim:
        iopub.deliver(message("a", "stream"))
        channel.deliver_loss(lost("a"))
        assert claim.take(timeout=0)["msg_type"] == "stream"
        with pytest.raises(ReplyLost) as failure:
            claim.take(timeout=20)
        assert failure.value.msg_id == "a"
        assert failure.value.executed is True
    assert channel.qsize() == iopub.qsize() == 0
    channel.deliver(message("a"))
    assert channel.get_msg(timeout=0)["parent_header"]["msg_id"] == "a"


class Preempting:
    """A lock at whose nth change from now on something happens."""

    def __init__(self) -> None:
        self._lock, self.plain = threading.Lock(), self
        self.left, self.act = -1, lambda: None

    def _change(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.act()

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self._change()
        return self._lock.acquire(*args, **kwargs)

    def release(self) -> None:
        self._lock.release()
        self._change()

    def locked(self) -> bool:  # Condition takes it from its lock, from Python 3.14 on
        return self._lock.locked()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@pytest.mark.parametrize("change", range(4))
def test_a_lost_reply_is_told_once(change: int) -> None:
    """To who claimed it or to the queue, also where the claim is given up at that moment."""
    told: list[ReplyLost] = []
    mutex: Any = Preempting()
    channel = started("shell", mutex)

    def leave() -> None:
        try:
            claim.take(timeout=0)
        except ReplyLost as error:
            told.append(error)
        except Empty:
            pass
        claim.__exit__()

    claim = channel.claim("a").__enter__()
    mutex.left, mutex.act = change, leave
    channel.deliver_loss(lost("a"))
    mutex.left = -1
    if channel._claims:  # nothing happened as late as that
        leave()
    assert len(told) + channel.qsize() == 1


def test_a_lost_reply_ends_the_wait_for_it_and_no_other(channel: Channel) -> None:
    """Of two threads that each wait for their own."""
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(channel.get_reply, msg_id, 20) for msg_id in "ab")
        while len(channel._claims) < 2:
            time.sleep(0.001)
        channel.deliver_loss(lost("a"))
        with pytest.raises(ReplyLost):
            first.result(timeout=20)
        assert not second.done()
        channel.deliver(message("b"))
        assert second.result(timeout=20)["parent_header"]["msg_id"] == "b"


def test_a_failed_request_is_remembered(channel: Channel) -> None:
    """Who waits for just that is told, then or later; who takes what comes finds nothing."""
    with channel.claim("a") as claim:
        channel.request_failed("a", KernelRestarted("gone"))
        with pytest.raises(KernelRestarted):
            claim.take(timeout=20)
    channel.request_failed("b", KernelRestarted("gone"))
    for msg_id in "ab":
        with pytest.raises(KernelRestarted):
            channel.get_reply(msg_id)
    with pytest.raises(Empty):
        channel.get_msg(timeout=0)
    channel.start()
    with pytest.raises(Empty):
        channel.get_reply("a", timeout=0)


def test_failures_are_not_remembered_for_ever(channel: Channel) -> None:
    """A thousand of them are."""
    for number in range(1001):
        channel.request_failed(str(number), KernelRestarted("gone"))
    with pytest.raises(Empty):
        channel.get_reply("0", timeout=0)
    with pytest.raises(KernelRestarted):
        channel.get_reply("1", timeout=0)


def test_a_lost_reply_is_told_before_the_end(channel: Channel) -> None:
    """A channel that is stopped takes none in; one that it has can still be had."""
    channel.deliver_loss(lost("a"))
    channel.close(GatewayConnectionClosed("it broke"))
    channel.deliver_loss(lost("b"))
    with pytest.raises(ReplyLost, match="no reply to a"):
        channel.get_msg(timeout=0)
    with pytest.raises(GatewayConnectionClosed):
        channel.get_msg(timeout=0)


def test_a_channel_is_a_queue_by_its_old_methods_too(channel: Channel) -> None:
    """A message wakes a thread that waits in ``get``; the end of the channel ends the wait."""
    one = message()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(channel.get)
        channel.deliver(one)
        assert waiting.result(10) is one
        with pytest.raises(Empty):
            channel.get(block=False)
        with pytest.raises(Empty):
            channel.get(timeout=0.01)
        channel.put(one)
        assert channel.get_nowait() is one
        waiting = pool.submit(channel.get)
        channel.stop()
        with pytest.raises(GatewayConnectionClosed):
            waiting.result(10)
