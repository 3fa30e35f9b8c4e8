"""Connection: opening, use and end of the threads around a protocol, on pairs of sockets."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import connection as module
from gateway_blocking import reader
from gateway_blocking.actions import State
from gateway_blocking.channels import Channel
from gateway_blocking.connection import Connection
from gateway_blocking.errors import (
    GatewayConnectionClosed,
    GatewayConnectionError,
    KernelGone,
    NoSuchKernel,
)
from gateway_blocking.handshake import Endpoint
from gateway_blocking.liveness import KernelStatus
from gateway_blocking.locks import Lock
from gateway_blocking.transport import Transport
from gateway_blocking.wire import FORMATS, V1
from support.protocol import says
from support.waiting import wait_until

SESSION = Session(key=b"secret")


class Host:
    """Handshakes of a connection, each of which ends as the test says, by default well."""

    def __init__(self) -> None:
        self.outcomes: list[Exception] = []
        self.unreachable: Exception | None = None
        self.peers: list[socket.socket] = []

    def handshake(self, endpoint: Endpoint) -> Any:
        host = self

        class Handshake:
            def connect(self) -> Any:
                if host.unreachable is not None:
                    raise host.unreachable
                return self

            def upgrade(self) -> Transport:
                if host.outcomes:
                    raise host.outcomes.pop(0)
                ours, theirs = socket.socketpair()
                host.peers.append(theirs)
                return Transport(ours, V1)

            def abort(self) -> None:
                """Wake no thread: none waits."""

            close = close_after_fork = abort

        return Handshake()

    def says(self, channel: str, message: Any) -> None:
        """Send a message of the kernel on the newest websocket."""
        _, payload = FORMATS[V1].encode(channel, message, SESSION.pack)
        head = bytes((0x82, 127)) + len(payload).to_bytes(8, "big")
        self.peers[-1].sendall(head + payload)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host()
    monkeypatch.setattr(reader, "Handshake", host.handshake)
    monkeypatch.setattr(module, "_GOODBYE_TIMEOUT", 0.05)  # it does not say goodbye
    yield host
    for peer in host.peers:
        peer.close()


class Opened:
    """A connection and its channels."""

    def __init__(self) -> None:
        mutex = Lock()
        self.channels = {
            name: Channel(name, lambda *sent: None, SESSION, mutex)
            for name in ("shell", "iopub", "stdin", "control")
        }
        for channel in self.channels.values():
            channel.start()
        self.connection = Connection(
            "12345678-kernel",
            endpoint=lambda session_id: Endpoint("ws://h/", {}),
            kernel_state=lambda: "idle",
            channels=self.channels,
            session=SESSION,
            send_timeout=30.0,
            ping_interval=0.0,
            ping_timeout=20.0,
            delays=lambda: iter([0.0]),
            log=logging.getLogger("tests"),
        )


@pytest.fixture
def opened(host: Host) -> Iterator[Opened]:
    opened = Opened()
    yield opened
    opened.connection.close()
    assert not any(thread.is_alive() for thread in opened.connection._threads)


def test_open_starts_the_threads_and_a_reply_reaches_its_channel(
    host: Host, opened: Opened
) -> None:
    """The message goes out on the websocket, and the reply comes back through the reader."""
    opened.connection.open()
    assert opened.connection.is_usable
    wait_until(lambda: opened.connection.state is State.OPEN)
    asked = SESSION.msg("execute_request", {"code": "1"})
    opened.connection.send("shell", asked, 30.0)
    assert host.peers[0].recv(2)[0] == 0x82  # a binary frame
    host.says("shell", says("execute_reply", asked, status="ok"))
    reply = opened.channels["shell"].take(60)
    assert reply["parent_header"]["msg_id"] == asked["header"]["msg_id"]


def test_open_of_an_unreachable_gateway_raises_and_leaves_no_thread(
    host: Host, opened: Opened
) -> None:
    """The caller's own thread reaches the gateway, so that the error is raised there."""
    host.unreachable = GatewayConnectionError("refused")
    with pytest.raises(GatewayConnectionError, match="refused"):
        opened.connection.open()
    assert not opened.connection.was_started
    assert not opened.connection.is_usable


def test_open_that_the_gateway_refuses_raises_its_error(host: Host, opened: Opened) -> None:
    """The handshake is the reader's, and open() waits for a refusal."""
    host.outcomes.append(NoSuchKernel("it is not there"))
    with pytest.raises(NoSuchKernel):
        opened.connection.open()
    assert opened.connection.state is State.CLOSED


def test_lost_websocket_is_replaced_by_another(host: Host, opened: Opened) -> None:
    """The connection stays the same for its client."""
    opened.connection.open()
    wait_until(lambda: opened.connection.state is State.OPEN)
    host.peers[0].close()
    wait_until(lambda: len(host.peers) == 2)
    host.says("iopub", says("stream", None, name="stdout", text="x"))
    assert opened.channels["iopub"].take(60)["content"]["text"] == "x"


def test_close_says_goodbye_and_ends_every_wait(host: Host, opened: Opened) -> None:
    """It may be called again."""
    opened.connection.open()
    wait_until(lambda: opened.connection.state is State.OPEN)
    opened.connection.close()
    opened.connection.close()
    assert host.peers[0].recv(100)[0] == 0x88  # a close frame
    with pytest.raises(GatewayConnectionClosed, match="were stopped"):
        opened.channels["shell"].take(60)
    assert not opened.connection.is_usable


def test_open_after_a_close_raises(opened: Opened) -> None:
    """Another thread stopped the channels meanwhile."""
    opened.connection.close()
    with pytest.raises(GatewayConnectionClosed):
        opened.connection.open()


def test_close_nowait_ends_the_threads_without_a_wait(host: Host, opened: Opened) -> None:
    """A finalizer calls it, in any thread, also in one of the connection's own."""
    opened.connection.open()
    with opened.connection._runner.mutex:
        opened.connection.close_nowait()
    wait_until(lambda: not any(thread.is_alive() for thread in opened.connection._threads))


def test_kernel_ended_fails_each_wait_until_revive(host: Host, opened: Opened) -> None:
    """The websocket is opened again: the new process may listen on other ports."""
    opened.connection.open()
    wait_until(lambda: opened.connection.state is State.OPEN)
    opened.connection.kernel_ended(KernelStatus.GONE)
    with pytest.raises(KernelGone):
        opened.channels["shell"].take(60)
    assert not opened.connection.is_beating(1000)
    opened.connection.revive()
    wait_until(lambda: len(host.peers) == 2)
    assert opened.connection.kernel_status is KernelStatus.ALIVE


def test_muted_connection_delivers_no_end(host: Host, opened: Opened) -> None:
    """The interpreter ends, and a daemon thread that waits must not print an error."""
    opened.connection.mute()
    opened.connection.kernel_ended(KernelStatus.GONE)
    assert opened.connection.kernel_status is KernelStatus.ALIVE


def test_after_fork_the_connection_is_closed_and_not_closed_for_its_parent(
    host: Host, opened: Opened
) -> None:
    """Only the descriptor is given back: a shutdown would end the parent's websocket."""
    opened.connection._after_fork()
    assert opened.connection.state is State.CLOSED
    assert not opened.connection.is_usable
