"""The execution of a script, whose output is shown as it arrives."""

from __future__ import annotations

from pathlib import Path

from ..client import BlockingGatewayKernelClient
from ..errors import GatewayTimeout
from ..messages import Message
from .errors import CodeError
from .jobs import SUCCESSFUL_EXITS, Job, OnCell
from .terminal import echo, renderer

__all__ = ["ScriptJob"]


class ScriptJob(Job):
    """Code to execute, whose output is shown as it arrives.

    Parameters
    ----------
    name : str
        Name of the file, or of other code, used in messages.
    code : str
        Code to execute, all at once.
    kernel_name : str
        Kernelspec to execute the code on.
    allow_stdin : bool
        Whether the code may ask for input.
    timeout : float, optional
        Seconds that the code may take; without a limit by default.
    heading : str
        Line to show above a traceback, if several files are executed.
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
        self._exited = False  # by sys.exit()

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
            self._handle_exit(str(reply["evalue"]))
        elif reply["status"] != "ok":
            raise CodeError("", f"{reply.get('ename', 'aborted')}: {reply.get('evalue', '')}")

    def _handle_exit(self, argument: str) -> None:
        """Raise CodeError if ``sys.exit(argument)`` means failure; show a text as argument."""
        if argument in SUCCESSFUL_EXITS:
            return
        if not argument.lstrip("-").isdigit():
            echo(argument)
        raise CodeError("", f"SystemExit: {argument}")

    def _show(self, message: Message) -> None:
        """Show a message of the kernel, except the traceback and the comment after sys.exit()."""
        if self._exited:
            return
        if message["msg_type"] == "error":
            self._exited = message["content"]["ename"] == "SystemExit"
            if self._heading and not self._exited:
                echo(self._heading)
        if not self._exited:
            renderer.render(message)
