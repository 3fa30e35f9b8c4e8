"""The requests of a client to its kernel: one method for each type of request."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from queue import Empty
from typing import Any, Literal, overload

from jupyter_client.client import validate_string_dict

from .channels import Channel
from .deadline import Deadline
from .errors import GatewayTimeout
from .locks import Lock
from .messages import Message

__all__ = ["KernelRequests"]

_NOTHING_TO_WAIT_FOR = (
    "{0}(timeout={1:g}) waits for nothing, so that the timeout has no effect: pass reply=True; to"
    " run code and get its output, call run(code, timeout={1:g}) or"
    " execute_interactive(code, timeout={1:g})"
)


class KernelRequests:
    """The requests of a client, with the names and arguments of jupyter_client.

    Each method returns the ``msg_id`` of its request, a str; with ``reply=True`` it waits for the
    reply, and returns that, a :class:`.messages.Message`.
    """

    session: Any  # traits of the client, and its channels
    allow_stdin: Any
    shell_channel: Any
    stdin_channel: Any
    control_channel: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._numbering = Lock()

    def _new_message(self, msg_type: str, content: Mapping[str, Any]) -> Message:
        with self._numbering:  # the message numbers of a Session are not made for threads
            message: Message = self.session.msg(msg_type, dict(content))
        return message

    def _request(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        reply: bool,
        timeout: float | None,
        channel: Channel | None = None,
    ) -> str | Message:
        """Send a request; return its msg_id, or wait for its reply and return that."""
        channel = channel or self.shell_channel
        deadline = Deadline(timeout)
        message = self._new_message(msg_type, content)
        msg_id = message["header"]["msg_id"]
        if not reply:
            if timeout is not None:  # jupyter_client ignores it, too
                call = msg_type.removesuffix("_request")
                warnings.warn(_NOTHING_TO_WAIT_FOR.format(call, timeout), stacklevel=3)
            channel.send(message)
            return msg_id
        with channel.claim(msg_id) as claim:
            channel.send(message, None if timeout is None else deadline)
            try:
                return claim.take(deadline)
            except Empty as error:
                raise GatewayTimeout(
                    f"Timeout waiting for reply: none to {msg_type} within {deadline.timeout:g} s;"
                    " the kernel may still be busy with it"
                ) from error

    @overload
    def execute(
        self,
        code: str,
        silent: bool = ...,
        store_history: bool = ...,
        user_expressions: dict[str, str] | None = ...,
        allow_stdin: bool | None = ...,
        stop_on_error: bool = ...,
        *,
        reply: Literal[False] = ...,
        timeout: float | None = ...,
    ) -> str: ...
    @overload
    def execute(
        self,
        code: str,
        silent: bool = ...,
        store_history: bool = ...,
        user_expressions: dict[str, str] | None = ...,
        allow_stdin: bool | None = ...,
        stop_on_error: bool = ...,
        *,
        reply: Literal[True],
        timeout: float | None = ...,
    ) -> Message: ...
    @overload
    def execute(
        self,
        code: str,
        silent: bool = ...,
        store_history: bool = ...,
        user_expressions: dict[str, str] | None = ...,
        allow_stdin: bool | None = ...,
        stop_on_error: bool = ...,
        *,
        reply: bool,
        timeout: float | None = ...,
    ) -> str | Message: ...
    def execute(
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool | None = None,
        stop_on_error: bool = True,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> str | Message:
        """Execute code in the kernel.

        Parameters
        ----------
        code : str
            Code in the language of the kernel.
        silent : bool
            Whether to publish no output and keep no history.
        store_history : bool
            Whether to keep the code in the kernel's history.
        user_expressions : dict of str, optional
            Names and expressions to evaluate after the code; the reply has their values.
        allow_stdin : bool, optional
            Whether the code may ask for input; by default the attribute of that name.
        stop_on_error : bool
            Whether an error aborts the requests that are queued behind this one.
        reply : bool
            Whether to wait for the reply and return it.
        timeout : float, optional
            Seconds to wait for the reply; by default as long as one can come.  Without `reply`,
            it has no effect, and a warning says so.

        Returns
        -------
        str or Message
            The msg_id of the request, or its reply.

        Raises
        ------
        GatewayTimeout
            The reply did not come in time; the code may still run.
        DeadKernelError, KernelRestarted
            The kernel died or was restarted before it replied.
        ReplyLost
            The reply was lost with the connection, or cannot be read.
        GatewayConnectionClosed
            The connection was lost, or is not open.
        MessageTooLarge
            The code is larger than a gateway accepts.
        ValueError
            The code or an expression is not a string.
        """
        return self._request(
            "execute_request",
            self._execute_content(
                code, silent, store_history, user_expressions, allow_stdin, stop_on_error
            ),
            reply,
            timeout,
        )

    def _execute_content(
        self,
        code: str,
        silent: bool,
        store_history: bool,
        user_expressions: dict[str, str] | None,
        allow_stdin: bool | None,
        stop_on_error: bool,
    ) -> dict[str, Any]:
        if not isinstance(code, str):
            raise ValueError(f"code {code!r} must be a string")  # as jupyter_client
        validate_string_dict(user_expressions or {})
        return {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": self.allow_stdin if allow_stdin is None else allow_stdin,
            "stop_on_error": stop_on_error,
        }

    @overload
    def complete(
        self,
        code: str,
        cursor_pos: int | None = ...,
        *,
        reply: Literal[False] = ...,
        timeout: float | None = ...,
    ) -> str: ...
    @overload
    def complete(
        self,
        code: str,
        cursor_pos: int | None = ...,
        *,
        reply: Literal[True],
        timeout: float | None = ...,
    ) -> Message: ...
    @overload
    def complete(
        self,
        code: str,
        cursor_pos: int | None = ...,
        *,
        reply: bool,
        timeout: float | None = ...,
    ) -> str | Message: ...
    def complete(
        self,
        code: str,
        cursor_pos: int | None = None,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> str | Message:
        """Ask how `code` can be completed at `cursor_pos`, by default at its end.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": position}
        return self._request("complete_request", content, reply, timeout)

    @overload
    def inspect(
        self,
        code: str,
        cursor_pos: int | None = ...,
        detail_level: int = ...,
        *,
        reply: Literal[False] = ...,
        timeout: float | None = ...,
    ) -> str: ...
    @overload
    def inspect(
        self,
        code: str,
        cursor_pos: int | None = ...,
        detail_level: int = ...,
        *,
        reply: Literal[True],
        timeout: float | None = ...,
    ) -> Message: ...
    @overload
    def inspect(
        self,
        code: str,
        cursor_pos: int | None = ...,
        detail_level: int = ...,
        *,
        reply: bool,
        timeout: float | None = ...,
    ) -> str | Message: ...
    def inspect(
        self,
        code: str,
        cursor_pos: int | None = None,
        detail_level: int = 0,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> str | Message:
        """Ask for a description of the object in `code` at `cursor_pos`, by default at its end.

        `detail_level` is 0 or 1; `reply`, `timeout`, result and errors are those of
        :meth:`execute`.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": position, "detail_level": detail_level}
        return self._request("inspect_request", content, reply, timeout)

    @overload
    def history(
        self,
        raw: bool = ...,
        output: bool = ...,
        hist_access_type: str = ...,
        *,
        reply: Literal[False] = ...,
        timeout: float | None = ...,
        **kwargs: int | str | None,
    ) -> str: ...
    @overload
    def history(
        self,
        raw: bool = ...,
        output: bool = ...,
        hist_access_type: str = ...,
        *,
        reply: Literal[True],
        timeout: float | None = ...,
        **kwargs: int | str | None,
    ) -> Message: ...
    @overload
    def history(
        self,
        raw: bool = ...,
        output: bool = ...,
        hist_access_type: str = ...,
        *,
        reply: bool,
        timeout: float | None = ...,
        **kwargs: int | str | None,
    ) -> str | Message: ...
    def history(
        self,
        raw: bool = True,
        output: bool = False,
        hist_access_type: str = "range",
        *,
        reply: bool = False,
        timeout: float | None = None,
        **kwargs: int | str | None,
    ) -> str | Message:
        """Ask for entries of the kernel's history.

        Parameters
        ----------
        raw, output : bool
            Whether the entries have the input as it was typed, and whether they have the output.
        hist_access_type : str
            ``range`` (with ``session=``, ``start=``, ``stop=``), ``tail`` (with ``n=``) or
            ``search`` (with ``pattern=``).
        reply, timeout
            As for :meth:`execute`, as are result and errors.
        **kwargs
            Arguments of the access type.
        """
        if hist_access_type == "range":
            kwargs = {"session": 0, "start": 0, **kwargs}
        content = {"raw": raw, "output": output, "hist_access_type": hist_access_type, **kwargs}
        return self._request("history_request", content, reply, timeout)

    @overload
    def kernel_info(self, *, reply: Literal[False] = ..., timeout: float | None = ...) -> str: ...
    @overload
    def kernel_info(self, *, reply: Literal[True], timeout: float | None = ...) -> Message: ...
    @overload
    def kernel_info(self, *, reply: bool, timeout: float | None = ...) -> str | Message: ...
    def kernel_info(self, *, reply: bool = False, timeout: float | None = None) -> str | Message:
        """Ask for the kernel's language, version and features.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        return self._request("kernel_info_request", {}, reply, timeout)

    @overload
    def comm_info(
        self,
        target_name: str | None = ...,
        *,
        reply: Literal[False] = ...,
        timeout: float | None = ...,
    ) -> str: ...
    @overload
    def comm_info(
        self,
        target_name: str | None = ...,
        *,
        reply: Literal[True],
        timeout: float | None = ...,
    ) -> Message: ...
    @overload
    def comm_info(
        self, target_name: str | None = ..., *, reply: bool, timeout: float | None = ...
    ) -> str | Message: ...
    def comm_info(
        self, target_name: str | None = None, *, reply: bool = False, timeout: float | None = None
    ) -> str | Message:
        """Ask for the open comms of `target_name`, or for all.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        content = {} if target_name is None else {"target_name": target_name}
        return self._request("comm_info_request", content, reply, timeout)

    @overload
    def is_complete(
        self, code: str, *, reply: Literal[False] = ..., timeout: float | None = ...
    ) -> str: ...
    @overload
    def is_complete(
        self, code: str, *, reply: Literal[True], timeout: float | None = ...
    ) -> Message: ...
    @overload
    def is_complete(
        self, code: str, *, reply: bool, timeout: float | None = ...
    ) -> str | Message: ...
    def is_complete(
        self, code: str, *, reply: bool = False, timeout: float | None = None
    ) -> str | Message:
        """Ask if `code` is complete, or if more lines have to follow.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        return self._request("is_complete_request", {"code": code}, reply, timeout)

    @overload
    def shutdown(
        self, restart: bool = ..., *, reply: Literal[False] = ..., timeout: float | None = ...
    ) -> str: ...
    @overload
    def shutdown(
        self, restart: bool = ..., *, reply: Literal[True], timeout: float | None = ...
    ) -> Message: ...
    @overload
    def shutdown(
        self, restart: bool = ..., *, reply: bool, timeout: float | None = ...
    ) -> str | Message: ...
    def shutdown(
        self, restart: bool = False, *, reply: bool = False, timeout: float | None = None
    ) -> str | Message:
        """Ask the kernel itself to end, on the control channel.

        A gateway may take the end of the kernel for a crash, and start the kernel again.  The
        manager's ``shutdown_kernel()`` ends it for good.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        content = {"restart": restart}
        return self._request("shutdown_request", content, reply, timeout, self.control_channel)

    def input(self, string: str) -> None:
        """Answer the kernel's request for input."""
        self.stdin_channel.send(self._new_message("input_reply", {"value": string}))
