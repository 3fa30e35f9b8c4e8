"""The application ``jupyter gateway``: its subcommands, and how it ends."""

from __future__ import annotations

import io
import os
import signal
import sys
from difflib import get_close_matches
from types import FrameType

from jupyter_core.application import NoStart, base_flags

from .command import Command
from .errors import OK, USAGE, Signal, UsageError

__all__ = ["GatewayApp", "main"]


# Windows has no SIGHUP, but tells by SIGBREAK that the console is being closed.
_ENDING = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
]


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
        except SystemExit as stop:  # traitlets says 1 for a bad option, which means more here
            sys.exit(USAGE if stop.code else OK)
        app.start()
    except NoStart:  # how jupyter_core ends what it did itself, such as --generate-config
        pass
    except (Exception, KeyboardInterrupt) as error:
        command = app.subapp if isinstance(app.subapp, Command) else app
        status = command.report_error(error)
    sys.exit(status)


def _let_signals_raise() -> None:
    """Let a signal unwind the stack, so that no kernel is left behind."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Signal(number)

    for number in _ENDING:
        # Not where the parent wants it ignored, as nohup does.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


def _open_missing_streams() -> None:
    """Open the null device in place of a stream that is closed, as after ``>&-``.

    Otherwise the next file or socket would get its number, and what is written to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _let_all_text_be_written() -> None:
    """Write as an escape what a stream's encoding (cp1252, ASCII) does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class GatewayApp(Command):
    """``jupyter gateway``: only its subcommands do something."""

    name = "jupyter-gateway"
    description = "Work with kernels behind a Jupyter gateway."
    subcommand_description = "More about a command says: jupyter gateway COMMAND --help"
    flags = {name: base_flags[name] for name in ("debug", "generate-config", "y")}  # noqa: RUF012
    aliases = {"config": "JupyterApp.config_file"}  # noqa: RUF012
    subcommands = {  # noqa: RUF012 - as in every traitlets application
        "run": ("gateway_blocking.cli.run.RunCommand", "Execute notebooks and scripts."),
        "kernels": (
            "gateway_blocking.cli.kernels.KernelsCommand",
            "List the kernels that run on the gateway.",
        ),
        "kernelspecs": (
            "gateway_blocking.cli.kernelspecs.KernelspecsCommand",
            "List the kinds of kernels that it can start.",
        ),
        "status": (
            "gateway_blocking.cli.status.StatusCommand",
            "Tell whether the gateway can be used, and if not, what to do.",
        ),
        "start": (
            "gateway_blocking.cli.start.StartCommand",
            "Start a kernel, and leave it running.",
        ),
        "stop": ("gateway_blocking.cli.stop.StopCommand", "Stop kernels."),
        "interrupt": (
            "gateway_blocking.cli.interrupt.InterruptCommand",
            "Interrupt what a kernel executes.",
        ),
        "restart": ("gateway_blocking.cli.restart.RestartCommand", "Restart a kernel."),
        "exec": ("gateway_blocking.cli.exec.ExecCommand", "Execute a snippet of code."),
        "attach": ("gateway_blocking.cli.attach.AttachCommand", "Show what a kernel prints."),
        "console": ("gateway_blocking.cli.console.ConsoleCommand", "Type code at a prompt."),
    }

    def run(self) -> int:
        """Tell what there is."""
        if self.extra_args:
            name = self.extra_args[0]
            if name in self.subcommands:
                raise UsageError(f"options come after the command: jupyter gateway {name} ...")
            meant = get_close_matches(name, self.subcommands, 1)
            hint = f"is it {meant[0]!r}? " if meant else ""
            raise UsageError(f"there is no command {name!r}; {hint}see --help")
        self.print_help()
        return USAGE
