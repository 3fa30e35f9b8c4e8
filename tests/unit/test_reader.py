"""Reader: how a websocket is opened and read, and what follows if either fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import reader as module
from gateway_blocking.actions import State
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    NoSuchKernel,
)
from gateway_blocking.frames import BINARY
from gateway_blocking.handshake import Endpoint
from gateway_blocking.reader import Reader
from gateway_blocking.requests_table import Request
from gateway_blocking.wire import FORMATS, V1
from support.engine import RecordingTransport, new_runner
from support.protocol import RecordingSink, says

SESSION = Session(key=b"secret")
REFUSED = GatewayAuthError("401")


class ScriptedTransport(RecordingTransport):
    """A websocket that receives these frames, and is then lost."""

    def __init__(self, *frames: Any) -> None:
        super().__init__()
        self.frames = list(frames)

    def receive(self) -> tuple[int, bytes]:
        if not self.frames:
            raise GatewayConnectionError("the websocket broke")
        frame: tuple[int, bytes] = self.frames.pop(0)
        return frame


class FakeHandshake:
    """A handshake that ends as the test says."""

    script: list[Any]
    endpoints: list[Endpoint]

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_closed = False

    def connect(self) -> FakeHandshake:
        type(self).endpoints.append(self.endpoint)
        return self

    def upgrade(self) -> ScriptedTransport:
        outcome = type(self).script.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, ScriptedTransport)
        return outcome

    def abort(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


class Channels(dict[str, Any]):
    """Channels that never warn."""

    def get(self, name: str, default: Any = None) -> Any:
        return None


class Reading:
    """A reader whose handshakes and websockets end as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *script: Any, **options: Any) -> None:
        FakeHandshake.script, FakeHandshake.endpoints = list(script), []
        monkeypatch.setattr(module, "Handshake", FakeHandshake)
        self.sinks = {name: RecordingSink() for name in ("shell", "iopub", "stdin", "control")}
        self.runner = new_runner(session=SESSION, sinks=self.sinks, **options)
        self.tokens = iter(["one", "two", "three", "four", "five"])
        self.reader = Reader(self.runner, self.endpoint, Channels(), SESSION)

    def endpoint(self, session_id: str) -> Endpoint:
        return Endpoint("ws://h/", {"Authorization": next(self.tokens)})

    def run(self) -> BaseException | None:
        self.reader.run()
        assert self.runner.protocol.state is State.CLOSED
        return self.runner.protocol.failure


def frame(message: Any, channel: str = "iopub") -> tuple[int, bytes]:
    return FORMATS[V1].encode(channel, message, SESSION.pack)


# --- opening --------------------------------------------------------------------------------------


def test_refused_handshake_is_repeated_once_with_other_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The renewer had a new token; the second refusal is final."""
    reading = Reading(monkeypatch, REFUSED, GatewayAuthError("401 again"))
    assert str(reading.run()) == "401 again"
    sent = [endpoint.headers["Authorization"] for endpoint in FakeHandshake.endpoints]
    assert sent == ["one", "two"]


def test_refused_handshake_with_the_same_credentials_is_final(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another attempt would be refused, too, and may lock the user out."""
    reading = Reading(monkeypatch, REFUSED)
    reading.tokens = iter(["one", "one"])
    assert reading.run() is REFUSED
    assert len(FakeHandshake.endpoints) == 1


def test_handshake_that_fails_for_another_reason_is_final_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caller who opens the connection gets the error."""
    gone = NoSuchKernel("it is not there")
    assert Reading(monkeypatch, gone).run() is gone
    assert len(FakeHandshake.endpoints) == 1


def test_lost_websocket_is_opened_again_until_the_delays_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first attempt is made at once; the error that ends the connection is in the log."""
    first, second = ScriptedTransport(), ScriptedTransport()
    refused = GatewayConnectionError("refused")
    reading = Reading(monkeypatch, first, refused, second, delays=lambda: iter([0.0, 0.0]))
    FakeHandshake.script += [refused, refused, refused]
    assert isinstance(reading.run(), GatewayConnectionError)
    assert reading.runner.protocol.epoch == 2
    assert first.is_closed
    assert second.is_closed
    assert "could not be opened again" in caplog.text


def test_lost_connection_is_no_warning_if_a_request_gets_the_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same text in the log and in the exception would be told twice."""
    caplog.set_level(logging.INFO)
    refused = GatewayConnectionError("refused")
    reading = Reading(monkeypatch, ScriptedTransport(), refused, delays=lambda: iter([0.0]))
    protocol = reading.runner.protocol
    opened = protocol.connection_opened

    def open_with_a_request(*args: Any) -> Any:
        actions = opened(*args)
        request = Request("asked", "execute_request", "shell", V1, (1, b""))
        assert protocol.register(request, protocol.epoch)
        protocol.request_sent(request, 0.0)
        return actions

    monkeypatch.setattr(protocol, "connection_opened", open_with_a_request)
    reading.run()
    ended = [record for record in caplog.records if "could not be opened again" in record.message]
    assert [record.levelname for record in ended] == ["INFO"]
    assert "could not be opened again" in str(reading.sinks["shell"].end)


def test_run_after_a_close_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The close may come between the caller's thread and the reader's."""
    reading = Reading(monkeypatch, ScriptedTransport())
    reading.runner.is_closing = True
    reading.runner.close()
    reading.reader.run()
    assert FakeHandshake.endpoints == []
    assert isinstance(reading.runner.protocol.failure, GatewayConnectionClosed)


def test_fault_of_the_reader_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No call may wait for a thread that does not run any more."""
    reading = Reading(monkeypatch, ScriptedTransport())
    monkeypatch.setattr(reading.reader, "_read_until_lost", lambda transport: 1 / 0)
    assert isinstance(reading.run(), ZeroDivisionError)
    assert "the reader of kernel" in caplog.text
    assert all(sink.end is not None for sink in reading.sinks.values())


# --- reading --------------------------------------------------------------------------------------


def test_messages_are_delivered_into_their_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, until the websocket is lost."""
    frames = [frame(says("stream", None, name="stdout", text=text)) for text in "ab"]
    reading = Reading(monkeypatch, ScriptedTransport(*frames), delays=lambda: iter(()))
    reading.run()
    texts = [message["content"]["text"] for message in reading.sinks["iopub"].messages]
    assert texts == ["a", "b"]


def test_malformed_message_is_logged_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been any reply, so that the protocol looks for what is missing."""
    lost: list[float] = []
    frames = [(BINARY, b"noise"), frame(says("stream", None, name="stdout", text="x"))]
    reading = Reading(monkeypatch, ScriptedTransport(*frames), delays=lambda: iter(()))
    monkeypatch.setattr(reading.runner.protocol, "message_lost", lambda now: lost.append(now) or ())
    reading.run()
    assert "a malformed message" in caplog.text
    assert len(lost) == 1
    assert len(reading.sinks["iopub"].messages) == 1


def test_message_with_readable_headers_is_reported_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call that waits for this reply learns that it is lost."""
    reported: list[tuple[str, str, str]] = []
    frames = [frame(says("execute_reply", None, execution_count=1), "shell")]
    reading = Reading(monkeypatch, ScriptedTransport(*frames), delays=lambda: iter(()))
    monkeypatch.setattr(
        reading.reader,
        "receive",
        lambda channel, message, size, why="": reported.append((channel, message["msg_type"], why)),
    )
    reading.run()
    [(channel, msg_type, why)] = reported
    assert (channel, msg_type) == ("shell", "execute_reply")
    assert "has no 'status'" in why
    assert "cannot be read" in caplog.text


def test_message_that_cannot_be_handled_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of this package concerns one message only."""
    frames = [frame(says("stream", None, name="stdout", text=text)) for text in "ab"]
    reading = Reading(monkeypatch, ScriptedTransport(*frames), delays=lambda: iter(()))
    delivered: list[str] = []

    def deliver(message: Any, size: int = 0) -> None:
        delivered.append(message["content"]["text"])
        if len(delivered) == 1:
            raise RuntimeError("a fault")

    monkeypatch.setattr(reading.sinks["iopub"], "deliver", deliver)
    reading.run()
    assert delivered == ["a", "b"]
    assert "could not be handled" in caplog.text
