"""Real servers of every kind that speaks the gateways' API, each in a process of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

_START = 60.0  # seconds that a server may take
_STOP = 20.0


@dataclass
class Server:
    """A server that runs, and what a client has to know of it."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of GatewayClient, besides the url."""

    def client_options(self) -> dict[str, Any]:
        return {"url": self.url, **self.options}


@contextmanager
def running(
    command: Sequence[str], url: str, folder: Path, ready: int | None = None, **env: str
) -> Iterator[None]:
    """A server, from when it answers until the end of the ``with``; its log is in the folder."""
    unwanted = ("JUPYTER_", "KG_", "EG_", "KERNEL_")
    given = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    given |= {f"JUPYTER_{name}_DIR": str(folder) for name in ("CONFIG", "RUNTIME")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**given, **env},
            cwd=folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + _START
        while not answers(url, ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not run: {(folder / 'log').read_text()}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str, ready: int | None) -> bool:
    """Whether somebody answers there, with this status if one is given."""
    try:
        status = requests.get(url, timeout=5, verify=False).status_code
    except requests.RequestException:
        return False
    return ready is None or status == ready


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def jupyter_server(
    folder: Path, *, token: bool = True, base: str = "/", gateway: Server | None = None
) -> Iterator[Server]:
    """A Jupyter Server: with a token or without any login, under a base URL as JupyterHub's
    users have it, with kernels of its own or as a proxy in front of a gateway."""
    port, secret = free_port(), secrets.token_urlsafe(16) if token else ""
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", f"--ServerApp.base_url={base}"]
    command += [f"--IdentityProvider.token={secret}", f"--ServerApp.root_dir={folder}"]
    if gateway is not None:
        command += [f"--gateway-url={gateway.url}"]
        command += [f"--GatewayClient.auth_token={gateway.options['auth_token']}"]
    url = f"http://127.0.0.1:{port}{base.rstrip('/')}"
    with running(command, f"{url}/api", folder, 200):
        yield Server(url, {"auth_token": secret} if token else {})


@contextmanager
def enterprise_gateway(folder: Path, python: str) -> Iterator[Server]:
    """An Enterprise Gateway with kernels on this machine, of an environment of its own."""
    port, secret = free_port(), secrets.token_urlsafe(16)
    command = [python, "-m", "enterprise_gateway", f"--EnterpriseGatewayApp.port={port}"]
    command += ["--EnterpriseGatewayApp.unauthorized_users=nobody"]  # root may start kernels
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/api", folder, EG_AUTH_TOKEN=secret):
        yield Server(url, {"auth_token": secret})
