"""The body of an HTTP response, read within bounds of size and time.

requests and urllib3 read and decode a whole body, and their timeout begins again at each byte: a
response of some megabytes can become gigabytes in memory, and one that trickles never ends.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ProtocolError

from .deadline import Deadline

__all__ = ["ENCODINGS", "BodyError", "TimedResponse", "read_body"]

ENCODINGS = "gzip"  # Accept-Encoding of the requests
_CHUNK = 65536
_GZIP = 16 + zlib.MAX_WBITS


class BodyError(Exception):
    """A body is too large, or has an encoding that was not asked for."""


class TimedResponse(HTTPResponse):
    """A response whose head and body must come within the socket's timeout together."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_TimedReader(self.fp.detach(), sock))


class _TimedReader(RawIOBase):
    """The reading side of a socket, with one deadline for all reads: the socket's timeout."""

    def __init__(self, raw: Any, sock: Any) -> None:
        self._raw, self._sock = raw, sock
        self._deadline = Deadline(sock.gettimeout())

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Any:
        left = self._deadline.left()
        if left == 0:
            raise TimeoutError("timed out")
        with suppress(OSError):  # if the socket was closed, the read raises the error
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


def read_body(response: requests.Response, limit: int, *, cut: bool = False) -> bytearray:
    """Read and decode a response's body.

    Parameters
    ----------
    response : requests.Response
        The response, from which nothing was read yet.  It is closed at the end.
    limit : int
        Most bytes of the decoded body.
    cut : bool
        Return what fits and what came, instead of raising an error.

    Raises
    ------
    BodyError
        The body is larger, its encoding was not asked for, or its gzip data do not end with it.
    requests.RequestException
        The body did not come, or not whole.
    """
    body = bytearray()
    try:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise BodyError("it has an encoding that was not asked for")
        unzip = zlib.decompressobj(_GZIP) if "gzip" in encoding else None
        received = 0
        while chunk := _receive(response):
            received += len(chunk)
            room = limit + 1 - len(body)
            body += unzip.decompress(chunk, room) if unzip else chunk[:room]
            # The received bytes count, too: empty blocks of gzip data decode to no bytes at all.
            if len(body) > limit or received > limit + _CHUNK:
                raise BodyError(f"it has more than {limit} bytes")
            if unzip and unzip.unused_data:  # zlib would keep everything that follows
                raise BodyError("it goes on after the end of its gzip data")
        if unzip and received and not unzip.eof:
            raise BodyError("its gzip data break off")
    except zlib.error as error:
        if not cut:
            raise BodyError(f"it is not gzip: {error}") from error
    except (BodyError, requests.RequestException):
        if not cut:
            raise
    finally:
        response.close()
    del body[limit:]
    return body


def _receive(response: requests.Response) -> bytes:
    """Receive the next bytes of the body, without decoding them."""
    try:
        data: bytes = response.raw.read(_CHUNK, decode_content=False)
    except ProtocolError as error:  # requests itself maps the errors so
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error
    return data
