"""Files of this machine that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["check_regular", "new_file_mode", "permissions", "replacement", "resolve_links"]

_MAX_LINKS = 40  # the limit of Linux


@contextmanager
def replacement(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """Give a file to write; at the end it gets the name `path`, unless there was an error.

    Either the whole old file or the whole new one has the name at any time.  Until the new file
    has it, only this user can read it.

    Parameters
    ----------
    path : Path
        Path of the file, after :func:`resolve_links`.
    mode : int, optional
        Permissions of the file if it is new; by default those of any new file.  A file that
        existed keeps its own.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    # mkstemp() uses O_EXCL, mode 0600, and a name that cannot be guessed.
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    except OSError as error:  # it names the temporary file, which the caller does not know
        raise OSError(error.errno, error.strerror, str(path)) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)  # else a crash of the system could leave an empty file of that name
        if path.exists():
            mode = permissions(path)
        part.chmod(new_file_mode(path.parent) if mode is None else mode)
        part.replace(path)
    finally:
        with suppress(OSError):  # the folder may be gone; the first error says so
            part.unlink(missing_ok=True)


def resolve_links(path: Path) -> Path:
    """Return the target of a path; follow symbolic links of this user and of root only.

    Raises
    ------
    OSError
        A link belongs to another user, or the target is not a regular file, such as a device,
        which must not be replaced.
    """
    for _ in range(_MAX_LINKS):
        if not path.is_symlink():
            break
        owner = path.lstat().st_uid
        if hasattr(os, "geteuid") and owner not in (0, os.geteuid()):
            raise OSError(
                errno.EPERM,
                f"it is a symbolic link to {path.readlink()}, made by another user (uid {owner});"
                " remove it, or write to another file",
                str(path),
            )
        path = path.parent / path.readlink()
    if path.exists() and not path.is_file():
        raise _irregular(path)
    return path


def check_regular(path: Path) -> None:
    """Raise OSError if the path is of a directory, a pipe or a device.

    To open a pipe may wait without an end, and a device may have no end.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    if path.exists() and not path.is_file():
        raise _irregular(path)


def _irregular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(path))


def permissions(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def new_file_mode(folder: Path, mode: int = 0o666) -> int:
    """Return the permissions that a new file of this mode gets in a folder.

    Python can read the umask only by changing it, for all threads.  So an empty file is made, which
    also knows what the folder and its file system decide.
    """
    probe = folder / f".{secrets.token_hex(8)}.part"
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        os.close(handle)
        return permissions(probe)
    finally:
        probe.unlink()
