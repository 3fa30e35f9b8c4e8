"""The execution of a notebook, which is written with its outputs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, GatewayError
from ..manager import BlockingGatewayKernelManager
from ..messages import Message
from ..timeouts import DEATH_NOTICE_TIMEOUT, KERNEL_INFO_TIMEOUT
from .errors import CodeError, UsageError
from .jobs import SUCCESSFUL_EXITS, Job, OnCell
from .notebook_file import read_notebook, write_notebook
from .parameters import ParameterValue, parameter_warnings
from .terminal import echo, renderer

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from traitlets.config import Config

__all__ = ["NotebookJob"]

_SILENT = logging.getLogger(f"{__name__}.silent")  # for nbclient: its errors are reported here
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class NotebookJob(Job):
    """A notebook to execute with nbclient, and to write with its outputs.

    Parameters
    ----------
    source, destination : Path
        Files to read the notebook from, and to write it to.
    kernel_name : str
        Kernelspec to use instead of the notebook's own, if not empty.
    parameters : mapping
        Variables that a cell of their own sets.
    config : Config
        Configuration of nbclient.
    """

    def __init__(
        self,
        source: Path,
        destination: Path,
        kernel_name: str,
        parameters: Mapping[str, ParameterValue],
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

        km = kc.parent
        assert isinstance(km, BlockingGatewayKernelManager)
        info = kc.kernel_info(reply=True, timeout=KERNEL_INFO_TIMEOUT)["content"]
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
            # An event loop of this call only: a Ctrl-C ends the loop, and its tasks with it.
            asyncio.run(self._execute_cells(client, on_cell))
        except nbclient_errors.CellExecutionError as error:
            if error.ename == "SystemExit" and error.evalue in SUCCESSFUL_EXITS:
                return  # as for a script, and for papermill
            # One call, because other threads write, too.
            renderer.render_traceback(f"{self.name}: {self.where}:\n{str(error).rstrip()}")
            raise CodeError(f"{self.where} failed", f"{error.ename}: {error.evalue}") from error
        except nbclient_errors.CellTimeoutError as error:
            why = f"took longer than {client.timeout} s"
            raise CodeError(f"{self.where} {why}", why, running=True) from error
        except nbclient_errors.DeadKernelError as error:
            raise _cause_of_death(kc) from error

    def _watch_output(self, client: NotebookClient) -> None:
        """Check after each cell whether its output is complete."""
        from nbclient.util import run_hook

        hook = client.on_cell_executed

        async def on_cell_executed(execute_reply: Message | None = None, **kwargs: object) -> None:
            parent = execute_reply.get("parent_header") if execute_reply else None
            if msg_id := (parent or {}).get("msg_id"):
                self._note_lost_output(client.kc, msg_id)
            await run_hook(hook, execute_reply=execute_reply, **kwargs)

        client.on_cell_executed = on_cell_executed

    def _set_parameters(self, kernel_name: str, language: str) -> None:
        """Add a cell that sets the parameters."""
        from papermill.exceptions import PapermillException
        from papermill.iorw import load_notebook_node
        from papermill.log import logger
        from papermill.parameterize import parameterize_notebook

        for warning in parameter_warnings(self._nb.cells, self._parameters):
            echo(f"{self.name}: {warning}")
        logger.setLevel(logging.ERROR)  # its own warnings do not name the file
        try:
            # From the notebook in memory: papermill cannot read a file with a byte order mark.
            self._nb = parameterize_notebook(
                load_notebook_node(self._nb),
                self._parameters,
                kernel_name=kernel_name,
                language=language,
            )
        except PapermillException as error:  # it does not support every language
            raise UsageError(f"{self.name}: -p is not possible here: {error}") from error

    async def _execute_cells(self, client: NotebookClient, on_cell: OnCell) -> None:
        client.kc.allow_stdin = False  # a notebook never asks for input
        for index, cell in enumerate(self._nb.cells):
            self.where = f"cell {index + 1}"
            on_cell(index + 1, len(self._nb.cells))
            await client.async_execute_cell(
                cell, index, execution_count=client.code_cells_executed + 1
            )

    @contextmanager
    def _saved(self, client: NotebookClient) -> Iterator[None]:
        """Write the notebook at the end of the ``with`` block, also if the block fails.

        If both fail, the error of writing is reported, and the error of the block is raised.
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


def _cause_of_death(kc: BlockingGatewayKernelClient) -> DeadKernelError:
    """Return the error that says how a kernel ended that nbclient found dead."""
    try:
        kc.kernel_info(reply=True, timeout=DEATH_NOTICE_TIMEOUT)
    except DeadKernelError as error:
        return error
    except GatewayError:
        pass
    return DeadKernelError("the kernel died")
