"""The files of profiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway_blocking.cli import profiles
from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.profiles import profile_names, read_profile, write_profile


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "jupyter_config_dir", lambda: str(tmp_path / "config"))


def test_a_profile_is_read_as_it_was_written() -> None:
    """Only this user can read its file, and a second write replaces it."""
    path = write_profile("work", {"url": "http://a", "auth_token": "secret"})
    assert read_profile("work") == {"url": "http://a", "auth_token": "secret"}
    assert path.stat().st_mode & 0o777 == 0o600
    write_profile("work", {"url": "http://b"})
    assert read_profile("work") == {"url": "http://b"}
    assert profile_names() == ["work"]
    assert [each.name for each in path.parent.iterdir()] == ["work.json"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_profile_that_others_can_read_is_refused(mode: int) -> None:
    """It may contain a token; the text says what to do."""
    write_profile("work", {"auth_token": "secret"}).chmod(mode)
    with pytest.raises(UsageError, match="may be read by other users.*chmod 600") as caught:
        read_profile("work")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "is not JSON: line 1"),
        ("[]", "must be an object with options"),
        ('{"ulr": "http://a"}', "must be an object with options"),
    ],
)
def test_a_malformed_profile_is_refused(text: str, error: str) -> None:
    """The text does not show its content."""
    write_profile("work", {}).write_text(text)
    with pytest.raises(UsageError, match=error):
        read_profile("work")


def test_a_profile_that_is_not_there_gets_a_guess() -> None:
    """The names are the user's own."""
    write_profile("work", {})
    with pytest.raises(UsageError, match=r"there is no profile 'wrok'.*work"):
        read_profile("wrok")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_name_is_not_a_path(name: str) -> None:
    """A name must not lead out of the folder."""
    with pytest.raises(UsageError, match="name of a profile"):
        write_profile(name, {})
