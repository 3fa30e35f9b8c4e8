"""``jupyter gateway console``: jupyter_console's prompt, for a kernel behind a gateway."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from traitlets import Unicode

from ..errors import GatewayError
from ..manager import BlockingGatewayKernelManager
from .command import KERNEL_ID_ADVICE, KernelCommand
from .errors import OK, Signal, UsageError
from .notebook_log import NotebookLog
from .terminal import echo

if TYPE_CHECKING:
    from .shell import Shell

__all__ = ["ConsoleCommand"]


class ConsoleCommand(KernelCommand):
    """``jupyter gateway console``."""

    name = "jupyter-gateway-console"
    description = """
    Type code at a prompt, and execute it on a kernel behind a gateway.

    Usage: jupyter gateway console [OPTIONS]

    The prompt is the one of jupyter_console: Tab completes code, Ctrl-C interrupts the kernel,
    "exit" or Ctrl-D ends the prompt. The kernel is a new one, which is shut down at the end, or
    the one of --kernel-id. The prompt continues if the connection was lost, or if the gateway
    restarted the kernel after it died. Options of jupyter_console can be set by their full name,
    such as --ZMQTerminalInteractiveShell.editing_mode=vi

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. If none is given, and no --kernel-id, a gateway is
    started on this machine and stopped at the end.

    The exit status:

        0    you ended the prompt
        2    the command was not understood, --kernel-id matches no kernel, or several, there is
             no terminal, or jupyter_console is not installed
        3    the gateway cannot be reached or refused, or the kernel died or did not start
    """
    examples = """\
jupyter gateway console
jupyter gateway console --kernel=ir
jupyter gateway console --kernel-id=1f3a
jupyter gateway console --append-to=notes.ipynb
"""

    append_to = Unicode(
        help="Notebook to append each cell and its outputs to; made if there is none."
    ).tag(config=True)

    aliases = {**KernelCommand.aliases, "append-to": "ConsoleCommand.append_to"}  # noqa: RUF012

    def run(self) -> int:
        """Show the prompt until the user ends it."""
        self.reject_arguments(KERNEL_ID_ADVICE)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError(
                "there is no terminal; jupyter gateway exec - executes code from a pipe"
            )
        try:
            from .shell import Shell
        except ModuleNotFoundError as error:
            raise UsageError(
                'the console needs jupyter_console: pip install "gateway-blocking[console]"'
            ) from error
        log = NotebookLog(Path(self.append_to)) if self.append_to else None
        failure: BaseException | None = None
        with self.open_kernel() as (km, kc):
            shell = Shell.instance(parent=self, manager=km, client=kc, confirm_exit=km.owned_kernel)
            if log is not None:
                shell.on_cell = partial(_append, log)
            shell.show_banner()
            try:
                with _ctrl_c_interrupts(shell, km):
                    shell.mainloop()
            except (GatewayError, Signal) as error:
                if shell.is_executing:
                    raise
                failure = error  # raised later, so that code of other clients is not interrupted
        if failure is not None:
            raise failure
        if not km.owned_kernel:
            echo(f"kernel {km.kernel_id} is left running")
        return OK


def _append(log: NotebookLog, cell: dict[str, Any]) -> None:
    """Append a cell to the notebook; the prompt continues if it cannot be written."""
    try:
        log.append(cell)
    except UsageError as error:
        echo(str(error))


@contextmanager
def _ctrl_c_interrupts(shell: Shell, km: BlockingGatewayKernelManager) -> Iterator[None]:
    """Let a Ctrl-C interrupt the kernel; at the prompt the terminal sends no signal for it."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not shell.is_executing:
            raise KeyboardInterrupt
        try:
            km.interrupt_kernel()
        except GatewayError as error:
            echo(f"the kernel was not interrupted: {error}")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
