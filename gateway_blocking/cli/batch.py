"""The execution of several files, one after another or several at once."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from time import monotonic

from ..errors import GatewayConnectionClosed, GatewayError, MessageTooLarge, WireError
from ..manager import BlockingGatewayKernelManager
from .command import Kernel
from .errors import FAILED, GATEWAY, OK, CodeError, OutputError, UsageError
from .jobs import Job, Outcome, Stopped
from .outcomes import affects_every_file, outcome_of_error, reason_in_short
from .progress import Progress
from .started import record_kernel
from .terminal import echo

__all__ = ["Batch", "ErrorReporter", "OpenKernel"]

OpenKernel = Callable[[Job], AbstractContextManager[Kernel]]
"""A function that opens the kernel for a job: a context manager of its manager and client."""


class ErrorReporter:
    """The error messages of a command: one cause that several files meet is reported once.

    Several threads may use it.

    Parameters
    ----------
    prefix : str
        The command as it is typed, which each message begins with.
    with_traceback : bool
        Whether the traceback of each error is shown, too.
    """

    def __init__(self, prefix: str, *, with_traceback: bool) -> None:
        self._prefix, self._with_traceback = prefix, with_traceback
        self._reported: dict[str, Job | None] = {}  # the messages, and which job had each first
        self._causes: dict[str, Job] = {}

    def first_job(self, cause: BaseException | None, job: Job) -> Job:
        """Return the first job that met this cause, which may be `job` itself.

        IDs and numbers in the text of the cause do not count: each job has a kernel of its own.
        """
        key = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[\d.]+", "", str(cause))
        return self._causes.setdefault(key, job)

    def report(self, text: str, job: Job | None = None, error: Exception | None = None) -> None:
        """Write a message to standard error, unless another job had the same one."""
        if self._reported.setdefault(text, job) is not job:
            return
        if error is not None and self._with_traceback:
            traceback.print_exception(error)
        echo(f"{self._prefix}: {text}")


class Batch:
    """Jobs that are executed together; the failure of one does not stop the others.

    Parameters
    ----------
    open_kernel : callable
        Opens the kernel for a job.
    progress : Progress
        The display of running jobs.
    reporter : ErrorReporter
        Reports the errors of jobs.
    keep : bool
        Whether kernels are left running after their jobs.
    fail_on_lost_output : bool
        Whether a job fails if output of its kernel is missing.
    """

    def __init__(
        self,
        open_kernel: OpenKernel,
        progress: Progress,
        reporter: ErrorReporter,
        *,
        keep: bool,
        fail_on_lost_output: bool,
    ) -> None:
        self._open_kernel, self._progress, self._reporter = open_kernel, progress, reporter
        self._keep, self._fail_on_lost_output = keep, fail_on_lost_output
        self._aborted = False  # the jobs that have not begun are not executed
        self._kernel_started = False  # for any job

    def execute(self, jobs: Sequence[Job], workers: int) -> None:
        """Execute jobs, several at once if there are several workers; set their outcomes.

        A Ctrl-C, or any exception that is not a failure of a job, stops all of them.
        """
        if workers == 1:  # in the main thread, which a Ctrl-C interrupts
            for job in jobs:
                self._execute(job)
            return
        with ThreadPoolExecutor(workers) as pool:
            pending = {pool.submit(self._execute, job) for job in jobs}
            try:
                while pending:  # in slices, because on Windows a Ctrl-C does not end the wait
                    done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            except BaseException:
                self._aborted = True
                for job in jobs:
                    job.stop()
                raise

    def _execute(self, job: Job) -> None:
        """Execute one job, and set its outcome."""
        if self._aborted:
            return
        begun = monotonic()
        job.outcome = Outcome(FAILED, "stopped")  # unless another outcome follows
        try:
            self._execute_on_kernel(job)
        except Stopped:
            pass
        except (BrokenPipeError, OutputError):  # standard output is closed or full for all jobs
            raise
        except Exception as error:
            # An error while cleaning up is not the reason why the file failed.
            job.outcome = self._failure(job, job.failure or error)
        else:
            job.outcome = Outcome(OK, "ok")
        finally:
            job.outcome.seconds = monotonic() - begun

    def _execute_on_kernel(self, job: Job) -> None:
        with self._progress.track(job) as on_cell, self._open_kernel(job) as (km, kc):
            self._kernel_started = True
            try:
                job.execute(kc, on_cell)
                job.is_executed = True
            except Exception as error:
                job.failure = error
                if isinstance(error, CodeError) and not error.running:
                    self._keep_kernel(km)
                raise
            self._keep_kernel(km)
            if self._fail_on_lost_output and job.lost_output:
                raise CodeError(f"output was lost: {'; '.join(job.lost_output)}", "lost output")

    def _keep_kernel(self, km: BlockingGatewayKernelManager) -> None:
        if self._keep and km.owned_kernel:
            km.owned_kernel = False
            record_kernel(str(km.gateway.url), str(km.kernel_id))
            echo(f"kernel {km.kernel_id} is left running")

    def _failure(self, job: Job, error: Exception) -> Outcome:
        """Report why a job failed, and return its outcome."""
        text = f"{job.name}: {error}"
        if isinstance(error, CodeError):
            if str(error):  # else the kernel's traceback has said it
                self._reporter.report(text)
        elif isinstance(error, MessageTooLarge | WireError):
            text = f"{job.name}: it could not be executed{job.in_cell}: {error}"
            self._reporter.report(text, job, error)
        elif job.is_executed and isinstance(error, GatewayError):
            self._aborted = affects_every_file(error, executed=False, kernel_started=True)
            text = f"{job.name} was executed, but its kernel was not shut down: {error}"
            self._reporter.report(text, job, error)
        elif isinstance(error, GatewayConnectionClosed):
            first = self._reporter.first_job(error.__cause__, job)
            if first is not job:
                text = f"{job.name}: connection to the gateway lost{job.in_cell}, as {first.name}"
            self._reporter.report(text, job, error)
        elif affects_every_file(
            error, executed=job.failure is not None, kernel_started=self._kernel_started
        ):
            self._aborted = True
            self._reporter.report(str(error), job, error)
            return Outcome(GATEWAY, "gateway", reason_in_short(error))
        elif isinstance(error, GatewayError):
            self._reporter.report(text, job, error)
        elif isinstance(error, UsageError):  # its text names the file
            self._reporter.report(str(error), job, error)
        else:
            why = f"{type(error).__name__}: {error}"
            text = f"{job.name}: it could not be executed{job.in_cell}: {why}"
            self._reporter.report(f"{text}; --debug shows more", job, error)
        return outcome_of_error(job, error)
