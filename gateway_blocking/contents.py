"""The files of a Jupyter Server: ``/api/contents``."""

from __future__ import annotations

import base64
import errno
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from .deadline import Deadline
from .errors import GatewayAuthError, GatewayError, GatewayHTTPError
from .http import LONGEST_FILE, Requester
from .models import ContentsModel, ModelError, check

__all__ = ["LONGEST_DOWNLOAD", "Contents", "normalized"]

# A server sends lines of 76 characters for 57 bytes, each with a newline, which JSON escapes.
LONGEST_DOWNLOAD = (LONGEST_FILE - 65536) // 78 * 57
"""Bytes of the largest file whose content fits into a response."""

_T = TypeVar("_T")

_OTHER_MEANING = re.compile(r"(?:.*/)?(?:checkpoints(?:/[\w-]+)?|trust)")
_NOT_PERMITTED = re.compile(r"User is not authorized to |Permission denied: ")  # no matter of login
_WITHOUT_CONTENTS = "leave out via='contents' (--via): the default way needs a Python kernel only"


class Contents:
    """The files below the root folder of a server.

    Paths are those that :func:`normalized` returns.  Every method raises the errors of REST, in
    addition to those that it names.  Any number of threads may use one object.

    Parameters
    ----------
    http : Requester
        Sends the requests.
    url : str
        URL of ``/api/contents``.
    timeout : float, optional
        Seconds for each request; by default the options say how long to wait.
    """

    def __init__(self, http: Requester, url: str, timeout: float | None = None) -> None:
        self._http, self._url, self._timeout = http, url, timeout

    def find(self, path: str, *, with_hash: bool = False) -> ContentsModel | None:
        """Return the model of a file or folder without its content, or None if there is none.

        Raises
        ------
        GatewayError
            The gateway has no ``/api/contents``.
        """
        query = "?content=0&hash=1" if with_hash else "?content=0"
        try:
            return self._request("GET", path, query)
        except GatewayHTTPError as error:
            if error.status_code != 404:
                raise
            if not path:
                raise GatewayError(
                    "the gateway has no /api/contents, which only a Jupyter Server has",
                    advice=_WITHOUT_CONTENTS,
                ) from error
        self.find("")  # raises an error if there is no such API
        return None

    def read(self, path: str) -> tuple[bytes, ContentsModel]:
        """Return the content of a file, and its model with the hash if the server knows that."""
        url = self._url_of(path) + "?type=file&format=base64&content=1&hash=1"
        body = self._send("GET", url, wanted=bytes)
        try:
            model = json.loads(body)
            check(model, ContentsModel)
            return base64.b64decode(model["content"]), model
        except (ModelError, ValueError, KeyError, TypeError) as error:
            raise GatewayError(f"the content of {path} cannot be read: {error}") from error

    def save(self, path: str, data: bytes, chunk: int | None = None) -> ContentsModel:
        """Write a file, or append a chunk to it, and return its model.

        Parameters
        ----------
        path : str
            Path of the file.
        data : bytes
            The content.
        chunk : int, optional
            Number of the chunk: 1 makes a new file, the last one is -1.
        """
        content = base64.b64encode(data).decode()
        model: dict[str, Any] = {"type": "file", "format": "base64", "content": content}
        if chunk is not None:
            model["chunk"] = chunk
        return self._request("PUT", path, body=model)

    def rename(self, path: str, new: str) -> None:
        """Rename a file; the server refuses it if there is a file of the new name."""
        self._request("PATCH", path, body={"path": new})

    def delete(self, path: str) -> None:
        """Delete a file; the server may move it to its user's trash."""
        self._send("DELETE", self._url_of(path), wanted=bytes)

    def _request(
        self, method: str, path: str, query: str = "", body: Mapping[str, Any] | None = None
    ) -> ContentsModel:
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, self._url_of(path) + query, data, wanted=ContentsModel)

    def _send(self, method: str, url: str, body: bytes | None = None, *, wanted: type[_T]) -> _T:
        try:
            return self._http.request(method, url, body, wanted=wanted, deadline=self._deadline())
        except GatewayAuthError as error:
            if error.status_code == 403 and _NOT_PERMITTED.match(error.message):
                error.advice = f"the server does not let this user do it; {_WITHOUT_CONTENTS}"
            raise

    def _url_of(self, path: str) -> str:
        return f"{self._url}/{quote(path)}" if path else self._url

    def _deadline(self) -> Deadline | None:
        return None if self._timeout is None else Deadline(self._timeout)


def normalized(path: str) -> str:
    """Return a path relative to the server's root folder, without empty parts.

    >>> normalized("/data//./a.csv"), normalized("./")
    ('data/a.csv', '')

    Raises
    ------
    OSError
        The path leads out of the folder, is not Unicode text, or its URL has another meaning.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    joined = "/".join(parts)
    try:
        joined.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "the path is not Unicode text", path) from None
    if ".." in parts:
        text = "the path must be inside the server's root folder, without '..'"
        raise OSError(errno.EINVAL, text, path)
    if _OTHER_MEANING.fullmatch(joined):
        text = "the URL of this name has another meaning for a Jupyter Server"
        raise OSError(errno.EINVAL, text, path)
    return joined
