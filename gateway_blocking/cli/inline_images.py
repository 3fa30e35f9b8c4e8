"""Images as escape sequences for a terminal: the protocols of kitty and of iTerm2, and sixel.

The terminal is never asked what it can do: its answer would come among what the user types, late
over a slow connection, and perhaps not at all.  Environment variables say which terminal it is.
PNG needs no other package with the protocols of kitty and iTerm2.  JPEG and sixel need Pillow, and
sixel needs timg.
"""

from __future__ import annotations

import base64
import io
import shutil
import struct
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Protocol",
    "Screen",
    "choose_protocol",
    "image_sequence",
    "screen_of",
    "write_sequence",
]

_CHUNK = 4096  # characters of base64 in one sequence, the limit of kitty's protocol
_MAX_SIZE = 10_000_000  # bytes of an image
_MAX_SIDE = 10_000  # pixels, the limit of kitty
_MAX_PIXELS = 40_000_000  # which a terminal keeps as 160 MB
_CELL = 10, 20  # pixels, if the terminal does not say: those of a VT340
_SIXEL_HEIGHT = 6  # pixels of one line of characters
_PNG = b"\x89PNG\r\n\x1a\n"
_STRING_END = "\x1b\\"
_ABORT = f"{_STRING_END}\x1b_Gm=0,q=2;{_STRING_END}"  # also ends an image of several chunks


class Protocol(Enum):
    """A protocol for images in a terminal."""

    KITTY = auto()
    ITERM2 = auto()
    SIXEL = auto()


# By the beginning of TERM, which ssh passes on.
_TERMS = {
    "xterm-kitty": Protocol.KITTY,
    "xterm-ghostty": Protocol.KITTY,
    "wezterm": Protocol.ITERM2,
    "foot": Protocol.SIXEL,
    "mlterm": Protocol.SIXEL,
    "contour": Protocol.SIXEL,
}
_PROGRAMS = {  # by TERM_PROGRAM
    "kitty": Protocol.KITTY,
    "ghostty": Protocol.KITTY,
    "WezTerm": Protocol.ITERM2,
    "iTerm.app": Protocol.ITERM2,
    "mintty": Protocol.ITERM2,
}
_VARIABLES = {
    "KITTY_WINDOW_ID": Protocol.KITTY,
    "GHOSTTY_RESOURCES_DIR": Protocol.KITTY,
    "WEZTERM_PANE": Protocol.ITERM2,
}
_MULTIPLEXERS = "TMUX", "STY", "ZELLIJ"


def choose_protocol(environ: Mapping[str, str]) -> Protocol | None:
    """Return the protocol of the terminal that these environment variables describe, if any.

    Inside tmux, screen and zellij there is none: they pass images on only if they are set up so.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM")
    if term.startswith(("tmux", "screen", "dumb", "linux")):
        return None
    if any(environ.get(name) for name in _MULTIPLEXERS):
        return None
    for begin, protocol in _TERMS.items():
        if term.startswith(begin):
            return protocol
    if program:  # the variables below may be those of the terminal that this one was started from
        return _PROGRAMS.get(program)
    if environ.get("LC_TERMINAL") == "iTerm2":  # ssh passes it on
        return Protocol.ITERM2
    return next((found for name, found in _VARIABLES.items() if environ.get(name)), None)


@dataclass(frozen=True)
class Screen:
    """The size of a terminal, in cells and in pixels."""

    columns: int
    rows: int
    width: int
    height: int

    def scale(self, width: int, height: int) -> float:
        """Return the factor that makes an image fit above a line of text; 1 if it does."""
        return min(1.0, self.width / width, self.height * (1 - 1 / self.rows) / height)

    def columns_of(self, width: float) -> int:
        """Return the number of columns that this many pixels fill, at least one."""
        return max(1, int(width * self.columns / self.width + 1e-9))


def screen_of(stream: TextIO) -> Screen:
    """Return the size of the terminal that a stream writes to."""
    columns, rows = shutil.get_terminal_size()
    columns, rows = max(columns, 1), max(rows, 2)
    width, height = columns * _CELL[0], rows * _CELL[1]
    if sys.platform != "win32":
        import fcntl
        import termios

        # A stream without a descriptor, or of another device, has no size in pixels.
        with suppress(OSError, ValueError):
            size = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
            _, _, x_pixels, y_pixels = struct.unpack("HHHH", size)
            width, height = x_pixels or width, y_pixels or height
    return Screen(columns, rows, width, height)


def write_sequence(stream: TextIO, sequence: str) -> None:
    """Write an image to a terminal, in one call because other threads may write, too.

    A terminal that got only a part would take the following text for a part of the image.
    """
    try:
        stream.write(sequence)
        stream.flush()
    except BaseException:
        with suppress(OSError):
            stream.write(_ABORT)
            stream.flush()
        raise


def image_sequence(
    data: Mapping[str, object], protocol: Protocol | None, screen: Screen
) -> str | None:
    """Return the escape sequences that draw the PNG or JPEG of an output, or None.

    There are none if the image is broken or too large, or if a package is missing.
    """
    if protocol is None:
        return None
    try:
        if text := data.get("image/png"):
            return _draw_png(_decode(str(text)), protocol, screen)
        if text := data.get("image/jpeg"):
            return _draw_jpeg(_decode(str(text)), protocol, screen)
    except Exception:  # an image that Pillow fails on must not end the command
        return None
    return None


def _decode(text: str) -> bytes:
    """Return the bytes of an image; raise ValueError if it is not base64, or too large."""
    text = "".join(text.split())
    if len(text) * 3 // 4 > _MAX_SIZE:
        raise ValueError("the image has too many bytes")
    return base64.b64decode(text, validate=True)


def _draw_png(raw: bytes, protocol: Protocol, screen: Screen) -> str:
    width, height = _png_size(raw)
    _check_size(width, height)
    if protocol is Protocol.SIXEL:
        from PIL.PngImagePlugin import PngImageFile

        return _sixel(PngImageFile(io.BytesIO(raw)), screen)
    encode = _kitty if protocol is Protocol.KITTY else _iterm2
    return encode(raw, _columns(width, height, screen))


def _draw_jpeg(raw: bytes, protocol: Protocol, screen: Screen) -> str:
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(raw))
    _check_size(*image.size)
    image.load()  # raises an error if a part is missing
    if protocol is Protocol.SIXEL:
        return _sixel(image, screen)
    columns = _columns(image.width, image.height, screen)
    if protocol is Protocol.ITERM2:
        return _iterm2(raw, columns)
    png = io.BytesIO()
    image.save(png, "PNG")
    return _kitty(png.getvalue(), columns)


def _check_size(width: int, height: int) -> None:
    """Raise ValueError if a terminal may need too much memory for an image of this size."""
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE and width * height <= _MAX_PIXELS):
        raise ValueError("the image has too many pixels")


def _columns(width: int, height: int, screen: Screen) -> int | None:
    """Return the columns to fit an image into; None if it has its own size."""
    scale = screen.scale(width, height)
    return None if scale == 1 else screen.columns_of(width * scale)


def _png_size(raw: bytes) -> tuple[int, int]:
    """Return width and height of a PNG; raise an error if it is not whole."""
    if raw[:8] != _PNG or raw[12:16] != b"IHDR":
        raise ValueError("the image is not a PNG")
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", raw, at)
        (checksum,) = struct.unpack_from(">I", raw, at + 8 + length)
        if zlib.crc32(raw[at + 4 : at + 8 + length]) != checksum:
            raise ValueError("a part of the PNG is damaged")
        at += 12 + length
    width, height = struct.unpack_from(">II", raw, 16)
    return width, height


def _kitty(png: bytes, columns: int | None) -> str:
    """Return the sequences of kitty's protocol: they transmit and show, and ask for no answer."""
    text = base64.b64encode(png).decode()
    first = "a=T,f=100,q=2" + (f",c={columns}" if columns else "")
    sequences = []
    for at in range(0, len(text), _CHUNK):
        keys, more = "q=2" if at else first, at + _CHUNK < len(text)
        sequences.append(f"\x1b_G{keys},m={more:d};{text[at : at + _CHUNK]}{_STRING_END}")
    return "".join(sequences)


def _iterm2(raw: bytes, columns: int | None) -> str:
    """Return the sequence of iTerm2's protocol."""
    keys = f"inline=1;size={len(raw)}" + (f";width={columns}" if columns else "")
    return f"\x1b]1337;File={keys}:{base64.b64encode(raw).decode()}\x07"


def _sixel(image: Image, screen: Screen) -> str:
    """Return the sixel sequence, on white as in a notebook."""
    import PIL.Image
    from timg import SixelMethod

    scale = screen.scale(*image.size)
    width, height = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    height += -height % _SIXEL_HEIGHT  # timg leaves out a line that is not whole
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    flat = PIL.Image.alpha_composite(white, image).convert("RGB")
    sequence: str = SixelMethod(flat.resize((width, height)).quantize(256)).to_string()
    return sequence
