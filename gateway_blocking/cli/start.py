"""``jupyter gateway start``."""

from __future__ import annotations

import sys
from pathlib import Path

from ..escape import printable
from ..launch import choose_kernel_id
from .command import Command
from .errors import OK, UsageError
from .started import record_kernel
from .terminal import write

__all__ = ["StartCommand"]


class StartCommand(Command):
    """``jupyter gateway start``."""

    name = "jupyter-gateway-start"
    description = """
    Start a kernel on the gateway, write its ID, and leave it running.

    Usage: jupyter gateway start [OPTIONS] [NAME]

    NAME is a kernelspec, by default the gateway's own default. The kernel runs until it is
    stopped, or until the gateway removes it because it was idle for too long.
    "jupyter gateway stop --all-mine" stops all kernels that you started so.

    The exit status:

        0    the kernel was started
        2    the command was not understood
        3    the gateway is not configured, cannot be reached, or did not start the kernel
    """
    examples = """\
jupyter gateway start python3
id=$(jupyter gateway start); jupyter gateway run --kernel-id=$id load.py
"""

    def run(self) -> int:
        """Start the kernel."""
        if len(self.extra_args) > 1:
            raise UsageError("give one NAME, or none: one kernel is started")
        name = self.extra_args[0] if self.extra_args else None
        with self.rest() as rest:
            # With this ID the kernel is found if the response is lost.
            wanted = choose_kernel_id()
            env = {**rest.gateway.kernel_env(cwd=str(Path.cwd())), "KERNEL_ID": wanted}
            kernel_id = rest.start_kernel(name, env, kernel_id=wanted)["id"]
            record_kernel(str(rest.gateway.url), kernel_id)
        write(sys.stdout, f"{printable(kernel_id)}\n")
        return OK
