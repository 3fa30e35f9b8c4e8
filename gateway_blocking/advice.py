"""What to do about what went wrong: the second half of many an error's text.

REST, the websocket's handshake and ``jupyter gateway status`` meet the same failures, each by way
of another library.  Here stands once what they tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .escape import printable

__all__ = [
    "FULL",
    "HTTP_ONLY",
    "LOG",
    "NO_GATEWAY",
    "NO_LISTING",
    "NO_WAY",
    "WANTS_TLS",
    "exceeded_limit",
    "for_connection",
    "for_login",
    "for_lost_output",
    "for_proxy",
    "for_redirect",
    "for_status",
    "for_tls",
    "for_websocket",
    "shown",
]

WANTS_TLS = "this port wants https://"
HTTP_ONLY = "does this port speak http:// only?"
NO_WAY = "is the address right, and is there a way to it (network, firewall, proxy)?"
NO_LISTING = (
    "this gateway does not let its kernels be listed: a Kernel Gateway does with"
    " KG_LIST_KERNELS=True (JupyterWebsocketPersonality.list_kernels), an Enterprise Gateway with"
    " EG_LIST_KERNELS=True"
)

NO_GATEWAY = "is this the URL of a gateway, and not of a login page?"
FULL = (
    "it runs as many kernels as it may: shut some down (jupyter gateway kernels, stop), or have its"
    " limit raised (KG_MAX_KERNELS, EG_MAX_KERNELS, EG_MAX_KERNELS_PER_USER)"
)
LOG = "its log says more"
_SEE_TLS = '(in the documentation: "TLS and certificates")'
_STATUSES = {
    404: "is the URL right, with the gateway's base path?",
    405: NO_GATEWAY,
    407: "this is a proxy that wants a login, as in http://user:password@...",
    413: "the gateway, or a proxy in between, does not take so large a request",
    424: "the server behind this JupyterHub is not running",
    429: "too many requests; try again later",
    500: LOG,
    501: NO_GATEWAY,
    502: "the gateway behind this proxy is not reachable",
    503: "the gateway is not available now",
    504: "the gateway behind this proxy did not answer in time",
}
_PROXYS_OWN = (403, 407, 502, 503, 504)  # what a proxy may say itself
_NO_LOGIN = {  # headers of a request that say nothing of who makes it
    *("accept", "accept-encoding", "connection", "content-length", "content-type", "cookie"),
    *("user-agent", "x-xsrftoken"),
}


_LIMIT = re.compile(r"\s*IOPub (data|message) rate exceeded")


def exceeded_limit(text: object) -> str:
    """Return the limit that a server says was exceeded, in place of output; else nothing."""
    if not isinstance(text, str) or not (said := _LIMIT.match(text)):
        return ""
    return "iopub_data_rate_limit" if said[1] == "data" else "iopub_msg_rate_limit"


def for_lost_output(limit: str) -> str:
    """Return why output may have been lost, and what to do about it.

    Parameters
    ----------
    limit : str
        The limit that the server said was exceeded, if it did.
    """
    if not limit:
        return (
            "a lost connection swallows what is on its way, and the queue between kernel and server"
            " drops what comes too fast for it"
        )
    return (
        f"the server drops output that comes faster than its {limit} allows; to switch that off,"
        " start a Kernel Gateway 3 or a Jupyter Server 2 with"
        f" --ZMQChannelsWebsocketConnection.{limit}=0, a Jupyter Server 1 with"
        f" --ServerApp.{limit}=0"
    )


def shown(value: object, longest: int = 200) -> str:
    """Return a value from a server as a text may show it: in one line, shortened and harmless.

    Control characters, which a terminal would obey, are escaped.
    """
    text = str(value)
    line = " ".join(text[: 4 * longest].split())
    cut = "..." if len(line) > longest or len(text) > 4 * longest else ""
    return printable(line[:longest]) + cut


def for_status(status: int, sent: Mapping[str, str], proxy: str) -> str:
    """Return what to do about a response that is a refusal.

    Parameters
    ----------
    status : int
        That of the answer.
    sent : mapping
        The headers of the request.
    proxy : str
        The proxy that the request went through, as it may be shown; "" for none.
    """
    advice = _STATUSES.get(status, "")
    if status in (401, 403):  # a Jupyter Server says 403 to a wrong token
        advice = for_login(sent) + "; or the user may not do this" * (status == 403)
    return f"{advice}; {for_proxy(proxy)}" if proxy and status in _PROXYS_OWN else advice


def for_login(sent: Mapping[str, str]) -> str:
    """Return what to do if the gateway does not accept the credentials."""
    headers = {name.lower(): value for name, value in sent.items()}
    if headers.get("authorization", "").lower().startswith("basic "):
        return (
            f"are {_option('http_user')} and {_option('http_pwd')} right? they go before auth_token"
        )
    if headers.keys() - _NO_LOGIN:
        return (
            "is the token right, and sent as this gateway wants it?"
            f" see {_option('auth_token')}, {_option('auth_scheme')}"
        )
    return f"no token was sent: set {_option('auth_token')}"


def _option(name: str) -> str:
    """Return the name of an option with its environment variable."""
    return f"{name} (JUPYTER_GATEWAY_{name.upper()})"


def for_websocket(status: int, sent: Mapping[str, str], rest_allowed: bool) -> str:
    """Return what to do about a websocket handshake that was refused with 401 or 403.

    Parameters
    ----------
    status : int
        The status of the answer.
    sent : mapping
        The headers of the request.
    rest_allowed : bool
        Whether requests were answered before.
    """
    if status == 401:
        return for_login(sent)
    if rest_allowed:
        return (
            "requests are allowed: does a proxy or a policy in between refuse websockets, or may"
            " the user not use this kernel?"
        )
    return f"{for_login(sent)}; or the user may not use this kernel"


def for_redirect(target: str) -> str:
    """Return what to do about a redirect to a URL, given as it may be shown."""
    if "login" in target or "oauth" in target:
        return (
            f"it redirects to a login page, {target}: the token is wrong or missing, or this is not"
            " the server's own URL (behind a JupyterHub that is .../user/NAME)"
        )
    return f"it redirects to {target}; redirects are not followed, set the url"


def for_proxy(proxy: str) -> str:
    """Return what to do if the environment's proxy may have failed."""
    return (
        f"this went through the proxy {proxy} that the environment names (HTTP_PROXY, HTTPS_PROXY,"
        " ALL_PROXY); if the gateway needs none, add its host to NO_PROXY"
    )


def for_tls(error: BaseException) -> str:
    """Return what to do about a TLS handshake that failed."""
    text = str(error)
    if "ostname mismatch" in text or "address mismatch" in text:
        return (
            "the certificate is for another host: use a name in the url that stands in its"
            " subjectAltName"
        )
    if "expired" in text:
        return "the gateway needs a new certificate; or is the clock of this machine wrong?"
    if "self-signed certificate" in text or "self signed certificate" in text:
        return f"set {_option('ca_certs')} to this certificate, if you trust it {_SEE_TLS}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"set {_option('ca_certs')} to the authority that signed it {_SEE_TLS}"
    if "unknown ca" in text:
        return f"the gateway does not trust this {_option('client_cert')}"
    if "certificate required" in text:
        return (
            "the gateway wants a client certificate: set "
            f"{_option('client_cert')} and {_option('client_key')} {_SEE_TLS}"
        )
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text:  # by OpenSSL's version
        return HTTP_ONLY
    return "does the gateway speak TLS on this port (or http), and does it want a client_cert?"


def for_connection(error: BaseException) -> str:
    """Return what to do about a connection that was not made, or ended without a response."""
    text = str(error)
    if isinstance(error, TimeoutError) or "unreachable" in text or "No route" in text:
        return NO_WAY
    if "refused" in text:
        return "is the gateway running, and is the port right?"
    if any(words in text for words in ("resol", "getaddrinfo", "not known")):
        return "is the host name right, and does the name server know it from here?"
    return "is it a gateway, and does it want https?"
