"""The life of the kernel of a manager: start, restart, interrupt and shutdown."""

from __future__ import annotations

import copy
import inspect
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

from jupyter_client.multikernelmanager import MultiKernelManager

from .cleanup import cleaning_up
from .clients import ClientGroup
from .config import reject_unknown_kwargs
from .coroutines import (
    QueueDrain,
    called_by_coroutine,
    error_before_cleanup_of_caller,
    startup_timeout_of_caller,
)
from .deadline import Deadline
from .errors import GatewayError, GatewayTimeout, NoKernel, NoSuchKernel, RemoteNotSupported
from .events import action_event
from .forking import register_after_fork
from .launch import choose_kernel_id
from .locks import Lock, RLock, apart
from .models import KernelModel
from .ownership import KernelOwnership
from .remote import RemoteKernelMixin

__all__ = ["START_ARGUMENTS", "KernelLifecycle"]

START_ARGUMENTS = {
    *("kernel_id", "kernel_name", "env", "cwd", "path"),
    # arguments of the start of a local kernel
    *("extra_arguments", "independent", "transport_encryption"),
    *inspect.signature(subprocess.Popen).parameters,
}


class KernelLifecycle(RemoteKernelMixin):
    """The part of a manager that starts, restarts, interrupts and shuts down its kernel.

    Any number of threads may use it; one start, restart or shutdown happens at a time.
    """

    kernel_name: Any  # traits and attributes of the KernelManager of jupyter_client
    context: Any
    shutting_down: Any
    _attempted_start: Any
    _created_context: Any
    _owns_kernel: Any

    def __init__(self, **kwargs: Any) -> None:
        self._kernel: KernelModel | None = None
        self._started: Future[None] = Future()
        self._start_ended = False
        self._restarts = 0
        self._starting, self._changing = Lock(), RLock()
        self._clients = ClientGroup()
        self._ownership = KernelOwnership(self._clients)
        super().__init__(**kwargs)
        self._attach_to: str | None = self.kernel_id or None
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Own nothing in a child process, which must not shut down the kernel of its parent."""
        self._starting, self._changing = Lock(), RLock()
        self._owns_kernel = False

    # --- state ----------------------------------------------------------------------------------

    @property
    def kernel(self) -> KernelModel | None:
        """The model of the kernel as the gateway sent it last; None if there is no kernel."""
        return self._kernel

    @property
    def has_kernel(self) -> bool:
        """True if a kernel was started or attached to, and neither shut down nor seen gone."""
        return self._kernel is not None

    @property
    def owned_kernel(self) -> bool:
        """True if this manager owns the kernel, as it does if it started the kernel.

        An owned kernel ends with this process.  Set the attribute to leave a kernel running, or to
        own a kernel that you attached to.
        """
        return bool(self._owns_kernel)

    @owned_kernel.setter
    def owned_kernel(self, owned: bool) -> None:
        self._owns_kernel = owned
        self._update_hold()

    def _update_hold(self) -> None:
        """Let the kernel end with this process if this manager owns it, and only then."""
        owned = self._kernel["id"] if self._kernel is not None and self._owns_kernel else None
        self._ownership.update(self.rest, owned, self.kernel_name)

    @property
    def ready(self) -> Future[None]:
        """A future that ends when :meth:`start_kernel` does, with its exception if it failed."""
        return self._started

    def refresh_model(self, model: KernelModel | None = None) -> KernelModel | None:
        """Ask the gateway for the model of the kernel.

        Parameters
        ----------
        model : dict, optional
            The model, if the caller has just got it.

        Returns
        -------
        dict or None
            The model (:attr:`kernel`); None if the gateway does not know the kernel any more.
        """
        if self._kernel is None:
            return None
        try:
            model = model or self.rest.get_kernel(self._kernel["id"])
        except NoSuchKernel as error:
            self.log.warning("%s", str(error))  # not the object, whose traceback holds sockets
            self._forget_kernel()
            return None
        if self._kernel is not None:  # another thread may have shut it down meanwhile
            self._kernel = model
        return model

    def _forget_kernel(self, text: str = "") -> None:
        """Note that there is no kernel any more, and fail the requests that wait for it.

        The text of their error is `text`, or else the usual one for a kernel that is gone.
        """
        self._kernel = None
        self._update_hold()
        self._clients.kernel_gone(text)

    def _require_kernel(self, action: str) -> KernelModel:
        if self._kernel is None:
            raise NoKernel(
                f"Cannot {action} kernel. No kernel is running! Call start_kernel() first."
            )
        return self._kernel

    @contextmanager
    def _emit_action_event(self, action: str) -> Iterator[None]:
        """Within the ``with``, act on the kernel; then emit an event with the outcome."""

        def about() -> dict[str, str | None]:
            return {"kernel_id": self.kernel_id, "kernel_name": self.kernel_name}

        try:
            with action_event(self.gateway.emit, action, about):
                yield
        except NoSuchKernel:
            self._forget_kernel()
            raise

    def _alone(self, what: str) -> AbstractContextManager[None]:
        """Return a ``with`` that excludes starts, restarts and shutdowns in other threads.

        The same thread may do another one meanwhile, as in a signal handler.
        """
        seconds = 2 * self.gateway.effective_request_timeout  # a start may search for its kernel
        error = GatewayTimeout(
            f"{what}: another thread has been starting, restarting or shutting down the kernel for"
            f" {seconds:g} s"
        )
        return self._changing.within(Deadline(seconds), error)

    # --- start ----------------------------------------------------------------------------------

    def start_kernel(self, **kw: Any) -> None:
        """Start a kernel on the gateway, or attach to one that runs there.

        This process chooses the ID of the new kernel, if the gateway accepts one.  A kernel whose
        start got no response, because the connection broke or a proxy gave up, is then found
        again.

        A gateway that does not listen yet is an error at once.  Only nbclient, which has a
        ``startup_timeout``, makes this wait for the gateway (:meth:`.GatewayClient.wait_until_up`).

        Parameters
        ----------
        kernel_id : str, optional
            ID of a kernel to attach to, which this manager then does not own.  If a
            ``MultiKernelManager`` calls, which chooses an ID for each kernel that it starts, it
            is the ID of the new kernel.
        kernel_name : str, optional
            Name of the kernelspec; by default :attr:`kernel_name`.
        env : mapping, optional
            Environment variables of the kernel, in addition to those of this process.  Only
            variables whose name begins with ``KERNEL_`` or stands in ``allowed_envs`` are sent.
            A ``KERNEL_ID`` that is a canonical UUID of version 4 is the ID of the new kernel.
        cwd : str, optional
            Working directory, sent as ``KERNEL_WORKING_DIR``; a gateway may ignore it.
        path : str, optional
            Working directory relative to the root of the server, for a server that reads it.
        **kw
            Arguments for a process on this machine (``extra_arguments``, ``stdout``, ...) are
            ignored.

        Raises
        ------
        TypeError
            An argument is unknown, for a local kernel as well.
        NoSuchKernel
            There is no kernel of this ID to attach to.
        NoSuchKernelSpec
            The gateway does not have the kernelspec.
        GatewayAuthError
            The gateway refuses the credentials, or another kernel for this user.
        GatewayConnectionError, GatewayTimeout, GatewayHTTPError
            The gateway cannot be reached, or did not start the kernel.  If its response was lost
            and the kernel was not found, the text says that the kernel may run all the same.
        RuntimeError
            The manager has a kernel already.
        """
        reject_unknown_kwargs("start_kernel()", kw, START_ARGUMENTS)
        if (timeout := startup_timeout_of_caller()) is not None:
            self.rest.wait_until_up(timeout)
        busy = RuntimeError("the kernel is just being started, by another thread")
        with self._starting.within(Deadline(0), busy), self._alone("start_kernel()"):
            if self.has_kernel:
                raise RuntimeError(f"kernel {self.kernel_id} runs already; shut it down first")
            self._start_and_resolve(**kw)

    def _start_and_resolve(self, **kw: Any) -> None:
        """Start, and resolve the future :attr:`ready` with the outcome."""
        if self._start_ended:
            self._started, self._start_ended = Future(), False
        try:
            self._start_or_attach(**kw)
        except BaseException as error:
            self._end_start(partial(self._started.set_exception, _without_traceback(error)))
            raise
        self._end_start(partial(self._started.set_result, None))

    def _end_start(self, resolve: Callable[[], None]) -> None:
        self._start_ended = True
        apart(resolve)  # an interruption would leave the lock of the Future locked

    def _start_or_attach(self, **kw: Any) -> None:
        self._attempted_start = True
        self.shutting_down = False
        if kernel_name := kw.pop("kernel_name", None):
            self.kernel_name = kernel_name
        kernel_id = kw.pop("kernel_id", None) or self._attach_to
        chosen_id = isinstance(self.parent, MultiKernelManager)
        self.kernel_id = kernel_id
        with self._emit_action_event("start"):
            if kernel_id and not chosen_id:
                self._kernel = self.rest.get_kernel(kernel_id)
                self._owns_kernel = False
            else:
                self._kernel = self._start(kernel_id, **kw)
                self._owns_kernel = True
            self._update_hold()
            self.kernel_id = self._kernel["id"]
            name = self._kernel.get("name", "")
            if name and name != self.kernel_name:
                self.log.info(
                    "kernel %s is a %.200r, not a %r", self.kernel_id, name, self.kernel_name
                )
                self.kernel_name = name
        self._attach_to = None

    def _start(
        self,
        kernel_id: str | None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        path: str | None = None,
        **ignored: Any,
    ) -> KernelModel:
        if ignored:
            self.log.debug("ignored for a remote kernel: %s", ", ".join(sorted(ignored)))
        sent = self.gateway.kernel_env(env, cwd)
        own = (env or {}).get("KERNEL_ID")
        kernel_id = choose_kernel_id(own, kernel_id)
        if not own:  # else it is the ID of the kernel that this process runs in
            sent["KERNEL_ID"] = kernel_id  # Enterprise Gateway reads it from there
        # Held from now on, because this process may end before the gateway has responded.
        with suppress(GatewayError):  # a wrong option, of which the start itself tells
            timeout = self.gateway.effective_request_timeout
            self._ownership.take(self.rest, kernel_id, self.kernel_name, timeout)
        try:
            return self.rest.start_kernel(
                self.kernel_name or None,
                sent,
                path=path,
                kernel_id=kernel_id,
                hold=self._ownership.hold,
            )
        except BaseException:
            self._ownership.forget()  # it was released, unless the kernel may run all the same
            raise

    # --- shutdown -------------------------------------------------------------------------------

    def shutdown_kernel(self, now: bool = False, restart: bool = False) -> Any:
        """Shut the kernel down if this manager owns it (see :attr:`owned_kernel`).

        Then release everything that is held for the kernel, as :meth:`cleanup_resources` does.

        A coroutine may await the result, as nbclient does.  The kernel is shut down in any case;
        while the coroutine waits, tasks that read the kernel's output read its last messages.

        Parameters
        ----------
        now : bool
            Whether to kill a local kernel at once.  A gateway decides that itself.
        restart : bool
            Not supported: use :meth:`restart_kernel`.

        Raises
        ------
        GatewayError
            The gateway could not be reached or did not do it; the kernel may still run.
        """
        if restart:
            raise RemoteNotSupported(
                "shutdown_kernel(restart=True) is half of a restart, and a gateway does the"
                " whole: call restart_kernel()"
            )
        drain = None
        with cleaning_up(error_before_cleanup_of_caller(), self.log):
            if self._shut_down_or_let_go() and called_by_coroutine():
                drain = QueueDrain([client.iopub_channel for client in self._clients])
        self._release_resources()
        return drain

    def _shut_down_or_let_go(self) -> bool:
        """Shut an owned kernel down and return True; let go of another, which runs on."""
        with self._alone("shutdown_kernel()"):
            kernel = self._kernel
            if kernel is None:
                return False
            if self._owns_kernel:
                self._shut_down(kernel["id"])
                return True
            self.log.info("kernel %s was not started here and is left running", self.kernel_id)
            self.shutting_down = True
            self._kernel = None
            return False

    def _shut_down(self, kernel_id: str) -> None:
        self.shutting_down = True
        with self._emit_action_event("shutdown"), suppress(NoSuchKernel):  # gone, as it should be
            self.rest.delete_kernel(kernel_id)
        self._forget_kernel(f"kernel {kernel_id} was shut down; start_kernel() starts another")

    def _release_resources(self) -> None:
        if self._created_context:  # by old code that touched `context`; we have none ourselves
            self.context.destroy(linger=100)
        self._close_rest()

    # --- restart and interrupt ------------------------------------------------------------------

    def restart_kernel(self, now: bool = False, newports: bool = False, **kw: Any) -> None:
        """Restart the kernel: the ID stays, the process is new, and clients go on with it.

        Calls that wait for a reply raise :exc:`.KernelRestarted`.  If another thread is
        restarting the kernel, this waits for that restart instead.

        Parameters
        ----------
        now, newports, **kw
            Accepted as in jupyter_client; the gateway restarts the kernel as it was started.

        Raises
        ------
        NoKernel
            The manager has no kernel.
        NoSuchKernel
            The gateway does not know the kernel any more.
        GatewayError
            The gateway could not be reached, or did not do it.
        """
        if kw:
            self.log.debug("ignored for a remote kernel: %s", ", ".join(sorted(kw)))
        restarts = self._restarts
        with self._alone("restart_kernel()"):
            kernel_id = self._require_kernel("restart")["id"]
            if self._restarts != restarts:
                return  # another thread has just restarted it
            kernel_restarted = self._clients.kernel_restarting(kernel_id)
            with self._emit_action_event("restart"):
                self.refresh_model(self.rest.restart_kernel(kernel_id))
            kernel_restarted()
            self._restarts += 1

    def interrupt_kernel(self) -> None:
        """Interrupt the code that the kernel runs.

        Raises
        ------
        NoKernel
            The manager has no kernel.
        GatewayError
            The gateway does not know the kernel any more, or could not be reached.
        """
        kernel_id = self._require_kernel("interrupt")["id"]
        with self._emit_action_event("interrupt"):
            self.rest.interrupt_kernel(kernel_id)

    def signal_kernel(self, signum: int) -> None:
        """Interrupt the kernel if `signum` is SIGINT; a gateway passes no other signal on."""
        self._require_kernel("signal")
        if signum != signal.SIGINT:
            raise RemoteNotSupported(
                f"signal {signum} cannot be sent through a gateway, only SIGINT, which is"
                " interrupt_kernel(); shutdown_kernel() ends the kernel"
            )
        self.interrupt_kernel()


def _without_traceback(error: BaseException) -> BaseException:
    """Return a copy to keep: a traceback holds all that a request used, its socket included."""
    try:
        return copy.copy(error).with_traceback(None)
    except Exception:  # of a class that cannot be copied
        return RuntimeError(f"{type(error).__name__}: {error}")
