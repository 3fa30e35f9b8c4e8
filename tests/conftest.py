"""What all tests share: one gateway, a clean environment, and a look at what a test left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from jupyter_client.connect import LocalPortCache
from jupyter_core.utils import ensure_event_loop

from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.leaks import nothing_left
from support.ports import free_port
from support.rawserver import certificate
from support.servers import own_gateway, proxy_of
from support.terminal import Terminal

if TYPE_CHECKING:
    from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager


# The same few examples each time, so that no run fails by an example of its own; "thorough" draws
# new ones (docs/contributing.rst).  No deadline: anything may take long on a busy machine.
hypothesis.settings.register_profile(
    "quick", deadline=None, derandomize=True, database=None, max_examples=30
)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("quick")

pytest.register_assert_rewrite("support.conformance")  # which has tests, but not by its name

# Every process of the tests imports in a fraction of the time: the module there says why.
LIGHT = str(Path(__file__).parent / "support" / "light")
sys.path.insert(0, LIGHT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), LIGHT]))


# The modules that take longest come first, so that no worker is busy with one when the others are
# done: pytest's --durations=0 shows which they are.
_LONGEST = (
    *("test_recovery", "test_conformance_kernel_gateway", "test_conformance_enterprise_gateway"),
    *(
        "test_docs",
        "test_pool_kernels",
        "test_mcp",
        "test_client",
        "test_conformance_jupyter_server",
    ),
    *("test_cli_jobs", "test_cli", "test_owned", "test_cli_talk", "test_behaviour", "test_endings"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, in the order of the list, and leave the others in theirs."""
    rank = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(_module_of(item), len(rank)))


def _module_of(item: pytest.Item) -> str:
    return "" if "unit" in item.path.parts else item.path.stem


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
def _ports_of_local_kernels() -> Iterator[None]:
    """The kernels that a test starts on this machine listen on ports that stay free until then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalPortCache, "find_available_port", lambda cache, ip: free_port(ip))
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
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        if signal.getsignal(number) != handler:
            _event_loop_of_jupyter.remove_signal_handler(number)


# --------------------------------------------------------------------------- a gateway, a kernel


@pytest.fixture(scope="session", autouse=True)
def _signals_work() -> Iterator[None]:
    """Handle signals as in a terminal: a shell in the background ignores SIGINT, nohup SIGHUP.

    A process inherits what its parent ignores, and so would each that a test starts.
    """
    handlers = {signal.SIGINT: signal.default_int_handler}
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = signal.SIG_DFL
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def gateway(_clean_environment: None) -> Iterator[LocalGateway]:
    """A real Kernel Gateway with a token, the same for the whole run."""
    with own_gateway() as gateway:
        yield gateway


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
