"""``jupyter gateway run``: notebooks and scripts, one after another or several at once."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic
from typing import Any

from traitlets import Bool, Integer, Unicode
from traitlets.config import Config

from ..config import GatewayClient
from ..errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    KernelGone,
    MessageTooLarge,
    WireError,
)
from ..manager import BlockingGatewayKernelManager
from .command import READY_TIMEOUT, KernelCommand
from .errors import FAILED, GATEWAY, OK, USAGE, CodeError, UsageError
from .files import read_standard_input, read_text
from .jobs import Job, Notebook, Outcome, Script, Stopped
from .notebooks import silence_nbformat
from .progress import progress
from .started import record_kernel
from .terminal import echo, table

__all__ = ["RunCommand", "affects_every_file", "split_parameters"]

_PARAMETER = re.compile(r"([^\W\d][\w.]*)(?:=(.*))?", re.DOTALL)
_PARAMETER_HELP = """\
-p NAME VALUE, -p NAME=VALUE
    Set a parameter of the notebooks; may be given several times. It needs papermill."""
_WARNINGS = 3  # of the repairs of a notebook, that are said


class RunCommand(KernelCommand):
    """``jupyter gateway run``."""

    name = "jupyter-gateway-run"
    description = """
    Execute notebooks and scripts on kernels behind a gateway.

    Usage: jupyter gateway run [OPTIONS] FILE...

    A FILE.ipynb is executed cell by cell, and written with its outputs to FILE.executed.ipynb,
    also when a cell fails. Any other FILE is a script, whose output appears as it comes; "-"
    is a script on standard input. Each file has a kernel of its own, or all have the one of
    --kernel-id. A file that fails, or cannot be read, does not stop the others, and a table at
    the end says what became of each.

    "-p NAME VALUE" or "-p NAME=VALUE", once or more, sets parameters of notebooks, as papermill
    does: in a cell after the one that is tagged "parameters".

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, one is started on this machine
    and stopped at the end.

    The exit status says how it went:

        0    everything was executed
        1    the code raised an error, or a cell took too long; or, with --fail-on-lost-output,
             not all of the output came
        2    the command was not understood, or a file cannot be read or written
        3    the gateway: not reached, refused, or the kernel died or did not start
        130  interrupted with Ctrl-C; the kernels were shut down
    """
    examples = """\
jupyter gateway run analysis.ipynb
jupyter gateway run --jobs=4 --output-dir=done --timeout=600 *.ipynb
jupyter gateway run -p alpha 0.6 -p name="first try" analysis.ipynb
jupyter gateway run --kernel=ir --output=report.ipynb analysis.ipynb
echo "print(6 * 7)" | jupyter gateway run -
"""

    keep = Bool(help="Leave the kernels running afterwards.").tag(config=True)
    jobs = Integer(1, min=1, help="How many files to execute at once.").tag(config=True)
    output = Unicode(help="Where to write the executed notebook.").tag(config=True)
    output_dir = Unicode(
        help="The directory to write the executed notebooks to; it is made if it is not there."
    ).tag(config=True)
    inplace = Bool(help="Write the executed notebook over the original.").tag(config=True)
    allow_errors = Bool(help="Go on after a cell that fails.").tag(config=True)
    timeout = Integer(
        None, allow_none=True, help="Seconds that a cell, or a script, may take; without, no limit."
    ).tag(config=True)
    fail_on_lost_output = Bool(
        help="Fail if output of the kernel is missing, or may be: a server dropped what came too"
        " fast, or it was lost with a connection."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        **KernelCommand.aliases,
        ("j", "jobs"): "RunCommand.jobs",  # type: ignore[dict-item]
        "output": "RunCommand.output",
        "output-dir": "RunCommand.output_dir",
        "timeout": "RunCommand.timeout",
    }
    flags = {  # noqa: RUF012
        **KernelCommand.flags,
        "inplace": ({"RunCommand": {"inplace": True}}, inplace.help),
        "allow-errors": ({"RunCommand": {"allow_errors": True}}, allow_errors.help),
        "keep": ({"RunCommand": {"keep": True}}, keep.help),
        "fail-on-lost-output": (
            {"RunCommand": {"fail_on_lost_output": True}},
            fail_on_lost_output.help,
        ),
    }

    def parse_command_line(self, argv: Any = None) -> None:
        """Read the command line: ``-p NAME VALUE``, which no trait can be, and all others."""
        words = list(sys.argv[1:] if argv is None else argv)
        self._parameters, words = split_parameters(words)
        super().parse_command_line([re.sub(r"^-j(\d+)$", r"-j=\1", word) for word in words])

    def emit_alias_help(self) -> Iterator[str]:  # type: ignore[override]
        """Yield the lines of the help on options with a value."""
        yield from _PARAMETER_HELP.splitlines()
        yield from super().emit_alias_help()

    def run(self) -> int:
        """Execute the files."""
        silence_nbformat(self.log)
        self._reported: dict[str, Job | None] = {}  # what was said, and for which file first
        self._aborted = False
        self._kernel_started = False  # whether the gateway has given us a kernel
        jobs = self._jobs()
        try:
            if todo := [job for job in jobs if job.outcome.status != USAGE]:
                with (
                    self.gateway(local=not self.kernel_id) as gateway,
                    progress() as self._progress,
                ):
                    self._execute_all(gateway, todo)
        finally:
            if len(jobs) > 1:
                echo("", _summary(jobs))
        return max(job.outcome.status for job in jobs)

    def _execute_all(self, gateway: GatewayClient, jobs: list[Job]) -> None:
        if self.jobs == 1:  # in this thread, where a Ctrl-C arrives
            for job in jobs:
                self._execute(gateway, job)
            return
        with ThreadPoolExecutor(self.jobs) as pool:
            work = [pool.submit(self._execute, gateway, job) for job in jobs]
            try:
                left = set(work)
                while left:  # in slices, as on Windows no Ctrl-C interrupts the wait
                    done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
                    for finished in done:
                        finished.result()
            except BaseException:
                self._aborted = True
                for job in jobs:
                    job.stop()
                raise

    def _execute(self, gateway: GatewayClient, job: Job) -> None:
        """Execute one file, and note what became of it; it ends no other, whatever it raises."""
        if self._aborted:
            return
        begun = monotonic()
        job.outcome = Outcome(FAILED, "stopped")  # if nothing else can be said in the end
        try:
            self._execute_on_kernel(gateway, job)
        except Stopped:
            pass
        except BrokenPipeError:  # nothing reads what is printed, of the others either
            raise
        except Exception as error:
            # If cleaning up failed, too, that is not why the file failed.
            job.outcome = self._failure(job, job.failure or error)
        else:
            job.outcome = Outcome(OK, "ok")
        finally:
            job.outcome.seconds = monotonic() - begun

    def _execute_on_kernel(self, gateway: GatewayClient, job: Job) -> None:
        if not self.kernel_id:
            gateway.wait_until_up(READY_TIMEOUT)
        with (
            self._progress.track(job) as on_cell,
            self.kernel(gateway, job.kernel_name, kernel_id=self.kernel_id, cwd=job.directory) as (
                km,
                kc,
            ),
        ):
            self._kernel_started = True
            try:
                job.execute(kc, on_cell)
            except Exception as error:
                job.failure = error
                if isinstance(error, CodeError) and not error.running:
                    self._keep(km)
                raise
            self._keep(km)
            if self.fail_on_lost_output and job.lost_output:
                raise CodeError(f"output was lost: {'; '.join(job.lost_output)}", "lost output")

    def _failure(self, job: Job, error: Exception) -> Outcome:
        """Say why a file failed, and return that."""
        if isinstance(error, CodeError):
            if str(error):
                self._report_once(f"{job.name}: {error}")
            return Outcome(FAILED, "failed", error.why)
        where = f" in {job.where}" if job.where else ""
        if isinstance(error, MessageTooLarge | WireError):  # its code cannot be sent to any gateway
            self._report_once(f"{job.name}: it could not be executed{where}: {error}", job, error)
            return Outcome(FAILED, "failed", str(error))
        if isinstance(error, GatewayError):
            outcome = _gateway_failure(job, error)
            if affects_every_file(
                error, executed=job.failure is not None, kernel_started=self._kernel_started
            ):
                self._aborted = True
                self._report_once(str(error), job, error)
            else:
                self._report_once(f"{job.name}: {error}", job, error)
            return outcome
        if isinstance(error, UsageError):
            self._report_once(str(error), job, error)
            return Outcome(USAGE, "not done", str(error))
        why = f"{type(error).__name__}: {error}"
        self._report_once(
            f"{job.name}: it could not be executed{where}: {why}; --debug shows more", job, error
        )
        return Outcome(FAILED, "failed", why)

    def _report_once(
        self, text: str, job: Job | None = None, error: Exception | None = None
    ) -> None:
        """Say what went wrong, unless that was said before: one cause may meet several files."""
        if self._reported.setdefault(text, job) is not job:
            return
        if error is not None and self.debugging:
            traceback.print_exception(error)
        echo(f"{self.typed_name}: {text}")

    def _keep(self, km: BlockingGatewayKernelManager) -> None:
        if self.keep and km.owned_kernel:
            km.owned_kernel = False
            record_kernel(km.gateway.url, str(km.kernel_id))
            echo(f"kernel {km.kernel_id} is left running")

    # --- the files ------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        """Return what to execute.  A file that cannot be is among it, with its outcome."""
        files = self.extra_args
        if not files:
            raise UsageError("which file? see --help")
        notebooks = [name for name in files if name.endswith(".ipynb")]
        self._check(files, notebooks)
        targets = self._targets(notebooks)
        config = Config(self.config)
        if self.timeout is not None:
            config.NotebookClient.timeout = self.timeout
        if self.allow_errors:
            config.NotebookClient.allow_errors = True
        jobs: list[Job] = []
        for name in files:
            try:
                target = targets.get(name)
                jobs.append(self._notebook(name, target, config) if target else self._script(name))
            except UsageError as error:
                job = Job(name, self.kernel_name, Path())
                job.outcome = Outcome(USAGE, "not done", str(error))
                self._report_once(str(error), job, error)
                jobs.append(job)
        return jobs

    def _notebook(self, name: str, destination: Path, config: Config) -> Notebook:
        source = Path(name)
        if not source.is_file():
            why = "it is not a file" if source.exists() else "No such file or directory"
            raise UsageError(f"cannot read {source}: {why}")
        if self.output_dir:
            _make(destination.parent)
        if not os.access(destination.parent, os.W_OK):
            exists = destination.parent.is_dir()
            why = "its directory is not writable" if exists else "there is no such directory"
            raise UsageError(f"cannot write {destination}: {why}")
        notebook = Notebook(source, destination, self.kernel_name, self._parameters, config)
        if notebook.repaired:
            first, more = notebook.repaired[:_WARNINGS], len(notebook.repaired) - _WARNINGS
            etc = f"; and {more} more" if more > 0 else ""
            echo(
                f"{self.typed_name}: {name} is not a valid notebook, but is executed:"
                f" {'; '.join(first)}{etc}"
            )
        return notebook

    def _script(self, name: str) -> Script:
        piped = name == "-"  # what was read from a pipe is not there any more
        return Script(
            name,
            read_standard_input() if piped else read_text(Path(name)),
            self.kernel_name or "python3",
            allow_stdin=self.jobs == 1 and not piped,
            timeout=self.timeout,
            heading=f"{name}:" if len(self.extra_args) > 1 else "",
        )

    def _check(self, files: list[str], notebooks: list[str]) -> None:
        """Refuse what cannot be meant."""
        given = {
            "--output": self.output,
            "--output-dir": self.output_dir,
            "--inplace": self.inplace,
        }
        chosen = [option for option, value in given.items() if value]
        if len(chosen) > 1:
            raise UsageError(f"give either {' or '.join(chosen)}, not both")
        if self.output and (len(files) > 1 or not notebooks):
            raise UsageError("--output is for one notebook")
        if self.output and not self.output.endswith(".ipynb"):
            raise UsageError(
                f"--output={self.output} does not end in .ipynb: a notebook is written there;"
                " jupyter nbconvert makes other formats of it"
            )
        if chosen and not notebooks:
            raise UsageError(f"{chosen[0]} is for notebooks, and {files[0]} is a script")
        if scripts := [name for name in files if name not in notebooks]:
            for option, value in (("-p", self._parameters), ("--allow-errors", self.allow_errors)):
                if value:
                    raise UsageError(f"{option} is for notebooks, and {scripts[0]} is a script")
        if self.timeout is not None and self.timeout < 1:
            raise UsageError(
                f"--timeout must be at least 1 second, got {self.timeout}; without it there is no"
                " limit"
            )
        self.check_kernel_options()
        if self.kernel_id and self.jobs > 1:
            raise UsageError("--kernel-id is one kernel, and --jobs asks for several")
        if self._parameters and importlib.util.find_spec("papermill") is None:
            raise UsageError('-p needs papermill: pip install "gateway-blocking[papermill]"')

    def _targets(self, notebooks: list[str]) -> dict[str, Path]:
        """Return where to write each notebook: to a file of its own, and to no original."""
        targets: dict[str, Path] = {}
        written: dict[Path, str] = {}
        originals = {Path(os.path.realpath(name)): name for name in notebooks}
        for name in notebooks:
            target = self._target(Path(name))
            same = Path(
                os.path.realpath(target)
            )  # resolve() of Python 3.11 fails at a link to itself
            if other := written.get(same):
                raise UsageError(f"{other} and {name} would both be written to {target}")
            if (self.output or self.output_dir) and (original := originals.get(same)):
                option = "--output" if self.output else "--output-dir"
                raise UsageError(
                    f"{option}={self.output or self.output_dir} would write over the original"
                    f" {original}; --inplace does that"
                )
            written[same], targets[name] = name, target
        return targets

    def _target(self, source: Path) -> Path:
        if self.inplace:
            return source
        if self.output_dir:
            return Path(self.output_dir, source.name)
        return Path(self.output) if self.output else source.with_suffix(".executed.ipynb")


def split_parameters(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters that a command line gives with ``-p``, and its other words.

    Raises
    ------
    UsageError
        A ``-p`` is followed by neither a name and a value nor NAME=VALUE.
    """
    parameters: dict[str, Any] = {}
    others: list[str] = []
    left = iter(words)
    for word in left:
        if word != "-p":
            others.append(word)
            continue
        first = next(left, "")
        if not (match := _PARAMETER.fullmatch(first)):
            raise UsageError(f"-p wants NAME VALUE, or NAME=VALUE, and got {first!r}")
        name, value = match.groups()
        if value is None:
            value = next(left, None)
            if value is None or value.startswith("--"):
                got = "nothing" if value is None else repr(value)
                raise UsageError(
                    f"-p {name} wants a value, and got {got}; one that begins with -- is written"
                    f" -p {name}=--..."
                )
        parameters[name] = _value(value)
    return parameters, others


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the directory {directory}: {error.strerror}") from error


def affects_every_file(error: GatewayError, *, executed: bool, kernel_started: bool) -> bool:
    """Return whether the next file would meet the same error.

    Parameters
    ----------
    error : GatewayError
        Why a file failed.
    executed : bool
        Whether its kernel was there: then the error is this file's own, such as a lost reply.
    kernel_started : bool
        Whether the gateway has given any file a kernel: then it knows us, and 403 has to do with
        this kernel.
    """
    if executed or isinstance(error, GatewayConnectionClosed):
        return False
    if isinstance(error, GatewayAuthError):
        return error.status_code == 401 or not kernel_started
    return isinstance(error, GatewayConnectionError)


def _gateway_failure(job: Job, error: GatewayError) -> Outcome:
    """Return what a table says of a failure of the gateway or of the kernel."""
    where = f" in {job.where}" if job.where else ""
    if isinstance(error, KernelGone):
        return Outcome(GATEWAY, "gone", "shut down or culled, or the gateway was restarted")
    if isinstance(error, DeadKernelError):
        return Outcome(GATEWAY, "died", "the kernel died")
    if isinstance(error, GatewayConnectionClosed):
        return Outcome(GATEWAY, "gateway", f"connection to the gateway lost{where}")
    return Outcome(GATEWAY, "gateway", str(error))


def _value(text: str) -> Any:
    """Return what a parameter's text means, as for papermill: a number, a literal, or itself."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False}.get(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _summary(jobs: list[Job]) -> str:
    """Return what became of each file; a reason that several share stands there once."""
    rows = []
    first: dict[str, str] = {}
    for job in jobs:
        said = job.outcome
        where = job.where if said.status else ""
        seconds = f"{said.seconds:.1f} s" if said.seconds else ""
        why = " ".join(said.why.split())
        other = first.setdefault(why, job.name)
        if other != job.name and len(why) > len(f"as {other}"):
            why = f"as {other}"
        rows.append([job.name, said.result, where, seconds, why])
    return table(["file", "result", "where", "time", "why"], rows)
