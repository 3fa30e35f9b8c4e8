"""How a command ends: its exit statuses, and the errors that stand for them."""

from __future__ import annotations

import signal

from ..errors import GatewayError

__all__ = [
    "FAILED",
    "GATEWAY",
    "OK",
    "USAGE",
    "CodeError",
    "Signal",
    "UsageError",
    "may_still_execute",
]

OK, FAILED, USAGE, GATEWAY = 0, 1, 2, 3


class UsageError(Exception):
    """The command cannot do what it was asked to."""


class CodeError(Exception):
    """The code failed, or took too long.

    Parameters
    ----------
    text : str
        What a line is to say of it; empty where all is said.
    why : str
        The same for a table.
    running : bool
        Whether the kernel still runs it.
    """

    def __init__(self, text: str, why: str, running: bool = False) -> None:
        super().__init__(text)
        self.why, self.running = why, running


class Signal(KeyboardInterrupt):
    """A signal that asks us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def may_still_execute(error: BaseException | None) -> bool:
    """Whether code of ours may still run on the kernel when this is raised."""
    if isinstance(error, CodeError):
        return error.running
    if isinstance(error, UsageError):  # of a file, say; but perhaps on the way out
        error = error.__context__
        while isinstance(error, OSError):
            error = error.__context__
        return isinstance(
            error, CodeError | GatewayError | KeyboardInterrupt
        ) and may_still_execute(error)
    return True
