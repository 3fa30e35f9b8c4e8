"""What all subcommands share: options, gateway, kernel, errors and exit statuses.

A subcommand is a :class:`Command`: its options are traits, its work is ``run()``, and an error that
it raises becomes one line on standard error and an exit status.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp
from traitlets import Bool, TraitError, Unicode
from traitlets.config.application import LevelFormatter
from traitlets.config.loader import KVArgParseConfigLoader

from .._version import __version__
from ..client import BlockingGatewayKernelClient
from ..config import GatewayClient
from ..errors import GatewayConnectionError, GatewayError, KernelNotReady
from ..escape import printable
from ..manager import BlockingGatewayKernelManager
from ..rest import GatewayREST
from ..traits import Text
from .argv import StrictLoader, with_option_name
from .errors import FAILED, GATEWAY, USAGE, Signal, UsageError, may_still_execute
from .kernel_lookup import find_kernel
from .terminal import echo, renderer, write

__all__ = [
    "ALIASES",
    "FLAGS",
    "READY_TIMEOUT",
    "Command",
    "KernelCommand",
    "ReportCommand",
    "OutputCommand",
]

READY_TIMEOUT = 60.0  # seconds for a new kernel
_PATIENCE = 2.0
_NOT_CONFIGURED = "no gateway is configured (JUPYTER_GATEWAY_URL, --url)"

ALIASES = {
    "url": ("GatewayClient.url", "The gateway's URL."),
    "token": (
        "GatewayClient.auth_token",
        "The gateway's token. Better set JUPYTER_GATEWAY_AUTH_TOKEN:"
        " other users of this machine can read command lines.",
    ),
    "config": "JupyterApp.config_file",
}
FLAGS: dict[str, Any] = {
    "debug": (
        {"Application": {"log_level": logging.DEBUG}},
        "Show what happens, and the traceback of every error.",
    ),
}


class _EscapingFormatter(LevelFormatter):
    """Log lines, with the control characters escaped that a server may have put into them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class Command(JupyterApp):
    """A subcommand: subclasses have ``name``, ``description``, ``examples`` and ``run()``."""

    version = __version__
    option_description = "Any configurable can be set, such as --GatewayClient.headers=..."
    config_file_name = Unicode("jupyter_gateway_config")
    aliases = ALIASES
    flags = FLAGS
    _log_formatter_cls = _EscapingFormatter

    def _log_level_default(self) -> int:
        return logging.WARNING

    def _log_default(self) -> Any:
        log: Any = super()._log_default()
        # At DEBUG traitlets logs the whole configuration, and a token is part of it.
        log.addFilter(
            lambda record: record.levelno > logging.DEBUG or not record.msg.startswith("Config ")
        )
        return log

    def _create_loader(
        self, argv: Any, aliases: Any, flags: Any, classes: Any
    ) -> KVArgParseConfigLoader:
        return StrictLoader(
            argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands
        )

    def _find_subcommand(self, name: str) -> str:
        """Return no program that could replace this command.

        JupyterApp executes ``jupyter-gateway-run-FOO/bar`` for ``run FOO/bar`` if there is such a
        file, and a name with a slash is looked for in the current folder.
        """
        return ""

    def initialize(self, argv: Any = None) -> None:
        """Read the command line and the configuration files."""
        self.classes = [*self.classes, GatewayClient]
        super().initialize(argv)
        if self.config_file and not any(
            Path(self.config_file).with_suffix(ending).is_file() for ending in (".py", ".json")
        ):
            raise UsageError(f"--config={self.config_file}: there is no such file")

    def load_config_file(self, suppress_errors: bool = True) -> None:  # type: ignore[override]
        """Read the configuration files; one that cannot be read is an error, and not left out."""
        self.raise_config_file_errors = True
        try:
            super().load_config_file(suppress_errors=False)
        except Exception as error:  # whatever its code raises
            what = self.config_file or self.config_file_name
            # Neither its text nor its traceback, which have what the file has: a token, perhaps.
            raise UsageError(f"{what} cannot be read: {_cause(error, str(what))}") from None

    def _load_config(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._load_config(*args, **kwargs)
        except TraitError as error:  # traitlets would exit with 1 and a line of its own
            raise UsageError(with_option_name(str(error))) from error

    def start_show_config(self) -> None:
        """Show the configuration, without what is secret."""
        config = copy.deepcopy(self.config)
        for name, trait in GatewayClient.class_traits(config=True).items():
            section = config.get("GatewayClient", {})
            if name in section and isinstance(trait, Text):
                section[name] = trait.shown(section[name])
        self.config = config
        super().start_show_config()

    def start(self) -> None:
        """Do it, and exit."""
        super().start()
        if not self.debugging:
            # It reports how tasks ended that were cancelled by a Ctrl-C.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            warnings.formatwarning = lambda message, *_where: (
                f"{self.typed_name}: {printable(message)}\n"
            )
            # Who sets validate_cert to False knows it, and need not hear of it at each request.
            warnings.filterwarnings("ignore", "Unverified HTTPS request")
        self.exit(self.run())

    def run(self) -> int:
        """Do the command's work, and return the exit status."""
        raise NotImplementedError

    @property
    def debugging(self) -> bool:
        """Whether tracebacks are wanted."""
        return self.log_level in (logging.NOTSET, logging.DEBUG)

    @property
    def typed_name(self) -> str:
        """The command as it is typed."""
        return self.name.replace("-", " ")

    def report_error(self, error: BaseException) -> int:
        """Say in one line what went wrong, and return the exit status that stands for it."""
        if self.debugging:
            echo("".join(traceback.format_exception(error)).rstrip("\n"))
        if isinstance(error, Signal):
            text, status = f"stopped by {error}", 128 + error.number
        elif isinstance(error, GatewayError):
            text, status = str(error), GATEWAY
        elif isinstance(error, BrokenPipeError):  # of `... | head`, which wants no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return FAILED
        elif isinstance(error, OSError | TraitError | UsageError):
            text, status = str(error), USAGE
        elif isinstance(error, RuntimeError) and "home directory" in str(error):
            # jupyter_core's, of a random uid in a container: it looks for configuration files.
            text, status = "this user has no home directory: set HOME to one", USAGE
        else:
            raise error
        echo(f"{self.typed_name}: {text}")
        return status

    def kernel_id_argument(self) -> str:
        """Return the one ID of a command for one kernel, or the beginning of it."""
        if len(self.extra_args) != 1:
            raise UsageError("which kernel? give one ID; see --help")
        return str(self.extra_args[0])

    # --- the gateway ----------------------------------------------------------------------------

    @contextmanager
    def rest(self) -> Iterator[GatewayREST]:
        """Return the REST interface of the gateway that is configured."""
        with self.gateway(local=False) as gateway, GatewayREST(gateway) as rest:
            yield rest

    @contextmanager
    def gateway(self, *, local: bool) -> Iterator[GatewayClient]:
        """Yield the gateway that is configured, or else, if `local`, one for this command only."""
        gateway = GatewayClient(config=self.config)
        if gateway.gateway_enabled:
            yield gateway
            return
        if not local:
            raise GatewayConnectionError(f"{_NOT_CONFIGURED}; give its address")
        from ..local import LocalGateway

        ours = LocalGateway()
        try:
            ours.start()
        except GatewayError as error:
            text = f"{_NOT_CONFIGURED}, and none can be started here: {error}"
            raise GatewayError(text) from error
        with ours:
            echo(f"{_NOT_CONFIGURED}: starting one on this machine, {ours.url}")
            # It is not to be looked for behind a proxy; this process speaks with no other.
            excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
            os.environ["no_proxy"] = ",".join(filter(None, (excepted, "127.0.0.1")))
            yield GatewayClient(config=self.config, **ours.options())

    @contextmanager
    def kernel(
        self, gateway: GatewayClient, name: str, *, kernel_id: str = "", cwd: Path | None = None
    ) -> Iterator[tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]]:
        """Yield a ready kernel: a new one, which is shut down at the end, or one that runs.

        One that was not started here is left running, but not what was executed on it from here:
        where that is given up, the kernel is interrupted.
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
                        with suppress(GatewayError):  # the error that brought us here tells more
                            km.interrupt_kernel()
                    raise


class ReportCommand(Command):
    """A command that tells something, and takes no arguments."""

    as_json = Bool(help="Write JSON, for other programs.").tag(config=True)

    flags = {**FLAGS, "json": ({"ReportCommand": {"as_json": True}}, as_json.help)}  # noqa: RUF012

    def reject_arguments(self) -> None:
        """Refuse what cannot be meant."""
        if self.extra_args:
            # They are not shown: one may be a token, as in "--token X Y".
            raise UsageError(f"it takes no arguments, and got {len(self.extra_args)}")

    def write_json(self, what: Any) -> None:
        """Write it to standard output."""
        write(sys.stdout, json.dumps(what, indent=2) + "\n")


class OutputCommand(Command):
    """A command that shows the output of a kernel."""

    raw = Bool(
        help="Write all of a kernel's output to the terminal, also what sets its title or clipboard"
        " or makes it answer."
    ).tag(config=True)

    flags = {**FLAGS, "raw": ({"OutputCommand": {"raw": True}}, raw.help)}  # noqa: RUF012

    def start(self) -> None:
        """Do it, and exit."""
        renderer.is_raw = self.raw
        super().start()


class KernelCommand(OutputCommand):
    """A command for a kernel: one that runs already, or one of its own."""

    kernel_name = Unicode(
        help="The kernelspec to start. By default a notebook's own, else the gateway's default."
    ).tag(config=True)
    kernel_id = Unicode(
        help="A kernel that runs already, or the beginning of its id: it is left running."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        **ALIASES,
        "kernel": "KernelCommand.kernel_name",
        "kernel-id": "KernelCommand.kernel_id",
    }

    def check_kernel_options(self) -> None:
        """Refuse a kernel to start together with one that runs."""
        if self.kernel_id and self.kernel_name:
            raise UsageError("give either --kernel or --kernel-id, not both")

    @contextmanager
    def open_kernel(
        self,
    ) -> Iterator[tuple[BlockingGatewayKernelManager, BlockingGatewayKernelClient]]:
        """Yield the kernel, ready; one that was started here is shut down at the end."""
        self.check_kernel_options()
        with (
            self.gateway(local=not self.kernel_id) as gateway,
            self.kernel(gateway, self.kernel_name, kernel_id=self.kernel_id, cwd=Path.cwd()) as it,
        ):
            yield it


def _wait_until_ready(km: BlockingGatewayKernelManager, kc: BlockingGatewayKernelClient) -> None:
    """Wait for a new kernel, but not for ever; for one that is busy as long as it takes."""
    if km.owned_kernel:
        kc.wait_for_ready(timeout=READY_TIMEOUT)
        return
    try:
        kc.wait_for_ready(timeout=_PATIENCE)
    except KernelNotReady:
        echo(f"kernel {km.kernel_id} is busy: waiting for it")
        kc.wait_for_ready()


def _cause(error: Exception, file: str) -> str:
    """Return what kind of error a configuration file has, and in which line."""
    kind, name = type(error).__name__, Path(file).stem
    lines = [
        each.lineno for each in traceback.extract_tb(error.__traceback__) if name in each.filename
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    where = f"{kind}: line {line}" if line else kind
    if isinstance(error, OSError | ImportError | KeyError | json.JSONDecodeError):
        return f"{where}: {error}"
    if isinstance(error, NameError | SyntaxError):
        return f"{where}; a text, such as a token, needs quotes there"
    return where
