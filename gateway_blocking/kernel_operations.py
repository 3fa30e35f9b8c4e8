"""Operations of a client that jupyter_client does not have: run code and get a result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast, get_args

from .connector import ConnectionSlot
from .deadline import Deadline
from .kernel_requests import KernelRequests
from .messages import Message
from .timeouts import READY_TIMEOUT

Via = Literal["kernel", "contents"]

if TYPE_CHECKING:  # imported when they are needed, because many clients never do
    from .collector import Output
    from .contents import Contents
    from .execution import Execution
    from .kernel_calls import CallingClient, KernelCalls
    from .running import CodeRun, OnTimeout, OutputStream, RunningClient, RunOptions
    from .transfer import Progress
    from .variables import Language

__all__ = ["KernelOperations", "Via"]


class KernelOperations(KernelRequests):
    """The operations of a client that stand on top of jupyter_client's API.

    Any number of threads may use them at once.
    """

    kernel_id: Any  # traits and attributes of the client
    rest: Any
    connection_slot: ConnectionSlot
    iopub_channel: Any
    wait_for_ready: Any
    _kernel_info: dict[str, Any] | None = None  # what kernel_info() replied

    # --- code -----------------------------------------------------------------------------------

    def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_timeout: OnTimeout = "interrupt",
        settle: float = 2.0,
        max_output: int | None = None,
        check: bool = False,
        allow_stdin: bool = False,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        on_output: Callable[[Output], Any] | None = None,
    ) -> Execution:
        r"""Execute code, wait for its end, and return everything that came of it.

        >>> done = client.run("print('hi')\n1 + 1", timeout=60)  # doctest: +SKIP
        >>> done.stdout, done.text(), done.ok  # doctest: +SKIP
        ('hi\n', 'hi\n2', True)

        After a Ctrl-C, or an exception in `on_output`, the code is interrupted.

        Parameters
        ----------
        code : str
            The code.
        timeout : float, optional
            Seconds until the code must have ended; by default as long as the kernel lives.
        on_timeout : {"interrupt", "restart", "leave", "raise"}
            What happens to code that does not end in time.  It is interrupted, and its last
            outputs are awaited for `settle` seconds; or the kernel is restarted; or it is left
            running, and :meth:`.Execution.wait` returns its result later; or it is left running,
            and GatewayTimeout is raised.
        settle : float
            Seconds to wait for the end of interrupted code.
        max_output : int, optional
            Characters of output to keep, half of them from the beginning and half from the end.
            It bounds the memory while the output arrives.  By default everything is kept.
        check : bool
            Whether to raise an exception unless the code ends well, as
            :meth:`.Execution.raise_for_error` does.  Its attribute ``execution`` is the result.
        allow_stdin : bool
            Whether the code may ask for input, on the standard input of this process.
        silent, store_history, user_expressions
            As for :meth:`execute`.
        on_output : callable, optional
            Called with each output as it comes, a dict like those of :meth:`stream`.

        Returns
        -------
        Execution
            The result, also if the code failed, the kernel died or the reply was lost.

        Raises
        ------
        ExecutionError, GatewayTimeout, DeadKernelError, ReplyLost
            With `check`: the code failed.
        MessageTooLarge
            The code is larger than a gateway accepts.
        RuntimeError
            The channels that the call needs are not running.
        ValueError, TypeError
            An argument is not valid.
        """
        if on_output is not None and not callable(on_output):
            raise TypeError(f"on_output must be a function, got {on_output!r}")
        from .running import RunOptions

        options = RunOptions(timeout, on_timeout, settle, max_output, allow_stdin)
        run = self._new_run(code, options, silent, store_history, user_expressions)
        done = run.execute(on_output)
        raises = check or (on_timeout == "raise" and done.status == "timeout")
        return done.raise_for_error() if raises else done

    def stream(
        self,
        code: str,
        *,
        timeout: float | None = None,
        settle: float = 2.0,
        max_output: int | None = None,
        allow_stdin: bool = False,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
    ) -> OutputStream:
        r"""Execute code, and iterate over its outputs as they come.

        >>> outputs = client.stream("for i in range(3): print(i)")  # doctest: +SKIP
        >>> for output in outputs:  # doctest: +SKIP
        ...     print(output["text"], end="")
        >>> outputs.execution.ok  # doctest: +SKIP
        True

        Each output is a dict as ``nbformat`` describes it, or one whose ``output_type`` is
        ``clear_output`` or ``update_display_data``.  If the loop ends early, the code is
        interrupted.  Parameters are those of :meth:`run`; code that does not end in time is
        interrupted.

        Returns
        -------
        OutputStream
            The outputs; after the iteration, its attribute ``execution`` is the result.
        """
        from .running import OutputStream, RunOptions

        options = RunOptions(timeout, "interrupt", settle, max_output, allow_stdin)
        return OutputStream(
            lambda: self._new_run(code, options, silent, store_history, user_expressions)
        )

    def _new_run(
        self,
        code: str,
        options: RunOptions,
        silent: bool,
        store_history: bool,
        user_expressions: dict[str, str] | None,
    ) -> CodeRun:
        from .running import CodeRun

        self.connection_slot.check_process()
        if not self.iopub_channel.is_alive():
            raise RuntimeError("the channels are not running: call start_channels()")
        if options.allow_stdin and not self.stdin_channel.is_alive():
            raise RuntimeError("the stdin channel must be running to allow input")
        content = self._execute_content(
            code, silent, store_history, user_expressions, options.allow_stdin, stop_on_error=True
        )
        message = self._new_message("execute_request", content)
        return CodeRun(cast("RunningClient", self), message, options)

    # --- variables ------------------------------------------------------------------------------

    def put(
        self,
        mapping: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | None = None,
        **values: Any,
    ) -> None:
        """Assign variables in the kernel: ``put(rows=5, names=["a", "b"])``.

        A value is None, a bool, int, float or str, a list or dict of these, or bytes.  A tuple
        becomes a list.  Nothing is pickled.  Kernels of Python, bash and R are supported.

        Parameters
        ----------
        mapping : dict, optional
            More variables, by name: ``put({"timeout": 5})`` assigns one of that name.
        timeout : float, optional
            Seconds for all of it; by default as long as the kernel lives.  A busy kernel answers
            when it is done.
        **values
            The variables.

        Raises
        ------
        GatewayTimeout
            The kernel did not answer in time.  It may still assign the variables.
        TypeError
            A value is of another type, and nothing was assigned.
        ValueError
            A name is not an identifier of the kernel's language.
        MessageTooLarge
            A value is larger than a gateway accepts; use :meth:`upload`.
        GatewayError
            The kernel's language is not supported, or it did not assign the variable.
        """
        from .variables import put

        values = {**(mapping or {}), **values}
        if not values and timeout is not None:
            raise TypeError(
                "put() got no variable, only the timeout; use put({'timeout': ...}) for a variable"
                " of that name"
            )
        deadline = Deadline(timeout)
        put(self.run, self._kernel_calls(), self._language(deadline), values, deadline)

    def get(self, name: str, *, timeout: float | None = None) -> Any:
        """Return the value of a variable of the kernel, as :meth:`put` could send it.

        Parameters
        ----------
        name : str
            Name of the variable.
        timeout : float, optional
            Seconds to wait; by default as long as the kernel lives.

        Raises
        ------
        NameError
            The kernel has no such variable.
        TypeError
            JSON cannot represent its value.
        ValueError
            The name is not an identifier of the kernel's language.
        GatewayTimeout
            The kernel did not answer in time.
        GatewayError
            The kernel's language is not supported, or there was no answer.
        """
        from .variables import get

        deadline = Deadline(timeout)
        return get(self.run, self._kernel_calls(), self._language(deadline), name, deadline)

    def _language(self, deadline: Deadline) -> Language:
        from .kernel_calls import KernelCall
        from .variables import answered_in_time, language_of

        if self._kernel_info is None:
            call = KernelCall(
                cast("CallingClient", self), lambda: self._new_message("kernel_info_request", {})
            )
            with answered_in_time(deadline, "its language is not known yet"), call:
                call.send(deadline)
                self._kernel_info = call.content(deadline)
        return language_of(self._kernel_info)

    # --- files ----------------------------------------------------------------------------------

    def upload(
        self,
        local: str | os.PathLike[str] | IO[bytes],
        remote: str,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        via: Via = "kernel",
    ) -> str:
        """Copy a file of this machine to the kernel's machine; return its path there.

        The file appears there whole, after its SHA-256 digest was compared, or not at all.  It
        may be larger than the memory.  After a lost connection the transfer goes on.

        Parameters
        ----------
        local : path or binary file
            The file, which is a regular one, or an object that is open for reading.
        remote : str
            Path in the kernel; a relative one begins at the kernel's working directory.  In a
            directory, the file gets the name that it has here.
        progress : callable, optional
            ``progress(done, total)``, called with numbers of bytes.
        timeout : float, optional
            Seconds to wait for each answer; by default as long as the kernel lives.  A busy
            kernel answers when it is done.
        via : {"kernel", "contents"}
            The way of the file: the kernel itself, or ``/api/contents`` of a Jupyter Server.  The
            latter needs no Python kernel, and `remote` is relative to the server's root folder.

        Raises
        ------
        OSError
            The file cannot be read here, or written there.
        ValueError
            There is no such way.
        GatewayTimeout
            The kernel did not answer in time.
        GatewayError
            The kernel is not a Python kernel, or died.
        """
        if _is_by_contents(via):
            from .contents_transfer import upload as upload_contents

            return upload_contents(self._contents(timeout), local, remote, progress)
        from .transfer import upload

        return upload(self._file_calls(), local, remote, progress, timeout)

    def download(
        self,
        remote: str,
        local: str | os.PathLike[str] | IO[bytes],
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        via: Via = "kernel",
    ) -> Path | None:
        """Copy a file of the kernel's machine to this one; return its path here.

        Parameters and errors are those of :meth:`upload`.  The result is None if `local` is a file
        object, which is open for writing.  By ``/api/contents``, a file may have 49 MB at most.
        """
        if _is_by_contents(via):
            from .contents_transfer import download as download_contents

            return download_contents(self._contents(timeout), remote, local, progress)
        from .transfer import download

        return download(self._file_calls(), remote, local, progress, timeout)

    def _contents(self, timeout: float | None) -> Contents:
        contents: Contents = self.rest.contents(timeout)
        return contents

    def _file_calls(self) -> KernelCalls:
        from .transfer import SOURCE

        return self._kernel_calls(SOURCE)

    def _kernel_calls(self, source: str = "") -> KernelCalls:
        from .kernel_calls import KernelCalls

        self.connection_slot.check_process()
        return KernelCalls(cast("CallingClient", self), self._new_call, source)

    def _new_call(self, expressions: dict[str, str]) -> Message:
        content = self._execute_content("", True, False, expressions, False, stop_on_error=False)
        return self._new_message("execute_request", content)

    # --- the kernel -----------------------------------------------------------------------------

    def interrupt_kernel(self, timeout: float | None = None) -> None:
        """Interrupt the code that the kernel runs, of this client or of another.

        Parameters
        ----------
        timeout : float, optional
            Seconds for the request; by default those of the gateway's options.

        Raises
        ------
        NoSuchKernel
            The gateway does not know the kernel any more.
        GatewayError
            The gateway could not be reached, or did not do it.
        """
        self.rest.interrupt_kernel(self.kernel_id, timeout)

    def restart_kernel(self, timeout: float | None = READY_TIMEOUT) -> None:
        """Restart the kernel, and wait until it is ready; its variables are lost.

        Calls that wait for a reply raise :exc:`.KernelRestarted`.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the new process; None to wait as long as it lives.

        Raises
        ------
        NoSuchKernel
            The gateway does not know the kernel any more.
        KernelNotReady
            The new process did not reply in time.
        GatewayError
            The gateway could not be reached, or did not do it.
        """
        kernel_restarted = self.connection_slot.kernel_restarting(self.kernel_id)
        self.rest.restart_kernel(self.kernel_id)
        kernel_restarted()
        self.wait_for_ready(timeout)


def _is_by_contents(via: str) -> bool:
    if via not in get_args(Via):
        raise ValueError(f"via must be 'kernel' or 'contents', got {via!r}")
    return via == "contents"
