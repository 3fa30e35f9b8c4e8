"""The files of profiles."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from gateway_blocking import GatewayClient
from gateway_blocking.cli import profiles
from gateway_blocking.cli.errors import UsageError
from gateway_blocking.cli.profile import ProfileCommand
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
        ("[" * 100_000, "is not JSON: line 1"),
        ("[]", "must be an object with options"),
        ('{"ulr": "http://a"}', "must be an object with options.*does not know 'ulr'"),
    ],
    ids=range(4),
)
def test_a_malformed_profile_is_refused(text: str, error: str) -> None:
    """The text does not show its content."""
    write_profile("work", {}).write_text(text)
    with pytest.raises(UsageError, match=error):
        read_profile("work")


def test_a_write_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the file might contain the token, and the next write is not disturbed by it."""
    path = write_profile("work", {"url": "http://a"})

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(profiles.json, "dump", fail)
        with pytest.raises(UsageError, match="cannot write .*No space left"):
            write_profile("work", {"auth_token": "secret"})
    assert [each.name for each in path.parent.iterdir()] == ["work.json"]
    assert read_profile("work") == {"url": "http://a"}


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


# --- the command ----------------------------------------------------------------------------------


class Renewer:
    """A class that a profile can name."""

    def get_token(self, *_: object) -> str:
        """Return the token."""
        return "new"


def run(*args: str, **options: Any) -> None:
    """Run ``jupyter gateway profile`` with these options of the gateway."""
    command = ProfileCommand(config=Config({"GatewayClient": options}))
    command.extra_args = list(args)
    command.run()


def test_files_of_a_profile_are_found_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front end starts the bridge elsewhere."""
    monkeypatch.chdir(tmp_path)
    run("add", "work", url="https://a", client_cert="mine.pem", ca_certs="/etc/ca.pem")
    options = read_profile("work")
    assert options["client_cert"] == str(tmp_path / "mine.pem")
    assert options["ca_certs"] == str(Path("/etc/ca.pem").absolute())


def test_a_profile_keeps_the_class_that_renews_tokens() -> None:
    """It stands there by its name; one that has none to import it by is left to its file."""
    run("add", "work", url="http://a", gateway_token_renewer_class=Renewer)
    options = read_profile("work")
    assert options["gateway_token_renewer_class"] == f"{__name__}.Renewer"
    assert GatewayClient(**options).gateway_token_renewer_class is Renewer
    own = type("Own", (Renewer,), {})
    run("add", "work", url="http://a", gateway_token_renewer_class=own)
    assert read_profile("work") == {"url": "http://a"}


def test_the_list_shows_no_password_and_all_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    """One with a value that is not possible any more is among them."""
    write_profile("a", {"url": "http://ada:secret@a.example.org/base"})
    write_profile("b", {"url": "ftp://b.example.org"})
    write_profile("c", {"url": "http://c.example.org"})
    run("list")
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["a", "b", "c"]
    assert "http://a.example.org/base" in lines[0]
    assert "secret" not in lines[0]
    assert "http:// or https://" in lines[1]
