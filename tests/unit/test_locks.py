"""Locks, waits and calls in threads that a signal may interrupt."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.locks import Latch, Lock, RLock, Waiters, apart, wait
from support.waiting import wait_until

LOCKS: list[Callable[[], Any]] = [Lock, RLock]


def is_free(lock: Any) -> bool:
    """Return whether another thread could take the lock now."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lock.plain.acquire, False).result(timeout=30)


@pytest.mark.parametrize("make", LOCKS)
def test_a_lock_excludes_other_threads(make: Callable[[], Any]) -> None:
    """Within its ``with``, and not after it."""
    lock, entered = make(), threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    thread = threading.Thread(target=enter)
    with lock:
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(30)
    thread.join()
    with pytest.raises(ZeroDivisionError), lock:
        _ = 1 / 0
    assert is_free(lock)


def test_a_holder_takes_an_rlock_again() -> None:
    """It is free after the last exit only."""
    lock = RLock()
    with lock, lock:
        assert not is_free(lock)
    assert is_free(lock)


def test_a_lock_is_taken_in_time_or_the_error_is_raised() -> None:
    """It is free again after the ``with``, also if that came as late as the lock."""
    lock, late = Lock(), LookupError("too late")
    with lock.within(Deadline(0), late), pytest.raises(LookupError, match="too late"):
        assert lock.locked()
        with lock.within(Deadline(0.01), late):
            pytest.fail("two have it")
    assert not lock.locked()
    with ThreadPoolExecutor(1) as pool, lock.within(Deadline(60), late):
        waiting = pool.submit(lock.within(Deadline(60), late).__enter__)
        lock.release()
        waiting.result(timeout=30)  # this one's exit releases it


ENDED = threading.Event()
WAITS: dict[str, Callable[[], Any]] = {
    "lock": lambda: taken().__enter__(),
    "lock within": lambda: taken().within(Deadline(90), TimeoutError()).__enter__(),
    "waiters": lambda: Waiters().wait_while(lambda: True, Deadline(90)),
    "latch": lambda: Latch().wait(Deadline(90)),
    "apart": lambda: apart(ENDED.wait),
}


def taken() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each wait look around fifty times in a second, and not once."""
    monkeypatch.setattr("gateway_blocking.locks.LOCK_SLICE", 0.02)


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize("kind", WAITS)
def test_a_signal_that_another_thread_got_ends_a_wait(kind: str) -> None:
    """It wakes only that one, and its handler runs in the main thread, which sleeps."""
    end, caught = threading.Lock(), threading.Event()
    end.acquire()
    ENDED.clear()

    def interrupt(*_: object) -> None:
        caught.set()
        raise KeyboardInterrupt

    other = threading.Thread(target=end.acquire)
    other.start()
    sender = threading.Timer(0.03, lambda: signal.pthread_kill(other.ident or 0, signal.SIGUSR1))
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender.start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            WAITS[kind]()
        assert time.monotonic() - begin < 60
        assert caught.is_set()
    finally:
        signal.signal(signal.SIGUSR1, previous)
        end.release()
        other.join()
        ENDED.set()


@pytest.mark.parametrize("kind", WAITS)
def test_no_wait_needs_a_signal_to_be_interrupted(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every wait for a lock has a timeout: on Windows it could not be interrupted without one."""
    timeouts = []

    class Plain:
        """A lock that never comes free, and is told of a Ctrl-C as Windows does it."""

        def __init__(self) -> None:
            self._lock = threading_lock()

        __exit__ = release = __enter__ = lambda *_: None

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if self._lock.acquire(False) or not blocking:
                return self._lock.locked() and blocking
            timeouts.append(timeout)
            if len(timeouts) > 2:
                raise KeyboardInterrupt
            return False

    threading_lock = threading.Lock
    monkeypatch.setattr("gateway_blocking.locks.threading.Lock", Plain)
    monkeypatch.setattr("gateway_blocking.locks._thread.start_new_thread", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        WAITS[kind]()
    assert all(0 < timeout <= 1 for timeout in timeouts)


def test_news_wake_all_that_wait() -> None:
    """Each thread that waits is woken, and one whose wait was in vain is forgotten."""
    waiters, values = Waiters(), [0]
    assert waiters.wait_while(lambda: False, Deadline(0))
    assert not waiters.wait_while(lambda: True, Deadline(0.01))
    assert waiters._waiting == []
    with ThreadPoolExecutor(12) as pool:
        waiting = [
            pool.submit(waiters.wait_while, lambda: values[0] < 100, Deadline(60)) for _ in range(8)
        ]
        wait_until(lambda: len(waiters._waiting) == 8)

        def count() -> None:
            for _ in range(25):
                values[0] += 1
                waiters.notify_all()

        list(pool.map(lambda _: count(), range(3)))
        assert not any(one.done() for one in waiting)
        count()
        assert all(one.result(timeout=30) for one in waiting)
    assert waiters._waiting == []


@pytest.mark.usefixtures("short_slices")
def test_a_change_is_noticed_that_no_thread_told_of() -> None:
    """The one that would have may have been interrupted."""
    waiters, values = Waiters(), [0]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waiters.wait_while, lambda: not values[0], Deadline(None))
        wait_until(lambda: len(waiters._waiting) == 1)
        values[0] = 1
        assert waiting.result(timeout=30)
    begin = time.monotonic()
    wait(taken().plain, Deadline(None))
    assert time.monotonic() - begin < 30


def test_a_latch_lets_all_go_on() -> None:
    """Those that wait, and those that come later; opened twice it is open."""
    latch = Latch()
    assert not latch.wait(Deadline(0.01))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(latch.wait, Deadline(60)) for _ in range(4)]
        latch.open()
        latch.open()
        assert all(one.result(timeout=30) for one in waiting)
    assert latch.wait(Deadline(0))


def test_a_call_apart_returns_and_raises_as_any_other() -> None:
    """In another thread; an interruption ends the wait for it, and not the call."""
    assert apart(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 / 0)
