"""Places of the files that a job leaves in the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import GatewayConnectionClosed, GatewayTimeout
from gateway_blocking.cli import job_files
from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.job_files import fetch_files, local_path, send_files


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


class Kernel:
    """A kernel with files, whose download writes the name into the file."""

    def __init__(self, kernel_id: str = "k") -> None:
        self.kernel_id = kernel_id

    def download(self, name: str, target: Path) -> None:
        target.write_text(f"{self.kernel_id} {name}")


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``fetched(kernel, *patterns)``, where a pattern is the names that match it."""
    monkeypatch.setattr(job_files, "_matching", lambda kc, pattern: pattern.split())
    copied: dict[Path, str] = {}

    def fetch(kernel: Any, *patterns: str) -> dict[str, str]:
        try:
            fetch_files(kernel, patterns, tmp_path, copied)
        finally:
            files = {each.name: each.read_text() for each in tmp_path.rglob("*.csv")}
        return files

    return fetch


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GatewayConnectionClosed("the connection is lost"), GatewayConnectionClosed),
        (GatewayTimeout("the kernel did not answer"), GatewayTimeout),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), UsageError),
    ],
)
def test_an_error_of_the_gateway_is_not_one_of_a_file(
    error: OSError, expected: type[Exception], fetched: Any
) -> None:
    """It is an OSError, too, and the exit status differs."""

    class Failing(Kernel):
        def download(self, name: str, target: Path) -> None:
            raise error

        def upload(self, path: str, remote: str) -> None:
            raise error

    with pytest.raises(expected):
        fetched(Failing(), "a.csv")
    with pytest.raises(expected):
        send_files(Failing(), ["a.csv"])  # type: ignore[arg-type]


def test_two_files_of_one_name_are_refused(fetched: Any, tmp_path: Path) -> None:
    """Neither overwrites the other or an old file, both are named, and the rest is copied."""
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(UsageError, match=r"\.\./x/a.csv and \.\./y/a.csv: ") as caught:
        fetched(Kernel(), "../x/a.csv ../y/a.csv ../y/b.csv")
    assert str(tmp_path / "a.csv") in str(caught.value)
    assert (tmp_path / "a.csv").read_text() == "old"
    assert (tmp_path / "b.csv").read_text() == "k ../y/b.csv"


def test_a_file_that_two_patterns_match_is_one(fetched: Any) -> None:
    """It is copied once, also if the patterns write it differently."""
    assert fetched(Kernel(), "a.csv b.csv", "./a.csv", "a.csv") == {
        "a.csv": "k a.csv",
        "b.csv": "k b.csv",
    }


def test_the_file_of_another_kernel_is_not_overwritten(fetched: Any, tmp_path: Path) -> None:
    """Each file of the command line has a kernel; the same kernel may write its file again."""
    fetched(Kernel("first"), "a.csv")
    fetched(Kernel("first"), "a.csv")
    with pytest.raises(UsageError, match=r"a.csv: .*copied from the kernel first"):
        fetched(Kernel("second"), "a.csv b.csv")
    assert (tmp_path / "a.csv").read_text() == "first a.csv"
    assert (tmp_path / "b.csv").read_text() == "second b.csv"
