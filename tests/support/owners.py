"""Scripts that own kernels: how they run, what they tell, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway_blocking import (
    GatewayClient,
)
from gateway_blocking.rest import GatewayREST
from support.servers import Server
from support.waiting import wait_until

PREAMBLE = """
import atexit, json, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from gateway_blocking import *
from gateway_blocking import BlockingGatewayKernelManager as Manager
from gateway_blocking import reaper

def tell(**what):
    print(json.dumps(what), flush=True)

def wait():
    "Wait until the test goes on, or ends this process."
    sys.stdin.readline()

def reaper_process():
    "The ID of the process that is at the other end of the pipe."
    pipe = os.fstat(reaper._reaper._process._pipe)
    for path in Path("/proc").glob("[0-9]*"):
        try:
            theirs = os.stat(path / "fd" / "0")
            command = (path / "cmdline").read_text()
        except OSError:
            continue
        same = (theirs.st_dev, theirs.st_ino) == (pipe.st_dev, pipe.st_ino)
        if same and "reaper_process" in command and path.name != str(os.getpid()):
            return int(path.name)
"""


def environment_of(server: Server) -> dict[str, str]:
    names = {f"JUPYTER_GATEWAY_{name.upper()}": str(v) for name, v in server.options.items()}
    return {**os.environ, "JUPYTER_GATEWAY_URL": server.url, **names}


class Program:
    """A script that runs, with a gateway in its environment."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def told(self) -> dict[str, Any]:
        """Return what it tells next."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "it ended without a word"
        told: dict[str, Any] = json.loads(line)
        return told

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, number: int = 0, *, group: bool = False) -> int:
        """End it by a signal, or let it come to its end; return its exit status."""
        if group:
            os.killpg(self.process.pid, number)
        elif number:
            self.process.send_signal(number)
        else:
            self.go_on()
        return self.process.wait(60)


@contextmanager
def program(server: Server, folder: Path, code: str, *args: str, **env: str) -> Iterator[Program]:
    """A script, in a process group of its own."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(PREAMBLE + code)
    with subprocess.Popen(
        [sys.executable, str(script), *args],
        env={**environment_of(server), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def kernels(server: Server) -> set[str]:
    """The kernels that the server has."""
    with GatewayREST(GatewayClient(**server.client_options())) as rest:
        return {model["id"] for model in rest.list_kernels()}


def wait_until_gone(server: Server, *kernel_ids: str) -> None:
    wait_until(lambda: not kernels(server) & set(kernel_ids))


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


OWNER = """
km, kc = start_new_kernel()
tell(kernel=km.kernel_id)
wait()
"""


def check_both_endings(server: Server, tmp_path: Path, code: str) -> None:
    """Run it twice at the same time: one comes to its end, the other is killed."""
    with (
        program(server, tmp_path / "ends", code) as ends,
        program(server, tmp_path / "killed", code) as killed,
    ):
        for owner, number in ((ends, 0), (killed, signal.SIGKILL)):
            found = owner.told()["kernels"]
            wait_until(lambda: set(found) <= kernels(server))  # noqa: B023 - it is called now
            owner.end(number)
            wait_until_gone(server, *found)
