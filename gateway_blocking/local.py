"""A Kernel Gateway on this machine, for a first run and for tests.

:class:`LocalGateway` starts a real ``jupyter_kernel_gateway`` in a process of its own, on a free
port of 127.0.0.1 and with a random token:

>>> with LocalGateway() as gateway:                                         # doctest: +SKIP
...     km = BlockingGatewayKernelManager(**gateway.options())

The module is also that process: ``_serve()`` starts a gateway there, writes one line of JSON with
its URL to standard output, and ends when its standard input does.  So no gateway outlives a parent
that had no time to stop it.  ``kernel_gateway`` is imported only there, and nothing there is
imported from the current folder.
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
from .locks import apart
from .reaper import forget
from .timeouts import GATEWAY_EXIT_TIMEOUT, GATEWAY_KERNELS_TIMEOUT, LOCK_SLICE

__all__ = ["LocalGateway"]

_log = logging.getLogger(__name__)

_TOKEN_VARIABLE = "KG_AUTH_TOKEN"  # noqa: S105 - the name of a variable, not a token

# What the gateway's process runs.  "python -m" would look into the current folder first, and a
# tornado.py there would get the token: hence -P (see _command).  The folder of this package comes
# last on the path; it adds nothing if the package is installed.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from gateway_blocking.local import _serve; _serve()"
)


class LocalGateway:
    """A ``jupyter_kernel_gateway`` process that belongs to this one.

    It does not read anybody's Jupyter configuration.  Its kernels get the environment of this
    process and, where a client sends ``KERNEL_WORKING_DIR``, that directory as their own.
    A gateway that nobody stopped is stopped with the interpreter, or with this object.

    Where the environment names an HTTP proxy, ``NO_PROXY`` has to except 127.0.0.1.

    Parameters
    ----------
    kernel_gateway_args : sequence of str
        More command-line options of ``jupyter kernelgateway``, which win over those used here.
    env : mapping, optional
        Variables to set for the gateway on top of the environment of this process.  Of that,
        ``JUPYTER_GATEWAY_*`` and ``KG_*`` are left out: they would make it proxy for itself, or
        configure it for another purpose.
    start_timeout : float
        How many seconds the gateway may take to listen.

    Attributes
    ----------
    url, token : str
        Where it listens and what it asks for; the URL is empty until it was started.
    log_path : Path or None
        Its log, which exists from start to stop.
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
                f"kernel_gateway_args must be a sequence of arguments: [{kernel_gateway_args!r}]"
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
        """The gateway's process, or None where there is none."""
        return self._process.pid if self._process else None

    def start(self) -> LocalGateway:
        """Start the gateway and wait until it listens; one that runs is left alone.

        Raises
        ------
        GatewayError
            A package is missing, or the gateway ended: the end of its log is in the text.
        GatewayTimeout
            It did not listen within `start_timeout` seconds.
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
        """Return what to give a manager or a ``GatewayClient``: ``url`` and ``auth_token``."""
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
        # In the environment, not in the arguments: those can be read by every user.
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
    """Return what comes until a line's end or the pipe's, or None if neither comes in time.

    A thread reads it and closes the pipe, since Windows cannot wait for a pipe with a timeout.
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
    """Stop the gateway gently, then not; it must not refer to the LocalGateway it belongs to."""
    if os.getpid() != owner:  # a fork ends: the gateway is its parent's
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
    """Return the processes that `pid` started.

    Known on Linux only.  Elsewhere the kernels notice themselves that their gateway is gone.
    """
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in path.read_text(encoding="ascii").split()]
    return found


if sys.platform == "win32":
    # How the process is started: a Ctrl-C in the terminal is for us, not for it.
    _APART: dict[str, Any] = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}

    def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
        """Close its standard input: terminate() would leave it no time for its kernels."""
        assert process.stdin is not None
        process.stdin.close()

    def _kill(pids: list[int]) -> None:
        """Kill none: here _children() knows none."""

else:
    _APART: dict[str, Any] = {"start_new_session": True}

    def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
        """Send SIGTERM, and SIGCONT, as a stopped process would not notice the other."""
        process.terminate()
        process.send_signal(signal.SIGCONT)

    def _kill(pids: list[int]) -> None:
        """Kill processes that may have ended meanwhile."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------
# What follows runs in the gateway's process.


def _serve() -> None:
    """Serve until standard input ends or a SIGTERM comes."""
    _, _folder, runtime_dir, *args = sys.argv
    report = os.dup(1)
    os.dup2(2, 1)  # whatever is printed goes to the log, also what kernels print past their stdout
    app = _application(runtime_dir, os.environ.pop(_TOKEN_VARIABLE), args)
    url = _listen(app)

    def end() -> None:
        atexit.register(shutil.rmtree, runtime_dir, ignore_errors=True)
        app.stop()

    def watch() -> None:  # in a thread: on Windows no event loop reads a pipe
        while os.read(0, 4096):
            pass
        app.io_loop.add_callback(end)
        # A kernel that cannot be stopped is not to keep us.
        last = threading.Timer(GATEWAY_KERNELS_TIMEOUT, os._exit, (1,))
        last.daemon = True
        last.start()

    threading.Thread(target=watch, daemon=True).start()
    os.write(report, json.dumps({"url": url}).encode() + b"\n")
    os.close(report)
    app.start()


def _application(runtime_dir: str, token: str, args: Sequence[str]) -> Any:
    """Return a configured KernelGatewayApp that does not listen yet."""
    from kernel_gateway.gatewayapp import KernelGatewayApp
    from kernel_gateway.services.kernels.manager import SeedingMappingKernelManager

    class LocalKernels(SeedingMappingKernelManager):  # type: ignore[misc]
        """Kernels in the directory that a client asks for, here where it means something."""

        async def start_kernel(self, *args: Any, **kwargs: Any) -> Any:
            directory = (kwargs.get("env") or {}).get("KERNEL_WORKING_DIR", "")
            if Path(directory).is_absolute() and Path(directory).is_dir():
                kwargs.setdefault("cwd", directory)
            return await super().start_kernel(*args, **kwargs)

    class LocalApp(KernelGatewayApp):  # type: ignore[misc]
        def load_config_file(self, suppress_errors: bool = True) -> None:
            """Read none: it would be meant for a gateway that serves others."""

    app = LocalApp.instance(
        runtime_dir=runtime_dir,
        kernel_manager_class=LocalKernels,
        env_process_whitelist=list(os.environ),
    )
    app.config.KernelGatewayApp.ip = "127.0.0.1"
    app.config.KernelGatewayApp.auth_token = token
    app.config.JupyterWebsocketPersonality.list_kernels = True
    # The limits protect a browser.  A script or a notebook wants all of its output.
    app.config.ZMQChannelsWebsocketConnection.iopub_msg_rate_limit = 0.0
    app.config.ZMQChannelsWebsocketConnection.iopub_data_rate_limit = 0.0
    app.initialize([*args], new_httpserver=False)
    return app


def _listen(app: Any) -> str:
    """Listen on a port that the system chooses, so that nobody can be there first."""
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets

    sockets = bind_sockets(0, app.ip)
    app.port = sockets[0].getsockname()[1]
    tls = app._build_ssl_options()
    app.http_server = HTTPServer(app.web_app, ssl_options=tls)
    app.http_server.add_sockets(sockets)
    return f"{'https' if tls else 'http'}://{app.ip}:{app.port}{app.base_url.rstrip('/')}"
