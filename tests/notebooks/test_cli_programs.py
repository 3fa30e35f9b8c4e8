"""Scripts that ``jupyter gateway run`` executes as programs, with arguments and exit statuses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.local import LocalGateway
from support.kernels import available, needs
from support.servers import kernels_of
from support.terminal import Person, Terminal, errors

SCRIPT = '''\
#!/usr/bin/env -S jupyter gateway run
"""Train a model."""
from __future__ import annotations

import argparse
import asyncio
import sys


async def train(epochs: int) -> int:
    await asyncio.sleep(0)
    print(f"{epochs} epochs, {sys.argv}")
    if epochs == 0:
        raise ValueError("no epochs")
    return epochs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    sys.exit(asyncio.run(train(parser.parse_args().epochs)))
'''


def as_python_does(terminal: Terminal, *args: str) -> subprocess.CompletedProcess[str]:
    """Return what the Python interpreter makes of the same command line."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=terminal.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(args, done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments", [["--epochs", "4"], [], ["--epochs", "0"], ["--epochs", "x"], ["--help"]]
)
def test_a_script_behaves_as_python_executes_it(terminal: Terminal, arguments: list[str]) -> None:
    """Status, output, help, and traceback are the same."""
    script = terminal.write("train.py", SCRIPT)
    done = terminal("run", script, "--", *arguments, COLUMNS="80")
    expected = as_python_does(terminal, script, *arguments)
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout)
    # asyncio's own frames are there in both.
    assert done.stderr.replace("\n\n", "\n") == expected.stderr.replace("\n\n", "\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such first line")
def test_a_script_is_executed_directly(terminal: Terminal) -> None:
    """By its first line; the words after its name are its arguments, as the shell has them."""
    script = terminal.directory / terminal.write("odd 'name\" é.py", SCRIPT)
    script.chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [f"./{script.name}", "--epochs", "5"],
        cwd=terminal.directory,
        env={**terminal.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (5, "")
    assert done.stdout == f"5 epochs, {['./' + script.name, '--epochs', '5']}\n"


@pytest.fixture(scope="module")
def ports() -> Iterator[LocalGateway]:
    """A gateway whose kernels listen on ports: xeus-python and ipymini know nothing else."""
    with LocalGateway() as gateway:
        yield gateway


@pytest.mark.parametrize("kernel", available("py", "xpython"))
def test_any_python_kernel_executes_programs(
    ports: LocalGateway, tmp_path: Path, kernel: str
) -> None:
    """The status, and the name of the file in a traceback, with its true lines."""
    terminal = Terminal(tmp_path, ports)
    script = terminal.write("train.py", SCRIPT)
    done = terminal("run", f"--kernel={kernel}", script, "--", "--epochs", "7")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "7 epochs, ['train.py', '--epochs', '7']\n"
    done = terminal("run", f"--kernel={kernel}", script, "--", "--epochs", "0")
    assert done.returncode == 1
    assert f'File "{terminal.directory / script}", line 14, in train\n' in done.stderr
    assert '    raise ValueError("no epochs")\n' in done.stderr


@needs("ir")
def test_a_kernel_of_another_language_gets_the_code(terminal: Terminal) -> None:
    """Arguments and files are refused, because only Python has them, and nothing is executed."""
    script = terminal.write("a.R", "x <- 6 * 7\nprint(x)\n")
    done = terminal("run", "--kernel=ir", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1] 42\n", "")
    done = terminal("run", "--kernel=ir", script, "--", "7")
    assert (done.returncode, done.stdout) == (2, "")
    assert errors(done) == [
        "jupyter gateway run: a.R cannot be given arguments: only Python scripts have them, and"
        " the kernel ir is for another language"
    ]
    done = terminal("run", "--kernel=ir", "--upload=a.R", "--download=*.csv", script)
    assert (done.returncode, done.stdout) == (2, "")
    assert errors(done) == [
        "jupyter gateway run: --upload and --download need a Python kernel, and the language of"
        " this one is 'R'"
    ]


def test_a_script_with_magics_and_await(terminal: Terminal) -> None:
    """A script may still have all that IPython accepts in a cell."""
    code = "import asyncio\n!echo from a shell\nx = await asyncio.sleep(0, 42)\n%pprint\nx\n"
    done = terminal("run", terminal.write("a.py", code))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "from a shell"
    assert done.stdout.splitlines()[-1] == "42"


def test_a_script_in_any_encoding_with_any_arguments(terminal: Terminal) -> None:
    """It declares the encoding; arguments may be bytes that are not text."""
    code = "# coding: latin-1\r\nimport sys\r\nprint('é', ascii(sys.argv[1:]))\r\n"
    (terminal.directory / "a.py").write_bytes(code.encode("latin-1"))
    words = ["\udcff", "", "a b", "'\"", "漢"]
    done = terminal("run", "a.py", "--", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"é {words!a}\n"


def test_a_script_whose_threads_go_on(terminal: Terminal) -> None:
    """Its output is shown to the end, as by Python."""
    code = (
        "import threading, time\n"
        "def later():\n    time.sleep(0.3)\n    print('later')\n"
        "threading.Thread(target=later).start()\nprint('done')\n"
    )
    done = terminal("run", terminal.write("a.py", code))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nlater\n", "")


def test_a_script_that_is_interrupted_by_another(terminal: Terminal) -> None:
    """Status 130, as for a program that Ctrl-C has ended."""
    code = "import time\nprint('begun', flush=True)\ntime.sleep(600)"
    with terminal.popen("run", terminal.write("slow.py", code)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        [kernel_id] = kernels_of(terminal.gateway)
        assert terminal("interrupt", kernel_id).returncode == 0
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "    time.sleep(600)\n" in err
    assert err.endswith("\nKeyboardInterrupt\n")


def test_a_script_that_ends_its_kernel(terminal: Terminal) -> None:
    """One line says so; no client can learn the status that it gave."""
    code = "import os\nprint('begun', flush=True)\nos._exit(5)"
    done = terminal("run", terminal.write("a.py", code))
    assert done.returncode == 3
    [line] = errors(done)
    assert line.startswith("jupyter gateway run: a.py: the kernel died: ")
    assert "os._exit()" in line


def test_several_scripts_and_their_statuses(terminal: Terminal) -> None:
    """The table has the status of each, and the command the highest."""
    names = [terminal.write(f"{n}.py", f"import sys; sys.exit({n})") for n in (0, 7, 5)]
    done = terminal("run", *names)
    assert done.returncode == 7
    assert [line.split()[:2] for line in errors(done)[-3:]] == [
        ["0.py", "ok"],
        ["7.py", "failed"],
        ["5.py", "failed"],
    ]
    assert errors(done)[-1].endswith("exit status 5")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a.py", "--epochs", "3"], "no option --epochs; the options of a script come after --"),
        (["a.py", "b.py", "--", "3"], "arguments after -- are for one script, and got 2 files"),
        (
            ["a.ipynb", "--", "3"],
            "arguments after -- are for one script, and a.ipynb is a notebook",
        ),
        (["--", "none.py", "3"], "cannot read none.py: No such file or directory"),
    ],
)
def test_arguments_that_cannot_be_meant(terminal: Terminal, words: list[str], text: str) -> None:
    """Status 2, and what to do."""
    terminal.notebook("a.ipynb", "1")
    terminal.write("a.py", "1")
    terminal.write("b.py", "1")
    done = terminal("run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert text in line


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(gateway: LocalGateway, tmp_path: Path) -> Iterator[str]:
    """The option for a kernel that runs in another directory."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel(cwd=str(folder))
        yield f"--kernel-id={km.kernel_id}"


def test_files_that_a_script_needs_and_leaves(terminal: Terminal, elsewhere: str) -> None:
    """They are copied before and afterwards, with their folders, also if the script fails."""
    (terminal.directory / "data.txt").write_text("needed")
    script = terminal.write(
        "train.py",
        "import os\n"
        "os.makedirs('out')\n"
        "for name in 'ab': open(f'out/{name}.txt', 'w').write(open('data.txt').read() + name)\n"
        "1 / 0",
    )
    options = ["--upload=data.txt", "--download=out/*.txt", "--download=missing*"]
    done = terminal("run", elsewhere, *options, script)
    assert done.returncode == 1
    assert "no file in the kernel matches missing*" in done.stderr
    assert (terminal.directory / "out" / "a.txt").read_text() == "neededa"
    assert (terminal.directory / "out" / "b.txt").read_text() == "neededb"


def test_the_end_of_input_ends_a_script_as_in_python(terminal: Terminal) -> None:
    """The traceback ends with the script's line, without the kernel's own input()."""
    script = terminal.write("ask.py", "def ask():\n    return input()\n\nask()\n")
    done, expected = terminal("run", script), as_python_does(terminal, script)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected.stderr)
    assert done.stderr.endswith("EOFError: EOF when reading a line\n")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing", "No such file or directory"),
        ("folder", "it is a directory"),
        ("pipe", "it is not a regular file"),  # to open it would wait for a writer
    ],
)
def test_a_file_that_cannot_be_uploaded_is_told(
    terminal: Terminal, elsewhere: str, name: str, why: str
) -> None:
    """The script is not executed without it."""
    (terminal.directory / "folder").mkdir()
    os.mkfifo(terminal.directory / "pipe")
    done = terminal("run", elsewhere, f"--upload={name}", terminal.write("a.py", "print('ran')"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"jupyter gateway run: cannot upload {name}: {why}\n"


def test_a_terminal_shows_what_a_script_writes_and_nothing_else(terminal: Terminal) -> None:
    """Pieces of a line stay one line, in their own colors, as those of tqdm and of a question."""
    code = """
import time
for number in range(3):
    print(f"\\r{number} of 3", end="", flush=True)
    time.sleep(0.02)
print(" your name? ", end="", flush=True)
print(input().upper())
"""
    with Person(terminal, "run", terminal.write("ask.py", code)) as person:
        person.sees(r"0 of 31 of 32 of 3 your name\? ")
        person.types("Ann\n")
        status, rest = person.ends()
    assert (status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", rest).split()) == (0, ["Ann", "ANN"])
