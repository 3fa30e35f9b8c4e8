"""TLS: the files of the options, and ports that do not speak it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest

from gateway_blocking import tls as module
from gateway_blocking.errors import GatewayError
from gateway_blocking.tls import (
    DirectTLSSocket,
    HandshakeTimeout,
    NoTLSError,
    TLSSocket,
    make_context,
    trusted_authorities,
)


@pytest.mark.parametrize(
    ("validate", "ca_certs", "environment", "trusted"),
    [
        (False, "own.pem", {"REQUESTS_CA_BUNDLE": "r.pem"}, False),
        (True, "own.pem", {"REQUESTS_CA_BUNDLE": "r.pem"}, "own.pem"),
        (True, None, {"REQUESTS_CA_BUNDLE": "r.pem", "CURL_CA_BUNDLE": "c.pem"}, "r.pem"),
        (True, None, {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "c.pem"}, "c.pem"),
        (True, None, {}, certifi.where()),
    ],
)
def test_trusted_authorities_are_those_that_requests_would_take(
    monkeypatch: pytest.MonkeyPatch,
    validate: bool,
    ca_certs: str | None,
    environment: dict[str, str],
    trusted: bool | str,
) -> None:
    """REST and the websocket trust the same certificates."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trusted_authorities(validate, ca_certs) == trusted


def test_context_without_verification_accepts_any_certificate() -> None:
    """That is what the option asks for; otherwise the host name is checked, too."""
    context = make_context(False, None, None, None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    context = make_context(certifi.where(), None, None, None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"ca_certs": "{}/missing.pem"}, r"ca_certs='.*missing\.pem'"),
        ({"ca_certs": "{}/text.pem"}, r"ca_certs='.*text\.pem'"),
        ({"client_cert": "{}/text.pem"}, r"client_cert='.*text\.pem'"),
        ({"client_key": "{}/text.pem"}, "is set, and client_cert is not"),
    ],
)
def test_file_that_cannot_be_used_is_an_error_that_names_the_option(
    tmp_path: Path, files: dict[str, str], text: str
) -> None:
    """The advice says what the file must have."""
    (tmp_path / "text.pem").write_text("not a certificate")
    paths: dict[str, Any] = {name: path.format(tmp_path) for name, path in files.items()}
    options = {"ca_certs": None, "client_cert": None, "client_key": None, **paths}
    with pytest.raises(GatewayError, match=text) as caught:
        make_context(paths.get("ca_certs", certifi.where()), **options)
    assert f"set {'client_cert' if 'client_key' in paths else next(iter(paths))}" in str(
        caught.value.advice
    )


# --- ports that do not speak TLS ------------------------------------------------------------------


class Silent:
    """A TLS socket whose handshake gets no answer, and which records its timeouts."""

    def __init__(self, timeout: float | None, *, answers_at_last: bool = False) -> None:
        self.timeout = timeout
        self.waits: list[float | None] = []
        self.answers_at_last = answers_at_last

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def do_handshake(self, block: bool = False) -> None:
        self.waits.append(self.timeout)
        if not (self.answers_at_last and len(self.waits) > 1):
            raise TimeoutError("timed out")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a maker of sockets, each a DirectTLSSocket above a Silent."""

    def make(speaks_http: bool, timeout: float | None, **options: Any) -> Any:
        monkeypatch.setattr(module, "_speaks_plain_http", lambda address: speaks_http)
        sock = Silent(timeout, **options)

        def as_tls(self: Any, block: bool = False) -> None:
            try:
                sock.do_handshake(block)
            except TimeoutError as error:
                raise HandshakeTimeout(*error.args) from error

        monkeypatch.setattr(TLSSocket, "do_handshake", as_tls)
        monkeypatch.setattr(DirectTLSSocket, "gettimeout", lambda self: sock.gettimeout())
        monkeypatch.setattr(DirectTLSSocket, "settimeout", lambda self, t: sock.settimeout(t))
        monkeypatch.setattr(DirectTLSSocket, "getpeername", lambda self: sock.getpeername())
        direct = DirectTLSSocket.__new__(DirectTLSSocket)
        return direct, sock

    return make


def test_silent_port_that_answers_http_is_an_error_before_the_timeout(silent: Any) -> None:
    """Such a port waits for the end of a line, and would wait for the whole timeout."""
    direct, sock = silent(True, 40.0)
    with pytest.raises(NoTLSError, match="answers plain HTTP"):
        direct.do_handshake()
    assert sock.waits == [module.TLS_PATIENCE]
    assert sock.timeout == 40.0


def test_silent_port_that_answers_nothing_is_waited_for(silent: Any) -> None:
    """A gateway may be slow; the timeout of the socket is what it was before."""
    direct, sock = silent(False, 40.0)
    with pytest.raises(HandshakeTimeout):
        direct.do_handshake()
    assert len(sock.waits) == 2
    assert module.TLS_PATIENCE < sock.waits[1] <= 40.0
    assert sock.timeout == 40.0
    direct, sock = silent(False, None, answers_at_last=True)
    direct.do_handshake()
    assert sock.waits == [module.TLS_PATIENCE, None]


def test_short_timeout_leaves_no_time_to_ask(silent: Any) -> None:
    """The handshake then ends with its own timeout."""
    direct, sock = silent(True, module.TLS_PATIENCE)
    with pytest.raises(HandshakeTimeout):
        direct.do_handshake()
    assert sock.waits == [module.TLS_PATIENCE]
