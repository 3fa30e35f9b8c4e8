"""The shape of a kernel's messages, as types.

They are plain dictionaries, as those of jupyter_client.  The content depends on the type of the
message, and is described in jupyter_client's documentation ("Messaging in Jupyter").
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

__all__ = ["Header", "Message", "ParentHeader", "is_idle"]


class Header(TypedDict):
    """The header of a message: which message it is, of which type, from which session."""

    msg_id: str
    msg_type: str
    username: str
    session: str
    date: datetime
    version: str


class ParentHeader(TypedDict, total=False):
    """The header of the request that a message answers; empty if it answers none."""

    msg_id: str
    msg_type: str
    username: str
    session: str
    date: datetime
    version: str


class Message(TypedDict):
    """A message from a kernel."""

    header: Header
    msg_id: str
    msg_type: str
    parent_header: ParentHeader
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: list[memoryview]


def is_idle(message: Message) -> bool:
    """Return True if a message on ``iopub`` ends the output of its request."""
    return bool(
        message["msg_type"] == "status" and message["content"].get("execution_state") == "idle"
    )
