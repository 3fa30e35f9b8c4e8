"""A protocol without a connection: its client, its sinks, and what a kernel says to it."""

from __future__ import annotations

from typing import Any

from jupyter_client.session import Session

from gateway_blocking.actions import Retry, SendRequest, TransportInfo
from gateway_blocking.errors import GatewayConnectionError, GatewayError, ReplyLost
from gateway_blocking.messages import Message
from gateway_blocking.protocol import KernelProtocol
from gateway_blocking.requests_table import Request
from gateway_blocking.wire import FORMATS, V1

KERNEL = Session(key=b"secret")
LOST = GatewayConnectionError("the websocket broke")
PING_INTERVAL, PING_TIMEOUT = 10.0, 20.0


class RecordingSink:
    """A channel that records what the protocol tells it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.losses: list[ReplyLost] = []
        self.failures: dict[str, GatewayError] = {}
        self.death: GatewayError | None = None
        self.end: GatewayError | None = None

    def deliver(self, message: Message, size: int = 0) -> None:
        self.messages.append(message)

    def deliver_loss(self, lost: ReplyLost) -> None:
        self.losses.append(lost)

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        self.failures[msg_id] = error

    def kernel_died(self, error: GatewayError) -> None:
        self.death = error

    def revive(self) -> None:
        self.death = None

    def close(self, error: GatewayError | None = None) -> None:
        self.end = error


class Client:
    """A protocol, its sinks, and the requests of its client."""

    def __init__(self, *, opened: bool = True, ping_interval: float = PING_INTERVAL) -> None:
        self.session = Session(key=b"secret")
        self.sinks = {name: RecordingSink() for name in ("shell", "iopub", "stdin", "control")}
        self.changes = 0
        self.protocol = KernelProtocol(
            "12345678-kernel",
            session=self.session,
            sinks=self.sinks,
            ping_interval=ping_interval,
            ping_timeout=PING_TIMEOUT,
            delays=lambda: iter([0.0, 1.0]),
            on_change=self.change,
            on_timer=lambda: None,
            now=0.0,
        )
        if opened:
            self.protocol.connection_opened(V1, 0.0)

    def change(self) -> None:
        self.changes += 1

    def message(self, msg_type: str = "execute_request") -> Message:
        message: Message = self.session.msg(msg_type, {"code": "1"})
        return message

    def register(self, message: Message, channel: str = "shell") -> Request:
        header = message["header"]
        frame = FORMATS[V1].encode(channel, message, self.session.pack)
        request = Request(header["msg_id"], header["msg_type"], channel, V1, frame)
        assert self.protocol.register(request, self.protocol.epoch)
        return request

    def send(self, msg_type: str = "execute_request") -> Message:
        message = self.message(msg_type)
        self.protocol.request_sent(self.register(message), 0.0)
        return message

    def receive(self, channel: str, message: Message, unreadable: str = "") -> Any:
        return self.protocol.message_received(channel, message, 1, 1.0, unreadable)

    def reconnect(self, now: float = 2.0) -> Any:
        assert isinstance(self.protocol.connection_lost(LOST, now), Retry)
        return self.protocol.connection_opened(V1, now)


def says(msg_type: str, asked: Message | None, **content: Any) -> Message:
    """Return a message of the kernel."""
    message: Message = KERNEL.msg(msg_type, content, parent=asked)
    return message


def transport(last_received: float, *, acknowledged: bool = False) -> TransportInfo:
    return TransportInfo(0.0, last_received, has_input=False, is_acknowledged=acknowledged)


def frames_of(actions: Any) -> list[tuple[str, Message]]:
    sent = [action for action in actions if isinstance(action, SendRequest)]
    return [FORMATS[V1].decode(a.opcode, a.payload, KERNEL.unpack) for a in sent]
