"""A bridge as VS Code's extension starts, uses and ends it, step by step.

The steps are those of vscode-jupyter of July 2026: ``kernelLauncher.node.ts`` (ports and file),
``kernelProcess.node.ts`` (process, polls, end), ``rawSocket.node.ts`` (sockets) and
``rawKernelConnection.node.ts`` (first requests, interrupt).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.session import Session

from gateway_blocking.local import LocalGateway
from support.bridges import bridge_kernelspec
from support.servers import free_port, kernels_of
from support.waiting import wait_until

PORTS = ("hb_port", "control_port", "shell_port", "stdin_port", "iopub_port")


@pytest.fixture(scope="module")
def spec(gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The content of the kernelspec's file, which is all that VS Code has of it."""
    with bridge_kernelspec(gateway, tmp_path_factory.mktemp("bridge")) as folder:
        yield json.loads((folder / "kernel.json").read_text())


class Editor:
    """What the extension does with the kernel of a notebook."""

    def __init__(self, spec: Any, folder: Path) -> None:
        self._spec = spec
        self.workspace = folder / "a work space"
        self.workspace.mkdir()
        self._runtime = folder / "Application Support" / "jupyter"
        self._runtime.mkdir(parents=True)
        self.context = zmq.Context()
        self.process: subprocess.Popen[str]
        self.file: Path
        self.start()

    def __enter__(self) -> Editor:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()
        self.context.destroy(linger=0)

    def start(self) -> None:
        """Choose ports, write the file, start the process, and wait for two of the ports."""
        ports: dict[str, int] = dict(zip(PORTS, _free_ports(), strict=True))
        connection = {
            "key": str(uuid.uuid4()),
            "signature_scheme": "hmac-sha256",
            "transport": "tcp",
            "ip": "127.0.0.1",
            **ports,
            "kernel_name": "work-python3",
        }
        self.file = self._runtime / f"kernel-v3{uuid.uuid4().hex}.json"
        self.file.write_text(json.dumps(connection))
        argv = [each.replace("{connection_file}", str(self.file)) for each in self._spec["argv"]]
        self.process = subprocess.Popen(
            argv,
            cwd=self.workspace,
            env={**os.environ, "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("shell_port", "iopub_port"):
            wait_until(lambda port=ports[name]: _is_used(port))
        self.session = Session(key=connection["key"].encode())
        identity = str(uuid.uuid4()).encode()
        self.sockets = {}
        for name in ("iopub", "shell", "control", "stdin"):
            made = self.context.socket(zmq.SUB if name == "iopub" else zmq.DEALER)
            made.linger = 0
            if name == "iopub":
                made.subscribe(b"")
            else:
                made.routing_id = identity  # the same for all three
            made.connect(f"tcp://127.0.0.1:{ports[f'{name}_port']}")
            self.sockets[name] = made

    def wait_until_ready(self) -> None:
        """Ask for the kernel's information on two channels, again after half a second."""
        for _ in range(120):
            for channel in ("control", "shell"):
                self.send(channel, "kernel_info_request", {})
            if self.sockets["shell"].poll(500) and self.sockets["iopub"].poll(500):
                return
        pytest.fail("the kernel does not answer")

    def send(self, channel: str, msg_type: str, content: dict[str, Any]) -> str:
        message = self.session.msg(msg_type, content)
        self.session.send(self.sockets[channel], message)
        return str(message["msg_id"])

    def receive(self, channel: str, **wanted: Any) -> dict[str, Any]:
        """The content of the next message of this kind, with these items in it."""
        while self.sockets[channel].poll(60_000):
            _, message = self.session.recv(self.sockets[channel])
            content: dict[str, Any] = message["content"]
            if all(content.get(name) == value for name, value in wanted.items()):
                return content
        raise AssertionError(f"no {wanted} came on {channel}")

    def execute(self, code: str) -> dict[str, Any]:
        """The reply to code, which may ask for input."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": True}
        msg_id = self.send("shell", "execute_request", content)
        while self.sockets["shell"].poll(60_000):
            _, message = self.session.recv(self.sockets["shell"])
            if message["parent_header"]["msg_id"] == msg_id:
                reply: dict[str, Any] = message["content"]
                return reply
        raise AssertionError("no reply came")

    def dispose(self) -> None:
        """End the tree of processes by their parents, then the process; delete the file."""
        for made in self.sockets.values():
            made.close()
        if self.process.poll() is None:
            for pid in _children_of(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            self.process.terminate()
        self.file.unlink(missing_ok=True)
        with suppress(ValueError):  # it has ended, and its output was read
            self.process.communicate(timeout=60)


def _free_ports() -> list[int]:
    ports: set[int] = set()
    while len(ports) < len(PORTS):
        ports.add(free_port())
    return sorted(ports)


def _is_used(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _children_of(pid: int) -> list[int]:
    """The processes below another one, as ``ps`` shows them to the extension."""
    table = subprocess.run(
        ["ps", "-A", "-o", "ppid,pid"], capture_output=True, text=True, check=True
    ).stdout
    parents: dict[int, list[int]] = {}
    for line in table.splitlines()[1:]:
        parent, child = map(int, line.split())
        parents.setdefault(parent, []).append(child)
    found, wanted = [], [pid]
    while wanted:
        children = parents.get(wanted.pop(), [])
        found += children
        wanted += children
    return found


def test_the_kernelspec_is_one_that_is_shown(spec: Any) -> None:
    """VS Code hides a kernelspec whose program or interpreter is not on this machine.

    It replaces the arguments of one that starts ipykernel, and puts quotes around the path of the
    file if that is not an argument of its own.
    """
    assert Path(spec["argv"][0]).is_absolute()
    assert spec["argv"].index("{connection_file}") == spec["argv"].index("-f") + 1
    assert "ipykernel" not in " ".join(spec["argv"])
    assert not {"interpreter", "vscode", "originalSpecFile"} & set(spec["metadata"])
    assert spec["interrupt_mode"] == "message"


def test_a_session(spec: Any, gateway: LocalGateway, tmp_path: Path) -> None:
    """Start, first requests, code, input(), interrupt, restart: a new process, and a new kernel."""
    before = set(kernels_of(gateway))
    with Editor(spec, tmp_path) as editor:
        editor.wait_until_ready()
        assert editor.execute("import sys; print('from', sys.argv[0])")["status"] == "ok"
        assert "from" in editor.receive("iopub", name="stdout")["text"]

        editor.send("shell", "execute_request", {"code": "x = input('? ')", "allow_stdin": True})
        assert editor.receive("stdin")["prompt"] == "? "
        editor.send("stdin", "input_reply", {"value": "typed"})
        assert editor.execute("assert x == 'typed'")["status"] == "ok"

        code = "print('begun', flush=True); import time; time.sleep(600)"
        editor.send("shell", "execute_request", {"code": code})
        editor.receive("iopub", text="begun\n")
        editor.send("control", "interrupt_request", {})
        assert editor.receive("iopub", ename="KeyboardInterrupt")

        kernels = set(kernels_of(gateway)) - before
        assert len(kernels) == 1
        editor.dispose()
        assert editor.process.returncode == 128 + signal.SIGTERM
        editor.start()
        editor.wait_until_ready()
        assert editor.execute("x")["ename"] == "NameError"
        assert not kernels & set(kernels_of(gateway))


@pytest.mark.usefixtures("gateway")
def test_a_kernel_that_dies(spec: Any, tmp_path: Path) -> None:
    """VS Code shows the standard error of a process that has ended: one line that says why."""
    with Editor(spec, tmp_path) as editor:
        editor.wait_until_ready()
        editor.send("shell", "execute_request", {"code": "import os; os._exit(1)"})
        _, err = editor.process.communicate(timeout=60)
    assert editor.process.returncode == 1
    assert len(err.splitlines()) == 1, err
    assert "restarted, or crashed" in err
    assert "wait_for_ready" not in err, "it is advice for a program"
