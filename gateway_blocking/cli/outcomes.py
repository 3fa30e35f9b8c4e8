"""Outcomes of the files of ``jupyter gateway run``: their table, and the meaning of errors."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    KernelGone,
    MessageTooLarge,
    WireError,
)
from .errors import FAILED, GATEWAY, USAGE, CodeError, UsageError
from .jobs import Job, Outcome
from .terminal import table

_LONG = 40  # characters; a shorter reason is repeated

__all__ = ["affects_every_file", "outcome_of_error", "reason_in_short", "summary_table"]


def affects_every_file(error: Exception, *, executed: bool, kernel_started: bool) -> bool:
    """Return True if the next file would fail with the same error.

    Parameters
    ----------
    error : Exception
        The error that a file failed with.
    executed : bool
        Whether the kernel of the file was ready.  The error then belongs to this file, such as a
        lost reply.
    kernel_started : bool
        Whether the gateway has started a kernel for any file.  It then accepts the credentials,
        and a 403 concerns this kernel only.
    """
    if executed or isinstance(error, GatewayConnectionClosed):
        return False
    if isinstance(error, GatewayAuthError):
        return error.status_code == 401 or not kernel_started
    return isinstance(error, GatewayConnectionError)


def reason_in_short(error: Exception) -> str:
    """Return the reason of an error that affects every file.

    The message with its whole text is the last one above the table.
    """
    if isinstance(error, GatewayAuthError):
        return f"refused with status {error.status_code}"
    return "the gateway cannot be reached"


def outcome_of_error(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a job that ended with an error."""
    if isinstance(error, CodeError):
        return Outcome(error.status, "failed", error.why)
    if isinstance(error, MessageTooLarge | WireError):  # no gateway could execute this code
        return Outcome(FAILED, "failed", str(error))
    if job.is_executed and isinstance(error, GatewayError):
        return Outcome(GATEWAY, "executed", "its kernel was not shut down")
    if isinstance(error, UsageError):
        return Outcome(USAGE, "not done", str(error))
    if isinstance(error, KernelGone):
        return Outcome(GATEWAY, "gone", "shut down or culled, or the gateway was restarted")
    if isinstance(error, DeadKernelError):
        return Outcome(GATEWAY, "died", "the kernel died")
    if isinstance(error, GatewayConnectionClosed):
        return Outcome(GATEWAY, "gateway", f"connection to the gateway lost{job.in_cell}")
    if isinstance(error, GatewayError):
        return Outcome(GATEWAY, "gateway", str(error))
    return Outcome(FAILED, "failed", f"{type(error).__name__}: {error}")


def summary_table(jobs: Sequence[Job]) -> str:
    """Return a table of all files; a long reason that several files share appears once."""
    rows = []
    first: dict[str, str] = {}
    for job in jobs:
        outcome = job.outcome
        where = job.where if outcome.status else ""
        seconds = f"{outcome.seconds:.1f} s" if outcome.seconds else ""
        why = " ".join(outcome.why.split())
        other = first.setdefault(why, job.name)
        if other != job.name and len(why) > _LONG:
            why = f"as {other}"
        rows.append([job.name, outcome.result, where, seconds, why])
    return table(["file", "result", "where", "time", "why"], rows)
