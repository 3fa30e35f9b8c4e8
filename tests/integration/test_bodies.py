"""Responses whose body is not what was asked for, or does not end."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
import zlib
from functools import partial
from typing import Any

import pytest

from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
)
from gateway_blocking.models import ModelError
from gateway_blocking.rest import GatewayREST
from support.calls import CALLS, FAILED, LOOK, MODEL, SPECS, start
from support.rawserver import Peer, Script
from support.scripted import (
    NOT_THERE,
    Call,
    error_of,
    rest_of,
    says,
    scripted,
)

GIVEN_BACK = [
    ({"id": 5, "name": "n"}, "k", "id is a whole number, not text"),
    ({"id": "mine"}, "mine", "it has no name"),
    ({"id": "a\x1b[2J", "name": "n"}, "k", "id has a control character"),
    ({"id": "x" * 10**6, "name": "n"}, "k", "id has 1000000 characters"),
    ({"id": "\ud800", "name": "n"}, "k", "id has a control character"),
    ([], "k", "it is a list, not an object"),
]


@pytest.mark.parametrize(("answer", "kernel_id", "fault"), GIVEN_BACK)
def test_a_kernel_whose_model_cannot_be_used_is_given_back(
    answer: Any, kernel_id: str, fault: str
) -> None:
    """It was started, and no caller could ever shut it down; the error says what is wrong."""
    with scripted(says(answer, "201 Created"), says(b"", "204 No Content")) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)
    assert len(str(error)) < 1000
    assert server.lines == ["POST /api/kernels", f"DELETE /api/kernels/{kernel_id}"]


@pytest.mark.usefixtures("quick_looks")
def test_a_kernel_whose_model_is_nested_too_deeply_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no JSON that can be read, at the start nor at a look."""
    monkeypatch.setattr("gateway_blocking.launch.SEARCH_AWAY", 0.0)  # three looks, however slow
    deep = says(b"[" * 200_000, "201 Created")
    with scripted(deep, deep, deep, deep, says(b"", "204 No Content")) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert server.lines == ["POST /api/kernels", LOOK, LOOK, LOOK, "DELETE /api/kernels/k"]


def test_a_session_whose_model_cannot_be_used_is_given_back() -> None:
    """Its kernel was started; but not where the session attached to one."""
    answer = says({"id": "s", "path": "a", "kernel": None}, "201 Created")
    done = says(b"", "204 No Content")
    for kernel, ended in (({"name": "python3"}, ["DELETE /api/sessions/s"]), ({"id": "k"}, [])):
        create = partial(GatewayREST.create_session, wanted={"kernel": kernel})
        with scripted(answer, done) as server:
            assert "it has no" in str(error_of(create, server))
        assert server.lines == ["POST /api/sessions", *ended]


@pytest.mark.parametrize(
    ("call", "answer", "fault"),
    [
        (lambda r: r.get_kernel("k"), {"id": None, "name": "n"}, "id is null, not text"),
        (lambda r: r.list_kernels(), [MODEL, {"id": True}], "[1] has no name"),
        (lambda r: r.list_kernels(), {}, "it is an object, not a list"),
        (lambda r: r.list_kernelspecs(), {"kernelspecs": {"a": None}}, "kernelspecs.a is null"),
        (
            lambda r: r.get_kernelspec("a"),
            {"spec": {"argv": 5}},
            "spec.argv is a whole number, not a",
        ),
        (lambda r: r.list_sessions(), [{"id": "s"}], "[0] has no kernel"),
        (lambda r: r.restart_kernel("k"), [1], "it is a list, not an object"),
        (lambda r: r.api_version(), {"version": 3}, "version is a whole number, not text"),
    ],
)
def test_a_model_is_checked(call: Call, answer: Any, fault: str) -> None:
    """Whatever it is that cannot be used, it is an error that says where it is."""
    with scripted(says(answer)) as server:
        error = error_of(call, server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)
    assert isinstance(error.__cause__, ModelError)


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_json_that_is_nested_too_deeply_is_no_json(status: str) -> None:
    """Python's own parser raises a RecursionError for it."""
    with scripted(says(b"[" * 200_000, status)) as server:
        error = error_of(CALLS["GET"], server, max_request_retries=0)
    assert isinstance(error, GatewayConnectionError if "200" in status else GatewayHTTPError)


def test_a_page_with_many_titles_costs_no_time() -> None:
    """A regular expression needed 100 s for it, in which no other thread could run."""
    for page in (b"<title>" * 60_000, b"<html><title" + b" " * 400_000):
        with scripted(says(page, "500 Oops")) as server:
            begin = time.process_time()
            assert "a page" in str(error_of(CALLS["GET"], server))
            assert time.process_time() - begin < 5


def test_what_a_server_says_is_shown_without_control_characters() -> None:
    """A terminal would obey them; and in one line that is not too long."""
    body = {"reason": "\x1b]52;c;eA==\x07 \u202e", "message": "a\nb\x1b[2J" + "x" * 10**4}
    with scripted(says(body, "500 Oops", Retry_After="\x1b[2J")) as server:
        text = str(error_of(CALLS["GET"], server))
    assert text.isprintable()
    assert "a b\\x1b[2J" in text
    assert len(text) < 1000


def test_an_id_of_the_users_that_is_no_text_for_a_url() -> None:
    """A lone surrogate, as a file name may have one: there is no such kernel."""
    with scripted(says(MODEL)) as server:
        error = error_of(lambda rest: rest.get_kernel("\ud800"), server)
    assert isinstance(error, NoSuchKernel)
    assert "\\ud800" in str(error)
    assert server.lines == []


@pytest.mark.parametrize("name", ["get_kernel", "delete_kernel", "get_kernelspec", "start_kernel"])
def test_a_value_of_a_megabyte_is_shortened_in_a_text(name: str) -> None:
    """One that was given here; whatever is asked with it."""
    how = {"env": {}} if name == "start_kernel" else {}
    with scripted(NOT_THERE if name != "start_kernel" else FAILED, says(SPECS)) as server:
        error = error_of(lambda rest: getattr(rest, name)("x" * 60_000, **how), server)
    assert len(str(error)) < 1500


def zipped(content: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        content = gzip.compress(content, mtime=0)
    return content


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "identity", "GZIP"])
def test_an_answer_may_be_compressed(encoding: str) -> None:
    """As it is asked for; by proxies, mostly."""
    body = json.dumps(MODEL).encode()
    answer = says(body if encoding == "identity" else zipped(body), Content_Encoding=encoding)
    with scripted(answer) as server, rest_of(server) as rest:
        assert rest.get_kernel("k") == MODEL
    assert server.headers[0]["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "encoding", "fault"),
    [
        (zipped(bytes(17 * 1024**2)), "gzip", "more than 16777216 bytes"),
        (bytes(17 * 1024**2), "identity", "more than 16777216 bytes"),
        (zipped(b"{}", 3), "gzip, gzip, gzip", "an encoding that was not asked for"),
        (b"{}", "br", "an encoding that was not asked for"),
        (b"{}", "gzip", "it is not gzip"),
        (zipped(b"{}") + bytes(2**20), "gzip", "goes on after the end of its gzip data"),
        (zipped(b"{}")[:-4], "gzip", "its gzip data break off"),
    ],
    ids=["zipped", "plain", "three times", "another", "none", "continued", "cut off"],
)
def test_an_answer_that_is_not_read(body: bytes, encoding: str, fault: str) -> None:
    """It is too large once it is decoded, or a way around that limit."""
    with scripted(says(body, Content_Encoding=encoding)) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert fault in str(error)


def test_a_file_may_be_larger() -> None:
    """A logo, say; up to 64 MiB."""
    body = bytes(17 * 1024**2)
    with scripted(says(body)) as server, rest_of(server) as rest:
        assert rest.get_kernelspec_resource("a", "logo.png") == body


HOSTILE = """
import resource, sys
from gateway_blocking import GatewayClient, GatewayError
from gateway_blocking.models import ModelError
from gateway_blocking.rest import GatewayREST

with GatewayREST(GatewayClient(url=sys.argv[1], request_timeout=60)) as rest:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        rest.get_kernel("k")
    except GatewayError as error:
        print(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def without_end(peer: Peer) -> None:
    peer.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sock.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
@pytest.mark.parametrize("kind", ["empty blocks", "continued"])
def test_gzip_data_without_end_are_not_read_on(kind: str, status: str) -> None:
    """They decode to two bytes, but zlib keeps what follows their end, and copies it each time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    begun = packer.compress(b"{}") + packer.flush(zlib.Z_SYNC_FLUSH)
    more = b"\x00\x00\x00\xff\xff" * 20_000
    ended = threading.Event()

    def script(peer: Peer) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n".encode()
        peer.sock.sendall(head + (zipped(b"{}") if kind == "continued" else begun))
        try:
            while True:
                peer.sock.sendall(more)
        finally:
            ended.set()

    with scripted(script) as server:
        error = error_of(CALLS["GET"], server, request_timeout=60)
        assert ended.wait(30)
    assert not isinstance(error, GatewayTimeout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "500 Oops", "503 Busy"])
@pytest.mark.parametrize("kind", ["gzip", "three times gzip", "without end", "arrays"])
def test_no_answer_costs_much_memory(kind: str, status: str, bomb: bytes) -> None:
    """A response of 2 MB had become 12 GB: in a process of its own, less than 600 MB."""
    headers = {"Content_Encoding": "gzip", "Location": "/elsewhere"}
    scripts: dict[str, Script] = {
        "gzip": says(bomb, status, **headers),
        "three times gzip": says(zipped(bomb, 2), status, Content_Encoding="gzip, gzip, gzip"),
        "without end": without_end,
        "arrays": says(b"[" + b"[]," * 5_000_000 + b"[]]", status, Location="/elsewhere"),
    }
    with scripted(scripts[kind]) as server:
        url = f"http://{server.where}"
        command = [sys.executable, "-c", HOSTILE, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said, used = done.stdout.splitlines()
    assert said.startswith(f"GET {url}/api/kernels/k: ")
    assert int(used) < 600_000  # kB


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """1 GiB, in a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(2**10)) + packer.flush()
