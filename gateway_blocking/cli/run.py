"""``jupyter gateway run``: notebooks and scripts, one after another or several at once."""

from __future__ import annotations

import importlib.util
import os
import sys
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
)
from ..manager import BlockingGatewayKernelManager
from .command import FAILED, FLAGS, OK, CodeError, OnKernel, UsageError
from .files import read_text
from .jobs import Job, Notebook, Outcome, Script, Stopped
from .mine import remember
from .progress import progress
from .terminal import say, table

__all__ = ["RunCommand"]

_HOPELESS = (GatewayAuthError, GatewayConnectionError)  # for the next file as well


class RunCommand(OnKernel):
    """``jupyter gateway run``."""

    name = "jupyter-gateway-run"
    description = """
    Execute notebooks and scripts on kernels behind a gateway.

    Usage: jupyter gateway run [OPTIONS] FILE...

    A FILE.ipynb is executed cell by cell, and written with its outputs to FILE.executed.ipynb,
    also when a cell fails. Any other FILE is a script, whose output appears as it comes; "-"
    is a script on standard input. Each file has a kernel of its own, or all have the one of
    --kernel-id. A file that fails does not stop the others, and a table at the end says what
    became of each.

    "-p NAME VALUE", once or more, sets parameters of notebooks, as papermill does: in a cell
    after the one that is tagged "parameters".

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, one is started on this machine
    and stopped at the end.

    The exit status says how it went:

        0    everything was executed
        1    the code raised an error, or a cell took too long
        2    the command was not understood, or a file cannot be read or written
        3    the gateway: not reached, refused, or the kernel died or did not start
        130  interrupted with Ctrl-C; the kernels were shut down
    """
    examples = """\
jupyter gateway run analysis.ipynb
jupyter gateway run --jobs=4 --output-dir=done --timeout=600 *.ipynb
jupyter gateway run -p alpha 0.6 -p name "first try" analysis.ipynb
jupyter gateway run --kernel=ir --output=report.ipynb analysis.ipynb
echo "print(6 * 7)" | jupyter gateway run -
"""

    keep = Bool(help="Leave the kernels running afterwards.").tag(config=True)
    jobs = Integer(1, min=1, help="How many files to execute at once.").tag(config=True)
    output = Unicode(help="Where to write the executed notebook.").tag(config=True)
    output_dir = Unicode(help="The directory to write the executed notebooks to.").tag(config=True)
    inplace = Bool(help="Write the executed notebook over the original.").tag(config=True)
    allow_errors = Bool(help="Go on after a cell that fails.").tag(config=True)
    timeout = Integer(
        None, allow_none=True, help="Seconds that a cell may take; unlimited by default."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        **OnKernel.aliases,
        "jobs": "RunCommand.jobs",
        "output": "RunCommand.output",
        "output-dir": "RunCommand.output_dir",
        "timeout": "RunCommand.timeout",
    }
    flags = {  # noqa: RUF012
        **FLAGS,
        "inplace": ({"RunCommand": {"inplace": True}}, inplace.help),
        "allow-errors": ({"RunCommand": {"allow_errors": True}}, allow_errors.help),
        "keep": ({"RunCommand": {"keep": True}}, keep.help),
    }

    def parse_command_line(self, argv: Any = None) -> None:
        """Read the command line: ``-p NAME VALUE``, which no trait can be, and all others."""
        words = list(sys.argv[1:] if argv is None else argv)
        self._parameters: dict[str, Any] = {}
        while "-p" in words:
            at = words.index("-p")
            if len(words) < at + 3:
                raise UsageError("-p wants a name and a value")
            self._parameters[words[at + 1]] = _value(words[at + 2])
            del words[at : at + 3]
        super().parse_command_line(words)

    def run(self) -> int:
        """Execute the files."""
        jobs = self._jobs()
        self._given_up = False
        with self.gateway(local=not self.kernel_id) as gateway, progress() as self._progress:
            try:
                self._execute_all(gateway, jobs)
            finally:
                if len(jobs) > 1:
                    say("", _report(jobs))
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
                self._given_up = True
                for job in jobs:
                    job.stop()
                raise

    def _execute(self, gateway: GatewayClient, job: Job) -> None:
        """Execute one file, and note what became of it."""
        if self._given_up:
            return
        begun = monotonic()
        job.outcome = Outcome(FAILED, "stopped")  # if nothing else can be said in the end
        try:
            with (
                self._progress.of(job.name) as on_cell,
                self.kernel(
                    gateway, job.kernel_name, kernel_id=self.kernel_id, cwd=job.directory
                ) as (km, kc),
            ):
                try:
                    job.execute(kc, on_cell)
                except CodeError as error:
                    if not error.running:
                        self._keep(km)
                    raise
                self._keep(km)
            job.outcome = Outcome(OK, "ok")
        except CodeError as error:
            if str(error):
                say(f"{self.words}: {job.name}: {error}")
            job.outcome = Outcome(FAILED, "failed", error.why)
        except GatewayError as error:
            died = isinstance(error, DeadKernelError)
            why = "the kernel died" if died else str(error)  # where, the table says
            job.outcome = Outcome(self.explain(error), "died" if died else "gateway", why)
            if isinstance(error, _HOPELESS) and not isinstance(error, GatewayConnectionClosed):
                self._given_up = True
        except UsageError as error:
            job.outcome = Outcome(self.explain(error), "not done", str(error))
        except Stopped:
            pass
        finally:
            job.outcome.seconds = monotonic() - begun

    def _keep(self, km: BlockingGatewayKernelManager) -> None:
        if self.keep and km.owned_kernel:
            km.owned_kernel = False
            remember(km.gateway.url, str(km.kernel_id))
            say(f"kernel {km.kernel_id} is left running")

    # --- the files ------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        """What to execute, so that a bad file is known before anything runs."""
        files = self.extra_args
        if not files:
            raise UsageError("which file? see --help")
        notebooks = [name for name in files if name.endswith(".ipynb")]
        self._check(files, notebooks)
        config = Config(self.config)
        if self.timeout is not None:
            config.NotebookClient.timeout = self.timeout
        if self.allow_errors:
            config.NotebookClient.allow_errors = True
        jobs: list[Job] = []
        written: dict[Path, str] = {}
        for name in files:
            if name in notebooks:
                path = Path(name)
                destination = self._destination(path)
                if other := written.get(destination):
                    raise UsageError(f"{other} and {name} would both be written to {destination}")
                written[destination] = name
                jobs.append(Notebook(path, destination, self.kernel_name, self._parameters, config))
            else:
                jobs.append(self._script(name))
        return jobs

    def _script(self, name: str) -> Script:
        piped = name == "-"  # what was read from a pipe is not there any more
        return Script(
            name,
            sys.stdin.read() if piped else read_text(Path(name)),
            self.kernel_name or "python3",
            allow_stdin=self.jobs == 1 and not piped,
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
        self.refuse_both()
        if self.kernel_id and self.jobs > 1:
            raise UsageError("--kernel-id is one kernel, and --jobs asks for several")
        if self._parameters and len(notebooks) < len(files):
            raise UsageError("-p is for notebooks")
        if self._parameters and importlib.util.find_spec("papermill") is None:
            raise UsageError("-p needs papermill: pip install papermill")

    def _destination(self, source: Path) -> Path:
        if not source.is_file():
            raise UsageError(f"cannot read {source}: No such file or directory")
        if self.inplace:
            return source
        if self.output_dir:
            output = Path(self.output_dir, source.name)
        else:
            output = Path(self.output) if self.output else source.with_suffix(".executed.ipynb")
        if not os.access(output.parent, os.W_OK):
            exists = output.parent.is_dir()
            why = "its directory is not writable" if exists else "there is no such directory"
            raise UsageError(f"cannot write {output}: {why}")
        return output


def _value(text: str) -> Any:
    """What a parameter's text means, as for papermill: a number, a word of Python, or itself."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False}.get(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _report(jobs: list[Job]) -> str:
    """What became of each file."""
    rows = []
    for job in jobs:
        said = job.outcome
        where = job.where if said.status else ""
        seconds = f"{said.seconds:.1f} s" if said.seconds else ""
        rows.append([job.name, said.result, where, seconds, " ".join(said.why.split())])
    return table(["file", "result", "where", "time", "why"], rows)
