"""The manager of several kernels behind a gateway, with jupyter_client's blocking API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar, cast

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.multikernelmanager import MultiKernelManager
from traitlets import Bool, DottedObjectName, Instance, Unicode, default

from .cleanup import cleaning_up
from .deadline import Deadline
from .errors import GatewayAuthError, GatewayError, NoSuchKernel
from .forking import register_after_fork
from .kernelspec import BlockingGatewayKernelSpecManager
from .launch import choose_kernel_id
from .locks import Latch, Lock, Waiters, apart
from .manager import BlockingGatewayKernelManager
from .models import KernelModel
from .remote import GatewayMixin, unsupported
from .signals import SigtermRaises

__all__ = ["BlockingGatewayMultiKernelManager"]

_Self = TypeVar("_Self", bound="BlockingGatewayMultiKernelManager")
_T = TypeVar("_T")
_R = TypeVar("_R")

_AT_ONCE = 16  # requests in parallel, if there is one for each kernel


class BlockingGatewayMultiKernelManager(GatewayMixin, MultiKernelManager):
    """A :class:`~jupyter_client.multikernelmanager.MultiKernelManager` of a gateway's kernels.

    >>> with BlockingGatewayMultiKernelManager() as kernels:  # doctest: +SKIP
    ...     kernel_id = kernels.start_kernel(kernel_name="python3")
    ...     kc = kernels.get_kernel(kernel_id).client()

    The manager has the kernels that it started or attached to, and does not touch the gateway's
    other kernels.  As a context manager, it shuts down at the end what it started.

    Every method that sends a request raises :exc:`.GatewayError` if the gateway does not answer.
    Every method with a `kernel_id` raises ``KeyError`` if the manager does not have the kernel.
    Any number of threads may use one manager.

    Parameters
    ----------
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_manager_class = DottedObjectName(
        "gateway_blocking.manager.BlockingGatewayKernelManager", config=True
    )
    kernel_spec_manager = Instance(KernelSpecManager)
    default_kernel_name = Unicode(
        "", config=True, help="Kernelspec to start by default; '' for the gateway's default."
    )
    shared_context = Bool(False, help="False, because there are no ZMQ sockets.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Now: later, two threads might each make one.
        self._kernels: dict[str, BlockingGatewayKernelManager] = {}
        self._made = self.rest, self.kernel_spec_manager
        self._culled: set[str] = set()
        self._sigterm = SigtermRaises()
        self._after_fork()
        register_after_fork(self._after_fork)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.gateway!r}, {len(self._kernels)} kernels>"

    def __enter__(self: _Self) -> _Self:
        self._sigterm.__enter__()
        return self

    def __exit__(
        self, _kind: object = None, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        with self._sigterm.end(), cleaning_up(error, self.log):
            try:
                self.shutdown_all(now=True)
            finally:
                self._close_rest()

    def _after_fork(self) -> None:
        """Make the locks anew in a child process, where no thread would release them."""
        self._lock, self._waiters = Lock(), Waiters()
        self._starts: set[object] = set()
        self._endings = 0  # number of calls of shutdown_all()

    @default("kernel_spec_manager")
    def _default_kernel_spec_manager(self) -> BlockingGatewayKernelSpecManager:
        return BlockingGatewayKernelSpecManager(
            gateway=self.gateway, rest=self.rest, config=self.config, log=self.log
        )

    def _create_kernel_manager_factory(self) -> Callable[..., Any]:
        create = super()._create_kernel_manager_factory()

        def with_our_gateway(**kwargs: Any) -> Any:
            ours = {"gateway": self.gateway, "rest": self.rest}
            return create(kernel_spec_manager=self.kernel_spec_manager, **ours, **kwargs)

        return with_our_gateway

    # --- starting and ending --------------------------------------------------------------------

    def start_kernel(self, *, kernel_name: str | None = None, **kwargs: Any) -> str:
        """Start a kernel, or attach to one that runs.

        Parameters
        ----------
        kernel_name : str, optional
            Name of the kernelspec; by default :attr:`default_kernel_name`.
        kernel_id : str, optional
            ID of a running kernel to attach to; the manager does not shut it down.
        **kwargs
            Arguments of :meth:`.BlockingGatewayKernelManager.start_kernel`: ``env``, ``cwd``,
            ``path``.

        Returns
        -------
        str
            ID of the kernel.

        Raises
        ------
        NoSuchKernel, NoSuchKernelSpec
            The gateway does not have the kernel to attach to, or the kernelspec.
        """
        manager: BlockingGatewayKernelManager = self.kernel_manager_factory(
            kernel_name=kernel_name or self.default_kernel_name, config=self.config, log=self.log
        )
        if not kwargs.get("kernel_id"):
            chosen = {"KERNEL_ID": choose_kernel_id(self.new_kernel_id(**kwargs))}
            kwargs["env"] = {**chosen, **(kwargs.get("env") or {})}
        with self._starting() as endings:
            try:
                manager.start_kernel(**kwargs)
                self._register(manager)
                if self._endings != endings:
                    raise GatewayError("shutdown_all() shut this kernel down while it started")
            except BaseException as error:  # a Ctrl-C, too
                self._let_go(manager)
                with cleaning_up(error, self.log):
                    if manager.has_kernel:
                        manager.shutdown_kernel(now=True)
                raise
        return str(manager.kernel_id)

    @contextmanager
    def _starting(self) -> Iterator[int]:
        """Register a start, for which :meth:`shutdown_all` waits."""
        start = object()
        try:
            with self._lock:
                self._starts.add(start)
                endings = self._endings
            yield endings
        finally:
            self._starts.discard(start)
            self._waiters.notify_all()

    def _register(self, manager: BlockingGatewayKernelManager) -> None:
        kernel_id = str(manager.kernel_id)
        with self._lock:
            there = self._kernels.get(kernel_id)
            if there is None or not there.has_kernel:  # otherwise that manager has the clients
                self._kernels[kernel_id] = manager
            self._culled.discard(kernel_id)

    def _let_go(self, manager: BlockingGatewayKernelManager) -> None:
        """Remove this manager, but not another one of the same kernel."""
        with self._lock:
            kernel_id = str(manager.kernel_id)
            if manager is self._kernels.get(kernel_id):
                del self._kernels[kernel_id]

    def shutdown_kernel(
        self, kernel_id: str, now: bool | None = False, restart: bool | None = False
    ) -> None:
        """Shut a kernel down if this manager started it, and remove it in any case.

        Parameters
        ----------
        kernel_id : str
            ID of the kernel.
        now, restart : bool
            See :meth:`.BlockingGatewayKernelManager.shutdown_kernel`.
        """
        manager = self.get_kernel(kernel_id)
        manager.shutdown_kernel(now=bool(now), restart=bool(restart))
        self._let_go(manager)

    def shutdown_all(self, now: bool = False) -> None:
        """Shut down all kernels that this manager started, many at once, and remove all.

        A kernel that another thread is starting is shut down by that thread, which gets a
        :exc:`.GatewayError`.  This method waits for it.

        Raises
        ------
        GatewayError
            Some kernels could not be shut down, and are not removed.  The text says which and why;
            the ``__cause__`` is the first of their errors.
        """

        def shut_down(kernel_id: str) -> tuple[str, Exception] | None:
            try:
                self.shutdown_kernel(kernel_id, now=now)
            except KeyError:
                pass  # another thread was faster
            except Exception as error:  # no error must keep the other kernels alive
                return kernel_id, error
            return None

        with self._lock:
            self._endings += 1
            starting, ids = set(self._starts), list(self._kernels)
        failed = [each for each in _at_once(shut_down, ids) if each]
        longest = Deadline(self.gateway.effective_request_timeout)
        self._waiters.wait_while(lambda: starting & self._starts, longest)
        if failed:
            reasons = "; ".join(f"{kernel_id}: {error}" for kernel_id, error in failed)
            raise GatewayError(
                f"{len(failed)} kernels could not be shut down, and may still run: {reasons}"
            ) from failed[0][1]

    def get_kernel(self, kernel_id: str) -> BlockingGatewayKernelManager:
        """Return the manager of one of the kernels."""
        return cast("BlockingGatewayKernelManager", super().get_kernel(kernel_id))

    def remove_kernel(  # type: ignore[override]  # not an error if there is none
        self, kernel_id: str
    ) -> BlockingGatewayKernelManager | None:
        """Remove a kernel without shutting it down; return its manager, or None."""
        with self._lock:
            return self._kernels.pop(kernel_id, None)

    def restart_kernel(self, kernel_id: str, now: bool = False) -> None:
        """Restart a kernel: see :meth:`.BlockingGatewayKernelManager.restart_kernel`."""
        self.get_kernel(kernel_id).restart_kernel(now=now)

    pre_start_kernel = unsupported("pre_start_kernel", "call start_kernel()")

    # jupyter_client's own code may await these.

    async def _async_start_kernel(self, *, kernel_name: str | None = None, **kwargs: Any) -> str:
        return self.start_kernel(kernel_name=kernel_name, **kwargs)

    async def _async_shutdown_kernel(
        self, kernel_id: str, now: bool | None = False, restart: bool | None = False
    ) -> None:
        self.shutdown_kernel(kernel_id, now, restart)

    async def _async_restart_kernel(self, kernel_id: str, now: bool = False) -> None:
        self.restart_kernel(kernel_id, now)

    async def _async_shutdown_all(self, now: bool = False) -> None:
        self.shutdown_all(now)

    # --- listing --------------------------------------------------------------------------------

    def list_kernels(self) -> list[KernelModel]:
        """Return the current models of this manager's kernels.

        This sends one request, or one for each kernel if the gateway does not permit listing.  A
        kernel that is gone is removed: see :meth:`kernel_culled`.
        """
        ours = list(self._kernels)
        if not ours:
            return []
        try:
            listed = {model["id"]: model for model in self.rest.list_kernels()}
        except GatewayAuthError as error:
            if error.status_code != 403:
                raise
            listed = {}
        # The list may be outdated, or come from another server: ask for each missing kernel.
        missing = [kernel_id for kernel_id in ours if kernel_id not in listed]
        listed |= {model["id"]: model for model in _at_once(self._refresh, missing) if model}
        models = []
        for kernel_id in ours:
            manager, model = self._kernels.get(kernel_id), listed.get(kernel_id)
            if manager is not None and model:
                if manager.refresh_model(model):
                    models.append(model)
                else:  # its own manager has removed it, and it runs
                    self._let_go(manager)
        return models

    def _refresh(self, kernel_id: str) -> KernelModel | None:
        """Return a kernel's model; if the kernel is gone, remove it and return None."""
        manager: BlockingGatewayKernelManager | None = self._kernels.get(kernel_id)
        if manager is None:
            return None
        model: KernelModel | None = manager.refresh_model()
        if model is not None:
            return model
        with self._lock:
            still_ours = self._kernels.get(kernel_id) is manager
            if still_ours and not manager.shutting_down:
                self._culled.add(kernel_id)  # otherwise this process has shut it down
        self._let_go(manager)
        return None

    def list_kernel_ids(self) -> list[str]:
        """Return the IDs of this manager's kernels, see :meth:`list_kernels`."""
        return [model["id"] for model in self.list_kernels()]

    def __len__(self) -> int:
        """Return the number of kernels, without a request."""
        return len(self._kernels)

    def kernel_model(self, kernel_id: str) -> KernelModel:
        """Return the current model of a kernel.

        Raises
        ------
        KeyError
            The manager does not have the kernel, or the gateway does not have it any more
            (:exc:`.NoSuchKernel`).
        """
        self._check_kernel_id(kernel_id)
        model = self._refresh(kernel_id)
        if model is None:
            raise NoSuchKernel(f"kernel {kernel_id} is gone: it was shut down or culled")
        return model

    def kernel_culled(self, kernel_id: str) -> bool:
        """Return True if a kernel of this manager is gone, and the manager did not end it."""
        if kernel_id in self._kernels:
            self._refresh(kernel_id)
        return kernel_id in self._culled


def _at_once(do: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Call `do` with each item, in a pool of threads; an interruption does not skip any."""
    items = list(items)
    if len(items) < 2:
        return [do(item) for item in items]
    futures: list[Future[_R]] = []
    done = Latch()

    def do_all() -> None:
        try:
            with ThreadPoolExecutor(min(len(items), _AT_ONCE)) as pool:
                for item in items:
                    futures.append(_submit(pool, do, item))
        finally:
            done.open()

    try:  # in another thread: see `apart` for the damage that an interruption would do
        apart(Thread(target=do_all, name="gateway-at-once").start)
    except RuntimeError:  # the interpreter ends, and starts no thread any more
        return [do(item) for item in items]
    try:
        done.wait(Deadline(None))
    except BaseException:
        done.wait(Deadline(None))  # the pool goes on; a second Ctrl-C ends this wait
        raise
    return [future.result() for future in futures]


def _submit(pool: ThreadPoolExecutor, do: Callable[[_T], _R], item: _T) -> Future[_R]:
    try:
        return pool.submit(do, item)
    except RuntimeError:  # the interpreter ends, and starts no thread any more
        done: Future[_R] = Future()
        try:
            done.set_result(do(item))
        except Exception as error:
            done.set_exception(error)
        return done
