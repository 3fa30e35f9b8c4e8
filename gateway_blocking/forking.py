"""What a process that was forked inherits from its parent, and must not use.

The child has a copy of every object, but none of the threads.  Its locks may be held for ever by
a thread that is not there, and its sockets lead to the same connections as the parent's, where a
word of the child's would be taken for the parent's.  So each object that has such a thing says so
here, and is told in the child, where :meth:`Inherited.after_fork` makes it harmless.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Inherited", "tell_after_fork"]


class Inherited(Protocol):
    """What is no good in a child process as it is."""

    def after_fork(self) -> None:
        """Begin anew in the child, before any other code runs there; neither fail nor wait."""


_inherited: WeakSet[Inherited] = WeakSet()


def tell_after_fork(thing: Inherited) -> None:
    """Have `thing` told in a child process, as long as it exists."""
    _inherited.add(thing)


def _tell() -> None:
    for thing in list(_inherited):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_tell)
