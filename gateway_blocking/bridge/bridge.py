"""The bridge between ZMQ sockets of this machine and a kernel behind a gateway.

Three threads use what is here, besides the two of the connection:

- The main thread owns the ZMQ sockets and all state.  It never waits for the gateway.
- ``gateway-bridge-shell`` starts the kernel, and sends requests of the channels shell and stdin.
- ``gateway-bridge-control`` sends requests of the channel control, and interrupts the kernel: an
  interrupt must not wait behind a request that waits for a lost connection.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

import zmq
from jupyter_client.session import Session

from ..errors import DeadKernelError, GatewayConnectionClosed, GatewayError, NoSuchKernel
from ..locks import apart
from ..manager import BlockingGatewayKernelManager
from ..threads import DaemonThread
from .client import Arrived, BridgeClient, ConnectionEnded, KernelEnded, RequestFailed
from .outbox import Outbox
from .routing import Route, RouteTable, failure_messages, lost_output_text, topic
from .sockets import BridgeSockets

__all__ = ["Bridge", "BridgeEnd"]

_POLL = 1000  # milliseconds between two looks at the parent process
_ROUTED = ("shell", "control", "stdin")

_Event = Arrived | RequestFailed | KernelEnded | ConnectionEnded | Callable[[], None]


class BridgeEnd(Exception):
    """The end of the bridge.

    Parameters
    ----------
    status : int
        Exit status of the process.
    text : str
        Line for standard error, or "".
    restarts : bool
        Whether the next bridge for the same connection file goes on with the kernel.
    """

    def __init__(self, status: int, text: str = "", *, restarts: bool = False) -> None:
        super().__init__(text)
        self.status, self.restarts = status, restarts


class Bridge:
    """Carries the messages of front ends to one kernel, and back.

    Parameters
    ----------
    sockets : BridgeSockets
        The sockets that front ends connect to.
    session : Session
        The session with the key of the connection file, which signs and checks messages.
    new_kernel : callable
        ``new_kernel()``, which returns the manager of the kernel after it was started, or raises
        GatewayError.  A thread calls it.
    log : logging.Logger or adapter
        The logger for warnings.
    """

    def __init__(
        self,
        sockets: BridgeSockets,
        session: Session,
        new_kernel: Callable[[], BlockingGatewayKernelManager],
        log: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self._sockets = sockets.by_name
        self._session = session
        self._new_kernel = new_kernel
        self._log = log
        self._routes = RouteTable()
        self._outbox: Outbox[_Event] = Outbox()
        self._work: dict[str, SimpleQueue[Callable[[], None] | None]] = {
            name: SimpleQueue() for name in ("shell", "control")
        }
        self.manager: BlockingGatewayKernelManager | None = None
        """The manager of the kernel, when it has started."""
        self._client: BridgeClient | None = None
        self._parent = os.getppid()
        self._stop: BridgeEnd | None = None

    # --- for any thread -------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt the kernel; a signal handler may call this."""
        self._work["control"].put(self._interrupt_kernel)

    def stop(self, end: BridgeEnd) -> None:
        """Let :meth:`run` raise this; a signal handler may call this."""
        self._outbox.put(partial(self._raise, end))

    # --- the main thread ------------------------------------------------------------------------

    def run(self) -> None:
        """Start the kernel, and carry messages until an end is reached.

        Raises
        ------
        BridgeEnd
            Always.
        """
        threads = [
            DaemonThread(f"gateway-bridge-{name}", partial(self._do, queue))
            for name, queue in self._work.items()
        ]
        self._work["shell"].put(self._start)
        for thread in threads:
            apart(thread.start)
        poller = zmq.Poller()
        for socket in self._sockets.values():
            poller.register(socket, zmq.POLLIN)
        poller.register(self._outbox.fileno(), zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll(_POLL))
                for name, socket in self._sockets.items():
                    if socket in ready:
                        self._receive(name, socket)
                for event in self._outbox.take_all():
                    self._handle(event)
                if os.getppid() != self._parent:
                    raise BridgeEnd(1, "the process that started the bridge has ended")
        finally:
            for queue in self._work.values():
                queue.put(None)
            if self._client is not None:
                self._client.stop_channels()
            self._outbox.close()

    def _raise(self, end: BridgeEnd) -> None:
        raise end

    def _handle(self, event: _Event) -> None:
        """Handle one event of the connection, or of a thread of the bridge."""
        if isinstance(event, Arrived):
            self._pass_on(event.channel, event.message)
        elif isinstance(event, KernelEnded | ConnectionEnded):
            # Requests get no reply: a front end tells a dead kernel by the end of its process.
            raise BridgeEnd(1, str(event.error))
        elif isinstance(event, RequestFailed):
            is_end = isinstance(event.error, DeadKernelError | GatewayConnectionClosed)
            if not is_end and (route := self._routes.close(event.msg_id)) is not None:
                self._fail(route, event.error)
        else:
            event()

    # --- from front ends ------------------------------------------------------------------------

    def _receive(self, name: str, socket: zmq.Socket[bytes]) -> None:
        """Receive what there is on one socket."""
        for _ in range(100):  # then the others get their turn
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if name == "hb":
                socket.send_multipart(parts)
            elif name == "iopub":
                self._welcome(parts[0])
            else:
                self._accept(name, parts)

    def _welcome(self, subscription: bytes) -> None:
        """Welcome a front end that has subscribed, by which it knows that output arrives."""
        if subscription[:1] == b"\x01":
            content = {"subscription": subscription[1:].decode("utf-8", "replace")}
            message = self._session.msg("iopub_welcome", content)
            self._send("iopub", subscription[1:], message)

    def _accept(self, channel: str, parts: list[bytes]) -> None:
        """Check a front end's message, and answer it or pass it on."""
        try:
            identities, frames = self._session.feed_identities(parts)
            message = self._session.deserialize(frames)
            msg_type, msg_id = str(message["header"]["msg_type"]), str(message["header"]["msg_id"])
        except Exception as error:  # a message of another key, a replay, or not a message at all
            self._log.warning("a message on %s was refused: %s", channel, error)
            return
        if channel == "stdin":
            self._put_to_send("shell", channel, message, None)
            return
        route = Route(channel, tuple(identities), message["header"])
        if msg_type == "shutdown_request":
            self._shut_down(route, restart=bool(message["content"].get("restart")))
        elif msg_type == "interrupt_request":
            self._work["control"].put(partial(self._interrupt_kernel, route))
        else:
            if msg_type.endswith("_request"):
                self._routes.add(channel, identities, message["header"])
            self._put_to_send(channel, channel, message, msg_id)

    def _shut_down(self, route: Route, *, restart: bool) -> None:
        """Answer a request for shutdown, and end."""
        content = {"status": "ok", "restart": restart}
        self._reply(route, "shutdown_reply", content)
        self._publish("shutdown_reply", content, route.header)
        raise BridgeEnd(0, restarts=restart)

    # --- to front ends --------------------------------------------------------------------------

    def _pass_on(self, channel: str, message: dict[str, Any]) -> None:
        """Pass a message of the kernel on to the front end that it is for, or to all."""
        parent = str(message["parent_header"].get("msg_id", ""))
        if channel == "iopub":
            if message["msg_type"] != "iopub_welcome":  # of the gateway's own subscription
                if message["content"].get("execution_state") == "idle":
                    self._tell_losses(parent)
                self._send("iopub", topic(message), message)
            return
        route = self._routes.find(parent) if channel == "stdin" else self._routes.close(parent)
        if route is None:
            self._log.debug("a %s answers no request of a front end", message["msg_type"])
            return
        self._send(channel, list(route.identities), message)

    def _tell_losses(self, msg_id: str) -> None:
        """Publish a line below a cell whose output is known to be incomplete."""
        route = self._routes.find(msg_id)
        missing = self._client.missing_messages(msg_id) if self._client and route else None
        if route is not None and missing:
            text = {"name": "stderr", "text": lost_output_text(missing)}
            self._publish("stream", text, route.header)

    def _fail(self, route: Route, error: GatewayError) -> None:
        """End a request whose reply does not come."""
        for channel, msg_type, content in failure_messages(route.header, error):
            if channel == "reply":
                self._reply(route, msg_type, content)
            else:
                self._publish(msg_type, content, route.header)

    def _reply(self, route: Route, msg_type: str, content: Mapping[str, Any]) -> None:
        message = self._session.msg(msg_type, dict(content), parent=route.header)
        self._send(route.channel, list(route.identities), message)

    def _publish(self, msg_type: str, content: Mapping[str, Any], parent: dict[str, Any]) -> None:
        message = self._session.msg(msg_type, dict(content), parent=parent)
        self._send("iopub", topic(message), message)

    def _send(self, channel: str, prefix: bytes | list[bytes], message: Mapping[str, Any]) -> None:
        parts = self._session.serialize(dict(message), prefix)
        self._sockets[channel].send_multipart([*parts, *message.get("buffers", ())])

    # --- the bridge's other threads -------------------------------------------------------------

    def _do(self, queue: SimpleQueue[Callable[[], None] | None]) -> None:
        """Do the work of one queue, one after another."""
        while (work := queue.get()) is not None:
            try:
                work()
            except GatewayError as error:
                self.stop(BridgeEnd(1, str(error)))
            except Exception as error:  # a defect, which must not leave a bridge that does nothing
                self._log.exception("the bridge failed")
                self.stop(BridgeEnd(1, f"{type(error).__name__}: {error}"))

    def _start(self) -> None:
        """Start the kernel and connect to it; requests wait in the queues until then."""
        self.manager = manager = self._new_kernel()
        client = manager.client()
        assert isinstance(client, BridgeClient)
        client.forward_to(self._outbox.put)
        client.start_channels()
        self._client = client

    def _put_to_send(
        self, queue: str, channel: str, message: dict[str, Any], msg_id: str | None
    ) -> None:
        self._work[queue].put(partial(self._send_to_kernel, channel, message, msg_id))

    def _send_to_kernel(self, channel: str, message: dict[str, Any], msg_id: str | None) -> None:
        client = self._client
        if client is None:
            return  # the start failed, and the bridge ends
        try:
            client.connection_slot.send(channel, message, None)
        except GatewayError as error:
            if msg_id is not None:
                self._outbox.put(RequestFailed(msg_id, error))

    def _interrupt_kernel(self, route: Route | None = None) -> None:
        content: dict[str, Any] = {"status": "ok"}
        try:
            if self.manager is not None:
                self.manager.interrupt_kernel()
        except NoSuchKernel as error:
            raise GatewayError(f"the kernel is gone: {error}") from error
        except GatewayError as error:
            self._log.warning("the kernel was not interrupted: %s", str(error))
            content = {"status": "error", "ename": type(error).__name__, "evalue": str(error)}
            content["traceback"] = [f"{type(error).__name__}: {error}"]
        if route is not None:
            self._outbox.put(partial(self._reply, route, "interrupt_reply", content))
