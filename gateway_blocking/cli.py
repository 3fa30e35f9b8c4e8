"""The command line: ``jupyter gateway``, with a subcommand for each thing to do.

A subcommand is a :class:`_Command` in :attr:`GatewayApp.subcommands`: its options are traits, its
work is ``run()``, and an error that it raises becomes one line and an exit status.  What a
subcommand needs beyond traitlets is imported where it is used, so that ``--help`` stays quick.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from jupyter_core.application import JupyterApp, NoStart, base_flags
from traitlets import Bool, Integer, TraitError, Unicode
from traitlets.config.loader import KVArgParseConfigLoader

from ._version import __version__
from .errors import DeadKernelError, GatewayError

if TYPE_CHECKING:
    from nbclient import NotebookClient

    from .client import BlockingGatewayKernelClient
    from .config import GatewayClient
    from .manager import BlockingGatewayKernelManager

__all__ = ["GatewayApp", "RunCommand", "main"]

_OK, _FAILED, _USAGE, _GATEWAY = 0, 1, 2, 3
_READY_TIMEOUT = 60.0


def main(argv: list[str] | None = None) -> None:
    """Run ``jupyter gateway`` with these arguments, and exit."""
    _let_signals_raise()
    app = GatewayApp.instance()
    status: int = _OK
    try:
        try:
            app.initialize(argv)
        except SystemExit as stop:  # traitlets says 1 for a bad option, which means more here
            sys.exit(_USAGE if stop.code else _OK)
        app.start()
    except NoStart:  # how jupyter_core ends what it did itself, such as --generate-config
        pass
    except (Exception, KeyboardInterrupt) as error:
        command = app.subapp if isinstance(app.subapp, _Command) else app
        status = command.explain(error)
    sys.exit(status)


# --- what all commands share ----------------------------------------------------------------------


class _UsageError(Exception):
    """The command cannot do what it was asked to."""


class _Signal(KeyboardInterrupt):
    """A signal that asks us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _let_signals_raise() -> None:
    """Let a signal unwind the stack, so that no kernel is left behind."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not where the parent wants it ignored, as nohup does.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)


def _refuse(message: str) -> NoReturn:
    raise _UsageError(message)


class _StrictLoader(KVArgParseConfigLoader):
    """A mistyped option is an error: ``--inplcae`` must not mean ``write somewhere else``."""

    def _create_parser(self) -> None:
        super()._create_parser()
        self.parser.error = _refuse  # type: ignore[method-assign]

    def _handle_unrecognized_alias(self, arg: str) -> None:
        _refuse(f"there is no option --{arg}")


class _Command(JupyterApp):
    version = __version__
    option_description = "Any configurable can be set, such as --GatewayClient.headers=..."
    config_file_name = Unicode("jupyter_gateway_config")

    def _log_level_default(self) -> int:
        return logging.WARNING

    def _log_default(self) -> Any:
        log: Any = super()._log_default()
        # At DEBUG traitlets logs the whole configuration, and a token is part of it.
        log.addFilter(lambda record: not str(record.msg).startswith("Config "))
        return log

    def _create_loader(
        self, argv: Any, aliases: Any, flags: Any, classes: Any
    ) -> KVArgParseConfigLoader:
        return _StrictLoader(
            argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands
        )

    def initialize(self, argv: Any = None) -> None:
        """Read the command line and the configuration files."""
        from .config import GatewayClient

        self.classes = [*self.classes, GatewayClient]
        super().initialize(argv)

    def start(self) -> None:
        """Do it, and exit."""
        super().start()
        if not self._debugging:
            # It reports how tasks ended that were cancelled by a Ctrl-C.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        self.exit(self.run())

    def run(self) -> int:
        """Do the command's work, and return the exit status."""
        raise NotImplementedError

    @property
    def _debugging(self) -> bool:
        return self.log_level in (logging.NOTSET, logging.DEBUG)

    def explain(self, error: BaseException) -> int:
        """Say in one line what went wrong, and return the exit status that stands for it."""
        if self._debugging:
            traceback.print_exception(error)
        if isinstance(error, _Signal):
            text, status = f"stopped by {error}", 128 + error.number
        elif isinstance(error, GatewayError):
            text, status = str(error), _GATEWAY
        elif isinstance(error, BrokenPipeError):  # of `... | head`, which wants no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return _FAILED
        elif isinstance(error, OSError | TraitError | _UsageError):
            text, status = str(error), _USAGE
        else:
            raise error
        _say(f"{self.name.replace('-', ' ')}: {text}")
        return status


class GatewayApp(_Command):
    """``jupyter gateway``: only its subcommands do something."""

    name = "jupyter-gateway"
    description = "Work with kernels behind a Jupyter gateway."
    subcommand_description = "More about a command says: jupyter gateway COMMAND --help"
    flags = {name: base_flags[name] for name in ("debug", "generate-config", "y")}  # noqa: RUF012
    aliases = {"config": "JupyterApp.config_file"}  # noqa: RUF012

    def run(self) -> int:
        """Tell what there is."""
        if self.extra_args:
            raise _UsageError(f"there is no command {self.extra_args[0]!r}; see --help")
        self.print_help()
        return _USAGE


# --- jupyter gateway run --------------------------------------------------------------------------


class RunCommand(_Command):
    """``jupyter gateway run``."""

    name = "jupyter-gateway-run"
    description = """
    Execute notebooks and scripts on kernels behind a gateway.

    Usage: jupyter gateway run [OPTIONS] FILE...

    A FILE.ipynb is executed cell by cell, and written with its outputs to FILE.executed.ipynb,
    also when a cell fails. Any other FILE is a script, whose output appears as it comes; "-"
    is a script on standard input. Several files are executed one after another, each on a
    kernel of its own.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, one is started on this machine
    and stopped at the end.

    The exit status says how it went:

        0    everything was executed
        1    the code raised an error, or a cell took too long
        2    the command was not understood, or a file cannot be read or written
        3    the gateway: not reached, refused, or the kernel died or did not start
        130  interrupted with Ctrl-C; the kernel was shut down
    """
    examples = """\
jupyter gateway run analysis.ipynb
jupyter gateway run --inplace --timeout=600 *.ipynb
jupyter gateway run --kernel=ir --output=report.ipynb analysis.ipynb
echo "print(6 * 7)" | jupyter gateway run -
"""

    kernel_name = Unicode(
        help="The kernelspec to run on. By default the notebook's own, or python3."
    ).tag(config=True)
    output = Unicode(help="Where to write the executed notebook.").tag(config=True)
    inplace = Bool(help="Write the executed notebook over the original.").tag(config=True)
    allow_errors = Bool(help="Go on after a cell that fails.").tag(config=True)
    timeout = Integer(
        None, allow_none=True, help="How many seconds a cell may take. By default, any."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        "url": ("GatewayClient.url", "The gateway's URL."),
        "token": (
            "GatewayClient.auth_token",
            "The gateway's token. Better set JUPYTER_GATEWAY_AUTH_TOKEN:"
            " other users of this machine can read command lines.",
        ),
        "kernel": "RunCommand.kernel_name",
        "output": "RunCommand.output",
        "timeout": "RunCommand.timeout",
        "config": "JupyterApp.config_file",
    }
    flags = {  # noqa: RUF012
        "inplace": (
            {"RunCommand": {"inplace": True}},
            "Write the executed notebook over the original.",
        ),
        "allow-errors": (
            {"RunCommand": {"allow_errors": True}},
            "Go on after a cell that fails.",
        ),
        "debug": (
            {"Application": {"log_level": logging.DEBUG}},
            "Show what happens, and the traceback of every error.",
        ),
    }

    def run(self) -> int:
        """Execute the files, one after another."""
        jobs = self._jobs()
        status = _OK
        with self._gateway() as gateway:
            for job in jobs:
                try:
                    with self._kernel(gateway, job) as (km, kc):
                        status = max(status, job.execute(self, km, kc))
                except DeadKernelError as error:  # the next file's kernel is another one
                    status = max(status, self.explain(error))
        return status

    def _jobs(self) -> list[_Script | _Notebook]:
        """What to execute, so that a bad file is known before anything runs."""
        files = self.extra_args
        if not files:
            raise _UsageError("which file? see --help")
        notebooks = [name for name in files if name.endswith(".ipynb")]
        if self.output and self.inplace:
            raise _UsageError("--output and --inplace cannot both be")
        if self.output and (len(files) > 1 or not notebooks):
            raise _UsageError("--output is for one notebook")
        return [
            _Notebook(Path(name), self._destination(Path(name)), self.kernel_name)
            if name in notebooks
            else _Script(name, self.kernel_name)
            for name in files
        ]

    def _destination(self, source: Path) -> Path:
        if self.inplace:
            return source
        output = Path(self.output) if self.output else source.with_suffix(".executed.ipynb")
        if not os.access(output.parent, os.W_OK):
            raise _UsageError(f"cannot write {output}: there is no such directory, or not for you")
        return output

    @contextmanager
    def _gateway(self) -> Iterator[GatewayClient]:
        """The gateway that is configured, or else one of our own."""
        from .config import GatewayClient
        from .local import LocalGateway

        gateway = GatewayClient(config=self.config)
        if gateway.gateway_enabled:
            yield gateway
            return
        missing = "no gateway is configured (JUPYTER_GATEWAY_URL, --url)"
        local = LocalGateway()
        try:
            local.start()
        except GatewayError as error:
            raise GatewayError(f"{missing}, and none can be started here: {error}") from error
        with local:
            _say(f"{missing}: starting one on this machine, {local.url}")
            yield GatewayClient(config=self.config, **local.options())

    @contextmanager
    def _kernel(
        self, gateway: GatewayClient, job: _Script | _Notebook
    ) -> Iterator[tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]]:
        """A kernel for one file, ready, and shut down whatever happens."""
        from .manager import BlockingGatewayKernelManager

        manager = BlockingGatewayKernelManager(
            kernel_name=job.kernel_name, gateway=gateway, config=self.config
        )
        with manager as km:
            km.start_kernel(cwd=str(job.directory))
            with km.client() as kc:
                kc.wait_for_ready(timeout=_READY_TIMEOUT)
                yield km, kc


class _Script:
    """Code whose output is shown as it comes."""

    def __init__(self, name: str, kernel_name: str) -> None:
        self._name = name
        self.kernel_name = kernel_name or "python3"
        self.directory = Path.cwd()  # as for `python FILE`
        self._allow_stdin = name != "-"  # else the code was there, and nothing is left to read
        self._code = _read(Path(name)) if self._allow_stdin else sys.stdin.read()
        self._exited = False

    def execute(
        self,
        command: RunCommand,
        km: BlockingGatewayKernelManager,
        kc: BlockingGatewayKernelClient,
    ) -> int:
        try:
            reply = kc.execute_interactive(
                self._code, output_hook=self._show, allow_stdin=self._allow_stdin
            )["content"]
        except DeadKernelError as error:
            raise DeadKernelError(f"{self._name}: the kernel died") from error
        if reply["status"] == "error" and reply["ename"] == "SystemExit":
            return self._exit(str(reply["evalue"]))
        return _OK if reply["status"] == "ok" else _FAILED

    def _exit(self, argument: str) -> int:
        """What ``sys.exit(argument)`` means: a number is a status, anything else is a message."""
        if argument and not argument.lstrip("-").isdigit() and argument != "None":
            _say(argument)
        return _OK if argument in ("", "0", "None") else _FAILED

    def _show(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["msg_type"]
        if self._exited:  # by sys.exit(), on which IPython comments
            return
        if kind == "stream":
            _write(sys.stderr if content["name"] == "stderr" else sys.stdout, content["text"])
        elif kind in ("execute_result", "display_data"):
            _write(sys.stdout, content["data"].get("text/plain", "") + "\n")
        elif kind == "error":
            self._exited = content["ename"] == "SystemExit"
            if not self._exited:
                _say("\n".join(content["traceback"]))


class _Notebook:
    """A notebook that is executed by nbclient and written with its outputs."""

    def __init__(self, source: Path, destination: Path, kernel_name: str) -> None:
        self._source = source
        self._destination = destination
        self._nb = _parse(source)
        own = self._nb.metadata.get("kernelspec", {}).get("name")
        self.kernel_name = kernel_name or own or "python3"
        self.directory = source.absolute().parent
        self._cell = 0

    def execute(
        self,
        command: RunCommand,
        km: BlockingGatewayKernelManager,
        kc: BlockingGatewayKernelClient,
    ) -> int:
        from nbclient import NotebookClient
        from nbclient import exceptions as nbclient_errors

        client = NotebookClient(
            self._nb,
            km=km,
            timeout=command.timeout,
            allow_errors=command.allow_errors,
            config=command.config,
        )
        client.kc = kc
        failed = f"{command.name.replace('-', ' ')}: {self._source}: cell"
        try:
            # An event loop of this call: a Ctrl-C ends it, and its tasks with it.
            asyncio.run(self._cells(client))
        except nbclient_errors.CellExecutionError as error:
            _say(str(error).rstrip(), f"{failed} {self._cell} failed")
        except nbclient_errors.CellTimeoutError:
            _say(f"{failed} {self._cell} took longer than {client.timeout} s")
        except nbclient_errors.DeadKernelError as error:
            raise DeadKernelError(
                f"{self._source}: the kernel died in cell {self._cell}"
            ) from error
        else:
            return _OK
        finally:
            client.set_widgets_metadata()
            self._save()
        return _FAILED

    async def _cells(self, client: NotebookClient) -> None:
        client.kc.allow_stdin = False  # nobody is asked while a notebook is executed
        info = client.kc.kernel_info(reply=True, timeout=_READY_TIMEOUT)["content"]
        self._nb.metadata["language_info"] = info["language_info"]
        for index, cell in enumerate(self._nb.cells):
            self._cell = index + 1
            await client.async_execute_cell(
                cell, index, execution_count=client.code_cells_executed + 1
            )

    def _save(self) -> None:
        import nbformat

        text = nbformat.writes(self._nb)
        _replace(self._destination, text if text.endswith("\n") else text + "\n")
        _say(f"wrote {self._destination}")


# --- files and streams ----------------------------------------------------------------------------


def _parse(source: Path) -> Any:
    """The notebook in a file, in the current format."""
    text = _read(source)
    try:
        import nbclient  # noqa: F401 - its absence is better known now than later
        import nbformat
    except ModuleNotFoundError as error:
        raise _UsageError(
            f'a notebook needs {error.name}: pip install "gateway-blocking[notebook]"'
        ) from error
    try:
        nb = nbformat.reads(text, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # many kinds, by what is wrong with it
        reason = str(error).partition("\n")[0]
        raise _UsageError(f"{source} is not a notebook: {reason}") from error
    return nb


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _UsageError(f"cannot read {path}: it is not UTF-8 text") from error


def _replace(path: Path, text: str) -> None:
    """Write a file so that there is always either the old or the new one, whole."""
    path = path.resolve()  # what a link points to is replaced, not the link
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        new.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    except OSError as error:
        raise _UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)


_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _say(*lines: str) -> None:
    for line in lines:
        _write(sys.stderr, (line if sys.stderr.isatty() else _ANSI.sub("", line)) + "\n")


def _write(stream: Any, text: str) -> None:
    stream.write(text)
    stream.flush()


GatewayApp.subcommands = {"run": (RunCommand, "Execute notebooks and scripts.")}
