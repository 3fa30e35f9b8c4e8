"""Running code and collecting its result: the parts of ``run()`` and ``stream()`` of a client."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, get_args

from .channels import Channel, Claim
from .cleanup import cleaning_up
from .collector import Output, OutputCollector
from .connector import ConnectionSlot
from .deadline import Deadline
from .errors import (
    DeadKernelError,
    GatewayConnectionError,
    GatewayError,
    GatewayTimeout,
    ReplyLost,
)
from .execution import Execution, KernelException, Status
from .interactive import InteractiveExecution
from .locks import Lock, apart
from .messages import Message
from .threads import DaemonThread
from .timeouts import INTERRUPT_TIMEOUT

__all__ = ["CodeRun", "LeftRunning", "OnTimeout", "OutputStream", "RunOptions", "RunningClient"]

OnTimeout = Literal["interrupt", "restart", "leave", "raise"]

_SKIPPED = (
    "the kernel skipped the code, because an earlier request failed or was interrupted just before"
)
_INTERRUPTED = (
    "it was interrupted, and ended",
    "it was interrupted, and did not end within {settle:g} s: it may still run, and"
    " restart_kernel() would end it",
)


@dataclass(frozen=True)
class RunOptions:
    """The options of ``run()`` that concern the client, and not the kernel.

    Raises
    ------
    ValueError, TypeError
        A number is negative, or `on_timeout` has an unknown value.
    """

    timeout: float | None = None
    on_timeout: OnTimeout = "interrupt"
    settle: float = 2.0
    max_output: int | None = None
    allow_stdin: bool = False

    def __post_init__(self) -> None:
        Deadline(self.timeout)
        Deadline(self.settle, "settle")
        if self.on_timeout not in get_args(OnTimeout):
            known = ", ".join(map(repr, get_args(OnTimeout)))
            raise ValueError(f"on_timeout must be one of {known}, got {self.on_timeout!r}")
        if self.max_output is not None and self.max_output < 0:
            raise ValueError(f"max_output must not be negative, got {self.max_output!r}")


class RunningClient(Protocol):
    """The parts of a client that a run uses."""

    kernel_id: Any
    log: Any
    connection_slot: ConnectionSlot

    @property
    def shell_channel(self) -> Channel:
        """The channel of the request and its reply."""

    @property
    def iopub_channel(self) -> Channel:
        """The channel of the output."""

    @property
    def stdin_channel(self) -> Channel:
        """The channel of questions for input."""

    def input(self, string: str) -> None:
        """Answer a question."""

    def interrupt_kernel(self, timeout: float | None = None) -> None:
        """Interrupt the code, by a request of so many seconds."""

    def restart_kernel(self) -> None:
        """Restart the kernel, and wait until it is ready."""


class CodeRun:
    """One execution, from its request to its result.

    One thread at a time uses it, within its ``with``, which claims the messages.

    Parameters
    ----------
    client : RunningClient
        The client, whose channels run.
    message : Message
        The ``execute_request``, not yet sent.
    options : RunOptions
        When the run ends, and what is kept.
    """

    def __init__(self, client: RunningClient, message: Message, options: RunOptions) -> None:
        self.msg_id = message["header"]["msg_id"]
        self.new_outputs: deque[Output] = deque()
        """Outputs for the caller to take, each as :meth:`.OutputCollector.add` returned it."""
        self._client, self._message, self._options = client, message, options
        self._kernel_id, self._slot = client.kernel_id, client.connection_slot
        self._collector = OutputCollector(options.max_output)
        self._count: int | None = None
        self._failure: KernelException | None = None
        self._started = datetime.now(UTC)
        self._outcome: tuple[Status, GatewayError | None] | None = None
        self._reason = f"the code did not end within {options.timeout} s"
        self._timeout_detail = ""
        self._is_interrupted = self._running = False
        shell, iopub, stdin = client.shell_channel, client.iopub_channel, client.stdin_channel
        self._claim = Claim(self.msg_id, shell, iopub, stdin, give_back=False)
        self._arrived: list[Message] = []
        self._mutex = Lock()  # of the collector, if a thread collects what was left running
        self._deadline = Deadline(options.timeout)
        self._interaction = InteractiveExecution(
            kernel_id=client.kernel_id,
            claim=self._claim,
            deadline=self._deadline,
            iopub=iopub,
            stdin=stdin,
            output_hook=self._arrived.append,
            stdin_hook=None,
            allow_stdin=options.allow_stdin,
            send_input=client.input,
            log=client.log,
        )

    def execute(self, on_output: Callable[[Output], Any] | None = None) -> Execution:
        """Send the request, wait for its end, and return the result.

        After a Ctrl-C, and after an exception in `on_output`, the code is interrupted.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self)
            self.send()
            with self.interrupted_by_errors():
                while not self.is_over:
                    self.step()
                    self.pass_on(on_output)
            done = self.result()
            if done.running and self._options.on_timeout == "leave":
                left = LeftRunning(self, on_output)
                stack.pop_all()  # the claim goes on
                done = replace(done, _wait=left.wait)
        return done

    def pass_on(self, on_output: Callable[[Output], Any] | None) -> None:
        """Call the function with each output that arrived since, or forget these outputs."""
        if on_output is None:
            self.new_outputs.clear()
        while self.new_outputs:
            assert on_output is not None
            on_output(self.new_outputs.popleft())

    @contextlib.contextmanager
    def interrupted_by_errors(self) -> Iterator[None]:
        """Within the ``with``, wait for the code; interrupt it if an exception ends the wait."""
        try:
            yield
        except BaseException as error:
            with cleaning_up(error, self._client.log):
                self._client.interrupt_kernel(INTERRUPT_TIMEOUT)
            raise

    def __enter__(self) -> CodeRun:
        self._claim.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._claim.__exit__()
        if self._interaction.reply is None:
            self._slot.give_up([self.msg_id])

    # --- steps ----------------------------------------------------------------------------------

    def send(self) -> None:
        """Send the request; if that is not possible, the result says so.

        Raises
        ------
        MessageTooLarge, WireError
            The code is too large for a gateway, or cannot be encoded.
        """
        timed = self._options.timeout is not None
        try:
            self._client.shell_channel.send(self._message, self._deadline if timed else None)
        except DeadKernelError as error:
            self._outcome = ("died", error)
        except GatewayConnectionError as error:
            self._outcome = ("lost", error)
        except GatewayTimeout as error:
            self._outcome = ("timeout", error)

    @property
    def is_over(self) -> bool:
        """True if there is a result."""
        return self._outcome is not None

    def step(self) -> None:
        """Wait for one message, and handle it or what prevents it."""
        try:
            self._interaction.step()
        except GatewayTimeout:
            self._timed_out()
        except DeadKernelError as error:
            self._end("died", error)
        except GatewayConnectionError as error:
            self._running = not isinstance(error, ReplyLost)
            self._end("lost", error)
        with self._mutex:
            for message in self._arrived:
                self._collect(message)
        self._arrived.clear()
        if self._interaction.is_over and not self.is_over:
            self._end_with_reply()

    def _collect(self, message: Message) -> None:
        output = self._collector.add(message)
        if output is not None:
            self.new_outputs.append(output)
            if output["output_type"] == "error":
                self._failure = KernelException(
                    output["ename"], output["evalue"], output["traceback"]
                )
        elif message["msg_type"] == "execute_input":
            self._note_count(message)

    def _note_count(self, message: Message) -> None:
        count = message["content"].get("execution_count")
        self._count = count if isinstance(count, int) else self._count

    def _end_with_reply(self) -> None:
        reply = self._interaction.reply
        assert reply is not None
        self._note_count(reply)
        status = reply["content"].get("status")
        if status == "error":
            self._failure = _failure_in(reply) or self._failure
        if self._timeout_detail:
            self._end("timeout")
        elif status == "ok":
            self._failure = None  # of a display that failed: the code itself did not
            self._end("ok")
        elif status == "error":
            self._end("error")
        else:
            self._end("aborted")

    def _end(self, status: Status, error: GatewayError | None = None) -> None:
        if status == "timeout":
            error = GatewayTimeout(f"{self._reason}: {self._timeout_detail}")
        elif self._timeout_detail:  # the kernel died, or the reply was lost, after the timeout
            status = "timeout"
        self._outcome = (status, error)

    # --- the end before the end -----------------------------------------------------------------

    def _timed_out(self) -> None:
        if self._is_interrupted:
            self._running = True
            self._timeout_detail = _INTERRUPTED[1].format(settle=self._options.settle)
            self._end("timeout")
        elif self._options.on_timeout == "interrupt":
            self.interrupt()
        elif self._options.on_timeout == "restart":
            self._client.restart_kernel()
            self._timeout_detail = "the kernel was restarted, and its variables are lost"
            self._end("timeout")
        else:
            self._running = True
            self._timeout_detail = "it was left running"
            self._end("timeout")

    def interrupt(self) -> None:
        """Interrupt the code; the following steps wait for its end, for `settle` seconds."""
        self._is_interrupted, self._timeout_detail = True, _INTERRUPTED[0]
        try:
            self._client.interrupt_kernel(max(self._options.settle, INTERRUPT_TIMEOUT))
        except GatewayTimeout:
            pass  # it may have taken effect, and the code may end
        except GatewayError as error:
            self._running = True
            self._timeout_detail = f"interrupting it failed, and it may still run: {error}"
            self._end("timeout")
        self._interaction.deadline = Deadline(self._options.settle)

    def settle(self) -> None:
        """Collect the last outputs of code that was interrupted, for `settle` seconds at most."""
        self._is_interrupted, self._timeout_detail = True, ""
        self._reason = "the loop over its output ended early"
        self._interaction.deadline = Deadline(self._options.settle)
        while not self.is_over:
            self.step()

    def leave(self) -> None:
        """Go on after the timeout in another thread, without the client, which may be dropped."""
        del self._client
        self._interaction.allow_stdin = False
        self._interaction.send_input = lambda text: None
        self._interaction.deadline = Deadline(None)
        self._timeout_detail, self._outcome, self._running = "", None, False

    # --- the result -----------------------------------------------------------------------------

    def result(self) -> Execution:
        """Return the result, or what there is of it."""
        status, error = self._outcome or ("timeout", None)
        missing = None if self._running else self._slot.missing(self.msg_id)
        reply = self._interaction.reply
        with self._mutex:
            outputs, truncated = self._collector.outputs(), self._collector.truncated
        return Execution(
            status=status,
            code=str(self._message["content"]["code"]),
            execution_count=self._count,
            outputs=outputs,
            error=self._failure,
            complete=None if missing is None else missing == 0,
            truncated=truncated,
            running=self._running,
            detail=str(error) if error else _SKIPPED if status == "aborted" else "",
            started=self._started,
            ended=datetime.now(UTC),
            msg_id=self.msg_id,
            kernel_id=self._kernel_id,
            user_expressions=dict(reply["content"].get("user_expressions") or {}) if reply else {},
            exception=error,
        )


def _failure_in(reply: Message) -> KernelException | None:
    """Return the exception that a reply describes."""
    content = reply["content"]
    traceback = content.get("traceback")
    lines = [str(line) for line in traceback] if isinstance(traceback, list) else []
    if not (content.get("ename") or lines):
        return None
    return KernelException(str(content.get("ename", "")), str(content.get("evalue", "")), lines)


class LeftRunning:
    """Collects the rest of an execution in a thread, after its timeout.

    The thread ends with the code, or when the channels of the client are stopped.
    """

    def __init__(self, run: CodeRun, on_output: Callable[[Output], Any] | None) -> None:
        self._run, self._on_output = run, on_output
        self._error: BaseException | None = None
        self._result: Execution | None = None
        run.leave()
        self._thread = DaemonThread(f"gateway-run-{run.msg_id}", self._collect)
        apart(self._thread.start)

    def _collect(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.push(self._run)  # its claim was entered before
            try:
                while not self._run.is_over:
                    self._run.step()
                    self._run.pass_on(self._on_output)
                self._result = self._run.result()
            except BaseException as error:  # of the caller's function, and raised by wait()
                self._error = error

    def wait(self, timeout: float | None = None) -> Execution:
        """Wait for the end, and return the result: see :meth:`.Execution.wait`."""
        has_ended = self._thread.has_ended(Deadline(timeout))
        if self._error is not None:
            raise self._error
        if has_ended and self._result is not None:
            return self._result
        return replace(self._run.result(), running=True, _wait=self.wait)


class OutputStream:
    """The outputs of one execution, to iterate over as they come.

    The code is sent when the iteration begins.  If the loop ends early, the code is interrupted.

    Parameters
    ----------
    new_run : callable
        ``new_run()``, which returns the :class:`CodeRun`.
    """

    def __init__(self, new_run: Callable[[], CodeRun]) -> None:
        self._new_run = new_run
        self._execution: Execution | None = None

    @property
    def execution(self) -> Execution:
        """The result, after the iteration has ended.

        Raises
        ------
        RuntimeError
            The iteration has not begun, or has not ended.
        """
        if self._execution is None:
            raise RuntimeError("the execution has not ended: iterate over its outputs first")
        return self._execution

    def __iter__(self) -> Iterator[Output]:
        """Execute the code, and yield each output as it comes.

        A part of a stream is yielded as it came.  ``clear_output`` and ``update_display_data`` are
        yielded, too, with these names as their ``output_type``.
        """
        with self._new_run() as run:
            run.send()
            try:
                with run.interrupted_by_errors():
                    while not run.is_over:
                        run.step()
                        while run.new_outputs:
                            yield run.new_outputs.popleft()
            except GeneratorExit:  # the loop ended early, and the code was interrupted
                run.settle()
                raise
            finally:
                self._execution = run.result()
