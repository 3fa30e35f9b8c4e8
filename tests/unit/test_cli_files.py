"""What ``jupyter gateway run`` reads and writes, and how it takes its words, without a kernel."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gateway_blocking import (
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    KernelNotReady,
    NoSuchKernelSpec,
    ReplyLost,
)
from gateway_blocking.cli.destinations import Destinations
from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.files import read_standard_input, replace_file
from gateway_blocking.cli.notebook_file import read_notebook, repair, write_notebook
from gateway_blocking.cli.outcomes import affects_every_file
from gateway_blocking.cli.parameters import parameter_warnings, split_parameters

# --- files ----------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Name and permissions of each file that is about to be renamed, when it is written."""
    seen: list[tuple[str, int]] = []
    fsync = os.fsync

    def see(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        seen.append((path.name, stat.S_IMODE(os.fstat(handle).st_mode)))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", see)
    return seen


def test_a_private_file_is_never_readable_by_others(
    tmp_path: Path, written: list[tuple[str, int]]
) -> None:
    """The temporary file is 0600, has a new name each time, and the file keeps its permissions."""
    path = tmp_path / "a.ipynb"
    path.write_text("old")
    for mode in (0o600, 0o664):
        path.chmod(mode)
        replace_file(path, b"new", source=path)
        assert (path.read_bytes(), mode_of(path)) == (b"new", mode)
    (first, second), modes = zip(*written, strict=True)
    assert first != second
    assert modes == (0o600, 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_as_private_as_its_source(tmp_path: Path) -> None:
    """An executed notebook has the permissions of the notebook, less the umask."""
    source, result = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    source.write_text("")
    for mode, umask in ((0o600, 0o022), (0o666, 0o022)):
        source.chmod(mode)
        result.unlink(missing_ok=True)
        replace_file(result, b"", source=source)
        assert mode_of(result) == mode & ~umask


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can change owners")
def test_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    """It could point to any file of ours; a link of our own is followed."""
    victim, own, planted = (tmp_path / name for name in ("victim", "own", "planted"))
    victim.write_text("mine")
    planted.symlink_to(victim)
    os.chown(planted, 12345, 12345, follow_symlinks=False)
    own.symlink_to("planted")
    for link in (planted, own):
        with pytest.raises(UsageError, match=r"made by another user \(uid 12345\); remove it"):
            replace_file(link, b"theirs")
    assert victim.read_text() == "mine"
    planted.unlink()
    planted.symlink_to("victim")
    replace_file(own, b"new")
    assert (victim.read_text(), own.is_symlink()) == ("new", True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX has named pipes")
def test_what_is_not_a_regular_file_is_not_replaced(tmp_path: Path) -> None:
    """A link to a device, or a named pipe: root would replace /dev/null by a notebook."""
    pipe, link = tmp_path / "pipe.ipynb", tmp_path / "link.ipynb"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        with pytest.raises(UsageError, match="it is not a regular file"):
            replace_file(path, b"new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_to_itself_is_replaced(tmp_path: Path) -> None:
    """It stands for no file, and resolve() of Python 3.11 raises RuntimeError for it."""
    link = tmp_path / "loop.ipynb"
    link.symlink_to(link.name)
    destinations = Destinations(output=str(link))
    assert destinations.assign([str(tmp_path / "a.ipynb")]) == {str(tmp_path / "a.ipynb"): link}
    replace_file(link, b"new")
    assert link.read_bytes() == b"new"


def test_a_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing fails in the middle, the old file is still there, whole and alone."""
    path = tmp_path / "a.ipynb"
    path.write_text("old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError, match=r"cannot write .*a\.ipynb: No space left on device"):
        replace_file(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- notebooks ------------------------------------------------------------------------------------


def code(**changes: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": []}
    return {**cell, "execution_count": None, **changes}


def markdown(**changes: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": "# 1", "metadata": {}, **changes}


def without(cell: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in cell.items() if key != name}


def document(*cells: Any, minor: Any = 4, **changes: Any) -> dict[str, Any]:
    return {"cells": [*cells], "metadata": {}, "nbformat": 4, "nbformat_minor": minor, **changes}


STREAM = {"output_type": "stream", "name": "stdout", "text": "1"}

# What is wrong with a notebook, and the word that a person is told of it.
REPAIRED = {
    "markdown with outputs": (document(markdown(outputs=[])), "outputs"),
    "markdown that was executed": (document(markdown(execution_count=3)), "execution_count"),
    "an id in 4.4": (document(code(id="a"), markdown()), "4.5"),
    "an id that is none": (document(code(id="a b"), minor=5), "id"),
    "an id twice": (document(code(id="a"), code(id="a"), minor=5), "id"),
    "no id in 4.5": (document(code(), minor=5), "id missing"),
    "a star": (document(code(execution_count="*")), "'*'"),
    "no count": (document(without(code(), "execution_count")), "execution_count"),
    "no outputs": (document(without(code(), "outputs")), "outputs missing"),
    "invalid outputs": (document(code(outputs=[STREAM, {}, 1, "x"])), "outputs"),
    "invalid data": (
        document(code(outputs=[{"output_type": "display_data", "data": [1], "metadata": {}}])),
        "outputs",
    ),
    "no metadata of a cell": (document(without(code(), "metadata")), "metadata missing"),
    "no metadata": (without(document(code()), "metadata"), "metadata missing"),
    "no minor version": (without(document(code()), "nbformat_minor"), "nbformat_minor"),
    "a kernelspec without name": (document(code(), metadata={"kernelspec": {}}), "kernelspec"),
    "a kernelspec that is none": (document(code(), metadata={"kernelspec": 1}), "kernelspec"),
    "a property too many": (document(code(colour="red")), "colour"),
    "a cell of another kind": (document(code(), markdown(cell_type="sql")), "sql"),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_a_notebook_that_others_execute_is_executed(name: str, tmp_path: Path) -> None:
    """It is read, with a word on what is wrong, and can be written and read again."""
    content, told = REPAIRED[name]
    source, result = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    source.write_text(json.dumps(content))
    nb, wrong = read_notebook(source)
    assert told in " ".join(wrong)
    assert nb.cells[0].source == content["cells"][0]["source"]
    write_notebook(nb, result, source=source)
    again, _ = read_notebook(result)
    assert [cell.source for cell in again.cells] == [cell["source"] for cell in content["cells"]]
    if name not in ("a property too many", "a cell of another kind"):  # which stay as they are
        nbformat.validate(again)


def test_a_good_notebook_is_left_alone() -> None:
    """Nothing is repaired, and nothing changed."""
    nb = new_notebook(cells=[new_code_cell("1", outputs=[nbformat.from_dict(STREAM)])])
    nb.cells.append(new_markdown_cell("# 1", attachments={"a": {"text/plain": "1"}}))
    before = json.dumps(nb)
    assert repair(nb) == []
    assert json.dumps(nb) == before
    assert repair(document(code(), markdown(), minor=2)) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "it is JSON, but not an object"),
        ({}, "it has no list of cells"),
        (document(code(source=7)), "the source of cell 1 is not text"),
        (document(code(), 1), "cell 2 is not an object"),
        (document({}), "cell 1 has no cell_type"),
        (document(code(), nbformat=99), "99"),
        ({"nbformat": 3, "worksheets": 1}, "is not a notebook"),
        ({"nbformat": "4", "cells": []}, "is not a notebook"),
    ],
)
def test_what_cannot_be_executed_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    """In one line that says what is wrong, whatever it is."""
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        read_notebook(path)
    assert f"{path} is not a notebook" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """Which is an error of its own kind in Python."""
    path = tmp_path / "a.ipynb"
    path.write_text('{"cells": ' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(UsageError, match="is not a notebook: its JSON is nested too deeply"):
        read_notebook(path)


def test_an_old_notebook_is_converted(tmp_path: Path) -> None:
    """One of format 3, whose cells are in worksheets."""
    cells = [
        {"cell_type": "heading", "level": 1, "source": "A title", "metadata": {}},
        {"cell_type": "code", "input": ["6 * 7"], "language": "python", "outputs": []},
    ]
    path = tmp_path / "a.ipynb"
    content = {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}], "metadata": {}}
    path.write_text(json.dumps(content))
    nb, _ = read_notebook(path)
    assert [cell.source for cell in nb.cells] == ["# A title", "6 * 7"]


def test_what_is_not_repaired_is_told_in_short(tmp_path: Path) -> None:
    """A cell of an unknown kind is not executed, and its source is not in the warning."""
    path = tmp_path / "a.ipynb"
    unknown = {"cell_type": "heading", "source": "x" * 5000, "metadata": {}, "level": 1}
    path.write_text(json.dumps(document(unknown, code())))
    [told] = read_notebook(path)[1]
    assert told.startswith("not repaired: ")
    assert len(told) < 200


# --- standard input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        ("é = 1\r\n".encode(), "utf-8", "é = 1\n"),
        ("é".encode("utf-8-sig"), "utf-8", "é"),
        ("é".encode(), "ascii", "é"),  # the locale C does not change what a pipe contains
        ("é".encode("cp1252"), "cp1252", "é"),
        (b"", "utf-8", ""),
    ],
)
def test_standard_input_is_decoded(
    data: bytes, encoding: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As UTF-8, or else in the locale's encoding."""
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding, "surrogateescape")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_standard_input() == text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_standard_input_that_is_not_text_is_refused(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the locale C, in which Python takes any byte for text."""
    stdin = io.TextIOWrapper(io.BytesIO(b"print('\xe9')"), encoding, "surrogateescape")
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError, match="^cannot read standard input: it is not UTF-8 text$"):
        read_standard_input()


def test_a_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has none then."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="^cannot read standard input: it is closed$"):
        read_standard_input()


def test_a_lone_surrogate_is_written(tmp_path: Path) -> None:
    """UTF-8 has none; JSON has a way to write it, and it comes back the same."""
    source, result = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    source.write_text(json.dumps(document(markdown(source="\ud800 and \udce9 and é"))))
    nb, wrong = read_notebook(source)
    assert wrong == []
    write_notebook(nb, result, source=source)
    assert read_notebook(result)[0].cells[0].source == "\ud800 and \udce9 and é"


# --- what one failure means for the next file -----------------------------------------------------

REFUSED = GatewayAuthError("401", status_code=401)
FORBIDDEN = GatewayAuthError("403", status_code=403)


@pytest.mark.parametrize(
    ("error", "executed", "kernel_started", "expected"),
    [
        (GatewayConnectionError("refused"), False, False, True),
        (GatewayConnectionError("refused"), False, True, True),
        (REFUSED, False, True, True),
        (FORBIDDEN, False, False, True),
        (FORBIDDEN, False, True, False),
        (GatewayFull("403", status_code=403), False, False, False),  # others may end by then
        (GatewayFull("403", status_code=403), False, True, False),
        (NoSuchKernelSpec("cobol"), False, False, False),
        (KernelNotReady("slow"), False, False, False),
        (ReplyLost("lost"), True, True, False),
        (GatewayConnectionClosed("lost"), True, True, False),
        (GatewayConnectionClosed("lost"), False, False, False),
    ],
)
def test_an_error_that_the_next_file_would_meet_as_well(
    error: GatewayError, executed: bool, kernel_started: bool, expected: bool
) -> None:
    """Only that keeps the others from being tried; a lost reply of one file does not."""
    assert affects_every_file(error, executed=executed, kernel_started=kernel_started) is expected


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parameters", "others"),
    [
        ("-p rows 5 a.ipynb", {"rows": 5}, ["a.ipynb"]),
        ("a.ipynb -p rows=5", {"rows": 5}, ["a.ipynb"]),
        ("-p rows=5 --output=o.ipynb a.ipynb", {"rows": 5}, ["--output=o.ipynb", "a.ipynb"]),
        ("-p a -1 -p b=0.5 -p c=-x -p d True", {"a": -1, "b": 0.5, "c": "-x", "d": True}, []),
        ("-p a= -p b=x=y -p c --=", None, []),
        ("-p a= -p b=x=y", {"a": "", "b": "x=y"}, []),
        ("-p a=--all", {"a": "--all"}, []),
        ("-p my.name None", {"my.name": None}, []),
        ("-p", None, []),
        ("-p rows", None, []),
        ("-p rows --output=o.ipynb a.ipynb", None, []),
        ("-p --output=o.ipynb a.ipynb", None, []),
        ("-p 5 rows", None, []),
    ],
)
def test_parameters_are_taken_from_the_command_line(
    words: str, parameters: dict[str, Any] | None, others: list[str]
) -> None:
    """NAME VALUE or NAME=VALUE; an option that follows is not taken for a value."""
    if parameters is None:
        with pytest.raises(UsageError, match="-p .*must be followed by"):
            split_parameters(words.split())
    else:
        assert split_parameters(words.split()) == (parameters, others)


@pytest.mark.parametrize("word", ["--parameters", "--parameters=rows=5", "--param"])
def test_the_long_name_of_papermill_leads_to_the_short_one(word: str) -> None:
    """papermill has ``--parameters`` for ``-p``; traitlets would not know what is meant."""
    with pytest.raises(UsageError, match="^there is no option --param[a-z]*; the nearest is -p$"):
        split_parameters([word, "rows=5", "a.ipynb"])


def test_a_parameter_that_the_notebook_does_not_have_is_told() -> None:
    """A variable of this name is nowhere in its code; or no cell says where parameters belong."""
    cells = [markdown(source="rows"), code(source="limit = 1\nprint(limit, x.row)")]
    [told] = parameter_warnings(cells, ["rows", "limit"])
    assert told.startswith("-p rows has no effect")
    [told] = parameter_warnings(cells, ["row"])
    assert told.startswith("-p row has no effect")
    [told] = parameter_warnings(cells, ["limit"])
    assert 'no cell is tagged "parameters"' in told
    cells[1]["metadata"] = {"tags": ["parameters"]}
    assert parameter_warnings(cells, ["limit"]) == []
