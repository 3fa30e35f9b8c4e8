"""The kernels of one session of the MCP server, and the calls that use them (blocking).

The first call that needs a kernel starts it, or attaches to the kernel that the user named.  The
kernels that were started end with the session.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from .cleanup import cleaning_up
from .client import BlockingGatewayKernelClient
from .config import GatewayClient
from .deadline import Deadline
from .errors import DeadKernelError, GatewayError, NoSuchKernel
from .execution import Execution
from .locks import Lock, Waiters
from .manager import BlockingGatewayKernelManager
from .rest import GatewayREST
from .timeouts import READY_TIMEOUT

__all__ = ["Call", "CallCancelled", "KernelSession", "SessionKernel", "ToolError", "Turns"]

_log = logging.getLogger(__name__)

_SETTLE = 5.0  # seconds after which code that was interrupted counts as code that goes on
_KEPT_OUTPUT = 8_000_000  # characters of output, with images, that one execution may keep


class ToolError(Exception):
    """Error of a call that its caller, a language model, can correct."""


class CallCancelled(Exception):
    """The client cancelled the call."""


class Call:
    """One call of a tool, which another thread may cancel.

    Parameters
    ----------
    on_text : callable, optional
        ``on_text(text)``, which is told the output of the code as it comes.
    """

    def __init__(self, on_text: Callable[[str], object] | None = None) -> None:
        self.on_text = on_text
        self.cancelled_at: float | None = None
        """When the call was cancelled, by ``time.monotonic()``."""
        self._mutex = Lock()  # held while interrupting, so that it is the code of this call
        self._interrupt: Callable[[], None] | None = None

    def check(self) -> None:
        """Raise CallCancelled if the call was cancelled."""
        if self.cancelled_at is not None:
            raise CallCancelled

    def cancel(self) -> None:
        """End the call: interrupt its code, or let it not begin.

        Raises
        ------
        GatewayError
            The code could not be interrupted.
        """
        with self._mutex:
            self.cancelled_at = monotonic()
            if self._interrupt is not None:
                self._interrupt()

    @contextmanager
    def interrupted_by(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within the ``with``, let a cancellation call this function."""
        with self._mutex:
            self.check()
            self._interrupt = interrupt
        try:
            yield
        finally:
            with self._mutex:
                self._interrupt = None


class Turns:
    """The turns of the calls that execute code in one kernel: one call at a time has its turn.

    Without it, the timeout of a call would begin while the kernel executes the code of another
    one, and would interrupt that.
    """

    def __init__(self) -> None:
        self._mutex, self._waiters = Lock(), Waiters()
        self._call: Call | None = None

    @property
    def is_taken(self) -> bool:
        """True if the code of a call may be executing."""
        return self._call is not None

    @contextmanager
    def turn_of(self, call: Call) -> Iterator[None]:
        """Wait for the turn of a call, and have it within the ``with``.

        Raises
        ------
        CallCancelled
            The call was cancelled meanwhile.
        ToolError
            The code of a call that was cancelled goes on.
        """
        self._take(call)
        try:
            yield
        finally:
            self._call = None
            self._waiters.notify_all()

    def _take(self, call: Call) -> None:
        while True:
            self._waiters.wait_while(lambda: not self._may_go_on(call), Deadline(None))
            with self._mutex:
                call.check()
                if self._call is None:
                    self._call = call
                    return
                if self._is_stuck():
                    raise ToolError(
                        "the kernel still executes code that was cancelled, and that ignores"
                        " interrupts: restart the kernel, which loses its variables"
                    )

    def _may_go_on(self, call: Call) -> bool:
        return self._call is None or call.cancelled_at is not None or self._is_stuck()

    def _is_stuck(self) -> bool:
        holder = self._call
        cancelled_at = holder.cancelled_at if holder else None
        return cancelled_at is not None and monotonic() > cancelled_at + _SETTLE


class SessionKernel:
    """A kernel of the session, started or attached to.

    Any number of threads may use it; their code is executed one after another.

    Parameters
    ----------
    gateway : GatewayClient
        The gateway.
    name : str
        The kernelspec to start; by default the gateway's own default.
    kernel_id : str
        ID of a running kernel to attach to instead.
    """

    def __init__(self, gateway: GatewayClient, name: str = "", kernel_id: str = "") -> None:
        self._manager = BlockingGatewayKernelManager(kernel_name=name, gateway=gateway)
        self._turns = Turns()
        self.death_is_known = False
        """True if the answer to a call said that the kernel died."""
        try:
            self._manager.start_kernel(cwd=str(Path.cwd()), kernel_id=kernel_id or None)
            self.client: BlockingGatewayKernelClient = self._manager.client()
            self.kernel_id = str(self.client.kernel_id)
            self._connect()
        except BaseException as error:
            with cleaning_up(error, _log):
                self._shut_down()
            raise

    @property
    def is_owned(self) -> bool:
        """True if the session started the kernel, and ends it."""
        return self._manager.owned_kernel

    def _connect(self) -> None:
        self.client.start_channels()
        self.client.wait_for_ready(timeout=READY_TIMEOUT)
        self._is_usable = True

    def revive(self) -> None:
        """Connect again if the kernel died, or if the connection was lost.

        Raises
        ------
        DeadKernelError, NoSuchKernel
            The kernel is gone.
        GatewayError
            The gateway cannot be reached, or the kernel is not ready in time.
        """
        if not self._is_usable:
            self._connect()

    @contextmanager
    def turn_of(self, call: Call) -> Iterator[BlockingGatewayKernelClient]:
        """Within the ``with``, let a call use the client; if it is cancelled, interrupt its code.

        Raises
        ------
        CallCancelled
            The call was cancelled before its turn.
        ToolError
            The code of a call that was cancelled goes on.
        """
        with self._turns.turn_of(call), call.interrupted_by(self.client.interrupt_kernel):
            try:
                yield self.client
            except GatewayError:
                self._is_usable = False
                raise

    def run(self, call: Call, code: str, timeout: float | None) -> Execution:
        """Execute code in the turn of a call."""
        with self.turn_of(call) as client:
            report = call.on_text
            done = client.run(
                code,
                timeout=timeout,
                max_output=_KEPT_OUTPUT,
                on_output=None if report is None else lambda output: report(_text_of(output)),
            )
            self._is_usable = done.status not in ("died", "lost")
            self.death_is_known = done.status == "died"
        return done

    def state(self) -> str:
        """Return the state of the kernel as the gateway tells it, such as "idle", or "gone"."""
        try:
            return str(self._manager.rest.get_kernel(self.kernel_id).get("execution_state"))
        except NoSuchKernel:
            return "gone"

    def restart(self) -> None:
        """Restart the kernel, which ends its code, and wait until it is ready."""
        self._is_usable = False
        self.client.start_channels()
        self.client.restart_kernel()
        self._is_usable = True

    def stop(self) -> None:
        """Shut the kernel down, even if the session did not start it."""
        if not self.is_owned:
            with suppress(NoSuchKernel):
                self._manager.rest.delete_kernel(self.kernel_id)
        self._shut_down()

    def close(self) -> None:
        """Shut the kernel down if the session started it; otherwise only end the session's code."""
        if self._turns.is_taken and not self.is_owned:
            with suppress(GatewayError):  # the connection is closed in any case
                self.client.interrupt_kernel()
        self._shut_down()

    def _shut_down(self) -> None:
        if hasattr(self, "client"):
            self.client.stop_channels()
        try:
            self._manager.shutdown_kernel(now=True)
        finally:
            self._manager.cleanup_resources()


def _text_of(output: dict[str, Any]) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain") or "")


class KernelSession:
    """The kernels of one session.

    Any number of threads may use it.  As a context manager it ends the kernels that it started.

    Parameters
    ----------
    gateway : GatewayClient
        The gateway.
    kernel_name : str
        The kernelspec of the first kernel; by default the gateway's own default.
    kernel_id : str
        ID of a running kernel that is the first kernel; it is left running.
    """

    def __init__(self, gateway: GatewayClient, kernel_name: str = "", kernel_id: str = "") -> None:
        self._gateway = gateway
        self._first = {"name": kernel_name, "kernel_id": kernel_id}
        self._kernels: dict[str, SessionKernel] = {}
        self._default: SessionKernel | None = None
        self._is_closed = False
        self._starting, self._mutex = Lock(), Lock()

    def __enter__(self) -> KernelSession:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with self._mutex:
            self._is_closed = True
        with cleaning_up(error, _log), ExitStack() as stack:
            for kernel in self.kernels():
                stack.callback(kernel.close)

    # --- the kernels ----------------------------------------------------------------------------

    def start(self, name: str = "") -> SessionKernel:
        """Start a kernel."""
        return self._add(SessionKernel(self._gateway, name))

    def _add(self, kernel: SessionKernel) -> SessionKernel:
        with self._mutex:
            if not self._is_closed:
                self._kernels[kernel.kernel_id] = kernel
                return kernel
        kernel.close()
        raise CallCancelled

    def kernel(self, kernel_id: str = "") -> SessionKernel:
        """Return the kernel of this ID, or else the default kernel; start it if there is none.

        Raises
        ------
        ToolError
            The session has no such kernel, or has it no longer.
        GatewayError
            The kernel could not be started, or cannot be reached.
        """
        if kernel_id:
            return self._revived(self.existing_kernel(kernel_id))
        with self._starting:
            kernel = self._default
            if kernel is not None:
                try:
                    return self._revived(kernel)
                except ToolError:
                    if not kernel.death_is_known:
                        raise
            self._default = self._add(SessionKernel(self._gateway, **self._first))
            return self._default

    def _revived(self, kernel: SessionKernel) -> SessionKernel:
        """Return the kernel when it can be used; forget it if the gateway has it no longer."""
        try:
            kernel.revive()
        except (DeadKernelError, NoSuchKernel) as error:
            if not kernel.is_owned:
                raise
            self._forget(kernel)
            with cleaning_up(error, _log):
                kernel.close()
            raise ToolError(f"{error}; its variables are lost") from error
        return kernel

    def existing_kernel(self, kernel_id: str = "") -> SessionKernel:
        """Return the kernel of this ID, or else the default kernel, which must run.

        Raises
        ------
        ToolError
            The session has no such kernel.
        """
        kernel = self._kernels.get(kernel_id) if kernel_id else self._default
        if kernel is None:
            which = f"this session has no kernel {kernel_id!r}" if kernel_id else "no kernel runs"
            raise ToolError(f"{which}: list_kernels lists the kernels")
        return kernel

    def kernels(self) -> list[SessionKernel]:
        """Return the kernels of the session."""
        return list(self._kernels.values())

    def is_default(self, kernel: SessionKernel) -> bool:
        """Return True if a call that names no kernel means this one."""
        return kernel is self._default

    def stop(self, kernel: SessionKernel) -> None:
        """Shut a kernel down."""
        kernel.stop()
        self._forget(kernel)

    def _forget(self, kernel: SessionKernel) -> None:
        with self._mutex:
            self._kernels.pop(kernel.kernel_id, None)
            if kernel is self._default:
                self._default = None

    def kernelspecs(self) -> dict[str, str]:
        """Return the names of the kernelspecs of the gateway, with their display names."""
        with GatewayREST(self._gateway) as rest:
            found = rest.list_kernelspecs().get("kernelspecs", {})
        return {name: str(each.get("spec", {}).get("display_name")) for name, each in found.items()}
