"""Keepalive: when a websocket is pinged, when its kernel is polled, when it is given up."""

from __future__ import annotations

import pytest

from gateway_blocking.actions import NO_ACTIONS, PollKernel, PollReason, SendPing, TransportInfo
from gateway_blocking.keepalive import Keepalive
from gateway_blocking.liveness import PollResult
from gateway_blocking.timers import Timer, Timers

INTERVAL, TIMEOUT = 10.0, 20.0
PATIENCE = INTERVAL + TIMEOUT


@pytest.fixture
def timers() -> Timers:
    return Timers(lambda: None)


@pytest.fixture
def keepalive(timers: Timers) -> Keepalive:
    return Keepalive(timers, INTERVAL, TIMEOUT, 0.0)


def info(last: float, *, opened: float = 0.0, has_input: bool = False) -> TransportInfo:
    return TransportInfo(opened, last, has_input, is_acknowledged=False)


@pytest.mark.parametrize(
    ("is_writable", "is_alive", "actions"),
    [
        (True, True, [SendPing(3), PollKernel(3, PollReason.PING)]),
        (True, False, [SendPing(3)]),
        (False, True, [PollKernel(3, PollReason.PING)]),
        (False, False, []),
    ],
)
def test_ping_pings_a_websocket_and_polls_a_kernel(
    keepalive: Keepalive, timers: Timers, is_writable: bool, is_alive: bool, actions: list[object]
) -> None:
    """A gateway that holds the handshake back is polled only; the next ping follows in any case."""
    assert keepalive.ping(3, 50.0, is_writable=is_writable, is_alive=is_alive) == actions
    assert timers.next() == 50.0 + INTERVAL


def test_interval_of_zero_switches_pings_and_the_watch_off(timers: Timers) -> None:
    """Then only TCP notices that a gateway is gone."""
    keepalive = Keepalive(timers, 0.0, TIMEOUT, 0.0)
    keepalive.connection_opened(1.0)
    assert not timers.is_armed(Timer.PING)
    assert not timers.is_armed(Timer.SILENCE)


def test_check_waits_on_if_something_was_received(keepalive: Keepalive, timers: Timers) -> None:
    """The timer then expires one patience after the last byte."""
    keepalive.connection_opened(0.0)
    timers.cancel(Timer.PING)
    assert timers.next() == PATIENCE
    assert keepalive.check(1, info(25.0), PATIENCE) is NO_ACTIONS
    assert timers.next() == 25.0 + PATIENCE


def test_check_polls_a_kernel_that_is_silent_for_too_long(keepalive: Keepalive) -> None:
    """The gateway's response by REST tells which of the two is in trouble."""
    found = keepalive.check(1, info(5.0), 5.0 + PATIENCE)
    assert found == (PollKernel(1, PollReason.SILENCE),)


def test_should_abort_only_if_no_input_waits_to_be_read(
    keepalive: Keepalive, timers: Timers
) -> None:
    """The reader may be late, and not the gateway; the silence is judged again later."""
    now = 5.0 + PATIENCE
    assert not keepalive.should_abort(PollResult.IDLE, info(5.0, has_input=True), now)
    assert keepalive.should_abort(PollResult.IDLE, info(5.0), now)
    assert timers.is_armed(Timer.SILENCE)


def test_should_abort_waits_longer_for_the_first_byte(keepalive: Keepalive) -> None:
    """A gateway waits up to a minute for its kernel, and reads nothing meanwhile."""
    silent = info(0.0, opened=0.0)
    assert not keepalive.should_abort(PollResult.IDLE, silent, PATIENCE + 1)
    assert keepalive.should_abort(PollResult.IDLE, silent, 100.0)


def test_connection_lost_ends_the_watch_and_not_the_pings(
    keepalive: Keepalive, timers: Timers
) -> None:
    """The kernel is polled while the connection is opened again."""
    keepalive.connection_opened(0.0)
    keepalive.connection_lost()
    assert not timers.is_armed(Timer.SILENCE)
    assert timers.is_armed(Timer.PING)
