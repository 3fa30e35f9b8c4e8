"""Text files and standard input are read; a file is replaced whole, or not at all."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import UsageError

__all__ = ["read_standard_input", "read_text", "replace_file"]

_MAX_LINKS = 40  # the limit of Linux


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
        target = _resolve_links(path)
        if target.exists() and not target.is_file():
            raise UsageError(f"cannot write {path}: it is not a regular file")
        mode = _mode(target) if target.exists() else _mode(source) & ~_UMASK if source else None
        # mkstemp() uses O_EXCL, mode 0600, and a name that cannot be guessed.
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        new.chmod(0o666 & ~_UMASK if mode is None else mode)
        new.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):  # the folder may be gone; the first error says so
            new.unlink(missing_ok=True)


def _resolve_links(path: Path) -> Path:
    """Return the target of a path; follow symbolic links of this user and of root only."""
    for _ in range(_MAX_LINKS):
        if not path.is_symlink():
            break
        owner = path.lstat().st_uid
        if hasattr(os, "geteuid") and owner not in (0, os.geteuid()):
            raise UsageError(
                f"cannot write {path}: it is a symbolic link to {path.readlink()}, made by another"
                f" user (uid {owner}); remove it, or write to another file"
            )
        path = path.parent / path.readlink()
    return path


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _umask() -> int:
    umask = os.umask(0o077)  # the only way to read it is to set it
    os.umask(umask)
    return umask


_UMASK = _umask()  # read once, at import: setting it affects all threads
