"""Whether a kernel is alive, as its messages and the gateway tell (no I/O).

The protocol passes every ``iopub`` message to :func:`status_from_message`.  The meaning of the
messages was measured on real servers:

* A gateway whose kernel died says so itself, with a ``status`` that has no parent: ``restarting``
  if it starts the kernel again, ``dead`` if it gave up.  The reply to the request that was
  executing never comes.
* A kernel that is shut down publishes its ``shutdown_reply``; the websocket then stays open and
  silent.  Only REST can tell whether the kernel is really gone.
* A kernel that a client restarts publishes a ``shutdown_reply`` as well, with ``restart``; the
  gateway then sends no ``restarting``.

:func:`should_abort` decides about a websocket that has been silent for long.
"""

from __future__ import annotations

from enum import Enum

from .messages import Message

__all__ = [
    "STATUS_MSG_TYPES",
    "LIVING",
    "PollResult",
    "KernelStatus",
    "poll_result",
    "should_abort",
    "status_from_message",
]


class KernelStatus(Enum):
    """Status of a kernel, as far as known."""

    ALIVE = "alive"
    RESTARTED = "was restarted, or crashed (out of memory?); its variables are lost"
    DEAD = "died, and the gateway gave up restarting it"
    GONE = "was shut down or culled, or the gateway was restarted"
    SHUTTING_DOWN = "announced its shutdown; the gateway must be asked"


LIVING = (KernelStatus.ALIVE, KernelStatus.SHUTTING_DOWN)


class PollResult(Enum):
    """Result of asking the gateway's REST interface for a kernel."""

    BUSY = "the kernel executes something"
    IDLE = "the kernel is there, and not busy"
    ERROR = "the gateway was not reached, or responded with an error"
    TIMEOUT = "the gateway did not respond in time"
    DEAD = "the gateway gave up restarting the kernel"
    GONE = "the gateway does not know the kernel"


def poll_result(execution_state: str) -> PollResult:
    """Return the result for the ``execution_state`` in a gateway's model of the kernel."""
    states = {"dead": PollResult.DEAD, "gone": PollResult.GONE, "busy": PollResult.BUSY}
    return states.get(execution_state, PollResult.IDLE)


STATUS_MSG_TYPES = frozenset(("status", "shutdown_reply"))
"""Message types that :func:`status_from_message` may return a status for."""


def status_from_message(message: Message, incarnation: str | None) -> KernelStatus | None:
    """Return the status that an ``iopub`` message tells of; None if it tells of none.

    `incarnation` is the kernel process known until now (see :mod:`.requests_table`).  What another
    process says at its end does not count.
    """
    msg_type = message["msg_type"]
    if msg_type == "status":
        if message["parent_header"]:
            return None
        state = message["content"].get("execution_state")
        if state == "dead":
            return KernelStatus.DEAD
        return KernelStatus.RESTARTED if state == "restarting" else None
    if msg_type == "shutdown_reply":
        if not message["content"].get("restart"):
            return KernelStatus.SHUTTING_DOWN
        if incarnation and message["header"].get("session") == incarnation:
            return KernelStatus.RESTARTED
    return None


# Seconds.
_FIRST_MESSAGE_TIMEOUT = 70.0  # a gateway waits up to a minute for its kernel
_FROZEN_GATEWAY_TIMEOUT = 120.0


def should_abort(
    silence: float, poll: PollResult, *, ever_heard: bool, acknowledged: bool, patience: float
) -> bool:
    """Return True if a silent websocket is lost, so that another one is opened.

    A gateway that stands still for a minute loses nothing as long as its connections stay open.  A
    lost connection loses every request that is sent on it until it is aborted.

    Parameters
    ----------
    silence, patience : float
        Seconds since the last byte came, and seconds after which that is too long.
    poll : PollResult
        The gateway's response by REST at this moment.
    ever_heard : bool
        Whether any byte came on this websocket.  A gateway first waits for its kernel, up to a
        minute, and reads nothing meanwhile.
    acknowledged : bool
        Whether the gateway's host confirmed the pings, as its operating system does for a gateway
        that stands still.
    """
    if silence < patience or (not ever_heard and silence < _FIRST_MESSAGE_TIMEOUT):
        return False
    if poll is PollResult.TIMEOUT and acknowledged:
        return silence >= _FROZEN_GATEWAY_TIMEOUT
    return True  # it responds, only not here; or it cannot be reached
