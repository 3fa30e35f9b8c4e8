"""The outputs of an execution: merged, cleared, updated and bounded."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.collector import OutputCollector, shortened
from gateway_blocking.messages import Message


def message(msg_type: str, **content: Any) -> Message:
    return cast(Message, {"msg_type": msg_type, "content": content})


def stream(text: str, name: str = "stdout") -> Message:
    return message("stream", name=name, text=text)


def display(text: str, display_id: str | None = None, kind: str = "display_data") -> Message:
    transient = {"display_id": display_id} if display_id else {}
    return message(kind, data={"text/plain": text}, metadata={}, transient=transient)


def collected(*messages: Message, limit: int | None = None) -> list[dict[str, Any]]:
    collector = OutputCollector(limit)
    for each in messages:
        collector.add(each)
    return collector.outputs()


def texts(*messages: Message, limit: int | None = None) -> list[str]:
    outputs = collected(*messages, limit=limit)
    return [each.get("text") or each["data"]["text/plain"] for each in outputs]


def test_consecutive_parts_of_a_stream_are_one_output() -> None:
    """Another stream or a display ends the output; control characters stay as they came."""
    assert collected(
        stream("a\r"), stream("b\b"), stream("c", "stderr"), stream("d"), display("e"), stream("f")
    ) == [
        {"output_type": "stream", "name": "stdout", "text": "a\rb\b"},
        {"output_type": "stream", "name": "stderr", "text": "c"},
        {"output_type": "stream", "name": "stdout", "text": "d"},
        {"output_type": "display_data", "data": {"text/plain": "e"}, "metadata": {}},
        {"output_type": "stream", "name": "stdout", "text": "f"},
    ]


def test_clear_output_removes_what_came_before() -> None:
    """If it waits, it removes the outputs only when the next output comes."""
    assert texts(stream("a"), message("clear_output", wait=False), stream("b")) == ["b"]
    assert texts(stream("a"), message("clear_output", wait=True)) == ["a"]
    assert texts(stream("a"), message("clear_output", wait=True), stream("b")) == ["b"]


def test_an_update_changes_every_display_with_its_id() -> None:
    """A new display with an ID that exists changes the earlier ones, too, as in nbclient."""
    update = display("c", "x", "update_display_data")
    assert texts(display("a", "x"), display("b", "y"), update) == ["c", "b"]
    assert texts(display("a", "x"), display("b", "x")) == ["b", "b"]
    assert texts(display("a"), update) == ["a"]


def test_an_update_after_clear_output_changes_nothing() -> None:
    """The display that it means does not exist any more."""
    clear, update = message("clear_output"), display("b", "x", "update_display_data")
    assert collected(display("a", "x"), clear, update) == []


def test_add_returns_what_came() -> None:
    """A display as it comes needs clears and updates, too; other messages are nothing to show."""
    collector = OutputCollector()
    assert collector.add(message("status", execution_state="busy")) is None
    assert collector.add(stream("a")) == {"output_type": "stream", "name": "stdout", "text": "a"}
    update = collector.add(display("b", "x", "update_display_data"))
    assert update is not None
    assert update["output_type"], update["display_id"] == ("update_display_data", "x")
    assert collector.add(message("clear_output", wait=1)) == {
        "output_type": "clear_output",
        "wait": True,
    }


@pytest.mark.parametrize("kind", ["stream", "display_data", "execute_result", "error"])
@pytest.mark.parametrize("value", [None, 1, "text", ["a", 1], {"a": 1}])
def test_content_of_any_shape_becomes_an_output(kind: str, value: Any) -> None:
    """Kernels exist that send a number for a text, and null for a dictionary."""
    names = ("name", "text", "data", "metadata", "transient", "ename", "evalue", "traceback")
    (output,) = collected(message(kind, **dict.fromkeys(names, value))) or [{}]
    if kind == "error":
        assert all(isinstance(line, str) for line in output["traceback"])
    elif kind != "stream":
        assert isinstance(output["data"], dict)


# --- the bound ------------------------------------------------------------------------------------


def test_a_stream_that_is_too_long_keeps_begin_and_end() -> None:
    """The text between them says how much was cut."""
    lines = [f"{number}\n" for number in range(10_000)]
    collector = OutputCollector(10_000)
    for line in lines:
        collector.add(stream(line))
    (output,) = collector.outputs()
    begin, end = output["text"].split(
        f"\n[... {collector.cut:,} characters of output were cut here"
    )
    assert collector.truncated
    assert "".join(lines).startswith(begin)
    assert "".join(lines).endswith(end.removeprefix(" ...]\n"))
    assert len(begin) + len(end) + collector.cut == pytest.approx(len("".join(lines)), abs=20)


@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr", "display"]), st.integers(1, 3000)),
        max_size=60,
    ),
    st.integers(0, 20_000),
)
def test_what_is_kept_stays_within_the_bound(sizes: list[tuple[str, int]], limit: int) -> None:
    """Kept and cut characters add up to what came, and nothing is cut without need."""
    collector = OutputCollector(limit)
    for kind, size in sizes:
        text = "x" * size
        collector.add(display(text) if kind == "display" else stream(text, kind))
    outputs = collector.outputs()
    kept = sum(
        len(each.get("text", "") or each.get("data", {}).get("text/plain", "")) for each in outputs
    )
    whole = sum(size for _, size in sizes)
    bound = max(limit, 512)
    assert kept <= bound * 1.25 + 100  # a quarter of the tail, and the marker
    assert collector.truncated == (kept < whole or collector.cut > 0)
    if not collector.truncated:
        assert kept == whole
    elif not any(kind == "display" for kind, _ in sizes):
        assert whole - collector.cut == pytest.approx(kept, abs=100)  # the marker


def test_a_large_display_becomes_its_text() -> None:
    """An image that is larger than the bound is dropped, and its plain text is kept."""
    data = {"image/png": "A" * 100_000, "text/plain": "<Figure>"}
    collector = OutputCollector(5000)
    collector.add(message("display_data", data=data, metadata={}))
    assert [each.get("data") for each in collector.outputs()][-1] == {"text/plain": "<Figure>"}
    assert collector.cut > 90_000


def test_the_error_at_the_end_is_kept() -> None:
    """The last output is the one that says why the code ended."""
    error = message("error", ename="E", evalue="v" * 50_000, traceback=["t" * 50_000])
    collector = OutputCollector(2000)
    for _ in range(100):
        collector.add(stream("x" * 100))
    collector.add(error)
    last = collector.outputs()[-1]
    assert last["ename"] == "E"
    assert last["evalue"].startswith("v")
    assert len(str(last)) < 2000


def test_updates_of_a_display_cost_nothing() -> None:
    """A progress bar updates one display a thousand times."""
    collector = OutputCollector(1000)
    collector.add(display("0", "bar"))
    for number in range(1000):
        collector.add(display(f"{number}", "bar", "update_display_data"))
    assert texts() == []
    assert [each["data"]["text/plain"] for each in collector.outputs()] == ["999"]
    assert not collector.truncated


def test_shortened_marks_the_middle() -> None:
    """A text that is short enough stays as it is."""
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 100 + "b" * 100, 4) == "aa[... 196 characters were cut here ...]bb"
    assert shortened("a" * 100, 1) == "[... 100 characters were cut here ...]"
    assert shortened("a" * 30, 4) == "a" * 30  # the mark would be longer
