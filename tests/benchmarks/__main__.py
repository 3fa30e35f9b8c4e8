"""How fast it is, side by side with others in one run: ``python tests/benchmarks``.

Needs the extra ``bench``.  Every peer has a process of its own.  They do each work in turn, in an
order that changes from round to round, and the first round does not count.  Shown are medians of
the rounds, and of the ratios within a round, which are the point: the times themselves depend on
the machine and on who else uses it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import report
from peers import TITLES
from report import Result
from running import Stage, Worker, import_time
from works import Work, works

ROUNDS = 7
IMPORTS = 15
ROOT = Path(__file__).resolve().parents[2]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    names = [work.name for work in works()]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="besides the first; %(default)s")
    parser.add_argument("--quick", action="store_true", help="two rounds of smaller works")
    parser.add_argument(
        "--write",
        nargs="?",
        type=Path,
        const=ROOT,
        metavar="FOLDER",
        help="write docs/topics/performance.rst and .svg and the table of README.rst there",
    )
    return parser.parse_args(arguments)


def tell(text: str) -> None:
    """How far it is, for who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Run:
    """All works, one after the other."""

    def __init__(self, stage: Stage, rounds: int) -> None:
        self._stage = stage
        self._rounds = rounds
        self._workers = {peer: Worker(peer) for peer in TITLES}

    def stop(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.stop()

    def measure(self, work: Work) -> Result:
        """Some rounds of a work; who cannot do it, or fails twice, is not asked again."""
        result = Result(work)
        arguments = {**self._stage.arguments(work.needs), **work.arguments}
        count = IMPORTS if work.call == "import" else min(work.rounds, self._rounds)
        for number in range(count + 1):
            tell(f"{work.name}: {f'round {number} of {count}' if number else 'warming up'}")
            asked = [peer for peer in work.peers if peer not in result.cannot]
            shift = number % max(len(asked), 1)
            found = self._round(work, asked[shift:] + asked[:shift], arguments, result)
            if number:
                result.rounds.append(found)
        return result

    def _round(
        self, work: Work, peers: list[str], arguments: dict[str, Any], result: Result
    ) -> dict[str, dict[str, float]]:
        found = {}
        for peer in peers:
            answer = self._ask(peer, work, arguments)
            if "found" in answer:
                found[peer] = answer["found"]
            else:
                reason = answer.get("cannot") or answer["failed"]
                tell(answer.get("trace", f"  {TITLES[peer]}: {reason}"))
                if "cannot" in answer or peer in result.failed:
                    result.cannot[peer] = reason
                result.failed[peer] = reason
                self._workers[peer].stop()  # who knows what it left behind
        return found

    def _ask(self, peer: str, work: Work, arguments: dict[str, Any]) -> dict[str, Any]:
        if work.call == "import":
            return import_time(peer)
        if not work.fresh:
            return self._workers[peer].do(work.call, arguments)
        worker = Worker(peer)
        try:
            return worker.do(work.call, arguments)
        finally:
            worker.stop()


def measure(chosen: list[Work], rounds: int) -> tuple[list[Result], bool]:
    """What was found, and whether that is all: a Ctrl-C leaves what was done before it."""
    results: list[Result] = []
    with Stage() as stage:
        run = Run(stage, rounds)
        try:
            for work in chosen:
                results.append(run.measure(work))
                tell(report.brief(results[-1]))
        except KeyboardInterrupt:
            return results, False
        finally:
            run.stop()
    return results, True


def main() -> int:
    """Measure, and show it."""
    asked = options()
    chosen = [work for work in works(asked.quick) if not asked.only or work.name in asked.only]
    results, whole = measure(chosen, min(asked.rounds, 2) if asked.quick else asked.rounds)
    if results:
        sys.stdout.write(report.text(results))
    if asked.write and whole:
        report.write(results, asked.write)
    return 0 if whole else 130


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
