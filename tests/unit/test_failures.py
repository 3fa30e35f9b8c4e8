"""Errors for requests without a response: which exception of requests becomes which error."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from gateway_blocking import failures
from gateway_blocking.advice import AT_WORK, HTTP_ONLY, NO_WAY, WANTS_TLS
from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
)
from gateway_blocking.failures import connection_error, is_coming_up
from gateway_blocking.responses import RequestInfo
from gateway_blocking.tls import HandshakeTimeout

URL = "https://gateway.example/api/kernels"


@pytest.fixture(autouse=True)
def _no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no port speak TLS that should not, without asking it."""
    monkeypatch.setattr(failures, "speaks_tls", lambda *_: False)


def error_for(error: Exception, timeout: float | None = None, **options: Any) -> GatewayError:
    """Return the error for a GET that failed with this one."""
    proxy = options.pop("proxy", "")
    url = options.pop("url", URL)
    gateway = GatewayClient(url="https://gateway.example", **options)
    found, _ = connection_error(RequestInfo("GET", url, proxy), error, gateway, timeout)
    return found


def wrapped(cause: Exception) -> requests.ConnectionError:
    """Return a cause within the layers in which requests and urllib3 raise it."""
    return requests.ConnectionError(MaxRetryError(None, "/api", cause))  # type: ignore[arg-type]


def read_timeout() -> requests.ReadTimeout:
    return requests.ReadTimeout(ReadTimeoutError(None, "/api", "Read timed out."))  # type: ignore[arg-type]


# --- timeouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "options", "text", "advice"),
    [
        (
            requests.ConnectTimeout("timed out"),
            {"connect_timeout": 7},
            r"no connection within 7 s \(connect_timeout\)",
            NO_WAY,
        ),
        (
            wrapped(HandshakeTimeout("The handshake operation timed out")),
            {"connect_timeout": 7},
            r"no TLS handshake within 7 s \(connect_timeout\)",
            HTTP_ONLY,
        ),
        (
            read_timeout(),
            {"request_timeout": 60},
            r"no response within 60 s \(request_timeout\)",
            AT_WORK,
        ),
        (
            read_timeout(),
            {"request_timeout": 10, "kernel_launch_timeout": 40, "launch_timeout_pad": 5},
            r"no response within 45 s \(kernel_launch_timeout\)",
            AT_WORK,
        ),
    ],
)
def test_a_passed_timeout_names_the_option_that_bounds_it(
    error: Exception, options: dict[str, Any], text: str, advice: str
) -> None:
    """It is a GatewayTimeout with the number of seconds, and says what to check."""
    with pytest.raises(GatewayTimeout, match=f"GET {URL}: {text}") as caught:
        raise error_for(error, **options)
    assert caught.value.advice.startswith(advice)


@pytest.mark.parametrize("error", [requests.ConnectTimeout("timed out"), read_timeout()])
def test_a_timeout_of_the_caller_is_named_without_an_option(error: Exception) -> None:
    """The caller knows where the number of seconds is from."""
    text = str(error_for(error, timeout=0.25))
    assert "within 0.25 s" in text
    assert "(connect_timeout)" not in text
    assert "(request_timeout)" not in text


def test_a_handshake_with_a_proxy_that_times_out_blames_the_proxy() -> None:
    """The gateway's own URL is not the cause."""
    error = requests.exceptions.ProxyError(HandshakeTimeout("The handshake operation timed out"))
    url, proxy = "http://gateway.example/api/kernels", "https://proxy.example:3128"
    found = error_for(error, url=url, proxy=proxy, connect_timeout=7)
    assert isinstance(found, GatewayTimeout)
    assert "no TLS handshake with the proxy within 7 s (connect_timeout)" in str(found)
    assert proxy in found.advice
    assert "url (JUPYTER_GATEWAY_URL)" not in found.advice
    assert "write http:// before the proxy's name" in found.advice


# --- connections that were not made, or ended -----------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "check that the gateway is running"),
        (ConnectionResetError(104, "Connection reset by peer"), "check that it is a gateway"),
        (socket.gaierror(-2, "Name or service not known"), "check the host name"),
        (OSError(113, "No route to host"), NO_WAY),
    ],
)
@pytest.mark.parametrize("kind", [requests.ConnectionError, wrapped])
def test_a_lost_connection_has_the_systems_words_and_advice(
    kind: Callable[[Exception], Exception], cause: Exception, advice: str
) -> None:
    """The cause is found below all the layers, and is the error's own cause for is_coming_up()."""
    gateway = GatewayClient(url="https://gateway.example")
    error, found = connection_error(RequestInfo("GET", URL), kind(cause), gateway, None)
    assert type(error) is GatewayConnectionError
    assert str(cause) in str(error)
    assert error.advice.startswith(advice)
    assert found is cause


def test_the_request_is_removed_from_the_exception() -> None:
    """It has the login, which a report of errors would show with all attributes."""
    error = requests.ConnectionError("broke", request=requests.Request("GET", URL).prepare())
    error_for(error)
    assert error.request is None


def test_a_long_cause_is_shortened_to_a_line() -> None:
    """A proxy may send a page in its reason."""
    text = str(error_for(requests.ConnectionError(ProtocolError("x\n" * 5000))))
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize(
    "kind", [requests.exceptions.ProxyError, requests.exceptions.InvalidSchema]
)
def test_a_proxy_that_fails_is_named(kind: type[Exception]) -> None:
    """It comes from the environment, which a user may not know of."""
    error = error_for(kind("Cannot connect to proxy."), proxy="http://proxy.example:3128")
    assert "the proxy http://proxy.example:3128 that the environment names" in error.advice


def test_a_proxy_that_wants_a_login_is_told_apart() -> None:
    """Its login belongs in its URL; NO_PROXY is not the first thing to try."""
    refused = OSError("Tunnel connection failed: 407 Proxy Authentication Required")
    error = error_for(requests.exceptions.ProxyError(refused), proxy="http://proxy.example:3128")
    assert "http://user:password@" in error.advice


def test_a_connection_with_tls_that_ends_does_not_ask_for_https() -> None:
    """A server may close a connection without the client certificate that it wants."""
    error = error_for(requests.ConnectionError(ConnectionResetError(104, "reset")))
    assert "https://" not in error.advice
    assert "client_cert (JUPYTER_GATEWAY_CLIENT_CERT)" in error.advice
    plain = error_for(
        requests.ConnectionError(ConnectionResetError(104, "reset")),
        url="http://gateway.example/api/kernels",
    )
    assert plain.advice == "check that it is a gateway, and whether it wants https://"


def test_an_error_of_another_kind_points_to_its_cause() -> None:
    """No advice could be right for all of these."""
    error = error_for(requests.exceptions.ContentDecodingError("bad gzip"))
    assert error.advice == "see the error that this one came from"


# --- TLS ------------------------------------------------------------------------------------------


def test_a_certificate_that_is_not_accepted_has_advice_about_certificates() -> None:
    """The code that OpenSSL gives decides, and not its words."""
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_code = 18
    error = error_for(requests.exceptions.SSLError(MaxRetryError(None, "/", cause)))  # type: ignore[arg-type]
    assert error.advice.startswith("set ca_certs (JUPYTER_GATEWAY_CA_CERTS) to this certificate")


@pytest.mark.parametrize(
    "error", [requests.exceptions.SSLError("cannot load"), OSError("invalid path: /no/such")]
)
def test_a_file_that_cannot_be_used_is_the_error_if_there_is_one(error: Exception) -> None:
    """requests reads the files at the first request, and its error does not name the option."""
    assert "ca_certs='/no/such'" in str(error_for(error, ca_certs="/no/such"))


@pytest.mark.parametrize(
    ("url", "proxy", "timeout", "is_asked"),
    [
        ("http://gateway.example/api", "", None, True),
        ("https://gateway.example/api", "", None, False),
        ("http://gateway.example/api", "http://proxy.example", None, False),
        ("http://gateway.example/api", "", 5.0, False),
    ],
)
def test_a_port_is_asked_for_tls_only_if_it_may_speak_it(
    url: str, proxy: str, timeout: float | None, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a proxy's, nor if the caller has a timeout of its own, which asking would exceed."""
    asked: list[tuple[str, int]] = []

    def speaks(host: str, port: int, _timeout: float) -> bool:
        asked.append((host, port))
        return True

    monkeypatch.setattr(failures, "speaks_tls", speaks)
    error = error_for(wrapped(ConnectionResetError()), timeout, url=url, proxy=proxy)
    assert asked == [("gateway.example", 80)] * is_asked
    assert (error.advice == WANTS_TLS) == is_asked


# --- a gateway that comes up ----------------------------------------------------------------------


def http_error(kind: type[GatewayHTTPError], status: int) -> GatewayHTTPError:
    return kind("refused", method="GET", url=URL, status_code=status, reason="", message="")


def caused_by(cause: BaseException) -> GatewayConnectionError:
    error = GatewayConnectionError("no connection")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (http_error(GatewayHTTPError, 502), True),
        (http_error(GatewayHTTPError, 503), True),
        (http_error(GatewayHTTPError, 504), True),
        (http_error(GatewayHTTPError, 500), False),
        (http_error(GatewayAuthError, 401), False),
        (GatewayTimeout("late"), True),
        (caused_by(ConnectionRefusedError()), True),
        (caused_by(ConnectionResetError()), True),
        (caused_by(ssl.SSLEOFError()), True),
        (caused_by(ssl.SSLCertVerificationError()), False),
        (caused_by(socket.gaierror()), False),
        (GatewayConnectionError("a redirect to a login page"), False),
    ],
)
def test_only_what_passes_by_itself_is_coming_up(error: GatewayError, expected: bool) -> None:
    """An unknown host, a certificate or a login does not change while one waits."""
    assert is_coming_up(error) is expected


def test_a_new_connection_error_is_no_timeout() -> None:
    """urllib3 derives it from its own class for timeouts."""
    error = NewConnectionError(None, "Failed to establish a new connection")  # type: ignore[arg-type]
    assert type(error_for(wrapped(error))) is GatewayConnectionError
