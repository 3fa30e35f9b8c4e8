"""What every peer can be asked to do; each does it in its own way, in a process of its own.

The modules are imported one by one, by the worker of their peer: so a process holds only what it
measures.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, cast

Found = dict[str, float]
"""What was measured, by name."""

PATIENCE = 60.0  # seconds for whatever is waited for
LOST = 20.0  # seconds without a message, of a kernel that has something to say
WARM_UP = 5  # round trips
CODE = "pass"
LINE = "line of output\n"

MODULES = {
    "ours": "ours:Ours",
    "bare": "floor:BareLoop",
    "least": "floor:LeastPython",
    "zmq": "local_zmq:LocalZMQ",
    "bridge": "bridged:Bridge",
    "proxy": "provisioner:ProvisionerProxy",
    "jkc": "kernel_client:KernelClient",
    "jserver": "server_client:ServerClient",
}
TITLES = {
    "ours": "gateway_blocking",
    "bare": "bare loop",
    "least": "least Python",
    "zmq": "local ZMQ",
    "bridge": "bridge",
    "proxy": "provisioner proxy",
    "jkc": "jupyter_kernel_client",
    "jserver": "jupyter_server",
}


class Peer:
    """A client of kernels, made to do the works of ``works.py``.

    Times are in seconds.  What a peer cannot do stands with the reason in ``cannot``.
    """

    cannot: ClassVar[dict[str, str]] = {}

    def round_trips(self, url: str, kernel_id: str, count: int) -> Found:
        """Execute ``pass`` and wait until both reply and idle are here, again and again."""
        raise NotImplementedError

    def start(self, url: str) -> Found:
        """From the start of a kernel to the first reply."""
        raise NotImplementedError

    def pour(self, url: str, kind: str, count: int, size: int, default: bool = False) -> Found:
        """Take all messages of a scenario of the replay server."""
        raise NotImplementedError

    def upload(self, url: str, size: int) -> Found:
        """Send a buffer, until the server says that it has read it."""
        raise NotImplementedError

    def flood(self, url: str, kernel_id: str, lines: int) -> Found:
        """Take the output of a cell that flushes each line."""
        raise NotImplementedError

    def idle(self, url: str, kernel_id: str, seconds: float) -> Found:
        """The share of a core that is used up while a cell sleeps."""
        raise NotImplementedError

    def memory(self, url: str, count: int) -> Found:
        """Memory and threads of each of many open clients."""
        raise NotImplementedError

    def resident(self, url: str, kernel_id: str) -> Found:
        """Memory of a process between the client and the gateway."""
        raise NotImplementedError

    def crowd(self, url: str, kernel_ids: list[str], count: int) -> Found:
        """Connect many clients, execute on all, close all."""
        raise NotImplementedError

    def threads(self, url: str, kernel_id: str, threads: int, each: int) -> Found:
        """Execute on one client from several threads."""
        raise NotImplementedError

    def notebook(self, url: str, cells: int) -> Found:
        """A notebook under nbclient, with the start and the end of its kernel."""
        raise NotImplementedError


def load(name: str) -> Peer:
    """The peer of that name; this imports it."""
    module, kind = MODULES[name].split(":")
    return cast("Peer", getattr(import_module(module), kind)())


def scenario(kind: str, count: int, size: int = len(LINE), *, default: bool = False) -> str:
    """The name of a scenario, which stands where a kernel's id does."""
    return f"{kind}-{count}-{size}" + ("-default" if default else "")


# --- what they have in common ---------------------------------------------------------------------


@contextmanager
def clock(found: Found, name: str = "seconds", cpu: str = "") -> Iterator[None]:
    """Write the time of the ``with`` into `found`, and its CPU time where that is named."""
    cpu_start, start = time.process_time(), time.perf_counter()
    yield
    found[name] = time.perf_counter() - start
    if cpu:
        found[cpu] = time.process_time() - cpu_start


def summary(times: list[float]) -> Found:
    """Median and 99th percentile."""
    median, p99 = statistics.median(times), sorted(times)[int(len(times) * 0.99)]
    return {"median": median, "p99": p99, "tail": p99 / median}


def flushed(lines: int) -> str:
    """A cell that flushes each of its lines."""
    return f"for i in range({lines}): print(i, flush=True)"


def is_idle(msg: dict[str, Any], msg_id: str) -> bool:
    """Whether the kernel is done with a request."""
    return bool(
        msg["header"]["msg_type"] == "status"
        and msg["parent_header"].get("msg_id") == msg_id
        and msg["content"]["execution_state"] == "idle"
    )


def status(name: str, process: int | str = "self") -> int:
    """A number of this process or another one, as Linux tells it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def cpu_time(process: int) -> float:
    """The CPU time of another process, as Linux tells it: seconds with nine digits."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def grown(open_one: Callable[[], object], count: int) -> Found:
    """Memory and threads of each of many clients, besides what the first one costs."""
    clients = [open_one()]
    gc.collect()
    memory, threads = status("VmRSS"), status("Threads")
    clients += [open_one() for _ in range(count)]
    return {
        "bytes": (status("VmRSS") - memory) * 1024 / count,
        "threads": (status("Threads") - threads) / count,
    }


def in_threads(work: Callable[[], None], count: int) -> None:
    """Run the work in several threads, and pass on what went wrong in one."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError("a thread did not end")


def check_poured(msg: dict[str, Any], size: int) -> None:
    """Whether the last message of a scenario came as it was sent."""
    text = msg["content"].get("text")
    there = len(msg["buffers"][0]) if text is None else len(text)
    if there != size:
        raise ValueError(f"a message of {size} bytes came with {there}")


def first_reply(make_manager: Callable[[], Any]) -> Found:
    """From the start of a kernel to its first reply; by the same calls, local or not."""
    found: Found = {}
    with clock(found):
        km = make_manager()
        km.start_kernel()
        kc = km.client()
        kc.start_channels()
        kc.kernel_info(reply=True, timeout=PATIENCE)
    kc.stop_channels()
    km.shutdown_kernel(now=True)
    km.cleanup_resources()
    return found


def run_notebook(manager: str, cells: int, kernel_name: str = "python3") -> Found:
    """A notebook of trivial cells under nbclient."""
    import nbformat
    from nbclient import NotebookClient

    sources = [nbformat.v4.new_code_cell(f"print({number})") for number in range(cells)]
    nb = nbformat.v4.new_notebook(cells=sources)
    found: Found = {}
    moments: list[float] = []

    def note(**_: object) -> None:
        moments.append(time.perf_counter())

    client = NotebookClient(
        nb,
        kernel_name=kernel_name,
        kernel_manager_class=manager,
        on_cell_start=note,
        on_cell_executed=note,
    )
    with clock(found):
        client.execute()
    if "".join(output.text for output in nb.cells[-1].outputs) != f"{cells - 1}\n":
        raise ValueError("the last cell has not the output that it should")
    return {**found, "cells": moments[-1] - moments[0]}


# --- clients with jupyter_client's blocking API ---------------------------------------------------


class BlockingPeer(Peer, ABC):
    """Works on clients that all have the same calls."""

    @abstractmethod
    def connect(self, url: str, kernel_id: str) -> Any:
        """A client whose channels run."""

    def disconnect(self, client: Any) -> None:
        """Stop its channels."""
        client.stop_channels()

    @contextmanager
    def client(self, url: str, kernel_id: str) -> Iterator[Any]:
        """A client for some time."""
        client = self.connect(url, kernel_id)
        try:
            yield client
        finally:
            self.disconnect(client)

    def round_trips(self, url: str, kernel_id: str, count: int) -> Found:
        times = []
        with self.client(url, kernel_id) as client:
            for number in range(WARM_UP + count):
                start = time.perf_counter()
                finish(client, client.execute(CODE))
                if number >= WARM_UP:
                    times.append(time.perf_counter() - start)
        return summary(times)

    def pour(self, url: str, kind: str, count: int, size: int, default: bool = False) -> Found:
        found: Found = {}
        with self.client(url, scenario(kind, count, size, default=default)) as client:
            with clock(found, cpu="cpu"):
                client.execute("pour")
                for _ in range(count):
                    msg = client.get_iopub_msg(timeout=PATIENCE)
            check_poured(msg, size)
        return {**found, "cpu each": found["cpu"] / count}

    def upload(self, url: str, size: int) -> Found:
        found: Found = {}
        buffer = bytes(size)
        with self.client(url, scenario("stream", 1)) as client:
            client.execute("warm up")
            client.get_iopub_msg(timeout=PATIENCE)
            with clock(found):
                msg = client.session.msg("comm_msg", {"comm_id": "replay", "data": {}})
                msg["buffers"] = [buffer]
                client.shell_channel.send(msg)
                client.get_iopub_msg(timeout=PATIENCE)
        return found

    def flood(self, url: str, kernel_id: str, lines: int) -> Found:
        found: Found = {}
        with self.client(url, kernel_id) as client:
            finish(client, client.execute(CODE))
            with clock(found):
                text = finish(client, client.execute(flushed(lines)))
        if text.count("\n") != lines:
            raise ValueError(f"{text.count(chr(10))} of {lines} lines came")
        return found

    def idle(self, url: str, kernel_id: str, seconds: float) -> Found:
        found: Found = {}
        with self.client(url, kernel_id) as client:
            finish(client, client.execute(CODE))
            with clock(found, cpu="cpu"):
                finish(client, client.execute(f"import time; time.sleep({seconds})"))
        return {"share": found["cpu"] / found["seconds"]}

    def memory(self, url: str, count: int) -> Found:
        def open_one() -> Any:
            client = self.connect(url, scenario("stream", 1))
            client.execute("pour")
            client.get_iopub_msg(timeout=PATIENCE)
            return client

        return grown(open_one, count)

    def crowd(self, url: str, kernel_ids: list[str], count: int) -> Found:
        found: Found = {}
        with clock(found):
            with clock(found, "connect"):
                ids = [kernel_ids[number % len(kernel_ids)] for number in range(count)]
                clients = [self.connect(url, kernel_id) for kernel_id in ids]
            with clock(found, "execute"):
                sent = [(client, client.execute(CODE)) for client in clients]
                for client, msg_id in sent:
                    finish(client, msg_id)
            with clock(found, "close"):
                for client in clients:
                    self.disconnect(client)
        return found

    def threads(self, url: str, kernel_id: str, threads: int, each: int) -> Found:
        found: Found = {}
        with self.client(url, kernel_id) as client:

            def work() -> None:
                for _ in range(each):
                    client.execute_interactive(CODE, output_hook=lambda msg: None, timeout=PATIENCE)

            work()
            with clock(found):
                in_threads(work, threads)
        return found


def finish(client: Any, msg_id: str) -> str:
    """Wait until both reply and idle are here; the text that came meanwhile."""
    text = []
    while client.get_shell_msg(timeout=LOST)["parent_header"].get("msg_id") != msg_id:
        pass
    while not is_idle(msg := client.get_iopub_msg(timeout=LOST), msg_id):
        if msg["header"]["msg_type"] == "stream":
            text.append(msg["content"]["text"])
    return "".join(text)
