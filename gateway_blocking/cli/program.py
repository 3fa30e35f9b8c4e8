"""Scripts as programs: their text, their arguments, and the code that a kernel executes."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import tokenize
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError
from .kernel_program import run_program

__all__ = ["Program", "decode_script", "read_script", "runs_itself", "split_arguments"]

_STDIN = "-"
_SHEBANG = re.compile(rb"#!.*\b(?:jupyter[- ]gateway|gateway_blocking)\b.*\brun\b")


@dataclass(frozen=True)
class Program:
    """A script with its arguments, for a Python kernel.

    Parameters
    ----------
    name : str
        Name of the file as it was typed; "-" is standard input.
    arguments : tuple of str
        Arguments of the script.
    ends_with_script : bool
        Whether the kernel is shut down after the script, which then waits for its threads.
    in_color : bool
        Whether the output goes to a terminal.
    """

    name: str
    arguments: tuple[str, ...] = ()
    ends_with_script: bool = True
    in_color: bool = False

    def code(self, source: str) -> str:
        """Return the code that executes the script `source` as a program; it is ASCII.

        It defines nothing in the kernel, and its traceback is the script's.
        """
        if self.name == _STDIN:
            file, directory = "<stdin>", ""
        else:
            # As Python does, which resolves symbolic links for sys.path only.
            file = os.path.abspath(self.name)  # noqa: PTH100 - keeps ".." of a link's target
            directory = os.path.dirname(os.path.realpath(self.name))  # noqa: PTH120
        argv = [self.name, *self.arguments]
        call = (source, file, argv, directory, self.ends_with_script, self.in_color)
        module = inspect.getsource(sys.modules[run_program.__module__])
        scope = f"{{'__name__': 'gateway_program', 'main': globals(), 'call': {call!a}}}"
        return f"exec({module + 'run_program(main, *call)'!a}, {scope})"


def read_script(path: Path) -> str:
    """Return the text of a script."""
    try:
        return decode_script(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        encoding = "UTF-8" if error.encoding.startswith("utf") else error.encoding
        raise UsageError(f"cannot read {path}: it is not {encoding} text") from error


def decode_script(data: bytes) -> str:
    """Return the text of a script: in the encoding that it declares as Python files do, or UTF-8.

    Raises
    ------
    UnicodeDecodeError
        The bytes are not text in this encoding.
    """
    try:
        encoding, _lines = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:  # an unknown name, perhaps in a comment of another language
        encoding = "utf-8-sig"
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()  # its line ends become \n


def runs_itself(name: str) -> bool:
    """Return True if a file is executable, and its first line is ``#!`` with this command."""
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            return os.access(name, os.X_OK) and bool(_SHEBANG.match(file.readline(1024)))
    except (OSError, ValueError):
        return False


def split_arguments(
    words: list[str], valued: Collection[str], runs_itself: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    """Return the words of the command, and the arguments of its script.

    Everything after a script that runs itself belongs to it, as the shell passes it on after its
    name.  Otherwise the arguments come after ``--``; before any file, ``--`` is followed by the
    name of the script.

    Parameters
    ----------
    words : list of str
        The command line after ``run``.
    valued : collection of str
        Names of the options that are followed by a value.
    runs_itself : callable
        Returns True if the file of a given name runs itself.
    """
    first = _first_file(words, valued)
    after = words[first + 1 :]
    if after and "--" not in (words[first], after[0]) and runs_itself(words[first]):
        return words[: first + 1], after
    if "--" not in words:
        return words, []
    end = words.index("--")
    if end > first:
        return words[:end], words[end + 1 :]
    if words[end + 1 : end + 2] and words[end + 1].endswith(".ipynb"):
        return words, []
    return words[: end + 2], words[end + 2 :]


def _first_file(words: list[str], valued: Collection[str]) -> int:
    """Return the index of the first word that is neither an option nor its value."""
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            return index + 1
        if word == _STDIN or not word.startswith("-"):
            return index
        name = word.lstrip("-")
        if word == "-p":
            index += 1 if "=" in "".join(words[index + 1 : index + 2]) else 2
        elif "=" not in word and (name in valued or "." in name):
            index += 1
        index += 1
    return index
