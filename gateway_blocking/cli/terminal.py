"""Output to the terminal: messages, tables, and the output of kernels."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from ..deadline import Deadline
from ..escape import OutputFilter, printable
from ..locks import Latch, apart
from ..messages import Message
from ..threads import DaemonThread
from .errors import OutputError
from .html_text import html_text
from .inline_images import choose_protocol, image_sequence, screen_of, write_sequence

__all__ = ["OutputRenderer", "echo", "echo_after", "renderer", "table", "write"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERASE_LINE = "\r\x1b[K"
_LINE_UP = "\x1b[A"
_MAX_CELL_LENGTH = 200


def echo(*texts: str) -> None:
    """Write messages to standard error, each on lines of its own; escape control characters."""
    for text in texts:
        write(sys.stderr, "".join(f"{printable(line)}\n" for line in text.split("\n")))


@contextmanager
def echo_after(seconds: float, text: str) -> Iterator[None]:
    """Write a message to standard error if the block takes longer than this."""
    done = Latch()

    def tell() -> None:
        if not done.wait(Deadline(seconds)):
            echo(text)

    thread = DaemonThread("gateway-echo", tell)
    apart(thread.start)
    try:
        yield
    finally:
        done.open()
        thread.has_ended(Deadline(1))  # the message is not written after the block


def write(stream: TextIO, text: str) -> None:
    """Write text and flush the stream.

    Raises
    ------
    BrokenPipeError
        The reader of the stream has ended, as ``head`` does.
    OutputError
        The stream cannot be written.
    """
    with _errors_of(stream):
        stream.write(text)
        stream.flush()


@contextmanager
def _errors_of(stream: TextIO) -> Iterator[None]:
    """Raise an error of the stream as one that names the stream."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard error" if stream is sys.stderr else "standard output"
        raise OutputError(name, error) from error


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows below their titles, aligned in columns."""
    cells = [[printable(cell, _MAX_CELL_LENGTH) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)


# --- the output of kernels ------------------------------------------------------------------------


class OutputRenderer:
    """Writer of the output of kernels to standard output and standard error.

    A file or a pipe gets all output.  A terminal gets no control sequences but those that draw,
    unless ``is_raw`` is set.  An update replaces the earlier output on a terminal if that was the
    last line; an output further up may have been scrolled away.
    """

    def __init__(self) -> None:
        self.is_raw = False
        self._filters = {"stdout": OutputFilter(), "stderr": OutputFilter()}
        self._undo = ""  # erases the last line, before the next output is written
        self._last_line: str | None = None  # the display_id whose output is the last line

    def render(self, message: Message) -> None:
        """Write the output that a message of the iopub channel holds."""
        content, kind = message["content"], message["msg_type"]
        if kind == "stream":
            self._write("stderr" if content["name"] == "stderr" else "stdout", content["text"])
        elif kind in ("execute_result", "display_data", "update_display_data"):
            display_id = content.get("transient", {}).get("display_id")
            self._display(content["data"], display_id, update=kind == "update_display_data")
        elif kind == "error":
            self._write("stdout", "")
            self.render_traceback("\n".join(content["traceback"]))
        elif kind == "clear_output" and sys.stdout.isatty():
            self._undo = _ERASE_LINE
            if not content.get("wait"):
                self._write("stdout", "")

    def render_traceback(self, text: str) -> None:
        """Write a traceback of a kernel; keep its colours only on a terminal."""
        self._write("stderr", (text if sys.stderr.isatty() else _ANSI.sub("", text)) + "\n")

    def filtered(self, name: str, text: str) -> str:
        """Return a kernel's output as a terminal may get it, on the stream of this name."""
        return text if self.is_raw else self._filters[name](text)

    def draw(self, data: Mapping[str, str]) -> bool:
        """Draw the image of an output if the terminal can; return True if it was drawn."""
        if image := _inline_image(data):
            _write_image(image)
        return bool(image)

    def _display(self, data: Mapping[str, str], display_id: str | None, *, update: bool) -> None:
        if update and display_id == self._last_line is not None:
            self._undo = _LINE_UP + _ERASE_LINE
        image = _inline_image(data)
        text = _plain_text(data, is_drawn=image is not None)
        self._write("stdout", f"{text}\n" if text or not image else "")
        if image:
            _write_image(image)
        elif sys.stdout.isatty() and _is_one_line(text):
            self._last_line = display_id

    def _write(self, name: str, text: str) -> None:
        undo, self._undo, self._last_line = self._undo, "", None
        if undo:
            write(sys.stdout, undo)
        stream = getattr(sys, name)
        write(stream, self.filtered(name, text) if stream.isatty() else text)


renderer = OutputRenderer()
"""The renderer of this process, which has one terminal."""


def _inline_image(data: Mapping[str, str]) -> str | None:
    """Return the sequences that draw the image of an output; None if the terminal shows none."""
    if not sys.stdout.isatty() or not any(kind.startswith("image/") for kind in data):
        return None
    return image_sequence(data, choose_protocol(os.environ), screen_of(sys.stdout))


def _write_image(sequence: str) -> None:
    """Write the sequences of an image, and end the line."""
    with _errors_of(sys.stdout):
        write_sequence(sys.stdout, f"{sequence}\n")


def _plain_text(data: Mapping[str, str], *, is_drawn: bool) -> str:
    """Return the text that represents an output on a terminal; a drawn image needs none."""
    if markdown := data.get("text/markdown"):
        return _markdown(markdown).rstrip("\n")
    plain = data.get("text/plain", "")
    images = [_image(kind, data[kind]) for kind in data if kind.startswith("image/")]
    if re.fullmatch(r"<.*>", plain) or not plain:  # <Figure size ...> says less than the image
        html = data.get("text/html", "")
        plain = "" if images else html_text(html) or plain
    return "\n".join(filter(None, [plain, *images[: not is_drawn]]))


def _markdown(text: str) -> str:
    """Return Markdown as rich draws it on a terminal, or as it is."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.markdown import Markdown
        except ModuleNotFoundError:
            return text
        console = Console()
        with console.capture() as capture:
            console.print(Markdown(text))
        return capture.get()
    return text


def _image(kind: str, data: str) -> str:
    """Return the line that represents an image."""
    size = len(data) * (1 if kind == "image/svg+xml" else 0.75)  # the others come as base64
    return f"[{printable(kind, _MAX_CELL_LENGTH)}, {max(1, round(size / 1000))} kB]"


def _is_one_line(text: str) -> bool:
    """Return True if the text occupies one line of the terminal."""
    width = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return "\n" not in text and width < shutil.get_terminal_size().columns
