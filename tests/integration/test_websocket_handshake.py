"""The websocket's handshake: URL and headers as REST has them, and the addresses of a host."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from gateway_blocking import GatewayClient, GatewayError, run_kernel
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import GatewayTimeout
from gateway_blocking.handshake import Endpoint, Handshake
from gateway_blocking.rest import GatewayREST
from support.rawserver import Peer, serving
from support.servers import Server, jupyter_server, kernel_gateway

# --- one spelling for both transports -------------------------------------------------------------


def sent_by_both(path: str = "", **options: Any) -> tuple[list[bytes], list[bytes]]:
    """Return the request lines and headers of a REST request and of a handshake."""
    seen: list[list[bytes]] = []

    def script(peer: Peer) -> None:
        peer.read_request()
        seen.append(peer.request.partition(b"\r\n\r\n")[0].split(b"\r\n"))
        peer.answer("404 Not Found", Connection="close")  # then the client sends the next one

    with serving(script) as where:
        gateway = GatewayClient(url=f"http://{where}{path}", max_request_retries=0, **options)
        with GatewayREST(gateway) as rest, pytest.raises(GatewayError):
            rest.get_kernel("k")
        endpoint = Endpoint(gateway.channels_url("k", "s"), gateway.request_headers())
        with pytest.raises(GatewayError):
            Handshake(endpoint).connect().upgrade()
    rest_lines, websocket_lines = seen
    return rest_lines, websocket_lines


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/user/jürgen", b"/user/j%C3%BCrgen"),
        ("/user/j%c3%bcrgen", b"/user/j%C3%BCrgen"),
        ("/user/j%C3%BCrgen", b"/user/j%C3%BCrgen"),
        ("/a/../b", b"/b"),
        ("/a/./b/", b"/a/b"),
        ("/a/%2e%2e/b", b"/b"),
        ("/%7eada", b"/~ada"),
        ("/a%2fb", b"/a%2Fb"),
        ("/100%/x%zz", b"/100%25/x%25zz"),
        ("/a[b]|c", b"/a%5Bb%5D%7Cc"),
        ("/a//b", b"/a//b"),
    ],
)
def test_both_transports_send_the_same_path(path: str, sent: bytes) -> None:
    """A gateway compares the bytes: one that is spelt otherwise is not found there."""
    rest, websocket = sent_by_both(path)
    assert rest[0] == b"GET " + sent + b"/api/kernels/k HTTP/1.1"
    assert websocket[0] == b"GET " + sent + b"/api/kernels/k/channels?session_id=s HTTP/1.1"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"auth_token": "clé"}, b"authorization: token cl\xe9"),
        ({"headers": {"X-Name": "José"}}, b"x-name: jos\xe9"),
        ({"headers": {"X-Name": "a", "x-name": "b"}}, b"x-name: b"),
        ({"headers": {"Host": "gateway.example"}}, b"host: gateway.example"),
        ({"http_user": "josé", "http_pwd": "clé"}, b"authorization: basic am9zw6k6y2zdqq=="),
    ],
)
def test_both_transports_send_the_same_header_once(options: dict[str, Any], sent: bytes) -> None:
    """In Latin-1, as servers decode it; the user's own Host replaces the usual one."""
    name = sent.partition(b":")[0]
    for lines in sent_by_both(**options):
        found = [line.lower() for line in lines if line.lower().startswith(name + b":")]
        assert found == [sent]


def test_a_header_of_the_connection_is_for_rest_only() -> None:
    """``Connection: close`` would contradict the handshake's own."""
    rest, websocket = sent_by_both(headers={"Connection": "close"})
    assert b"Connection: close" in rest
    assert [line for line in websocket if line.lower().startswith(b"connection")] == [
        b"Connection: Upgrade"
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://h.example:443/x", b"h.example:443"),
        ("ws://h.example:80/x", b"h.example"),
        ("ws://[::1]:8888/x", b"[::1]:8888"),
    ],
)
def test_the_host_has_its_port_unless_it_is_the_usual_one(
    url: str, host: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As http.client has it: 443 is usual for wss only."""
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        peer.read_request()
        seen.append(peer.request)
        peer.answer("404 Not Found")

    with serving(script) as where:
        at = ("127.0.0.1", int(where.rpartition(":")[2]))
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", at)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **how: [address])
        with pytest.raises(GatewayError):
            Handshake(Endpoint(url, {})).connect().upgrade()
    [request] = seen
    assert b"\r\nHost: " + host + b"\r\n" in request


@pytest.fixture(scope="module", params=["Jupyter Server", "Kernel Gateway"])
def abroad(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A real server with a base path as JupyterHub gives it, and a token, that are not ASCII."""
    kinds: dict[str, Callable[..., Any]] = {
        "Jupyter Server": jupyter_server,
        "Kernel Gateway": kernel_gateway,
    }
    folder = tmp_path_factory.mktemp("abroad")
    with kinds[request.param](folder, token="clé", base="/user/j%C3%BCrgen") as server:
        yield server


@pytest.mark.parametrize("name", ["jürgen", "j%c3%bcrgen", "j%C3%BCrgen"])
def test_a_kernel_of_a_real_server_is_used(abroad: Server, name: str) -> None:
    """However the base path is typed: the kernel starts, and its websocket opens."""
    url = abroad.url.replace("j%C3%BCrgen", name)
    with run_kernel(url=url, **abroad.options) as kc:
        reply = kc.execute("6 * 7", reply=True, timeout=60)
    assert reply["content"]["status"] == "ok"


# --- a host with several addresses ----------------------------------------------------------------


@contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """Give an address that answers no connection: its queue is full, so that Linux drops more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(64):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.3)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                break
        yield listener.getsockname()


def addresses(*at: tuple[str, int]) -> Any:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", each) for each in at]
    return lambda *args, **how: found


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each gets a share of connect_timeout, as the IPv6 address of a host without a route to it."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.wait_for_end()

    with black_hole() as dead, serving(script) as where:
        alive = ("127.0.0.1", int(where.rpartition(":")[2]))
        monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, alive))
        deadline = Deadline(8)
        Handshake(
            Endpoint("ws://gateway.example/", {}, connect_timeout=8)
        ).connect().upgrade().close()
        assert not deadline.passed(), "the first address had all of the time"


def test_all_addresses_together_take_no_longer_than_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error is a timeout, with the option that bounds it."""
    with black_hole() as dead:
        monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, dead, dead))
        with pytest.raises(GatewayTimeout, match=r"within 0.3 s \(connect_timeout\)"):
            Handshake(Endpoint("ws://gateway.example/", {}, connect_timeout=0.3)).connect()
