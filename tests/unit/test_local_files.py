"""Files of this machine that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway_blocking.local_files import new_file_mode, replacement, resolve_links


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_permissions_of_any_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask is not changed to read it, because that would affect all threads."""
    monkeypatch.setattr(os, "umask", None)
    (tmp_path / "other").touch()
    with replacement(tmp_path / "new") as file:
        file.write(b"abc")
    assert mode_of(tmp_path / "new") == mode_of(tmp_path / "other")
    assert (tmp_path / "new").read_bytes() == b"abc"
    assert new_file_mode(tmp_path, 0o600) == 0o600 or os.name == "nt"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new", "other"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_a_changed_umask_counts(tmp_path: Path) -> None:
    """It may change while the process runs."""
    old = os.umask(0o077)
    try:
        assert new_file_mode(tmp_path) == 0o600
        os.umask(0o022)
        assert new_file_mode(tmp_path) == 0o644
    finally:
        os.umask(old)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    """The part that was written is removed."""
    (tmp_path / "old").write_text("old")
    with pytest.raises(KeyError), replacement(tmp_path / "old") as file:
        file.write(b"new")
        raise KeyError
    assert (tmp_path / "old").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["old"]


def test_an_error_names_the_file_and_not_the_part(tmp_path: Path) -> None:
    """The caller does not know the name of the part."""
    path = tmp_path / "missing" / "new"
    with pytest.raises(FileNotFoundError) as caught, replacement(path):
        pass
    assert caught.value.filename == str(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_device_is_refused() -> None:
    """It must not be replaced."""
    with pytest.raises(OSError, match="it is not a regular file"):
        resolve_links(Path("/dev/null"))
