"""The threads of a pool of kernels, and its state under a lock."""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet

from .deadline import Deadline
from .errors import PoolClosed, PoolTimeout, copy_for_raise
from .forking import register_after_fork
from .locks import Lock, Waiters, apart
from .pool_kernel import PoolKernel
from .pool_model import Job, Member, Task, Ticket
from .pool_state import PoolState
from .threads import DaemonThread
from .timeouts import POOL_CHECK_TIMEOUT, POOL_CHECK_TIMEOUT_MIN

__all__ = ["PoolWorkers"]

_T = TypeVar("_T")

_MOST_THREADS = 8  # kernels that start, restart or end at once


class PoolWorkers:
    """The kernels of a pool, the threads that start, reset and end them, and the queue of callers.

    It has no reference to the pool, so that a pool which is dropped can be collected.  Any number
    of threads may use it.

    Every change of the state is made under the mutex, and as a whole: a caller's thread makes it
    by :func:`.apart`, so that a Ctrl-C never leaves half of a change.

    Parameters
    ----------
    name : str
        Name of the pool, used in thread names.
    state : PoolState
        The decisions.
    new_kernel : callable
        ``new_kernel()`` returns a kernel that is not started yet.
    log : logging.Logger
        The logger.
    """

    def __init__(
        self,
        name: str,
        state: PoolState,
        new_kernel: Callable[[], PoolKernel],
        log: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self._state, self._new_kernel, self._log = state, new_kernel, log
        self._restarts = state.limits.reset == "restart"
        self._mutex = Lock()
        self._changed = Waiters()
        self._last_change = object()
        self._kernels: dict[Member, PoolKernel] = {}
        self._dropped: deque[Ticket] = deque()
        self._is_abandoned = self._is_exiting = False
        number = min(state.limits.max_size, _MOST_THREADS)
        self._threads = [
            DaemonThread(f"gateway-{name}-worker-{each}", self._work)
            for each in range(1, number + 1)
        ]
        self._were_started = False
        _all.add(self)
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Close the pool in a child process, which has none of its threads and kernels."""
        self._mutex, self._changed = Lock(), Waiters()
        self._state = PoolState(self._state.limits)
        self._kernels.clear()
        error = PoolClosed(
            f"this pool belongs to the process {os.getppid()}, from which this one was forked",
            advice="make another pool here",
        )
        self._state.close(0.0, error)
        for thread in self._threads:
            thread.after_fork()

    # --- changes of the state -------------------------------------------------------------------

    def _change(self, change: Callable[[PoolState], _T]) -> _T:
        """Call `change` with the state, under the mutex, and wake the workers."""
        with self._mutex:
            result = change(self._state)
        self._notify()
        return result

    def _notify(self) -> None:
        """Wake the workers, and those who wait for a warm pool; takes no lock."""
        self._last_change = object()
        self._changed.notify_all()

    def _change_as_whole(self, change: Callable[[PoolState], _T]) -> _T:
        """Do the same in a caller's thread, in which a signal may raise an exception."""
        return apart(lambda: self._change(change))

    # --- the pool -------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the threads, which start the kernels; it may be called again.

        Raises
        ------
        PoolClosed
            The pool was closed.
        """

        def start(state: PoolState) -> None:
            state.open(monotonic())
            if not self._were_started:
                self._were_started = True
                for thread in self._threads:
                    thread.start()

        self._change_as_whole(start)

    def close(self, error: PoolClosed, deadline: Deadline) -> list[str]:
        """End the kernels and threads; return the names of threads that did not end in time."""
        self._change_as_whole(lambda state: state.close(monotonic(), error))
        if not self._were_started:
            return []
        for member in self._change_as_whole(lambda state: state.unfinished):
            if (kernel := self._kernels.get(member)) is not None:
                kernel.stop()
        return [thread.name for thread in self._threads if not thread.has_ended(deadline)]

    def abandon(self) -> None:
        """Close the pool as soon as possible; may be called by a finalizer, in any thread."""
        self._is_abandoned = True
        self._notify()

    def exit(self) -> None:
        """Begin nothing any more, because the interpreter ends: its end deletes the kernels."""
        self._is_exiting = True

    def look(self, look: Callable[[PoolState], _T]) -> _T:
        """Return something of the state."""
        with self._mutex:
            return look(self._state)

    def wait(self, deadline: Deadline) -> None:
        """Wait until the pool has its least number of kernels.

        Raises
        ------
        PoolTimeout, PoolClosed, GatewayError
            See :meth:`.KernelPool.wait`.
        """

        def is_cold() -> bool:
            return self.look(lambda state: not (state.is_warm or state.hopeless))

        is_over = self._changed.wait_while(is_cold, deadline)
        if (error := self.look(lambda state: state.hopeless)) is not None:
            raise copy_for_raise(error)
        if not is_over:
            raise self._timeout_error(f"kernels were not ready within {deadline.timeout:g} s")

    # --- callers --------------------------------------------------------------------------------

    def acquire(self, ticket: Ticket, turn: Waiters, deadline: Deadline) -> PoolKernel:
        """Wait for a healthy kernel, and return it; the caller releases the ticket in any case.

        Parameters
        ----------
        ticket : Ticket
            The place in the queue, which wakes `turn`.
        turn : Waiters
            Where the caller waits.
        deadline : Deadline
            End of the wait.

        Raises
        ------
        PoolTimeout, PoolClosed, GatewayError
            See :meth:`.KernelPool.kernel`.
        """
        self._change_as_whole(lambda state: state.request(ticket, monotonic()))
        while True:
            turn.wait_while(lambda: ticket.is_waiting, deadline)
            if ticket.error is not None:
                raise copy_for_raise(ticket.error)
            if ticket.member is not None:
                kernel = self._kernels[ticket.member]
                if kernel.is_ready(_check_timeout(deadline)):
                    self._change_as_whole(lambda state: state.accept(ticket))
                    return kernel
                self._change_as_whole(lambda state: state.reject(ticket, monotonic()))
            if deadline.passed():
                raise self._timeout_error(f"no kernel was free within {deadline.timeout:g} s")

    def _timeout_error(self, what: str) -> PoolTimeout:
        return self.look(lambda state: state.timeout_error(what))

    def release(self, ticket: Ticket) -> None:
        """Give the kernel of a caller back, or end its wait."""
        self._change_as_whole(lambda state: state.release(ticket, monotonic()))
        if self.look(lambda state: state.is_closed):
            self._finish()

    def drop(self, ticket: Ticket) -> None:
        """Release a ticket that was forgotten; may be called by a finalizer, in any thread."""
        self._dropped.append(ticket)
        self._notify()

    def cancel(self, ticket: Ticket) -> None:
        """Let a caller that waits fail, or interrupt the code that its kernel executes.

        The ticket must not be released meanwhile.

        Raises
        ------
        GatewayError
            The gateway could not be reached.
        """
        error = PoolClosed("the wait for a kernel was cancelled")
        self._change_as_whole(lambda state: state.cancel(ticket, error))
        member = ticket.member if ticket.is_used and not ticket.is_over else None
        kernel = self._kernels.get(member) if member is not None else None
        if kernel is not None:
            kernel.running_client.interrupt_kernel()

    # --- workers --------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._is_exiting:
            seen = self._last_change
            task, due, is_over = self._change_quietly()
            if task is not None:
                self._perform(task)
            elif is_over:
                return
            else:
                until = Deadline(max(0.0, due - monotonic()))
                self._wait_for_change(seen, until)

    def _wait_for_change(self, seen: object, until: Deadline) -> None:
        self._changed.wait_while(lambda: self._last_change is seen, until)

    def _change_quietly(self) -> tuple[Task | None, float, bool]:
        """Return the next task, when to look again, and whether the pool has come to its end."""
        with self._mutex:
            state, now = self._state, monotonic()
            while self._dropped:
                state.release(self._dropped.popleft(), now)
            if self._is_abandoned:
                state.close(now, PoolClosed("the pool was dropped"))
            return state.next_task(now), state.next_due(), state.is_over

    def _finish(self) -> None:
        """End the kernels that come back to a closed pool, whose threads may have ended."""
        while not self._is_exiting and (task := self._change_quietly()[0]) is not None:
            self._perform(task)

    def _perform(self, task: Task) -> None:
        """Perform a task without the mutex, and report its outcome."""
        failure = None
        try:
            if task.job is Job.WATCH:
                self._watch()
            else:
                assert task.member is not None
                self._perform_on(task.job, task.member)
        except Exception as error:  # whatever it is: it is reported, and the thread goes on
            failure = _without_tracebacks(error)
            # A close ends what was under way.
            level = logging.DEBUG if self.look(lambda state: state.is_closed) else logging.WARNING
            what, kind = task.job.value, type(error).__name__
            self._log.log(level, "the pool could not %s: %s: %s", what, kind, str(error))
        finished = failure
        self._change(lambda state: state.done(task, monotonic(), finished))

    def _perform_on(self, job: Job, member: Member) -> None:
        if job is Job.START:
            kernel = self._kernels[member] = self._new_kernel()
            kernel.start()
        elif job is Job.RESET:
            self._kernels[member].reset(self._restarts)
        else:
            self._kernels[member].end()
            del self._kernels[member]

    def _watch(self) -> None:
        """Replace idle kernels that have died, as far as their connections know."""
        for member in self.look(lambda state: state.idle):
            kernel = self._kernels.get(member)
            if kernel is not None and not kernel.seems_alive:
                self._log.warning("%s of the pool has died, and is replaced", kernel)
                self._found_dead(member)

    def _found_dead(self, member: Member) -> None:
        self._change(lambda state: state.found_dead(member, monotonic()))


def _check_timeout(deadline: Deadline) -> float:
    """Return the seconds in which an idle kernel has to answer."""
    left = deadline.left()
    if left is None:
        return POOL_CHECK_TIMEOUT
    return min(max(left, POOL_CHECK_TIMEOUT_MIN), POOL_CHECK_TIMEOUT)


def _without_tracebacks(error: Exception) -> Exception:
    """Drop the tracebacks of an error that is kept, because they hold sockets."""
    each: BaseException | None = error
    while each is not None:
        each = each.with_traceback(None).__cause__ or each.__context__
    return error


_all: WeakSet[PoolWorkers] = WeakSet()


def _exit() -> None:
    for workers in list(_all):
        workers.exit()


atexit.register(_exit)  # called before the deletions of the reaper, which was imported earlier
