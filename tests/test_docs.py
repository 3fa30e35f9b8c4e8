"""What README and documentation say is what the code does: commands, examples, tables."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from jupyter_server.gateway import gateway_client, managers
from nbformat.v4 import new_code_cell

import gateway_blocking
from gateway_blocking import GatewayClient, deadline, errors
from gateway_blocking.local import LocalGateway
from servers_table import tables
from support.terminal import Terminal

ROOT = Path(__file__).parent.parent
README = ROOT / "README.rst"
DOCS = ROOT / "docs"
PACKAGE = ROOT / "gateway_blocking"
PAGES = [README, *sorted(DOCS.rglob("*.rst"))]
EXAMPLE = DOCS / "examples" / "example.ipynb"
TESTS: dict[str, str] = {}  # the text of all modules of a name: two folders may have one each
for _path in sorted((ROOT / "tests").rglob("test_*.py")):
    TESTS[_path.name] = TESTS.get(_path.name, "") + _path.read_text()


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The code blocks of a page in a language: the caption, which names a file, and the code."""
    blocks = re.findall(
        rf"^\.\. code-block:: {language}\n(?:    :caption: (.*)\n)?\n((?:    .*\n|\n)+)",
        page.read_text() + "\n",
        re.MULTILINE,
    )
    # The directive may be indented as well; none of ours is, and none must be overlooked.
    assert len(blocks) == page.read_text().count(f"code-block:: {language}")
    return [(caption, textwrap.dedent(code)) for caption, code in blocks]


def _examples(page: Path) -> list[str]:
    """The Python code of a page that is to be run, and not to be put into a file."""
    return [code for caption, code in _blocks(page, "python") if not caption]


def _shell_script(page: Path) -> str:
    """What a page has one type, without the prompts."""
    script = "".join(code for _, code in _blocks(page, "console"))
    return re.sub(r"^\$ ", "", script, flags=re.MULTILINE)


def _commands() -> list[str]:
    """The README's commands for a fresh machine."""
    return re.findall(r"^ +(python3 -m venv .*)$", README.read_text(), re.MULTILINE)


def _exceptions() -> set[str]:
    return {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}


# --- commands -------------------------------------------------------------------------------------


def test_the_two_commands_of_the_readme_are_what_ci_runs() -> None:
    """A README that has other commands than the check, or more, or fewer, fails."""
    run, test = _commands()
    ci = [line.strip("()") for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    assert EXAMPLE.is_file()
    assert run.endswith(f"jupyter gateway run {_name(EXAMPLE)}")
    assert test.endswith("-m pytest")
    assert run in ci
    assert ci[-1] == test, "the tests' summary is to be the last thing that is printed"


@pytest.mark.parametrize("page", ["tutorial.rst", "contributing.rst"])
def test_the_documentation_has_the_commands_of_the_readme(page: str) -> None:
    """The first command of the tutorial and the test command are those of the README."""
    text = (DOCS / page).read_text()
    if page == "tutorial.rst":
        assert f"    {_commands()[0]}\n" in text
    else:
        assert f"    {_commands()[1].rpartition(' && ')[2]}\n" in text


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [README, DOCS / "tutorial.rst", *sorted((DOCS / "howto").glob("*.rst"))], ids=_name
)
def test_a_page_has_an_example(page: Path) -> None:
    """README, tutorial and every how-to show code, and it is found by the tests below."""
    assert _examples(page) or _shell_script(page)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{_name(page)}-{number}")
        for page in PAGES
        for number, code in enumerate(_examples(page), 1)
    ],
)
def test_an_example_runs(
    code: str, gateway_env: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example is complete: it runs as it stands, with a gateway in the environment."""
    shutil.copy(EXAMPLE, tmp_path / "analysis.ipynb")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})


def test_the_readme_works_as_it_is_typed_and_again(terminal: Terminal) -> None:
    """In a clone, after "Try it": all lines of "Use it", twice.

    Left out is what the tests bring along: a gateway, its variables, the environment and papermill.
    """
    examples = terminal.directory / "docs" / "examples"
    examples.mkdir(parents=True)
    for example in EXAMPLE.parent.iterdir():
        shutil.copy(example, examples)
    section = README.read_text().partition("\nUse it\n")[2].partition("\nWhy\n")[0]
    typed = re.findall(r"^    (?:\$ )?((?:jupyter|papermill|cp|pip|export|\.) .*)$", section, re.M)
    brought = ("pip install", "export JUPYTER_GATEWAY_URL=", ". .venv/bin/activate")
    lines = [line for line in typed if not line.startswith(brought)]
    assert len(lines) == len(typed) - len(brought) == 4
    path = f"{Path(sys.executable).parent}{os.pathsep}{terminal.env['PATH']}"
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-euc", "\n".join(lines)],
            cwd=terminal.directory,
            env={**terminal.env, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    assert (terminal.directory / "done" / "analysis.ipynb").is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if _shell_script(page)], ids=_name)
def test_the_commands_of_a_page_run(page: Path, terminal: Terminal) -> None:
    """Typed as they stand, with the page's files in place, they execute on the gateway."""
    home = terminal.directory
    nb = nbformat.read(EXAMPLE, as_version=4)
    # Not so on a kernel of this machine's, which a runner might start unasked.
    nb.cells.insert(0, new_code_cell("import os\nassert os.environ['KERNEL_GATEWAY']"))
    nb.cells.insert(0, new_code_cell("alpha = 0", metadata={"tags": ["parameters"]}))
    nbformat.write(nb, home / "analysis.ipynb")
    for caption, code in _blocks(page, "python"):
        if caption:
            file = home / caption.removeprefix("~/")
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
    env = {name: text for name, text in terminal.env.items() if not name.startswith("PYTEST_")}
    del env["JUPYTER_CONFIG_DIR"]
    env.pop("JUPYTER_PLATFORM_DIRS", None)  # with it ~/.jupyter is another folder
    path = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", _shell_script(page)],
        cwd=home,
        env={**env, "HOME": str(home), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_example_of_the_types_is_the_file_that_mypy_checks() -> None:
    """The page has ``docs/examples/typed.py`` as it is."""
    (code,) = [code for _, code in _blocks(DOCS / "howto" / "typing.rst", "python")]
    assert code.strip() == (DOCS / "examples" / "typed.py").read_text().strip()


def test_the_doctests_of_deadline_run() -> None:
    """The examples in deadline.py are there, and true."""
    result = doctest.testmod(deadline)
    assert result.attempted
    assert not result.failed


# --- tables and lists -----------------------------------------------------------------------------


def test_the_table_of_options_is_whole() -> None:
    """Every option of GatewayClient is in the table that the documentation is built with."""
    table = runpy.run_path(str(DOCS / "conf.py"))["options_table"]()
    options = GatewayClient.class_own_traits(config=True)
    assert {"url", "auth_token"} <= set(options)
    for name in options:
        assert f"| ``{name}``\n" in table
    assert "``JUPYTER_GATEWAY_URL``" in table
    assert ".. gateway-options::" in (DOCS / "reference" / "configuration.rst").read_text()


def test_the_table_of_requirements_is_whole() -> None:
    """Every package that a user gets, with its minimum."""
    table = runpy.run_path(str(DOCS / "conf.py"))["requirements"]()
    for name in ("certifi", "jupyter_client", "websocket-client", "nbclient", "ipykernel"):
        assert re.search(rf"\* - {name}\n     - \d", table), name
    assert ".. requirements::" in (DOCS / "installation.rst").read_text()


def test_the_page_of_errors_is_whole() -> None:
    """It has every exception, and for each what to do about it."""
    page = (DOCS / "reference" / "errors.rst").read_text()
    listed = re.findall(r"^\.\. autoexception:: (\w+)\n\n   \*\*Remedy:\*\* \S", page, re.MULTILINE)
    assert sorted(listed) == sorted(_exceptions())


def test_the_reference_has_every_public_name() -> None:
    """Each name of gateway_blocking is described in api.rst, but for the errors."""
    page = (DOCS / "reference" / "api.rst").read_text()
    described = set(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", page, re.MULTILINE))
    assert described == set(gateway_blocking.__all__) - _exceptions() - {"__version__"}


def test_the_picture_of_the_architecture_has_every_module() -> None:
    """A module that is added or renamed is to be drawn in its layer."""
    page = (DOCS / "topics" / "architecture.rst").read_text()
    picture = page[: page.index("Imports go down only")]
    modules = {path.stem for path in PACKAGE.glob("[!_]*.py")}
    assert [name for name in modules if not re.search(rf"\b{name}\b", picture)] == []


def test_the_places_of_the_architecture_exist() -> None:
    """Each module that the page names, with each function that it names beside it."""
    page = (DOCS / "topics" / "architecture.rst").read_text()
    table = page.partition("Places to change\n")[2].partition("The engine\n")[0]
    places = re.findall(r"``([\w/]+\.py)``(?:: ((?:``[\w()]+``(?:, )?)+))?", table)
    assert len(places) > 15
    for module, names in places:
        text = (PACKAGE / module).read_text()
        for name in re.findall(r"``(\w+)", names):
            assert re.search(rf"^(def |class )?{name}\b", text, re.MULTILINE), f"{module}: {name}"


def test_the_table_of_modules_is_whole() -> None:
    """Every module is in the table that the documentation is built with, with its purpose."""
    table = runpy.run_path(str(DOCS / "conf.py"))["modules_table"]()
    rows = dict(re.findall(r"\* - ``(\S+)``\n     - (.+)", table))
    assert {"connection.py", "cli/app.py"} <= set(rows)
    modules = PACKAGE.rglob("[!_]*.py")
    assert set(rows) == {path.relative_to(PACKAGE).as_posix() for path in modules}


def test_the_table_of_faults_names_tests_that_exist() -> None:
    """Fault by fault, without a gap."""
    page = (DOCS / "topics" / "reliability.rst").read_text()
    named = re.findall(r"``(test_\w+\.py)::(test_\w+)``", page)
    assert len(named) >= 35
    for file, test in named:
        assert f"\ndef {test}(" in TESTS[file], test
    numbers = [int(number) for number in re.findall(r"^   \* - (\d+)$", page, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_tables_of_servers_are_those_of_the_tests() -> None:
    """Which have to pass where the page says yes, and to fail where it gives a reason."""
    assert tables() in (DOCS / "reference" / "servers.rst").read_text()


def test_readme_and_plot_have_the_figures_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows and columns of it, as the benchmark writes them."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import report

    page = (DOCS / "topics" / "performance.rst").read_text()
    table = page.partition(".. list-table:: Medians\n")[2].partition("\n\n.. ")[0]
    rows = [
        re.findall(r"^     - (.*)$|^   \* - ?(.*)$", row, re.MULTILINE)
        for row in re.split(r"\n(?=   \* -)", table)[1:]
    ]
    figures = [[value or title for value, title in row] for row in rows]
    assert f"\n{report.headlines(figures)}\n" in README.read_text()
    assert len(report.headlines(figures).splitlines()) == 4 + len(report.HEADLINES)
    plot = (DOCS / "topics" / "performance.svg").read_text(encoding="utf-8")
    assert plot == report.plot(figures)


# --- for who comes from jupyter_server ----------------------------------------------------------

FROM_JUPYTER_SERVER = DOCS / "reference" / "from-jupyter-server.rst"


def _defined_by(module: ModuleType) -> set[str]:
    """The classes of a module, and all that is defined in their bodies or beside them."""
    names = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            names |= {inner.name for inner in node.body if isinstance(inner, functions)}
    return names - {"__init__", "default"}


def test_everything_of_jupyter_servers_gateway_has_its_row() -> None:
    """Each class, method and function of its managers, and each option of its client."""
    text = FROM_JUPYTER_SERVER.read_text()
    wanted = _defined_by(managers) | gateway_client.GatewayClient.class_own_traits().keys()
    missing = {name for name in wanted if not re.search(rf"\b{re.escape(name)}\b", text)}
    assert len(wanted) > 70
    assert not missing


def test_the_tests_that_it_names_exist() -> None:
    """In the files that it gives for them, and no row is without."""
    text = " ".join(FROM_JUPYTER_SERVER.read_text().split())
    cited = re.findall(r"((?:``test_\w+``,? )+)in ``(test_\w+\.py)``", text)
    assert len(cited) > 100
    for names, file in cited:
        source = TESTS[file]
        for name in re.findall(r"test_\w+", names):
            assert f"def {name}(" in source, f"{name} is not in {file}"
    assert "(none)" not in text
    assert "(pending)" not in text
