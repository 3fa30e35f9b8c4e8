"""TLS: the files of the options, contexts for websockets, and ports that do not speak it."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

import certifi

from .advice import option
from .deadline import Deadline
from .errors import GatewayError
from .timeouts import PLAIN_HTTP_TIMEOUT, TLS_PATIENCE, TLS_PROBE_TIMEOUT

__all__ = [
    "DirectTLSSocket",
    "HandshakeTimeout",
    "NoTLSError",
    "TLSSocket",
    "make_context",
    "speaks_tls",
    "trusted_authorities",
]

_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_PLAIN = "the port answers plain HTTP, and not TLS"
_BAD_REQUEST = b"400"  # the answer of a port with TLS, from servers that notice plain HTTP


def trusted_authorities(validate_cert: bool, ca_certs: str | None) -> bool | str:
    """Return the file or folder of the certificate authorities; False if none is verified."""
    if not validate_cert:
        return False
    usual = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return ca_certs or next(filter(None, usual), None) or certifi.where()


def make_context(
    verify: bool | str, ca_certs: str | None, client_cert: str | None, client_key: str | None
) -> ssl.SSLContext:
    """Return the context of a client that verifies what REST verifies.

    Parameters
    ----------
    verify : bool or str
        Result of :func:`trusted_authorities`.
    ca_certs, client_cert, client_key : str, optional
        The options, which errors name.

    Raises
    ------
    GatewayError
        A file cannot be read.
    """
    if client_key and not client_cert:
        raise GatewayError(
            f"client_key={client_key!r} is set, and client_cert is not",
            advice=f"set {option('client_cert')} to the certificate that this key belongs to",
        )
    used = f"ca_certs={ca_certs!r}"
    wanted = f"set {option('ca_certs')} to certificates in PEM format"
    try:
        if isinstance(verify, str):
            if not ca_certs:
                used = f"{verify!r} (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or certifi's)"
            folder, file = (verify, None) if Path(verify).is_dir() else (None, verify)
            # With the verify flags of each Python, which urllib3 sets, too.
            context = ssl.create_default_context(capath=folder, cafile=file)
            context.hostname_checks_common_name = False  # urllib3 does not check it either
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if client_cert:
            used = f"client_cert={client_cert!r}, client_key={client_key!r}"
            wanted = (
                f"set {option('client_cert')} to a certificate in PEM format, with its private key,"
                f" without a password, in the same file or in {option('client_key')}"
            )
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
    except OSError as error:  # an SSLError is an OSError
        text = f"{used} cannot be used: {error}"
        raise GatewayError(text, advice=wanted) from error
    return context


# --- ports that do not speak TLS ------------------------------------------------------------------


class NoTLSError(ssl.SSLError):
    """A port does not answer TLS, and speaks plain HTTP."""

    reason = "PLAIN_HTTP"


class HandshakeTimeout(TimeoutError):
    """The timeout of a TLS handshake passed."""


class TLSSocket(ssl.SSLSocket):
    """A TLS socket that distinguishes the timeout of its handshake from others."""

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake, or raise HandshakeTimeout."""
        try:
            super().do_handshake(block)
        except TimeoutError as error:
            raise HandshakeTimeout(*error.args) from error


class DirectTLSSocket(TLSSocket):
    """A TLS socket without a proxy that notices if its port speaks plain HTTP.

    Such a port may read what TLS begins with, and wait for the end of the line: the handshake
    would wait for its whole timeout.  After some seconds of silence this socket sends a plain
    request on a connection of its own.  If that is answered, the handshake fails.  If not, it goes
    on waiting.
    """

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake, or raise HandshakeTimeout or NoTLSError."""
        timeout = self.gettimeout()
        if timeout is not None and timeout <= TLS_PATIENCE:
            super().do_handshake(block)
            return
        deadline = Deadline(timeout)
        try:
            self.settimeout(TLS_PATIENCE)
            try:
                super().do_handshake(block)
            except HandshakeTimeout:
                if _speaks_plain_http(self.getpeername()[:2]):
                    raise NoTLSError(ssl.SSL_ERROR_SSL, _PLAIN) from None
                left = deadline.left()
                self.settimeout(None if left is None else max(left, 0.001))
                super().do_handshake(block)
        finally:
            self.settimeout(timeout)


def _speaks_plain_http(address: tuple[str, int]) -> bool:
    """Return True if a port answers a plain HTTP request as only a port without TLS does."""
    try:
        with socket.create_connection(address, timeout=PLAIN_HTTP_TIMEOUT) as sock:
            sock.sendall(_REQUEST)
            version, _, status = sock.recv(16).partition(b" ")
    except OSError:
        return False
    return version.startswith(b"HTTP/") and not status.startswith(_BAD_REQUEST)


def speaks_tls(host: str, port: int, timeout: float) -> bool:
    """Return True if a port completes a TLS handshake.

    Parameters
    ----------
    host, port : str, int
        The port.
    timeout : float
        Seconds that the answer may take at most.
    """
    step = min(TLS_PROBE_TIMEOUT, timeout / 2)  # half of it for TCP, half for the handshake
    try:
        ssl.get_server_certificate((host, port), timeout=step)
    except (OSError, ValueError):
        return False
    return True
