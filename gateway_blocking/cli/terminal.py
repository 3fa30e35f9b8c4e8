"""What is written to people: lines, tables, and the output of kernels."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["say", "show", "table", "write"]

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def say(*lines: str) -> None:
    """Write lines to standard error, in colour only where somebody sees it."""
    for line in lines:
        write(sys.stderr, (line if sys.stderr.isatty() else _ANSI.sub("", line)) + "\n")


def write(stream: Any, text: str) -> None:
    """Write text that is to be seen at once."""
    stream.write(text)
    stream.flush()


def show(message: dict[str, Any]) -> None:
    """Write what an iopub message would show in a console."""
    content, kind = message["content"], message["msg_type"]
    if kind == "stream":
        write(sys.stderr if content["name"] == "stderr" else sys.stdout, content["text"])
    elif kind in ("execute_result", "display_data"):
        write(sys.stdout, content["data"].get("text/plain", "") + "\n")
    elif kind == "error":
        say("\n".join(content["traceback"]))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows below their titles, in columns; the last column is as long as it needs to be."""
    cells = [[*titles], *([*row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)
