"""``jupyter gateway interrupt``."""

from __future__ import annotations

from .command import Command
from .errors import OK
from .kernel_lookup import find_kernel
from .terminal import echo

__all__ = ["InterruptCommand"]


class InterruptCommand(Command):
    """``jupyter gateway interrupt``."""

    name = "jupyter-gateway-interrupt"
    description = """
    Interrupt what a kernel executes, as Ctrl-C does. Its variables stay.

    Usage: jupyter gateway interrupt [OPTIONS] ID

    ID may be the beginning of the kernel's id, if no other begins so.

    The exit status says how it went:

        0    the kernel was interrupted
        2    the command was not understood, or ID stands for no kernel or for several
        3    the gateway: not configured, not reached, or it did not do it
    """
    examples = "jupyter gateway interrupt 1f3a\n"

    def run(self) -> int:
        """Interrupt it."""
        with self.rest() as rest:
            kernel_id = find_kernel(rest, self.kernel_id_argument())["id"]
            rest.interrupt_kernel(kernel_id)
        echo(f"kernel {kernel_id} is interrupted")
        return OK
