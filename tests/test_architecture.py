"""The shape of the package: its layers, the home of each foreign library, its exports."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.resources
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway_blocking

PACKAGE = Path(gateway_blocking.__file__).parent

# From the bottom to the top.  A module imports from lower layers.
LAYERS = (
    {  # pure
        *("_version", "errors", "deadline", "escape", "forking", "advice"),
        *("deprecation", "imports", "suggest", "timeouts"),
        *(
            "frames",
            "wire",
            "messages",
            "liveness",
            "sequence",
            "requests_table",
            "recovery",
            "models",
        ),
        *(
            "collector",
            "pool_model",
            "pool_state",
            "bridge.routing",
            "bridge.framing",
            "bridge.kernelspecs",
        ),
        *("actions", "timers", "outcomes", "reconnection", "recovery_driver"),
        *("kernel_monitor", "keepalive", "protocol"),
    },
    {  # edges
        *("tokens", "events", "urls", "traits", "config", "bodies", "adapters", "failures"),
        *("auth", "environment", "logger", "responses", "retry", "tls"),
        *("http", "launch", "rest", "contents"),
        *("locks", "transport", "handshake", "signals", "prompt"),
        *("mailbox", "backlog", "coroutines", "channels", "local_files"),
        *("cleanup", "reaper", "reaper_process", "threads"),
    },
    {"runner", "reader", "sender", "heartbeat", "connection"},  # engine
    {  # parts of a client
        *("connector", "kernel_requests", "readiness", "interactive"),
        *("execution", "kernel_operations", "running"),
        *("kernel_calls", "kernel_files", "transfer", "variables", "contents_transfer"),
    },
    {  # mirror
        *("remote", "client", "clients", "ownership", "lifecycle"),
        *("kernelspec", "manager", "multikernelmanager", "sessions"),
        *("pool", "pool_kernel", "pool_map", "pool_workers"),
    },
    {  # front
        *("local", "papermill_engine", "__init__"),
        *("mcp_answers", "mcp_session", "mcp_tools", "mcp_server"),
        *("bridge", "bridge.bridge", "bridge.client", "bridge.directories", "bridge.kernel"),
        *("bridge.outbox", "bridge.parent", "bridge.publisher", "bridge.sockets"),
        "bridge.worker",
    },
    # what all commands share
    {
        *("cli.errors", "cli.terminal", "cli.files", "cli.started", "cli.notebook_log"),
        *("cli.directory_maps", "cli.html_text", "cli.inline_images", "cli.profiles"),
        *("cli.argv", "cli.kernel_lookup", "cli.command"),
    },
    {  # the files that commands execute
        *("cli.batch", "cli.jobs", "cli.script_job", "cli.notebook_job", "cli.notebook_file"),
        "cli.job_files",
        *("cli.kernel_program", "cli.program"),
        *("cli.outcomes", "cli.progress", "cli.parameters", "cli.destinations"),
    },
    {  # commands
        *("cli.run", "cli.kernels", "cli.kernelspecs", "cli.status"),
        *("cli.start", "cli.stop", "cli.interrupt", "cli.restart"),
        *("cli.exec", "cli.attach", "cli.console", "cli.shell", "cli.mcp"),
        *("cli.bridge", "cli.install", "cli.profile", "cli.cp"),
    },
    {"cli.app", "cli", "__main__"},  # the application
)
PURE, _edges, ENGINE, _parts, MIRROR, *_above = LAYERS
POOL = {"pool", "pool_kernel", "pool_map", "pool_workers"}

ON_DEMAND = {"cli.shell", "mcp_server"}  # modules that are imported in functions only

# What a module may import from its own layer.
SIDEWAYS = {
    "advice": {"escape", "suggest"},
    "errors": {"deprecation", "escape"},
    "frames": {"errors"},
    "messages": {"errors"},
    "wire": {"errors", "frames", "messages"},
    "liveness": {"messages"},
    "sequence": {"messages"},
    "requests_table": {"messages", "sequence"},
    "recovery": {"messages", "requests_table"},
    "collector": {"messages"},
    "bridge.routing": {"errors", "escape"},
    "bridge.kernelspecs": {"models"},
    "bridge.bridge": {"bridge.client", "bridge.outbox", "bridge.publisher", "bridge.sockets"}
    | {"bridge.worker"},
    "bridge.publisher": {"bridge.sockets"},
    "bridge.kernel": {"bridge.client"},
    "pool_model": {"errors"},
    "pool_state": {"errors", "pool_model", "timeouts"},
    "actions": {"errors", "messages", "requests_table"},
    "outcomes": {"advice", "errors", "liveness", "requests_table"},
    "reconnection": {"actions", "errors"},
    "recovery_driver": {"actions", "errors", "liveness", "messages", "outcomes", "reconnection"}
    | {"recovery", "requests_table", "timers", "wire"},
    "keepalive": {"actions", "liveness", "timers"},
    "kernel_monitor": {"actions", "errors", "liveness", "messages", "outcomes", "requests_table"}
    | {"timers"},
    "protocol": {
        "actions",
        "advice",
        "errors",
        "keepalive",
        "kernel_monitor",
        "liveness",
        "messages",
        "outcomes",
    }
    | {"reconnection", "recovery_driver", "requests_table", "timers"},
    "threads": {"locks"},
    "reader": {"runner"},
    "sender": {"reader", "runner"},
    "heartbeat": {"reader", "runner"},
    "connection": {"heartbeat", "reader", "runner", "sender"},
    "models": {"advice"},
    "tokens": {"locks"},
    "traits": {"events", "urls"},
    "auth": {"config", "locks", "tokens"},
    "environment": {"traits"},
    "config": {"auth", "environment", "events", "logger", "rest", "tls", "tokens", "traits"}
    | {"urls"},
    "adapters": {"bodies", "config", "tls", "urls"},
    "failures": {"adapters", "config", "responses", "tls"},
    "responses": {"traits"},
    "retry": {"locks"},
    "http": {"adapters", "bodies", "config", "events", "failures", "locks", "logger", "reaper"}
    | {"responses", "retry", "traits", "urls"},
    "launch": {"adapters", "http", "logger", "retry"},
    "reaper": {"locks"},
    "contents": {"http"},
    "contents_transfer": {"transfer"},
    "rest": {"config", "contents", "failures", "http", "launch", "logger", "reaper", "retry"},
    "transport": {"locks"},
    "mailbox": {"locks"},
    "coroutines": {"locks", "mailbox"},
    "channels": {"backlog", "coroutines", "locks", "mailbox"},
    "handshake": {"responses", "tls", "traits", "transport"},
    "readiness": {"connector"},
    "kernel_operations": {"connector", "execution", "kernel_requests", "running"}
    | {"kernel_calls", "transfer", "contents_transfer", "variables"},
    "kernel_calls": {"connector"},
    "transfer": {"kernel_calls"},
    "variables": {"execution", "kernel_calls"},
    "running": {"connector", "execution", "interactive"},
    "client": {"remote"},
    "kernelspec": {"remote"},
    "clients": {"client"},
    "ownership": {"clients"},
    "lifecycle": {"clients", "ownership", "remote"},
    "manager": {"client", "kernelspec", "lifecycle", "remote"},
    "multikernelmanager": {"kernelspec", "manager", "remote"},
    "sessions": {"multikernelmanager", "remote"},
    "pool_kernel": {"client", "manager"},
    "pool_map": {"client"},
    "pool_workers": {"pool_kernel"},
    "pool": {"client", "manager", "pool_kernel", "pool_map", "pool_workers"},
    "mcp_tools": {"mcp_answers", "mcp_session"},
    "mcp_server": {"mcp_answers", "mcp_session", "mcp_tools"},
    "cli.argv": {"cli.errors"},
    "cli.command": {"cli.argv", "cli.errors", "cli.kernel_lookup", "cli.profiles", "cli.terminal"},
    "cli.profiles": {"cli.errors"},
    "cli.directory_maps": {"cli.errors"},
    "cli.files": {"cli.errors"},
    "cli.notebook_log": {"cli.errors", "cli.files"},
    "cli.kernel_lookup": {"cli.errors", "cli.started"},
    "cli.started": {"cli.errors", "cli.terminal"},
    "cli.terminal": {"cli.errors", "cli.html_text", "cli.inline_images"},
    "cli.batch": {"cli.jobs", "cli.outcomes", "cli.progress"},
    "cli.notebook_job": {"cli.jobs", "cli.notebook_file", "cli.parameters"},
    "cli.outcomes": {"cli.jobs"},
    "cli.progress": {"cli.jobs"},
    "cli.script_job": {"cli.jobs", "cli.program"},
    "cli.program": {"cli.kernel_program"},
    "cli.console": {"cli.shell"},
    "cli": {"cli.app"},
    "__main__": {"cli"},
}

# The modules in which a library may be imported.
HOMES = {
    "requests": {"bodies", "adapters", "failures", "http", "urls"},
    "urllib3": {"bodies", "adapters", "failures", "http", "urls"},
    "certifi": {"tls"},
    "websocket": {"handshake"},
    "traitlets": {"auth", "config", "environment", "logger", "tokens", "traits"}
    | {"papermill_engine"}
    | MIRROR - {"clients", "lifecycle", "ownership"} - POOL
    | {f"cli.{name}" for name in ("argv", "command", "exec", "notebook_job", "run")}
    | {
        f"cli.{name}"
        for name in ("console", "mcp", "shell", "start", "status", "stop", "bridge", "install")
    }
    | {"cli.cp", "cli.profile", "bridge.client", "bridge.kernel"},
    "jupyter_client": {"errors", "messages", "wire", "channels", "connector", "kernel_requests"}
    | {"protocol", "recovery_driver", "connection", "reader", "sender"}
    | (MIRROR - {"clients", "ownership", "sessions"} - POOL)
    | {"bridge.bridge", "bridge.sockets", "cli.bridge", "cli.install"},
    "zmq": {"bridge.bridge", "bridge.publisher", "bridge.sockets"},
    "jupyter_core": {"cli.app", "cli.bridge", "cli.command", "cli.profiles", "cli.started"},
    "IPython": {"interactive", "kernel_files"},
    "nbclient": {"cli.notebook_file", "cli.notebook_job"},
    "nbformat": {"cli.notebook_file"},
    "kernel_gateway": {"local"},
    "tornado": {"local"},
    "papermill": {"cli.notebook_job", "papermill_engine"},
    "rich": {"cli.progress", "cli.terminal"},
    "jupyter_console": {"cli.shell"},
    "PIL": {"cli.inline_images"},
    "timg": {"cli.inline_images"},
    "mcp": {"mcp_server"},
    "mcp_types": {"mcp_server"},
    "anyio": {"mcp_server"},
    "asyncio": {"coroutines", "cli.kernel_program", "cli.notebook_job", "cli.shell"},
    "subprocess": {"local", "reaper", "lifecycle"},  # of the latter only the names of its arguments
    "socket": {"advice", "tls", "transport", "handshake", "cli.status", "bridge.outbox"},
    "ssl": {"advice", "config", "tls", "failures", "launch", "transport", "handshake", "cli.status"}
    | {"reaper_process"},
    "threading": {  # locks; who starts threads, see below
        *("tokens", "locks", "mailbox", "signals", "threads", "multikernelmanager"),
        *("local", "cli.kernel_program", "cli.progress", "reaper_process"),
    },
}

# Where a sleep that nothing can wake is right, because it is short and part of a bounded wait.
MAY_SLEEP = {"reaper_process"}

IMPURE = {"http", "io", "logging", "pathlib", "queue", "select", "selectors", "urllib"} | {
    name for name, homes in HOMES.items() if not homes & PURE
}

# By name below gateway_blocking, such as "rest" or "cli.run"; a package is its __init__.
PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
MODULES = sorted(PATHS)


def tree_of(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text())


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported anywhere; ours begin with their dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def absolute(module: str, name: str) -> str:
    """What `name`, with its dots, means in a module of ours."""
    inside = PATHS[module].parent.relative_to(PACKAGE).parts
    path = name.lstrip(".")
    up = len(name) - len(path) - 1
    return ".".join([*inside[: len(inside) - up], path])


def siblings_of(module: str) -> set[str]:
    """Our modules that this one imports."""
    names = imports_of(tree_of(module))
    relative = {absolute(module, name) for name in names if name.startswith(".")}
    whole = {n for n in imports_of(tree_of(module)) if n.startswith("gateway_blocking")}
    return relative | {name.removeprefix("gateway_blocking.") for name in whole}


def foreign_of(tree: ast.AST) -> set[str]:
    return {
        name.partition(".")[0]
        for name in imports_of(tree)
        if not name.startswith((".", "gateway_blocking"))
    }


def layer_of(module: str) -> int:
    (found,) = (i for i, layer in enumerate(LAYERS) if module in layer)
    return found


def calls_of(tree: ast.AST) -> set[str]:
    """The last part of the name of everything that is called."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for function in functions
    }


# --- layers ---------------------------------------------------------------------------------------


def test_each_module_has_one_layer() -> None:
    """A new module takes its place in the table above; one that is gone leaves it."""
    assert sorted(name for layer in LAYERS for name in layer) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    """No module imports from a higher layer; from its own only what the table allows."""
    for other in siblings_of(module):
        if layer_of(other) == layer_of(module):
            assert other in SIDEWAYS.get(module, set()), f"{module} imports {other}, its neighbour"
        else:
            assert layer_of(other) < layer_of(module), f"{module} imports {other}, above it"


def test_the_table_of_neighbours_allows_no_more_than_is_used() -> None:
    """An exception that nobody needs any more is taken back."""
    used = {
        module: {o for o in siblings_of(module) if layer_of(o) == layer_of(module)}
        for module in MODULES
        if module != "__init__"
    }
    assert {module: others for module, others in used.items() if others} == SIDEWAYS


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_its_home(library: str) -> None:
    """Each library, and what is delicate of Python's own, is used in these modules only."""
    users = {module for module in MODULES if library in foreign_of(tree_of(module))}
    assert users == HOMES[library]


def test_all_foreign_imports_are_known() -> None:
    """A new dependency is a decision: it takes a line in the table."""
    foreign = {name for module in MODULES for name in foreign_of(tree_of(module))}
    assert foreign <= sys.stdlib_module_names | HOMES.keys() | {"__future__"}


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_do_no_io(module: str) -> None:
    """No sockets, threads, files, logging or waiting at the bottom."""
    tree = tree_of(module)
    assert not foreign_of(tree) & (IMPURE - HOMES.keys() | IMPURE - {"jupyter_client"})
    assert not calls_of(tree) & {"open", "print", "sleep", "input", "wait"}


def test_foreign_imports_are_installed_with_the_package() -> None:
    """A library that is imported at once is required; one that a function imports is in an extra.

    So is all that a module imports which is itself imported in functions only.
    """
    parser = configparser.ConfigParser()
    parser.read(PACKAGE.parent / "setup.cfg")
    required = _requirements(parser["options"]["install_requires"])
    optional = _requirements("\n".join(parser["options.extras_require"].values()))
    at_once = {
        name for module in set(MODULES) - ON_DEMAND for name in _imported_at_once(tree_of(module))
    }
    assert at_once - sys.stdlib_module_names - {"zmq"} == required
    later = {name for module in MODULES for name in foreign_of(tree_of(module))}
    brought = {"tornado": "jupyter_kernel_gateway", "IPython": "ipykernel"}
    required |= {"zmq"}  # jupyter_client requires it
    brought |= {"mcp_types": "mcp", "anyio": "mcp"}
    named = {"kernel_gateway": "jupyter_kernel_gateway", "PIL": "pillow"}
    for name in later - sys.stdlib_module_names - required:
        assert {**brought, **named}.get(name, name) in optional


@pytest.mark.parametrize("module", sorted(ON_DEMAND))
def test_what_is_needed_on_demand_is_imported_on_demand(module: str) -> None:
    """For what it imports need not be installed."""
    users = [other for other in MODULES if module in siblings_of(other)]
    assert users
    for user in users:
        top = [node for node in tree_of(user).body if isinstance(node, ast.ImportFrom)]
        names = imports_of(ast.Module(body=list(top), type_ignores=[]))
        assert module not in {absolute(user, name) for name in names if name.startswith(".")}


def test_the_oldest_versions_are_those_that_are_tested() -> None:
    """Each requirement of a package's users has its minimum, and `oldest.txt` is just these."""
    parser = configparser.ConfigParser()
    parser.read(PACKAGE.parent / "setup.cfg")
    extras = parser["options.extras_require"]
    texts = [
        parser["options"]["install_requires"],
        *(extras[e] for e in ("local", "console", "images", "mcp")),
    ]
    lowest = dict(re.findall(r"^([A-Za-z][\w-]*) *(?:>=([\d.]+))?", "\n".join(texts), re.MULTILINE))
    assert all(lowest.values()), lowest
    lowest |= dict(re.findall(r"^([A-Za-z][\w-]*) +>=([\d.]+)", extras["test"], re.MULTILINE))
    oldest = (PACKAGE.parent / "tests" / "oldest.txt").read_text()
    tested = dict(re.findall(r"^([\w-]+)==([\d.]+)$", oldest, re.MULTILINE))
    assert {name: _release(version) for name, version in tested.items()} == {
        name: _release(version) for name, version in lowest.items()
    }


def _release(version: str) -> list[int]:
    """8.6 and 8.6.0 are the same."""
    return [int(part) for part in f"{version}.0.0".split(".")[:3]]


def _requirements(text: str) -> set[str]:
    names = re.findall(r"^[A-Za-z][\w-]*", text, re.MULTILINE)
    return {{"websocket-client": "websocket"}.get(name, name) for name in names}


def _imported_at_once(tree: ast.Module) -> set[str]:
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return foreign_of(ast.Module(body=list(top), type_ignores=[]))


# --- threads and sleep ----------------------------------------------------------------------------


def test_threads_are_started_in_few_modules() -> None:
    """Nothing else starts a thread, in whatever way."""
    ways = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "to_thread"}
    ways |= {"start_new_thread", "run_in_executor", "Process"}
    # One for each file that is executed; one for each kernel while all of them are asked for.
    pools = {"cli.batch", "multikernelmanager"}
    once = {
        "signals",
        "locks",
    }  # for a moment: after a fork that a signal came into; to start others
    pipes = {"local"}  # to read one: Windows has no other way to wait for it with a timeout
    strangers = {"tokens"}  # a user's class, which may hang
    watching = {"cli.progress"}  # connections, while files are executed
    alone = {"reaper_process"}  # a process of its own
    users = {m for m in MODULES if calls_of(tree_of(m)) & ways}
    assert users == {"threads"} | pools | once | pipes | strangers | watching | alone


def test_sleep_is_rare() -> None:
    """A wait is one for an event, which a close wakes; ``time.sleep`` nobody can wake."""
    found = set()
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            match node:
                case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                    found.add(module)
                case ast.ImportFrom(module="time", names=names):
                    assert all(alias.name != "sleep" for alias in names)
    assert found == MAY_SLEEP


# --- exports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("__init__", "_version", "cli")])
def test_all_is_what_the_module_makes_public(module: str) -> None:
    """``__all__`` is every public name that the module itself defines, and nothing else."""
    exported = importlib.import_module(f"gateway_blocking.{module}").__all__
    assert len(exported) == len(set(exported))
    assert set(exported) == set(_public_definitions(tree_of(module)))


def _public_definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names = [name]
            case ast.Assign(targets=targets):
                nodes = [node for target in targets for node in ast.walk(target)]
                names = [node.id for node in nodes if isinstance(node, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        hidden = ("_", "TYPE_CHECKING")  # the latter is for type checkers only
        yield from (name for name in names if not name.startswith(hidden))


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_from_a_neighbour_is_public_there(module: str) -> None:
    """No module reaches for another one's private names."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.level:
            name = absolute(module, "." * node.level + (node.module or ""))
            origin = importlib.import_module(f"gateway_blocking.{name}")
            names = {alias.name for alias in node.names} - {"__version__"}
            assert names <= set(getattr(origin, "__all__", ())), f"from {node.module}"


# Names with an underscore of others that are used: of Python, and of the embedded gateway.
FOREIGN_PRIVATE = {"_exit", "_get_running_loop", "_getframe", "_replace", "_build_ssl_options"}
FOREIGN_PRIVATE |= {"_set_running_loop", "_enter_task", "_leave_task"}  # of asyncio


@pytest.mark.parametrize("module", MODULES)
def test_no_class_uses_private_names_of_another_module(module: str) -> None:
    """A name with an underscore is used on ``self``, or in the module that defines it."""
    tree = tree_of(module)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                own.add(name)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"))):
                pass
            case ast.Attribute(attr=name) if name.startswith("_") and not name.endswith("__"):
                found.add(name)
    assert found - FOREIGN_PRIVATE <= own


def test_the_package_exports_what_it_imports_and_sorts_it() -> None:
    """``gateway_blocking.__all__`` is all of its ``__init__``, in order."""
    body = tree_of("__init__").body
    for_type_checkers = [node for each in body if isinstance(each, ast.If) for node in each.body]
    imported = {
        alias.name
        for node in [*body, *for_type_checkers]  # the latter are imported when they are needed
        if isinstance(node, ast.ImportFrom) and node.level and node.module != "deprecation"
        for alias in node.names
    }
    assert sorted(imported) == gateway_blocking.__all__
    for name in gateway_blocking.__all__:
        assert hasattr(gateway_blocking, name)


def test_every_error_can_be_imported_from_the_package() -> None:
    """Callers need not know the module of an exception."""
    from gateway_blocking import errors

    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes <= set(gateway_blocking.__all__)


def test_the_package_is_typed() -> None:
    """The marker that tells type checkers so is there, and gets installed."""
    assert (importlib.resources.files("gateway_blocking") / "py.typed").is_file()
    parser = configparser.ConfigParser()
    parser.read(PACKAGE.parent / "setup.cfg")
    assert "py.typed" in parser["options.package_data"]["gateway_blocking"]


# --- what an import does --------------------------------------------------------------------------

IMPORT = """
import asyncio, os, sys, threading
import zmq

made = []
def refuse(*args, **kwargs):
    made.append(args)
zmq.Context.__init__ = zmq.Context.instance = refuse
asyncio.new_event_loop = refuse
before = dict(os.environ)

import gateway_blocking

assert not made, made
assert dict(os.environ) == before
assert threading.active_count() == 1, threading.enumerate()
unwanted = {"papermill", "nbclient", "nbformat", "IPython", "ipykernel", "kernel_gateway",
            "jupyter_server", "gateway_blocking.pool"}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
"""


def test_an_import_is_light_and_has_no_effects() -> None:
    """It needs no optional package, opens no ZMQ context, makes no event loop and no thread."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


READ = """
import sys
from pathlib import Path
from gateway_blocking.cli.notebook_file import read_notebook

nb, repaired = read_notebook(Path("a.ipynb"))
assert nb.cells == repaired == [], (nb, repaired)
print("read")
import rfc3987_syntax
"""


def test_reading_a_notebook_does_not_import_the_slow_check_of_iris(tmp_path: Path) -> None:
    """jsonschema imports rfc3987_syntax, which takes a second; later imports find it as ever."""
    (tmp_path / "rfc3987_syntax.py").write_text("print('imported')\nis_valid_syntax = None")
    notebook = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    run = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.split() == ["read", "imported"], run
