"""run() and stream() of a client with real kernels: beside nbclient, and when something fails."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    ExecutionError,
    GatewayTimeout,
    KernelRestarted,
    NoSuchKernel,
    run_kernel,
)
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.notebooks import LOCAL, client_of, comparable, notebook
from support.waiting import wait_until

IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)

# Each is executed by run() behind the gateway, and by nbclient on a kernel of this machine.
SNIPPETS = {
    "nothing": "",
    "a comment": "# nothing",
    "a value": "6 * 7",
    "None": "None",
    "a semicolon": "6 * 7;",
    "a stream": "print('a'); print('b')",
    "both streams": """
import subprocess
import sys
for i in range(3):
    print('out', i, flush=True)
    print('err', i, file=sys.stderr, flush=True)
""",
    "a stream and a value": "print('a', flush=True)\n'b'",
    "no line break at the end": "print('a', end='', flush=True)\n'b'",
    "carriage returns": r"for i in range(3): print(i, end='\r', flush=True)",
    "backspaces": r"print('abc\b\bd')",
    "colours": r"print('\x1b[31mred\x1b[0m')",
    "Unicode": "print('ü \\U0001f600 \\u2028 \\u4e2d')\n'\\u202e'",
    "null characters": r"print('a\0b')",
    "two values": """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.ast_node_interactivity = 'all'
""",
    "two values, shown": "1\n2",
    "one value again": "InteractiveShell.ast_node_interactivity = 'last_expr'",
    "a display": "from IPython.display import *\ndisplay('a', 'b')",
    "a display and a value": "display('a')\n'b'",
    "HTML": "HTML('<b>x</b>')",
    "Markdown and LaTeX": "display(Markdown('*x*'), Latex('$x$'), Math('x'))",
    "JSON": "JSON({'a': [1, None, 'x']})",
    "SVG": "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')",
    "an image": f"import base64\nImage(base64.b64decode('{IMAGE}'))",
    "a type of one's own": "display({'application/x-own': 'x'}, raw=True)",
    "metadata": "display({'text/plain': 'x'}, metadata={'a': {'b': 1}}, raw=True)",
    "an object with a bundle": """
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/plain': 'x', 'text/html': '<i>x</i>'}
Bundle()
""",
    "a repr that fails": """
class Bad:
    def __repr__(self):
        raise ValueError('no repr')
Bad()
""",
    "an update": """
handle = display('a', display_id='one')
display('b')
handle.update('c')
""",
    "an ID that is displayed twice": "display('a', display_id='x'); display('b', display_id='x')",
    "clear_output": "print('a', flush=True); clear_output(); print('b')",
    "clear_output that waits": "print('a', flush=True); clear_output(wait=True); print('b')",
    "clear_output that waits in vain": "print('a', flush=True); clear_output(wait=True)",
    "a display after clear_output": """
handle = display('a', display_id='two')
clear_output()
handle.update('b')
display('c', display_id='two')
""",
    "an exception": "print('before', flush=True)\n1 / 0",
    "an exception with a cause": """
try:
    1 / 0
except ZeroDivisionError as error:
    raise ValueError('two\\nlines') from error
""",
    "a syntax error": "def",
    "an exit with a text": "raise SystemExit('text')",
    "a keyboard interrupt": "raise KeyboardInterrupt",
    "input": "input('name? ')",
    "a magic": "%pwd\npass",
    "a shell command": "!echo from the shell",
    "a captured cell": "%%capture hidden\nprint('x')\ndisplay('y')",
    "captured output, shown": "hidden.show()",
    "a process that prints": "import subprocess\nprint(subprocess.getoutput('echo x'))",
    "a thread that prints": """
import threading
thread = threading.Thread(target=print, args=('from a thread',))
thread.start(); thread.join()
""",
    "a progress bar": """
from tqdm import tqdm
for _ in tqdm(range(3), bar_format='{n}', mininterval=0): pass
""",
    "a widget": "import ipywidgets\nipywidgets.IntSlider(value=3)",
    "a widget that changes": "s = ipywidgets.IntProgress(); display(s); s.value = 50; s.value",
    "a lone surrogate": r"print(ascii('\ud800'))",
    # Fewer than the 1,000 messages that ZMQ keeps for a gateway which is busy.
    "many small outputs": "for i in range(500): print(i, flush=True)",
    "10 MB": "print('x' * 10_000_000)",
    "100 MB": "for x in 'ghijklmnopqrstuvwxyz': print(x * 4_999_999, flush=True)",
    "logging": "import logging; logging.getLogger('x').warning('warned')",
    "a warning": "import warnings; warnings.warn('careful')",
    "a paged help": "get_ipython().run_line_magic('pinfo', 'len')",
    "await": "import asyncio\nawait asyncio.sleep(0)\n'awaited'",
}


@pytest.fixture(scope="module")
def kc(gateway: LocalGateway) -> Iterator[BlockingGatewayKernelClient]:
    with run_kernel(**gateway.options()) as client:
        yield client


@pytest.fixture(scope="module")
def here() -> Iterator[NotebookClient]:
    """nbclient with a kernel on this machine."""
    client = client_of(notebook(), LOCAL)
    client.create_kernel_manager()
    client.start_new_kernel()
    client.start_new_kernel_client()
    yield client
    client._cleanup_kernel()


def by_nbclient(client: NotebookClient, code: str) -> list[dict[str, Any]]:
    """The outputs, with the parts of a stream merged."""
    cell = notebook(code).cells[0]
    client.nb.cells = [cell]
    try:
        client.execute_cell(cell, 0)
    except CellExecutionError:
        pass
    merged: list[dict[str, Any]] = []
    for output in cell.outputs:
        last = merged[-1] if merged else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            merged.append(dict(output))
    return merged


def without_counts(outputs: list[dict[str, Any]]) -> Any:
    """Return the outputs without their numbers: an empty cell has none in one of two kernels."""
    text = comparable([{**each, "execution_count": None} for each in outputs])
    for each in text:
        if each["output_type"] == "error":
            each["traceback"] = [line.split("Cell")[0] for line in each["traceback"][:1]]
    return text


@pytest.mark.parametrize("name", SNIPPETS)
def test_outputs_are_those_of_nbclient(
    name: str, kc: BlockingGatewayKernelClient, here: NotebookClient
) -> None:
    """Each snippet has the same outputs, which nbformat accepts; nothing is missing."""
    done = kc.run(SNIPPETS[name], timeout=100)
    wanted = by_nbclient(here, SNIPPETS[name])
    # The second comparison takes seconds for 100 MB.
    assert done.outputs == wanted or without_counts(done.outputs) == without_counts(wanted)
    # A value whose repr fails takes a message number that is never sent.
    assert done.complete is (None if name == "a repr that fails" else True)
    nbformat.validate(nbformat.v4.new_notebook(cells=[done.to_cell()]))


def test_a_thread_that_prints_late_does_not_disturb(kc: BlockingGatewayKernelClient) -> None:
    """The output of an earlier execution does not get into a later one."""
    kc.run("import threading, time\nthreading.Timer(0.2, print, ['late']).start()", timeout=60)
    done = kc.run("time.sleep(1); print('mine')", timeout=60)
    assert done.stdout.replace("late\n", "") == "mine\n"


def test_the_output_widget_hides_nothing(kc: BlockingGatewayKernelClient) -> None:
    """nbclient moves such output into the widget's state; here there is no widget to show it."""
    done = kc.run("import ipywidgets\nwith ipywidgets.Output(): print('inside')", timeout=60)
    assert done.stdout == "inside\n"


def test_run_costs_at_most_a_tenth_of_a_round_trip(kc: BlockingGatewayKernelClient) -> None:
    """More than execute_interactive(), whose gateway and kernel do the same.

    What differs is the CPU time of this process, which no other process prolongs by much.  It is
    compared with the time of a round trip, and with the CPU time of execute_interactive(), because
    a round trip is long on a busy machine.  The figures are medians of pairs.
    """

    def interactive() -> None:
        kc.execute_interactive("pass", output_hook=len, allow_stdin=False, timeout=60)

    def seconds(work: Callable[[], object]) -> tuple[float, float]:
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(15):
            work()
        return time.perf_counter() - begun, time.process_time() - cpu

    pairs = []
    for _ in range(9):
        elapsed, cpu = seconds(interactive)
        pairs.append((elapsed, cpu, seconds(lambda: kc.run("pass", timeout=60))[1]))
    round_trip = median(elapsed for elapsed, _, _ in pairs)
    extra = median(run - cpu for _, cpu, run in pairs)
    assert extra < 0.1 * round_trip
    assert extra < 0.5 * median(cpu for _, cpu, _ in pairs)


def test_user_expressions_and_silence(kc: BlockingGatewayKernelClient) -> None:
    """Silent code has no number and no history."""
    done = kc.run("x = 1", silent=True, user_expressions={"x": "x + 1"}, timeout=60)
    assert done.user_expressions["x"]["data"] == {"text/plain": "2"}
    assert done.outputs == []


def test_threads_share_a_client(kc: BlockingGatewayKernelClient) -> None:
    """Each gets the output of its own code."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: kc.run(f"print({n})", timeout=100), range(40)))
    assert [done.stdout for done in results] == [f"{n}\n" for n in range(40)]


def test_input_is_answered_if_it_is_allowed(
    kc: BlockingGatewayKernelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes from standard input, as for execute_interactive()."""
    monkeypatch.setattr("gateway_blocking.interactive.ask", lambda *args, **kwargs: "Ada")
    assert kc.run("print(input())", allow_stdin=True, timeout=60).stdout == "Ada\n"


# --- timeouts -------------------------------------------------------------------------------------


def test_endless_output_is_interrupted_and_bounded(gateway: LocalGateway) -> None:
    """Round after round, the kernel is usable, and the memory stays."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = "while True: print('x' * 100)"
    with run_kernel(**gateway.options()) as client:
        for _ in range(5):
            done = client.run(code, timeout=1, settle=60, max_output=10_000)
            assert (done.status, done.running, done.truncated) == ("timeout", False, True)
            assert len(done.stdout) < 15_000
            assert client.run("1 + 1", timeout=60).result == {"text/plain": "2"}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000 * (1024 if sys.platform == "darwin" else 1)  # kB; macOS counts bytes


HUNDRED_MB = """
import sys
from pathlib import Path
from gateway_blocking import run_kernel

def peak():
    "In MB, as the system counts it."
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1000

code = "for x in 'ghijklmnopqrstuvwxyz' * 5: print(x * 999_999, flush=True)"
with run_kernel(url=sys.argv[1], auth_token=sys.argv[2]) as kc:
    kc.run("1", timeout=60)
    for max_output in (1_000_000, None):
        before = peak()
        done = kc.run(code, timeout=100, max_output=max_output, check=True)
        print(peak() - before, len(done.stdout), done.truncated, done.complete)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_of_a_hundred_megabytes(gateway: LocalGateway) -> None:
    """With a bound, they cost what is kept; without one, a few times their size."""
    done = subprocess.run(
        [sys.executable, "-c", HUNDRED_MB, gateway.url, gateway.token],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    bounded, whole = (line.split() for line in done.stdout.splitlines())
    assert int(bounded[0]) < 80, done
    assert bounded[2:] == ["True", "True"]
    assert 990_000 < int(bounded[1]) < 1_100_000
    assert int(whole[0]) < 350, done
    assert whole[1:] == ["100000000", "False", "True"]


def test_code_that_ignores_the_interrupt(gateway: LocalGateway) -> None:
    """The result says so; restart_kernel() of the client ends it, and the client goes on."""
    with run_kernel(**gateway.options()) as client:
        stubborn = """
import time
print('begun', flush=True)
while True:
    try: time.sleep(60)
    except KeyboardInterrupt: pass
"""
        done = client.run(stubborn, timeout=1, settle=0.5)
        assert (done.status, done.running, done.stdout) == ("timeout", True, "begun\n")
        client.restart_kernel()
        assert client.run("'back'", timeout=60).text() == "'back'"


def test_restart_on_timeout(gateway: LocalGateway) -> None:
    """The kernel is ready again, without its variables."""
    with run_kernel(**gateway.options()) as client:
        client.run("x = 1", timeout=60, check=True)
        done = client.run("import time; time.sleep(600)", timeout=0.5, on_timeout="restart")
        assert (done.status, done.running) == ("timeout", False)
        assert client.run("x", timeout=60).error[0] == "NameError"  # type: ignore[index]


def test_leaving_code_running(kc: BlockingGatewayKernelClient) -> None:
    """wait() returns all of it later, and other code can be run meanwhile."""
    code = "import time; print('a', flush=True); time.sleep(2); print('b'); 'c'"
    done = kc.run(code, timeout=0.5, on_timeout="leave")
    assert (done.status, done.running) == ("timeout", True)
    assert kc.run("'next'", timeout=60).text() == "'next'"
    whole = done.wait(60)
    assert (whole.status, whole.text()) == ("ok", "a\nb\n'c'")
    assert whole.complete
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gateway-run")])


def test_a_timeout_can_be_an_exception(kc: BlockingGatewayKernelClient) -> None:
    """It has the output that came before; the code runs on."""
    code = "import time; print('a', flush=True); time.sleep(1.5)"
    with pytest.raises(GatewayTimeout, match="it was left running") as caught:
        kc.run(code, timeout=1, on_timeout="raise")
    assert caught.value.execution.running
    assert kc.run("1", timeout=60).ok


# --- losses ---------------------------------------------------------------------------------------


def test_a_kernel_that_dies(gateway: LocalGateway) -> None:
    """Output from before is in the result, and the next run says the same until it is ready."""
    with run_kernel(**gateway.options()) as client:
        dies = "import os, time; print('last', flush=True); time.sleep(0.5); os._exit(1)"
        done = client.run(dies, timeout=100)
        assert (done.status, done.stdout, done.running) == ("died", "last\n", False)
        with pytest.raises(KernelRestarted) as caught:
            done.raise_for_error()
        assert caught.value.execution.stdout == "last\n"
        assert client.run("1", timeout=60).status == "died"
        client.wait_for_ready(60)
        assert client.run("1", timeout=60).ok


def test_a_connection_that_is_cut(proxy: FaultProxy, gateway: LocalGateway) -> None:
    """The result is whole, because the client reconnects."""
    options = {**gateway.options(), "url": proxy.url}
    with run_kernel(**options) as client:
        outputs = client.stream(
            "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.1)", timeout=100
        )
        for number, _ in enumerate(outputs):
            if number == 3:
                proxy.websocket.cut("rst")
        done = outputs.execution
        assert done.status == "ok"
        if done.complete:
            assert done.stdout == "".join(f"{i}\n" for i in range(20))


def test_a_kernel_that_is_gone(gateway: LocalGateway) -> None:
    """A client alone cannot interrupt it: an error says so."""
    with run_kernel(**gateway.options()) as client:
        assert isinstance(client.parent, BlockingGatewayKernelManager)
        client.parent.shutdown_kernel()
        assert client.run("1", timeout=60).status in ("died", "lost")
        with pytest.raises(NoSuchKernel):
            client.interrupt_kernel()


def test_check_raises_the_exception_of_the_code(kc: BlockingGatewayKernelClient) -> None:
    """Its text is the traceback, as a person reads it."""
    with pytest.raises(ExecutionError, match="(?s)1 / 0.*ZeroDivisionError") as caught:
        kc.run("print('a', flush=True)\n1 / 0", check=True, timeout=60)
    assert caught.value.execution.stdout == "a\n"
    assert "\x1b" not in str(caught.value)


def test_the_channels_must_run(kc: BlockingGatewayKernelClient) -> None:
    """A client that was not started is an error of the program."""
    with pytest.raises(RuntimeError, match=r"call start_channels\(\)"):
        kc.blocking_client().run("1")
