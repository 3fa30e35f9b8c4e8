"""A kernel ends with the process that owns it: however that ends, and only then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway_blocking import (
    BlockingGatewayKernelManager,
    BlockingGatewaySessionManager,
    GatewayClient,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.owners import OWNER, check_both_endings, is_running, kernels, program, wait_until_gone
from support.servers import Server, jupyter_server, own_gateway
from support.waiting import wait_until

Manager = BlockingGatewayKernelManager


@pytest.fixture(scope="module")
def own_jupyter_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(gateway: LocalGateway) -> Server:
    """The session's Kernel Gateway."""
    return Server(gateway.url, {"auth_token": gateway.token})


@pytest.fixture(params=["Kernel Gateway", "Jupyter Server"])
def any_server(
    request: pytest.FixtureRequest, server: Server, own_jupyter_server: Server
) -> Server:
    return server if request.param == "Kernel Gateway" else own_jupyter_server


# --- each way to end ------------------------------------------------------------------------------

ENDINGS = {
    "end of the script": ("", 0, 0),
    "exception": ("raise KeyError", 0, 1),
    "sys.exit": ("sys.exit(3)", 0, 3),
    "os._exit": ("os._exit(3)", 0, 3),
    "exec": ("os.execv('/bin/true', ['true'])", 0, 0),
    "abort": ("os.abort()", 0, -signal.SIGABRT),
    "SIGINT": ("", signal.SIGINT, -signal.SIGINT),
    "SIGTERM": ("", signal.SIGTERM, -signal.SIGTERM),
    "SIGHUP": ("", signal.SIGHUP, -signal.SIGHUP),
    "SIGKILL": ("", signal.SIGKILL, -signal.SIGKILL),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_kernel_ends_with_its_owner(any_server: Server, tmp_path: Path, ending: str) -> None:
    """It was started without a ``with``, and nothing shuts it down."""
    last, number, status = ENDINGS[ending]
    with program(any_server, tmp_path, OWNER + last) as owner:
        kernel = owner.told()["kernel"]
        assert kernel in kernels(any_server)
        assert owner.end(number) == status
        wait_until_gone(any_server, kernel)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kernel_ends_with_its_owners_process_group(
    any_server: Server, tmp_path: Path, number: int
) -> None:
    """As a terminal, a shell or a scheduler ends it: the reaper is not in the group."""
    with program(any_server, tmp_path, OWNER) as owner:
        kernel = owner.told()["kernel"]
        owner.end(number, group=True)
        wait_until_gone(any_server, kernel)


def test_a_kernel_that_is_busy_ends_with_its_owner(any_server: Server, tmp_path: Path) -> None:
    """Also in a cell."""
    busy = "kc.execute('import time; time.sleep(600)')\nkc.get_iopub_msg(timeout=60)\nwait()"
    with program(any_server, tmp_path, OWNER + busy) as owner:
        kernel = owner.told()["kernel"]
        owner.go_on()
        owner.end(signal.SIGKILL)
        wait_until_gone(any_server, kernel)


def test_a_kernel_ends_with_an_owner_that_is_killed_while_it_starts(
    any_server: Server, tmp_path: Path
) -> None:
    """The gateway starts the kernel, and its answer reaches no process any more."""
    code = """
from gateway_blocking.rest import GatewayREST
start = GatewayREST.start_kernel
def start_and_die(*args, **kwargs):
    model = start(*args, **kwargs)
    tell(kernel=model["id"])
    os.kill(os.getpid(), signal.SIGKILL)
GatewayREST.start_kernel = start_and_die
Manager().start_kernel()
"""
    with program(any_server, tmp_path, code) as owner:
        kernel = owner.told()["kernel"]
        owner.process.wait(60)
        wait_until_gone(any_server, kernel)


def test_a_kernel_that_was_restarted_ends_with_its_owner(server: Server, tmp_path: Path) -> None:
    """By its owner, and by the gateway after it died: it has the same ID."""
    code = """
(km, kc), (other, oc) = start_new_kernel(), start_new_kernel()
km.restart_kernel()
oc.execute("import os; os._exit(1)")
while other.is_alive():
    time.sleep(0.05)
tell(kernels=[km.kernel_id, other.kernel_id])
wait()
"""
    check_both_endings(server, tmp_path, code)


@pytest.mark.parametrize(
    "code",
    [
        "found = [start_new_kernel()[0].kernel_id for _ in range(3)]",
        "km = Manager(); km.start_kernel(); found = [km.kernel_id]; del km",
        "kernels = BlockingGatewayMultiKernelManager();"
        " found = [kernels.start_kernel() for _ in range(3)]",
        "kernels = BlockingGatewayMultiKernelManager(); found = [kernels.start_kernel()];"
        " kernels.remove_kernel(found[0])",
        "sessions = BlockingGatewaySessionManager();"
        " found = [sessions.create_session('a.ipynb')['kernel']['id']]",
        "km = Manager(); km.start_kernel(); other = Manager(kernel_id=km.kernel_id);"
        " other.start_kernel(); km.owned_kernel = False; other.owned_kernel = True;"
        " found = [km.kernel_id]",
    ],
    ids=["several", "dropped", "multi", "removed", "session", "taken over"],
)
def test_whatever_looks_after_a_kernel_it_ends_with_the_process(
    server: Server, tmp_path: Path, code: str
) -> None:
    """Several managers, one that was dropped, one of many, sessions that are kept here."""
    check_both_endings(server, tmp_path, f"{code}\ntell(kernels=found)\nwait()")


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_a_kernel_that_is_not_owned_stays(
    server: Server, tmp_path: Path, gateway: LocalGateway, number: int
) -> None:
    """One that was given up, one that was attached to, one of a manager that let go of it."""
    code = """
given, owned = Manager(), Manager()
given.start_kernel()
owned.start_kernel()
given.owned_kernel = False
attached = Manager(kernel_id=sys.argv[1])
attached.start_kernel()
detached = Manager(kernel_id=sys.argv[1])
detached.start_kernel()
detached.shutdown_kernel()
tell(given=given.kernel_id, owned=owned.kernel_id, reaper=reaper_process())
wait()
"""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        assert km.kernel_id
        with program(server, tmp_path, code, km.kernel_id) as owner:
            told = owner.told()
            owner.end(number)
            wait_until_gone(server, told["owned"])
            wait_until(lambda: not is_running(told["reaper"]))
        assert kernels(server) == {km.kernel_id, told["given"]}
        with Manager(kernel_id=told["given"], **gateway.options()) as given:
            given.start_kernel()
            given.owned_kernel = True


def test_a_session_of_the_server_stays(own_jupyter_server: Server, tmp_path: Path) -> None:
    """Other clients of the server see it, and may have opened it."""
    code = """
sessions = BlockingGatewaySessionManager()
session = sessions.create_session("a.ipynb")
owned, _ = start_new_kernel()
tell(kernel=session["kernel"]["id"], owned=owned.kernel_id, reaper=reaper_process())
wait()
"""
    with program(own_jupyter_server, tmp_path, code) as owner:
        told = owner.told()
        owner.end(signal.SIGKILL)
        wait_until_gone(own_jupyter_server, told["owned"])
        wait_until(lambda: not is_running(told["reaper"]))
    assert told["kernel"] in kernels(own_jupyter_server)
    sessions = BlockingGatewaySessionManager(**own_jupyter_server.client_options())
    (session,) = sessions.list_sessions()
    sessions.delete_session(session["id"])
    sessions.close()
    sessions.kernel_manager.rest.close()


def test_a_kernel_that_others_shut_down_is_not_spoken_of(server: Server, tmp_path: Path) -> None:
    """At the end of the script there is nothing to do, nor to say."""
    code = """
km, kc = start_new_kernel()
kc.stop_channels()
tell(kernel=km.kernel_id)
wait()
"""
    with program(server, tmp_path, code) as owner:
        kernel = owner.told()["kernel"]
        with GatewayREST(GatewayClient(**server.client_options())) as rest:
            rest.delete_kernel(kernel)
        assert owner.end() == 0


def test_what_a_script_registers_for_its_end_may_use_the_kernel(
    server: Server, tmp_path: Path
) -> None:
    """As with a local kernel; also what was registered before the kernel was started."""
    code = """
def last():
    reply = kc.execute("6 * 7", reply=True, timeout=60)
    tell(status=reply["content"]["status"], kernel=km.kernel_id)
atexit.register(last)
km, kc = start_new_kernel()
"""
    with program(server, tmp_path, code) as owner:
        told = owner.told()
        assert owner.process.wait(60) == 0
        assert told["status"] == "ok"
        assert told["kernel"] not in kernels(server)


def test_without_a_reaper_the_end_of_the_script_still_ends_its_kernels(
    server: Server, tmp_path: Path
) -> None:
    """No process can be started, as in a frozen program, which has no Python to start."""
    code = """
if sys.argv[1] == "frozen":
    sys.frozen = True
elif sys.argv[1] == "broken":
    reaper._PROGRAM = Path(__file__).with_name("broken.py")
    reaper._PROGRAM.write_text("raise SystemExit(1)")
else:
    def refuse(*args, **kwargs):
        raise BlockingIOError("Resource temporarily unavailable")
    reaper.subprocess.Popen = refuse
(km, kc), (other, oc) = start_new_kernel(), start_new_kernel()
assert reaper._reaper._process is None
tell(kernels=[km.kernel_id, other.kernel_id])
"""
    with ExitStack() as stack:
        owners = [
            stack.enter_context(program(server, tmp_path / how, code, how))
            for how in ("frozen", "broken", "refused")
        ]
        for owner in owners:
            found = owner.told()["kernels"]
            assert owner.process.wait(60) == 0
            assert not kernels(server) & set(found)


def test_a_gateway_that_is_gone_does_not_keep_a_script_from_its_end(tmp_path: Path) -> None:
    """It is said which kernel may still run."""
    logging = "import logging; logging.basicConfig(stream=sys.stdout)\n"
    with own_gateway() as gateway:
        server = Server(gateway.url, {"auth_token": gateway.token})
        with program(server, tmp_path, logging + OWNER) as owner:
            kernel = owner.told()["kernel"]
            gateway.stop()
            out, _ = owner.process.communicate("\n", timeout=60)
    assert owner.process.returncode == 0
    assert f"kernel {kernel} was not shut down" in out


def test_daemon_threads_that_wait_at_the_end_say_nothing(server: Server, tmp_path: Path) -> None:
    """They are not told that the kernel is being shut down, whose interruption answers them."""
    code = """
sys.stderr = sys.stdout
km, kc = start_new_kernel()
begun = threading.Event()
def wait():
    kc.execute_interactive("print(1); import time; time.sleep(600)", output_hook=seen)
    print("it ended")
def seen(message):
    if message["msg_type"] == "stream":
        begun.set()
threading.Thread(target=wait, daemon=True).start()
begun.wait()
tell(kernel=km.kernel_id)
"""
    with program(server, tmp_path, code) as owner:
        kernel = owner.told()["kernel"]
        out, _ = owner.process.communicate(timeout=60)
        assert (owner.process.returncode, out) == (0, "")
        assert kernel not in kernels(server)
