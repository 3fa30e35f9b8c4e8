"""The ZMQ sockets of a bridge, and the connection file that names them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import zmq
from jupyter_client.connect import write_connection_file
from jupyter_client.session import new_id_bytes

from ..errors import GatewayError

__all__ = [
    "BridgeSockets",
    "ConnectionFile",
    "descriptor",
    "has_input",
    "read_connection_file",
    "receive_frames",
    "send_frames",
    "write_new_connection_file",
]

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_TEXTS = ("ip", "transport", "key", "signature_scheme", "curve_publickey", "curve_secretkey")
_INPUT = int(zmq.POLLIN)
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE) | _LAST
_LINGER = 1000  # milliseconds for what was sent last, as ipykernel has it
_UNREAD = 20_000  # messages that are kept for a front end that does not read


class ConnectionFile(TypedDict, total=False):
    """The content of a connection file, as jupyter_client writes it."""

    ip: str
    transport: str
    key: str
    signature_scheme: str
    kernel_name: str
    curve_publickey: str
    curve_secretkey: str
    shell_port: int
    iopub_port: int
    stdin_port: int
    control_port: int
    hb_port: int


def read_connection_file(path: Path) -> ConnectionFile:
    """Return the content of a connection file.

    Raises
    ------
    GatewayError
        The file cannot be read, or is not a connection file.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise GatewayError(f"the connection file {path} cannot be read: {error}") from error
    ports = [content.get(name) for name in _PORTS] if isinstance(content, dict) else [None]
    if not all(type(port) is int and 0 < port < 65536 for port in ports):
        raise GatewayError(
            f"{path} is not a connection file: it must have the numbers {', '.join(_PORTS)}"
        )
    for name in _TEXTS:
        if not isinstance(content.get(name, ""), str):  # the text shows no value: it may be the key
            raise GatewayError(f"{path} is not a connection file: its {name} must be text")
    checked: ConnectionFile = content
    return checked


def write_new_connection_file(path: Path, kernel_name: str) -> ConnectionFile:
    """Write a connection file with new ports and a new key, which only this user can read."""
    write_connection_file(str(path), kernel_name=kernel_name, key=new_id_bytes())
    return read_connection_file(path)


class BridgeSockets:
    """The sockets that front ends connect to.  One thread uses them.

    Parameters
    ----------
    connection : ConnectionFile
        Where to bind them, and the CURVE keys if they are encrypted.

    Raises
    ------
    GatewayError
        A port is in use, or the transport is unknown.
    """

    def __init__(self, connection: ConnectionFile) -> None:
        self._context = zmq.Context()
        self._connection = connection
        self.by_name: dict[str, zmq.Socket[bytes]] = {}
        """The sockets: ``shell``, ``control``, ``stdin``, ``iopub`` and ``hb``."""
        kinds = {
            "shell": zmq.ROUTER,
            "control": zmq.ROUTER,
            "stdin": zmq.ROUTER,
            "iopub": zmq.XPUB,
            "hb": zmq.REP,
        }
        try:
            for name, kind in kinds.items():
                self._bind(name, kind)
        except zmq.ZMQError as error:
            self.close()
            raise GatewayError(
                f"the port of {name} ({self._address(name)}) cannot be used: {error}"
            ) from error

    def _bind(self, name: str, kind: int) -> None:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        self.by_name[name] = socket  # close() would wait for ever for one that it does not know
        socket.linger = _LINGER
        if kind == zmq.ROUTER:
            socket.router_handover = 1  # a front end that connects again takes its own place
        if kind == zmq.XPUB:
            socket.xpub_verbose = 1  # each subscription is welcomed
            socket.sndhwm = _UNREAD
        if secret := self._connection.get("curve_secretkey"):
            socket.curve_server = 1
            socket.curve_secretkey = secret.encode()
            socket.curve_publickey = self._connection.get("curve_publickey", "").encode()
        socket.bind(self._address(name))

    def _address(self, name: str) -> str:
        values: Mapping[str, Any] = self._connection
        transport, ip = values.get("transport", "tcp"), values.get("ip", "127.0.0.1")
        separator = "-" if transport == "ipc" else ":"
        return f"{transport}://{ip}{separator}{values[f'{name}_port']}"

    def close(self) -> None:
        """Close the sockets; what was sent may take a second to leave."""
        for socket in self.by_name.values():
            socket.close()
        self._context.term()


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """Return the descriptor that becomes readable when a message, or a place for one, has come."""
    number = socket.get(zmq.FD)
    assert isinstance(number, int)
    return number


def has_input(socket: zmq.Socket[bytes]) -> bool:
    """Return True if there is a message to receive; take note of all that has come."""
    return bool(cast("int", socket.get(zmq.EVENTS)) & _INPUT)


def receive_frames(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    """Return the frames of the next message; None if there is none."""
    if not has_input(socket):
        return None
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:  # the heartbeat's socket has dropped a message without a delimiter
        return None


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[bytes | memoryview]) -> None:
    """Send a message without waiting.

    ``send_multipart`` computes the flags of each frame with enumerations, which takes more than
    half of its time (pyzmq 27: 9 us for 7 frames, and 4 us here).
    """
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], _LAST)
