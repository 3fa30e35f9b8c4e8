"""Images as escape sequences: decoded again, as the terminal does."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import sys
import zlib

import PIL.Image
import pytest

from gateway_blocking.cli.inline_images import (
    Protocol,
    Screen,
    choose_protocol,
    image_sequence,
    screen_of,
    write_sequence,
)

SCREEN = Screen(columns=80, rows=24, width=800, height=480)
KITTY, ITERM2, SIXEL = Protocol.KITTY, Protocol.ITERM2, Protocol.SIXEL


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A gray image, made without Pillow; the pixels are missing if there are too many."""
    rows = pixels or bytes(min(width * height, 1000))
    lines = b"".join(b"\0" + rows[at : at + width] for at in range(0, len(rows), max(width, 1)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def noise(width: int, height: int) -> bytes:
    """An image that is not smaller when it is compressed."""
    return png(width, height, random.Random(1).randbytes(width * height))


def jpeg(width: int, height: int, color: str = "red") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, height), color).save(file, "JPEG")
    return file.getvalue()


def drawn(raw: bytes, protocol: Protocol, kind: str = "png", screen: Screen = SCREEN) -> str:
    data = {f"image/{kind}": base64.encodebytes(raw).decode()}  # with line breaks, as from kernels
    sequence = image_sequence(data, protocol, screen)
    assert sequence is not None
    return sequence


def from_kitty(sequence: str) -> tuple[dict[str, str], bytes]:
    """The keys of the first sequence, and the image."""
    found = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sequence)
    assert "".join(f"\x1b_G{keys};{text}\x1b\\" for keys, text in found) == sequence
    (first, _), *more = found
    assert all(len(text) == 4096 for _, text in found[:-1])
    assert 0 < len(found[-1][1]) <= 4096
    keys = dict(key.split("=") for key in first.split(","))
    assert [re.fullmatch(r"q=2,m=([01])", others)[1] for others, _ in more] == (  # type: ignore[index]
        ["1"] * (len(more) - 1) + ["0"] * bool(more)
    )
    assert keys.pop("m") == str(int(bool(more)))
    return keys, base64.b64decode("".join(text for _, text in found), validate=True)


def from_iterm2(sequence: str) -> tuple[str, bytes]:
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07", sequence)
    assert found
    return found[1], base64.b64decode(found[2], validate=True)


def from_sixel(sequence: str) -> PIL.Image.Image:
    """Draw as the terminal does: colors, repeats, the next color of a line, and the next line."""
    body = re.fullmatch(r"\x1bP[\d;]*q(.*)\x1b\\", sequence, re.DOTALL)
    assert body
    colors: dict[str, tuple[int, int, int]] = {}
    pixels: dict[tuple[int, int], tuple[int, int, int]] = {}
    x = y = 0
    color = (0, 0, 0)
    tokens = r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|([$-])"
    assert re.fullmatch(f"(?:{tokens})*", body[1])
    for number, red, green, blue, used, count, many, one, move in re.findall(tokens, body[1]):
        if number:
            colors[number] = (
                int(red) * 255 // 100,
                int(green) * 255 // 100,
                int(blue) * 255 // 100,
            )
        elif used:
            color = colors[used]
        elif move:
            x, y = 0, y + 6 * (move == "-")
        for _ in range(int(count or 1) if many or one else 0):
            for row in range(6):
                if (ord(many or one) - 63) >> row & 1:
                    pixels[x, y + row] = color
            x += 1
    image = PIL.Image.new("RGB", (1 + max(x for x, _ in pixels), 1 + max(y for _, y in pixels)))
    for at, rgb in pixels.items():
        image.putpixel(at, rgb)
    return image


# --- which terminal it is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, KITTY),
        ({"TERM": "xterm-kitty"}, KITTY),  # through ssh
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, KITTY),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, ITERM2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, ITERM2),  # through ssh
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, ITERM2),
        ({"TERM_PROGRAM": "WezTerm", "WEZTERM_PANE": "0"}, ITERM2),  # on Windows
        ({"TERM": "xterm", "TERM_PROGRAM": "mintty"}, ITERM2),
        ({"TERM": "foot"}, SIXEL),
        ({"TERM": "mlterm-256color"}, SIXEL),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, KITTY),  # an image is not a color
        # one that cannot, started from one that can
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "linux", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
        # inside another program, which does not pass images on
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-1000/default,1,0"}, None),
        ({"TERM": "screen", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-256color", "STY": "1.pts-0", "LC_TERMINAL": "iTerm2"}, None),
        ({"TERM": "xterm-kitty", "ZELLIJ": "0"}, None),
    ],
)
def test_the_protocol_is_chosen_by_environment_variables(
    environ: dict[str, str], protocol: Protocol | None
) -> None:
    """Nothing is drawn where that is not sure."""
    assert choose_protocol(environ) == protocol


# --- the sequences --------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [png(4, 3), noise(60, 50), noise(600, 400)])
def test_kitty_gets_the_png_in_chunks_and_answers_nothing(raw: bytes) -> None:
    """It is transmitted and shown, and q=2 forbids answers, which the shell would get."""
    keys, found = from_kitty(drawn(raw, KITTY))
    assert (keys, found) == ({"a": "T", "f": "100", "q": "2"}, raw)


def test_a_png_that_fills_its_last_chunk_has_no_empty_one_after_it() -> None:
    """3072 bytes are 4096 characters of base64."""
    size = next(n for n in range(2900, 3100) if len(noise(n, 1)) == 3072)
    sequence = drawn(noise(size, 1), KITTY, screen=Screen(800, 24, 8000, 480))
    assert sequence.count("\x1b_G") == 1
    assert from_kitty(sequence)[1] == noise(size, 1)


@pytest.mark.parametrize(("kind", "raw"), [("png", noise(60, 50)), ("jpeg", jpeg(60, 50))])
def test_iterm2_gets_the_file_as_it_is(kind: str, raw: bytes) -> None:
    """In one sequence, with its size."""
    assert from_iterm2(drawn(raw, ITERM2, kind)) == (f"inline=1;size={len(raw)}", raw)


def test_kitty_gets_a_jpeg_as_a_png() -> None:
    """Its protocol has no JPEG."""
    _, found = from_kitty(drawn(jpeg(60, 50), KITTY, "jpeg"))
    image = PIL.Image.open(io.BytesIO(found))
    assert (image.format, image.size) == ("PNG", (60, 50))


@pytest.mark.parametrize(
    ("width", "height", "columns"),
    [(800, 460, None), (801, 10, 80), (1600, 460, 80), (100, 4600, 1), (9000, 10, 80)],
)
def test_an_image_that_is_too_large_for_the_screen_is_made_smaller(
    width: int, height: int, columns: int | None
) -> None:
    """By its columns: the terminal keeps the proportions.  One row is left for the prompt."""
    keys, _ = from_kitty(drawn(png(width, height), KITTY))
    text, _ = from_iterm2(drawn(png(width, height), ITERM2))
    assert keys.get("c") == (str(columns) if columns else None)
    assert re.findall(r";width=(\d+)", text) == ([str(columns)] if columns else [])


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_sixel_draws_the_pixels(kind: str) -> None:
    """Each pixel has its color, also in the last lines."""
    source = PIL.Image.new("RGB", (32, 24), "white")
    source.paste((0, 0, 255), (8, 0, 32, 16))
    source.paste((255, 0, 0), (0, 16, 24, 24))
    file = io.BytesIO()
    source.save(file, kind, **({"quality": 100, "subsampling": 0} if kind == "jpeg" else {}))
    image = from_sixel(drawn(file.getvalue(), SIXEL, kind))
    assert image.size == source.size
    for at in ((2, 2), (20, 5), (4, 20), (28, 20), (4, 23)):
        wanted, found = source.getpixel(at), image.getpixel(at)
        assert isinstance(wanted, tuple)
        assert isinstance(found, tuple)
        assert max(abs(a - b) for a, b in zip(wanted, found, strict=True)) < 12, at


def test_sixel_draws_on_white_and_fits_the_screen() -> None:
    """A transparent pixel is white, as in a notebook; a large image is made smaller."""
    file = io.BytesIO()
    PIL.Image.new("RGBA", (1600, 200), (0, 0, 0, 0)).save(file, "PNG")
    image = from_sixel(drawn(file.getvalue(), SIXEL))
    assert image.size == (800, 102)  # a multiple of 6
    assert image.getpixel((400, 101)) == (255, 255, 255)


# --- what is not drawn ----------------------------------------------------------------------------


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


BROKEN = {
    "empty": "",
    "not base64": "\x1b]0;title\x07",
    "not ASCII": "é" * 8,
    "not a PNG": base64_of(b"<svg/>" * 10),
    "only the signature": base64_of(png(4, 3)[:8]),
    "truncated": base64_of(png(4, 3)[:-6]),
    "damaged": base64_of(png(4, 3).replace(b"IDAT", b"IDAt")),
    "a part without an end": base64_of(png(4, 3)[:33] + b"\xff\xff\xff\xffIDAT"),
    "no pixels": base64_of(png(0, 3)),
    "too wide": base64_of(png(10_001, 1)),
    "too many pixels": base64_of(png(10_000, 4_001)),
    "too many bytes": "A" * 13_333_340,
}


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_or_huge_image_is_not_drawn(text: str, protocol: Protocol) -> None:
    """And it raises no error."""
    assert image_sequence({"image/png": text}, protocol, SCREEN) is None
    assert image_sequence({"image/jpeg": text}, protocol, SCREEN) is None


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("raw", [jpeg(64, 64)[:-200], jpeg(64, 64)[:30], png(4, 3)])
def test_a_broken_jpeg_is_not_drawn(raw: bytes, protocol: Protocol) -> None:
    """As a broken PNG."""
    assert image_sequence({"image/jpeg": base64_of(raw)}, protocol, SCREEN) is None


def test_a_huge_jpeg_is_not_decoded() -> None:
    """Its header says 65,000 x 65,000 pixels, which would be 12 GB."""
    raw = bytearray(jpeg(64, 64))
    at = raw.index(b"\xff\xc0")
    raw[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    for protocol in Protocol:
        assert image_sequence({"image/jpeg": base64_of(raw)}, protocol, SCREEN) is None


def test_other_kinds_and_other_terminals_get_nothing() -> None:
    """SVG has no library here that draws it; without a protocol there is nothing to send."""
    assert image_sequence({"image/svg+xml": "<svg/>"}, KITTY, SCREEN) is None
    assert image_sequence({"image/png": base64_of(png(4, 3))}, None, SCREEN) is None
    assert image_sequence({"image/png": ["AAAA"]}, KITTY, SCREEN) is None  # not what it is to be


def test_without_the_extra_only_png_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the protocols that have it; the others need Pillow and timg."""
    jpeg_data = {"image/jpeg": base64_of(jpeg(60, 50))}
    for name in [name for name in sys.modules if name.split(".")[0] in ("PIL", "timg")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "timg", None)
    assert from_kitty(drawn(png(4, 3), KITTY))[1] == png(4, 3)
    assert from_iterm2(drawn(png(4, 3), ITERM2))[1] == png(4, 3)
    assert image_sequence({"image/png": base64_of(png(4, 3))}, SIXEL, SCREEN) is None
    for protocol in Protocol:
        assert image_sequence(jpeg_data, protocol, SCREEN) is None


# --- writing --------------------------------------------------------------------------------------


def test_a_sequence_that_is_interrupted_is_ended() -> None:
    """Else the terminal takes the text after it for image data.  The Ctrl-C goes on."""

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            if len(text) > 1000:
                super().write(text[:1000])
                raise KeyboardInterrupt
            return super().write(text)

    terminal = Slow()
    with pytest.raises(KeyboardInterrupt):
        write_sequence(terminal, drawn(noise(60, 50), KITTY))
    assert terminal.getvalue()[1000:] == "\x1b\\\x1b_Gm=0,q=2;\x1b\\"


def test_the_size_of_what_is_no_terminal_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is where the terminal does not say how many pixels it has."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    assert screen_of(io.StringIO()) == Screen(100, 30, 1000, 600)
