"""The base classes of all subcommands: options, the gateway, the kernel, the report of errors.

The options of a :class:`Command` are traits, and ``run()`` does its work.  An error that ``run()``
raises becomes one line on standard error and an exit status.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp
from traitlets import Bool, TraitError, Unicode
from traitlets.config import Config
from traitlets.config.application import AnyLogger, LevelFormatter
from traitlets.config.configurable import Configurable
from traitlets.config.loader import KVArgParseConfigLoader

from .._version import __version__
from ..client import BlockingGatewayKernelClient
from ..config import GatewayClient
from ..errors import GatewayConnectionError, GatewayError, KernelNotReady
from ..escape import printable
from ..manager import BlockingGatewayKernelManager
from ..rest import GatewayREST
from ..timeouts import BUSY_TIMEOUT, READY_TIMEOUT
from ..traits import Text
from .argv import StrictLoader, option_error
from .errors import FAILED, GATEWAY, USAGE, Signal, UsageError, may_still_execute
from .kernel_lookup import LAST, find_kernel
from .profiles import read_profile
from .terminal import echo, renderer, write

__all__ = [
    "ALIASES",
    "FLAGS",
    "Command",
    "KERNEL_ID_ADVICE",
    "KernelCommand",
    "LAST_HELP",
    "Kernel",
    "OneKernelCommand",
    "OutputCommand",
    "ReportCommand",
]

Kernel = tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]
"""The manager of a kernel, and its connected client."""

_NOT_CONFIGURED = "no gateway is configured (JUPYTER_GATEWAY_URL, --url)"

ALIASES = {
    "url": ("GatewayClient.url", "The gateway's URL."),
    "token": (
        "GatewayClient.auth_token",
        "The gateway's token. JUPYTER_GATEWAY_AUTH_TOKEN is safer, because"
        " other users of this machine can read command lines.",
    ),
    "config": "JupyterApp.config_file",
    "profile": "Command.profile",
}
FLAGS: dict[str, tuple[dict[str, dict[str, object]], str]] = {
    "debug": (
        {"Application": {"log_level": logging.DEBUG}},
        "Show the log, and the traceback of every error.",
    ),
}


KERNEL_ID_ADVICE = "a running kernel is named by --kernel-id=KERNEL"
LAST_HELP = "Use the only kernel that you have started and that still runs."


class _EscapingFormatter(LevelFormatter):
    """Formatter of log lines that escapes control characters, which a server may have sent."""

    highlevel_format = " %(levelname)s:"

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class Command(JupyterApp):
    """A subcommand; a subclass has ``name``, ``description``, ``examples`` and ``run()``."""

    version = __version__
    option_description = (
        "Any option can be given by its full name, such as --GatewayClient.headers=..."
    )
    config_file_name = Unicode("jupyter_gateway_config")
    profile = Unicode(
        help="Profile with the options of the gateway: see jupyter gateway profile."
    ).tag(config=True)

    aliases = ALIASES
    flags = FLAGS
    _log_formatter_cls = _EscapingFormatter

    def _log_format_default(self) -> str:
        return f"{self.typed_name}:%(highlevel)s %(message)s"

    def _log_level_default(self) -> int:
        return logging.WARNING

    def _log_default(self) -> AnyLogger:
        log = super()._log_default()
        logger = log.logger if isinstance(log, logging.LoggerAdapter) else log
        # At DEBUG traitlets logs the whole configuration, which may contain a token.
        logger.addFilter(
            lambda record: record.levelno > logging.DEBUG or not record.msg.startswith("Config ")
        )
        return log

    def _create_loader(
        self,
        argv: list[str] | None,
        aliases: dict[str, Any],
        flags: dict[str, Any],
        classes: Sequence[type[Configurable]] | None,
    ) -> KVArgParseConfigLoader:
        return StrictLoader(
            argv,
            aliases,
            flags,
            classes=list(classes or []),
            log=self.log,
            subcommands=self.subcommands,
        )

    def _find_subcommand(self, name: str) -> str:
        """Return an empty name: no program of this name is to be executed.

        JupyterApp would execute ``jupyter-gateway-run-FOO/bar`` for ``run FOO/bar`` if there is
        such a file in the current folder.
        """
        return ""

    def emit_description(self) -> Generator[str, None, None]:
        """Yield the description; an option such as --kernel-id stays on one line."""
        for paragraph in re.split(r"\n\s*\n", textwrap.dedent(str(self.description)).strip()):
            is_list = "\n " in paragraph
            yield paragraph if is_list else textwrap.fill(paragraph, 80, break_on_hyphens=False)
            yield ""

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line and the configuration files."""
        self.classes = [*self.classes, GatewayClient]
        super().initialize(argv)
        if self.config_file and not any(
            Path(self.config_file).with_suffix(ending).is_file() for ending in (".py", ".json")
        ):
            raise UsageError(f"--config={self.config_file}: there is no such file")
        if self.profile:
            whole = Config({"GatewayClient": read_profile(self.profile)})
            whole.merge(self.config)  # the command line has precedence
            self.config = whole

    def load_config_file(self, suppress_errors: bool = True) -> None:  # type: ignore[override]
        """Read the configuration files; a file that cannot be read is an error."""
        self.raise_config_file_errors = True
        try:
            super().load_config_file(suppress_errors=False)
        except Exception as error:  # the file is code, which may raise any error
            what = self.config_file or self.config_file_name
            # The text and the traceback of the error may contain a token of the file.
            raise UsageError(f"{what} cannot be read: {_cause(error, str(what))}") from None

    def _load_config(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._load_config(*args, **kwargs)
        except TraitError as error:  # traitlets would exit with 1
            raise UsageError(option_error(str(error))) from error

    def start_show_config(self) -> None:
        """Show the configuration without its secrets."""
        config = copy.deepcopy(self.config)
        for name, trait in GatewayClient.class_traits(config=True).items():
            section = config.get("GatewayClient", {})
            if name in section and isinstance(trait, Text):
                section[name] = trait.shown(section[name])
        self.config = config
        super().start_show_config()

    def start(self) -> None:
        """Run the command, and exit with its status."""
        super().start()
        if not self.debugging:
            # asyncio logs an error for each task that a Ctrl-C cancels.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            warnings.formatwarning = lambda message, *_where: (
                f"{self.typed_name}: {printable(message)}\n"
            )
            # The user has set validate_cert to False; a warning for each request says nothing new.
            warnings.filterwarnings("ignore", "Unverified HTTPS request")
        self.exit(self.run())

    def run(self) -> int:
        """Do the work of the command, and return the exit status."""
        raise NotImplementedError

    @property
    def debugging(self) -> bool:
        """True if tracebacks are shown."""
        return self.log_level in (logging.NOTSET, logging.DEBUG)

    @property
    def typed_name(self) -> str:
        """The command as it is typed, such as "jupyter gateway run"."""
        return self.name.replace("-", " ")

    def reject_arguments(self, advice: str = "") -> None:
        """Raise UsageError if there is any argument, with advice on what may be meant."""
        if self.extra_args:
            # The text does not show them: one may be a token, as in "--token X Y".
            text = f"the command takes no arguments, got {len(self.extra_args)}"
            raise UsageError(f"{text}; {advice}" if advice else text)

    def report_error(self, error: BaseException) -> int:
        """Write an error as one line to standard error, and return its exit status."""
        if self.debugging:
            echo("".join(traceback.format_exception(error)).rstrip("\n"))
        if isinstance(error, Signal):
            text, status = f"stopped by {error}", 128 + error.number
        elif isinstance(error, GatewayError):
            text, status = str(error), GATEWAY
        elif isinstance(error, BrokenPipeError):  # of `... | head`, which ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return FAILED
        elif isinstance(error, OSError | TraitError | UsageError):
            text, status = str(error), USAGE
        elif isinstance(error, RuntimeError) and "home directory" in str(error):
            # jupyter_core raises it, for instance with a random uid in a container.
            text, status = "this user has no home directory: set HOME to one", USAGE
        else:
            raise error
        with suppress(OSError):  # if standard error cannot be written, the status says enough
            echo(f"{self.typed_name}: {text}")
        return status

    # --- the gateway ----------------------------------------------------------------------------

    @contextmanager
    def rest(self) -> Iterator[GatewayREST]:
        """Yield the REST interface of the configured gateway."""
        with self.gateway(local=False) as gateway, GatewayREST(gateway) as rest:
            yield rest

    @contextmanager
    def gateway(self, *, local: bool) -> Iterator[GatewayClient]:
        """Yield the configured gateway, or else, if `local`, a gateway started for this command."""
        gateway = GatewayClient(config=self.config)
        if gateway.gateway_enabled:
            yield gateway
            return
        if not local:
            raise GatewayConnectionError(f"{_NOT_CONFIGURED}; set one of them to its address")
        from ..local import LocalGateway

        ours = LocalGateway()
        try:
            ours.start()
        except GatewayError as error:
            text = f"{_NOT_CONFIGURED}, and none can be started here: {error}"
            raise GatewayError(text) from error
        with ours:
            echo(f"{_NOT_CONFIGURED}: starting one on this machine, {ours.url}")
            # No proxy can reach it, and this process uses no other gateway.
            excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
            os.environ["no_proxy"] = ",".join(filter(None, (excepted, "127.0.0.1")))
            yield GatewayClient(config=self.config, **ours.options())

    @contextmanager
    def kernel(
        self, gateway: GatewayClient, name: str, *, kernel_id: str = "", cwd: Path | None = None
    ) -> Iterator[Kernel]:
        """Yield a ready kernel: a new one, which is shut down at the end, or a running one.

        A running kernel is left running.  It is interrupted if it may still execute our code.
        """
        with BlockingGatewayKernelManager(
            kernel_name=name, gateway=gateway, config=self.config
        ) as km:
            if kernel_id:
                kernel_id = find_kernel(km.rest, kernel_id)["id"]
            km.start_kernel(cwd=cwd and str(cwd), kernel_id=kernel_id or None)
            with km.client() as kc:
                _wait_until_ready(km, kc)
                try:
                    yield km, kc
                except BaseException as error:
                    if may_still_execute(error) and not km.owned_kernel:
                        with suppress(GatewayError):  # the first error is more useful
                            km.interrupt_kernel()
                    raise


class ReportCommand(Command):
    """A command that writes a report, as text or JSON, and takes no arguments."""

    as_json = Bool(help="Write JSON, for other programs.").tag(config=True)

    flags = {**FLAGS, "json": ({"ReportCommand": {"as_json": True}}, as_json.help)}  # noqa: RUF012

    def write_json(self, report: object) -> None:
        """Write the report to standard output as JSON."""
        write(sys.stdout, json.dumps(report, indent=2) + "\n")


class OneKernelCommand(Command):
    """A command for one running kernel, which its argument or --last names."""

    last = Bool(help=LAST_HELP).tag(config=True)

    flags = {**FLAGS, "last": ({"OneKernelCommand": {"last": True}}, LAST_HELP)}  # noqa: RUF012

    def kernel_id_argument(self) -> str:
        """Return the only argument of the command, or the word that means --last."""
        if self.last and self.extra_args:
            raise UsageError("give either an ID or --last, not both")
        if self.last:
            return LAST
        if len(self.extra_args) != 1:
            raise UsageError("give the ID of one kernel, or --last; see --help")
        return str(self.extra_args[0])


class OutputCommand(Command):
    """A command that shows the output of a kernel."""

    raw = Bool(
        help="Write all of a kernel's output to the terminal, even what changes its title or its"
        " clipboard, or makes it respond."
    ).tag(config=True)

    flags = {**FLAGS, "raw": ({"OutputCommand": {"raw": True}}, raw.help)}  # noqa: RUF012

    def start(self) -> None:
        """Run the command, and exit with its status."""
        renderer.is_raw = self.raw
        super().start()


class KernelCommand(OutputCommand):
    """A command that executes code on a kernel: a running one, or a new one."""

    kernel_name = Unicode(
        help="The kernelspec to start. By default the gateway's default, or a notebook's own."
    ).tag(config=True)
    kernel_id = Unicode(
        help="ID of a running kernel, or its beginning, or its name; the kernel is left running."
    ).tag(config=True)
    last = Bool(help=LAST_HELP).tag(config=True)

    flags = {  # noqa: RUF012
        **OutputCommand.flags,
        "last": ({"KernelCommand": {"last": True}}, LAST_HELP),
    }
    aliases = {  # noqa: RUF012 - as in every traitlets application
        **ALIASES,
        "kernel": "KernelCommand.kernel_name",
        "kernel-id": "KernelCommand.kernel_id",
    }

    def check_kernel_options(self) -> None:
        """Raise UsageError if a kernel to start and a running kernel are both given."""
        if self.kernel_id and self.kernel_name:
            raise UsageError("give either --kernel or --kernel-id, not both")
        if self.last:
            if self.kernel_id or self.kernel_name:
                other = "--kernel-id" if self.kernel_id else "--kernel"
                raise UsageError(f"give either {other} or --last, not both")
            self.kernel_id = LAST

    @contextmanager
    def open_kernel(
        self,
    ) -> Iterator[Kernel]:
        """Yield the kernel when it is ready; a new kernel is shut down at the end."""
        self.check_kernel_options()
        with (
            self.gateway(local=not self.kernel_id) as gateway,
            self.kernel(gateway, self.kernel_name, kernel_id=self.kernel_id, cwd=Path.cwd()) as it,
        ):
            yield it


def _wait_until_ready(km: BlockingGatewayKernelManager, kc: BlockingGatewayKernelClient) -> None:
    """Wait a limited time for a new kernel, or until a running kernel is no longer busy."""
    if km.owned_kernel:
        kc.wait_for_ready(timeout=READY_TIMEOUT)
        return
    try:
        kc.wait_for_ready(timeout=BUSY_TIMEOUT)
    except KernelNotReady:
        echo(f"kernel {km.kernel_id} is busy: waiting for it")
        kc.wait_for_ready()


def _cause(error: Exception, file: str) -> str:
    """Return the kind of error in a configuration file, and its line."""
    kind, name = type(error).__name__, Path(file).stem
    lines = [
        each.lineno for each in traceback.extract_tb(error.__traceback__) if name in each.filename
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    where = f"{kind}: line {line}" if line else kind
    if isinstance(error, OSError | ImportError | KeyError | json.JSONDecodeError):
        return f"{where}: {error}"
    if isinstance(error, NameError | SyntaxError):
        return f"{where}; text, such as a token, must be in quotes"
    return where
