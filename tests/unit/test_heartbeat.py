"""Heartbeat: how the second thread performs actions and polls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway_blocking.actions import (
    PollKernel,
    PollReason,
    ReportResent,
    SendPing,
    SendRequest,
    State,
)
from gateway_blocking.errors import GatewayConnectionError, GatewayTimeout
from gateway_blocking.heartbeat import Heartbeat
from gateway_blocking.liveness import PollResult
from gateway_blocking.runner import ProtocolRunner
from gateway_blocking.timers import Timer
from gateway_blocking.wire import V1
from support.engine import FakeReader, RecordingTransport, new_runner

REQUEST = SendRequest(1, 2, b"frame")


class Beating:
    """A heartbeat with an open websocket."""

    def __init__(self, kernel_state: Callable[[], str] = lambda: "idle") -> None:
        self.runner: ProtocolRunner = new_runner()
        self.transport = RecordingTransport()
        reader: Any = FakeReader(self.transport)
        self.heartbeat = Heartbeat(self.runner, reader, kernel_state, 30.0)
        self.runner.event(lambda now: self.runner.protocol.connection_opened(V1, now))
        while not self.runner.inbox.empty():
            self.runner.inbox.get_nowait()
        self.results: list[PollResult] = []

    def record_polls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def polled(poll: object, result: PollResult, transport: object, now: float) -> Any:
            self.results.append(result)
            return ()

        monkeypatch.setattr(self.runner.protocol, "kernel_polled", polled)


@pytest.fixture
def beating() -> Beating:
    return Beating()


def test_actions_are_performed_on_the_websocket_that_they_are_meant_for(beating: Beating) -> None:
    """An action that belongs to an older websocket is dropped."""
    for epoch in (1, 0, 2):
        beating.heartbeat._perform(SendRequest(epoch, 2, b"frame %d" % epoch))
        beating.heartbeat._perform(SendPing(epoch))
    assert beating.transport.sent == [(2, b"frame 1")]
    assert beating.transport.pings == 1


def test_report_after_the_requests_lets_new_requests_pass(beating: Beating) -> None:
    """It stands behind them in the inbox, so that they are sent before."""
    beating.runner.protocol.state = State.RECOVERING
    for action in (REQUEST, ReportResent(1)):
        beating.runner.inbox.put(action)
    beating.heartbeat._do_next()
    assert beating.runner.protocol.state is State.RECOVERING
    beating.heartbeat._do_next()
    assert beating.runner.protocol.state is State.OPEN
    assert len(beating.transport.sent) == 1


def test_request_that_cannot_be_sent_aborts_the_websocket(beating: Beating) -> None:
    """The reader then learns of the loss, and opens another."""
    beating.transport.error = GatewayTimeout("the gateway did not take the message")
    beating.heartbeat._perform(REQUEST)
    assert beating.transport.aborted == "the gateway did not take the message"


def test_ping_that_cannot_be_sent_leaves_the_rest_to_the_reader(beating: Beating) -> None:
    """It gets the same error."""
    beating.transport.error = GatewayConnectionError("it broke")
    beating.heartbeat._perform(SendPing(1))
    assert not beating.transport.is_aborted


def test_sends_come_before_polls(beating: Beating, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll takes a round trip, and a recovery must not wait for it."""
    beating.record_polls(monkeypatch)
    for action in (PollKernel(1, PollReason.PING), REQUEST):
        beating.runner.inbox.put(action)
    beating.heartbeat._do_next()
    beating.heartbeat._do_next()
    assert (len(beating.transport.sent), beating.results) == (1, [])
    beating.heartbeat._do_next()
    assert beating.results == [PollResult.IDLE]


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        ("busy", PollResult.BUSY),
        ("idle", PollResult.IDLE),
        ("starting", PollResult.IDLE),
        ("dead", PollResult.DEAD),
        ("gone", PollResult.GONE),
        (GatewayTimeout("late"), PollResult.TIMEOUT),
        (GatewayConnectionError("refused"), PollResult.ERROR),
        (RuntimeError("unforeseen"), PollResult.ERROR),
    ],
)
def test_poll_always_has_a_result(
    monkeypatch: pytest.MonkeyPatch, outcome: str | Exception, result: PollResult
) -> None:
    """The protocol waits for one, and would not poll again."""

    def kernel_state() -> str:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    beating = Beating(kernel_state)
    beating.record_polls(monkeypatch)
    beating.heartbeat._poll(PollKernel(1, PollReason.PING))
    assert beating.results == [result]


def test_timer_that_is_due_is_handled_before_the_inbox(beating: Beating) -> None:
    """Its actions go to the end of the inbox."""
    beating.runner.protocol._timers.arm(Timer.SHUTDOWN_POLL, 0.0)
    beating.heartbeat._do_next()
    assert not beating.runner.protocol._timers.is_armed(Timer.SHUTDOWN_POLL)
    beating.heartbeat._do_next()
    assert [poll.reason for poll in beating.heartbeat._polls] == [PollReason.SHUTDOWN]


def test_action_that_fails_does_not_end_the_thread(
    beating: Beating, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one is performed all the same, after a pause."""
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        beating.runner.is_closing = True
        return False

    monkeypatch.setattr(beating.runner, "pause", pause)
    monkeypatch.setattr(beating.heartbeat, "_do_next", lambda: 1 / 0)
    beating.heartbeat.run()
    assert len(pauses) == 1
    assert "ZeroDivisionError" in caplog.text


def test_run_ends_when_the_connection_is_closed(beating: Beating) -> None:
    """The thread is woken for it."""
    beating.runner.close()
    beating.heartbeat.run()
    assert beating.runner.protocol.state is State.CLOSED
