"""The connection: its threads, its ends, and what it makes of a kernel's death."""

from __future__ import annotations

import json
import logging
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import connection as module
from gateway_blocking import kernel_monitor, recovery_driver
from gateway_blocking.actions import State
from gateway_blocking.backlog import Backlog
from gateway_blocking.channels import Channel
from gateway_blocking.connection import Connection
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayTimeout,
    KernelGone,
    KernelRestarted,
    ReplyLost,
)
from gateway_blocking.frames import BINARY, CLOSE, PING, PONG, TEXT
from gateway_blocking.handshake import Endpoint
from gateway_blocking.liveness import KernelStatus
from gateway_blocking.locks import Lock
from gateway_blocking.transport import Transport
from gateway_blocking.wire import FORMATS, V1
from support.rawserver import Peer, Script, serving
from support.waiting import least_time, wait_until

NAMES = ("shell", "iopub", "stdin", "control")


def connection_by(endpoint: Callable[[str], Endpoint], **options: Any) -> Connection:
    """A connection with channels that are started, not open yet; a lost one stays lost."""
    session, mutex = Session(), Lock()
    channels = {n: Channel(n, lambda *sent: None, session, mutex) for n in NAMES}
    for channel in channels.values():
        channel.start()
    return Connection(
        **{
            "name": "12345678-and-more",
            "endpoint": endpoint,
            "kernel_state": lambda: "idle",
            "channels": channels,
            "session": session,
            "send_timeout": 5,
            "ping_interval": 10,
            "ping_timeout": 20,
            "delays": lambda: iter(()),
            "log": logging.getLogger("test"),
            **options,
        }
    )


@contextmanager
def connected(script: Script, **options: Any) -> Iterator[Connection]:
    """An open connection to a server that runs the script; closed at the end."""

    def accepting(peer: Peer) -> None:
        peer.accept()
        script(peer)

    with serving(accepting) as where:
        connection = connection_by(lambda session_id: Endpoint(f"ws://{where}/", {}), **options)
        connection.open()
        try:
            yield connection
        finally:
            connection.close()


def channel_of(connection: Connection, name: str) -> Channel:
    return connection._protocol._sinks[name]


def stay(peer: Peer) -> None:
    peer.wait_for_end()


def test_closed_while_it_opens() -> None:
    """Another thread's close() is not undone by an open() that was under way: nothing stays."""
    connecting, go_on = threading.Event(), threading.Event()

    with connected(stay) as other:

        def slowly(session_id: str) -> Endpoint:
            connecting.set()
            assert go_on.wait(10)
            return other._reader._endpoint(session_id)

        connection = connection_by(slowly, name="87654321")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(connection.open)
            assert connecting.wait(10)
            connection.close()
            go_on.set()
            with pytest.raises(GatewayConnectionClosed, match="were stopped"):
                opening.result(timeout=10)
        assert connection.state is State.CLOSED
        assert "gateway-reader-87654321" not in {t.name for t in threading.enumerate()}


class AsksTheConnection(logging.Handler):
    """A handler that uses the connection whose threads log."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection | None = None
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.connection is not None
        self.connection.missing("a")  # which takes the mutex
        self.texts.append(record.getMessage())


def test_log_handler_that_uses_the_connection_does_not_block_its_threads() -> None:
    """A line is logged without the mutex: also the one about dropped messages."""
    log, handler = logging.Logger("test", "DEBUG"), AsksTheConnection()
    log.addHandler(handler)
    session, mutex = Session(), Lock()
    backlog = Backlog(20_000, log.warning)
    channels = {n: Channel(n, lambda *sent: None, session, mutex, backlog) for n in NAMES}
    for channel in channels.values():
        channel.start()
    output = [
        {
            "channel": "iopub",
            "header": {"msg_id": f"{n}", "msg_type": "stream", "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "content": {"name": "stdout", "text": "x" * 10_000},
        }
        for n in range(9)
    ]

    def flood(peer: Peer) -> None:
        for message in output:
            peer.send(TEXT, json.dumps(message).encode())
        peer.send(TEXT, b"[")
        peer.wait_for_end()

    def accepting(peer: Peer) -> None:
        peer.accept()
        flood(peer)

    with serving(accepting) as where:
        connection = connection_by(
            lambda session_id: Endpoint(f"ws://{where}/", {}), channels=channels, log=log
        )
        handler.connection = connection
        connection.open()
        try:
            wait_until(lambda: any("malformed" in text for text in handler.texts))
        finally:
            connection.close()
    assert any("max_unread_size" in text for text in handler.texts), handler.texts


def test_who_holds_its_locks_can_abandon_it() -> None:
    """A dropped client is collected wherever a thread happens to be: also in the reader."""

    def collect(connection: Connection) -> None:
        assert connection._reader.transport
        with connection._runner.mutex, connection._reader.transport._io_lock:
            connection.close_nowait()

    with connected(stay) as connection:
        thread = threading.Thread(target=collect, args=[connection], daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        wait_until(lambda: connection.state is State.CLOSED)


@contextmanager
def held_back(script: Script, **endpoint: Any) -> Iterator[Connection]:
    """A connection that is open as far as the caller knows; the server has not answered yet."""
    with serving(script) as where:
        connection = connection_by(lambda session_id: Endpoint(f"ws://{where}/", {}, **endpoint))
        connection.open()
        try:
            yield connection
        finally:
            connection.close()
            assert not [t for t in threading.enumerate() if t.name.startswith("gateway-")]


def test_a_connection_that_is_lost_at_once_was_open() -> None:
    """open() tells of a handshake that failed, not of what came after it."""
    for _ in range(30):  # it was a matter of microseconds
        with (
            connected(lambda peer: peer.reset()) as connection,
            pytest.raises(GatewayConnectionClosed, match="was lost"),
        ):
            channel_of(connection, "shell").take(timeout=10)


REQUEST = Session().msg("kernel_info_request")


def test_a_handshake_that_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """open() returns, send() waits for it within its time-out, and then all is as usual."""
    monkeypatch.setattr(module, "_REFUSAL_TIMEOUT", 0.05)
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        assert go_on.wait(10)
        peer.accept()
        peer.send_message("iopub", "hello")
        stay(peer)

    with held_back(script) as connection:
        assert connection.state is State.CONNECTING
        assert not connection.is_beating(60)
        with pytest.raises(GatewayTimeout, match="completes the websocket handshake only when"):
            connection.send("shell", REQUEST, 0.1)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(connection.send, "shell", REQUEST, 10)
            go_on.set()
            sending.result(timeout=10)
        assert connection.state is State.OPEN
        assert channel_of(connection, "iopub").take(timeout=10)["msg_type"] == "hello"


def test_a_handshake_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told when its own time-out has passed, with the reason as the cause."""
    monkeypatch.setattr(module, "_REFUSAL_TIMEOUT", 0.05)
    with held_back(stay, handshake_timeout=0.5) as connection:
        with pytest.raises(GatewayConnectionClosed, match="was not connected to") as caught:
            channel_of(connection, "shell").take(timeout=10)
        assert isinstance(caught.value.__cause__, GatewayTimeout)
        assert "no response within 0.5 s (request_timeout)" in str(caught.value)
        with pytest.raises(GatewayConnectionClosed) as caught:
            connection.send("shell", REQUEST)
        assert isinstance(caught.value.__cause__, GatewayTimeout)


def test_close_does_not_wait_for_a_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does who waits to send; in another thread, open() itself."""
    with ThreadPoolExecutor(2) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_REFUSAL_TIMEOUT", 0.05)
            with held_back(stay) as connection:
                sending = pool.submit(connection.send, "shell", REQUEST)
                begun = time.monotonic()
        with pytest.raises(GatewayConnectionClosed):
            sending.result(timeout=10)
        assert time.monotonic() - begun < 5, "the time-out of the handshake is 42 s"

        opened: list[Connection] = []
        monkeypatch.setattr(module, "_REFUSAL_TIMEOUT", 42)
        monkeypatch.setattr(Connection, "open", lambda self: opened.append(self))
        with held_back(stay) as connection:
            monkeypatch.undo()
            monkeypatch.setattr(module, "_REFUSAL_TIMEOUT", 42)
            opening = pool.submit(connection.open)
            wait_until(lambda: connection._threads[0].is_alive())
            connection.close()
            with pytest.raises(GatewayConnectionClosed, match="were stopped"):
                opening.result(timeout=10)


def test_messages_go_to_their_channels() -> None:
    """By the channel's name; two threads serve it, named for the kernel."""

    def script(peer: Peer) -> None:
        for name in NAMES:
            peer.send_message(name, f"to_{name}")
        stay(peer)

    with connected(script) as connection:
        assert connection.state is State.OPEN
        assert connection.is_beating(60)
        for name in NAMES:
            assert channel_of(connection, name).take(timeout=10)["msg_type"] == f"to_{name}"
        names = {t.name for t in threading.enumerate() if t.name.startswith("gateway-")}
        assert names == {"gateway-reader-12345678", "gateway-heartbeat-12345678"}
    assert connection.state is State.CLOSED
    assert not [t for t in threading.enumerate() if t.name.startswith("gateway-")]


@pytest.mark.parametrize(
    "nonsense",
    [
        (TEXT, b"no json"),
        (TEXT, b"\xff\xfe"),
        (TEXT, b'{"channel": "shell", "header": {}, "content": {}}'),
        (TEXT, b'{"channel": ["x"], "header": {"msg_id": "1", "msg_type": "t"}, "content": {}}'),
        (BINARY, b"\x00"),
        (BINARY, struct.pack(">II", 2**31, 8)),
    ],
)
def test_a_malformed_message_is_logged_and_survived(
    nonsense: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The next message comes as if nothing had been."""

    def script(peer: Peer) -> None:
        peer.send(*nonsense)
        peer.send_message("somewhere", "unknown_channel")
        peer.send_message("shell", "good")
        stay(peer)

    with connected(script) as connection:
        assert channel_of(connection, "shell").take(timeout=10)["msg_type"] == "good"
    assert "12345678" in caplog.text


def answers(*messages: tuple[str, str, dict[str, Any] | None]) -> Script:
    """Answer a request with messages; the content of those that have None is not JSON."""

    def pack(part: Any) -> bytes:
        return b"{not JSON" if part is SPOILED else Session().pack(part)

    def script(peer: Peer) -> None:
        peer.accept(V1)
        _, request = FORMATS[V1].decode(BINARY, peer.receive().data, Session().unpack)
        kernel = Session()
        for channel, msg_type, content in messages:
            message = kernel.msg(msg_type, parent=request)
            message["content"] = SPOILED if content is None else content
            peer.send(*FORMATS[V1].encode(channel, message, pack))
        stay(peer)

    return script


SPOILED: dict[str, Any] = {"this": "is not packed"}
BUSY = ("iopub", "status", {"execution_state": "busy"})
IDLE = ("iopub", "status", {"execution_state": "idle"})
REPLY = Session().msg("execute_reply", {"status": "ok"})


@contextmanager
def connected_by_v1(script: Script) -> Iterator[Connection]:
    with serving(script) as where:
        endpoint = Endpoint(f"ws://{where}/", {}, subprotocols=(V1,))
        connection = connection_by(lambda session_id: endpoint)
        connection.open()
        try:
            yield connection
        finally:
            connection.close()


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize(
    ("channel", "msg_type", "reason"),
    [
        ("shell", "execute_reply", "executed it, once, but its execute_reply cannot be read"),
        ("stdin", "input_request", r"a question that cannot be read .* interrupt_kernel\(\)"),
    ],
)
def test_a_reply_that_cannot_be_read_fails_its_request(
    channel: str, msg_type: str, reason: str, claimed: bool
) -> None:
    """It raises ReplyLost, with the reason, wherever the reply is waited for."""
    request = Session().msg("execute_request", {"code": "1"})
    msg_id = request["header"]["msg_id"]
    with connected_by_v1(answers(BUSY, (channel, msg_type, None))) as connection:
        shell = channel_of(connection, "shell")
        connection.send("shell", request, 10)
        with pytest.raises(ReplyLost, match=reason) as caught:
            shell.get_reply(msg_id, timeout=30) if claimed else shell.take(timeout=30)
        assert "is not JSON" in str(caught.value)
        assert caught.value.msg_id == msg_id
        assert caught.value.executed is True
        with connection._runner.mutex:
            assert connection._protocol._requests.outstanding() == []


@pytest.mark.parametrize("content", [None, {"name": "stdout"}, {"name": "stdout", "text": 3}])
def test_output_that_cannot_be_read_is_counted_as_lost(
    content: dict[str, Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning gives the true reason, which is no rate limit."""
    request = Session().msg("execute_request", {"code": "1"})
    msg_id = request["header"]["msg_id"]
    output, reply = ("iopub", "stream", content), ("shell", "execute_reply", {"status": "ok"})
    with connected_by_v1(answers(BUSY, output, output, reply, IDLE)) as connection:
        connection.send("shell", request, 10)
        assert channel_of(connection, "shell").take(timeout=30)["msg_type"] == "execute_reply"
        states = [channel_of(connection, "iopub").take(timeout=30) for _ in range(2)]
        assert [message["content"]["execution_state"] for message in states] == ["busy", "idle"]
        assert connection.missing(msg_id) == 2
    assert f"at least 2 messages of the execution {msg_id} came, but cannot be read" in caplog.text
    assert "rate" not in caplog.text


def test_a_malformed_frame_may_have_been_output(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing tells whose message it was, but the number that is missing beside it is counted."""
    request = Session().msg("execute_request", {"code": "1"})

    def script(peer: Peer) -> None:
        peer.accept(V1)
        _, asked = FORMATS[V1].decode(BINARY, peer.receive().data, Session().unpack)
        kernel = Session()

        def say(channel: str, msg_type: str, content: dict[str, Any]) -> tuple[int, bytes]:
            message = kernel.msg(msg_type, content, parent=asked)
            return FORMATS[V1].encode(channel, message, Session().pack)

        peer.send(*say(*BUSY))
        opcode, frame = say("iopub", "stream", {"name": "stdout", "text": "1"})
        peer.send(opcode, frame[:20])
        peer.send(*say("shell", "execute_reply", {"status": "ok"}))
        peer.send(*say(*IDLE))
        stay(peer)

    with connected_by_v1(script) as connection:
        connection.send("shell", request, 10)
        states = [channel_of(connection, "iopub").take(timeout=30) for _ in range(2)]
        assert [message["content"]["execution_state"] for message in states] == ["busy", "idle"]
        assert connection.missing(request["header"]["msg_id"]) == 1
    assert "a malformed message" in caplog.text
    assert "output is missing: at least 1 messages" in caplog.text


# --- replies that do not come ---------------------------------------------------------------------


def serves_all_but(first: str, *spoiled: tuple[int, bytes]) -> Script:
    """Be done with the first execution, or have it forgotten, without a reply; answer all else.

    What is `spoiled` is sent in place of that reply.
    """

    def script(peer: Peer) -> None:
        peer.accept(V1)
        kernel, executions = Session(), 0
        while True:
            if (frame := peer.receive()).opcode != BINARY:
                continue
            channel, request = FORMATS[V1].decode(BINARY, frame.data, kernel.unpack)
            executions += (execution := request["msg_type"] == "execute_request")
            is_first = execution and executions == 1
            reply_type = request["msg_type"].replace("request", "reply")
            replies = [BUSY, (channel, reply_type, {"status": "ok"}), IDLE]
            for on, msg_type, content in [] if is_first and first == "forgets" else replies:
                if is_first and on == channel:
                    continue
                message = kernel.msg(msg_type, content, parent=request)
                peer.send(*FORMATS[V1].encode(on, message, kernel.pack))
            for odd in spoiled if is_first else ():
                peer.send(*odd)

    return script


@pytest.mark.parametrize("claimed", [True, False])
def test_a_kernel_that_is_done_and_does_not_reply(
    monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    """ipykernel does so if it is interrupted at the wrong moment: its caller is told."""
    monkeypatch.setattr(recovery_driver, "_AUDIT_DELAY", 0.05)
    request = Session().msg("execute_request", {"code": "1"})
    msg_id = request["header"]["msg_id"]
    with connected_by_v1(serves_all_but("is done")) as connection:
        connection.send("shell", request, 10)
        shell = channel_of(connection, "shell")
        with pytest.raises(ReplyLost, match="is done with it, and sent none") as caught:
            shell.get_reply(msg_id, timeout=30) if claimed else shell.take(timeout=30)
        assert caught.value.executed is None
        assert connection.state is State.OPEN
        assert not connection._protocol._requests.outstanding()
        wait_until(lambda: connection._protocol._recovery.recovery is None)
        later = Session().msg("execute_request", {"code": "1"})
        connection.send("shell", later, 10)
        assert shell.get_reply(later["header"]["msg_id"], timeout=30)


@pytest.mark.parametrize(
    "spoiled",
    [
        (BINARY, b"noise"),
        FORMATS[V1].encode("shell", {**REPLY, "header": ["no object"]}, Session().pack),
        FORMATS[V1].encode("shell", {**REPLY, "parent_header": {"msg_id": 7}}, Session().pack),
    ],
)
def test_a_message_that_may_have_been_a_reply(
    monkeypatch: pytest.MonkeyPatch, spoiled: tuple[int, bytes]
) -> None:
    """Nothing tells whose it was: what is not answered when a later execution ended, was lost."""
    monkeypatch.setattr(recovery_driver, "_AUDIT_DELAY", 0.05)
    request = Session().msg("execute_request", {"code": "1"})
    with connected_by_v1(serves_all_but("forgets", spoiled)) as connection:
        connection.send("shell", request, 10)
        with pytest.raises(ReplyLost, match="could not be read") as caught:
            channel_of(connection, "shell").get_reply(request["header"]["msg_id"], timeout=30)
        assert caught.value.executed is None
        assert connection.state is State.OPEN


def test_a_late_reply_is_no_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes after the "idle", and before the answer to what was asked because of that."""
    monkeypatch.setattr(recovery_driver, "_AUDIT_DELAY", 0.05)

    def script(peer: Peer) -> None:
        peer.accept(V1)
        kernel, requests = Session(), []
        for _ in range(2):  # the request, and the question
            requests.append(FORMATS[V1].decode(BINARY, peer.receive().data, kernel.unpack)[1])
            idle = kernel.msg("status", {"execution_state": "idle"}, parent=requests[-1])
            peer.send(*FORMATS[V1].encode("iopub", idle, kernel.pack))
        for request in requests:
            reply_type = request["msg_type"].replace("request", "reply")
            reply = kernel.msg(reply_type, {"status": "ok"}, parent=request)
            peer.send(*FORMATS[V1].encode("shell", reply, kernel.pack))
        stay(peer)

    request = Session().msg("execute_request", {"code": "1"})
    with connected_by_v1(script) as connection:
        connection.send("shell", request, 10)
        reply = channel_of(connection, "shell").get_reply(request["header"]["msg_id"], timeout=30)
        assert reply["msg_type"] == "execute_reply"
        wait_until(lambda: connection._protocol._recovery.recovery is None)
        assert channel_of(connection, "shell").empty()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda peer: peer.reset(), "broke"),
        (lambda peer: None, "without a word"),
        (lambda peer: peer.send(CLOSE, b"\x03\xe9bye"), "1001: bye"),
    ],
)
def test_a_lost_connection_ends_every_wait(end: Script, reason: str) -> None:
    """With the reason as cause; what came before stays readable; sending says so, too."""
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.send_message("iopub", "before")
        go.wait(10)
        end(peer)

    with connected(script) as connection, ThreadPoolExecutor(4) as pool:
        shell = channel_of(connection, "shell")

        def claimed() -> Any:
            with shell.claim("a") as claim:
                return claim.take()

        waiting = [pool.submit(shell.take), pool.submit(claimed)]
        waiting.append(pool.submit(channel_of(connection, "stdin").take))
        time.sleep(0.2)
        go.set()
        for one in waiting:
            with pytest.raises(GatewayConnectionClosed, match=reason) as caught:
                one.result(timeout=10)
            assert isinstance(caught.value.__cause__, GatewayConnectionError)
        assert channel_of(connection, "iopub").take(timeout=5)["msg_type"] == "before"
        wait_until(lambda: connection.state is State.CLOSED)
        assert not connection.is_beating(60)
        with pytest.raises(GatewayConnectionClosed, match="start_channels"):
            connection.send("shell", Session().msg("x"))


def never_read(peer: Peer) -> None:
    threading.Event().wait(4)


@pytest.mark.parametrize("script", [stay, never_read, lambda peer: peer.reset()])
def test_close_is_bounded_and_may_be_repeated(script: Script) -> None:
    """From several threads at once, with a server that answers, is silent, or has gone."""

    def close() -> float:
        with connected(script) as connection, ThreadPoolExecutor(4) as pool:
            start = time.monotonic()
            for one in [pool.submit(connection.close) for _ in range(4)]:
                one.result(timeout=30)
            connection.close()
            taken = time.monotonic() - start
            assert connection.state is State.CLOSED
            with pytest.raises(GatewayConnectionClosed):
                channel_of(connection, "shell").take()
        return taken

    assert least_time(close, 2) < 2


def test_an_interrupted_close_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next close() waits for a thread that runs, whatever Thread.join() says after a signal."""
    ending, go_on = threading.Event(), threading.Event()
    end = Transport.close

    def slowly(self: Transport) -> None:
        ending.set()
        assert go_on.wait(10)
        end(self)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    def interrupt_once_it_ends() -> None:
        assert ending.wait(10)
        os.kill(os.getpid(), signal.SIGALRM)

    monkeypatch.setattr(Transport, "close", slowly)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with connected(stay) as connection, ThreadPoolExecutor(1) as pool:
            interrupting = pool.submit(interrupt_once_it_ends)
            with pytest.raises(KeyboardInterrupt):
                connection.close()
            interrupting.result(timeout=10)
            timer = threading.Timer(0.2, go_on.set)
            timer.start()
            connection.close()
            assert go_on.is_set()
            assert connection.state is State.CLOSED
            timer.join()
    finally:
        go_on.set()
        signal.signal(signal.SIGALRM, before)


def test_abandon_ends_the_threads_without_waiting() -> None:
    """A client that is dropped ends its connection so."""
    with connected(stay) as connection:
        connection.close_nowait()
        wait_until(lambda: connection.state is State.CLOSED)


# --- the kernel's life ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "verdict", "kind"),
    [
        ("restarting", KernelStatus.RESTARTED, KernelRestarted),
        ("dead", KernelStatus.DEAD, DeadKernelError),
    ],
)
def test_a_gateways_word_of_a_kernels_death(
    state: str, verdict: KernelStatus, kind: type[DeadKernelError]
) -> None:
    """Ends every wait, until the connection is told to trust the kernel again."""

    def script(peer: Peer) -> None:
        peer.receive()
        peer.send_message("iopub", "status", execution_state=state)
        stay(peer)

    # The websocket is opened again after the restart, which is to take longer than this test.
    with (
        connected(script, delays=lambda: iter([60.0])) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        shell = channel_of(connection, "shell")
        waiting = pool.submit(shell.take)
        connection.send("shell", Session().msg("x"))
        with pytest.raises(kind):
            waiting.result(timeout=10)
        assert connection.kernel_status is verdict
        assert not connection.is_beating(60)
        connection.revive()
        assert connection.kernel_status is KernelStatus.ALIVE
        with pytest.raises(Empty):
            shell.take(timeout=0)


def announce_shutdown(peer: Peer) -> None:
    peer.send_message("iopub", "shutdown_reply", parent="x", restart=False)
    stay(peer)


def test_an_announced_shutdown_is_looked_into() -> None:
    """The heartbeat asks the gateway until the kernel is gone."""
    answers = ["idle", "gone"]
    with (
        connected(announce_shutdown, kernel_state=lambda: answers.pop(0)) as connection,
        pytest.raises(DeadKernelError, match="shut down or culled"),
    ):
        channel_of(connection, "shell").take(timeout=10)
    assert connection.kernel_status is KernelStatus.GONE


def test_a_kernel_that_stays_is_trusted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway goes on to know it, even if it cannot be asked now and then."""
    monkeypatch.setattr(kernel_monitor, "_SHUTDOWN_POLL_INTERVAL", 0.01)
    asked: list[int] = []

    def state() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise GatewayConnectionError("away")
        return "idle"

    with connected(announce_shutdown, kernel_state=state) as connection:
        wait_until(lambda: len(asked) >= kernel_monitor._SHUTDOWN_POLLS)
        wait_until(lambda: connection.kernel_status is KernelStatus.ALIVE)
        assert connection.is_beating(60)


def test_a_doubt_does_not_stop_the_heartbeat() -> None:
    """The websocket is pinged while the gateway is asked again and again."""
    pings: list[int] = []

    def script(peer: Peer) -> None:
        peer.send_message("iopub", "shutdown_reply", parent="x", restart=False)
        while True:
            if peer.receive().opcode == PING:
                pings.append(1)
                peer.send(PONG, b"")

    with connected(script, ping_interval=0.05) as connection:
        wait_until(lambda: connection.kernel_status is KernelStatus.SHUTTING_DOWN)
        before = len(pings)
        wait_until(lambda: len(pings) >= before + 5)
        assert connection.kernel_status is KernelStatus.SHUTTING_DOWN


def test_nobody_reads() -> None:
    """The reader goes on, whatever is in the queue: pings are answered."""
    pongs: list[int] = []

    def script(peer: Peer) -> None:
        for number in range(50):
            for _ in range(1000):
                peer.send_message("iopub", "stream", text="x")
            peer.send(PING, b"")
            if peer.receive().opcode == PONG:
                pongs.append(number)
        stay(peer)

    with connected(script, ping_interval=0) as connection:
        wait_until(lambda: len(pongs) == 50, 90)
        assert channel_of(connection, "iopub").qsize() == 50_000


# --- the heartbeat --------------------------------------------------------------------------------


def test_it_pings() -> None:
    """A proxy in between sees traffic."""
    pings: list[int] = []

    def script(peer: Peer) -> None:
        while len(pings) < 3:
            pings.append(peer.receive().opcode)
        stay(peer)

    with connected(script, ping_interval=0.05):
        wait_until(lambda: len(pings) == 3)
    assert pings == [PING] * 3


def silent(peer: Peer) -> None:
    """Says one thing, and then reads and writes nothing."""
    peer.send_message("iopub", "hello")
    threading.Event().wait(2)


def test_silence_is_a_loss() -> None:
    """A websocket on which nothing comes, not even a pong, although the gateway answers."""
    with (
        connected(silent, ping_interval=0.05, ping_timeout=0.2) as connection,
        pytest.raises(GatewayConnectionClosed, match="nothing was received"),
    ):
        channel_of(connection, "shell").take(timeout=10)


def test_no_heartbeat() -> None:
    """An interval of 0 switches it off: neither pings nor looks, whatever the silence."""
    asked: list[int] = []

    def script(peer: Peer) -> None:
        with pytest.raises(TimeoutError):
            peer.sock.settimeout(0.5)
            peer.receive()

    with (
        connected(
            script, ping_interval=0, ping_timeout=0.01, kernel_state=lambda: asked.append(1)
        ) as connection,
        pytest.raises(GatewayConnectionClosed, match="without a word"),
    ):
        channel_of(connection, "shell").take(timeout=10)
    assert not asked


def test_a_heart_that_beats_once_in_an_age() -> None:
    """An interval longer than the system can wait does not end the heartbeat."""
    with connected(stay, ping_interval=1e10) as connection:
        time.sleep(0.2)
        assert connection._threads[1].is_alive()
        connection._protocol._monitor._expect_shutdown(time.monotonic())
        wait_until(lambda: connection.kernel_status is KernelStatus.ALIVE)


def test_a_kernel_that_is_gone_is_seen_by_the_heartbeat() -> None:
    """The websocket says nothing of it; the gateway is asked twice."""
    answers = ["idle", "gone", "gone"]
    with (
        connected(stay, ping_interval=0.05, kernel_state=lambda: answers.pop(0)) as connection,
        pytest.raises(KernelGone, match="is gone before it said anything: it died while starting"),
    ):
        channel_of(connection, "shell").take(timeout=10)
    assert connection.kernel_status is KernelStatus.GONE
    with pytest.raises(KernelGone):
        connection.send("shell", REQUEST)
