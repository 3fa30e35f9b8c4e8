"""Front ends that know nothing of this package, on a kernelspec of the bridge.

Each is started as its user starts it, and only its kernelspec is another one.  JupyterLab in a
browser is in ``tests/lab``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import papermill
import pytest
from nbclient import NotebookClient

from gateway_blocking.local import LocalGateway
from support.bridges import SPEC, bridge_kernelspec
from support.notebooks import notebook, run, text_of, write
from support.terminal import Person, Terminal


@pytest.fixture(scope="module")
def kernelspec(gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A kernelspec of the bridge, which a profile leads to the gateway."""
    with bridge_kernelspec(gateway, tmp_path_factory.mktemp("bridge")):
        yield


@pytest.fixture
def desk(kernelspec: None, tmp_path: Path, gateway: LocalGateway) -> Terminal:
    """A terminal whose environment does not name the gateway."""
    terminal = Terminal(tmp_path, gateway)
    terminal.env = dict(os.environ)
    return terminal


class _Console(Person):
    module = "jupyter_console"


def test_jupyter_console(desk: Terminal) -> None:
    """Values, input(), Ctrl-C and the end are those of a kernel on this machine."""
    with _Console(desk, f"--kernel={SPEC}") as person:
        person.sees(r"In \[1\]: ")
        person.types("6 * 7\r")
        person.sees(r"Out\[1\]: .*42")
        person.sees(r"In \[2\]: ")
        person.types("print('I am', input('Name? '))\r")
        person.sees(r"\nName\? ")  # not what was typed
        person.types("Ada\r")
        person.sees("I am Ada")
        person.sees(r"In \[3\]: ")
        person.types("import time; print('be' + 'gun', flush=True); time.sleep(600)\r")
        person.sees("begun")
        person.types("\x03")
        person.sees("KeyboardInterrupt")
        person.sees(r"In \[4\]: ")
        person.types("exit\r")
        status, left = person.ends()
    assert status == 0, left


@pytest.mark.usefixtures("kernelspec", "gateway")
def test_nbclient_with_its_default_manager() -> None:
    """Only the name of the kernelspec tells that the kernel is remote."""
    nb = notebook("x = 6 * 7", "print(x)", "x")
    NotebookClient(nb, kernel_name=SPEC, timeout=60).execute()
    assert "42\\n" in text_of(nb.cells[1])
    assert nb.cells[2].outputs[0]["data"] == {"text/plain": "42"}


@pytest.mark.usefixtures("kernelspec", "gateway")
def test_papermill_with_its_default_engine(tmp_path: Path) -> None:
    """Parameters and outputs; the kernelspec's name is in the notebook that is written."""
    write(tmp_path, "n = 1", "print('n is', n)")
    done = papermill.execute_notebook(
        tmp_path / "in.ipynb",
        tmp_path / "out.ipynb",
        parameters={"n": 42},
        kernel_name=SPEC,
        progress_bar=False,
    )
    assert "n is 42" in text_of(done.cells[-1])


PROGRAMS = {
    "jupyter execute": ("jupyter", "execute", f"--kernel_name={SPEC}", "--inplace", "in.ipynb"),
    "nbmake": ("pytest", "--nbmake", f"--nbmake-kernel={SPEC}"),
    "nbval": ("pytest", "--nbval-lax", f"--nbval-kernel-name={SPEC}"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_in_a_terminal(name: str, desk: Terminal) -> None:
    """The cells are executed, and the first that fails is reported."""
    write(desk.directory, "x = 6 * 7; print(x)", "assert x == 41, 'wrong'")
    status, out = run(desk, "-m", *PROGRAMS[name])
    assert status == 1, out
    assert "AssertionError" in out
