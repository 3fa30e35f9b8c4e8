"""The HTTP proxies of the environment, used or not used alike by REST and websockets."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    GatewayClient,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    run_kernel,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.httpproxy import http_proxy
from support.rawserver import Peer, serving


def test_rest_and_websocket_go_through_the_proxy(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The websocket by CONNECT, with the login of the proxy's URL; the host is resolved there."""
    log: list[str] = []
    logins: list[str | None] = []
    with http_proxy(gateway.url, log, logins) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:sesame@{proxy}")
        with run_kernel(url="http://gateway.invalid:8888", auth_token=gateway.token) as kc:
            reply = kc.execute("6 * 7", reply=True, timeout=60)
            assert reply["content"]["status"] == "ok"
    assert "CONNECT gateway.invalid:8888" in log
    assert "POST http://gateway.invalid:8888/api/kernels" in log
    assert set(logins) == {"Basic " + base64.b64encode(b"me:sesame").decode()}


@pytest.mark.parametrize("excepted", ["127.0.0.1", "127.0.0.0/8", "*", "example.org,127.0.0.1"])
def test_a_host_may_be_excepted(
    excepted: str, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all the ways that requests understands."""
    log: list[str] = []
    with http_proxy(gateway.url, log, []) as proxy:
        for scheme in ("http", "https", "all"):
            monkeypatch.setenv(f"{scheme}_proxy", f"http://{proxy}")
        monkeypatch.setenv("no_proxy", excepted)
        with run_kernel(**gateway.options()) as kc:
            kc.execute("1", reply=True, timeout=60)
    assert log == []


def test_the_websockets_own_url_decides(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If ``ws_url`` is another host, that one counts."""
    log: list[str] = []
    with http_proxy(gateway.url, log, []) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with run_kernel(**gateway.options(), ws_url="ws://channels.invalid:8888") as kc:
            kc.execute("1", reply=True, timeout=60)
    assert log == ["CONNECT channels.invalid:8888"]


def test_a_proxy_that_refuses() -> None:
    """Its own words, by REST and websocket."""

    def refuse(peer: Peer) -> None:
        peer.answer("407 Proxy Authentication Required", Connection="close")

    with serving(refuse) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("http_proxy", f"http://{proxy}")
        kc = BlockingGatewayKernelClient(kernel_id="k", url="http://gateway.invalid")
        with pytest.raises(GatewayConnectionError, match="407"):
            kc.start_channels()
        rest = GatewayREST(GatewayClient(url="http://gateway.invalid"))
        with rest, pytest.raises(GatewayHTTPError, match="407"):
            rest.get_kernel("k")


def test_stop_channels_does_not_wait_for_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the thread that is just starting them, where the proxy does not answer."""
    asked = threading.Event()

    def stall(peer: Peer) -> None:
        peer.read_request()
        asked.set()
        peer.wait_for_end()

    with ThreadPoolExecutor(1) as pool, serving(stall) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        kc = BlockingGatewayKernelClient(kernel_id="k", url="http://gateway.invalid")
        starting = pool.submit(kc.start_channels)
        assert asked.wait(10)
        kc.stop_channels()
        with pytest.raises(GatewayConnectionClosed, match="were stopped"):
            starting.result(timeout=10)  # connect_timeout is 40 s


def test_a_proxy_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """connect_timeout is for all of its answer, and not for each byte."""
    sent: list[int] = []

    def trickle(peer: Peer) -> None:
        peer.read_request()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while len(sent) < 200:
            time.sleep(0.05)
            peer.sock.sendall(b"x")
            sent.append(1)

    with serving(trickle) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        kc = BlockingGatewayKernelClient(
            kernel_id="k", url="http://gateway.invalid", connect_timeout=0.5
        )
        with pytest.raises(GatewayTimeout, match=r"0\.5 s"):
            kc.start_channels()
        assert len(sent) < 200


def test_the_environment_never_replaces_what_is_configured(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither ~/.netrc the token, nor REQUESTS_CA_BUNDLE that there is no TLS; in one session."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password sesame\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            assert kc.execute("1", reply=True, timeout=60)["content"]["status"] == "ok"
