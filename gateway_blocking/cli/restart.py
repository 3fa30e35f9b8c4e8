"""``jupyter gateway restart``."""

from __future__ import annotations

from .command import Command
from .errors import OK
from .kernel_lookup import find_kernel
from .terminal import echo

__all__ = ["RestartCommand"]


class RestartCommand(Command):
    """``jupyter gateway restart``."""

    name = "jupyter-gateway-restart"
    description = """
    Restart a kernel: it keeps its id, and loses its variables and what it was executing.

    Usage: jupyter gateway restart [OPTIONS] ID

    ID may be the beginning of the kernel's id, if no other begins so.

    The exit status says how it went:

        0    the kernel was restarted
        2    the command was not understood, or ID stands for no kernel or for several
        3    the gateway: not configured, not reached, or it did not do it
    """
    examples = "jupyter gateway restart 1f3a\n"

    def run(self) -> int:
        """Restart it."""
        with self.rest() as rest:
            kernel_id = find_kernel(rest, self.kernel_id_argument())["id"]
            rest.restart_kernel(kernel_id)
        echo(f"kernel {kernel_id} is restarted")
        return OK
