"""A server that pours out prepared websocket frames, so that only the client is measured.

Run as a process of its own: it prints its port and serves until its standard input ends.
``/api/kernels/SCENARIO/channels`` is a websocket that answers every message of the client, once it
has read all of it, with the messages of the scenario.  That is ``KIND-COUNT-SIZE``: how many
messages, of which kind, with how many bytes of text or of a buffer in each.  Where ``-default``
follows, it speaks the default format also to a client that asks for v1.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from jupyter_client.session import Session
from peers import LINE

from gateway_blocking.frames import BINARY, CLOSE, PING, PONG, TEXT
from gateway_blocking.wire import FORMATS, V1

WIDE = "x" * 79 + "\n"


def content(kind: str, size: int) -> dict[str, Any]:
    """The content of a message of the scenario."""
    if kind == "comm_msg":
        return {"comm_id": "replay", "data": {}}
    line = LINE if size < len(WIDE) else WIDE
    return {"name": "stdout", "text": (line * (size // len(line) + 1))[:size]}


def payload(message: Mapping[str, Any], subprotocol: str, session: Session) -> tuple[int, bytes]:
    """The opcode and the payload of the message's frame, as a gateway makes them."""
    if subprotocol == V1:
        opcode, data = FORMATS[V1].encode("iopub", message, session.pack)
        return opcode, data
    # With all that a gateway puts into it, some of which ours leaves out when it sends.
    whole = {**message, "channel": "iopub", "buffers": []}
    buffers = message.get("buffers", [])
    if not buffers:
        return TEXT, session.pack(whole)
    del whole["buffers"]
    parts = [session.pack(whole), *buffers]
    offsets = list(accumulate((len(part) for part in parts[:-1]), initial=4 * (1 + len(parts))))
    return BINARY, b"".join((struct.pack(f">{1 + len(parts)}I", len(parts), *offsets), *parts))


def frames(name: str, subprotocol: str) -> bytes:
    """The frames of a scenario, one after another."""
    kind, count, size = name.split("-")
    session = Session()
    parent = session.msg("execute_request", {"code": "print()"})
    parts = []
    for _ in range(int(count)):
        message = session.msg(kind, content(kind, int(size)), parent=parent)
        if kind == "comm_msg":
            message["buffers"] = [bytes(int(size))]
        opcode, data = payload(message, subprotocol, session)
        length = len(data)
        if length < 126:
            head = bytes((0x80 | opcode, length))
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
        parts += [head, data]
    return b"".join(parts)


def shake_hands(connection: socket.socket) -> bytes:
    """Open the websocket that the client asks for; the frames of its scenario."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += (part := connection.recv(65536))
        if not part:
            raise ConnectionError("the client has gone")
    lines = request.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    name = lines[0].split("/api/kernels/")[1].split("/")[0].split(" ")[0]
    if "sec-websocket-key" not in headers:  # whether the kernel is there, a client may ask
        model = json.dumps({"id": name, "name": "python3", "execution_state": "idle"})
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(model)}\r\n\r\n{model}"
        connection.sendall(answer.encode())
        return shake_hands(connection)
    subprotocol = V1 if V1 in headers.get("sec-websocket-protocol", "") else ""
    if name.endswith("-default"):
        name, subprotocol = name.removesuffix("-default"), ""
    data = frames(name, subprotocol)
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    answer = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    if subprotocol:
        answer.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    connection.sendall("\r\n".join([*answer, "", ""]).encode())
    return data


def read_frame(stream: io.BufferedIOBase, memory: memoryview) -> int:
    """Read one frame of the client and forget it; its opcode, or CLOSE at the end."""
    head = stream.read(2)
    if len(head) < 2:
        return CLOSE
    length: int = head[1] & 0x7F
    if length >= 126:
        length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
    left = length + 4  # the mask
    while left:
        got = stream.readinto(memory[:left])
        if not got:
            return CLOSE
        left -= got
    opcode: int = head[0] & 0x0F
    return opcode


def serve(connection: socket.socket) -> None:
    """Answer each message with the scenario, until the client goes."""
    memory = memoryview(bytearray(1 << 20))
    try:
        with connection, connection.makefile("rb") as stream:
            data = shake_hands(connection)
            while (opcode := read_frame(stream, memory)) != CLOSE:
                if opcode == PING:
                    connection.sendall(bytes((0x80 | PONG, 0)))
                elif opcode != PONG:
                    connection.sendall(data)
    except OSError:
        pass  # the client ended without a word


def main() -> None:
    """Serve until standard input ends."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
