"""The bridge between ZMQ sockets of this machine and a kernel behind a gateway.

Three threads use what is here, besides the two of the connection:

- The main thread receives from front ends, and sends requests.  It never waits for the gateway.
- ``gateway-bridge-shell`` starts the kernel, and sends those requests of the channels shell and
  stdin that have to wait.
- ``gateway-bridge-control`` does so for the channel control, and interrupts the kernel: an
  interrupt must not wait behind a request that waits for a lost connection.

The connection's reader thread sends what it has received to the front ends itself: to wake another
thread for each message would take longer than to send it.  One mutex is held during each use of the
ZMQ sockets, which never block.

A ZMQ socket has a descriptor for its events, which becomes readable only when something changes,
and the thread that uses the socket may take note of it for all.  So the thread that has sent looks
whether something has come meanwhile, and wakes the main thread for that.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import zmq
from jupyter_client.session import Session

from ..errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayError,
    GatewayTimeout,
    NoSuchKernel,
)
from ..locks import Lock
from ..manager import BlockingGatewayKernelManager
from .client import Arrived, BridgeClient, ConnectionEnded, Event, KernelEnded, RequestFailed
from .framing import Framing
from .outbox import Outbox
from .publisher import Publisher
from .routing import (
    UNREAD_TEXT,
    Route,
    RouteTable,
    asks_for_restart,
    end_messages,
    error_content,
    failure_messages,
    lost_output_text,
    text_for_front_end,
    topic,
)
from .sockets import BridgeSockets, descriptor, has_input, receive_frames, send_frames
from .worker import Worker

__all__ = ["Bridge", "BridgeEnd"]

_POLL = 1.0  # seconds between two looks at the front end's process
_OUTBOX = "outbox"
_STALL = 5  # seconds without progress after which a front end does not read
_SMALL = 16_384  # bytes of a message that a socket takes as a whole, or not at all
_CONNECTING = 0.5  # seconds in which front ends connect (ZMQ tries again each 0.1 s)
_TURN = 100  # messages of one socket, before the others get their turn

_Event = Event | Callable[[], None]


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
    max_unread_size : int
        Bytes of big messages that are kept for a front end that does not read; 0 for no limit.
    has_front_end_ended : callable, optional
        Returns True, at once, if the process has ended that the bridge is to end with.
    """

    def __init__(
        self,
        sockets: BridgeSockets,
        session: Session,
        new_kernel: Callable[[], BlockingGatewayKernelManager],
        log: logging.Logger | logging.LoggerAdapter[Any],
        max_unread_size: int = 0,
        has_front_end_ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sockets = sockets.by_name
        self._publisher = Publisher(self._sockets["iopub"], max_unread_size)
        self._unread: set[str] = set()  # requests with output that did not go to all front ends
        self._execution_count = 0  # of the last cell that the kernel has begun
        self._session = session
        self._framing = Framing(session.sign, session.pack)
        self._refused = 0  # messages
        self._new_kernel = new_kernel
        self._log = log
        self._routes = RouteTable()
        self._outbox: Outbox[_Event] = Outbox()
        self._mutex = Lock()  # for sockets, framing and routes
        self._workers = {
            name: Worker(f"gateway-bridge-{name}", self._work_failed)
            for name in ("shell", "control")
        }
        self.manager: BlockingGatewayKernelManager | None = None
        """The manager of the kernel, when it has started."""
        self._client: BridgeClient | None = None
        self._has_front_end_ended = has_front_end_ended
        self._end: BridgeEnd | None = None

    # --- for any thread -------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt the kernel; a signal handler may call this."""
        self._workers["control"].do(self._interrupt_kernel)

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
        self._workers["shell"].do(self._start)
        for worker in self._workers.values():
            worker.start()
        try:
            self._carry()
        finally:
            for worker in self._workers.values():
                worker.stop()
            if self._client is not None:
                self._client.stop_channels()
            self._outbox.close()

    def _carry(self) -> None:
        """Carry messages until an end is reached."""
        with selectors.DefaultSelector() as selector:
            for name, socket in self._sockets.items():
                selector.register(descriptor(socket), selectors.EVENT_READ, name)
            selector.register(self._outbox.fileno(), selectors.EVENT_READ, _OUTBOX)
            ready = {_OUTBOX}
            while True:
                if _OUTBOX in ready:
                    self._outbox.rest()
                    self._handle_events()
                    ready = set(self._sockets)  # the sender may have taken note of their events
                more = self._receive(ready)
                if self._end is not None:
                    raise self._end
                ready = {key.data for key, _ in selector.select(0 if more else _POLL)} | more
                if self._has_front_end_ended():
                    raise BridgeEnd(1, "the process that started the bridge has ended")

    def _receive(self, names: Iterable[str]) -> set[str]:
        """Receive from these sockets; return the names of those that may have more."""
        try:
            with self._mutex:
                return {name for name in names if self._receive_from(name, self._sockets[name])}
        except BridgeEnd as end:
            self._end = end
            return set()

    def _raise(self, end: BridgeEnd) -> None:
        raise end

    def _handle_events(self) -> None:
        """Handle the events that are there, in the main thread or in the connection's reader."""
        try:
            with self._mutex:
                if self._end is None:
                    for event in self._outbox.take_all():
                        self._handle(event)
        except BridgeEnd as end:
            self._end = end
            self._outbox.wake()

    def _relay(self) -> None:
        """Handle what the connection's reader has put, and let front ends read it."""
        self._handle_events()
        waited = 0
        while self._end is None:
            with self._mutex:
                unsent = self._publisher.to_wait_for()
                if unsent is not None and waited >= _STALL:
                    self._log.warning("a front end does not read; it will lack output")
                    self._publisher.stalled()
            if unsent is None:
                return
            try:
                unsent.wait(1.0)
            except zmq.NotDone:
                waited += 1
            else:
                waited = 0

    def _put(self, event: Event) -> None:
        """Accept an event of the connection, in one of its threads."""
        if isinstance(event, Arrived):
            self._outbox.put_quietly(event)  # the reader calls _handle_events() next
        else:
            self._outbox.put(event)

    def _handle(self, event: _Event) -> None:
        """Handle one event of the connection, or of a thread of the bridge."""
        if isinstance(event, Arrived):
            self._pass_on(event.channel, event.message)
        elif isinstance(event, KernelEnded | ConnectionEnded):
            self._end_requests(event.error)
            raise BridgeEnd(1, text_for_front_end(event.error))
        elif isinstance(event, RequestFailed):
            is_end = isinstance(event.error, DeadKernelError | GatewayConnectionClosed)
            if not is_end and (route := self._routes.fail(event.msg_id)) is not None:
                self._fail(route, event.error)
        else:
            event()

    # --- from front ends ------------------------------------------------------------------------

    def _receive_from(self, name: str, socket: zmq.Socket[bytes]) -> bool:
        """Receive what there is on one socket; return True if there may be more."""
        for _ in range(_TURN):
            if (frames := receive_frames(socket)) is None:
                return False
            if name == "hb":
                send_frames(socket, frames)
            elif name == "iopub":
                self._welcome(frames[0])
            else:
                self._accept(name, frames)
        return True

    def _welcome(self, subscription: bytes) -> None:
        """Welcome a front end that has subscribed, by which it knows that output arrives."""
        if subscription[:1] == b"\x01":
            content = {"subscription": subscription[1:].decode("utf-8", "replace")}
            message = self._session.msg("iopub_welcome", content)
            self._send("iopub", [subscription[1:]], message)

    def _accept(self, channel: str, frames: list[bytes]) -> None:
        """Check a front end's message, and answer it or pass it on."""
        try:
            received = self._framing.receive(frames)
        except ValueError as error:
            self._refused += 1
            if self._refused.bit_count() == 1:  # 1, 2, 4, ...: a pipe that is not read gets full
                text = "a message on %s was refused (%d so far): %s"
                self._log.warning(text, channel, self._refused, error)
            return
        header = received.header
        msg_type, message = header["msg_type"], {"header": header, "parts": received.parts}
        if channel == "stdin":
            self._pass_to_kernel("shell", channel, message, None)
            return
        route = Route(channel, received.identities, header)
        if msg_type == "shutdown_request":
            self._shut_down(route, restart=asks_for_restart(received.parts[3]))
        elif msg_type == "interrupt_request":
            self._workers["control"].do(partial(self._interrupt_kernel, route))
        else:
            if msg_type.endswith("_request"):
                self._routes.add(route)
            self._pass_to_kernel(channel, channel, message, header["msg_id"])

    def _pass_to_kernel(
        self, name: str, channel: str, message: Mapping[str, Any], msg_id: str | None
    ) -> None:
        """Send a message now if that needs no wait, and else let the worker send it.

        To wake the worker for each request would take longer than to send it.
        """
        # Until the kernel has started, requests of all channels wait behind its start.
        worker = self._workers["shell" if self._client is None else name]
        is_small = sum(map(len, message["parts"])) <= _SMALL
        if worker.is_idle and self._client is not None and is_small:
            if self._send_to_kernel(channel, message, msg_id, 0):
                return
        worker.do(partial(self._send_to_kernel, channel, message, msg_id))

    def _shut_down(self, route: Route, *, restart: bool) -> None:
        """Answer a request for shutdown, and end."""
        content = {"status": "ok", "restart": restart}
        self._reply(route, "shutdown_reply", content)
        self._publish("shutdown_reply", content, route.header)
        raise BridgeEnd(0, restarts=restart)

    # --- to front ends --------------------------------------------------------------------------

    def _pass_on(self, channel: str, message: Mapping[str, Any]) -> None:
        """Pass a message of the kernel on to the front end that it is for, or to all."""
        parent, msg_type = str(message["parent_header"].get("msg_id", "")), message["msg_type"]
        if channel == "iopub":
            if msg_type != "iopub_welcome":  # of the gateway's own subscription
                if msg_type == "status" and message["content"].get("execution_state") == "idle":
                    self._tell_losses(parent, message["parent_header"])
                elif msg_type == "execute_input":
                    self._execution_count = message["content"].get("execution_count") or 0
                self._send("iopub", [topic(message)], message)
            return
        routes = self._routes
        identities = routes.find(parent) if channel == "stdin" else routes.close(parent)
        if identities is None:
            self._log.debug("a %s answers no request of a front end", msg_type)
            return
        self._send(channel, identities, message)

    def _tell_losses(self, msg_id: str, header: Mapping[str, Any]) -> None:
        """Publish a line below a cell whose output is known to be incomplete."""
        texts = []
        if self._client is not None and self._routes.find(msg_id) is not None:
            if missing := self._client.missing_messages(msg_id):
                texts.append(lost_output_text(missing))
        if msg_id in self._unread:
            self._unread.discard(msg_id)
            texts.append(UNREAD_TEXT)
        for text in texts:
            self._publish("stream", {"name": "stderr", "text": text}, header)

    def _fail(self, route: Route, error: GatewayError) -> None:
        """End a request whose reply does not come."""
        messages = failure_messages(route.header, error, self._execution_count)
        for channel, msg_type, content in messages:
            if channel == "reply":
                self._reply(route, msg_type, content)
            else:
                self._publish(msg_type, content, route.header)

    def _fail_requests(self, error: GatewayError) -> None:
        """Show why the kernel did not start in the cells and front ends that wait for it."""
        for route in self._routes.open_requests():
            self._fail(route, error)

    def _end_requests(self, error: GatewayError) -> None:
        """End the output of each request that gets no reply, because the bridge ends."""
        for route in self._routes.open_requests():
            for msg_type, content in end_messages(route.header, error):
                self._publish(msg_type, content, route.header)

    def _reply(self, route: Route, msg_type: str, content: Mapping[str, Any]) -> None:
        message = self._session.msg(msg_type, dict(content), parent=route.header)
        self._send(route.channel, route.identities, message)

    def _publish(
        self, msg_type: str, content: Mapping[str, Any], parent: Mapping[str, Any]
    ) -> None:
        message = self._session.msg(msg_type, dict(content), parent=dict(parent))
        self._send("iopub", [topic(message)], message)

    def _send(self, channel: str, prefix: Iterable[bytes], message: Mapping[str, Any]) -> None:
        socket, frames = self._sockets[channel], self._framing.frames(prefix, message)
        if channel != "iopub":
            send_frames(socket, frames)
        elif not self._publisher.publish(frames) and (parent := message["parent_header"]):
            self._unread.add(str(parent.get("msg_id")))
        if has_input(socket):
            self._outbox.wake()

    # --- the bridge's other threads -------------------------------------------------------------

    def _work_failed(self, error: Exception) -> None:
        if isinstance(error, GatewayError):
            self.stop(BridgeEnd(1, text_for_front_end(error)))
        else:  # a defect, which must not leave a bridge that does nothing
            self._log.error("the bridge failed", exc_info=error)
            self.stop(BridgeEnd(1, f"{type(error).__name__}: {error}"))

    def _start(self) -> None:
        """Start the kernel and connect to it; requests wait in the queues until then."""
        try:
            self.manager = manager = self._new_kernel()
            client = manager.client()
            assert isinstance(client, BridgeClient)
            client.forward_to(self._put, self._relay)
            client.start_channels()
        except GatewayError as error:
            self._workers["shell"].pause(_CONNECTING)
            self._outbox.put(partial(self._fail_requests, error))
            raise
        self._client = client

    def _send_to_kernel(
        self,
        channel: str,
        message: Mapping[str, Any],
        msg_id: str | None,
        timeout: float | None = None,
    ) -> bool:
        """Send a message as soon as there is a connection; return False after `timeout`."""
        client = self._client
        if client is None:
            return False  # the start failed, and the bridge ends
        try:
            client.connection_slot.send(channel, message, timeout)
        except GatewayError as error:
            if timeout is not None and isinstance(error, GatewayTimeout):
                return False
            if msg_id is not None:
                self._outbox.put(RequestFailed(msg_id, error))
        return True

    def _interrupt_kernel(self, route: Route | None = None) -> None:
        content: dict[str, Any] = {"status": "ok"}
        try:
            if self.manager is not None:
                self.manager.interrupt_kernel()
        except NoSuchKernel as error:
            raise GatewayError(f"the kernel is gone: {error}") from error
        except GatewayError as error:
            if self._end is None:  # jupyter_client interrupts each kernel that it shuts down
                self._log.warning("the kernel was not interrupted: %s", str(error))
            content = {"status": "error", **error_content(error)}
        if route is not None:
            self._outbox.put(partial(self._reply, route, "interrupt_reply", content))
