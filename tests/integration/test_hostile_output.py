"""Commands whose gateway or kernel sends what a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway_blocking.errors import GatewayError
from support.rawserver import Peer, serving
from support.scripted import Server, read, rest_of, says, scripted, sends
from support.terminal import Person, Terminal

TITLE = "\x1b]0;owned\x07"
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x1b\\"
HOSTILE = f"a{TITLE}\x9b2J\r\nb\u202e"

KERNEL = {"id": "1f3a", "name": HOSTILE, "execution_state": HOSTILE, "connections": 1}


SPEC = {"name": HOSTILE, "spec": {"language": HOSTILE, "display_name": HOSTILE}, "resources": {}}


SPECS = {"default": HOSTILE, "kernelspecs": {HOSTILE: SPEC}}


@contextmanager
def hostile_gateway() -> Iterator[str]:
    """Play a gateway whose every word is hostile."""

    def script(peer: Peer) -> None:
        server = Server("")
        read(peer, server)
        path = server.lines[0].partition(" ")[2]
        bodies = {"/api/kernelspecs": SPECS, "/api/kernels": [KERNEL]}
        says(bodies.get(path, {"version": HOSTILE}))(peer)

    with serving(script) as where:
        yield f"http://{where}"


@pytest.mark.parametrize("command", ["kernels", "kernelspecs", "status"])
def test_commands_escape_what_a_server_says(terminal: Terminal, command: str) -> None:
    """Names, states and versions command no terminal, and fake no row."""
    with hostile_gateway() as url:
        done = terminal(command, "--url", url)
    assert "owned" in done.stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stdout + done.stderr)


@pytest.mark.parametrize(
    "answer",
    [
        says({"message": HOSTILE, "reason": HOSTILE}, "500 Internal Server Error"),
        sends(b"HTTP/1.1 500 a\x1b]0;owned\x07\r\nContent-Length: 0\r\n\r\n"),
        says(b"", "302 Found", Location="/\x1b]0;owned\x07/login"),
        says(HOSTILE.encode(), "200 OK"),
        sends(b"\x1b]0;owned\x07\r\n\r\n"),
        says({"id": HOSTILE}, "200 OK"),
    ],
)
def test_errors_escape_what_a_server_says(answer: Any, terminal: Terminal) -> None:
    """Messages, status lines, redirects; with --debug in the traceback and the log as well."""
    with scripted(answer) as server:
        with rest_of(server, max_request_retries=0) as rest, pytest.raises(GatewayError) as caught:
            rest.list_kernels()
        done = terminal("kernels", "--debug", "--url", f"http://{server.where}")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", str(caught.value))
    assert done.returncode == 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout + done.stderr)


CODE = f"print('\\x1b[31mred\\x1b[0m', {TITLE!r} + {CLIPBOARD!r} + '\\x1b[6n', end='done')"


def terminal_reads(terminal: Terminal, *args: str) -> str:
    with Person(terminal, *args) as person:
        status, seen = person.ends()
    assert status == 0
    return seen


def test_exec_filters_on_a_terminal(terminal: Terminal) -> None:
    """Colours stay; title, clipboard and queries do not arrive, but with --raw."""
    seen = terminal_reads(terminal, "exec", CODE)
    assert "\x1b[31mred\x1b[0m done" in seen
    assert "\x1b]" not in seen
    assert "\x1b[6n" not in seen
    seen = terminal_reads(terminal, "exec", "--raw", CODE)
    assert TITLE + CLIPBOARD + "\x1b[6n" in seen


def test_exec_filters_over_chunks(terminal: Terminal) -> None:
    """A title that is printed in two steps."""
    one = "print(each, end='', flush=True); time.sleep(0.02)"
    code = f"import time\nfor each in {TITLE!r} + 'x': {one}"
    seen = terminal_reads(terminal, "exec", code)
    assert seen.endswith("x")
    assert "owned" not in seen


def test_a_pipe_gets_all_of_it(terminal: Terminal) -> None:
    """It may be a file for another program."""
    done = terminal("exec", CODE)
    assert TITLE + CLIPBOARD + "\x1b[6n" in done.stdout


def test_run_filters_a_script_and_a_traceback(terminal: Terminal) -> None:
    """Both go to the terminal."""
    terminal.write("a.py", f"{CODE}\nraise ValueError({CLIPBOARD!r})")
    with Person(terminal, "run", "a.py") as person:
        status, seen = person.ends()
    assert status == 1
    assert "ValueError" in seen
    assert "\x1b]" not in seen


def test_a_question_of_the_code_is_filtered(terminal: Terminal) -> None:
    """Its prompt is the kernel's output, too."""
    with Person(terminal, "exec", f"input({TITLE!r} + 'name? ')") as person:
        seen = person.sees(r"name\? ")
        person.types("Ada\n")
        assert person.ends()[0] == 0
    assert "owned" not in seen


@pytest.mark.parametrize("options", [[], ["--raw"]])
def test_the_console_filters(terminal: Terminal, options: list[str]) -> None:
    """Streams, results, questions and tracebacks; with --raw nothing."""
    result = f"type('', (), {{'__repr__': lambda self: {TITLE!r} + 'result'}})()"
    with Person(terminal, "console", *options) as person:
        seen = person.sees(r"In \[1\]: $")
        person.types(f"print({CLIPBOARD!r} + 'printed')\r")
        seen += person.sees(r"In \[2\]: $")
        person.types(f"{result}\r")
        seen += person.sees(r"In \[3\]: $")
        person.types(f"input({TITLE!r} + 'name? ')\r")
        seen += person.sees(r"\n[^\n]*name\? $")
        person.types("Ada\r")
        seen += person.sees(r"In \[4\]: $")
        person.types(f"raise ValueError({CLIPBOARD!r})\r")
        seen += person.sees(r"In \[5\]: $")
        person.types("\x04")
        person.sees(r"/n\)\? $")
        person.types("y\r")
        seen += person.ends()[1]
    for text in (
        f"{CLIPBOARD}printed",
        f"{TITLE}result",
        f"{TITLE}name?",
        f"ValueError: {CLIPBOARD}",
    ):
        assert (text in seen) == bool(options)
    assert ("\x1b]" in seen) == bool(options)
