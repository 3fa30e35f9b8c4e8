"""Files: text is read, and files are replaced whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from .errors import UsageError

__all__ = ["read_standard_input", "read_text", "replace_file"]

_MAX_LINKS = 40  # as Linux follows


def read_text(path: Path) -> str:
    """Return the text of a file, which is UTF-8, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text") from error


def read_standard_input() -> str:
    """Return the text on standard input, which is UTF-8, or else in the locale's encoding.

    Its bytes are decoded here: in the locale C, ``sys.stdin`` takes any byte for text.
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
    """Write a file so that there is always either the old or the new one, whole.

    Until it has its name, the new file can be read by this user only.

    Parameters
    ----------
    path : Path
        The file.  If it is a symbolic link, the file that it points to is replaced.
    data : bytes
        What is to be in it.
    source : Path, optional
        The file that `data` was made from.  A file that did not exist gets its permissions, less
        the umask; one that did exist keeps its own.

    Raises
    ------
    UsageError
        It cannot be written, it is something else than a file (a device, say, which must not be
        replaced), or it is a symbolic link that another user made.
    """
    try:
        target = _resolve_links(path)
        if target.exists() and not target.is_file():
            raise UsageError(f"cannot write {path}: it is not a regular file")
        mode = _mode(target) if target.exists() else _mode(source) & ~_UMASK if source else None
        # O_EXCL, 0600, and a name that cannot be foreseen.
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
        with suppress(OSError):  # of a folder that is gone, which was told
            new.unlink(missing_ok=True)


def _resolve_links(path: Path) -> Path:
    """Return what a path stands for, through links of this user's or of the administrator's."""
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
    umask = os.umask(0o077)  # there is no other way to ask for it
    os.umask(umask)
    return umask


_UMASK = _umask()  # read here once, since it belongs to all threads
