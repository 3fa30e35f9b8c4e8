"""Files by ``/api/contents`` of a real Jupyter Server."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway_blocking import (
    BlockingGatewayKernelClient,
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    contents_transfer,
    run_kernel,
)
from gateway_blocking.contents import Contents
from gateway_blocking.local import LocalGateway
from support.servers import jupyter_server


class Place(NamedTuple):
    """A client of a Jupyter Server, and the server's root folder."""

    kc: BlockingGatewayKernelClient
    root: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("server")
    no_trash = "--AsyncFileContentsManager.delete_to_trash=False"
    with (
        jupyter_server(root, no_trash, base="/user/me/") as it,
        run_kernel(**it.client_options()) as client,
    ):
        yield Place(client, root)


@pytest.fixture
def place(server: Place) -> Iterator[Place]:
    yield server
    server.kc.rest.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_transfer, "_CHUNK", 1000)


class Told:
    """What a progress function is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))


NAMES = ["a b", "100%", "%41", "a#b?c=d&e", "ünïcödé 漢字", "a+b;c", 'it\'s "x"', "a:b"]


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000])
def test_files_go_both_ways(place: Place, tmp_path: Path, small_chunks: None, size: int) -> None:
    """Any size, in one chunk or more, over an old file and a new one; the progress is told."""
    for _ in range(2):
        data = os.urandom(size)
        (tmp_path / "x.bin").write_bytes(data)
        told = Told()
        path = place.kc.upload(tmp_path / "x.bin", "", via="contents", progress=told)
        assert path == "x.bin"
        assert (place.root / "x.bin").read_bytes() == data
        assert told.seen[-1] == (size, size)
        assert not list(place.root.glob("*.part"))
        assert place.kc.download(path, tmp_path / "back", via="contents") == tmp_path / "back"
        assert (tmp_path / "back").read_bytes() == data
    (place.root / "x.bin").unlink()


@pytest.mark.parametrize("name", NAMES)
def test_names(place: Place, tmp_path: Path, name: str, small_chunks: None) -> None:
    """Any name of a file or folder is possible, in one chunk and in several."""
    (place.root / name).mkdir()
    for data in (b"abc", bytes(2500)):
        path = place.kc.upload(io.BytesIO(data), f"/{name}/./{name}", via="contents")
        assert path == f"{name}/{name}"
        assert (place.root / name / name).read_bytes() == data
        target = io.BytesIO()
        assert place.kc.download(path, target, via="contents") is None
        assert target.getvalue() == data
    place.kc.download(path, f"{tmp_path}/", via="contents")
    assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize(
    ("remote", "error", "text"),
    [
        ("no/such/x", FileNotFoundError, "No such file or directory: 'no/such'"),
        ("../x", OSError, "must be inside the server's root folder"),
        ("checkpoints", OSError, "has another meaning"),
        (".hidden", PermissionError, "does not accept hidden files"),
        (".hidden/x", FileNotFoundError, "does not show hidden files"),
        ("a\udce9", OSError, "not Unicode text"),
    ],
)
def test_an_upload_that_cannot_be_done(
    place: Place, remote: str, error: type[Exception], text: str
) -> None:
    """The error is of the kind that a local file would have."""
    before = sorted(place.root.rglob("*"))
    with pytest.raises(error, match=text):
        place.kc.upload(io.BytesIO(b"x"), remote, via="contents")
    assert sorted(place.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("remote", "error", "text"),
    [
        ("missing", FileNotFoundError, "on the server: No such file or directory"),
        (".hidden", FileNotFoundError, "does not show hidden files"),
        ("", IsADirectoryError, "it is a folder"),
        ("large", GatewayError, "in one response: .*leave out via='contents'"),
    ],
)
def test_a_download_that_cannot_be_done(
    place: Place, tmp_path: Path, remote: str, error: type[Exception], text: str
) -> None:
    """The old file stays."""
    (tmp_path / "old").write_text("old")
    with (place.root / "large").open("wb") as large:
        large.truncate(60_000_000)
    with pytest.raises(error, match=text):
        place.kc.download(remote, tmp_path / "old", via="contents")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("old", "old")]


def test_the_largest_download_fits(place: Place) -> None:
    """The bound that is told is the bound of a response's body."""
    with (place.root / "largest").open("wb") as file:
        file.truncate(contents_transfer.LONGEST_DOWNLOAD)
    target = io.BytesIO()
    place.kc.download("largest", target, via="contents")
    assert target.getvalue() == bytes(contents_transfer.LONGEST_DOWNLOAD)
    (place.root / "largest").unlink()


@pytest.mark.parametrize("arrives", [True, False])
def test_a_chunk_whose_response_is_lost_is_there_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, small_chunks: None, arrives: bool
) -> None:
    """The size of the file says whether it arrived."""
    save, calls = Contents.save, []

    def lose(self: Contents, path: str, data: bytes, chunk: int | None = None) -> Any:
        calls.append(chunk)
        is_lost = calls.count(chunk) == 1
        model = save(self, path, data, chunk) if arrives or not is_lost else None
        if is_lost:
            raise GatewayConnectionError("lost")
        return model

    monkeypatch.setattr(Contents, "save", lose)
    data = os.urandom(3500)
    place.kc.upload(io.BytesIO(data), "lost", via="contents")
    assert (place.root / "lost").read_bytes() == data
    assert set(calls) == {1, 2, 3, -1}
    (place.root / "lost").unlink()


def test_an_upload_that_is_interrupted_leaves_the_old_file(
    place: Place, small_chunks: None
) -> None:
    """The part that was sent is deleted."""
    (place.root / "old").write_text("old")

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.kc.upload(io.BytesIO(bytes(5000)), "old", progress=interrupt, via="contents")
    assert (place.root / "old").read_text() == "old"
    assert not list(place.root.glob("*.part"))


def test_damage_is_told(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    """The hash of the server is compared, and nothing gets its name."""
    save, read = Contents.save, Contents.read

    def save_damaged(self: Contents, path: str, data: bytes, chunk: int | None = None) -> Any:
        return save(self, path, data[::-1], chunk)

    def read_damaged(self: Contents, path: str) -> Any:
        data, model = read(self, path)
        return data[::-1], model

    monkeypatch.setattr(Contents, "save", save_damaged)
    with pytest.raises(GatewayError, match="is not what was sent"):
        place.kc.upload(io.BytesIO(os.urandom(2500)), "damaged", via="contents")
    assert not list(place.root.glob("damaged*"))
    (place.root / "good").write_bytes(os.urandom(100))
    monkeypatch.setattr(Contents, "read", read_damaged)
    with pytest.raises(GatewayError, match="damaged on its way"):
        place.kc.download("good", tmp_path / "copy", via="contents")
    assert list(tmp_path.iterdir()) == []


def test_a_gateway_without_contents(gateway: LocalGateway) -> None:
    """A Kernel Gateway answers 404, and the error says what to do."""
    client = BlockingGatewayKernelClient(kernel_id="unused", **gateway.options())
    for call in (
        lambda: client.upload(io.BytesIO(b"x"), "x", via="contents"),
        lambda: client.download("x", io.BytesIO(), via="contents"),
    ):
        with pytest.raises(GatewayError, match=r"only a Jupyter Server has; leave out via"):
            call()
    with pytest.raises(ValueError, match="via must be 'kernel' or 'contents', got 'ftp'"):
        client.upload(io.BytesIO(b"x"), "x", via="ftp")  # type: ignore[arg-type]
    client.rest.close()


# --- servers with rules of their own --------------------------------------------------------------

RULES = """
from jupyter_server.auth import Authorizer
from jupyter_server.services.contents.largefilemanager import LargeFileManager

class OldManager(LargeFileManager):
    # As those before jupyter_server 2.11, it knows no hash.
    def get(self, path, content=True, type=None, format=None):
        return super().get(path, content, type, format)

class Rules(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        path = handler.request.path
        if resource != "contents" or "open" in path:
            return True
        return action == "read" and "secret" not in path
"""


@pytest.fixture(scope="module")
def ruled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that permits to write what is named "open" only, and tells no hash."""
    root = tmp_path_factory.mktemp("ruled")
    (root / "rules.py").write_text(RULES)
    classes = ("authorizer_class=rules.Rules", "contents_manager_class=rules.OldManager")
    with jupyter_server(root, *(f"--ServerApp.{each}" for each in classes)) as it:
        yield Place(BlockingGatewayKernelClient(kernel_id="unused", **it.client_options()), root)


@pytest.fixture
def ruled(ruled_server: Place) -> Iterator[Place]:
    yield ruled_server
    ruled_server.kc.rest.close()


@pytest.mark.parametrize("size", [1, 2500])
def test_a_server_that_permits_no_writing(ruled: Place, small_chunks: None, size: int) -> None:
    """The error names the server's rule, and does not speak of the token."""
    before = sorted(ruled.root.iterdir())
    with pytest.raises(GatewayAuthError, match="not authorized to write") as caught:
        ruled.kc.upload(io.BytesIO(bytes(size)), "x", via="contents")
    assert caught.value.status_code == 403
    assert "leave out via='contents'" in caught.value.advice
    assert "token" not in str(caught.value)
    assert sorted(ruled.root.iterdir()) == before


def test_a_server_that_permits_no_reading(ruled: Place, tmp_path: Path) -> None:
    """The old file stays."""
    (ruled.root / "secret").write_text("secret")
    (tmp_path / "old").write_text("old")
    with pytest.raises(GatewayAuthError, match=r"not authorized to read .*leave out via") as caught:
        ruled.kc.download("secret", tmp_path / "old", via="contents")
    assert "token" not in str(caught.value)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("old", "old")]


def test_a_token_that_is_wrong(ruled: Place) -> None:
    """The server refuses it with 403, too, and the advice is another one."""
    client = BlockingGatewayKernelClient(
        kernel_id="unused", url=ruled.kc.gateway.url, auth_token="wrong"
    )
    with pytest.raises(GatewayAuthError, match=r"check auth_token") as caught:
        client.upload(io.BytesIO(b"x"), "open", via="contents")
    assert "via" not in caught.value.advice
    client.rest.close()


@pytest.mark.parametrize("size", [0, 1000, 2500])
def test_a_server_that_tells_no_hash(
    ruled: Place, monkeypatch: pytest.MonkeyPatch, small_chunks: None, size: int
) -> None:
    """The size is compared alone, as with a jupyter_server before 2.11."""
    data, target = os.urandom(size), io.BytesIO()
    ruled.kc.upload(io.BytesIO(data), "open", via="contents")
    ruled.kc.download("open", target, via="contents")
    assert target.getvalue() == data
    model = Contents.find(ruled.kc.rest.contents(None), "open", with_hash=True)
    assert model is not None
    assert model.get("hash") is None
    read = Contents.read

    def read_more(self: Contents, path: str) -> Any:
        content, about = read(self, path)
        return content + b"more", about

    monkeypatch.setattr(Contents, "read", read_more)
    with pytest.raises(GatewayError, match="damaged on its way"):
        ruled.kc.download("open", io.BytesIO(), via="contents")
