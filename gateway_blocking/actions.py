"""Actions, decisions and sinks of :class:`.KernelProtocol` (no I/O).

Actions are what the shell is to perform; decisions say what follows the loss of a websocket; a
sink is the channel that messages are delivered into.

Each websocket of a connection has a number, its *epoch*.  An action names the epoch that it is
meant for, and the shell drops the action if another websocket has been opened since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from .errors import GatewayError, ReplyLost
from .messages import Message
from .requests_table import Request

__all__ = [
    "NO_ACTIONS",
    "Action",
    "Actions",
    "GiveUp",
    "LogMessage",
    "PollKernel",
    "PollReason",
    "ReportResent",
    "RestartToken",
    "Retry",
    "SendPing",
    "SendRequest",
    "Sink",
    "State",
    "TransportInfo",
]


class State(Enum):
    """State of a connection.  ``CLOSED`` is terminal."""

    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    RECOVERING = "asking what became of the requests that were in flight"
    CLOSED = "closed"


class PollReason(Enum):
    """Why the gateway is asked for the kernel."""

    PING = "periodically"
    SILENCE = "nothing has been received for too long"
    PROBE = "the kernel does not answer a question of the connection"
    SHUTDOWN = "the kernel announced its shutdown"


class TransportInfo(NamedTuple):
    """Facts about the current websocket, by which the protocol judges a silence."""

    opened: float
    """Seconds on the monotonic clock, as the next."""
    last_received: float
    has_input: bool
    """True if bytes have arrived that the reader has not read yet."""
    is_acknowledged: bool
    """True if the gateway's host has confirmed all that was sent."""


# --- actions --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendRequest:
    """Send a frame of the connection's own: a question to the kernel, or a request once more."""

    epoch: int
    opcode: int
    payload: bytes


@dataclass(frozen=True)
class ReportResent:
    """Report ``requests_resent`` after every action before this one has been performed."""

    epoch: int


@dataclass(frozen=True)
class SendPing:
    """Send a ping."""

    epoch: int


@dataclass(frozen=True)
class PollKernel:
    """Ask the gateway's REST interface for the kernel, and report ``kernel_polled``."""

    epoch: int
    reason: PollReason
    probe: int = 0
    """Number of the probe, for ``PROBE``: the questions that were sent later do not count by it."""
    revival: int = 0
    """Number of times that the kernel was trusted again until the poll began."""


@dataclass(frozen=True)
class LogMessage:
    """Write a line to the log, which may block and must not be done under the mutex."""

    level: Literal["debug", "warning"]
    text: str


Action = SendRequest | ReportResent | SendPing | PollKernel | LogMessage
Actions = Sequence[Action]

NO_ACTIONS: Actions = ()


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retry:
    """Open the websocket again after a delay in seconds."""

    delay: float


@dataclass(frozen=True)
class GiveUp:
    """End the connection because of this error."""

    error: GatewayError


class RestartToken(NamedTuple):
    """The kernel process, and what was asked of it, when its client began to restart it."""

    incarnation: str | None
    requests: tuple[Request, ...]


# --- deliveries -----------------------------------------------------------------------------------


class Sink(Protocol):
    """The channel that messages are delivered into.  None of its methods may block."""

    def deliver(self, message: Message, size: int = 0) -> None:
        """Give a message of `size` bytes to the call that claimed it, or put it into the queue."""

    def deliver_loss(self, lost: ReplyLost) -> None:
        """Put an error where the reply would be."""

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        """Fail the request: it gets no reply."""

    def kernel_died(self, error: GatewayError) -> None:
        """Fail every wait, now and later, until :meth:`revive`."""

    def revive(self) -> None:
        """Accept that the kernel replies again."""

    def close(self, error: GatewayError | None = None) -> None:
        """Fail every wait, now and later."""
