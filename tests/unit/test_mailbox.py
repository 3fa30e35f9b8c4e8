"""Mailbox: taking messages, and the end of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import GatewayConnectionClosed, ReplyLost
from gateway_blocking.locks import Lock
from gateway_blocking.mailbox import Mailbox
from support.protocol import says
from support.waiting import wait_until

LOST = ReplyLost("it was lost", msg_id="asked")
ENDED = GatewayConnectionClosed("it is over")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox(Lock())


def fail(mailbox: Mailbox) -> None:
    with mailbox.mutex:
        mailbox.fail(ENDED)


def test_take_returns_the_messages_in_their_order(mailbox: Mailbox) -> None:
    """The mailbox is a queue."""
    messages = [says("status", None), says("stream", None)]
    for message in messages:
        mailbox.put(message)
    assert mailbox.qsize() == 2
    assert [mailbox.take(0), mailbox.get(block=False)] == messages


@pytest.mark.parametrize("timeout", [0, 0.001, Deadline(0)])
def test_take_of_nothing_is_empty_after_the_timeout(
    mailbox: Mailbox, timeout: float | Deadline
) -> None:
    """As queue.Queue has it."""
    with pytest.raises(Empty):
        mailbox.take(timeout)


def test_take_with_a_deadline_that_has_passed_takes_nothing(mailbox: Mailbox) -> None:
    """It ends a loop that takes message after message, however fast they come."""
    mailbox.put(says("status", None))
    with pytest.raises(Empty):
        mailbox.take(Deadline(0))
    assert mailbox.take(0)


def test_take_after_the_end_returns_what_is_left_and_then_raises(mailbox: Mailbox) -> None:
    """Each call gets an error object of its own, whose traceback grows in its own thread."""
    mailbox.put(says("status", None))
    fail(mailbox)
    assert mailbox.take(0)
    errors = []
    for _ in range(2):
        with pytest.raises(GatewayConnectionClosed, match="it is over") as caught:
            mailbox.take()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_lost_reply_is_raised_in_its_place(mailbox: Mailbox) -> None:
    """The next call goes on with the next message."""
    with mailbox.mutex:
        mailbox.add(LOST)
        mailbox.add(says("status", None))
    with pytest.raises(ReplyLost, match="it was lost"):
        mailbox.take(0)
    assert mailbox.take(0)["msg_type"] == "status"


def test_put_wakes_a_thread_that_waits(mailbox: Mailbox) -> None:
    """It is woken by the message, and does not look for it at intervals."""
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(mailbox.take, 60)
        wait_until(lambda: mailbox._listeners)
        mailbox.put(says("status", None))
        assert taken.result(60)["msg_type"] == "status"


def test_end_wakes_all_threads_that_wait(mailbox: Mailbox) -> None:
    """None of them may wait for a message that cannot come any more."""
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(mailbox.take) for _ in range(3)]
        wait_until(lambda: len(mailbox._listeners) == 3)
        fail(mailbox)
        errors = [wait.exception(60) for wait in waits]
    assert all(isinstance(error, GatewayConnectionClosed) for error in errors)


def test_timeout_leaves_no_listener_behind(mailbox: Mailbox) -> None:
    """A program that polls for days must not use more and more memory."""
    for _ in range(10):
        with pytest.raises(Empty):
            mailbox.take(0.0001)
    assert mailbox._listeners == []


def test_reset_gives_a_lock_that_no_thread_holds(mailbox: Mailbox) -> None:
    """After a fork, a thread that does not exist any more may hold the old one."""
    mailbox.put(says("status", None))
    threading.Thread(target=mailbox.mutex.acquire).start()
    wait_until(mailbox.mutex.locked)
    mailbox.reset(Lock())
    begun = time.monotonic()
    with pytest.raises(Empty):
        mailbox.take(0)
    assert time.monotonic() - begun < 30
