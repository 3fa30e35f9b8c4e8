"""Files to a Jupyter Server and back, by its ``/api/contents``.

The server writes a file of one chunk whole or not at all.  Several chunks are appended to a file
of another name, which is renamed when it was verified.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from .contents import LONGEST_DOWNLOAD, Contents, normalized
from .errors import GatewayConnectionError, GatewayError, GatewayHTTPError
from .models import ContentsModel
from .transfer import Progress, destination, opened

__all__ = ["download", "upload"]

_CHUNK = 4 << 20  # bytes; proxies limit the size of a body
_MOST_TRIES = 4  # of a chunk whose response was lost


def upload(
    contents: Contents,
    local: str | os.PathLike[str] | IO[bytes],
    remote: str,
    progress: Progress | None = None,
) -> str:
    """Send a file to the server, and return its path there: see ``upload()`` of the client."""
    with opened(local) as (file, name, total):
        path, exists = _target(contents, remote, name)
        chunks = _chunks(file)
        first, is_last = next(chunks)
        if is_last:
            _append(contents, path, None, 0, first)
            _verify(contents, path, len(first), hashlib.sha256(first).hexdigest())
            if progress is not None:
                progress(len(first), total)
            return path
        part = f"{path}.{secrets.token_hex(8)}.part"
        try:
            done, sha256 = 0, hashlib.sha256()
            data, number = first, 1
            while True:
                _append(contents, part, -1 if is_last else number, done, data)
                sha256.update(data)
                done += len(data)
                if progress is not None:
                    progress(done, total)
                if is_last:
                    break
                (data, is_last), number = next(chunks), number + 1
            _verify(contents, part, done, sha256.hexdigest())
            if exists:
                contents.delete(path)
            contents.rename(part, path)
        except BaseException:
            with suppress(Exception):  # the first error is the one that counts
                contents.save(part, b"")  # because the server may keep the file in a trash
                contents.delete(part)
            raise
    return path


def download(
    contents: Contents,
    remote: str,
    local: str | os.PathLike[str] | IO[bytes],
    progress: Progress | None = None,
) -> Path | None:
    """Fetch a file from the server: see ``download()`` of the client."""
    path = normalized(remote)
    model = contents.find(path)
    if model is None:
        raise _missing(path)
    if model["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, "on the server: it is a folder", path)
    size = model.get("size")
    if size is not None and size > LONGEST_DOWNLOAD:
        raise GatewayError(
            f"{path} has {size:,} bytes, and /api/contents sends a file in one response: at most"
            f" {LONGEST_DOWNLOAD:,} bytes are accepted",
            advice="leave out via='contents' (--via): the default way has no limit",
        )
    with destination(local, path.rpartition("/")[2]) as (file, written):
        data, model = contents.read(path)
        if not _is_content(model, len(data), hashlib.sha256(data).hexdigest()):
            raise GatewayError(f"{path} was damaged on its way, or changed while it was read")
        file.write(data)
        if progress is not None:
            progress(len(data), len(data))
    return written


def _target(contents: Contents, remote: str, name: str) -> tuple[str, bool]:
    """Return the path that an upload to `remote` writes, and True if there is such a file."""
    path = normalized(remote)
    model = contents.find(path)
    is_folder = model is not None and model["type"] == "directory"
    if is_folder or remote.endswith("/"):
        path = normalized(f"{path}/{name}")
        model = contents.find(path)
    if model is None:
        folder = path.rpartition("/")[0]
        if contents.find(folder) is None:
            raise _missing(folder)
    elif model["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, "on the server: it is a folder", path)
    return path, model is not None


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk of a file, and True with the last one; an empty file has one."""
    data = file.read(_CHUNK)
    while True:
        following = file.read(_CHUNK) if data else b""
        yield data, not following
        if not following:
            return
        data = following


def _append(contents: Contents, path: str, chunk: int | None, offset: int, data: bytes) -> None:
    """Write a chunk; write it again if the response was lost and the chunk did not arrive."""
    for attempt in range(1, _MOST_TRIES + 1):
        try:
            model: ContentsModel | None = contents.save(path, data, chunk)
        except GatewayConnectionError:
            model = contents.find(path)
            found = 0 if model is None else model.get("size")
            if found != offset + len(data) and (found == offset or chunk in (None, 1)):
                if attempt == _MOST_TRIES:
                    raise
                continue
        except GatewayHTTPError as error:
            if error.status_code == 400 and _is_hidden(path):
                raise PermissionError(errno.EPERM, _HIDDEN, path) from error
            raise
        size = None if model is None else model.get("size")
        if size not in (None, offset + len(data)):
            raise GatewayError(
                f"{path} has {size} bytes on the server, and {offset + len(data)} were sent: its"
                " contents manager accepts no chunks, or another program writes the file",
                advice="leave out via='contents' (--via)",
            )
        return


def _verify(contents: Contents, path: str, size: int, sha256: str) -> None:
    model = contents.find(path, with_hash=True)
    if model is None or not _is_content(model, size, sha256):
        raise GatewayError(f"{path} on the server is not what was sent")


def _is_content(model: ContentsModel, size: int, sha256: str) -> bool:
    """Return True unless the size or the hash of a model, if it has them, is another one."""
    is_sha256 = model.get("hash_algorithm") == "sha256"
    return model.get("size") in (None, size) and (not is_sha256 or model.get("hash") == sha256)


_HIDDEN = "on the server: it does not accept hidden files (ContentsManager.allow_hidden)"


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _missing(path: str) -> FileNotFoundError:
    text = "on the server: No such file or directory"
    if _is_hidden(path):
        text += ", or it does not show hidden files (ContentsManager.allow_hidden)"
    return FileNotFoundError(errno.ENOENT, text, path)
