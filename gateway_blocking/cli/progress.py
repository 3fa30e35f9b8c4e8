"""How far ``jupyter gateway run`` is: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ..escape import printable
from ..locks import apart
from .jobs import Job, OnCell
from .terminal import echo

__all__ = ["BarProgress", "Progress", "open_progress"]

_LINE_EVERY = 10.0
_WATCH_EVERY = 0.25
_LOST = "connection lost, trying again"


@contextmanager
def open_progress() -> Iterator[Progress]:
    """Return the display that fits standard error."""
    if not sys.stderr.isatty():
        with Progress().watching() as lines:
            yield lines
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display
    except ModuleNotFoundError:
        with Progress().watching() as lines:
            yield lines
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with (
        Display(*columns, console=Console(stderr=True), transient=True) as display,
        BarProgress(display).watching() as bars,
    ):
        yield bars


class Progress:
    """For a log: a line for what takes long."""

    def __init__(self) -> None:
        self._running: dict[Job, bool] = {}  # whether its connection was lost when last seen

    @contextmanager
    def watching(self) -> Iterator[Progress]:
        """Within the ``with``, look after the connections of what runs, in a thread."""
        end: SimpleQueue[None] = SimpleQueue()
        thread = threading.Thread(
            target=self._watch, args=(end,), name="gateway-progress", daemon=True
        )
        apart(thread.start)
        try:
            yield self
        finally:
            end.put(None)
            thread.join(2 * _WATCH_EVERY)

    def _watch(self, end: SimpleQueue[None]) -> None:
        while True:
            try:
                end.get(timeout=_WATCH_EVERY)
            except Empty:
                self.poll()
            else:
                return

    def poll(self) -> None:
        """Tell of the connections that were lost, or are open again, since the last look."""
        for job, was_lost in list(self._running.items()):
            if (is_lost := job.is_reconnecting) != was_lost and job in self._running:
                self._running[job] = is_lost
                if is_lost or job.is_connected:  # else it is lost for good, and the job says so
                    self.connection_changed(job, is_lost)

    def connection_changed(self, job: Job, is_lost: bool) -> None:
        """Tell that the connection of a job was lost, or is open again."""
        echo(f"{job.name}: {_LOST}" if is_lost else f"{job.name}: connected again")

    @contextmanager
    def track(self, job: Job) -> Iterator[OnCell]:
        """While this file is executed; gives what is to be told of each cell that begins."""
        begun = told = monotonic()

        def on_cell(number: int, total: int) -> None:
            nonlocal told
            if total and (now := monotonic()) - told > _LINE_EVERY:
                told = now
                echo(f"{job.name}: cell {number} of {total}, {now - begun:.0f} s")

        self._running[job] = False
        try:
            yield on_cell
        finally:
            self._running.pop(job, None)


class BarProgress(Progress):
    """For a person: a bar for each file that is being executed."""

    def __init__(self, display: Any) -> None:
        super().__init__()
        self._display = display
        self._tasks: dict[Job, tuple[Any, str]] = {}  # the bar of a job, and its text

    def connection_changed(self, job: Job, is_lost: bool) -> None:
        """Tell that the connection of a job was lost, or is open again."""
        try:
            task, text = self._tasks[job]
            self._display.update(task, description=f"{text}: {_LOST}" if is_lost else text)
        except KeyError:
            pass  # it ended meanwhile, and has no bar any more

    @contextmanager
    def track(self, job: Job) -> Iterator[OnCell]:
        """While this file is executed; gives what is to be told of each cell that begins."""
        name = printable(job.name)
        text = f"{name}: starting a kernel"
        task = self._display.add_task(text, total=None)
        self._tasks[job] = task, text

        def on_cell(number: int, total: int) -> None:
            text = f"{name}: cell {number} of {total}" if total else name
            self._tasks[job] = task, text
            self._display.update(task, description=text, completed=number - 1, total=total or None)

        try:
            with super().track(job):
                yield on_cell
        finally:
            del self._tasks[job]
            self._display.remove_task(task)
