"""Questions on the standard input of this process: answered, and waited for no longer than told."""

from __future__ import annotations

import io
import os
import select
import signal
import subprocess
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


def test_it_ends_with_the_question(pipe: BinaryIO) -> None:
    """Without a deadline, when the answer is not wanted any more."""
    looks = iter([False, False, True])
    assert ask("", password=False, deadline=Deadline(None), is_over=lambda: next(looks)) is None


def test_control_c_ends_it(pipe: BinaryIO) -> None:
    """KeyboardInterrupt comes out of it."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
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


ASK = """
import fcntl, sys, termios
from gateway_blocking.deadline import Deadline
from gateway_blocking.prompt import ask

fcntl.ioctl(0, termios.TIOCSCTTY, 0)

def answer(seconds):
    password = sys.argv[1] == "password"
    return ask("word? ", password=password, deadline=Deadline(seconds), is_over=lambda: False)

print("first", repr(answer(0.5)), flush=True)
print("second", repr(answer(60)), flush=True)
print("third", repr(answer(None)), flush=True)
"""


@pytest.mark.parametrize("kind", ["password", "text"])
def test_on_a_terminal(kind: str) -> None:
    """With a deadline and without; a password is not shown."""
    pty = pytest.importorskip("pty")
    keyboard, there = pty.openpty()
    shown = ""

    def sees(text: str) -> str:
        """Return what is shown before the text, having waited for it."""
        nonlocal shown
        deadline = Deadline(60)
        while text not in shown:
            assert select.select([keyboard], [], [], deadline.left())[0], shown
            shown += os.read(keyboard, 4096).decode()
        before, _, shown = shown.partition(text)
        return before

    command = [sys.executable, "-c", ASK, kind]
    with subprocess.Popen(
        command, stdin=there, stdout=there, stderr=there, start_new_session=True
    ) as process:
        try:
            os.close(there)
            sees("first None")
            for word, after in (("sesame", "second 'sesame'"), ("again", "third 'again'")):
                sees("word? ")
                os.write(keyboard, f"{word}\n".encode())
                assert (word in sees(after)) == (kind == "text")
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(keyboard)
