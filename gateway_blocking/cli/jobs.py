"""What ``jupyter gateway run`` executes: a notebook or a script, on a kernel that is ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..client import BlockingGatewayKernelClient
from ..errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    KernelGone,
)
from ..locks import Lock
from .errors import FAILED

__all__ = ["Job", "OnCell", "Outcome", "Stopped"]

OnCell = Callable[[int, int], None]
"""Told of each cell that begins: its number, from 1, and how many there are; 0 for a script."""


class Stopped(Exception):
    """The job was ended by :meth:`Job.stop`."""


@dataclass
class Outcome:
    """What became of a file: an exit status, a word, and the reason where it failed."""

    status: int
    result: str
    why: str = ""
    seconds: float = 0.0


class Job:
    """One file to execute.

    Parameters
    ----------
    name : str
        The file.
    kernel_name : str
        The kernelspec to run it on.
    directory : Path
        The kernel's working directory.
    """

    def __init__(self, name: str, kernel_name: str, directory: Path) -> None:
        self.name, self.kernel_name, self.directory = name, kernel_name, directory
        self.outcome = Outcome(FAILED, "not run")
        self.where = ""  # it is, or was when it ended
        self.failure: Exception | None = None  # what execute() raised
        self.lost_output: list[str] = []  # where output is missing, or may be
        self._lock = Lock()
        self._stopped = False
        self._kc: BlockingGatewayKernelClient | None = None

    def execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        """Execute it, until it ends or another thread calls :meth:`stop`.

        Raises
        ------
        CodeError
            The code failed, or took too long.
        DeadKernelError, GatewayError
            The kernel died, or the connection was lost.
        Stopped
            By another thread.
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
            raise self._kernel_death(error) from error

    @property
    def is_reconnecting(self) -> bool:
        """True if its connection was lost and is being opened again."""
        return self._kc is not None and self._kc.is_reconnecting

    @property
    def is_connected(self) -> bool:
        """True if its connection is there and is not closed for good."""
        return self._kc is not None and self._kc.connection_slot.is_open

    def stop(self) -> None:
        """End what :meth:`execute` waits for in another thread, now or as soon as it begins."""
        with self._lock:
            self._stopped, kc = True, self._kc
        if kc is not None:
            kc.stop_channels()

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        raise NotImplementedError

    @property
    def in_cell(self) -> str:
        """The cell, as the end of a sentence."""
        return f" in {self.where}" if self.where else ""

    def _kernel_death(self, error: DeadKernelError) -> DeadKernelError:
        """Return the error that says what became of the kernel, and where."""
        if isinstance(error, KernelGone):
            return KernelGone(
                f"the gateway does not have the kernel any more{self.in_cell}: it was shut down or"
                " culled, or the gateway was restarted"
            )
        return DeadKernelError(
            f"the kernel died{self.in_cell}: out of memory, perhaps; the gateway's log says more"
        )

    def _note_lost_output(self, kc: BlockingGatewayKernelClient, msg_id: str) -> None:
        """Note what is missing of the output of an execution."""
        missing = kc.missing_messages(msg_id)
        if missing != 0 and kc.connection_slot.may_lack_output(msg_id):
            least = f"at least {missing} messages are missing"
            what = "messages may be missing" if missing is None else least
            self.lost_output.append(f"{self.where}: {what}" if self.where else what)
