"""Real servers of every kind that speaks the gateways' API, each in a process of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.ports import free_port
from support.rawserver import certificate

_START = 60.0  # seconds that a server may take
_STOP = 3.0  # then it is killed; its kernels notice that
_HOST = "127.0.0.1"
# Files for the sockets of kernels: a port that is free now may be taken when a kernel listens.
_IPC = "--KernelManager.transport=ipc"
_PASSED_ON = "IPYTHONDIR"  # the history of kernels is not to go where its user has his own


@dataclass
class Server:
    """A server that runs, and what a client has to know of it."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of GatewayClient, besides the url."""

    def client_options(self) -> dict[str, Any]:
        return {"url": self.url, **self.options}


def own_gateway(*args: str, **options: Any) -> LocalGateway:
    """A Kernel Gateway for a test of its own, with these arguments on its command line."""
    return LocalGateway(kernel_gateway_args=[*args, _IPC], **options)


def upstream_of(gateway: LocalGateway) -> tuple[str, int]:
    """Where it listens, for a proxy."""
    parts = urlsplit(gateway.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@contextmanager
def proxy_of(gateway: LocalGateway) -> Iterator[FaultProxy]:
    with FaultProxy(*upstream_of(gateway)) as proxy:
        yield proxy


def kernels_of(gateway: LocalGateway) -> list[str]:
    """The ids of the kernels that run on the gateway, which answers 500 while one is started."""
    again = HTTPAdapter(max_retries=Retry(8, status_forcelist=[500], backoff_factor=0.02))
    headers = {"Authorization": f"token {gateway.token}"}
    with requests.Session() as session:
        session.mount("http://", again)
        response = session.get(f"{gateway.url}/api/kernels", headers=headers, timeout=30)
    response.raise_for_status()
    return [kernel["id"] for kernel in response.json()]


@contextmanager
def running(command: Sequence[str], url: str, folder: Path, **env: str) -> Iterator[None]:
    """A server, from when it listens until the end of the ``with``; its log is in the folder."""
    unwanted = ("JUPYTER_", "KG_", "EG_", "KERNEL_")
    given = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    given["JUPYTER_CONFIG_DIR"] = str(folder)
    # The sockets of its kernels are files, whose paths have at most 107 characters.
    with TemporaryDirectory(ignore_cleanup_errors=True) as runtime:
        given["JUPYTER_RUNTIME_DIR"] = runtime
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**given, **env},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            deadline = time.monotonic() + _START
            while not _listens(url):
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


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5):
            return True
    except OSError:
        return False


def _secret(token: bool | str) -> str:
    """Return the token itself, a new one for True, none for False."""
    return token if isinstance(token, str) else secrets.token_urlsafe(16) if token else ""


@contextmanager
def kernel_gateway(
    folder: Path, *args: str, token: bool | str = True, base: str = "", scheme: str = "http"
) -> Iterator[Server]:
    """A Kernel Gateway."""
    port, secret = free_port(), _secret(token)
    command = [sys.executable, "-m", "kernel_gateway", f"--KernelGatewayApp.port={port}", _IPC]
    command += [f"--KernelGatewayApp.base_url={base or '/'}", *args]
    url = f"{scheme}://{_HOST}:{port}{base}"
    with running(command, url, folder, KG_AUTH_TOKEN=secret, KG_ENV_PROCESS_WHITELIST=_PASSED_ON):
        yield Server(url, {"auth_token": secret} if token else {})


@contextmanager
def encrypted_kernel_gateway(folder: Path, *, client_cert: bool = False) -> Iterator[Server]:
    """A Kernel Gateway with TLS, which may ask for a certificate of the client, too."""
    _, cert = certificate(folder)
    args = [f"--KernelGatewayApp.certfile={cert}"]
    args += [f"--KernelGatewayApp.keyfile={folder / 'key.pem'}"]
    options = {"ca_certs": cert}
    if client_cert:
        (folder / "client").mkdir()
        _, own = certificate(folder / "client")
        args += [f"--KernelGatewayApp.client_ca={own}"]
        options |= {"client_cert": own, "client_key": str(folder / "client" / "key.pem")}
    with kernel_gateway(folder, *args, scheme="https") as server:
        yield Server(server.url, {**server.options, **options})


@contextmanager
def jupyter_server(
    folder: Path,
    *args: str,
    token: bool | str = True,
    base: str = "/",
    gateway: Server | None = None,
) -> Iterator[Server]:
    """A Jupyter Server: with a token or without any login, under a base URL as JupyterHub's
    users have it, with kernels of its own or as a proxy in front of a gateway."""
    port, secret = free_port(), _secret(token)
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", _IPC]
    command += [f"--ServerApp.port={port}", f"--ServerApp.base_url={base}"]
    command += [f"--IdentityProvider.token={secret}", f"--ServerApp.root_dir={folder}", *args]
    if gateway is not None:
        command += [f"--gateway-url={gateway.url}"]
        command += [f"--GatewayClient.auth_token={gateway.options['auth_token']}"]
    url = f"http://{_HOST}:{port}{base.rstrip('/')}"
    with running(command, url, folder):
        yield Server(url, {"auth_token": secret} if token else {})


@contextmanager
def enterprise_gateway(folder: Path, python: str) -> Iterator[Server]:
    """An Enterprise Gateway with kernels on this machine, of an environment of its own."""
    port, secret = free_port(), secrets.token_urlsafe(16)
    command = [python, "-m", "enterprise_gateway", f"--EnterpriseGatewayApp.port={port}", _IPC]
    command += ["--EnterpriseGatewayApp.unauthorized_users=nobody"]  # root may start kernels
    url = f"http://{_HOST}:{port}"
    with running(command, url, folder, EG_AUTH_TOKEN=secret, EG_ENV_PROCESS_WHITELIST=_PASSED_ON):
        yield Server(url, {"auth_token": secret})


# Of what it requires, an old pyzmq cannot be had any more; the new one does.
_WITH_ENTERPRISE_GATEWAY = (
    *("jupyter_server==1.24.0", "jupyter_client==6.1.12", "ipykernel<7", "setuptools", "pyzmq"),
    *("docker", "future", "kubernetes", "paramiko", "pexpect", "pycryptodomex", "requests"),
    *("watchdog", "yarn-api-client"),
)


# The jupyter_client that it needs is of 2021, and cannot be imported on newer ones.
_NEWEST_FOR_ENTERPRISE_GATEWAY = (3, 13)


def _python_for_enterprise_gateway() -> str:
    """Return a Python that runs an Enterprise Gateway: this one, or another of this machine."""
    if sys.version_info[:2] <= _NEWEST_FOR_ENTERPRISE_GATEWAY:
        return sys.executable
    condition = f"(3, 9) <= sys.version_info[:2] <= {_NEWEST_FOR_ENTERPRISE_GATEWAY}"
    look = f"import ensurepip, sys, venv; sys.exit(not {condition})"
    for candidate in _pythons():  # each has to show it: some are only names of pyenv's
        if not subprocess.run([candidate, "-c", look], capture_output=True, check=False).returncode:
            return str(candidate)
    newest = ".".join(map(str, _NEWEST_FOR_ENTERPRISE_GATEWAY))
    pytest.skip(f"an Enterprise Gateway needs Python 3.9 to {newest}, and none is here")


def _pythons() -> Iterator[Path]:
    """Yield what may be a Python, on the PATH and among pyenv's."""
    names = ("python3.11", "python3.12", "python3.13", "python3.10", "python3.9", "python3")
    folders = [Path(folder) for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted(pyenv.glob("versions/*/bin"))
    for name in names:
        yield from (path for folder in folders if (path := folder / name).is_file())


def environment_of_enterprise_gateway(folder: Path) -> str:
    """The Python of a virtual environment with an Enterprise Gateway, made where there is none.

    It needs versions of everything that nothing else here could do with, also of Python.
    """
    done, python = folder / "done", folder / "bin" / "python"
    if not done.exists():
        base = _python_for_enterprise_gateway()
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True, timeout=120)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        for packages in (
            _WITH_ENTERPRISE_GATEWAY,
            ("--no-deps", "jupyter_enterprise_gateway==3.3.0"),
        ):
            made = subprocess.run(
                [*pip, *packages], capture_output=True, text=True, timeout=600, check=False
            )
            if made.returncode:
                pytest.skip(f"an Enterprise Gateway cannot be installed: {made.stderr[-500:]}")
        done.touch()
    return str(python)


_NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port} ssl;
    ssl_certificate {cert}; ssl_certificate_key {folder}/key.pem;
    client_max_body_size 100m;
    location / {{
      proxy_pass {url};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout {idle}s;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, gateway: Server, idle: int) -> Iterator[Server]:
    """A reverse proxy with TLS in front of a gateway, that ends what is idle for some seconds."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    _, cert = certificate(folder)
    port = free_port()
    text = _NGINX.format(
        folder=folder, host=_HOST, port=port, cert=cert, url=gateway.url, idle=idle
    )
    (folder / "nginx.conf").write_text(text)
    url = f"https://{_HOST}:{port}"
    with running([program, "-c", str(folder / "nginx.conf")], url, folder):
        yield Server(url, {**gateway.options, "ca_certs": cert})
