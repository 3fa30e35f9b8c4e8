"""The errors and warnings that tell a client what became of its requests (no I/O)."""

from __future__ import annotations

from .advice import for_lost_output
from .errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayError,
    KernelGone,
    KernelRestarted,
    NoSuchKernel,
    ReplyLost,
)
from .liveness import KernelStatus
from .requests_table import Request, RequestTable

__all__ = [
    "connection_lost",
    "death",
    "execution_outcome",
    "missing_output",
    "not_connected",
    "reply_lost",
    "stopped",
    "unreadable_reply",
]


def execution_outcome(
    request: Request, repeated: bool, reconnected: bool = True
) -> tuple[bool | None, str]:
    """Return what is known of a request that gets no reply any more.

    Parameters
    ----------
    request : Request
        The request.
    repeated : bool
        Whether it was sent again.
    reconnected : bool
        Whether the connection was lost since it was sent.

    Returns
    -------
    (bool or None, str)
        Whether it was executed, None if that cannot be known; and the reason.
    """
    if not reconnected:
        if request.idle:
            return None, (
                "the kernel is done with it, and sent none, as ipykernel does if it is interrupted"
                " at the wrong moment: it may have been executed, in part or not at all"
            )
        if request.seen:
            return True, "the kernel executed it, once, and a message came that could not be read"
        return None, "nothing was heard of it, and a message came that could not be read"
    if request.seen:
        return True, "the kernel executed it, once, and its reply was lost with the connection"
    if repeated:
        return True, (
            "the kernel executed it, once: it ignored it when it was sent again; what it printed"
            " and its reply were lost with the connection"
        )
    return None, (
        "it is unknown whether the kernel executed it: nothing was heard of it, and as this kernel"
        " may execute a repeated request twice, it was not sent again"
    )


def reply_lost(name: str, request: Request, executed: bool | None, why: str) -> ReplyLost:
    """Return the error of a request that gets no reply, although the kernel is done with it."""
    return ReplyLost(
        f"no reply to the {request.msg_type} {request.msg_id} to kernel {name}: {why}",
        msg_id=request.msg_id,
        executed=executed,
    )


def unreadable_reply(name: str, channel: str, msg_id: str, msg_type: str, why: str) -> ReplyLost:
    """Return the error of a request that waits for a message whose content is unreadable.

    Parameters
    ----------
    name, msg_id : str
        IDs of the kernel and of the request.
    channel, msg_type : str
        Channel and type of the message: a reply, or a question for input.
    why : str
        Why the message cannot be read.
    """
    text = f"no reply to the request {msg_id} to kernel {name}: the kernel "
    if channel == "stdin":
        text += (
            f"executes it, and waits for an answer to a question that cannot be read ({why});"
            " interrupt_kernel() of the manager ends that"
        )
    else:
        text += f"executed it, once, but its {msg_type} cannot be read: {why}"
    return ReplyLost(text, msg_id=msg_id, executed=True)


def missing_output(name: str, msg_id: str, requests: RequestTable, limit: str) -> str:
    """Return a line for the log: output of an execution is missing, or may be.

    Parameters
    ----------
    name, msg_id : str
        IDs of the kernel and of the execution.
    requests : RequestTable
        Knows how many messages are missing, and which could not be read.
    limit : str
        Name of the gateway's limit that was exceeded; "" if none is known.
    """
    missing, why = requests.missing(msg_id), requests.why_unreadable(msg_id)
    how_many = "may be missing: perhaps" if missing is None else f"is missing: at least {missing}"
    what = f"came, but cannot be read: {why}" if why else f"did not come; {for_lost_output(limit)}"
    return f"kernel {name}: output {how_many} messages of the execution {msg_id} {what}"


def death(name: str, status: KernelStatus, text: str, *, was_heard: bool) -> DeadKernelError:
    """Return the error of every call that waits for a kernel which will not reply.

    Parameters
    ----------
    name : str
        ID of the kernel.
    status : KernelStatus
        Status of the kernel at its end.
    text : str
        Text of the error; "" for the usual one.
    was_heard : bool
        Whether the kernel ever said anything.
    """
    if status is KernelStatus.RESTARTED:
        advice = "" if text else "call wait_for_ready() to continue"
        return KernelRestarted(text or f"kernel {name} {status.value}", advice=advice)
    if status is KernelStatus.GONE and not was_heard:
        text = text or (
            f"kernel {name} is gone before it said anything: it died while starting, most likely,"
            " or was shut down or culled; the gateway's log says more"
        )
    kind = KernelGone if status is KernelStatus.GONE else DeadKernelError
    return kind(text or f"kernel {name} {status.value}")


def stopped(name: str) -> GatewayConnectionClosed:
    """Return the error of a call that waits while its client stops the channels."""
    return GatewayConnectionClosed(f"the channels of kernel {name} were stopped")


def connection_lost(name: str, error: BaseException, *, was_open: bool) -> GatewayError:
    """Return the error of a call that waits while the connection ends because of `error`."""
    why, advice = _cause_and_advice(error)
    if was_open:
        text = (
            f"the connection to kernel {name} was lost: {why}; what was asked of the kernel"
            " before may have been executed or not"
        )
    else:
        text = f"kernel {name} was not connected to: {why}"
    closed = GatewayConnectionClosed(text, advice=advice)
    # The error of the last attempt, if there is one: `error` only adds how many there were.
    cause = error.__cause__
    closed.__cause__ = cause if isinstance(cause, GatewayError) else error
    return closed


def not_connected(name: str, failure: BaseException | None) -> GatewayConnectionClosed:
    """Return the error of a call that sends on a connection which `failure` has ended."""
    why, advice = _cause_and_advice(failure)
    if not isinstance(failure, NoSuchKernel):  # there is nothing to connect to
        advice = "; ".join(filter(None, (advice, "start_channels() opens a new one")))
    text = f"cannot send a message to kernel {name}: the connection is closed ({why})"
    closed = GatewayConnectionClosed(text, advice=advice)
    closed.__cause__ = failure
    return closed


def _cause_and_advice(error: BaseException | None) -> tuple[str, str]:
    if isinstance(error, GatewayError):
        return str(error.args[0]), error.advice
    return str(error), ""
