"""What to do about a failure, as far as no server is needed to know it."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from gateway_blocking.advice import (
    HTTP_ONLY,
    NO_WAY,
    exceeded_limit,
    for_connection,
    for_lost_output,
    for_redirect,
    for_status,
    for_tls,
    for_websocket,
    option,
    shown,
)
from gateway_blocking.config import GatewayClient
from gateway_blocking.tls import NoTLSError

SAID = """IOPub {} rate exceeded.
The Jupyter server will temporarily stop sending output
to the client in order to avoid crashing it.
"""


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (SAID.format("data"), "iopub_data_rate_limit"),
        ("\n" + SAID.format("message"), "iopub_msg_rate_limit"),
        ("I said: IOPub data rate exceeded", ""),
        ("", ""),
        (None, ""),
        (["IOPub data rate exceeded"], ""),
    ],
)
def test_the_limit_that_a_server_names(text: object, limit: str) -> None:
    """It stands at the beginning of what the server writes, which may be anything."""
    assert exceeded_limit(text) == limit


def test_lost_output_has_the_right_option_for_each_server() -> None:
    """A Kernel Gateway does not know the option that the server's own words name."""
    text = for_lost_output("iopub_data_rate_limit")
    new = "a Kernel Gateway 3 or a Jupyter Server 2 with --ZMQChannelsWebsocketConnection."
    assert f"{new}iopub_data_rate_limit=0" in text
    assert "a Jupyter Server 1 with --ServerApp.iopub_data_rate_limit=0" in text
    assert "limit" not in for_lost_output("")


@pytest.mark.parametrize(
    ("sent", "advice"),
    [
        ({}, "no token was sent: set auth_token"),
        ({"Authorization": "token x"}, "the token is wrong, or not sent as this gateway wants it"),
        ({"Authorization": "Basic x"}, "check http_user (JUPYTER_GATEWAY_HTTP_USER) and http_pwd"),
    ],
)
def test_a_403_says_what_was_sent(sent: dict[str, str], advice: str) -> None:
    """A Jupyter Server answers it where a Kernel Gateway says 401."""
    for text in (for_status(403, sent, ""), for_websocket(403, sent, "", rest_allowed=False)):
        assert text.startswith(advice)
        assert "; or the user may not" in text


def verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def handshake(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "in any language")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (verification(62), "the certificate is for another host"),
        (verification(64), "the certificate is for another host"),
        (verification(9), "the gateway needs a new certificate"),
        (verification(10), "the gateway needs a new certificate"),
        (verification(18), "set ca_certs (JUPYTER_GATEWAY_CA_CERTS) to this certificate"),
        (verification(19), "set ca_certs (JUPYTER_GATEWAY_CA_CERTS) to the authority"),
        (verification(20), "set ca_certs (JUPYTER_GATEWAY_CA_CERTS) to the authority"),
        (handshake("TLSV1_ALERT_UNKNOWN_CA"), "the gateway does not trust this client_cert"),
        (handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "the gateway wants a client certificate"),
        (handshake("WRONG_VERSION_NUMBER"), HTTP_ONLY),
        (handshake("RECORD_LAYER_FAILURE"), HTTP_ONLY),
        (NoTLSError(1, "plain"), HTTP_ONLY),
        (handshake("ANYTHING_ELSE"), "check that the gateway speaks TLS on this port"),
        (ssl.SSLError(1, "without a reason"), "check that the gateway speaks TLS on this port"),
        (ConnectionRefusedError("x"), "check that the gateway is running"),
        (socket.gaierror(-2, "x"), "check the host name"),
        (UnicodeError("x"), "check the host name"),
        (TimeoutError("x"), NO_WAY),
        (OSError(errno.ENETUNREACH, "x"), NO_WAY),
        (OSError(errno.EHOSTUNREACH, "x"), NO_WAY),
        (ConnectionResetError("x"), "check that it is a gateway"),
    ],
)
def test_the_advice_does_not_depend_on_the_language_of_an_error(
    error: Exception, advice: str
) -> None:
    """Codes, reasons and types of errors are the same on each system."""
    assert for_connection(error).startswith(advice)


def test_the_advice_for_tls_never_offers_to_switch_verification_off() -> None:
    """It names the option with its variable, and the page."""
    texts = [for_tls(verification(code)) for code in (9, 10, 18, 19, 20, 62, 64)]
    assert not [text for text in texts if "validate_cert" in text]
    assert all("TLS and certificates" in text for text in texts if "ca_certs" in text)


@pytest.mark.parametrize(
    ("status", "rest_allowed", "advice"),
    [
        (401, False, "no token was sent"),
        (401, True, "no token was sent"),
        (403, True, "REST requests are allowed"),
        (404, True, "the kernel was shut down"),
        (200, False, "check that each proxy in between lets websockets through"),
        (500, False, "its log says more"),
        (502, False, "the gateway behind this proxy is not reachable"),
    ],
)
def test_a_refused_websocket_has_its_own_causes(
    status: int, rest_allowed: bool, advice: str
) -> None:
    """A proxy that refuses may be the one that the environment names."""
    text = for_websocket(status, {}, "http://p:1", rest_allowed=rest_allowed)
    assert text.startswith(advice)
    assert ("the proxy http://p:1" in text) == (status in (403, 502))


@pytest.mark.parametrize(
    ("target", "advice"),
    [("https://h/hub/login", "it redirects to a login page"), ("https://h/x", "it redirects to")],
)
def test_a_redirect_says_where_it_leads(target: str, advice: str) -> None:
    """To another address, or to log in."""
    assert for_redirect(target).startswith(advice)
    assert target in for_redirect(target)


def test_a_value_of_a_server_is_shown_in_one_line() -> None:
    """It is shortened, and has no control characters."""
    assert shown("a\n  b\x1b[2J") == "a b\\x1b[2J"
    assert shown(300 * "x") == 200 * "x" + "..."
    assert shown(10_000 * " ") == "..."


def test_option_names_the_variable_that_sets_it() -> None:
    """Each option of the gateway has its own variable, and not all are named alike."""
    named = {
        name: trait.metadata["env"][0]
        for name, trait in GatewayClient.class_traits(config=True).items()
        if trait.metadata.get("env")
    }
    assert len(named) > 25
    assert {name: option(name) for name in named} == {
        name: f"{name} ({variable})" for name, variable in named.items()
    }


def test_advice_for_a_websocket_names_the_option_of_its_url() -> None:
    """A websocket has a URL of its own if ``ws_url`` is set; to change ``url`` would not help."""
    variable = "ws_url (JUPYTER_GATEWAY_WS_URL)"
    plain = for_connection(NoTLSError(1, "plain"), "ws_url")
    assert plain == f"this port may speak ws:// only: check {variable}"
    assert for_tls(verification(62), "ws_url").endswith(variable)
    assert for_redirect("http://h/", "ws_url").endswith(f"set {variable}")
    assert "url (JUPYTER_GATEWAY_URL)" in for_redirect("http://h/")
