"""The standard library as Windows has it, for this package only.

Imported by a process, most easily as its ``sitecustomize``, this module gives each module of
gateway_blocking another ``import``.  What it imports lacks what only POSIX has, and waits as on
Windows, where no signal interrupts the wait for a lock, a socket, a thread or a process.  Whatever
else runs in the process, such as jupyter_client, keeps what it needs on this system.
"""

from __future__ import annotations

import builtins
import functools
import os
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from typing import Any

PACKAGE = "gateway_blocking"

MISSING = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty")

ONLY_POSIX: Mapping[str, tuple[str, ...]] = {
    "os": (
        *("WNOHANG", "O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK"),
        *("chown", "fchown", "fork", "forkpty", "geteuid", "getgid", "getpgid", "getpgrp"),
        *("getsid", "getuid", "initgroups", "kill", "killpg", "mkfifo", "nice", "openpty"),
        *("posix_spawn", "register_at_fork", "setpgid", "setsid", "setuid", "uname", "wait"),
        *("wait3", "wait4", "waitid", "WEXITSTATUS", "WIFEXITED", "WIFSIGNALED", "WTERMSIG"),
    ),
    "select": ("epoll", "kqueue", "poll", "EPOLLIN", "POLLERR", "POLLHUP", "POLLIN", "POLLOUT"),
    "signal": (
        *("ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE"),
        *("SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"),
        *("SIGWINCH", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "alarm", "getitimer", "pause"),
        *("pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt", "sigpending"),
        *("sigtimedwait", "sigwait"),
    ),
    "socket": ("AF_UNIX", "MSG_DONTWAIT", "SO_REUSEPORT", "TCP_QUICKACK", "sendmsg"),
    "sys": (),
    "subprocess": (),
}


_NEW_GROUP = 0x200


class _Popen(subprocess.Popen[Any]):
    """A process whose creation flags are translated; POSIX takes none."""

    def __init__(self, *args: Any, creationflags: int = 0, **kwargs: Any) -> None:
        if {"start_new_session", "preexec_fn", "process_group"} & set(kwargs):
            raise ValueError("Windows has no sessions, and no groups of this kind")
        super().__init__(*args, start_new_session=creationflags == _NEW_GROUP, **kwargs)


ONLY_WINDOWS: Mapping[str, Mapping[str, Any]] = {
    "sys": {"platform": "win32"},
    "subprocess": {"CREATE_NEW_PROCESS_GROUP": _NEW_GROUP, "Popen": _Popen},
}


class _Winapi(types.ModuleType):
    """The functions of Windows for processes, with process IDs as handles."""

    SYNCHRONIZE = 0x100000
    WAIT_OBJECT_0, WAIT_TIMEOUT = 0, 258

    @staticmethod
    def OpenProcess(access: int, inherit: bool, process_id: int) -> int:  # noqa: N802
        if not _exists(process_id):
            raise OSError(87, "no such process")
        return process_id

    @staticmethod
    def WaitForSingleObject(handle: int, milliseconds: int) -> int:  # noqa: N802
        return _Winapi.WAIT_TIMEOUT if _exists(handle) else _Winapi.WAIT_OBJECT_0


def _exists(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


class View(types.ModuleType):
    """A module without some of its names, and with others."""

    def __init__(
        self, module: types.ModuleType, hidden: tuple[str, ...], added: Mapping[str, Any]
    ) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(added)
        self.__dict__["_module"], self.__dict__["_hidden"] = module, hidden

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)


@functools.cache
def _view(name: str) -> types.ModuleType:
    return View(sys.modules[name], ONLY_POSIX[name], ONLY_WINDOWS.get(name, {}))


def _import(name: str, *args: Any) -> Any:
    """Import as the package would on Windows."""
    if name.partition(".")[0] in MISSING:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if name == "_winapi":
        return _Winapi(name)
    module = builtins.__import__(name, *args)
    return _view(module.__name__) if module.__name__ in ONLY_POSIX else module


def install() -> None:
    """Have all modules of the package that are imported from now on import as on Windows."""
    original: Callable[[SourceFileLoader, types.ModuleType], None] = SourceFileLoader.exec_module

    def exec_module(self: SourceFileLoader, module: types.ModuleType) -> None:
        if module.__name__.partition(".")[0] == PACKAGE:
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        original(self, module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]
