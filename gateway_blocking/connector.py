"""The making of a client's connection, and the client's slot for the current one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from jupyter_client.session import Session

from .actions import State
from .adapters import proxy_for
from .channels import Channel
from .config import GatewayClient
from .connection import Connection
from .deadline import Deadline
from .errors import GatewayConnectionClosed, KernelRestarted, NoSuchKernel, copy_for_raise
from .handshake import Endpoint
from .liveness import LIVING, KernelStatus
from .reconnection import delays
from .rest import GatewayREST
from .timeouts import KERNEL_POLL_TIMEOUT
from .wire import FORMATS, V1, Format

__all__ = ["ConnectionSlot", "kernel_exists", "new_connection"]


class ConnectionSlot:
    """The current connection of a client, or none.

    ``start_channels()`` puts a connection in, and a later call another one.  The slot holds no
    reference to the client, so that a client which is dropped can be collected.  Any number of
    threads may use it.
    """

    connection: Connection | None = None
    inherited: GatewayConnectionClosed | None = None
    """The error of each call in a child process that was forked, or None in the own process."""

    def check_process(self) -> None:
        """Raise GatewayConnectionClosed if the client belongs to the parent process."""
        if self.inherited is not None:
            raise copy_for_raise(self.inherited)

    def open(self, connection: Connection) -> None:
        """Put this connection in, and open it; close it if that fails."""
        self.connection = connection  # before it opens, so that stop_channels() reaches it
        try:
            connection.open()
        except BaseException:
            connection.close()  # after a Ctrl-C it may be open, or about to be
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()

    def send(
        self, channel: str, message: Mapping[str, Any], timeout: float | Deadline | None
    ) -> None:
        """Send a message over the current connection: see :meth:`.Connection.send`."""
        self.check_process()
        if self.connection is None:
            raise GatewayConnectionClosed("the channels are not running: call start_channels()")
        self.connection.send(channel, message, timeout)

    def give_up(self, msg_ids: Collection[str]) -> None:
        """Drop replies to these requests, because no caller waits for them any more."""
        if self.connection is not None:
            self.connection.ignore_replies(msg_ids)

    # --- state ----------------------------------------------------------------------------------

    def __str__(self) -> str:
        return "not started" if self.connection is None else self.connection.state.value

    @property
    def is_open(self) -> bool:
        """True if there is a connection that is not closed; it may be opening or reconnecting."""
        return self.connection is not None and self.connection.state is not State.CLOSED

    @property
    def is_reconnecting(self) -> bool:
        """True if the connection was lost and is being opened again."""
        return self.connection is not None and self.connection.state is State.RECONNECTING

    def is_beating(self, within: float) -> bool:
        """Return True if a sign of life came within so many seconds."""
        return self.connection is not None and self.connection.is_beating(within)

    @property
    def kernel_seems_alive(self) -> bool:
        """True unless a message or the gateway said that the kernel died or was restarted."""
        return self.connection is None or self.connection.kernel_status in LIVING

    def missing(self, msg_id: str) -> int | None:
        """Return the number of missing messages: see ``missing_messages()`` of the client."""
        return None if self.connection is None else self.connection.missing(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """Return False if no known loss can concern the output of this execution."""
        return self.connection is None or self.connection.may_lack_output(msg_id)

    # --- changes of the kernel ------------------------------------------------------------------

    def revive(self) -> None:
        """Accept the kernel process that replaced the one that died."""
        if self.connection is not None:
            self.connection.revive()

    def kernel_restarting(self, kernel_id: str) -> Callable[[], None]:
        """Note that the kernel is about to be restarted; return the function to call afterwards.

        That function fails the requests which were in flight before the restart.
        """
        if (connection := self.connection) is None:
            return lambda: None
        error = KernelRestarted(
            f"kernel {kernel_id} was restarted before it replied; its variables are lost"
        )
        return partial(connection.kernel_restarted, connection.kernel_restarting(), error)

    def kernel_gone(self, text: str) -> None:
        """Fail all requests with :exc:`.KernelGone`, because the kernel does not exist any more."""
        if self.connection is not None:
            self.connection.kernel_ended(KernelStatus.GONE, text)

    def mute(self) -> None:
        """Deliver nothing any more, because the interpreter ends."""
        if self.connection is not None:
            self.connection.mute()


def new_connection(
    kernel_id: str,
    *,
    gateway: GatewayClient,
    rest: GatewayREST,
    channels: Mapping[str, Channel],
    session: Session,
    log: logging.Logger | logging.LoggerAdapter[Any],
    formats: Mapping[str, Format] = FORMATS,
) -> Connection:
    """Return a connection to a kernel, made from the options of its gateway and not yet open."""
    if not kernel_id:
        raise GatewayConnectionClosed(
            "the client has no kernel: give kernel_id=, or use the client() of a manager"
            " whose start_kernel() was called"
        )
    return Connection(
        kernel_id,
        endpoint=partial(_endpoint, gateway, rest, kernel_id),
        kernel_state=partial(_kernel_state, rest, kernel_id, timeout=KERNEL_POLL_TIMEOUT),
        channels=channels,
        session=session,
        send_timeout=gateway.effective_request_timeout,
        ping_interval=gateway.ws_ping_interval,
        ping_timeout=gateway.ws_ping_timeout,
        delays=partial(
            delays,
            gateway.gateway_retry_interval,
            gateway.gateway_retry_interval_max,
            gateway.gateway_retry_max,
        ),
        log=log,
        formats=formats,
    )


def _endpoint(
    gateway: GatewayClient, rest: GatewayREST, kernel_id: str, session_id: str
) -> Endpoint:
    """Return where the websocket leads, by the configuration and the cookies of this moment."""
    url = gateway.channels_url(kernel_id, session_id)
    headers = gateway.request_headers()
    if cookies := rest.cookie_header(url):
        headers["Cookie"] = "; ".join(filter(None, (headers.get("Cookie"), cookies)))
    return Endpoint(
        url=url,
        headers=headers,
        subprotocols=(V1,),
        ssl_context=gateway.ssl_context() if url.startswith("wss:") else None,
        connect_timeout=gateway.connect_timeout,
        handshake_timeout=gateway.effective_request_timeout,
        rest_allowed=rest.was_allowed,
        url_option="ws_url" if gateway.ws_url else "url",
        max_incoming=gateway.ws_max_message_size,
        proxy=proxy_for(url),
        keep_cookies=partial(rest.keep_cookies, url),
    )


def _kernel_state(rest: GatewayREST, kernel_id: str, timeout: float | None = None) -> str:
    """Return the kernel's ``execution_state``; ``"gone"`` if the gateway does not know it."""
    try:
        return str(rest.get_kernel(kernel_id, timeout).get("execution_state", ""))
    except NoSuchKernel:
        return "gone"


def kernel_exists(rest: GatewayREST, kernel_id: str) -> bool:
    """Return True if the gateway has the kernel and has not given up restarting it."""
    return _kernel_state(rest, kernel_id) not in ("gone", "dead")
