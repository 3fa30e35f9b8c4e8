"""Hooks that make inherited objects harmless in a forked child process.

The child has a copy of every object, but none of the threads.  A thread that does not exist in the
child may hold the copy's locks for ever, and the copy's sockets lead to the same connections as the
parent's, so that the peer would take what the child sends for the parent's.  An object that owns
such a thing registers one of its methods here.  The method runs in the child, before any other code
there.  It must not wait, and must not fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

__all__ = ["register_after_fork"]

# Not WeakMethods: they write errors to standard error if they die with the interpreter.
_callbacks: WeakKeyDictionary[object, Callable[[Any], None]] = WeakKeyDictionary()


def register_after_fork(method: Callable[[], None]) -> None:
    """Call this bound method in every child process, as long as its object exists."""
    bound = cast("MethodType", method)
    _callbacks[bound.__self__] = bound.__func__


def _run_callbacks() -> None:
    for thing, function in list(_callbacks.items()):
        function(thing)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_run_callbacks)
