"""Websocket frames: any stream, cut anywhere, gives the messages that were put in."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket._abnf import ABNF, frame_buffer

from gateway_blocking.errors import WireError
from gateway_blocking.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, build_frame

MAX = 4_000_000


def server_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame as a server sends it: not masked."""
    size = len(payload)
    first = bytes((0x80 * fin | opcode,))
    if size < 126:
        return first + bytes((size,)) + payload
    if size < 1 << 16:
        return first + struct.pack(">BH", 126, size) + payload
    return first + struct.pack(">BQ", 127, size) + payload


def read(stream: bytes, chunk: int | random.Random = 1 << 20) -> list[tuple[int, bytes]]:
    """All frames of the stream, received in pieces."""
    reader = FrameReader(MAX)
    frames = []
    position = 0
    while position < len(stream):
        size = chunk if isinstance(chunk, int) else chunk.randint(1, 300_000)
        space = reader.space()
        assert len(space) > 0
        piece = stream[position : position + min(size, len(space))]
        space[: len(piece)] = piece
        reader.received(len(piece))
        position += len(piece)
        while (frame := reader.next_frame()) is not None:
            frames.append((frame[0], bytes(frame[1])))
    return frames


payloads = st.one_of(
    st.binary(max_size=300),
    st.integers(60_000, 70_000).map(bytes),
    st.integers(100_000, 600_000).map(lambda n: b"\x07" * n),
)
messages = st.lists(st.tuples(st.sampled_from((TEXT, BINARY)), payloads), max_size=6)


@given(messages, st.integers(0, 2**32).map(random.Random))
def test_any_messages_in_any_pieces(sent: list[tuple[int, bytes]], rng: random.Random) -> None:
    """The messages come out in order, however the stream was cut."""
    stream = b"".join(server_frame(*message) for message in sent)
    assert read(stream, rng) == sent


@given(st.binary(max_size=40), st.integers(1, 5))
def test_byte_by_byte(payload: bytes, chunk: int) -> None:
    """A header that comes in pieces is put together."""
    stream = server_frame(TEXT, payload) + server_frame(BINARY, bytes(200)) * 2
    assert read(stream, chunk) == [(TEXT, payload), (BINARY, bytes(200)), (BINARY, bytes(200))]


@given(st.lists(st.binary(max_size=50), min_size=2, max_size=6), st.booleans())
def test_fragments_with_control_frames_between(parts: list[bytes], controls: bool) -> None:
    """A message in fragments is one message; pings between them come out at once."""
    stream, expected = b"", []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        stream += server_frame(0 if number else BINARY, part, fin=last)
        if controls and not last:
            stream += server_frame(PING, b"hi")
            expected.append((PING, b"hi"))
    assert read(stream) == [*expected, (BINARY, b"".join(parts))]


def fragments(count: int, size: int) -> bytes:
    """A message in so many fragments of so many bytes."""
    first, between = (
        server_frame(BINARY, bytes(size), fin=False),
        server_frame(0, bytes(size), fin=False),
    )
    return first + between * (count - 2) + server_frame(0, bytes(size))


def test_a_message_in_the_fragments_of_a_proxy() -> None:
    """They are many if the message is large and the proxy's buffers are small."""
    assert read(fragments(3000, 1000)) == [(BINARY, bytes(3_000_000))]
    assert read(fragments(20_000, 128)) == [(BINARY, bytes(2_560_000))]
    assert read(fragments(4000, 0)) == [(BINARY, b"")]


@pytest.mark.parametrize("size", [0, 2, 60])
def test_a_message_in_fragments_that_are_too_small_is_refused(size: int) -> None:
    """Also one that never ends."""
    with pytest.raises(WireError, match=r"in \d+ fragments, more than"):
        read(fragments(100_000, size)[:-10])


def test_memory_grows_with_what_arrives() -> None:
    """A frame that claims to be large takes a few megabytes until more has come."""
    reader = FrameReader(2**31)
    head = b"\x82\x7f" + struct.pack(">Q", 2**31 - 1)
    reader.space()[: len(head)] = head
    reader.received(len(head))
    come, largest = 0, 0
    while come < 20_000_000:
        assert reader.next_frame() is None
        largest = max(largest, come + len(reader.space()))
        assert largest <= max(5_000_000, 2 * come)
        come += len(reader.space())
        reader.received(len(reader.space()))


def test_a_large_payload_is_not_copied() -> None:
    """It is a view of memory of its own, which later frames do not touch."""
    reader = FrameReader(MAX)
    stream = server_frame(BINARY, b"a" * 1_000_000) + server_frame(BINARY, b"b" * 1_000_000)
    kept = []
    while stream:
        space = reader.space()
        piece, stream = stream[: len(space)], stream[len(space) :]
        space[: len(piece)] = piece
        reader.received(len(piece))
        while (frame := reader.next_frame()) is not None:
            kept.append(frame[1])
    assert [type(payload) for payload in kept] == [memoryview, memoryview]
    assert [bytes(payload[:1]) for payload in kept] == [b"a", b"b"]
    assert all(payload.readonly for payload in kept)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"\x81\x85abcdHello", "masked"),
        (b"\xc1\x00", "reserved bit"),
        (b"\x83\x00", "unknown opcode"),
        (server_frame(PING, bytes(126)), "control frame of 126 bytes"),
        (b"\x09\x00", "control frame"),
        (b"\x80\x01a", "a continuation of nothing"),
        (b"\x01\x01a\x81\x01b", "a new message inside another"),
        (b"\x82\x7f" + struct.pack(">Q", 2**62), "more than the 4000000"),
        (b"\x82\x7f" + struct.pack(">Q", MAX + 1), "more than the 4000000"),
        (b"\x02\x01a" + b"\x80\x7f" + struct.pack(">Q", MAX), "more than the 4000000"),
    ],
)
def test_a_broken_stream_is_refused(stream: bytes, complaint: str) -> None:
    """Each breach of the protocol is a WireError; a lying length costs no memory."""
    with pytest.raises(WireError, match=complaint):
        read(stream)


@given(st.sampled_from((TEXT, BINARY, PING, PONG, CLOSE)), st.binary(max_size=125))
def test_ours_are_read_by_another_implementation(opcode: int, payload: bytes) -> None:
    """websocket-client unmasks our frames to what we put in."""
    if opcode == CLOSE:
        payload = struct.pack(">H", 1000)
    stream = bytearray(build_frame(opcode, payload))

    def receive(size: int) -> bytes:
        piece = bytes(stream[:size])
        del stream[:size]
        return piece

    frame: ABNF = frame_buffer(receive, skip_utf8_validation=True).recv_frame()
    assert (frame.fin, frame.opcode, frame.data) == (1, opcode, payload)
    assert not stream


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 1_000_003])
def test_ours_are_masked_and_of_every_length(size: int) -> None:
    """The three forms of length; a mask that differs each time."""
    payload = random.Random(size).randbytes(size)
    frame = build_frame(BINARY, payload)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert frame[1] & 0x80
    mask, masked = frame[head : head + 4], frame[head + 4 :]
    assert bytes(b ^ mask[i % 4] for i, b in enumerate(masked)) == payload
    assert size == 0 or build_frame(BINARY, payload) != frame
