"""Kernels beside ipykernel, by the names of their kernelspecs, and where they can be had."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import SYSTEM_JUPYTER_PATH

# setup.cfg installs the Python ones, where they can be installed, and .ci/run installs IRkernel.
MISSING = {
    "py": (sys.version_info >= (3, 15), "ipymini has no wheels for Python 3.15 yet"),
    "async": (
        sys.version_info < (3, 12) and find_spec("async_kernel") is None,
        "async-kernel needs a newer jupyter_client than the oldest",
    ),
    "xpython": (sys.version_info >= (3, 15), "xeus-python has no wheels for Python 3.15 yet"),
    "ir": (
        not any(Path(folder, "kernels", "ir").exists() for folder in SYSTEM_JUPYTER_PATH),
        "IRkernel (Debian's r-cran-irkernel) is not installed: R is not tested",
    ),
}


def needs(name: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs this kernel: it is skipped if that cannot be had."""
    missing, reason = MISSING[name]
    return pytest.mark.skipif(missing, reason=reason)


def available(*names: str) -> list[Any]:
    """Return the names as parameters of a test; those are skipped that cannot be had."""
    return [pytest.param(name, marks=needs(name)) for name in names]
