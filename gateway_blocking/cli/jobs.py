"""What ``jupyter gateway run`` executes: a notebook or a script, on a kernel that is ready."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import BlockingGatewayKernelClient
from ..errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayError,
    GatewayTimeout,
    KernelGone,
)
from ..locks import Lock
from .errors import FAILED, CodeError, UsageError
from .notebooks import read_notebook, write_notebook
from .terminal import echo, renderer

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from traitlets.config import Config

__all__ = ["Job", "Notebook", "OnCell", "Outcome", "Script", "Stopped", "parameter_warnings"]

OnCell = Callable[[int, int], None]
"""Told of each cell that begins: its number, from 1, and how many there are; 0 for a script."""

_INFO_TIMEOUT = 60.0
_DEATH_TIMEOUT = 1.0  # seconds to hear how a kernel ended: that is known, or it is not
_SILENT = logging.getLogger(f"{__name__}.silent")  # for nbclient: we tell what it would log
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


_SUCCESS = ("", "0", "None")  # arguments of sys.exit(), as the text of a SystemExit


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
                f"connection to the gateway lost{self._in_cell}: {error}"
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
    def _in_cell(self) -> str:
        return f" in {self.where}" if self.where else ""

    def _kernel_death(self, error: DeadKernelError) -> DeadKernelError:
        """Return the error that says what became of the kernel, and where."""
        if isinstance(error, KernelGone):
            return KernelGone(
                f"the gateway does not have the kernel any more{self._in_cell}: it was shut down or"
                " culled, or the gateway was restarted"
            )
        return DeadKernelError(
            f"the kernel died{self._in_cell}: out of memory, perhaps; the gateway's log says more"
        )

    def _note_lost_output(self, kc: BlockingGatewayKernelClient, msg_id: str) -> None:
        """Note what is missing of the output of an execution."""
        missing = kc.missing_messages(msg_id)
        if missing != 0 and kc.connection_slot.may_lack_output(msg_id):
            least = f"at least {missing} messages are missing"
            what = "messages may be missing" if missing is None else least
            self.lost_output.append(f"{self.where}: {what}" if self.where else what)


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
    timeout : float, optional
        Seconds that it may take.
    heading : str
        What stands above its traceback.
    """

    def __init__(
        self,
        name: str,
        code: str,
        kernel_name: str,
        *,
        allow_stdin: bool,
        timeout: float | None = None,
        heading: str = "",
    ) -> None:
        super().__init__(name, kernel_name, Path.cwd())  # as for `python FILE`
        self._code = code
        self._allow_stdin = allow_stdin
        self._timeout = timeout
        self._heading = heading
        self._exited = False

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        on_cell(0, 0)
        try:
            message = kc.execute_interactive(
                self._code,
                output_hook=self._show,
                allow_stdin=self._allow_stdin,
                timeout=self._timeout,
            )
        except GatewayTimeout as error:
            if self._timeout is None:
                raise
            why = f"took longer than {self._timeout:g} s"
            raise CodeError(why, why, running=True) from error
        self._note_lost_output(kc, message["parent_header"]["msg_id"])
        reply = message["content"]
        if reply["status"] == "error" and reply["ename"] == "SystemExit":
            self._exit(str(reply["evalue"]))
        elif reply["status"] != "ok":
            raise CodeError("", f"{reply.get('ename', 'aborted')}: {reply.get('evalue', '')}")

    def _exit(self, argument: str) -> None:
        """Return what ``sys.exit(argument)`` means: a number is a status, all else a message."""
        if argument in _SUCCESS:
            return
        if not argument.lstrip("-").isdigit():
            echo(argument)
        raise CodeError("", f"SystemExit: {argument}")

    def _show(self, message: dict[str, Any]) -> None:
        if self._exited:  # by sys.exit(), on which IPython comments
            return
        if message["msg_type"] == "error":
            self._exited = message["content"]["ename"] == "SystemExit"
            if self._heading and not self._exited:
                echo(self._heading)
        if not self._exited:
            renderer.render(message)


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
        self._nb, self.repaired = read_notebook(source)
        own = self._nb.metadata.get("kernelspec", {}).get("name")
        super().__init__(str(source), kernel_name or own or "python3", source.absolute().parent)
        self._source, self._destination = source, destination
        self._parameters = parameters
        self._config = config

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        from nbclient import NotebookClient

        km: Any = kc.parent  # its manager
        info = kc.kernel_info(reply=True, timeout=_INFO_TIMEOUT)["content"]
        if self._parameters:
            self._set_parameters(km.kernel_name, info["language_info"]["name"])
        self._nb.metadata["language_info"] = info["language_info"]
        client = NotebookClient(self._nb, km=km, config=self._config, log=_SILENT)
        client.kc = kc
        self._watch_output(client)
        with self._saved(client):
            self._execute_all(client, kc, on_cell)

    def _execute_all(
        self, client: NotebookClient, kc: BlockingGatewayKernelClient, on_cell: OnCell
    ) -> None:
        from nbclient import exceptions as nbclient_errors

        try:
            # An event loop of this call: a Ctrl-C ends it, and its tasks with it.
            asyncio.run(self._cells(client, on_cell))
        except nbclient_errors.CellExecutionError as error:
            if error.ename == "SystemExit" and error.evalue in _SUCCESS:
                return  # as for a script, and for papermill
            renderer.render_traceback(
                f"{self.name}: {self.where}:\n{str(error).rstrip()}"
            )  # at once: others speak, too
            raise CodeError(f"{self.where} failed", f"{error.ename}: {error.evalue}") from error
        except nbclient_errors.CellTimeoutError as error:
            why = f"took longer than {client.timeout} s"
            raise CodeError(f"{self.where} {why}", why, running=True) from error
        except nbclient_errors.DeadKernelError as error:
            raise _how_it_died(kc) from error

    def _watch_output(self, client: NotebookClient) -> None:
        """Note after each cell whether its output came."""
        from nbclient.util import run_hook

        theirs = client.on_cell_executed

        async def on_cell_executed(execute_reply: Any = None, **kwargs: Any) -> None:
            msg_id = ((execute_reply or {}).get("parent_header") or {}).get("msg_id")
            if msg_id:
                self._note_lost_output(client.kc, msg_id)
            await run_hook(theirs, execute_reply=execute_reply, **kwargs)

        client.on_cell_executed = on_cell_executed

    def _set_parameters(self, kernel_name: str, language: str) -> None:
        """Add a cell that sets the parameters."""
        from papermill.exceptions import PapermillException
        from papermill.iorw import load_notebook_node
        from papermill.log import logger
        from papermill.parameterize import parameterize_notebook

        for warning in parameter_warnings(self._nb.cells, self._parameters):
            echo(f"{self.name}: {warning}")
        logger.setLevel(logging.ERROR)  # it says the same, of a file that it does not name
        try:
            # From what was read here: papermill's own reading does not know a byte order mark.
            self._nb = parameterize_notebook(
                load_notebook_node(self._nb),
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

    @contextmanager
    def _saved(self, client: NotebookClient) -> Iterator[None]:
        """Write the notebook at the end of the ``with``, also if that ends by an error.

        If it then cannot be written, this is told, and the error is raised all the same.
        """
        try:
            yield
        except BaseException:
            try:
                self._save(client)
            except Exception as failure:
                echo(f"{self.name}: {failure}")
            raise
        self._save(client)

    def _save(self, client: NotebookClient) -> None:
        client.set_widgets_metadata()
        write_notebook(self._nb, self._destination, source=self._source)
        echo(f"wrote {self._destination}")


def _how_it_died(kc: BlockingGatewayKernelClient) -> DeadKernelError:
    """Return what is known of the end of a kernel that nbclient found dead."""
    try:
        kc.kernel_info(reply=True, timeout=_DEATH_TIMEOUT)
    except DeadKernelError as error:
        return error
    except GatewayError:
        pass
    return DeadKernelError("the kernel died")


def parameter_warnings(cells: Sequence[Mapping[str, Any]], given: Iterable[str]) -> list[str]:
    """Return warnings of parameters that may have no effect on a notebook.

    Parameters
    ----------
    cells : sequence of mapping
        The notebook's.
    given : iterable of str
        The names of the parameters.
    """
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    warnings = [
        f"-p {name} has no effect: no cell has a variable of this name"
        for name in given
        if not any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", source) for source in code)
    ]
    tagged = any("parameters" in _tags(cell) for cell in cells)
    if not tagged and not warnings:
        warnings.append(
            'no cell is tagged "parameters": -p comes before the first cell, and a cell that sets'
            " the same variable wins"
        )
    return warnings


def _tags(cell: Mapping[str, Any]) -> Any:
    tags = cell.get("metadata", {}).get("tags")
    return tags if isinstance(tags, list) else []
