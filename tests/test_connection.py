"""The connection: its threads, its ends, and what it makes of a kernel's death."""

from __future__ import annotations

import logging
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
from rawserver import Peer, Script, serving

from gateway_blocking import connection as module
from gateway_blocking.channels import Channel
from gateway_blocking.connection import Connection, State
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayTimeout,
    KernelRestarted,
)
from gateway_blocking.frames import BINARY, CLOSE, PING, TEXT
from gateway_blocking.liveness import Verdict
from gateway_blocking.transport import Endpoint, Opening, dial

NAMES = ("shell", "iopub", "stdin", "control")


def connection_by(
    dialling: Callable[[], Opening],
    name: str = "12345678",
    kernel_exists: Callable[[], bool] = lambda: True,
) -> Connection:
    """A connection with channels that are started, not open yet."""
    session, mutex = Session(), threading.Lock()
    channels = {n: Channel(n, lambda *sent: None, session, mutex) for n in NAMES}
    for channel in channels.values():
        channel.start()
    return Connection(
        name,
        dial=dialling,
        kernel_exists=kernel_exists,
        channels=channels,
        session=session,
        send_timeout=5,
        log=logging.getLogger("test"),
    )


@contextmanager
def connected(
    script: Script, kernel_exists: Callable[[], bool] = lambda: True
) -> Iterator[Connection]:
    """An open connection to a server that runs the script; closed at the end."""

    def accepting(peer: Peer) -> None:
        peer.accept()
        script(peer)

    with serving(accepting) as where:
        connection = connection_by(
            lambda: dial(Endpoint(f"ws://{where}/", {})), "12345678-and-more", kernel_exists
        )
        connection.open()
        try:
            yield connection
        finally:
            connection.close()


def channel_of(connection: Connection, name: str) -> Channel:
    return connection._channels[name]


def stay(peer: Peer) -> None:
    peer.wait_for_end()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_closed_while_it_opens() -> None:
    """Another thread's close() is not undone by an open() that was under way: nothing stays."""
    connecting, go_on = threading.Event(), threading.Event()

    with connected(stay) as other:

        def slowly() -> Any:
            opening = other._dial()
            connecting.set()
            assert go_on.wait(10)
            return opening

        connection = connection_by(slowly, "87654321")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(connection.open)
            assert connecting.wait(10)
            connection.close()
            go_on.set()
            with pytest.raises(GatewayConnectionClosed, match="were stopped"):
                opening.result(timeout=10)
        assert connection.state is State.CLOSED
        assert "gateway-reader-87654321" not in {t.name for t in threading.enumerate()}


@contextmanager
def held_back(script: Script, **endpoint: Any) -> Iterator[Connection]:
    """A connection that is open as far as the caller knows; the server has not answered yet."""
    with serving(script) as where:
        connection = connection_by(lambda: dial(Endpoint(f"ws://{where}/", {}, **endpoint)))
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
        with pytest.raises(GatewayTimeout, match="holds its websocket back"):
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
        assert "no answer within 0.5 s (request_timeout)" in str(caught.value)
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
            wait_until(lambda: connection._reader.is_alive())
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
    with connected(script) as connection, ThreadPoolExecutor(4) as pool:
        start = time.monotonic()
        for one in [pool.submit(connection.close) for _ in range(4)]:
            one.result(timeout=10)
        connection.close()
        assert time.monotonic() - start < 2
        assert connection.state is State.CLOSED
        with pytest.raises(GatewayConnectionClosed):
            channel_of(connection, "shell").take()


def test_abandon_ends_the_threads_without_waiting() -> None:
    """What a client that is dropped does."""
    with connected(stay) as connection:
        connection.abandon()
        wait_until(lambda: connection.state is State.CLOSED)


# --- the kernel's life ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "verdict", "kind"),
    [
        ("restarting", Verdict.RESTARTED, KernelRestarted),
        ("dead", Verdict.DEAD, DeadKernelError),
    ],
)
def test_a_gateways_word_of_a_kernels_death(
    state: str, verdict: Verdict, kind: type[DeadKernelError]
) -> None:
    """Ends every wait, until the connection is told to trust the kernel again."""

    def script(peer: Peer) -> None:
        peer.receive()
        peer.send_message("iopub", "status", execution_state=state)
        stay(peer)

    with connected(script) as connection, ThreadPoolExecutor(1) as pool:
        shell = channel_of(connection, "shell")
        waiting = pool.submit(shell.take)
        connection.send("shell", Session().msg("x"))
        with pytest.raises(kind):
            waiting.result(timeout=10)
        assert connection.verdict is verdict
        assert not connection.is_beating(60)
        connection.revive()
        assert connection.verdict is Verdict.ALIVE
        with pytest.raises(Empty):
            shell.take(timeout=0)


def announce_shutdown(peer: Peer) -> None:
    peer.send_message("iopub", "shutdown_reply", parent="x", restart=False)
    stay(peer)


def test_an_announced_shutdown_is_looked_into() -> None:
    """The heartbeat asks the gateway until the kernel is gone."""
    answers = [True, False]
    with (
        connected(announce_shutdown, lambda: answers.pop(0)) as connection,
        pytest.raises(DeadKernelError, match="shut down or culled"),
    ):
        channel_of(connection, "shell").take(timeout=10)
    assert connection.verdict is Verdict.GONE


def test_a_kernel_that_stays_is_trusted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gateway goes on to know it, also where it cannot be asked now and then."""
    monkeypatch.setattr(module, "_DOUBT_INTERVAL", 0.01)
    asked: list[int] = []

    def exists() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise GatewayConnectionError("away")
        return True

    with connected(announce_shutdown, exists) as connection:
        wait_until(lambda: len(asked) >= module._DOUBT_LIMIT)
        wait_until(lambda: connection.verdict is Verdict.ALIVE)
        assert connection.is_beating(60)


# --- the heartbeat --------------------------------------------------------------------------------


def test_it_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in between sees traffic."""
    monkeypatch.setattr(module, "PING_INTERVAL", 0.05)
    pings: list[int] = []

    def script(peer: Peer) -> None:
        while len(pings) < 3:
            pings.append(peer.receive().opcode)
        stay(peer)

    with connected(script):
        wait_until(lambda: len(pings) == 3)
    assert pings == [PING] * 3


def test_silence_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway of which nothing is heard, not even a pong, counts as gone."""
    monkeypatch.setattr(module, "PING_INTERVAL", 0.05)
    monkeypatch.setattr(module, "SILENCE_LIMIT", 0.3)
    stop = threading.Event()
    with connected(lambda peer: bool(stop.wait(10))) as connection:
        with pytest.raises(GatewayConnectionClosed, match="nothing was heard"):
            channel_of(connection, "shell").take(timeout=10)
        stop.set()
