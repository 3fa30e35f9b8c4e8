"""``jupyter gateway run``: notebooks and scripts, one after another or several at once."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from traitlets import Bool, Integer, List, Unicode
from traitlets.config import Config

from ..client import BlockingGatewayKernelClient
from ..config import GatewayClient
from ..timeouts import READY_TIMEOUT
from .argv import UnknownOption, spellings
from .batch import Batch, ErrorReporter
from .command import Kernel, KernelCommand
from .destinations import Destinations, check_source, make_writable
from .errors import USAGE, CodeError, UsageError
from .files import read_standard_input
from .job_files import check_language, fetch_files, send_files
from .jobs import Job, Outcome
from .notebook_file import silence_nbformat
from .notebook_job import NotebookJob
from .outcomes import summary_table
from .parameters import split_parameters
from .program import Program, read_script, runs_itself, split_arguments
from .progress import open_progress
from .script_job import ScriptJob
from .terminal import echo

__all__ = ["RunCommand"]

_PARAMETER_HELP = """\
-p NAME VALUE, -p NAME=VALUE
    Set a parameter of the notebooks. May be given several times; needs papermill."""
_MAX_REPAIRS = 3  # of one notebook that are listed


class RunCommand(KernelCommand):
    """``jupyter gateway run``."""

    name = "jupyter-gateway-run"
    description = """
    Execute notebooks and scripts on kernels behind a gateway.

    Usage: jupyter gateway run [OPTIONS] FILE...
           jupyter gateway run [OPTIONS] SCRIPT -- ARGUMENT...

    A FILE.ipynb is a notebook. It is executed cell by cell, and written with its outputs to
    FILE.executed.ipynb, also when a cell fails. Any other FILE is a script, whose output is shown
    as it arrives; "-" is a script on standard input. Each file has a kernel of its own, or all
    share the one of --kernel-id. If a file fails, or cannot be read, the others are still
    executed. A table at the end shows the result of each file.

    A Python script is executed as "python SCRIPT ARGUMENT..." would: with sys.argv, __file__ and
    its own exit status. If its first line is "#!/usr/bin/env -S jupyter gateway run", and it is
    executable, all words after its name are its arguments.

    "-p NAME VALUE" or "-p NAME=VALUE" sets a parameter of notebooks, as papermill does: in a cell
    after the one that is tagged "parameters". It may be given several times.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. If none is given, a gateway is started on this
    machine and stopped at the end.

    The exit status is the highest of all files:

        0    everything was executed
        1    the code raised an error or took too long; or, with --fail-on-lost-output, output
             is missing
        n    a script called sys.exit(n)
        2    the command was not understood, or a file cannot be read or written
        3    the gateway cannot be reached or refused, or a kernel died or did not start
        130  you pressed Ctrl-C; the kernels were shut down; or a script was interrupted
    """
    examples = """\
jupyter gateway run analysis.ipynb
jupyter gateway run --jobs=4 --output-dir=done --timeout=600 *.ipynb
jupyter gateway run -p alpha 0.6 -p name="first try" analysis.ipynb
jupyter gateway run --kernel=ir --output=report.ipynb analysis.ipynb
jupyter gateway run train.py -- --epochs 3
jupyter gateway run --upload=data.csv --download="out/*.png" train.py
echo "print(6 * 7)" | jupyter gateway run -
"""

    keep = Bool(help="Leave the kernels running afterwards.").tag(config=True)
    jobs = Integer(1, min=1, help="Number of files to execute at once.").tag(config=True)
    output = Unicode(help="File to write the executed notebook to.").tag(config=True)
    output_dir = Unicode(
        help="Directory to write the executed notebooks to; it is created if it does not exist."
    ).tag(config=True)
    inplace = Bool(help="Write the executed notebook over the original.").tag(config=True)
    allow_errors = Bool(help="Continue after a cell that fails; its error becomes an output.").tag(
        config=True
    )
    timeout = Integer(
        None,
        allow_none=True,
        help="Seconds that a cell or a script may take; without a limit by default.",
    ).tag(config=True)
    fail_on_lost_output = Bool(
        help="Fail if output of a kernel is missing or may be missing, because the gateway dropped"
        " it or a connection was lost."
    ).tag(config=True)

    upload = List(
        Unicode(),
        help="File to copy into the kernel's directory before; the option may be given several"
        " times. Only for Python kernels.",
    ).tag(config=True)
    download = List(
        Unicode(),
        help="Pattern of files to copy from the kernel's directory afterwards, also if the code"
        " failed; the option may be given several times. Only for Python kernels.",
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        **KernelCommand.aliases,
        ("j", "jobs"): "RunCommand.jobs",  # type: ignore[dict-item]
        "output": "RunCommand.output",
        "output-dir": "RunCommand.output_dir",
        "timeout": "RunCommand.timeout",
        "upload": "RunCommand.upload",
        "download": "RunCommand.download",
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

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Read the command line: first the parts that traitlets cannot express."""
        words = list(sys.argv[1:] if argv is None else argv)
        valued = [name for names in self.aliases for name in spellings(names)]
        words, self._arguments = split_arguments(words, valued, runs_itself)
        self._parameters, words = split_parameters(words)
        try:
            super().parse_command_line([re.sub(r"^-j(\d+)$", r"-j=\1", word) for word in words])
        except UnknownOption as error:
            if not any(word.endswith(".py") for word in words):
                raise
            raise UsageError(
                f"{error}; the options of a script come after --, as in: run a.py -- --option"
            ) from error

    def emit_alias_help(self) -> Iterator[str]:  # type: ignore[override]
        """Yield the lines of the help on options with a value."""
        yield from _PARAMETER_HELP.splitlines()
        yield from super().emit_alias_help()

    def run(self) -> int:
        """Execute the files; return the highest of their exit statuses."""
        silence_nbformat(self.log)
        self._copied: dict[Path, str] = {}  # by --download
        reporter = ErrorReporter(self.typed_name, with_traceback=self.debugging)
        jobs = self._make_jobs(reporter)
        try:
            if readable := [job for job in jobs if job.outcome.status != USAGE]:
                with self.gateway(local=not self.kernel_id) as gateway, open_progress() as progress:
                    Batch(
                        partial(self._open_job_kernel, gateway),
                        progress,
                        reporter,
                        keep=self.keep,
                        fail_on_lost_output=self.fail_on_lost_output,
                    ).execute(readable, self.jobs)
        finally:
            if len(jobs) > 1:
                echo("", summary_table(jobs))
        return max(job.outcome.status for job in jobs)

    @contextmanager
    def _open_job_kernel(self, gateway: GatewayClient, job: Job) -> Iterator[Kernel]:
        """Yield the kernel for a job: one of its own, or the one of --kernel-id."""
        if not self.kernel_id:
            gateway.wait_until_up(READY_TIMEOUT)
        with self.kernel(
            gateway, job.kernel_name, kernel_id=self.kernel_id, cwd=job.directory
        ) as pair:
            if self.upload or self.download:
                check_language(pair[1])
            send_files(pair[1], self.upload)
            try:
                yield pair
            except CodeError as error:
                if not error.running:  # the kernel can answer
                    self._fetch(pair[1], job)
                raise
            self._fetch(pair[1], job)

    def _fetch(self, kc: BlockingGatewayKernelClient, job: Job) -> None:
        fetch_files(kc, self.download, job.directory, self._copied)

    # --- the files ------------------------------------------------------------------------------

    def _make_jobs(self, reporter: ErrorReporter) -> list[Job]:
        """Return a job for each file; one for a file that cannot be read has its outcome."""
        files = self.extra_args
        if not files:
            raise UsageError("give at least one FILE; see --help")
        notebooks = [name for name in files if name.endswith(".ipynb")]
        options = Destinations(self.output, self.output_dir, self.inplace)
        options.check(files, notebooks)
        self._check(files, notebooks)
        destinations = options.assign(notebooks)
        jobs = []
        for name in files:
            job: Job
            try:
                destination = destinations.get(name)
                job = self._notebook(name, destination) if destination else self._script(name)
            except UsageError as error:
                job = Job(name, self.kernel_name, Path())
                job.outcome = Outcome(USAGE, "not done", str(error))
                reporter.report(str(error), job, error)
            jobs.append(job)
        return jobs

    def _notebook(self, name: str, destination: Path) -> NotebookJob:
        source = Path(name)
        check_source(source)
        make_writable(destination, create=bool(self.output_dir))
        notebook = NotebookJob(
            source, destination, self.kernel_name, self._parameters, self._nbclient_config()
        )
        if notebook.repaired:
            listed, more = notebook.repaired[:_MAX_REPAIRS], len(notebook.repaired) - _MAX_REPAIRS
            others = f"; and {more} more" if more > 0 else ""
            echo(
                f"{self.typed_name}: {name} is not a valid notebook, but is executed:"
                f" {'; '.join(listed)}{others}"
            )
        return notebook

    def _nbclient_config(self) -> Config:
        """Return the configuration of nbclient: the user's, and the options of this command."""
        config = Config(self.config)
        if self.timeout is not None:
            config.NotebookClient.timeout = self.timeout
        if self.allow_errors:
            config.NotebookClient.allow_errors = True
        return config

    def _script(self, name: str) -> ScriptJob:
        piped = name == "-"  # standard input is at its end then, and cannot answer input()
        return ScriptJob(
            name,
            read_standard_input() if piped else read_script(Path(name)),
            self.kernel_name or "python3",
            allow_stdin=self.jobs == 1 and not piped,
            program=Program(
                name,
                tuple(self._arguments),
                ends_with_script=not (self.kernel_id or self.keep),
                in_color=sys.stdout.isatty() and sys.stderr.isatty(),
            ),
            timeout=self.timeout,
            heading=f"{name}:" if len(self.extra_args) > 1 else "",
        )

    def _check(self, files: list[str], notebooks: list[str]) -> None:
        """Raise UsageError if an option has no meaning for these files, or a bad value."""
        if scripts := [name for name in files if name not in notebooks]:
            for option, value in (("-p", self._parameters), ("--allow-errors", self.allow_errors)):
                if value:
                    raise UsageError(f"{option} is for notebooks, and {scripts[0]} is a script")
        if self._arguments and (len(files) > 1 or notebooks):
            what = f"{files[0]} is a notebook" if notebooks == files else f"got {len(files)} files"
            raise UsageError(f"arguments after -- are for one script, and {what}")
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
