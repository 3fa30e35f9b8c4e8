"""``jupyter gateway`` as a person uses it: in a terminal, in a directory."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway_blocking.local import LocalGateway


class Terminal:
    """A directory to work in, with ``jupyter gateway`` and the session's gateway configured."""

    def __init__(self, directory: Path, gateway: LocalGateway) -> None:
        self.directory = directory
        self.gateway = gateway
        self.encoding: str | None = None  # of what the commands read and write: the locale's
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
            encoding=self.encoding,
        )

    def __call__(self, *args: str, typed: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        with self.popen(*args, **env) as process:
            out, err = process.communicate(typed, timeout=90)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def write(self, name: str, code: str) -> str:
        (self.directory / name).write_text(code)
        return name

    def notebook(self, name: str, *cells: str) -> str:
        import nbformat  # which takes a second, and most tests have no notebook
        from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

        nb = new_notebook(cells=[new_markdown_cell("# A title"), *map(new_code_cell, cells)])
        return self.write(name, nbformat.writes(nb))

    def read(self, name: str) -> Any:
        import nbformat

        return nbformat.read(self.directory / name, as_version=4)

    def files(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}


ON_THIS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""


class Person:
    """Somebody who types at a pseudo terminal, and reads what appears there."""

    module = "gateway_blocking"

    def __init__(self, terminal: Terminal, *args: str, **env: str) -> None:
        self._keyboard, there = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_THIS_TERMINAL, self.module, *args],
            cwd=terminal.directory,
            env={
                **terminal.env,
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",
                "PYTHONFAULTHANDLER": "1",
                **env,
            },
            stdin=there,
            stdout=there,
            stderr=there,
            start_new_session=True,
        )
        os.close(there)
        self._unread = ""

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:  # a test has failed: its kernel is not to disturb others
            self._is_told_to_end()
        os.close(self._keyboard)

    def _is_told_to_end(self) -> None:
        self.process.terminate()
        reader = threading.Thread(target=self._reads_on)
        reader.start()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler tells where it stands
            time.sleep(1)
        finally:
            self.process.kill()
            self.process.wait(60)
            reader.join(60)
            print(f"The end of what the person saw:\n{self._unread}")

    def types(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def sees(self, pattern: str, within: float = 60) -> str:
        """What was there until `pattern`, and that; what comes after it is seen next."""
        deadline = time.monotonic() + within
        while not (found := re.search(pattern, self._unread, re.DOTALL)):
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self._unread!r}"
            if select.select([self._keyboard], [], [], 0.1)[0]:
                more = os.read(self._keyboard, 4096).decode(errors="replace")
                self._unread = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._unread + more)
        self._unread = self._unread[found.end() :]
        return found.string[: found.end()]

    def ends(self) -> tuple[int, str]:
        """The exit status, and all that was left to read."""
        self._reads_on()
        return self.process.wait(30), self._unread

    def _reads_on(self, within: float = 60) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if select.select([self._keyboard], [], [], 0.1)[0]:
                try:
                    self._unread += os.read(self._keyboard, 4096).decode(errors="replace")
                except OSError:  # how Linux says that nobody has the other end any more
                    return
            elif self.process.poll() is not None:
                return


def wait_for(path: Path, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.splitlines()


def without_a_gateway(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith("JUPYTER_GATEWAY_")}
