"""Calls of Python functions in a kernel, with nothing installed there and no trace left behind.

A call is a silent ``execute_request`` without code: its ``user_expressions`` hold one expression,
and the reply holds the result.  Requests and replies travel on ``shell``, where a gateway limits no
rate.  A kernel evaluates the expression without IPython's transformations of code, which would take
seconds for a large argument.
"""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from types import TracebackType
from typing import Any, Protocol

from .channels import Channel, Claim
from .connector import ConnectionSlot
from .deadline import Deadline
from .errors import ExecutionError, GatewayError, GatewayTimeout, ReplyLost
from .messages import Message

__all__ = ["CallingClient", "KernelCall", "KernelCalls", "answered_value", "literal_value"]

_NAME = "result"
_MOST_TRIES = 5  # of a call whose reply was lost, or that the kernel skipped


class CallingClient(Protocol):
    """The parts of a client that a call uses."""

    @property
    def shell_channel(self) -> Channel:
        """The channel of the request and its reply."""

    @property
    def iopub_channel(self) -> Channel:
        """The channel on which the kernel says that it is busy."""

    @property
    def connection_slot(self) -> ConnectionSlot:
        """The connection, which drops replies that no caller waits for."""


class KernelCalls:
    """Calls of the functions of one module, whose source is sent along.

    Any number of threads may use one object.

    Parameters
    ----------
    client : CallingClient
        The client, whose channels run.
    new_request : callable
        ``new_request(expressions)``, which returns a silent ``execute_request``.
    source : str
        Source of the functions, which use the standard library only, and of ``call(name, args)``.
        That calls one, and returns an object whose representation is JSON: see
        :func:`.kernel_files.call`.
    """

    def __init__(
        self,
        client: CallingClient,
        new_request: Callable[[dict[str, str]], Message],
        source: str,
    ) -> None:
        self._client, self._new_request, self._source = client, new_request, source

    def __call__(
        self, function: str, *args: Any, timeout: float | None = None, buffer: bytes | None = None
    ) -> Any:
        """Call a function, and return its result.

        Parameters
        ----------
        function : str
            Name of the function.
        *args
            Arguments, of the types that Python writes and reads as literals.
        timeout : float, optional
            Seconds to wait; by default as long as the kernel lives.
        buffer : bytes, optional
            Data to send with the request, which not every kernel gives to a function.

        Raises
        ------
        ExecutionError
            The function raised an exception.
        OSError
            The function raised one; the number and the text are its own.
        GatewayError
            There was no reply, or none in time (:exc:`.GatewayTimeout`).
        """
        deadline = Deadline(timeout)
        with self.start(function, *args, deadline=deadline, buffer=buffer) as call:
            return call.result(deadline)

    def start(
        self, function: str, *args: Any, deadline: Deadline, buffer: bytes | None = None
    ) -> KernelCall:
        """Return a call that has been sent in time, to be used as a context manager."""
        # The namespace of the functions is a new dict, so that the user's has no new name.
        scope = f"(lambda scope: exec({self._source!r}, scope) or scope)({{}})"
        arguments = "".join(f"{_literal(arg)}, " for arg in args)
        return self._evaluate(f"{scope}['call']({function!r}, ({arguments}))", deadline, buffer)

    def evaluate(self, expression: str, deadline: Deadline) -> Any:
        """Evaluate an expression in the user's namespace; return its value, a literal of Python.

        Raises
        ------
        ExecutionError
            The expression raised an exception.
        GatewayError
            There was no reply, or none in time (:exc:`.GatewayTimeout`).
        """
        with self._evaluate(expression, deadline) as call:
            text = call.text(deadline)
        with _readable():
            return literal_value(text)

    def _evaluate(
        self, expression: str, deadline: Deadline, buffer: bytes | None = None
    ) -> KernelCall:
        def new_request() -> Message:
            request = self._new_request({_NAME: expression})
            if buffer is not None:
                request["buffers"] = [memoryview(buffer)]
            return request

        call = KernelCall(self._client, new_request)
        try:
            call.send(deadline)
        except BaseException:
            call.release()
            raise
        return call


class KernelCall:
    """A call that was sent.

    A call must be such that it can be made again: if its reply is lost, that is done.
    """

    def __init__(self, client: CallingClient, new_request: Callable[[], Message]) -> None:
        self._client, self._new_request = client, new_request
        self._claim: Claim | None = None
        self._is_answered = False

    def send(self, deadline: Deadline) -> None:
        """Send the request."""
        request = self._new_request()
        self.release()
        claim = Claim(
            request["header"]["msg_id"],
            self._client.shell_channel,
            self._client.iopub_channel,
            give_back=False,
            mute=True,
        )
        claim.__enter__()
        self._claim, self._is_answered = claim, False
        # Without a timeout, the connection has a limit of its own.
        self._client.shell_channel.send(request, None if deadline.timeout is None else deadline)

    def __enter__(self) -> KernelCall:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Drop the reply, if it comes."""
        claim, self._claim = self._claim, None
        if claim is not None:
            if not self._is_answered:
                self._client.connection_slot.give_up(claim.msg_ids)
            claim.__exit__()

    def result(self, deadline: Deadline) -> Any:
        """Wait for the reply, and return the result: see :meth:`KernelCalls.__call__`."""
        text = self.text(deadline)
        with _readable():
            return answered_value(text)

    def text(self, deadline: Deadline) -> str:
        """Wait for the reply, and return the representation of the value."""
        return _text_in(self.content(deadline))

    def content(self, deadline: Deadline) -> dict[str, Any]:
        """Wait for the reply, and return its content."""
        for _ in range(_MOST_TRIES):
            try:
                content: dict[str, Any] = self._reply(deadline)["content"]
            except ReplyLost:
                self.send(deadline)
                continue
            if content.get("status") not in ("aborted", "abort"):
                return content
            self.send(deadline)  # an earlier request failed, and the kernel skipped what followed
        raise GatewayError(f"the kernel did not answer any of {_MOST_TRIES} requests")

    def _reply(self, deadline: Deadline) -> Message:
        assert self._claim is not None
        while True:
            try:
                message = self._claim.take(deadline)
            except Empty as error:
                raise GatewayTimeout(
                    f"the kernel did not answer within {deadline.timeout:g} s",
                    advice="a kernel that executes code answers when it is done",
                ) from error
            if self._claim.origin is self._client.shell_channel:
                self._is_answered = True
                return message


def _literal(value: Any) -> str:
    r"""Return a value as a literal of Python; base64 text, which may be long, fast.

    >>> _literal("YQ=="), _literal("it's")
    ("'YQ=='", '"it\'s"')
    """
    if isinstance(value, str) and value.isascii() and _is_plain(value):
        return f"'{value}'"
    return repr(value)


def _text_in(content: dict[str, Any]) -> str:
    """Return the representation of the value, or raise what the expression raised."""
    found = (content.get("user_expressions") or {}).get(_NAME)
    if not isinstance(found, dict):
        raise GatewayError(
            "the kernel evaluates no user_expressions: it is not a Python kernel, or an old one"
        )
    if found.get("status") == "error":
        lines = [str(line) for line in found.get("traceback") or ()]
        raise ExecutionError(str(found.get("ename")), str(found.get("evalue")), lines)
    with _readable():
        return str(found["data"]["text/plain"])


@contextmanager
def _readable() -> Iterator[None]:
    """Raise GatewayError if what the kernel sent cannot be read."""
    try:
        yield
    except (LookupError, ValueError, SyntaxError, TypeError) as error:
        raise GatewayError(f"the kernel's answer cannot be read: {error}") from error


def answered_value(text: str) -> Any:
    """Return the value in an answer of :func:`.kernel_files.call`, or raise the OSError in it.

    >>> answered_value('{"value": [1]}'), answered_value('{"base64": "YQ=="}')
    ([1], b'a')
    """
    answer = json.loads(text)
    if "errno" in answer:
        raise OSError(answer["errno"], f"in the kernel: {answer['text']}", answer["path"])
    if "base64" in answer:
        return base64.b64decode(answer["base64"])
    return answer["value"]


def literal_value(text: str) -> Any:
    r"""Return the value of a literal of Python; read a long text without the compiler.

    The compiler reads 70 MB/s (Python 3.11), which is slower than all the rest of the way.

    >>> literal_value("'{}'"), literal_value(r"'a\'b'"), literal_value("None")
    ('{}', "a'b", None)
    """
    inner = text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == "'" and _is_plain(inner):
        return inner
    return ast.literal_eval(text)


def _is_plain(text: str) -> bool:
    """Return True if a literal in single quotes has the text as it is."""
    return not any(each in text for each in "'\\\r\n\0")
