"""The routes of a bridge: which front end gets which reply, and the bridge's own messages (no I/O).

The sources of the protocol facts are jupyter_client's documentation ("Messaging in Jupyter") and
the Jupyter Enhancement Proposal 65, which describes ``iopub_welcome``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import DeadKernelError, GatewayError
from ..escape import printable

__all__ = [
    "Route",
    "RouteTable",
    "UNREAD_TEXT",
    "asks_for_restart",
    "end_messages",
    "error_content",
    "failure_messages",
    "lost_output_text",
    "text_for_front_end",
    "topic",
]

_REMEMBERED = 10_000  # requests whose reply was sent


class Route(NamedTuple):
    """The way back to the front end that sent a request."""

    channel: str
    """``"shell"`` or ``"control"``."""
    identities: tuple[bytes, ...]
    """The routing prefix of the request; the front end's stdin socket has the same one."""
    header: dict[str, Any]
    """The header of the request, the parent header of its replies."""


class RouteTable:
    """The routes of the requests that front ends sent.

    A request without a reply is always kept.  Of those whose reply was sent, the identities are
    kept until there are 10,000 of them, because a thread of a kernel may ask for input after its
    reply.
    """

    def __init__(self) -> None:
        self._open: dict[str, Route] = {}
        self._closed: dict[str, tuple[bytes, ...]] = {}

    def add(self, route: Route) -> None:
        """Add a request that is passed on to the kernel."""
        self._open[route.header["msg_id"]] = route

    def close(self, msg_id: str) -> tuple[bytes, ...] | None:
        """Return the identities of a request whose reply is about to be sent; None if unknown."""
        if (route := self.fail(msg_id)) is None:
            return self._closed.get(msg_id)
        return route.identities

    def fail(self, msg_id: str) -> Route | None:
        """Return the route of a request that gets no reply; None if it has one, or is unknown."""
        route = self._open.pop(msg_id, None)
        if route is not None:
            self._closed[msg_id] = route.identities
            if len(self._closed) > _REMEMBERED:
                del self._closed[next(iter(self._closed))]
        return route

    def open_requests(self) -> list[Route]:
        """Return the routes of the requests without a reply, in order."""
        return list(self._open.values())

    def find(self, msg_id: str) -> tuple[bytes, ...] | None:
        """Return the identities of the front end that sent a request; None if it is unknown."""
        route = self._open.get(msg_id)
        return self._closed.get(msg_id) if route is None else route.identities


def topic(message: Mapping[str, Any]) -> bytes:
    """Return the topic of a message on iopub, which front ends subscribe to by its beginning."""
    return f"kernel.{message['header'].get('session', '')}.{message['msg_type']}".encode()


def asks_for_restart(content: bytes) -> bool:
    """Return True if the content of a shutdown_request says that the kernel is started again."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and bool(values.get("restart"))


def text_for_front_end(error: GatewayError) -> str:
    """Return an error's text, without the advice of how a program goes on after a kernel's end."""
    return printable(error.args[0]) if isinstance(error, DeadKernelError) else str(error)


def error_content(error: GatewayError) -> dict[str, Any]:
    """Return an error as the content of a message."""
    name, text = type(error).__name__, text_for_front_end(error)
    return {"ename": name, "evalue": text, "traceback": [f"{name}: {text}"]}


def failure_messages(
    header: dict[str, Any], error: GatewayError, execution_count: int
) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the messages that end a request whose reply does not come.

    Parameters
    ----------
    header : dict
        Header of the request.
    error : GatewayError
        Why no reply comes.
    execution_count : int
        Number of the last cell whose execution has begun; 0 if there is none.

    Returns
    -------
    list of (str, str, dict)
        Channel (``"reply"``: the one that the request came on), message type and content of each.
        The last is the ``idle`` that ends the output, so that no cell seems to run for ever.
    """
    failure = error_content(error)
    msg_type = str(header["msg_type"])
    messages: list[tuple[str, str, dict[str, Any]]] = []
    if msg_type == "execute_request":
        messages.append(("iopub", "error", failure))
    if msg_type == "kernel_info_request":  # an error as its reply would be taken for an answer
        text = failure["traceback"][0] + "\n"
        messages.append(("iopub", "stream", {"name": "stderr", "text": text}))
    elif msg_type.endswith("_request"):
        reply = msg_type.removesuffix("_request") + "_reply"
        content = {"status": "error", **failure, **_REPLY_FIELDS.get(msg_type, {})}
        if msg_type == "execute_request":
            content["execution_count"] = execution_count
        messages.append(("reply", reply, content))
    return [*messages, ("iopub", "status", {"execution_state": "idle"})]


# Fields that front ends read whatever the status is: a KeyError in a handler of Qt ends qtconsole.
_REPLY_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "complete_request": {"matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}},
    "history_request": {"history": []},
    "inspect_request": {"found": False, "data": {}, "metadata": {}},
}


def end_messages(
    header: Mapping[str, Any], error: GatewayError
) -> list[tuple[str, dict[str, Any]]]:
    """Return the output that ends a request when the kernel or the connection has ended.

    The request gets no reply: a front end tells a dead kernel by the end of its process.  One that
    does not watch the process would show the request as running for ever.

    Parameters
    ----------
    header : dict
        Header of the request.
    error : GatewayError
        Why the kernel or the connection has ended.

    Returns
    -------
    list of (str, dict)
        Message type and content of each.
    """
    messages: list[tuple[str, dict[str, Any]]] = []
    if header["msg_type"] == "execute_request":
        text = printable(f"[gateway] {text_for_front_end(error)}") + "\n"
        messages.append(("stream", {"name": "stderr", "text": text}))
    return [*messages, ("status", {"execution_state": "idle"})]


def lost_output_text(missing: int) -> str:
    """Return the line below a cell whose output is incomplete."""
    return printable(f"[gateway] at least {missing} messages of this output were lost") + "\n"


UNREAD_TEXT = "[gateway] a front end does not read its messages: it lacks some of this output\n"
"""Line below a cell whose output did not go to all front ends."""
