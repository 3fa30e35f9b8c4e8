"""The ZMQ sockets of a bridge, and its connection file."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.session import Session

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.bridge import bridge as bridge_module
from gateway_blocking.bridge import sockets as module
from gateway_blocking.bridge.bridge import Bridge, BridgeEnd
from gateway_blocking.bridge.publisher import Publisher
from gateway_blocking.bridge.sockets import (
    BridgeSockets,
    read_connection_file,
    write_new_connection_file,
)
from gateway_blocking.errors import GatewayError
from support.waiting import wait_until

MB = 1_000_000


def test_a_new_connection_file_has_a_key_that_only_this_user_can_read(tmp_path: Path) -> None:
    """Without a key, every user of this machine could execute code in the kernel."""
    path = tmp_path / "kernel.json"
    first = write_new_connection_file(path, "python3")
    assert len(first["key"]) >= 32
    assert read_connection_file(path) == first
    assert write_new_connection_file(tmp_path / "other.json", "python3")["key"] != first["key"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


PORTS = {f"{name}_port": 1 for name in ("shell", "iopub", "stdin", "control", "hb")}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"shell_port": "1"}', "[" * 100_000),
        *(json.dumps({**PORTS, "shell_port": port}) for port in ("1", 0, -1, 65536, True, None)),
        *(json.dumps({**PORTS, name: 5}) for name in ("key", "ip", "transport")),
        json.dumps({**PORTS, "key": None}),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_connection_file_is_refused(tmp_path: Path, text: str) -> None:
    """The error names what it must have."""
    path = tmp_path / "kernel.json"
    path.write_text(text)
    with pytest.raises(GatewayError, match=r"kernel\.json"):
        read_connection_file(path)


@pytest.mark.parametrize(
    "change",
    [{"hb_port": "in use"}, {"ip": "no-such-interface"}, {"curve_secretkey": "too short"}],
    ids=["port", "interface", "curve"],
)
def test_sockets_that_cannot_be_bound_are_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    """The error comes at once: no socket that was made before keeps the context waiting."""
    connection: Any = write_new_connection_file(tmp_path / "kernel.json", "python3")
    errors = []

    def bind() -> None:
        try:
            BridgeSockets({**connection, **change})
        except GatewayError as error:
            errors.append(str(error))

    with create_server(("127.0.0.1", 0)) as other:
        if "hb_port" in change:
            change = {"hb_port": other.getsockname()[1]}
        thread = threading.Thread(target=bind, daemon=True)
        thread.start()
        thread.join(30)
    assert len(errors) == 1
    assert "cannot be used" in errors[0]


# --- a kernel that does not start -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_type", "expected"),
    [("execute", {"error", "execute_reply"}), ("kernel_info", {"stream"})],
)
def test_a_front_end_is_told_why_the_kernel_did_not_start(
    request_type: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell gets the error; qtconsole, which waits with its first prompt, gets output."""
    monkeypatch.setattr(bridge_module, "_CONNECTING", 0)
    path = tmp_path / "kernel.json"
    connection = write_new_connection_file(path, "python3")
    sockets = BridgeSockets(connection)
    client = BlockingKernelClient(connection_file=str(path))
    client.load_connection_file()
    client.start_channels(hb=False)
    _ = client.execute("1") if request_type == "execute" else client.kernel_info()
    for name in ("shell", "iopub"):
        assert sockets.by_name[name].poll(60_000)

    def new_kernel() -> BlockingGatewayKernelManager:
        with zmq.Context() as context, context.socket(zmq.REQ) as ping:
            ping.connect(f"tcp://127.0.0.1:{connection['hb_port']}")
            ping.send(b"ping")
            assert ping.poll(60_000)  # the bridge has received, or is about to, what came before
            ping.recv()
        raise GatewayError("the gateway is full")

    session = Session(key=connection["key"].encode())
    with pytest.raises(BridgeEnd, match="the gateway is full"):
        Bridge(sockets, session, new_kernel, logging.getLogger(__name__)).run()
    sockets.close()
    told: set[str] = set()
    try:
        while not told >= expected:
            channel = "shell" if "error" in told else "iopub"
            message = getattr(client, f"get_{channel}_msg")(timeout=60)
            told.add(message["msg_type"])
            if message["msg_type"] in expected:
                assert "the gateway is full" in str(message["content"])
    finally:
        client.stop_channels()
        client.context.destroy()


# --- front ends that do not read ------------------------------------------------------------------


class Publishing:
    """The sockets of a bridge, which keep 1000 messages and 20 MB, and front ends of it."""

    def __init__(self, file: Path) -> None:
        self.connection = write_new_connection_file(file, "python3")
        self.sockets = BridgeSockets(self.connection)
        self.iopub = self.sockets.by_name["iopub"]
        self.publisher = Publisher(self.iopub, 20 * MB)
        self.context = zmq.Context()
        self.front_ends: list[zmq.Socket[bytes]] = []

    def subscribe(self) -> zmq.Socket[bytes]:
        front_end: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
        self.front_ends.append(front_end)
        front_end.rcvhwm = 2
        front_end.subscribe(b"")
        front_end.connect(f"tcp://127.0.0.1:{self.connection['iopub_port']}")
        assert self.iopub.poll(60_000)
        assert self.iopub.recv() == b"\x01"
        return front_end

    def publish(self, number: int, size: int) -> bool:
        return self.publisher.publish([b"topic", b"%d " % number + bytes(size)])

    def close(self) -> None:
        for socket in self.front_ends:
            socket.close(linger=0)
        self.context.term()
        for socket in self.sockets.by_name.values():
            socket.linger = 0
        self.sockets.close()


def read(front_end: zmq.Socket[bytes]) -> int:
    """The number of the next message."""
    assert front_end.poll(60_000)
    return int(front_end.recv_multipart()[1].split(b" ")[0])


@pytest.fixture
def publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publishing]:
    monkeypatch.setattr(module, "_UNREAD", 1000)
    publishing = Publishing(tmp_path / "kernel.json")
    yield publishing
    publishing.close()


def test_number_of_messages_for_a_front_end_that_does_not_read_is_bounded(
    publishing: Publishing,
) -> None:
    """The drop is noticed; another front end, which reads, gets every message."""
    publishing.subscribe()  # and never reads
    reading = publishing.subscribe()
    results = []
    for number in range(100_000):  # the buffers of the system take the first thousands
        results.append(publishing.publish(number, 10_000))
        assert read(reading) == number
        if not results[-1]:
            break
    assert results[-1] is False


def test_size_of_messages_for_a_front_end_that_does_not_read_is_bounded(
    publishing: Publishing,
) -> None:
    """Big messages are dropped when the wait was in vain, until the front end reads."""
    front_end = publishing.subscribe()
    monitored = publishing.publisher
    published = 0
    while monitored.to_wait_for() is None:
        assert publishing.publish(published, 3 * MB)
        published += 1
        assert published < 1000
    monitored.stalled()
    assert monitored.to_wait_for() is None  # there is no hope
    while publishing.publish(published, 3 * MB):  # ZMQ's thread has moved some on meanwhile
        published += 1
        assert published < 1000
        if monitored.to_wait_for() is not None:
            monitored.stalled()
    assert publishing.publish(-2, 10) is True  # a small message is not big's loss
    assert [read(front_end) for _ in range(published + 1)] == [*range(published), -2]
    wait_until(lambda: not monitored.is_full)
    assert publishing.publish(published, 3 * MB)
    assert read(front_end) == published


def test_one_message_may_be_larger_than_the_limit(publishing: Publishing) -> None:
    """An output of 100 MB is not lost because the limit is 64 MB."""
    front_end = publishing.subscribe()
    assert publishing.publish(1, 30 * MB)
    assert read(front_end) == 1
    wait_until(lambda: publishing.publisher.to_wait_for() is None)
