"""A gateway's REST interface by script: what a server answers to each request, and what it saw."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import GatewayError
from gateway_blocking.rest import GatewayREST
from support.rawserver import Peer, Script, serving

Call = Callable[[GatewayREST], Any]


@dataclass
class Server:
    """What a scripted server has seen."""

    where: str
    lines: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


def read(peer: Peer, server: Server) -> None:
    """Read a request with its body: to answer before that would be another fault."""
    headers = peer.read_request()
    head, _, body = peer.request.partition(b"\r\n\r\n")
    while len(body) < int(headers.get("content-length", 0)):
        body += peer.sock.recv(65536)
    server.lines.append(head.decode().partition(" HTTP/")[0])
    server.headers.append(headers)
    server.bodies.append(json.loads(body) if body else None)


@contextmanager
def scripted(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that plays a script for each request; the last one again and again."""
    left = list(scripts)
    server = Server("")

    def script(peer: Peer) -> None:
        read(peer, server)
        (left.pop(0) if len(left) > 1 else left[0])(peer)

    with serving(script, tls) as server.where:
        yield server


def says(body: Any, status: str = "200 OK", **headers: str) -> Script:
    """Answers with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda peer: peer.answer(status, content, Connection="close", **headers)


def accepts(**headers: str) -> Script:
    """Shakes hands for a websocket, on which then nothing comes."""

    def script(peer: Peer) -> None:
        peer.accept(**headers)
        peer.wait_for_end()

    return script


def sends(data: bytes) -> Script:
    """Sends this, whatever it is, and ends the connection."""
    return lambda peer: peer.sock.sendall(data)


def stalls(data: bytes = b"") -> Script:
    """Sends this, and then nothing any more until the client goes."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(data)
        peer.wait_for_end()

    return script


CUT_BODY = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": '
CUT_CHUNK = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"id": '
CUT_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Le"
COOKIE = {"Set_Cookie": "one=1; Path=/"}
NOT_THERE = says({"message": "Kernel does not exist: k", "reason": None}, "404 Not Found")
BUSY = says({"message": "busy"}, "503 Service Unavailable")


@contextmanager
def rest_of(server: Server | str, **options: Any) -> Iterator[GatewayREST]:
    """The interface of a server, with time-outs that a test can wait for."""
    where = server if isinstance(server, str) else f"http://{server.where}"
    quick = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0, "request_timeout": 10}
    with GatewayREST(GatewayClient(**{"url": where, **quick, **options})) as rest:
        yield rest


def error_of(call: Call, server: Server | str, **options: Any) -> GatewayError:
    with rest_of(server, **options) as rest, pytest.raises(GatewayError) as caught:
        call(rest)
    return caught.value
