"""The floor: what the transport costs at least, and what Python costs at least.

``BareLoop`` is websocket-client and json, with the acknowledgement of TCP set before each receive.
``LeastPython`` receives into one buffer and cuts the frames by hand; it can do nothing else.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

import requests
import websocket
from peers import (
    CODE,
    LOST,
    PATIENCE,
    WARM_UP,
    Found,
    Peer,
    check_poured,
    clock,
    flushed,
    grown,
    is_idle,
    scenario,
    summary,
)

V1 = "v1.kernel.websocket.jupyter.org"
EXECUTE = {
    "silent": False,
    "store_history": True,
    "user_expressions": {},
    "allow_stdin": True,
    "stop_on_error": True,
}

Message = dict[str, Any]

_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
_READ = 256 * 1024


# --- messages -------------------------------------------------------------------------------------


def request(
    msg_type: str, content: Message, buffers: tuple[bytes, ...] = (), session: str = "least"
) -> tuple[str, bytes]:
    """A message of the shell channel in the v1 format, and its msg_id."""
    msg_id = uuid.uuid4().hex
    header = {
        "msg_id": msg_id,
        "msg_type": msg_type,
        "session": session,
        "username": "bare",
        "date": datetime.now(UTC).isoformat(),
        "version": "5.3",
    }
    parts = [b"shell", json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]
    parts += buffers
    offsets = [8 * (2 + len(parts))]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return msg_id, b"".join((struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts))


def message_v1(payload: bytes | memoryview) -> Message:
    """The message in a frame of the v1 format, each of its parts parsed."""
    (count,) = struct.unpack_from("<Q", payload)
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    header, parent_header, metadata, content = (
        json.loads(str(payload[offsets[n] : offsets[n + 1]], "utf-8")) for n in range(1, 5)
    )
    return {
        "header": header,
        "parent_header": parent_header,
        "metadata": metadata,
        "content": content,
        "buffers": [payload[offsets[n] : offsets[n + 1]] for n in range(5, count - 1)],
    }


def message_default(payload: bytes | memoryview | str) -> Message:
    """The message in a text frame of the default format."""
    text = payload if isinstance(payload, str) else str(payload, "utf-8")
    return cast("Message", json.loads(text))


# --- websocket-client -----------------------------------------------------------------------------


def connect(url: str, kernel_id: str, session: str = "least") -> Any:
    """An open websocket that speaks v1, where it is not to speak the default format."""
    return websocket.create_connection(
        f"{url.replace('http', 'ws', 1)}/api/kernels/{kernel_id}/channels?session_id={session}",
        subprotocols=[] if kernel_id.endswith("-default") else [V1],
        timeout=LOST,  # shorter than the gateway's pings, which would begin it again
    )


class Loop:
    """One websocket."""

    def __init__(self, url: str, kernel_id: str) -> None:
        self._session = uuid.uuid4().hex  # two with the same would replace each other
        self._ws = connect(url, kernel_id, self._session)
        self._decode = message_v1 if self._ws.getsubprotocol() == V1 else message_default

    def fileno(self) -> int:
        """The socket's, to wait for."""
        return cast("int", self._ws.sock.fileno())

    def close(self) -> None:
        """Say goodbye and close."""
        self._ws.close(timeout=1)

    def send(self, msg_type: str, content: Message, buffers: tuple[bytes, ...] = ()) -> str:
        """Send a request; its msg_id."""
        msg_id, payload = request(msg_type, content, buffers, self._session)
        self._ws.send_binary(payload)
        return msg_id

    def execute(self, code: str = CODE) -> str:
        """Send code; the msg_id."""
        return self.send("execute_request", {"code": code, **EXECUTE})

    def receive(self) -> Message:
        """The next message of any channel."""
        if _QUICK_ACK is not None:
            self._ws.sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        return self._decode(self._ws.recv())

    def reply(self, msg_id: str) -> Message:
        """The reply to a request."""
        while True:
            msg = self.receive()
            if msg["parent_header"].get("msg_id") == msg_id and is_reply(msg):
                return msg

    def finish(self, msg_id: str) -> str:
        """Wait until both reply and idle are here; the text that came meanwhile."""
        missing, text = 2, []
        while missing:
            msg = self.receive()
            if msg["parent_header"].get("msg_id") != msg_id:
                continue
            if is_reply(msg) or is_idle(msg, msg_id):
                missing -= 1
            elif msg["header"]["msg_type"] == "stream":
                text.append(msg["content"]["text"])
        return "".join(text)


def is_reply(msg: Message) -> bool:
    """Whether it is of the shell channel."""
    return bool(msg["header"]["msg_type"].endswith("_reply"))


class BareLoop(Peer):
    """websocket-client with the v1 format."""

    cannot: ClassVar[dict[str, str]] = {"notebook": "it is no client for nbclient"}

    def round_trips(self, url: str, kernel_id: str, count: int) -> Found:
        times = []
        with closing(Loop(url, kernel_id)) as loop:
            for number in range(WARM_UP + count):
                start = time.perf_counter()
                loop.finish(loop.execute())
                if number >= WARM_UP:
                    times.append(time.perf_counter() - start)
        return summary(times)

    def start(self, url: str) -> Found:
        found: Found = {}
        with clock(found):
            answer = requests.post(
                f"{url}/api/kernels", json={"name": "python3", "env": {}}, timeout=PATIENCE
            )
            answer.raise_for_status()
            kernel_id = answer.json()["id"]
            loop = Loop(url, kernel_id)
            loop.reply(loop.send("kernel_info_request", {}))
        loop.close()
        requests.delete(f"{url}/api/kernels/{kernel_id}", timeout=PATIENCE).raise_for_status()
        return found

    def pour(self, url: str, kind: str, count: int, size: int, default: bool = False) -> Found:
        found: Found = {}
        with closing(Loop(url, scenario(kind, count, size, default=default))) as loop:
            with clock(found, cpu="cpu"):
                loop.execute()
                for _ in range(count):
                    msg = loop.receive()
            check_poured(msg, size)
        return {**found, "cpu each": found["cpu"] / count}

    def upload(self, url: str, size: int) -> Found:
        found: Found = {}
        buffer = bytes(size)
        with closing(Loop(url, scenario("stream", 1))) as loop:
            loop.execute()
            loop.receive()
            with clock(found):
                loop.send("comm_msg", {"comm_id": "replay", "data": {}}, (buffer,))
                loop.receive()
        return found

    def flood(self, url: str, kernel_id: str, lines: int) -> Found:
        found: Found = {}
        with closing(Loop(url, kernel_id)) as loop:
            loop.finish(loop.execute())
            with clock(found):
                text = loop.finish(loop.execute(flushed(lines)))
        if text.count("\n") != lines:
            raise ValueError(f"{text.count(chr(10))} of {lines} lines came")
        return found

    def idle(self, url: str, kernel_id: str, seconds: float) -> Found:
        found: Found = {}
        with closing(Loop(url, kernel_id)) as loop:
            loop.finish(loop.execute())
            with clock(found, cpu="cpu"):
                loop.finish(loop.execute(f"import time; time.sleep({seconds})"))
        return {"share": found["cpu"] / found["seconds"]}

    def memory(self, url: str, count: int) -> Found:
        def open_one() -> Loop:
            loop = Loop(url, scenario("stream", 1))
            loop.execute()
            loop.receive()
            return loop

        return grown(open_one, count)

    def crowd(self, url: str, kernel_ids: list[str], count: int) -> Found:
        found: Found = {}
        with clock(found):
            with clock(found, "connect"):
                ids = [kernel_ids[number % len(kernel_ids)] for number in range(count)]
                loops = [Loop(url, kernel_id) for kernel_id in ids]
            with clock(found, "execute"):
                _finish_all({loop: loop.execute() for loop in loops})
            with clock(found, "close"):
                for loop in loops:
                    loop.close()
        return found

    def threads(self, url: str, kernel_id: str, threads: int, each: int) -> Found:
        """The same by one thread, with as many requests on their way as there are threads."""
        found: Found = {}
        with closing(Loop(url, kernel_id)) as loop:
            loop.finish(loop.execute())
            with clock(found):
                _in_flight(loop, threads, threads * each)
        return found


def _finish_all(sent: dict[Loop, str]) -> None:
    """Wait on many websockets until the replies and idles of all are here."""
    missing = dict.fromkeys(sent, 2)
    with selectors.DefaultSelector() as selector:
        for loop in sent:
            selector.register(loop.fileno(), selectors.EVENT_READ, loop)
        while missing:
            ready = selector.select(PATIENCE)
            if not ready:
                raise TimeoutError
            for loop in [key.data for key, _ in ready]:
                msg, msg_id = loop.receive(), sent[loop]
                if msg["parent_header"].get("msg_id") == msg_id:
                    missing[loop] -= is_reply(msg) or is_idle(msg, msg_id)
                if not missing[loop]:
                    del missing[loop]
                    selector.unregister(loop.fileno())


def _in_flight(loop: Loop, width: int, count: int) -> None:
    """Execute many requests, of which `width` are on their way at any time."""
    missing = {loop.execute(): 2 for _ in range(width)}
    started = width
    while missing:
        msg = loop.receive()
        msg_id = msg["parent_header"].get("msg_id", "")
        if msg_id not in missing or not (is_reply(msg) or is_idle(msg, msg_id)):
            continue
        missing[msg_id] -= 1
        if not missing[msg_id]:
            del missing[msg_id]
            if started < count:
                missing[loop.execute()] = 2
                started += 1


# --- by hand --------------------------------------------------------------------------------------


def payloads(sock: socket.socket, count: int) -> Iterator[memoryview]:
    """The payloads of so many frames, each valid until the next one is asked for."""
    memory = memoryview(bytearray(_READ))
    start = end = 0
    while count:
        there = end - start
        kind = memory[start + 1] if there >= 2 else 0
        body = start + (2 if kind < 126 else 4 if kind == 126 else 10)
        if there >= 2 and end >= body:
            length = kind if kind < 126 else int.from_bytes(memory[start + 2 : body], "big")
            if length > len(memory) - 14:
                yield _large(sock, memory[body:end], length)
                start = end = 0
                count -= 1
                continue
            if end >= body + length:
                yield memory[body : body + length]
                start = body + length
                count -= 1
                continue
        if end == len(memory):
            memory[:there] = bytes(memory[start:end])
            start, end = 0, there
        got = sock.recv_into(memory[end:])
        if not got:
            raise EOFError
        end += got


def _large(sock: socket.socket, there: memoryview, length: int) -> memoryview:
    """A payload that needs memory of its own, and is the last that was sent so far."""
    memory = memoryview(bytearray(length))
    end = len(there)
    memory[:end] = there
    while end < length:
        got = sock.recv_into(memory[end:])
        if not got:
            raise EOFError
        end += got
    return memory


def unmasked(payload: bytes) -> bytes:
    """The head of a client's frame whose mask of zeros leaves the payload as it is."""
    return struct.pack(">BBQI", 0x82, 0x80 | 127, len(payload), 0)


_ONLY = "it only receives what is poured, and sends"


class LeastPython(Peer):
    """One ``recv_into`` buffer, frames cut by hand, ``json.loads`` of each part."""

    cannot: ClassVar[dict[str, str]] = dict.fromkeys(
        ("round_trips", "start", "flood", "idle", "memory", "crowd", "threads", "notebook"), _ONLY
    )

    def pour(self, url: str, kind: str, count: int, size: int, default: bool = False) -> Found:
        found: Found = {}
        sock = connect(url, scenario(kind, count, size, default=default)).sock
        decode = message_default if default else message_v1
        _, payload = request("execute_request", {"code": CODE, **EXECUTE})
        with closing(sock), clock(found, cpu="cpu"):
            sock.sendall(unmasked(payload) + payload)
            for taken in payloads(sock, count):
                msg = decode(taken)
        check_poured(msg, size)
        return {**found, "cpu each": found["cpu"] / count}

    def upload(self, url: str, size: int) -> Found:
        found: Found = {}
        buffer = bytes(size)
        sock = connect(url, scenario("stream", 1)).sock
        with closing(sock), clock(found):
            _, payload = request("comm_msg", {"comm_id": "replay", "data": {}}, (buffer,))
            sock.sendall(unmasked(payload))
            sock.sendall(payload)
            for taken in payloads(sock, 1):
                message_v1(taken)
        return found
