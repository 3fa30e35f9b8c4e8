"""``jupyter gateway restart``."""

from __future__ import annotations

from .command import OneKernelCommand
from .errors import OK
from .kernel_lookup import find_kernel
from .terminal import echo

__all__ = ["RestartCommand"]


class RestartCommand(OneKernelCommand):
    """``jupyter gateway restart``."""

    name = "jupyter-gateway-restart"
    description = """
    Restart a kernel. It keeps its ID, and loses its variables and the code it was executing.

    Usage: jupyter gateway restart [OPTIONS] ID
           jupyter gateway restart [OPTIONS] --last

    ID may be the beginning of the kernel's ID, if no other ID begins so, or its name.

    The exit status:

        0    the kernel was restarted
        2    the command was not understood, or ID matches no kernel, or several
        3    the gateway is not configured, cannot be reached, or refused
    """
    examples = "jupyter gateway restart 1f3a\n"

    def run(self) -> int:
        """Restart the kernel."""
        with self.rest() as rest:
            kernel_id = find_kernel(rest, self.kernel_id_argument())["id"]
            rest.restart_kernel(kernel_id)
        echo(f"kernel {kernel_id} was restarted")
        return OK
