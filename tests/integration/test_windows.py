"""Library and commands without what only POSIX has, as Windows has them: see windows.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway_blocking.local import LocalGateway
from support import windows
from support.bridges import front_end
from support.servers import kernels_of
from support.terminal import Person, Terminal, errors, without_a_gateway
from support.waiting import wait_until

TESTS = Path(__file__).parents[1]


SITECUSTOMIZE = """
import warnings
from support import windows
windows.install()
warnings.simplefilter("ignore", EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module=r"gateway_blocking\\b")
"""


@pytest.fixture
def on_windows(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal whose commands run as on Windows, with files and consoles in its encoding.

    The locale's encoding is ASCII here: what is not said to be UTF-8 fails at once.
    """
    folder = tmp_path_factory.mktemp("windows")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join([str(folder), str(TESTS), *sys.path])
    terminal.env |= {
        "PYTHONPATH": path,
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNDEFAULTENCODING": "1",
        "LC_ALL": "C",
    }
    terminal.encoding = "cp1252"
    return terminal


LOOK = """
import sys
from gateway_blocking import local, signals, transport
assert local.sys.platform == "win32" != sys.platform
for module, name in ((signals.signal, "SIGHUP"), (transport.select, "poll"), (local.os, "fork")):
    assert not hasattr(module, name), name
assert not hasattr(transport, "fcntl")
print("gone")
"""


def python(terminal: Terminal, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=terminal.env,
        cwd=terminal.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_what_only_posix_has_is_gone(on_windows: Terminal) -> None:
    """For the package; the process itself has it, as what it uses needs it."""
    done = python(on_windows, LOOK)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gone\n", "")
    assert set(windows.ONLY_WINDOWS) <= set(windows.ONLY_POSIX)


LIBRARY = """
import os, signal, threading, time
from support.faultproxy import FaultProxy
from gateway_blocking import (
    BlockingGatewayKernelManager, BlockingGatewayMultiKernelManager, run_kernel
)
from gateway_blocking.local import LocalGateway

with LocalGateway() as gateway:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        options = {**gateway.options(), "url": proxy.url}
        with BlockingGatewayKernelManager(**options) as km:
            km.start_kernel()
            with km.client() as kc:
                kc.wait_for_ready(timeout=60)
                texts = []
                def see(message):
                    texts.append(message["content"].get("text", ""))
                kc.execute_interactive("print('p' * 3_000_000)", output_hook=see, timeout=60)
                assert len("".join(texts)) == 3_000_001
                kc.execute("x = " + repr("u" * 5_000_000), reply=True, timeout=60)
                proxy.websocket.cut("rst")
                reply = kc.execute("1 / 0", reply=True, timeout=60)
                assert reply["content"]["ename"] == "ZeroDivisionError", reply
                kc.execute("import time; time.sleep(600)")
                km.interrupt_kernel()
                km.restart_kernel()
                kc.wait_for_ready(timeout=60)
                # A Ctrl-C ends a wait that has no end of its own.
                main = threading.main_thread().ident
                timer = threading.Timer(1, signal.pthread_kill, (main, signal.SIGINT))
                timer.start()
                try:
                    kc.get_stdin_msg()
                except KeyboardInterrupt:
                    print("interrupted")
                timer.join()
        with BlockingGatewayMultiKernelManager(**options) as several:
            ids = [several.start_kernel() for _ in range(2)]
            several.shutdown_all()
print("done")
"""


def test_the_library(on_windows: Terminal) -> None:
    """Gateway, kernels, large messages, a lost connection, interrupt, restart, Ctrl-C."""
    done = python(on_windows, LIBRARY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "interrupted\ndone\n"


def test_commands_that_execute(on_windows: Terminal) -> None:
    """Notebooks and scripts in UTF-8, on a gateway of their own and on that of the environment."""
    on_windows.notebook("größe.ipynb", "print('20 €, ü')  # 漢字")
    script = on_windows.directory / "script.py"
    script.write_text("print('très bien', len('漢字'))\n", encoding="utf-8")
    done = on_windows("run", "--jobs=2", "größe.ipynb", "script.py")
    assert done.returncode == 0, done.stderr
    assert on_windows.read("größe.executed.ipynb").cells[1].outputs[0].text == "20 €, ü\n"
    on_windows.env = without_a_gateway(on_windows.env)
    done = on_windows("exec", "print('très bien,', input('où? '))", typed="là\n")
    assert (done.returncode, done.stdout) == (0, "où? très bien, là\n")
    done = on_windows("exec", "print('漢字'); 1 / ('λ' == '')")
    assert (done.returncode, done.stdout) == (1, "\\u6f22\\u5b57\n")
    assert "ZeroDivisionError" in done.stderr
    assert r"'\u03bb'" in done.stderr


def test_commands_for_kernels(on_windows: Terminal, gateway: LocalGateway) -> None:
    """All of them, for a kernel that stays until it is stopped."""
    before = kernels_of(gateway)
    kernel = on_windows("start", "python3").stdout.strip()
    for args in (
        ["kernels"],
        ["kernelspecs"],
        ["status"],
        ["exec", "--kernel-id", kernel, "x = 1"],
        ["interrupt", kernel],
        ["restart", kernel],
        ["stop", kernel],
    ):
        done = on_windows(*args)
        assert (done.returncode, errors(done)[1:]) == (0, []), args
    assert kernels_of(gateway) == before


def test_commands_that_a_person_ends(on_windows: Terminal) -> None:
    """Ctrl-C ends attach, and Ctrl-D the console."""
    kernel = on_windows("start", "python3").stdout.strip()
    with Person(on_windows, "attach", kernel) as person:
        person.sees("watching kernel")
        person.types("\x03")
        assert person.ends()[0] == 128 + signal.SIGINT
    with Person(on_windows, "console", "--kernel-id", kernel) as person:
        person.sees(r"In \[1\]: $")
        person.types("6 * 7\r")
        person.sees(r"Out\[1\]: 42\n.*In \[2\]: $")
        person.types("\x04")
        assert person.ends()[0] == 0
    assert on_windows("stop", kernel).returncode == 0


FRONT_END = """
from jupyter_client.manager import start_new_kernel
km, kc = start_new_kernel(kernel_name="127.0.0.1-python3")
texts = []
def see(message):
    texts.append(message["content"].get("text", ""))
kc.execute_interactive("print(6 * 7)", output_hook=see, timeout=60)
print("".join(texts).strip(), flush=True)
input()
"""


def test_a_bridge_ends_with_its_front_end(on_windows: Terminal, gateway: LocalGateway) -> None:
    """Windows does not tell that a parent has ended; only a handle of it does."""
    on_windows.env["JUPYTER_DATA_DIR"] = str(on_windows.directory / "data")
    done = on_windows("install", "python3")
    assert done.returncode == 0, done.stderr
    before = set(kernels_of(gateway))
    with front_end(FRONT_END, says="42", env=on_windows.env) as process:
        assert set(kernels_of(gateway)) > before
        process.kill()
    wait_until(lambda: set(kernels_of(gateway)) <= before, 60)
