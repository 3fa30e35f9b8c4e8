"""``jupyter gateway cp``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from time import monotonic
from typing import NamedTuple

from traitlets import Enum

from ..client import BlockingGatewayKernelClient
from ..errors import GatewayError
from ..kernel_operations import Via
from .command import ALIASES, Command
from .errors import OK, UsageError
from .terminal import write

__all__ = ["CopyCommand", "Place", "parse_place", "progress_line"]

_REMOTE = re.compile(r"([^/\\:]+):(.*)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:.*", re.DOTALL)


class Place(NamedTuple):
    """One end of a copy: a path on this machine, or on the machine of a kernel."""

    kernel: str
    """ID of the kernel, or its beginning; "" for this machine."""
    path: str

    def __str__(self) -> str:
        return f"{self.kernel}:{self.path}" if self.kernel else self.path


def parse_place(text: str, *, has_drives: bool = os.name == "nt") -> Place:
    r"""Return the place that an argument means: ``KERNEL:path``, or a path on this machine.

    A path on this machine that contains a colon is written with its directory, as in ``./a:b``.
    On Windows, which `has_drives`, one letter before the colon is a drive.

    >>> parse_place("1f3a:data/a.csv"), parse_place("./a:b")
    (Place(kernel='1f3a', path='data/a.csv'), Place(kernel='', path='./a:b'))
    >>> parse_place("c:x", has_drives=False), parse_place("c:x", has_drives=True)
    (Place(kernel='c', path='x'), Place(kernel='', path='c:x'))
    """
    found = _REMOTE.fullmatch(text)
    if not found or (has_drives and _DRIVE.fullmatch(text)):
        return Place("", text)
    return Place(found[1], found[2])


class CopyCommand(Command):
    """``jupyter gateway cp``."""

    name = "jupyter-gateway-cp"
    description = """
    Copy files to the machine of a Python kernel, or from there.

    Usage: jupyter gateway cp [OPTIONS] SOURCE... DESTINATION

    Either all sources or the destination are KERNEL:PATH: KERNEL is the ID of a running kernel, or
    its beginning, or its name. A relative PATH begins at the kernel's working directory. With
    several sources, the destination is a directory. A file with a colon in its name needs its
    directory: ./a:b. On Windows, one letter before the colon is a drive.

    A file appears at its destination whole and verified, or not at all. The copy waits while the
    kernel is busy, and goes on after a lost connection.

    The exit status:

        0    all files are copied
        2    the command was not understood, a file cannot be read or written, or KERNEL matches no
             kernel, or several
        3    the gateway cannot be reached or refused, or the kernel died or is not a Python kernel
        130  you pressed Ctrl-C
    """
    via = Enum(
        ["kernel", "contents"],
        "kernel",
        help="""
        The way of the files: the kernel itself, or "contents", the files of a Jupyter Server
        (/api/contents). The latter needs no Python kernel; a PATH begins at the server's root
        folder, and a file from there may have 49 MB at most.
        """,
    ).tag(config=True)
    aliases = {**ALIASES, "via": "CopyCommand.via"}  # noqa: RUF012
    examples = """\
jupyter gateway cp data.csv 1f3a:
jupyter gateway cp 1f3a:out/model.bin 1f3a:out/log.txt results/
"""

    def run(self) -> int:
        """Copy the files."""
        if len(self.extra_args) < 2:
            raise UsageError("give SOURCE and DESTINATION; see --help")
        *sources, destination = map(parse_place, self.extra_args)
        kernels = {place.kernel for place in (*sources, destination) if place.kernel}
        if len(kernels) != 1 or bool(destination.kernel) == bool(sources[0].kernel):
            raise UsageError(
                "either the sources or the destination must be KERNEL:PATH, of one kernel"
            )
        if len({bool(source.kernel) for source in sources}) > 1:
            raise UsageError("all sources must be on the same side")
        [kernel] = kernels
        several = len(sources) > 1
        with self.gateway(local=False) as gateway, self.kernel(gateway, "", kernel_id=kernel) as it:
            for source in sources:
                self._copy(it[1], source, destination, several=several)
        return OK

    def _copy(
        self, kc: BlockingGatewayKernelClient, source: Place, destination: Place, *, several: bool
    ) -> None:
        """Copy one file."""
        target = destination.path or "."
        if several and not target.endswith("/"):
            target += "/"
        via: Via = "contents" if self.via == "contents" else "kernel"
        try:
            with _progress(source.path) as progress:
                if destination.kernel:
                    kc.upload(Path(source.path), target, progress=progress, via=via)
                else:
                    kc.download(source.path, target, progress=progress, via=via)
        except OSError as error:
            if isinstance(error, GatewayError) or error.filename is None:
                raise
            raise UsageError(
                f"cannot copy {source} to {destination}: {error.strerror}: {error.filename}"
            ) from error


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Give the function that shows the progress on a terminal, in one line; or None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    begun, has_line = monotonic(), False

    def show(done: int, total: int | None) -> None:
        nonlocal has_line
        has_line = True
        line = progress_line(name, done, total, monotonic() - begun)
        write(sys.stderr, "\r\x1b[K" + line[: get_terminal_size().columns - 1])

    try:
        yield show
    finally:
        if has_line:
            write(sys.stderr, "\n")


def progress_line(name: str, done: int, total: int | None, seconds: float) -> str:
    """Return a line with the part that is done, the rate, and the remaining time.

    >>> progress_line("a.bin", 5_000_000, 20_000_000, 2.0)
    " 25%      5.0 MB    2.5 MB/s  0:06  'a.bin'"
    >>> progress_line("a.bin", 20_000_000, 20_000_000, 8.0)
    "100%     20.0 MB    2.5 MB/s        'a.bin'"
    """
    part = f"{done / total:4.0%}" if total else "    "
    rate = done / seconds if seconds > 0 else 0.0
    left = ""
    if total and rate and done < total:
        minutes, rest = divmod(round((total - done) / rate), 60)
        left = f"{minutes}:{rest:02}"
    return f"{part}  {done / 1e6:7,.1f} MB  {rate / 1e6:5,.1f} MB/s  {left:4}  {name!a}"
