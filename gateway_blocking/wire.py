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
What ``decode`` returns cannot be told from a message that jupyter_client received over ZMQ: see
:func:`.build_message`.

Bytes that are not UTF-8 are replaced by U+FFFD, as jupyter_client does: ipykernel packs with
``surrogateescape``, and so passes on the bytes of a file name that is not UTF-8.  A message whose
header can be read, but whose other parts cannot, raises :exc:`.Unreadable`, which has what could be
read: the request that waits for the message must not wait for ever.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from jupyter_client.jsonutil import parse_date

from .errors import WireError
from .frames import BINARY, TEXT
from .messages import (
    Message,
    build_message,
    is_of_this_protocol,
    relayed_message,
)

__all__ = [
    "DEFAULT",
    "FORMATS",
    "V1",
    "Format",
    "Pack",
    "Payload",
    "RELAY_FORMATS",
    "Unpack",
    "require_json",
]

Payload = bytes | memoryview
Pack = Callable[[Any], bytes]
Unpack = Callable[[str], Any]

DEFAULT = ""
V1 = "v1.kernel.websocket.jupyter.org"

_MOST_CONTAINERS = 4_000_000  # JSON arrays and objects in a part: each takes at least 64 bytes
_MANY_QUOTES = 1_000_000  # strings that take a second to look at: many values, too
_MOST_PARTS = 4096  # channel, header, parent header, metadata, content, and buffers


class Format(NamedTuple):
    """Writing and reading the messages of one subprotocol.

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


# --- parts ----------------------------------------------------------------------------------------


def _date(header: Any) -> Any:
    """Return a header, or what came in its place, with its date as one."""
    if type(header) is dict and type(date := header.get("date")) is str:
        header["date"] = _parse_date(date)
    return header


# The parent header that was read last, as text and as a dict, because many messages in a row have
# the same one.  (Set at once, for threads.)
_last_parent: tuple[Any, Unpack | None, dict[str, Any]] = (None, None, {})
_PLAIN = (str, int, datetime)
_NOTHING: Any = b"{}"  # the metadata of nearly all messages


def _parent_header(part: Payload, unpack: Unpack) -> Any:
    """Return a parent header from its JSON; parse it only if the message before had another."""
    global _last_parent
    text, by, header = _last_parent
    if part == text and by is unpack:
        return header.copy()
    header = _date(_unpack(part, unpack))
    if type(header) is dict and all(type(value) in _PLAIN for value in header.values()):
        _last_parent = bytes(part), unpack, header.copy()
    return header


def _parse_date(text: str) -> datetime | str:
    """Return what jupyter_client's ``parse_date`` makes of `text`, at a tenth of its cost."""
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
    """Return the message's buffers as flat bytes; what has the buffer interface will do."""
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
    text = str(part, "utf-8", "replace")
    if len(text) > _MOST_CONTAINERS and _has_too_many_containers(text):
        raise WireError(f"a part has more than {_MOST_CONTAINERS} JSON arrays and objects")
    try:
        return unpack(text)
    except Exception as error:  # a ValueError or RecursionError of json's; or an own unpacker's
        raise WireError(f"a part of {len(part)} bytes is not JSON: {error}") from error


def _has_too_many_containers(text: str) -> bool:
    """Return True if parsing the text would take a multiple of its size of memory: ``[[],[],``."""
    brackets = text.count("[") + text.count("{")
    if brackets > _MOST_CONTAINERS and text.count('"') < _MANY_QUOTES:
        for string in _STRING.finditer(text):  # those in strings do not count
            brackets -= string[0].count("[") + string[0].count("{")
    return brackets > _MOST_CONTAINERS


# One that does not end is matched, too: to look for it again from every later quote would take
# time by the square of the length.
_STRING = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)


def _pack(part: Any, pack: Pack) -> bytes:
    try:
        return pack(part)
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"the message cannot be written as JSON: {error}") from error


# --- the default format ---------------------------------------------------------------------------


def _encode_default(channel: str, message: Mapping[str, Any], pack: Pack) -> tuple[int, bytes]:
    if "parts" in message:
        message = _unpacked(message["parts"])
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
    # The kernel would replace what is not UTF-8; but a server closes a websocket on which it comes.
    text = text.decode("utf-8", "replace").encode()
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
        channel, header = whole["channel"], whole["header"]
    except KeyError as missing:
        raise WireError(f"a message has no {missing}") from None
    return channel, build_message(
        channel,
        _date(header),
        # A gateway's own messages, such as "restarting", leave some of these out.
        _date(whole.get("parent_header") or {}),
        whole.get("metadata") or {},
        (whole["content"] or {}) if "content" in whole else None,
        buffers,
    )


# --- v1.kernel.websocket.jupyter.org --------------------------------------------------------------


def _encode_v1(channel: str, message: Mapping[str, Any], pack: Pack) -> tuple[int, bytes]:
    parts: list[Payload] = [channel.encode()]
    if "parts" in message:
        parts += message["parts"]
    else:
        parts += [_pack(part, pack) for part in _parts(message)]
        parts += _buffers(message)
    offsets = _offsets(parts, 8 * (2 + len(parts)))
    return BINARY, b"".join((struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts))


def _decode_v1(opcode: int, payload: Payload, unpack: Unpack) -> tuple[str, Message]:
    parts = _parts_of_v1(opcode, payload)
    channel = str(parts[0], "utf-8", "replace")
    header = _date(_unpack(parts[1], unpack))
    parent_header: Any = {}
    metadata: Any = {}
    content: Any = {}
    unreadable = None
    try:
        parent_header = _parent_header(parts[2], unpack) or {}
        if parts[3] != _NOTHING:
            metadata = _unpack(parts[3], unpack) or {}
        content = _unpack(parts[4], unpack) or {}
    except WireError as error:
        unreadable = error
    return channel, build_message(
        channel, header, parent_header, metadata, content, parts[5:], unreadable
    )


def _parts_of_v1(opcode: int, payload: Payload) -> list[Any]:
    """Channel, header, parent header, metadata, content and buffers, none of them copied twice."""
    if opcode != BINARY:
        raise WireError(f"a text frame came on a websocket that speaks {V1}")
    if type(payload) is bytes and len(payload) >= _HEAD_WITHOUT_BUFFERS.size:
        count, a, b, c, d, e, end = _HEAD_WITHOUT_BUFFERS.unpack_from(payload)
        if count == 6 and a <= b <= c <= d <= e <= end <= len(payload):  # as nearly always
            return [payload[a:b], payload[b:c], payload[c:d], payload[d:e], payload[e:end]]
    view = memoryview(payload)
    offsets = _read_offsets(view, "<", "Q", 8)
    _check_offsets(offsets, len(view), least=6)
    return [view[start:end] for start, end in pairwise(offsets)]


_HEAD_WITHOUT_BUFFERS = struct.Struct("<7Q")


# --- messages that are passed on ------------------------------------------------------------------


def _unpacked(parts: Sequence[Payload]) -> Mapping[str, Any]:
    """Return the message of these parts, which came as JSON."""
    header, parent_header, metadata, content = (_unpack(part, json.loads) for part in parts[:4])
    return {
        "header": header,
        "parent_header": parent_header,
        "metadata": metadata,
        "content": content,
        "buffers": parts[4:],
    }


class _Unread(Mapping[str, Any]):
    """The JSON object of a part, which is read when it is needed; empty if it is not one."""

    __slots__ = ("_part", "_unpack", "_values")

    def __init__(self, part: Payload, unpack: Unpack) -> None:
        self._part, self._unpack = part, unpack
        self._values: Mapping[str, Any] | None = None

    def _read(self) -> Mapping[str, Any]:
        if self._values is None:
            try:
                values = _unpack(self._part, self._unpack)
            except WireError:  # its receiver is told, by its own parser
                values = {}
            self._values = values if type(values) is dict else {}
        return self._values

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def _relay_v1(opcode: int, payload: Payload, unpack: Unpack) -> tuple[str, Message]:
    channel, *parts = _parts_of_v1(opcode, payload)
    header = _date(_unpack(parts[0], unpack))
    if not is_of_this_protocol(header):
        return _decode_v1(opcode, payload, unpack)  # which adapts it
    parent_header = _parent_header(parts[1], unpack) or {}
    name = str(channel, "utf-8", "replace")
    content = _Unread(parts[3], unpack)
    return name, relayed_message(name, header, parent_header, content, parts)


# --- offsets --------------------------------------------------------------------------------------


def _offsets(parts: Sequence[Payload], first: int) -> list[int]:
    """Return where each part begins if the first begins at `first`, and where the last one ends."""
    offsets = [first]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return offsets


def _read_offsets(view: memoryview, order: str, number: str, size: int) -> tuple[int, ...]:
    """Return the counted offsets that a binary frame begins with."""
    try:
        (count,) = struct.unpack_from(order + number, view)
        if count > len(view) // size:  # checked first: a lie must not cost memory
            raise WireError(f"a frame of {len(view)} bytes claims to have {count} offsets")
        if count > _MOST_PARTS:
            raise WireError(f"a frame has {count} offsets, and {_MOST_PARTS} is the most possible")
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

RELAY_FORMATS: Mapping[str, Format] = {**FORMATS, V1: Format(_encode_v1, _relay_v1)}
"""The formats for a program that passes messages on.

Of a message that comes in v1, only the headers are parsed, and it is a :class:`.RelayedMessage`.
``encode`` accepts one in every format.
"""
