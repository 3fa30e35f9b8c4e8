"""TLS handshakes with ports that answer late, or speak plain HTTP."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_blocking import GatewayClient
from gateway_blocking.advice import HTTP_ONLY
from gateway_blocking.errors import GatewayConnectionError, GatewayError, GatewayTimeout
from gateway_blocking.handshake import Endpoint, Handshake
from gateway_blocking.rest import GatewayREST
from support.rawserver import Peer, Script, certificate, serving
from support.scripted import says, scripted

NO_RETRY = {"max_request_retries": 0}
OPTIONS = {"connect_timeout": 30, "request_timeout": 30}


def rest(where: str) -> None:
    with GatewayREST(GatewayClient(url=f"https://{where}", **OPTIONS)) as api:
        api.list_kernels()


def websocket(where: str) -> None:
    context = ssl.create_default_context()
    Handshake(Endpoint(f"wss://{where}/", {}, ssl_context=context, connect_timeout=30)).connect()


def plain(answer: bytes) -> Script:
    """A port that waits for the end of a line, as an HTTP server does, and then answers so."""

    def script(peer: Peer) -> None:
        first = peer.sock.recv(65536)
        if first.startswith(b"GET "):
            peer.sock.sendall(answer)
        peer.wait_for_end()

    return script


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_blocking.tls.TLS_PATIENCE", 0.1)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("connect", [rest, websocket])
def test_a_port_that_answers_plain_http_ends_the_handshake(connect: Callable[[str], None]) -> None:
    """The error comes long before connect_timeout, and without another attempt."""
    begin = time.monotonic()
    with (
        serving(plain(b"HTTP/1.1 404 Not Found\r\n\r\n")) as where,
        pytest.raises(GatewayConnectionError, match="the port answers plain HTTP") as caught,
    ):
        connect(where)
    assert caught.value.advice == HTTP_ONLY
    assert time.monotonic() - begin < 20


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_port_that_does_not_ends_with_the_timeout(answer: bytes) -> None:
    """A port with TLS may answer 400 to plain HTTP, and an overloaded one nothing."""
    with serving(plain(answer)) as where, pytest.raises(GatewayTimeout, match="no TLS handshake"):
        options = {"connect_timeout": 1.5, "request_timeout": 30, **NO_RETRY}
        with GatewayREST(GatewayClient(url=f"https://{where}", **options)) as api:
            api.list_kernels()


@contextmanager
def late(target: str, seconds: float) -> Iterator[str]:
    """The address of a forwarder that begins to forward after a while."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, _, port = target.partition(":")
    sockets = [listener]
    threads = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            time.sleep(seconds)
            server = socket.create_connection((host, int(port)))
            sockets.extend((client, server))
            for pair in ((client, server), (server, client)):
                threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        for thread in (accepting, *threads):
            thread.join(10)


@pytest.mark.usefixtures("_impatient")
def test_a_handshake_that_is_only_slow_succeeds(tmp_path: Path) -> None:
    """After the silence, it goes on where it was."""
    tls, cert = certificate(tmp_path)
    with (
        scripted(says([]), tls=tls) as server,
        late(server.where, 0.5) as where,
        GatewayREST(GatewayClient(url=f"https://{where}", ca_certs=cert, **OPTIONS)) as api,
    ):
        assert api.list_kernels() == []


def test_an_unknown_file_is_an_error_that_names_the_option() -> None:
    """The advice says what the file must be."""
    with pytest.raises(GatewayError, match=r"client_key='k' is set") as caught:
        GatewayClient(url="https://h", client_key="k").ssl_context()
    assert "set client_cert" in caught.value.advice
