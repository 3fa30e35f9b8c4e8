"""``jupyter gateway exec``."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import cast

from traitlets import Bool, Float, Unicode

from ..collector import Output
from ..errors import DeadKernelError
from ..escape import plain_text
from ..execution import Execution
from ..messages import Message
from .command import KERNEL_ID_ADVICE, KernelCommand
from .errors import FAILED, GATEWAY, OK, UsageError, kernel_death
from .files import read_standard_input, read_text
from .notebook_log import NotebookLog
from .terminal import echo, renderer, write

__all__ = ["ExecCommand", "exit_status", "without_frames_of_input"]

_INPUT = re.compile(
    r"File .*[/\\]ipykernel[/\\]kernelbase\.py:\d+, in Kernel\.(raw_input|getpass|_input_request)\("
)


class ExecCommand(KernelCommand):
    """``jupyter gateway exec``."""

    name = "jupyter-gateway-exec"
    description = """
    Execute a snippet of code on a kernel, and show its output as it arrives.

    Usage: jupyter gateway exec [OPTIONS] CODE

    The kernel is a new one, which is shut down afterwards, or the one of --kernel-id, which keeps
    its variables. If CODE is "-", the code is read from standard input, and with --file from a
    file; otherwise input() in the code reads from standard input.

    With --json, standard output has one JSON object, and nothing else: the documentation
    describes it (howto/results). The code cannot ask for input then.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. If none is given, and no --kernel-id, a gateway is
    started on this machine and stopped at the end.

    The exit status, also with --json:

        0    the code was executed
        1    the code raised an error, or did not end within --timeout
        2    the command was not understood, a file cannot be read or written, or --kernel-id
             matches no kernel, or several
        3    the gateway cannot be reached or refused, or the kernel died or did not start
        N    the code called sys.exit(N)
        130  you pressed Ctrl-C; the code was interrupted, and a new kernel was shut down
    """
    examples = """\
jupyter gateway exec "print(6 * 7)"
jupyter gateway exec --kernel=ir "summary(cars)"
jupyter gateway exec --kernel-id=1f3a "model.score(x, y)"
jupyter gateway exec --kernel-id=1f3a - < patch.py
jupyter gateway exec --json --timeout=60 --file=step.py | jq .text
jupyter gateway exec --kernel-id=1f3a --append-to=log.ipynb "model.summary()"
"""

    as_json = Bool(help="Write the result as one JSON object, when the code has ended.").tag(
        config=True
    )
    timeout = Float(
        None,
        allow_none=True,
        help="Seconds until the code must have ended; then it is interrupted. By default no limit.",
    ).tag(config=True)
    file = Unicode(help="File with the code, in UTF-8.").tag(config=True)
    append_to = Unicode(
        help="Notebook to append the code and its outputs to, as a cell; made if there is none."
    ).tag(config=True)
    images = Unicode(help="Folder to save images and HTML in; made if there is none.").tag(
        config=True
    )

    aliases = {  # noqa: RUF012
        **KernelCommand.aliases,
        "timeout": "ExecCommand.timeout",
        "file": "ExecCommand.file",
        "append-to": "ExecCommand.append_to",
        "images": "ExecCommand.images",
    }
    flags = {**KernelCommand.flags, "json": ({"ExecCommand": {"as_json": True}}, as_json.help)}  # noqa: RUF012

    def run(self) -> int:
        """Execute the code."""
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"--timeout must be above 0 seconds, got {self.timeout:g}")
        code = self._code()
        log = NotebookLog(Path(self.append_to)) if self.append_to else None
        if self.images:
            _make_folder(Path(self.images))
        stopped: BaseException | None = None
        with self.open_kernel() as (_km, kc):
            try:
                done = kc.run(
                    code,
                    timeout=self.timeout,
                    allow_stdin=not (self.as_json or self.extra_args == ["-"]),
                    on_output=None if self.as_json else _Display(),
                )
            except (Exception, KeyboardInterrupt) as error:
                stopped = error  # raised later, because run() has interrupted the code already
        if stopped is not None:
            raise stopped
        self._write(done, log)
        return exit_status(done)

    def _code(self) -> str:
        """Return the code: of the argument, of --file, or of standard input."""
        if self.file and self.extra_args:
            raise UsageError(f"give either CODE or --file=FILE, not both; {KERNEL_ID_ADVICE}")
        if self.file:
            return read_text(Path(self.file))
        if not self.extra_args:
            raise UsageError("give CODE as one argument, or --file=FILE; see --help")
        if len(self.extra_args) > 1:
            raise UsageError(
                f"give CODE as one argument, in quotes, got {len(self.extra_args)} arguments;"
                f" {KERNEL_ID_ADVICE}"
            )
        [code] = self.extra_args
        return read_standard_input() if code == "-" else str(code)

    def _write(self, done: Execution, log: NotebookLog | None) -> None:
        """Write the result where the options say, and on standard error what went wrong."""
        if self.as_json:
            write(sys.stdout, json.dumps(done.to_dict(), allow_nan=False) + "\n")
        elif done.status == "error" and done.error and done.error.ename == "SystemExit":
            if _exit_code(done.error.evalue) is None:
                echo(done.error.evalue)
        elif not (done.ok or done.status == "error"):
            echo(f"{self.typed_name}: {_failure(done)}")
        if log is not None:
            log.append(done.to_cell())
        if self.images:
            try:
                for path in done.save(self.images):
                    echo(f"saved {path}")
            except OSError as error:
                raise UsageError(f"cannot write into {self.images}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    """Make a folder before code is executed whose images would be lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write into {folder}: it is not writable")


def exit_status(done: Execution) -> int:
    """Return the exit status of a command whose code ended so."""
    if done.ok:
        return OK
    if done.status in ("died", "lost"):
        return GATEWAY
    if done.status == "error" and done.error and done.error.ename == "SystemExit":
        code = _exit_code(done.error.evalue)
        return FAILED if code is None else code
    return FAILED


def _exit_code(argument: str) -> int | None:
    """Return the exit status that ``sys.exit(argument)`` means; None if it is a text."""
    if argument in ("", "None", "False"):
        return OK
    if argument == "True":
        return FAILED
    return int(argument) & 0xFF if argument.lstrip("-").isdecimal() else None


def _failure(done: Execution) -> str:
    """Return the reason why the code did not end by itself."""
    if isinstance(done.exception, DeadKernelError):
        return str(kernel_death(done.exception))
    return done.detail


def without_frames_of_input(traceback: list[str]) -> list[str]:
    """Return the parts of a traceback without those of ipykernel's own ``input()``.

    ipykernel replaces Python's, which is written in C and has no frames.
    """
    return [part for part in traceback if not _INPUT.match(plain_text(part))]


class _Display:
    """Shows each output as it comes, except what an interactive kernel says of sys.exit()."""

    def __init__(self) -> None:
        self._has_exited = False

    def __call__(self, output: Output) -> None:
        kind = output["output_type"]
        if output["output_type"] == "error":
            self._has_exited |= output["ename"] == "SystemExit"
            output = {**output, "traceback": without_frames_of_input(output["traceback"])}
        if not self._has_exited:
            content = {**output, "transient": {"display_id": output.get("display_id")}}
            renderer.render(cast(Message, {"msg_type": kind, "content": content}))
