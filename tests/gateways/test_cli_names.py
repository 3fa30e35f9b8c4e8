"""Kernels that are meant by the name that their user gave them, or by ``--last``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.kernel_lookup import check_kernel_label
from gateway_blocking.cli.started import record_kernel
from gateway_blocking.local import LocalGateway
from support.servers import kernels_of
from support.terminal import Person, Terminal, errors


def remove(gateway: LocalGateway, kernel_id: str) -> None:
    """Shut the kernel down behind the command line's back."""
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}/api/kernels/{kernel_id}"
    requests.delete(url, headers=headers, timeout=30).raise_for_status()


@pytest.fixture
def user(terminal: Terminal) -> Iterator[Terminal]:
    """A terminal; the kernels that its user has started are stopped at the end."""
    yield terminal
    terminal("stop", "--all-mine")
    assert kernels_of(terminal.gateway) == []


def started(user: Terminal, *args: str) -> str:
    done = user("start", *args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_list_of_kernels_shows_their_names(user: Terminal) -> None:
    """Beside the ID, and with --json; other users and kernelspecs have nothing to do with it."""
    other = started(user, "python3")
    [title, *rows] = user("kernels").stdout.splitlines()
    assert title.split()[:3] == ["id", "name", "state"], "there is a column that is always empty"
    assert [row.split()[:2] for row in rows] == [[other, "python3"]]
    kernel_id = started(user, "--name=trainer", "python3")
    [title, *rows] = user("kernels").stdout.splitlines()
    assert title.split()[:4] == ["id", "given", "name", "name"]
    found = {row.split()[0]: row.split()[1:3] for row in rows}
    assert found.pop(kernel_id) == ["trainer", "python3"]
    assert found.pop(other)[0] == "python3"
    models = json.loads(user("kernels", "--json").stdout)
    assert {model["id"]: model["given_name"] for model in models} == {
        kernel_id: "trainer",
        other: None,
    }
    somebody = user("kernels", JUPYTER_RUNTIME_DIR=str(user.directory / "other"))
    assert "trainer" not in somebody.stdout


def test_a_kernel_by_its_name(user: Terminal) -> None:
    """Each command that takes an ID takes the name, until the kernel is stopped."""
    kernel_id = started(user, "--name=trainer", "python3")
    started(user)
    assert user("exec", "--kernel-id=trainer", "x = 6 * 7").returncode == 0
    script = user.write("a.py", "print(x)")
    assert user("run", "--kernel-id=trainer", script).stdout == "42\n"
    assert errors(user("interrupt", "trainer")) == [f"kernel {kernel_id} was interrupted"]
    with Person(user, "attach", "trainer") as person:
        person.sees(f"watching kernel {kernel_id}")
        person.types("\x03")
        assert person.ends()[0] == 130
    with Person(user, "console", "--kernel-id=trainer") as person:
        person.sees(r"In \[\d+\]: ")
        person.types("x + 1\r")
        person.sees("43")
        person.types("exit\r")
        person.sees("left running")
        assert person.ends()[0] == 0
    assert errors(user("restart", "trainer")) == [f"kernel {kernel_id} was restarted"]
    assert user("exec", "--kernel-id=trainer", "x").returncode == 1
    assert errors(user("stop", "trainer")) == [f"kernel {kernel_id} was stopped"]
    done = user("interrupt", "trainer")
    assert done.returncode == 2
    assert errors(done) == [
        "jupyter gateway interrupt: the gateway has no kernel whose id begins with 'trainer', and"
        " you started none with this name; jupyter gateway kernels lists its kernels"
    ]


def test_a_name_is_given_once_while_its_kernel_runs(user: Terminal, gateway: LocalGateway) -> None:
    """A name whose kernel is gone says so, and can be given again."""
    first = started(user, "--name", "trainer")
    done = user("start", "--name=trainer")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert f"--name=trainer: kernel {first} has this name and still runs" in line
    assert kernels_of(gateway) == [first]
    remove(gateway, first)
    done = user("exec", "--kernel-id=trainer", "1")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert "the kernel trainer is gone: it was shut down or culled" in line
    second = started(user, "--name=trainer")
    assert errors(user("interrupt", "trainer")) == [f"kernel {second} was interrupted"]


def test_two_kernels_with_one_name(user: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started at the same time, they are told apart by their IDs, and neither is taken."""
    ids = [started(user), started(user)]
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", user.env["JUPYTER_RUNTIME_DIR"])
    for kernel_id in ids:
        record_kernel(user.gateway.url, kernel_id, "trainer")
    done = user("interrupt", "trainer")
    assert done.returncode == 2
    [line] = errors(done)
    assert "several kernels have the name trainer: " in line
    assert all(f"{kernel_id} (trainer)" in line for kernel_id in ids)


def test_last_means_the_only_kernel(user: Terminal, gateway: LocalGateway) -> None:
    """None or several are an error, which lists them; a kernel that is gone does not count."""
    done = user("exec", "--last", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--last: you have started no kernel on this gateway that still runs" in done.stderr
    gone = started(user)
    remove(gateway, gone)
    kernel_id = started(user)
    assert user("exec", "--last", "x = 6 * 7").returncode == 0
    assert user("run", "--last", user.write("a.py", "print(x)")).stdout == "42\n"
    assert errors(user("interrupt", "--last")) == [f"kernel {kernel_id} was interrupted"]
    assert errors(user("restart", "--last")) == [f"kernel {kernel_id} was restarted"]
    with Person(user, "attach", "--last") as person:
        person.sees(f"watching kernel {kernel_id}")
        person.types("\x03")
        assert person.ends()[0] == 130
    other = started(user, "--name=other")
    done = user("stop", "--last")
    assert done.returncode == 2
    [line] = errors(done)
    assert f"--last: you have started 2 kernels, {kernel_id}, {other} (other); give" in line
    assert user("stop", "other").returncode == 0
    assert errors(user("stop", "--last")) == [f"kernel {kernel_id} was stopped"]


def test_a_console_that_writes_a_notebook(user: Terminal) -> None:
    """Each cell is appended with what came back; a file that cannot be written ends nothing."""
    with Person(user, "console", "--append-to=notes.ipynb") as person:
        person.sees(r"In \[1\]: ")
        person.types("print('one'); 6 * 7\r")
        person.sees(r"In \[2\]: ")
        person.types("1 / 0\r")
        person.sees(r"In \[3\]: ")
        notebook = user.directory / "notes.ipynb"
        written = notebook.read_text()
        notebook.write_text("{")
        person.types("2\r")
        person.sees("cannot append to notes.ipynb")
        person.sees(r"In \[4\]: ")
        person.types("exit\r")
        assert person.ends()[0] == 0
    notebook.write_text(written)
    first, second = user.read("notes.ipynb").cells
    assert (first.source, first.execution_count) == ("print('one'); 6 * 7", 1)
    assert [output.output_type for output in first.outputs] == ["stream", "execute_result"]
    assert first.outputs[1].data["text/plain"] == "42"
    assert second.outputs[0].ename == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["exec", "--last", "--kernel-id=a", "1"], "give either --kernel-id or --last, not both"),
        (["exec", "--last", "--kernel=a", "1"], "give either --kernel or --last, not both"),
        (["run", "--last", "--jobs=2", "a.py"], "--kernel-id is one kernel"),
        (["interrupt", "--last", "a"], "give either an ID or --last, not both"),
        (["stop", "--last", "a"], "give either --last or kernels, not both"),
        (["stop", "--last", "--all-mine"], "give either --last or --all-mine, not both"),
        (["start", "--name=", "python3"], "--name must be at most 64 letters"),
        (["start", "--name=cafe"], "--name must not look like an ID, got 'cafe'"),
    ],
)
def test_what_cannot_be_meant(user: Terminal, args: list[str], text: str) -> None:
    """Status 2 and one line; nothing is started."""
    user.write("a.py", "1")
    done = user(*args)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = errors(done)
    assert text in line


def test_a_name_needs_a_record(user: Terminal, tmp_path: Path) -> None:
    """If it could not be found again, no kernel is started."""
    (tmp_path / "file").touch()
    done = user("start", "--name=trainer", JUPYTER_RUNTIME_DIR=str(tmp_path / "file" / "runtime"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("label", ["trainer", "a.b-c_1", "größe", "1x", "x" * 64])
def test_a_name_is_accepted(label: str) -> None:
    """Letters of any language, digits, dots, hyphens and underscores."""
    check_kernel_label(label)


@pytest.mark.parametrize(
    "label", ["", "-x", "_x", "a b", "a/b", "a:b", "a\n", "x" * 65, "cafe", "1f3a", "12", "a-b"]
)
def test_a_name_is_refused(label: str) -> None:
    """It would be an option, a path or the beginning of an ID."""
    with pytest.raises(UsageError, match="--name must"):
        check_kernel_label(label)
