"""Memory that a hostile gateway can make a client use, over its websocket.

The server is in this process, and the client in one of its own, whose peak is measured.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest

from gateway_blocking.frames import BINARY, PING, TEXT
from gateway_blocking.wire import DEFAULT, V1
from support.rawserver import Peer, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

MAX = 64 * 1024 * 1024  # bytes in a message, as the client is configured

CLIENT = """
import sys
from pathlib import Path
from gateway_blocking import BlockingGatewayKernelClient as Client
from gateway_blocking import GatewayError

def memory(name):
    "In kB, as the system counts it."
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

client = Client(
    kernel_id="a-b-c-d-e", url=sys.argv[1], ws_max_message_size=int(sys.argv[2]),
    ws_ping_interval=0, gateway_retry_max=0,
)
before = memory("VmHWM")
client.start_channels()
try:
    while True:  # until the server, or the client, ends the connection
        client.get_iopub_msg(timeout=100)
except GatewayError:
    print((memory("VmHWM") - before) // 1024)
client.stop_channels()
"""


def peak(script: Callable[[Peer], object], subprotocol: str) -> int:
    """The MiB that a client uses at most while a server does this to it."""

    def hostile(peer: Peer) -> None:
        peer.accept(subprotocol)
        script(peer)

    with serving(hostile) as where:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", CLIENT, f"http://{where}", str(MAX)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def claim(peer: Peer) -> None:
    """A frame whose header claims all that is accepted, and a megabyte of it."""
    peer.sock.sendall(struct.pack(">BBQ", 0x80 | BINARY, 127, MAX) + bytes(1_000_000))


def fragments(peer: Peer, size: int) -> None:
    """A message in millions of fragments of so many bytes."""
    peer.sock.sendall(b"\x02\x00")
    for _ in range(500):
        peer.sock.sendall((bytes((0, size)) + bytes(size)) * 10_000)


def pings(peer: Peer) -> None:
    """Half a million pings, whose answers are not read."""
    frame = bytes((0x80 | PING, 125)) + bytes(125)
    for _ in range(100):
        peer.sock.sendall(frame * 5000)


def parts_of_v1(peer: Peer) -> None:
    """A message of millions of empty parts."""
    count = MAX // 8 - 1
    peer.send(BINARY, struct.pack("<Q", count) + struct.pack("<Q", 8 * (1 + count)) * count)


def parts_of_default(peer: Peer) -> None:
    """A message of millions of empty buffers."""
    text = b"{}"
    count = (MAX - len(text)) // 4 - 1
    first = struct.pack(">I", 4 * (1 + count))
    others = struct.pack(">I", 4 * (1 + count) + len(text)) * (count - 1)
    peer.send(BINARY, struct.pack(">I", count) + first + others + text)


def arrays(peer: Peer) -> None:
    """A message of millions of empty arrays."""
    head, tail = b'{"channel": "iopub", "header": [', b"1]}"
    peer.send(TEXT, head + b"[]," * ((MAX - len(head) - len(tail)) // 3) + tail)


def ids(peer: Peer) -> None:
    """Messages with long IDs, as many as are remembered."""
    rest = {"parent_header": {}, "metadata": {}, "content": {"name": "stdout", "text": ""}}
    for number in range(4096):
        header = {"msg_id": f"{number:0200000}", "msg_type": "stream", "version": "5.3"}
        peer.send(TEXT, json.dumps({"channel": "iopub", "header": header, **rest}).encode())


CASES: dict[str, tuple[Callable[[Peer], object], str, int]] = {
    "a claim": (claim, DEFAULT, 30),
    "fragments of two bytes": (lambda peer: fragments(peer, 2), DEFAULT, 60),
    "empty fragments": (lambda peer: fragments(peer, 0), DEFAULT, 60),
    "pings": (pings, DEFAULT, 30),
    "parts, v1": (parts_of_v1, V1, 400),  # the message alone has 64 MiB
    "parts, default": (parts_of_default, DEFAULT, 400),
    "arrays": (arrays, DEFAULT, 400),
    "ids": (ids, DEFAULT, 100),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_gateway_cannot_use_up_the_memory(case: str) -> None:
    """It takes no more than a few times of what it is allowed to send in one message."""
    script, subprotocol, limit = CASES[case]
    assert peak(script, subprotocol) < limit
