"""Kernels beside ipykernel, by the names of their kernelspecs, and where they can be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_core.paths import SYSTEM_JUPYTER_PATH

# setup.cfg installs the Python ones, where they can be installed, and .ci/run installs IRkernel.
# async-kernel is not among them, because no test can rely on it.  Its threads receive and send on
# one ZMQ socket without a common lock, and libzmq then ends the process now and then ("Assertion
# failed: _state == term_ack_sent", src/pipe.cpp).  Without any gateway, 9 of 20 kernels died while
# clients came and went, and none of 7 ipykernels (async-kernel 0.23.1, pyzmq 27.3).
MISSING = {
    "py": (sys.version_info >= (3, 15), "ipymini has no wheels for Python 3.15 yet"),
    "xpython": (sys.version_info >= (3, 15), "xeus-python has no wheels for Python 3.15 yet"),
    "ir": (
        not any(Path(folder, "kernels", "ir").exists() for folder in SYSTEM_JUPYTER_PATH),
        "IRkernel (Debian's r-cran-irkernel) is not installed: R is not tested",
    ),
}


def deaf_cell(begun: Path) -> str:
    """Return the code of a cell that no interrupt ends, and that makes a file when it has begun.

    Shutting a kernel down interrupts it first, and ipykernel 6 replies to that (KeyboardInterrupt)
    before it goes.
    """
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    return f"import signal, time; {ignore}; open({str(begun)!r}, 'w').close(); time.sleep(60)"


def needs(name: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs this kernel: it is skipped if that cannot be had."""
    missing, reason = MISSING[name]
    return pytest.mark.skipif(missing, reason=reason)


def available(*names: str) -> list[Any]:
    """Return the names as parameters of a test; those are skipped that cannot be had."""
    return [pytest.param(name, marks=needs(name)) for name in names]
