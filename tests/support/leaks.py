"""What a test left behind: threads, processes, sockets, and kernels on its gateway."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    tasks = _names_in("/proc/self/task")
    return [pid for task in tasks for pid in _read(f"/proc/self/task/{task}/children")]


def _new(children: set[str]) -> list[str]:
    """The processes that were not there before."""
    return sorted(set(_children()) - children)


def _command(pid: str) -> str:
    """The command line of a process, which changes when the process becomes another program."""
    return " ".join(_read(f"/proc/{pid}/cmdline", "\0"))


def _sockets() -> list[str]:
    """The open sockets of this process, by their inode numbers (none but on Linux)."""
    found = []
    for fd in _names_in("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115 - twice as fast
        except OSError:  # closed meanwhile, such as the one that lists the directory
            continue
    return [target for target in found if target.startswith("socket:")]


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - this runs several times in each test
    except OSError:  # not Linux
        return []


def _read(path: str, separator: str | None = None) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip("\0").split(separator)
    except OSError:  # a thread or a process that ended meanwhile
        return []
