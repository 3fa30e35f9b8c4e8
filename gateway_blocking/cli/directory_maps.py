"""The option ``--map`` of ``jupyter gateway install`` and ``bridge``."""

from __future__ import annotations

import os
from pathlib import Path

from ..bridge.directories import DirectoryMap
from .errors import UsageError

__all__ = ["MAP_HELP", "directory_maps"]

MAP_HELP = (
    "LOCAL=REMOTE: what the kernel's machine calls a directory of this one, for the working"
    " directory of kernels; the option may be given several times."
)


def directory_maps(texts: list[str]) -> list[DirectoryMap]:
    """Return what the values of the option say; a relative LOCAL is made absolute.

    Raises
    ------
    UsageError
        A value has another form.
    """
    return [_parse(text) for text in texts]


def _parse(text: str) -> DirectoryMap:
    local, _, remote = text.partition("=")
    if not local or not remote:
        raise UsageError(f"--map: {text!r} is not LOCAL=REMOTE, two directories")
    # Links stay: the current directory of a front end may have been reached by one.
    return DirectoryMap(Path(os.path.abspath(Path(local).expanduser())), remote)  # noqa: PTH100
