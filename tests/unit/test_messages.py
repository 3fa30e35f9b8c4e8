"""The check of a received message, and what it completes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.errors import WireError
from gateway_blocking.messages import Message, Unreadable, build_message, is_idle


def received(msg_type: str, content: Any, **header: Any) -> Message:
    """Build a message of these parts."""
    header = {"msg_id": "1", "msg_type": msg_type, "version": "5.3", **header}
    return build_message("iopub", header, {}, {}, content, [])


def content_of(msg_type: str, content: dict[str, Any]) -> Any:
    return received(msg_type, content)["content"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("msg_id", [3, None, True, ["x"], {"x": 1}, "x" * 2000])
def test_an_id_is_text_of_some_length(msg_id: Any) -> None:
    """IDs are kept in tables: another type has no place there, and a long one costs memory."""
    with pytest.raises(WireError, match="msg_id text of up to 1024 characters") as caught:
        received("status", {"execution_state": "idle"}, msg_id=msg_id)
    assert not isinstance(caught.value, Unreadable)


@pytest.mark.parametrize("header", [None, [], "text", {}, {"msg_id": "1"}, {"msg_type": "status"}])
def test_a_header_without_id_and_type_is_refused(header: Any) -> None:
    """Nothing can be done with such a message, and no request could be told of it."""
    with pytest.raises(WireError, match="header") as caught:
        build_message("iopub", header, {}, {}, {}, [])
    assert not isinstance(caught.value, Unreadable)


@pytest.mark.parametrize("channel", [None, 3, b"iopub"])
def test_a_channel_that_is_not_text_is_refused(channel: Any) -> None:
    """The channel is a key of tables and a part of texts."""
    with pytest.raises(WireError, match="channel must be text"):
        build_message(channel, {"msg_id": "1", "msg_type": "x"}, {}, {}, {}, [])


@pytest.mark.parametrize(
    ("msg_type", "content"),
    [
        ("stream", {"name": "stdout"}),
        ("stream", {"name": "stdout", "text": ["x"]}),
        ("display_data", {"metadata": {}}),
        ("update_display_data", {"data": ["x"]}),
        ("execute_result", {"data": None}),
        ("input_request", {"password": False}),
        ("input_request", {"prompt": 3}),
        ("status", {}),
        ("status", {"execution_state": ["idle"]}),
        ("execute_reply", {"execution_count": 1}),
        ("execute_reply", {"status": ["ok"]}),
    ],
)
def test_a_message_without_its_main_part_is_unreadable(
    msg_type: str, content: dict[str, Any]
) -> None:
    """Every reader of such a message would fail at it."""
    with pytest.raises(Unreadable, match=f"a {msg_type} message has no"):
        received(msg_type, content)


def test_unreadable_has_the_headers_and_empty_parts() -> None:
    """The headers tell which call waits for the message."""
    header = {"msg_id": "1", "msg_type": "status", "version": "5.3"}
    with pytest.raises(Unreadable) as caught:
        build_message("shell", header, {"msg_id": "asked"}, {"a": 1}, [1], [memoryview(b"x")])
    assert caught.value.channel == "shell"
    left = caught.value.message
    assert (left["msg_id"], left["msg_type"]) == ("1", "status")
    assert left["parent_header"] == {"msg_id": "asked"}
    assert (left["metadata"], left["content"], left["buffers"]) == ({}, {}, [])


@pytest.mark.parametrize("parent", [None, [1], {"msg_id": 3}, {"msg_id": "x" * 2000}])
def test_unreadable_has_no_parent_header_that_is_malformed(parent: Any) -> None:
    """The tables of requests take such a parent header for that of no request."""
    with pytest.raises(Unreadable, match="parent header") as caught:
        build_message("shell", {"msg_id": "1", "msg_type": "x"}, parent, {}, {}, [])
    assert caught.value.message["parent_header"] == {}


def test_the_error_of_an_earlier_part_is_the_cause() -> None:
    """The wire format passes on why it could not read a part, and leaves the part empty."""
    cause = WireError("a part of 3 bytes is not JSON")
    with pytest.raises(Unreadable, match="a part of 3 bytes") as caught:
        build_message("shell", {"msg_id": "1", "msg_type": "x"}, {}, {}, {}, [], cause)
    assert caught.value.__cause__ is cause


# --- what is completed ----------------------------------------------------------------------------


def test_a_message_of_protocol_4_is_adapted() -> None:
    """Messages of old kernels come as version 5."""
    header = {"msg_id": "1", "msg_type": "stream"}
    content = {"name": "stdout", "data": "hi"}
    message = build_message("iopub", header, {}, {}, content, [])
    assert message["content"] == {"name": "stdout", "text": "hi"}


@pytest.mark.parametrize("name", [None, "modules", 5, ["stdout"], "\x1b]0;x\x07"])
def test_the_name_of_a_stream_is_one_of_two(name: Any) -> None:
    """jupyter_client's output hook takes it for the name of a member of ``sys``."""
    content = {"text": "x"} if name is None else {"text": "x", "name": name}
    assert content_of("stream", content) == {"text": "x", "name": "stdout"}
    assert content_of("stream", {"text": "x", "name": "stderr"})["name"] == "stderr"


@pytest.mark.parametrize("msg_type", ["display_data", "update_display_data", "execute_result"])
def test_the_text_of_a_display_is_text(msg_type: str) -> None:
    """Each reader writes it, or joins it with other text."""
    geo = {"application/geo+json": {"a": [1]}, "image/x+json": {"a": 1}}
    data = {"text/plain": 5, "text/html": ["<a>", "b"], "image/png": None, **geo}
    content = content_of(msg_type, {"data": data, "metadata": [], "transient": 3})
    text = {"text/plain": "5", "text/html": "<a>b", "image/png": "None"}
    count = {"execution_count": None} if msg_type == "execute_result" else {}
    assert content == {"data": {**text, **geo}, "metadata": {}, "transient": {}, **count}
    shown = content_of(msg_type, {"data": {}, "transient": {"display_id": [1]}})
    assert shown["transient"] == {"display_id": "[1]"}


@pytest.mark.parametrize("msg_type", ["error", "execute_reply"])
@pytest.mark.parametrize(
    ("traceback", "lines"),
    [([1, "two", None], ["1", "two", "None"]), ("one", ["one"]), (None, []), (["a"], ["a"])],
)
def test_the_text_of_an_error_is_text(msg_type: str, traceback: Any, lines: list[str]) -> None:
    """A program that joins the lines of a traceback must not fail at a kernel's numbers."""
    error = {"status": "error", "ename": 3, "evalue": None, "traceback": traceback}
    content = content_of(msg_type, error)
    assert content["traceback"] == lines
    assert (content["ename"], content["evalue"]) == ("3", "None")


def test_missing_parts_of_an_error_are_empty() -> None:
    """They are empty in an error of an execution; another reply is left as it is."""
    parts = {"evalue": "", "traceback": []}
    assert content_of("error", {"ename": "E"}) == {"ename": "E", **parts}
    failed = {"status": "error"}
    assert content_of("execute_reply", failed) == {**failed, "ename": "", **parts}
    assert content_of("complete_reply", failed) == failed


def test_is_idle_wants_an_idle_status() -> None:
    """A reply with the same word in its content does not end the output of a request."""
    assert is_idle(received("status", {"execution_state": "idle"}))
    assert not is_idle(received("status", {"execution_state": "busy"}))
    assert not is_idle(received("other", {"execution_state": "idle"}))
