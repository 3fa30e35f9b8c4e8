"""Questions on the standard input of this process: answered, and waited for no longer than told."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.prompt import ask

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot wait for a pipe")


def never() -> bool:
    return False


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """The other end of a pipe that is this process's standard input."""
    ours, theirs = os.pipe()
    with os.fdopen(ours, encoding="utf-8") as stdin, os.fdopen(theirs, "wb", buffering=0) as other:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr("gateway_blocking.prompt._open_terminal", lambda: None)
        yield other


def answer(seconds: float | None = 30, password: bool = False) -> str | None:
    return ask("? ", password=password, deadline=Deadline(seconds), is_over=never)


@pytest.mark.parametrize("seconds", [None, 30])
@pytest.mark.parametrize("password", [True, False])
def test_each_question_takes_one_line(
    pipe: BinaryIO,
    seconds: float | None,
    password: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing of the next, which another reader may be waiting for; and then it is the end."""
    pipe.write("one\ntwo é\r\nfor others\n\nrest".encode())
    pipe.close()
    assert [answer(seconds, password), answer(seconds, password)] == ["one", "two é"]
    captured = capsys.readouterr()
    assert (captured.err if password else captured.out) == "? ? "
    assert sys.stdin.readline() == "for others\n"
    # Now Python has read ahead.
    if not password:
        assert [answer(seconds), answer(seconds)] == ["", "rest"]
        assert answer(seconds) == "\x04"


def test_it_waits_no_longer_than_its_deadline(pipe: BinaryIO) -> None:
    """Neither for the first byte nor for the rest of the line, nor where lines were read."""
    assert answer(0.05) is None
    pipe.write(b"begun")
    assert answer(0.05) is None
    pipe.write(b"\nread\n")
    assert sys.stdin.readline() == "\n"
    assert sys.stdin.readline() == "read\n"
    assert answer(0.05) is None


def test_it_ends_with_the_question(pipe: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deadline, when the answer is not wanted any more."""
    monkeypatch.setattr("gateway_blocking.prompt.PROMPT_SLICE", 0.01)
    looks = iter([False, False, True])
    assert ask("", password=False, deadline=Deadline(None), is_over=lambda: next(looks)) is None


def test_control_c_ends_it(pipe: BinaryIO) -> None:
    """KeyboardInterrupt comes out of it."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            answer()
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("stdin", [None, io.StringIO("kept\n")])
def test_what_replaces_input_is_asked(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook, for example; and Python's own where there is no file to wait for."""
    monkeypatch.setattr(sys, "stdin", stdin)
    if stdin is not None:
        assert answer() == "kept"
    monkeypatch.setattr("builtins.input", lambda prompt: f"<{prompt}>")
    assert answer() == "<? >"
