"""A server of raw sockets, for what a real gateway cannot be made to do on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websocket._abnf import ABNF, frame_buffer

from gateway_blocking.frames import TEXT

Script = Callable[["Peer"], object]


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.request = b""
        self._frames = frame_buffer(self._receive, skip_utf8_validation=True)

    def _receive(self, size: int) -> bytes:
        data = self.sock.recv(size)
        if not data:
            raise ConnectionError
        return data

    def read_request(self) -> dict[str, str]:
        """The headers of the HTTP request, by lower-case name."""
        while b"\r\n\r\n" not in self.request:
            self.request += self._receive(65536)
        lines = self.request.decode("latin-1").split("\r\n")[1:]
        return {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}

    def answer(self, status: str, body: bytes = b"", **headers: str) -> None:
        """Refuse the handshake."""
        self.read_request()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *_lines(headers)]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def accept(self, subprotocol: str = "", **more: str) -> dict[str, str]:
        """Shake hands."""
        headers = self.read_request()
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines.append(f"Sec-WebSocket-Accept: {proof}")
        if subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        lines += _lines(more)
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return headers

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame."""
        size = len(payload)
        head = bytes((0x80 | opcode,))
        if size < 126:
            head += bytes((size,))
        elif size < 1 << 16:
            head += struct.pack(">BH", 126, size)
        else:
            head += struct.pack(">BQ", 127, size)
        self.sock.sendall(head + payload)

    def send_message(self, channel: str, msg_type: str, parent: str = "", **content: Any) -> None:
        """Send a message of the default format."""
        whole = {
            "channel": channel,
            "header": {"msg_id": "m", "msg_type": msg_type, "version": "5.3"},
            "parent_header": {"msg_id": parent} if parent else {},
            "metadata": {},
            "content": content,
        }
        self.send(TEXT, json.dumps(whole).encode())

    def receive(self) -> ABNF:
        """The next frame of the client."""
        return self._frames.recv_frame()

    def reset(self) -> None:
        """End the connection with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> None:
        """Until the client has gone."""
        try:
            while self.sock.recv(65536):
                pass
        except OSError:
            pass


def _lines(headers: dict[str, str]) -> list[str]:
    """Headers, which have _ for - in their names; one with several lines is sent several times."""
    pairs = [(name, line) for name, value in headers.items() for line in value.split("\n")]
    return [f"{name.replace('_', '-')}: {line}" for name, line in pairs]


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """``host:port`` of a server that runs the script for each connection, in a thread of its own.

    An error of the script other than a lost connection is raised at the end.
    """
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(sock: socket.socket) -> None:
        try:
            with tls.wrap_socket(sock, server_side=True) if tls else sock as wrapped:
                sockets.append(wrapped)
                script(Peer(wrapped))
        except (OSError, ssl.SSLError):
            pass
        except BaseException as error:
            errors.append(error)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=handle, args=(sock,), daemon=True)
            threads.append(thread)
            sockets.append(sock)
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for sock in [listener, *sockets]:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass
        listener.close()
        for thread in [accepting, *threads]:
            thread.join(10)
        for sock in sockets:
            sock.close()
    if errors:
        raise errors[0]


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[ssl.SSLContext, str]:
    """A server's TLS with a certificate it signed itself, and the certificate's file."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName={kind}:{name}"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, str(cert)
