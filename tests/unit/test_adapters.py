"""Adapters: which proxy a request takes."""

from __future__ import annotations

import pytest
from urllib3.exceptions import ProxyError, ReadTimeoutError

from gateway_blocking import (
    BlockingGatewayKernelClient,
    GatewayClient,
    GatewayConnectionError,
)
from gateway_blocking.adapters import RetryPolicy, proxy_for


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "ws://gw/", None),
        ({"http_proxy": "http://p:1"}, "ws://gw/", "http://p:1"),
        ({"http_proxy": "127.0.0.1:1"}, "ws://gw/", "http://127.0.0.1:1"),
        ({"http_proxy": "http://p:1"}, "wss://gw/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "wss://gw/", "http://p:1"),
        ({"all_proxy": "http://p:1"}, "wss://gw/", "http://p:1"),
        ({"https_proxy": "http://p:1", "all_proxy": "http://q:1"}, "wss://gw/", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": "gw"}, "ws://gw/", None),
        ({"http_proxy": "http://p:1", "no_proxy": "gw:81"}, "ws://gw:80/", "http://p:1"),
        ({"http_proxy": "http://p:1", "no_proxy": ".org"}, "ws://gw.org/", None),
    ],
)
def test_the_proxy_of_a_websocket(
    variables: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That which requests has for http, or for wss that for https."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy_for(url.replace("ws", "http", 1)) == proxy


@pytest.mark.parametrize("scheme", ["socks5", "https"])
def test_a_proxy_that_a_websocket_cannot_use(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named, without its password."""
    monkeypatch.setenv("http_proxy", f"{scheme}://me:sesame@127.0.0.1:9")
    kc = BlockingGatewayKernelClient(kernel_id="k", url="http://gateway.invalid")
    with pytest.raises(GatewayConnectionError, match=f"proxy {scheme}://127.0.0.1:9 ") as caught:
        kc.start_channels()
    assert "sesame" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_handshake_with_a_proxy_that_times_out_is_not_tried_again() -> None:
    """Each attempt would take the whole connect_timeout."""
    late = ReadTimeoutError(None, "/api", "Read timed out.")  # type: ignore[arg-type]
    error = ProxyError("Unable to connect to proxy", late)
    with pytest.raises(ProxyError) as caught:
        RetryPolicy.of(GatewayClient()).increment("GET", "/api", error=error)
    assert caught.value is error
