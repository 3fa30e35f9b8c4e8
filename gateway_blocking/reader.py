"""The reader thread of a connection: it opens the websocket, and reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Never

from jupyter_client.session import Session

from .actions import GiveUp, Retry
from .channels import Channel
from .errors import GatewayAuthError, GatewayError, WireError
from .handshake import Endpoint, Handshake
from .messages import Message, Unreadable
from .outcomes import stopped
from .runner import ProtocolRunner
from .transport import Transport
from .wire import FORMATS, Format

__all__ = ["Reader"]


class Reader:
    """Opens the websocket, receives, decodes, and reports; opens it again after a loss.

    It alone reads a socket and closes it at the end.  It sends nothing.

    Parameters
    ----------
    runner : ProtocolRunner
        The protocol that events are reported to.
    endpoint : callable
        ``endpoint(session_id)`` returns where the websocket leads at this moment.
    channels : mapping of str to Channel
        The channels that the protocol delivers into, by name.
    session : jupyter_client.session.Session
        Source of ``unpack``, which reads JSON.
    formats : mapping of str to Format, optional
        Format of each subprotocol.
    """

    def __init__(
        self,
        runner: ProtocolRunner,
        endpoint: Callable[[str], Endpoint],
        channels: Mapping[str, Channel],
        session: Session,
        formats: Mapping[str, Format] = FORMATS,
    ) -> None:
        self.socket: Handshake | Transport | None = None
        """The handshake or the websocket that close() ends."""
        self.transport: Transport | None = None
        """The websocket of the protocol's epoch."""
        self._runner = runner
        self._protocol = runner.protocol
        self._log = runner.log
        self._endpoint = endpoint
        self._channels = channels
        self._session = session
        self._formats = formats
        self._reached: Handshake | None = None
        self._prepared: Handshake | None = None  # the second one, perhaps with other credentials
        self._has_prepared = False
        runner.abort_if_asked = self._abort_if_asked

    # --- also in other threads ------------------------------------------------------------------

    def reach(self) -> None:
        """Reach the gateway, in the caller's thread; :meth:`run` completes the handshake.

        Raises
        ------
        GatewayError
            As :class:`.Handshake` does.
        GatewayConnectionClosed
            Another thread closed the connection meanwhile.
        """
        handshake = self._prepared or self._new_handshake()
        self._prepared = None
        handshake.connect()
        self._reached = handshake

    def _new_handshake(self) -> Handshake:
        handshake = Handshake(self._endpoint(self._protocol.session_id))
        self.socket = handshake
        if self._runner.is_closing:  # after it is where close() looks for it
            handshake.close()
            raise stopped(self._runner.name)
        return handshake

    def _abort_if_asked(self) -> None:
        """Abort the current websocket if the protocol asks for that; from any thread."""
        if not (reason := self._protocol.abort_reason):
            return
        with self._runner.mutex:
            transport = self.transport if self._protocol.abort_reason else None
        if transport is not None and not transport.is_aborted:
            transport.send_close()
            transport.abort(reason)

    def abort(self) -> None:
        """End the connection at once: the thread is woken if it waits."""
        if self.socket is not None:
            self.socket.abort()

    def close(self) -> None:
        """Give the file descriptor back; only before the thread runs or at its end."""
        if self.socket is not None:
            self.socket.close()

    def after_fork(self) -> None:
        """Give the file descriptor back in a child process; the connection is its parent's."""
        if self.socket is not None:
            self.socket.close_after_fork()
        self.socket = self.transport = None

    # --- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        """Do the work of the thread."""
        error: BaseException | None = None
        try:
            error = self._serve()
        except Exception as bug:  # every call that waits is told, by close()
            self._log.exception("the reader of kernel %s failed", self._runner.name)
            error = bug
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Close the socket, and tell every call that waits."""
        with self._runner.mutex.plain:
            was_open = self._protocol.epoch > 0
            # Each request in flight, and each later call for a dead kernel, raises the same error.
            is_told = self._protocol.has_requests or self._protocol.death is not None
        try:
            self.close()
        finally:
            self._runner.close(None if self._runner.is_closing else error)
        if error is not None and was_open and not self._runner.is_closing:
            self._log.log(logging.INFO if is_told else logging.WARNING, "%s", str(error))

    def _serve(self) -> GatewayError | None:
        """Open the websocket and read it, again and again; return what ends that for good."""
        while True:
            try:
                transport = self._connect()
            except GatewayError as error:
                decision = self._decide_after_failure(error)
            else:
                decision = self._read_until_lost(transport)
            if self._runner.is_closing:
                return None
            if isinstance(decision, GiveUp):
                return decision.error
            if not self._runner.pause(decision.delay):
                return None

    def _connect(self) -> Transport:
        """Complete the handshake; reach the gateway first, unless the caller's thread has."""
        if self._reached is None:
            self.reach()
        handshake, self._reached = self._reached, None
        assert handshake is not None
        transport = handshake.upgrade()
        with self._runner.mutex.plain:
            self.socket = self.transport = transport  # from here on close() says goodbye to it
            if self._runner.is_closing:  # it may have aborted the handshake, and not this
                raise stopped(self._runner.name)
            actions = self._protocol.connection_opened(transport.subprotocol, monotonic())
        self._runner.accept(actions)
        self._log.debug("kernel %s: the websocket is open", self._runner.name)
        return transport

    def _decide_after_failure(self, error: GatewayError) -> Retry | GiveUp:
        self._runner.stay_if_muted()
        self.close()
        if self._protocol.epoch:
            self._log.info("kernel %s: not opened yet: %s", self._runner.name, str(error))
        changed = isinstance(error, GatewayAuthError) and self._credentials_changed()
        with self._runner.mutex.plain:
            return self._protocol.connection_failed(error, monotonic(), credentials_changed=changed)

    def _credentials_changed(self) -> bool:
        """Prepare another handshake; return True if it has other credentials than were refused."""
        refused = self.socket
        if self._has_prepared or self._protocol.epoch or not isinstance(refused, Handshake):
            return False
        self._has_prepared = True
        try:
            self._prepared = self._new_handshake()  # for which the token's renewer is asked
        except GatewayError as error:
            self._log.debug("kernel %s: no other credentials: %s", self._runner.name, str(error))
            return False
        return self._prepared.endpoint.headers != refused.endpoint.headers

    def _read_until_lost(self, transport: Transport) -> Retry | GiveUp:
        try:
            self._read(transport)
        except GatewayError as error:
            lost = error
        self._runner.stay_if_muted()
        transport.close()
        with self._runner.mutex.plain:
            decision = self._protocol.connection_lost(lost, monotonic())
        if isinstance(decision, Retry) and not self._runner.is_closing:
            text = "kernel %s: %s; opening the websocket again"
            self._log.info(text, self._runner.name, str(lost))
        return decision

    def _read(self, transport: Transport) -> Never:
        decode = self._formats[transport.subprotocol].decode
        unpack = self._session.unpack
        name = self._runner.name
        while True:
            opcode, payload = transport.receive()
            if self._runner.is_muted:
                self._runner.stay_if_muted()
            try:
                channel, message = decode(opcode, payload, unpack)
                self.receive(channel, message, len(payload))
            except Unreadable as error:
                self._log.warning("kernel %s: a message cannot be read: %s", name, str(error))
                self.receive(error.channel, error.message, len(payload), str(error))
            except WireError as error:
                self._log.warning("kernel %s: a malformed message: %s", name, str(error))
                self._runner.event(self._protocol.message_lost)
            except Exception:  # one unforeseen message must not end all the others
                self._log.exception("kernel %s: a message could not be handled", name)
                self._runner.event(self._protocol.message_lost)

    def receive(self, channel: str, message: Message, size: int, unreadable: str = "") -> None:
        """Report a message of `size` bytes; `unreadable` says why its content is not."""
        with self._runner.mutex.plain:
            actions = self._protocol.message_received(
                channel, message, size, monotonic(), unreadable
            )
        if actions:
            self._runner.accept(actions)
        if (receiver := self._channels.get(channel)) is not None:
            receiver.after_delivery()
