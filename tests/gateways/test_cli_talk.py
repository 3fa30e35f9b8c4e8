"""``jupyter gateway exec``, ``attach`` and ``console``, driven as a person would."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import BlockingGatewayKernelManager, GatewayClient
from gateway_blocking.frames import TEXT
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.faultproxy import FaultProxy
from support.rawserver import Peer, Script, serving
from support.servers import kernels_of
from support.terminal import Person, Terminal, errors, wait_for, without_a_gateway
from support.waiting import wait_until


@pytest.fixture(scope="module")
def running(gateway: LocalGateway) -> Iterator[str]:
    """The id of a kernel that somebody else started."""
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
        yield str(km.kernel_id)


# --- exec -----------------------------------------------------------------------------------------


def test_a_snippet_on_a_kernel_of_its_own(terminal: Terminal, running: str) -> None:
    """Its output and its last value appear, each stream by itself; the kernel is gone then."""
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7"
    done = terminal("exec", "--kernel=python3", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n42\n", "err\n")
    assert kernels_of(terminal.gateway) == [running]


def test_a_snippet_on_a_running_kernel(terminal: Terminal, running: str) -> None:
    """The beginning of the id is enough; variables stay, and so does the kernel, also after an
    error, whose traceback has no colour codes in a pipe."""
    assert terminal("exec", f"--kernel-id={running[:8]}", "secret = 6 * 7").returncode == 0
    done = terminal("exec", f"--kernel-id={running[:8]}", "print(secret)\n1 / 0")
    assert (done.returncode, done.stdout) == (1, "42\n")
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b" not in done.stderr
    assert running in kernels_of(terminal.gateway)


def test_a_snippet_on_standard_input(terminal: Terminal, running: str) -> None:
    """`-` is code from a pipe; otherwise the pipe answers input()."""
    done = terminal("exec", "--kernel-id", running, "-", typed="print(6 * 7)")
    assert (done.returncode, done.stdout) == (0, "42\n")
    ask = "a = input('name? '); b = input(); print(f'hello {a} {b}')"
    done = terminal("exec", "--kernel-id", running, ask, typed="Ada\nLovelace\n")
    assert (done.returncode, done.stdout) == (0, "name? hello Ada Lovelace\n")


def test_a_snippet_asks_on_the_terminal(terminal: Terminal, running: str) -> None:
    """input() shows what is typed, getpass() does not."""
    code = "import getpass; print('hello', input('name? '), getpass.getpass('key? ')[::-1])"
    with Person(terminal, "exec", "--kernel-id", running, code) as person:
        person.sees(r"name\? ")
        person.types("Ada\n")
        person.sees(r"Ada\n.*key\? ")
        person.types("terces\n")
        status, rest = person.ends()
    assert (status, rest.split()) == (0, ["hello", "Ada", "secret"])


IMAGE = """
import struct, zlib
from base64 import b64encode
from IPython.display import display

def part(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

rows = b"".join(bytes([0, *(x * y % 251 for x in range(200))]) for y in range(100))
parts = part(b"IHDR", struct.pack(">IIBBBBB", 200, 100, 8, 0, 0, 0, 0)), part(
    b"IDAT", zlib.compress(rows, 0)), part(b"IEND", b"")
png = b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(parts)).decode()
display({"image/png": png, "text/plain": "<Figure size 200x100>"}, raw=True)
print("checksum", zlib.crc32(png.encode()))
"""


def checksum_of_image(shown: str) -> list[str]:
    """What the program says of the image that is in kitty's sequences."""
    chunks = re.findall(r"\x1b_G(?:a=T,f=100,q=2|q=2),m=[01];([^\x1b]+)\x1b\\", shown)
    assert len(chunks) > 5
    return ["checksum", str(zlib.crc32("".join(chunks).encode()))]


def test_images_on_a_terminal_that_can_draw_them(terminal: Terminal, running: str) -> None:
    """exec, run and console draw them; a pipe gets a line."""
    kitty = {"TERM": "xterm-kitty", "TMUX": "", "STY": "", "ZELLIJ": ""}
    script = terminal.write("draw.py", IMAGE)
    for command in ("exec", "--file=draw.py"), ("run", script):
        args = (command[0], "--kernel-id", running, *command[1:])
        with Person(terminal, *args, **kitty) as person:
            shown = person.sees(r"checksum \d+\n")
            assert person.ends()[0] == 0
        assert shown.split()[-2:] == checksum_of_image(shown)
        assert "image/png" not in shown
        done = terminal(*args, **kitty)
        assert "\x1b" not in done.stdout
        assert re.fullmatch(r"\[image/png, 20 kB\]\nchecksum \d+\n", done.stdout)
    with Person(terminal, "console", "--kernel-id", running, **kitty) as person:
        person.sees(r"In \[\d+\]: $")
        person.types(f"exec(open({str(terminal.directory / script)!r}).read())\r")
        shown = person.sees(r"checksum \d+\n")
        assert shown.split()[-2:] == checksum_of_image(shown)
        assert "<Figure" not in shown
        person.sees(r"In \[\d+\]: $")
        person.types("display({'image/png': 'AAAA', 'text/plain': 'broken'}, raw=True)\r")
        person.sees(r"\n(the image is not shown: .*\n)?broken\n")
        person.sees(r"In \[\d+\]: $")
        person.types("\x04")
        assert person.ends()[0] == 0


def asking(received: list[Any]) -> Script:
    """A gateway that asks the user of each execution for a password; `received` gets messages."""

    def converse(peer: Peer) -> None:
        peer.accept()
        while (frame := peer.receive()).opcode == TEXT:
            received.append(json.loads(frame.data))
            msg_id, kind = (received[-1]["header"][name] for name in ("msg_id", "msg_type"))
            if kind == "execute_request":
                for channel in ("stdin", "shell", "iopub", "control"):
                    asks = {"prompt": "Gateway password: ", "password": False}
                    peer.send_message(channel, "input_request", msg_id, **asks)
            if kind.endswith("_request"):
                reply = kind.replace("_request", "_reply")
                peer.send_message("shell", reply, msg_id, status="ok", protocol_version="5.3")
                peer.send_message("iopub", "status", msg_id, execution_state="idle")

    def script(peer: Peer) -> None:
        peer.read_request()
        if b"/channels" in peer.request.partition(b"\r\n")[0]:
            converse(peer)
        elif peer.request.startswith(b"DELETE"):
            peer.answer("204 No Content", Connection="close")
        else:
            model = {"id": f"kernel-{len(received)}", "name": "python3", "execution_state": "idle"}
            status = "201 Created" if peer.request.startswith(b"POST") else "200 OK"
            peer.answer(status, json.dumps(model).encode(), Connection="close")

    return script


@pytest.mark.parametrize("args", [["exec", "-"], ["run", "--jobs=2", "a.py", "b.py"]])
def test_a_gateway_gets_no_answer_where_nobody_may_be_asked(
    terminal: Terminal, args: list[str]
) -> None:
    """The question appears nowhere, and what is typed goes nowhere."""
    for name in ("a.py", "b.py"):
        terminal.write(name, "1")
    received: list[Any] = []
    with serving(asking(received)) as where:
        done = terminal(*args, typed="secret\n", JUPYTER_GATEWAY_URL=f"http://{where}")
    assert done.returncode == 0, done.stderr
    assert "password" not in done.stdout + done.stderr
    kinds = {message["header"]["msg_type"] for message in received}
    assert kinds == {"kernel_info_request", "execute_request"}


SLOW = """
import time
print("begun", flush=True)
time.sleep(0.5)  # it is to arrive first
time.sleep(600)
"""


def test_ctrl_c_interrupts_a_running_kernel(terminal: Terminal, running: str) -> None:
    """Output appears while the code runs; Ctrl-C ends the code, not the kernel: status 130."""
    with terminal.popen("exec", "--kernel-id", running, f"kept = 1{SLOW}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "jupyter gateway exec: stopped by SIGINT\n")
    assert terminal("exec", "--kernel-id", running, "print(kept)").stdout == "1\n"


def test_ctrl_c_shuts_a_kernel_of_its_own_down(terminal: Terminal, running: str) -> None:
    """The one that exec started is gone."""
    with terminal.popen("exec", SLOW) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert kernels_of(terminal.gateway) == [running]


def test_a_snippet_waits_for_a_busy_kernel(terminal: Terminal, running: str) -> None:
    """It says so, and goes on when the kernel has time; giving up the wait interrupts nothing."""
    busy = "import os, time\nopen('busy', 'w').close()\nwhile not os.path.exists('go'):\n"
    where = f"import os; os.chdir({str(terminal.directory)!r})"
    assert terminal("exec", "--kernel-id", running, where).returncode == 0
    with terminal.popen("exec", "--kernel-id", running, f"{busy}    time.sleep(0.02)") as first:
        wait_for(terminal.directory / "busy")
        with (
            terminal.popen("exec", "--kernel-id", running, "print(1)") as impatient,
            terminal.popen("exec", "--kernel-id", running, "print(2)") as patient,
        ):
            for process in (impatient, patient):
                assert process.stderr is not None
                assert "is busy: waiting for it" in process.stderr.readline()
            impatient.send_signal(signal.SIGINT)
            assert impatient.communicate(timeout=60)[0] == ""
            assert first.poll() is None
            (terminal.directory / "go").touch()
            assert patient.communicate(timeout=60)[0] == "2\n"
        assert first.communicate(timeout=60) == ("", "")
    assert (impatient.returncode, patient.returncode, first.returncode) == (130, 0, 0)


def test_without_a_gateway_one_is_started_for_a_new_kernel_only(terminal: Terminal) -> None:
    """One of our own cannot have the kernel that --kernel-id names."""
    terminal.env = without_a_gateway(terminal.env)
    done = terminal("exec", "6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "starting one on this machine" in done.stderr
    done = terminal("exec", "--kernel-id=1f3a", "6 * 7")
    assert done.returncode == 3
    [line] = errors(done)
    assert line.endswith(
        "no gateway is configured (JUPYTER_GATEWAY_URL, --url); set one of them to its address"
    )


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["exec"], "give CODE as one argument"),
        (
            ["exec", "1f3a", "1"],
            "give CODE as one argument, in quotes, got 2 arguments; a running kernel is named by"
            " --kernel-id=KERNEL",
        ),
        (
            ["exec", "1f3a", "--file=a.py"],
            "give either CODE or --file=FILE, not both; a running kernel is named by"
            " --kernel-id=KERNEL",
        ),
        (["exec", "--kernel=python3", "--kernel-id=a", "1"], "not both"),
        (["exec", "--kernel-id=nobody", "1"], "no kernel whose id begins with 'nobody'"),
        (["attach"], "give the ID of one kernel"),
        (["attach", "nobody"], "no kernel whose id begins with 'nobody'"),
        (
            ["console", "1f3a"],
            "the command takes no arguments, got 1; a running kernel is named by"
            " --kernel-id=KERNEL",
        ),
        (["mcp", "1f3a"], "got 1; a running kernel is named by --kernel-id=KERNEL"),
        (["console"], "there is no terminal; jupyter gateway exec - executes code from a pipe"),
    ],
)
def test_bad_usage(terminal: Terminal, args: list[str], text: str) -> None:
    """Status 2 and one line that says what is wrong."""
    done = terminal(*args)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert text in line


# --- rich output ----------------------------------------------------------------------------------

PNG = base64.b64encode(b"\x89PNG" + bytes(11_996)).decode()


def test_rich_output_in_a_pipe(terminal: Terminal, running: str) -> None:
    """Markdown as it was written, HTML as its text, an image as a line; nothing is taken back."""
    code = f"""
from IPython.display import HTML, SVG, Image, Markdown, clear_output, display
import base64
display(Markdown("# Title"))
display(HTML("<b>bold</b>"))
display(Image(base64.b64decode({PNG!r})))
shown = display("first", display_id=True)
clear_output()
shown.update("second")
"""
    done = terminal("exec", "--kernel-id", running, code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "# Title",
        "bold",
        "[image/png, 12 kB]",
        "'first'",
        "'second'",
    ]


# --- attach ---------------------------------------------------------------------------------------


def watching(terminal: Terminal, kernel_id: str) -> subprocess.Popen[str]:
    process = terminal.popen("attach", kernel_id)
    assert process.stderr is not None
    assert process.stderr.readline() == (
        f"watching kernel {kernel_id}; Ctrl-C ends that, and not the kernel\n"
    )
    return process


def test_attach_shows_what_others_execute_until_ctrl_c(terminal: Terminal, running: str) -> None:
    """As it comes, on the stream where it belongs; then status 130, as for `tail -f`."""
    with watching(terminal, running) as process:
        code = "import sys\nprint('seen', flush=True)\nprint('err', file=sys.stderr)\n6 * 7"
        assert terminal("exec", "--kernel-id", running, code).returncode == 0
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["seen\n", "42\n"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "err\n")
    assert process.returncode == 130
    assert terminal("exec", "--kernel-id", running, "6 * 7").stdout == "42\n"


def test_attach_ends_with_the_kernel(terminal: Terminal, km: BlockingGatewayKernelManager) -> None:
    """It ends with status 3 and a line if the kernel dies or is shut down; so does the snippet."""
    km.start_kernel()
    kernel_id = str(km.kernel_id)
    with watching(terminal, kernel_id) as process:
        done = terminal("exec", "--kernel-id", kernel_id, "import os; os._exit(1)")
        out, err = process.communicate(timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = errors(done)
    assert line.startswith("jupyter gateway exec: ")
    assert "died" in line
    assert (process.returncode, out) == (3, "")
    assert err == (
        f"jupyter gateway attach: kernel {kernel_id} was restarted,"
        " or crashed (out of memory, perhaps); its variables are lost\n"
    )
    with watching(terminal, kernel_id) as process:
        assert terminal("exec", "--kernel-id", kernel_id, "6 * 7").returncode == 0
        assert process.stdout is not None
        # A gateway that ends a kernel forgets what it has not forwarded yet.
        assert process.stdout.readline() == "42\n"
        km.shutdown_kernel()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, "")
    # The kernel itself may have something to say about its end, which is shown before.
    assert err.splitlines()[-1] == (
        f"jupyter gateway attach: kernel {kernel_id} was shut down or culled, or the gateway was"
        " restarted"
    )


# --- console --------------------------------------------------------------------------------------


def test_a_console_with_a_kernel_of_its_own(terminal: Terminal, running: str) -> None:
    """Values, completion, code of several lines, Ctrl-C and input(); Ctrl-D ends both."""
    with Person(terminal, "console") as person:
        person.sees(r"In \[1\]: $")
        person.types("6 * 7\r")
        person.sees(r"Out\[1\]: 42\n.*In \[2\]: $")
        person.types("import math; math.comb(7, len('mat')) + math.fact\t")
        person.sees("factorial")
        person.types("(3)\r")
        person.sees(r"Out\[2\]: 41\n.*In \[3\]: $")
        person.types("def f(x):\r")
        person.sees(r"\.\.\.: ")
        person.types("return x + 1\r\r")
        person.sees(r"In \[4\]: $")
        person.types("f(41)\r")
        person.sees(r"Out\[4\]: 42\n.*In \[5\]: $")
        person.types("open('busy', 'w').close(); import time; time.sleep(600)\r")
        wait_for(terminal.directory / "busy")
        person.types("\x03")
        person.sees(r"KeyboardInterrupt.*In \[6\]: $")
        person.types("name = input('who? ')\r")
        person.sees(r"\nwho\? ")
        person.types("Ada\r")
        person.sees(r"In \[7\]: $")
        person.types("name[::-1]\r")
        person.sees(r"Out\[7\]: 'adA'\n.*In \[8\]: $")
        person.types("\x04")
        person.sees(r"Do you really want to exit \(\[y\]/n\)\? ")
        person.types("y\n")
        status, rest = person.ends()
    assert (status, rest.strip()) == (0, "y")
    assert kernels_of(terminal.gateway) == [running]


# The kernel may have begun before the client that asked it to gets to its next line.
CTRL_C_AT_ONCE = """
import os, signal, time
from gateway_blocking import BlockingGatewayKernelClient as Client

def execute(self, code, *args, **kwargs):
    msg_id = original(self, code, *args, **kwargs)
    if "busy" in code:
        while not os.path.exists("busy"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    return msg_id

original, Client.execute = Client.execute, execute
"""


def test_ctrl_c_right_after_enter(terminal: Terminal, running: str, tmp_path: Path) -> None:
    """It interrupts the kernel, which has begun already, and not only the prompt."""
    terminal.write("sitecustomize.py", CTRL_C_AT_ONCE)
    with Person(terminal, "console", PYTHONPATH=str(tmp_path)) as person:
        person.sees(r"In \[1\]: $")
        person.types("open('busy', 'w').close(); import time; time.sleep(600)\r")
        person.sees(r"KeyboardInterrupt.*In \[2\]: $")
        person.types("6 * 7\r")
        person.sees(r"Out\[2\]: 42\n.*In \[3\]: $")
        person.types("exit\r")
        assert person.ends()[0] == 0


@pytest.fixture
def far_away(terminal: Terminal, proxy: FaultProxy) -> Terminal:
    """The gateway is reached through a proxy."""
    terminal.env["JUPYTER_GATEWAY_URL"] = proxy.url
    return terminal


def test_a_console_far_away(far_away: Terminal, running: str, proxy: FaultProxy) -> None:
    """Output of a cell appears while it runs, and its questions can be answered."""
    with Person(far_away, "console", "--kernel-id", running) as person:
        person.sees(r"In \[1\]: $")
        for direction in ("up", "down"):
            proxy.websocket.delay(direction, 0.1)
        seen = far_away.directory / "seen"
        wait = f"while not os.path.exists({str(seen)!r}): time.sleep(0.01)"
        person.types(f"import os, time; print('begun', flush=True); exec({wait!r})\r")
        person.sees(r"\nbegun\n")
        seen.touch()
        person.sees(r"In \[\d+\]: $")
        person.types("name = input('who? ')\r")
        person.sees(r"\nwho\? ")
        person.types("Ada\r")
        person.sees(r"In \[\d+\]: $")
        person.types("name[::-1]\r")
        person.sees(r"Out\[\d+\]: 'adA'\n.*In \[\d+\]: $")
        person.types("exit\r")
        assert person.ends()[0] == 0


def test_a_console_whose_kernel_is_slow(
    far_away: Terminal, running: str, proxy: FaultProxy
) -> None:
    """A reply that comes late is still taken for what it is."""
    # The history's database is that of all kernels here: one may have to wait for another.
    patience = "--ZMQTerminalInteractiveShell.kernel_is_complete_timeout=50"
    with Person(far_away, "console", "--kernel-id", running, patience) as person:
        wait_until(lambda: proxy.websockets)
        proxy.websocket.delay("down", 1.2)
        person.sees(r"In \[1\]: $")
        person.types("def f(x):\r")
        person.sees(r"\.\.\.: ")
        person.types("return x + 1\r\r")
        person.sees(r"In \[\d+\]: $")
        person.types("f(41)\r")
        person.sees(r"Out\[\d+\]: 42\n.*In \[\d+\]: $")
        person.types("exit\r")
        assert person.ends()[0] == 0


# What was asked before the cell, and not waited for to the end, is answered before it, too.
STRAY_REPLY = """
from gateway_blocking import BlockingGatewayKernelClient as Client

def execute(self, *args, **kwargs):
    self.complete("pri")
    return original(self, *args, **kwargs)

original, Client.execute = Client.execute, execute
"""


def test_a_console_with_a_reply_to_something_else(terminal: Terminal, running: str) -> None:
    """It is not taken for that to the cell, which says that the person wants to leave."""
    terminal.write("sitecustomize.py", STRAY_REPLY)
    env = {"PYTHONPATH": str(terminal.directory)}
    with Person(terminal, "console", "--kernel-id", running, **env) as person:
        person.sees(r"In \[\d+\]: $")
        person.types("exit\r")
        assert person.ends()[0] == 0


def states_of(gateway: LocalGateway) -> set[str]:
    """Return what the gateway's kernels do, as it knows it."""
    with GatewayREST(GatewayClient(**gateway.options())) as rest:
        return {str(kernel.get("execution_state")) for kernel in rest.list_kernels()}


def test_a_console_whose_cell_is_not_heard_of(far_away: Terminal, proxy: FaultProxy) -> None:
    """The console says that the reply was lost, and the variables are there."""
    with Person(far_away, "console") as person:
        person.sees(r"In \[1\]: $")
        loop = "while not os.path.exists('go on'): time.sleep(0.01)"
        person.types(f"import os, time; answer = 42; open('begun', 'w'); exec({loop!r})\r")
        wait_for(far_away.directory / "begun")
        proxy.websocket.hole("down")
        (far_away.directory / "go on").touch()
        wait_until(lambda: "busy" not in states_of(far_away.gateway))  # it has replied
        proxy.websocket.cut("rst")
        person.sees(r"no reply.*the kernel keeps its variables\n.*In \[\d+\]: $")
        person.types("answer\r")
        person.sees(r"Out\[\d+\]: 42\n.*In \[\d+\]: $")
        person.types("exit\r")
        assert person.ends()[0] == 0


def test_a_console_on_a_running_kernel(terminal: Terminal, running: str) -> None:
    """Its variables and its history are there; exit leaves it running."""
    assert terminal("exec", "--kernel-id", running, "answer = 6 * 7").returncode == 0
    with Person(terminal, "console", "--kernel-id", running[:8]) as person:
        person.sees(r"In \[1\]: $")
        person.types("\x1b[A")  # the arrow up
        person.sees(r"answer = 6 \* 7")
        person.types("\x03answer + 1\r")
        person.sees(r"Out\[\d+\]: 43\n.*In \[\d+\]: $")
        person.types("exit\r")
        status, rest = person.ends()
    assert status == 0
    assert f"kernel {running} is left running" in rest
    assert running in kernels_of(terminal.gateway)


def test_a_console_whose_kernel_ends(terminal: Terminal, km: BlockingGatewayKernelManager) -> None:
    """It goes on with one that the gateway started again, and ends with one that is gone."""
    km.start_kernel()
    with Person(terminal, "console", "--kernel-id", str(km.kernel_id)) as person:
        person.sees(r"In \[1\]: $")
        person.types("import os; os._exit(1)\r")
        person.sees(r"the kernel was restarted, or crashed.*In \[\d+\]: $")
        person.types("6 * 7\r")
        person.sees(r"Out\[1\]: 42\n.*In \[2\]: $")
        kernel_id = str(km.kernel_id)
        km.shutdown_kernel()
        person.types("6 * 7\r")
        status, rest = person.ends()
    assert status == 3
    assert f"jupyter gateway console: kernel {kernel_id} was shut down" in rest


def test_a_console_that_is_told_to_end(terminal: Terminal, running: str) -> None:
    """As when its window is closed: the kernel that it started is shut down."""
    with Person(terminal, "console") as person:
        person.sees(r"In \[1\]: $")
        person.process.send_signal(signal.SIGHUP)
        status, rest = person.ends()
    assert status == 129
    assert "jupyter gateway console: stopped by SIGHUP" in rest
    assert kernels_of(terminal.gateway) == [running]
