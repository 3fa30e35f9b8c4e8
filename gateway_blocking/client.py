"""The client of one kernel behind a gateway, with jupyter_client's blocking API."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty
from typing import Any, ClassVar, TypeVar, cast

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.clientabc import KernelClientABC
from jupyter_client.session import Session
from traitlets import Type, Unicode, default

from .backlog import Backlog
from .channels import Channel, Claim, HBChannel, close_after_fork
from .cleanup import cleaning_up
from .connector import ConnectionSlot, kernel_exists, new_connection
from .deadline import Deadline
from .errors import GatewayConnectionClosed, GatewayTimeout
from .forking import register_after_fork
from .interactive import InteractiveExecution, default_output_hook
from .kernel_operations import KernelOperations
from .locks import Lock
from .messages import Message
from .readiness import ReadinessCheck
from .remote import RemoteKernelMixin, reject_connection_file
from .wire import FORMATS, Format, require_json

__all__ = ["BlockingGatewayKernelClient"]

_Client = TypeVar("_Client", bound="BlockingGatewayKernelClient")
_Hook = Callable[[Message], Any]
_PlainHook = Callable[[dict[str, Any]], Any]  # as in code for jupyter_client


class BlockingGatewayKernelClient(RemoteKernelMixin, KernelOperations, BlockingKernelClient):
    """A :class:`~jupyter_client.blocking.BlockingKernelClient` for a kernel behind a gateway.

    All channels share one websocket.  Any number of threads may use one client: each
    ``execute(..., reply=True)`` gets its own reply, and each :meth:`execute_interactive` its own
    output.  :meth:`BlockingGatewayKernelManager.client() <.BlockingGatewayKernelManager.client>`
    makes a client.  You can also make one yourself if you know the ID of the kernel:

    >>> client = BlockingGatewayKernelClient(
    ...     kernel_id="...", url="http://127.0.0.1:8888")  # doctest: +SKIP

    As a context manager, the client starts its channels, and stops them at the end.

    Parameters
    ----------
    kernel_id : str
        ID of the kernel on the gateway.
    gateway, **options
        See :class:`.RemoteKernelMixin`.
    """

    kernel_id = Unicode(help="ID of the kernel on the gateway.")

    shell_channel_class = Type(Channel)  # type: ignore[assignment]
    iopub_channel_class = Type(Channel)  # type: ignore[assignment]
    stdin_channel_class = Type(Channel)  # type: ignore[assignment]
    control_channel_class = Type(Channel)  # type: ignore[assignment]
    hb_channel_class = Type(HBChannel)  # type: ignore[assignment]
    _formats: ClassVar[Mapping[str, Format]] = FORMATS

    def __init__(self, **kwargs: Any) -> None:
        reject_connection_file(type(self).__name__, kwargs)
        super().__init__(**kwargs)
        self.connection_slot = ConnectionSlot()
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._starting, mutex = Lock(), Lock()
        backlog = Backlog(self.gateway.max_unread_size, self.log.warning)
        kinds = {
            "shell": self.shell_channel_class,
            "iopub": self.iopub_channel_class,
            "stdin": self.stdin_channel_class,
            "control": self.control_channel_class,
        }
        self._channels: dict[str, Channel] = {
            name: kind(name, self.connection_slot.send, self.session, mutex, backlog)
            for name, kind in kinds.items()
        }
        interval, timeout = self.gateway.ws_ping_interval, self.gateway.ws_ping_timeout
        self._hb_channel = self.hb_channel_class(
            self.connection_slot.is_beating,
            interval + timeout if interval else math.inf,  # without a ping an idle kernel is silent
        )
        register_after_fork(self._after_fork)

    @default("session")
    def _default_session(self) -> Session:
        # No parent=self: the connection keeps the session, and would keep the client with it.
        return Session(config=self.config)

    def __repr__(self) -> str:
        kernel = self.kernel_id or "unknown"
        return f"<{type(self).__name__} kernel {kernel}, {self.connection_slot}>"

    def __enter__(self: _Client) -> _Client:
        self.start_channels()
        return self

    def __exit__(
        self, _kind: object = None, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        with cleaning_up(error, self.log):
            self.stop_channels()

    def blocking_client(self) -> BlockingGatewayKernelClient:
        """Return another client of the same kernel, with a connection of its own."""
        info = self.get_connection_info(session=True)
        return type(self)(
            kernel_id=info["kernel_id"],
            session=info["session"],
            gateway=self.gateway,
            rest=self.rest,
            parent=self.parent,
        )

    # --- channels -------------------------------------------------------------------------------

    def start_channels(
        self,
        shell: bool = True,
        iopub: bool = True,
        stdin: bool = True,
        hb: bool = True,
        control: bool = True,
    ) -> None:
        """Connect to the kernel and start the channels; also again after they were stopped.

        Raises
        ------
        GatewayConnectionError, GatewayTimeout
            The gateway cannot be reached, or did not respond within its timeouts.
        GatewayAuthError
            The gateway refuses the credentials.
        NoSuchKernel
            The gateway does not know the kernel.
        GatewayConnectionClosed
            The client was made in another process, from which this one was forked.
        WireError
            The session packs messages in another format than JSON.
        """
        self.connection_slot.check_process()
        require_json(self.session.pack)
        with self._starting:
            connection = self.connection_slot.connection
            if connection is not None and not connection.is_usable:
                connection.close()  # its end closes the channels: not those that start now
                connection = None
            wanted = {"shell": shell, "iopub": iopub, "stdin": stdin, "control": control}
            for channel in self._channels.values():
                if wanted[channel.name] and not channel.is_alive():
                    channel.start()
            if connection is None:
                self._connect()
            if hb:
                self._hb_channel.start()
            self.allow_stdin = stdin

    def _connect(self) -> None:
        connection = new_connection(
            self.kernel_id,
            gateway=self.gateway,
            rest=self.rest,
            channels=self._channels,
            session=self.session,
            log=self.log,
            formats=self._formats,
        )
        try:
            self.connection_slot.open(connection)
        except BaseException:
            for channel in self._channels.values():
                channel.stop()
            raise
        if self._finalizer is not None:
            self._finalizer.detach()
        self._finalizer = weakref.finalize(self, connection.close_nowait)
        # The system closes the websocket of a process that ends; until then other threads may read,
        # and earlier exit handlers use the client.
        self._finalizer.atexit = False

    def stop_channels(self) -> None:
        """Stop the channels and close the connection, within two seconds.

        Any thread may call this, and more than once.  Messages that have arrived can still be
        taken.
        """
        self._hb_channel.stop()
        self.connection_slot.close()
        for channel in self._channels.values():
            if channel.is_alive():
                channel.stop()
        self._close_rest()

    def _after_fork(self) -> None:
        """End the client in a child process.

        A gateway takes two clients with one session for one, and drops one of them.
        """
        self._starting, self._numbering = Lock(), Lock()
        slot = self.connection_slot
        slot.inherited = error = slot.inherited or GatewayConnectionClosed(
            f"this client belongs to the process {os.getppid()}, from which this one was forked;"
            " make a client here, such as with the manager's client()"
        )
        self._hb_channel.stop()
        close_after_fork(self._channels.values(), error)

    @property
    def channels_running(self) -> bool:
        """True if any channel is started and connected."""
        return any(channel.is_alive() for channel in self._channels.values())

    @property
    def shell_channel(self) -> Channel:
        """The channel of requests and their replies."""
        return self._channels["shell"]

    @property
    def iopub_channel(self) -> Channel:
        """The channel on which the kernel publishes output, and if it is busy."""
        return self._channels["iopub"]

    @property
    def stdin_channel(self) -> Channel:
        """The channel of the kernel's requests for input."""
        return self._channels["stdin"]

    @property
    def control_channel(self) -> Channel:
        """The channel of requests that do not queue behind running code."""
        return self._channels["control"]

    @property
    def hb_channel(self) -> HBChannel:
        """The channel that tells if gateway and kernel were heard of lately."""
        channel: HBChannel = self._hb_channel
        return channel

    # --- messages -------------------------------------------------------------------------------

    def get_shell_msg(self, timeout: float | None = None) -> Message:  # type: ignore[override]
        """Return the next message of the shell channel; see :meth:`.Channel.take`."""
        return self.shell_channel.take(timeout)

    def get_iopub_msg(self, timeout: float | None = None) -> Message:  # type: ignore[override]
        """Return the next message of the iopub channel; see :meth:`.Channel.take`."""
        return self.iopub_channel.take(timeout)

    def get_stdin_msg(self, timeout: float | None = None) -> Message:  # type: ignore[override]
        """Return the next message of the stdin channel; see :meth:`.Channel.take`."""
        return self.stdin_channel.take(timeout)

    def get_control_msg(self, timeout: float | None = None) -> Message:  # type: ignore[override]
        """Return the next message of the control channel; see :meth:`.Channel.take`."""
        return self.control_channel.take(timeout)

    def _recv_reply(  # type: ignore[override]  # jupyter_client's returns a plain dict
        self, msg_id: str, timeout: float | None = None, channel: str = "shell"
    ) -> Message:
        """Return the reply to a request that was sent before; other replies stay where they are."""
        try:
            return self._channels[channel].get_reply(msg_id, timeout)
        except Empty as error:
            raise GatewayTimeout(
                f"Timeout waiting for reply: none to {msg_id} within {timeout:g} s"
            ) from error

    # --- the kernel -----------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Return True if the kernel that this client speaks with is alive, as far as is known.

        While the channels run, no request is made: the messages of the kernel tell.  The result
        is False from the moment when the kernel died, even if the gateway started it again: its
        variables are lost then, and :meth:`wait_for_ready` goes on with the new process.  Without
        a connection, the gateway is asked.

        Raises
        ------
        GatewayError
            The gateway had to be asked, and did not respond.
        """
        if not self.connection_slot.kernel_seems_alive:
            return False
        return self.connection_slot.is_open or self._kernel_exists()

    def _kernel_exists(self) -> bool:
        return bool(self.kernel_id) and kernel_exists(self.rest, self.kernel_id)

    async def _async_is_alive(self) -> bool:
        return self.is_alive()

    def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel replies and its output arrives; discard output until then.

        The kernel is asked again each second or so.  If it is restarted meanwhile, the new
        process is asked.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; by default as long as the kernel lives.  A busy kernel replies when it
            is done.

        Raises
        ------
        KernelNotReady
            The kernel did not reply in time (a :exc:`RuntimeError` and a :exc:`TimeoutError`).
        DeadKernelError
            The kernel died, and the gateway does not restart it (a :exc:`RuntimeError`).
        GatewayConnectionClosed
            The connection was lost, or is not open (a :exc:`RuntimeError`).
        """
        check = ReadinessCheck(
            self.kernel_id,
            self.connection_slot,
            self.shell_channel,
            self.iopub_channel,
            partial(self._new_message, "kernel_info_request", {}),
            self._kernel_exists,
        )
        self._handle_kernel_info_reply(check.wait(Deadline(timeout)))
        self.iopub_channel.get_msgs()  # the gateway asked as well, when it connected

    def _handle_kernel_info_reply(self, msg: Message) -> None:  # type: ignore[override]
        try:
            super()._handle_kernel_info_reply(dict(msg))
        except (AttributeError, KeyError, TypeError, ValueError):
            self.log.debug("kernel %s does not tell its protocol's version", self.kernel_id)

    def missing_messages(self, msg_id: str) -> int | None:
        """Return the number of messages of an execution that were lost: output that is missing.

        A gateway drops output that comes too fast, and a lost connection may lose some.  Lost
        output cannot be brought back.  If the kernel numbers its messages, as every ipykernel
        does, the gaps can be counted.  A warning in the log says the same.

        Some kernels skip numbers: async-kernel for each display, ipykernel for a result that
        displays itself, as a figure of plotly does.  If no loss is known that explains a gap, the
        client gives no warning, and from then on it does not count gaps of this kernel.

        Parameters
        ----------
        msg_id : str
            The msg_id of the execute request: :meth:`execute` returns it, and a reply has it in
            its ``parent_header``.

        Returns
        -------
        int or None
            At least this number of messages is missing, 0 for none.  It is None if the number is
            not known.  Then the execution is not over, or its end was lost; the kernel does not
            number its messages, or skips numbers; the connection was lost again during its
            recovery; or a thousand other requests were executed since.
        """
        return self.connection_slot.missing(msg_id)

    @property
    def is_reconnecting(self) -> bool:
        """True if the connection was lost and is being opened again; calls wait meanwhile."""
        return self.connection_slot.is_reconnecting

    # --- interactive execution ------------------------------------------------------------------

    def execute_interactive(  # type: ignore[override]  # jupyter_client's returns a plain dict
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool | None = None,
        stop_on_error: bool = True,
        timeout: float | None = None,
        output_hook: _Hook | _PlainHook | None = None,
        stdin_hook: _Hook | _PlainHook | None = None,
    ) -> Message:
        """Execute code, show its output as it arrives, and relay its questions for input.

        In an IPython kernel, output is displayed richly.  Several threads may do this at once
        with one client; each gets the output of its own code.

        Parameters
        ----------
        code, silent, store_history, user_expressions, allow_stdin, stop_on_error
            As for :meth:`execute`.
        timeout : float, optional
            Seconds for the whole call; by default as long as the kernel lives.
        output_hook : callable, optional
            Called with each published message, instead of showing it.
        stdin_hook : callable, optional
            Called with each request for input, instead of asking on standard input.  It answers
            with :meth:`input`.  On Windows the wait for standard input has no timeout.

        Returns
        -------
        Message
            The reply.

        Raises
        ------
        GatewayTimeout, DeadKernelError, GatewayConnectionClosed, ValueError
            As :meth:`execute`.
        RuntimeError
            The channels that the call needs are not running.
        TypeError
            A hook is not a function, or `stdin_hook` is a coroutine function.
        """
        for name, hook in (("output_hook", output_hook), ("stdin_hook", stdin_hook)):
            if hook is not None and not callable(hook):
                raise TypeError(f"{name} must be a function, got {hook!r}")
        self.connection_slot.check_process()
        if not self.iopub_channel.is_alive():
            raise RuntimeError("IOPub channel must be running to receive output")
        if allow_stdin is None:
            allow_stdin = self.allow_stdin
        if allow_stdin and not self.stdin_channel.is_alive():
            raise RuntimeError("stdin channel must be running to allow input")
        content = self._execute_content(
            code, silent, store_history, user_expressions, allow_stdin, stop_on_error
        )
        deadline = Deadline(timeout)
        message = self._new_message("execute_request", content)
        channels = (self.shell_channel, self.iopub_channel, self.stdin_channel)
        with Claim(message["header"]["msg_id"], *channels) as claim:
            self.shell_channel.send(message, None if timeout is None else deadline)
            default = default_output_hook(self._output_hook_default, self._output_hook_kernel)
            return InteractiveExecution(
                kernel_id=self.kernel_id,
                claim=claim,
                deadline=deadline,
                iopub=self.iopub_channel,
                stdin=self.stdin_channel,
                output_hook=cast(_Hook, output_hook or default),
                stdin_hook=cast(_Hook | None, stdin_hook),
                allow_stdin=allow_stdin,
                send_input=self.input,
                log=self.log,
            ).run()


KernelClientABC.register(BlockingGatewayKernelClient)
