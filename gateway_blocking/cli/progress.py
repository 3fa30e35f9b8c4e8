"""How far ``jupyter gateway run`` is: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from .jobs import OnCell
from .terminal import say

__all__ = ["Bars", "Progress", "progress"]

_LINE_EVERY = 10.0


@contextmanager
def progress() -> Iterator[Progress]:
    """The display that fits standard error."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display
    except ModuleNotFoundError:
        yield Progress()
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        yield Bars(display)


class Progress:
    """For a log: a line for what takes long."""

    @contextmanager
    def of(self, name: str) -> Iterator[OnCell]:
        """While this file is executed; gives what is to be told of each cell that begins."""
        begun = told = monotonic()

        def on_cell(number: int, total: int) -> None:
            nonlocal told
            if (now := monotonic()) - told > _LINE_EVERY:
                told = now
                say(f"{name}: cell {number} of {total}, {now - begun:.0f} s")

        yield on_cell


class Bars(Progress):
    """For a person: a bar for each file that is being executed."""

    def __init__(self, display: Any) -> None:
        self._display = display

    @contextmanager
    def of(self, name: str) -> Iterator[OnCell]:
        """While this file is executed; gives what is to be told of each cell that begins."""
        task = self._display.add_task(f"{name}: starting a kernel", total=None)

        def on_cell(number: int, total: int) -> None:
            text = f"{name}: cell {number} of {total}"
            self._display.update(task, description=text, completed=number - 1, total=total)

        try:
            yield on_cell
        finally:
            self._display.remove_task(task)
