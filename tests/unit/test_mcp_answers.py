"""Answers of the tools of the MCP server."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway_blocking.errors import GatewayTimeout, KernelGone, KernelRestarted
from gateway_blocking.execution import Execution, KernelException
from gateway_blocking.mcp_answers import answer_of, encodable, last_line, shortened_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DONE = Execution(
    status="ok",
    code="1",
    execution_count=1,
    outputs=[],
    error=None,
    complete=True,
    truncated=False,
    running=False,
    detail="",
    started=NOW,
    ended=NOW,
    msg_id="m",
    kernel_id="k",
    user_expressions={},
)


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def image(mime: str, data: bytes) -> dict[str, Any]:
    encoded = base64.encodebytes(data).decode()  # with line ends, as matplotlib sends it
    return {"output_type": "display_data", "data": {mime: encoded}, "metadata": {}}


def test_an_answer_is_the_text() -> None:
    answer = answer_of(replace(DONE, outputs=[stream("hi\n")]), 100)
    assert answer.content == [{"type": "text", "text": "hi\n"}]
    assert not answer.is_error


def test_an_answer_says_that_there_is_no_output() -> None:
    assert answer_of(DONE, 100).content[0]["text"] == "[the code ended without output]"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"status": "timeout", "exception": GatewayTimeout("x"), "detail": "it was interrupted"},
            "[timeout: it was interrupted]",
        ),
        (
            {"status": "died", "exception": KernelRestarted("x"), "detail": "x"},
            "[the kernel died, or was restarted; its variables are lost]",
        ),
        (
            {"status": "died", "exception": KernelGone("x"), "detail": "x"},
            "[the kernel was shut down, or removed by the gateway; its variables are lost]",
        ),
        (
            {"status": "aborted", "detail": "the kernel skipped the code"},
            "[aborted: the kernel skipped the code]",
        ),
        ({"status": "error", "error": KernelException("E", "wrong", [])}, "[E: wrong]"),
    ],
)
def test_what_went_wrong_is_said_after_the_output(changes: dict[str, Any], note: str) -> None:
    answer = answer_of(replace(DONE, outputs=[stream("begun")], **changes), 1000)
    assert answer.content == [{"type": "text", "text": f"begun\n{note}"}]
    assert answer.is_error


def test_an_answer_says_that_output_is_missing() -> None:
    assert "output is missing" in answer_of(replace(DONE, complete=False), 1000).content[0]["text"]


def test_images_that_models_know_are_images() -> None:
    """An SVG image is a text for them."""
    outputs = [image("image/png", b"PNG" * 50), image("image/svg+xml", b"<svg/>")]
    _, *images = answer_of(replace(DONE, outputs=outputs), 1000).content
    data = base64.b64encode(b"PNG" * 50).decode()
    assert images == [{"type": "image", "mimeType": "image/png", "data": data}]


def test_images_are_bounded_together() -> None:
    """One that is too large does not keep a smaller one from being shown."""
    outputs = [image("image/png", b"x" * size) for size in (3_000_000, 2_000_000, 500_000)]
    text, *images = answer_of(replace(DONE, outputs=outputs), 1000).content
    assert len(images) == 2
    assert "1 images are too large to be shown" in text["text"]


def test_long_text_is_cut_in_the_middle() -> None:
    assert shortened_text("abc", 3) == "abc"
    assert shortened_text("0123456789", 4) == "01\n[... 6 characters were cut here ...]\n89"
    assert "more than 6 characters" in shortened_text("0123456789", 4, was_cut=True)


def test_no_lone_surrogate_is_left() -> None:
    """It could not be encoded, which would end the session."""
    answer = answer_of(replace(DONE, outputs=[stream("a\udc80")]), 1000)
    answer.content[0]["text"].encode()
    assert encodable("漢\ud800") == "漢\\ud800"
    last_line("\udc80").encode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n", ""),
        ("a\nb\n", "b"),
        ("10%\r20%\r", "20%"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_progress_is_the_last_line(text: str, line: str) -> None:
    assert last_line(text) == line
