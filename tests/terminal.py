"""``jupyter gateway`` as a person uses it: in a terminal, in a directory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gateway_blocking.local import LocalGateway


class Terminal:
    """A directory to work in, with ``jupyter gateway`` and the session's gateway configured."""

    def __init__(self, directory: Path, gateway: LocalGateway) -> None:
        self.directory = directory
        self.gateway = gateway
        self.env = {
            **os.environ,
            "JUPYTER_GATEWAY_URL": gateway.url,
            "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token,
            "JUPYTER_GATEWAY_CONNECT_TIMEOUT": "5",
            "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),  # no kernels of ours yet
        }

    def popen(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway_blocking", *args],
            cwd=self.directory,
            env={**self.env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *args: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        with self.popen(*args, **env) as process:
            out, err = process.communicate(typed, timeout=90)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def write(self, name: str, code: str) -> str:
        (self.directory / name).write_text(code)
        return name

    def notebook(self, name: str, *cells: str) -> str:
        nb = new_notebook(cells=[new_markdown_cell("# A title"), *map(new_code_cell, cells)])
        return self.write(name, nbformat.writes(nb))

    def read(self, name: str) -> Any:
        return nbformat.read(self.directory / name, as_version=4)

    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}


def wait_for(path: Path, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.splitlines()


def without_a_gateway(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith("JUPYTER_GATEWAY_")}
