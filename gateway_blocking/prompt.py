"""Questions of a kernel to the user, on the standard input of this process, with a deadline.

``input()`` has no timeout, and it reads more than one line from a pipe.  This module waits for the
file descriptor, which Windows cannot do, and then reads the line byte by byte.  The text after the
line is left for other readers.
"""

from __future__ import annotations

import builtins
import getpass
import locale
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType

from .deadline import Deadline
from .timeouts import PROMPT_SLICE

__all__ = ["ask"]

_END_OF_INPUT = "\x04"

_IsOver = Callable[[], bool]


def ask(prompt: str, *, password: bool, deadline: Deadline, is_over: _IsOver) -> str | None:
    """Ask the user of this process, and return the answer; Ctrl-D if there is no more input.

    In some cases ``input()`` or ``getpass()`` asks, and waits without a deadline: if the function
    was replaced, as it is in a notebook; on Windows; if ``sys.stdin`` is not a file; and at a
    terminal if there is no deadline, because the user can then edit the line.

    Parameters
    ----------
    prompt : str
        The text to show.
    password : bool
        Whether to hide the answer while it is typed.
    deadline : Deadline
        When to stop waiting.
    is_over : callable
        ``is_over()``, which returns True if the kernel does not wait for the answer any more.

    Returns
    -------
    str or None
        The answer; None if the deadline passed or the question is over.
    """
    question = getpass.getpass if password else builtins.input
    try:
        if sys.platform != "win32" and _is_pythons_own(question):
            return _ask(question, prompt, password, deadline, is_over)
        return question(prompt)
    except EOFError:
        return _END_OF_INPUT


def _is_pythons_own(question: Callable[..., str]) -> bool:
    """Return True if a function is Python's own ``input()`` or ``getpass()``."""
    own_getpass = getattr(getpass, "unix_getpass", None)
    return isinstance(question, BuiltinFunctionType) or question is own_getpass


def _ask(
    question: Callable[[str], str],
    prompt: str,
    password: bool,
    deadline: Deadline,
    is_over: _IsOver,
) -> str | None:
    terminal = _open_terminal() if password else None
    if terminal is None:
        return _ask_on_stdin(question, prompt, deadline, is_over)
    try:
        if deadline.left() is None:
            return question(prompt)
        return _ask_hidden(terminal, prompt, deadline, is_over)
    finally:
        os.close(terminal)


def _ask_on_stdin(
    question: Callable[[str], str], prompt: str, deadline: Deadline, is_over: _IsOver
) -> str | None:
    try:
        stdin = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or it is not a file
        return question(prompt)
    if os.isatty(stdin) and deadline.left() is None:
        return question(prompt)
    stream = sys.stdout if question is builtins.input else sys.stderr
    stream.write(prompt)
    stream.flush()
    if _was_read():
        # Its buffer may hold the next line, which must not be skipped.
        return builtins.input() if _wait(stdin, deadline, is_over) else None
    line = _read_line(stdin, deadline, is_over)
    return None if line is None else line.decode(sys.stdin.encoding, sys.stdin.errors or "strict")


def _was_read() -> bool:
    """Return True if Python has read from its standard input, because it may have read ahead."""
    try:
        sys.stdin.reconfigure(  # type: ignore[union-attr]
            encoding=sys.stdin.encoding, errors=sys.stdin.errors
        )
    except (AttributeError, OSError, ValueError):
        return True
    return False


def _open_terminal() -> int | None:
    """Open the terminal of this process, on which getpass() asks; None if it has none."""
    if sys.platform != "win32":
        try:
            return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        except OSError:
            pass
    return None


def _ask_hidden(terminal: int, prompt: str, deadline: Deadline, is_over: _IsOver) -> str | None:
    encoding = locale.getpreferredencoding(do_setlocale=False)
    with _without_echo(terminal):
        os.write(terminal, prompt.encode(encoding, "replace"))
        line = _read_line(terminal, deadline, is_over)
        os.write(terminal, b"\n")
    return None if line is None else line.decode(encoding, "surrogateescape")


@contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    if sys.platform != "win32":
        import termios

        before = termios.tcgetattr(terminal)
        silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
            yield
        finally:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
    else:
        yield


def _read_line(descriptor: int, deadline: Deadline, is_over: _IsOver) -> bytes | None:
    """Read a line without its end; None if it did not come in time, EOFError at the end."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not _wait(descriptor, deadline, is_over):
            return None
        byte = os.read(descriptor, 1)
        if not (byte or line):
            raise EOFError
        if not byte:
            break
        line += byte
    return bytes(line.removesuffix(b"\n").removesuffix(b"\r"))


def _wait(descriptor: int, deadline: Deadline, is_over: _IsOver) -> bool:
    """Wait until there is something to read; return False if the deadline or the end came first."""
    while not (deadline.passed() or is_over()):
        if _is_readable(descriptor, deadline.within(PROMPT_SLICE)):
            return True
    return False


def _is_readable(descriptor: int, deadline: Deadline) -> bool:
    seconds = deadline.left() or 0.0
    if sys.platform not in ("win32", "darwin") and hasattr(select, "poll"):
        poll = select.poll()  # takes any descriptor; select() takes those below 1024
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    return bool(select.select([descriptor], [], [], seconds)[0])  # poll() of macOS has no terminals
