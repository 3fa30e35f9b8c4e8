"""How fast it is, side by side with others in one run: ``python tests/benchmarks/core.py``.

Needs the extra ``bench``.  Prints medians of interleaved rounds and the ratios, which are the
point: the times themselves depend on the machine and on who else uses it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from jupyter_client.manager import start_new_kernel as start_local_kernel
from jupyter_kernel_client import KernelWebSocketClient
from nbclient import NotebookClient

from gateway_blocking import BlockingGatewayKernelClient, start_new_kernel
from gateway_blocking.local import LocalGateway

ROUNDS = 5


def say(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def interleave(works: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median of what each work returns, each run once in every round."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(times) for name, times in found.items()}


# --- against a real kernel ----------------------------------------------------------------------


def round_trip(kc, count: int = 60) -> float:
    """Median seconds of ``execute("pass")`` until both reply and idle are here."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        msg_id = kc.execute("pass")
        while kc.get_shell_msg(timeout=10)["parent_header"].get("msg_id") != msg_id:
            pass
        while True:
            msg = kc.get_iopub_msg(timeout=10)
            if (
                msg["parent_header"].get("msg_id") == msg_id
                and msg["msg_type"] == "status"
                and msg["content"]["execution_state"] == "idle"
            ):
                break
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def flood(kc, lines: int = 3000) -> float:
    """Seconds until all of many flushed lines are here."""
    start = time.perf_counter()
    kc.execute_interactive(
        f"for i in range({lines}): print(i, flush=True)", output_hook=lambda msg: None, timeout=60
    )
    return time.perf_counter() - start


def idle_cpu(kc, seconds: float = 3) -> float:
    """CPU seconds per second of this process while a cell sleeps."""
    start = time.process_time()
    kc.execute_interactive(f"import time; time.sleep({seconds})", timeout=60)
    return (time.process_time() - start) / seconds


def against_a_real_kernel() -> None:
    """Round trips, a flood, and CPU while idle."""
    with LocalGateway() as gateway:
        km, kc = start_new_kernel(**gateway.options())
        local_km, local_kc = start_local_kernel(kernel_name="python3")
        try:
            found = interleave(
                {"ours": lambda: round_trip(kc), "local": lambda: round_trip(local_kc)}
            )
            ratio = found["ours"] / found["local"]
            say(
                f"round trip: {found['ours'] * 1e3:.1f} ms; local ZMQ {found['local'] * 1e3:.1f} ms"
            )
            say(f"  ratio to local ZMQ: {ratio:.2f} (wanted: at most 1.3)")
            found = interleave({"ours": lambda: flood(kc), "local": lambda: flood(local_kc)}, 3)
            say(f"3,000 flushed lines: {found['ours']:.2f} s; local ZMQ {found['local']:.2f} s")
            say(f"CPU while a cell sleeps: {idle_cpu(kc):.2%} (wanted: under 1 %)")
        finally:
            kc.stop_channels()
            km.shutdown_kernel(now=True)
            km.cleanup_resources()
            local_kc.stop_channels()
            local_km.shutdown_kernel(now=True)


# --- notebooks ----------------------------------------------------------------------------------


def notebook(manager: str, cells: int = 100) -> float:
    """Seconds for a notebook of trivial cells, its kernel's start and end included."""
    sources = [nbformat.v4.new_code_cell(f"print({number})") for number in range(cells)]
    nb = nbformat.v4.new_notebook(cells=sources)
    start = time.perf_counter()
    NotebookClient(nb, kernel_name="python3", kernel_manager_class=manager).execute()
    elapsed = time.perf_counter() - start
    assert "".join(output.text for output in nb.cells[-1].outputs) == f"{cells - 1}\n"
    return elapsed


def with_nbclient() -> None:
    """The same notebook on both, by nbclient."""
    with LocalGateway() as gateway:
        os.environ["JUPYTER_GATEWAY_URL"] = gateway.url
        os.environ["JUPYTER_GATEWAY_AUTH_TOKEN"] = gateway.token
        ours = "gateway_blocking.BlockingGatewayKernelManager"
        found = interleave(
            {
                "ours": lambda: notebook(ours),
                "local": lambda: notebook("jupyter_client.manager.AsyncKernelManager"),
            }
        )
    say(f"100 cells under nbclient: {found['ours']:.2f} s; local {found['local']:.2f} s")
    say(f"  ratio to local: {found['ours'] / found['local']:.2f} (wanted: at most 1.2)")


# --- against the replay server ------------------------------------------------------------------


@contextmanager
def replay_server() -> Iterator[str]:
    """The ``host:port`` of a replay server in a process of its own."""
    script = Path(__file__).with_name("replay.py")
    process = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


def pour(kc, count: int) -> float:
    """Seconds from the request until all messages of the scenario were taken."""
    kc.start_channels()
    start = time.perf_counter()
    kc.execute("pour")
    for _ in range(count):
        kc.get_iopub_msg(timeout=120)
    elapsed = time.perf_counter() - start
    kc.stop_channels()
    return elapsed


def against_the_replay_server() -> None:
    """Many small messages, and a large one."""
    with replay_server() as where:

        def ours(name: str) -> BlockingGatewayKernelClient:
            return BlockingGatewayKernelClient(kernel_id=name, url=f"http://{where}")

        def theirs(name: str) -> KernelWebSocketClient:
            return KernelWebSocketClient(f"ws://{where}/api/kernels/{name}/channels")

        for name, count, wanted in (("small", 20_000, 8), ("large", 1, 20)):
            works = {
                "ours": lambda: pour(ours(name), count),  # noqa: B023  (used in this round only)
                "ours, default format": lambda: pour(ours(name + "-default"), count),  # noqa: B023
                "jupyter_kernel_client": lambda: pour(theirs(name), count),  # noqa: B023
            }
            found = interleave(works, 3)
            what = "20,000 small messages" if name == "small" else "16 MB of output in one message"
            say(f"{what}: " + ", ".join(f"{who} {t:.3f} s" for who, t in found.items()))
            ratio = found["jupyter_kernel_client"] / found["ours"]
            say(f"  {ratio:.1f} times faster than jupyter_kernel_client (wanted: {wanted})")


if __name__ == "__main__":
    against_a_real_kernel()
    with_nbclient()
    against_the_replay_server()
