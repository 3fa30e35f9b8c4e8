"""jupyter_client with jupyter-kernel-provisioner-proxy, which has the purpose of our bridge.

It is a kernel provisioner, so that its code runs in the event loop of the manager.  A blocking
client, which stops that loop, gets no reply.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bridged import NAME, install
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from peers import CODE, LOST, PATIENCE, WARM_UP, Found, Peer, clock, flushed, is_idle, summary


class ProvisionerProxy(Peer):
    """``AsyncKernelClient`` with a kernel of its own, which lives as long as the worker."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._client: AsyncKernelClient | None = None

    def round_trips(self, url: str, kernel_id: str, count: int) -> Found:
        return self._loop.run_until_complete(self._round_trips(url, count))

    def flood(self, url: str, kernel_id: str, lines: int) -> Found:
        return self._loop.run_until_complete(self._flood(url, lines))

    async def _round_trips(self, url: str, count: int) -> Found:
        client = await self._connect(url)
        times = []
        for number in range(WARM_UP + count):
            start = time.perf_counter()
            await finish(client, client.execute(CODE))
            if number >= WARM_UP:
                times.append(time.perf_counter() - start)
        return summary(times)

    async def _flood(self, url: str, lines: int) -> Found:
        client = await self._connect(url)
        found: Found = {}
        await finish(client, client.execute(CODE))
        with clock(found):
            text = await finish(client, client.execute(flushed(lines)))
        if text.count("\n") != lines:
            raise ValueError(f"{text.count(chr(10))} of {lines} lines came")
        return found

    async def _connect(self, url: str) -> AsyncKernelClient:
        """A client of the kernel, which is started for the first one."""
        if self._client is None:
            options = {"kernel_url": url.rstrip("/"), "kernel_name": "python3"}
            chosen = {"provisioner_name": "jupyter-kernel-provisioner-proxy", "config": options}
            install({"argv": [], "metadata": {"kernel_provisioner": chosen}})
            manager = AsyncKernelManager(kernel_name=NAME)
            await manager.start_kernel(cwd=str(Path.cwd()))
            self._client = manager.client()
            self._client.start_channels()
            await self._client.wait_for_ready(timeout=PATIENCE)
        return self._client


async def finish(client: AsyncKernelClient, msg_id: str) -> str:
    """Wait until both reply and idle are here; the text that came meanwhile."""
    text = []
    while (await client.get_shell_msg(timeout=LOST))["parent_header"].get("msg_id") != msg_id:
        pass
    while not is_idle(msg := await client.get_iopub_msg(timeout=LOST), msg_id):
        if msg["header"]["msg_type"] == "stream":
            text.append(msg["content"]["text"])
    return "".join(text)
