"""``jupyter gateway start``."""

from __future__ import annotations

import sys
from pathlib import Path

from traitlets import Unicode

from ..escape import printable
from ..launch import choose_kernel_id
from ..rest import GatewayREST
from .command import ALIASES, Command
from .errors import OK, UsageError
from .kernel_lookup import check_kernel_label, find_labelled
from .started import check_record, forget_kernel, record_kernel, recorded_names
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

    With --name=trainer, the other commands accept "trainer" in place of the ID, for you on this
    machine. A name can be given again when its kernel is gone.

    The exit status:

        0    the kernel was started
        2    the command was not understood, or the name is in use or looks like an ID
        3    the gateway is not configured, cannot be reached, or did not start the kernel
    """
    examples = """\
jupyter gateway start python3
jupyter gateway start --name=trainer; jupyter gateway run --kernel-id=trainer load.py
"""

    label = Unicode(
        None,
        allow_none=True,
        help="Name for the kernel, which other commands accept in place of its ID.",
    ).tag(config=True)

    aliases = {**ALIASES, "name": "StartCommand.label"}  # noqa: RUF012

    def run(self) -> int:
        """Start the kernel."""
        if len(self.extra_args) > 1:
            raise UsageError("give one NAME, or none: one kernel is started")
        name = self.extra_args[0] if self.extra_args else None
        with self.rest() as rest:
            if self.label is not None:
                self._check_label(rest, self.label)
            # With this ID the kernel is found if the response is lost.
            wanted = choose_kernel_id()
            env = {**rest.gateway.kernel_env(cwd=str(Path.cwd())), "KERNEL_ID": wanted}
            kernel_id = rest.start_kernel(name, env, kernel_id=wanted)["id"]
            record_kernel(str(rest.gateway.url), kernel_id, self.label or "")
            try:
                write(sys.stdout, f"{printable(kernel_id)}\n")
            except OSError:  # the caller gets no ID, and would not stop the kernel
                rest.delete_kernel(kernel_id)
                forget_kernel(str(rest.gateway.url), kernel_id)
                raise
        return OK

    def _check_label(self, rest: GatewayREST, label: str) -> None:
        """Raise UsageError if the name cannot be given; forget a kernel that had it and is gone."""
        check_kernel_label(label)
        check_record()
        if model := find_labelled(rest, label):
            raise UsageError(
                f"--name={label}: kernel {printable(model['id'])} has this name and still runs;"
                f" jupyter gateway stop {label} stops it"
            )
        url = str(rest.gateway.url)
        for kernel_id, name in recorded_names(url).items():
            if name == label:
                forget_kernel(url, kernel_id)
