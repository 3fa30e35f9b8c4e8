"""A script as ``jupyter gateway run`` executes it, on a kernel that is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..client import BlockingGatewayKernelClient
from ..errors import (
    GatewayTimeout,
)
from .errors import CodeError
from .jobs import Job, OnCell
from .terminal import echo, renderer

__all__ = ["ScriptJob"]

_SUCCESS = ("", "0", "None")  # arguments of sys.exit(), as the text of a SystemExit


class ScriptJob(Job):
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
