"""README, pages, docstrings, comments and error texts keep to the words of the style guide.

The guide is in ``docs/contributing.rst``.  These tests know its rules that a program can check.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "setup.cfg").is_file())
PACKAGE = ROOT / "gateway_blocking"
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

# Words of the style guide: in pages, and in docstrings, comments and texts of the package.
BANNED = re.compile(
    r"\b(time-outs?|whoever|whomever|nobody|somebody|anybody|everybody)\b"
    r"|\b(of what|that of|as ever|a heart)\b"
    r"|(?<!there )\b(is|are|was|were) no\b(?! longer| more)",
    re.IGNORECASE,
)
VAGUE = re.compile(r"\b(whatever|those of|for ever)\b", re.IGNORECASE)  # in pages only
BAD_BEGINNINGS = ("Of", "What", "Who", "Whose", "Where", "Those")
NO_SUBJECT = ("What", "Where", "Whether")  # of a sentence that depends on the test's name
MOST_WORDS = 25
KINDS = ("Added", "Changed", "Deprecated", "Fixed")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- pages ----------------------------------------------------------------------------------------


def _texts(page: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each paragraph, cell and list item; code is left out."""
    text: list[str] = []
    first = first_indent = 0
    code: int | None = None  # code is indented deeper than this
    columns: list[slice] = []  # of the simple table that the line is in
    for number, line in enumerate([*page.splitlines(), ""], 1):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if code is not None and (not stripped or indent > code):
            continue
        code = None
        if re.fullmatch(r"=+( +=+)+", stripped):
            columns = [slice(*match.span()) for match in re.finditer(r"=+", line)]
            columns[-1] = slice(columns[-1].start, None)
            continue
        columns = columns if stripped else []
        if columns:
            yield from ((number, line[column].strip()) for column in columns)
            continue
        item = re.match(r"(?:\* - |[-*] |\d+\. |\(\d+\) )+", stripped)
        ends = not stripped or item or stripped.startswith(("..", ":"))
        if text and (ends or indent < first_indent or re.fullmatch(r"[=~^-]+", stripped)):
            yield first, " ".join(text)
            text = []
        if re.match(r"\.\. (code-block|raw|image|toctree)", stripped):
            code = indent
        elif not re.match(r"\.\.|:[\w-]+:( |$)|[=~^-]+$|$", stripped):
            if not text:
                first, first_indent = number, indent
            text.append(stripped[item.end() if item else 0 :].removesuffix("::"))
            if stripped.endswith("::"):
                code = indent
                yield first, " ".join(text)
                text = []


def _plain(text: str) -> str:
    """Return a paragraph without markup; a piece of code is one word."""
    text = re.sub(r"``.+?``", "CODE", text)
    text = re.sub(r"CODE(, CODE)+", "CODE", text)
    text = re.sub(r":[\w:]+:`~?\.?(?:[\w.]*\.)?([^`<]+?)(?: ?<[^>]+>)?`", r"\1", text)
    text = re.sub(r"`([^`<]+?) ?(<[^>]+>)?`_*", r"\1", text)
    return re.sub(r"[*|]", "", text)


def _sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?;:])\s+(?=\S)", paragraph)


def _faults(page: str) -> Iterator[str]:
    for line, text in _texts(page):
        paragraph = _plain(text)
        if found := BANNED.search(paragraph) or VAGUE.search(paragraph):
            yield f"line {line}: {found[0]!r}: {paragraph[:90]}"
        for sentence in _sentences(paragraph):
            if sentence.split(" ", 1)[0].rstrip(",:") in BAD_BEGINNINGS:
                yield f"line {line}: begins with {sentence[:60]!r}"
            if len(sentence.split()) > MOST_WORDS:
                yield f"line {line}: {len(sentence.split())} words: {sentence[:90]}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_page_keeps_to_the_style_guide(page: Path) -> None:
    """No banned word, no sentence above 25 words, none that begins with Of, What, Who or Where."""
    assert not list(_faults(page.read_text(encoding="utf-8")))


def test_entry_of_the_changelog_begins_with_its_kind() -> None:
    """Each entry of each version is Added, Changed, Deprecated or Fixed."""
    text = (ROOT / "docs" / "changelog.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^- (.*)$", text.partition("\nUnreleased\n")[2], re.MULTILINE)
    assert len(entries) > 50
    assert not [entry for entry in entries if not entry.startswith(tuple(f"{k}: " for k in KINDS))]


# --- the package ----------------------------------------------------------------------------------


def _words(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each comment and string; neighbours are one text."""
    texts = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))
    between = (tokenize.NL, getattr(tokenize, "FSTRING_START", None))
    line, parts = 0, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in texts:
            line = line if parts else token.start[0]
            parts.append(token.string.strip("\"'#"))
        elif parts and token.type not in between:
            yield line, " ".join(" ".join(parts).split())
            parts = []


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_module_has_no_banned_word(module: Path) -> None:
    """Docstrings, comments and error texts have none; a name in the code may be of any kind."""
    words = _words(module.read_text(encoding="utf-8"))
    found = [(line, match[0]) for line, text in words if (match := BANNED.search(text))]
    assert not found, f"(line, word): {found}"


@pytest.mark.parametrize("module", TESTS, ids=_name)
def test_docstring_of_a_test_is_a_sentence_of_its_own(module: Path) -> None:
    """It does not begin with a word such as What, Where or Whether."""
    found = [
        (node.name, text)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and (text := ast.get_docstring(node) or "").split(" ", 1)[0] in NO_SUBJECT
    ]
    assert not found
