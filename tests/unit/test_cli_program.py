"""Scripts as programs: their text, the words of the command line, and what a kernel executes."""

from __future__ import annotations

import asyncio
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.program import (
    Program,
    decode_script,
    read_script,
    runs_itself,
    split_arguments,
)

Run = Callable[..., dict[str, Any]]
FILE = str(Path("/none/train.py").absolute())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Execute a script in a namespace as an interactive one is, and return that."""
    main = types.ModuleType("__main__", "Automatically created module for IPython")
    main.exit = main.quit = lambda *_args: pytest.fail("the kernel would end")  # type: ignore[attr-defined]
    namespace = main.__dict__
    monkeypatch.setattr(sys, "argv", ["kernel", "-f", "connection.json"])

    def run(source: str, *arguments: str, name: str = "/none/train.py", **how: bool) -> Any:
        exec(Program(name, arguments, **how).code(source), namespace)
        return namespace

    path = list(sys.path)
    yield run
    assert sys.argv == ["kernel", "-f", "connection.json"]
    assert sys.path == path


def failure(run: Run, source: str, **how: Any) -> tuple[str, str, str]:
    """The name, the text and the traceback of the exception that a kernel gets."""
    with pytest.raises(Exception) as caught:
        run(source, **how)
    error: Any = caught.value
    assert error.__context__ is None, "IPython looks for exception groups there"
    return type(error).__name__, str(error), "\n".join(error._render_traceback_())


# --- what a script finds --------------------------------------------------------------------------


def test_a_script_finds_what_python_gives_a_program(run: Run) -> None:
    """Its name, its arguments, its file, and none of the names of a console."""
    found = run(
        "import sys\nseen = sys.argv, __name__, __file__, __doc__, __package__",
        *("--epochs", "3", "", "a b", "'\"\\n\n", "é漢", "\udcff"),
    )
    argv = ["/none/train.py", "--epochs", "3", "", "a b", "'\"\\n\n", "é漢", "\udcff"]
    assert found["seen"] == (argv, "__main__", FILE, None, None)


def test_a_script_leaves_its_variables_and_nothing_else(run: Run) -> None:
    """Each name that the command sets is as before; a name that the script has set itself stays."""
    before = dict(run("pass"))
    after = run("x = 1\ndef quit(): pass\n")
    added = {name for name in after if name not in before or after[name] is not before[name]}
    assert added == {"x", "quit"}
    assert after["__doc__"] == "Automatically created module for IPython"
    assert "__file__" not in after


def test_a_docstring_and_future_imports(run: Run) -> None:
    """They count as at the beginning of a file."""
    source = '#!/usr/bin/env python3\n"""Train."""\nfrom __future__ import annotations\n'
    after = run(source + "def f(x: unknown): pass\nassert __doc__ == 'Train.'\n")
    assert after["f"].__annotations__ == {"x": "unknown"}


def test_neighbours_can_be_imported_if_the_folder_exists(run: Run, tmp_path: Path) -> None:
    """The folder of the file itself, not of a link to it, comes first, as for Python."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "train.py")
    (tmp_path / "real" / "train.py").touch()
    (tmp_path / "real" / "gateway_neighbour.py").write_text("x = 6 * 7")
    source = "import gateway_neighbour, sys\nfirst = sys.path[0]"
    try:
        after = run(source, name=str(tmp_path / "link.py"))
    finally:
        del sys.modules["gateway_neighbour"]
    assert after["first"] == os.path.realpath(tmp_path / "real")
    assert after["gateway_neighbour"].x == 42
    after = run("first = __import__('sys').path[0]")
    assert after["first"] != "/none"


def test_a_spawned_process_executes_only_a_file_that_exists(run: Run, tmp_path: Path) -> None:
    """multiprocessing skips a module that its __spec__ calls __main__."""
    assert run("name = __spec__.name")["name"] == "__main__"
    file = tmp_path / "train.py"
    file.touch()
    assert run("spec = __spec__", name=str(file))["spec"] is None


def test_standard_input_has_no_file(run: Run) -> None:
    """As for `python -`."""
    after = run("import sys\nseen = sys.argv, '__file__' in globals()", "-v", name="-")
    assert after["seen"] == (["-", "-v"], False)
    assert '  File "<stdin>", line 1, in <module>' in failure(run, "1 / 0", name="-")[2]


@pytest.mark.parametrize("in_color", [True, False])
def test_a_kernel_asks_for_colors_on_a_terminal_only(
    run: Run, in_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.14 would put them into a pipe, because ipykernel sets FORCE_COLOR."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    source = "import os\nseen = [os.environ.get(n) for n in ('FORCE_COLOR', 'NO_COLOR')]"
    assert run(source, in_color=in_color)["seen"] == (["1", None] if in_color else [None, "1"])
    assert (os.environ["FORCE_COLOR"], os.environ.get("NO_COLOR")) == ("1", None)


# --- how it is executed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("x = 1\nx + 1", [2]),
        ("1\n2\n3", [3]),
        ("x = 1\nx + 1;", []),
        ("x = 1\nNone", [None]),
        ("'a docstring'", []),
        ("", []),
        ("import asyncio\nawait asyncio.sleep(0, 5)", [5]),
        ("import asyncio\nx = await asyncio.sleep(0, 5)\nx + 1", [6]),
    ],
)
def test_the_value_of_the_last_expression_is_shown(
    run: Run, source: str, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a cell, with a top-level await, too; the display hook leaves None out."""
    values: list[Any] = []
    monkeypatch.setattr(sys, "displayhook", values.append)
    run(source)
    assert values == shown


def test_a_script_runs_its_own_event_loop(run: Run) -> None:
    """Although the kernel's is running, in the same thread, and goes on afterwards."""
    source = (
        "import asyncio\n"
        "async def main(): return asyncio.get_running_loop()\n"
        "loops = [asyncio.get_event_loop().run_until_complete(main()), asyncio.run(main())]\n"
    )

    async def kernel() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        loops = run(source)["loops"]
        assert loop not in loops
        assert all(each.is_closed() for each in loops)
        with pytest.raises(Exception, match="division"):
            run("1 / 0")
        assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
        assert asyncio.get_event_loop() is loop
        await asyncio.sleep(0)

    asyncio.run(kernel())


def test_threads_of_a_program_end_before_its_kernel(run: Run) -> None:
    """Python waits for them, too; it does not wait for daemons and idle executors."""
    source = (
        "import concurrent.futures, threading\n"
        "stop = threading.Event()\n"
        "daemon = threading.Thread(target=stop.wait, daemon=True)\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=go.wait)\n"
        "for each in daemon, thread: each.start()\n"
        "pool = concurrent.futures.ThreadPoolExecutor(1)\n"
        "pool.submit(int).result()\n"
    )
    for ends in (True, False):
        later = "threading.Timer(0.2, go.set).start()\n" if ends else ""
        after = run(source + later, ends_with_script=ends)
        assert after["thread"].is_alive() is not ends
        after["go"].set()
        after["thread"].join(60)
        assert after["daemon"].is_alive()
        after["stop"].set()
        after["daemon"].join(60)
        after["pool"].shutdown()


def test_threads_end_before_a_failure_is_reported(run: Run) -> None:
    """The status is that of the script."""
    source = (
        "import sys, threading\n"
        "thread = threading.Thread(target=threading.Event().wait, args=(0.2,))\n"
        "thread.start()\n"
        "sys.exit(3)\n"
    )
    assert failure(run, source)[:2] == ("SystemExit", "3")
    assert not run("pass")["thread"].is_alive()


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "status", "text"),
    [
        ("3", 3, ""),
        ("256 + 7", 7, ""),
        ("-1", 255, ""),
        ("True", 1, ""),
        ("'not today'", 1, "not today\n"),
        ("'3'", 1, "3\n"),
        ("2.5", 1, "2.5\n"),
        ("''", 1, "\n"),
        ("('a', 3)", 1, "('a', 3)\n"),
    ],
)
@pytest.mark.parametrize("function", ["sys.exit", "exit", "quit", "raise SystemExit"])
def test_sys_exit_gives_the_status(
    run: Run,
    function: str,
    argument: str,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A number is the status; anything else is written to standard error, and is status 1."""
    name, value, shown = failure(run, f"import sys\n{function}({argument})")
    assert (name, value, shown) == ("SystemExit", str(status), "")
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize("argument", ["", "None", "0", "False", "256"])
def test_sys_exit_may_mean_success(run: Run, argument: str) -> None:
    """The statements after it are not executed."""
    assert "x" not in run(f"import sys\nsys.exit({argument})\nx = 1")


def test_a_traceback_is_that_of_python(run: Run) -> None:
    """It begins with the script, and has its name, its true lines, and the causes."""
    source = "def f():\n    return {}['x']  # here\n\n\ntry:\n    f()\nexcept KeyError as error:\n"
    name, text, shown = failure(run, source + "    raise ValueError('bad') from error\n")
    assert (name, text) == ("ValueError", "bad")
    lines = [line for line in shown.splitlines() if set(line) - set(" ^~")]
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{FILE}", line 6, in <module>',
        "    f()",
        f'  File "{FILE}", line 2, in f',
        "    return {}['x']  # here",
        "KeyError: 'x'",
        "The above exception was the direct cause of the following exception:",
        "Traceback (most recent call last):",
        f'  File "{FILE}", line 8, in <module>',
        "    raise ValueError('bad') from error",
        "ValueError: bad",
    ]


def test_line_numbers_count_line_ends_only(run: Run) -> None:
    """A form feed or a line separator is not one, for Python."""
    shown = failure(run, "x = 1  # \u2028 \x0c \x1c\n1 / 0  # here\n")[2]
    assert "line 2, in <module>\n    1 / 0  # here" in shown


def test_a_syntax_error_shows_its_line(run: Run) -> None:
    """Nothing is executed, and no frame of the command is shown."""
    name, _text, shown = failure(run, "x = 1\ndef f(:\n")
    assert name == "SyntaxError"
    assert "Traceback" not in shown
    assert shown.startswith('  File "')
    assert 'train.py", line 2\n    def f(:\n' in shown


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "GeneratorExit", "ExceptionGroup"])
def test_any_exception_ends_a_script(run: Run, kind: str) -> None:
    """The kernel gets its name, and treats it as any other."""
    argument = "'many', [ValueError(1)]" if kind == "ExceptionGroup" else ""
    name, _text, shown = failure(run, f"raise {kind}({argument})")
    assert name == kind
    assert kind in shown


def test_an_exception_without_a_text(run: Run) -> None:
    """Its __str__ raises an error, which does not hide it."""
    source = "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E\n"
    assert failure(run, source)[:2] == ("E", "")


def test_a_debugger_finds_the_frames_of_the_script(run: Run) -> None:
    """The exception that the kernel gets ends in the frame that failed."""
    with pytest.raises(Exception, match="division") as caught:
        run("def f():\n    inside = 1\n    1 / 0\nf()")
    assert caught.traceback[-1].frame.f_locals["inside"] == 1


# --- the text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"print(1)\r\nx = '''\r\n'''\r", "print(1)\nx = '''\n'''\n"),
        ("\ufeffé".encode(), "é"),
        ("# coding: latin-1\né".encode("latin-1"), "# coding: latin-1\né"),
        (
            "#!/x\n# vim: fileencoding=cp1252:\n€".encode("cp1252"),
            "#!/x\n# vim: fileencoding=cp1252:\n€",
        ),
        ("# coding: see below\né".encode(), "# coding: see below\né"),
        (b"", ""),
    ],
)
def test_decode_script(data: bytes, text: str) -> None:
    """The declared encoding counts; an unknown one is a comment of another language."""
    assert decode_script(data) == text


@pytest.mark.parametrize(
    ("data", "encoding"), [(b"\xe9", "UTF-8"), (b"# coding: ascii\n\n\xe9", "ascii")]
)
def test_a_script_that_is_not_text(data: bytes, encoding: str, tmp_path: Path) -> None:
    """The error names the file and the encoding."""
    (tmp_path / "a.py").write_bytes(data)
    with pytest.raises(UsageError, match=rf"cannot read .*a\.py: it is not {encoding} text"):
        read_script(tmp_path / "a.py")


def test_the_code_for_the_kernel_is_ascii_and_defines_nothing() -> None:
    """No encoding on the way can change it."""
    code = Program("é.py", ("\udcff", "漢")).code("x = '\ud800é'")
    assert code.isascii()
    assert code.startswith("exec(")


# --- the command line -----------------------------------------------------------------------------

VALUED = ("kernel", "jobs", "j", "timeout")


@pytest.mark.parametrize(
    ("line", "own", "arguments"),
    [
        ("train.py", "train.py", ""),
        ("train.py -- --epochs 3 -- -p", "train.py", "--epochs 3 -- -p"),
        ("train.py --timeout=5 -- --timeout=6", "train.py --timeout=5", "--timeout=6"),
        ("-- train.py --epochs 3", "-- train.py", "--epochs 3"),
        ("--timeout 5 -- train.py 3", "--timeout 5 -- train.py", "3"),
        ("-- -odd.py", "-- -odd.py", ""),
        ("-- a.ipynb b.ipynb", "-- a.ipynb b.ipynb", ""),
        ("--", "--", ""),
        ("a.ipynb --jobs 3 b.ipynb", "a.ipynb --jobs 3 b.ipynb", ""),
        ("- -- x", "-", "x"),
        ("./itself --epochs 3 b.py", "./itself", "--epochs 3 b.py"),
        ("./itself --help -- x", "./itself", "--help -- x"),
        ("./itself -- --epochs 3", "./itself", "--epochs 3"),
        ("-- ./itself --epochs 3", "-- ./itself", "--epochs 3"),
        ("--kernel ir -j 4 ./itself 3", "--kernel ir -j 4 ./itself", "3"),
        ("--kernel=ir --keep -j4 ./itself 3", "--kernel=ir --keep -j4 ./itself", "3"),
        ("--Any.thing 5 ./itself 3", "--Any.thing 5 ./itself", "3"),
        ("-p a 1 -p b=2 ./itself 3", "-p a 1 -p b=2 ./itself", "3"),
        ("a.py ./itself 3", "a.py ./itself 3", ""),
        ("--timeout", "--timeout", ""),
        ("", "", ""),
    ],
)
def test_split_arguments(line: str, own: str, arguments: str) -> None:
    """After a script that runs itself, and after --, the words are the script's."""
    words = split_arguments(line.split(), VALUED, lambda name: name == "./itself")
    assert words == (own.split(), arguments.split())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/usr/bin/env -S jupyter gateway run", True),
        ("#!/usr/bin/env -S jupyter gateway run --kernel=python3 --", True),
        ("#!/opt/env/bin/jupyter-gateway run", True),
        ("#!/usr/bin/env -S python -m gateway_blocking run", True),
        ("#!/usr/bin/env python3", False),
        ("# jupyter gateway run", False),
        ("#!/usr/bin/env -S jupyter gateway exec", False),
        ("", False),
    ],
)
def test_a_script_runs_itself_by_its_first_line(first: str, expected: bool, tmp_path: Path) -> None:
    """And only if it is executable."""
    file = tmp_path / "train.py"
    file.write_text(f"{first}\nprint(1)\n")
    assert not runs_itself(str(file))
    file.chmod(0o755)
    assert runs_itself(str(file)) is expected
    assert not runs_itself(str(tmp_path))
    assert not runs_itself(str(tmp_path / "none.py"))
