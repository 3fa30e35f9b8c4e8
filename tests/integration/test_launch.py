"""The start of a kernel that is not answered, and the search for the kernel."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import ssl
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
)
from gateway_blocking.launch import choose_kernel_id
from gateway_blocking.rest import GatewayREST
from support.calls import CALLS, FAILED, LOOK, MODEL, SECRET, SPECS, start
from support.rawserver import Peer, Script, serving
from support.scripted import (
    BUSY,
    COOKIE,
    CUT_BODY,
    CUT_CHUNK,
    CUT_HEADERS,
    NOT_THERE,
    Server,
    error_of,
    read,
    rest_of,
    says,
    scripted,
    sends,
    stalls,
)

BAD_GATEWAY = says({}, "502 Bad Gateway")
GATEWAY_TIMEOUT = says({}, "504 Gateway Timeout")
LOST: list[tuple[Script, type[GatewayError]]] = [
    (sends(b""), GatewayConnectionError),
    (Peer.reset, GatewayConnectionError),
    (sends(CUT_BODY), GatewayConnectionError),
    (sends(CUT_CHUNK), GatewayConnectionError),
    (sends(CUT_HEADERS), GatewayConnectionError),
    (says(b'{"id'), GatewayConnectionError),
    (stalls(), GatewayTimeout),
    (stalls(CUT_BODY), GatewayTimeout),
    (BAD_GATEWAY, GatewayHTTPError),
    (GATEWAY_TIMEOUT, GatewayHTTPError),
]


@pytest.mark.parametrize("pad", [0, 2])
def test_a_start_that_is_never_answered_takes_twice_its_time_at_most(pad: int) -> None:
    """The search for the kernel is a part of the call, and no look has a time of its own."""
    options = {"request_timeout": 2, "kernel_launch_timeout": 1, "launch_timeout_pad": pad}
    with scripted(stalls()) as server:
        begin = time.monotonic()
        error = error_of(start, server, **options)
        took = time.monotonic() - begin
    assert isinstance(error, GatewayTimeout)
    assert "the kernel may have started anyway" in str(error)
    assert took < 2 * max(2, 1 + pad) + 4, "the rest is for a busy machine; it had been 20 s"


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(("fault", "kind"), LOST)
def test_a_kernel_whose_start_was_not_answered_is_found(
    fault: Script, kind: type[GatewayError], caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for once and then looked for, whatever hits the looks on the way."""
    caplog.set_level(logging.INFO, "tests")
    scripts = (fault, NOT_THERE, Peer.reset, says(MODEL))
    timeout = 3 if kind is GatewayTimeout else 30
    options = {"request_timeout": timeout, "log": logging.getLogger("tests")}
    with scripted(*scripts) as server, rest_of(server, **options) as rest:
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels", LOOK, LOOK, LOOK]
    lost, found = [record for record in caplog.records if record.name == "tests"]
    assert lost.levelname == "WARNING"
    assert re.search(r"; now looking for kernel k(, for up to \d+ s)?$", lost.getMessage())
    assert (found.levelname, found.getMessage()) == (
        "INFO",
        "kernel k was started anyway, and is used",
    )


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(("fault", "kind"), LOST)
def test_a_kernel_that_is_not_found_is_the_error_that_it_was(
    fault: Script, kind: type[GatewayError]
) -> None:
    """It says what was tried, what may have been left behind, and how to find that."""
    begin = time.monotonic()
    with scripted(fault, NOT_THERE) as server:
        error = error_of(start, server, request_timeout=2)
    assert time.monotonic() - begin >= 2, "a start may take that long"
    assert type(error) is kind
    assert str(error).startswith(f"POST http://{server.where}/api/kernels: ")
    looks = len(server.lines) - 1
    assert f"; looked for kernel k {looks} times, and it is not there" in str(error)
    assert str(error).endswith(
        "; the kernel may have started anyway: see `jupyter gateway kernels`"
    )
    assert server.lines == ["POST /api/kernels"] + [LOOK] * looks
    assert looks >= 3
    if isinstance(error, GatewayHTTPError):
        assert error.status_code in (502, 504)
    else:
        assert error.__cause__ is not None


class Clock:
    """A clock that only the pauses between the requests move."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wait(self, deadline: Deadline) -> bool:
        assert deadline.timeout is not None
        self.pauses.append(deadline.timeout)
        return False

    def open(self) -> None:
        pass

    def start(self, rest: GatewayREST) -> Any:
        rest._http.closing = self  # type: ignore[assignment]  # it has what is used
        return start(rest)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("gateway_blocking.deadline.monotonic", lambda: sum(clock.pauses))
    return clock


def test_the_looks_become_rarer(clock: Clock) -> None:
    """The pauses double up to a limit, and the last look is at the end of the time."""
    with scripted(sends(b""), NOT_THERE) as server:
        error_of(clock.start, server, kernel_launch_timeout=20, launch_timeout_pad=2)
    assert clock.pauses == [0.5, 1, 2, 4, 5, 5, 4.5]


def test_the_search_ends_early_if_the_gateway_stays_away(clock: Clock) -> None:
    """A proxy in front of it says so for ten seconds; a start might take another minute."""
    with scripted(BAD_GATEWAY) as server:
        error = error_of(clock.start, server, kernel_launch_timeout=60)
    assert clock.pauses == [0.5, 1, 2, 4, 5]
    assert "the kernel may have started anyway" in error.advice


def test_the_search_goes_on_if_the_gateway_comes_back(clock: Clock) -> None:
    """Each answer of the gateway itself begins the time anew in which it may be away."""
    scripts = (BAD_GATEWAY, *[BAD_GATEWAY, NOT_THERE] * 4, says(MODEL))
    with scripted(*scripts) as server, rest_of(server, kernel_launch_timeout=60) as rest:
        assert clock.start(rest) == MODEL
    assert sum(clock.pauses) > 20


def test_a_close_ends_the_looking() -> None:
    """Nobody is kept waiting for a kernel by an interface that was closed; it still works."""
    with scripted(sends(b""), NOT_THERE) as server, rest_of(server, request_timeout=300) as rest:
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(start, rest)
            while len(server.lines) < 3:
                time.sleep(0.01)
            rest.close()
            with pytest.raises(GatewayConnectionError, match="the kernel may have started anyway"):
                starting.result(timeout=30)
        with pytest.raises(NoSuchKernel):
            rest.get_kernel("k")


@pytest.mark.usefixtures("quick_looks")
def test_a_gateway_that_is_away_for_a_moment_is_asked_again() -> None:
    """The search may meet the same fault that took the response."""
    scripts = (Peer.reset, sends(b""), BUSY, FAILED, sends(CUT_BODY), says(MODEL))
    with scripted(*scripts) as server, rest_of(server) as rest:
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels"] + [LOOK] * 5


@pytest.mark.parametrize(
    "answer", [sends(b"SSH-2.0-x\r\n\r\n"), says({}), says([]), says(b"<html>")]
)
def test_a_start_that_no_gateway_answered_is_not_looked_for(answer: Script) -> None:
    """Who speaks no HTTP, or has a page or other JSON, did not start a kernel."""
    with scripted(answer) as server:
        error = error_of(start, server)
    assert server.lines == ["POST /api/kernels"]
    assert type(error) is GatewayConnectionError
    assert "check that it is a gateway" in str(error) or "check that this is the URL" in str(error)
    assert "may run" not in str(error)


@pytest.mark.parametrize(
    "look",
    [
        says({}, "401 Unauthorized"),
        says({}, "403 Forbidden"),
        says(b"", "302 Found", Location="/login"),
        says(b"<html><title>Log in</title>"),
    ],
)
def test_a_look_that_will_never_be_answered_is_the_last(look: Script) -> None:
    """One that is not allowed to look, or meets a login page, need not wait."""
    with scripted(Peer.reset, look) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert "looked for kernel k 1 times, and at last this came: " in str(error)
    assert server.lines == ["POST /api/kernels", LOOK]


@pytest.mark.parametrize(
    "status", ["400 No", "401 No", "403 No", "404 No", "409 No", "429 No", "503 No", "302 Found"]
)
def test_a_start_that_was_refused_is_not_looked_for(status: str) -> None:
    """The gateway has said that there is no kernel."""
    with scripted(says({}, status), says(MODEL)) as server:
        error = error_of(start, server)
    assert isinstance(error, GatewayHTTPError)
    assert "anyway" not in str(error)
    assert server.lines == ["POST /api/kernels"]


def test_a_start_that_failed_is_not_looked_for() -> None:
    """500 is the gateway's own no; its kernelspecs may tell why."""
    with scripted(FAILED, says(SPECS)) as server:
        assert "anyway" not in str(error_of(start, server))
    assert server.lines == ["POST /api/kernels", "GET /api/kernelspecs"]


def test_a_server_that_takes_the_id_for_one_to_attach_to_is_asked_without() -> None:
    """As a Jupyter Server in front of a gateway does: it answers 201, and null."""
    scripts = (says(None, "201 Created"), says(MODEL, "201 Created"))
    with scripted(*scripts) as server, rest_of(server) as rest:
        assert start(rest) == MODEL
    with_id, without = server.bodies
    assert with_id.pop("kernel_id")
    assert without == with_id


def test_a_start_that_was_never_sent_is_not_looked_for(tls: tuple[ssl.SSLContext, str]) -> None:
    """No connection, no TLS, no trust: the gateway has not read it."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    errors = [error_of(start, f"http://127.0.0.1:{port}")]
    with serving(lambda peer: peer.wait_for_end()) as where:
        errors.append(error_of(start, f"https://{where}", connect_timeout=0.5))
    with scripted(says(MODEL), tls=tls[0]) as server:
        errors.append(error_of(start, f"https://{server.where}"))
    assert server.lines == []
    for error in errors:
        assert isinstance(error, (GatewayConnectionError, GatewayTimeout))
        assert "looked for" not in str(error)
        assert "anyway" not in str(error)


def test_a_start_that_broke_in_tls_is_looked_for(tls: tuple[ssl.SSLContext, str]) -> None:
    """It was sent; what TLS says afterwards does not mean that it was not."""

    def spoil(peer: Peer) -> None:
        socket.socket.sendall(peer.sock, b"\x17\x03\x03\x00\x20" + bytes(32))

    with (
        scripted(spoil, says(MODEL), tls=tls[0]) as server,
        rest_of(f"https://{server.where}", ca_certs=tls[1]) as rest,
    ):
        assert start(rest) == MODEL
    assert server.lines == ["POST /api/kernels", LOOK]


def test_a_start_that_is_answered_204_twice_is_an_error() -> None:
    """A Jupyter Server in front of a gateway answers the first, which has an ID, so."""
    nothing = says(b"", "204 No Content")
    with scripted(nothing, nothing) as server:
        error = error_of(start, server)
    assert type(error) is GatewayConnectionError
    assert "is JSON, but it is null, not an object" in str(error)
    assert server.lines == ["POST /api/kernels"] * 2


@pytest.mark.usefixtures("quick_looks")
def test_a_second_request_is_looked_for_by_the_id_of_the_environment() -> None:
    """It has no other ID; without one, there is nothing to look for."""
    nothing = says(b"", "204 No Content")
    with scripted(nothing, Peer.reset, says(MODEL)) as server, rest_of(server) as rest:
        assert rest.start_kernel(None, {"KERNEL_ID": "k"}, kernel_id="other") == MODEL
    assert server.lines == ["POST /api/kernels"] * 2 + [LOOK]
    with scripted(nothing, Peer.reset) as server:
        error = error_of(lambda r: r.start_kernel(None, {}, kernel_id="other"), server)
    assert "may have started anyway" in error.advice
    assert server.lines == ["POST /api/kernels"] * 2


def test_without_an_id_there_is_nothing_to_look_for() -> None:
    """The error says that there may be a kernel."""
    with scripted(Peer.reset, says(MODEL)) as server:
        error = error_of(CALLS["POST"], server)
    assert str(error).endswith(
        "; the kernel may have started anyway: see `jupyter gateway kernels`"
    )
    assert server.lines == ["POST /api/kernels"]


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([NOT_THERE, says(b"", "204 No Content")], ["was shut down"]),
        ([says({}, "403 Forbidden")], ["may run anyway: DELETE http"]),
    ],
)
def test_a_start_that_is_interrupted_leaves_no_kernel(
    answers: list[Script], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A Ctrl-C while the gateway works on it: the kernel is shut down as soon as it is there."""
    caplog.set_level(logging.INFO, "tests")
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def interrupt(peer: Peer) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        peer.wait_for_end()

    with (
        scripted(interrupt, *answers) as server,
        rest_of(server, log=logging.getLogger("tests")) as rest,
        pytest.raises(KeyboardInterrupt),
    ):
        start(rest)
    assert server.lines == ["POST /api/kernels"] + ["DELETE /api/kernels/k"] * len(answers)
    told = [record.getMessage() for record in caplog.records if record.name == "tests"]
    assert [words in text for words, text in zip(said, told[-1:], strict=True)] == [True]


def test_a_start_has_a_connection_of_its_own() -> None:
    """One that was kept, and that the server closes just now, would look like a lost answer."""
    server = Server("")

    def keep(peer: Peer) -> None:
        read(peer, server)
        peer.answer("200 OK", json.dumps(MODEL).encode())
        peer.request = b""
        read(peer, server)  # only the end can come now
        server.lines.append("a second request")

    with serving(keep) as where, rest_of(f"http://{where}") as rest:
        rest.get_kernel("k")
        assert start(rest) == MODEL
    assert server.lines == [LOOK, "POST /api/kernels"]


def test_a_start_shares_the_cookies() -> None:
    """With all that comes before and after it."""
    with scripted(says(MODEL, **COOKIE)) as server:
        with rest_of(server, accept_cookies=True) as rest:
            rest.get_kernel("k")
            start(rest)
        with rest_of(server, accept_cookies=True) as rest:
            start(rest)
            rest.get_kernel("k")
    assert [h.get("cookie") for h in server.headers] == [None, "one=1", None, "one=1"]


@pytest.mark.usefixtures("quick_looks")
def test_a_look_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the error nor in the log."""
    caplog.set_level(logging.DEBUG)
    with scripted(Peer.reset, NOT_THERE) as server:
        error = error_of(
            start,
            f"http://me:{SECRET}@{server.where}",
            log=logging.getLogger("tests"),
            request_timeout=0.5,
            headers={"X-Secret": SECRET},
        )
    assert {headers["x-secret"] for headers in server.headers} == {SECRET}
    assert SECRET not in "".join(traceback.format_exception(error))
    assert "now looking for" in caplog.text
    assert SECRET not in caplog.text


def test_an_id_is_chosen() -> None:
    """The first that is fit is taken, so that the kernel can be found by it; or a new one."""
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    assert choose_kernel_id(one, two) == one
    unfit = (None, "", "mine", one.upper(), one.replace("-", ""), f"{{{one}}}", str(uuid.uuid1()))
    assert choose_kernel_id(*unfit, two) == two
    new = choose_kernel_id(*unfit)
    assert new not in unfit
    assert choose_kernel_id(new) == new
    assert choose_kernel_id() != choose_kernel_id()
