"""What a server or a kernel cannot do to a terminal: escaped texts, and filtered output."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.cli.command import Command
from gateway_blocking.cli.terminal import echo, table
from gateway_blocking.errors import NoSuchKernel
from gateway_blocking.escape import OutputFilter, printable

TITLE = "\x1b]0;owned\x07"
CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x1b\\"
HOSTILE = f"a{TITLE}\x9b2J\r\nb\u202e"

# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 例 👍 \xa0", "plain é 例 👍 \xa0"),
        (TITLE, r"\x1b]0;owned\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028", r"\u2028"),
        ("\udc80", r"\udc80"),
        (r"C:\new", r"C:\new"),
        (7, "7"),
    ],
)
def test_control_characters_are_escaped(text: object, shown: str) -> None:
    """All that a terminal would obey, and what would begin a line of its own."""
    assert printable(text) == shown


@given(st.text(max_size=500), st.integers(200, 400))
def test_a_text_is_escaped_once(text: str, longest: int) -> None:
    """A second time changes nothing, and the result is a single line that any terminal prints."""
    shown = printable(text, longest)
    assert printable(shown, longest) == shown
    assert len(shown) <= longest + longest // 4
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_a_long_text_is_shortened_in_the_middle() -> None:
    """An id of a megabyte leaves the begin and the end, where the advice stands."""
    shown = printable("GET " + "x" * 1_000_000 + "; what to do")
    assert len(shown) < 5000
    assert re.fullmatch(r"GET x+\[... 1000016 characters in all ...\]x+; what to do", shown)


def test_an_error_escapes_what_a_server_said() -> None:
    """Its text, wherever it comes from; its arguments are as they were."""
    error = NoSuchKernel(HOSTILE)
    assert str(error) == r"a\x1b]0;owned\x07\x9b2J\r\nb\u202e"
    assert error.args == (HOSTILE,)


def test_a_table_has_the_rows_that_it_was_given() -> None:
    """A name with a line break fakes none, and one of a megabyte is shortened."""
    shown = table(["id", "name"], [["1", HOSTILE], ["2", "x" * 1_000_000]])
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown
    assert len(shown) < 1000


def test_what_is_said_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """In each of its lines."""
    echo("one\ntwo" + TITLE)
    assert capsys.readouterr().err == "one\ntwo\\x1b]0;owned\\x07\n"


# --- the output of kernels ------------------------------------------------------------------------

KEPT = [
    "text\r50%\x08\x07\tx\n",
    "\x1b[1;31mred\x1b[0m \x1b[38;5;196m \x1b[38:2::1:2:3m",
    "\x1b[2J\x1b[H\x1b[3A\x1b[K\x1b[s\x1b[u\x1b[2;5r",
    "\x1b[?25l\x1b[?1049h\x1b[?2026;25l",
    "\x1b7\x1b8\x1bM\x1bc\x1b(B\x1b(0",
    "\x1b[3 q\x1b[!p",
    "\x1b]8;id=1;https://host/a?b\x1b\\link\x1b]8;;\x1b\\",
]
LEFT_OUT = [
    TITLE,
    CLIPBOARD,
    "\x9d0;owned\x9c",
    "\x1b]1337;File=:AAAA\x07",
    "\x1bPq#0;2;0;0;0\x1b\\",
    "\x1bP$qm\x1b\\",
    "\x1b_Gf=24;AAAA\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bXstart of string\x1b\\",
    "\x05",
    "\x1bZ",
    "\x9a",
    "\x1b[c",
    "\x1b[>c",
    "\x1b[=c",
    "\x9bc",
    "\x1b[5n",
    "\x1b[6n",
    "\x1b[?6n",
    "\x1b[0x",
    "\x1b[21t",
    "\x1b[>q",
    "\x1b[?1$p",
    "\x1b[?u",
    "\x1b[>4;2m",
    "\x1b[?4m",
    "\x1b[1;1;1;1;1;1*y",
    "\x1b[?1000h",
    "\x1b[?25;1003h",
    "\x1b[?1004h",
    "\x1b=",
    "\x1b#8",
]


@pytest.mark.parametrize("text", KEPT)
def test_what_draws_is_kept(text: str) -> None:
    """Colours, carriage returns, moves of the cursor, hyperlinks."""
    assert OutputFilter()(text) == text


@pytest.mark.parametrize("text", LEFT_OUT)
def test_what_a_terminal_obeys_or_answers_is_left_out(text: str) -> None:
    """And only that."""
    assert OutputFilter()(f"before{text}after") == "beforeafter"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[5\nn", "\nn"),  # a terminal would obey the line break, and then answer
        ("\x1b[\x1b]0;owned\x07x", "x"),
        ("\x1b\x1b]0;owned\x07x", "x"),
        ("\x1b[5\x18n", "\x18n"),
        ("\x1b]0;\x1b[31mred", "\x1b[31mred"),  # ends the string
        ("\x1b]0;a\x18x", "x"),
        ("\x1bP\x07\x1b\\x", "x"),
        ("\x1b]8;;http://h/\x18x", "x"),
        ("\x1b]8;;http://h/é\x07x", "x"),
        ("\x1b]8;;http://h/\x1b[6nx", "x"),
        ("\x1b[é", "é"),
        ("\x85", "\x1bE"),
        (f"\x1b[{'1' * 1000}", ""),
        (f"\x1b]8;;{'h' * 100_000}\x07x", "x"),
    ],
)
def test_sequences_that_are_broken(text: str, left: str) -> None:
    """A terminal cannot complete a sequence that it is not shown."""
    assert OutputFilter()(text) == left


PIECES = st.sampled_from(
    [*KEPT, *LEFT_OUT, "\x1b", "[", "]", "\\", "\x07", "8;;", "m", "c", "é", "\n"]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.data())
def test_chunks_change_nothing(text: str, data: Any) -> None:
    """Wherever the output is divided, the same is left of it."""
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    filtered = OutputFilter()
    chunks = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    assert "".join(map(filtered, chunks)) == OutputFilter()(text)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_a_second_filter_finds_nothing(text: str) -> None:
    """The rest has no string but hyperlinks, and no query."""
    left = OutputFilter()(text)
    assert OutputFilter()(left) == left
    assert not re.search("[\x05\x80-\x9f]|\x1b[PX^_Z]|\x1b\\](?!8;)", left)


def test_a_string_without_end_does_not_hide_everything() -> None:
    """After a mebibyte the output appears again."""
    filtered = OutputFilter()
    assert filtered("\x1b]0;") == ""
    assert "".join(filtered("x" * 65536) for _ in range(16)) == ""
    assert filtered("again") == "again"


# --- commands against a hostile server ------------------------------------------------------------


def test_the_log_of_a_command_is_escaped() -> None:
    """A record that has a server's words in it."""
    [handler] = [each for each in Command().log.handlers if each.formatter]
    record = logging.LogRecord("x", logging.WARNING, "", 0, "kernel %s", (TITLE,), None)
    assert handler.formatter is not None
    assert "\x1b" not in handler.formatter.format(record)


# --- commands with a kernel's output --------------------------------------------------------------
