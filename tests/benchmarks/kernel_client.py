"""jupyter_kernel_client, a blocking client of Jupyter Servers."""

from __future__ import annotations

import socket
from typing import ClassVar

from jupyter_kernel_client import KernelWebSocketClient
from jupyter_kernel_client.manager import KernelHttpManager
from peers import PATIENCE, BlockingPeer, Found, clock

_HELP = 3.0  # seconds


class KernelClient(BlockingPeer):
    """``KernelWebSocketClient`` with its default format."""

    cannot: ClassVar[dict[str, str]] = {"notebook": "nbclient cannot use its manager"}

    def connect(self, url: str, kernel_id: str) -> KernelWebSocketClient:
        address = url.replace("http", "ws", 1)
        client = KernelWebSocketClient(f"{address}/api/kernels/{kernel_id}/channels")
        client.start_channels()
        return client

    def disconnect(self, client: KernelWebSocketClient) -> None:
        """Stop it; with some help, because by itself it waits for 10 seconds."""
        app, thread = client.kernel_socket, client.connection_thread
        if app is not None and app.sock is not None and app.sock.sock is not None:
            app.sock.sock.shutdown(socket.SHUT_RDWR)
        if thread is not None:
            thread.join(_HELP)
        client.stop_channels()

    def start(self, url: str) -> Found:
        found: Found = {}
        with clock(found):
            km = KernelHttpManager(server_url=url, token=None)
            km.start_kernel("python3")
            kc = km.client
            kc.start_channels()
            kc.kernel_info()
            kc.get_shell_msg(timeout=PATIENCE)
        self.disconnect(kc)
        km.shutdown_kernel(now=True)
        return found
