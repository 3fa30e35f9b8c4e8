"""``jupyter gateway attach``."""

from __future__ import annotations

import signal

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, KernelRestarted
from .command import OneKernelCommand, OutputCommand
from .errors import Signal
from .kernel_lookup import find_kernel
from .terminal import echo, renderer

__all__ = ["AttachCommand"]


class AttachCommand(OneKernelCommand, OutputCommand):
    """``jupyter gateway attach``."""

    name = "jupyter-gateway-attach"
    description = """
    Show the output of a kernel, no matter who runs the code, until Ctrl-C.

    Usage: jupyter gateway attach [OPTIONS] ID
           jupyter gateway attach [OPTIONS] --last

    ID may be the beginning of the kernel's ID, if no other ID begins so, or its name. Earlier
    output is not shown. The kernel is not affected: to interrupt it, use "jupyter gateway
    interrupt".

    The exit status:

        2    the command was not understood, or ID matches no kernel, or several
        3    the kernel died or was shut down; or the gateway is not configured, cannot be
             reached, or the connection was lost
        130  you pressed Ctrl-C; the kernel continues
    """
    examples = "jupyter gateway attach 1f3a\n"

    flags = {**OneKernelCommand.flags, **OutputCommand.flags}  # noqa: RUF012

    def run(self) -> int:
        """Show the output."""
        given = self.kernel_id_argument()
        with self.rest() as rest:
            kernel_id = find_kernel(rest, given)["id"]
            client = BlockingGatewayKernelClient(
                kernel_id=kernel_id, gateway=rest.gateway, rest=rest, config=self.config
            )
            try:
                with client:
                    echo(f"watching kernel {kernel_id}; Ctrl-C ends that, and not the kernel")
                    while True:
                        renderer.render(client.get_iopub_msg())
            except KernelRestarted as error:
                raise DeadKernelError(
                    f"kernel {kernel_id} was restarted, or crashed (out of memory, perhaps); its"
                    " variables are lost"
                ) from error
            except Signal as stop:
                if stop.number != signal.SIGINT:
                    raise
                return 128 + stop.number
