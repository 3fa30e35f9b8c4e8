"""Rich output on a terminal, in the colours and sizes that it has."""

from __future__ import annotations

import base64
import io
import re
import sys
from typing import Any

import pytest

from gateway_blocking.cli.terminal import OutputRenderer

PNG = base64.b64encode(b"\x89PNG" + bytes(11_996)).decode()
PIXEL = (  # a whole PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
OF_TERMINALS = (
    *("LC_TERMINAL", "KITTY_WINDOW_ID", "GHOSTTY_RESOURCES_DIR", "WEZTERM_PANE"),
    *("TMUX", "STY", "ZELLIJ"),
)


class Tty(io.StringIO):
    """A terminal of which only what was written is known."""

    def isatty(self) -> bool:
        return True


def tty_of(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """A terminal as standard output.  Not a fixture: pytest sets its own after those."""
    tty = Tty()
    monkeypatch.setattr(sys, "stdout", tty)
    for name in ("TERM_PROGRAM", "NO_COLOR", "FORCE_COLOR", *OF_TERMINALS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return tty


def message(msg_type: str, **content: Any) -> dict[str, Any]:
    return {"msg_type": msg_type, "content": content}


def display(data: dict[str, str], display_id: str = "", update: bool = False) -> dict[str, Any]:
    kind = "update_display_data" if update else "display_data"
    return message(kind, data=data, transient={"display_id": display_id} if display_id else {})


def test_markdown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rendered with rich, and without that shown as it was written."""
    tty = tty_of(monkeypatch)
    data = {"text/markdown": "some *words*", "text/plain": "<Markdown object>"}
    OutputRenderer().render(display(data))
    assert re.fullmatch(r"some \x1b\[3mwords\x1b\[0m *\n", tty.getvalue())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    OutputRenderer().render(display(data))
    assert tty.getvalue().splitlines()[1:] == ["some *words*"]


def test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line stands for one; a value that has text as well as an image keeps its text."""
    tty = tty_of(monkeypatch)
    OutputRenderer().render(display({"image/png": PNG, "text/plain": "<Figure size 640x480>"}))
    OutputRenderer().render(display({"image/svg+xml": "<svg/>", "text/plain": "x + 1"}))
    assert tty.getvalue().splitlines() == ["[image/png, 12 kB]", "x + 1", "[image/svg+xml, 1 kB]"]


@pytest.mark.parametrize("plain", ["", "<Figure size 640x480>"])
def test_a_terminal_that_can_draws_the_image_instead_of_the_line(
    monkeypatch: pytest.MonkeyPatch, plain: str
) -> None:
    """Colors that are switched off change nothing; a text that says more stays above it."""
    tty = tty_of(monkeypatch)
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.setenv("NO_COLOR", "1")
    image = f"\x1b_Ga=T,f=100,q=2,m=0;{PIXEL}\x1b\\\n"
    OutputRenderer().render(display({"text/plain": plain, "image/png": PIXEL}))
    OutputRenderer().render(display({"text/plain": "x + 1", "image/png": PIXEL}))
    assert tty.getvalue() == f"{image}x + 1\n{image}"


def test_an_image_that_is_broken_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the terminal could draw it."""
    tty = tty_of(monkeypatch)
    monkeypatch.setenv("TERM", "xterm-kitty")
    OutputRenderer().render(display({"image/png": PNG, "text/plain": "<Figure size 640x480>"}))
    OutputRenderer().render(display({"image/jpeg": "\x1b]0;title\x07"}))
    assert tty.getvalue().splitlines() == ["[image/png, 12 kB]", "[image/jpeg, 1 kB]"]


@pytest.mark.parametrize("term", ["xterm-kitty", "dumb"])
def test_no_image_goes_into_a_pipe_or_to_a_dumb_terminal(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """The line stands for it."""
    stdout = tty_of(monkeypatch) if term == "dumb" else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("KITTY_WINDOW_ID", "1")
    screen = OutputRenderer()
    screen.render(display({"image/png": PIXEL, "text/plain": "<Figure size 640x480>"}))
    assert not screen.draw({"image/png": PIXEL})
    assert stdout.getvalue() == "[image/png, 1 kB]\n"


def test_an_update_of_an_image_does_not_erase_a_line_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has more lines than one, however many the terminal needs."""
    tty = tty_of(monkeypatch)
    monkeypatch.setenv("TERM", "xterm-kitty")
    screen = OutputRenderer()
    screen.render(display({"text/plain": "x", "image/png": PIXEL}, "plot"))
    screen.render(display({"text/plain": "y"}, "plot", update=True))
    assert tty.getvalue().endswith("\x1b\\\ny\n")


def test_an_update_replaces_the_line_above(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where that is one line, and the last; else it is a line more."""
    tty = tty_of(monkeypatch)
    screen = OutputRenderer()
    screen.render(display({"text/plain": "10%"}, "bar"))
    screen.render(display({"text/plain": "20%"}, "bar", update=True))
    assert tty.getvalue() == "10%\n\x1b[A\r\x1b[K20%\n"
    screen.render(message("stream", name="stdout", text="news\n"))
    screen.render(display({"text/plain": "x" * 80}, "bar", update=True))
    screen.render(display({"text/plain": "30%"}, "bar", update=True))
    assert tty.getvalue().endswith(f"news\n{'x' * 80}\n30%\n")


def test_clear_output_clears_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, or when the next output comes."""
    tty = tty_of(monkeypatch)
    screen = OutputRenderer()
    screen.render(message("stream", name="stdout", text="1"))
    screen.render(message("clear_output", wait=False))
    screen.render(message("stream", name="stdout", text="2"))
    screen.render(message("clear_output", wait=True))
    assert tty.getvalue() == "1\r\x1b[K2"
    screen.render(message("stream", name="stdout", text="3"))
    assert tty.getvalue() == "1\r\x1b[K2\r\x1b[K3"
