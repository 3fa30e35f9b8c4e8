"""The sending of a connection, in its callers' threads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any

from jupyter_client.session import Session

from .actions import State
from .deadline import Deadline
from .errors import GatewayConnectionError, GatewayTimeout
from .reader import Reader
from .requests_table import Request
from .runner import ProtocolRunner
from .transport import Transport
from .wire import FORMATS

__all__ = ["Sender"]


class Sender:
    """Registers requests with the protocol, and writes them to the websocket.

    Any thread may call :meth:`send`: requests of one thread keep their order.

    Parameters
    ----------
    runner : ProtocolRunner
        The protocol that requests are registered with.
    reader : Reader
        Has the websocket that requests are written to.
    session : jupyter_client.session.Session
        Source of ``pack``, which writes JSON.
    send_timeout : float
        Seconds that a gateway may take to accept a message.
    """

    def __init__(
        self, runner: ProtocolRunner, reader: Reader, session: Session, send_timeout: float
    ) -> None:
        self._runner = runner
        self._protocol = runner.protocol
        self._reader = reader
        self._session = session
        self._send_timeout = send_timeout

    def send(
        self, channel: str, message: Mapping[str, Any], timeout: float | Deadline | None = None
    ) -> None:
        """Send a message, as soon as there is a websocket: see :meth:`.Connection.send`."""
        deadline = Deadline.of(timeout)
        limit = self._send_timeout if timeout is None else deadline
        while True:
            transport, epoch = self._wait_until_writable(channel, deadline)
            request = self._new_request(channel, message, transport.subprotocol)
            try:
                with self._runner.mutex:
                    is_registered = self._protocol.register(request, epoch)
                if is_registered:
                    transport.send(*request.frame, limit)
            except BaseException as error:
                may_send_again = self._request_not_sent(request)
                if not isinstance(error, GatewayConnectionError):
                    raise
                # Not all of it was written, so that the gateway cannot have the whole.
                transport.abort()  # so that the reader notices, too
                if not may_send_again:  # it has failed, or the recovery has it
                    return
                self._runner.waiters.wait_while(partial(self._is_current, epoch), deadline)
            else:
                if is_registered:
                    self._runner.event(self._protocol.request_sent, request)
                    return

    def _wait_until_writable(self, channel: str, deadline: Deadline) -> tuple[Transport, int]:
        """Wait until messages may be sent on a channel; return the websocket and its epoch."""
        found: list[tuple[Transport, int]] = []

        def is_unwritable() -> bool:
            with self._runner.mutex:
                epoch = self._protocol.epoch_to_send(channel)
                transport = self._reader.transport
                if epoch is not None and transport is not None:
                    found.append((transport, epoch))
            return not found

        if self._runner.waiters.wait_while(is_unwritable, deadline):
            return found[-1]
        raise GatewayTimeout(
            f"no message could be sent to kernel {self._runner.name} within {deadline.timeout:g} s:"
            + (
                " the gateway completes the websocket handshake only when the kernel responds, and"
                " it has not responded yet"
                if self._protocol.state is State.CONNECTING
                else " the connection was lost and is not open again"
            )
        )

    def _new_request(self, channel: str, message: Mapping[str, Any], subprotocol: str) -> Request:
        header = message["header"]
        subshell = header.get("subshell_id")
        return Request(
            msg_id=header["msg_id"],
            msg_type=header["msg_type"],
            channel=channel,
            subprotocol=subprotocol,
            frame=FORMATS[subprotocol].encode(channel, message, self._session.pack),
            subshell=subshell if type(subshell) is str else None,
        )

    def _request_not_sent(self, request: Request) -> bool:
        with self._runner.mutex:
            return self._protocol.request_not_sent(request, monotonic())

    def _is_current(self, epoch: int) -> bool:
        return self._protocol.epoch == epoch and self._protocol.is_writable
