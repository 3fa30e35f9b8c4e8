"""This package."""

from __future__ import annotations

import os

from peers import BlockingPeer, Found, first_reply, run_notebook

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager


class Ours(BlockingPeer):
    """``BlockingGatewayKernelClient``, as it comes."""

    def connect(self, url: str, kernel_id: str) -> BlockingGatewayKernelClient:
        client = BlockingGatewayKernelClient(kernel_id=kernel_id, url=url)
        client.start_channels()
        return client

    def start(self, url: str) -> Found:
        return first_reply(lambda: BlockingGatewayKernelManager(url=url))

    def notebook(self, url: str, cells: int) -> Found:
        os.environ["JUPYTER_GATEWAY_URL"] = url
        return run_notebook("gateway_blocking.BlockingGatewayKernelManager", cells)
