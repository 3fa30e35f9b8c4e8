"""Websocket frames of :rfc:`6455`, without any I/O.

:class:`FrameReader` lends the transport the memory to receive into and cuts what came into
frames.  One receive serves many small frames; a large one is received straight into memory of
its own, so that its payload is never copied.  websocket-client does the handshake, but its
frames cost a system call for each header and a Python loop over each text.
"""

from __future__ import annotations

import os
import sys
from struct import Struct

from .errors import WireError

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "Frame", "FrameReader", "build_frame"]

_CONTINUATION = 0x0
TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

_OPCODES = frozenset((_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_FIN = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_CONTROL = 0x08
_MAX_CONTROL = 125

_U16 = Struct(">H")
_U64 = Struct(">Q")

_READ_AHEAD = 64 * 1024

Frame = tuple[int, "bytes | memoryview"]
"""Opcode and payload; the payload of a large frame is a view of memory of its own."""


class FrameReader:
    """Cuts received bytes into whole messages and control frames.

    Use: receive into :meth:`space`, say how much with :meth:`received`, take frames from
    :meth:`next_frame` until it has none.

    Parameters
    ----------
    max_size : int
        The largest message accepted, in bytes.  The length that a frame claims is checked
        before any memory is taken for it.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._buffer = bytearray(_READ_AHEAD)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # A frame that is larger than the buffer: its opcode byte, its memory, and what is there.
        self._large: memoryview | None = None
        self._large_first = 0
        self._large_filled = 0
        # A message that comes in fragments.
        self._fragments: list[bytes | memoryview] = []
        self._fragments_opcode = 0
        self._fragments_size = 0

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _READ_AHEAD:
            rest = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._view[: len(rest)] = rest
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """`count` bytes were written to :meth:`space`."""
        if self._large is not None:
            self._large_filled += count
        else:
            self._end += count

    def next_frame(self) -> Frame | None:
        """The next message or control frame, or None until more is received.

        Raises
        ------
        WireError
            The stream breaks the protocol; nothing after this can be trusted.
        """
        while (part := self._next_part()) is not None:
            first, payload = part
            opcode = first & _OPCODE
            if opcode & _CONTROL or (first & _FIN and opcode and not self._fragments_opcode):
                return opcode, payload
            if (message := self._add_fragment(first, payload)) is not None:
                return message
        return None

    def _next_part(self) -> Frame | None:
        """One frame as it stands on the wire: its first byte and its payload."""
        if self._large is not None:
            if self._large_filled < len(self._large):
                return None
            first, payload = self._large_first, self._large.toreadonly()
            self._large = None
            return first, payload
        buffer, start = self._buffer, self._start
        there = self._end - start
        if there < 2:
            return None
        first, length = buffer[start], buffer[start + 1]
        body = start + 2
        if length >= 126:
            if length & _MASKED:
                raise WireError("the server sent a masked frame; RFC 6455 forbids it")
            size = _U16 if length == 126 else _U64
            if there < 2 + size.size:
                return None
            (length,) = size.unpack_from(buffer, body)
            body += size.size
        if first & _RESERVED or first & _OPCODE not in _OPCODES or first & _CONTROL:
            _check(first, length)
        end = body + length
        if end <= self._end:
            self._start = end
            return first, bytes(self._view[body:end])
        if length + self._fragments_size > self._max_size:
            raise WireError(
                f"the server announced a message of {length + self._fragments_size} bytes,"
                f" more than the {self._max_size} that are accepted"
            )
        if length > _READ_AHEAD // 2:
            self._start_large(first, body, length)
        return None

    def _start_large(self, first: int, body: int, length: int) -> None:
        self._large = memoryview(bytearray(length))
        self._large_first = first
        self._large_filled = self._end - body
        self._large[: self._large_filled] = self._view[body : self._end]
        self._start = self._end = 0

    def _add_fragment(self, first: int, payload: bytes | memoryview) -> Frame | None:
        opcode = first & _OPCODE
        if bool(opcode) == bool(self._fragments_opcode):
            what = "a new message inside another" if opcode else "a continuation of nothing"
            raise WireError(f"the server sent {what}")
        self._fragments_opcode = self._fragments_opcode or opcode
        self._fragments.append(payload)
        self._fragments_size += len(payload)
        if self._fragments_size > self._max_size:
            raise WireError(
                f"the server sent a message of more than the {self._max_size} bytes accepted"
            )
        if not first & _FIN:
            return None
        message = self._fragments_opcode, b"".join(self._fragments)
        self._fragments, self._fragments_opcode, self._fragments_size = [], 0, 0
        return message


def _check(first: int, length: int) -> None:
    opcode = first & _OPCODE
    if first & _RESERVED:
        raise WireError("the server set a reserved bit, but no extension was agreed on")
    if opcode not in _OPCODES:
        raise WireError(f"the server sent a frame with the unknown opcode {opcode:#x}")
    if opcode & _CONTROL and (length > _MAX_CONTROL or not first & _FIN):
        raise WireError(f"the server sent a control frame of {length} bytes or in fragments")


def build_frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame, masked as a client's must be."""
    length = len(payload)
    if length < 126:
        head = bytes((_FIN | opcode, _MASKED | length))
    elif length < 1 << 16:
        head = bytes((_FIN | opcode, _MASKED | 126)) + _U16.pack(length)
    else:
        head = bytes((_FIN | opcode, _MASKED | 127)) + _U64.pack(length)
    mask = os.urandom(4)
    # XOR of two large integers is the fastest XOR of many bytes that Python has.
    repeated = (mask * (length // 4 + 1))[:length]
    order = sys.byteorder
    masked = int.from_bytes(payload, order) ^ int.from_bytes(repeated, order)
    return b"".join((head, mask, masked.to_bytes(length, order)))
