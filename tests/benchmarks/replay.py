"""A server that pours out prepared websocket frames, so that only the client is measured.

Run as a process of its own: it prints its port and serves until its standard input ends.
``/api/kernels/NAME/channels`` is a websocket that waits for one message of the client and then
sends the frames of the scenario NAME, see ``SCENARIOS``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import sys
import threading

from jupyter_client.session import Session, json_packer

from gateway_blocking.frames import TEXT
from gateway_blocking.wire import FORMATS, V1

SCENARIOS = {
    "small": (20_000, "line of output\n"),
    "large": (1, "x" * 79 + "\n"),
}
LARGE = 16 * 1024 * 1024


def frames(name: str, subprotocol: str) -> bytes:
    """The frames of a scenario, one after another."""
    count, text = SCENARIOS[name]
    if name == "large":
        text *= LARGE // len(text)
    session = Session()
    parent = session.msg("execute_request", {"code": "print()"})
    parts = []
    for _ in range(count):
        message = session.msg("stream", {"name": "stdout", "text": text}, parent=parent)
        if subprotocol == V1:
            opcode, payload = FORMATS[V1].encode("iopub", message, session.pack)
        else:  # with all that a gateway puts into it, some of which ours leaves out
            whole = {**message, "buffers": [], "channel": "iopub"}
            opcode, payload = TEXT, json_packer(whole)
        size = len(payload)
        length = struct.pack(">BH", 126, size) if size < 1 << 16 else struct.pack(">BQ", 127, size)
        parts += [bytes((0x80 | opcode,)), length, payload]
    return b"".join(parts)


def serve(connection: socket.socket) -> None:
    """Shake hands, wait for a message, pour out."""
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        lines = request.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        name = lines[0].split("/api/kernels/")[1].split("/")[0]
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
        connection.recv(65536)
        connection.sendall(data)
        while connection.recv(65536):
            pass


def main() -> None:
    """Serve until standard input ends."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
