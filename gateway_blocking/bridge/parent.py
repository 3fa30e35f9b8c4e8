"""The process that started a bridge: a bridge ends when its front end has ended.

jupyter_client names itself in an environment variable, as ipykernel expects it: with its process
ID, and on Windows with a handle of its process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

__all__ = ["ParentProcess", "is_orphan", "names_parent"]

_VARIABLE = "JPY_PARENT_PID"
_INIT = 1  # the process that becomes the parent of orphans


def names_parent(environment: Mapping[str, str]) -> bool:
    """Return True if a process started this one that wants it to end with itself."""
    return bool(environment.get(_VARIABLE))


def is_orphan(parent: int, first_parent: int, started_by: str) -> bool:
    """Return True if the process that started this one has ended, on POSIX.

    Parameters
    ----------
    parent : int
        Process ID of the parent now.
    first_parent : int
        Process ID of the parent when this was looked up first.
    started_by : str
        Process ID of the front end, or "" if that is unknown.  It may have ended before the parent
        was looked up first.
    """
    return parent != first_parent or (parent == _INIT and started_by not in ("", str(_INIT)))


class ParentProcess:
    """The process that started this one.

    Parameters
    ----------
    environment : mapping
        The environment variables of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._started_by = environment.get(_VARIABLE, "")
        self._parent = _parent(self._started_by)

    def has_ended(self) -> bool:
        """Return True if it has ended; False also if that cannot be known."""
        return _has_ended(self._parent, self._started_by)


if sys.platform == "win32":
    # Windows does not tell that the parent of a process has ended, and uses its ID again.
    from _winapi import SYNCHRONIZE, WAIT_OBJECT_0, OpenProcess, WaitForSingleObject

    def _parent(started_by: str) -> int:
        """Return a handle of the parent; 0 if there is none."""
        try:
            return int(started_by) if started_by else OpenProcess(SYNCHRONIZE, False, os.getppid())
        except (OSError, ValueError):  # it has ended, or belongs to another user
            return 0

    def _has_ended(parent: int, started_by: str) -> bool:
        try:
            return parent != 0 and WaitForSingleObject(parent, 0) == WAIT_OBJECT_0
        except OSError:  # no such handle: the variable was inherited from another process
            return False

else:

    def _parent(started_by: str) -> int:
        """Return the process ID of the parent."""
        return os.getppid()

    def _has_ended(parent: int, started_by: str) -> bool:
        return is_orphan(os.getppid(), parent, started_by)
