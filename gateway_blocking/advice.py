"""Advice for failures: the second half of an error's text, and its ``advice`` attribute.

REST, the websocket's handshake and ``jupyter gateway status`` meet the same failures through
different libraries.  This module has one text for each cause.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterable, Mapping

from .escape import printable
from .suggest import closest, suggestion

__all__ = [
    "AT_WORK",
    "FULL",
    "GONE",
    "HTTP_ONLY",
    "LOG",
    "NO_GATEWAY",
    "NO_LISTING",
    "NO_WAY",
    "WANTS_TLS",
    "WEBSOCKET_HELD_BACK",
    "exceeded_limit",
    "for_connection",
    "for_kernelspec",
    "for_login",
    "for_lost_output",
    "for_proxy",
    "for_redirect",
    "for_status",
    "for_timeout",
    "for_tls",
    "for_websocket",
    "http_only",
    "option",
    "shown",
]


_VARIABLES = {"kernel_launch_timeout": "KERNEL_LAUNCH_TIMEOUT"}


def option(name: str) -> str:
    """Return the name of an option with its environment variable."""
    usual = f"JUPYTER_GATEWAY_{name.removeprefix('gateway_').upper()}"
    return f"{name} ({_VARIABLES.get(name, usual)})"


def http_only(url_option: str = "url") -> str:
    """Return what to do if a port that was to speak TLS may speak plain HTTP only.

    Parameters
    ----------
    url_option : str
        Option that the URL comes from, ``url`` or ``ws_url``; as in other functions here.
    """
    scheme = "ws" if url_option == "ws_url" else "http"
    return f"this port may speak {scheme}:// only: check {option(url_option)}"


WANTS_TLS = "this port wants https://"
_IF_CERTIFICATE = f"set {option('client_cert')} if it wants a client certificate"
HTTP_ONLY = http_only()
NO_WAY = "check the address, and the way to it (network, firewall, proxy)"
NO_LISTING = (
    "this gateway does not permit listing its kernels: set KG_LIST_KERNELS=True"
    " (JupyterWebsocketPersonality.list_kernels) on a Kernel Gateway, EG_LIST_KERNELS=True on an"
    " Enterprise Gateway"
)
NO_GATEWAY = "check that this is the URL of a gateway, and not of a login page"
FULL = (
    "the gateway's limit of kernels is reached: shut some down (jupyter gateway kernels, stop), or"
    " have the limit raised (KG_MAX_KERNELS, EG_MAX_KERNELS, EG_MAX_KERNELS_PER_USER)"
)
GONE = "the kernel was shut down or culled, or the gateway was restarted"
LOG = "its log says more"
AT_WORK = "the gateway may still be working on it"
WEBSOCKET_HELD_BACK = (
    "the gateway completes the websocket handshake only when the kernel responds: the kernel may be"
    " starting, or the gateway may be overloaded"
)

_LET_THROUGH = "check that each proxy in between lets websockets through"
_SEE_TLS = '(in the documentation: "TLS and certificates")'
_STATUSES = {
    404: "check the URL, with the gateway's base path",
    405: NO_GATEWAY,
    407: "this is a proxy that wants a login, as in http://user:password@...",
    413: "the gateway, or a proxy in between, does not take so large a request",
    424: "the server behind this JupyterHub is not running",
    429: "the gateway got too many requests: try again later",
    500: LOG,
    501: NO_GATEWAY,
    502: "the gateway behind this proxy is not reachable",
    503: "the gateway is not available now",
    504: "the gateway behind this proxy did not answer in time",
}
_WEBSOCKET_STATUSES = {
    404: f"{GONE}; or a proxy in between does not let websockets through",
    **{status: _STATUSES[status] for status in (407, 424, 429, 500, 502, 503, 504)},
}
_BY_PROXIES = (403, 407, 502, 503, 504)  # statuses that a proxy may answer itself
_NO_CREDENTIALS = {  # headers of a request that do not tell who makes it
    *("accept", "accept-encoding", "connection", "content-length", "content-type", "cookie"),
    *("user-agent", "x-xsrftoken"),
}
_LIMIT = re.compile(r"\s*IOPub (data|message) rate exceeded")

# Codes of OpenSSL's X509_V_ERR_*, as ssl.SSLCertVerificationError.verify_code has them.
_OTHER_HOST = (62, 64)
_EXPIRED = (9, 10)
_SELF_SIGNED = 18
_PLAIN_TEXT = (
    *("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"),
    "PLAIN_HTTP",  # see tls.py
)
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)


def shown(value: object, longest: int = 200) -> str:
    """Return a server's value as a text may show it: in one line, shortened and harmless.

    Control characters, which a terminal would obey, are escaped.
    """
    text = str(value)
    line = " ".join(text[: 4 * longest].split())
    cut = "..." if len(line) > longest or len(text) > 4 * longest else ""
    return printable(line[:longest]) + cut


# --- responses ------------------------------------------------------------------------------------


def for_status(status: int, sent: Mapping[str, str], proxy: str) -> str:
    """Return what to do about a response that refuses a request.

    Parameters
    ----------
    status : int
        HTTP status of the response.
    sent : mapping
        Headers of the request.
    proxy : str
        URL of the proxy that the request went through, without its login; "" for none.
    """
    advice = _STATUSES.get(status, "")
    if status in (401, 403):  # a Jupyter Server answers 403 to a wrong token
        advice = for_login(sent) + "; or the user may not do this" * (status == 403)
    return _with_proxy(advice, status, proxy)


def for_websocket(status: int, sent: Mapping[str, str], proxy: str, *, rest_allowed: bool) -> str:
    """Return what to do about a response that refuses a websocket handshake.

    Parameters
    ----------
    status, sent, proxy
        See :func:`for_status`.
    rest_allowed : bool
        True if REST requests with the same credentials were accepted.
    """
    advice = _WEBSOCKET_STATUSES.get(status, _LET_THROUGH)
    if status == 403 and rest_allowed:
        advice = (
            "REST requests are allowed: a proxy or a policy in between refuses websockets, or the"
            " user may not use this kernel"
        )
    elif status in (401, 403):
        advice = for_login(sent) + "; or the user may not use this kernel" * (status == 403)
    return _with_proxy(advice, status, proxy)


def _with_proxy(advice: str, status: int, proxy: str) -> str:
    return f"{advice}; {for_proxy(proxy)}" if proxy and status in _BY_PROXIES else advice


def for_login(sent: Mapping[str, str]) -> str:
    """Return what to do if the gateway does not accept the credentials in these headers."""
    headers = {name.lower(): value for name, value in sent.items()}
    if headers.get("authorization", "").lower().startswith("basic "):
        return (
            f"check {option('http_user')} and {option('http_pwd')}, which are sent instead of"
            " auth_token"
        )
    if headers.keys() - _NO_CREDENTIALS:
        return (
            "the token is wrong, or not sent as this gateway wants it: check"
            f" {option('auth_token')} and {option('auth_scheme')}"
        )
    return f"no token was sent: set {option('auth_token')}"


def for_kernelspec(name: str, known: Iterable[str]) -> str:
    """Return the kernelspecs that a gateway has, and which of them an unknown name may mean."""
    names = sorted(known)
    meant = shown(closest(name, names))
    return f"it has {shown(', '.join(names), 1000) or 'none'}{suggestion(meant)}"


def for_redirect(target: str, url_option: str = "url") -> str:
    """Return what to do about a redirect to this URL, which is shown as it is."""
    if "login" in target or "oauth" in target:
        return (
            f"it redirects to a login page, {target}: the token is wrong or missing, or this is not"
            " the server's own URL (behind a JupyterHub that is .../user/NAME)"
        )
    return f"it redirects to {target}, and redirects are not followed: set {option(url_option)}"


def for_timeout(cause: str, name: str) -> str:
    """Return what to do about a timeout that has this likely cause and is set by this option."""
    return f"{cause}; to wait longer, raise {option(name)}"


# --- connections ----------------------------------------------------------------------------------


def for_proxy(proxy: str, cause: str = "") -> str:
    """Return what to do if the proxy that the environment names may have failed.

    Parameters
    ----------
    proxy : str
        URL of the proxy.
    cause : str, optional
        Text of the error, if there is one.
    """
    if "Tunnel connection failed: 407" in cause:
        return (
            f"the proxy {proxy} that the environment names wants a login: put it into the proxy's"
            " URL, as in http://user:password@proxy.example:3128"
        )
    if not proxy.startswith("http://"):
        return (
            f"this went through the proxy {proxy} that the environment names: write http:// before"
            " the proxy's name, if it is an HTTP proxy; if the gateway needs none, add its host to"
            " NO_PROXY"
        )
    return (
        f"this went through the proxy {proxy} that the environment names (HTTP_PROXY, HTTPS_PROXY,"
        " ALL_PROXY); if the gateway needs none, add its host to NO_PROXY"
    )


def for_tls(error: BaseException, url_option: str = "url") -> str:
    """Return what to do about a TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _for_certificate(error.verify_code, url_option)
    reason = (getattr(error, "reason", None) or "").upper()
    if "ALERT_UNKNOWN_CA" in reason:
        return f"the gateway does not trust this {option('client_cert')}"
    if "ALERT_CERTIFICATE_REQUIRED" in reason:
        return (
            f"the gateway wants a client certificate: set {option('client_cert')} and"
            f" {option('client_key')} {_SEE_TLS}"
        )
    if reason in _PLAIN_TEXT:  # which one depends on OpenSSL's version
        return http_only(url_option)
    return f"check that the gateway speaks TLS on this port; {_IF_CERTIFICATE}"


def _for_certificate(verify_code: int, url_option: str) -> str:
    """Return what to do about a certificate that OpenSSL does not accept."""
    if verify_code in _OTHER_HOST:
        return (
            f"the certificate is for another host: use a name of its subjectAltName in"
            f" {option(url_option)}"
        )
    if verify_code in _EXPIRED:
        return "the gateway needs a new certificate, unless the clock of this machine is wrong"
    if verify_code == _SELF_SIGNED:
        return f"set {option('ca_certs')} to this certificate, if you trust it {_SEE_TLS}"
    return f"set {option('ca_certs')} to the authority that signed it {_SEE_TLS}"


def for_connection(
    error: BaseException, url_option: str = "url", *, encrypted: bool = False
) -> str:
    """Return what to do about a connection that failed, or ended without a response."""
    if isinstance(error, ssl.SSLError):
        return for_tls(error, url_option)
    if isinstance(error, socket.gaierror | UnicodeError):
        return "check the host name, and that the name server knows it"
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) in _UNREACHABLE:
        return NO_WAY
    if isinstance(error, ConnectionRefusedError):
        return "check that the gateway is running, and that the port is right"
    if encrypted:  # a server may end the connection because a client certificate is missing
        return f"check that it is a gateway; {_IF_CERTIFICATE}"
    return "check that it is a gateway, and whether it wants https://"


# --- lost output ----------------------------------------------------------------------------------


def exceeded_limit(text: object) -> str:
    """Return the option of the rate limit that a server reports instead of output, or ""."""
    if not isinstance(text, str) or not (said := _LIMIT.match(text)):
        return ""
    return "iopub_data_rate_limit" if said[1] == "data" else "iopub_msg_rate_limit"


def for_lost_output(limit: str) -> str:
    """Return why output may have been lost, and what to do about it.

    Parameters
    ----------
    limit : str
        Option of the rate limit that the server reported; "" for none.
    """
    if not limit:
        return (
            "a lost connection loses what is in flight, and the queue between kernel and server"
            " drops what comes too fast for it"
        )
    return (
        f"the server drops output that comes faster than its {limit} allows; to switch that off,"
        " start a Kernel Gateway 3 or a Jupyter Server 2 with"
        f" --ZMQChannelsWebsocketConnection.{limit}=0, a Jupyter Server 1 with"
        f" --ServerApp.{limit}=0"
    )
