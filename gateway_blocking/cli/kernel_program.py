"""The execution of a script as a program, inside a Python kernel.

:mod:`.program` sends the text of this module to the kernel.  It therefore imports the standard
library only, and avoids what Python 3.8 does not have.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import importlib.machinery
import inspect
import io
import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["run_program"]


class _End(Exception):
    """The end of a program, which becomes the kernel's reply to the request.

    The name and the text are those of the original exception.  A kernel treats some exceptions
    specially, such as SystemExit and SyntaxError, but not this one; IPython shows the traceback
    that ``_render_traceback_()`` returns.
    """

    lines: tuple[str, ...] = ()

    def _render_traceback_(self) -> list[str]:
        return list(self.lines)


def run_program(
    namespace: dict[str, Any],
    source: str,
    file: str,
    argv: list[str],
    directory: str,
    ends_with_script: bool,
    in_color: bool,
) -> None:
    """Execute a script as ``python FILE ARGUMENT...`` does.

    Parameters
    ----------
    namespace : dict
        Namespace of the module ``__main__``.
    source : str
        Text of the script.
    file : str
        Path of the script where it was read, or a name such as "<stdin>".
    argv : list of str
        The name of the script as it was typed, and its arguments.
    directory : str
        Directory of the script where it was read, or an empty text.
    ends_with_script : bool
        Whether the kernel is shut down after the script.  The threads of the script then end first.
    in_color : bool
        Whether the output goes to a terminal.  ipykernel asks programs for colors in any case.

    Raises
    ------
    Exception
        The script failed; name, text and traceback are those of its exception.  For ``sys.exit()``
        the name is SystemExit, and the text is the exit status, which is not 0.
    """
    linecache.cache[file] = (len(source), None, io.StringIO(source).readlines(), file)
    threads = threading.enumerate()
    with ExitStack() as stack:
        stack.enter_context(_main_module(namespace, file))
        stack.enter_context(_system(argv, directory))
        if not in_color:
            stack.enter_context(_without_colors())
        stack.enter_context(_without_running_loop())
        end = _end_of(file, _execute, source, file, namespace)
        if ends_with_script:
            end = _end_of(file, _join_threads, threads) or end
    if end is not None:  # raised here, it has no __context__ that IPython would show
        raise end


def _execute(source: str, file: str, namespace: dict[str, Any]) -> None:
    """Execute the statements; show the value of the last one if it is an expression, as a cell."""
    body = _parse(source, file).body
    last: list[ast.Interactive] = []
    if len(body) > 1 and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = [ast.Interactive([body.pop()])]
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # IPython allows it, too
    codes = [compile(ast.Module(body, type_ignores=[]), file, "exec", flags, dont_inherit=True)]
    codes += [compile(tree, file, "single", flags, dont_inherit=True) for tree in last]
    if not any(code.co_flags & inspect.CO_COROUTINE for code in codes):
        for code in codes:
            exec(code, namespace)  # noqa: S102
        return

    async def execute() -> None:
        for code in codes:
            result = eval(code, namespace)  # noqa: S307
            if inspect.isawaitable(result):
                await result

    asyncio.run(execute())


def _parse(source: str, file: str) -> ast.Module:
    """Return the syntax tree; what is not Python may be IPython's, such as a magic."""
    try:
        return ast.parse(source, file)
    except SyntaxError:
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        transformed = source if shell is None else shell.transform_cell(source)
        if transformed.rstrip() == source.rstrip():
            raise
        return ast.parse(transformed, file)


def _end_of(file: str, function: Callable[..., None], *args: Any) -> Exception | None:
    """Call a function, and return how it ends the program, or None if it does not."""
    try:
        function(*args)
    except SystemExit as error:
        code = error.code
        if not isinstance(code, int):
            if code is None:
                return None
            print(code, file=sys.stderr)  # noqa: T201
            code = 1
        status = code & 0xFF
        return _end("SystemExit", str(status), "") if status else None
    except BaseException as error:
        found = error.__traceback__
        while found is not None and found.tb_frame.f_code.co_filename != file:
            found = found.tb_next
        text = _traceback_of(error, found)
        try:
            message = str(error)
        except Exception:
            message = ""
        return _end(type(error).__name__, message, text, found)
    return None


def _traceback_of(error: BaseException, found: TracebackType | None) -> str:
    """Return a traceback as Python would write it: its own ``input()`` has no frames.

    A kernel has another one, a Python function, which raises EOFError without a text.
    """
    own: Any = getattr(builtins.input, "__code__", None)
    codes = [frame.f_code for frame, _ in traceback.walk_tb(found)]
    is_of_input = own in codes
    if is_of_input and isinstance(error, EOFError) and not error.args:
        error.args = ("EOF when reading a line",)
    shown = traceback.TracebackException(type(error), error, found)
    if is_of_input:
        del shown.stack[codes.index(own) :]
    return "".join(shown.format())


def _end(name: str, message: str, text: str, found: TracebackType | None = None) -> Exception:
    """Return the exception that ends a program, with the text of its traceback."""
    end = type(name, (_End,), {"lines": tuple(text.rstrip("\n").split("\n"))})(message)
    error: Exception = end.with_traceback(found)  # for a debugger
    return error


@contextmanager
def _main_module(namespace: dict[str, Any], file: str) -> Iterator[None]:
    """Give ``__main__`` the names of a program, and take them away unless they were changed."""
    names: dict[str, Any] = {
        "__name__": "__main__",
        "__doc__": None,
        "__package__": None,
        "__spec__": None,
    }
    names.update(exit=sys.exit, quit=sys.exit)  # an interactive kernel's would end the kernel
    if not file.startswith("<"):
        names["__file__"] = file
        if not Path(file).exists():
            # A process that multiprocessing spawns would fail, because it executes __file__.
            names["__spec__"] = importlib.machinery.ModuleSpec("__main__", None)
    before = {name: namespace[name] for name in names if name in namespace}
    namespace.update(names)
    try:
        yield
    finally:
        for name, value in names.items():
            if namespace.get(name, before) is value:
                del namespace[name]
                namespace.update({name: before[name]} if name in before else {})


@contextmanager
def _system(argv: list[str], directory: str) -> Iterator[None]:
    """Set ``sys.argv``, and begin ``sys.path`` with the script's directory if it exists here."""
    before, sys.argv = sys.argv, list(argv)
    exists = bool(directory) and Path(directory).is_dir()
    if exists:
        sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.argv = before
        if exists and directory in sys.path:
            sys.path.remove(directory)


@contextmanager
def _without_colors() -> Iterator[None]:
    """Take back what ipykernel sets in the environment to get colors."""
    names = ("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["NO_COLOR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("NO_COLOR", None)  # which the script may have deleted
        os.environ.update(before)


@contextmanager
def _without_running_loop() -> Iterator[None]:
    """Let a program run an event loop of its own, although the kernel's is running."""
    running = asyncio._get_running_loop()
    if running is None:
        yield
        return
    task = asyncio.current_task(running)
    if task is not None:
        asyncio.tasks._leave_task(running, task)
    asyncio._set_running_loop(None)
    ours = asyncio.new_event_loop()
    asyncio.set_event_loop(ours)
    try:
        yield
    finally:
        if not ours.is_running():  # in a thread that goes on
            ours.close()
        asyncio.set_event_loop(running)
        asyncio._set_running_loop(running)
        if task is not None:
            asyncio.tasks._enter_task(running, task)


def _join_threads(before: list[threading.Thread]) -> None:
    """Wait for the threads that the program started, but not for daemons, as Python does."""
    while True:
        threads = [
            thread
            for thread in threading.enumerate()
            if not (thread in before or thread.daemon or _is_in_pool(thread))
        ]
        if not threads:
            return
        threads[0].join(1)  # a limit, because an interrupt does not end the wait on Windows


def _is_in_pool(thread: threading.Thread) -> bool:
    """Return True for a thread of an executor: Python ends it, even if it waits for work."""
    tables = (("thread", "_threads_queues"), ("process", "_threads_wakeups"))
    return any(
        thread in getattr(sys.modules.get("concurrent.futures." + module), table, ())
        for module, table in tables
    )
