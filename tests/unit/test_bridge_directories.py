"""The working directory of a front end, as the kernel's machine calls it."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest

from gateway_blocking.bridge.directories import DirectoryMap, remote_directory
from gateway_blocking.cli.directory_maps import directory_maps
from gateway_blocking.cli.errors import UsageError

MAPS = [
    DirectoryMap(PurePosixPath("/home/ada"), "/mnt/ada"),
    DirectoryMap(PurePosixPath("/home/ada/data"), "/data/"),
    DirectoryMap(PureWindowsPath("C:/Users/Ada"), "/mnt/ada"),
]


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (PurePosixPath("/home/ada"), "/mnt/ada"),
        (PurePosixPath("/home/ada/a/b c"), "/mnt/ada/a/b c"),
        (PurePosixPath("/home/ada/data/x"), "/data/x"),
        (PurePosixPath("/home/adam"), "/home/adam"),
        (PureWindowsPath("c:/users/ada/a/b"), "/mnt/ada/a/b"),
    ],
)
def test_the_longest_map_that_fits_translates_a_directory(local: PurePath, remote: str) -> None:
    """Whole names count, not their beginnings; a directory without a map keeps its name."""
    assert remote_directory(local, MAPS) == remote


def test_all_of_a_machine_may_be_mounted_below_a_directory() -> None:
    """Neither root is written twice."""
    below = [DirectoryMap(PurePosixPath("/"), "/host")]
    assert remote_directory(PurePosixPath("/a"), below) == "/host/a"
    assert remote_directory(PurePosixPath("/a/b"), [DirectoryMap(PurePosixPath("/a"), "/")]) == "/b"


def test_a_relative_directory_of_an_option_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The front end starts its kernels elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    found = directory_maps(["work=/mnt/work", "~/x=/a=b"])
    assert found == [(tmp_path / "work", "/mnt/work"), (tmp_path / "home" / "x", "/a=b")]
    assert directory_maps([str(each) for each in found]) == found


@pytest.mark.parametrize("text", ["", "/a", "/a=", "=/b"])
def test_a_map_of_another_form_is_refused(text: str) -> None:
    """The error shows what was given and what is wanted."""
    with pytest.raises(UsageError, match=f"--map: '{text}' is not LOCAL=REMOTE"):
        directory_maps([text])
