"""What was found, as a text, as a page of the documentation and as a plot."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from peers import TITLES
from works import Metric, Rounds, Target, Work, show

PACKAGES = (
    *("gateway-blocking", "jupyter_client", "jupyter_kernel_client", "jupyter_server"),
    *("jupyter_kernel_gateway", "ipykernel", "websocket-client", "pyzmq", "nbclient", "orjson"),
)
BEGIN, END = ".. begin: made by python tests/benchmarks --write", ".. end"
PAGE = f"""Performance
===========

{BEGIN}

{END}
"""
NONE = "\N{EN DASH}"
# What the README has of the figures.
HEADLINES = (
    *("round trip, median", "20,000 small messages", "16 MB of text in one message"),
    *("8 threads on one client, 25 executes each", "200 cells under nbclient"),
)
HEADLINE_PEERS = ("gateway_blocking", "jupyter_kernel_client", "jupyter_server", "local ZMQ")
RELATIVE = "In brackets: relative to gateway_blocking; above 1 is slower, or more."


@dataclass
class Result:
    """What the rounds of a work found, and why some peers have nothing."""

    work: Work
    rounds: Rounds = field(default_factory=list)
    cannot: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def value(self, peer: str, metric: Metric) -> float | None:
        """The median of the rounds."""
        values = [each[peer][metric.name] for each in self.rounds if peer in each]
        return median(values) if values else None

    def ratio(self, peer: str, metric: Metric) -> float | None:
        """How many times that of ours a peer's is; the median of the rounds' ratios."""
        ratios = [
            each[peer][metric.name] / each["ours"][metric.name]
            for each in self.rounds
            if peer in each and each.get("ours", {}).get(metric.name)
        ]
        return median(ratios) if ratios else None


class Verdict(NamedTuple):
    """A target, and what came of it."""

    title: str
    wanted: str
    found: str
    met: str


def verdicts(results: list[Result]) -> Iterator[Verdict]:
    """All targets."""
    for result in results:
        for metric in result.work.metrics:
            for target in metric.targets:
                yield _verdict(result, metric, target)


def _verdict(result: Result, metric: Metric, target: Target) -> Verdict:
    wanted = target.text(metric.unit)
    value = target.found(result.rounds, metric.name)
    if value is None:
        return Verdict(metric.title, wanted, NONE, NONE)
    met = "yes" if target.met(value) else "no"
    return Verdict(metric.title, wanted, target.show(value, metric.unit), met)


def figures(results: list[Result]) -> list[list[str]]:
    """A row for each metric, a column for each peer: value, and ratio to ours."""
    rows = [["", *TITLES.values()]]
    for result in results:
        for metric in result.work.metrics:
            rows.append([metric.title, *(_cell(result, metric, peer) for peer in TITLES)])
    return rows


def _cell(result: Result, metric: Metric, peer: str) -> str:
    value = result.value(peer, metric)
    if value is None:
        return NONE
    ratio = None if peer == "ours" else result.ratio(peer, metric)
    return show(value, metric.unit) + (f" ({ratio:.2f})" if ratio is not None else "")


def notes(results: list[Result]) -> Iterator[str]:
    """What a reader has to know, and why some peers have nothing, each reason once."""
    for result in results:
        if result.work.note:
            yield f"{result.work.metrics[0].title}: {result.work.note}."
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for peer, reason in result.cannot.items():
            found.setdefault((peer, reason), []).append(result.work.metrics[0].title)
        for peer in result.failed.keys() - result.cannot.keys():
            yield f"{TITLES[peer]} failed once in {result.work.name}: {result.failed[peer]}."
    for (peer, reason), names in found.items():
        yield f"{TITLES[peer]} was not asked for: {', '.join(names)}. Reason: {reason}."


def surroundings(results: list[Result]) -> list[str]:
    """What it was measured with and on."""
    packages = ", ".join(_version(name) for name in PACKAGES)
    rounds = sorted({len(result.rounds) for result in results})
    return [
        f"Measured on {date.today().isoformat()} with {packages}.",
        f"Python {platform.python_version()}, {platform.system()},"
        f" {_processor()}, {os.cpu_count()} cores; {_numbers(rounds)} rounds after one that does"
        " not count.",
    ]


def _version(package: str) -> str:
    """The package with its version; jupyter_client parses with orjson where that is installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _numbers(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))


def brief(result: Result) -> str:
    """The medians of a work, for who waits."""
    lines = []
    for metric in result.work.metrics:
        values = ((TITLES[peer], result.value(peer, metric)) for peer in result.work.peers)
        shown = (
            f"{title} {show(value, metric.unit)}" for title, value in values if value is not None
        )
        lines.append(f"  {metric.title}: {', '.join(shown)}")
    return "\n".join(lines)


# --- as a text ------------------------------------------------------------------------------------


def text(results: list[Result]) -> str:
    """For a terminal."""
    targets = [list(Verdict("", "target", "result", "met")), *map(list, verdicts(results))]
    parts = [
        _table(figures(results)),
        f"{RELATIVE}\n",
        _table(targets) if len(targets) > 1 else "",
        "".join(f"{note}\n" for note in notes(results)),
        "".join(f"{line}\n" for line in surroundings(results)),
    ]
    return "\n" + "\n".join(part for part in parts if part)


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "".join(line + "\n" for line in lines)


# --- as a page ------------------------------------------------------------------------------------


def write(results: list[Result], root: Path) -> None:
    """Write the plot, and the generated parts of its page and of the README."""
    page = root / "docs" / "topics" / "performance.rst"
    page.parent.mkdir(parents=True, exist_ok=True)
    _replace(page, PAGE, _generated(results))
    _replace(root / "README.rst", f"{BEGIN}\n\n{END}\n", headlines(figures(results)))
    page.with_suffix(".svg").write_text(plot(figures(results)), encoding="utf-8")
    sys.stdout.write("\nWritten: README.rst, performance.rst, performance.svg\n")


def _replace(page: Path, empty: str, generated: str) -> None:
    """Put the text between the two marks of a page, or of an empty one if there is none."""
    whole = page.read_text() if page.exists() else empty
    before, _, rest = whole.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{generated}\n{END}{after}")


def headlines(rows: list[list[str]]) -> str:
    """Some rows and columns of the figures, as a table that is easily read as text."""
    columns = [rows[0].index(title) for title in HEADLINE_PEERS]
    chosen = [rows[0], *(row for title in HEADLINES for row in rows if row[0] == title)]
    cells = [[row[0] or "..", *(row[column] for column in columns)] for row in chosen]
    rule = ["=" * max(map(len, column)) for column in zip(*cells, strict=True)]
    return _table([rule, cells[0], rule, *cells[1:], rule])


def _generated(results: list[Result]) -> str:
    targets = [list(Verdict("", "target", "result", "met")), *map(list, verdicts(results))]
    parts = [
        ".. image:: performance.svg\n   :alt: The times of others relative to gateway_blocking\n",
        *(f"{line}\n" for line in surroundings(results)),
        f"{RELATIVE}\n",
        _list_table("Medians", figures(results)),
        _list_table("Targets", targets) if len(targets) > 1 else "",
        "".join(f"* {note}\n" for note in notes(results)),
    ]
    return "\n".join(part for part in parts if part)


def _list_table(title: str, rows: list[list[str]]) -> str:
    lines = [f".. list-table:: {title}", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in rows:
        lines += [f"   {'-' if column else '* -'} {cell}" for column, cell in enumerate(row)]
    return "".join(
        (f"     {line.strip()}" if line.startswith("   - ") else line).rstrip() + "\n"
        for line in lines
    )


# --- as a plot ------------------------------------------------------------------------------------

_COLOURS = {
    "gateway_blocking": "#2f6db5",
    "local ZMQ": "#8d99ae",
    "jupyter_kernel_client": "#d1495b",
    "jupyter_server": "#edae49",
}
_LEFT, _SCALE, _BAR, _GROUP = 270, 420, 16, 84  # the text at the left, the longest bar; heights
_WIDTH = _LEFT + _SCALE + 240


def plot(rows: list[list[str]]) -> str:
    """Return the headlines as bars of ratios, with their numbers, as SVG."""
    columns = {title: rows[0].index(title) for title in _COLOURS}
    chosen = [row for title in HEADLINES for row in rows if row[0] == title]
    groups = [
        [
            (title, row[column], ratio)
            for title, column in columns.items()
            if (ratio := _ratio(row[column]))
        ]
        for row in chosen
    ]
    longest = max(ratio for group in groups for _, _, ratio in group)
    height = 50 + len(groups) * _GROUP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
        f' height="{height}" role="img" aria-label="Time relative to gateway_blocking">',
        "<style>text { font: 13px sans-serif; fill: #1b1b1b; } .title { font-weight: bold; }"
        " .left { text-anchor: end; }</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#fff"/>',
        f'<text class="title" x="{_LEFT}" y="26">Time relative to gateway_blocking:'
        " shorter is faster</text>",
    ]
    for number, (row, group) in enumerate(zip(chosen, groups, strict=True)):
        top = 46 + number * _GROUP
        middle = top + len(group) * _BAR / 2 + 4
        parts.append(f'<text class="left title" x="{_LEFT - 14}" y="{middle:g}">{row[0]}</text>')
        for place, (title, cell, ratio) in enumerate(group):
            y, length = top + place * _BAR, max(_SCALE * ratio / longest, 1)
            value = cell.partition(" (")[0]
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR - 3}"'
                f' fill="{_COLOURS[title]}"/>'
                f'<text x="{_LEFT + length + 6:.0f}" y="{y + 11}">'
                f"{ratio:.3g} \N{MULTIPLICATION SIGN} {title} ({value})</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def _ratio(cell: str) -> float | None:
    """Return the ratio in the brackets of a figure; 1 if it has none, as ours."""
    if cell == NONE:
        return None
    number = cell.partition(" (")[2].rstrip(")")
    return float(number) if number else 1.0
