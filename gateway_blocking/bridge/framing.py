"""Messages to the frames of a ZMQ socket and back, without parsing more than headers (no I/O).

A message over ZMQ is ``[identities*, delimiter, signature, header, parent header, metadata,
content, buffers*]``, as jupyter_client's documentation describes ("The Wire Protocol").
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Framing", "Received"]

_DELIMITER = b"<IDS|MSG>"
_PARTS = 4  # that are signed: the buffers are not
_TEXTS = ("msg_id", "msg_type")
_REMEMBERED = 65_536  # signatures, as jupyter_client has it
_TELLING = 16  # digits of a signature that are remembered: 64 bits tell all of them apart


class Received(NamedTuple):
    """A message from a front end."""

    identities: tuple[bytes, ...]
    header: dict[str, Any]
    parts: list[bytes]
    """Header, parent header, metadata and content as JSON, and the buffers."""


class Framing:
    """Signs messages, and checks the signatures of those that come.  Requires one thread at a time.

    Parameters
    ----------
    sign : callable
        Returns the signature of the four JSON parts, or ``b""`` if there is no key.
    pack : callable
        Returns the JSON of a part.
    """

    def __init__(self, sign: Callable[[list[bytes]], bytes], pack: Callable[[Any], bytes]) -> None:
        self._sign = sign
        self._pack = pack
        self._seen: dict[bytes, None] = {}

    def receive(self, frames: Sequence[bytes]) -> Received:
        """Return the message of these frames.

        Raises
        ------
        ValueError
            It is not a message, was signed with another key, or came before.
        """
        if _DELIMITER not in frames:
            raise ValueError("it has no delimiter")
        place = list(frames).index(_DELIMITER)
        signature, *parts = frames[place + 1 :] or [b""]
        if len(parts) < _PARTS:
            raise ValueError(f"it has {len(parts)} parts, and {_PARTS} is the least possible")
        self._check(signature, self._sign(parts[:_PARTS]))
        try:
            header = json.loads(str(parts[0], "utf-8", "replace"))  # as jupyter_client
        except RecursionError:
            raise ValueError("its header is nested too deeply") from None
        if type(header) is not dict or not all(type(header.get(name)) is str for name in _TEXTS):
            raise ValueError("its header has no msg_id and msg_type that are text")
        if b"\\u" in parts[0]:  # half of a surrogate pair, perhaps, which no reply could repeat
            self._pack(header)
        return Received(tuple(frames[:place]), header, parts)

    def _check(self, signature: bytes, expected: bytes) -> None:
        """Raise ValueError unless the signature is the expected one, for the first time."""
        if not expected:
            return  # the connection file has no key
        if not hmac.compare_digest(signature, expected):
            raise ValueError("it is signed with another key")
        beginning = signature[:_TELLING]
        if beginning in self._seen:
            raise ValueError("it came before")
        self._seen[beginning] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def frames(self, prefix: Iterable[bytes], message: Mapping[str, Any]) -> list[Any]:
        """Return the frames of a message, which is passed on as it came if it has its parts.

        Parameters
        ----------
        prefix : iterable of bytes
            Identities of the front end, or the topic.
        message : mapping
            A :class:`.RelayedMessage`, or a message as ``session.msg`` makes it.
        """
        parts = message.get("parts") or [
            *(self._pack(message[name]) for name in _NAMES),
            *message.get("buffers", ()),
        ]
        return [*prefix, _DELIMITER, self._sign(parts[:_PARTS]), *parts]


_NAMES = ("header", "parent_header", "metadata", "content")
