"""Locks, channels and threads that a signal interrupts at any moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking.channels import Channel
from gateway_blocking.deadline import Deadline
from gateway_blocking.locks import Lock, RLock, apart
from support.interrupting import interrupt_often

LOCKS: list[Callable[[], Any]] = [Lock, RLock]


@pytest.mark.parametrize("make", LOCKS)
def test_a_signal_at_any_moment_leaves_no_lock_locked(make: Callable[[], Any]) -> None:
    """It raises in the ``with`` of a free lock: before, while and after it is taken."""
    lock = make()

    def use() -> None:
        with lock:
            pass

    # Only the thread that holds an RLock could release it: acquired as often as released.
    free = (lambda: "count=0" in repr(lock.plain)) if make is RLock else lambda: not lock.locked()
    interrupt_often(use, free, least=5_000)


def test_a_signal_at_any_moment_of_a_wait_leaves_no_lock_locked() -> None:
    """It raises while a deadline passes, and when another thread releases the lock just then."""
    lock, stop = Lock(), threading.Event()

    def compete() -> None:
        while not stop.is_set():
            with lock.plain:
                time.sleep(0.000_01)
            time.sleep(0.000_01)

    def use() -> None:
        with lock.within(Deadline(0.000_1), TimeoutError()):
            pass

    def is_free() -> bool:
        taken = lock.acquire(timeout=30)
        lock.release()
        return taken

    thread = threading.Thread(target=compete)
    thread.start()
    try:
        interrupt_often(use, is_free, TimeoutError, least=1_000)
    finally:
        stop.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:Exception ignored on calling weakref callback")  # of Python's
def test_threads_are_started_whole_or_not_at_all() -> None:
    """A signal at any moment leaves none of which nothing is known, and no lock of Python's."""
    made: list[threading.Thread] = []

    def start() -> None:
        thread = threading.Thread(target=lambda: None)
        made.append(thread)
        apart(thread.start)

    def is_well() -> bool:
        while made:
            thread = made.pop()
            if thread.ident is not None:
                thread.join(30)
        return is_free_of_threading()

    interrupt_often(start, is_well, least=1_000)


def is_free_of_threading() -> bool:
    """Return whether another thread can be started, as Python's own lock lets it."""
    return not is_held(threading._active_limbo_lock)  # type: ignore[attr-defined]


def is_held(lock: Any) -> bool:
    return "count=0" not in repr(lock)


def test_control_c_at_any_moment_leaves_the_channel_usable() -> None:
    """A signal handler that raises in the middle of a wait leaves no lock locked."""
    channel = Channel("shell", lambda *sent: None, Session(), Lock())
    channel.start()
    interrupt_often(lambda: channel.take(timeout=0.00002), lambda: not channel.mutex.locked())
