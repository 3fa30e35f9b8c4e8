"""A kernel ends with the process that owns it: however that ends, and only then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import (
    BlockingGatewayKernelManager,
    BlockingGatewayMultiKernelManager,
    BlockingGatewaySessionManager,
    GatewayClient,
    run_kernel,
    start_new_kernel,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.notebooks import run, write
from support.servers import Server, jupyter_server, own_gateway
from support.terminal import Terminal
from support.waiting import wait_until

Manager = BlockingGatewayKernelManager

PREAMBLE = """
import atexit, json, multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from gateway_blocking import *
from gateway_blocking import BlockingGatewayKernelManager as Manager
from gateway_blocking import reaper

def tell(**what):
    print(json.dumps(what), flush=True)

def wait():
    "Wait until the test goes on, or ends this process."
    sys.stdin.readline()

def reaper_process():
    "The ID of the process that is at the other end of the pipe."
    pipe = os.fstat(reaper._reaper._process._pipe)
    for path in Path("/proc").glob("[0-9]*"):
        try:
            theirs = os.stat(path / "fd" / "0")
            command = (path / "cmdline").read_text()
        except OSError:
            continue
        same = (theirs.st_dev, theirs.st_ino) == (pipe.st_dev, pipe.st_ino)
        if same and "reaper_process" in command and path.name != str(os.getpid()):
            return int(path.name)
"""


def environment_of(server: Server) -> dict[str, str]:
    names = {f"JUPYTER_GATEWAY_{name.upper()}": str(v) for name, v in server.options.items()}
    return {**os.environ, "JUPYTER_GATEWAY_URL": server.url, **names}


class Program:
    """A script that runs, with a gateway in its environment."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def told(self) -> dict[str, Any]:
        """Return what it tells next."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "it ended without a word"
        told: dict[str, Any] = json.loads(line)
        return told

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, number: int = 0, *, group: bool = False) -> int:
        """End it by a signal, or let it come to its end; return its exit status."""
        if group:
            os.killpg(self.process.pid, number)
        elif number:
            self.process.send_signal(number)
        else:
            self.go_on()
        return self.process.wait(60)


@contextmanager
def program(server: Server, folder: Path, code: str, *args: str, **env: str) -> Iterator[Program]:
    """A script, in a process group of its own."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(PREAMBLE + code)
    with subprocess.Popen(
        [sys.executable, str(script), *args],
        env={**environment_of(server), **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


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


def kernels(server: Server) -> set[str]:
    """The kernels that the server has."""
    with GatewayREST(GatewayClient(**server.client_options())) as rest:
        return {model["id"] for model in rest.list_kernels()}


def wait_until_gone(server: Server, *kernel_ids: str) -> None:
    wait_until(lambda: not kernels(server) & set(kernel_ids))


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- each way to end ------------------------------------------------------------------------------

OWNER = """
km, kc = start_new_kernel()
tell(kernel=km.kernel_id)
wait()
"""
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


def check_both_endings(server: Server, tmp_path: Path, code: str) -> None:
    """Run it twice at the same time: one comes to its end, the other is killed."""
    with (
        program(server, tmp_path / "ends", code) as ends,
        program(server, tmp_path / "killed", code) as killed,
    ):
        for owner, number in ((ends, 0), (killed, signal.SIGKILL)):
            found = owner.told()["kernels"]
            wait_until(lambda: set(found) <= kernels(server))  # noqa: B023 - it is called now
            owner.end(number)
            wait_until_gone(server, *found)


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
    """Where no process can be started, and of a frozen program, which has no Python to start."""
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


# --- other processes ------------------------------------------------------------------------------


def test_a_fork_neither_ends_its_parents_kernel_nor_leaves_its_own(
    server: Server, tmp_path: Path
) -> None:
    """However it ends; and it does not keep the parent's kernel, if it lives longer."""
    code = """
km, kc = start_new_kernel()
own = []
for ending in sys.argv[1:]:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        mine, _ = start_new_kernel()
        os.write(write, mine.kernel_id.encode())
        exec(ending)
        os._exit(0)
    own.append(os.read(read, 100).decode())
    os.waitpid(pid, 0)
assert kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"
if os.fork() == 0:
    time.sleep(600)
    os._exit(0)
tell(kernel=km.kernel_id, own=own)
wait()
"""
    endings = ("sys.exit()", "1 / 0", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)")
    with program(server, tmp_path, code, *endings) as owner:
        told = owner.told()
        assert told["kernel"] in kernels(server)
        wait_until_gone(server, *told["own"])
        assert told["kernel"] in kernels(server)
        owner.end(signal.SIGKILL)
        wait_until_gone(server, told["kernel"])
        os.killpg(owner.process.pid, signal.SIGKILL)  # the last child


def test_a_daemon_neither_keeps_the_first_process_kernel_nor_leaves_its_own(
    server: Server, tmp_path: Path
) -> None:
    """It closes all descriptors, as daemons do, and goes on in a session of its own."""
    code = """
km, kc = start_new_kernel()
tell(kernel=km.kernel_id)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(3, 1000)
own, _ = start_new_kernel()
assert own.has_kernel
tell(kernel=own.kernel_id, pid=os.getpid())
time.sleep(600)
"""
    with program(server, tmp_path, code) as owner:
        first, daemon = owner.told()["kernel"], owner.told()
        wait_until_gone(server, first)
        assert daemon["kernel"] in kernels(server)
        os.kill(daemon["pid"], signal.SIGKILL)
        wait_until_gone(server, daemon["kernel"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_kernel_ends_with_a_worker_of_multiprocessing(
    server: Server, tmp_path: Path, method: str
) -> None:
    """However it ends, also terminated; the parent's kernel and the workers' are apart."""
    code = """
ENDINGS = ("return", "1 / 0", "sys.exit(3)", "time.sleep(600)")

def work(ending, queue):
    sys.stderr = open(os.devnull, "w")
    km, kc = start_new_kernel()
    queue.put((ending, km.kernel_id))
    if ending != "return":
        exec(ending)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    km, kc = start_new_kernel()
    queue = context.Queue()
    workers = {e: context.Process(target=work, args=(e, queue)) for e in ENDINGS}
    for worker in workers.values():
        worker.start()
    own = dict(queue.get(timeout=120) for _ in workers)
    workers["time.sleep(600)"].terminate()
    for worker in workers.values():
        worker.join(60)
    assert kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"
    statuses = [worker.exitcode for worker in workers.values()]
    tell(kernel=km.kernel_id, own=list(own.values()), statuses=statuses)
    wait()
"""
    with program(server, tmp_path, code, method) as owner:
        told = owner.told()
        assert told["statuses"] == [0, 1, 3, -signal.SIGTERM]
        assert len(set(told["own"])) == len(told["statuses"])
        wait_until_gone(server, *told["own"])
        assert told["kernel"] in kernels(server)
        owner.end(signal.SIGKILL)
        wait_until_gone(server, told["kernel"])


def test_a_worker_without_a_reaper_ends_its_kernel_itself(server: Server, tmp_path: Path) -> None:
    """Also one that was forked, which until Python 3.13 ends without what atexit knows."""
    code = """
def work(queue):
    km, kc = start_new_kernel()
    queue.put(km.kernel_id)

sys.frozen = True
context = multiprocessing.get_context("fork")
queue = context.Queue()
worker = context.Process(target=work, args=(queue,))
worker.start()
own = queue.get(timeout=120)
worker.join(60)
tell(own=own, status=worker.exitcode)
"""
    with program(server, tmp_path, code) as owner:
        told = owner.told()
        assert told["status"] == 0
        assert told["own"] not in kernels(server)


# --- the reaper -----------------------------------------------------------------------------------


def test_the_reaper_is_small_alone_and_knows_no_secret_that_others_can_read(
    server: Server, tmp_path: Path
) -> None:
    """One for the process, no child of it, deaf to signals, under 12 MB; it ends with its owner."""
    code = """
first, _ = start_new_kernel()
pid = reaper_process()
second, _ = start_new_kernel()
assert reaper_process() == pid
try:
    os.waitpid(-1, os.WNOHANG)
    tell(children=True)
except ChildProcessError:
    tell(children=False)
tell(reaper=pid, kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    with program(server, tmp_path, code) as owner:
        assert owner.told()["children"] is False
        told = owner.told()
        proc = Path("/proc", str(told["reaper"]))
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        assert int(status["VmRSS"].split()[0]) < 12_000
        assert int(status["Threads"]) == 1
        assert server.options["auth_token"].encode() not in (proc / "environ").read_bytes()
        assert server.options["auth_token"].encode() not in (proc / "cmdline").read_bytes()
        assert os.getpgid(told["reaper"]) != os.getpgid(owner.process.pid)
        assert (proc / "cwd").readlink() == Path("/")
        assert sorted(path.name for path in (proc / "fd").iterdir()) == ["0", "1", "2"]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(told["reaper"], number)
        assert is_running(told["reaper"])
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *told["kernels"])
        wait_until(lambda: not is_running(told["reaper"]))


def test_a_reaper_ends_without_a_word_if_nothing_is_left(server: Server, tmp_path: Path) -> None:
    """After the script has shut its kernel down."""
    code = """
with run_kernel():
    tell(reaper=reaper_process())
"""
    with program(server, tmp_path, code) as owner:
        told = owner.told()
        assert owner.process.wait(60) == 0
        wait_until(lambda: not is_running(told["reaper"]))


def test_a_reaper_that_was_killed_is_replaced(server: Server, tmp_path: Path) -> None:
    """With the next kernel; the new one is told of all."""
    code = """
first, _ = start_new_kernel()
pid = reaper_process()
os.kill(pid, signal.SIGKILL)
while reaper_process() is not None:
    time.sleep(0.01)
second, _ = start_new_kernel()
assert reaper_process() not in (pid, None)
tell(kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    with program(server, tmp_path, code) as owner:
        found = owner.told()["kernels"]
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *found)


def test_a_pipe_that_others_closed_is_not_written_to(server: Server, tmp_path: Path) -> None:
    """Its number may be that of another file since."""
    code = """
first, _ = start_new_kernel()
number = reaper._reaper._process._pipe
os.close(number)
with open(sys.argv[1], "wb") as file:
    os.dup2(file.fileno(), number)
    second, _ = start_new_kernel()
tell(kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    other = tmp_path / "other"
    with program(server, tmp_path, code, str(other)) as owner:
        found = owner.told()["kernels"]
        assert other.read_bytes() == b""
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *found)


# --- runners --------------------------------------------------------------------------------------

DIES = "import os; os._exit(1)"


def test_a_kernel_that_died_under_nbval_does_not_stay(
    terminal: Terminal, gateway: LocalGateway
) -> None:
    """Its teardown asks is_alive() first; the gateway has started the kernel again."""
    terminal.write("conftest.py", NBVAL)
    write(terminal.directory, "1", DIES)
    plugins = ("--nbval-lax", "--nbval-cell-timeout=10")
    run(terminal, "-m", "pytest", "-p", "no:cacheprovider", *plugins)
    # And the kernel is gone: see _nothing_is_left.


NBVAL = """
import nbval.kernel
from gateway_blocking import BlockingGatewayKernelManager
nbval.kernel.KernelManager = BlockingGatewayKernelManager
"""

EXECUTE = """
import nbformat, papermill
from nbclient import NotebookClient
nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(
    "import os, time; print(os.getpid(), flush=True); time.sleep(600)")])
manager = "gateway_blocking.BlockingGatewayKernelManager"
tell(started=True)
"""
RUNNERS = {
    "nbclient": "NotebookClient(nb, kernel_manager_class=manager).execute()",
    "papermill": """
nbformat.write(nb, "in.ipynb")
papermill.execute_notebook(
    "in.ipynb", None, engine_name="gateway", kernel_name="python3", progress_bar=False)
""",
}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_runner_that_is_ended_leaves_no_kernel(
    server: Server, tmp_path: Path, runner: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while its kernel is being started."""
    monkeypatch.chdir(tmp_path)
    before = kernels(server)
    with program(server, tmp_path, EXECUTE + RUNNERS[runner]) as owner:
        assert owner.told()["started"]
        wait_until(lambda: kernels(server) - before)
        owner.end(number)
        wait_until(lambda: not kernels(server) - before)


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_command_that_is_killed_leaves_no_kernel(
    terminal: Terminal, server: Server, command: str
) -> None:
    """``jupyter gateway run`` and ``exec``; one that keeps its kernel keeps it at its end only."""
    code = "print('started', flush=True); import time; time.sleep(600)"
    args = (
        ("run", "--keep", terminal.write("slow.py", code)) if command == "run" else ("exec", code)
    )
    with terminal.popen(*args) as process:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        process.kill()
        process.communicate(timeout=60)
    wait_until(lambda: not kernels(server))


def test_kernels_that_are_to_stay_do(terminal: Terminal, server: Server) -> None:
    """Those of ``jupyter gateway start`` and of ``run --keep``."""
    started = terminal("start").stdout.strip()
    script = terminal.write("quick.py", "print(6 * 7)")
    assert terminal("run", "--keep", script).returncode == 0
    assert started in kernels(server)
    assert len(kernels(server)) == 2
    assert terminal("stop", "--all-mine").returncode == 0


# --- clean-up -------------------------------------------------------------------------------------


def test_shutdown_kernel_lets_go_of_all(gateway: LocalGateway) -> None:
    """As jupyter_client's, which calls cleanup_resources(): context and connections are closed."""
    km = Manager(**gateway.options())
    km.start_kernel()
    context = km.context
    km.refresh_model()
    assert open_connections(km)
    km.shutdown_kernel()
    assert context.closed
    assert not open_connections(km)
    km.shutdown_kernel()


def test_letting_go_of_a_kernel_lets_go_of_all(gateway: LocalGateway) -> None:
    """Also of one that was attached to, and goes on running."""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        other = Manager(kernel_id=km.kernel_id, **gateway.options())
        other.start_kernel()
        assert open_connections(other)
        other.shutdown_kernel()
        assert not open_connections(other)
        assert km.is_alive()


def open_connections(km: Manager) -> int:
    pools = km.rest._http._session.get_adapter(km.gateway.kernels_url).poolmanager.pools  # type: ignore[attr-defined]
    return sum(pools.get(key).pool.qsize() for key in pools.keys())  # noqa: SIM118


def one_kernel(gateway: LocalGateway) -> Iterator[None]:
    with run_kernel(**gateway.options(), connect_timeout=5):
        yield


def manager_of_one(gateway: LocalGateway) -> Iterator[None]:
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        yield


def manager_of_several(gateway: LocalGateway) -> Iterator[None]:
    with BlockingGatewayMultiKernelManager(**gateway.options()) as kernels:
        kernels.start_kernel()
        kernels.start_kernel()
        yield


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt])
def test_what_fails_in_a_clean_up_does_not_hide_the_error(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway is gone when an error ends a ``with``: it becomes a note on that error."""
    blocks = [contextmanager(block) for block in (one_kernel, manager_of_one, manager_of_several)]
    with own_gateway() as gateway:
        with pytest.raises(kind, match="mine") as caught, ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block(gateway))
            gateway.stop()
            raise kind("mine")
        notes = caught.value.__notes__
        assert len(notes) == len(blocks)
        for note in notes:
            assert note.startswith("While cleaning up: Gateway")
            assert "DELETE http://127.0.0.1" in note
        assert ("While cleaning up" in caplog.text) == (kind is SystemExit)


def test_what_fails_in_a_clean_up_alone_is_an_error() -> None:
    """A kernel that could not be shut down is told."""
    with (
        own_gateway() as gateway,
        pytest.raises(ConnectionError, match="DELETE"),
        run_kernel(**gateway.options()),
    ):
        gateway.stop()


def test_a_failed_start_is_told_and_not_the_clean_up_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a kernel that is not ready, with a gateway that is gone meanwhile."""
    with own_gateway() as gateway:

        def fail(*_: object, **__: object) -> None:
            gateway.stop()
            raise RuntimeError("not ready")

        kind = "gateway_blocking.BlockingGatewayKernelClient.wait_for_ready"
        monkeypatch.setattr(kind, fail)
        with pytest.raises(RuntimeError, match="not ready") as caught:
            start_new_kernel(**gateway.options())
        assert "While cleaning up: GatewayConnectionError" in str(caught.value.__notes__)
