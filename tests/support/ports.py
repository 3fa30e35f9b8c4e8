"""Ports for servers and kernels that are told where to listen, in another process and later.

A port of the system's choice would not do: until it listens there, each outgoing connection of this
machine and each probe of another test may be given the same one.  These ports are below the range
that the system chooses from, and each process of a test run has a range of its own.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading

_FIRST = 10_000  # Linux chooses from 32768 on, macOS and Windows from 49152 on
_PER_WORKER = 2_500
_WORKERS = 8


def _range_of(worker: str) -> range:
    """Return the ports of a process that pytest-xdist has named: "gw3", or nothing without it."""
    number = int(worker.removeprefix("gw") or 0) % _WORKERS
    return range(_FIRST + number * _PER_WORKER, _FIRST + (number + 1) * _PER_WORKER)


_lock = threading.Lock()
_mine = list(_range_of(os.environ.get("PYTEST_XDIST_WORKER", "")))
random.shuffle(_mine)  # another run on this machine does not begin with the same ones
_next = itertools.cycle(_mine)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nothing listens; it is not returned again for a long time."""
    with _lock:
        for _ in range(_PER_WORKER):
            port = next(_next)
            try:
                with socket.create_server((host, port)):
                    return port
            except OSError:
                continue
    raise RuntimeError(f"each of {_PER_WORKER} ports from {min(_mine)} on is taken")
