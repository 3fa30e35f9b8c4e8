"""What is measured, in which units, and what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from peers import TITLES

MB = 1 << 20
TIMES = "\N{MULTIPLICATION SIGN}"
ALL = ("ours", "bare", "zmq", "jkc", "jserver")
POURED = ("ours", "least", "bare", "jkc", "jserver")
THEIRS = ("jkc", "jserver")

Rounds = list[dict[str, dict[str, float]]]
"""Of each round, what was found, by the peer's name."""


@dataclass(frozen=True)
class Target:
    """What is wanted of a metric: a ratio to peers, or, without peers, the value itself.

    Parameters
    ----------
    limit : float
        Of the ratio, of the difference or of the value.
    peers : tuple of str
        To compare with; where there are several, the best of them counts.
    faster : bool
        Whether it is to be that many times faster, and not at most that many times slower.
    more : bool
        Whether the limit is that of the difference to the peers, and not of the ratio.
    of : str
        The peer that this is wanted of.
    """

    limit: float
    peers: tuple[str, ...] = ()
    faster: bool = False
    more: bool = False
    of: str = "ours"

    def text(self, unit: str) -> str:
        """In words."""
        subject = "" if self.of == "ours" else f"{TITLES[self.of]}: "
        if not self.peers:
            return f"{subject}at most {show(self.limit, unit)}"
        names = ", ".join(TITLES[peer] for peer in self.peers)
        if self.more:
            return f"{subject}at most {show(self.limit, unit)} more than {names}"
        if self.faster:
            return f"{subject}at least {self.limit:g} {TIMES} faster than {names}"
        return f"{subject}at most {self.limit:g} {TIMES} {names}"

    def found(self, rounds: Rounds, name: str) -> float | None:
        """The median of the rounds, or None where there is nothing to compare with."""
        values = [value for each in rounds if (value := self._in_round(each, name)) is not None]
        return median(values) if values else None

    def _in_round(self, each: Mapping[str, Mapping[str, float]], name: str) -> float | None:
        if self.of not in each:
            return None
        value = each[self.of][name]
        if not self.peers:
            return value
        theirs = [each[peer][name] for peer in self.peers if peer in each]
        if not theirs:
            return None
        if self.more:
            return value - min(theirs)
        return min(theirs) / value if self.faster else value / min(theirs)

    def met(self, value: float) -> bool:
        """Whether that is what is wanted."""
        return value >= self.limit if self.faster else value <= self.limit

    def show(self, value: float, unit: str) -> str:
        """What was found, in words."""
        is_ratio = self.peers and not self.more
        return f"{value:.2f} {TIMES}" if is_ratio else show(value, unit)


@dataclass(frozen=True)
class Metric:
    """A number among those that a work finds."""

    name: str
    title: str
    unit: str = "s"
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Work:
    """What the peers do in turn.

    Parameters
    ----------
    name : str
        For ``--only``.
    call : str
        The method of the peers.
    arguments : dict
        Its arguments, besides the addresses in `needs`.
    metrics : tuple of Metric
        What is shown of what it finds.
    peers : tuple of str
        Who is asked.
    needs : tuple of str
        Of "gateway", "replay", "kernel_id" and "kernel_ids".
    rounds : int
        The most rounds that are worth it.
    fresh : bool
        Whether each round needs a new process.
    """

    name: str
    call: str
    metrics: tuple[Metric, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = ALL
    needs: tuple[str, ...] = ("gateway", "kernel_id")
    rounds: int = 99
    fresh: bool = False
    note: str = ""


_UNITS = {"s": (1.0, "s"), "ms": (1e-3, "ms"), "us": (1e-6, "µs"), "MB": (1e6, "MB")}
_UNITS |= {"%": (0.01, "%")}


def show(value: float, unit: str) -> str:
    """A value with its unit; three digits, or what is there."""
    size, symbol = _UNITS.get(unit, (1.0, unit))
    value /= size
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {symbol}".rstrip()


def works(quick: bool = False) -> list[Work]:
    """All works; in a hurry, smaller ones."""
    return [*_with_a_kernel(quick), *_replayed(quick), *_many(quick), *_whole(quick)]


def _with_a_kernel(quick: bool) -> list[Work]:
    lines = 500 if quick else 3000
    return [
        Work(
            "round-trip",
            "round_trips",
            (
                Metric(
                    "median",
                    "round trip, median",
                    "ms",
                    (
                        Target(1.15, ("bare",)),
                        Target(1.1, ("zmq",)),
                        *(Target(6, (peer,), faster=True) for peer in THEIRS),
                        Target(0.0007, ("ours",), more=True, of="bridge"),
                    ),
                ),
                Metric("p99", "round trip, 99th percentile", "ms"),
                Metric("tail", "99th percentile to own median", "", (Target(2),)),
            ),
            {"count": 60 if quick else 200},
            (*ALL, "bridge", "proxy"),
        ),
        Work(
            "start",
            "start",
            (Metric("seconds", "start to first reply", "s", (Target(1.1, ("bare",)),)),),
            peers=(*ALL, "bridge"),
            needs=("gateway",),
        ),
        Work(
            "flood",
            "flood",
            (
                Metric(
                    "seconds",
                    f"flood of {lines:,} flushed lines",
                    "ms",
                    (
                        Target(1, ("bare", "zmq", *THEIRS)),
                        Target(1, THEIRS),
                        Target(1.2, ("zmq",), of="bridge"),
                        Target(1.2, ("ours",), of="bridge"),
                    ),
                ),
            ),
            {"lines": lines},
            (*ALL, "bridge", "proxy"),
        ),
        Work(
            "idle",
            "idle",
            (
                Metric(
                    "share",
                    "CPU while a cell sleeps",
                    "%",
                    (Target(0.005), Target(0.005, of="bridge")),
                ),
            ),
            {"seconds": 3},
            (*ALL, "bridge"),
            rounds=3,
            note="of the bridge, it is the CPU time of its process",
        ),
        Work(
            "bridge-memory",
            "resident",
            (Metric("bytes", "memory of the process", "MB", (Target(45e6, of="bridge"),)),),
            peers=("bridge",),
            rounds=3,
            fresh=True,
            note="it is the resident memory after 200 round trips, of which 41 MB are that of"
            " jupyter_client, requests and websocket-client",
        ),
        Work(
            "threads",
            "threads",
            (Metric("seconds", "8 threads on one client, 25 executes each", "s"),),
            {"threads": 8, "each": 25},
            peers=("ours", "bare", "jkc", "jserver"),
            note="the bare loop is one thread with 8 requests in flight",
        ),
    ]


def _replayed(quick: bool) -> list[Work]:
    count = 20_000
    found = [
        _poured(
            "small",
            f"{count:,} small messages",
            {"kind": "stream", "count": count, "size": 15},
            (
                Target(3, ("least",)),
                *(Target(12, (peer,), faster=True) for peer in THEIRS),
            ),
            each=True,
        ),
        _poured(
            "small-default",
            f"{count:,} small messages, default format",
            {"kind": "stream", "count": count, "size": 15, "default": True},
            (Target(3, ("least",)),),
            peers=("ours", "least", "bare"),
        ),
    ]
    for kind, name in (("stream", "text"), ("comm_msg", "binary")):
        for size in (1, 16) if quick else (1, 16, 64):
            wanted = (
                Target(1.3, ("least",)),
                *(Target(20, (peer,), faster=True) for peer in THEIRS),
            )
            found.append(
                _poured(
                    f"{name}-{size}",
                    f"{size} MB of {name} in one message",
                    {"kind": kind, "count": 1, "size": size * MB},
                    wanted if (kind, size) == ("stream", 16) else (),
                    rounds=3 if size > 1 else 99,
                )
            )
    upload = Metric("seconds", "upload of an 8 MB buffer", "ms")
    found.append(
        Work("upload", "upload", (upload,), {"size": 8 * MB}, peers=POURED, needs=("replay",))
    )
    return found


def _poured(
    name: str,
    title: str,
    arguments: Mapping[str, Any],
    targets: tuple[Target, ...],
    *,
    peers: tuple[str, ...] = POURED,
    each: bool = False,
    rounds: int = 99,
) -> Work:
    metrics: tuple[Metric, ...] = (Metric("seconds", title, "ms", targets),)
    if each:
        metrics += (Metric("cpu each", "CPU per small message", "us"),)
    return Work(name, "pour", metrics, arguments, peers, ("replay",), rounds)


def _many(quick: bool) -> list[Work]:
    count = 20 if quick else 100
    peers = ("ours", "bare", "jkc", "jserver")
    return [
        Work(
            "memory",
            "memory",
            (
                Metric("bytes", "memory per open client", "MB", (Target(1e6),)),
                Metric("threads", "threads per open client", "", (Target(2),)),
            ),
            {"count": count},
            peers,
            ("replay",),
            rounds=3,
            fresh=True,
        ),
        Work(
            "clients",
            "crowd",
            (
                Metric(
                    "seconds",
                    f"{count} clients: connect, execute, close",
                    "s",
                    (Target(1.2, ("bare",)),),
                ),
                Metric("connect", "… of that, connect all", "s"),
                Metric("execute", "… execute on all", "s", (Target(1.2, ("bare",)),)),
                Metric("close", "… close all", "s"),
            ),
            {"count": count},
            peers,
            ("gateway", "kernel_ids"),
            rounds=3,
            fresh=True,
            note="the benchmark helps jupyter_kernel_client to close, which takes ten seconds"
            " otherwise",
        ),
    ]


def _whole(quick: bool) -> list[Work]:
    cells = 50 if quick else 200
    return [
        Work(
            "notebook",
            "notebook",
            (Metric("seconds", f"{cells} cells under nbclient", "s", (Target(1.15, ("zmq",)),)),),
            {"cells": cells},
            ("ours", "zmq", "bridge", "jserver"),
            ("gateway",),
            rounds=5,
        ),
        Work(
            "import",
            "import",
            (Metric("seconds", "import", "ms", (Target(1.2, ("bare",)),)),),
            peers=("ours", "bare", "jkc", "jserver"),
            needs=(),
            note="the bare loop imports jupyter_client, requests and websocket-client",
        ),
    ]
