"""What the benchmark needs around it: the workers, and the servers that they talk to."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import requests

from gateway_blocking.local import LocalGateway

_FOLDER = Path(__file__).parent
_PATIENCE = 300.0  # seconds for a work
_KERNELS = 10  # for many clients
_END = 5.0  # seconds for a process to end by itself

# No token: jupyter_server's client sends none on its websocket.  No limit: it is the clients
# that are measured.
_GATEWAY = (
    "--KernelGatewayApp.auth_token=",
    "--ZMQChannelsWebsocketConnection.limit_rate=False",
)

_T = TypeVar("_T")


class Worker:
    """The process of a peer."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, work: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Let it do a work, in a process that it may have already."""
        if self._process is None:
            self._process = self._start()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": work, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._line()
        if not line.endswith(b"\n"):
            self.stop()
            return {"failed": "it ended" if line else "it did not end in time"}
        return cast("dict[str, Any]", json.loads(line))

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            _stop(self._process)
        self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, _FOLDER / "worker.py", self._peer],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for us; they end with their input
        )

    def _line(self) -> bytes:
        """A whole line, or what there is of it after the time for a work."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, line = self._process.stdout.fileno(), b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(_PATIENCE):
                part = os.read(descriptor, 1 << 16)
                if not part:
                    return line or b"?"
                line += part
        return line


class Stage:
    """The servers and kernels, each started when it is first asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[str, Any] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def arguments(self, needs: tuple[str, ...]) -> dict[str, Any]:
        """The addresses that a work needs."""
        found: dict[str, Any] = {}
        for need in needs:
            found["url" if need in ("gateway", "replay") else need] = getattr(self, f"_{need}")()
        return found

    def _gateway(self) -> str:
        def start() -> str:
            return str(self._stack.enter_context(LocalGateway(kernel_gateway_args=_GATEWAY)).url)

        return self._once("gateway", start)

    def _kernel_id(self) -> str:
        return self._once("kernel_id", self._start_kernel)

    def _kernel_ids(self) -> list[str]:
        return self._once("kernel_ids", lambda: [self._start_kernel() for _ in range(_KERNELS)])

    def _start_kernel(self) -> str:
        url = f"{self._gateway()}/api/kernels"
        answer = requests.post(url, json={"name": "python3", "env": {}}, timeout=_PATIENCE)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def _replay(self) -> str:
        return self._once("replay", self._start_replay)

    def _start_replay(self) -> str:
        process = subprocess.Popen(
            [sys.executable, _FOLDER / "replay.py"],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._stack.callback(_stop, process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}"

    def _once(self, name: str, start: Callable[[], _T]) -> _T:
        if name not in self._made:
            self._made[name] = start()
        return cast("_T", self._made[name])


def _environment() -> dict[str, str]:
    """Without a gateway of the user's own, and with compiled modules: all but ours have them."""
    others = ("JUPYTER_GATEWAY_", "KG_", "PYTHONDONTWRITEBYTECODE")
    return {k: v for k, v in os.environ.items() if not k.startswith(others)}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process with its input, or, if it does not, by force."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        process.wait(_END)
    except (OSError, subprocess.TimeoutExpired):
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


_IMPORTS = {
    "ours": "import gateway_blocking",
    "bare": "import jupyter_client, requests, websocket",
    "jkc": "import jupyter_kernel_client",
    "jserver": "import jupyter_server.gateway.managers",
}
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def import_time(peer: str) -> dict[str, Any]:
    """How long a new interpreter takes to import what it needs."""
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(_IMPORTS[peer])],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=True,
    )
    return {"found": {"seconds": float(done.stdout)}}
