"""DaemonThread: its start and its end."""

from __future__ import annotations

import threading

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.threads import DaemonThread


def test_has_ended_waits_for_the_end_and_no_longer_than_the_deadline() -> None:
    """A close is bounded, also if a thread hangs."""
    may_end = threading.Event()
    thread = DaemonThread("gateway-test", may_end.wait)
    assert not thread.was_started
    thread.start()
    assert thread.was_started
    assert not thread.has_ended(Deadline(0.001))
    assert thread.is_alive()
    may_end.set()
    assert thread.has_ended(Deadline(60))
    assert not thread.is_alive()


def test_has_ended_in_the_thread_itself_does_not_wait() -> None:
    """A client may be closed by a finalizer in a thread of its own connection."""
    results: list[bool] = []
    thread = DaemonThread("gateway-test", lambda: results.append(thread.has_ended(Deadline(None))))
    thread.start()
    assert thread.has_ended(Deadline(60))
    assert results == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_fails_ends_the_thread() -> None:
    """A close does not wait in vain for it."""
    thread = DaemonThread("gateway-test", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    thread.start()
    assert thread.has_ended(Deadline(60))


def test_after_fork_the_thread_counts_as_ended() -> None:
    """The child process does not have the thread, and must not wait for it."""
    thread = DaemonThread("gateway-test", lambda: None)
    assert not thread.has_ended(Deadline(0))
    thread.after_fork()
    assert thread.has_ended(Deadline(None))


def test_thread_is_a_daemon_with_its_name() -> None:
    """It does not keep the interpreter from its end, and debuggers show whose it is."""
    found: list[threading.Thread] = []
    thread = DaemonThread("gateway-test", lambda: found.append(threading.current_thread()))
    thread.start()
    assert thread.has_ended(Deadline(60))
    assert (found[0].name, found[0].daemon) == ("gateway-test", True)
