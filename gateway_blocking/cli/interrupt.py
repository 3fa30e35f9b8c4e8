"""``jupyter gateway interrupt``."""

from __future__ import annotations

from .command import OneKernelCommand
from .errors import OK
from .kernel_lookup import find_kernel
from .terminal import echo

__all__ = ["InterruptCommand"]


class InterruptCommand(OneKernelCommand):
    """``jupyter gateway interrupt``."""

    name = "jupyter-gateway-interrupt"
    description = """
    Interrupt the code that a kernel executes, as Ctrl-C does. The kernel keeps its variables.

    Usage: jupyter gateway interrupt [OPTIONS] ID
           jupyter gateway interrupt [OPTIONS] --last

    ID may be the beginning of the kernel's ID, if no other ID begins so, or its name.

    The exit status:

        0    the kernel was interrupted
        2    the command was not understood, or ID matches no kernel, or several
        3    the gateway is not configured, cannot be reached, or refused
    """
    examples = "jupyter gateway interrupt 1f3a\n"

    def run(self) -> int:
        """Interrupt the kernel."""
        with self.rest() as rest:
            kernel_id = find_kernel(rest, self.kernel_id_argument())["id"]
            rest.interrupt_kernel(kernel_id)
        echo(f"kernel {kernel_id} was interrupted")
        return OK
