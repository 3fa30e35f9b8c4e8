"""What nbclient can be asked to do: seen to be the same here and behind a gateway.

Each test does one thing with the manager of a kernel on this machine and with ours, and compares
all that can be seen of it: the notebook, the exception with its text, the hooks that were called.
What is done with a kernel that runs is also done with a bridge and jupyter_client's own manager.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import copy
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.util import ensure_async, run_sync
from traitlets.config import Config

from gateway_blocking.local import LocalGateway
from support.bridges import SPEC, bridge_kernelspec
from support.notebooks import LOCAL, REMOTE, client_of, comparable, notebook, text_of
from support.servers import kernels_of, own_gateway
from support.waiting import wait_until

# The gateway looks every 3 s whether its kernels live, nbclient every second whether the client
# says so: 4 s at the most, and the rest is for a machine with other things to do.
SOON = 30.0

SLEEP = "import time; print('begun', flush=True); time.sleep(60)"

# A kernel that once forgets to say that it is idle: its reply comes, its output has no end.
MUTE = """
kernel = get_ipython().kernel
publish = kernel._publish_status

def mute(status, *args, **kwargs):
    if status == "idle":
        del kernel._publish_status
    else:
        publish(status, *args, **kwargs)

kernel._publish_status = mute
'muted'
"""

STREAMS = r"""
import sys
for i in range(3):
    print('out', i, flush=True)
    print('err', i, file=sys.stderr, flush=True)
print('10%', end='\r', flush=True)
print('20%', end='\r', flush=True)
print('30%', flush=True)
"""


BRIDGE = "bridge"  # the third kernel, beside LOCAL and REMOTE


@pytest.fixture(scope="module")
def kernels(
    gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, KernelManager]]:
    """A kernel here, one behind the gateway and one behind a bridge.

    They are for all that a cell can do without harm to them.
    """
    clients = {
        LOCAL: client_of(notebook(), LOCAL),
        REMOTE: client_of(notebook(), REMOTE),
        BRIDGE: client_of(notebook(), LOCAL, kernel_name=SPEC),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GATEWAY_URL", gateway.url)
        patch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", gateway.token)
        with bridge_kernelspec(gateway, tmp_path_factory.mktemp("bridge")):
            for client in clients.values():
                client.create_kernel_manager()
                client.start_new_kernel()
                # jupyter_client keeps a socket of the first client while the manager lives
                run_sync(outcome)(NotebookClient(notebook(), km=client.km))
    yield {name: client.km for name, client in clients.items()}
    for client in clients.values():
        client._cleanup_kernel()


def interrupt(km: KernelManager) -> None:
    async def _interrupt() -> None:
        await ensure_async(km.interrupt_kernel())

    run_sync(_interrupt)()


def both(look: Callable[[str], Awaitable[Any]], others: Iterable[str] = (REMOTE,)) -> Any:
    """What `look` sees with our manager, having seen the same with the local one, side by side."""
    names = [LOCAL, *(name for name in others if name != LOCAL)]

    async def _both() -> Any:
        return await asyncio.gather(*map(look, names))

    here, *there = run_sync(_both)()
    for name, seen in zip(names[1:], there, strict=True):
        assert comparable(seen) == comparable(here), name
    return there[0]


def one_by_one(look: Callable[[str], Any]) -> Any:
    """As `both`, for what blocks."""
    here, there = look(LOCAL), look(REMOTE)
    gc.collect()
    assert comparable(there) == comparable(here)
    return there


async def outcome(client: NotebookClient, **kwargs: Any) -> dict[str, Any]:
    """The notebook that was executed, and the exception in the words of a traceback."""
    raised = None
    try:
        await client.async_execute(**kwargs)
    except Exception as error:
        raised = [type(error).__name__, re.sub("\x1b\\[[0-9;]*m", "", str(error))]
    finally:
        if client.kc is not None:  # nbclient leaves it to whom the manager belongs
            client.kc.stop_channels()
        gc.collect()  # now, not in the middle of another test (see test_notebooks)
    return {"raised": raised, **client.nb}


# --- what happens to a cell -----------------------------------------------------------------------


class Case(NamedTuple):
    """Cells (or a cell and its tag), what nbclient is told, what comes out."""

    cells: list[str | tuple[str, str]]
    options: dict[str, Any]
    shown: list[str]  # in the outputs of each cell; empty: it has none
    raised: tuple[type[BaseException], str] | None = None


CASES = {
    "time-out": Case(
        [SLEEP, "'never'"],
        {"timeout": 1},
        ["begun", ""],
        (CellTimeoutError, "Cell execution timed out"),
    ),
    "a time-out of its own for each cell": Case(
        ["import time; time.sleep(1.2); 'had the time'", SLEEP, "'never'"],
        {"timeout": 1, "timeout_func": lambda cell: 1 if "60" in cell.source else -1},
        ["had the time", "begun", ""],
        (CellTimeoutError, "after 1 seconds"),
    ),
    "interrupt_on_timeout": Case(
        [(SLEEP, "raises-exception"), "'going on'", SLEEP, "'never'"],
        {"timeout": 1, "interrupt_on_timeout": True},
        ["KeyboardInterrupt", "going on", "KeyboardInterrupt", ""],
        (CellExecutionError, "KeyboardInterrupt"),
    ),
    "error_on_timeout": Case(
        [SLEEP, "'going on'"],
        {
            "timeout": 1,
            "interrupt_on_timeout": True,
            "allow_error_names": ["TooSlow"],
            "error_on_timeout": {"ename": "TooSlow", "evalue": "60 s", "traceback": []},
            "record_timing": False,  # nbclient would use a function that Python 3.12 deprecates
        },
        ["begun", "going on"],
    ),
    "allow_errors": Case(["1 / 0", "'on'"], {"allow_errors": True}, ["ZeroDivisionError", "on"]),
    "allow_error_names": Case(
        ["1 / 0", "'on'", "[][0]", "'never'"],
        {"allow_error_names": ["ZeroDivisionError"]},
        ["ZeroDivisionError", "on", "IndexError", ""],
        (CellExecutionError, "IndexError: list index out of range"),
    ),
    "the tag raises-exception": Case(
        [("1 / 0", "raises-exception"), "'on'", "1 / 0", "'never'"],
        {},
        ["ZeroDivisionError", "on", "ZeroDivisionError", ""],
        (CellExecutionError, "ZeroDivisionError: division by zero"),
    ),
    "force_raise_errors": Case(
        [("1 / 0", "raises-exception"), "'never'"],
        {"allow_errors": True, "force_raise_errors": True},
        ["ZeroDivisionError", ""],
        (CellExecutionError, "ZeroDivisionError: division by zero"),
    ),
    "the tag skip-execution": Case([("1 / 0", "skip-execution"), "'on'"], {}, ["", "on"]),
    "raise_on_iopub_timeout": Case(
        [MUTE, "'never'"],
        {"raise_on_iopub_timeout": True, "iopub_timeout": 1},
        ["muted", ""],
        (CellTimeoutError, "Timeout waiting for IOPub output"),
    ),
    "iopub_timeout": Case([MUTE, "'on'"], {"iopub_timeout": 1}, ["muted", "on"]),
    "record_timing": Case(["'timed'"], {"record_timing": True}, ["timed"]),
    "no record_timing": Case(["'untimed'"], {"record_timing": False}, ["untimed"]),
    "coalesce_streams": Case([STREAMS], {"coalesce_streams": True}, ["err 2"]),
}

TIMES = [
    "iopub.execute_input",
    "iopub.status.busy",
    "iopub.status.idle",
    "shell.execute_reply",
]


@pytest.mark.parametrize("name", CASES)
def test_a_cell_behaves_the_same(name: str, kernels: dict[str, KernelManager]) -> None:
    """Outputs, exception with its text, recorded times; the kernel can be used afterwards."""
    case = CASES[name]
    nb = notebook(*(c if isinstance(c, str) else c[0] for c in case.cells))
    for cell, given in zip(nb.cells, case.cells, strict=True):
        if not isinstance(given, str):
            cell.metadata["tags"] = [given[1]]

    async def look(manager: str) -> dict[str, Any]:
        km = kernels[manager]
        mine = copy.deepcopy(nb)
        return await outcome(NotebookClient(mine, km=km, **copy.deepcopy(case.options)))

    try:
        seen = both(look, kernels)
    finally:
        if "interrupt_on_timeout" not in case.options and SLEEP in case.cells:
            for km in kernels.values():
                interrupt(km)
        kernels[REMOTE].rest.close()  # or it keeps a connection for the next request
    if case.raised:
        assert seen["raised"][0] == case.raised[0].__name__
        assert case.raised[1] in seen["raised"][1]
    else:
        assert seen["raised"] is None
    for cell, shown in zip(seen["cells"], case.shown, strict=True):
        assert shown in text_of(cell)
        assert bool(cell.outputs) == bool(shown)
    if name == "record_timing":
        assert sorted(seen["cells"][0].metadata["execution"]) == TIMES
    if name == "no record_timing":
        assert seen["cells"][0].metadata == {}
    if name == "coalesce_streams":
        out, err = seen["cells"][0].outputs
        assert (out.name, err.name) == ("stdout", "stderr")
        assert out.text == "out 0\nout 1\nout 2\n30%\n"


def test_the_hooks_are_called_the_same(kernels: dict[str, KernelManager]) -> None:
    """In the same order, with the same arguments, also those that are coroutines."""
    nb = notebook("print('one')", "", "1 / 0", "'three'")
    nb.cells.insert(1, nbformat.v4.new_markdown_cell("text"))
    nb.cells[3].metadata["tags"] = ["raises-exception"]
    names = [name for name in NotebookClient.class_traits(config=True) if name.startswith("on_")]

    def hooks(calls: list[Any]) -> dict[str, Any]:
        def noting(name: str) -> Callable[..., Any]:
            def hook(**kwargs: Any) -> None:
                reply = kwargs.get("execute_reply", {})
                calls.append(
                    [
                        name,
                        sorted(kwargs),
                        kwargs.get("cell_index"),
                        kwargs.get("cell"),
                        sorted(reply),
                        {k: v for k, v in reply.get("content", {}).items() if k != "engine_info"},
                        reply.get("msg_type"),
                    ]
                )
                calls[-1] = copy.deepcopy(calls[-1])

            async def coroutine(**kwargs: Any) -> None:
                await asyncio.sleep(0)
                hook(**kwargs)

            return coroutine if name == "on_cell_execute" else hook

        return {name: noting(name) for name in names}

    async def look(manager: str) -> list[Any]:
        calls: list[Any] = []
        client = NotebookClient(copy.deepcopy(nb), km=kernels[manager], **hooks(calls))
        return [await outcome(client), calls]

    seen, calls = both(look, kernels)
    assert seen["raised"] is None
    whole = ["on_cell_start", "on_cell_execute", "on_cell_complete", "on_cell_executed"]
    assert [(call[0], call[2]) for call in calls] == [
        ("on_notebook_start", None),
        *((name, 0) for name in whole),
        ("on_cell_start", 1),
        ("on_cell_start", 2),
        *((name, 3) for name in [*whole, "on_cell_error"]),
        *((name, 4) for name in whole),
        ("on_notebook_complete", None),
    ]
    (error,) = (call for call in calls if call[0] == "on_cell_error")
    assert error[5]["ename"] == "ZeroDivisionError"


@pytest.mark.parametrize("store", [True, False])
def test_the_state_of_widgets_is_stored_the_same(
    store: bool, kernels: dict[str, KernelManager]
) -> None:
    """With their binary buffers, in the notebook's metadata; or not at all."""
    nb = notebook(
        "import ipywidgets as w\npicture = w.Image(value=bytes(range(256)) * 400); picture",
        "picture.value = bytes(range(255, -1, -1))",
    )

    async def look(manager: str) -> dict[str, Any]:
        km, mine = kernels[manager], copy.deepcopy(nb)
        return await outcome(NotebookClient(mine, km=km, store_widget_state=store))

    seen = both(look, kernels)
    assert "widget-view+json" in text_of(seen["cells"][0])
    assert ("widgets" in seen["metadata"]) == store
    if store:
        (states,) = (w["state"].values() for w in seen["metadata"]["widgets"].values())
        (image,) = (s for s in states if s["model_name"] == "ImageModel")
        (buffer,) = image["buffers"]
        assert base64.b64decode(buffer["data"]) == bytes(range(255, -1, -1))


# --- the life of a kernel -------------------------------------------------------------------------


def test_cells_can_be_executed_one_by_one(gateway_env: LocalGateway) -> None:
    """``setup_kernel()`` and ``execute_cell()``, with and without history; then it is gone."""
    found = "any('hid' + 'den' in source for source in In)"
    source = notebook("x = 1", "hidden = 1", found, "1 / 0", "x")

    def look(manager: str) -> Any:
        nb = copy.deepcopy(source)
        client = client_of(nb, manager)
        seen = []
        with client.setup_kernel():
            client.execute_cell(nb.cells[0], 0)
            for store_history in (False, True):
                client.execute_cell(nb.cells[1], 1, store_history=store_history)
                client.execute_cell(nb.cells[2], 2, execution_count=77)
                seen.append(copy.deepcopy(nb.cells[2]))
            with pytest.raises(CellExecutionError, match="division by zero"):
                client.execute_cell(nb.cells[3], 3)
            client.execute_cell(nb.cells[4], 4)
        assert client.km is None
        assert client.kc is None
        return [*seen, nb]

    before = kernels_of(gateway_env)
    *cells, nb = one_by_one(look)
    assert [c.outputs[0]["data"]["text/plain"] for c in cells] == ["False", "True"]
    assert [c.execution_count for c in cells] == [77, 77]
    assert "1" in text_of(nb.cells[4])
    assert sorted(kernels_of(gateway_env)) == sorted(before)


def test_cells_can_be_executed_in_a_coroutine(gateway_env: LocalGateway) -> None:
    """``async_setup_kernel()`` in a loop of the caller's own."""

    nb = notebook("x = 6", "x * 7")

    async def execute(manager: str) -> Any:
        client = client_of(copy.deepcopy(nb), manager, shutdown_kernel="immediate")
        async with client.async_setup_kernel():
            for index, cell in enumerate(client.nb.cells):
                await client.async_execute_cell(cell, index)
            assert await ensure_async(client.km.is_alive())
        assert client.km is None
        return client.nb

    seen = one_by_one(lambda manager: asyncio.run(execute(manager)))
    assert "42" in text_of(seen.cells[1])


def test_a_client_can_execute_again(gateway_env: LocalGateway) -> None:
    """With the kernel that it kept, with a new one, and not where there is none to reset."""
    nb = notebook("x = globals().get('x', 0) + 1; x")

    async def look(manager: str) -> Any:
        client = client_of(copy.deepcopy(nb), manager)
        seen = []
        for kwargs in ({"cleanup_kc": False}, {"cleanup_kc": False}, {"reset_kc": True}):
            await client.async_execute(**kwargs)
            seen.append(copy.deepcopy(client.nb))
        with pytest.raises(AssertionError):
            await client.async_execute(reset_kc=True)
        return seen

    values = [seen.cells[0].outputs[0]["data"]["text/plain"] for seen in both(look)]
    assert values == ["1", "2", "1"]


@pytest.mark.parametrize("how", ["graceful", "immediate"])
def test_a_kernel_begins_and_ends_the_same(
    how: str, gateway_env: LocalGateway, tmp_path: Path
) -> None:
    """In the directory that was asked for; with time to clean up, unless it is to end at once.

    A gateway always gives that time: then, what was cleaned up at once is nothing to count on.
    """
    nb = notebook(
        "import atexit, os, pathlib\n"
        "atexit.register(lambda: pathlib.Path('bye').write_text('bye'))\n"
        "os.getcwd(), pathlib.Path('bye').exists(), os.getpid()"
    )

    def look(manager: str) -> Any:
        there = tmp_path / "there"
        there.mkdir(exist_ok=True)
        client = client_of(
            copy.deepcopy(nb),
            manager,
            shutdown_kernel=how,
            startup_timeout=50,
            extra_arguments=["--InteractiveShell.history_length=7"],
            resources={"metadata": {"path": str(there)}},
        )
        client.execute()
        cwd, found, pid = eval(client.nb.cells[0].outputs[0]["data"]["text/plain"])
        assert cwd == str(there)
        assert not found
        assert not _runs(pid)
        bye = there / "bye"
        cleaned_up = bye.exists()
        bye.unlink(missing_ok=True)
        return [cleaned_up or how == "immediate", client.extra_arguments, client.nb.metadata]

    seen = one_by_one(look)
    assert seen[0]
    assert seen[1][-1] == "--HistoryManager.hist_file=:memory:"


def test_a_kernel_that_dies_is_noticed_the_same(gateway_env: LocalGateway) -> None:
    """The same exception, soon after the death, and the same hooks; however it dies."""
    took = []

    async def look_at(nb: nbformat.NotebookNode, manager: str) -> Any:
        calls: list[str] = []
        client = client_of(
            copy.deepcopy(nb),
            manager,
            on_notebook_error=lambda notebook: calls.append("error"),
            on_notebook_complete=lambda notebook: calls.append("complete"),
        )
        seen = await outcome(client)
        died = client.nb.cells[1].outputs.pop()["text"]
        took.append(time.time() - float(died))
        return [seen["raised"], calls, client.nb.cells, client.km is None]

    deaths = [
        notebook(
            "import os, time",
            "print('last words', flush=True); time.sleep(2)\n"
            f"print(time.time(), flush=True); time.sleep(0.1); {death}",
            "'never'",
        )
        for death in ("os._exit(1)", "os.kill(os.getpid(), 9)")
    ]

    async def look(manager: str) -> Any:
        return await asyncio.gather(*(look_at(nb, manager) for nb in deaths))

    for raised, calls, cells, gone in both(look):
        assert raised == [DeadKernelError.__name__, "Kernel died"]
        assert calls == ["error", "complete"]
        assert text_of(cells[1]).count("last words") == 1
        assert not cells[2].outputs
        assert gone
    assert max(took) < SOON


def test_what_a_cell_says_when_its_kernel_is_ended(
    gateway_env: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A cell that timed out is interrupted by the shutdown: its last output is in the notebook."""
    nb = notebook(SLEEP)

    def look(manager: str) -> nbformat.NotebookNode:
        mine = copy.deepcopy(nb)
        with pytest.raises(CellTimeoutError):
            client_of(mine, manager, timeout=1).execute()
        return mine

    cells = one_by_one(look).cells
    run_sync(asyncio.sleep)(0)  # what nbclient forgot, if anything, runs and fails now
    gc.collect()
    assert "KeyboardInterrupt" in text_of(cells[0])
    assert "never retrieved" not in caplog.text


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or ") Z " not in state.read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


PROGRAM = """
import sys, nbformat
from nbclient import NotebookClient

directory, manager, how = sys.argv[1:]
nb = nbformat.read(f"{directory}/in.ipynb", 4)
place = {"metadata": {"path": directory}}
client = NotebookClient(nb, kernel_manager_class=manager, resources=place)
try:
    if how == "execute":
        client.execute()
    else:
        with client.setup_kernel():
            for index, cell in enumerate(nb.cells):
                client.execute_cell(cell, index)
except BaseException as error:
    nb.metadata.raised = repr(error)
    raise
finally:
    nbformat.write(nb, f"{directory}/out.ipynb")
"""


@pytest.mark.parametrize("how", ["execute", "execute_cell"])
def test_ctrl_c_ends_it_the_same(how: str, gateway_env: LocalGateway, tmp_path: Path) -> None:
    """The program ends, its kernel is gone, and what was executed so far can be saved."""
    before = set(kernels_of(gateway_env))
    nb = notebook(
        "print('finished')\n'with a result'",
        "import os, time; print(os.getpid(), flush=True); time.sleep(2)\n"
        "open('begun', 'x').close(); time.sleep(60)",
        "'never'",
    )
    programs = {}
    for side, manager in (("local", LOCAL), ("remote", REMOTE)):
        (tmp_path / side).mkdir()
        nbformat.write(nb, tmp_path / side / "in.ipynb")
        arguments = ["-c", PROGRAM, tmp_path / side, manager, how]
        programs[tmp_path / side] = subprocess.Popen([sys.executable, *arguments])
    seen = []
    try:
        for directory, program in programs.items():
            wait_until((directory / "begun").exists)
            program.send_signal(signal.SIGINT)
            program.wait(timeout=30)
            done = nbformat.read(directory / "out.ipynb", 4)
            pid = int(done.cells[1].outputs.pop(0)["text"])
            wait_until(lambda pid=pid: not _runs(pid))
            raised = done.metadata.pop("raised")
            if how == "execute_cell":  # else nbclient's handler races with the cell it ends
                assert raised == "KeyboardInterrupt()"
            seen.append([program.returncode, done.metadata, done.cells[0], done.cells[2]])
    finally:
        for program in programs.values():
            if program.poll() is None:
                program.kill()
                program.wait()
    here, there = seen
    assert comparable(there) == comparable(here)
    assert there[0] != 0
    assert "with a result" in text_of(there[2])
    assert not there[3].outputs
    assert set(kernels_of(gateway_env)) <= before


# --- a kernel that runs already -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_a_kernel_that_was_attached_to_lives_on(
    how: str, kernels: dict[str, KernelManager], gateway_env: LocalGateway
) -> None:
    """Its variables are there; after the end, an error and a time-out it is still there."""
    kernel_id = kernels[REMOTE].kernel_id

    def execute(*cells: str, **options: Any) -> dict[str, Any]:
        argument = {}
        if how == "argument":
            argument["kernel_id"] = kernel_id
        else:
            options["config"] = Config({"BlockingGatewayKernelManager": {"kernel_id": kernel_id}})
        client = client_of(notebook(*cells), **options)
        seen: dict[str, Any] = run_sync(outcome)(client, **argument)
        assert client.km is None
        assert kernels_of(gateway_env).count(kernel_id) == 1
        return seen

    before = sorted(kernels_of(gateway_env))
    assert execute(f"set_by = {how!r}")["raised"] is None
    assert how in text_of(execute("set_by")["cells"][0])
    assert execute("set_by = 'a cell with an error'; 1 / 0")["raised"][0] == "CellExecutionError"
    assert execute(SLEEP, timeout=1)["raised"][0] == "CellTimeoutError"
    interrupt(kernels[REMOTE])
    kernels[REMOTE].cleanup_resources()  # the connection which that was asked by is kept otherwise
    assert "a cell with an error" in text_of(execute("set_by")["cells"][0])
    assert sorted(kernels_of(gateway_env)) == before


# --- kernels of another kind ----------------------------------------------------------------------

SPECS = {
    "bash": (["-m", "bash_kernel", "-f", "{connection_file}"], {"PS1": "$"}),
    "deaf": (["-c", "import time; time.sleep(60)", "{connection_file}"], {}),
}


@pytest.fixture(scope="module")
def other_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGateway]:
    """A gateway with kernelspecs that nobody installed, which are known on this machine too."""
    path = tmp_path_factory.mktemp("jupyter")
    for name, (args, env) in SPECS.items():
        spec = {"argv": [sys.executable, *args], "display_name": name, "language": name, "env": env}
        (path / "kernels" / name).mkdir(parents=True)
        (path / "kernels" / name / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(path))
        with own_gateway() as gateway:
            patch.setenv("JUPYTER_GATEWAY_URL", gateway.url)
            patch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", gateway.token)
            yield gateway


def test_a_notebook_in_another_language(other_gateway: LocalGateway) -> None:
    """Bash: outputs, an error, and what the kernel says of its language."""
    nb = notebook(
        "greeting='from bash'",
        "for i in 1 2 3; do echo $i $greeting; done",
        "echo out; echo err >&2; printf 'no end'",
        "cd /; pwd; echo naïve ☃",
        "ls /there-is-no-such-file",
        "sleep 60",
        "echo going on",
    )
    nb.metadata["kernelspec"] = {"name": "bash", "display_name": "Bash", "language": "bash"}

    async def look(manager: str) -> dict[str, Any]:
        mine = copy.deepcopy(nb)
        options = {"allow_errors": True, "coalesce_streams": True, "interrupt_on_timeout": True}
        timeout = {"timeout_func": lambda cell: 1 if cell.source == "sleep 60" else 60}
        seen = await outcome(client_of(mine, manager, **options, **timeout))
        # bash's terminal ends a line with both, and its kernel sends them together or apart
        return json.loads(json.dumps(seen).replace(r"\r\n", r"\n"))  # type: ignore[no-any-return]

    seen = both(look)
    assert seen["raised"] is None
    texts = ["".join(o.get("text", "") for o in cell["outputs"]) for cell in seen["cells"]]
    assert texts[1] == "1 from bash\n2 from bash\n3 from bash\n"
    assert "naïve ☃" in texts[3]
    assert seen["cells"][4]["outputs"][-1]["output_type"] == "error"
    assert texts[6] == "going on\n"
    assert seen["metadata"]["language_info"]["name"] == "bash"
    assert seen["metadata"]["language_info"]["file_extension"] == ".sh"


def _refused(manager: str, kernel_name: str) -> tuple[list[str], str, float]:
    """The names of the exception's classes, its text, and how many seconds it took."""
    client = client_of(notebook("1"), manager, kernel_name=kernel_name, startup_timeout=2)
    begin = time.monotonic()
    try:
        with pytest.raises(Exception) as caught:
            client.execute()
        classes = [f"{c.__module__}.{c.__name__}" for c in caught.type.__mro__]
        return classes, str(caught.value), time.monotonic() - begin
    finally:
        atexit.unregister(client._cleanup_kernel)  # nbclient forgets it where the start fails
        if client.km is not None:
            client._cleanup_kernel()
        gc.collect()


def test_a_kernel_that_does_not_answer(
    other_gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nbclient's startup_timeout: a RuntimeError, in time, and the kernel is ended."""
    for name in ("JUPYTER_GATEWAY_REQUEST_TIMEOUT", "KERNEL_LAUNCH_TIMEOUT"):
        monkeypatch.setenv(name, "40")
    here, there = _refused(LOCAL, "deaf"), _refused(REMOTE, "deaf")
    assert not kernels_of(other_gateway)
    assert here[0][0] in there[0]
    assert here[1] in there[1]
    assert there[2] < 40


def test_a_kernelspec_that_does_not_exist(other_gateway: LocalGateway) -> None:
    """The exception of jupyter_client, or a kind of it, which names the kernelspec."""
    here, there = _refused(LOCAL, "no-such-kernel"), _refused(REMOTE, "no-such-kernel")
    assert "no-such-kernel" in there[1]
    assert here[0][0] in there[0]
