"""``jupyter gateway`` with closed streams, an encoding without the text, and no home directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.servers import kernels_of
from support.terminal import Terminal, errors

TEXT = "print('\\xe9 \\u6f22 \\udc80')"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def redirected(
    terminal: Terminal, redirection: str, *args: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with its streams redirected by a shell."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    return subprocess.run(
        [*command, sys.executable, "-m", "gateway_blocking", *args],
        cwd=terminal.directory,
        env=terminal.env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "args", "status"),
    [
        (">&-", ["exec", "print(6 * 7)"], 0),
        (">&-", ["kernelspecs"], 0),
        ("2>&-", ["kernels", "--url=http://127.0.0.1:9"], 3),
        ("<&-", ["exec", "-"], 0),
        ("<&- >&- 2>&-", ["exec", "1 / 0"], 1),
    ],
)
def test_a_closed_stream_is_the_null_device(
    terminal: Terminal, redirection: str, args: list[str], status: int
) -> None:
    """Output for it is dropped, and the status says how it went."""
    done = redirected(terminal, redirection, *args)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


FULL = "cannot write to standard output: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    "args", [["exec", "print(1)"], ["exec", "--json", "1"], ["run", "a.py", "b.py"]], ids=" ".join
)
def test_a_full_disk_ends_the_command_and_says_so(terminal: Terminal, args: list[str]) -> None:
    """It is an error of the command line, as that of any other file, and not one of the code."""
    terminal.write("a.py", "print(1)")
    terminal.write("b.py", "open('done', 'w').close()")
    done = redirected(terminal, ">/dev/full", *args)
    assert (done.returncode, errors(done)[-1]) == (2, f"jupyter gateway {args[0]}: {FULL}")
    assert "done" not in terminal.files(), "another file was executed"
    assert kernels_of(terminal.gateway) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_code_in_a_kernel_that_stays_is_interrupted_if_its_output_cannot_be_written(
    terminal: Terminal,
) -> None:
    """Else no one would know of it, and the next snippet would wait for it."""
    assert terminal("start", "--name=stays", "python3").returncode == 0
    code = "import time; print(1, flush=True); time.sleep(600)"
    done = redirected(terminal, ">/dev/full", "exec", "--kernel-id=stays", code)
    assert (done.returncode, errors(done)) == (2, [f"jupyter gateway exec: {FULL}"])
    done = terminal("exec", "--kernel-id=stays", "--timeout=60", "6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n")
    terminal("stop", "stays")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("redirection", [">/dev/full", "| true"])
def test_a_kernel_whose_id_cannot_be_written_is_stopped(
    terminal: Terminal, redirection: str
) -> None:
    """The command has failed, and nothing would say which kernel it has left."""
    done = redirected(terminal, redirection, "start", "python3")
    if redirection == ">/dev/full":
        assert (done.returncode, errors(done)) == (2, [f"jupyter gateway start: {FULL}"])
    assert kernels_of(terminal.gateway) == []
    assert list((terminal.directory / "runtime" / "gateway-kernels").iterdir()) == []


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, ASCII])
def test_a_stream_that_cannot_encode_the_text(terminal: Terminal, env: dict[str, str]) -> None:
    """It gets an escape, and the code has not failed: from a snippet, a script, a pipe."""
    terminal.write("a.py", TEXT)
    for args, typed in ((["exec", TEXT], ""), (["run", "a.py"], ""), (["exec", "-"], TEXT)):
        done = terminal(*args, typed=typed, **env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(r"\xe9 \u6f22 ")
        assert "Traceback" not in done.stderr


WITHOUT_HOME = """
import pwd
def getpwuid(uid):
    raise KeyError(uid)  # as for the random uid of a container
pwd.getpwuid = getpwuid
"""


def without_home(terminal: Terminal, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user that the system does not know."""
    unset = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME + code, *args],
        cwd=terminal.directory,
        env={name: value for name, value in terminal.env.items() if name not in unset},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_command_without_a_home_directory_says_what_to_set(terminal: Terminal) -> None:
    """In one line, with status 2."""
    code = "import sys; from gateway_blocking.cli import main; main(sys.argv[1:])"
    done = without_home(terminal, code, "kernels")
    assert done.returncode == 2
    [line] = errors(done)
    assert line.endswith(": this user has no home directory: set HOME to one")


def test_the_python_api_needs_no_home_directory(terminal: Terminal) -> None:
    """A kernel is started, used and shut down."""
    code = """
from gateway_blocking import run_kernel
with run_kernel() as kc:
    print(kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"])
"""
    done = without_home(terminal, code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_end_of_python_with_registered_objects_prints_nothing() -> None:
    """They are collected while the interpreter takes its modules apart."""
    code = (
        "import sys\n"
        "from gateway_blocking import BlockingGatewayKernelManager\n"
        "sys.modules['kept'] = BlockingGatewayKernelManager(url='http://127.0.0.1:9')\n"
        "raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
