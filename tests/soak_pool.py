"""Use a pool of kernels from many threads while its kernels are killed at random.

A script, and part of a test::

    python tests/soak_pool.py                       # 2000 checkouts, 8 threads
    python tests/soak_pool.py --reset restart --checkouts 500 --seed 7

No caller may hang or get a dead kernel, and no kernel may be left.  A caller sees at once if its
kernel works, and whether the kernel has executed the setup code.  If it does not work, it must have
been killed after its health check: the killer writes down when it has killed which kernel.  Exit
status 1 if anything is not as promised.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from gateway_blocking import KernelPool, run_kernel
from gateway_blocking.errors import GatewayError
from gateway_blocking.execution import Execution
from gateway_blocking.local import LocalGateway
from gateway_blocking.pool_model import PoolStats, Reset
from gateway_blocking.timeouts import POOL_CHECK_TIMEOUT
from support.servers import kernels_of

PATIENCE = 120.0  # seconds for one checkout with its use, kills or not
SETUP = "import os\nready = os.getpid()"
USE = "assert ready == os.getpid()\nready"


@dataclass
class Outcome:
    """Results of the callers."""

    checkouts: int = 0
    worked: int = 0
    died_in_use: int = 0
    kills: int = 0
    seconds: float = 0.0
    start_seconds: float = 0.0
    warm_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    longest: float = 0.0
    violations: list[str] = field(default_factory=list)
    stats: PoolStats = field(default_factory=PoolStats)

    def __str__(self) -> str:
        most = quantiles(self.waits, n=10)[-1] if len(self.waits) > 1 else 0.0
        ratio = self.start_seconds / self.warm_seconds
        return (
            f"{self.checkouts} checkouts in {self.seconds:.0f} s: {self.worked} worked,"
            f" {self.died_in_use} kernels were killed in use; {self.kills} kills\n"
            f"warm: {self.warm_seconds * 1e3:.1f} ms, a start: {self.start_seconds * 1e3:.0f} ms,"
            f" {ratio:.0f} times as much\n"
            f"waits of all threads: median {median(self.waits) * 1e3:.0f} ms, 90 % within"
            f" {most * 1e3:.0f} ms; longest checkout with its use {self.longest:.1f} s\n"
            f"{self.stats}\n{len(self.violations)} violations {self.violations[:5]}"
        )


class Kill(NamedTuple):
    """One kernel that was killed."""

    kernel_id: str
    pid: int
    when: float


class Killer:
    """A thread that kills a random kernel of a gateway again and again."""

    def __init__(self, gateway: LocalGateway, pause: float, chance: random.Random) -> None:
        self._gateway, self._pause, self._chance = gateway, pause, chance
        self.killed: list[Kill] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._chance.uniform(0.2, 1.8) * self._pause):
            if processes := kernel_processes(self._gateway):
                pid, kernel_id = self._chance.choice(sorted(processes.items()))
                try:
                    os.kill(pid, signal.SIGKILL)  # a child of the gateway, which has not reaped it
                except ProcessLookupError:
                    continue
                self.killed.append(Kill(kernel_id, pid, time.monotonic()))


def kernel_processes(gateway: LocalGateway) -> dict[int, str]:
    """Return the processes of the kernels of a gateway, and the IDs of these kernels."""
    found = {}
    for task in Path(f"/proc/{gateway.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if kernel := re.search(rb"kernel-([0-9a-f-]{36})\.json", command):
                found[int(pid)] = kernel[1].decode()
    return found


class Callers:
    """The threads that use the pool."""

    def __init__(
        self, pool: KernelPool, killer: Killer, checkouts: int, least_kills: int, outcome: Outcome
    ) -> None:
        self._pool, self._killer, self._outcome = pool, killer, outcome
        self._least_kills = least_kills
        self._numbers = iter(range(checkouts))
        self._lock = threading.Lock()

    def run(self, threads: int) -> None:
        """Use the pool until all checkouts are done, and enough kernels were killed."""
        callers = [
            threading.Thread(target=self._run, name=f"caller-{number}", daemon=True)
            for number in range(threads)
        ]
        for caller in callers:
            caller.start()
        last, seen = time.monotonic(), -1
        while any(caller.is_alive() for caller in callers):
            callers[0].join(1.0)
            callers = [caller for caller in callers if caller.is_alive()] or callers[:1]
            if self._outcome.checkouts != seen:
                last, seen = time.monotonic(), self._outcome.checkouts
            if time.monotonic() - last > PATIENCE:
                self._outcome.violations.append(f"callers hang: {self._pool.stats()}")
                return

    def _run(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None and len(self._killer.killed) >= self._least_kills:
                return
            begun = time.monotonic()
            try:
                self._use(begun)
            except Exception as error:
                self._violate(f"{type(error).__name__}: {error}")
            with self._lock:
                self._outcome.checkouts += 1
                self._outcome.longest = max(self._outcome.longest, time.monotonic() - begun)

    def _use(self, begun: float) -> None:
        with self._pool.kernel(timeout=PATIENCE) as kc:
            got = time.monotonic()
            done = kc.run(USE, timeout=PATIENCE / 2)
        with self._lock:
            self._outcome.waits.append(got - begun)
            if done.ok:
                self._outcome.worked += 1
            else:
                self._judge(done, got)

    def _judge(self, done: Execution, got: float) -> None:
        """See whether the kernel was killed after its health check had begun."""
        self._outcome.died_in_use += 1
        kills = [each.when for each in self._killer.killed if each.kernel_id == done.kernel_id]
        if done.status != "died":
            self._outcome.violations.append(f"{done.status}: {done.detail or done.text()}")
        elif not kills or kills[-1] < got - POOL_CHECK_TIMEOUT:
            self._outcome.violations.append(f"a caller got a dead kernel: {done.detail}")

    def _violate(self, text: str) -> None:
        with self._lock:
            self._outcome.violations.append(text)


def soak(
    gateway: LocalGateway,
    *,
    checkouts: int,
    kill_pause: float,
    seed: int,
    threads: int = 8,
    reset: Reset | None = None,
    least_kills: int = 0,
) -> Outcome:
    """Use a pool of kernels on this gateway, and return what came of it."""
    outcome, options = Outcome(), gateway.options()
    begun = time.monotonic()
    with run_kernel(**options):
        outcome.start_seconds = time.monotonic() - begun
    with KernelPool(1, 1, reset=None, **options) as pool:
        pool.wait()
        outcome.warm_seconds = median(warm_checkout(pool) for _ in range(20))
    begun = time.monotonic()
    with KernelPool(2, 4, setup=SETUP, reset=reset, **options) as pool:
        with Killer(gateway, kill_pause, random.Random(seed)) as killer:
            Callers(pool, killer, checkouts, least_kills, outcome).run(threads)
            outcome.kills = len(killer.killed)
        outcome.seconds = time.monotonic() - begun
        pool.close(timeout=60)
        outcome.stats = pool.stats()
    try:
        left = kernels_of(gateway)
    except GatewayError as error:
        left = [str(error)]
    if left:
        outcome.violations.append(f"kernels are left: {left}")
    return outcome


def warm_checkout(pool: KernelPool) -> float:
    """Return the seconds in which a caller gets a kernel that is idle."""
    while not pool.stats().idle:
        time.sleep(0.001)
    begun = time.perf_counter()
    with pool.kernel():
        return time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkouts", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--kill-pause", type=float, default=2.0)
    parser.add_argument("--reset", choices=["restart", "new", "none"], default="none")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, reset {options.reset}", flush=True)
    with LocalGateway() as gateway:
        outcome = soak(
            gateway,
            checkouts=options.checkouts,
            kill_pause=options.kill_pause,
            seed=options.seed,
            threads=options.threads,
            reset=None if options.reset == "none" else options.reset,
        )
    print(outcome)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
