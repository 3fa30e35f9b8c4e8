"""Questions on a real terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from gateway_blocking.deadline import Deadline

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
