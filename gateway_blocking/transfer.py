"""Files to a kernel and back, in chunks over the shell channel.

Several chunks are on their way at once.  A chunk names its offset, so that it can be sent again if
its reply is lost.  The destination appears whole and verified, or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from .deadline import Deadline
from .errors import GatewayError
from .kernel_calls import KernelCall, KernelCalls
from .local_files import check_regular, replacement, resolve_links
from .timeouts import TRANSFER_CLEANUP_TIMEOUT

__all__ = ["SOURCE", "Progress", "destination", "download", "opened", "upload"]

Progress = Callable[[int, int | None], Any]
"""``progress(done, total)``, in bytes; the total is None if it is not known."""

SOURCE = files(__package__).joinpath("kernel_files.py").read_text("utf-8")
"""The functions that are called in the kernel."""

_CHUNK = 2 << 20  # bytes; a gateway accepts messages of 10 MB, and base64 makes 2.7 MB of these
_IN_FLIGHT = 4  # chunks


def upload(
    calls: KernelCalls,
    local: str | os.PathLike[str] | IO[bytes],
    remote: str,
    progress: Progress | None = None,
    timeout: float | None = None,
) -> str:
    """Send a file to the kernel: see ``upload()`` of the client."""
    with opened(local) as (file, name, total):
        path, token = (
            str(calls("destination", remote, name, timeout=timeout)),
            secrets.token_hex(16),
        )
        try:
            calls("begin_upload", path, token, timeout=timeout)
            size, sha256 = _send_chunks(calls, file, (path, token), total, progress, timeout)
            if not calls("end_upload", path, token, size, sha256, timeout=timeout):
                raise GatewayError(f"the upload of {name} was damaged on its way; nothing is left")
        except BaseException:
            with suppress(Exception):  # the first error is the one that counts
                calls("discard", path, token, timeout=TRANSFER_CLEANUP_TIMEOUT)
            raise
    return path


def download(
    calls: KernelCalls,
    remote: str,
    local: str | os.PathLike[str] | IO[bytes],
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Path | None:
    """Fetch a file from the kernel: see ``download()`` of the client."""
    path, total = calls("find", remote, timeout=timeout)
    with destination(local, _base_name(path)) as (file, written):
        sha256, done = hashlib.sha256(), 0
        for data in _received_chunks(calls, path, total, timeout):
            file.write(data)
            sha256.update(data)
            done += len(data)
            if progress is not None:
                progress(done, total)
        if calls("digest", path, timeout=timeout) != [done, sha256.hexdigest()]:
            raise GatewayError(f"{remote} changed in the kernel while it was read")
    return written


class _Pipeline:
    """Calls that are on their way at once; their results come in the order of the calls."""

    def __init__(self, calls: KernelCalls, timeout: float | None) -> None:
        self._calls, self._timeout = calls, timeout
        self._in_flight: deque[KernelCall] = deque()

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for call in self._in_flight:
            call.release()

    def __len__(self) -> int:
        return len(self._in_flight)

    def start(self, function: str, *args: Any, buffer: bytes | None = None) -> None:
        """Send a call."""
        deadline = Deadline(self._timeout)
        call = self._calls.start(function, *args, deadline=deadline, buffer=buffer)
        self._in_flight.append(call)

    def result(self) -> Any:
        """Wait for the result of the oldest call."""
        with self._in_flight.popleft() as call:
            return call.result(Deadline(self._timeout))


def _send_chunks(
    calls: KernelCalls,
    file: IO[bytes],
    part: tuple[str, str],
    total: int | None,
    progress: Progress | None,
    timeout: float | None,
) -> tuple[int, str]:
    """Send all chunks; return the size and the digest of the file."""
    sha256, size, confirmed = hashlib.sha256(), 0, 0
    has_buffers = _accepts_buffers(calls, timeout)
    in_flight = _IN_FLIGHT if has_buffers else 1
    with _Pipeline(calls, timeout) as pipeline:
        data = file.read(_CHUNK)
        while data or pipeline:
            if data and len(pipeline) < in_flight:
                if has_buffers:
                    pipeline.start("write", *part, size, None, buffer=data)
                else:
                    pipeline.start("write", *part, size, base64.b64encode(data).decode())
                sha256.update(data)
                size += len(data)
                data = file.read(_CHUNK)
            else:
                confirmed += pipeline.result()
                if progress is not None:
                    progress(confirmed, total)
    return size, sha256.hexdigest()


def _accepts_buffers(calls: KernelCalls, timeout: float | None) -> bool:
    """Return True if a function gets the buffers of its request, as in ipykernel.

    Another kernel gets one request at a time: xeus-python 0.19 executes nothing any more if a
    second large message arrives while it executes a first.
    """
    probe = secrets.token_bytes(16)
    digest = hashlib.sha256(probe).hexdigest()
    return bool(calls("accepts_buffers", digest, timeout=timeout, buffer=probe))


def _received_chunks(
    calls: KernelCalls, path: str, total: int, timeout: float | None
) -> Iterator[bytes]:
    """Yield the content of a file in the kernel."""
    offset = 0
    in_flight = _IN_FLIGHT if total > _CHUNK and _accepts_buffers(calls, timeout) else 1
    with _Pipeline(calls, timeout) as pipeline:
        while offset < total or pipeline:
            if offset < total and len(pipeline) < in_flight:
                pipeline.start("read", path, offset, _CHUNK)
                offset += _CHUNK
            else:
                yield pipeline.result()


@contextmanager
def opened(
    local: str | os.PathLike[str] | IO[bytes],
) -> Iterator[tuple[IO[bytes], str, int | None]]:
    """Give a local file that is open for reading, its name, and its size if that is known."""
    if not isinstance(local, str | os.PathLike):
        name = getattr(local, "name", "")
        yield local, Path(name).name if isinstance(name, str) else "", None
        return
    path = Path(local).expanduser()
    check_regular(path)
    with path.open("rb") as file:
        yield file, path.name, os.fstat(file.fileno()).st_size


@contextmanager
def destination(
    local: str | os.PathLike[str] | IO[bytes], name: str
) -> Iterator[tuple[IO[bytes], Path | None]]:
    """Give a file to write; at the end, it gets the name `local`, unless there was an error."""
    if not isinstance(local, str | os.PathLike):
        yield local, None
        return
    path = Path(local).expanduser()
    if path.is_dir() or os.fspath(local).endswith(("/", os.sep)):
        path = path / name
    path = resolve_links(path)
    path = Path(os.path.realpath(path.parent), path.name)
    with replacement(path) as file:
        yield file, path


def _base_name(path: str) -> str:
    """Return the name of a file of a system that may be another one."""
    return path.replace("\\", "/").rpartition("/")[2] or "file"
