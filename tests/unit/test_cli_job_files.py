"""Places of the files that a job leaves in the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_blocking.cli.job_files import local_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.csv", "here/a.csv"),
        ("out/deep/a.csv", "here/out/deep/a.csv"),
        ("/tmp/a.csv", "here/a.csv"),
        ("../a.csv", "here/a.csv"),
        ("out/../../a.csv", "here/a.csv"),
        ("C:\\out\\a.csv", "here/a.csv"),
        ("C:/out/a.csv", "here/a.csv"),
        ("out\\a.csv", "here/out/a.csv"),
    ],
)
def test_a_file_stays_inside_the_directory(name: str, path: str) -> None:
    """The names come from the kernel, which must not choose a place outside."""
    assert local_path(Path("here"), name).as_posix() == path
