"""The working directory of a front end, as the kernel's machine calls it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import NamedTuple

__all__ = ["DirectoryMap", "remote_directory"]


class DirectoryMap(NamedTuple):
    """A directory of this machine that the kernel's machine has, too, such as a network drive."""

    local: PurePath
    """Absolute path here."""
    remote: str
    """Path there."""

    def __str__(self) -> str:
        return f"{self.local}={self.remote}"


def remote_directory(local: PurePath, maps: Iterable[DirectoryMap]) -> str:
    """Return what the kernel's machine calls a directory: by the map with the longest `local`.

    A directory that is in none of them keeps its name.

    >>> from pathlib import PurePosixPath as Path
    >>> remote_directory(Path("/home/ada/a"), [DirectoryMap(Path("/home/ada"), "/mnt/ada/")])
    '/mnt/ada/a'
    """
    fitting = [each for each in maps if local.is_relative_to(each.local)]
    if not fitting:
        return str(local)
    best = max(fitting, key=lambda each: len(each.local.parts))
    below = local.relative_to(best.local).as_posix()
    return best.remote if below == "." else f"{best.remote.rstrip('/')}/{below}"
