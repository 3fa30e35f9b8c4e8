"""Running code: which message or failure leads to which result, without a kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from jupyter_client.session import Session

from gateway_blocking.channels import Channel
from gateway_blocking.connector import ConnectionSlot
from gateway_blocking.errors import (
    ExecutionError,
    GatewayConnectionClosed,
    GatewayError,
    GatewayTimeout,
    KernelRestarted,
    MessageTooLarge,
    NoSuchKernel,
    ReplyLost,
)
from gateway_blocking.execution import Execution
from gateway_blocking.locks import Lock
from gateway_blocking.messages import Message
from gateway_blocking.running import CodeRun, OutputStream, RunOptions

SESSION = Session(key=b"secret")


class Client:
    """A client with channels, whose kernel does what the test says."""

    kernel_id = "k"
    log = logging.getLogger("test")

    def __init__(self) -> None:
        mutex = Lock()
        self.channels = {
            name: Channel(name, self._send, SESSION, mutex) for name in ("shell", "iopub", "stdin")
        }
        for channel in self.channels.values():
            channel.start()
        self.connection_slot = ConnectionSlot()
        self.on_send: Callable[[], None] = lambda: None
        self.on_interrupt: Callable[[], None] = lambda: None
        self.done: list[str] = []

    shell_channel = property(lambda self: self.channels["shell"])
    iopub_channel = property(lambda self: self.channels["iopub"])
    stdin_channel = property(lambda self: self.channels["stdin"])

    def _send(self, *message: Any) -> None:
        self.on_send()

    def input(self, string: str) -> None:
        """Answer nothing."""

    def interrupt_kernel(self, timeout: float | None = None) -> None:
        self.done.append("interrupt")
        self.on_interrupt()

    def restart_kernel(self) -> None:
        self.done.append("restart")

    # --- the kernel -----------------------------------------------------------------------------

    def says(self, channel: str, msg_type: str, **content: Any) -> None:
        message = SESSION.msg(msg_type, content)
        parent = {"parent_header": {"msg_id": "1"}, "buffers": []}
        self.channels[channel].deliver({**message, **parent})

    def prints(self, text: str) -> None:
        self.says("iopub", "stream", name="stdout", text=text)

    def replies(self, status: str = "ok", **content: Any) -> None:
        self.says("shell", "execute_reply", status=status, execution_count=7, **content)
        self.says("iopub", "status", execution_state="idle")

    def run(self, **options: Any) -> CodeRun:
        message = {"header": {"msg_id": "1"}, "content": {"code": "code"}}
        return CodeRun(cast(Any, self), cast(Message, message), RunOptions(**options))


@pytest.fixture
def client() -> Client:
    return Client()


def test_the_reply_and_the_last_output_end_it(client: Client) -> None:
    """The result has everything that came."""

    def kernel() -> None:
        client.says("iopub", "execute_input", execution_count=7)
        client.prints("a")
        client.replies(user_expressions={"x": {"status": "ok"}})

    client.on_send = kernel
    done = client.run().execute()
    assert (done.status, done.stdout, done.execution_count) == ("ok", "a", 7)
    assert (done.code, done.msg_id, done.kernel_id) == ("code", "1", "k")
    assert done.user_expressions == {"x": {"status": "ok"}}
    assert (done.error, done.running, done.detail) == (None, False, "")


@pytest.mark.parametrize("has_traceback", [True, False])
def test_an_exception_of_the_code_is_in_the_result(client: Client, has_traceback: bool) -> None:
    """The reply has it; a kernel whose reply has none has published it."""
    failure = {"ename": "E", "evalue": "v", "traceback": ["t"]}

    def kernel() -> None:
        client.says("iopub", "error", **failure)
        client.replies("error", **(failure if has_traceback else {}))

    client.on_send = kernel
    done = client.run().execute()
    assert done.status == "error"
    assert done.error == ("E", "v", ["t"])
    with pytest.raises(ExecutionError):
        done.raise_for_error()


@pytest.mark.parametrize("status", ["aborted", "abort", "unknown"])
def test_code_that_the_kernel_skips_is_aborted(client: Client, status: str) -> None:
    """Older kernels call it "abort"."""
    client.on_send = lambda: client.replies(status)
    done = client.run().execute()
    assert done.status == "aborted"
    assert done.detail.startswith("the kernel skipped the code, because an earlier request failed")


@pytest.mark.parametrize(
    ("error", "status", "running"),
    [
        (KernelRestarted("restarted"), "died", False),
        (GatewayConnectionClosed("closed"), "lost", True),
        (ReplyLost("lost", msg_id="1", executed=True), "lost", False),
    ],
)
def test_a_loss_is_a_status_and_keeps_the_output(
    client: Client, error: GatewayError, status: str, running: bool
) -> None:
    """The exception itself is raised only if the caller asks for it."""

    def kernel() -> None:
        client.prints("before")
        for channel in client.channels.values():
            if isinstance(error, ReplyLost):
                channel.request_failed("1", error)
            else:
                channel.kernel_died(error)

    client.on_send = kernel
    done = client.run().execute()
    assert (done.status, done.stdout, done.detail) == (status, "before", str(error))
    assert done.running is running
    with pytest.raises(type(error)) as caught:
        done.raise_for_error()
    assert caught.value.execution is done


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KernelRestarted("restarted"), "died"),
        (GatewayConnectionClosed("closed"), "lost"),
        (GatewayTimeout("not writable"), "timeout"),
    ],
)
def test_code_that_cannot_be_sent_is_told_the_same_way(
    client: Client, error: GatewayError, status: str
) -> None:
    """A caller need not know if the kernel died before or after the request."""

    def fails() -> None:
        raise error

    client.on_send = fails
    done = client.run().execute()
    assert (done.status, done.running, done.detail) == (status, False, str(error))
    assert client.done == []


def test_code_that_is_too_large_is_an_error(client: Client) -> None:
    """It is a fault of the caller."""

    def fails() -> None:
        raise MessageTooLarge("too large")

    client.on_send = fails
    with pytest.raises(MessageTooLarge):
        client.run().execute()
    assert client.done == []


# --- timeouts -------------------------------------------------------------------------------------


def test_code_that_does_not_end_is_interrupted(client: Client) -> None:
    """The output of its end is in the result, and its exception."""
    failure = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
    client.on_send = lambda: client.prints("a")

    def ends() -> None:
        client.prints("b")
        client.replies("error", **failure)

    client.on_interrupt = ends
    done = client.run(timeout=0.01).execute()
    assert (done.status, done.stdout, done.running) == ("timeout", "ab", False)
    assert done.detail == "the code did not end within 0.01 s: it was interrupted, and ended"
    assert done.error is not None
    assert done.error.ename == "KeyboardInterrupt"
    with pytest.raises(GatewayTimeout):
        done.raise_for_error()


def test_code_that_ignores_the_interrupt_is_told(client: Client) -> None:
    """After the time to settle it may still run."""
    done = client.run(timeout=0.01, settle=0.01).execute()
    assert (done.status, done.running) == ("timeout", True)
    assert "did not end within 0.01 s: it may still run" in done.detail


def test_an_interrupt_that_fails_is_told(client: Client) -> None:
    """The gateway may be gone."""

    def fails() -> None:
        raise NoSuchKernel("gone")

    client.on_interrupt = fails
    done = client.run(timeout=0.01).execute()
    assert (done.status, done.running) == ("timeout", True)
    assert "interrupting it failed, and it may still run: gone" in done.detail


def test_an_interrupt_without_a_response_may_have_taken_effect(client: Client) -> None:
    """A gateway that is frozen must not hold the call for the time of a request."""

    def late() -> None:
        client.replies("error", ename="KeyboardInterrupt", evalue="", traceback=[])
        raise GatewayTimeout("no response")

    client.on_interrupt = late
    done = client.run(timeout=0.01).execute()
    assert (done.status, done.running) == ("timeout", False)


def test_restart_ends_the_code(client: Client) -> None:
    """The kernel is ready again when the call returns."""
    done = client.run(timeout=0.01, on_timeout="restart").execute()
    assert (done.status, done.running, client.done) == ("timeout", False, ["restart"])


def test_code_that_is_left_running_is_collected(client: Client) -> None:
    """wait() returns the whole result, also the caller's function gets all output."""
    seen: list[Any] = []
    client.on_send = lambda: client.prints("a")
    done = client.run(timeout=0.01, on_timeout="leave").execute(seen.append)
    assert (done.status, done.running, done.stdout) == ("timeout", True, "a")
    client.prints("b")
    later = done.wait(0.01)
    assert later.running
    client.replies()
    whole = later.wait(30)
    assert (whole.status, whole.stdout, whole.running) == ("ok", "ab", False)
    assert [each["text"] for each in seen] == ["a", "b"]
    assert done.wait(30) == whole
    assert client.done == []


def test_code_that_is_left_running_ends_with_the_channels(client: Client) -> None:
    """The thread that collects its output does not outlive the connection."""
    done = client.run(timeout=0.01, on_timeout="leave").execute()
    for channel in client.channels.values():
        channel.stop()
    assert done.wait(30).status == "lost"


def test_an_error_of_the_function_is_raised_by_wait(client: Client) -> None:
    """It happens in another thread."""

    def fails(output: Any) -> None:
        raise KeyError("mine")

    done = client.run(timeout=0.01, on_timeout="leave").execute(fails)
    client.prints("a")
    with pytest.raises(KeyError, match="mine"):
        done.wait(30)


def test_a_timeout_leaves_no_reply_behind(client: Client) -> None:
    """A reply that comes later is for no caller."""
    client.run(timeout=0.01, settle=0.0).execute()
    client.prints("late")
    assert not client.channels["iopub"].get_msgs()[1:]


# --- errors of the caller -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), GatewayTimeout("mine")])
def test_an_error_of_the_function_interrupts_the_code(client: Client, error: BaseException) -> None:
    """As subprocess.run() ends its child; the error is raised, of whatever kind it is."""

    def fails(output: Any) -> None:
        raise error

    client.on_send = lambda: client.prints("a")
    with pytest.raises(type(error), match="mine" if error.args else None):
        client.run().execute(fails)
    assert client.done == ["interrupt"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": -1}, "^timeout must not be negative, got -1$"),
        ({"settle": float("nan")}, "settle must not be negative, got nan"),
        ({"max_output": -1}, "max_output must not be negative, got -1"),
        ({"on_timeout": "kill"}, "on_timeout must be one of 'interrupt', .*, got 'kill'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=text):
        RunOptions(**options)


# --- streams --------------------------------------------------------------------------------------


def texts(outputs: Iterator[Any]) -> Iterator[str]:
    for output in outputs:
        yield output["text"]


def test_a_stream_yields_each_output_as_it_comes(client: Client) -> None:
    """Its result is there after the last one."""
    outputs = OutputStream(client.run)
    with pytest.raises(RuntimeError, match="has not ended"):
        _ = outputs.execution

    def kernel() -> None:
        client.prints("a")
        client.prints("b")
        client.replies()

    client.on_send = kernel
    assert list(texts(iter(outputs))) == ["a", "b"]
    assert outputs.execution.ok
    assert outputs.execution.stdout == "ab"


def test_leaving_a_stream_early_interrupts_the_code(client: Client) -> None:
    """The result has the last words of the code."""

    def ends() -> None:
        client.prints("c")
        client.replies("error", ename="KeyboardInterrupt", evalue="", traceback=[])

    client.on_send = lambda: client.prints("a")
    client.on_interrupt = ends
    outputs = OutputStream(client.run)
    for _ in outputs:
        break
    assert client.done == ["interrupt"]
    assert (outputs.execution.status, outputs.execution.stdout) == ("error", "ac")


def test_leaving_a_stream_of_code_that_does_not_end(client: Client) -> None:
    """The wait for its end is bounded."""
    client.on_send = lambda: client.prints("a")
    outputs = OutputStream(lambda: client.run(settle=0.01))
    for _ in outputs:
        break
    done: Execution = outputs.execution
    assert (done.status, done.running) == ("timeout", True)
