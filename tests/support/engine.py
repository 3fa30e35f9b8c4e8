"""The engine of a connection without a gateway: a runner, and websockets that record."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from jupyter_client.session import Session

from gateway_blocking.runner import ProtocolRunner
from gateway_blocking.wire import V1
from support.protocol import RecordingSink


class RecordingTransport:
    """An open websocket that records what is sent, and fails if it is told to."""

    subprotocol = V1

    def __init__(self) -> None:
        self.opened = self.last_received = monotonic()
        self.sent: list[tuple[int, bytes]] = []
        self.pings = 0
        self.error: Exception | None = None
        self.aborted: str | None = None
        self.is_closed = False

    def send(self, opcode: int, payload: bytes, timeout: Any = None) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((opcode, payload))

    def ping(self) -> None:
        if self.error is not None:
            raise self.error
        self.pings += 1

    def send_close(self) -> None:
        pass

    @property
    def is_aborted(self) -> bool:
        return self.aborted is not None

    def abort(self, reason: str = "it was closed here") -> None:
        self.aborted = self.aborted or reason

    def close(self) -> None:
        self.is_closed = True

    def has_input(self) -> bool:
        return False

    def is_acknowledged(self) -> bool:
        return True


class FakeReader:
    """A reader that has a websocket, or none."""

    def __init__(self, transport: RecordingTransport | None) -> None:
        self.transport = transport


def new_runner(**options: Any) -> ProtocolRunner:
    """Return a runner of a connection that is not open yet."""
    defaults: dict[str, Any] = {
        "session": Session(key=b"secret"),
        "sinks": {name: RecordingSink() for name in ("shell", "iopub", "stdin", "control")},
        "ping_interval": 0.0,
        "ping_timeout": 20.0,
        "delays": lambda: iter([0.0]),
    }
    return ProtocolRunner("12345678-kernel", logging.getLogger("tests"), **{**defaults, **options})


def actions_of(runner: ProtocolRunner) -> list[Any]:
    """Take the actions out of the inbox, and return them."""
    items = [runner.inbox.get_nowait() for _ in range(runner.inbox.qsize())]
    return [item for item in items if item is not None]
