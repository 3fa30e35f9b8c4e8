"""HTML as text for a terminal: tables keep their columns, other tags are left out."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser

__all__ = ["html_text"]

_HIDDEN = frozenset(("head", "script", "style", "template", "title"))
_BLOCKS = frozenset(  # elements that begin a line
    {
        "address",
        "article",
        "blockquote",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
    }
    | {"section", "table", "tr", "ul"}
    | {f"h{level}" for level in range(1, 7)}
)


def html_text(html: str) -> str:
    """Return the text of HTML, without blank lines.

    >>> print(html_text("<b>Cars</b><table><tr><th>a<th>b<tr><td>1<td>22</table>"))
    Cars
    a  b
    1  22
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return "\n".join(line for line in reader.lines() if line.strip())


class _Reader(HTMLParser):
    """Collects lines of text; the rows of a table are aligned when the table ends."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = [""]
        self._rows: list[list[str]] | None = None  # of the table that is being read
        self._hidden: list[str] = []

    def lines(self) -> list[str]:
        """Return the lines, also of a table that has no end."""
        self._end_table()
        return self._lines

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Begin a line, a row or a cell."""
        if tag in _HIDDEN:
            self._hidden.append(tag)
        elif tag == "table":
            self._end_table()
            self._rows = []
        elif self._rows is not None and tag == "tr":
            self._rows.append([])
        elif self._rows is not None and tag in ("td", "th"):
            (self._rows or [[]])[-1].append("")
        elif self._rows is None and tag in _BLOCKS:
            self._lines.append("- " if tag == "li" else "")

    def handle_endtag(self, tag: str) -> None:
        """End a table, or a line."""
        if tag in self._hidden:
            self._hidden.remove(tag)
        elif tag == "table":
            self._end_table()
        elif self._rows is None and tag in _BLOCKS:
            self._lines.append("")

    def handle_data(self, data: str) -> None:
        """Add text to the line or the cell, in which white space counts once."""
        text = " ".join(data.split())
        if self._hidden or not text:
            return
        text = " " * data[:1].isspace() + text + " " * data[-1:].isspace()
        if self._rows is None:
            self._lines[-1] += text
        elif self._rows and self._rows[-1]:
            self._rows[-1][-1] += text

    def _end_table(self) -> None:
        rows, self._rows = [row for row in self._rows or () if row], None
        if rows:
            self._lines += [*_aligned(rows), ""]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines, whose columns are aligned."""
    cells = [[cell.strip() for cell in row] for row in rows]
    columns = max(map(len, cells))
    cells = [row + [""] * (columns - len(row)) for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
