"""Deletions from a gateway when this process ends, however it ends.

A local kernel ends with the process that started it.  A kernel behind a gateway runs until it is
deleted.  A :class:`Hold` represents a kernel or session that this process owns.  Until the hold is
released,

- the end of the interpreter deletes it: after the last line, an exception, or ``sys.exit``;
- after ``kill -9``, a crash or ``os._exit``, the reaper deletes it: a small process that waits for
  the end of this one (:mod:`.reaper_process`).

The reaper holds the other end of a pipe, which closes when this process ends.  It starts with the
first hold.  It is in a session of its own, so that no signal to the group of this process reaches
it.  It is not a child of this process, so that ``os.wait()`` does not find it.  The requests and
their credentials go through the pipe, because other users can read the arguments of a process.  If
no process can be started, the end of the interpreter still deletes.

A forked child has none of the holds of its parent, and a reaper of its own after its first hold.
"""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from .forking import register_after_fork
from .locks import Lock
from .timeouts import EXIT_DELETE_TIMEOUT, REAPER_START_TIMEOUT

__all__ = ["Deletion", "Hold", "forget"]

_log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("reaper_process.py")
_NOT_OF_A_DELETE = ("content-type", "content-length", "accept-encoding", "connection")


@dataclass(frozen=True)
class Deletion:
    """A DELETE request, with everything that another process needs to send it.

    Parameters
    ----------
    url : str
        URL to delete.
    headers : mapping
        Headers of the request, with the login.
    proxy : str, optional
        URL of the proxy, with its login.
    verify : bool or str
        File or folder of the authorities to trust; False to accept any certificate.
    cert : tuple of str, optional
        File of the client certificate, and the file of its key if that is another one.
    timeout : float
        Seconds without a response after which a request fails.
    start_timeout : float
        Seconds that the kernel may still take to start; a 404 is repeated until then.
    """

    url: str
    headers: Mapping[str, str | bytes] = field(repr=False)
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True
    cert: tuple[str, ...] | None = None
    timeout: float = 42.0
    start_timeout: float = 0.0

    def of_headers(self, headers: Mapping[str, str | bytes]) -> Deletion:
        """Return a copy with the headers of a request, except the headers of its body."""
        kept = {
            name: value.decode("latin-1") if isinstance(value, bytes) else value
            for name, value in headers.items()
            if name.lower() not in _NOT_OF_A_DELETE
        }
        return replace(self, headers=kept)

    def encode(self) -> bytes:
        """Return the request in the format of the reaper, in one line."""
        # The working directory of the reaper is another one.
        cert = self.cert and [str(Path(path).absolute()) for path in self.cert]
        verify = str(Path(self.verify).absolute()) if isinstance(self.verify, str) else self.verify
        text = {**vars(self), "headers": dict(self.headers), "cert": cert, "verify": verify}
        return json.dumps(text).encode()


class Hold:
    """A kernel or session that ends with this process, unless it is released before.

    Any number of threads may use it.

    Parameters
    ----------
    deletion : Deletion
        The request with which the reaper deletes it.
    delete : callable
        ``delete(timeout)``, which deletes it at the end of the interpreter and returns True if it
        is gone.  The function must neither raise nor start a thread.
    """

    _keys = itertools.count(1)

    def __init__(self, deletion: Deletion, delete: Callable[[float], bool]) -> None:
        self._deletion = deletion.of_headers(deletion.headers)
        self._key = b"%d" % next(self._keys)
        self._delete = delete
        _reaper.hold(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}{', released' if self.released else ''}>"

    @property
    def url(self) -> str:
        """URL to delete."""
        return self._deletion.url

    @property
    def released(self) -> bool:
        """True if it does not end with this process any more."""
        return not _reaper.holds(self)

    def started(self) -> None:
        """Note that it has started: from now on a 404 means that it is gone."""
        self._change(replace(self._deletion, start_timeout=0.0))

    def renew(self, headers: Mapping[str, str | bytes]) -> None:
        """Note the headers of current requests, because the token may be a new one."""
        self._change(self._deletion.of_headers(headers))

    def _change(self, deletion: Deletion) -> None:
        if deletion != self._deletion:
            self._deletion = deletion
            _reaper.change(self)

    def release(self) -> None:
        """Let it outlive this process, because it must stay or is gone already."""
        _reaper.release(self)

    def line(self, held: bool) -> bytes:
        """Return the line that tells the reaper to hold it or to release it."""
        return b"%s %s" % (self._key, self._deletion.encode()) if held else self._key

    def delete(self, timeout: float) -> None:
        """Delete it now, and release it if it is gone for good."""
        if self._delete(timeout) and not self._deletion.start_timeout:
            self.release()


def forget(url: str) -> None:
    """Release everything below this URL, because it has ended with its gateway."""
    _reaper.forget(url)


class _Process:
    """The reaper's process, and this one's end of the pipe."""

    def __init__(self) -> None:
        theirs, self._pipe = os.pipe()
        try:
            self._identity = _identity(self._pipe)
            self._starting: subprocess.Popen[bytes] | None = _start(theirs)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)

    def write(self, line: bytes) -> None:
        """Send the process a line.

        Raises
        ------
        OSError
            The process does not exist any more.
        """
        if _identity(self._pipe) != self._identity:
            raise OSError("the pipe was closed by others")
        # The first newline ends a line that an earlier write may have left unfinished.
        text = b"\n%s\n" % line
        while text:
            text = text[os.write(self._pipe, text) :]

    def has_started(self) -> bool:
        """Return False if the process could not start, which is known after some milliseconds."""
        if self._starting is None:
            return True
        with suppress(subprocess.TimeoutExpired):
            status = self._starting.wait(REAPER_START_TIMEOUT)
            self._starting = None
            return status == 0
        return True

    def close(self) -> None:
        """Close the pipe: the process then deletes everything it holds, and ends."""
        with suppress(OSError):
            if _identity(self._pipe) == self._identity:
                os.close(self._pipe)


def _identity(descriptor: int) -> tuple[int, int]:
    """Return what distinguishes an open file from a later one with the same descriptor."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _start(pipe: int) -> subprocess.Popen[bytes]:
    """Start the reaper with this pipe; return a process that has ended once the reaper runs."""
    command = [_python(), "-I", "-S", str(_PROGRAM)]
    usual = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    windows = ("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "TEMP", "TMP")
    env = {name: os.environ[name] for name in (*usual, *windows) if name in os.environ}
    null = subprocess.DEVNULL  # a reader of this process's output must not wait for the reaper
    ways: list[dict[str, Any]] = [{"start_new_session": True}]
    if sys.platform == "win32":
        apart = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        ways = [{"creationflags": apart | subprocess.CREATE_BREAKAWAY_FROM_JOB}]
        ways += [{"creationflags": apart}]
    for way in ways:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=pipe, stdout=null, stderr=null, env=env, **way
            )
        except PermissionError:  # the job of this process does not allow a breakaway
            if way is ways[-1]:
                raise
            continue
        break
    if sys.platform == "win32":
        process.returncode = 0  # it does not fork, and is not waited for
    return process


def _python() -> str:
    """Return the path of Python, or raise OSError if it is not known."""
    python = sys.executable
    if sys.platform == "win32":  # in a virtual environment it only starts another Python
        python = getattr(sys, "_base_executable", None) or python
    # The executable of a frozen program is that program; the package may be in an archive.
    if getattr(sys, "frozen", False) or not python or not _PROGRAM.is_file():
        raise OSError("there is no Python to be started as a file")
    return python


class _Reaper:
    """The holds of this process, and the process that gets their requests."""

    def __init__(self) -> None:
        self._after_fork()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Begin anew in a child process, because the holds belong to its parent."""
        # Otherwise the reaper would wait for the end of the child, too.
        if (process := getattr(self, "_process", None)) is not None:
            process.close()
        self._process: _Process | None = None
        self._held: dict[Hold, None] = {}
        self._lock = Lock()
        self._impossible = self._in_worker = False

    def holds(self, hold: Hold) -> bool:
        return hold in self._held

    def hold(self, hold: Hold) -> None:
        self._end_with_worker()
        self._held[hold] = None
        self._tell(hold)

    def change(self, hold: Hold) -> None:
        if hold in self._held:
            self._tell(hold)

    def release(self, hold: Hold) -> None:
        if self._held.pop(hold, hold) is None:  # else it was released, or is a parent's
            self._tell(hold)

    def forget(self, url: str) -> None:
        for hold in list(self._held):
            if hold.url.startswith(f"{url.rstrip('/')}/"):
                self.release(hold)

    def delete_all(self) -> None:
        """Delete everything that is still held.

        If there are many holds and the gateway is slow, the reaper deletes the rest.
        """
        held = list(self._held)
        alone = self._process is None
        end = monotonic() + EXIT_DELETE_TIMEOUT * (len(held) if alone else 1)
        for hold in held:
            if (left := end - monotonic()) > 0:
                hold.delete(min(left, EXIT_DELETE_TIMEOUT))

    def _tell(self, hold: Hold) -> None:
        """Send the process the state of this hold; send a new process all holds."""
        if self._impossible:
            return
        with self._lock:
            self._tell_locked(hold)

    def _tell_locked(self, hold: Hold) -> None:
        if self._process is not None:
            try:
                if self._process.has_started():
                    self._process.write(hold.line(held=hold in self._held))
                    return
            except OSError as error:  # it was killed, or the pipe was closed
                _log.debug("the reaper is gone: %s; starting another", error)
            else:
                self._give_up("it does not run here")
                return
            self._process.close()
            self._process = None
        if not self._held:
            return
        try:
            self._process = _Process()
            for each in list(self._held):
                self._process.write(each.line(held=True))
        except Exception as error:  # the kernel must start even if the reaper cannot
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        _log.debug("no reaper: %s; if this process is killed, its kernels stay", why)
        self._impossible = True
        if self._process is not None:
            self._process.close()
            self._process = None

    def _end_with_worker(self) -> None:
        """Have :meth:`delete_all` called at the end of a worker of multiprocessing.

        Until 3.13 a worker that was forked ends without what is registered with atexit.
        """
        if self._in_worker or "multiprocessing.process" not in sys.modules:
            return
        from multiprocessing import parent_process, util

        self._in_worker = True
        if parent_process() is not None:
            util.Finalize(None, _delete_all, exitpriority=-1)


def _delete_all() -> None:
    _reaper.delete_all()


_reaper = _Reaper()
# At import, and not with the first hold: exit functions that a user registers later run earlier,
# and may still use kernels.
atexit.register(_delete_all)
