"""Transport: what is done with frames, and what ends a websocket; on a pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gateway_blocking.errors import GatewayConnectionError, GatewayTimeout, MessageTooLarge
from gateway_blocking.frames import BINARY, CLOSE, PING, PONG, TEXT
from gateway_blocking.transport import MAX_OUTGOING, Transport


class Peer:
    """The gateway's end of the websocket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(30)
        self.sock = sock
        self._data = b""

    def sends(self, opcode: int, payload: bytes = b"") -> None:
        """Send a frame without a mask, as a server does."""
        assert len(payload) < 126
        self.sock.sendall(bytes((0x80 | opcode, len(payload))) + payload)

    def frame(self) -> tuple[int, bytes]:
        """Return the next frame of the client, unmasked."""
        head = self._read(2)
        assert head[1] & 0x80, "a client's frame is masked"
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(self._read(2), "big")
        mask, payload = self._read(4), self._read(length)
        return head[0] & 0x0F, bytes(c ^ mask[i % 4] for i, c in enumerate(payload))

    def _read(self, size: int) -> bytes:
        while len(self._data) < size:
            received = self.sock.recv(65536)
            assert received, "the client closed the connection"
            self._data += received
        read, self._data = self._data[:size], self._data[size:]
        return read


@pytest.fixture
def pair() -> Iterator[tuple[Transport, Peer]]:
    ours, theirs = socket.socketpair()
    transport = Transport(ours, "v1", 1000)
    with theirs:
        yield transport, Peer(theirs)
        transport.close()


@pytest.fixture
def transport(pair: tuple[Transport, Peer]) -> Transport:
    return pair[0]


@pytest.fixture
def peer(pair: tuple[Transport, Peer]) -> Peer:
    return pair[1]


# --- receiving ------------------------------------------------------------------------------------


def test_receive_returns_messages_and_answers_pings(transport: Transport, peer: Peer) -> None:
    """Control frames between two messages are handled, and not returned."""
    peer.sends(PING, b"are you there")
    peer.sends(PONG)
    peer.sends(TEXT, b"one")
    peer.sends(BINARY, b"two")
    assert transport.receive() == (TEXT, b"one")
    assert transport.receive() == (BINARY, b"two")
    assert peer.frame() == (PONG, b"are you there")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "closed the websocket without a code"),
        (b"\x03\xe9", "with code 1001$"),
        (b"\x03\xf0too large", "with code 1008: too large"),
        (b"\x03\xf0\xff", "with code 1008: \ufffd"),
    ],
)
def test_receive_of_a_close_frame_says_why(
    transport: Transport, peer: Peer, payload: bytes, text: str
) -> None:
    """The reason comes from the gateway, or from a proxy in between."""
    peer.sends(CLOSE, payload)
    with pytest.raises(GatewayConnectionError, match=text):
        transport.receive()


def test_receive_after_the_end_of_the_stream_is_an_error(transport: Transport, peer: Peer) -> None:
    """A gateway that is killed sends no close frame."""
    peer.sock.close()
    with pytest.raises(GatewayConnectionError, match="without a word"):
        transport.receive()


def test_receive_of_a_broken_frame_gives_the_websocket_up(transport: Transport, peer: Peer) -> None:
    """Nothing that follows can be trusted."""
    peer.sock.sendall(b"\xf1\x00")
    with pytest.raises(GatewayConnectionError, match="given up: the server set a reserved bit"):
        transport.receive()
    assert transport.is_aborted


def test_receive_notes_when_the_last_byte_came(transport: Transport, peer: Peer) -> None:
    """Any byte is a sign of life, also one of a frame that is not whole yet."""
    assert transport.last_received == transport.opened
    assert not transport.has_input()
    peer.sends(TEXT, b"x")
    assert transport.has_input()
    transport.receive()
    assert transport.last_received >= transport.opened
    assert not transport.has_input()


# --- sending --------------------------------------------------------------------------------------


def test_send_writes_one_masked_frame(transport: Transport, peer: Peer) -> None:
    """Frames of several sizes follow one another."""
    for size in (0, 125, 126, 1000):
        transport.send(BINARY, b"x" * size, 30)
        assert peer.frame() == (BINARY, b"x" * size)


def test_send_of_too_large_a_message_sends_nothing(transport: Transport, peer: Peer) -> None:
    """A gateway would reset the connection, with all other requests on it."""
    with pytest.raises(MessageTooLarge, match="10,485,761 bytes"):
        transport.send(BINARY, bytes(MAX_OUTGOING + 1), 30)
    transport.send(TEXT, b"next", 30)
    assert peer.frame() == (TEXT, b"next")


def test_send_to_a_gateway_that_does_not_read_ends_with_the_timeout(transport: Transport) -> None:
    """Half a frame was sent, so that nothing can follow on this websocket."""
    with pytest.raises(GatewayTimeout, match=r"did not take the message within 0\.01 s"):
        transport.send(BINARY, bytes(MAX_OUTGOING), 0.01)
    assert transport.is_aborted
    with pytest.raises(GatewayConnectionError, match="sent in part only"):
        transport.send(TEXT, b"next", 30)


def test_send_waits_for_another_message_no_longer_than_its_timeout(transport: Transport) -> None:
    """Nothing of it was sent, so that the websocket stays open."""
    with transport._send_lock, pytest.raises(GatewayTimeout, match="another message waits"):
        transport.send(TEXT, b"x", 0.01)
    assert not transport.is_aborted


def test_ping_while_another_thread_sends_follows_its_message(
    transport: Transport, peer: Peer
) -> None:
    """The receiver answers pings, and must not wait for a sender."""
    with transport._send_lock:
        transport.ping()
    transport.send(TEXT, b"x", 30)
    assert [peer.frame()[0] for _ in range(2)] == [TEXT, PING]


def test_control_frames_that_cannot_be_written_do_not_pile_up(
    transport: Transport, peer: Peer
) -> None:
    """Only the last of many pings have to be answered."""
    with transport._send_lock:
        for _ in range(100):
            transport.ping()
    transport.send(TEXT, b"x", 30)
    transport.send(TEXT, b"end", 30)
    frames = 0
    while peer.frame() != (TEXT, b"end"):
        frames += 1
    assert 1 < frames < 20


# --- ending ---------------------------------------------------------------------------------------


def test_abort_ends_receiver_and_senders_with_its_first_reason(transport: Transport) -> None:
    """The close that follows an abort does not hide the reason."""
    transport.abort("the gateway is silent")
    transport.abort("another reason")
    for act in (transport.receive, lambda: transport.send(TEXT, b"x", 30)):
        with pytest.raises(GatewayConnectionError, match="given up: the gateway is silent"):
            act()
    assert "the gateway is silent" in repr(transport)


def test_send_close_says_goodbye_and_ignores_that_the_gateway_is_gone(
    transport: Transport, peer: Peer
) -> None:
    """The code is that of a normal closure."""
    transport.send_close()
    assert peer.frame() == (CLOSE, b"\x03\xe8")
    transport.abort()
    transport.send_close()
