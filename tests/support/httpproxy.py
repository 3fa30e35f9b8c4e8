"""An HTTP proxy that takes every host for one server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from support.rawserver import Peer, serving


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for sock in (source, target):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@contextmanager
def http_proxy(target: str, log: list[str], logins: list[str | None]) -> Iterator[str]:
    """A proxy that takes every host for the target, and notes what it was asked for."""
    host, port = urlsplit(target).hostname, urlsplit(target).port

    def script(peer: Peer) -> None:
        headers = peer.read_request()
        method, what, _ = peer.request.decode("latin-1").split(" ", 2)
        log.append(f"{method} {what}")
        logins.append(headers.get("proxy-authorization"))
        with socket.create_connection((host, port), timeout=30) as upstream:
            upstream.settimeout(None)
            if method == "CONNECT":
                peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # one request, with the path only
                head, _, body = peer.request.partition(b"\r\n\r\n")
                line, *lines = head.split(b"\r\n")
                path = urlsplit(what).path
                lines = [x for x in lines if not x.lower().startswith(b"connection")]
                lines.insert(0, line.replace(what.encode(), path.encode()))
                upstream.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
            back = threading.Thread(target=_relay, args=(upstream, peer.sock), daemon=True)
            back.start()
            _relay(peer.sock, upstream)
            back.join()

    with serving(script) as where:
        yield where
