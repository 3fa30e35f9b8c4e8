"""What a test left behind: threads, processes, sockets, and kernels on its gateway."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_blocking.local import LocalGateway
from support.servers import kernels_of


@contextmanager
def nothing_left(used: LocalGateway | None = None) -> Iterator[None]:
    """Fail where a thread, a process or a socket is left, or a kernel on this gateway."""
    threads, children, sockets = set(_threads()), set(_children()), set(_sockets())
    kernels = set(kernels_of(used)) if used else set()
    yield
    _wait_for_none("threads", lambda: [t.name for t in set(_threads()) - threads])
    _wait_for_none("processes", lambda: [f"{pid} {_command(pid)}" for pid in _new(children)])
    _wait_for_none("sockets", lambda: sorted(set(_sockets()) - sockets))
    if used:
        _wait_for_none("kernels", lambda: sorted(set(kernels_of(used)) - kernels))


def _wait_for_none(what: str, left: Callable[[], list[str]]) -> None:
    """Fail where something is left, and goes on being left for five seconds."""
    deadline = time.monotonic() + 5
    while found := left():
        if time.monotonic() > deadline:
            pytest.fail(f"the test left {what} behind: {found}", pytrace=False)
        gc.collect()
        time.sleep(0.02)


def _threads() -> list[threading.Thread]:
    """Ours, and those that would keep the interpreter from ending."""
    return [t for t in threading.enumerate() if t.name.startswith("gateway-") or not t.daemon]


def _children() -> list[str]:
    """The processes that this one started, by their ids (none but on Linux)."""
    return [pid for task in Path("/proc/self/task").glob("*") for pid in _read(task / "children")]


def _new(children: set[str]) -> list[str]:
    """The processes that were not there before."""
    return sorted(set(_children()) - children)


def _command(pid: str) -> str:
    """The command line of a process, which changes when the process becomes another program."""
    return " ".join(_read(Path(f"/proc/{pid}/cmdline"), "\0"))


def _sockets() -> list[str]:
    """The open sockets of this process, by their inode numbers (none but on Linux)."""
    found = []
    for fd in Path("/proc/self/fd").glob("*"):
        try:
            found.append(str(fd.readlink()))
        except OSError:  # closed meanwhile, such as the one that lists the directory
            continue
    return [target for target in found if target.startswith("socket:")]


def _read(path: Path, separator: str | None = None) -> list[str]:
    try:
        return path.read_text().strip("\0").split(separator)
    except OSError:  # a thread or a process that ended meanwhile
        return []
