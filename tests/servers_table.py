"""The tables of ``docs/reference/servers.rst``: ``python tests/servers_table.py`` prints them.

They say what the conformance tests say: all of these have to pass, but for those of which a server
lists that it cannot do by itself what they want, and those have to fail.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from support.conformance import Conformance

__all__ = ["tables"]

sys.path.append(
    str(Path(__file__).with_name("gateways"))
)  # the conformance tests are modules there


def tables() -> str:
    """Which server is which letter; what each can do; and why it cannot, by number."""
    servers = list(_servers())
    letters = [chr(ord("A") + number) for number in range(len(servers))]
    reasons = list(dict.fromkeys(why for server in servers for why in server.cannot.values()))
    features = [
        [text, *(_mark(server.cannot.get(test), reasons) for server in servers)]
        for test, text in _features()
    ]
    return "\n".join(
        [
            *_table(
                [[letter, server.name] for letter, server in zip(letters, servers, strict=True)]
            ),
            "",
            *_table([["Feature", *letters], *features], head=True),
            "",
            *(f"({number}) {reason}." for number, reason in enumerate(reasons, 1)),
        ]
    )


def _servers() -> Iterator[type[Conformance]]:
    for name in ("kernel_gateway", "enterprise_gateway", "jupyter_server"):
        for thing in vars(import_module(f"test_conformance_{name}")).values():
            if thing in Conformance.__subclasses__():
                yield thing


def _features() -> Iterator[tuple[str, str]]:
    """Each test, and what it shows."""
    for name, test in vars(Conformance).items():
        if name.startswith("test_"):
            yield name, (test.__doc__ or "").partition("\n")[0].rstrip(".")


def _mark(reason: str | None, reasons: list[str]) -> str:
    return "yes" if reason is None else f"({reasons.index(reason) + 1})"


def _table(rows: list[list[str]], *, head: bool = False) -> list[str]:
    """A simple table of reStructuredText."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if head:
        lines.insert(1, rule)
    return [rule, *lines, rule]


if __name__ == "__main__":
    print(tables())
