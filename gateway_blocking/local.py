"""A Kernel Gateway on this machine, for a first run and for tests.

:class:`LocalGateway` starts a real ``jupyter_kernel_gateway`` in a process of its own, on a free
port of 127.0.0.1 and with a random token:

>>> with LocalGateway() as gateway:                                         # doctest: +SKIP
...     km = BlockingGatewayKernelManager(**gateway.options())

The process runs this module as well: ``_serve()`` starts a gateway, writes its URL as one line of
JSON to standard output, and ends when its standard input does.  A gateway therefore does not
outlive a parent that had no time to stop it.  Only that process imports ``kernel_gateway``, and it
imports nothing from the current folder.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Any

from .cleanup import cleaning_up
from .deadline import Deadline
from .errors import GatewayError, GatewayTimeout
from .imports import without_iri_checks
from .locks import apart
from .reaper import forget
from .timeouts import GATEWAY_EXIT_TIMEOUT, GATEWAY_KERNELS_TIMEOUT, LOCK_SLICE

__all__ = ["LocalGateway"]

_log = logging.getLogger(__name__)

_TOKEN_VARIABLE = "KG_AUTH_TOKEN"  # noqa: S105 - the name of a variable, not a token

# The program of the gateway's process.  "python -m" would look into the current folder first, and a
# tornado.py there would get the token: hence -P (see _command).  The folder of this package comes
# last on the path; it adds nothing if the package is installed.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from gateway_blocking.local import _serve; _serve()"
)


class LocalGateway:
    """A ``jupyter_kernel_gateway`` process that belongs to this one.

    It reads no Jupyter configuration.  Its kernels get the environment of this process and, if a
    client sends ``KERNEL_WORKING_DIR``, that working directory.  A gateway that was not stopped
    ends with the interpreter, or when this object is collected.

    If the environment names an HTTP proxy, ``NO_PROXY`` must exclude 127.0.0.1.

    Parameters
    ----------
    kernel_gateway_args : sequence of str
        More command-line options of ``jupyter kernelgateway``, which override those used here.
    env : mapping, optional
        Environment variables of the gateway, in addition to those of this process.  It does not
        get ``JUPYTER_GATEWAY_*`` and ``KG_*`` from this process: they would make it a proxy of
        itself, or configure it for another purpose.
    start_timeout : float
        Seconds that the gateway may take until it listens.

    Attributes
    ----------
    url, token : str
        URL and token of the gateway; the URL is empty until the gateway is started.
    log_path : Path or None
        Log file of the gateway, which exists from start to stop.
    """

    def __init__(
        self,
        *,
        kernel_gateway_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        start_timeout: float = 60,
    ) -> None:
        if isinstance(kernel_gateway_args, str):
            raise TypeError(
                "kernel_gateway_args must be a sequence of arguments, got"
                f" {kernel_gateway_args!r}: write [{kernel_gateway_args!r}]"
            )
        self.url = ""
        self._listens_at: list[str] = []
        self.token = secrets.token_urlsafe(24)
        self.log_path: Path | None = None
        self._args = tuple(kernel_gateway_args)
        self._env = dict(env or {})
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., LocalGateway] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID of the gateway, or None if it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> LocalGateway:
        """Start the gateway and wait until it listens, unless it runs already.

        Raises
        ------
        GatewayError
            A package is missing, or the gateway ended; the text has the end of its log.
        GatewayTimeout
            The gateway did not listen within `start_timeout` seconds.
        """
        if self._process:
            return self
        _require("kernel_gateway", "ipykernel")
        directory = Path(tempfile.mkdtemp(prefix="gateway-blocking-"))
        self.log_path = directory / "gateway.log"
        with self.log_path.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own module
                _command(str(directory), *self._args),
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                **_APART,
            )
        self._process = process
        self._finalizer = weakref.finalize(
            self, _stop, process, directory, self._listens_at, os.getpid()
        )
        try:
            self.url = self._wait_until_it_listens(process)
            self._listens_at[:] = [self.url]
        except BaseException as error:
            with cleaning_up(error, _log):
                self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the gateway and its kernels, within some 5 seconds; it may be called again."""
        if self._finalizer:
            self._finalizer()
        self._process = self._finalizer = self.log_path = None
        self.url = ""

    def options(self) -> dict[str, str]:
        """Return the options of a manager or a ``GatewayClient``: ``url`` and ``auth_token``."""
        if not self.url:
            raise GatewayError("the local gateway is not running: call start() first")
        return {"url": self.url, "auth_token": self.token}

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the gateway's log, or nothing if it does not run."""
        if not self.log_path:
            return ""
        with self.log_path.open(encoding="locale", errors="replace") as log:
            return "".join(deque(log, maxlen=lines)).rstrip()

    def __enter__(self) -> LocalGateway:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with cleaning_up(exc, _log):
            self.stop()

    def __repr__(self) -> str:
        return f"<LocalGateway: {self.url or 'not running'}>"

    def _environment(self) -> dict[str, str]:
        ours = {
            k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_GATEWAY_", "KG_"))
        }
        # In the environment, because every user of the machine can read the arguments.
        return {**ours, **self._env, _TOKEN_VARIABLE: self.token}

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> str:
        """Return the URL in the line that the gateway writes when it listens."""
        assert process.stdout is not None
        line = _first_line(process.stdout, Deadline(self._start_timeout))
        if line is None:
            raise GatewayTimeout(
                "the local Kernel Gateway did not listen within"
                f" {self._start_timeout:g} seconds; the end of its log:\n{self.log_tail()}"
            )
        if not line.endswith(b"\n"):
            status = process.wait(GATEWAY_EXIT_TIMEOUT)
            raise GatewayError(
                f"the local Kernel Gateway ended with status {status} instead of listening;"
                f" the end of its log:\n{self.log_tail()}"
            )
        return str(json.loads(line)["url"])


def _first_line(pipe: IO[bytes], deadline: Deadline) -> bytes | None:
    """Return the bytes up to the end of a line or of the pipe; None if neither comes in time.

    A thread reads and closes the pipe, because Windows cannot wait for a pipe with a timeout.
    """
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        with pipe:
            lines.put(pipe.readline())

    apart(threading.Thread(target=read, name="gateway-local", daemon=True).start)
    while True:
        left = deadline.left()
        try:
            return lines.get(timeout=LOCK_SLICE if left is None else min(left, LOCK_SLICE))
        except Empty:
            if deadline.passed():
                return None


def _command(*args: str) -> list[str]:
    """Return the command line of the gateway's process."""
    folder = str(Path(__file__).parents[1])
    return [sys.executable, "-P", "-c", _PROGRAM, folder, *args]


def _require(*modules: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise GatewayError(
            f"a gateway on this machine needs {' and '.join(missing)}, not installed here:"
            ' pip install "gateway-blocking[local]"'
        )


def _stop(
    process: subprocess.Popen[bytes], directory: Path, listens_at: list[str], owner: int
) -> None:
    """Terminate the gateway; kill it if it does not exit in time.

    This is the function of a finalizer, so it must not refer to the LocalGateway.
    """
    if os.getpid() != owner:  # a forked child ends, and the gateway belongs to its parent
        return
    try:
        if process.poll() is None:
            _ask_to_end(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GATEWAY_EXIT_TIMEOUT)
    finally:  # also when a Ctrl-C ends the wait
        if process.poll() is None:
            kernels = _children(process.pid)
            process.kill()
            process.wait()
            _kill(kernels)
        if process.stdin:
            process.stdin.close()
        for url in listens_at:
            forget(url)  # its kernels have ended with it
        shutil.rmtree(directory, ignore_errors=True)


def _children(pid: int) -> list[int]:
    """Return the IDs of the processes that `pid` started, on Linux.

    Other systems have no such list; there the kernels notice that their gateway is gone.
    """
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in path.read_text(encoding="ascii").split()]
    return found


if sys.platform == "win32":
    # A Ctrl-C in the terminal must reach this process only.
    _APART: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
        """Close its standard input: terminate() would leave it no time for its kernels."""
        assert process.stdin is not None
        process.stdin.close()

    def _kill(pids: list[int]) -> None:
        """Do nothing, because _children() returns nothing here."""

else:
    _APART: dict[str, Any] = {"start_new_session": True}

    def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
        """Send SIGTERM, then SIGCONT, because a stopped process does not handle SIGTERM."""
        process.terminate()
        process.send_signal(signal.SIGCONT)

    def _kill(pids: list[int]) -> None:
        """Kill these processes, some of which may have ended."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------
# The functions below run in the gateway's process.


def _serve() -> None:
    """Serve until standard input ends or a SIGTERM comes."""
    _, _folder, runtime_dir, *args = sys.argv
    report = os.dup(1)
    os.dup2(2, 1)  # all output goes to the log, as does output that kernels write to descriptor 1
    app = _application(runtime_dir, os.environ.pop(_TOKEN_VARIABLE), args)
    url = _listen(app)

    def end() -> None:
        atexit.register(shutil.rmtree, runtime_dir, ignore_errors=True)
        app.stop()

    def watch() -> None:  # in a thread: on Windows no event loop reads a pipe
        while os.read(0, 4096):
            pass
        app.io_loop.add_callback(end)
        # A kernel that cannot be stopped must not keep this process.
        last = threading.Timer(GATEWAY_KERNELS_TIMEOUT, os._exit, (1,))
        last.daemon = True
        last.start()

    threading.Thread(target=watch, daemon=True).start()
    os.write(report, json.dumps({"url": url}).encode() + b"\n")
    os.close(report)
    app.start()


def _application(runtime_dir: str, token: str, args: Sequence[str]) -> Any:
    """Return a configured KernelGatewayApp that does not listen yet."""
    with without_iri_checks():
        from kernel_gateway.gatewayapp import KernelGatewayApp
        from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

    class LocalKernels(SeedingMappingKernelManager):  # type: ignore[misc]
        """Kernels that start in the directory which the client asks for, if it exists."""

        async def start_kernel(self, *args: Any, **kwargs: Any) -> Any:
            directory = (kwargs.get("env") or {}).get("KERNEL_WORKING_DIR", "")
            if Path(directory).is_absolute() and Path(directory).is_dir():
                kwargs.setdefault("cwd", directory)
            return await super().start_kernel(*args, **kwargs)

    class LocalApp(KernelGatewayApp):  # type: ignore[misc]
        def load_config_file(self, suppress_errors: bool = True) -> None:
            """Read no file: it would be meant for a gateway that serves others."""

    app = LocalApp.instance(
        runtime_dir=runtime_dir,
        kernel_manager_class=LocalKernels,
        env_process_whitelist=list(os.environ),
    )
    app.config.KernelGatewayApp.ip = "127.0.0.1"
    app.config.KernelGatewayApp.auth_token = token
    app.config.JupyterWebsocketPersonality.list_kernels = True
    # The limits protect a browser.  A script or a notebook needs all of its output.
    app.config.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = 0.0
    app.config.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 0.0
    app.initialize([*args], new_httpserver=False)
    return app


def _listen(app: Any) -> str:
    """Listen on a port that the system chooses, and return the URL."""
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    sockets = bind_sockets(0, app.ip)
    app.port = sockets[0].getsockname()[1]
    tls = app._build_ssl_options()
    app.http_server = HTTPServer(app.web_app, ssl_options=tls)
    app.http_server.add_sockets(sockets)
    return f"{'https' if tls else 'http'}://{app.ip}:{app.port}{app.base_url.rstrip('/')}"
