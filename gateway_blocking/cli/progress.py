"""The progress of ``jupyter gateway run``: bars on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from ..escape import printable
from ..locks import Lock, apart
from ..timeouts import PROGRESS_INTERVAL, PROGRESS_LINE_INTERVAL
from .jobs import Job, OnCell
from .terminal import echo

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

__all__ = ["BarProgress", "Progress", "open_progress"]

_LOST = "connection lost, trying again"


@contextmanager
def open_progress() -> Iterator[Progress]:
    """Yield bars if standard error is a terminal and rich is installed, else lines."""
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
    """Progress as lines, for a log: a line for each file that takes long.

    A thread polls the connections of the jobs.  Jobs may be tracked in several threads.
    """

    def __init__(self) -> None:
        self._running: dict[Job, bool] = {}  # whether the connection was lost at the last poll

    @contextmanager
    def watching(self) -> Iterator[Progress]:
        """Poll the connections of the tracked jobs in a thread, during the ``with`` block."""
        end: SimpleQueue[None] = SimpleQueue()
        thread = threading.Thread(
            target=self._watch, args=(end,), name="gateway-progress", daemon=True
        )
        apart(thread.start)
        try:
            yield self
        finally:
            end.put(None)
            thread.join(2 * PROGRESS_INTERVAL)

    def _watch(self, end: SimpleQueue[None]) -> None:
        while True:
            try:
                end.get(timeout=PROGRESS_INTERVAL)
            except Empty:
                self.poll()
            else:
                return

    def poll(self) -> None:
        """Show which connections were lost, or are open again, since the last poll."""
        for job, was_lost in list(self._running.items()):
            if (is_lost := job.is_reconnecting) != was_lost and job in self._running:
                self._running[job] = is_lost
                if is_lost or job.is_connected:  # else it is lost for good, and the job reports it
                    self.connection_changed(job, is_lost)

    def connection_changed(self, job: Job, is_lost: bool) -> None:
        """Show that the connection of a job was lost, or is open again."""
        echo(f"{job.name}: {_LOST}" if is_lost else f"{job.name}: connected again")

    @contextmanager
    def track(self, job: Job) -> Iterator[OnCell]:
        """Track a job during the ``with`` block; yield the function to call for each cell."""
        begun = told = monotonic()

        def on_cell(number: int, total: int) -> None:
            nonlocal told
            if total and (now := monotonic()) - told > PROGRESS_LINE_INTERVAL:
                told = now
                echo(f"{job.name}: cell {number} of {total}, {now - begun:.0f} s")

        self._running[job] = False
        try:
            yield on_cell
        finally:
            self._running.pop(job, None)


class BarProgress(Progress):
    """Progress as bars, for a terminal: a bar for each file that is being executed.

    While a script is executed, the terminal belongs to its output, and there are no bars.  rich
    would make each piece of the output a line, and color it.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self._tasks: dict[Job, tuple[TaskID, str]] = {}  # the bar of each job, and its text
        self._lock = Lock()
        self._scripts: set[Job] = set()  # those that are executed

    def connection_changed(self, job: Job, is_lost: bool) -> None:
        """Show that the connection of a job was lost, or is open again."""
        if job in self._scripts:
            super().connection_changed(job, is_lost)
            return
        try:
            task, text = self._tasks[job]
            self._display.update(task, description=f"{text}: {_LOST}" if is_lost else text)
        except KeyError:
            pass  # the job ended meanwhile, and its bar was removed

    @contextmanager
    def track(self, job: Job) -> Iterator[OnCell]:
        """Track a job during the ``with`` block; yield the function to call for each cell."""
        name = printable(job.name)
        text = f"{name}: starting a kernel"
        task = self._display.add_task(text, total=None)
        self._tasks[job] = task, text

        def on_cell(number: int, total: int) -> None:
            text = f"{name}: cell {number} of {total}" if total else name
            self._tasks[job] = task, text
            self._display.update(task, description=text, completed=number - 1, total=total or None)
            if not total:
                self._hide_for(job)

        try:
            with super().track(job):
                yield on_cell
        finally:
            del self._tasks[job]
            self._display.remove_task(task)
            self._show_after(job)

    def _hide_for(self, script: Job) -> None:
        """Show no bars until the script has ended."""
        with self._lock:
            if not self._scripts:
                self._display.live.stop()
            self._scripts.add(script)

    def _show_after(self, job: Job) -> None:
        """Show the bars again if this was the last script that was executed."""
        with self._lock:
            if job in self._scripts:
                self._scripts.remove(job)
                if not self._scripts:
                    self._display.live.start(refresh=True)
