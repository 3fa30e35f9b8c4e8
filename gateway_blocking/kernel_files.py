"""The functions that a file transfer calls in the kernel.

:mod:`.transfer` sends the text of this module.  It therefore uses the standard library only, and
avoids what Python 3.8 does not have.  Each function can be called again with the same effect.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os

__all__ = [
    "Answer",
    "accepts_buffers",
    "begin_upload",
    "call",
    "destination",
    "digest",
    "discard",
    "end_upload",
    "find",
    "read",
    "write",
]


class Answer:
    """An answer to the client, whose representation is a text that needs no quotes.

    The kernel sends the representation of a result.  A third of its time in a download went into
    the one of a str (ipykernel 7.4).  IPython asks for the MIME bundle first, and other kernels ask
    for the ``repr()``.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self._text}


def call(name: str, args: tuple[object, ...]) -> Answer:
    """Call a function of this module, and answer with its result or its OSError as JSON text."""
    try:
        value = globals()[name](*args)
    except OSError as error:
        path = os.fsdecode(error.filename) if isinstance(error.filename, (bytes, str)) else None
        text = error.strerror or str(error)
        return Answer(json.dumps({"errno": error.errno, "text": text, "path": path}))
    if isinstance(value, bytes):  # base64 has nothing that JSON escapes
        return Answer('{"base64": "' + base64.b64encode(value).decode() + '"}')
    return Answer(json.dumps({"value": value}))


def destination(remote: str, name: str) -> str:
    """Return the absolute path that an upload to `remote` writes.

    A destination that is a directory means the file `name` in it, as for ``cp``.
    """
    path = os.path.abspath(os.path.expanduser(remote))
    if os.path.isdir(path) or remote.endswith(("/", os.sep)):
        path = os.path.join(path, name)
    path = _follow_links(path)
    if os.path.exists(path) and not os.path.isfile(path):  # a device must not be replaced
        raise OSError(errno.EINVAL, "not a regular file", path)
    return path


def _follow_links(path: str) -> str:
    """Return the target of a path; follow symbolic links of this user and of root only."""
    for _ in range(40):  # the limit of Linux
        if not os.path.islink(path):
            break
        owner = os.lstat(path).st_uid
        if hasattr(os, "geteuid") and owner not in (0, os.geteuid()):
            text = "it is a symbolic link to %s, made by another user (uid %s)"
            raise OSError(errno.EPERM, text % (os.readlink(path), owner), path)
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def begin_upload(path: str, token: str) -> None:
    """Make an empty file beside the destination, which only this user can read.

    The client chooses the random `token`, which is a part of the name: it can find the file again
    even if it never got a reply.
    """
    try:
        os.close(os.open(_part(path, token), os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:  # it names the part, which the caller does not know
        raise OSError(error.errno, error.strerror, path) from error


def _part(path: str, token: str) -> str:
    return os.path.join(os.path.dirname(path), "." + token + ".part")


def accepts_buffers(sha256: str) -> bool:
    """Return True if the buffer of the request arrives here; kernels may drop it."""
    try:
        return hashlib.sha256(_buffer()).hexdigest() == sha256
    except Exception:
        return False


def _buffer() -> bytes:
    """Return the buffer of the request that is being executed, as ipykernel has it."""
    from IPython import get_ipython

    return bytes(get_ipython().kernel.get_parent("shell")["buffers"][0])


def write(path: str, token: str, offset: int, data: object) -> int:
    """Write a chunk, base64 text or None for the request's buffer, and return its size."""
    chunk = _buffer() if data is None else base64.b64decode(str(data))
    with open(_part(path, token), "r+b") as file:
        file.seek(offset)
        return file.write(chunk)


def end_upload(path: str, token: str, size: int, sha256: str) -> bool:
    """Compare the digest, and give the file its name; return True if it has it."""
    part = _part(path, token)
    if not os.path.exists(part):
        return os.path.exists(path) and digest(path) == [size, sha256]
    if digest(part) != [size, sha256]:
        return False
    with open(part, "r+b") as file:
        os.fsync(file.fileno())  # else a crash of the system could leave an empty file
    try:
        mode = os.stat(path).st_mode & 0o7777
    except OSError:
        mode = _new_file_mode(part + ".mode")
    with contextlib.suppress(OSError):
        os.chmod(part, mode)
    os.replace(part, path)
    return True


def _new_file_mode(probe: str) -> int:
    """Return the permissions that a new file gets.

    Python can read the umask only by changing it, for all threads.  So an empty file is made.
    """
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
    try:
        return os.stat(probe).st_mode & 0o7777
    finally:
        os.unlink(probe)


def discard(path: str, token: str) -> None:
    """Remove what an upload that failed has left."""
    with contextlib.suppress(OSError):
        os.unlink(_part(path, token))


def find(remote: str) -> list[object]:
    """Return the absolute path and the size of a file."""
    path = os.path.abspath(os.path.expanduser(remote))
    if os.path.exists(path) and not os.path.isfile(path):  # reading a device may never end
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, "rb") as file:
        return [path, os.fstat(file.fileno()).st_size]


def read(path: str, offset: int, size: int) -> bytes:
    """Return a chunk."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def digest(path: str) -> list[object]:
    """Return the size and the SHA-256 digest of a file."""
    whole, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while True:
            chunk = file.read(1 << 20)
            if not chunk:
                return [size, whole.hexdigest()]
            whole.update(chunk)
            size += len(chunk)
