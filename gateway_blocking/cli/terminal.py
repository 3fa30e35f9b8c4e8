"""What is written to people: lines, tables, and the output of kernels."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..escape import OutputFilter, printable

__all__ = ["OutputRenderer", "echo", "renderer", "table", "write"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERASE_LINE = "\r\x1b[K"
_LINE_UP = "\x1b[A"


_LONGEST_CELL = 200


def echo(*texts: str) -> None:
    """Write texts of ours to standard error, with what is foreign in them escaped."""
    for text in texts:
        write(sys.stderr, "".join(f"{printable(line)}\n" for line in text.split("\n")))


def write(stream: Any, text: str) -> None:
    """Write text that is to be seen at once."""
    stream.write(text)
    stream.flush()


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows below their titles, in columns; the last column is as long as it needs to be."""
    cells = [[printable(cell, _LONGEST_CELL) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)


# --- the output of kernels ------------------------------------------------------------------------


class OutputRenderer:
    """Where the output of kernels appears: called with an iopub message, it writes what is to see.

    A file or a pipe gets all of it.  A terminal gets what draws, and with ``is_raw`` all of it,
    too.  What replaces an earlier output there does so if that is one line and the last one:
    further up, it may have been scrolled away.
    """

    def __init__(self) -> None:
        self.is_raw = False
        self._filters = {"stdout": OutputFilter(), "stderr": OutputFilter()}
        self._undo = ""  # to be written before what comes next
        self._last_line: str | None = None  # the display_id of what it shows, and nothing else

    def render(self, message: Mapping[str, Any]) -> None:
        """Write what a message of the iopub channel would show in a console."""
        content, kind = message["content"], message["msg_type"]
        if kind == "stream":
            self._write("stderr" if content["name"] == "stderr" else "stdout", content["text"])
        elif kind in ("execute_result", "display_data", "update_display_data"):
            self._display(content, update=kind == "update_display_data")
        elif kind == "error":
            self._write("stdout", "")
            self.render_traceback("\n".join(content["traceback"]))
        elif kind == "clear_output" and sys.stdout.isatty():
            self._undo = _ERASE_LINE
            if not content.get("wait"):
                self._write("stdout", "")

    def render_traceback(self, text: str) -> None:
        """Write a kernel's traceback, in colour only on a terminal."""
        self._write("stderr", (text if sys.stderr.isatty() else _ANSI.sub("", text)) + "\n")

    def filtered(self, name: str, text: str) -> str:
        """Return what of a kernel's output is for the stream of this name, if it is a terminal."""
        return text if self.is_raw else self._filters[name](text)

    def _display(self, content: Mapping[str, Any], update: bool) -> None:
        display_id = content.get("transient", {}).get("display_id")
        if update and display_id == self._last_line is not None:
            self._undo = _LINE_UP + _ERASE_LINE
        text = _seen(content["data"])
        self._write("stdout", text + "\n")
        if sys.stdout.isatty() and _is_one_line(text):
            self._last_line = display_id

    def _write(self, name: str, text: str) -> None:
        undo, self._undo, self._last_line = self._undo, "", None
        if undo:
            write(sys.stdout, undo)
        stream = getattr(sys, name)
        write(stream, self.filtered(name, text) if stream.isatty() else text)


renderer = OutputRenderer()
"""The one of this process, as there is one terminal."""


def _seen(data: Mapping[str, str]) -> str:
    """Return the text that stands for an output on the screen."""
    if markdown := data.get("text/markdown"):
        return _markdown(markdown).rstrip("\n")
    plain = data.get("text/plain", "")
    images = [_image(kind, data[kind]) for kind in data if kind.startswith("image/")]
    if images and re.fullmatch(r"<.*>", plain):  # <Figure size ...>, which says less
        plain = ""
    return "\n".join(filter(None, [plain, *images[:1]]))


def _markdown(text: str) -> str:
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
    """Return the line that stands for an image."""
    size = len(data) * (1 if kind == "image/svg+xml" else 0.75)  # the others come as base64
    return f"[{printable(kind, _LONGEST_CELL)}, {max(1, round(size / 1000))} kB]"


def _is_one_line(text: str) -> bool:
    width = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return "\n" not in text and width < shutil.get_terminal_size().columns
