"""``jupyter gateway attach``."""

from __future__ import annotations

import signal

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, KernelRestarted
from .command import OutputCommand
from .errors import Signal
from .kernel_lookup import find_kernel
from .terminal import echo, renderer

__all__ = ["AttachCommand"]


class AttachCommand(OutputCommand):
    """``jupyter gateway attach``."""

    name = "jupyter-gateway-attach"
    description = """
    Show what a kernel prints, whoever had it execute what, until Ctrl-C.

    Usage: jupyter gateway attach [OPTIONS] ID

    ID may be the beginning of the kernel's id, if no other begins so. What was printed before is
    not shown. The kernel notices nothing of it: to interrupt it, use "jupyter gateway interrupt".

    The exit status says how it ended:

        2    the command was not understood, or ID stands for no kernel or for several
        3    the kernel died or was shut down; or the gateway: not configured, not reached, lost
        130  Ctrl-C, as for "tail -f"; the kernel goes on
    """
    examples = "jupyter gateway attach 1f3a\n"

    def run(self) -> int:
        """Show it."""
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
                    f"kernel {kernel_id} was restarted (it died, or somebody did it), without its"
                    " variables"
                ) from error
            except Signal as stop:
                if stop.number != signal.SIGINT:
                    raise
                return 128 + stop.number
