"""``jupyter gateway exec`` and ``attach``: have code executed, and see what a kernel prints."""

from __future__ import annotations

import signal

from ..client import BlockingGatewayKernelClient
from ..errors import DeadKernelError, KernelRestarted
from .command import OnKernel, ShowsOutput
from .errors import FAILED, OK, CodeError, Signal, UsageError
from .files import read_standard_input
from .jobs import Script
from .kernel_lookup import find_kernel
from .terminal import say, show

__all__ = ["AttachCommand", "ExecCommand"]


class ExecCommand(OnKernel):
    """``jupyter gateway exec``."""

    name = "jupyter-gateway-exec"
    description = """
    Execute a snippet of code on a kernel, and show its output as it comes.

    Usage: jupyter gateway exec [OPTIONS] CODE

    The kernel is a new one, which is shut down afterwards, or the one of --kernel-id, which keeps
    its variables. CODE "-" is read from standard input; otherwise input() reads from there.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, and no --kernel-id, one is
    started on this machine and stopped at the end.

    The exit status says how it went:

        0    the code was executed
        1    it raised an error
        2    the command was not understood, or --kernel-id stands for no kernel or for several
        3    the gateway: not reached, refused, or the kernel died or did not start
        130  interrupted with Ctrl-C, and with it the code; a new kernel was shut down
    """
    examples = """\
jupyter gateway exec "print(6 * 7)"
jupyter gateway exec --kernel=ir "summary(cars)"
jupyter gateway exec --kernel-id=1f3a "model.score(x, y)"
jupyter gateway exec --kernel-id=1f3a - < patch.py
"""

    def run(self) -> int:
        """Execute the code."""
        if len(self.extra_args) != 1:
            raise UsageError("what to execute? give CODE as one argument; see --help")
        [code] = self.extra_args
        piped = code == "-"
        script = Script(
            "CODE",
            read_standard_input() if piped else code,
            self.kernel_name,
            allow_stdin=not piped,
        )
        try:
            with self.chosen_kernel() as (_km, kc):
                script.execute(kc, lambda number, total: None)
        except CodeError:  # it has said itself what went wrong
            return FAILED
        return OK


class AttachCommand(ShowsOutput):
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
        given = self.given_id()
        with self.rest() as rest:
            kernel_id = find_kernel(rest, given)["id"]
            client = BlockingGatewayKernelClient(
                kernel_id=kernel_id, gateway=rest.gateway, rest=rest, config=self.config
            )
            try:
                with client:
                    say(f"watching kernel {kernel_id}; Ctrl-C ends that, and not the kernel")
                    while True:
                        show(client.get_iopub_msg())
            except KernelRestarted as error:
                raise DeadKernelError(
                    f"kernel {kernel_id} was restarted (it died, or somebody did it), without its"
                    " variables"
                ) from error
            except Signal as stop:
                if stop.number != signal.SIGINT:
                    raise
                return 128 + stop.number
