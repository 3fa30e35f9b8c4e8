"""Files with certificates and keys: those that are trusted, and those that cannot be used."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import GatewayError
from support.rawserver import certificate

SECRET = "sesame-open"


def test_the_context_trusts_ca_certs_only(tmp_path: Path) -> None:
    """A file of authorities is there instead of the usual ones."""
    _, cert = certificate(tmp_path)
    context = GatewayClient(ca_certs=cert).ssl_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 1
    assert GatewayClient().ssl_context().cert_store_stats()["x509_ca"] > 10


def test_the_context_may_trust_a_directory(tmp_path: Path) -> None:
    """As requests does: one of hashed names, such as /etc/ssl/certs."""
    _, cert = certificate(tmp_path)
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", cert], capture_output=True, check=True
    )
    (tmp_path / f"{hashed.stdout.decode().strip()}.0").write_text(Path(cert).read_text())
    assert GatewayClient(ca_certs=str(tmp_path)).ssl_context().verify_mode == ssl.CERT_REQUIRED


def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the option it came from."""
    _, cert = certificate(tmp_path)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    key = str(tmp_path / "key.pem")
    for options, named in [
        ({"ca_certs": "/no/such"}, "ca_certs='/no/such'"),
        ({"ca_certs": str(rubbish)}, f"ca_certs='{rubbish}'"),
        ({"client_cert": "/no/such"}, "client_cert='/no/such'"),
        ({"client_cert": str(rubbish), "client_key": key}, f"client_cert='{rubbish}'"),
        ({"client_cert": cert, "client_key": "/no/such"}, "client_key='/no/such'"),
        ({"client_cert": cert}, "client_cert="),  # its key is in another file
    ]:
        with pytest.raises(GatewayError) as caught:
            GatewayClient(**options).ssl_context()
        assert named in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(GatewayError, match=f"client_key='{key}' is set, and client_cert is not"):
        GatewayClient(client_key=key).ssl_context()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such")
    with pytest.raises(GatewayError, match="'/no/such' .REQUESTS_CA_BUNDLE"):
        GatewayClient().ssl_context()


def test_a_key_with_a_password_is_an_error_not_a_question(tmp_path: Path) -> None:
    """OpenSSL would ask for it on the terminal, and a service would hang there."""
    _, cert = certificate(tmp_path)
    locked = str(tmp_path / "locked.pem")
    command = ["openssl", "pkcs8", "-topk8", "-in", str(tmp_path / "key.pem"), "-out", locked]
    subprocess.run([*command, "-passout", f"pass:{SECRET}"], check=True, capture_output=True)
    code = f"GatewayClient(client_cert={cert!r}, client_key={locked!r}).ssl_context()"
    run = subprocess.run(
        [sys.executable, "-c", f"from gateway_blocking import GatewayClient; {code}"],
        input=f"{SECRET}\n" * 3,  # what a question would be answered with
        start_new_session=True,  # away from the terminal that these tests may run in
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert f"GatewayError: client_cert='{cert}', client_key='{locked}' cannot be used" in run.stderr
