"""A kernel ends with the runner or the command that started it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from gateway_blocking.local import LocalGateway
from support.notebooks import run, write
from support.owners import kernels, program
from support.servers import Server
from support.terminal import Terminal
from support.waiting import wait_until


@pytest.fixture
def server(gateway: LocalGateway) -> Server:
    """The session's Kernel Gateway."""
    return Server(gateway.url, {"auth_token": gateway.token})


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
