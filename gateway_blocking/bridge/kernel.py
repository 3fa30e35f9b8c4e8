"""The kernel of a bridge: started, attached to, or restarted for the bridge that follows another.

jupyter_client restarts a kernel by ending its process and starting another one with the same
connection file.  The bridge that ends leaves a record beside that file, and the next one restarts
the kernel which the record names, instead of starting a new one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from traitlets.config import Config

from ..clients import ClientGroup
from ..config import GatewayClient
from ..errors import NoSuchKernel
from ..manager import BlockingGatewayKernelManager
from ..ownership import KernelOwnership
from ..traits import safe_url
from .client import BridgeClient

__all__ = ["KernelRecord", "attach", "has_record", "start", "take_record", "write_record"]


class KernelRecord(TypedDict):
    """The record of a kernel that the next bridge is to restart."""

    kernel_id: str
    url: str


def write_record(connection_file: Path, record: KernelRecord) -> None:
    """Write the record beside a connection file, so that only this user can read it."""
    path = _record_path(connection_file)
    with suppress(FileNotFoundError):
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file)


def has_record(connection_file: Path) -> bool:
    """Return True if the next bridge for this connection file is to go on with a kernel."""
    return _record_path(connection_file).exists()


def take_record(connection_file: Path, url: str) -> KernelRecord | None:
    """Return the record of a kernel on the gateway at `url`, and delete it; None if none is there.

    A record of another user, or one that others can write, is ignored.
    """
    path = _record_path(connection_file)
    try:
        status = path.stat()
        content = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
    except (OSError, ValueError, RecursionError):
        return None
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
        return None
    if not (isinstance(content, dict) and isinstance(content.get("kernel_id"), str)):
        return None
    return content if content.get("url") == safe_url(url) else None  # type: ignore[return-value]


def _record_path(connection_file: Path) -> Path:
    return connection_file.with_name(f"{connection_file.name}.gateway")


def start(
    gateway: GatewayClient, config: Config, kernel_name: str, cwd: str, record: KernelRecord | None
) -> BlockingGatewayKernelManager:
    """Return the manager of a new kernel, or of the kernel of a record, which is restarted.

    Raises
    ------
    GatewayError
        The kernel could not be started.
    """
    if record is not None:
        with suppress(NoSuchKernel):  # it was culled meanwhile
            return _restart(gateway, config, record["kernel_id"])
    manager = BlockingGatewayKernelManager(
        kernel_name=kernel_name, gateway=gateway, config=config, client_factory=BridgeClient
    )
    manager.start_kernel(cwd=cwd)
    return manager


def _restart(
    gateway: GatewayClient, config: Config, kernel_id: str
) -> BlockingGatewayKernelManager:
    """Return the manager of a kernel that the bridge before this one has left, restarted."""
    manager = BlockingGatewayKernelManager(
        gateway=gateway, config=config, client_factory=BridgeClient
    )
    # Held from now on: if the gateway cannot be reached, or this process is killed, no other
    # process would shut the kernel down.
    ownership = KernelOwnership(ClientGroup())
    ownership.take(manager.rest, kernel_id, "")
    try:
        manager.start_kernel(kernel_id=kernel_id)
        manager.owned_kernel = True
    except NoSuchKernel:
        ownership.update(manager.rest, None, "")
        raise
    ownership.update(manager.rest, None, "")  # the manager has a hold of its own
    manager.restart_kernel()
    return manager


def attach(gateway: GatewayClient, config: Config, kernel_id: str) -> BlockingGatewayKernelManager:
    """Return the manager of a kernel that runs already.

    Raises
    ------
    NoSuchKernel, GatewayError
        The gateway does not have the kernel, or cannot be reached.
    """
    manager = BlockingGatewayKernelManager(
        gateway=gateway, config=config, client_factory=BridgeClient
    )
    manager.start_kernel(kernel_id=kernel_id)
    return manager
