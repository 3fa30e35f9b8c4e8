"""jupyter_client with a kernel on this machine, without any gateway."""

from __future__ import annotations

from typing import ClassVar

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from peers import PATIENCE, BlockingPeer, Found, first_reply, run_notebook

_NO_WEBSOCKET = "it speaks no websocket"


class LocalZMQ(BlockingPeer):
    """``BlockingKernelClient`` with a kernel of its own, which lives as long as the worker."""

    kernel_name = "python3"
    cannot: ClassVar[dict[str, str]] = {
        "pour": _NO_WEBSOCKET,
        "upload": _NO_WEBSOCKET,
        "memory": _NO_WEBSOCKET,
        "crowd": _NO_WEBSOCKET,
        "threads": "its clients are not made for several threads",
    }

    def __init__(self) -> None:
        self._kernel: KernelManager | None = None

    def manager(self) -> KernelManager:
        """A manager without a kernel yet."""
        return KernelManager(kernel_name=self.kernel_name)

    def connect(self, url: str, kernel_id: str) -> BlockingKernelClient:
        if self._kernel is None:
            self._kernel = self.manager()
            self._kernel.start_kernel()
        client: BlockingKernelClient = self._kernel.client()
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE)
        return client

    def start(self, url: str) -> Found:
        return first_reply(self.manager)

    def notebook(self, url: str, cells: int) -> Found:
        return run_notebook("jupyter_client.manager.AsyncKernelManager", cells)
