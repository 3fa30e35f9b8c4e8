"""Whether a kernel is alive, as its messages and the gateway tell (no I/O).

The connection passes every ``iopub`` message to :func:`status_from_message`.  The meaning of the
messages was measured on real servers:

* a gateway whose kernel died says so itself, with a ``status`` that has no parent:
  ``restarting`` where it starts it again, ``dead`` where it gave up.  The reply to what was
  running never comes.
* a kernel that is shut down publishes its ``shutdown_reply``; the websocket then stays open
  and silent.  Only REST can tell whether the kernel is really gone.
* a kernel that somebody restarts publishes one as well, with ``restart``; no ``restarting``.

:func:`should_abort` is the verdict on a websocket of which nothing is heard.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

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
    """What is known of a kernel."""

    ALIVE = "alive"
    RESTARTED = "was restarted, or crashed (out of memory?). Its variables are lost."
    DEAD = "died, and the gateway gave up restarting it"
    GONE = "was shut down or culled, or the gateway was restarted"
    SHUTTING_DOWN = "announced its shutdown; the gateway must be asked"


LIVING = (KernelStatus.ALIVE, KernelStatus.SHUTTING_DOWN)


class PollResult(Enum):
    """What the gateway's REST interface says of a kernel."""

    BUSY = "the kernel executes something"
    IDLE = "the kernel is there, and not busy"
    ERROR = "there is no connection, or only an error"
    TIMEOUT = "no answer in time"
    DEAD = "the gateway gave up restarting the kernel"
    GONE = "the gateway does not know the kernel"


def poll_result(execution_state: str) -> PollResult:
    """Return what the ``execution_state`` in a gateway's model of the kernel says."""
    states = {"dead": PollResult.DEAD, "gone": PollResult.GONE, "busy": PollResult.BUSY}
    return states.get(execution_state, PollResult.IDLE)


STATUS_MSG_TYPES = frozenset(("status", "shutdown_reply"))
"""The types of messages of which :func:`status_from_message` may say anything."""


def status_from_message(message: dict[str, Any], incarnation: str | None) -> KernelStatus | None:
    """Return what an ``iopub`` message says of the kernel's life, or None if it says nothing.

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


_FIRST_PATIENCE = 70.0
_LAST_PATIENCE = 120.0


def should_abort(
    silence: float, poll: PollResult, *, ever_heard: bool, acknowledged: bool, patience: float
) -> bool:
    """Whether a websocket is to be given up after so many seconds of silence, pings and all.

    A gateway that stands still for a minute loses nothing, as long as nobody hangs up; a lost
    connection loses what is sent on it, until somebody does.

    Parameters
    ----------
    silence, patience : float
        Seconds since something was heard, and after which that is too long.
    poll : PollResult
        What REST answers just now.
    ever_heard : bool
        Whether anything was heard on this websocket: a gateway first waits for its kernel, up to
        a minute, and reads nothing meanwhile.
    acknowledged : bool
        Whether the gateway's host confirmed the pings, as its operating system does for a
        gateway that stands still.
    """
    if silence < patience or (not ever_heard and silence < _FIRST_PATIENCE):
        return False
    if poll is PollResult.TIMEOUT and acknowledged:
        return silence >= _LAST_PATIENCE
    return True  # it answers, only not here; or there is no way to it
