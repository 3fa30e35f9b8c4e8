"""The options for TLS, with servers that have good and bad certificates."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    GatewayConnectionError,
)
from gateway_blocking.rest import GatewayREST
from support.calls import CALLS, MODEL
from support.rawserver import certificate, serving
from support.scripted import (
    error_of,
    says,
    scripted,
    sends,
)


@contextmanager
def secure(tls: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[str]:
    with scripted(says(MODEL), tls=tls) as server:
        yield f"https://{host}:{server.where.rpartition(':')[2]}"


def by_websocket(gateway: GatewayClient) -> None:
    """The handshake that the other transport makes with the same options."""
    parts = urlsplit(gateway.url or "")
    assert parts.hostname
    address = ("127.0.0.1", parts.port)
    with (
        socket.create_connection(address, timeout=10) as sock,
        gateway.ssl_context().wrap_socket(sock, server_hostname=parts.hostname) as wrapped,
    ):
        wrapped.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert wrapped.recv(100)  # where TLS 1.3 tells of a client's certificate that is missing


def check_both(url: str, **options: Any) -> None:
    """Ask by REST and by the websocket's TLS, which must agree; the error is that of REST."""
    gateway = GatewayClient(url=url, max_request_retries=0, **options)
    try:
        by_websocket(gateway)
        agreed = True
    except OSError:
        agreed = False
    with GatewayREST(gateway) as rest:
        try:
            assert rest.get_kernel("k") == MODEL
        except GatewayConnectionError:
            assert not agreed, "the websocket trusts it, REST does not"
            raise
    assert agreed, "REST trusts it, the websocket does not"


def test_an_unknown_authority_is_not_trusted(tls: tuple[ssl.SSLContext, str]) -> None:
    """By neither transport; the error names the options."""
    refused = pytest.raises(GatewayConnectionError, match=r"ca_certs .* to this certificate")
    with secure(tls[0]) as url, refused:
        check_both(url)


def test_ca_certs_is_trusted(tls: tuple[ssl.SSLContext, str]) -> None:
    """By both, and without a client certificate."""
    with secure(tls[0]) as url:
        check_both(url, ca_certs=tls[1])


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_validate_cert_can_be_switched_off(
    tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both, also where the environment names authorities."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    with secure(tls[0]) as url:
        check_both(url, validate_cert=False)


def test_the_environment_does_not_replace_ca_certs(
    tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests alone would take REQUESTS_CA_BUNDLE before the session's own."""
    _, other = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", other)
    monkeypatch.setenv("SSL_CERT_FILE", other)
    with secure(tls[0]) as url:
        check_both(url, ca_certs=tls[1])
        with pytest.raises(GatewayConnectionError, match="ca_certs"):
            check_both(url)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_may_name_the_authorities(
    variable: str, tls: tuple[ssl.SSLContext, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For both transports, where the configuration does not."""
    monkeypatch.setenv(variable, tls[1])
    with secure(tls[0]) as url:
        check_both(url)


def test_a_certificate_for_another_host(tls: tuple[ssl.SSLContext, str]) -> None:
    """Is refused by both, and the error says what is wrong with it."""
    refused = pytest.raises(GatewayConnectionError, match="for another host")
    with secure(tls[0], host="localhost") as url, refused:
        check_both(url, ca_certs=tls[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(version: ssl.TLSVersion, tmp_path: Path) -> None:
    """Is sent by both where it is configured; where it is missing the error asks for it."""
    (tmp_path / "server").mkdir()
    (tmp_path / "client").mkdir()
    server, cert = certificate(tmp_path / "server")
    _, client = certificate(tmp_path / "client")
    server.minimum_version = server.maximum_version = version
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(client)
    key = str(tmp_path / "client" / "key.pem")
    both = tmp_path / "both.pem"
    both.write_text(Path(client).read_text() + Path(key).read_text())
    with secure(server) as url:
        check_both(url, ca_certs=cert, client_cert=client, client_key=key)
        check_both(url, ca_certs=cert, client_cert=str(both))
        with pytest.raises(GatewayConnectionError) as caught:
            check_both(url, ca_certs=cert)
    # With TLS 1.3 the refusal may come as a reset, which does not tell.
    assert "client_cert" in str(caught.value) or "does it want https" in str(caught.value)


@pytest.mark.parametrize("option", ["ca_certs", "client_cert"])
@pytest.mark.parametrize("content", [None, "rubbish"])
def test_a_file_that_cannot_be_used_is_named(
    option: str, content: str | None, tls: tuple[ssl.SSLContext, str], tmp_path: Path
) -> None:
    """By its option; it is not a failure of the gateway."""
    file = tmp_path / "file.pem"
    if content:
        file.write_text(content)
    with secure(tls[0]) as url:
        error = error_of(CALLS["GET"], url, **{"ca_certs": tls[1], option: str(file)})
    assert f"{option}='{file}'" in str(error)
    assert "cannot be used" in str(error)


def test_a_client_certificate_without_its_key(
    tls: tuple[ssl.SSLContext, str], tmp_path: Path
) -> None:
    """OpenSSL only says ``PEM lib``; the error says what is missing."""
    _, client = certificate(tmp_path)
    with secure(tls[0]) as url:
        error = error_of(CALLS["GET"], url, ca_certs=tls[1], client_cert=client)
    assert "private key, without a password, in the same file or in client_key" in str(error)


def test_https_to_a_gateway_without() -> None:
    """The error asks whether there is TLS at all."""
    with serving(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as where:
        error = error_of(CALLS["GET"], f"https://{where}")
    assert type(error) is GatewayConnectionError
    assert str(error).endswith(
        "; this port may speak http:// only: check url (JUPYTER_GATEWAY_URL)"
    )


def test_http_to_a_gateway_with_tls(tls: tuple[ssl.SSLContext, str]) -> None:
    """The error asks for https."""
    with scripted(says(MODEL), tls=tls[0]) as server:
        error = error_of(CALLS["GET"], server)
    assert type(error) is GatewayConnectionError
    assert str(error).endswith("; this port wants https://")
