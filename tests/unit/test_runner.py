"""ProtocolRunner: how the threads of a connection share one protocol."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking.actions import LogMessage, SendPing, State
from gateway_blocking.errors import GatewayConnectionError
from gateway_blocking.runner import ProtocolRunner
from gateway_blocking.timers import Timer
from support.protocol import RecordingSink

SINKS = {name: RecordingSink() for name in ("shell", "iopub", "stdin", "control")}


@pytest.fixture
def runner() -> ProtocolRunner:
    runner = ProtocolRunner(
        "k",
        logging.getLogger("tests"),
        session=Session(),
        sinks=SINKS,
        ping_interval=0.0,
        ping_timeout=20.0,
        delays=lambda: iter(()),
    )
    empty(runner)
    return runner


def empty(runner: ProtocolRunner) -> list[Any]:
    """Return what is in the inbox, and take it out."""
    return [runner.inbox.get_nowait() for _ in range(runner.inbox.qsize())]


def test_event_is_reported_under_the_mutex_and_its_actions_follow_without(
    runner: ProtocolRunner,
) -> None:
    """An event is one step for all threads; an action may take its time."""
    held: list[bool] = []

    def is_free() -> bool:
        if is_taken := runner.mutex.plain.acquire(False):
            runner.mutex.plain.release()
        return is_taken

    def is_held() -> bool:  # the mutex is reentrant, so that another thread has to ask
        with ThreadPoolExecutor() as pool:
            return not pool.submit(is_free).result(60)

    runner.abort_if_asked = lambda: held.append(is_held())
    runner.event(lambda word, now: held.append(is_held()) or [SendPing(1)], "word")
    assert held == [True, False]
    assert empty(runner) == [SendPing(1)]


def test_accept_logs_at_once_and_leaves_the_rest_to_the_second_thread(
    runner: ProtocolRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """The order of the other actions is kept."""
    runner.accept([SendPing(1), LogMessage("warning", "100 % of it"), SendPing(2)])
    assert [action.epoch for action in empty(runner)] == [1, 2]
    assert caplog.messages == ["100 % of it"]


def test_armed_timer_wakes_the_second_thread(runner: ProtocolRunner) -> None:
    """It may be sleeping until a later one."""
    runner.protocol._timers.arm(Timer.AUDIT, 1.0)
    assert empty(runner) == [None]


def test_close_ends_the_protocol_unless_it_is_muted(runner: ProtocolRunner) -> None:
    """A muted connection delivers no error: the interpreter ends."""
    runner.is_muted = True
    runner.close()
    assert runner.protocol.state is State.CONNECTING
    runner.is_muted = False
    runner.close(GatewayConnectionError("it broke"))
    assert runner.protocol.state is State.CLOSED
    assert None in empty(runner)


def test_pause_ends_with_the_connection(runner: ProtocolRunner) -> None:
    """A reader that waits to reconnect does not keep a close waiting."""
    assert runner.pause(0.001)
    runner.is_closing = True
    assert not runner.pause(60)


def test_after_fork_the_connection_is_closed_and_its_mutex_free(runner: ProtocolRunner) -> None:
    """A thread that held it does not exist in the child process."""
    old = runner.mutex
    runner.after_fork()
    assert runner.mutex is not old
    assert runner.is_closing
    assert runner.protocol.state is State.CLOSED
