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

Figures of ``python tests/benchmarks``, which measures this package side by side with others in one
run, each in a process of its own.  What counts are the ratios: the times themselves depend on the
machine.

The *bare loop* is websocket-client in a loop with ``json``, with TCP's acknowledgement asked for
before each receive: the floor of this transport.  The *least Python* receives into one buffer,
cuts the frames by hand and parses each part of a message: the floor of this language.  *Local ZMQ*
is jupyter_client's own client with a kernel on the same machine, without any gateway.

Messages that are not of a kernel come from a server that pours out prepared frames, so that
neither a kernel nor a gateway is waited for.

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
            found.setdefault((peer, reason), []).append(result.work.name)
        for peer in result.failed.keys() - result.cannot.keys():
            yield f"{TITLES[peer]} failed once in {result.work.name}: {result.failed[peer]}."
    for (peer, reason), names in found.items():
        yield f"{TITLES[peer]} has no {', '.join(names)}: {reason}."


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
    targets = [list(Verdict("", "wanted", "found", "met")), *map(list, verdicts(results))]
    parts = [
        _table(figures(results)),
        "In brackets: how many times that of gateway_blocking.\n",
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
    plot(results, page.with_suffix(".svg"))
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
    targets = [list(Verdict("", "wanted", "found", "met")), *map(list, verdicts(results))]
    parts = [
        ".. image:: performance.svg\n   :alt: How many times that of gateway_blocking each is\n",
        *(f"{line}\n" for line in surroundings(results)),
        "In brackets: how many times that of gateway_blocking.\n",
        _list_table("Medians", figures(results)),
        _list_table("What is wanted", targets) if len(targets) > 1 else "",
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


def plot(results: list[Result], path: Path) -> None:
    """Bars of the ratios to ours, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gateway_blocking"
    from matplotlib import pyplot as plt

    rows = [(result, metric) for result in results for metric in result.work.metrics]
    others = [peer for peer in TITLES if peer != "ours"]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.55 * len(rows)), layout="constrained")
    height = 0.8 / len(others)
    for number, peer in enumerate(others):
        bars = [
            (row + (number - (len(others) - 1) / 2) * height, ratio - 1)
            for row, (result, metric) in enumerate(rows)
            if (ratio := result.ratio(peer, metric))  # 0 has no place on this scale
        ]
        axes.barh(
            [at for at, _ in bars],
            [length for _, length in bars],
            height,
            left=1,
            label=TITLES[peer],
        )
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [metric.title for _, metric in rows])
    axes.invert_yaxis()
    axes.set_xlabel("times that of gateway_blocking (right of the line: more than it)")
    axes.margins(y=0.01)
    figure.legend(loc="outside upper center", ncols=len(others), frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
