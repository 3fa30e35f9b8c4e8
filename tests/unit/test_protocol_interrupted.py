"""Events that a Ctrl-C interrupts in a user's thread, at each moment, and that are repeated."""

from __future__ import annotations

import logging

import pytest

from gateway_blocking.actions import PollKernel, PollReason, ReportResent, SendPing, State
from gateway_blocking.connection import Connection
from gateway_blocking.errors import KernelRestarted
from gateway_blocking.handshake import Endpoint
from gateway_blocking.liveness import KernelStatus, PollResult
from gateway_blocking.timers import Timer
from support.interrupting import interrupt_at_each_moment
from support.protocol import Client, frames_of, says, transport


def test_revive_that_is_interrupted_is_repeated() -> None:
    """The state and the wish to abort the websocket never part."""
    for interrupted in interrupt_at_each_moment():
        protocol = Client().protocol
        interrupted(protocol.revive)
        protocol.revive()
        assert protocol.state is State.RECONNECTING
        assert protocol.abort_reason


def test_kernel_restarted_that_is_interrupted_is_repeated() -> None:
    """Each request to the old process fails."""
    for interrupted in interrupt_at_each_moment():
        client = Client()
        asked = client.send()
        token = client.protocol.kernel_restarting()
        error = KernelRestarted("restarted here")
        interrupted(lambda: client.protocol.kernel_restarted(token, error))  # noqa: B023
        client.protocol.kernel_restarted(token, error)
        assert asked["msg_id"] in client.sinks["shell"].failures
        assert client.protocol.abort_reason


def test_kernel_ended_that_is_interrupted_is_repeated() -> None:
    """Each request fails, and each channel is told."""
    for interrupted in interrupt_at_each_moment():
        client = Client()
        asked = client.send()
        interrupted(lambda: client.protocol.kernel_ended(KernelStatus.GONE))  # noqa: B023
        client.protocol.kernel_ended(KernelStatus.GONE)
        assert asked["msg_id"] in client.sinks["shell"].failures
        assert all(sink.death for sink in client.sinks.values())


def test_report_of_a_writer_that_is_interrupted_leaves_a_timer() -> None:
    """Else the recovery would never begin."""
    for interrupted in interrupt_at_each_moment():
        client = Client()
        request = client.register(client.message())
        assert client.reconnect() == ()
        interrupted(lambda: client.protocol.request_sent(request, 2.1))  # noqa: B023
        now = client.protocol.next_timer()
        assert now <= 3.0
        assert frames_of(client.protocol.timer_expired(now, None))


def test_request_is_overtaken_also_if_the_kernel_seemed_to_ignore_the_session() -> None:
    """Whatever lets new requests pass, an older one is not sent again after them."""
    client = Client()
    client.receive("iopub", says("status", client.send(), execution_state="idle"))
    asked = client.send()
    client.reconnect()
    [poll] = client.protocol.timer_expired(4.0, transport(4.0))
    assert isinstance(poll, PollKernel)
    sent = frames_of(client.protocol.kernel_polled(poll, PollResult.IDLE, transport(4.0), 4.0))
    actions = []
    for channel, barrier in sent:
        reply = barrier["msg_type"].replace("request", "reply")
        actions += client.receive(channel, says(reply, barrier, status="ok"))
    assert ReportResent(2) in actions
    client.protocol.requests_resent(2, 4.1)
    [(_, question)] = frames_of(client.reconnect(4.2))
    again = frames_of(client.receive("control", says("kernel_info_reply", question)))
    assert asked["msg_id"] not in [message["msg_id"] for _, message in again]


def test_timer_that_is_due_with_a_failing_one_stays_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fault does not disarm the others for ever."""
    client = Client()
    timers = client.protocol._timers
    timers.arm(Timer.AUDIT, 1.0)
    timers.arm(Timer.SHUTDOWN_POLL, 1.0)

    def fail(now: float, *, is_open: bool) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(client.protocol._recovery, "audit", fail)
    with pytest.raises(RuntimeError):
        client.protocol.timer_expired(1.0, None)
    assert timers.is_armed(Timer.SHUTDOWN_POLL)


def connection(**options: object) -> Connection:
    """Return a connection that is not opened."""
    client = Client()
    return Connection(
        "12345678",
        endpoint=lambda session_id: Endpoint("ws://127.0.0.1:9/", {}),
        channels=client.sinks,  # type: ignore[arg-type]
        session=client.session,
        send_timeout=1,
        ping_interval=10,
        ping_timeout=20,
        delays=lambda: iter(()),
        log=logging.getLogger("test"),
        **{"kernel_state": lambda: "idle", **options},  # type: ignore[arg-type]
    )


def test_poll_that_fails_in_an_unforeseen_way_counts_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The protocol waits for its result, and would not poll again."""
    opened = connection(kernel_state=lambda: 1 / 0)
    results: list[PollResult] = []
    opened._protocol.kernel_polled = (  # type: ignore[method-assign]
        lambda poll, result, transport, now: results.append(result) or ()  # type: ignore[func-returns-value]
    )
    opened._heartbeat._poll(PollKernel(0, PollReason.PROBE))
    assert results == [PollResult.ERROR]
    assert "could not be polled" in caplog.text


def test_ping_without_a_websocket_is_dropped() -> None:
    """It was lost meanwhile."""
    connection()._heartbeat._perform(SendPing(0))


def test_close_in_a_thread_that_holds_the_mutex_does_not_wait_for_itself() -> None:
    """A signal handler or a finalizer may close the client just then."""
    opened = connection()
    with opened._runner.mutex:
        opened.close()
    assert opened.state is State.CLOSED
