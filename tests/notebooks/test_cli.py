"""``jupyter gateway``, driven as a person would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import requests
from nbformat.v4 import new_code_cell, new_notebook

from gateway_blocking import BlockingGatewayKernelClient, __version__
from support.terminal import Terminal, errors, without_a_gateway
from support.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


# --- notebooks ------------------------------------------------------------------------------------


def test_a_notebook_is_executed_and_written_next_to_it(terminal: Terminal) -> None:
    """The example notebook comes back with its outputs in a file of its own, named on stderr."""
    shutil.copy(EXAMPLES / "example.ipynb", terminal.directory)
    done = terminal("run", "example.ipynb")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "wrote example.executed.ipynb\n")
    executed = terminal.read("example.executed.ipynb")
    nbformat.validate(executed)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2, 3, 4, 5]
    assert code[0].outputs[0].data["text/plain"] == "42"
    assert code[1].outputs[0].text.startswith("this is Python")
    assert "<td>6171</td><td>261</td>" in code[3].outputs[0].data["text/html"]
    assert executed.metadata.language_info.version
    original = json.loads((EXAMPLES / "example.ipynb").read_text())
    assert json.loads((terminal.directory / "example.ipynb").read_text()) == original


def test_inplace_replaces_what_a_link_points_to(terminal: Terminal) -> None:
    """--inplace writes over the original and keeps its mode; a symbolic link stays one."""
    terminal.notebook("real.ipynb", "print('done')")
    (terminal.directory / "real.ipynb").chmod(0o640)
    (terminal.directory / "link.ipynb").symlink_to("real.ipynb")
    assert terminal("run", "--inplace", "link.ipynb").returncode == 0
    assert terminal.files() == {"real.ipynb", "link.ipynb"}
    assert (terminal.directory / "link.ipynb").is_symlink()
    assert (terminal.directory / "real.ipynb").stat().st_mode & 0o777 == 0o640
    assert terminal.read("real.ipynb").cells[1].outputs[0].text == "done\n"


def test_a_failing_cell_ends_the_notebook(terminal: Terminal) -> None:
    """Status 1 and a traceback without colour codes; the notebook so far is written."""
    terminal.notebook("bad.ipynb", "print('before')", "1 / 0", "print('after')")
    done = terminal("run", "bad.ipynb")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b" not in done.stderr
    assert errors(done)[-2:] == [
        "wrote bad.executed.ipynb",
        "jupyter gateway run: bad.ipynb: cell 3 failed",
    ]
    before, failed, after = terminal.read("bad.executed.ipynb").cells[1:]
    assert before.outputs[0].text == "before\n"
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert (after.outputs, after.execution_count) == ([], None)


def test_allow_errors_and_output(terminal: Terminal) -> None:
    """With --allow-errors a failing cell is an output like others; --output names the file."""
    terminal.notebook("bad.ipynb", "1 / 0", "print('after')")
    done = terminal("run", "--allow-errors", "--output", "b.ipynb", "bad.ipynb")
    assert (done.returncode, done.stderr) == (0, "wrote b.ipynb\n")
    assert terminal.files() == {"bad.ipynb", "b.ipynb"}
    failed, after = terminal.read("b.ipynb").cells[1:]
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert after.outputs[0].text == "after\n"


def test_a_cell_that_takes_too_long(terminal: Terminal) -> None:
    """--timeout ends a cell: status 1, and the output until then is kept."""
    code = "import time; print('begun', flush=True); time.sleep(600)"
    terminal.notebook("slow.ipynb", code)
    done = terminal("run", "--timeout=1", "slow.ipynb")
    assert done.returncode == 1
    assert "slow.ipynb: cell 2 took longer than 1 s" in done.stderr
    assert "Traceback" not in done.stderr
    assert terminal.read("slow.executed.ipynb").cells[1].outputs[0].text == "begun\n"


def test_a_notebook_brings_its_kernel_and_its_directory(terminal: Terminal) -> None:
    """The notebook's kernelspec is used unless --kernel names another; it finds its files."""
    nb = new_notebook(cells=[new_code_cell("print(open('data.txt').read())")])
    nb.metadata["kernelspec"] = {"name": "cobol", "display_name": "COBOL"}
    (terminal.directory / "sub").mkdir()
    terminal.write("sub/data.txt", "found")
    terminal.write("sub/a.ipynb", nbformat.writes(nb))
    done = terminal("run", "sub/a.ipynb")
    assert done.returncode == 3
    assert "cobol" in done.stderr
    assert not (terminal.directory / "sub" / "a.executed.ipynb").exists()
    assert terminal("run", "--kernel=python3", "sub/a.ipynb").returncode == 0
    assert terminal.read("sub/a.executed.ipynb").cells[0].outputs[0].text == "found\n"


def test_a_notebook_whose_kernel_dies(terminal: Terminal) -> None:
    """Status 3, which cell it was, and the notebook so far."""
    terminal.notebook("dies.ipynb", "print('before')", "import os; os._exit(1)")
    done = terminal("run", "dies.ipynb")
    assert done.returncode == 3
    said = "jupyter gateway run: dies.ipynb: the kernel died in cell 3: out of memory, perhaps"
    assert errors(done) == ["wrote dies.executed.ipynb", f"{said}; the gateway's log says more"]
    assert terminal.read("dies.executed.ipynb").cells[1].outputs[0].text == "before\n"


HOOK = """
import pathlib, time

def hook(cell, **_):
    while cell.cell_type == "code" and not pathlib.Path("theirs").exists():
        time.sleep(0.02)

c.NotebookClient.on_cell_executed = hook
"""


def test_a_notebook_that_cannot_be_written_disturbs_nobody(
    terminal: Terminal, kc: BlockingGatewayKernelClient
) -> None:
    """A cell that a shared kernel executes by then is another client's, and goes on."""
    terminal.write("c.py", HOOK)
    ours, theirs, go_on = (terminal.directory / name for name in ("out.ipynb", "theirs", "go_on"))
    terminal.notebook("a.ipynb", f"import pathlib, time; pathlib.Path({str(ours)!r}).mkdir()")
    options = ["--config=c.py", f"--kernel-id={kc.kernel_id}", "--output=out.ipynb"]
    with terminal.popen("run", *options, "a.ipynb") as process:
        wait_until(lambda: ours.exists() or process.poll() is not None, 60)
        msg_id = kc.execute(
            f"pathlib.Path({str(theirs)!r}).touch()\n"
            f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.02)"
        )
        _, err = process.communicate(timeout=90)
    go_on.touch()
    assert (process.returncode, "cannot write" in err) == (2, True)
    assert kc._recv_reply(msg_id, timeout=60)["content"]["status"] == "ok"


def test_a_notebook_that_cannot_be_written_is_interrupted_all_the_same(
    terminal: Terminal, kc: BlockingGatewayKernelClient
) -> None:
    """A cell of ours that took too long does not run on in a shared kernel."""
    out = terminal.directory / "out.ipynb"
    code = f"import pathlib, time; pathlib.Path({str(out)!r}).mkdir(); time.sleep(600)"
    terminal.notebook("a.ipynb", code)
    options = ["--timeout=1", f"--kernel-id={kc.kernel_id}", "--output=out.ipynb"]
    done = terminal("run", *options, "a.ipynb")
    assert done.returncode == 1, "the cell's failure comes first"
    assert "cannot write" in done.stderr
    kc.wait_for_ready(timeout=60)


# --- scripts --------------------------------------------------------------------------------------


def test_a_scripts_output_is_shown_as_it_comes(terminal: Terminal) -> None:
    """A line is there while the script still runs; both streams keep apart."""
    code = """
import os, sys, time
print("first", flush=True)
while not os.path.exists("seen"):
    time.sleep(0.02)
print("second")
print("third", file=sys.stderr)
6 * 7
"""
    with terminal.popen("run", terminal.write("live.py", code)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        assert process.poll() is None
        (terminal.directory / "seen").touch()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "second\n42\n", "third\n")


def test_a_script_that_raises(terminal: Terminal) -> None:
    """Status 1, the traceback on stderr, and what was printed before on stdout."""
    done = terminal("run", terminal.write("bad.py", "print('before')\n1 / 0\nprint('after')\n"))
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_script_asks_for_input(terminal: Terminal) -> None:
    """input() reads from standard input, and its end is an EOFError."""
    code = """
print("hello", input("name? "))
try:
    input()
except EOFError:
    print("no more")
"""
    done = terminal("run", terminal.write("ask.py", code), typed="Ada\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hello Ada\n" in done.stdout
    assert "no more\n" in done.stdout


def test_a_script_on_standard_input(terminal: Terminal) -> None:
    """`-` is code from a pipe; it cannot ask for input as well."""
    done = terminal("run", "-", typed="print(6 * 7)\ninput()")
    assert (done.returncode, done.stdout) == (1, "42\n")
    assert "StdinNotImplementedError" in done.stderr


def test_sys_exit_ends_a_script_as_usual(terminal: Terminal) -> None:
    """sys.exit() is success, sys.exit(text) is failure with that text, and neither a traceback."""
    ends = terminal.write("ends.py", "import sys\nprint('done')\nsys.exit()")
    done = terminal("run", ends)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    fails = terminal.write("fails.py", "import sys\nsys.exit('not today')")
    done = terminal("run", fails)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "not today\n")


def test_output_that_nobody_reads(terminal: Terminal) -> None:
    """`jupyter gateway run script | head -1` ends without a complaint."""
    code = "import time\nwhile True:\n    print('y', flush=True)\n    time.sleep(0.01)"
    with terminal.popen("run", terminal.write("yes.py", code)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


def test_nothing_of_the_current_folder_is_executed(terminal: Terminal) -> None:
    """Neither a program whose name is built from the command's words, nor a configuration file."""
    for name in ("jupyter-gateway-run-sub", "sub"):
        (terminal.directory / name).mkdir()
    terminal.write("jupyter-gateway-run-sub/a.py", "#!/bin/sh\necho wrong")
    (terminal.directory / "jupyter-gateway-run-sub" / "a.py").chmod(0o755)
    for config in ("jupyter_gateway_config.py", "jupyter_config.py"):
        terminal.write(config, "print('wrong')")
    terminal.write("sub/a.py", "print('right')")
    done = terminal("run", "sub/a.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")


# --- the gateway ----------------------------------------------------------------------------------


def test_without_a_gateway_one_is_started(terminal: Terminal) -> None:
    """One line says so and where; at the end it is gone."""
    terminal.env = without_a_gateway(terminal.env)
    done = terminal("run", terminal.write("a.py", "print('ran')"))
    assert (done.returncode, done.stdout) == (0, "ran\n")
    [line] = errors(done)
    text, _comma, url = line.rpartition(", ")
    assert text == (
        "no gateway is configured (JUPYTER_GATEWAY_URL, --url): starting one on this machine"
    )
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_the_gateway_that_was_started_is_behind_no_proxy(name: str, terminal: Terminal) -> None:
    """Whatever the environment names for others, such as for the kernel itself."""
    proxies = {"http_proxy": "http://127.0.0.1:9", "all_proxy": "http://127.0.0.1:9"}
    terminal.env = without_a_gateway({**terminal.env, **proxies, name: "example.org"})
    code = f"import os\nprint(os.environ['http_proxy'], os.environ['{name}'])"
    done = terminal("run", terminal.write("a.py", code))
    assert (done.returncode, done.stdout) == (0, "http://127.0.0.1:9 example.org\n"), done.stderr


def test_ctrl_c_stops_the_gateway_that_was_started(terminal: Terminal) -> None:
    """A Ctrl-C of the terminal, which reaches every process there, leaves no gateway behind."""
    terminal.env = without_a_gateway(terminal.env)
    code = "import os, time\nprint(os.getppid(), flush=True)\ntime.sleep(600)"
    command = [sys.executable, "-m", "gateway_blocking", "run", terminal.write("slow.py", code)]
    with subprocess.Popen(
        command,
        cwd=terminal.directory,
        env=terminal.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        gateway = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[1:] == ["jupyter gateway run: stopped by SIGINT"]
    with pytest.raises(ProcessLookupError):
        os.kill(gateway, 0)


def test_the_gateway_may_be_given_on_the_command_line(terminal: Terminal) -> None:
    """--url and --token, and any trait by its full name; they win over the environment."""
    url, token = terminal.gateway.url, terminal.gateway.token
    script = terminal.write("a.py", "print('ran')")
    wrong = {"JUPYTER_GATEWAY_URL": "http://127.0.0.1:9", "JUPYTER_GATEWAY_AUTH_TOKEN": "wrong"}
    done = terminal("run", "--url", url, f"--token={token}", script, **wrong)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    options = [f"--GatewayClient.url={url}", f"--GatewayClient.auth_token={token}"]
    done = terminal("run", *options, script, **wrong)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_the_gateway_may_be_in_a_configuration_file(terminal: Terminal) -> None:
    """c.GatewayClient of jupyter_gateway_config.py is read, by the command jupyter finds."""
    url, token = terminal.gateway.url, terminal.gateway.token
    terminal.write(
        "jupyter_gateway_config.py",
        f"c.GatewayClient.url = {url!r}\nc.GatewayClient.auth_token = {token!r}\n",
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("jupyter")),
            "gateway",
            "run",
            str(EXAMPLES / "example.py"),
        ],
        env={**without_a_gateway(terminal.env), "JUPYTER_CONFIG_DIR": str(terminal.directory)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 11


def test_a_gateway_that_is_not_there(terminal: Terminal) -> None:
    """Status 3 and one line that names it; with --debug the traceback as well."""
    url = "http://127.0.0.1:9"
    done = terminal("exec", "--url", url, "1")
    assert done.returncode == 3
    [line] = errors(done)
    assert line.startswith("jupyter gateway exec: ")
    assert url in line
    assert terminal.files() == set()
    done = terminal("exec", "--debug", "--url", url, "1")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert line in errors(done)


def test_a_wrong_token(terminal: Terminal) -> None:
    """Status 3 and one line, in which no token stands; nor does one with --debug."""
    script = terminal.write("a.py", "1")
    done = terminal("run", "--token=wrong-token", script)
    assert done.returncode == 3
    [line] = errors(done)
    assert "401" in line
    done = terminal("run", "--debug", "--token=wrong-token", script)
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert "wrong-token" not in done.stderr


def test_a_kernelspec_that_does_not_exist(terminal: Terminal) -> None:
    """Status 3 and one line that names it."""
    done = terminal("run", "--kernel=cobol", terminal.write("a.py", "1"))
    assert done.returncode == 3
    [line] = errors(done)
    assert "cobol" in line


def test_no_gateway_and_none_can_be_started(terminal: Terminal) -> None:
    """Without the extra, the one line says what is not configured and what is not installed."""
    terminal.write("sitecustomize.py", "import sys; sys.modules['kernel_gateway'] = None")
    terminal.env = without_a_gateway(terminal.env)
    done = terminal("run", "-", PYTHONPATH=str(terminal.directory))
    assert done.returncode == 3
    [line] = errors(done)
    assert "no gateway is configured (JUPYTER_GATEWAY_URL, --url)" in line
    assert 'pip install "gateway-blocking[local]"' in line


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["run"], "give at least one FILE; see --help"),
        (["run", "none.py"], "cannot read none.py: No such file or directory"),
        (["run", "none.ipynb"], "cannot read none.ipynb: No such file or directory"),
        (["run", "folder.ipynb"], "cannot read folder.ipynb: it is not a file"),
        (["run", "text.ipynb"], "text.ipynb is not a notebook: "),
        (["run", "list.ipynb"], "list.ipynb is not a notebook: "),
        (["run", "latin1.py"], "cannot read latin1.py: it is not UTF-8 text"),
        (["run", "--inplcae", "a.ipynb"], "there is no option --inplcae; the nearest is --inplace"),
        (["run", "--job=4", "a.ipynb"], "there is no option --job; the nearest is --jobs"),
        (["run", "--xyz"], "there is no option --xyz"),
        (["stop", "--all"], "there is no option --all; the nearest is --all-mine"),
        (["status", "--kernel"], "--kernel needs a value, as in --kernel=..."),
        (["run", "a.ipynb", "--output"], "--output needs a value, as in --output=..."),
        (["run", "--output=b.ipynb", "a.ipynb", "a.ipynb"], "--output is for one notebook"),
        (["run", "--output=b.ipynb", "a.py"], "--output is for one notebook"),
        (["run", "--output=b.ipynb", "--inplace", "a.ipynb"], "not both"),
        (["run", "--output-dir=.", "--inplace", "a.ipynb"], "not both"),
        (["run", "--output-dir=a.py", "a.ipynb"], "cannot make the directory a.py: File exists"),
        (["run", "--output-dir=.", "a.ipynb"], "over the original a.ipynb; --inplace does that"),
        (["run", "--output=./a.ipynb", "a.ipynb"], "over the original a.ipynb; --inplace"),
        (["run", "--output=a.html", "a.ipynb"], "--output=a.html does not end in .ipynb"),
        (["run", "--inplace", "a.py"], "--inplace is for notebooks, and a.py is a script"),
        (["run", "--allow-errors", "a.ipynb", "a.py"], "--allow-errors is for notebooks, and a.py"),
        (["run", "a.ipynb", "a.ipynb"], "would both be written to a.executed.ipynb"),
        (["run", "--kernel-id=a", "--jobs=2", "a.ipynb"], "--kernel-id is one kernel"),
        (["run", "--jobs=0", "a.ipynb"], "run: --jobs must be at least 1"),
        (["run", "--jobs=four", "a.ipynb"], "run: --jobs must be a whole number, got 'four'"),
        (["run", "a.ipynb", "-p", "alpha"], "-p alpha must be followed by a value, got nothing"),
        (["run", "-j", "a.ipynb"], "jobs"),
        (["run", "--timeout=0", "a.py"], "--timeout must be at least 1 second, got 0"),
        (["run", "--timeout=-1", "a.ipynb"], "--timeout must be at least 1 second, got -1"),
        (["run", "-p", "alpha", "1", "a.py"], "-p is for notebooks"),
        (["run", "--output=none/b.ipynb", "a.ipynb"], "cannot write none/b.ipynb"),
        (["run", "--timeout=soon", "a.ipynb"], "timeout"),
        (["run", "--url=127.0.0.1:8888", "a.ipynb"], "url"),
        (["rn", "a.ipynb"], "there is no command 'rn'; the nearest is run; see --help"),
        (["--url=http://x", "status"], "no option --url here; options of a command come after"),
        (["-y", "status"], "options come after the command: jupyter gateway status ..."),
        (
            ["run", "--RunCommand.timout=3", "a.py"],
            "no option --RunCommand.timout; the nearest is timeout",
        ),
        (["status", "--GatewayClient.auth_tokn=SESAME"], "auth_tokn; the nearest is auth_token"),
        (["kernels", "--config=none.py"], "--config=none.py: there is no such file"),
        (["kernels", "--config=bad.py"], "bad.py cannot be read: SyntaxError: "),
    ],
)
def test_bad_usage(terminal: Terminal, args: list[str], text: str) -> None:
    """Status 2 and one line that says what is wrong, before anything is started or written."""
    terminal.notebook("a.ipynb", "1")
    terminal.write("a.py", "1")
    terminal.write("text.ipynb", "print(1)")
    terminal.write("list.ipynb", "[]")
    (terminal.directory / "folder.ipynb").mkdir()
    terminal.write("bad.py", "c.GatewayClient.auth_token = 'SESAME")
    (terminal.directory / "latin1.py").write_bytes("print('é')".encode("latin-1"))
    files = terminal.files()
    done = terminal(*args, JUPYTER_GATEWAY_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert text in line
    assert "SESAME" not in line
    assert terminal.files() == files


def test_without_nbclient(terminal: Terminal) -> None:
    """A notebook then gives the command that installs it; a script needs none."""
    terminal.notebook("a.ipynb", "1")
    terminal.write("sitecustomize.py", "import sys; sys.modules['nbclient'] = None")
    done = terminal("run", "a.ipynb", PYTHONPATH=str(terminal.directory))
    assert (done.returncode, errors(done)) == (
        2,
        [
            "jupyter gateway run: a notebook needs nbclient:"
            ' pip install "gateway-blocking[notebook]"'
        ],
    )
    done = terminal("run", "-", typed="print(1)", PYTHONPATH=str(terminal.directory))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_help(terminal: Terminal) -> None:
    """Help names the commands, the options, and what an exit status means."""
    done = terminal("--help")
    assert done.returncode == 0
    assert "Execute notebooks and scripts." in done.stdout
    assert terminal("--version").stdout == f"{__version__}\n"
    nothing = terminal()
    assert (nothing.returncode, nothing.stdout) == (2, done.stdout)
    done = terminal("run", "--help")
    assert done.returncode == 0
    for text in ("--inplace", "--output", "--kernel", "JUPYTER_GATEWAY_AUTH_TOKEN", "130  "):
        assert text in done.stdout
