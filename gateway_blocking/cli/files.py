"""Text files and standard input are read; a file is replaced whole, or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..local_files import new_file_mode, permissions, replacement, resolve_links
from .errors import UsageError

__all__ = ["check_writable", "read_standard_input", "read_text", "replace_file"]


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text") from error


def read_standard_input() -> str:
    """Return the text of standard input: UTF-8, or else the encoding of the locale.

    The bytes are decoded here, because ``sys.stdin`` accepts any bytes in the locale C.
    """
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    data = sys.stdin.buffer.read()
    for encoding in ("utf-8-sig", sys.stdin.encoding):
        try:
            return data.decode(encoding).replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue
    raise UsageError("cannot read standard input: it is not UTF-8 text")


def check_writable(path: Path) -> None:
    """Raise UsageError if :func:`replace_file` could not write a file."""
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is not a regular file")
    directory = path.parent
    if not os.access(directory, os.W_OK):
        exists = directory.is_dir()
        why = "its directory is not writable" if exists else "there is no such directory"
        raise UsageError(f"cannot write {path}: {why}")


def replace_file(path: Path, data: bytes, *, source: Path | None = None) -> None:
    """Write a file so that either the whole old file or the whole new one is there at any time.

    Until the new file has its name, only this user can read it.

    Parameters
    ----------
    path : Path
        Path of the file.  If it is a symbolic link, the file that it points to is replaced.
    data : bytes
        New content of the file.
    source : Path, optional
        File that `data` was made from.  A new file gets its permissions, less the umask; a file
        that existed keeps its own.

    Raises
    ------
    UsageError
        The file cannot be written, it is not a regular file (such as a device, which must not be
        replaced), or it is a symbolic link of another user.
    """
    try:
        target = resolve_links(path)
        mode = None
        if source is not None and not target.exists():
            mode = new_file_mode(target.parent, permissions(source))
        with replacement(target, mode) as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
