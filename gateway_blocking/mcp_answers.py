"""The answers of the MCP server's tools: text and images, bounded, as they are on the wire."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .errors import DeadKernelError, KernelGone
from .escape import plain_text
from .execution import Execution

__all__ = [
    "Answer",
    "Block",
    "answer_of",
    "death_of",
    "encodable",
    "json_answer",
    "last_line",
    "shortened_text",
    "text_answer",
]

Block = dict[str, Any]
"""A part of an answer: text, or an image."""

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")  # that language models know
_LONGEST_LINE = 200  # characters of a notification
_LONGEST_IMAGES = 4_000_000  # bytes of all images of one answer


@dataclass(frozen=True)
class Answer:
    """The answer to a call."""

    content: list[Block]
    is_error: bool = False


def text_answer(text: str, is_error: bool = False) -> Answer:
    """Return an answer that is a text."""
    return Answer([{"type": "text", "text": encodable(text)}], is_error)


def json_answer(value: object) -> Answer:
    """Return an answer that is a value as JSON."""
    return text_answer(json.dumps(value, indent=2, ensure_ascii=False))


def encodable(text: str) -> str:
    r"""Return a text with each lone surrogate as an escape, because UTF-8 cannot encode it.

    >>> print(encodable("a\udc80"))
    a\udc80
    """
    return text.encode("utf-8", "backslashreplace").decode()


def shortened_text(text: str, longest: int, was_cut: bool = False) -> str:
    """Return a text with its beginning and its end, and between them how much was cut.

    Parameters
    ----------
    text : str
        The text.
    longest : int
        Characters to keep.
    was_cut : bool
        Whether some was cut before, so that the number is only a lower bound.
    """
    if len(text) <= longest:
        return text
    half = longest // 2
    cut, end = len(text) - 2 * half, text[-half:] if half else ""
    about = "more than " if was_cut else ""
    return f"{text[:half]}\n[... {about}{cut:,} characters were cut here ...]\n{end}"


def last_line(text: str) -> str:
    r"""Return the last line of a text that is not blank, shortened.

    >>> last_line("a\nepoch 1\r\n\n")
    'epoch 1'
    """
    lines = plain_text(text[-_LONGEST_LINE:]).split("\n")
    return encodable(next((line.strip() for line in reversed(lines) if line.strip()), ""))


def answer_of(done: Execution, longest: int) -> Answer:
    """Return the answer for an execution: its text, what went wrong, and its images."""
    text = shortened_text(done.text(), longest, done.truncated)
    notes = list(_notes(done))
    images, omitted = _images(done)
    if omitted:
        notes.append(f"{omitted} images are too large to be shown")
    if not (text or notes or images):
        notes.append("the code ended without output")
    if text and notes and not text.endswith("\n"):
        text += "\n"
    text += "\n".join(f"[{shortened_text(note, longest)}]" for note in notes)
    content: list[Block] = [{"type": "text", "text": encodable(text)}] if text else []
    return Answer(content + images, is_error=not done.ok)


def _notes(done: Execution) -> Iterator[str]:
    """Yield sentences about the end of an execution that its outputs do not say."""
    if isinstance(done.exception, DeadKernelError):
        yield death_of(done.exception)
    elif done.detail:
        yield f"{done.status}: {done.detail}"
    elif done.error and not any(each["output_type"] == "error" for each in done.outputs):
        yield f"{done.error.ename}: {done.error.evalue}"
    if done.complete is False:
        yield "some output is missing, because it was lost on its way"


def _images(done: Execution) -> tuple[list[Block], int]:
    """Return the images that an answer has room for, and the number of the others."""
    images: list[Block] = []
    left, omitted = _LONGEST_IMAGES, 0
    for image in done.images:
        if image.mime not in _IMAGES:
            continue
        left -= len(image.data)
        if left < 0:
            omitted += 1
            left += len(image.data)
            continue
        data = base64.b64encode(image.data).decode()
        images.append({"type": "image", "data": data, "mimeType": image.mime})
    return images, omitted


def death_of(error: DeadKernelError) -> str:
    """Return what a model has to know of a death; the exception advises a programmer."""
    gone = isinstance(error, KernelGone)
    what = "was shut down, or removed by the gateway" if gone else "died, or was restarted"
    return f"the kernel {what}; its variables are lost"
