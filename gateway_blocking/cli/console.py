"""``jupyter gateway console``: jupyter_console's prompt, for a kernel behind a gateway."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import GatewayError
from ..manager import BlockingGatewayKernelManager
from .command import KernelCommand
from .errors import OK, Signal, UsageError
from .terminal import echo

__all__ = ["ConsoleCommand"]


class ConsoleCommand(KernelCommand):
    """``jupyter gateway console``."""

    name = "jupyter-gateway-console"
    description = """
    Type code at a prompt, and have it executed on a kernel behind a gateway.

    Usage: jupyter gateway console [OPTIONS]

    The prompt is jupyter_console's: Tab completes, Ctrl-C interrupts what the kernel executes,
    "exit" or Ctrl-D ends it. The kernel is a new one, which is shut down at the end, or the one of
    --kernel-id. If the gateway starts it again after it died, or the connection was lost meanwhile,
    the prompt goes on. Options of jupyter_console can be set by their full name, such as
    --ZMQTerminalInteractiveShell.editing_mode=vi

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, and no --kernel-id, one is
    started on this machine and stopped at the end.

    The exit status says how it ended:

        0    as you wanted
        2    the command was not understood, --kernel-id stands for no kernel or for several,
             there is no terminal, or jupyter_console is not installed
        3    the gateway: not reached, refused, or the kernel died or did not start
    """
    examples = """\
jupyter gateway console
jupyter gateway console --kernel=ir
jupyter gateway console --kernel-id=1f3a
"""

    def run(self) -> int:
        """Prompt, until the person has enough."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("there is no terminal; jupyter gateway exec - executes what is piped")
        try:
            from .shell import Shell
        except ModuleNotFoundError as error:
            raise UsageError(
                'this needs jupyter_console: pip install "gateway-blocking[console]"'
            ) from error
        failure: BaseException | None = None
        with self.open_kernel() as (km, kc):
            shell = Shell.instance(parent=self, manager=km, client=kc, confirm_exit=km.owned_kernel)
            shell.show_banner()
            try:
                with _ctrl_c_interrupts(shell, km):
                    shell.mainloop()
            except (GatewayError, Signal) as error:
                if shell.is_executing:
                    raise
                failure = error  # no reason to interrupt what others execute on the kernel
        if failure is not None:
            raise failure
        if not km.owned_kernel:
            echo(f"kernel {km.kernel_id} is left running")
        return OK


@contextmanager
def _ctrl_c_interrupts(shell: Any, km: BlockingGatewayKernelManager) -> Iterator[None]:
    """Meanwhile a Ctrl-C interrupts the kernel; at the prompt the terminal sends none."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not shell.is_executing:
            raise KeyboardInterrupt
        try:
            km.interrupt_kernel()
        except GatewayError as error:
            echo(f"not interrupted: {error}")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
