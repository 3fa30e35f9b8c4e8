"""The manager of one kernel behind a gateway, with jupyter_client's blocking API."""

from __future__ import annotations

import copy
import inspect
import signal
import subprocess
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from jupyter_client.managerabc import KernelManagerABC
from jupyter_client.multikernelmanager import MultiKernelManager
from traitlets import DottedObjectName, Type, Unicode, default

from .cleanup import cleaning_up
from .client import BlockingGatewayKernelClient
from .config import GatewayClient, reject_unknown_kwargs
from .coroutines import (
    QueueDrain,
    called_by_coroutine,
    error_before_cleanup_of_caller,
    startup_timeout_of_caller,
)
from .deadline import Deadline
from .errors import GatewayError, GatewayTimeout, NoKernel, NoSuchKernel, RemoteNotSupported
from .events import KERNEL_ACTIONS
from .forking import register_after_fork
from .kernelspec import BlockingGatewayKernelSpecManager
from .launch import choose_kernel_id
from .locks import Lock, RLock, apart
from .models import KernelModel
from .reaper import Hold
from .remote import RemoteKernelMixin, unsupported
from .rest import GatewayREST
from .signals import SigtermRaises

__all__ = ["BlockingGatewayKernelManager", "run_kernel", "start_new_kernel"]

_Manager = TypeVar("_Manager", bound="BlockingGatewayKernelManager")

_NO_PROCESS = "the kernel's process belongs to the gateway"
_START_ARGUMENTS = {
    *("kernel_id", "kernel_name", "env", "cwd", "path"),
    # what a local kernel's start takes besides
    *("extra_arguments", "independent", "transport_encryption"),
    *inspect.signature(subprocess.Popen).parameters,
}
_NEW_KERNEL = ("startup_timeout", *_START_ARGUMENTS)


def _without_traceback(error: BaseException) -> BaseException:
    """Return a copy to keep: a traceback holds all that a request used, its socket included."""
    try:
        return copy.copy(error).with_traceback(None)
    except Exception:  # of a class that cannot be copied
        return RuntimeError(f"{type(error).__name__}: {error}")


class BlockingGatewayKernelManager(RemoteKernelMixin, KernelManager):
    """A :class:`~jupyter_client.manager.KernelManager` whose kernel runs behind a gateway.

    >>> with BlockingGatewayKernelManager(kernel_name="python3") as km:  # doctest: +SKIP
    ...     km.start_kernel()
    ...     kc = km.client()
    ...     kc.start_channels()
    ...     kc.wait_for_ready(timeout=60)
    ...     reply = kc.execute("6 * 7", reply=True, timeout=10)

    As a context manager it shuts its kernel down at the end, if it started it; also at the end by
    a SIGTERM, which is a ``SystemExit`` in the main thread meanwhile, unless it is handled already.
    A kernel that is not shut down ends with the process that started it, as a local one does,
    however that process ends; see :attr:`owned_kernel`.  In a process that was forked the kernel is
    that of the parent process, and left alone.

    Parameters
    ----------
    kernel_name : str
        The kernelspec to start, as the gateway names it.
    kernel_id : str, optional
        A kernel that runs already: :meth:`start_kernel` then attaches to it.
    gateway, **options
        See :class:`.RemoteKernelMixin`.
    """

    client_class = DottedObjectName(
        "gateway_blocking.client.BlockingGatewayKernelClient", config=True
    )
    client_factory = Type(klass="jupyter_client.client.KernelClient", config=True)
    kernel_id = Unicode(
        None,
        allow_none=True,
        config=True,
        help="A kernel that runs already, to be attached to instead of starting one.",
    )

    def __init__(self, **kwargs: Any) -> None:
        self._kernel: KernelModel | None = None
        self._hold: Hold | None = None
        self._started: Future[None] = Future()
        self._start_ended = False
        self._restarts = 0
        self._make_locks()
        self._all_clients: weakref.WeakSet[BlockingGatewayKernelClient] = weakref.WeakSet()
        self._sigterm = SigtermRaises()
        super().__init__(**kwargs)
        self._attach_to: str | None = self.kernel_id or None
        register_after_fork(self._after_fork)

    def __repr__(self) -> str:
        what = f"kernel {self.kernel_id}" if self.has_kernel else "no kernel"
        return f"<{type(self).__name__} {self.kernel_name!r}, {what}>"

    def __enter__(self: _Manager) -> _Manager:
        self._sigterm.__enter__()
        return self

    def __exit__(
        self, _kind: object = None, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        with self._sigterm.end(), cleaning_up(error, self.log):
            self._end()

    def _end(self) -> None:
        """Shut the kernel down, and let go of all in any case."""
        try:
            if self.has_kernel:
                self.shutdown_kernel(now=True)
        finally:
            self._release_resources()

    def _after_fork(self) -> None:
        """In a child process, which must not shut down what its parent uses."""
        self._make_locks()
        self._owns_kernel, self._hold = False, None

    def _make_locks(self) -> None:
        self._clients_lock, self._starting, self._changing = Lock(), Lock(), RLock()

    # --- what there is --------------------------------------------------------------------------

    @property
    def kernel(self) -> KernelModel | None:
        """The kernel's model as the gateway gave it last, None where there is no kernel."""
        return self._kernel

    @property
    def has_kernel(self) -> bool:
        """Whether a kernel was started or attached to, and neither shut down nor seen gone."""
        return self._kernel is not None

    @property
    def owned_kernel(self) -> bool:
        """Whether the kernel is ours to shut down: True for one that we started.

        A kernel that is ours ends with this process.  May be set, to leave a kernel running or to
        take an attached one over.
        """
        return bool(self._owns_kernel)

    @owned_kernel.setter
    def owned_kernel(self, owned: bool) -> None:
        self._owns_kernel = owned
        self._hold_what_is_owned()

    def _hold_what_is_owned(self) -> None:
        """Have the kernel end with this process exactly if there is one, and it is ours."""
        owned = self._kernel["id"] if self._kernel is not None and self._owns_kernel else None
        if self._hold is not None and self._held_id != owned:
            self._hold.release()
            self._hold = None
        if self._hold is not None:
            self._hold.started()
        elif owned is not None:
            self._hold_kernel(owned)

    def _hold_kernel(self, kernel_id: str, start_timeout: float = 0.0) -> None:
        delete = _at_exit(self, self.rest, kernel_id)
        self._hold = self.rest.hold_kernel(kernel_id, delete, start_timeout)
        self._held_id = kernel_id

    def _delete_at_exit(self, kernel_id: str, timeout: float) -> None:
        """Delete the kernel at the end of the interpreter, of which no client is to be told."""
        for client in self._clients:
            client.connection_slot.mute()
        with self._told("shutdown"):
            self.rest.delete_kernel(kernel_id, timeout)

    @default("kernel_spec_manager")
    def _default_kernel_spec_manager(self) -> BlockingGatewayKernelSpecManager:
        return BlockingGatewayKernelSpecManager(
            gateway=self.gateway, rest=self.rest, config=self.config, log=self.log
        )

    @property
    def kernel_spec(self) -> KernelSpec | None:
        """The kernelspec of :attr:`kernel_name`, from the gateway.

        Raises
        ------
        NoSuchKernelSpec
            The gateway has none of this name.
        """
        if self._kernel_spec is None and self.kernel_name:
            self._kernel_spec = self.kernel_spec_manager.get_kernel_spec(self.kernel_name)
        return self._kernel_spec

    @property
    def ready(self) -> Future[None]:
        """A future that is done when :meth:`start_kernel` is, with its exception if it failed."""
        return self._started

    def refresh_model(self, model: KernelModel | None = None) -> KernelModel | None:
        """Ask the gateway for the kernel's model.

        Parameters
        ----------
        model : dict, optional
            The model, where the caller has just got it.

        Returns
        -------
        dict or None
            The model (:attr:`kernel`); None where the gateway does not know the kernel any more.
        """
        if self._kernel is None:
            return None
        try:
            model = model or self.rest.get_kernel(self._kernel["id"])
        except NoSuchKernel as error:
            self.log.warning("%s", str(error))  # not the object, whose traceback holds sockets
            self._forget_kernel(f"kernel {self.kernel_id} is gone: {error}")
            return None
        if self._kernel is not None:  # another thread may have shut it down meanwhile
            self._kernel = model
        return model

    # --- starting and ending --------------------------------------------------------------------

    def start_kernel(self, **kw: Any) -> None:
        """Start a kernel on the gateway, or attach to one that runs there.

        The new kernel's id is chosen here, for gateways that let it be chosen.  So a kernel whose
        start was not answered, because the connection broke or a proxy gave up, is found again.

        A gateway that is not up is an error at once; only for nbclient, which has a
        ``startup_timeout``, it is waited for (see :meth:`.GatewayClient.wait_until_up`).

        Parameters
        ----------
        kernel_id : str, optional
            Attach to this kernel, which then is not ours to shut down.  From a
            ``MultiKernelManager``, which makes up an id for each kernel it starts, it is the
            id that the new kernel is to have.
        kernel_name : str, optional
            The kernelspec; by default :attr:`kernel_name`.
        env : mapping, optional
            Environment variables of the kernel, besides those of this process.  Sent are those
            whose name begins with ``KERNEL_`` or stands in ``allowed_envs``.  A ``KERNEL_ID``
            that is a canonical UUID of version 4 is the id that the new kernel is to have.
        cwd : str, optional
            The working directory, sent as ``KERNEL_WORKING_DIR``; a gateway may ignore it.
        path : str, optional
            The working directory relative to the server's root, for a server that knows it.
        **kw
            What concerns a process on this machine (``extra_arguments``, ``stdout``, ...)
            is ignored.

        Raises
        ------
        TypeError
            There is no argument of this name, for a local kernel either.
        NoSuchKernel
            There is no kernel of this id to attach to.
        NoSuchKernelSpec
            The gateway does not have the kernelspec.
        GatewayAuthError
            It refuses the credentials, or another kernel for this user.
        GatewayConnectionError, GatewayTimeout, GatewayHTTPError
            It cannot be reached, or did not start the kernel.  Where the answer was lost and
            the kernel was not found, the text says so: it may run all the same.
        RuntimeError
            There is a kernel already.
        """
        reject_unknown_kwargs("start_kernel()", kw, _START_ARGUMENTS)
        if (patience := startup_timeout_of_caller()) is not None:
            self.rest.wait_until_up(patience)
        busy = RuntimeError("the kernel is just being started, by another thread")
        with self._starting.within(Deadline(0), busy), self._alone("start_kernel()"):
            if self.has_kernel:
                raise RuntimeError(f"kernel {self.kernel_id} runs already; shut it down first")
            self._start_and_tell(**kw)

    def _alone(self, what: str) -> AbstractContextManager[None]:
        """Return what keeps other threads from a start, a restart and a shutdown meanwhile.

        The thread itself may do another one, as in a signal handler.
        """
        seconds = 2 * self.gateway.effective_request_timeout  # a start may search for its kernel
        error = GatewayTimeout(
            f"{what}: another thread has been starting, restarting or shutting down the kernel for"
            f" {seconds:g} s"
        )
        return self._changing.within(Deadline(seconds), error)

    def _start_and_tell(self, **kw: Any) -> None:
        """Start, and tell who waits for :attr:`ready` how it ended."""
        if self._start_ended:
            self._started, self._start_ended = Future(), False
        try:
            self._start_or_attach(**kw)
        except BaseException as error:
            self._end_start(partial(self._started.set_exception, _without_traceback(error)))
            raise
        self._end_start(partial(self._started.set_result, None))

    def _end_start(self, tell: Callable[[], None]) -> None:
        self._start_ended = True
        apart(tell)  # an interruption would leave the lock of the Future locked

    def _start_or_attach(self, **kw: Any) -> None:
        self._attempted_start = True
        self.shutting_down = False
        if kernel_name := kw.pop("kernel_name", None):
            self.kernel_name = kernel_name
        kernel_id = kw.pop("kernel_id", None) or self._attach_to
        chosen_id = isinstance(self.parent, MultiKernelManager)
        self.kernel_id = kernel_id
        with self._told("start"):
            if kernel_id and not chosen_id:
                self._kernel = self.rest.get_kernel(kernel_id)
                self._owns_kernel = False
            else:
                self._kernel = self._start(kernel_id, **kw)
                self._owns_kernel = True
            self._hold_what_is_owned()
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
        if not own:  # one that this process has from its own kernel is not for another
            sent["KERNEL_ID"] = kernel_id  # Enterprise Gateway reads it from there
        # From now on, since this process may end before the gateway has answered.
        with suppress(GatewayError):  # of an option that is wrong: it is told by the start itself
            self._hold_kernel(kernel_id, self.gateway.effective_request_timeout)
        try:
            return self.rest.start_kernel(
                self.kernel_name or None, sent, path=path, kernel_id=kernel_id, hold=self._hold
            )
        except BaseException:
            self._hold = None  # released, unless the kernel may run all the same
            raise

    def shutdown_kernel(self, now: bool = False, restart: bool = False) -> Any:
        """Shut the kernel down, unless it is not ours (see :attr:`owned_kernel`).

        At the end all is let go of that is held for it, as by :meth:`cleanup_resources`.

        A coroutine may await this, as nbclient does: it is done all the same, and tasks that read
        the kernel's output get to take what it said at its end.

        Parameters
        ----------
        now : bool
            For a local kernel, whether to kill it at once.  A gateway decides that itself.
        restart : bool
            Not possible: use :meth:`restart_kernel`.

        Raises
        ------
        GatewayError
            The gateway could not be reached or did not do it; the kernel may still be there.
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
        """Shut the kernel down, and return True; or leave one running that is not ours."""
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
        with self._told("shutdown"), suppress(NoSuchKernel):  # it is gone, as it should be
            self.rest.delete_kernel(kernel_id)
        self._forget_kernel(f"kernel {kernel_id} was shut down; start_kernel() starts another")

    def _forget_kernel(self, text: str) -> None:
        """There is no kernel any more, and nobody needs to wait for it."""
        self._kernel = None
        self._hold_what_is_owned()
        for client in self._clients:
            client.connection_slot.kernel_gone(text)

    def restart_kernel(self, now: bool = False, newports: bool = False, **kw: Any) -> None:
        """Restart the kernel: same id, new process; clients go on with it.

        Requests that wait for their reply get :exc:`.KernelRestarted`.  If another thread is
        restarting the kernel, this waits for it, and is then done.

        Parameters
        ----------
        now, newports, **kw
            Accepted for jupyter_client's sake; the gateway restarts the kernel as it was started.

        Raises
        ------
        NoKernel
            There is none.
        NoSuchKernel
            The gateway does not know it any more.
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
            restarted = [
                client.connection_slot.kernel_restarting(kernel_id) for client in self._clients
            ]
            with self._told("restart"):
                self.refresh_model(self.rest.restart_kernel(kernel_id))
            for tell in restarted:
                tell()
            self._restarts += 1

    def interrupt_kernel(self) -> None:
        """Interrupt what the kernel runs.

        Raises
        ------
        NoKernel
            There is none.
        GatewayError
            The gateway does not know the kernel any more, or could not be reached.
        """
        kernel_id = self._require_kernel("interrupt")["id"]
        with self._told("interrupt"):
            self.rest.interrupt_kernel(kernel_id)

    def signal_kernel(self, signum: int) -> None:
        """Interrupt the kernel, if `signum` is SIGINT; no other signal gets through a gateway."""
        self._require_kernel("signal")
        if signum != signal.SIGINT:
            raise RemoteNotSupported(
                f"signal {signum} cannot be sent through a gateway, only SIGINT, which is"
                " interrupt_kernel(); shutdown_kernel() ends the kernel"
            )
        self.interrupt_kernel()

    def is_alive(self) -> bool:
        """Whether the kernel is there and is still the one that its clients speak with.

        A client whose channels run knows, without a request; also while its connection is being
        opened again, because a gateway that cannot be reached is no dead kernel.  Without one,
        the gateway is asked.  False where it started a dead kernel anew behind our back, until a
        client's ``wait_for_ready()`` goes on with that one.  Before :meth:`start_kernel`, the
        gateway is asked for the kernel to attach to.

        Raises
        ------
        GatewayError
            The gateway had to be asked, and did not answer.
        """
        alive = False
        with cleaning_up(error_before_cleanup_of_caller(), self.log):
            alive = self._is_alive()
        return alive  # noqa: RET504 - False if that failed

    def _is_alive(self) -> bool:
        if self._kernel is None and self._attach_to is not None:
            return self._is_there(self._attach_to)
        clients = self._clients
        trusted = all(client.connection_slot.kernel_seems_alive for client in clients)
        if (
            trusted
            and self.has_kernel
            and any(client.connection_slot.is_open for client in clients)
        ):
            return True
        model = self.refresh_model()
        return trusted and model is not None and model.get("execution_state") != "dead"

    def _is_there(self, kernel_id: str) -> bool:
        try:
            return self.rest.get_kernel(kernel_id).get("execution_state") != "dead"
        except NoSuchKernel:
            return False

    def request_shutdown(self, restart: bool = False) -> None:
        """Shut the kernel down; there is no polite half of it, see :meth:`shutdown_kernel`."""
        self.shutdown_kernel(restart=restart)

    def finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.1, restart: bool = False
    ) -> None:
        """Shut the kernel down if it is still there; the gateway does the waiting."""
        self.shutdown_kernel(restart=restart)

    def cleanup_resources(self, restart: bool = False) -> None:
        """Let go of all that is held for the kernel; and shut down one that was restarted.

        That is one which the gateway started anew, empty, after it had died: :meth:`is_alive`
        says False then, so that callers do not shut it down.  Idempotent.
        """
        if restart:
            return
        if self._kernel is not None and self._owns_kernel:
            if not all(client.connection_slot.kernel_seems_alive for client in self._clients):
                try:
                    self.shutdown_kernel(now=True)
                except GatewayError as error:  # what made the caller clean up tells more
                    self.log.warning("a restarted kernel could not be shut down: %s", str(error))
        self._release_resources()

    def _release_resources(self) -> None:
        if self._created_context:  # by old code that touched `context`; we have none ourselves
            self.context.destroy(linger=100)
        self._close_rest()

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        """Let it be known how something ends that is done to the kernel: an event each time."""

        def tell(status: str, msg: str, status_code: int | None = None) -> None:
            about = {"kernel_id": self.kernel_id, "kernel_name": self.kernel_name}
            outcome = {"status": status, "status_code": status_code, "msg": msg}
            self.gateway.emit(KERNEL_ACTIONS, action=action, **about, **outcome)

        try:
            yield
        except Exception as error:
            tell("error", str(error), getattr(error, "status_code", None))
            if isinstance(error, NoSuchKernel):
                self._forget_kernel(f"kernel {self.kernel_id} is gone: {error}")
            raise
        tell("success", f"{action}: kernel {self.kernel_id}")

    def _require_kernel(self, what: str) -> KernelModel:
        if self._kernel is None:
            raise NoKernel(
                f"Cannot {what} kernel. No kernel is running! Call start_kernel() first."
            )
        return self._kernel

    # --- clients --------------------------------------------------------------------------------

    def client(self, **kwargs: Any) -> BlockingGatewayKernelClient:
        """Return a client of the kernel, with a websocket of its own once its channels are started.

        Parameters
        ----------
        **kwargs
            Override what the client is made with.
        """
        factory = self.client_factory
        if not issubclass(factory, BlockingGatewayKernelClient):
            # jupyter's own applications set their ZMQ classes, which have nothing to connect to.
            factory = BlockingGatewayKernelClient
        info = self.get_connection_info(session=True)
        options: dict[str, Any] = {
            "kernel_id": info["kernel_id"],
            "session": info["session"],
            "gateway": self.gateway,
            "rest": self.rest,
            "parent": self,
        }
        client: BlockingGatewayKernelClient = factory(**{**options, **kwargs})
        with self._clients_lock:
            self._all_clients.add(client)
        return client

    @property
    def _clients(self) -> list[BlockingGatewayKernelClient]:
        with self._clients_lock:
            return list(self._all_clients)

    def blocking_client(self) -> BlockingGatewayKernelClient:
        """:meth:`client`."""
        return self.client()

    def resolve_path(self, path: str) -> str | None:
        """None: the kernel's files are not on this machine."""
        return None

    update_env = unsupported("update_env", _NO_PROCESS + ", give env= to start_kernel()")
    format_kernel_cmd = unsupported("format_kernel_cmd", _NO_PROCESS)
    pre_start_kernel = unsupported("pre_start_kernel", _NO_PROCESS)
    post_start_kernel = unsupported("post_start_kernel", _NO_PROCESS)

    # jupyter_client's own code, such as its AsyncMultiKernelManager, may await these.

    async def _async_start_kernel(self, **kw: Any) -> None:
        self.start_kernel(**kw)

    async def _async_shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        if drain := self.shutdown_kernel(now, restart):
            await drain

    async def _async_restart_kernel(
        self, now: bool = False, newports: bool = False, **kw: Any
    ) -> None:
        self.restart_kernel(now, newports, **kw)

    async def _async_interrupt_kernel(self) -> None:
        self.interrupt_kernel()

    async def _async_signal_kernel(self, signum: int) -> None:
        self.signal_kernel(signum)

    async def _async_is_alive(self) -> bool:
        return self.is_alive()

    async def _async_request_shutdown(self, restart: bool = False) -> None:
        self.request_shutdown(restart)

    async def _async_finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.1, restart: bool = False
    ) -> None:
        self.finish_shutdown(waittime, pollinterval, restart)

    async def _async_cleanup_resources(self, restart: bool = False) -> None:
        self.cleanup_resources(restart)


def _at_exit(
    manager: BlockingGatewayKernelManager, rest: GatewayREST, kernel_id: str
) -> Callable[[float], bool]:
    """Return what deletes a kernel at the end of the interpreter; it does not keep the manager."""
    weak = weakref.ref(manager)

    def delete(timeout: float) -> bool:
        manager = weak()
        try:
            if manager is None or manager._held_id != kernel_id:  # that has another one by now
                rest.delete_kernel(kernel_id, timeout)
            else:
                manager._delete_at_exit(kernel_id, timeout)
        except NoSuchKernel:
            return True
        except Exception as error:
            rest.gateway.log.warning("kernel %s was not shut down: %s", kernel_id, str(error))
            return False
        return True

    return delete


KernelManagerABC.register(BlockingGatewayKernelManager)


def start_new_kernel(
    startup_timeout: float = 60, kernel_name: str = "python", **kwargs: Any
) -> tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]:
    """Start a kernel on the gateway and wait until it is ready.

    Parameters
    ----------
    startup_timeout : float
        Seconds to wait for the gateway, if it is still coming up
        (:meth:`.GatewayClient.wait_until_up`), and seconds to wait for the kernel to answer.
    kernel_name : str
        The kernelspec; ``python`` means ``python3``.
    **kwargs
        Options of the gateway (``url=``, ``auth_token=``, ...) or ``gateway=``; anything else
        goes to :meth:`.BlockingGatewayKernelManager.start_kernel`.

    Returns
    -------
    (BlockingGatewayKernelManager, BlockingGatewayKernelClient)
        As of jupyter_client's function of this name; the client's channels are running.

    Raises
    ------
    GatewayError
        It could not be started, or was not ready in time; it is shut down then.
    """
    Deadline(startup_timeout)  # a malformed one is told before a kernel runs
    options = {"gateway", *GatewayClient.class_traits(config=True)}
    reject_unknown_kwargs("start_new_kernel()", kwargs, (*_NEW_KERNEL, *options))
    given = {name: kwargs.pop(name) for name in list(kwargs) if name in options}
    manager = BlockingGatewayKernelManager(kernel_name=kernel_name, **given)
    try:
        if startup_timeout > 0:
            manager.rest.wait_until_up(startup_timeout)
        manager.start_kernel(**kwargs)
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=startup_timeout)
    except BaseException as error:
        _give_up(manager, error)
        raise
    return manager, client


def _give_up(manager: BlockingGatewayKernelManager, error: BaseException) -> None:
    """Leave nothing behind of a start that failed."""
    with manager._sigterm, manager._sigterm.end(), cleaning_up(error, manager.log):
        try:
            for client in manager._clients:
                client.stop_channels()
        finally:
            manager._end()


@contextmanager
def run_kernel(**kwargs: Any) -> Iterator[BlockingGatewayKernelClient]:
    """Within the ``with``, a ready client of a new kernel, which is shut down at the end.

    >>> with run_kernel(kernel_name="python3") as kc:  # doctest: +SKIP
    ...     kc.execute_interactive("print(6 * 7)")

    Parameters and errors are those of :func:`start_new_kernel`.
    """
    with SigtermRaises():
        manager, client = start_new_kernel(**kwargs)
        with manager:
            try:
                yield client
            finally:
                client.stop_channels()
