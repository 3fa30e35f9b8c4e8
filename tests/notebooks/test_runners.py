"""Programs that execute notebooks, as a person uses them, on a kernel behind the gateway.

That the commands of the documentation work is for test_docs.py.
"""

from __future__ import annotations

import atexit
import io
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbconvert.preprocessors import ExecutePreprocessor
from traitlets import TraitError
from traitlets.config import Config

from gateway_blocking import (
    BlockingGatewayKernelClient,
    GatewayConnectionClosed,
    GatewayConnectionError,
    NoSuchKernel,
)
from support.notebooks import REMOTE, notebook, run, start, text_of, write
from support.servers import own_gateway
from support.terminal import Terminal

if TYPE_CHECKING:
    from gateway_blocking.local import LocalGateway

# A person types `papermill`; this is it, also where the scripts are not on the PATH.
PAPERMILL = ("-m", "papermill", "--engine", "gateway", "in.ipynb", "out.ipynb")


# --- papermill's command line ---------------------------------------------------------------------


ENDLESS = """
import os, time
for i in range(100):
    print('line', i, flush=True)
    if os.path.exists('enough'):
        break
    time.sleep(0.3)
"""


def test_papermill_does_what_its_options_say(terminal: Terminal) -> None:
    """Parameters, directory, progress; a line is logged, written and saved when it is printed."""
    home = terminal.directory
    (home / "sub").mkdir()
    write(home, "alpha = 1", "import os; print('alpha', alpha, 'in', os.getcwd())", ENDLESS)
    options = ("-p", "alpha", "0.6", "--cwd", "sub", "--progress-bar", "--log-output")
    printed, saved = home / "printed.txt", home / "out.ipynb"
    files = ("--stdout-file", str(printed), "--autosave-cell-every", "1")
    seen = []
    with start(terminal, *PAPERMILL, *options, *files) as process:
        assert process.stdout
        for line in process.stdout:
            seen.append(line.strip())
            if line.startswith("line") and all("line 1" in f.read_text() for f in (printed, saved)):
                (home / "sub" / "enough").touch()
    assert process.returncode == 0, seen
    assert f"alpha 0.6 in {home.resolve() / 'sub'}" in seen
    assert "line 99" not in seen, "nothing was to be seen before the cell had ended"
    assert any(line.startswith("Executing: 100%") for line in seen)
    assert "\nalpha = 0.6\n" in terminal.read("out.ipynb").cells[1].source


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_a_papermill_that_is_stopped_leaves_no_kernel(sent: str, terminal: Terminal) -> None:
    """Its kernel is shut down, after Ctrl-C and when a scheduler ends it."""
    write(terminal.directory, "", "import time; print('started', flush=True); time.sleep(60)")
    with start(terminal, *PAPERMILL, "--log-output") as process:
        assert process.stdout
        assert any(line.strip() == "started" for line in process.stdout)
        process.send_signal(signal.Signals[sent])
        process.communicate(timeout=60)
    assert process.returncode != 0  # and the kernel is gone: see _nothing_is_left


def test_papermill_attaches_to_a_kernel_that_lives_on(
    kc: BlockingGatewayKernelClient, terminal: Terminal
) -> None:
    """It finds the kernel's variables and leaves its own; also after each of its time-outs."""
    attach = ("--kernel", kc.kernel_id, "--no-progress-bar")
    assert kc.execute("secret = 21", reply=True, timeout=60)["content"]["status"] == "ok"
    write(terminal.directory, "n = 1", "product = secret * n; product")
    assert run(terminal, *PAPERMILL, *attach, "-p", "n", "2")[0] == 0
    assert "'42'" in str(terminal.read("out.ipynb").cells[-1].outputs)

    go_on = terminal.directory / "go-on"
    wait = f"import os, time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.05)"
    write(terminal.directory, "", wait)
    status, out = run(terminal, *PAPERMILL, *attach, "--execution-timeout", "1")
    assert status == 1
    assert "CellTimeoutError" in out
    status, out = run(terminal, *PAPERMILL, *attach, "--start-timeout", "1")  # it still waits
    assert status == 1
    assert "in 1 seconds" in out

    go_on.touch()
    kc.wait_for_ready(timeout=60)
    assert kc.execute("assert product == 42", reply=True, timeout=60)["content"]["status"] == "ok"


# --- papermill in Python --------------------------------------------------------------------------


def test_papermill_takes_the_gateway_as_arguments(
    kc: BlockingGatewayKernelClient, gateway: LocalGateway, tmp_path: Path
) -> None:
    """Options of the gateway, kernel_id= and nbclient's own; the environment says nothing."""
    assert "JUPYTER_GATEWAY_URL" not in os.environ
    write(tmp_path, "found = 'found'", "1 / 0", "print(found, given)")
    assert kc.execute("given = 'given'", reply=True, timeout=60)["content"]["status"] == "ok"
    printed = io.StringIO()

    def execute(**kwargs: Any) -> Any:
        return papermill.execute_notebook(
            tmp_path / "in.ipynb",
            None,
            engine_name="gateway",
            progress_bar=False,
            **{**gateway.options(), **kwargs},
        )

    config = Config({"GatewayClient": {"auth_token": "another", "connect_timeout": 5.0}})
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        execute(kernel_id=kc.kernel_id, allow_errors=True, stdout_file=printed, config=config)
    assert printed.getvalue() == "found given\n"
    assert config.GatewayClient.auth_token == "another"  # an argument wins; the caller's is kept

    with pytest.raises(NoSuchKernel):
        execute(kernel_id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(TraitError, match="url='ftp://host'"):
        execute(url="ftp://host")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"auth_tokn": "sesame"}, "no option 'auth_tokn'; the nearest is 'auth_token'"),
        ({"kernel_di": "sesame"}, "no option 'kernel_di'; the nearest is 'kernel_id'"),
        ({"kernel_name": ""}, "the name of the kernel is empty"),
    ],
)
def test_papermill_refuses_what_is_nearly_right(
    given: dict[str, str], told: str, tmp_path: Path
) -> None:
    """It would run elsewhere: with the environment's gateway, or on a kernel of its own."""
    write(tmp_path, "1")
    path, how = tmp_path / "in.ipynb", {"engine_name": "gateway", "progress_bar": False}
    with pytest.raises((TypeError, ValueError), match=re.escape(told)) as caught:
        papermill.execute_notebook(path, None, **how, **given)
    assert "sesame" not in str(caught.value)


def test_a_notebook_does_not_choose_a_running_kernel(
    kc: BlockingGatewayKernelClient, gateway: LocalGateway, tmp_path: Path
) -> None:
    """Its kernelspec is no ID; only an argument of the caller is."""
    nb = notebook("stolen = True")
    nb.metadata.kernelspec.name = kc.kernel_id
    nbformat.write(nb, tmp_path / "in.ipynb")
    how = {"engine_name": "gateway", "progress_bar": False, **gateway.options()}
    with pytest.raises(ValueError, match="the ID of a kernel and not a name"):
        papermill.execute_notebook(tmp_path / "in.ipynb", None, **how)
    check = "assert 'stolen' not in globals()"
    assert kc.execute(check, reply=True, timeout=60)["content"]["status"] == "ok"
    papermill.execute_notebook(tmp_path / "in.ipynb", None, kernel_name=kc.kernel_id, **how)
    assert kc.execute("assert stolen", reply=True, timeout=60)["content"]["status"] == "ok"
    how["kernel_name"] = "python3"
    papermill.execute_notebook(tmp_path / "in.ipynb", None, kernel_id=kc.kernel_id, **how)


@pytest.mark.parametrize("engine", [None, "gateway"])
def test_an_unknown_argument_is_what_it_is_to_papermill(engine: str | None, tmp_path: Path) -> None:
    """A warning of traitlets', which is an error here; it is not taken for an option of ours."""
    write(tmp_path, "1")
    with pytest.raises(DeprecationWarning, match="nonsense"):
        papermill.execute_notebook(
            tmp_path / "in.ipynb", None, engine_name=engine, progress_bar=False, nonsense=1
        )


# --- a gateway that is gone -----------------------------------------------------------------------

# The kernel is a child of its gateway.
KILLS_ITS_GATEWAY = "import os, signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
HOW_IT_ENDS = {
    "lost": ({"retries": 0}, GatewayConnectionClosed),
    "timeout": ({"timeout": 1}, CellTimeoutError),  # while the connection is being opened again
}


def execute_with_nbclient(
    folder: Path, gateway: LocalGateway, retries: int = 5, timeout: int | None = None
) -> None:
    options = {**gateway.options(), "gateway_retry_max": retries}
    nb = nbformat.read(folder / "in.ipynb", as_version=4)
    config = Config({"GatewayClient": options})
    NotebookClient(nb, kernel_manager_class=REMOTE, config=config, timeout=timeout).execute()


def execute_with_papermill(
    folder: Path, gateway: LocalGateway, retries: int = 5, timeout: int | None = None
) -> None:
    papermill.execute_notebook(
        folder / "in.ipynb",
        None,
        engine_name="gateway",
        progress_bar=False,
        execution_timeout=timeout,
        gateway_retry_max=retries,
        **gateway.options(),
    )


@pytest.mark.parametrize(
    ("execute", "ending"),
    [
        (execute_with_nbclient, "lost"),
        (execute_with_papermill, "lost"),
        (execute_with_nbclient, "timeout"),
    ],
)
def test_a_gateway_that_dies_in_a_cell_is_told_as_that(
    execute: Callable[..., None], ending: str, tmp_path: Path
) -> None:
    """nbclient then shuts the kernel down in a ``finally``: what fails there is a note."""
    options, kind = HOW_IT_ENDS[ending]
    write(tmp_path, "1", KILLS_ITS_GATEWAY)
    with own_gateway() as gateway, pytest.raises(kind) as caught:
        execute(tmp_path, gateway, **options)
    (note,) = caught.value.__notes__
    assert note.startswith("While cleaning up: GatewayConnectionError: ")


def test_a_clean_up_of_nbclient_that_fails_alone_is_an_error(tmp_path: Path) -> None:
    """All cells were executed, and the kernel could not be shut down."""
    write(tmp_path, "1")
    with own_gateway() as gateway:

        def stop(**_: object) -> None:
            gateway.stop()

        nb = nbformat.read(tmp_path / "in.ipynb", as_version=4)
        config = Config({"GatewayClient": {**gateway.options(), "gateway_retry_max": 0}})
        client = NotebookClient(nb, kernel_manager_class=REMOTE, config=config)
        client.on_cell_executed = stop
        with pytest.raises(GatewayConnectionError, match="/api/kernels/"):
            client.execute()
        atexit.unregister(client._cleanup_kernel)


# --- nbconvert ------------------------------------------------------------------------------------


def test_nbconvert_attaches_to_a_kernel_that_lives_on(
    kc: BlockingGatewayKernelClient, terminal: Terminal, gateway_env: LocalGateway
) -> None:
    """Told which by its configuration, in Python and on the command line."""
    assert kc.execute("secret = 42", reply=True, timeout=60)["content"]["status"] == "ok"
    config = Config({"BlockingGatewayKernelManager": {"kernel_id": kc.kernel_id}})
    nb = notebook("secret", "1 / 0")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        ExecutePreprocessor(kernel_manager_class=REMOTE, config=config).preprocess(nb)
    assert "42" in text_of(nb.cells[0])

    write(terminal.directory, "secret += 1; secret")
    status, out = run(
        terminal,
        *("-m", "nbconvert", "--to", "notebook", "--execute", "in.ipynb", "--output", "out"),
        f"--ExecutePreprocessor.kernel_manager_class={REMOTE}",
        f"--BlockingGatewayKernelManager.kernel_id={kc.kernel_id}",
        f"--GatewayClient.url={gateway_env.url}",
        JUPYTER_GATEWAY_URL="",
    )
    assert status == 0, out
    assert "43" in text_of(terminal.read("out.ipynb").cells[0])
    assert kc.execute("assert secret == 43", reply=True, timeout=60)["content"]["status"] == "ok"


# --- pytest's plugins -----------------------------------------------------------------------------

CONFTEST = f"""
from functools import partial
import nbmake.nb_run, nbval.kernel
from {REMOTE.rpartition(".")[0]} import {REMOTE.rpartition(".")[2]} as Remote

nbmake.nb_run.NotebookClient = partial(nbmake.nb_run.NotebookClient, kernel_manager_class=Remote)
nbval.kernel.KernelManager = Remote
"""


def test_nbmake_and_nbval_find_what_is_wrong(terminal: Terminal) -> None:
    """An output that is not the stored one, a cell that fails, and one that takes too long."""
    terminal.write("conftest.py", CONFTEST)
    sources = ("import os\nos.environ['KERNEL_GATEWAY']", "1 / 0", "import time; time.sleep(60)")
    nb = notebook(*sources)
    nb.cells[0].execution_count = 1
    nb.cells[0].outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": "'stored'"}, execution_count=1)
    ]
    nbformat.write(nb, terminal.directory / "in.ipynb")
    plugins = ("--nbmake", "--nbval", "--nbval-cell-timeout=2")
    status, out = run(terminal, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *plugins)
    assert status == 1
    for wrong in (
        "stored",
        "FAILED in.ipynb::in.ipynb",
        "ZeroDivisionError",
        "Timeout of 2 seconds",
    ):
        assert wrong in out
    assert "4 failed in" in out
