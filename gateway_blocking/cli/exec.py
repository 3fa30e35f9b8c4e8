"""``jupyter gateway exec``."""

from __future__ import annotations

from .command import KernelCommand
from .errors import FAILED, OK, CodeError, UsageError
from .files import read_standard_input
from .script_job import ScriptJob

__all__ = ["ExecCommand"]


class ExecCommand(KernelCommand):
    """``jupyter gateway exec``."""

    name = "jupyter-gateway-exec"
    description = """
    Execute a snippet of code on a kernel, and show its output as it arrives.

    Usage: jupyter gateway exec [OPTIONS] CODE

    The kernel is a new one, which is shut down afterwards, or the one of --kernel-id, which keeps
    its variables. If CODE is "-", the code is read from standard input; otherwise input() in the
    code reads from there.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. If none is given, and no --kernel-id, a gateway is
    started on this machine and stopped at the end.

    The exit status:

        0    the code was executed
        1    the code raised an error
        2    the command was not understood, or --kernel-id matches no kernel, or several
        3    the gateway cannot be reached or refused, or the kernel died or did not start
        130  you pressed Ctrl-C; the code was interrupted, and a new kernel was shut down
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
            raise UsageError("give CODE as one argument; see --help")
        [code] = self.extra_args
        piped = code == "-"
        script = ScriptJob(
            "CODE",
            read_standard_input() if piped else code,
            self.kernel_name,
            allow_stdin=not piped,
        )
        try:
            with self.open_kernel() as (_km, kc):
                script.execute(kc, lambda number, total: None)
        except CodeError:  # the kernel's traceback was shown
            return FAILED
        return OK
