"""One kernel of a pool: its start, its health check, its reset and its end."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from queue import Empty
from typing import Any

from .channels import Claim
from .client import BlockingGatewayKernelClient
from .deadline import Deadline
from .errors import (
    DeadKernelError,
    ExecutionError,
    GatewayError,
    GatewayTimeout,
    KernelNotReady,
    PoolClosed,
    PoolSetupFailed,
    ReplyLost,
)
from .manager import BlockingGatewayKernelManager
from .messages import is_idle
from .timeouts import POOL_CHECK_TIMEOUT, POOL_INTERRUPT_TIMEOUT, READY_TIMEOUT, SETUP_TIMEOUT

__all__ = ["PoolKernel"]


class PoolKernel:
    """A kernel with its manager and its client.

    One thread at a time uses it, except for :meth:`stop`.

    Parameters
    ----------
    manager : BlockingGatewayKernelManager
        The manager, which has no kernel yet.
    arguments : mapping
        Arguments of its ``start_kernel()``.
    setup : str or None
        Code to execute in a new kernel.
    """

    def __init__(
        self,
        manager: BlockingGatewayKernelManager,
        arguments: Mapping[str, Any],
        setup: str | None,
    ) -> None:
        self.manager = manager
        self.client: BlockingGatewayKernelClient | None = None
        self._arguments, self._setup = arguments, setup
        self._process = ""
        self._is_stopped = False

    def __str__(self) -> str:
        return f"kernel {self.manager.kernel_id}"

    @property
    def running_client(self) -> BlockingGatewayKernelClient:
        """The client of a kernel that was started."""
        assert self.client is not None
        return self.client

    def start(self) -> None:
        """Start the kernel, and execute the setup code.

        Raises
        ------
        PoolSetupFailed
            The setup code failed.
        GatewayError
            The kernel could not be started, or was not ready in time.
        """
        self.manager.start_kernel(**self._arguments)
        client = self.manager.client()
        self.client = client
        if self._is_stopped:  # while it was being started
            raise PoolClosed("the pool was closed")
        client.start_channels()
        self._make_ready()

    def _make_ready(self) -> None:
        client, gateway = self.running_client, self.manager.gateway
        client.wait_for_ready(max(READY_TIMEOUT, gateway.launch_timeout))
        self._set_up()
        self._drop_messages()

    def _set_up(self) -> None:
        """Execute the setup code, and note in which process of the kernel it was executed."""
        client = self.running_client
        if self._setup is not None:
            try:
                client.run(self._setup, timeout=SETUP_TIMEOUT, store_history=False, check=True)
            except (ExecutionError, GatewayTimeout) as error:
                reason = str(error)
                if isinstance(error, ExecutionError):  # its text is a traceback of many lines
                    reason = f"{error.ename}: {error.evalue}"
                raise PoolSetupFailed(
                    f"the setup code of the pool failed: {reason}",
                    advice="correct the setup= of the pool",
                ) from error
        self._process = self._probe(READY_TIMEOUT)

    def is_ready(self, timeout: float) -> bool:
        """Return True if the process in which the setup code was executed answers in time."""
        try:
            return self._probe(timeout) == self._process and self.seems_alive
        except GatewayError:
            return False

    @property
    def seems_alive(self) -> bool:
        """True unless the kernel is known to be dead, or its connection is closed."""
        slot = self.running_client.connection_slot
        return slot.kernel_seems_alive and slot.is_open

    def _probe(self, timeout: float) -> str:
        """Return the session ID of the kernel's reply, which identifies its process.

        Raises
        ------
        KernelNotReady
            The kernel did not reply in time: it is busy or dead.
        DeadKernelError, GatewayConnectionClosed
            The kernel is known to be dead, or its connection is closed.
        """
        client, deadline = self.running_client, Deadline(timeout)
        request = client.session.msg("kernel_info_request", {})
        shell, iopub = client.shell_channel, client.iopub_channel
        process, has_output = "", False
        with Claim(request["header"]["msg_id"], shell, iopub, give_back=False) as claim:
            try:
                shell.send(request, deadline)
                while not (process and has_output):
                    answer = claim.take(deadline)
                    if claim.origin is iopub:
                        has_output = has_output or is_idle(answer)
                    else:
                        process = str(answer["header"].get("session") or "unknown")
            except (Empty, GatewayTimeout) as error:
                raise KernelNotReady(f"{self} did not reply within {timeout:g} s") from error
            finally:
                if not process:
                    client.connection_slot.give_up(claim.msg_ids)
        return process

    def _drop_messages(self) -> None:
        """Drop what the last caller has not taken."""
        client = self.running_client
        shell, control = client.shell_channel, client.control_channel
        for channel in (shell, client.iopub_channel, client.stdin_channel, control):
            while channel.msg_ready():
                with suppress(ReplyLost):  # of a request whose reply the caller did not take
                    channel.get_msgs()

    def reset(self, restart: bool) -> None:
        """Make the kernel ready for the next caller.

        Parameters
        ----------
        restart : bool
            Whether to restart it, so that it has no variables but those of the setup code.
            Otherwise code that still runs is interrupted.

        Raises
        ------
        DeadKernelError
            The kernel has died.
        GatewayError
            It cannot be made ready.
        """
        if not self.seems_alive:
            raise DeadKernelError(f"{self} has died, or its connection was closed")
        if restart:
            self.manager.restart_kernel()
            self._make_ready()
            return
        try:
            process = self._probe(POOL_CHECK_TIMEOUT)
        except KernelNotReady:
            self.manager.interrupt_kernel()
            process = self._probe(POOL_INTERRUPT_TIMEOUT)
        if process != self._process:  # it was restarted, perhaps by its caller
            self._set_up()
        self._drop_messages()

    def stop(self) -> None:
        """End what another thread waits for in :meth:`start` or :meth:`reset`, with an error."""
        self._is_stopped = True
        if self.client is not None:
            self.client.stop_channels()

    def end(self) -> None:
        """Shut the kernel down; it may be called again after an error.

        Raises
        ------
        GatewayError
            The gateway could not be reached, or did not do it.
        """
        if self.client is not None:
            self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
