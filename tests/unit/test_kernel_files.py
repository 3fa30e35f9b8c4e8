"""The functions that a file transfer calls in the kernel, and how they are called."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import kernel_files
from gateway_blocking.cli.cp import Place, parse_place, progress_line
from gateway_blocking.kernel_calls import KernelCalls, answered_value
from gateway_blocking.transfer import SOURCE


def test_an_upload_appears_whole_at_the_end(tmp_path: Path) -> None:
    """Chunks may come in any order and twice; each step may be repeated."""
    path = kernel_files.destination(str(tmp_path / "new"), "name")
    kernel_files.begin_upload(path, "token")
    kernel_files.begin_upload(path, "token")  # its first reply was lost
    for offset, data in ((3, b"def"), (0, b"abc"), (3, b"def")):
        assert kernel_files.write(path, "token", offset, base64.b64encode(data).decode()) == 3
    assert not Path(path).exists()
    digest = hashlib.sha256(b"abcdef").hexdigest()
    assert kernel_files.end_upload(path, "token", 6, digest)
    assert kernel_files.end_upload(path, "token", 6, digest)  # its first reply was lost
    assert Path(path).read_bytes() == b"abcdef"
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def test_a_damaged_upload_leaves_the_old_file(tmp_path: Path) -> None:
    """The part that was written is discarded."""
    old = tmp_path / "old"
    old.write_text("old")
    path = kernel_files.destination(str(old), "name")
    kernel_files.begin_upload(path, "token")
    assert not kernel_files.end_upload(path, "token", 6, "other")
    kernel_files.discard(path, "token")
    kernel_files.discard(path, "token")
    assert old.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["old"]


def test_an_unfinished_upload_is_private(tmp_path: Path) -> None:
    """Other users must not read what will be a private file."""
    kernel_files.begin_upload(str(tmp_path / "new"), "token")
    [part] = tmp_path.iterdir()
    assert part.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    kernel_files.discard(str(tmp_path / "new"), "token")
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_and_not_the_part(tmp_path: Path) -> None:
    """The caller does not know the name of the part."""
    path = str(tmp_path / "missing" / "new")
    with pytest.raises(FileNotFoundError) as caught:
        kernel_files.begin_upload(path, "token")
    assert caught.value.filename == path


def test_an_upload_keeps_permissions_and_links(tmp_path: Path) -> None:
    """A link stays a link: the file that it points to is replaced."""
    (tmp_path / "old").touch(0o640)
    (tmp_path / "old").chmod(0o640)
    (tmp_path / "link").symlink_to("old")
    path = kernel_files.destination(str(tmp_path / "link"), "name")
    kernel_files.begin_upload(path, "token")
    assert kernel_files.end_upload(path, "token", 0, hashlib.sha256().hexdigest())
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640


def test_a_directory_gets_a_file_of_the_same_name(tmp_path: Path) -> None:
    """As cp does it."""
    path = kernel_files.destination(str(tmp_path), "name")
    assert path == str((tmp_path / "name").resolve())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("function", ["destination", "find"])
def test_a_device_is_refused(function: str) -> None:
    """It must not be replaced by a file, and reading it may never end."""
    args = ("/dev/null", "name") if function == "destination" else ("/dev/null",)
    answer = json.loads(repr(kernel_files.call(function, args)))
    assert (answer["text"], answer["path"]) == ("not a regular file", "/dev/null")
    assert Path("/dev/null").is_char_device()


def test_an_error_of_the_system_is_an_answer(tmp_path: Path) -> None:
    """The caller raises it with its number."""
    answer = json.loads(repr(kernel_files.call("find", (str(tmp_path / "missing"),))))
    assert (answer["errno"], answer["path"]) == (2, str(tmp_path / "missing"))


def test_the_call_is_one_expression_without_a_trace(tmp_path: Path) -> None:
    """It defines nothing in the namespace of the user."""
    sent: list[dict[str, str]] = []

    class Recorded(Exception):
        """Ends the call after its request was made."""

    def new_request(expressions: dict[str, str]) -> Any:
        sent.append(expressions)
        raise Recorded

    file = tmp_path / "it's \\ ü"
    file.write_bytes(b"abc")
    with pytest.raises(Recorded):
        KernelCalls(None, new_request, SOURCE)("read", str(file), 1, 10)  # type: ignore[arg-type]
    scope: dict[str, Any] = {}
    [expression] = sent[0].values()
    answer = eval(expression, scope)
    assert answered_value(repr(answer)) == b"bc"
    assert answer._repr_mimebundle_() == {"text/plain": repr(answer)}
    assert set(scope) == {"__builtins__"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("1f3a:", Place("1f3a", "")),
        ("trainer:a:b", Place("trainer", "a:b")),
        ("a.txt", Place("", "a.txt")),
        ("./a:b", Place("", "./a:b")),
        ("/x/a:b", Place("", "/x/a:b")),
        (":x", Place("", ":x")),
    ],
)
def test_places_of_a_copy(text: str, place: Place) -> None:
    """KERNEL:PATH is a place in a kernel, and a path with its directory is one here."""
    assert parse_place(text, has_drives=True) == place
    assert parse_place(text, has_drives=False) == place


@pytest.mark.parametrize(("text", "kernel", "path"), [("a:x", "a", "x"), ("C:\\a", "C", "\\a")])
def test_one_letter_before_the_colon_is_a_drive_only_on_windows(
    text: str, kernel: str, path: str
) -> None:
    """Elsewhere it is the beginning of a kernel's ID, as every longer word."""
    assert parse_place(text, has_drives=True) == Place("", text)
    assert parse_place(text, has_drives=False) == Place(kernel, path)
    assert parse_place(text) == parse_place(text, has_drives=os.name == "nt")


def test_one_digit_before_the_colon_is_a_kernel_on_windows_too() -> None:
    """A drive is a letter."""
    assert parse_place("1:x", has_drives=True) == Place("1", "x")


@pytest.mark.parametrize(
    ("done", "total", "seconds", "line"),
    [
        (5_000_000, 20_000_000, 2.0, " 25%      5.0 MB    2.5 MB/s  0:06  'a'"),
        (20_000_000, 20_000_000, 8.0, "100%     20.0 MB    2.5 MB/s        'a'"),
        (1_000_000, 7_201_000_000, 1.0, "  0%      1.0 MB    1.0 MB/s  120:00  'a'"),
        (5_000_000, None, 2.0, "          5.0 MB    2.5 MB/s        'a'"),
        (0, 0, 0.0, "          0.0 MB    0.0 MB/s        'a'"),
    ],
)
def test_the_progress_of_a_copy(done: int, total: int | None, seconds: float, line: str) -> None:
    """Rate and remaining time, as far as they are known."""
    assert progress_line("a", done, total, seconds) == line
