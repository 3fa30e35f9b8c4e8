"""What all tests share: one gateway, a clean environment, and a look at what a test left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import hypothesis
import pytest
import requests
from faultproxy import FaultProxy
from jupyter_core.utils import ensure_event_loop
from rawserver import certificate
from requests.adapters import HTTPAdapter
from servers import own_gateway
from terminal import Terminal
from urllib3.util.retry import Retry

from gateway_blocking.local import LocalGateway

if TYPE_CHECKING:
    from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager


# A cell that no interrupt ends: what shuts a kernel down interrupts first, and ipykernel 6 replies
# to that (KeyboardInterrupt) before it goes.
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"


# Hypothesis would fail what takes longer than 0.2 s, as anything may on a busy machine.
hypothesis.settings.register_profile("without a clock", deadline=None)
hypothesis.settings.load_profile("without a clock")

pytest.register_assert_rewrite("conformance")  # which has tests, but not by its name


# --------------------------------------------------------------------------- surroundings


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that this machine or its user has configured influences a test."""
    unwanted = ("JUPYTER_GATEWAY_", "KERNEL_", "KG_")
    certificates = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    empty = str(tmp_path_factory.mktemp("no-configuration"))
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(unwanted) or name in certificates or name.lower().endswith("_proxy"):
                patch.delenv(name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "IPYTHONDIR"):
            patch.setenv(name, empty)
        yield


@pytest.fixture(scope="session", autouse=True)
def _event_loop_of_jupyter() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that nbclient keeps for good: made here, no test seems to have leaked it."""
    loop = ensure_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session", autouse=True)
def _resource_tracker() -> None:
    """A process that Python keeps for good, for tqdm's lock: made here, no test seems to leak it.

    Before 3.14, whose multiprocessing does not fork any more, that lock needs none.
    """
    if sys.version_info >= (3, 14):
        resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def _no_handler_is_left(_event_loop_of_jupyter: asyncio.AbstractEventLoop) -> Iterator[None]:
    """nbclient leaves its own where a kernel is not ready: a Ctrl-C does nothing any more."""
    yield
    for number in (signal.SIGINT, signal.SIGTERM):
        _event_loop_of_jupyter.remove_signal_handler(number)


# --------------------------------------------------------------------------- a gateway, a kernel


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> Iterator[None]:
    """Also where the tests run in the background, whose shell has SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="session")
def gateway(_clean_environment: None) -> Iterator[LocalGateway]:
    """A real Kernel Gateway with a token, the same for the whole run."""
    with own_gateway() as gateway:
        yield gateway


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


@pytest.fixture
def proxy(gateway: LocalGateway) -> Iterator[FaultProxy]:
    """What fails on demand, in front of the session's gateway."""
    with proxy_of(gateway) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for 127.0.0.1, and its certificate."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def gateway_env(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> LocalGateway:
    """The session's gateway, set in the environment as a user would."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", gateway.url)
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", gateway.token)
    return gateway


@pytest.fixture
def km(gateway: LocalGateway) -> Iterator[BlockingGatewayKernelManager]:
    """A manager of the session's gateway, without a kernel; one that is started is shut down."""
    from gateway_blocking import BlockingGatewayKernelManager

    with BlockingGatewayKernelManager(**gateway.options()) as km:
        yield km


@pytest.fixture
def kc(km: BlockingGatewayKernelManager) -> Iterator[BlockingGatewayKernelClient]:
    """A client of a started kernel, ready."""
    km.start_kernel()
    client = km.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()


@pytest.fixture
def terminal(tmp_path: Path, gateway: LocalGateway) -> Terminal:
    """A terminal in an empty directory, with the session's gateway in its environment."""
    return Terminal(tmp_path, gateway)


# --------------------------------------------------------------------------- what is left


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread, process, socket or kernel survives a test."""
    used: LocalGateway | None = None
    if "gateway" in request.fixturenames:
        used = request.getfixturevalue("gateway")
    with nothing_left(used):
        yield


@contextmanager
def nothing_left(used: LocalGateway | None = None) -> Iterator[None]:
    """Fail where a thread, a process or a socket is left, or a kernel on this gateway."""
    threads, children, sockets = set(_threads()), set(_children()), set(_sockets())
    kernels = set(kernels_of(used)) if used else set()
    yield
    _wait_for_none("threads", lambda: [t.name for t in set(_threads()) - threads])
    _wait_for_none("processes", lambda: [f"{pid} {_command(pid)}" for pid in _new(children)])
    _wait_for_none("sockets", lambda: sorted(set(_sockets()) - sockets))
    if used:
        _wait_for_none("kernels", lambda: sorted(set(kernels_of(used)) - kernels))


def _wait_for_none(what: str, left: Callable[[], list[str]]) -> None:
    """Fail where something is left, and goes on being left for five seconds."""
    deadline = time.monotonic() + 5
    while found := left():
        if time.monotonic() > deadline:
            pytest.fail(f"the test left {what} behind: {found}", pytrace=False)
        gc.collect()
        time.sleep(0.02)


def _threads() -> list[threading.Thread]:
    """Ours, and those that would keep the interpreter from ending."""
    return [t for t in threading.enumerate() if t.name.startswith("gateway-") or not t.daemon]


def _children() -> list[str]:
    """The processes that this one started, by their ids (none but on Linux)."""
    return [pid for task in Path("/proc/self/task").glob("*") for pid in _read(task / "children")]


def _new(children: set[str]) -> list[str]:
    """The processes that were not there before."""
    return sorted(set(_children()) - children)


def _command(pid: str) -> str:
    """The command line of a process, which changes when the process becomes another program."""
    return " ".join(_read(Path(f"/proc/{pid}/cmdline"), "\0"))


def _sockets() -> list[str]:
    """The open sockets of this process, by their inode numbers (none but on Linux)."""
    found = []
    for fd in Path("/proc/self/fd").glob("*"):
        try:
            found.append(str(fd.readlink()))
        except OSError:  # closed meanwhile, such as the one that lists the directory
            continue
    return [target for target in found if target.startswith("socket:")]


def _read(path: Path, separator: str | None = None) -> list[str]:
    try:
        return path.read_text().strip("\0").split(separator)
    except OSError:  # a thread or a process that ended meanwhile
        return []


def kernels_of(gateway: LocalGateway) -> list[str]:
    """The ids of the kernels that run on the gateway, which answers 500 while one is started."""
    again = HTTPAdapter(max_retries=Retry(8, status_forcelist=[500], backoff_factor=0.02))
    headers = {"Authorization": f"token {gateway.token}"}
    with requests.Session() as session:
        session.mount("http://", again)
        response = session.get(f"{gateway.url}/api/kernels", headers=headers, timeout=30)
    response.raise_for_status()
    return [kernel["id"] for kernel in response.json()]


# --------------------------------------------------------------------------- waiting


def least_time(act: Callable[[], float], enough: float) -> float:
    """The seconds that an act takes, which returns them: the least of up to five tries.

    A busy neighbour prolongs one of them, and a wait that is too long all of them.
    """
    taken = act()
    for _ in range(4):
        if taken < enough:
            break
        taken = min(taken, act())
    return taken


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Fail where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
