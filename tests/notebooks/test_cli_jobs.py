"""``jupyter gateway run``: several files, files that are stopped, and kernels that stay."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.cli.jobs import Job
from gateway_blocking.cli.progress import BarProgress, Progress
from support.servers import kernels_of, own_gateway, proxy_of, upstream_of
from support.terminal import Terminal, errors, wait_for, without_a_gateway

# --- being stopped --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "kill"]
)
def test_a_stopped_notebook_is_saved(terminal: Terminal, number: int, status: int) -> None:
    """The notebook so far is written, the kernel is shut down, and there is no traceback."""
    code = (
        "import time; print('begun', flush=True); time.sleep(2)\n"  # which is to arrive first
        "open('begun', 'w').close(); time.sleep(600)"
    )
    terminal.notebook("slow.ipynb", "1 + 1", code)
    with terminal.popen("run", "slow.ipynb") as process:
        wait_for(terminal.directory / "begun")
        process.send_signal(number)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err.splitlines() == [
        "wrote slow.executed.ipynb",
        f"jupyter gateway run: stopped by {signal.Signals(number).name}",
    ]
    executed = terminal.read("slow.executed.ipynb")
    assert executed.cells[1].outputs[0].data["text/plain"] == "2"
    assert executed.cells[2].outputs[0].text == "begun\n"
    assert kernels_of(terminal.gateway) == []


def test_a_stopped_script(terminal: Terminal) -> None:
    """Ctrl-C ends a script and its kernel, and there is no traceback."""
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    with terminal.popen("run", terminal.write("slow.py", code)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "jupyter gateway run: stopped by SIGINT\n")
    assert kernels_of(terminal.gateway) == []


# --- several at once ------------------------------------------------------------------------------


def report_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the table at the end."""
    lines = errors(done)
    return lines[next(i for i, line in enumerate(lines) if line.startswith("file ")) :]


def test_several_files_run_one_after_another(terminal: Terminal) -> None:
    """Each file has a kernel of its own; one that fails, or kills its kernel, stops no other."""
    first = terminal.write("first.py", "secret = 1\nprint('first')")
    second = terminal.write("second.py", "print('second')\nprint(secret)")
    dies = terminal.write("dies.py", "import os\nos._exit(1)")
    third = terminal.notebook("third.ipynb", "print('third')")
    done = terminal("run", first, second, dies, third)
    assert (done.returncode, done.stdout) == (3, "first\nsecond\n")
    assert "NameError" in done.stderr
    assert "jupyter gateway run: dies.py: the kernel died: out of memory" in done.stderr
    assert terminal.read("third.executed.ipynb").cells[1].outputs[0].text == "third\n"
    results = [line.split()[1] for line in report_of(done)[1:]]
    assert results == ["ok", "failed", "died", "ok"]


def test_jobs_on_a_gateway_of_its_own(terminal: Terminal) -> None:
    """Three at once, one of which fails: the others are right, and the table says where and why."""
    terminal.env = without_a_gateway(terminal.env)
    meet = (
        "import os, pathlib, time\n"
        "pathlib.Path(f'{os.getpid()}.here').touch()\n"
        "while len(list(pathlib.Path().glob('*.here'))) < 3: time.sleep(0.02)\n"
        "print('all three')"
    )
    terminal.notebook("a.ipynb", meet, "6 * 7")
    terminal.notebook("b.ipynb", meet, "1 / 0", "print('never')")
    terminal.notebook("c.ipynb", meet, "'c'")
    (terminal.directory / "done").mkdir()
    done = terminal("run", "a.ipynb", "b.ipynb", "c.ipynb", "--jobs", "3", "--output-dir=done")
    assert (done.returncode, done.stdout) == (1, "")
    title, a, b, c = report_of(done)
    assert title.split() == ["file", "result", "where", "time", "why"]
    assert a.split()[:2] == ["a.ipynb", "ok"]
    assert b.split()[:4] == ["b.ipynb", "failed", "cell", "3"]
    assert b.endswith("ZeroDivisionError: division by zero")
    assert c.split()[:2] == ["c.ipynb", "ok"]
    assert "jupyter gateway run: b.ipynb: cell 3 failed" in errors(done)
    for name, data in (("a", "42"), ("c", "'c'")):
        cells = terminal.read(f"done/{name}.ipynb").cells
        assert cells[1].outputs[0].text == "all three\n"
        assert cells[2].outputs[0].data["text/plain"] == data
    failed = terminal.read("done/b.ipynb").cells
    assert failed[2].outputs[0].ename == "ZeroDivisionError"
    assert failed[3].outputs == []


def test_ctrl_c_stops_all_jobs(terminal: Terminal) -> None:
    """Executed cells are saved, waiting files are not begun, and no kernel is left."""
    slow = (
        "import time; print('begun', flush=True); time.sleep(2)\n"  # which is to arrive first
        "open(f'{name}.begun', 'w').close(); time.sleep(600)"
    )
    names = ["a.ipynb", "b.ipynb", "c.ipynb"]
    for name in names:
        terminal.notebook(name, f"name = {name!r}", slow)
    with terminal.popen("run", "--jobs=2", *names) as process:
        for name in names[:2]:
            wait_for(terminal.directory / f"{name}.begun")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    done = subprocess.CompletedProcess([], 130, out, err)
    _title, a, b, c, last = report_of(done)
    for name, line in zip(names, (a, b), strict=False):
        assert line.split()[:4] == [name, "stopped", "cell", "3"]
    assert c.split() == ["c.ipynb", "not", "run"]
    assert last == "jupyter gateway run: stopped by SIGINT"
    assert "Traceback" not in err
    for name in ("a", "b"):
        executed = terminal.read(f"{name}.executed.ipynb")
        assert executed.cells[2].outputs[0].text == "begun\n"
    assert not (terminal.directory / "c.executed.ipynb").exists()
    assert kernels_of(terminal.gateway) == []


def test_a_gateway_that_refuses_is_asked_once(terminal: Terminal) -> None:
    """A refusal of one file holds for the next; the table has them all."""
    for name in ("a.ipynb", "b.ipynb"):
        terminal.notebook(name, "1")
    done = terminal("run", "--token=wrong", "a.ipynb", "b.ipynb")
    assert done.returncode == 3
    [line] = [line for line in errors(done) if line.startswith("jupyter gateway run: ")]
    assert "401" in line
    assert [line.split()[:2] for line in report_of(done)[1:]] == [
        ["a.ipynb", "gateway"],
        ["b.ipynb", "not"],
    ]


def test_one_cause_is_told_once(terminal: Terminal) -> None:
    """Also by several files at once, which all meet it; the table has only its status."""
    names = [terminal.write(f"{name}.py", "1") for name in "abcd"]
    done = terminal("run", "--token=wrong", "--jobs=4", *names)
    assert done.returncode == 3
    assert len([line for line in errors(done) if line.startswith("jupyter gateway run: ")]) == 1
    assert len(re.findall("401, Unauthorized", done.stderr)) == 1
    rows = report_of(done)[1:]
    assert {row.split(None, 4)[4] for row in rows if " gateway " in row} == {
        "refused with status 401"
    }
    assert [row.split()[0] for row in rows] == names
    assert {row.split()[1] for row in rows} <= {"gateway", "not"}


def test_one_bad_file_fails_alone(terminal: Terminal) -> None:
    """All other files are executed, and a fault of one stops no other."""
    kernelspec = {"name": "python3", "display_name": "Python 3"}
    head = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": kernelspec}}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "\ud800", "outputs": []},
        {"cell_type": "code", "metadata": {}, "source": "6 * 7", "id": "a", "execution_count": "*"},
    ]
    terminal.write("odd.ipynb", json.dumps({**head, "cells": cells}))
    cells[1] = {"cell_type": "code", "metadata": {}, "source": "'\ud800'", "outputs": []}
    terminal.write("surrogate.ipynb", json.dumps({**head, "cells": cells[1:]}))
    terminal.write("text.ipynb", "print(1)")
    (terminal.directory / "latin1.py").write_bytes("print('é')".encode("latin-1"))
    terminal.notebook("exits.ipynb", "import sys; sys.exit(0)", "1 / 0")
    good = terminal.write("good.py", "print('good')")
    names = ["text.ipynb", "none.ipynb", "latin1.py", "odd.ipynb", "surrogate.ipynb", "exits.ipynb"]
    done = terminal("run", "--jobs=2", *names, good)
    assert done.stdout == "good\n"
    results = [line.split()[:2] for line in report_of(done)[1:]]
    failed = [[name, "not"] for name in names[:3]]
    assert results[:4] + results[5:] == [*failed, *([n, "ok"] for n in (names[3], names[5], good))]
    assert results[4] == ["surrogate.ipynb", "failed"]  # Python cannot compile it either
    assert done.returncode == 2
    assert "odd.ipynb is not a valid notebook, but is executed: cell 1: outputs" in done.stderr
    assert "surrogate.ipynb: it could not be executed in cell 1: the message" in done.stderr
    assert "cannot read none.ipynb: No such file or directory" in done.stderr
    assert "Notebook JSON" not in done.stderr
    assert "Traceback" not in done.stderr
    executed = terminal.read("odd.executed.ipynb").cells
    assert executed[0].source == "\ud800"
    assert executed[1].outputs[0].data["text/plain"] == "42"
    assert terminal.read("surrogate.executed.ipynb").cells[0].source == "'\ud800'"
    assert terminal.read("exits.executed.ipynb").cells[2].execution_count is None


def test_each_failure_names_its_file(terminal: Terminal) -> None:
    """Also a script's traceback, and one that takes too long; --output-dir is made."""
    terminal.notebook("a.ipynb", "1 / 0")
    files = ["a.ipynb", terminal.write("b.py", "1 / 0"), terminal.write("c.py", SLEEP)]
    done = terminal("run", "-j", "3", "--timeout=15", "--output-dir=new/folder", *files)
    assert (done.returncode, done.stdout) == (1, "")
    lines = errors(done)
    assert lines[lines.index("a.ipynb: cell 2:") + 1].startswith("An error occurred")
    assert lines[lines.index("b.py:") + 1] == "Traceback (most recent call last):"
    assert "jupyter gateway run: c.py: took longer than 15 s" in lines
    assert report_of(done)[3].split(None, 4)[:2] == ["c.py", "failed"]
    assert (terminal.directory / "new" / "folder" / "a.ipynb").exists()


SLEEP = "import time; time.sleep(600)"
IMPATIENT = {"JUPYTER_GATEWAY_RETRY_MAX": "2", "JUPYTER_GATEWAY_RETRY_INTERVAL": "0.5"}


def test_a_gateway_that_is_killed(terminal: Terminal) -> None:
    """The loss is told at once, and the table says what happened, not what failed while cleaning
    up."""
    begun = "open({!r}, 'w').close(); import time; time.sleep(600)"
    terminal.notebook("a.ipynb", "print('before')", begun.format("a.begun"))
    terminal.write("b.py", begun.format("b.begun"))
    with own_gateway() as gateway:
        env = {"JUPYTER_GATEWAY_URL": gateway.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
        with terminal.popen("run", "-j2", "a.ipynb", "b.py", **env, **IMPATIENT) as process:
            for name in ("a.begun", "b.begun"):
                wait_for(terminal.directory / name)
            assert gateway.pid is not None
            os.kill(gateway.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=90)
    done = subprocess.CompletedProcess([], process.returncode, out, err)
    assert process.returncode == 3
    for line in ("a.ipynb: connection lost, trying again", "b.py: connection lost, trying again"):
        assert line in errors(done)
    told = [line for line in errors(done) if ": connection to the gateway lost" in line]
    assert len(told) == 2
    assert [line for line in told if "a.ipynb: connection to the gateway lost in cell 3" in line]
    [whole] = [line for line in told if "could not be opened again, tried 3 times" in line]
    [short] = [line for line in told if line != whole]  # one cause is told once
    first = "a.ipynb" if " a.ipynb: " in whole else "b.py"
    assert short.endswith(f", as {first}")
    left = [line for line in errors(done) if "was not shut down" in line]
    assert len(left) == 2
    assert all(line.startswith("jupyter gateway run: WARNING: kernel ") for line in left)
    a, b, *rest = report_of(done)[1:]
    assert a.split(None, 2)[:2] == ["a.ipynb", "gateway"]
    assert a.endswith("connection to the gateway lost in cell 3")
    assert b.endswith("connection to the gateway lost")
    assert "DELETE" not in err[: err.index(b)]
    assert all("was not shut down" in line for line in rest), "at the end, for both kernels"
    assert terminal.read("a.executed.ipynb").cells[1].outputs[0].text == "before\n"


def test_a_gateway_that_is_started_anew(terminal: Terminal) -> None:
    """That is not the same as a kernel that died: this one is not known any more."""
    for name in ("a.ipynb", "b.ipynb"):
        terminal.notebook(name, f"open('{name}.begun', 'w').close(); {SLEEP}")
    second = own_gateway()
    with own_gateway() as first, proxy_of(first) as proxy:
        second.token = first.token
        with second:
            env = {"JUPYTER_GATEWAY_URL": proxy.url, "JUPYTER_GATEWAY_AUTH_TOKEN": first.token}
            with terminal.popen("run", "-j2", "a.ipynb", "b.ipynb", **env) as process:
                for name in ("a.ipynb.begun", "b.ipynb.begun"):
                    wait_for(terminal.directory / name)
                with proxy.refusing():
                    proxy.upstream = upstream_of(second)
                    assert first.pid is not None
                    os.kill(first.pid, signal.SIGKILL)
                    # Wait for what is told, and not for a time.
                    assert process.stderr is not None
                    while "connection lost" not in process.stderr.readline():
                        assert process.poll() is None
                out, err = process.communicate(timeout=90)
    assert process.returncode == 3
    why = "the gateway does not have the kernel any more in cell 2: it was shut down or culled, or"
    assert f"jupyter gateway run: a.ipynb: {why} the gateway was restarted" in err.splitlines()
    a, b = report_of(subprocess.CompletedProcess([], 3, out, err))[1:]
    assert a.split()[:4] == ["a.ipynb", "gone", "cell", "2"]
    assert a.endswith("shut down or culled, or the gateway was restarted")
    assert b.endswith("as a.ipynb")


RENEWER = """
import os, pathlib

class Renewer:
    def get_token(self, *args, **kwargs):
        expired = pathlib.Path("expired").exists()
        return "expired" if expired else os.environ["JUPYTER_GATEWAY_AUTH_TOKEN"]
"""


def test_a_kernel_that_cannot_be_shut_down_after_its_file(terminal: Terminal) -> None:
    """The table says that the file was executed, and that its kernel is left."""
    terminal.write("renewers.py", RENEWER)
    terminal.write("a.py", "open('expired', 'w').close(); print('ran')")
    terminal.write("b.py", "print('never')")
    how = {"JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS": "renewers.Renewer"}
    with own_gateway() as gateway:
        env = {"JUPYTER_GATEWAY_URL": gateway.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
        path = os.pathsep.join([str(terminal.directory), *filter(None, [os.getenv("PYTHONPATH")])])
        done = terminal("run", "a.py", "b.py", PYTHONPATH=path, **env, **how)
    assert (done.returncode, done.stdout) == (3, "ran\n")
    start = "jupyter gateway run: a.py was executed, but its kernel was not shut down: DELETE "
    assert len([line for line in errors(done) if line.startswith(start)]) == 1
    a, b = report_of(done)[1:3]
    assert a.split()[:2] == ["a.py", "executed"]
    assert a.endswith("its kernel was not shut down")
    assert b.split() == ["b.py", "not", "run"]


def test_a_connection_that_is_opened_again(terminal: Terminal) -> None:
    """In a log there is a line for the loss and one for its end."""
    code = (
        "import os, time; print('begun', flush=True)\n"
        "while not os.path.exists('end'): time.sleep(0.1)"
    )
    terminal.write("a.py", code)
    with (
        proxy_of(terminal.gateway) as proxy,
        terminal.popen("run", "a.py", JUPYTER_GATEWAY_URL=proxy.url) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n"  # nothing is on its way that a cut loses
        with proxy.refusing():
            proxy.websocket.cut("rst")
            assert process.stderr.readline() == "a.py: connection lost, trying again\n"
        assert process.stderr.readline() == "a.py: connected again\n"
        (terminal.directory / "end").touch()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_the_bar_of_a_job_says_that_its_connection_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At once, and until it is open again; a script has no bar, and a line says it."""

    class Display:
        def add_task(self, text: str, total: int | None) -> int:
            self.text = text
            return 1

        def update(self, task: int, description: str, **more: object) -> None:
            assert task == 1
            self.text = description

        def remove_task(self, task: int) -> None:
            del self.text

        @property
        def live(self) -> Display:
            return self

        def stop(self) -> None:
            self.is_hidden = True

        def start(self, refresh: bool) -> None:
            self.is_hidden = False

    class Connected(Job):
        is_reconnecting = False
        is_connected = True

    display, job = Display(), Connected("a.ipynb", "python3", Path())
    script = Connected("a\x1b]0;b\x07.py", "python3", Path())
    bars = BarProgress(display)
    with bars.track(script) as on_cell:
        assert display.text == "a\\x1b]0;b\\x07.py: starting a kernel"
        on_cell(1, 0)
        assert display.text == "a\\x1b]0;b\\x07.py"
        assert display.is_hidden
        script.is_reconnecting = True
        bars.poll()
        assert capsys.readouterr().err == "a\\x1b]0;b\\x07.py: connection lost, trying again\n"
    assert not display.is_hidden
    bars = BarProgress(display)
    with bars.track(job) as on_cell:
        on_cell(2, 3)
        bars.poll()
        assert display.text == "a.ipynb: cell 2 of 3"
        job.is_reconnecting = True
        bars.poll()
        assert display.text == "a.ipynb: cell 2 of 3: connection lost, trying again"
        job.is_reconnecting = False
        bars.poll()
        assert display.text == "a.ipynb: cell 2 of 3"
    job.is_reconnecting = True
    bars.poll()  # it has ended, and has no bar any more


def test_lost_output_is_a_failure_if_that_is_wanted(terminal: Terminal) -> None:
    """A server with a limit drops some; with --fail-on-lost-output the status is 1."""
    code = "for i in range(600): print(i, flush=True)"
    terminal.notebook("a.ipynb", "1", code, "2")
    terminal.write("b.py", code)
    # ipykernel takes a number for this result, and does not send it: no output is lost.
    terminal.write("c.py", "class P:\n def _ipython_display_(self): print('p')\nP()")
    limit = "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=20"
    with own_gateway(limit) as gateway:
        env = {"JUPYTER_GATEWAY_URL": gateway.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
        done = terminal("run", "a.ipynb", "b.py", **env)
        assert done.returncode == 0
        done = terminal("run", "--fail-on-lost-output", "a.ipynb", "b.py", "c.py", **env)
    assert done.returncode == 1
    a, b, c = report_of(done)[1:]
    assert (a.split()[1], b.split()[1], c.split()[1]) == ("failed", "failed", "ok")
    assert a.endswith("lost output")
    assert re.search(r"run: a.ipynb: output was lost: cell 3: at least \d+ messages", done.stderr)
    assert re.search(r"run: b.py: output was lost: at least \d+ messages", done.stderr)
    assert terminal.read("a.executed.ipynb").cells[3].outputs[0].data["text/plain"] == "2"


# --- parameters, kernels that stay ----------------------------------------------------------------


def test_parameters_as_for_papermill(terminal: Terminal) -> None:
    """In a cell after the one that is tagged, with their types; others keep their defaults."""
    cells = [new_code_cell("alpha, name, left = 0.1, '', True"), new_code_cell("alpha, name, left")]
    cells[0].metadata["tags"] = ["parameters"]
    terminal.write("a.ipynb", nbformat.writes(new_notebook(cells=cells)))
    path = terminal.directory / "a.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte order mark, as of Windows
    args = ["-p", "alpha", "0.6", "a.ipynb", "-p", "name=first --try", "-p", "beta", "1"]
    done = terminal("run", *args)
    assert done.returncode == 0
    assert errors(done) == [
        "a.ipynb: -p beta has no effect: no cell has a variable of this name",
        "wrote a.executed.ipynb",
    ]
    executed = terminal.read("a.executed.ipynb")
    assert executed.cells[1].metadata.tags == ["injected-parameters"]
    assert executed.cells[2].outputs[0].data["text/plain"] == "(0.6, 'first --try', True)"


def test_a_kernel_that_is_kept_and_used_again(terminal: Terminal) -> None:
    """--keep leaves it with its variables, and --kernel-id goes on with it and leaves it, too."""
    done = terminal("run", "--keep", terminal.write("a.py", "x = 6 * 7"))
    assert done.returncode == 0
    [kernel_id] = kernels_of(terminal.gateway)
    try:
        assert errors(done) == [f"kernel {kernel_id} is left running"]
        terminal.notebook("b.ipynb", "x", "import time; time.sleep(600)")
        done = terminal("run", "--kernel-id", kernel_id[:8], "--timeout=1", "b.ipynb")
        assert done.returncode == 1
        assert terminal.read("b.executed.ipynb").cells[1].outputs[0].data["text/plain"] == "42"
        done = terminal("run", f"--kernel-id={kernel_id}", "-", typed="print(x + 1)")
        assert (done.returncode, done.stdout, done.stderr) == (0, "43\n", ""), "it was interrupted"
    finally:
        with BlockingGatewayKernelManager(kernel_id=kernel_id, **terminal.gateway.options()) as km:
            km.start_kernel()
            km.owned_kernel = True
    done = terminal("run", f"--kernel-id={kernel_id}", "-", typed="1")
    assert done.returncode == 2
    assert "no kernel whose id begins with" in errors(done)[0]


def test_progress_on_a_terminal(terminal: Terminal) -> None:
    """Bars that say which cell is executed; they are gone at the end."""
    terminal.notebook("a.ipynb", "import time; time.sleep(1)", "time.sleep(1)")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gateway_blocking", "run", "a.ipynb"],
        cwd=terminal.directory,
        env={**terminal.env, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        shown = b""
        try:
            while more := os.read(master, 4096):
                shown += more
        except OSError:  # how Linux says that nobody has the other end any more
            pass
        finally:
            os.close(master)
        assert process.wait(60) == 0
    assert b"a.ipynb: cell 2 of 3" in shown
    assert b"a.ipynb: cell 3 of 3" in shown
    assert b"wrote a.executed.ipynb" in shown


def test_a_notebook_that_cannot_be_saved_either_says_first_why_it_failed(
    terminal: Terminal,
) -> None:
    """The cell's error is the outcome; that of the file is told beside it."""
    name = terminal.notebook("a.ipynb", "import shutil; shutil.rmtree('out'); 1 / 0")
    (terminal.directory / "out").mkdir()
    done = terminal("run", "--output-dir=out", name)
    assert done.returncode == 1, done
    assert "ZeroDivisionError" in done.stdout + done.stderr
    assert "a.ipynb: cannot write out/a.ipynb" in done.stderr
    assert "a.ipynb: cell 2 failed" in done.stderr


@pytest.mark.parametrize(("is_connected", "told"), [(True, 2), (False, 1)])
def test_a_connection_that_is_lost_for_good_is_not_there_again(
    is_connected: bool, told: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the tries is no success: the job's own error tells of it."""

    class Lossy(Job):
        is_reconnecting = True  # type: ignore[assignment]
        is_connected = False  # type: ignore[assignment]

    job, shown = Lossy("a.py", "", Path()), Progress()
    with shown.track(job):
        shown.poll()
        job.is_reconnecting, job.is_connected = False, is_connected  # type: ignore[misc]
        shown.poll()
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines
        == [
            "a.py: connection lost, trying again",
            "a.py: connected again",
        ][:told]
    )
