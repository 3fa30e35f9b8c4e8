"""The fault-injecting proxy does what the tests that use it rely on."""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
import requests
import websocket

from gateway_blocking.local import LocalGateway
from support.faultproxy import Cut, Direction, FaultProxy, Link
from support.rawserver import Peer, serving
from support.servers import kernels_of

UPGRADE = b"GET /api/kernels/k/channels?session_id=s HTTP/1.1\r\n\r\n"
REST = b"GET /api/kernels HTTP/1.1\r\n\r\n"
BOTH: list[Cut] = ["rst", "fin"]


class Echo:
    """What a server of raw sockets got that sends everything back, and how each client ended."""

    def __init__(self) -> None:
        self.got: list[bytearray] = []
        self.ends: list[str] = []

    def __call__(self, peer: Peer) -> None:
        mine = len(self.got)
        self.got.append(bytearray())
        try:
            while data := peer.sock.recv(65536):
                self.got[mine] += data
                peer.sock.sendall(data)
            self.ends.append("fin")
        except ConnectionError:
            self.ends.append("rst")


class Client:
    """A client of raw bytes."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.sock = socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), 10)
        self.close = self.sock.close
        self._was_reset = False

    def send(self, data: bytes) -> None:
        """Send all, or up to where the connection ends: see `end`."""
        try:
            self.sock.sendall(data)
        except ConnectionResetError:  # is said once, here or when reading
            self._was_reset = True
        except BrokenPipeError:
            pass

    def take(self, size: int) -> bytes:
        """So many bytes, less only at the end."""
        data = b""
        while len(data) < size and (chunk := self.sock.recv(size - len(data))):
            data += chunk
        return data

    def ask(self, data: bytes) -> bytes:
        """What comes back for it, of the same length."""
        self.send(data)
        return self.take(len(data))

    def end(self) -> tuple[bytes, str]:
        """All that still comes, and how it ends."""
        data = b""
        try:
            while chunk := self.sock.recv(65536):
                data += chunk
        except ConnectionResetError:
            self._was_reset = True
        return data, "rst" if self._was_reset else "fin"

    def hears_nothing(self) -> bool:
        """Neither bytes nor an end, for a while."""
        self.sock.settimeout(0.1)
        try:
            self.sock.recv(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        return False


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, and fail after ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with serving(echo) as where:
        host, _, port = where.partition(":")
        with FaultProxy(host, int(port)) as proxy:
            yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Client]:
    """One that has been served once."""
    with closing(Client(proxy)) as client:
        assert client.ask(b"hello") == b"hello"
        yield client


@pytest.fixture
def link(proxy: FaultProxy, client: Client) -> Link:
    return proxy.links[0]


# --------------------------------------------------------------------------- without a fault


def test_forwards_all_bytes_and_counts_them(client: Client, link: Link) -> None:
    """Eight megabytes, more than any buffer on the way, go there and back unchanged."""
    data = random.Random(4).randbytes(8 << 20)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.send, data)
        assert client.take(len(data)) == data
        sending.result()
    assert link.forwarded == {"up": 5 + len(data), "down": 5 + len(data)}


def test_passes_a_half_close_on(echo: Echo, client: Client, link: Link) -> None:
    """A FIN of the client reaches the server, whose own FIN comes back behind all bytes."""
    client.send(b"last")
    client.sock.shutdown(socket.SHUT_WR)
    assert client.end() == (b"last", "fin")
    until(lambda: not link.open)
    assert echo.ends == ["fin"]


def test_passes_a_reset_on(echo: Echo, client: Client, link: Link) -> None:
    """An RST of the client reaches the server as one."""
    Peer(client.sock).reset()
    until(lambda: echo.ends)
    assert echo.ends == ["rst"]
    assert not link.open


def test_passes_a_reset_of_the_server_on() -> None:
    """An RST of the server reaches the client as one, behind what was sent before."""

    def script(peer: Peer) -> None:
        peer.sock.recv(100)
        peer.sock.sendall(b"half of")
        peer.reset()

    with serving(script) as where:
        host, _, port = where.partition(":")
        with FaultProxy(host, int(port)) as proxy, closing(Client(proxy)) as client:
            client.send(b"x")
            assert client.end() == (b"half of", "rst")


def test_resets_a_server_that_writes_to_a_client_gone() -> None:
    """It did not mind the client's FIN; with its next bytes it is told that nobody reads them."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        try:
            while True:
                peer.sock.sendall(b"and on")
        finally:
            ended.set()

    with serving(script) as where:
        host, _, port = where.partition(":")
        with FaultProxy(host, int(port)) as proxy:
            with closing(Client(proxy)) as client:
                client.send(b"x")
                client.take(6)
                client.sock.shutdown(socket.SHUT_WR)
                client.take(1000)
            assert ended.wait(10)
            until(lambda: not proxy.links[0].open)


def test_resets_a_client_where_there_is_no_server() -> None:
    """Nobody listens upstream: the client is reset, and other clients are not concerned."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as proxy, closing(Client(proxy)) as client:
        client.send(REST)
        assert client.end() == (b"", "rst")
        until(lambda: not proxy.links[0].open)


def test_upstream_may_move(proxy: FaultProxy, client: Client) -> None:
    """New connections go to the server that is set, the old ones stay where they are."""
    with serving(lambda peer: peer.sock.sendall(b"new: " + peer.sock.recv(100))) as where:
        proxy.upstream = ("127.0.0.1", int(where.partition(":")[2]))
        with closing(Client(proxy)) as other:
            assert other.ask(b"x") == b"n"
        assert client.ask(b"still here") == b"still here"


# --------------------------------------------------------------------------- cuts


@pytest.mark.parametrize("how", BOTH)
def test_cut_ends_both_sides(
    proxy: FaultProxy, echo: Echo, client: Client, link: Link, how: Cut
) -> None:
    """Each side sees the same end, though bytes lie unread, and a second cut does nothing."""
    proxy.stall()
    client.send(b"never arrives")
    link.cut(how)
    link.cut("rst")
    assert client.end() == (b"", how)
    if how == "fin":
        client.sock.sendall(b"x")  # no reset came with it
    until(lambda: echo.ends)
    assert (echo.ends, echo.got) == ([how], [b"hello"])
    assert not link.open


@pytest.mark.parametrize("how", BOTH)
@pytest.mark.parametrize("n_bytes", [0, 1, 70_000])
def test_cut_after_is_exact(client: Client, link: Link, n_bytes: int, how: Cut) -> None:
    """The n-th byte arrives, and the one after it does not."""
    link.cut_after("down", n_bytes, how)
    client.send(b"x" * 100_000)
    assert client.end() == (b"x" * n_bytes, how)
    assert link.forwarded["down"] == 5 + n_bytes


def test_cut_after_upwards(echo: Echo, client: Client, link: Link) -> None:
    """The server gets so many bytes and then the end."""
    link.cut_after("up", 3, "fin")
    client.send(b"abcdef")
    until(lambda: echo.ends)
    assert (echo.ends, echo.got) == (["fin"], [b"helloabc"])


@pytest.mark.parametrize("how", BOTH)
def test_cut_at_a_marker_that_comes_in_pieces(client: Client, link: Link, how: Cut) -> None:
    """The chunk in which the marker ends is the last that arrives."""
    link.cut_at("down", b"<marker>", how)
    assert client.ask(b"no <mark, but") == b"no <mark, but"
    assert client.ask(b"now <mar") == b"now <mar"
    client.send(b"ker> and the rest")
    assert client.end() == (b"ker> and the rest", how)
    assert not link.open


def test_cut_at_upwards(echo: Echo, client: Client, link: Link) -> None:
    """A request with the marker reaches the server as a whole before the reset does."""
    link.cut_at("up", b"POST /api/kernels", "rst")
    client.send(b"POST /api/kernels HTTP/1.1\r\n\r\n")
    assert client.end()[1] == "rst"
    until(lambda: echo.ends)
    assert echo.got == [b"helloPOST /api/kernels HTTP/1.1\r\n\r\n"]


def test_a_hole_at_a_marker(client: Client, link: Link) -> None:
    """From there on nothing comes through either way, until it is healed."""
    link.cut_at("down", b"!", "hole")
    assert client.ask(b"stop!") == b"stop!"
    client.send(b"more")
    assert client.hears_nothing()
    assert link.open
    link.heal()
    assert client.take(4) == b"more"


def test_cut_after_and_cut_at_keep_apart(client: Client, link: Link) -> None:
    """Asked for both, the one that comes first decides how it ends."""
    link.cut_after("down", 6, "rst")
    link.cut_at("down", b"!", "fin")
    assert client.ask(b"abc") == b"abc"
    client.send(b"!")
    assert client.end() == (b"!", "fin")


# --------------------------------------------------------------------------- half-open


def test_a_hole_upwards(echo: Echo, client: Client, link: Link) -> None:
    """The server gets nothing, however much is sent, and all of it late."""
    link.hole("up")
    data = b"x" * (16 << 20)  # more than all buffers take without it
    client.send(data)
    assert client.hears_nothing()
    assert echo.got == [b"hello"]
    link.heal()
    assert client.take(len(data)) == data
    assert client.ask(b"and on") == b"and on"


def test_a_hole_downwards(echo: Echo, client: Client, link: Link) -> None:
    """The server works and answers, the client hears of it late."""
    link.hole("down")
    client.send(b"work")
    until(lambda: echo.got == [b"hellowork"])
    assert client.hears_nothing()
    link.heal()
    assert client.take(4) == b"work"


@pytest.mark.parametrize("how", BOTH)
def test_a_hole_keeps_an_end_back(echo: Echo, client: Client, link: Link, how: str) -> None:
    """A client that has gone is known to the server, behind its last bytes, once it is healed."""
    link.hole("both")
    client.send(b"last")
    if how == "rst":
        Peer(client.sock).reset()
    else:
        client.close()
    time.sleep(0.1)
    assert (echo.ends, echo.got) == ([], [b"hello"])
    assert link.open
    link.heal()
    until(lambda: echo.ends)
    until(lambda: not link.open)
    assert echo.got == [b"hellolast"]


def test_nobody_hears_of_a_client_gone_behind_a_hole_up(client: Client, link: Link) -> None:
    """The server writes to a client that was reset: that it is not there stays unknown."""
    link.delay("down", 0.1)
    client.send(b"answer me")
    until(lambda: link.forwarded["up"] == 14)
    link.hole("up")
    Peer(client.sock).reset()
    time.sleep(0.3)
    assert link.open
    assert link.forwarded["down"] == 5
    link.heal()
    until(lambda: not link.open)


@pytest.mark.parametrize("how", BOTH)
def test_a_hole_can_be_cut(echo: Echo, client: Client, link: Link, how: Cut) -> None:
    """The bytes that are held back are gone with the cut."""
    link.hole()
    client.send(b"lost")
    link.cut(how)
    link.heal()
    assert client.end() == (b"", how)
    until(lambda: echo.ends == [how])
    assert echo.got == [b"hello"]


# --------------------------------------------------------------------------- slow


@pytest.mark.parametrize("direction", ["up", "down"])
def test_throttle(client: Client, link: Link, direction: Direction) -> None:
    """Bytes come no faster than that, but they do, and at once when it is lifted."""
    link.throttle(direction, 10_000)
    begin = time.monotonic()
    assert client.ask(b"x" * 3000) == b"x" * 3000
    assert 0.2 < time.monotonic() - begin < 5  # the last piece is not waited for
    link.throttle(direction, 20)
    client.send(b"y" * 1000)
    assert client.take(2) == b"yy"
    link.throttle(direction, math.inf)
    assert client.take(998) == b"y" * 998


@pytest.mark.parametrize("direction", ["up", "down"])
def test_delay(client: Client, link: Link, direction: Direction) -> None:
    """Each chunk is late by that, and not by the delays of those before it; the order stays."""
    link.delay(direction, 0.3)
    begin = time.monotonic()
    for n in range(10):
        client.send(b"%d" % n)
        time.sleep(0.005)
    link.delay(direction, 0)
    client.send(b"!")
    assert client.take(11) == b"0123456789!"
    assert 0.3 <= time.monotonic() - begin < 2.9


# --------------------------------------------------------------------------- all connections


def test_refusing(proxy: FaultProxy, client: Client) -> None:
    """Who connects is reset and no link, who is connected goes on, and so does all afterwards."""
    with proxy.refusing():
        with pytest.raises(ConnectionResetError), closing(Client(proxy)) as other:
            other.sock.recv(1)  # where the reset did not come while connecting
        assert client.ask(b"here") == b"here"
    with closing(Client(proxy)) as other:
        assert other.ask(b"again") == b"again"
    assert len(proxy.links) == 2


def test_stall(proxy: FaultProxy, echo: Echo, client: Client) -> None:
    """Nothing moves on old and new connections, nothing is lost, and all goes on."""
    proxy.stall()
    client.send(b"old")
    with closing(Client(proxy)) as other:
        other.send(b"new")
        assert client.hears_nothing()
        assert other.hears_nothing()
        until(lambda: len(proxy.links) == 2)
        assert echo.got == [b"hello"]
        proxy.go_on()
        assert client.take(3) == b"old"
        assert other.take(3) == b"new"


def test_websockets_are_known(proxy: FaultProxy, client: Client) -> None:
    """Those that asked for channels are, and the newest of them that is open is waited for."""
    with closing(Client(proxy)) as first, closing(Client(proxy)) as second:
        threading.Timer(0.1, first.send, (UPGRADE,)).start()
        assert proxy.websocket is proxy.links[1]
        second.send(UPGRADE)
        assert second.take(len(UPGRADE)) == UPGRADE
        assert proxy.websocket is proxy.links[2]
        assert client.ask(REST) == REST
        proxy.websocket.cut("rst")
        assert proxy.websocket is proxy.links[1]
        assert proxy.websockets == proxy.links[1:]


def test_a_frame_is_no_request(proxy: FaultProxy) -> None:
    """On a websocket, bytes that look like a request are forwarded like all others."""
    with closing(Client(proxy)) as client:
        assert client.ask(UPGRADE) == UPGRADE
        proxy.answer("503 Service Unavailable")
        assert client.ask(REST) == REST


# --------------------------------------------------------------------------- answers


def test_answers_are_a_sequence(proxy: FaultProxy, echo: Echo) -> None:
    """Requests are answered in the order asked for, bodies swallowed; then all is forwarded."""
    proxy.answer("503 Service Unavailable", times=2, headers={"Retry-After": "7"}, body=b"busy")
    proxy.answer("401 Unauthorized", times=1)
    busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nbusy"
    with closing(Client(proxy)) as client:
        client.send(b"POST /api/kernels HTTP/1.1\r\nContent-Length: 2\r\n\r\n")
        assert client.take(len(busy)) == busy
        client.send(b"{}")
        assert client.hears_nothing()
        client.send(REST)
        assert client.take(len(busy)) == busy
        client.send(UPGRADE)
        unauthorized = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
        assert client.take(len(unauthorized)) == unauthorized
        assert echo.got == []
        assert client.ask(REST) == REST
    assert echo.got == [REST]


@pytest.mark.parametrize("to", ["websocket", "rest"])
def test_answers_to_one_kind(proxy: FaultProxy, to: str) -> None:
    """Websockets or the rest are answered, on and on, and what is not is forwarded."""
    answered, forwarded = (UPGRADE, REST) if to == "websocket" else (REST, UPGRADE)
    proxy.answer("502 Bad Gateway", to=to)  # type: ignore[arg-type]
    for _ in range(3):
        with closing(Client(proxy)) as client, closing(Client(proxy)) as other:
            client.send(answered)
            client.sock.shutdown(socket.SHUT_WR)
            assert client.end() == (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "fin")
            assert other.ask(forwarded) == forwarded
    proxy.answer_no_more()
    with closing(Client(proxy)) as client:
        assert client.ask(answered) == answered


def test_a_refused_websocket_is_not_waited_for(proxy: FaultProxy) -> None:
    """It counts as one that was tried, and not as one that is open."""
    proxy.answer("403 Forbidden", to="websocket", times=1)
    with closing(Client(proxy)) as refused, closing(Client(proxy)) as served:
        refused.send(UPGRADE)
        assert b"403" in refused.take(20)
        assert served.ask(UPGRADE) == UPGRADE
        assert proxy.websocket is proxy.websockets[1]
        served.close()
        until(lambda: not proxy.links[1].open)
        assert proxy.links[0].open
        threading.Timer(0.1, refused.send, (UPGRADE,)).start()
        assert proxy.websocket is proxy.links[0]


@pytest.mark.parametrize("how", ["rst", "fin", "hole"])
def test_lose_answer(proxy: FaultProxy, echo: Echo, client: Client, how: Cut) -> None:
    """One request that begins so is done and not answered; others and later ones are."""
    post = b"POST /api/kernels HTTP/1.1\r\n\r\n"
    proxy.lose_answer(b"POST /api/kernels ", how)
    other = b"POST /api/kernels/k/interrupt HTTP/1.1\r\n\r\n"
    assert client.ask(other) == other
    client.send(post)
    if how == "hole":
        assert client.hears_nothing()
        proxy.links[0].heal()
        assert client.take(len(post)) == post
    else:
        assert client.end() == (b"", how)
    assert echo.got == [b"hello" + other + post]
    with closing(Client(proxy)) as again:
        assert again.ask(post) == post


# --------------------------------------------------------------------------- the end


def test_closes_in_every_state(proxy: FaultProxy) -> None:
    """Links that are quiet, held, slow, full, stalled or half closed end with it within 2 s."""
    fds = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").exists() else 0
    with FaultProxy(*proxy.upstream) as closed:
        thread = [t for t in threading.enumerate() if t.name.startswith("faultproxy-")][-1]
        clients = [Client(closed) for _ in range(7)]
        for client in clients[1:]:
            assert client.ask(b"x") == b"x"
        links = closed.links
        links[1].hole()
        links[2].throttle("down", 1)
        links[3].delay("up", 60)
        for client in clients[1:5]:
            client.send(b"more" * 1000)
        clients[5].sock.shutdown(socket.SHUT_WR)
        clients[6].sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                clients[6].sock.send(b"nobody reads the echo" * 1000)
        closed.stall()
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
    assert thread.daemon
    assert not thread.is_alive()
    closed.close()
    links[1].cut("rst")
    assert not any(link.open for link in links)
    for client in clients:
        client.close()
    if fds:
        until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= fds)


def test_may_be_used_by_many_threads(proxy: FaultProxy) -> None:
    """Faults that threads put into running links at random leave the proxy able to work."""

    def talk(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10):
            with suppress(OSError), closing(Client(proxy)) as client:
                client.sock.settimeout(0.02)
                while chance.random() < 0.95:
                    client.ask(chance.randbytes(chance.randrange(100_000)))

    def harm(seed: int) -> None:
        chance = random.Random(seed)
        until(lambda: proxy.links)
        for _ in range(200):
            link = chance.choice(proxy.links[-8:])
            fault = chance.choice([link.hole, link.heal, link.heal, link.cut, link.cut_after])
            if fault == link.cut:
                link.cut(chance.choice(BOTH))
            elif fault == link.cut_after:
                link.cut_after("down", chance.randrange(1000), "fin")
            else:
                fault()
            time.sleep(0.001)

    with ThreadPoolExecutor() as pool:
        for running in [pool.submit(work, n) for n in range(4) for work in (talk, harm)]:
            running.result()
    with closing(Client(proxy)) as client:
        assert client.ask(b"fine") == b"fine"


# --------------------------------------------------------------------------- a real gateway


@pytest.fixture
def before(gateway: LocalGateway) -> Iterator[FaultProxy]:
    """A proxy in front of the real gateway."""
    host, _, port = gateway.url.rpartition("/")[2].partition(":")
    with FaultProxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def session(gateway: LocalGateway) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"token {gateway.token}"
        yield session


def test_rest_of_a_real_gateway(
    gateway: LocalGateway, before: FaultProxy, session: requests.Session
) -> None:
    """One connection is answered here, then forwarded; a lost answer to POST leaves a kernel."""
    url = f"{before.url}/api/kernels"
    before.answer("503 Service Unavailable", times=1, body=b"busy")
    assert session.post(url, json={}, timeout=30).text == "busy"
    kernels = kernels_of(gateway)
    assert [kernel["id"] for kernel in session.get(url, timeout=30).json()] == kernels
    assert len(before.links) == 1
    before.lose_answer(b"POST /api/kernels ")
    with pytest.raises(requests.ConnectionError):
        session.post(url, json={}, timeout=60)
    [orphan] = set(kernels_of(gateway)) - set(kernels)
    assert session.delete(f"{url}/{orphan}", timeout=60).status_code == 204


def test_websocket_of_a_real_gateway(before: FaultProxy, session: requests.Session) -> None:
    """A kernel talks through it; a reset, a FIN and a canned answer are seen as what they are."""
    rest = f"{before.url}/api/kernels"
    kernel = session.post(rest, json={}, timeout=60).json()["id"]
    url = f"{rest}/{kernel}/channels".replace("http", "ws", 1)
    header = {"Authorization": session.headers["Authorization"]}

    header_of_ask = {"msg_id": "m", "msg_type": "kernel_info_request", "session": "s"}
    ask = {"channel": "shell", "header": header_of_ask, "parent_header": {}, "metadata": {}}
    ask["content"] = {}

    def connect() -> websocket.WebSocket:
        return websocket.create_connection(url, timeout=60, header=header)

    try:
        with closing(connect()) as first:
            before.websocket.cut_at("down", b'"kernel_info_reply"', "rst")
            first.send(json.dumps(ask))
            with pytest.raises(ConnectionResetError):
                while first.recv():
                    pass
        with closing(connect()) as second:
            before.websocket.cut("fin")
            with pytest.raises(websocket.WebSocketConnectionClosedException):
                while second.recv():
                    pass
        before.answer("504 Gateway Timeout", to="websocket", times=1)
        with pytest.raises(websocket.WebSocketBadStatusException, match="504"):
            connect()
        assert len(before.websockets) == 3
    finally:
        session.delete(f"{rest}/{kernel}", timeout=60)
