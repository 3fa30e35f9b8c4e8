"""Deprecated names of a module's public objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["deprecated_names"]


def deprecated_names(
    module: str, successors: Mapping[str, Any], *, stacklevel: int = 2
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that knows objects by deprecated names, too.

    Parameters
    ----------
    module : str
        Name of the module.
    successors : mapping
        For each deprecated name the object, whose ``__name__`` is the new name.
    stacklevel : int
        Number of calls between the warning and the code that uses the name.
    """

    def getattr_(name: str) -> Any:
        if name not in successors:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        successor = successors[name]
        warnings.warn(
            f"{name} is deprecated, use {successor.__name__}",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
        return successor

    return getattr_
