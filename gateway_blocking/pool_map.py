"""Many pieces of code at once on the kernels of a pool, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from .client import BlockingGatewayKernelClient
from .deadline import Deadline
from .errors import GatewayError
from .execution import Execution, KernelException
from .locks import Latch, Waiters, apart
from .threads import DaemonThread
from .timeouts import POOL_INTERRUPT_TIMEOUT

__all__ = ["CodeMap", "Lease"]

_NEVER = Deadline(None)


class Lease(Protocol):
    """A kernel of a pool, within a ``with``."""

    def __enter__(self) -> BlockingGatewayKernelClient: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def cancel(self) -> None:
        """End the wait for the kernel, or interrupt the code that it executes."""


_CANCEL_INTERVAL = 1.0  # seconds


class _Item:
    """One piece of code, and then its result."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.done = Latch()
        self.result: Execution | None = None
        self.error: BaseException | None = None


class CodeMap:
    """The threads that execute codes, each with a kernel of the pool.

    One thread at a time iterates over :meth:`results`.

    Parameters
    ----------
    name : str
        Beginning of the names of the threads.
    most : int
        Number of codes that are executed at once.
    lease : callable
        ``lease()`` returns a kernel, for a ``with``.
    run : callable
        ``run(client, code)`` executes code and returns its result.
    """

    def __init__(
        self,
        name: str,
        most: int,
        lease: Callable[[], Lease],
        run: Callable[[BlockingGatewayKernelClient, str], Execution],
    ) -> None:
        self._name, self._most, self._lease, self._run = name, most, lease, run
        self._todo: deque[_Item] = deque()
        self._added = Waiters()
        self._leases: dict[Lease, None] = {}
        self._threads: list[DaemonThread] = []
        self._is_closing = False

    def results(self, codes: Iterable[str]) -> Iterator[Execution]:
        """Yield the result of each code, in the order of the codes.

        At most twice as many codes are taken in advance as are executed at once.  If the iteration
        ends early, codes that run are interrupted.
        """
        window: deque[_Item] = deque()
        try:
            for code in codes:
                window.append(self._start(code))
                if len(window) >= 2 * self._most:
                    yield _result_of(window.popleft())
            while window:
                yield _result_of(window.popleft())
        finally:
            self._close()

    def _start(self, code: str) -> _Item:
        if not isinstance(code, str):
            raise TypeError(f"each code must be a str, got {code!r}")
        item = _Item(code)
        self._todo.append(item)
        self._added.notify_all()
        if len(self._threads) < self._most:
            number = len(self._threads) + 1
            thread = DaemonThread(f"gateway-{self._name}-map-{number}", self._work)
            self._threads.append(thread)
            apart(thread.start)
        return item

    def _close(self) -> None:
        self._is_closing = True
        self._todo.clear()
        self._added.notify_all()
        deadline = Deadline(POOL_INTERRUPT_TIMEOUT)
        while not deadline.passed():
            # Again and again: an interrupt is lost if it comes before the code has begun.
            for lease in list(self._leases):
                with suppress(GatewayError):  # the kernel is reset or replaced in any case
                    lease.cancel()
            soon = deadline.within(_CANCEL_INTERVAL)
            if all(thread.has_ended(soon) for thread in self._threads):
                return

    # --- the threads ----------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._added.wait_while(lambda: not (self._todo or self._is_closing), _NEVER)
            if self._is_closing:
                return
            try:
                item = self._todo.popleft()
            except IndexError:  # another thread took it
                continue
            try:
                item.result = self._execute(item.code)
            except BaseException as error:  # raised to the thread that iterates
                item.error = error
            item.done.open()

    def _execute(self, code: str) -> Execution:
        lease = self._lease()
        self._leases[lease] = None
        try:
            with lease as client:
                try:
                    return self._run(client, code)
                except GatewayError as error:  # of this code only: it is too large, for instance
                    return _failed(code, client, error)
        finally:
            del self._leases[lease]


def _result_of(item: _Item) -> Execution:
    item.done.wait(_NEVER)
    if item.error is not None:
        raise item.error
    assert item.result is not None
    return item.result


def _failed(code: str, client: BlockingGatewayKernelClient, error: GatewayError) -> Execution:
    """Return the result of code that was not sent."""
    now = datetime.now(UTC)
    return Execution(
        status="error",
        code=code,
        execution_count=None,
        outputs=[],
        error=KernelException(type(error).__name__, str(error), []),
        complete=True,
        truncated=False,
        running=False,
        detail=str(error),
        started=now,
        ended=now,
        msg_id="",
        kernel_id=str(client.kernel_id),
        user_expressions={},
        exception=error,
    )
