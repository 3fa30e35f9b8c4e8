"""``jupyter gateway bridge``: the process of a local kernelspec whose kernel is remote."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from jupyter_client.session import Session
from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import ensure_dir_exists
from traitlets import Bool, List, TraitError, Unicode

from ..bridge.bridge import Bridge, BridgeEnd
from ..bridge.directories import remote_directory
from ..bridge.kernel import attach, has_record, start, take_record, write_record
from ..bridge.parent import ParentProcess, names_parent
from ..bridge.sockets import (
    BridgeSockets,
    ConnectionFile,
    read_connection_file,
    write_new_connection_file,
)
from ..config import GatewayClient
from ..errors import GatewayError
from ..manager import BlockingGatewayKernelManager
from ..rest import GatewayREST
from ..signals import known_signals
from ..traits import safe_url
from .command import ALIASES, FLAGS, Command
from .directory_maps import MAP_HELP, directory_maps
from .errors import UsageError
from .kernel_lookup import find_kernel
from .terminal import echo

__all__ = ["BridgeCommand"]

# SIGQUIT is Ctrl-\ in a terminal; Windows has SIGBREAK (Ctrl-Break) instead of it and of SIGHUP.
_ENDING = known_signals("SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")


class BridgeCommand(Command):
    """``jupyter gateway bridge``."""

    name = "jupyter-gateway-bridge"
    description = """
    Be a kernel of this machine for a front end, and pass everything on to a kernel behind a
    gateway.

    Usage: jupyter gateway bridge [OPTIONS] -f FILE

    A front end runs this command as the process of a kernelspec that "jupyter gateway install"
    has made. FILE is the connection file, which says where to listen. With --kernel-id, the
    bridge attaches to a kernel that runs already, and never shuts it down. If there is no FILE, it
    is made, and removed at the end; the command says how to connect to it.

    A kernel that the bridge has started ends with the bridge, and the bridge ends with the process
    that started it. With --kernel-id, the bridge goes on when the shell that started it has ended.

    The exit status:

        0    a front end shut the kernel down
        1    the kernel did not start or died, the connection was lost, or the front end ended
        2    the command was not understood, FILE cannot be used, or there is no such kernel
        3    no gateway is configured, or a port of FILE is in use
    """
    examples = """\
jupyter gateway bridge --kernel=python3 -f connection.json
jupyter gateway bridge --kernel-id=1f3a
"""

    file = Unicode(help="Connection file.").tag(config=True)
    kernel_name = Unicode(help="The kernelspec to start.").tag(config=True)
    kernel_id = Unicode(help="ID of a running kernel to attach to, or its beginning.").tag(
        config=True
    )
    keep = Bool(help="Leave the kernel running at the end.").tag(config=True)
    map_directory = List(Unicode(), help=MAP_HELP).tag(config=True)

    aliases = {  # noqa: RUF012
        **ALIASES,
        "f": "BridgeCommand.file",
        "file": "BridgeCommand.file",
        "kernel": "BridgeCommand.kernel_name",
        "kernel-id": "BridgeCommand.kernel_id",
        "map": "BridgeCommand.map_directory",
    }
    flags = {**FLAGS, "keep": ({"BridgeCommand": {"keep": True}}, keep.help)}  # noqa: RUF012

    def run(self) -> int:
        """Carry messages until the front end or the kernel ends."""
        if bool(self.kernel_name) and bool(self.kernel_id):
            raise UsageError("give either --kernel or --kernel-id, not both")
        directory = remote_directory(Path.cwd(), directory_maps(self.map_directory))
        is_new = not (self.file and Path(self.file).exists())
        with self.gateway(local=False) as gateway:
            running = self._running_kernel(gateway)  # no file is made if there is no such kernel
            with self._connection_file(is_new) as (path, connection):
                sockets = BridgeSockets(connection)
                bridge = Bridge(
                    sockets,
                    self._session(connection),
                    lambda: self._kernel(gateway, running, path, directory),
                    self.log,
                    gateway.max_unread_size,
                    self._end_of_parent(),
                )
                _handle_signals(bridge)
                if is_new:
                    echo(f"to connect another front end: --existing {path}")
                try:
                    bridge.run()
                except BridgeEnd as end:
                    self._end(bridge.manager, path, restarts=end.restarts)
                    if str(end):
                        with suppress(OSError):  # the status says enough if it cannot be written
                            echo(f"{self.typed_name}: {end}")
                    return end.status
                finally:
                    sockets.close()
        raise AssertionError("the bridge ended without a reason")

    def _running_kernel(self, gateway: GatewayClient) -> str:
        """Return the ID of the kernel to attach to; "" if a kernel is to be started."""
        if not self.kernel_id:
            return ""
        with GatewayREST(gateway) as rest:
            return find_kernel(rest, self.kernel_id)["id"]

    def _end_of_parent(self) -> Callable[[], bool]:
        """Return the function that returns True if the process that started the bridge has ended.

        A person who attaches to a kernel may let the bridge run on, as with nohup.
        """
        ends_with_parent = bool(self.kernel_name) or names_parent(os.environ)
        return ParentProcess(os.environ).has_ended if ends_with_parent else lambda: False

    def _session(self, connection: ConnectionFile) -> Session:
        """Return the session that signs and checks messages."""
        key = connection.get("key", "").encode()
        scheme = connection.get("signature_scheme", "hmac-sha256")
        try:
            return Session(key=key, signature_scheme=scheme, config=self.config)
        except (TraitError, TypeError) as error:
            raise UsageError(
                "the signature_scheme of the connection file must be hmac- and the name of a"
                f" digest, such as hmac-sha256, got {scheme!r}"
            ) from error

    @contextmanager
    def _connection_file(self, is_new: bool) -> Iterator[tuple[Path, ConnectionFile]]:
        """Yield the connection file; a new one is removed at the end."""
        path = Path(self.file)
        if not self.file:
            ensure_dir_exists(jupyter_runtime_dir(), 0o700)
            path = Path(jupyter_runtime_dir(), f"kernel-gateway-{secrets.token_hex(4)}.json")
        try:
            if is_new:
                connection = write_new_connection_file(path, self.kernel_name)
            else:
                connection = read_connection_file(path)
        except GatewayError as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            raise UsageError(f"cannot use {path}: {error}") from error
        try:
            yield path, connection
        finally:
            if is_new and not has_record(path):
                path.unlink(missing_ok=True)

    def _kernel(
        self, gateway: GatewayClient, running: str, path: Path, directory: str
    ) -> BlockingGatewayKernelManager:
        """Return the manager of the kernel when it has started; a thread of the bridge calls."""
        if running:
            return attach(gateway, self.config, running)
        record = take_record(path, str(gateway.url))
        manager = start(gateway, self.config, self.kernel_name, directory, record)
        if self.keep:
            manager.owned_kernel = False
        return manager

    def _end(
        self, manager: BlockingGatewayKernelManager | None, path: Path, *, restarts: bool
    ) -> None:
        """Leave an owned kernel to the next bridge for the connection file, if that restarts it.

        Otherwise the end of this process shuts it down: within seconds, also if the gateway does
        not respond.
        """
        if restarts and manager is not None and manager.owned_kernel and manager.kernel_id:
            url = safe_url(str(manager.gateway.url))
            with suppress(OSError):  # then the next bridge starts another kernel
                write_record(path, {"kernel_id": manager.kernel_id, "url": url})
                manager.owned_kernel = False


def _handle_signals(bridge: Bridge) -> None:
    """Let SIGINT interrupt the kernel, and the signals of _ENDING end the bridge."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        bridge.interrupt()

    def end(number: int, _frame: FrameType | None) -> None:
        bridge.stop(BridgeEnd(128 + number, f"stopped by {signal.Signals(number).name}"))

    signal.signal(signal.SIGINT, interrupt)
    for number in _ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
