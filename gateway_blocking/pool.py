"""A pool of warm kernels: they are started in advance, and given to one caller after another."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict, TypeVar, Unpack

from .cleanup import cleaning_up
from .client import BlockingGatewayKernelClient
from .config import GatewayClient, reject_unknown_kwargs
from .deadline import Deadline
from .errors import PoolClosed
from .execution import Execution
from .locks import Lock, Waiters
from .manager import BlockingGatewayKernelManager
from .pool_kernel import PoolKernel
from .pool_map import CodeMap
from .pool_model import PoolLimits, PoolStats, Reset, Ticket
from .pool_state import PoolState
from .pool_workers import PoolWorkers
from .rest import GatewayREST
from .running import OnTimeout
from .signals import SigtermRaises
from .timeouts import POOL_CLOSE_TIMEOUT

__all__ = ["Checkout", "KernelPool", "RunArguments"]

_Pool = TypeVar("_Pool", bound="KernelPool")

_START_ARGUMENTS = ("cwd", "env", "path")

_numbers = itertools.count(1)


class RunArguments(TypedDict, total=False):
    """Arguments of ``run()`` of a client, for the methods of a pool."""

    timeout: float | None
    on_timeout: OnTimeout
    settle: float
    max_output: int | None
    check: bool
    silent: bool
    store_history: bool
    user_expressions: dict[str, str] | None


class KernelPool:
    """Kernels that are started in advance, and given to one caller after another.

    >>> with KernelPool(min_size=2, max_size=8, setup="import pandas") as pool:  # doctest: +SKIP
    ...     with pool.kernel(timeout=30) as kc:
    ...         kc.run("pandas.__version__").text()

    The end of the ``with`` shuts the kernels down, also after an error or a SIGTERM.  They end with
    this process, however it ends.  A process that was forked needs a pool of its own.

    Any number of threads may use a pool.  Those that wait for a kernel are served in the order in
    which they came.  A kernel is checked when it is given to a caller: it answers, and the setup
    code was executed in the process that answers.  Kernels that died are replaced.  While kernels
    cannot be started, the pool tries it again and again, and callers wait.

    Parameters
    ----------
    min_size : int
        Number of kernels that are kept ready or in use.
    max_size : int
        Largest number of kernels, including those that start or end.  More than `min_size` are
        started if callers wait.
    setup : str, optional
        Code that each kernel executes after a start or restart, for at most ten minutes.
    max_uses : int, optional
        Number of callers after which a kernel is replaced.
    max_age : float, optional
        Seconds after which a kernel is replaced, up to a tenth earlier at random.
    idle_timeout : float, optional
        Seconds after which a kernel that no caller needs is shut down, down to `min_size`.
    reset : {"restart", "new", None}
        What happens to a kernel that a caller returns.  It is restarted, or replaced by a new one,
        in the background.  With None, the next caller gets it with the variables that it has, and
        only code that still runs is interrupted.
    **options
        `kernel_name`, and `env`, `cwd` and `path` as for
        :meth:`.BlockingGatewayKernelManager.start_kernel`; `gateway`, or options of the gateway
        (``url=``, ``auth_token=``, ...).

    Raises
    ------
    TypeError, ValueError
        An argument is unknown or not valid.
    GatewayConnectionError
        No gateway is configured.
    """

    def __init__(
        self,
        min_size: int = 2,
        max_size: int = 8,
        *,
        setup: str | None = None,
        max_uses: int | None = None,
        max_age: float | None = None,
        idle_timeout: float | None = None,
        reset: Reset | None = "restart",
        **options: Any,
    ) -> None:
        limits = PoolLimits(min_size, max_size, max_uses, max_age, idle_timeout, reset)
        if setup is not None and not isinstance(setup, str):
            raise TypeError(f"setup must be code as a str, got {setup!r}")
        gateway, arguments = _split(options)
        _ = gateway.kernels_url  # an error if no gateway is configured
        rest = GatewayREST(gateway)
        kernel = {"kernel_name": name} if (name := arguments.pop("kernel_name", None)) else {}

        def new_kernel() -> PoolKernel:
            manager = BlockingGatewayKernelManager(gateway=gateway, rest=rest, **kernel)
            return PoolKernel(manager, arguments, setup)

        self.name = f"pool-{next(_numbers)}"
        """Name of the pool, which is in the names of its threads."""
        self.limits = limits
        self._gateway, self._rest = gateway, rest
        self._sigterm = SigtermRaises()
        self._workers = PoolWorkers(self.name, PoolState(limits), new_kernel, gateway.log)
        self._finalizer = weakref.finalize(self, self._workers.abandon)
        self._finalizer.atexit = False  # the end of the interpreter deletes all kernels

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<{type(self).__name__} {self.name!r}: {stats.size} kernels, {stats.idle} idle,"
            f" {stats.waiting} callers wait>"
        )

    # --- life -----------------------------------------------------------------------------------

    def __enter__(self: _Pool) -> _Pool:
        self.open()
        self._sigterm.__enter__()
        return self

    def __exit__(
        self, _kind: object = None, error: BaseException | None = None, _traceback: object = None
    ) -> None:
        with self._sigterm.end(), cleaning_up(error, self._gateway.log):
            self.close()

    def open(self) -> None:
        """Start `min_size` kernels in the background, and accept callers.

        It may be called again.  It returns at once; :meth:`wait` waits for the kernels.

        Raises
        ------
        PoolClosed
            The pool was closed.
        """
        self._workers.open()

    def close(self, timeout: float | None = POOL_CLOSE_TIMEOUT) -> None:
        """Shut the kernels down, and end the threads; it may be called again.

        Callers that wait for a kernel raise :exc:`.PoolClosed`.  A kernel that a caller has is shut
        down when the caller returns it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the shutdown of the kernels; None to wait as long as it takes.
            Threads that need more time end later, with a warning in the log.
        """
        error = PoolClosed(f"{self.name} was closed", advice="make another pool")
        left = self._workers.close(error, Deadline(timeout))
        if left:
            self._gateway.log.warning(
                "%s: not all kernels were shut down within %s s, in these threads: %s",
                *(self.name, timeout, ", ".join(left)),
            )
        self._rest.close()

    def wait(self, timeout: float | None = 60.0) -> None:
        """Wait until `min_size` kernels have been started and have executed the setup code.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; None for no limit.

        Raises
        ------
        PoolTimeout
            They were not ready in time; ``__cause__`` is the last error of a start.
        PoolClosed
            The pool is closed, or was not opened.
        PoolSetupFailed, NoSuchKernelSpec, GatewayAuthError
            No kernel can be started, and waiting does not help.
        """
        self._workers.wait(Deadline(timeout))

    def stats(self) -> PoolStats:
        """Return the figures of the pool: kernels, callers, and what was counted."""
        return self._workers.look(lambda state: state.stats())

    # --- kernels --------------------------------------------------------------------------------

    def kernel(self, timeout: float | None = 30.0) -> Checkout:
        """Return a ``with`` that gives a client of a kernel, and takes the kernel back at its end.

        The client is ready: its channels run, and its queues are empty.  Do not use it after the
        ``with``, when another caller may have the kernel.  A caller may leave the kernel busy,
        restart it, or shut it down.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a kernel; None for no limit.

        Raises
        ------
        PoolTimeout
            No kernel was free in time; the text says what the kernels do, and ``__cause__`` is the
            last error of a start.
        PoolClosed
            The pool is closed, was closed meanwhile, or was not opened.
        PoolSetupFailed, NoSuchKernelSpec, GatewayAuthError
            The pool has no kernel, and none can be started.
        """
        return Checkout(self, self._workers, Deadline(timeout).timeout)

    def run(
        self, code: str, *, kernel_timeout: float | None = 30.0, **arguments: Unpack[RunArguments]
    ) -> Execution:
        """Execute code in a kernel of the pool, and return its result.

        Parameters
        ----------
        code : str
            The code.
        kernel_timeout : float, optional
            Seconds to wait for a kernel; None for no limit.
        **arguments
            As for ``run()`` of the client.  ``on_timeout="leave"`` is not possible, because the
            kernel goes to the next caller.

        Returns
        -------
        Execution
            The result.  Code that ended with the death of its kernel is not executed again.

        Raises
        ------
        PoolTimeout, PoolClosed, PoolSetupFailed, GatewayError
            As :meth:`kernel`; and as ``run()`` of the client.
        """
        _check(arguments)
        with self.kernel(kernel_timeout) as client:
            return client.run(code, **arguments)

    def map(
        self,
        codes: Iterable[str],
        *,
        kernel_timeout: float | None = None,
        **arguments: Unpack[RunArguments],
    ) -> Iterator[Execution]:
        """Execute many codes, up to `max_size` at once, and yield their results in order.

        A code that fails, does not end in time, or kills its kernel, is a result as well, and the
        others go on.  Codes are taken from the iterable as they are needed.  If the iteration ends
        early, codes that run are interrupted.

        Parameters
        ----------
        codes : iterable of str
            The codes.
        kernel_timeout, **arguments
            As for :meth:`run`; `check` is not possible.

        Yields
        ------
        Execution
            The result of each code.

        Raises
        ------
        PoolTimeout, PoolClosed, PoolSetupFailed, GatewayError
            There is no kernel for a code: see :meth:`kernel`.
        """
        _check(arguments)
        if arguments.get("check"):
            raise ValueError("check=True is not possible in map(): one error would end all others")
        Deadline(kernel_timeout, "kernel_timeout")
        if isinstance(codes, str):
            raise TypeError("codes must be an iterable of codes, got a single str")
        return CodeMap(
            self.name,
            self.limits.max_size,
            lambda: self.kernel(kernel_timeout),
            lambda client, code: client.run(code, **arguments),
        ).results(codes)


class Checkout:
    """A kernel of a pool, within its ``with``: see :meth:`.KernelPool.kernel`."""

    def __init__(self, pool: KernelPool, workers: PoolWorkers, timeout: float | None) -> None:
        self._pool, self._workers, self._timeout = pool, workers, timeout  # the pool stays alive
        self._turn = Waiters()
        self._ticket = Ticket(self._turn.notify_all)
        self._cancelling = Lock()  # so that no other caller's code is interrupted
        self._finalizer: weakref.finalize[..., Checkout] | None = None

    def __enter__(self) -> BlockingGatewayKernelClient:
        if self._finalizer is not None:
            raise RuntimeError("this was used already: call kernel() of the pool again")
        try:
            # A second Ctrl-C may keep the kernel from being returned, or the caller may forget it.
            self._finalizer = weakref.finalize(self, self._workers.drop, self._ticket)
            self._finalizer.atexit = False
            deadline = Deadline(self._timeout)
            return self._workers.acquire(self._ticket, self._turn, deadline).running_client
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc_info: object) -> None:
        with self._cancelling:
            self._workers.release(self._ticket)
        if self._finalizer is not None:
            self._finalizer.detach()

    def cancel(self) -> None:
        """End the wait for the kernel, or interrupt the code that it executes."""
        with self._cancelling:
            self._workers.cancel(self._ticket)


def _split(options: dict[str, Any]) -> tuple[GatewayClient, dict[str, Any]]:
    """Return the gateway, and the arguments of the start of a kernel."""
    traits = GatewayClient.class_traits(config=True)
    known = ("gateway", "kernel_name", *_START_ARGUMENTS, *traits)
    reject_unknown_kwargs("KernelPool", options, known)
    given = {name: options.pop(name) for name in list(options) if name in traits}
    gateway = options.pop("gateway", None)
    if gateway is not None and given:
        raise TypeError(f"pass either gateway= or {', '.join(sorted(given))}=, not both")
    return gateway or GatewayClient(**given), options


def _check(arguments: RunArguments) -> None:
    if arguments.get("on_timeout") == "leave":
        raise ValueError(
            "on_timeout='leave' is not possible in a pool, because the kernel goes to the next"
            " caller: use run() of the client, within kernel() of the pool"
        )
