"""Messages to websocket payloads and back: pure functions, one :class:`Format` per subprotocol.

A gateway speaks one of two formats, whichever the server selects in the handshake:

``""`` (default)
    A text frame with one JSON object; where the message has buffers, a binary frame that begins
    with 32-bit big-endian numbers: the number of parts, then the offset of each.  The first part
    is the JSON object, the others are the buffers.
``v1.kernel.websocket.jupyter.org``
    Always a binary frame that begins with 64-bit little-endian numbers: how many offsets follow,
    then the offsets; between them lie channel, header, parent header, metadata, content and
    buffers.  The server passes these parts on as the kernel sent them, without parsing any.

Both are described in the documentation of jupyter_server ("WebSocket kernel wire protocols").
What :func:`decode` returns cannot be told from a message that jupyter_client received over ZMQ.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from jupyter_client.adapter import adapt
from jupyter_client.jsonutil import parse_date

from .errors import WireError
from .frames import BINARY, TEXT

__all__ = [
    "DEFAULT",
    "FORMATS",
    "V1",
    "Format",
    "Message",
    "Pack",
    "Payload",
    "Unpack",
    "require_json",
]

Message = dict[str, Any]
"""header, msg_id, msg_type, parent_header, metadata, content and buffers."""

Payload = bytes | memoryview
Pack = Callable[[Any], bytes]
Unpack = Callable[[str], Any]

DEFAULT = ""
V1 = "v1.kernel.websocket.jupyter.org"


class Format(NamedTuple):
    """How the messages of one subprotocol are written and read.

    ``encode(channel, message, pack)`` gives opcode and payload of a frame;
    ``decode(opcode, payload, unpack)`` gives the channel's name and the message.
    `pack` and `unpack` are those of :class:`jupyter_client.session.Session`.
    Both raise :exc:`~gateway_blocking.errors.WireError`.
    """

    encode: Callable[[str, Mapping[str, Any], Pack], tuple[int, bytes]]
    decode: Callable[[int, Payload, Unpack], tuple[str, Message]]


def require_json(pack: Pack) -> None:
    """Refuse a packer of other than JSON, which is all that a gateway reads."""
    try:
        json.loads(pack({}))
    except ValueError as error:
        raise WireError(
            "a gateway's websocket carries JSON, and the session packs its messages as something"
            " else: leave Session.packer at its default, or set it to 'json'"
        ) from error


# --- messages -------------------------------------------------------------------------------------


def _message(
    header: Any, parent_header: Any, metadata: Any, content: Any, buffers: list[memoryview]
) -> Message:
    """The message of these parts, as ``Session.deserialize`` would build it."""
    if not (type(header) is type(parent_header) is type(content) is dict):
        raise WireError("a message's header, parent header and content must be JSON objects")
    try:
        message = {
            "header": header,
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": parent_header,
            "metadata": metadata,
            "content": content,
            "buffers": buffers,
        }
    except KeyError as missing:
        raise WireError(f"a message's header has no {missing}") from None
    if not (type(message["msg_id"]) is type(message["msg_type"]) is str):
        raise WireError("a message's msg_id and msg_type must be text")
    if str(header.get("version", "")).startswith("5."):
        return message
    try:
        adapted: Message = adapt(message)
    except Exception as error:  # whatever an adapter trips over, the message is not of its version
        raise WireError(f"a message of another protocol version is malformed: {error!r}") from error
    return adapted


def _date(header: Any) -> Any:
    """A header, or what came in its place, with its date as one."""
    if type(header) is dict and type(date := header.get("date")) is str:
        header["date"] = _parse_date(date)
    return header


# The parent header that was read last, as text and as a dict: that of a hundred lines of output,
# say, which all have the same.  (Set at once, for threads.)
_last_parent: tuple[Any, Unpack | None, dict[str, Any]] = (None, None, {})
_PLAIN = (str, int, datetime)
_NOTHING: Any = b"{}"  # the metadata of nearly all messages


def _parent_header(part: Payload, unpack: Unpack) -> Any:
    """A parent header from its JSON; parsed anew only if it is not that of the message before."""
    global _last_parent
    text, by, header = _last_parent
    if part == text and by is unpack:
        return header.copy()
    header = _date(_unpack(part, unpack))
    if type(header) is dict and all(type(value) in _PLAIN for value in header.values()):
        _last_parent = bytes(part), unpack, header.copy()
    return header


def _parse_date(text: str) -> datetime | str:
    """What jupyter_client's ``parse_date`` makes of `text`, at a tenth of its cost."""
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        try:
            return parse_date(text)  # type: ignore[return-value]  # (None only for None)
        except ValueError:  # such as of 30 February: no reason to lose the message
            return text
    try:
        # jupyter_client takes a date without a zone, as some kernels send it, for local time.
        return date if date.tzinfo else date.astimezone()
    except (ValueError, OverflowError):  # the year 1 or 9999
        return text


def _parts(message: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    try:
        content = message["content"]
        return (
            message["header"],
            message["parent_header"],
            message["metadata"],
            {} if content is None else content,
        )
    except KeyError as missing:
        raise WireError(f"the message cannot be sent: it has no {missing}") from None


def _buffers(message: Mapping[str, Any]) -> list[memoryview]:
    """The message's buffers as flat bytes; what has the buffer interface will do."""
    views = []
    for number, buffer in enumerate(message.get("buffers") or ()):
        try:
            views.append(memoryview(buffer).cast("B"))
        except TypeError as error:
            raise WireError(
                f"buffer {number} of the message is not contiguous bytes: {type(buffer).__name__}"
            ) from error
    return views


def _unpack(part: Payload, unpack: Unpack) -> Any:
    try:
        return unpack(str(part, "utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON as well as of UTF-8
        raise WireError(f"a part of {len(part)} bytes is not JSON in UTF-8: {error}") from error


def _pack(part: Any, pack: Pack) -> bytes:
    try:
        return pack(part)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"the message cannot be written as JSON: {error}") from error


# --- the default format ---------------------------------------------------------------------------


def _encode_default(channel: str, message: Mapping[str, Any], pack: Pack) -> tuple[int, bytes]:
    header, parent_header, metadata, content = _parts(message)
    buffers = _buffers(message)
    text = _pack(
        {
            "channel": channel,
            "header": header,
            "parent_header": parent_header,
            "metadata": metadata,
            "content": content,
            "buffers": [],
        },
        pack,
    )
    if not buffers:
        return TEXT, text
    parts: list[Payload] = [text, *buffers]
    offsets = _offsets(parts, 4 * (1 + len(parts)))[:-1]
    return BINARY, b"".join((struct.pack(f">{len(offsets) + 1}I", len(offsets), *offsets), *parts))


def _decode_default(opcode: int, payload: Payload, unpack: Unpack) -> tuple[str, Message]:
    buffers: list[memoryview] = []
    if opcode == BINARY:
        view = memoryview(payload)
        offsets = [*_read_offsets(view, ">", "I", 4), len(view)]
        _check_offsets(offsets, len(view), least=2)
        parts = [view[start:end] for start, end in pairwise(offsets)]
        payload, buffers = parts[0], parts[1:]
    whole = _unpack(payload, unpack)
    if type(whole) is not dict:
        raise WireError("a message must be a JSON object")
    try:
        channel = whole["channel"]
        message = _message(
            _date(whole["header"]),
            # A gateway's own messages, such as "restarting", leave some of these out.
            _date(whole.get("parent_header") or {}),
            whole.get("metadata") or {},
            whole["content"],
            buffers,
        )
    except KeyError as missing:
        raise WireError(f"a message has no {missing}") from None
    return channel, message


# --- v1.kernel.websocket.jupyter.org --------------------------------------------------------------


def _encode_v1(channel: str, message: Mapping[str, Any], pack: Pack) -> tuple[int, bytes]:
    parts: list[Payload] = [channel.encode()]
    parts += [_pack(part, pack) for part in _parts(message)]
    parts += _buffers(message)
    offsets = _offsets(parts, 8 * (2 + len(parts)))
    return BINARY, b"".join((struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts))


def _decode_v1(opcode: int, payload: Payload, unpack: Unpack) -> tuple[str, Message]:
    if opcode != BINARY:
        raise WireError(f"a text frame came on a websocket that speaks {V1}")
    parts = _parts_of_v1(payload)
    channel, header, parent_header, metadata, content = parts[:5]
    return str(channel, "utf-8", "replace"), _message(
        _date(_unpack(header, unpack)),
        _parent_header(parent_header, unpack),
        {} if metadata == _NOTHING else _unpack(metadata, unpack),
        _unpack(content, unpack),
        parts[5:],
    )


def _parts_of_v1(payload: Payload) -> list[Any]:
    """Channel, header, parent header, metadata, content and buffers, none of them copied twice."""
    if type(payload) is bytes and len(payload) >= _HEAD_WITHOUT_BUFFERS.size:
        count, a, b, c, d, e, end = _HEAD_WITHOUT_BUFFERS.unpack_from(payload)
        if count == 6 and a <= b <= c <= d <= e <= end <= len(payload):  # as nearly always
            return [payload[a:b], payload[b:c], payload[c:d], payload[d:e], payload[e:end]]
    view = memoryview(payload)
    offsets = _read_offsets(view, "<", "Q", 8)
    _check_offsets(offsets, len(view), least=6)
    return [view[start:end] for start, end in pairwise(offsets)]


_HEAD_WITHOUT_BUFFERS = struct.Struct("<7Q")


# --- offsets --------------------------------------------------------------------------------------


def _offsets(parts: Sequence[Payload], first: int) -> list[int]:
    """Where each part begins if the first does at `first`, and where the last ends."""
    offsets = [first]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return offsets


def _read_offsets(view: memoryview, order: str, number: str, size: int) -> tuple[int, ...]:
    """The counted offsets that a binary frame begins with."""
    try:
        (count,) = struct.unpack_from(order + number, view)
        if count > len(view) // size:  # checked first: a lie must not cost memory
            raise WireError(f"a frame of {len(view)} bytes claims to have {count} offsets")
        return struct.unpack_from(f"{order}{count}{number}", view, size)
    except struct.error as error:
        raise WireError(f"a frame of {len(view)} bytes is too short: {error}") from error


def _check_offsets(offsets: Sequence[int], size: int, least: int) -> None:
    if len(offsets) < least:
        raise WireError(f"a frame has {len(offsets)} offsets, and {least} is the least possible")
    previous = 0
    for offset in offsets:
        if not previous <= offset <= size:
            raise WireError(f"a frame of {size} bytes has the offset {offset} after {previous}")
        previous = offset


FORMATS: Mapping[str, Format] = {
    DEFAULT: Format(_encode_default, _decode_default),
    V1: Format(_encode_v1, _decode_v1),
}
"""The format of each subprotocol; a server that selects none speaks the default."""
