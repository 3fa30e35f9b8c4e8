"""The wait for a kernel that is not ready: what is asked, how often, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import readiness
from gateway_blocking.channels import Channel
from gateway_blocking.connector import ConnectionSlot
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import DeadKernelError, KernelNotReady, KernelRestarted
from gateway_blocking.locks import Lock
from gateway_blocking.readiness import ReadinessCheck

SESSION = Session(key=b"secret")


class Slot(ConnectionSlot):
    """A slot that notes what is given up, and whose kernel may have died."""

    def __init__(self) -> None:
        self.given_up: list[str] = []
        self.alive = True

    def give_up(self, msg_ids: Collection[str]) -> None:
        self.given_up += msg_ids

    @property
    def kernel_seems_alive(self) -> bool:
        return self.alive

    def revive(self) -> None:
        self.alive = True


class Kernel:
    """Channels on which a script answers each request that is sent."""

    def __init__(self, *script: Callable[[Kernel, str], None]) -> None:
        self.asked: list[str] = []
        self.slot = Slot()
        self.exists = True
        mutex = Lock()
        steps = iter(script)

        def send(_: str, message: Any, timeout: Any) -> None:
            self.asked.append(message["header"]["msg_id"])
            if (step := next(steps, None)) is not None:
                step(self, self.asked[-1])

        self.shell, self.iopub = (Channel(n, send, SESSION, mutex) for n in ("shell", "iopub"))
        self.shell.start()
        self.iopub.start()

    def wait(self, timeout: float | None = 30) -> Any:
        check = ReadinessCheck(
            "abc",
            self.slot,
            self.shell,
            self.iopub,
            lambda: SESSION.msg("kernel_info_request", {}),  # type: ignore[arg-type, return-value]
            lambda: self.exists,
        )
        return check.wait(Deadline(timeout))


def answer(channel: Channel, parent: str, msg_type: str, **content: Any) -> None:
    message = SESSION.msg(msg_type, content)
    channel.deliver({**message, "parent_header": {"msg_id": parent}, "buffers": []})


def replies(kernel: Kernel, parent: str) -> None:
    answer(kernel.shell, parent, "kernel_info_reply", status="ok")


def publishes(kernel: Kernel, parent: str) -> None:
    answer(kernel.iopub, parent, "status", execution_state="idle")


def both(kernel: Kernel, parent: str) -> None:
    publishes(kernel, parent)
    replies(kernel, parent)


def restarts(kernel: Kernel, _: str) -> None:
    kernel.slot.alive = False
    for channel in (kernel.shell, kernel.iopub):
        channel.kernel_died(KernelRestarted("was restarted"))
        channel.revive()  # as the connection does when the new process is accepted


def test_one_question_is_enough_for_a_kernel_that_is_ready() -> None:
    """Later answers to it are dropped."""
    kernel = Kernel(both)
    assert kernel.wait()["msg_type"] == "kernel_info_reply"
    assert kernel.slot.given_up == kernel.asked
    assert len(kernel.asked) == 1


@pytest.mark.parametrize("script", [(replies, publishes), (publishes, replies), (both,)])
def test_it_asks_again_until_reply_and_output_came(
    script: tuple[Callable[[Kernel, str], None], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel may lose a request, and a gateway the first message that it publishes."""
    monkeypatch.setattr(readiness, "_retry_delay", lambda waited: 0.01)
    kernel = Kernel(lambda *_: None, *script)
    kernel.wait()
    assert len(kernel.asked) == 1 + len(script)
    assert kernel.slot.given_up == kernel.asked


def test_output_is_not_waited_for_without_its_channel() -> None:
    """``start_channels(iopub=False)`` is enough for requests."""
    kernel = Kernel(replies)
    kernel.iopub.stop()
    kernel.iopub.error = None
    kernel.wait()
    assert len(kernel.asked) == 1


def test_a_kernel_that_does_not_reply_in_time_is_not_ready() -> None:
    """The error is a RuntimeError and a TimeoutError, and names kernel and time."""
    with pytest.raises(KernelNotReady, match=r"in 0.05 seconds: kernel abc is starting"):
        Kernel().wait(0.05)


def test_a_kernel_that_is_restarted_meanwhile_is_asked_again() -> None:
    """The wait goes on with the new process."""
    kernel = Kernel(restarts, both)
    assert kernel.wait()["msg_type"] == "kernel_info_reply"
    assert len(kernel.asked) == 2


def test_a_kernel_that_does_not_exist_any_more_is_dead() -> None:
    """The text says what may have happened."""
    kernel = Kernel()
    kernel.slot.alive = kernel.exists = False
    with pytest.raises(DeadKernelError, match="abc does not exist any more.*gateway was restarted"):
        kernel.wait()
    assert kernel.asked == []


def test_the_death_of_the_kernel_is_told_in_the_words_of_jupyter_client() -> None:
    """Its callers look for them."""

    def dies(kernel: Kernel, _: str) -> None:
        kernel.shell.kernel_died(DeadKernelError("died"))

    with pytest.raises(DeadKernelError, match="Kernel died before replying to kernel_info: died"):
        Kernel(dies).wait()


def test_a_busy_kernel_is_not_asked_thousands_of_times() -> None:
    """It answers all of them when it is done: 50 requests in the first hour."""
    waited, asked = 0.0, 0
    while waited < 3600:
        waited += readiness._retry_delay(waited)
        asked += 1
    assert asked < 80
