"""The one verdict "is this kernel alive", from what is heard of it: pure.

The connection shows every ``iopub`` message to :func:`verdict_of`.  What the messages mean was
measured on real servers:

* a gateway whose kernel died says so itself, with a ``status`` that has no parent:
  ``restarting`` where it starts it again, ``dead`` where it gave up.  The reply to what was
  running never comes.
* a kernel that is shut down publishes its ``shutdown_reply``; the websocket then stays open
  and silent.  Only REST can tell whether the kernel is really gone.
* a kernel that somebody restarts publishes one as well, with ``restart``; no ``restarting``.

:func:`is_lost` is the verdict on a websocket of which nothing is heard.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

__all__ = ["SPEAKS_OF_LIFE", "LIVING", "Look", "Verdict", "is_lost", "verdict_of"]


class Verdict(Enum):
    """What is known of a kernel."""

    ALIVE = "alive"
    RESTARTED = "was restarted, or crashed (out of memory?). Its variables are lost."
    DEAD = "died, and the gateway gave up restarting it"
    GONE = "was shut down or culled"
    DOUBTFUL = "announced its shutdown; the gateway must be asked"


LIVING = (Verdict.ALIVE, Verdict.DOUBTFUL)


class Look(Enum):
    """What the gateway's REST interface says of a kernel."""

    BUSY = "the kernel executes something"
    QUIET = "the kernel is there, and not busy"
    REFUSAL = "there is no connection, or only an error"
    SILENCE = "no answer in time"


SPEAKS_OF_LIFE = frozenset(("status", "shutdown_reply"))
"""The types of messages of which :func:`verdict_of` may say anything."""


def verdict_of(message: dict[str, Any], incarnation: str | None) -> Verdict | None:
    """Return what an ``iopub`` message says of the kernel's life, or None if it says nothing.

    `incarnation` is the kernel process known until now (see :mod:`.ledger`): what another one
    says at its end is no news.
    """
    msg_type = message["msg_type"]
    if msg_type == "status":
        if message["parent_header"]:
            return None
        state = message["content"].get("execution_state")
        if state == "dead":
            return Verdict.DEAD
        return Verdict.RESTARTED if state == "restarting" else None
    if msg_type == "shutdown_reply":
        if not message["content"].get("restart"):
            return Verdict.DOUBTFUL
        if incarnation and message["header"].get("session") == incarnation:
            return Verdict.RESTARTED
    return None


_FIRST_PATIENCE = 70.0
_LAST_PATIENCE = 120.0


def is_lost(
    silence: float, look: Look, *, ever_heard: bool, acknowledged: bool, patience: float
) -> bool:
    """Whether a websocket is to be given up after so many seconds of silence, pings and all.

    A gateway that stands still for a minute loses nothing, as long as nobody hangs up; a lost
    connection loses what is sent on it, until somebody does.

    Parameters
    ----------
    silence, patience : float
        Seconds since something was heard, and after which that is too long.
    look : Look
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
    if look is Look.SILENCE and acknowledged:
        return silence >= _LAST_PATIENCE
    return True  # it answers, only not here; or there is no way to it
