"""The execution of one file on a kernel that is ready, and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, GatewayConnectionClosed
from ..locks import Lock
from .errors import FAILED, kernel_death

__all__ = ["SUCCESSFUL_EXITS", "Job", "OnCell", "Outcome", "Stopped"]

OnCell = Callable[[int, int], None]
"""Called when a cell begins, with its number, from 1, and the number of cells; 0 for a script."""

SUCCESSFUL_EXITS = ("", "0", "None")
"""Arguments of ``sys.exit()`` that mean success, as the text of a SystemExit."""


class Stopped(Exception):
    """The end of a job by :meth:`Job.stop`."""


@dataclass
class Outcome:
    """The result of a job: exit status, a word for it, and the reason if it failed."""

    status: int
    result: str
    why: str = ""
    seconds: float = 0.0


class Job:
    """One file to execute.  :meth:`stop` and the properties may be used by other threads.

    Parameters
    ----------
    name : str
        Name of the file, used in messages.
    kernel_name : str
        Kernelspec to execute the file on.
    directory : Path
        Working directory of the kernel.
    """

    def __init__(self, name: str, kernel_name: str, directory: Path) -> None:
        self.name, self.kernel_name, self.directory = name, kernel_name, directory
        self.outcome = Outcome(FAILED, "not run")
        self.where = ""  # the current cell, or the last one, such as "cell 3"
        self.is_executed = False  # to the end, without an error
        self.failure: Exception | None = None  # the error that execute() raised
        self.lost_output: list[str] = []  # for each cell whose output is incomplete
        self._lock = Lock()
        self._stopped = False
        self._kc: BlockingGatewayKernelClient | None = None

    def execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        """Execute the file, until it ends or another thread calls :meth:`stop`.

        Raises
        ------
        CodeError
            The code failed, or took too long.
        DeadKernelError, GatewayError
            The kernel died, or the connection was lost.
        Stopped
            Another thread called :meth:`stop`.
        """
        with self._lock:
            self._kc = kc
        try:
            if self._stopped:
                raise Stopped
            self._execute(kc, on_cell)
        except GatewayConnectionClosed as error:
            if self._stopped:
                raise Stopped from error
            raise GatewayConnectionClosed(
                f"connection to the gateway lost{self.in_cell}: {error}"
            ) from error
        except DeadKernelError as error:
            raise kernel_death(error, self.in_cell) from error

    @property
    def is_reconnecting(self) -> bool:
        """True while the connection is lost and is being opened again."""
        return self._kc is not None and self._kc.is_reconnecting

    @property
    def is_connected(self) -> bool:
        """True if the connection exists and is not closed for good."""
        return self._kc is not None and self._kc.connection_slot.is_open

    @property
    def in_cell(self) -> str:
        """The current cell as the end of a sentence, such as " in cell 3"; empty for a script."""
        return f" in {self.where}" if self.where else ""

    def stop(self) -> None:
        """Make :meth:`execute` in another thread end now, or as soon as it begins."""
        with self._lock:
            self._stopped, kc = True, self._kc
        if kc is not None:
            kc.stop_channels()

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        raise NotImplementedError

    def _note_lost_output(self, kc: BlockingGatewayKernelClient, msg_id: str) -> None:
        """Add to `lost_output` if the output of an execution is incomplete, or may be."""
        missing = kc.missing_messages(msg_id)
        if missing != 0 and kc.connection_slot.may_lack_output(msg_id):
            least = f"at least {missing} messages are missing"
            what = "messages may be missing" if missing is None else least
            self.lost_output.append(f"{self.where}: {what}" if self.where else what)
