"""Locks and waits in threads that a signal may interrupt."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import wait_until

from gateway_blocking.deadline import Deadline
from gateway_blocking.locks import News, acquire


def held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def test_a_lock_is_acquired_or_it_is_not() -> None:
    """Which the list is told, too."""
    lock, got = threading.Lock(), [False]
    assert acquire(lock, Deadline(None), got)
    assert got == [False, True]
    assert not acquire(lock, Deadline(0), got)
    assert not acquire(lock, Deadline(0.01), got)
    assert not got[-1]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(acquire, lock, Deadline(60))
        lock.release()
        assert waiting.result(timeout=30)


def test_a_signal_that_another_thread_got_ends_a_wait() -> None:
    """It wakes only that one, and its handler runs in the main thread, which sleeps."""
    end, caught = held(), threading.Event()

    def interrupt(*_: object) -> None:
        caught.set()
        raise KeyboardInterrupt

    other = threading.Thread(target=end.acquire)
    other.start()
    sender = threading.Timer(0.2, lambda: signal.pthread_kill(other.ident or 0, signal.SIGUSR1))
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender.start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            acquire(held(), Deadline(90))
        assert time.monotonic() - begin < 60
        assert caught.is_set()
    finally:
        signal.signal(signal.SIGUSR1, previous)
        end.release()
        other.join()


def test_news_wake_all_that_wait() -> None:
    """Whoever tells it, and however often; who waited in vain is forgotten."""
    news, values = News(), [0]
    assert news.wait_while(lambda: False, Deadline(0))
    assert not news.wait_while(lambda: True, Deadline(0.01))
    assert news._waiting == []
    with ThreadPoolExecutor(12) as pool:
        waiting = [
            pool.submit(news.wait_while, lambda: values[0] < 100, Deadline(60)) for _ in range(8)
        ]
        wait_until(lambda: len(news._waiting) == 8)

        def count() -> None:
            for _ in range(25):
                values[0] += 1
                news.tell()

        list(pool.map(lambda _: count(), range(3)))
        assert not any(one.done() for one in waiting)
        count()
        assert all(one.result(timeout=30) for one in waiting)
    assert news._waiting == []
