"""Notebooks: the same from a kernel behind the gateway as from one on this machine."""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import json
import time
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from gateway_blocking.local import LocalGateway
from support.notebooks import LOCAL, REMOTE, client_of, comparable, notebook, text_of
from support.servers import kernels_of

# What to execute, and what must be found in the cell's outputs.
CELLS = {
    "nothing": ("x = 6 * 7", ""),
    "result": ("x", "42"),
    "streams": (
        "import sys\n"
        "for i in range(3):\n"
        "    print('out', i, flush=True)\n"
        "    print('err', i, file=sys.stderr, flush=True)",
        "err 2",
    ),
    "many lines": ("for i in range(3000): print('line', i)", "line 2999"),
    "unicode": ("print('na\\u00efve \\u2603 \\U0001d4b3 \\x1b[31mred\\x1b[0m')", "na\u00efve"),
    "subprocess": ("!echo from a subprocess", "from a subprocess"),
    "html": ("from IPython.display import HTML\nHTML('<b>bold</b>')", "<b>bold</b>"),
    "picture": (
        "from IPython.display import Image\nImage(data=bytes(range(256)), format='png')",
        base64.b64encode(bytes(range(60))).decode(),
    ),
    "display": ("display('one', {'a': [1, 2]}, metadata={'text/plain': {'m': 1}})", "one"),
    "update": (
        "handle = display('before', display_id='here')\nhandle.update('after')",
        "after",
    ),
    "to be updated": ("h2 = display('first', display_id='there')", "changed later"),
    "update from elsewhere": ("h2.update('changed later')", ""),
    "clear": (
        "from IPython.display import clear_output\n"
        "print('gone', flush=True); clear_output(); print('stays')",
        "stays",
    ),
    "clear later": (
        "print('gone', flush=True); clear_output(wait=True); display('replaced')",
        "replaced",
    ),
    "error": ("def f():\n    raise ValueError('no \\u2603')\nf()", "ValueError"),
    "syntax": ("for", "SyntaxError"),
    "input": ("input('name? ')", "StdinNotImplementedError"),
    "pager": ("len?", ""),
    "await": ("import asyncio\nawait asyncio.sleep(0.01, 'awaited')", "awaited"),
    "thread": (
        "import threading\n"
        "t = threading.Thread(target=print, args=('from a thread',)); t.start(); t.join()",
        "from a thread",
    ),
    "10 MB": ("for i in range(10): display({'text/plain': str(i) * 2**20}, raw=True)", "9" * 2**20),
    "widget": ("import ipywidgets as w\nslider = w.IntSlider(value=3); slider", "widget-view+json"),
    "widget with bytes": ("w.Image(value=bytes(range(256)) * 300)", "widget-view+json"),
    "widget changed": ("slider.value = 7", ""),
    "output widget": (
        "caught = w.Output()\nwith caught:\n    print('caught')\n    display('rich')\ncaught",
        "widget-view+json",
    ),
    "what the widget caught": ("[o['output_type'] for o in caught.outputs]", "stream"),
    "comm with buffers": (
        "from comm import create_comm\n"
        "c = create_comm(target_name='nobody', buffers=[b'\\x00' * 70000])\n"
        "c.send({'a': 1}, buffers=[b'1', b'2']); c.close()",
        "",
    ),
    "at the end": ("'the kernel is well'", "the kernel is well"),
}


def execute(nb: nbformat.NotebookNode, manager: str = REMOTE, **kwargs: Any) -> None:
    try:
        client_of(nb, manager, **kwargs).execute()
    finally:
        # Tasks that nbclient forgot with their exceptions tell of them now.  Later, that could be
        # while pytest parses code to report a failure, which not every Python 3.11 survives.
        gc.collect()


# --- the same notebook ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed(gateway: LocalGateway) -> dict[str, nbformat.NotebookNode]:
    """One notebook with all CELLS, executed here and there."""
    nb = notebook(*(source for source, _ in CELLS.values()))
    done, kernels = {}, set(kernels_of(gateway))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GATEWAY_URL", gateway.url)
        patch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", gateway.token)
        for manager in (LOCAL, REMOTE):
            mine = copy.deepcopy(nb)
            options = {"allow_errors": True, "coalesce_streams": True, "timeout_func": _patience}
            execute(mine, manager, **options)
            done[manager] = mine
    assert set(kernels_of(gateway)) <= kernels
    return done


def _patience(cell: nbformat.NotebookNode) -> int:
    """How many seconds a cell may take.

    Over ZMQ nbclient now and then waits all of them although the reply is there: asyncio does not
    hear of it where nbclient has just sent on that socket, as it does for an Output widget.
    """
    return 5 if "Output()" in cell.source else 60


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_same_outputs(name: str, executed: dict[str, Any]) -> None:
    """Outputs, execution count and the names of the recorded times; and the outputs are right."""
    index = list(CELLS).index(name)
    here, there = (executed[manager].cells[index] for manager in (LOCAL, REMOTE))
    assert CELLS[name][1] in text_of(there)
    assert bool(there.outputs) == bool(CELLS[name][1])
    assert there.execution_count == index + 1
    assert there.metadata["execution"].keys() == here.metadata["execution"].keys()
    assert comparable(there) == comparable(here)


def test_the_metadata_are_the_same(executed: dict[str, Any]) -> None:
    """They have the kernel's language, and the state of all widgets with their buffers."""
    here, there = (executed[manager].metadata for manager in (LOCAL, REMOTE))
    assert there["language_info"]["name"] == "python"
    (states,) = (w["state"].values() for w in there["widgets"].values())
    (picture,) = (s for s in states if s["model_name"] == "ImageModel")
    (buffer,) = picture["buffers"]
    assert buffer["path"] == ["value"]
    assert base64.b64decode(buffer["data"]) == bytes(range(256)) * 300
    (slider,) = (s for s in states if s["model_name"] == "IntSliderModel")
    assert slider["state"]["value"] == 7
    (output,) = (s for s in states if s["model_name"] == "OutputModel")
    assert [o["output_type"] for o in output["state"]["outputs"]] == ["stream", "display_data"]
    assert comparable(there) == comparable(here)


def test_the_whole_notebook_is_the_same(executed: dict[str, Any]) -> None:
    """Nothing differs anywhere else, and it is a valid notebook."""
    nbformat.validate(executed[REMOTE])
    assert comparable(executed[REMOTE]) == comparable(executed[LOCAL])


def test_an_error_ends_the_notebook_as_it_does_here(gateway_env: LocalGateway) -> None:
    """Without allow_errors: the same exception, and what comes after is not executed."""
    nb = notebook("1", "fine = 1 / 0", "2")
    nb.cells.insert(1, nbformat.v4.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}))
    raised, done = [], []
    for manager in (LOCAL, REMOTE):
        mine = copy.deepcopy(nb)
        with pytest.raises(CellExecutionError) as caught:
            execute(mine, manager)
        raised.append((caught.value.ename, caught.value.evalue, caught.value.traceback))
        done.append(comparable(mine))
    assert raised[0] == raised[1]
    assert raised[1][:2] == ("ZeroDivisionError", "division by zero")
    assert [bool(cell["outputs"]) for cell in done[1]["cells"]] == [True, True, True, False]
    assert done[0] == done[1]


# --- time -----------------------------------------------------------------------------------------


class _Watching(NotebookClient):
    """Notes when each line that is printed is seen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: dict[str, float] = {}

    def process_message(self, msg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if msg["msg_type"] == "stream":
            self.seen[msg["content"]["text"].strip()] = time.monotonic()
        return super().process_message(msg, *args, **kwargs)


def test_output_is_live(gateway_env: LocalGateway) -> None:
    """A line is seen when it is printed, long before the cell ends."""
    source = "import time\nprint('first', flush=True); time.sleep(3); print('second')"
    client = _Watching(notebook(source), kernel_manager_class=REMOTE)
    client.execute()
    assert client.seen["second"] - client.seen["first"] > 2


def test_a_cell_that_takes_too_long_is_reported_in_time(gateway_env: LocalGateway) -> None:
    """CellTimeoutError after the time-out, not after the cell."""
    nb = notebook("print('started', flush=True)\nimport time; time.sleep(60)")
    begin = time.monotonic()
    with pytest.raises(CellTimeoutError, match="timed out"):
        execute(nb, timeout=2)
    assert 2 <= time.monotonic() - begin < 20
    assert "started" in text_of(nb.cells[0])


def test_a_cell_that_takes_too_long_is_interrupted(gateway_env: LocalGateway) -> None:
    """With interrupt_on_timeout the cell ends with KeyboardInterrupt, and the next one runs."""
    nb = notebook("import time; time.sleep(60)", "'going on'")
    execute(nb, timeout=2, interrupt_on_timeout=True, allow_errors=True)
    assert nb.cells[0].outputs[-1].ename == "KeyboardInterrupt"
    assert "going on" in text_of(nb.cells[1])


def test_a_kernel_that_dies_is_noticed(gateway_env: LocalGateway) -> None:
    """nbclient's own DeadKernelError, soon; what the gateway started in its place is gone too."""
    source = "import os, time; print('last words', flush=True); time.sleep(0.5); os._exit(1)"
    nb = notebook(source, "'never'")
    begin = time.monotonic()
    with pytest.raises(DeadKernelError, match="Kernel died"):
        execute(nb, timeout=60)
    assert time.monotonic() - begin < 20
    assert "last words" in text_of(nb.cells[0])
    assert not nb.cells[1].outputs


# --- other callers --------------------------------------------------------------------------------


def test_papermill_executes_with_parameters(gateway_env: LocalGateway, tmp_path: Any) -> None:
    """The same outputs as on a local kernel, with the parameters in force."""
    nb = notebook("n = 1", "print('n is', n)", "n ** 2")
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, tmp_path / "in.ipynb")
    outputs = []
    for name, options in (("local", {}), ("remote", {"kernel_manager_class": REMOTE})):
        done = papermill.execute_notebook(
            tmp_path / "in.ipynb",
            tmp_path / f"{name}.ipynb",
            parameters={"n": 12},
            progress_bar=False,
            cwd=tmp_path,
            **options,
        )
        written = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
        assert [c.source for c in written.cells] == [c.source for c in done.cells]
        outputs.append([comparable(cell.outputs) for cell in written.cells])
    assert "144" in json.dumps(outputs[1])
    assert outputs[0] == outputs[1]


def test_a_program_with_an_event_loop_goes_on(gateway_env: LocalGateway) -> None:
    """``await client.async_execute()`` leaves the loop to others while a cell runs."""
    nb = notebook("import time; time.sleep(2)", "'done'")
    ticks = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.05)
            ticks.append(time.monotonic())

    async def main() -> None:
        ticking = asyncio.ensure_future(tick())
        await client_of(nb).async_execute()
        ticking.cancel()

    asyncio.run(main())
    assert "done" in text_of(nb.cells[1])
    cell = nb.cells[0].metadata["execution"]
    assert cell["shell.execute_reply"] > cell["iopub.execute_input"]
    # A cell of two seconds: a loop that stands still would tick once or twice in that time.
    longest = sorted(ticks[i + 1] - ticks[i] for i in range(len(ticks) - 1))
    assert sum(gap < 0.5 for gap in longest) > 20


# --- in a kernel ----------------------------------------------------------------------------------

NESTED = """
def work():
    with run_kernel({options}) as kc:
        reply = kc.execute("a = 6 * 7", reply=True, timeout=30)
        print(reply["content"]["status"])
        while kc.get_iopub_msg(timeout=30)["content"].get("execution_state") != "idle":
            pass
        reply = kc.execute_interactive(
            "from IPython.display import HTML\\n"
            "print('inner', a); display(HTML('<b>rich</b>')); a", timeout=30)
        print(reply["content"]["execution_count"])
        kc.execute_interactive("1 / 0", timeout=30)
"""


def test_a_notebook_may_use_this_package(gateway_env: LocalGateway) -> None:
    """In a kernel, where an event loop always runs: it blocks, and shows output richly.

    The outputs are those that jupyter_client makes there with a kernel on its own machine.
    """
    options = ", ".join(f"{name}={value!r}" for name, value in gateway_env.options().items())
    nb = notebook(
        "from jupyter_client.manager import run_kernel",
        NESTED.format(options="kernel_name='python3'") + "work()",
        "from gateway_blocking import run_kernel",
        NESTED.format(options=options) + "work()",
        NESTED.format(options=options) + "async def main():\n    work()\nawait main()",
        "'going on'",
    )
    execute(nb, timeout=60)
    local, remote, in_a_coroutine = (_shown(nb.cells[i]) for i in (1, 3, 4))
    assert remote[0] == "ok\ninner 42\n2\n"
    assert [output["output_type"] for output in remote[1:]] == [
        *("display_data", "execute_result", "error")
    ]
    assert "<b>rich</b>" in json.dumps(remote)
    assert remote == local
    assert in_a_coroutine == local
    assert "going on" in text_of(nb.cells[5])


def _shown(cell: nbformat.NotebookNode) -> list[Any]:
    """What was printed, and then everything else: a kernel prints when it finds the time to."""
    printed = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
    return [printed, *(comparable(o) for o in cell.outputs if o.output_type != "stream")]
