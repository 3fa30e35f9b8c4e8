"""The one verdict "is this kernel alive", from what is heard of it: pure.

The connection shows every ``iopub`` message to :func:`verdict_of`.  What the messages mean was
measured on real servers:

* a gateway whose kernel died says so itself, with a ``status`` that has no parent:
  ``restarting`` where it starts it again, ``dead`` where it gave up.  The reply to what was
  running never comes.
* a kernel that is shut down publishes its ``shutdown_reply``; the websocket then stays open
  and silent.  Only REST can tell whether the kernel is really gone.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

__all__ = ["Verdict", "verdict_of"]


class Verdict(Enum):
    """What is known of a kernel."""

    ALIVE = "alive"
    RESTARTED = "was restarted by the gateway after it died; its variables are lost"
    DEAD = "died, and the gateway gave up restarting it"
    GONE = "was shut down or culled"
    DOUBTFUL = "announced its shutdown; the gateway must be asked"


def verdict_of(message: dict[str, Any]) -> Verdict | None:
    """What an ``iopub`` message says of the kernel's life, or None where it says nothing."""
    msg_type = message["msg_type"]
    if msg_type == "status":
        if message["parent_header"]:
            return None
        state = message["content"].get("execution_state")
        if state == "dead":
            return Verdict.DEAD
        return Verdict.RESTARTED if state == "restarting" else None
    if msg_type == "shutdown_reply" and not message["content"].get("restart"):
        return Verdict.DOUBTFUL
    return None
