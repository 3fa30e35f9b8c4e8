"""Interactive execution: output is shown as it arrives, and the code may ask for input."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty
from typing import Any

from .channels import Channel, Claim
from .deadline import Deadline
from .errors import GatewayTimeout, ReplyLost
from .escape import OutputFilter
from .messages import Message, is_idle
from .prompt import ask
from .timeouts import IDLE_GRACE

__all__ = ["InteractiveExecution", "default_output_hook"]


@dataclass
class InteractiveExecution:
    """One execution whose messages are handled as they arrive, in the thread that calls.

    After a timeout, it can go on with another deadline.

    Parameters
    ----------
    kernel_id : str
        ID of the kernel, used in warnings.
    claim : Claim
        The claim on the messages of the request, which has been sent.
    deadline : Deadline
        When to stop waiting.
    iopub, stdin : Channel
        The channels on which output and questions arrive.
    output_hook : callable
        Called with each published message.
    stdin_hook : callable or None
        Called with each question; None to ask on the standard input of this process.
    allow_stdin : bool
        Whether questions are answered.
    send_input : callable
        ``send_input(text)``, which answers the current question.
    log : logging.Logger or adapter
        The logger for warnings.
    """

    kernel_id: str
    claim: Claim
    deadline: Deadline
    iopub: Channel
    stdin: Channel
    output_hook: Callable[[Message], Any]
    stdin_hook: Callable[[Message], Any] | None
    allow_stdin: bool
    send_input: Callable[[str], None]
    log: logging.Logger | logging.LoggerAdapter[Any]

    reply: Message | None = field(default=None, init=False)
    _is_idle: bool = field(default=False, init=False)

    def run(self) -> Message:
        """Handle messages until both the reply and the last output have come; return the reply.

        Raises
        ------
        GatewayTimeout
            They did not come in time; the code may still run.
        ReplyLost, DeadKernelError, GatewayConnectionClosed
            The reply does not come any more.
        """
        while not self.is_over:
            self.step()
        assert self.reply is not None
        return self.reply

    @property
    def is_over(self) -> bool:
        """True if both the reply and the last output have come."""
        return self.reply is not None and self._is_idle

    def step(self) -> None:
        """Wait for one message and handle it; errors are those of :meth:`run`."""
        # The last "idle" may be lost, so after the reply a silence ends the wait as well.
        try:
            message = self.claim.take(
                self.deadline.within(IDLE_GRACE) if self.reply else self.deadline
            )
        except Empty:
            if self.reply and not self.deadline.passed():
                self.log.warning("the end of the output did not come within %g s", IDLE_GRACE)
                self._is_idle = True
                return
            raise GatewayTimeout(
                "Timeout waiting for output: the execution did not end within"
                f" {self.deadline.timeout:g} s; the code may still be running:"
                " interrupt_kernel() of the manager ends it"
            ) from None
        except ReplyLost:
            if not self.reply:
                raise
            self._is_idle = True  # only the end of the output is lost
            return
        # A message type counts only on its own channel, so that no server gets an answer from the
        # user in another way.
        if self.claim.origin is self.iopub:
            self.output_hook(message)
            self._is_idle = self._is_idle or is_idle(message)
        elif self.claim.origin is self.stdin:
            if message["msg_type"] == "input_request":
                self._answer(message)
        elif message["msg_type"] == "execute_reply":
            self.reply = message

    def _answer(self, request: Message) -> None:
        """Answer a question of the code, or let `stdin_hook` answer it."""
        if not self.allow_stdin:
            self.log.warning(
                "kernel %s asks for input, which is not allowed (allow_stdin is False): it gets no"
                " answer",
                self.kernel_id,
            )
        elif self.stdin_hook is None:
            self._ask_user(request)
        elif inspect.isawaitable(result := self.stdin_hook(request)):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError("stdin_hook must be a plain function: this client is blocking")

    def _ask_user(self, request: Message) -> None:
        text = ask(
            OutputFilter()(str(request["content"].get("prompt", ""))),
            password=bool(request["content"].get("password")),
            deadline=self.deadline,
            is_over=self._question_is_over,
        )
        if text is not None and not self._question_is_over():
            self.send_input(text)

    def _question_is_over(self) -> bool:
        """Return True if the kernel does not wait for this answer any more.

        It then waits for nothing, or for the answer to another question.
        """
        return self.claim.has_ended() or self.claim.holds("input_request", "execute_reply")


def default_output_hook(
    show: Callable[[dict[str, Any]], None], show_in_kernel: Callable[..., None]
) -> Callable[[dict[str, Any]], None]:
    """Return the function that shows output if the caller gave none.

    Parameters
    ----------
    show : callable
        Writes output to the standard streams of this process.
    show_in_kernel : callable
        Displays output richly, if this process is an IPython kernel: it also takes the session,
        socket and parent header of the kernel's display publisher.
    """
    if "IPython" not in sys.modules:
        return show
    from IPython import get_ipython

    shell = get_ipython()
    if not getattr(shell, "kernel", None):
        return show
    publisher = shell.display_pub
    return partial(show_in_kernel, publisher.session, publisher.pub_socket, publisher.parent_header)
