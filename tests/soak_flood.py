"""Interrupt code that prints without end, round after round, and see what a round costs.

A script, not a test of the suite::

    python tests/soak_flood.py                       # 50 rounds with timeout=2
    python tests/soak_flood.py --rounds 10 --timeout 0.5

In each round, the call must be back within timeout and settle, keep a bounded output, and leave a
kernel that answers.  It may say that the code has not ended: a gateway can hold more short lines
than the client reads in the time to settle.  The memory of this process may not grow from the
first rounds to the last by more than the messages that no caller takes, 64 MiB.  Exit status 1 if
anything is not as promised.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gateway_blocking import BlockingGatewayKernelClient, run_kernel
from gateway_blocking.local import LocalGateway

FLOODS = {
    "long lines": "while True: print('x' * 100)",
    "short lines": "n = 0\nwhile True: n += 1; print(n, flush=True)",
}
MAX_OUTPUT = 10_000
SLACK = 1.0  # seconds for the machine, beyond timeout and settle
GROWTH = 100.0  # MB, from the first rounds to the last


def memory() -> float:
    """The MB that this process uses now, as the system counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


class Round(NamedTuple):
    """What happened in a round."""

    seconds: float
    has_ended: bool
    memory: float
    faults: list[str]


def one_round(kc: BlockingGatewayKernelClient, code: str, timeout: float, settle: float) -> Round:
    """Interrupt the code once, and use the kernel."""
    begun = time.perf_counter()
    done = kc.run(code, timeout=timeout, settle=settle, max_output=MAX_OUTPUT)
    seconds = time.perf_counter() - begun
    found = []
    if seconds > timeout + settle + SLACK:
        found.append(f"back after {seconds:.1f} s")
    if done.status != "timeout":
        found.append(f"{done.status}: {done.detail}")
    if len(done.stdout) > MAX_OUTPUT * 1.5:
        found.append(f"{len(done.stdout)} characters were kept")
    if kc.run("1 + 1", timeout=60).text() != "2":
        found.append("the kernel is not usable")
    return Round(seconds, not done.running, memory(), found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--timeout", type=float, default=2.0)
    parser.add_argument("--settle", type=float, default=2.0)
    options = parser.parse_args(arguments)
    violations = []
    with LocalGateway() as gateway:
        for name, code in FLOODS.items():
            with run_kernel(**gateway.options()) as kc:
                rounds = [
                    one_round(kc, code, options.timeout, options.settle)
                    for _ in range(options.rounds)
                ]
            violations += [f"{name}: {fault}" for each in rounds for fault in each.faults]
            times, sizes = [each.seconds for each in rounds], [each.memory for each in rounds]
            few = max(options.rounds // 5, 1)
            if (grown := median(sizes[-few:]) - median(sizes[:few])) > GROWTH:
                violations.append(f"{name}: the memory grew by {grown:.0f} MB")
            print(
                f"{name}: {options.rounds} rounds, back after {median(times):.2f} s (median),"
                f" {max(times):.2f} s at most; the code had ended in"
                f" {sum(each.has_ended for each in rounds)}; memory {sizes[0]:.0f} MB after the"
                f" first round, {sizes[-1]:.0f} MB after the last, {max(sizes):.0f} MB at most",
                flush=True,
            )
    print(f"{len(violations)} violations {violations[:5]}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
