"""The transport, against a server that stalls, cuts, lies and refuses."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import transport as module
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    MessageTooLarge,
    NoSuchKernel,
)
from gateway_blocking.frames import BINARY, CLOSE, PING, PONG, TEXT, build_frame
from gateway_blocking.handshake import Endpoint, Handshake
from gateway_blocking.transport import MAX_OUTGOING, Transport, shut_down
from support.interrupting import interrupt_at_each_moment, interrupt_often
from support.rawserver import Peer, Script, certificate, serving
from support.waiting import least_time, wait_until

SECRET = "sesame-open"


def endpoint(where: str, **changes: Any) -> Endpoint:
    options: dict[str, Any] = {
        "url": f"ws://{where}/api/kernels/a-b-c-d-e/channels?session_id=s",
        "headers": {"Authorization": f"token {SECRET}"},
        "connect_timeout": 5,
        "handshake_timeout": 5,
        **changes,
    }
    return Endpoint(**options)


def connect(endpoint: Endpoint) -> Transport:
    return Handshake(endpoint).connect().upgrade()


@contextmanager
def connected(script: Script, **changes: Any) -> Iterator[Transport]:
    def accepting(peer: Peer) -> None:
        peer.accept()
        script(peer)

    with serving(accepting, changes.pop("tls", None)) as where:
        if changes.get("ssl_context"):
            changes["url"] = f"wss://{where}/"
        transport = connect(endpoint(where, **changes))
        try:
            yield transport
        finally:
            transport.close()


def refused(script: Script, **changes: Any) -> GatewayError:
    """The error of connecting."""
    with serving(script) as where, pytest.raises(GatewayError) as caught:
        connect(endpoint(where, **changes))
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
    return caught.value


# --- connecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [1e7, 1e10, 1e300])
@pytest.mark.parametrize("secure", [False, True])
def test_a_very_long_timeout_is_none(
    timeout: float, secure: bool, tls: tuple[ssl.SSLContext, str]
) -> None:
    """For TLS, the handshake and a message that the gateway takes a moment later."""

    def accepting(peer: Peer) -> None:
        time.sleep(0.1)
        if not secure:
            script(peer)
            return
        with tls[0].wrap_socket(peer.sock, server_side=True) as wrapped:
            script(Peer(wrapped))

    def script(peer: Peer) -> None:
        time.sleep(0.1)
        peer.accept()
        time.sleep(0.1)
        peer.receive()
        peer.send(TEXT, b"all of it")
        peer.wait_for_end()

    options: dict[str, Any] = {"connect_timeout": timeout, "handshake_timeout": timeout}
    if secure:
        options["ssl_context"] = ssl.create_default_context(cafile=tls[1])
    with serving(accepting) as where:
        transport = connect(endpoint(where, url=f"ws{'s' * secure}://{where}/", **options))
        try:
            transport.send(BINARY, bytes(MAX_OUTGOING), timeout)
            assert bytes(transport.receive()[1]) == b"all of it"
        finally:
            transport.close()


def test_the_handshake_carries_the_login_and_no_origin() -> None:
    """Headers as given; v1 is offered, and a server that selects none is fine."""
    seen: list[dict[str, str]] = []

    def script(peer: Peer) -> None:
        seen.append(peer.accept())
        peer.wait_for_end()

    with serving(script) as where:
        transport = connect(endpoint(where, subprotocols=("v1.x",)))
        assert transport.subprotocol == ""
        transport.close()
    assert seen[0]["authorization"] == f"token {SECRET}"
    assert seen[0]["sec-websocket-protocol"] == "v1.x"
    assert "origin" not in seen[0]


def test_the_server_selects_the_subprotocol() -> None:
    """One that was offered is spoken, one that was not is an error."""

    def script(peer: Peer) -> None:
        peer.accept("v1.x")
        peer.wait_for_end()

    with serving(script) as where:
        transport = connect(endpoint(where, subprotocols=("v1.x",)))
        assert transport.subprotocol == "v1.x"
        transport.close()
        with pytest.raises(GatewayConnectionError, match="was not offered"):
            connect(endpoint(where))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("401 Unauthorized", GatewayAuthError),
        ("403 Forbidden", GatewayAuthError),
        ("404 Not Found", NoSuchKernel),
        ("500 Oops", GatewayHTTPError),
        ("503 Service Unavailable", GatewayHTTPError),
        ("200 OK", GatewayHTTPError),
    ],
)
def test_a_refusal_says_status_and_reason(status: str, kind: type[GatewayHTTPError]) -> None:
    """Each status is its error, with the gateway's own message."""
    body = b'{"message": "not for you", "reason": null}'
    error = refused(lambda peer: peer.answer(status, body))
    assert type(error) is kind
    assert isinstance(error, GatewayHTTPError)
    assert f"answered {status.replace(' ', ', ', 1)}, not for you; " in str(error)
    assert error.status_code == int(status[:3])


def test_a_redirect_is_not_followed() -> None:
    """The credentials stay; the error says where it pointed."""
    reached: list[Peer] = []
    with serving(reached.append) as elsewhere:
        target = f"http://me:secret@{elsewhere}/hub?next=secret"
        error = refused(lambda peer: peer.answer("302 Found", Location=target))
        assert reached == []
    assert f"redirects to http://{elsewhere}/hub, " in str(error)
    assert "secret" not in str(error)


def test_nobody_there() -> None:
    """Refused and unknown hosts say so."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(GatewayConnectionError, match="check that the gateway is running"):
            connect(endpoint(where))
    with pytest.raises(GatewayConnectionError, match="cannot open the websocket"):
        connect(endpoint("127.0.0.1:1", headers={"a": "b\r\nc: d"}))


def test_a_server_that_never_answers_is_bounded() -> None:
    """GatewayTimeout after the handshake's time-out."""
    error = refused(lambda peer: peer.wait_for_end(), handshake_timeout=0.5)
    assert isinstance(error, GatewayTimeout)


def test_a_server_that_trickles_is_bounded() -> None:
    """One byte now and then does not prolong the handshake."""

    def script(peer: Peer) -> None:
        peer.read_request()
        for byte in b"HTTP/1.1 101 Switching Protocols and so on":
            peer.sock.sendall(bytes((byte,)))
            time.sleep(0.1)

    def connect() -> float:
        start = time.monotonic()
        assert isinstance(refused(script, handshake_timeout=0.5), GatewayTimeout)
        return time.monotonic() - start

    assert least_time(connect, 3) < 3


def test_what_is_no_websocket() -> None:
    """Nonsense, and a connection that just ends."""
    assert isinstance(refused(lambda peer: peer.sock.sendall(b"SSH-2.0\r\n\r\n")), GatewayError)
    error = refused(lambda peer: peer.reset())
    assert isinstance(error, GatewayConnectionError)


def test_the_certificate_is_verified(tmp_path: Path) -> None:
    """Unknown authority and wrong name are refused with advice, the right ones accepted."""
    tls, cert = certificate(tmp_path)
    with serving(lambda peer: (peer.accept(), peer.wait_for_end()), tls) as where:
        url = f"wss://{where}/"
        with pytest.raises(GatewayConnectionError, match="ca_certs"):
            connect(endpoint(where, url=url, ssl_context=ssl.create_default_context()))
        trusting = ssl.create_default_context(cafile=cert)
        connect(endpoint(where, url=url, ssl_context=trusting)).close()
        other = f"wss://localhost:{where.partition(':')[2]}/"
        with pytest.raises(GatewayConnectionError, match="is for another host: use a name"):
            connect(endpoint(where, url=other, ssl_context=trusting))


def test_no_tls_where_tls_is_spoken(tmp_path: Path) -> None:
    """http instead of https: an error that asks about it."""
    tls, _ = certificate(tmp_path)
    with (
        serving(lambda peer: None, tls) as where,
        pytest.raises(GatewayConnectionError, match="https"),
    ):
        connect(endpoint(where))


# --- receiving ------------------------------------------------------------------------------------


def test_messages_of_both_kinds_and_pings() -> None:
    """Text and binary come out; a ping is answered on the way."""
    answers: list[Any] = []

    def script(peer: Peer) -> None:
        peer.send(TEXT, b"a")
        peer.send(PING, b"are you there")
        peer.send(BINARY, b"b" * 1_000_000)
        answers.append(peer.receive())
        peer.wait_for_end()

    with connected(script) as transport:
        assert transport.receive() == (TEXT, b"a")
        opcode, payload = transport.receive()
        assert (opcode, bytes(payload)) == (BINARY, b"b" * 1_000_000)
    assert [(frame.opcode, frame.data) for frame in answers] == [(PONG, b"are you there")]


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (lambda peer: peer.send(CLOSE, b"\x03\xe9going away"), "with code 1001: going away"),
        (lambda peer: peer.send(CLOSE, b""), "closed the websocket without a code"),
        (lambda peer: peer.sock.shutdown(socket.SHUT_WR), "without a word"),
        (lambda peer: peer.reset(), "broke"),
        (lambda peer: peer.sock.sendall(b"\x83\x00"), "unknown opcode"),
    ],
)
def test_every_end_is_an_error_that_says_how(script: Script, complaint: str) -> None:
    """Close frames, an end without one, a reset, a stream that cannot be trusted."""
    with (
        connected(lambda peer: (script(peer), peer.wait_for_end())) as transport,
        pytest.raises(GatewayConnectionError, match=complaint),
    ):
        transport.receive()


@pytest.mark.parametrize("tls", [False, True])
def test_abort_wakes_receiver_and_sender(tls: bool, tmp_path: Path) -> None:
    """Both wait on a server that neither sends nor reads, and both end at once."""
    stop = threading.Event()
    options: dict[str, Any] = {}
    if tls:
        context, cert = certificate(tmp_path)
        options = {"tls": context, "ssl_context": ssl.create_default_context(cafile=cert)}

    def send_all(transport: Transport) -> None:
        while True:
            transport.send(BINARY, bytes(5_000_000))

    with connected(lambda peer: bool(stop.wait(30)), **options) as transport:
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(transport.receive), pool.submit(send_all, transport)]
            time.sleep(0.5)
            assert not any(one.done() for one in waiting)
            transport.abort("enough")
            for one in waiting:
                with pytest.raises(GatewayConnectionError, match="enough"):
                    one.result(timeout=5)
        stop.set()


# --- sending --------------------------------------------------------------------------------------


def test_control_c_at_any_moment_leaves_a_sender_to_the_others() -> None:
    """Nobody holds the lock that the next who sends would wait for."""
    with connected(Peer.wait_for_end) as transport:
        interrupt_often(
            lambda: transport.send(TEXT, b"a request", 1), lambda: not transport._send_lock.locked()
        )


def frames_of(peer: Peer, got: list[bytes]) -> None:
    """Note each frame of the client, until it has gone."""
    try:
        while True:
            got.append(peer.receive().data)
    except ConnectionError:
        got.append(b"the end")


def test_an_interrupted_message_is_sent_at_once_or_never() -> None:
    """Interrupted at each moment: what follows is whole, or the connection is given up."""
    sent, given_up = set(), 0
    for interrupted in interrupt_at_each_moment():
        got: list[bytes] = []
        with connected(lambda peer, got=got: frames_of(peer, got)) as transport:
            interrupted(lambda transport=transport: transport.send(TEXT, b"first", 30))
            assert not transport._send_lock.locked()
            try:
                transport.send(TEXT, b"second", 30)
            except GatewayConnectionError:
                given_up += 1
            transport.close()
            wait_until(lambda got=got: got[-1:] == [b"the end"])
        sent.add(tuple(got[:-1]))
    assert sent == {(b"second",), (b"first",), (b"first", b"second")}
    assert given_up


class Interrupted:
    """A socket whose ``send`` is interrupted when so many bytes of what it is given are sent."""

    def __init__(self, sock: socket.socket, count: int) -> None:
        self._sock, self._count = sock, count

    def send(self, data: memoryview) -> int:
        self._sock.send(data[: self._count])
        raise KeyboardInterrupt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize("count", [1, 20, 10**9])
def test_half_a_frame_ends_the_connection_at_once(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes after the system took some of a message, and before it is known how much."""
    got: list[bytes] = []
    monkeypatch.setattr(module, "shut_down", lambda sock: shut_down(getattr(sock, "_sock", sock)))
    with connected(lambda peer: frames_of(peer, got)) as transport:
        transport._sock = Interrupted(transport._sock, count)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            transport.send(BINARY, bytes(1000), 30)
        with pytest.raises(GatewayConnectionError, match="in part only"):
            transport.receive()
        with pytest.raises(GatewayConnectionError, match="in part only"):
            transport.send(TEXT, b"more", 30)
        wait_until(lambda: got[-1:] == [b"the end"])
    assert got == ([bytes(1000), b"the end"] if count > 1000 else [b"the end"])


def test_pings_do_not_pile_up_at_a_server_that_does_not_read() -> None:
    """Of many, some are answered at last, and the last of them; nothing is kept of the others."""
    many, read = 200_000, threading.Event()
    answers: list[bytes] = []

    def script(peer: Peer) -> None:
        for number in range(many):
            peer.send(PING, b"%06d" % number + bytes(100))
        peer.send(TEXT, b"that was all")
        read.wait(60)
        peer.sock.settimeout(60)
        while answers[-1:] != [b"%06d" % (many - 1)]:
            answers.append(peer.receive().data[:6])
        peer.wait_for_end()

    with connected(script) as transport:
        assert transport.receive() == (TEXT, b"that was all")
        assert len(transport._waiting) <= 8
        assert len(transport._rest) < 200
        read.set()
        wait_until(lambda: transport._send_waiting() or answers[-1:] == [b"%06d" % (many - 1)], 60)
    assert len(answers) < many
    assert answers == sorted(answers)


def test_what_was_sent_does_not_fail_by_what_waits_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pong that cannot be sent any more: its message would be sent again, and executed twice."""
    ended = threading.Event()

    def read_and_reset(peer: Peer) -> None:
        assert peer.receive().data == b"a request"
        peer.reset()
        ended.set()

    with connected(read_and_reset) as transport:
        send_waiting = transport._send_waiting

        def late() -> None:
            assert ended.wait(20)
            send_waiting()

        monkeypatch.setattr(transport, "_send_waiting", late)
        transport._waiting.append(build_frame(PONG, b""))
        transport.send(TEXT, b"a request", 20)
        with pytest.raises(GatewayConnectionError):
            transport.send(TEXT, b"another", 20)


@pytest.mark.parametrize("tls", [False, True])
def test_what_came_before_the_end_is_received(tls: bool, tmp_path: Path) -> None:
    """Also where a sender learns first that the connection is lost, and gives it up."""
    opened, ended = threading.Event(), threading.Event()

    def answer_and_reset(peer: Peer) -> None:
        assert opened.wait(10)
        for number in range(3):
            peer.send(TEXT, b"%d" % number)
        peer.reset()
        ended.set()

    changes: dict[str, Any] = {}
    if tls:
        server, cert = certificate(tmp_path)
        changes = {"tls": server, "ssl_context": ssl.create_default_context(cafile=cert)}
    with connected(answer_and_reset, **changes) as transport:
        opened.set()
        assert ended.wait(10)
        with pytest.raises(GatewayConnectionError):
            while True:
                transport.send(TEXT, b"a request")
        transport.abort()
        assert [bytes(transport.receive()[1]) for _ in range(3)] == [b"0", b"1", b"2"]
        with pytest.raises(GatewayConnectionError):
            transport.receive()


def test_a_message_too_large_is_not_sent() -> None:
    """The limit itself is sent, one more byte is refused, and the connection goes on."""
    sizes: list[int] = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            sizes.append(len(peer.receive().data))
        peer.send(TEXT, b"done")
        peer.wait_for_end()

    with connected(script) as transport:
        with pytest.raises(MessageTooLarge):
            transport.send(BINARY, bytes(MAX_OUTGOING + 1), 20)
        transport.send(BINARY, bytes(MAX_OUTGOING), 20)
        transport.send(BINARY, b"small", 20)
        transport.receive()
    assert sizes == [MAX_OUTGOING, 5]


def test_a_server_that_does_not_read_ends_a_send_at_its_deadline() -> None:
    """GatewayTimeout; half a message was sent, so the connection is given up."""
    stop = threading.Event()
    with connected(lambda peer: bool(stop.wait(30))) as transport:
        with pytest.raises(GatewayTimeout, match="within 0.5 s"):
            for _ in range(10):
                transport.send(BINARY, bytes(5_000_000), 0.5)
        with pytest.raises(GatewayConnectionError, match="in part only"):
            transport.send(TEXT, b"more", 0.5)
        stop.set()


def test_a_pong_is_not_lost_behind_a_blocked_sender() -> None:
    """The receiver goes on while a sender waits; its pong follows the sender's message."""
    read = threading.Event()
    frames: list[tuple[int, int]] = []

    def script(peer: Peer) -> None:
        read.wait(10)
        peer.send(PING, b"p")
        peer.send(TEXT, b"after the ping")
        read.clear()
        read.wait(10)
        for _ in range(3):
            frame = peer.receive()
            frames.append((frame.opcode, len(frame.data)))
        peer.wait_for_end()

    with connected(script) as transport, ThreadPoolExecutor(1) as pool:
        sending = [pool.submit(transport.send, BINARY, bytes(9_000_000), 20) for _ in range(2)]
        time.sleep(0.3)
        assert not sending[0].done()
        read.set()
        assert transport.receive() == (TEXT, b"after the ping")
        read.set()
        for one in sending:
            one.result(timeout=20)
        deadline = time.monotonic() + 10
        while len(frames) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(frames) == [(BINARY, 9_000_000), (BINARY, 9_000_000), (PONG, 1)]


def test_eight_threads_send_whole_messages_in_order() -> None:
    """40 messages each; no frame is torn, and each thread's order is kept."""
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        while len(received) < 320:
            received.append(peer.receive().data)
        peer.send(TEXT, b"done")
        peer.wait_for_end()

    def work(transport: Transport, worker: int) -> None:
        for n in range(40):
            transport.send(BINARY, b"%d %d " % (worker, n) + bytes(worker * 20_000), 30)

    with connected(script) as transport, ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(work, transport, worker) for worker in range(8)]:
            one.result(timeout=60)
        transport.receive()
    for worker in range(8):
        mine = [m for m in received if m.startswith(b"%d " % worker)]
        assert [int(m.split()[1]) for m in mine] == list(range(40))
        assert {len(m) - len(m.rstrip(b"\0")) for m in mine} == {worker * 20_000}


def test_tls_in_both_directions_at_once(tmp_path: Path) -> None:
    """Two threads send while one receives: nothing is lost and no end is seen that is none."""
    context, cert = certificate(tmp_path)
    count = 1500
    got: list[int] = []

    def script(peer: Peer) -> None:
        def pour() -> None:
            for n in range(count):
                with writing:
                    peer.send(BINARY, b"%d " % n + bytes(n % 7 * 3_000))

        writing = threading.Lock()
        pouring = threading.Thread(target=pour)
        pouring.start()
        for _ in range(2 * count):
            got.append(len(peer.receive().data))
        pouring.join()
        peer.send(TEXT, b"done")
        peer.wait_for_end()

    def work(transport: Transport) -> None:
        for n in range(count):
            transport.send(BINARY, bytes(1 + n % 5 * 2_000), 30)

    options = {"tls": context, "ssl_context": ssl.create_default_context(cafile=cert)}
    with connected(script, **options) as transport, ThreadPoolExecutor(2) as pool:
        sending = [pool.submit(work, transport) for _ in range(2)]
        for n in range(count):
            assert int(bytes(transport.receive()[1]).split()[0]) == n
        assert transport.receive() == (TEXT, b"done")
        for one in sending:
            one.result(timeout=60)
    assert sum(got) == 2 * sum(1 + n % 5 * 2_000 for n in range(count))
