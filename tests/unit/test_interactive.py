"""Interactive execution: which message is handled how, and what ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import BlockingGatewayKernelClient, interactive
from gateway_blocking.channels import Channel, Claim
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import GatewayTimeout, KernelRestarted, ReplyLost
from gateway_blocking.interactive import InteractiveExecution
from gateway_blocking.locks import Lock

SESSION = Session(key=b"secret")


class Kernel:
    """Three channels, a claim on the answers to request "1", and what was done with them."""

    def __init__(self) -> None:
        mutex = Lock()
        self.shell, self.iopub, self.stdin = (
            Channel(name, lambda *sent: None, SESSION, mutex)
            for name in ("shell", "iopub", "stdin")
        )
        for channel in (self.shell, self.iopub, self.stdin):
            channel.start()
        self.claim = Claim("1", self.shell, self.iopub, self.stdin)
        self.claim.__enter__()
        self.shown: list[str] = []
        self.answers: list[str] = []

    def says(self, channel: Channel, msg_type: str, **content: Any) -> None:
        message = SESSION.msg(msg_type, content)
        channel.deliver({**message, "parent_header": {"msg_id": "1"}, "buffers": []})

    def replies(self) -> None:
        self.says(self.shell, "execute_reply", status="ok")

    def is_idle(self) -> None:
        self.says(self.iopub, "status", execution_state="idle")

    def execution(
        self,
        timeout: float | None = 30,
        stdin_hook: Callable[[Any], Any] | None = None,
        allow_stdin: bool = True,
    ) -> InteractiveExecution:
        return InteractiveExecution(
            kernel_id="abc",
            claim=self.claim,
            deadline=Deadline(timeout),
            iopub=self.iopub,
            stdin=self.stdin,
            output_hook=lambda message: self.shown.append(message["msg_type"]),
            stdin_hook=stdin_hook,
            allow_stdin=allow_stdin,
            send_input=self.answers.append,
            log=logging.getLogger("test"),
        )


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.mark.parametrize("first", ["reply", "idle"])
def test_it_ends_with_the_reply_and_the_last_output(kernel: Kernel, first: str) -> None:
    """In whichever order both come."""
    kernel.says(kernel.iopub, "stream", name="stdout", text="1")
    for say in (
        (kernel.replies, kernel.is_idle) if first == "reply" else (kernel.is_idle, kernel.replies)
    ):
        say()
    assert kernel.execution().run()["msg_type"] == "execute_reply"
    assert kernel.shown == ["stream", "status"]


def test_silence_after_the_reply_ends_it(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last "idle" may be lost on its way; a warning says so."""
    monkeypatch.setattr(interactive, "IDLE_GRACE", 0.01)
    kernel.replies()
    assert kernel.execution().run()["content"]["status"] == "ok"
    assert "the end of the output did not come within 0.01 s" in caplog.text


def test_the_deadline_ends_it(kernel: Kernel) -> None:
    """The error says how long it took, and how to end the code."""
    with pytest.raises(GatewayTimeout, match=r"within 0.01 s.*interrupt_kernel\(\)"):
        kernel.execution(timeout=0.01).run()


def test_a_lost_reply_is_raised(kernel: Kernel) -> None:
    """The caller learns that no reply comes."""
    kernel.shell.deliver_loss(ReplyLost("lost", msg_id="1"))
    with pytest.raises(ReplyLost, match="lost"):
        kernel.execution().run()


def test_only_the_end_of_the_output_is_lost_after_the_reply(kernel: Kernel) -> None:
    """The caller has the reply then, which is what it asked for."""
    kernel.replies()
    kernel.iopub.request_failed("1", ReplyLost("lost", msg_id="1"))
    assert kernel.execution().run()["content"]["status"] == "ok"


def test_a_restart_is_raised(kernel: Kernel) -> None:
    """It ends the wait, without a timeout as well."""
    kernel.shell.kernel_died(KernelRestarted("was restarted"))
    with pytest.raises(KernelRestarted):
        kernel.execution(timeout=None).run()


def test_a_question_counts_on_its_own_channel_only(kernel: Kernel) -> None:
    """So does a reply: no server gets an answer of the user in another way."""
    kernel.says(kernel.iopub, "input_request", prompt="password?")
    kernel.says(kernel.stdin, "execute_reply", status="false")
    kernel.says(kernel.stdin, "input_request", prompt="name?")
    kernel.replies()
    kernel.is_idle()
    asked: list[Any] = []
    assert kernel.execution(stdin_hook=asked.append).run()["content"]["status"] == "ok"
    assert [request["content"]["prompt"] for request in asked] == ["name?"]


def test_a_question_that_is_not_allowed_gets_no_answer(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names the kernel."""
    kernel.says(kernel.stdin, "input_request", prompt="name?")
    kernel.replies()
    kernel.is_idle()
    kernel.execution(allow_stdin=False).run()
    assert kernel.answers == []
    assert "kernel abc asks for input, which is not allowed" in caplog.text


def test_an_answer_of_the_user_is_sent(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters in the prompt do not reach the terminal."""
    prompts: list[str] = []

    def ask(prompt: str, **_: Any) -> str:
        prompts.append(prompt)
        return "Ada"

    monkeypatch.setattr(interactive, "ask", ask)
    kernel.says(kernel.stdin, "input_request", prompt="na\x1b]0;title\x07me?")
    execution = kernel.execution()
    execution._answer(kernel.claim.take(0))
    assert (prompts, kernel.answers) == (["name?"], ["Ada"])


def test_an_answer_to_a_question_that_is_over_is_not_sent(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would take it for the answer to another question."""
    monkeypatch.setattr(interactive, "ask", lambda *_, **__: "Ada")
    kernel.says(kernel.stdin, "input_request", prompt="first?")
    kernel.says(kernel.stdin, "input_request", prompt="second?")
    kernel.execution()._answer(kernel.claim.take(0))
    assert kernel.answers == []


def test_a_coroutine_function_is_refused_as_a_hook(kernel: Kernel) -> None:
    """Its coroutine is closed, so that Python does not warn of it."""

    async def hook(_: Any) -> None: ...

    kernel.says(kernel.stdin, "input_request", prompt="name?")
    with pytest.raises(TypeError, match="stdin_hook must be a plain function"):
        kernel.execution(stdin_hook=hook).run()


@pytest.mark.parametrize("name", ["output_hook", "stdin_hook"])
def test_a_hook_that_is_no_function_is_refused_before_anything_is_sent(name: str) -> None:
    """Otherwise the kernel would wait for an answer which never comes."""
    client = BlockingGatewayKernelClient(kernel_id="abc", url="http://127.0.0.1:9")
    hooks: Any = {name: 5}
    with pytest.raises(TypeError, match=f"{name} must be a function, got 5"):
        client.execute_interactive("1", **hooks)
