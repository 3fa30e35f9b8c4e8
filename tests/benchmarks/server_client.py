"""jupyter_server's client of gateways, which is asynchronous."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, ClassVar

import peers
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelClient, GatewayKernelManager
from peers import PATIENCE, Found, Peer, clock, is_idle, run_notebook


class ServerClient(Peer):
    """``GatewayKernelClient`` in an event loop, as its users have it."""

    cannot: ClassVar[dict[str, str]] = {
        "upload": "it sends no buffers, which become null",
        "pour comm_msg": "a message with buffers ends its reader",
        "threads": "it belongs to one event loop",
    }

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def _run(self, url: str, work: Coroutine[Any, Any, Found]) -> Found:
        _configure(url)
        return self._loop.run_until_complete(work)

    def round_trips(self, url: str, kernel_id: str, count: int) -> Found:
        return self._run(url, _round_trips(kernel_id, count))

    def start(self, url: str) -> Found:
        return self._run(url, _start())

    def pour(self, url: str, kind: str, count: int, size: int, default: bool = False) -> Found:
        return self._run(url, _pour(peers.scenario(kind, count, size), count, size))

    def flood(self, url: str, kernel_id: str, lines: int) -> Found:
        return self._run(url, _flood(kernel_id, lines))

    def idle(self, url: str, kernel_id: str, seconds: float) -> Found:
        return self._run(url, _idle(kernel_id, seconds))

    def memory(self, url: str, count: int) -> Found:
        _configure(url)
        return peers.grown(lambda: self._loop.run_until_complete(_open_one()), count)

    def crowd(self, url: str, kernel_ids: list[str], count: int) -> Found:
        ids = [kernel_ids[number % len(kernel_ids)] for number in range(count)]
        return self._run(url, _crowd(ids))

    def notebook(self, url: str, cells: int) -> Found:
        _configure(url)
        return run_notebook("jupyter_server.gateway.managers.GatewayKernelManager", cells)


def _configure(url: str) -> None:
    """Tell it the gateway; it knows one only in a process."""
    GatewayClient.clear_instance()
    GatewayClient.instance(url=url)


async def _connect(kernel_id: str) -> Any:
    client: Any = GatewayKernelClient(kernel_id)
    await client.start_channels()
    return client


async def _finish(client: Any, msg_id: str) -> str:
    """Wait until both reply and idle are here; the text that came meanwhile."""
    text = []
    while True:
        msg = await client.get_shell_msg(timeout=peers.LOST)
        if msg["parent_header"].get("msg_id") == msg_id:
            break
    while not is_idle(msg := await client.get_iopub_msg(timeout=peers.LOST), msg_id):
        if msg["header"]["msg_type"] == "stream":
            text.append(msg["content"]["text"])
    return "".join(text)


async def _round_trips(kernel_id: str, count: int) -> Found:
    client, times = await _connect(kernel_id), []
    try:
        for number in range(peers.WARM_UP + count):
            start = time.perf_counter()
            await _finish(client, client.execute(peers.CODE))
            if number >= peers.WARM_UP:
                times.append(time.perf_counter() - start)
    finally:
        client.stop_channels()
    return peers.summary(times)


async def _start() -> Found:
    found: Found = {}
    with clock(found):
        km: Any = GatewayKernelManager()
        await km.start_kernel()
        kc = km.client()
        await kc.start_channels()
        kc.kernel_info()
        await kc.get_shell_msg(timeout=PATIENCE)
    kc.stop_channels()
    await km.shutdown_kernel(now=True)
    return found


async def _pour(name: str, count: int, size: int) -> Found:
    found: Found = {}
    client = await _connect(name)
    try:
        with clock(found, cpu="cpu"):
            client.execute("pour")
            for _ in range(count):
                msg = await client.get_iopub_msg(timeout=PATIENCE)
        peers.check_poured(msg, size)
    finally:
        client.stop_channels()
    return {**found, "cpu each": found["cpu"] / count}


async def _flood(kernel_id: str, lines: int) -> Found:
    found: Found = {}
    client = await _connect(kernel_id)
    try:
        await _finish(client, client.execute(peers.CODE))
        with clock(found):
            text = await _finish(client, client.execute(peers.flushed(lines)))
    finally:
        client.stop_channels()
    if text.count("\n") != lines:
        raise ValueError(f"{text.count(chr(10))} of {lines} lines came")
    return found


async def _idle(kernel_id: str, seconds: float) -> Found:
    found: Found = {}
    client = await _connect(kernel_id)
    try:
        await _finish(client, client.execute(peers.CODE))
        with clock(found, cpu="cpu"):
            await _finish(client, client.execute(f"import time; time.sleep({seconds})"))
    finally:
        client.stop_channels()
    return {"share": found["cpu"] / found["seconds"]}


async def _open_one() -> Any:
    client = await _connect(peers.scenario("stream", 1))
    client.execute("pour")
    await client.get_iopub_msg(timeout=PATIENCE)
    return client


async def _crowd(kernel_ids: list[str]) -> Found:
    found: Found = {}
    with clock(found):
        with clock(found, "connect"):
            clients = [await _connect(kernel_id) for kernel_id in kernel_ids]
        with clock(found, "execute"):
            sent = [(client, client.execute(peers.CODE)) for client in clients]
            for client, msg_id in sent:
                await _finish(client, msg_id)
        with clock(found, "close"):
            for client in clients:
                client.stop_channels()
    return found
