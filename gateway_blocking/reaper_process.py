"""The program of the reaper: a process that deletes the kernels of its owner after that has ended.

:mod:`.reaper` starts this file with a Python that sees neither the environment nor site-packages.
Standard input is a pipe whose other end the owner holds; it closes only when the owner ends.  Each
line is a key, a space and a request to send then.  A line with a key alone removes its request.

The process may wait for weeks.  It therefore imports large modules only when it has something to
delete, and keeps the requests as text.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # an import of typing, which type checkers treat the same, costs 2 MB
if TYPE_CHECKING:
    from http.client import HTTPConnection
    from ssl import SSLContext
    from typing import Any

__all__ = ["main"]

_AT_ONCE = 16  # requests
_PATIENCE = 30.0  # seconds, for a gateway that cannot be reached or fails
_LONGEST = 300.0  # seconds for all requests
_PAUSE, _LONGEST_PAUSE = 0.2, 3.0  # seconds between two tries; doubled from one to the next
_AGAIN = (408, 429, 500, 502, 503, 504)  # (500: a gateway that restarts a dead kernel)
_GONE = (404, 410)


def main() -> None:
    """Wait until the owner ends, and delete everything that it has not released."""
    if hasattr(os, "fork"):
        # The owner's child must end at once, so that the owner's os.wait() does not find it.
        if os.fork():
            os._exit(0)
    _ignore_signals()
    os.chdir(os.sep)  # the owner may want to remove the folder
    if left := _read_to_the_end():
        _delete_all(left)
    os._exit(0)  # this also ends threads that wait for a server


def _ignore_signals() -> None:
    """Ignore signals that a terminal or a service manager sends to all processes of the owner.

    This process ends by itself soon after its owner.
    """
    try:
        import _signal as signal  # type: ignore[import-not-found]  # signal costs 5 MB on 3.15
    except ImportError:
        import signal
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _read_to_the_end() -> list[bytes]:
    """Return the requests that were not removed, in the order in which they came."""
    requests: dict[bytes, bytes] = {}
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            key, _, request = line.partition(b" ")
            if request:
                requests[key] = request
            else:
                requests.pop(key, None)
    return list(requests.values())


def _delete_all(requests: list[bytes]) -> None:
    """Send all requests, several at once."""
    from contextlib import suppress
    from threading import Thread
    from time import monotonic

    def work() -> None:
        while requests:
            with suppress(Exception):  # another thread took the last one, or it cannot be sent
                _delete(requests.pop(0))

    threads = [Thread(target=work, daemon=True) for _ in range(min(_AT_ONCE, len(requests)))]
    for thread in threads:
        thread.start()
    end = monotonic() + _LONGEST
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))


def _delete(text: bytes) -> None:
    """Send one request until it has a final response, or until the time for retries is over."""
    import json
    import ssl
    import time
    from http.client import HTTPException

    request = json.loads(text)
    begun, pause = time.monotonic(), _PAUSE
    while True:
        try:
            status = _send(request)
        except ssl.SSLCertVerificationError:
            return
        except (OSError, HTTPException):  # refused, reset, timed out, or not HTTP
            status = 503
        tried = time.monotonic() - begun
        again = status in _AGAIN and tried < _PATIENCE
        # A kernel that was being started when its owner ended may not exist yet.
        if not again and not (status in _GONE and tried < request["start_timeout"]):
            return
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _send(request: dict[str, Any]) -> int:
    """Send a request once, and return the status of the response."""
    from urllib.parse import urlsplit, urlunsplit

    url, proxy = urlsplit(request["url"]), request["proxy"] and urlsplit(request["proxy"])
    connection = _connection(request, url, proxy)
    target = urlunsplit(("", "", url.path, url.query, ""))
    headers = dict(request["headers"])
    if proxy and url.scheme == "http":
        target = request["url"]
        headers |= _proxy_login(proxy)
    try:
        connection.request("DELETE", target, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(request: dict[str, Any], url: Any, proxy: Any) -> HTTPConnection:
    """Return a connection to the server or to the proxy before it, not yet opened."""
    from http.client import HTTPConnection, HTTPSConnection

    to, timeout = proxy or url, request["timeout"]
    port = to.port or {"http": 80, "https": 443}[to.scheme]
    if url.scheme == "http":
        return HTTPConnection(to.hostname, port, timeout=timeout)
    connection = HTTPSConnection(to.hostname, port, timeout=timeout, context=_tls(request))
    if proxy:
        connection.set_tunnel(url.hostname, url.port or 443, headers=_proxy_login(proxy))
    return connection


def _proxy_login(proxy: Any) -> dict[str, str]:
    """Return the header for the user and password of the proxy's URL, if it has them."""
    if not proxy.username:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode("latin-1")
    return {"Proxy-Authorization": "Basic " + b64encode(login).decode()}


def _tls(request: dict[str, Any]) -> SSLContext:
    """Return a context with the same options as the owner's."""
    import ssl
    from pathlib import Path

    verify, cert = request["verify"], request["cert"]
    if verify:
        folder, file = (verify, None) if Path(verify).is_dir() else (None, verify)
        context = ssl.create_default_context(capath=folder, cafile=file)
        context.hostname_checks_common_name = False  # as requests
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        file, key = cert if len(cert) == 2 else (*cert, None)
        context.load_cert_chain(file, key, password="")  # an error instead of a question
    return context


if __name__ == "__main__":
    main()
