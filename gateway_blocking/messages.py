"""A kernel's messages: their shape, as types, and the check that a received message has it.

They are plain dictionaries, as those of jupyter_client.  The content depends on the type of the
message, and is described in jupyter_client's documentation ("Messaging in Jupyter").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, cast

from jupyter_client.adapter import adapt

from .errors import WireError

__all__ = [
    "Header",
    "Message",
    "ParentHeader",
    "RelayedMessage",
    "Unreadable",
    "build_message",
    "is_idle",
    "is_of_this_protocol",
    "relayed_message",
]

_LONGEST_ID = 1024  # characters; the ids of real kernels have fewer than 100


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


class RelayedMessage(Message):
    """A message that is passed on as it came."""

    parts: Sequence[bytes | memoryview]
    """Header, parent header, metadata and content as JSON, and the buffers."""


def is_idle(message: Message) -> bool:
    """Return True if a message on ``iopub`` ends the output of its request."""
    return bool(
        message["msg_type"] == "status" and message["content"].get("execution_state") == "idle"
    )


# --- received messages ----------------------------------------------------------------------------


class Unreadable(WireError):
    """A message that came, and of which only the headers can be read.

    Attributes
    ----------
    channel : str
        The name of its channel.
    message : Message
        The message with the parts that can be read; the others are empty.
    """

    def __init__(self, text: str, channel: str, message: Message) -> None:
        super().__init__(text)
        self.channel = channel
        self.message = message


def build_message(
    channel: Any,
    header: Any,
    parent_header: Any,
    metadata: Any,
    content: Any,
    buffers: list[memoryview],
    unreadable: WireError | None = None,
) -> Message:
    """Return the message of these parts, as ``Session.deserialize`` would build it.

    Parameters
    ----------
    channel, header, parent_header, metadata, content
        Parts of the message, of any type that JSON has.
    buffers : list of memoryview
        Buffers of the message.
    unreadable : WireError, optional
        Error of a part that could not be read, and that is empty therefore.

    Raises
    ------
    Unreadable
        Only the headers can be read.
    WireError
        Not even the header has what every header must have.
    """
    _check_header(channel, header)
    parts: dict[str, Any] = {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent_header,
        "metadata": metadata,
        "content": content,
        "buffers": buffers,
    }
    try:
        if unreadable is not None:
            raise unreadable
        return _checked(parts)
    except WireError as error:
        parent = parent_header if _is_parent(parent_header) else {}
        parts |= {"parent_header": parent, "metadata": {}, "content": {}, "buffers": []}
        raise Unreadable(str(error), channel, cast("Message", parts)) from error


def relayed_message(
    channel: Any,
    header: Any,
    parent_header: Any,
    content: Mapping[str, Any],
    parts: Sequence[bytes | memoryview],
) -> RelayedMessage:
    """Return the message of these parts for a program that passes it on unchanged.

    Only the headers are checked.  What the content of a message must have is for its receiver.

    Parameters
    ----------
    channel, header, parent_header
        Parts of the message, of any type that JSON has.
    content : mapping
        The content, which the protocol reads for a few message types only.
    parts : sequence of bytes or memoryview
        All parts as they came.

    Raises
    ------
    WireError
        A header does not have what every header must have.
    """
    _check_header(channel, header)
    if not _is_parent(parent_header):
        raise WireError(f"a {header['msg_type']} has a malformed parent header")
    message: dict[str, Any] = {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent_header,
        "metadata": {},
        "content": content,
        "buffers": parts[4:],
        "parts": parts,
    }
    return cast("RelayedMessage", message)


def is_of_this_protocol(header: Any) -> bool:
    """Return True if a header is of version 5 of the protocol, and not of an older one."""
    return type(header) is dict and str(header.get("version", "")).startswith("5.")


def _check_header(channel: Any, header: Any) -> None:
    """Raise WireError unless there are the channel, the type and the ID of a message."""
    if type(channel) is not str:
        raise WireError("a message's channel must be text")
    if type(header) is not dict:
        raise WireError("a message's header must be a JSON object")
    try:
        msg_id, msg_type = header["msg_id"], header["msg_type"]
    except KeyError as missing:
        raise WireError(f"a message's header has no {missing}") from None
    if not (type(msg_type) is str and _is_id(msg_id)):
        raise WireError(
            f"a message's msg_type must be text, and its msg_id text of up to {_LONGEST_ID}"
            " characters"
        )


def _is_id(value: Any) -> bool:
    return type(value) is str and len(value) <= _LONGEST_ID


def _is_parent(header: Any) -> bool:
    """Return True if a parent header tells to which request a message belongs, or that to none."""
    return type(header) is dict and (header.get("msg_id") is None or _is_id(header["msg_id"]))


def _checked(message: dict[str, Any]) -> Message:
    """Return the message in the current version of the protocol, with the content it must have."""
    if type(message["content"]) is not dict:
        raise WireError(f"the content of a {message['msg_type']} is not a JSON object")
    if not _is_parent(message["parent_header"]):
        raise WireError(f"the msg_id in the parent header of a {message['msg_type']} is not text")
    if not is_of_this_protocol(message["header"]):
        try:
            message = adapt(message)
        except Exception as error:  # whatever an adapter trips over, it is not of its version
            raise WireError(
                f"a message of another protocol version is malformed: {error!r}"
            ) from error
    content, msg_type = message["content"], message["msg_type"]
    if (required := _REQUIRED.get(msg_type)) is not None:
        name, kind = required
        if type(content.get(name)) is not kind:
            raise WireError(f"a {msg_type} message has no {name!r} that is a {kind.__name__}")
        if msg_type == "stream":
            if content.get("name") != "stderr":
                content["name"] = "stdout"
        elif kind is dict:
            _complete_display(content)
            if msg_type == "execute_result":
                content.setdefault("execution_count", None)
    if msg_type == "error" or (msg_type == "execute_reply" and content["status"] == "error"):
        content.update(_error_text({**_NO_ERROR, **content}))
    elif content.get("status") == "error":
        content.update(_error_text({name: content[name] for name in _NO_ERROR if name in content}))
    return cast("Message", message)


# What every reader of such a message takes for granted.
_REQUIRED: Mapping[str, tuple[str, type]] = {
    "stream": ("text", str),
    "display_data": ("data", dict),
    "update_display_data": ("data", dict),
    "execute_result": ("data", dict),
    "input_request": ("prompt", str),
    "status": ("execution_state", str),
    "execute_reply": ("status", str),
}
_TEXTUAL = ("text/", "image/")  # types of data that are text in a message


def _complete_display(content: dict[str, Any]) -> None:
    """Give the content of a display what its readers take for granted besides the data."""
    data = content["data"]
    for kind, value in data.items():
        if type(value) is not str and kind.startswith(_TEXTUAL) and not kind.endswith("json"):
            data[kind] = "".join(map(str, value)) if type(value) is list else str(value)
    if type(content.get("metadata")) is not dict:
        content["metadata"] = {}
    if (transient := content.get("transient")) is not None:
        content["transient"] = transient = transient if type(transient) is dict else {}
        if type(transient.get("display_id", "")) is not str:
            transient["display_id"] = str(transient["display_id"])


_NO_ERROR: Mapping[str, Any] = {"ename": "", "evalue": "", "traceback": []}


def _error_text(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an error as text: some kernels put numbers there."""
    text: dict[str, Any] = {}
    for name, value in parts.items():
        if name == "traceback":
            lines = value if type(value) is list else [] if value is None else [value]
            text[name] = [str(line) for line in lines]
        elif name in _NO_ERROR:
            text[name] = str(value)
    return text
