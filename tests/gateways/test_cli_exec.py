"""The options of ``jupyter gateway exec``: a result as JSON, in a notebook, and in files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.local import LocalGateway
from support.terminal import Terminal

PLOT = """
from IPython.display import display, HTML
display({'image/png': 'iVBORw0KGgo=', 'text/plain': '<Figure>'}, raw=True)
HTML('<table><tr><th>a<th>b<tr><td>1<td>2</table>')
"""


@pytest.fixture(scope="module")
def kernel(gateway: LocalGateway) -> Iterator[str]:
    """The ID of a running kernel, as an option."""
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
        yield f"--kernel-id={km.kernel_id}"


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The only line of standard output, as JSON."""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_json_is_the_only_output(terminal: Terminal, kernel: str) -> None:
    """Streams, result and text are in it; the exit status is that of the code."""
    done = terminal("exec", kernel, "--json", "x = 6 * 7\nprint('hi')\nx")
    assert (done.returncode, done.stderr) == (0, "")
    result = result_of(done)
    assert (result["status"], result["stdout"], result["text"]) == ("ok", "hi\n", "hi\n42")
    assert result["result"] == {"text/plain": "42"}
    assert result_of(terminal("exec", kernel, "--json", "x"))["text"] == "42"  # it keeps its state


def test_json_of_code_that_fails(terminal: Terminal, kernel: str) -> None:
    """The traceback is in the JSON, and not on standard error."""
    done = terminal("exec", kernel, "--json", "1 / 0")
    assert (done.returncode, done.stderr) == (1, "")
    assert result_of(done)["error"]["ename"] == "ZeroDivisionError"


def test_json_code_cannot_ask(terminal: Terminal, kernel: str) -> None:
    """Its question would be in the middle of the JSON."""
    done = terminal("exec", kernel, "--json", "input('name? ')", typed="Ada\n")
    assert result_of(done)["error"]["ename"] == "StdinNotImplementedError"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(True)", 1, ""),
        ("import sys; sys.exit('in words')", 1, "in words\n"),
        ("raise SystemExit(256 + 7)", 7, ""),
    ],
)
def test_sys_exit_is_the_exit_status(
    terminal: Terminal, kernel: str, code: str, status: int, error: str
) -> None:
    """As that of a Python program."""
    done = terminal("exec", kernel, code)
    assert (done.returncode, done.stderr) == (status, error)


def test_code_that_does_not_end_in_time(terminal: Terminal, kernel: str) -> None:
    """Its output stays, it is interrupted, and the kernel can be used again."""
    code = "import time; print('begun', flush=True); time.sleep(600)"
    done = terminal("exec", kernel, "--timeout=1", code)
    assert (done.returncode, done.stdout) == (1, "begun\n")
    assert "the code did not end within 1.0 s: it was interrupted, and ended" in done.stderr
    done = terminal("exec", kernel, "--timeout=1", "--json", code)
    assert (done.returncode, result_of(done)["status"]) == (1, "timeout")


def test_json_of_a_kernel_that_dies(terminal: Terminal) -> None:
    """The JSON has what came before; the exit status is that of a gateway's failure."""
    done = terminal("exec", "--json", "import os; os._exit(1)")
    assert (done.returncode, result_of(done)["status"]) == (3, "died")


@pytest.mark.parametrize("name", ["input", "__import__('getpass').getpass"])
def test_the_end_of_input_shows_the_frames_of_the_code_only(
    terminal: Terminal, kernel: str, name: str
) -> None:
    """ipykernel's own input() has frames, which Python's does not have."""
    done = terminal("exec", kernel, f"def ask():\n    {name}()\nask()")
    assert done.returncode == 1
    assert "----> 3 ask()" in done.stderr
    assert f"----> 2     {name}()" in done.stderr
    assert done.stderr.endswith("EOFError: \n")
    assert "kernelbase" not in done.stderr


def test_code_from_a_file(terminal: Terminal, kernel: str) -> None:
    """With any text, or with a byte order mark."""
    (terminal.directory / "ü.py").write_text("\ufeffprint('ü')", encoding="utf-8")
    assert terminal("exec", kernel, "--file=ü.py").stdout == "ü\n"
    assert "give CODE as one argument, or --file" in terminal("exec", kernel).stderr
    done = terminal("exec", kernel, "--file=missing.py")
    assert (done.returncode, done.stderr.count("cannot read missing.py")) == (2, 1)


def test_cells_are_appended_to_a_notebook(terminal: Terminal, kernel: str) -> None:
    """The notebook is valid after each; a failure is recorded, too."""
    path = terminal.directory / "log.ipynb"
    assert terminal("exec", kernel, "--append-to=log.ipynb", "'\\ud800'").returncode == 0
    assert terminal("exec", kernel, "--append-to=log.ipynb", "1 / 0").returncode == 1
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells][1:] == ["1 / 0"]
    assert notebook.cells[1].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.parametrize("text", ["{", "[]", '{"nbformat": 3, "worksheets": []}', "\udcff"])
def test_a_file_that_is_not_a_notebook_is_refused_before_the_code(
    terminal: Terminal, kernel: str, text: str
) -> None:
    """Nothing is executed whose outputs could not be kept, and the file stays."""
    path = terminal.directory / "bad.ipynb"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    done = terminal("exec", kernel, "--append-to=bad.ipynb", "print('executed')")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.ipynb" in done.stderr
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/log.ipynb", "there is no such directory"),
        ("pipe.ipynb", "it is not a regular file"),
        ("zero.ipynb", "it is not a regular file"),  # it could be read without end
    ],
)
def test_a_notebook_that_cannot_be_written_is_refused_before_the_code(
    terminal: Terminal, kernel: str, name: str, why: str
) -> None:
    """Its outputs would be lost after hours, or the command would wait for a named pipe."""
    os.mkfifo(terminal.directory / "pipe.ipynb")
    (terminal.directory / "zero.ipynb").symlink_to("/dev/zero")
    done = terminal("exec", kernel, f"--append-to={name}", "print('executed')")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"jupyter gateway exec: cannot write {name}: {why}\n"


def test_images_and_html(terminal: Terminal, kernel: str) -> None:
    """A table is shown as text, and an image is saved as a file."""
    done = terminal("exec", kernel, "--images=out", PLOT)
    assert done.stdout == "[image/png, 1 kB]\na  b\n1  2\n"
    assert (terminal.directory / "out" / "001.png").read_bytes() == b"\x89PNG\r\n\x1a\n"
    assert (terminal.directory / "out" / "002.html").is_file()
    assert done.stderr.count("saved ") == 2
    (terminal.directory / "file").touch()
    done = terminal("exec", kernel, "--images=file", PLOT)
    assert (done.returncode, done.stdout) == (2, ""), "nothing is executed"
    assert done.stderr == "jupyter gateway exec: cannot write into file: File exists\n"


def test_outputs_are_appended_although_an_image_cannot_be_saved(
    terminal: Terminal, kernel: str
) -> None:
    """The folder is gone when the code has ended."""
    out = str(terminal.directory / "out")
    code = f"import shutil; shutil.rmtree({out!r}); open({out!r}, 'w').close()\n{PLOT}"
    done = terminal("exec", kernel, "--images=out", "--append-to=log.ipynb", code)
    assert (done.returncode, done.stderr.count("cannot write into out")) == (2, 1)
    assert (terminal.directory / "log.ipynb").is_file()


def test_a_timeout_that_makes_no_sense(terminal: Terminal, kernel: str) -> None:
    """It is refused before anything is executed."""
    for value in ("0", "-1", "nan"):
        done = terminal("exec", kernel, f"--timeout={value}", "print('executed')")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--timeout must be above 0 seconds" in done.stderr


def test_ctrl_c_interrupts_the_code_once(terminal: Terminal, kernel: str) -> None:
    """The kernel can be used afterwards; the exit status is 130."""
    code = "import time; print('begun', flush=True); time.sleep(600)"
    with terminal.popen("exec", kernel, code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert terminal("exec", kernel, "print('usable')").stdout == "usable\n"
