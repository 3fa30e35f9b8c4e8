"""That nothing makes it slow unnoticed; the figures themselves are those of tests/benchmarks.

Compared is CPU time with CPU time in one process, many times over: no clock on the wall decides.
"""

from __future__ import annotations

import gc
import json
import struct
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.connection import Connection
from gateway_blocking.execution import Execution
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


def test_run_costs_little_more_than_dispatching_the_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20,000 small messages, collected: at most 1.5 times of execute_interactive() with a hook.

    The frames arrive when the request is sent, in the same thread.  The least time of each
    counts, without garbage collection: what other tests have left in the process takes time, too.
    """
    session, count = Session(), 20_000
    kc = BlockingGatewayKernelClient(kernel_id="k", url="http://127.0.0.1:9")
    session.message_count = kc.session.message_count = 100  # so that their IDs have one length
    parent = session.msg("execute_request", {})
    contents = [{"name": "stdout", "text": f"{number}\n"} for number in range(count)]
    messages = [("iopub", "stream", content) for content in contents]
    messages.append(("shell", "execute_reply", {"status": "ok", "execution_count": 1}))
    messages.append(("iopub", "status", {"execution_state": "idle"}))
    encoded = [
        FORMATS[V1].encode(channel, session.msg(kind, content, parent=parent), session.pack)
        for channel, kind, content in messages
    ]
    placeholder, decode = parent["header"]["msg_id"].encode(), FORMATS[V1].decode

    def answer(self: Any, channel: str, message: Any, timeout: Any) -> None:
        msg_id = message["header"]["msg_id"].encode()
        assert len(msg_id) == len(placeholder)  # else the offsets are wrong
        for opcode, payload in encoded:
            frame = payload.replace(placeholder, msg_id)
            self._reader.receive(*decode(opcode, frame, json.loads), len(frame))

    monkeypatch.setattr(Connection, "open", lambda self: None)
    monkeypatch.setattr(Connection, "send", answer)
    kc.start_channels(hb=False)
    received = 0

    def count_message(message: Any) -> None:
        nonlocal received
        received += message["msg_type"] == "stream"

    def seconds(work: Callable[[], object]) -> float:
        gc.collect()
        gc.disable()
        try:
            begun = time.process_time()
            work()
            return time.process_time() - begun
        finally:
            gc.enable()

    hook = partial(kc.execute_interactive, output_hook=count_message, allow_stdin=False)
    results: list[Execution] = []
    dispatching, collecting = [], []
    for _ in range(5):
        dispatching.append(seconds(lambda: hook("flood()", timeout=60)))
        collecting.append(seconds(lambda: results.append(kc.run("flood()", timeout=60))))
    assert min(collecting) < 1.5 * min(dispatching)
    assert received == 5 * count
    assert [done.stdout.count("\n") for done in results] == [count] * 5
