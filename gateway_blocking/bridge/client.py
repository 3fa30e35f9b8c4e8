"""The client of a bridge: its channels hand each message on at once, instead of keeping it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from traitlets import Type

from ..channels import Channel
from ..client import BlockingGatewayKernelClient
from ..errors import GatewayError, ReplyLost
from ..wire import RELAY_FORMATS, Format

__all__ = [
    "Arrived",
    "BridgeClient",
    "ConnectionEnded",
    "Event",
    "ForwardingChannel",
    "KernelEnded",
    "RequestFailed",
]


class Arrived(NamedTuple):
    """A message from the kernel."""

    channel: str
    message: Mapping[str, Any]


class RequestFailed(NamedTuple):
    """A request gets no reply any more."""

    msg_id: str
    error: GatewayError


class KernelEnded(NamedTuple):
    """The kernel died, was restarted by another client, or is gone."""

    error: GatewayError


class ConnectionEnded(NamedTuple):
    """The connection to the gateway is closed for good."""

    error: GatewayError


Event = Arrived | RequestFailed | KernelEnded | ConnectionEnded


class ForwardingChannel(Channel):
    """A channel that hands on what the connection delivers, in the connection's threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.forward: Callable[[Event], None] = lambda event: None
        self.handle: Callable[[], None] = lambda: None

    def deliver(self, message: dict[str, Any], size: int = 0) -> None:
        """Hand a message on."""
        self.forward(Arrived(self.name, message))

    def after_delivery(self) -> None:
        """Have what was handed on handled, now that no mutex is held."""
        self.handle()

    def deliver_loss(self, lost: ReplyLost) -> None:
        """Hand on that a reply is lost."""
        self.forward(RequestFailed(lost.msg_id, lost))

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        """Hand on that a request failed."""
        self.forward(RequestFailed(msg_id, error))

    def kernel_died(self, error: GatewayError) -> None:
        """Hand on the end of the kernel."""
        super().kernel_died(error)
        self.forward(KernelEnded(error))

    def close(self, error: GatewayError | None = None) -> None:
        """Hand on the end of the connection."""
        super().close(error)
        if error is not None:
            self.forward(ConnectionEnded(error))


class BridgeClient(BlockingGatewayKernelClient):
    """A client whose messages go to a function, as they come."""

    shell_channel_class = Type(ForwardingChannel)
    iopub_channel_class = Type(ForwardingChannel)
    stdin_channel_class = Type(ForwardingChannel)
    control_channel_class = Type(ForwardingChannel)
    _formats: ClassVar[Mapping[str, Format]] = RELAY_FORMATS

    def forward_to(self, put: Callable[[Event], None], handle: Callable[[], None]) -> None:
        """Call these functions in the threads of the connection.

        Parameters
        ----------
        put : callable
            Called with each event.  It must return at once, and use nothing of this client.
        handle : callable
            Called after each :class:`Arrived` was put; it may take as long as the next can wait.
        """
        for channel in (
            self.shell_channel,
            self.iopub_channel,
            self.stdin_channel,
            self.control_channel,
        ):
            assert isinstance(channel, ForwardingChannel)
            channel.forward, channel.handle = put, handle
