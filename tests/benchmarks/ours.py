"""This package."""

from __future__ import annotations

import os

from peers import PATIENCE, BlockingPeer, Found, clock, run_notebook

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager


class Ours(BlockingPeer):
    """``BlockingGatewayKernelClient``, as it comes."""

    def connect(self, url: str, kernel_id: str) -> BlockingGatewayKernelClient:
        client = BlockingGatewayKernelClient(kernel_id=kernel_id, url=url)
        client.start_channels()
        return client

    def start(self, url: str) -> Found:
        found: Found = {}
        with clock(found):
            km = BlockingGatewayKernelManager(url=url)
            km.start_kernel()
            kc = km.client()
            kc.start_channels()
            kc.kernel_info(reply=True, timeout=PATIENCE)
        kc.stop_channels()
        km.shutdown_kernel(now=True)
        km.cleanup_resources()
        return found

    def notebook(self, url: str, cells: int) -> Found:
        os.environ["JUPYTER_GATEWAY_URL"] = url
        return run_notebook("gateway_blocking.BlockingGatewayKernelManager", cells)
