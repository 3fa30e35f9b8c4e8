"""Control characters: escaped in texts, applied or removed, and filtered for a terminal.

A terminal obeys what it is sent.  With escape sequences a server could set the title, fill the
clipboard, overwrite what is on the screen, or have the terminal type an answer into the shell.
"""

from __future__ import annotations

import re

__all__ = ["OutputFilter", "plain_text", "printable"]

_LONGEST = 4000
"""Characters of a text; of a longer one the begin and the end are kept."""

# C0, DEL and C1, the controls of the writing direction, line separators, lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object, longest: int = _LONGEST) -> str:
    r"""Return a text as it may be shown anywhere, in one line.

    Control characters are escaped as Python does it (``\x1b``), and what is longer than `longest`
    characters is shortened in the middle.  A second time changes nothing.
    """
    whole, half = str(text), longest // 2
    is_long = len(whole) > 2 * longest
    shown = whole[:longest] + whole[-longest:] if is_long else whole
    shown = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], shown)
    if is_long or len(shown) > longest + longest // 4:
        return f"{shown[:half]}[... {len(whole)} characters in all ...]{shown[-half:]}"
    return shown


# --- the output of kernels ------------------------------------------------------------------------

_BEGIN = re.compile("[\x05\x1b]")
_C1 = re.compile("[\x80-\x9f]")
_CSI = re.compile(
    r"\x1b\[(?P<private>[<=>?]?)(?P<numbers>[0-?]*)(?P<middle>[ -/]*)(?P<final>[@-~])"
)
_ESC = re.compile(r"\x1b(?P<middle>[ -/]*)(?P<final>[0-~])")
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*)?[ -/]*")
_LINK = re.compile(r"8;[ -~]*;[ -~]*")  # OSC 8
_LONGEST_LINK = 8192
_LONGEST_SEQUENCE = 256
_LONGEST_STRING = 1 << 20

# Moves of the cursor, erasing, inserting, deleting, scrolling, tabs, repeating, colours.
_DRAWING = frozenset("@ABCDEFGHIJKLMPSTXZ`abdefgmrsu")
# Wrapping, origin, reverse video, the cursor's blinking and visibility, the alternate screen,
# updates all at once.  Other modes make the terminal send something, such as the mouse's moves.
_DRAWING_MODES = frozenset(("5", "6", "7", "12", "25", "47", "1047", "1048", "1049", "2026"))
_DRAWING_ESCAPES = frozenset("78DEHMc")
_CHARACTER_SETS = frozenset("()*+")
_STRINGS = frozenset("PX]^_")  # DCS, SOS, OSC, PM, APC
_OSC_END, _STRING_END = re.compile("[\x07\x18\x1a\x1b]"), re.compile("[\x18\x1a\x1b]")


class OutputFilter:
    """Takes from a stream of text what a terminal would not draw but obey.

    Colours, carriage returns, moves of the cursor and hyperlinks stay.  A sequence may be divided
    among any number of chunks: its begin is held back until its end has come.
    """

    def __init__(self) -> None:
        self._held = ""  # the begin of a sequence
        self._string = ""  # which kind of string is being skipped
        self._skipped = 0
        self._link: str | None = None  # what may become a hyperlink

    def __call__(self, text: str) -> str:
        """Return what of the next chunk is to be written."""
        text, self._held = self._held + text, ""
        if not (self._string or _BEGIN.search(text) or _C1.search(text)):
            return text
        # The C1 controls are the escape sequences of two characters, in one.
        text = _C1.sub(lambda found: f"\x1b{chr(ord(found[0]) - 0x40)}", text)
        kept: list[str] = []
        at = 0
        while at < len(text):
            if self._string:
                at = self._skip(text, at, kept)
            elif begin := _BEGIN.search(text, at):
                kept.append(text[at : begin.start()])
                at = self._take(text, begin.start(), kept)
            else:
                kept.append(text[at:])
                break
        return "".join(kept)

    def _take(self, text: str, at: int, kept: list[str]) -> int:
        """Keep the sequence that begins here, or leave it out; return where it ends."""
        if text[at] != "\x1b":  # an enquiry
            return at + 1
        if found := _CSI.match(text, at):
            if _draws(**found.groupdict()):
                kept.append(found[0])
            return found.end()
        unfinished = _UNFINISHED.match(text, at)
        assert unfinished is not None
        if unfinished.end() == len(text) and len(unfinished[0]) < _LONGEST_SEQUENCE:
            self._held = unfinished[0]
            return len(text)
        if len(unfinished[0]) > 1 and unfinished[0][1] == "[":  # broken off: no terminal sees it
            return unfinished.end()
        if not (found := _ESC.match(text, at)):
            return unfinished.end()
        middle, final = found["middle"], found["final"]
        if not middle and final in _STRINGS:
            self._string, self._skipped = final, 0
            self._link = "" if final == "]" else None
        elif (not middle and final in _DRAWING_ESCAPES) or middle in _CHARACTER_SETS:
            kept.append(found[0])
        return found.end()

    def _skip(self, text: str, at: int, kept: list[str]) -> int:
        """Leave a string out, unless it is a hyperlink; return where it ends, or the text."""
        end = (_OSC_END if self._string == "]" else _STRING_END).search(text, at)
        part = text[at : end.start() if end else len(text)]
        self._skipped += len(part)
        if self._link is not None:
            self._link = self._link + part if self._skipped <= _LONGEST_LINK else None
        if end is None:
            if self._skipped > _LONGEST_STRING:  # it has no end, and is not to hide everything
                self._string = ""
            return len(text)
        if end[0] == "\x1b" and end.end() == len(text):
            self._held = "\x1b"
            return len(text)
        has_end = end[0] == "\x07" or text.startswith("\x1b\\", end.start())
        if has_end and self._link is not None and _LINK.fullmatch(self._link):
            kept.append(f"\x1b]{self._link}\x1b\\")
        self._string = ""
        if end[0] == "\x1b":
            return end.start() + 2 * has_end  # any other sequence ends the string, and begins
        return end.end()


def _draws(private: str, numbers: str, middle: str, final: str) -> bool:
    """Return True if a control sequence draws, and has the terminal neither send nor report."""
    if private == "?" and final in "hl":
        return not middle and set(numbers.split(";")) <= _DRAWING_MODES
    if middle:
        return not private and middle + final in (" q", "!p")  # the cursor's shape; soft reset
    return final in ("JK" if private == "?" else "" if private else _DRAWING)


# --- without a terminal ---------------------------------------------------------------------------

_ESCAPE = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]?"
_PARTS = re.compile(rf"{_ESCAPE}|[\n\r\b]|[^\n\r\b\x1b]+")
_SPECIAL = re.compile(r"[\r\b\x1b]")
_ERASE = re.compile(r"\x1b\[[02]?K")


def plain_text(text: str) -> str:
    r"""Return a text as a terminal shows it, without colours.

    Carriage returns, backspaces and the erasing of a line are applied; other escape sequences are
    removed.

    >>> plain_text("10%\r20%\rdone\nab\bc \x1b[31mred\x1b[0m")
    'done\nac red'
    """
    if not _SPECIAL.search(text):
        return text
    lines: list[str] = []
    line: list[str] = []
    at = 0
    for part in _PARTS.findall(text.replace("\r\n", "\n")):
        if part == "\n":
            lines.append("".join(line))
            line, at = [], 0
        elif part == "\r":
            at = 0
        elif part == "\b":
            at = max(at - 1, 0)
        elif _ERASE.fullmatch(part):
            del line[at:]
        elif part[0] != "\x1b":
            line[at : at + len(part)] = part
            at += len(part)
    return "\n".join([*lines, "".join(line)])
