"""One spelling of URLs for REST, where requests normalizes them, and for websockets."""

from __future__ import annotations

import requests
from urllib3.util import parse_url

__all__ = ["as_http", "canonical_url"]


def as_http(url: str) -> str:
    """Return the URL with http instead of ws, as the handshake of a websocket sends it."""
    return "http" + url[len("ws") :] if url.startswith("ws") else url


def canonical_url(url: str) -> str:
    """Return `url` as requests sends it, also if its scheme is ws or wss.

    Characters that a URL must not contain are percent-encoded, the hexadecimal digits of an
    encoding become upper case, dot segments are resolved, and the host name becomes lower case
    and IDNA.  A gateway compares the bytes of a path, so both transports must send the same.

    Raises
    ------
    ValueError
        The host name is not valid.
    """
    request = requests.PreparedRequest()
    request.prepare_url(as_http(url), None)
    parsed = parse_url(str(request.url))  # urllib3 encodes some more
    (parsed.host or "").encode("idna")  # as sockets do: a label is empty, or too long
    sent = parsed.url
    return "ws" + sent[len("http") :] if url.startswith("ws") else sent
