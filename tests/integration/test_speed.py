"""That nothing makes it slow unnoticed; the figures themselves are those of tests/benchmarks.

Compared is CPU time with CPU time in one process, many times over: no clock on the wall decides.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.connection import Connection
from gateway_blocking.frames import FrameReader
from gateway_blocking.wire import FORMATS, V1

_COUNT = 2000


def payloads() -> list[bytes]:
    """A flood of output, as a gateway passes it on."""
    session = Session()
    parent = session.msg("execute_request", {"code": "flood()"})
    found = []
    for number in range(_COUNT):
        content = {"name": "stdout", "text": f"line {number}\n"}
        message = session.msg("stream", content, parent=parent)
        found.append(FORMATS[V1].encode("iopub", message, session.pack)[1])
    return found


def least(payload: bytes) -> list[Any]:
    """The least Python that can read it: the parts, each parsed."""
    (count,) = struct.unpack_from("<Q", payload)
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    return [json.loads(payload[start:end]) for start, end in list(pairwise(offsets))[1:]]


def cpu(work: Callable[[], object]) -> float:
    """The least CPU time of several runs, in seconds."""
    taken = []
    for _ in range(7):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def test_a_flood_costs_little_more_than_its_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the bytes to who takes the messages: at most four times the least Python."""
    parts = payloads()
    stream = b"".join(b"\x82\x7e" + struct.pack(">H", len(part)) + part for part in parts)
    monkeypatch.setattr(Connection, "open", lambda self: None)
    kc = BlockingGatewayKernelClient(kernel_id="k", url="http://127.0.0.1:9")
    kc.start_channels(hb=False)
    connection: Any = kc.connection_slot.connection
    decode, unpack = FORMATS[V1].decode, kc.session.unpack

    def ours() -> None:
        reader, left = FrameReader(1 << 20), memoryview(stream)
        while left:
            space = reader.space()[: len(left)]
            space[:] = left[: len(space)]
            left = left[len(space) :]
            reader.received(len(space))
            while (frame := reader.next_frame()) is not None:
                connection._reader.receive(*decode(*frame, unpack), len(frame[1]))
        for _ in parts:
            kc.get_iopub_msg(timeout=0)

    assert cpu(ours) < 4 * cpu(lambda: [least(part) for part in parts])


def test_a_large_output_costs_little_more_than_its_parsing() -> None:
    """A message of 8 MB, decoded: at most three times the least Python."""
    session = Session()
    content = {"name": "stdout", "text": "x" * 8_000_000}
    message = session.msg("stream", content)
    opcode, payload = FORMATS[V1].encode("iopub", message, session.pack)
    view = memoryview(payload)  # as large frames are received

    def ours() -> None:
        FORMATS[V1].decode(opcode, view, json.loads)

    assert cpu(ours) < 3 * cpu(lambda: least(payload))
