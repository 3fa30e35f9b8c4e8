"""Exit statuses of commands, and the errors that stand for them."""

from __future__ import annotations

import signal

from ..errors import DeadKernelError, GatewayError, KernelGone

__all__ = [
    "FAILED",
    "GATEWAY",
    "INTERRUPTED",
    "OK",
    "USAGE",
    "CodeError",
    "OutputError",
    "Signal",
    "UsageError",
    "kernel_death",
    "may_still_execute",
]

OK, FAILED, USAGE, GATEWAY = 0, 1, 2, 3
INTERRUPTED = 130  # 128 and the number of SIGINT


class UsageError(Exception):
    """Error of the caller: the command cannot do what its command line or a file asks for."""


class CodeError(Exception):
    """Failure of the executed code: it raised an error, or took too long.

    Parameters
    ----------
    text : str
        Message for standard error; empty if the failure was shown already.
    why : str
        Reason for the table of all files.
    running : bool
        Whether the kernel still executes the code.
    status : int
        Exit status of the command, which a script may choose.
    """

    def __init__(self, text: str, why: str, running: bool = False, *, status: int = FAILED) -> None:
        super().__init__(text)
        self.why, self.running, self.status = why, running, status


class OutputError(OSError):
    """Error of a standard stream that cannot be written, such as a file on a full disk.

    Parameters
    ----------
    name : str
        Name of the stream, such as "standard output".
    error : OSError
        Its error.
    """

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self._text = f"cannot write to {name}: {error.strerror}"

    def __str__(self) -> str:
        return self._text


class Signal(KeyboardInterrupt):
    """A signal that asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def kernel_death(error: DeadKernelError, where: str = "") -> DeadKernelError:
    """Return an error that says what happened to the kernel, in the words of a command.

    Parameters
    ----------
    error : DeadKernelError
        Error of the client, whose advice is for programs.
    where : str
        The cell as the end of a sentence, such as " in cell 3".
    """
    if isinstance(error, KernelGone):
        return KernelGone(
            f"the gateway does not have the kernel any more{where}: it was shut down or culled, or"
            " the gateway was restarted"
        )
    # A notebook rarely ends its kernel.
    why = "out of memory, perhaps" + ("" if where else ", or the code ended it, as os._exit() does")
    return DeadKernelError(f"the kernel died{where}: {why}; the gateway's log says more")


def may_still_execute(error: BaseException | None) -> bool:
    """Return True if the kernel may still execute our code after this error."""
    if isinstance(error, CodeError):
        return error.running
    if isinstance(error, UsageError):  # of a file that could not be written, perhaps after another
        error = error.__context__
        while isinstance(error, OSError):
            error = error.__context__
        ours = isinstance(error, CodeError | GatewayError | KeyboardInterrupt)
        return ours and may_still_execute(error)
    return True
