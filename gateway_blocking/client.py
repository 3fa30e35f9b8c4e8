"""The client of one kernel behind a gateway, with jupyter_client's blocking API."""

from __future__ import annotations

import inspect
import math
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty
from time import monotonic
from typing import Any, TypeVar

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.client import validate_string_dict
from jupyter_client.clientabc import KernelClientABC
from jupyter_client.session import Session
from traitlets import Type, Unicode, default

from .adapters import proxy_for
from .backlog import Backlog
from .channels import Channel, Claim, HBChannel, close_after_fork
from .cleanup import cleaning_up
from .config import GatewayClient
from .connection import Connection, State
from .deadline import Deadline
from .errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayTimeout,
    KernelNotReady,
    KernelRestarted,
    NoSuchKernel,
    ReplyLost,
    copy_for_raise,
)
from .escape import OutputFilter
from .forking import register_after_fork
from .handshake import Endpoint
from .liveness import LIVING, KernelStatus
from .locks import Lock
from .prompt import ask
from .recovery import delays
from .remote import RemoteKernelMixin
from .rest import GatewayREST
from .wire import V1, Message, require_json

__all__ = ["BlockingGatewayKernelClient"]

_Client = TypeVar("_Client", bound="BlockingGatewayKernelClient")

_LOOK_TIMEOUT = 1.5
_IDLE_GRACE = 10.0


class BlockingGatewayKernelClient(RemoteKernelMixin, BlockingKernelClient):
    """A :class:`~jupyter_client.blocking.BlockingKernelClient` for a kernel behind a gateway.

    All channels share one websocket.  Any number of threads may use one client: each
    ``execute(..., reply=True)`` gets its own reply, each :meth:`execute_interactive` its own
    output.  Usually made by
    :meth:`BlockingGatewayKernelManager.client() <.BlockingGatewayKernelManager.client>`; alone,
    it needs the kernel's id:

    >>> client = BlockingGatewayKernelClient(
    ...     kernel_id="...", url="http://127.0.0.1:8888")  # doctest: +SKIP

    As a context manager it starts its channels and stops them at the end.

    Parameters
    ----------
    kernel_id : str
        The kernel, as the gateway names it.
    gateway, **options
        See :class:`.RemoteKernelMixin`.
    """

    kernel_id = Unicode(help="The kernel, as the gateway names it.")

    shell_channel_class = Type(Channel)  # type: ignore[assignment]
    iopub_channel_class = Type(Channel)  # type: ignore[assignment]
    stdin_channel_class = Type(Channel)  # type: ignore[assignment]
    control_channel_class = Type(Channel)  # type: ignore[assignment]
    hb_channel_class = Type(HBChannel)  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._line = _Line()
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._starting, self._numbering, mutex = Lock(), Lock(), Lock()
        backlog = Backlog(self.gateway.max_unread_size, self.log.warning)
        self._shell_channel, self._iopub_channel, self._stdin_channel, self._control_channel = (
            kind(name, self._line.send, self.session, mutex, backlog)
            for name, kind in (
                ("shell", self.shell_channel_class),
                ("iopub", self.iopub_channel_class),
                ("stdin", self.stdin_channel_class),
                ("control", self.control_channel_class),
            )
        )
        pings, patience = self.gateway.ws_ping_interval, self.gateway.ws_ping_timeout
        self._hb_channel = self.hb_channel_class(
            self._line.is_beating,
            pings + patience if pings else math.inf,  # without a ping an idle kernel is silent
        )
        register_after_fork(self._after_fork)

    @default("session")
    def _default_session(self) -> Session:
        # Not parent=self: the connection keeps it, and a dropped client is to be collected.
        return Session(config=self.config)

    def __repr__(self) -> str:
        connection = self._line.connection
        state = "not started" if connection is None else connection.state.value
        return f"<{type(self).__name__} kernel {self.kernel_id or 'unknown'}, {state}>"

    def __enter__(self: _Client) -> _Client:
        self.start_channels()
        return self

    def __exit__(
        self, _kind: object = None, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        with cleaning_up(error, self.log):
            self.stop_channels()

    def blocking_client(self) -> BlockingGatewayKernelClient:
        """Another client of the same kernel, with a connection of its own."""
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
        """Connect to the kernel and start its channels; also again after they were stopped.

        Raises
        ------
        GatewayConnectionError, GatewayTimeout
            The gateway cannot be reached, or did not answer within its timeouts.
        GatewayAuthError
            It refuses the credentials.
        NoSuchKernel
            It does not know the kernel.
        GatewayConnectionClosed
            The client was made in another process, from which this one was forked.
        WireError
            Its session packs messages as something else than JSON.
        """
        self._line.check()
        require_json(self.session.pack)
        with self._starting:
            connection = self._line.connection
            if connection is not None and not connection.is_usable:
                connection.close()  # its end closes the channels: not those that start now
                connection = None
            wanted = {"shell": shell, "iopub": iopub, "stdin": stdin, "control": control}
            for channel in self._channels.values():
                if wanted[channel.name] and not channel.is_alive():
                    channel.start()
            if connection is None:
                self._open()
            if hb:
                self._hb_channel.start()
            self.allow_stdin = stdin

    def _open(self) -> None:
        if not self.kernel_id:
            raise GatewayConnectionClosed(
                "the client has no kernel: give kernel_id=, or use the client() of a manager"
                " whose start_kernel() was called"
            )
        gateway, rest, kernel_id = self.gateway, self.rest, self.kernel_id
        connection = Connection(
            kernel_id,
            endpoint=partial(_endpoint, gateway, rest, kernel_id),
            kernel_state=partial(_kernel_state, rest, kernel_id, timeout=_LOOK_TIMEOUT),
            channels=self._channels,
            session=self.session,
            send_timeout=gateway.effective_request_timeout,
            ping_interval=gateway.ws_ping_interval,
            ping_timeout=gateway.ws_ping_timeout,
            delays=partial(
                delays,
                gateway.gateway_retry_interval,
                gateway.gateway_retry_interval_max,
                gateway.gateway_retry_max,
            ),
            log=self.log,
        )
        try:
            self._line.connection = connection  # before it opens: stop_channels() reaches it
            connection.open()
        except BaseException:
            connection.close()  # after a Ctrl-C it may be open, or about to be
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

        Idempotent, and possible from any thread.  Messages that came can still be taken.
        """
        self._hb_channel.stop()
        if (connection := self._line.connection) is not None:
            connection.close()
        for channel in self._channels.values():
            if channel.is_alive():
                channel.stop()
        self._close_rest()

    def _after_fork(self) -> None:
        """End in a child process: a gateway takes two with one session for one, and drops one."""
        self._starting, self._numbering = Lock(), Lock()
        self._line.inherited = error = self._line.inherited or GatewayConnectionClosed(
            f"this client belongs to the process {os.getppid()}, from which this one was forked;"
            " make a client here, such as with the manager's client()"
        )
        self._hb_channel.stop()
        close_after_fork(self._channels.values(), error)

    @property
    def channels_running(self) -> bool:
        """Whether any channel is started and connected."""
        return any(channel.is_alive() for channel in self._channels.values())

    @property
    def _channels(self) -> dict[str, Channel]:
        channels = (
            self._shell_channel,
            self._iopub_channel,
            self._stdin_channel,
            self._control_channel,
        )
        return {channel.name: channel for channel in channels}

    @property
    def shell_channel(self) -> Channel:
        """Requests and their replies."""
        channel: Channel = self._shell_channel
        return channel

    @property
    def iopub_channel(self) -> Channel:
        """What the kernel publishes: output, and whether it is busy."""
        channel: Channel = self._iopub_channel
        return channel

    @property
    def stdin_channel(self) -> Channel:
        """The kernel's requests for input."""
        channel: Channel = self._stdin_channel
        return channel

    @property
    def control_channel(self) -> Channel:
        """Requests that do not queue behind running code."""
        channel: Channel = self._control_channel
        return channel

    @property
    def hb_channel(self) -> HBChannel:
        """Whether gateway and kernel were lately heard of."""
        channel: HBChannel = self._hb_channel
        return channel

    # --- messages -------------------------------------------------------------------------------

    def get_shell_msg(self, timeout: float | None = None) -> Message:
        """Return the next message of the shell channel; see :meth:`.Channel.take`."""
        return self.shell_channel.take(timeout)

    def get_iopub_msg(self, timeout: float | None = None) -> Message:
        """Return the next message of the iopub channel; see :meth:`.Channel.take`."""
        return self.iopub_channel.take(timeout)

    def get_stdin_msg(self, timeout: float | None = None) -> Message:
        """Return the next message of the stdin channel; see :meth:`.Channel.take`."""
        return self.stdin_channel.take(timeout)

    def get_control_msg(self, timeout: float | None = None) -> Message:
        """Return the next message of the control channel; see :meth:`.Channel.take`."""
        return self.control_channel.take(timeout)

    def _message(self, msg_type: str, content: Mapping[str, Any] | None = None) -> Message:
        with self._numbering:  # a Session's message numbers are not made for threads
            message: Message = self.session.msg(msg_type, dict(content or {}))
        return message

    def _request(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        reply: bool,
        timeout: float | None,
        channel: Channel | None = None,
    ) -> Any:
        """Send a request; return its msg_id, or wait for its reply and return that."""
        channel = channel or self.shell_channel
        deadline = Deadline(timeout)
        message = self._message(msg_type, content)
        msg_id: str = message["header"]["msg_id"]
        if not reply:
            channel.send(message)
            return msg_id
        with channel.claim(msg_id) as claim:
            channel.send(message, None if timeout is None else deadline)
            return _take_reply(claim, deadline, msg_type)

    def _recv_reply(
        self, msg_id: str, timeout: float | None = None, channel: str = "shell"
    ) -> Message:
        """Return the reply to a request that was sent before; other replies stay where they are."""
        try:
            return self._channels[channel].get_reply(msg_id, timeout)
        except Empty as error:
            raise GatewayTimeout("Timeout waiting for reply") from error

    def execute(
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool | None = None,
        stop_on_error: bool = True,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Execute code in the kernel.

        Parameters
        ----------
        code : str
            In the kernel's language.
        silent : bool
            Publish no output and keep no history.
        store_history : bool
            Keep the code in the kernel's history.
        user_expressions : dict of str, optional
            Names and expressions to evaluate after the code; the reply has their values.
        allow_stdin : bool, optional
            Whether the code may ask for input; by default the attribute of that name.
        stop_on_error : bool
            Whether an error aborts the requests that are queued behind this one.
        reply : bool
            Wait for the reply and return it.
        timeout : float, optional
            Seconds to wait for the reply; by default as long as one can come.

        Returns
        -------
        str or dict
            The request's msg_id, or its reply.

        Raises
        ------
        GatewayTimeout
            The reply did not come in time; the code may still run.
        DeadKernelError, KernelRestarted
            The kernel died or was restarted before it replied.
        GatewayConnectionClosed
            The connection was lost, or is not open.
        MessageTooLarge
            The code is larger than a gateway accepts.
        ValueError
            The code or an expression is not a string.
        """
        return self._request(
            "execute_request",
            self._execute_content(
                code, silent, store_history, user_expressions, allow_stdin, stop_on_error
            ),
            reply,
            timeout,
        )

    def _execute_content(
        self,
        code: str,
        silent: bool,
        store_history: bool,
        user_expressions: dict[str, Any] | None,
        allow_stdin: bool | None,
        stop_on_error: bool,
    ) -> dict[str, Any]:
        if not isinstance(code, str):
            raise ValueError(f"code {code!r} must be a string")  # as jupyter_client
        validate_string_dict(user_expressions or {})
        return {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": self.allow_stdin if allow_stdin is None else allow_stdin,
            "stop_on_error": stop_on_error,
        }

    def complete(
        self,
        code: str,
        cursor_pos: int | None = None,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Ask how `code` may go on at `cursor_pos`, by default at its end.

        `reply`, `timeout`, result and errors are those of :meth:`execute`.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": position}
        return self._request("complete_request", content, reply, timeout)

    def inspect(
        self,
        code: str,
        cursor_pos: int | None = None,
        detail_level: int = 0,
        *,
        reply: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Ask what stands in `code` at `cursor_pos`, by default at its end.

        `detail_level` is 0 or 1; the rest is as for :meth:`execute`.
        """
        position = len(code) if cursor_pos is None else cursor_pos
        content = {"code": code, "cursor_pos": position, "detail_level": detail_level}
        return self._request("inspect_request", content, reply, timeout)

    def history(
        self,
        raw: bool = True,
        output: bool = False,
        hist_access_type: str = "range",
        *,
        reply: bool = False,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Ask for entries of the kernel's history.

        Parameters
        ----------
        raw, output : bool
            Whether to give the input as it was typed, and whether with output.
        hist_access_type : str
            ``range`` (with ``session=``, ``start=``, ``stop=``), ``tail`` (with ``n=``) or
            ``search`` (with ``pattern=``).
        reply, timeout
            As for :meth:`execute`, as are result and errors.
        **kwargs
            Those of the access type.
        """
        if hist_access_type == "range":
            kwargs = {"session": 0, "start": 0, **kwargs}
        content = {"raw": raw, "output": output, "hist_access_type": hist_access_type, **kwargs}
        return self._request("history_request", content, reply, timeout)

    def kernel_info(self, *, reply: bool = False, timeout: float | None = None) -> Any:
        """Ask what the kernel is; the rest is as for :meth:`execute`."""
        return self._request("kernel_info_request", {}, reply, timeout)

    def comm_info(
        self, target_name: str | None = None, *, reply: bool = False, timeout: float | None = None
    ) -> Any:
        """Ask which comms are open, to `target_name` or all; the rest as for :meth:`execute`."""
        content = {} if target_name is None else {"target_name": target_name}
        return self._request("comm_info_request", content, reply, timeout)

    def is_complete(self, code: str, *, reply: bool = False, timeout: float | None = None) -> Any:
        """Ask whether `code` can be executed as it is; the rest is as for :meth:`execute`."""
        return self._request("is_complete_request", {"code": code}, reply, timeout)

    def input(self, string: str) -> None:
        """Answer the kernel's request for input."""
        self.stdin_channel.send(self._message("input_reply", {"value": string}))

    def shutdown(
        self, restart: bool = False, *, reply: bool = False, timeout: float | None = None
    ) -> Any:
        """Ask the kernel itself to end, on the control channel; the rest as for :meth:`execute`.

        A gateway may take that for a crash and start the kernel again; what ends it for good
        is the manager's ``shutdown_kernel``.
        """
        content = {"restart": restart}
        return self._request("shutdown_request", content, reply, timeout, self.control_channel)

    # --- the kernel's life ----------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether the kernel that this client speaks with is alive, as far as is known.

        While the channels run, this is answered from what was heard of the kernel, without a
        request.  It is False from the moment on when the kernel died, also where the gateway
        started it again, which loses its variables; :meth:`wait_for_ready` goes on with it.
        Without a connection the gateway is asked.

        Raises
        ------
        GatewayError
            The gateway had to be asked, and did not answer.
        """
        connection = self._line.connection
        if not self._trusts_kernel():
            return False
        if connection is not None and connection.state is not State.CLOSED:
            return True
        return bool(self.kernel_id) and _kernel_exists(self.rest, self.kernel_id)

    async def _async_is_alive(self) -> bool:
        return self.is_alive()

    def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers and its output reaches us; forget output until then.

        The kernel is asked again each second or so, and a kernel that is restarted meanwhile is
        asked anew.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; by default as long as the kernel lives.  A busy kernel answers
            when it is done.

        Raises
        ------
        KernelNotReady
            The kernel did not answer in time (a :exc:`RuntimeError` and a :exc:`TimeoutError`).
        DeadKernelError
            The kernel died, and the gateway does not restart it (a :exc:`RuntimeError`).
        GatewayConnectionClosed
            The connection was lost, or is not open (a :exc:`RuntimeError`).
        """
        deadline = Deadline(timeout)
        reply = None
        while reply is None:
            self._trust_kernel()
            reply = self._ask_readiness(deadline)
        self._handle_kernel_info_reply(reply)
        self.iopub_channel.get_msgs()  # the gateway asked as well, when we connected

    def _handle_kernel_info_reply(self, msg: Message) -> None:
        try:
            super()._handle_kernel_info_reply(msg)
        except (AttributeError, KeyError, TypeError, ValueError):
            self.log.debug("kernel %s does not tell its protocol's version", self.kernel_id)

    def _trust_kernel(self) -> None:
        """Go on with a kernel that was restarted; raise DeadKernelError if there is none."""
        connection = self._line.connection
        if connection is not None and connection.status not in LIVING:
            if not _kernel_exists(self.rest, self.kernel_id):
                raise DeadKernelError(
                    f"Kernel died before replying to kernel_info: {self.kernel_id}"
                    " does not exist any more; it died while starting, most likely, and the"
                    " gateway's log says more"
                )
            connection.revive()

    def _ask_readiness(self, deadline: Deadline) -> Message | None:
        """Ask for kernel_info, and return the reply; None if the kernel was restarted meanwhile.

        Replies to what was asked more than once are dropped, also if they come later.
        """
        message = self._message("kernel_info_request")
        channels = (self.shell_channel, self.iopub_channel)
        with Claim(message["msg_id"], *channels, give_back=False) as claim:
            try:
                return self._hear_readiness(message, claim, deadline)
            except (KernelRestarted, ReplyLost) as error:
                if deadline.passed():
                    raise _not_ready(self.kernel_id, deadline) from error
                return None
            except DeadKernelError as error:
                raise DeadKernelError(
                    f"Kernel died before replying to kernel_info: {error}"
                ) from error
            finally:
                if (connection := self._line.connection) is not None:
                    connection.give_up(claim.msg_ids)

    def _hear_readiness(self, message: Message, claim: Claim, deadline: Deadline) -> Message:
        """Send the request, again each second or so, until its reply and its output came.

        A kernel may lose a request, as IRkernel does after an interrupt, and a gateway that just
        connected to the kernel may swallow the first published message.
        """
        begun = monotonic()
        reply, heard = None, not self.iopub_channel.is_alive()
        while True:
            try:
                self.shell_channel.send(message, deadline)
            except GatewayTimeout as error:
                if deadline.passed():
                    raise _not_ready(self.kernel_id, deadline) from error
                raise
            until = deadline.within(_ask_again_after(monotonic() - begun))
            while not (reply and heard):
                try:
                    answer = claim.take(until)
                except Empty:
                    break
                if claim.origin is self.iopub_channel:
                    heard = heard or _is_idle(answer)
                elif answer["msg_type"] == "kernel_info_reply":
                    reply = answer
            if reply and heard:
                return reply
            if deadline.passed():
                raise _not_ready(self.kernel_id, deadline)
            message = self._message("kernel_info_request")
            claim.add_request(message["msg_id"])

    def missing_messages(self, msg_id: str) -> int | None:
        """How many messages of an execution have not come: output that is lost.

        A gateway drops output that comes too fast, and a lost connection may swallow some.  What
        is gone cannot be brought back, but where the kernel numbers its messages, as every
        ipykernel does, it can be counted.  A warning says the same in the log.

        Some kernels skip numbers: async-kernel for each display, ipykernel for a result that
        displays itself, as a figure of plotly does.  If no loss is known that explains a gap, the
        client gives no warning, and from then on it does not count gaps of this kernel.

        Parameters
        ----------
        msg_id : str
            The execute request's: :meth:`execute` returns it, and a reply has it in its
            ``parent_header``.

        Returns
        -------
        int or None
            At least so many are missing, 0 for none; None where that is not known: the execution
            is not over, its end was lost, the kernel does not number its messages or skips numbers,
            the connection was lost again while it was being recovered, or a thousand others were
            executed since.
        """
        connection = self._line.connection
        return None if connection is None else connection.missing(msg_id)

    def _may_lack_output(self, msg_id: str) -> bool:
        """Return False if no loss is known that could be of the output of an execution."""
        connection = self._line.connection
        return connection is None or connection.may_lack_output(msg_id)

    @property
    def is_reconnecting(self) -> bool:
        """True if the connection was lost and is being opened again; calls wait meanwhile."""
        connection = self._line.connection
        return connection is not None and connection.state is State.RECONNECTING

    def _is_connected(self) -> bool:
        """Whether the heartbeat looks after the kernel; for the manager."""
        connection = self._line.connection
        return connection is not None and connection.state is not State.CLOSED

    def _trusts_kernel(self) -> bool:
        """Whether nothing was heard of the kernel's death; for the manager."""
        connection = self._line.connection
        return connection is None or connection.status in LIVING

    def _mute(self) -> None:
        """Deliver nothing any more, at the end of the interpreter; for the manager."""
        if (connection := self._line.connection) is not None:
            connection.mute()

    def _before_restart(self) -> Callable[[], None]:
        """Return what the manager calls once it has restarted the kernel."""
        if (connection := self._line.connection) is None:
            return lambda: None
        return partial(
            connection.restarted,
            *connection.before_restart(),
            KernelRestarted(
                f"kernel {self.kernel_id} was restarted before it replied. Its variables are lost."
            ),
        )

    def _kernel_is_gone(self, text: str) -> None:
        """Note that the manager has no kernel any more."""
        if (connection := self._line.connection) is not None:
            connection.kernel_ended(KernelStatus.GONE, text)

    # --- interactive execution ------------------------------------------------------------------

    def execute_interactive(
        self,
        code: str,
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, Any] | None = None,
        allow_stdin: bool | None = None,
        stop_on_error: bool = True,
        timeout: float | None = None,
        output_hook: Callable[[Message], Any] | None = None,
        stdin_hook: Callable[[Message], Any] | None = None,
    ) -> Message:
        """Execute code, show its output as it comes, and relay its questions for input.

        In an IPython kernel, output is displayed richly.  Several threads may do this at once
        with one client; each gets the output of its own code.

        Parameters
        ----------
        code, silent, store_history, user_expressions, allow_stdin, stop_on_error
            As for :meth:`execute`.
        timeout : float, optional
            Seconds for all of it; by default as long as the kernel lives.
        output_hook : callable, optional
            Called with each published message instead of showing it.
        stdin_hook : callable, optional
            Called with each request for input instead of asking on standard input; it answers
            with :meth:`input`.  On Windows the wait for standard input has no timeout.

        Returns
        -------
        dict
            The reply.

        Raises
        ------
        GatewayTimeout, DeadKernelError, GatewayConnectionClosed, ValueError
            As :meth:`execute`.
        RuntimeError
            The channels that it needs are not running.
        """
        self._line.check()
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
        message = self._message("execute_request", content)
        channels = (self.shell_channel, self.iopub_channel, self.stdin_channel)
        with Claim(message["msg_id"], *channels) as claim:
            self.shell_channel.send(message, None if timeout is None else deadline)
            answer = partial(self._answer, claim, deadline, stdin_hook)
            return self._interact(
                claim,
                deadline,
                output_hook or self._output_hook(),
                answer if allow_stdin else self._refuse_to_answer,
            )

    def _interact(
        self,
        claim: Claim,
        deadline: Deadline,
        output_hook: Callable[[Message], Any],
        answer: Callable[[Message], None],
    ) -> Message:
        """Hand out what comes, until both the reply and the last output are here."""
        reply: Message | None = None
        idle = False
        while not (reply and idle):
            # An "idle" can get lost on its way; once the reply is here, silence is enough.
            try:
                message = claim.take(deadline.within(_IDLE_GRACE) if reply else deadline)
            except Empty:
                if reply and not deadline.passed():
                    self.log.warning("the end of the output did not come within %g s", _IDLE_GRACE)
                    return reply
                raise GatewayTimeout(
                    "Timeout waiting for output; the code may still be running:"
                    " interrupt_kernel() of the manager ends it"
                ) from None
            except ReplyLost:
                if reply:  # only the end of the output is lost
                    return reply
                raise
            # A type counts only on its channel: no server gets an answer by another way.
            if claim.origin is self.iopub_channel:
                output_hook(message)
                idle = idle or _is_idle(message)
            elif claim.origin is self.stdin_channel:
                if message["msg_type"] == "input_request":
                    answer(message)
            elif message["msg_type"] == "execute_reply":
                reply = message
        return reply

    def _answer(
        self,
        claim: Claim,
        deadline: Deadline,
        stdin_hook: Callable[[Message], Any] | None,
        request: Message,
    ) -> None:
        """Answer a question of the code, or have `stdin_hook` do it."""
        if stdin_hook is not None:
            if inspect.isawaitable(result := stdin_hook(request)):
                if inspect.iscoroutine(result):
                    result.close()
                raise TypeError("stdin_hook must be a plain function: this client is blocking")
            return

        def is_over() -> bool:
            # Then the kernel does not wait any more, or waits for the answer to another question.
            return claim.has_ended() or claim.holds("input_request", "execute_reply")

        text = ask(
            OutputFilter()(str(request["content"].get("prompt", ""))),
            password=bool(request["content"].get("password")),
            deadline=deadline,
            is_over=is_over,
        )
        if text is not None and not is_over():
            self.input(text)

    def _refuse_to_answer(self, request: Message) -> None:
        self.log.warning(
            "kernel %s asks for input, which is not allowed (allow_stdin is False): it gets no"
            " answer",
            self.kernel_id,
        )

    def _output_hook(self) -> Callable[[Message], Any]:
        """How output is shown where nobody said how."""
        if "IPython" in sys.modules:
            from IPython import get_ipython

            shell = get_ipython()
            if getattr(shell, "kernel", None):
                publisher = shell.display_pub
                return partial(
                    self._output_hook_kernel,
                    publisher.session,
                    publisher.pub_socket,
                    publisher.parent_header,
                )
        return self._output_hook_default


class _Line:
    """The client's connection of the moment, for who must not hold the client itself."""

    connection: Connection | None = None
    inherited: GatewayConnectionClosed | None = None  # from another process

    def check(self) -> None:
        if self.inherited is not None:
            raise copy_for_raise(self.inherited)

    def send(self, channel: str, message: Message, timeout: float | Deadline | None) -> None:
        self.check()
        if self.connection is None:
            raise GatewayConnectionClosed("the channels are not running: call start_channels()")
        self.connection.send(channel, message, timeout)

    def is_beating(self, within: float) -> bool:
        return self.connection is not None and self.connection.is_beating(within)


def _endpoint(
    gateway: GatewayClient, rest: GatewayREST, kernel_id: str, session_id: str
) -> Endpoint:
    """Where the websocket leads, with what the configuration says at this moment."""
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


def _kernel_exists(rest: GatewayREST, kernel_id: str) -> bool:
    return _kernel_state(rest, kernel_id) not in ("gone", "dead")


def _ask_again_after(waited: float) -> float:
    """Return the seconds after which a kernel that is not ready yet is asked again.

    A kernel that is busy answers all requests when it is done: they are not to be thousands.
    """
    return max(1.0, waited / 10)


def _not_ready(kernel_id: str, deadline: Deadline) -> KernelNotReady:
    return KernelNotReady(
        f"Kernel didn't respond in {deadline.timeout:g} seconds: kernel {kernel_id} is starting, or"
        " busy, or cannot start, which the gateway's log says"
    )


def _take_reply(claim: Claim, deadline: Deadline, msg_type: str) -> Message:
    try:
        return claim.take(deadline)
    except Empty as error:
        raise GatewayTimeout(
            f"Timeout waiting for reply: none to {msg_type} within {deadline.timeout:g} s;"
            " the kernel may still be busy with it"
        ) from error


def _is_idle(message: Message) -> bool:
    return bool(
        message["msg_type"] == "status" and message["content"].get("execution_state") == "idle"
    )


KernelClientABC.register(BlockingGatewayKernelClient)
