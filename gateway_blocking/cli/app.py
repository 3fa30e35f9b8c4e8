"""The application ``jupyter gateway``: its subcommands, signals, and the exit status."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

from jupyter_core.application import NoStart, base_flags

from ..signals import known_signals
from ..suggest import closest, suggestion
from .command import FLAGS, Command
from .errors import OK, USAGE, Signal, UsageError

__all__ = ["GatewayApp", "main"]


# Windows has no SIGHUP; it sends SIGBREAK when the console is closed.
_ENDING = known_signals("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def main(argv: list[str] | None = None) -> None:
    """Run ``jupyter gateway`` with these arguments, and exit."""
    _let_signals_raise()
    _open_missing_streams()
    _let_all_text_be_written()
    app = GatewayApp.instance()
    status: int = OK
    try:
        try:
            app.initialize(argv)
        except SystemExit as stop:  # traitlets exits with 1 for a bad option
            sys.exit(USAGE if stop.code else OK)
        app.start()
    except NoStart:  # jupyter_core did the work itself, such as --generate-config
        pass
    except (Exception, KeyboardInterrupt) as error:
        command = app.subapp if isinstance(app.subapp, Command) else app
        status = command.report_error(error)
    sys.exit(status)


def _let_signals_raise() -> None:
    """Let a signal raise an exception, so that the kernels are shut down."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Signal(number)

    for number in _ENDING:
        # A parent such as nohup may have the signal ignored, and it stays so.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


def _open_missing_streams() -> None:
    """Open the null device in place of a stream that is closed, as after ``>&-``.

    Otherwise the next file or socket would get the number of the stream, and its output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _let_all_text_be_written() -> None:
    """Write a character as an escape if the encoding of the stream (cp1252, ASCII) lacks it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class GatewayApp(Command):
    """``jupyter gateway`` without a subcommand: it shows its help.

    The table `subcommands` names the class and the summary of each subcommand.
    """

    name = "jupyter-gateway"
    description = "Work with kernels behind a Jupyter gateway."
    subcommand_description = "For help on a command: jupyter gateway COMMAND --help"
    flags = {**FLAGS, **{name: base_flags[name] for name in ("generate-config", "y")}}  # noqa: RUF012
    aliases = {"config": "JupyterApp.config_file"}  # noqa: RUF012
    subcommands = {  # noqa: RUF012 - as in every traitlets application
        "run": ("gateway_blocking.cli.run.RunCommand", "Execute notebooks and scripts."),
        "kernels": (
            "gateway_blocking.cli.kernels.KernelsCommand",
            "List the kernels that run on the gateway.",
        ),
        "kernelspecs": (
            "gateway_blocking.cli.kernelspecs.KernelspecsCommand",
            "List the kernelspecs: the kinds of kernels that the gateway can start.",
        ),
        "status": (
            "gateway_blocking.cli.status.StatusCommand",
            "Check whether the gateway can be used, and if not, say what to do.",
        ),
        "start": (
            "gateway_blocking.cli.start.StartCommand",
            "Start a kernel, and leave it running.",
        ),
        "stop": ("gateway_blocking.cli.stop.StopCommand", "Stop kernels."),
        "interrupt": (
            "gateway_blocking.cli.interrupt.InterruptCommand",
            "Interrupt the code that a kernel executes.",
        ),
        "restart": ("gateway_blocking.cli.restart.RestartCommand", "Restart a kernel."),
        "exec": ("gateway_blocking.cli.exec.ExecCommand", "Execute a snippet of code."),
        "bridge": (
            "gateway_blocking.cli.bridge.BridgeCommand",
            "Be a kernel of this machine for a front end.",
        ),
        "install": (
            "gateway_blocking.cli.install.InstallCommand",
            "Install the gateway's kernelspecs for the front ends of this machine.",
        ),
        "uninstall": (
            "gateway_blocking.cli.install.UninstallCommand",
            "Remove these kernelspecs.",
        ),
        "profile": (
            "gateway_blocking.cli.profile.ProfileCommand",
            "Keep the options of a gateway in a file.",
        ),
        "cp": ("gateway_blocking.cli.cp.CopyCommand", "Copy files to a kernel, or from one."),
        "attach": ("gateway_blocking.cli.attach.AttachCommand", "Show the output of a kernel."),
        "console": (
            "gateway_blocking.cli.console.ConsoleCommand",
            "Type code at a prompt.",
        ),
        "mcp": (
            "gateway_blocking.cli.mcp.McpCommand",
            "Give a language model a kernel: an MCP server.",
        ),
    }

    def run(self) -> int:
        """Show the help, or raise an error about an unknown subcommand."""
        if self.extra_args:
            name = self.extra_args[0]
            if name in self.subcommands:
                raise UsageError(f"options come after the command: jupyter gateway {name} ...")
            meant = closest(name, self.subcommands)
            hint = suggestion(meant)
            raise UsageError(f"there is no command {name!r}{hint}; see --help")
        self.print_help()
        return USAGE
