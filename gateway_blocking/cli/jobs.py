"""What ``jupyter gateway run`` executes: a notebook or a script, on a kernel that is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, GatewayConnectionClosed
from ..locks import Lock
from .command import FAILED, CodeError, UsageError
from .files import read_notebook, replace
from .terminal import say, show

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from traitlets.config import Config

__all__ = ["Job", "Notebook", "OnCell", "Outcome", "Script", "Stopped"]

OnCell = Callable[[int, int], None]
"""Told of each cell that begins: its number, from 1, and how many there are."""

_INFO_TIMEOUT = 60.0
_SILENT = logging.getLogger(f"{__name__}.silent")  # for nbclient: we tell what it would log
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


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
            raise

    def stop(self) -> None:
        """End what :meth:`execute` waits for in another thread, now or as soon as it begins."""
        with self._lock:
            self._stopped, kc = True, self._kc
        if kc is not None:
            kc.stop_channels()

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        raise NotImplementedError


class Script(Job):
    """Code whose output is shown as it comes.

    Parameters
    ----------
    name : str
        The file, or how else it is called.
    code : str
    kernel_name : str
    allow_stdin : bool
        Whether it may ask for input.
    """

    def __init__(self, name: str, code: str, kernel_name: str, *, allow_stdin: bool) -> None:
        super().__init__(name, kernel_name, Path.cwd())  # as for `python FILE`
        self._code = code
        self._allow_stdin = allow_stdin
        self._exited = False

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        try:
            reply = kc.execute_interactive(
                self._code, output_hook=self._show, allow_stdin=self._allow_stdin
            )["content"]
        except DeadKernelError as error:
            raise DeadKernelError(f"{self.name}: the kernel died") from error
        if reply["status"] == "error" and reply["ename"] == "SystemExit":
            self._exit(str(reply["evalue"]))
        elif reply["status"] != "ok":
            raise CodeError("", f"{reply.get('ename', 'aborted')}: {reply.get('evalue', '')}")

    def _exit(self, argument: str) -> None:
        """What ``sys.exit(argument)`` means: a number is a status, anything else is a message."""
        if argument in ("", "0", "None"):
            return
        if not argument.lstrip("-").isdigit():
            say(argument)
        raise CodeError("", f"SystemExit: {argument}")

    def _show(self, message: dict[str, Any]) -> None:
        if self._exited:  # by sys.exit(), on which IPython comments
            return
        if message["msg_type"] == "error":
            self._exited = message["content"]["ename"] == "SystemExit"
        if not self._exited:
            show(message)


class Notebook(Job):
    """A notebook that is executed by nbclient and written with its outputs.

    Parameters
    ----------
    source, destination : Path
        Where it is read from and written to.
    kernel_name : str
        The kernelspec, if not the notebook's own.
    parameters : dict
        To be set by a cell of their own.
    config : Config
        Of nbclient.
    """

    def __init__(
        self,
        source: Path,
        destination: Path,
        kernel_name: str,
        parameters: dict[str, Any],
        config: Config,
    ) -> None:
        self._nb = read_notebook(source)
        own = self._nb.metadata.get("kernelspec", {}).get("name")
        super().__init__(str(source), kernel_name or own or "python3", source.absolute().parent)
        self._destination = destination
        self._parameters = parameters
        self._config = config

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        from nbclient import NotebookClient
        from nbclient import exceptions as nbclient_errors

        km: Any = kc.parent  # its manager
        info = kc.kernel_info(reply=True, timeout=_INFO_TIMEOUT)["content"]
        if self._parameters:
            self._set_parameters(km.kernel_name, info["language_info"]["name"])
        self._nb.metadata["language_info"] = info["language_info"]
        client = NotebookClient(self._nb, km=km, config=self._config, log=_SILENT)
        client.kc = kc
        try:
            # An event loop of this call: a Ctrl-C ends it, and its tasks with it.
            asyncio.run(self._cells(client, on_cell))
        except nbclient_errors.CellExecutionError as error:
            say(str(error).rstrip())
            raise CodeError(f"{self.where} failed", f"{error.ename}: {error.evalue}") from error
        except nbclient_errors.CellTimeoutError as error:
            why = f"took longer than {client.timeout} s"
            raise CodeError(f"{self.where} {why}", why, running=True) from error
        except nbclient_errors.DeadKernelError as error:
            raise DeadKernelError(f"{self.name}: the kernel died in {self.where}") from error
        finally:
            client.set_widgets_metadata()
            self._save()

    def _set_parameters(self, kernel_name: str, language: str) -> None:
        """Add a cell that sets the parameters."""
        from papermill.exceptions import PapermillException
        from papermill.iorw import load_notebook_node
        from papermill.parameterize import parameterize_notebook

        try:
            self._nb = parameterize_notebook(
                load_notebook_node(self.name),
                self._parameters,
                kernel_name=kernel_name,
                language=language,
            )
        except PapermillException as error:  # it does not know every language
            raise UsageError(f"{self.name}: -p is not possible here: {error}") from error

    async def _cells(self, client: NotebookClient, on_cell: OnCell) -> None:
        client.kc.allow_stdin = False  # nobody is asked while a notebook is executed
        for index, cell in enumerate(self._nb.cells):
            self.where = f"cell {index + 1}"
            on_cell(index + 1, len(self._nb.cells))
            await client.async_execute_cell(
                cell, index, execution_count=client.code_cells_executed + 1
            )

    def _save(self) -> None:
        import nbformat

        text = nbformat.writes(self._nb)
        replace(self._destination, text if text.endswith("\n") else text + "\n")
        say(f"wrote {self._destination}")
