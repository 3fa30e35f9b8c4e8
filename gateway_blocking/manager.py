"""The manager of one kernel behind a gateway, with jupyter_client's blocking API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from jupyter_client.managerabc import KernelManagerABC
from traitlets import DottedObjectName, Type, Unicode, default

from .cleanup import cleaning_up
from .client import BlockingGatewayKernelClient
from .config import GatewayClient, reject_unknown_kwargs
from .connector import kernel_exists
from .coroutines import error_before_cleanup_of_caller
from .deadline import Deadline
from .errors import GatewayError
from .kernelspec import BlockingGatewayKernelSpecManager
from .lifecycle import START_ARGUMENTS, KernelLifecycle
from .remote import unsupported
from .signals import SigtermRaises

__all__ = ["BlockingGatewayKernelManager", "run_kernel", "start_new_kernel"]

_Manager = TypeVar("_Manager", bound="BlockingGatewayKernelManager")

_NO_PROCESS = "the kernel's process belongs to the gateway"


class BlockingGatewayKernelManager(KernelLifecycle, KernelManager):
    """A :class:`~jupyter_client.manager.KernelManager` whose kernel runs behind a gateway.

    >>> with BlockingGatewayKernelManager(kernel_name="python3") as km:  # doctest: +SKIP
    ...     km.start_kernel()
    ...     kc = km.client()
    ...     kc.start_channels()
    ...     kc.wait_for_ready(timeout=60)
    ...     reply = kc.execute("6 * 7", reply=True, timeout=10)

    As a context manager it shuts down at the end the kernel that it started.  A SIGTERM ends the
    block as well, because it raises ``SystemExit`` in the main thread meanwhile, unless the program
    handles it already.  A kernel that is not shut down ends with the process that started it, as a
    local one does, however that process ends; see :attr:`owned_kernel`.  In a process that was
    forked, the kernel belongs to the parent process, and is left alone.

    Parameters
    ----------
    kernel_name : str
        Name of the kernelspec to start.
    kernel_id : str, optional
        ID of a kernel that runs already: :meth:`start_kernel` then attaches to it.
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
        help="ID of a kernel that runs already, to attach to it instead of starting one.",
    )

    def __init__(self, **kwargs: Any) -> None:
        self._sigterm = SigtermRaises()
        super().__init__(**kwargs)

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

    def _abandon_start(self, error: BaseException) -> None:
        """Release everything after a start that failed with this error."""
        with self._sigterm, self._sigterm.end(), cleaning_up(error, self.log):
            try:
                self._clients.stop()
            finally:
                self._end()

    def _end(self) -> None:
        """Shut the kernel down, and release everything even if that fails."""
        try:
            if self.has_kernel:
                self.shutdown_kernel(now=True)
        finally:
            self._release_resources()

    # --- kernelspec -----------------------------------------------------------------------------

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
            The gateway has no kernelspec of this name.
        """
        if self._kernel_spec is None and self.kernel_name:
            self._kernel_spec = self.kernel_spec_manager.get_kernel_spec(self.kernel_name)
        return self._kernel_spec

    # --- clients --------------------------------------------------------------------------------

    def client(self, **kwargs: Any) -> BlockingGatewayKernelClient:
        """Return a client of the kernel, which opens a websocket when its channels are started.

        Parameters
        ----------
        **kwargs
            Arguments of the client that replace those of the manager.
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
        self._clients.add(client)
        return client

    def blocking_client(self) -> BlockingGatewayKernelClient:
        """Return a client of the kernel: see :meth:`client`."""
        return self.client()

    # --- life -----------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Return True if the kernel is there and is still the one that the clients speak with.

        A client whose channels run knows this without a request, and so while it reconnects: a
        gateway that cannot be reached does not mean a dead kernel.  Without such a client, the
        gateway is asked.  The result is False if the gateway started a dead kernel again, until
        ``wait_for_ready()`` of a client goes on with the new process.  Before
        :meth:`start_kernel`, the gateway is asked for the kernel to attach to.

        Raises
        ------
        GatewayError
            The gateway had to be asked, and did not respond.
        """
        alive = False
        with cleaning_up(error_before_cleanup_of_caller(), self.log):
            alive = self._is_alive()
        return alive  # noqa: RET504 - False if that failed

    def _is_alive(self) -> bool:
        if self._kernel is None and self._attach_to is not None:
            return kernel_exists(self.rest, self._attach_to)
        seems_alive = self._clients.kernel_seems_alive
        if seems_alive and self.has_kernel and self._clients.is_any_open:
            return True
        model = self.refresh_model()
        return seems_alive and model is not None and model.get("execution_state") != "dead"

    def request_shutdown(self, restart: bool = False) -> None:
        """Shut the kernel down at once: see :meth:`shutdown_kernel`."""
        self.shutdown_kernel(restart=restart)

    def finish_shutdown(
        self, waittime: float | None = None, pollinterval: float = 0.1, restart: bool = False
    ) -> None:
        """Shut the kernel down if it is still there; the gateway waits for its end."""
        self.shutdown_kernel(restart=restart)

    def cleanup_resources(self, restart: bool = False) -> None:
        """Release everything that is held for the kernel; it may be called again.

        This also shuts down a kernel that the gateway started again after it had died: for such
        a kernel :meth:`is_alive` returns False, so that callers do not shut it down themselves.
        """
        if restart:
            return
        if self._kernel is not None and self._owns_kernel and not self._clients.kernel_seems_alive:
            try:
                self.shutdown_kernel(now=True)
            except GatewayError as error:  # the caller's own error tells more
                self.log.warning("a restarted kernel could not be shut down: %s", str(error))
        self._release_resources()

    def resolve_path(self, path: str) -> str | None:
        """Return None, because the kernel's files are not on this machine."""
        return None

    update_env = unsupported("update_env", _NO_PROCESS + ", give env= to start_kernel()")
    format_kernel_cmd = unsupported("format_kernel_cmd", _NO_PROCESS)
    pre_start_kernel = unsupported("pre_start_kernel", _NO_PROCESS)
    post_start_kernel = unsupported("post_start_kernel", _NO_PROCESS)

    # Code of jupyter_client, such as its AsyncMultiKernelManager, may await these.

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


KernelManagerABC.register(BlockingGatewayKernelManager)


def start_new_kernel(
    startup_timeout: float = 60, kernel_name: str = "python", **kwargs: Any
) -> tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]:
    """Start a kernel on the gateway and wait until it is ready.

    Parameters
    ----------
    startup_timeout : float
        Seconds to wait for the gateway if it does not listen yet
        (:meth:`.GatewayClient.wait_until_up`), and seconds to wait until the kernel is ready.
    kernel_name : str
        Name of the kernelspec; ``python`` means ``python3``.
    **kwargs
        Options of the gateway (``url=``, ``auth_token=``, ...) or ``gateway=``; all others are
        arguments of :meth:`.BlockingGatewayKernelManager.start_kernel`.

    Returns
    -------
    (BlockingGatewayKernelManager, BlockingGatewayKernelClient)
        The manager and a client whose channels run, as from jupyter_client's function.

    Raises
    ------
    GatewayError
        The kernel could not be started, or was not ready in time and has been shut down.
    """
    Deadline(startup_timeout, "startup_timeout")  # a malformed one is refused before a kernel runs
    options = _check_arguments("start_new_kernel()", kwargs)
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
        manager._abandon_start(error)
        raise
    return manager, client


def _check_arguments(function: str, kwargs: dict[str, Any]) -> set[str]:
    """Refuse unknown arguments of a function; return the names of the gateway's options."""
    options = {"gateway", *GatewayClient.class_traits(config=True)}
    known = ("startup_timeout", *START_ARGUMENTS, *options)
    reject_unknown_kwargs(function, kwargs, known)
    return options


@contextmanager
def run_kernel(**kwargs: Any) -> Iterator[BlockingGatewayKernelClient]:
    """Within the ``with``, give a ready client of a new kernel, and shut that down at the end.

    >>> with run_kernel(kernel_name="python3") as kc:  # doctest: +SKIP
    ...     kc.execute_interactive("print(6 * 7)")

    Parameters and errors are those of :func:`start_new_kernel`.
    """
    _check_arguments("run_kernel()", kwargs)
    with SigtermRaises(), ExitStack() as stack:
        manager, client = start_new_kernel(**kwargs)
        stack.enter_context(manager)
        stack.push(client)
        yield client
