"""``jupyter gateway start``, ``stop``, ``interrupt`` and ``restart``: kernels that stay."""

from __future__ import annotations

import sys
from pathlib import Path

from traitlets import Bool

from ..errors import GatewayError, GatewayHTTPError, NoSuchKernel
from ..escape import printable
from ..launch import choose_kernel_id
from ..rest import GatewayREST
from .command import FLAGS, Command
from .errors import OK, UsageError
from .kernel_lookup import find_kernel
from .mine import forget, recall, remember
from .terminal import say, write

__all__ = ["InterruptCommand", "RestartCommand", "StartCommand", "StopCommand"]


class StartCommand(Command):
    """``jupyter gateway start``."""

    name = "jupyter-gateway-start"
    description = """
    Start a kernel on the gateway, write its id, and leave it running.

    Usage: jupyter gateway start [OPTIONS] [NAME]

    NAME is a kernelspec, by default the gateway's own default. The kernel runs until somebody
    stops it, or the gateway removes it for being idle. It is one of those that
    "jupyter gateway stop --all-mine" stops.

    The exit status says how it went:

        0    the kernel was started
        2    the command was not understood
        3    the gateway: not configured, not reached, or it did not start the kernel
    """
    examples = """\
jupyter gateway start python3
id=$(jupyter gateway start); jupyter gateway run --kernel-id=$id load.py
"""

    def run(self) -> int:
        """Start the kernel."""
        if len(self.extra_args) > 1:
            raise UsageError("one kernel at a time: give one NAME, or none")
        name = self.extra_args[0] if self.extra_args else None
        with self.rest() as rest:
            wanted = choose_kernel_id()  # by which it is found if the answer is lost
            env = {**rest.gateway.kernel_env(cwd=str(Path.cwd())), "KERNEL_ID": wanted}
            kernel_id = rest.start_kernel(name, env, kernel_id=wanted)["id"]
            remember(rest.gateway.url, kernel_id)
        write(sys.stdout, f"{printable(kernel_id)}\n")
        return OK


class StopCommand(Command):
    """``jupyter gateway stop``."""

    name = "jupyter-gateway-stop"
    description = """
    Stop kernels.

    Usage: jupyter gateway stop [OPTIONS] ID...
           jupyter gateway stop [OPTIONS] --all-mine

    An ID may be the beginning of a kernel's id, if no other begins so. A kernel that cannot be
    stopped does not keep the others from it.

    The exit status says how it went:

        0    the kernels were stopped; with --all-mine some may have been gone before
        2    the command was not understood, or an ID stands for no kernel or for several
        3    the gateway: not configured, not reached, or it did not stop a kernel
    """
    examples = """\
jupyter gateway stop 1f3a
jupyter gateway stop --all-mine
"""

    all_mine = Bool(
        help='Stop what you started with "start" or "run --keep" on this machine and gateway.'
    ).tag(config=True)

    flags = {  # noqa: RUF012 - as in every traitlets application
        **FLAGS,
        "all-mine": ({"StopCommand": {"all_mine": True}}, all_mine.help),
    }

    def run(self) -> int:
        """Stop them."""
        if self.all_mine and self.extra_args:
            raise UsageError("give either --all-mine or kernels, not both")
        if not self.all_mine and not self.extra_args:
            raise UsageError("which kernel? see --help")
        self._status = OK
        with self.rest() as rest:
            given = recall(rest.gateway.url) if self.all_mine else self.extra_args
            if not given:
                say("you have no kernels on this gateway")
            # All are found before any is stopped: what stood for two kernels is not to
            # stand for the one that is left.
            found = [self._find(rest, text) for text in given]
            for kernel_id in dict.fromkeys(filter(None, found)):
                self._stop(rest, kernel_id)
        return self._status

    def _find(self, rest: GatewayREST, text: str) -> str | None:
        """Return the kernel's ID; say so and return None if there is no such kernel."""
        try:
            return (rest.get_kernel(text) if self.all_mine else find_kernel(rest, text))["id"]
        except (GatewayHTTPError, UsageError) as error:
            self._failed(rest, text, error)
            return None

    def _stop(self, rest: GatewayREST, kernel_id: str) -> None:
        try:
            rest.delete_kernel(kernel_id)
        except GatewayError as error:
            self._failed(rest, kernel_id, error)
        else:
            forget(rest.gateway.url, kernel_id)
            say(f"kernel {kernel_id} is stopped")

    def _failed(self, rest: GatewayREST, kernel_id: str, error: Exception) -> None:
        if isinstance(error, NoSuchKernel) and self.all_mine:
            forget(rest.gateway.url, kernel_id)
            say(f"kernel {kernel_id} was gone already")
        else:
            self._status = max(self._status, self.explain(error))


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
            kernel_id = find_kernel(rest, self.given_id())["id"]
            rest.interrupt_kernel(kernel_id)
        say(f"kernel {kernel_id} is interrupted")
        return OK


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
            kernel_id = find_kernel(rest, self.given_id())["id"]
            rest.restart_kernel(kernel_id)
        say(f"kernel {kernel_id} is restarted")
        return OK
