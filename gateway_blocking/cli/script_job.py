"""The execution of a script, whose output is shown as it arrives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..client import BlockingGatewayKernelClient
from ..errors import GatewayTimeout
from ..messages import Message
from ..timeouts import KERNEL_INFO_TIMEOUT
from .errors import FAILED, INTERRUPTED, CodeError, UsageError
from .jobs import Job, OnCell
from .program import Program
from .terminal import echo, renderer

__all__ = ["ScriptJob"]


class ScriptJob(Job):
    """Script to execute, whose output is shown as it arrives.

    Parameters
    ----------
    name : str
        Name of the file, used in messages.
    code : str
        Text of the script.
    kernel_name : str
        Kernelspec to execute the code on.
    allow_stdin : bool
        Whether the code may ask for input.
    program : Program
        How a Python kernel executes the code.
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
        program: Program,
        timeout: float | None = None,
        heading: str = "",
    ) -> None:
        super().__init__(name, kernel_name, Path.cwd())  # as for `python FILE`
        self._code = code
        self._allow_stdin = allow_stdin
        self._program = program
        self._timeout = timeout
        self._heading = heading
        self._exited = False  # by sys.exit()

    def _execute(self, kc: BlockingGatewayKernelClient, on_cell: OnCell) -> None:
        on_cell(0, 0)
        program = self._program if _is_python(kc) else None
        if self._program.arguments and not program:
            raise UsageError(
                f"{self.name} cannot be given arguments: only Python scripts have them, and the"
                f" kernel {self.kernel_name} is for another language"
            )
        try:
            message = kc.execute_interactive(
                program.code(self._code) if program else self._code,
                store_history=program is None,  # the history is of cells
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
        if reply["status"] == "ok":
            return
        name, text = _name_of_error(reply), str(reply.get("evalue", ""))
        status = INTERRUPTED if program and name == "KeyboardInterrupt" else FAILED
        if name == "SystemExit" and text.isdecimal():  # the kernel has shown any other argument
            raise CodeError("", f"exit status {text}", status=int(text))
        raise CodeError("", f"{name}: {text}", status=status)

    def _show(self, message: Message) -> None:
        """Show a message of the kernel, except the traceback and the comment after sys.exit()."""
        if self._exited:
            return
        if message["msg_type"] == "error":
            self._exited = _name_of_error(message["content"]) == "SystemExit"
            if self._heading and not self._exited:
                echo(self._heading)
        if not self._exited:
            renderer.render(message)


def _name_of_error(content: dict[str, Any]) -> str:
    """Return the name of the exception that a kernel reports."""
    name = str(content.get("ename", "aborted"))
    return re.sub(r"^<class '(?:[\w.]*\.)?(\w+)'>$", r"\1", name)  # xeus-python sends its repr


def _is_python(kc: BlockingGatewayKernelClient) -> bool:
    """Return True if the language of the kernel is Python."""
    info = kc.kernel_info(reply=True, timeout=KERNEL_INFO_TIMEOUT)["content"]
    return bool(info.get("language_info", {}).get("name") == "python")
