"""One spelling of URLs, for REST and for websockets."""

from __future__ import annotations

import pytest

from gateway_blocking.urls import as_http, canonical_url


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://HOST.example/a", "http://host.example/a"),
        ("http://h/a b/é", "http://h/a%20b/%C3%A9"),
        ("http://h/%c3%a9", "http://h/%C3%A9"),
        ("http://h/a/../b/./c", "http://h/b/c"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:8888/a", "http://[::1]:8888/a"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
def test_canonical_url_is_the_same_for_both_transports(scheme: str, url: str, sent: str) -> None:
    """A gateway compares the bytes of a path, and both must ask for the same kernel."""
    assert canonical_url(url.replace("http", scheme, 1)) == sent.replace("http", scheme, 1)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_canonical_url_refuses_a_host_that_no_socket_takes(host: str) -> None:
    """Such a name would fail later, with an error that names no option."""
    with pytest.raises(ValueError, match=r"label|host"):
        canonical_url(f"http://{host}/")


def test_as_http_changes_the_scheme_only() -> None:
    """The letters may stand in the host and in the path, too."""
    assert as_http("ws://ws.example/ws") == "http://ws.example/ws"
    assert as_http("wss://ws.example/ws") == "https://ws.example/ws"
    assert as_http("http://ws.example/ws") == "http://ws.example/ws"
