"""Sender: when a request is written, and what follows if it is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking.actions import State
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayTimeout,
    MessageTooLarge,
    WireError,
)
from gateway_blocking.liveness import KernelStatus
from gateway_blocking.runner import ProtocolRunner
from gateway_blocking.sender import Sender
from gateway_blocking.wire import FORMATS, V1
from support.engine import FakeReader, RecordingTransport, new_runner
from support.waiting import wait_until

SESSION = Session(key=b"secret")


class Sending:
    """A sender, its websocket and its protocol."""

    def __init__(self, *, opened: bool = True) -> None:
        self.runner: ProtocolRunner = new_runner(session=SESSION)
        self.reader = FakeReader(None)
        self.sender = Sender(self.runner, self.reader, SESSION, 30.0)  # type: ignore[arg-type]
        if opened:
            self.open()

    def open(self) -> RecordingTransport:
        self.reader.transport = transport = RecordingTransport()
        self.runner.event(lambda now: self.runner.protocol.connection_opened(V1, now))
        return transport

    @property
    def transport(self) -> RecordingTransport:
        assert self.reader.transport is not None
        return self.reader.transport

    def lose(self) -> None:
        """Let the reader notice the loss of the websocket."""
        self.runner.protocol.connection_lost(GatewayConnectionError("it broke"), 1.0)

    def send(self, channel: str = "shell", timeout: Any = 30.0) -> str:
        message = SESSION.msg("execute_request", {"code": "1"})
        self.sender.send(channel, message, timeout)
        return str(message["msg_id"])


@pytest.fixture
def sending() -> Sending:
    return Sending()


def test_send_writes_the_frame_and_registers_the_request(sending: Sending) -> None:
    """The protocol waits for its reply from then on."""
    msg_id = sending.send()
    [frame] = sending.transport.sent
    channel, message = FORMATS[V1].decode(*frame, SESSION.unpack)
    assert (channel, message["msg_id"]) == ("shell", msg_id)
    [request] = sending.runner.protocol._requests.outstanding()
    assert (request.msg_id, request.writing, request.subshell) == (msg_id, False, None)


def test_send_waits_for_the_websocket() -> None:
    """A gateway holds the handshake back until its kernel responds."""
    sending = Sending(opened=False)
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(sending.send)
        wait_until(lambda: sending.runner.waiters._waiting)
        transport = sending.open()
        sent.result(60)
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("opened", "text"),
    [
        (False, "the kernel responds, and it has not responded yet"),
        (True, "the connection was lost"),
    ],
)
def test_send_that_finds_no_websocket_in_time_says_why(opened: bool, text: str) -> None:
    """Nothing was sent, so that the caller may try again."""
    sending = Sending(opened=opened)
    if opened:
        sending.lose()
    with pytest.raises(GatewayTimeout, match=text):
        sending.send(timeout=0.01)
    assert sending.runner.protocol._requests.outstanding() == []


def test_send_on_a_websocket_that_breaks_is_repeated_on_the_next(sending: Sending) -> None:
    """Not all of the frame was written, so that the kernel cannot have it."""
    broken = sending.transport
    broken.error = GatewayConnectionError("the websocket broke")
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(sending.send)
        wait_until(lambda: broken.is_aborted and sending.runner.waiters._waiting)
        sending.lose()
        transport = sending.open()
        sending.runner.protocol.requests_resent(2, 2.0)  # nothing was in flight
        msg_id = sent.result(60)
    [frame] = transport.sent
    assert FORMATS[V1].decode(*frame, SESSION.unpack)[1]["msg_id"] == msg_id


@pytest.mark.parametrize("error", [MessageTooLarge("too large"), GatewayTimeout("too late")])
def test_send_that_is_refused_leaves_no_request_behind(sending: Sending, error: Exception) -> None:
    """The caller gets the error, and no reply is waited for."""
    sending.transport.error = error
    with pytest.raises(type(error)):
        sending.send()
    assert sending.runner.protocol._requests.outstanding() == []
    assert not sending.transport.is_aborted


def test_send_of_what_is_not_json_registers_nothing(sending: Sending) -> None:
    """It fails before the protocol knows of it."""
    message = SESSION.msg("execute_request", {"code": object()})
    with pytest.raises(WireError):
        sending.sender.send("shell", message)
    assert sending.runner.protocol._requests.outstanding() == []


def test_send_to_a_dead_kernel_or_a_closed_connection_raises_at_once(sending: Sending) -> None:
    """There is nothing to wait for."""
    sending.runner.protocol.kernel_ended(KernelStatus.DEAD)
    with pytest.raises(DeadKernelError):
        sending.send(timeout=None)
    sending.runner.protocol.revive()
    sending.runner.close()
    with pytest.raises(GatewayConnectionClosed, match=r"start_channels\(\) opens a new one"):
        sending.send(timeout=None)


def test_send_on_control_passes_while_the_connection_recovers(sending: Sending) -> None:
    """A request on shell must not overtake one that is sent again; an interrupt must not wait."""
    sending.send()
    sending.lose()
    transport = sending.open()
    assert sending.runner.protocol.state is State.RECOVERING
    sending.send("control")
    assert len(transport.sent) == 1
    with pytest.raises(GatewayTimeout):
        sending.send("shell", timeout=Deadline(0.01))


@pytest.mark.parametrize(("subshell", "noted"), [("sub", "sub"), (None, None), (3, None)])
def test_send_notes_the_subshell_of_a_request(
    sending: Sending, subshell: Any, noted: str | None
) -> None:
    """The barriers of a recovery go through the same subshell."""
    message = SESSION.msg("execute_request", {"code": "1"})
    message["header"]["subshell_id"] = subshell
    sending.sender.send("shell", message, 30.0)
    [request] = sending.runner.protocol._requests.outstanding()
    assert request.subshell == noted
