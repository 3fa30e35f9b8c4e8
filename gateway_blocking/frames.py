"""Websocket frames of :rfc:`6455`, without any I/O.

:class:`FrameReader` lends the transport the memory to receive into and cuts what came into
frames.  One receive serves many small frames; a large one is received straight into memory of
its own.  That grows with what arrives, whatever length the frame claims to have: a server makes
this process use no more than a few times the memory that it sends bytes.  websocket-client does
the handshake, but its frames cost a system call for each header and a Python loop over each text.
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
_AT_FIRST = 4 * 1024 * 1024  # bytes of memory for a large frame, before any of it has come

# A proxy may cut a message into frames of the size of its buffers, and a server that means no harm
# into no smaller ones than that.
_FREE_FRAGMENTS = 4096
_LEAST_FRAGMENT = 64  # bytes, on average, in a message of more fragments than that

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
        before any of its payload is received.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._buffer = bytearray(_READ_AHEAD)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # A frame that is larger than the buffer: its opcode byte, its length, the memory for what
        # has come of it and for as much again at most, and how much has come.
        self._large: bytearray | None = None
        self._large_first = 0
        self._large_length = 0
        self._large_filled = 0
        self._lent = self._view
        # A message that comes in fragments: what has come of it, and in how many.
        self._message = bytearray()
        self._message_opcode = 0
        self._fragments = 0

    def space(self) -> memoryview:
        """Return memory for the next bytes, never empty, and invalid after :meth:`received`."""
        if self._large is not None:
            return self._space_of_large(self._large)
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == _READ_AHEAD:
            rest = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._view[: len(rest)] = rest
        return self._view[self._end :]

    def _space_of_large(self, memory: bytearray) -> memoryview:
        if self._large_filled == len(memory):  # twice as much, but no more than will come
            more = min(len(memory), self._large_length - len(memory))
            memory += bytes(more)
        self._lent = memoryview(memory)[self._large_filled :]
        return self._lent

    def received(self, count: int) -> None:
        """Take note that `count` bytes were written to :meth:`space`."""
        if self._large is not None:
            self._large_filled += count
            self._lent.release()  # else the memory could not grow
        else:
            self._end += count

    def next_frame(self) -> Frame | None:
        """Return the next message or control frame, or None until more is received.

        Raises
        ------
        WireError
            The stream breaks the protocol; nothing after this can be trusted.
        """
        while (part := self._next_part()) is not None:
            first, payload = part
            opcode = first & _OPCODE
            if opcode & _CONTROL or (first & _FIN and opcode and not self._message_opcode):
                return opcode, payload
            if (message := self._add_fragment(first, payload)) is not None:
                return message
        return None

    def _next_part(self) -> Frame | None:
        """Return one frame as it came: its first byte and its payload."""
        if self._large is not None:
            if self._large_filled < self._large_length:
                return None
            first, payload = self._large_first, memoryview(self._large).toreadonly()
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
        if length + len(self._message) > self._max_size:
            raise WireError(
                f"the server announced a message of {length + len(self._message)} bytes,"
                f" more than the {self._max_size} that are accepted"
            )
        if length > _READ_AHEAD // 2:
            self._start_large(first, body, length)
        return None

    def _start_large(self, first: int, body: int, length: int) -> None:
        self._large = bytearray(min(length, _AT_FIRST))
        self._large_first, self._large_length = first, length
        self._large_filled = self._end - body
        self._large[: self._large_filled] = self._view[body : self._end]
        self._start = self._end = 0

    def _add_fragment(self, first: int, payload: bytes | memoryview) -> Frame | None:
        opcode = first & _OPCODE
        if bool(opcode) == bool(self._message_opcode):
            what = "a new message inside another" if opcode else "a continuation of nothing"
            raise WireError(f"the server sent {what}")
        self._message_opcode = self._message_opcode or opcode
        self._message += payload
        self._fragments += 1
        if len(self._message) > self._max_size:
            raise WireError(
                f"the server sent a message of more than the {self._max_size} bytes accepted"
            )
        if self._fragments > _FREE_FRAGMENTS + len(self._message) // _LEAST_FRAGMENT:
            raise WireError(
                f"the server sent a message of {len(self._message)} bytes in {self._fragments}"
                " fragments, more than are accepted"
            )
        if not first & _FIN:
            return None
        message = self._message_opcode, memoryview(self._message).toreadonly()
        self._message, self._message_opcode, self._fragments = bytearray(), 0, 0
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
    """Return a whole frame, masked as a client must."""
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
