"""What one process can hold: ``python tests/benchmarks/scale.py [CLIENTS ...]``.

Opens clients at the replay server, in steps, each of a kernel of its own, and shows after each step
what they take, what they cost while nothing happens, and how long it takes to use all of them.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path

from peers import LINE, scenario
from running import Stage

from gateway_blocking import BlockingGatewayKernelClient, GatewayClient
from gateway_blocking.rest import GatewayREST

STEPS = (100, 250, 500, 1000)
IDLE = 20.0  # seconds: two pings, and two looks for each kernel
PATIENCE = 120.0


def main(steps: tuple[int, ...]) -> None:
    """Grow step by step."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Stage() as stage:
        gateway = GatewayClient(url=stage.arguments(("replay",))["url"])
        clients: list[BlockingGatewayKernelClient] = []
        say("clients", "threads", "files", "MB", "KB each", "connect", "idle", "execute on all")
        with GatewayREST(gateway) as rest:
            base = resident()
            for step in steps:
                begun = time.perf_counter()
                count = step - len(clients)
                clients += [open_one(gateway, rest) for _ in range(count)]
                connected = (time.perf_counter() - begun) / count
                used = resident() - base
                say(
                    str(step),
                    str(threading.active_count()),
                    str(len(list(Path("/proc/self/fd").iterdir()))),
                    f"{used / 1e6:.0f}",
                    f"{used / step / 1e3:.0f}",
                    f"{connected * 1e3:.1f} ms",
                    f"{idle():.1%}",
                    f"{use(clients) * 1e3:.0f} ms",
                )
            begun = time.perf_counter()
            for kc in clients:
                kc.stop_channels()
            sys.stdout.write(f"\nAll closed in {time.perf_counter() - begun:.1f} s.\n")


def open_one(gateway: GatewayClient, rest: GatewayREST) -> BlockingGatewayKernelClient:
    """A client that has sent and received something."""
    name = scenario("stream", 1, len(LINE))
    kc = BlockingGatewayKernelClient(kernel_id=name, gateway=gateway, rest=rest)
    kc.start_channels()
    kc.execute("pour")
    kc.get_iopub_msg(timeout=PATIENCE)
    return kc


def idle() -> float:
    """The share of a processor that all of them take while nothing happens."""
    begun = time.process_time()
    time.sleep(IDLE)
    return (time.process_time() - begun) / IDLE


def use(clients: list[BlockingGatewayKernelClient]) -> float:
    """Seconds to execute on all of them and hear from each."""
    begun = time.perf_counter()
    for kc in clients:
        kc.execute("pour")
    for kc in clients:
        kc.get_iopub_msg(timeout=PATIENCE)
    return time.perf_counter() - begun


def resident() -> int:
    """Bytes of memory that this process has."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) * 1024


def say(*cells: str) -> None:
    """A row of the table."""
    sys.stdout.write("".join(f"{cell:>15}" for cell in cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(tuple(int(step) for step in sys.argv[1:]) or STEPS)
