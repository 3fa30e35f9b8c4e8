"""The result of an execution: its text, its images, its other forms."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from gateway_blocking.errors import ExecutionError, GatewayTimeout, KernelRestarted
from gateway_blocking.execution import Execution, KernelException

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PNG = base64.b64encode(b"\x89PNG").decode()


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(**data: Any) -> dict[str, Any]:
    names = {"plain": "text/plain", "html": "text/html", "png": "image/png", "svg": "image/svg+xml"}
    return {
        "output_type": "display_data",
        "data": {names.get(name, name): value for name, value in data.items()},
        "metadata": {},
    }


def result(plain: str) -> dict[str, Any]:
    return {**display(plain=plain), "output_type": "execute_result", "execution_count": 3}


FAILURE = {
    "output_type": "error",
    "ename": "ZeroDivisionError",
    "evalue": "division by zero",
    "traceback": ["\x1b[31mTraceback\x1b[0m", "  line 1"],
}


def execution(*outputs: dict[str, Any], status: Any = "ok", **changes: Any) -> Execution:
    plain = Execution(
        status=status,
        code="1 / 0",
        execution_count=3,
        outputs=list(outputs),
        error=None,
        complete=True,
        truncated=False,
        running=False,
        detail="",
        started=BEGIN,
        ended=BEGIN + timedelta(seconds=1.5),
        msg_id="abc_12_3",
        kernel_id="k",
        user_expressions={},
    )
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ([stream("hi\n"), result("3.14")], "hi\n3.14"),
        ([stream("a"), stream("b", "stderr"), stream("c")], "abc"),
        ([stream("a"), display(plain="b"), stream("c")], "a\nb\nc"),
        ([stream("10%\r20%\rdone\n")], "done\n"),
        ([display(html="<b>x</b>", plain="x")], "x"),
        ([display(html="<b>x</b>")], "<b>x</b>"),
        ([display(png=PNG)], "[image/png, 4 bytes]"),
        ([display(**{"application/json": {"a": 1}})], '{"a": 1}'),
        ([FAILURE], "Traceback\n  line 1"),
        ([{**FAILURE, "traceback": []}], "ZeroDivisionError: division by zero"),
        ([], ""),
    ],
)
def test_text_of_outputs(outputs: list[dict[str, Any]], text: str) -> None:
    """Each display begins in a line of its own, and streams join as in a terminal."""
    assert execution(*outputs).text() == text
    assert str(execution(*outputs)) == text


def test_text_with_ansi_stays_as_it_came() -> None:
    """A caller that writes to a terminal wants colours and carriage returns."""
    assert execution(stream("1%\r2%"), FAILURE).text(ansi=True).startswith("1%\r2%\n\x1b[31m")


def test_text_uses_the_preferred_type() -> None:
    """The caller's order counts, not that of the kernel."""
    both = execution(display(plain="x", html="<b>x</b>"))
    assert both.text(prefer=("text/html", "text/plain")) == "<b>x</b>"


def test_streams_result_and_displays_are_separate() -> None:
    """The last result counts if there are several."""
    whole = execution(
        stream("a"),
        display(plain="d"),
        stream("b", "stderr"),
        stream("c"),
        result("1"),
        result("2"),
    )
    assert (whole.stdout, whole.stderr) == ("ac", "b")
    assert whole.displays == [{"text/plain": "d"}]
    assert whole.result == {"text/plain": "2"}
    assert execution().result is None
    assert whole.duration == 1.5
    assert repr(whole) == "<Execution [3]: ok, 6 outputs, 1.5 s>"


def test_images_are_decoded() -> None:
    """An image that is not valid base64 is left out; SVG is text."""
    images = execution(
        display(png=PNG, plain="x"), display(svg="<svg/>"), display(png="%"), stream("x")
    ).images
    assert images == [("image/png", b"\x89PNG"), ("image/svg+xml", b"<svg/>")]


def test_save_writes_images_and_pages(tmp_path: Path) -> None:
    """The files are named by the number of the output."""
    outputs = (stream("x"), display(png=PNG), display(html="<b>\ud800</b>"), display(svg="<svg/>"))
    saved = execution(*outputs).save(tmp_path / "new" / "folder")
    assert [path.name for path in saved] == ["002.png", "003.html", "004.svg"]
    assert saved[0].read_bytes() == b"\x89PNG"


def test_to_dict_is_strict_json() -> None:
    """A number that JSON does not have is null, and a lone surrogate is escaped."""
    whole = execution(
        stream("\ud800"),
        display(**{"application/json": {"x": float("nan")}}),
        error=KernelException("E", "v", ["t"]),
    )
    again = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert again["error"] == {"ename": "E", "evalue": "v", "traceback": ["t"]}
    assert again["outputs"][1]["data"] == {"application/json": {"x": None}}
    assert again["ended"] == "2026-01-01T00:00:01.500000+00:00"
    fields = {each.name for each in dataclasses.fields(Execution)} - {"exception", "_wait"}
    assert fields <= set(again)


def test_to_cell_is_a_valid_cell() -> None:
    """nbformat validates it as part of a notebook."""
    cell = execution(stream("x"), display(png=PNG), result("1"), FAILURE).to_cell()
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbformat.validate(notebook)
    assert cell["source"] == "1 / 0"


def test_a_notebook_shows_text_and_images() -> None:
    """The text is escaped, so that code cannot write into the page."""
    bundle = execution(stream("<script>"), display(png=PNG))._repr_mimebundle_()
    assert "<script>" not in bundle["text/html"]
    assert f"data:image/png;base64,{PNG}" in bundle["text/html"]


# --- errors ---------------------------------------------------------------------------------------


def test_raise_for_error_returns_what_ended_well() -> None:
    """So that a call can be chained."""
    good = execution()
    assert good.raise_for_error() is good


def test_raise_for_error_raises_the_exception_of_the_code() -> None:
    """The exception has the traceback without colours, and the result."""
    bad = execution(
        stream("before"),
        status="error",
        error=KernelException("ValueError", "wrong", ["\x1b[31mTraceback\x1b[0m\n  line"]),
    )
    with pytest.raises(ExecutionError) as caught:
        bad.raise_for_error()
    assert str(caught.value) == "Traceback\n  line"
    assert caught.value.ename == "ValueError"
    assert caught.value.execution is bad


def test_raise_for_error_tells_skipped_code() -> None:
    """It has no exception of its own."""
    with pytest.raises(ExecutionError, match="Aborted: it was skipped"):
        execution(status="aborted", detail="it was skipped").raise_for_error()


@pytest.mark.parametrize("error", [KernelRestarted("restarted"), GatewayTimeout("late")])
def test_raise_for_error_raises_a_copy_of_what_ended_it(error: Any) -> None:
    """The same result may be asked twice."""
    bad = execution(status="died", exception=error)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            bad.raise_for_error()
        assert caught.value is not error
        assert caught.value.execution is bad


def test_a_pickled_result_is_the_same_without_its_cause() -> None:
    """A cause may refer to a socket, which cannot be pickled."""
    error = KernelRestarted("restarted")
    error.__cause__ = RuntimeError(lambda: None)
    bad = execution(status="died", exception=error, _wait=lambda timeout: execution())
    again = pickle.loads(pickle.dumps(bad))
    assert again == bad
    assert str(again.exception) == "restarted"
    assert again.wait() is again
    assert error.__cause__ is not None


def test_it_is_immutable() -> None:
    """A result that is kept must not change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        execution().status = "error"  # type: ignore[misc]
