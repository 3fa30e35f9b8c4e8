"""File transfers, with functions of the kernel that are called in this process."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import kernel_files
from gateway_blocking.kernel_calls import answered_value
from gateway_blocking.transfer import download, upload


class DirectCalls:
    """Calls of :mod:`gateway_blocking.kernel_files`, whose results pass through JSON."""

    def __call__(self, function: str, *args: Any, **options: Any) -> Any:
        return answered_value(repr(kernel_files.call(function, args)))

    def start(self, function: str, *args: Any, **options: Any) -> DirectCall:
        return DirectCall(self(function, *args))


class DirectCall:
    """A call whose result is there."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __enter__(self) -> DirectCall:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def result(self, deadline: object) -> Any:
        return self._value


CALLS: Any = DirectCalls()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can change owners")
def test_a_link_of_another_user_is_not_written_through(tmp_path: Path) -> None:
    """It could point to any file of ours, here and in the kernel; our own link is followed."""
    victim, planted, own = (tmp_path / name for name in ("victim", "planted", "own"))
    victim.write_text("mine")
    planted.symlink_to("victim")
    os.chown(planted, 12345, 12345, follow_symlinks=False)
    own.symlink_to("planted")
    for link in (planted, own):
        with pytest.raises(OSError, match=r"made by another user \(uid 12345\)"):
            download(CALLS, str(victim), link)
        with pytest.raises(OSError, match=r"made by another user \(uid 12345\)"):
            upload(CALLS, io.BytesIO(b"theirs"), str(link))
    assert victim.read_text() == "mine"
    own.unlink()
    own.symlink_to("victim")
    assert upload(CALLS, io.BytesIO(b"new"), str(own)) == str(victim)
    assert download(CALLS, str(victim), own) == victim
    assert own.is_symlink()


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash of the system could leave an empty file, here or in the kernel."""
    (tmp_path / "source").write_bytes(b"abc")
    seen: list[bool] = []

    def fsync(handle: int) -> None:
        seen.append((tmp_path / "copy").exists())
        assert os.fstat(handle).st_size == 3

    monkeypatch.setattr(os, "fsync", fsync)
    download(CALLS, str(tmp_path / "source"), tmp_path / "copy")
    assert seen == [False]
    (tmp_path / "copy").unlink()
    upload(CALLS, tmp_path / "source", str(tmp_path / "copy"))
    assert seen == [False, False]


def test_a_transfer_leaves_the_umask_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the process's, and other threads make files meanwhile."""
    monkeypatch.setattr(os, "umask", None)
    (tmp_path / "source").write_bytes(b"abc")
    download(CALLS, str(tmp_path / "source"), tmp_path / "there")
    upload(CALLS, tmp_path / "source", str(tmp_path / "here"))
    modes = {each.stat().st_mode for each in tmp_path.iterdir()}
    assert len(modes) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["here", "source", "there"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "link to a pipe"])
def test_what_is_not_a_regular_file_is_not_sent(tmp_path: Path, kind: str) -> None:
    """To open a pipe may wait forever, and a device may have no end; nothing is left there."""
    source = tmp_path / "source"
    error: type[OSError] = OSError
    if kind == "directory":
        source.mkdir()
        error = IsADirectoryError
    elif kind == "device":
        source = Path("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        source.symlink_to("pipe") if "link" in kind else (tmp_path / "pipe").rename(source)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=r"it is (not a regular file|a directory)") as caught:
        upload(CALLS, source, str(tmp_path / "copy"))
    assert caught.value.filename == str(source)
    assert sorted(tmp_path.iterdir()) == before
