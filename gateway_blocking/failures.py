"""Errors for REST requests that got no response."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ReadTimeoutError

from .adapters import TRANSIENT
from .advice import (
    AT_WORK,
    HTTP_ONLY,
    NO_WAY,
    WANTS_TLS,
    for_connection,
    for_proxy,
    for_timeout,
    for_tls,
)
from .config import GatewayClient
from .errors import GatewayConnectionError, GatewayError, GatewayHTTPError, GatewayTimeout
from .responses import RequestInfo
from .tls import HandshakeTimeout, speaks_tls

__all__ = ["connection_error", "is_coming_up"]

_LONGEST_TEXT = 200  # characters of an error's text


def connection_error(
    request: RequestInfo, error: Exception, gateway: GatewayClient, timeout: float | None
) -> tuple[GatewayError, BaseException]:
    """Return the error for a request that got no response, and the cause of it.

    Parameters
    ----------
    request : RequestInfo
        The request.
    error : Exception
        The exception of requests.
    gateway : GatewayClient
        The options.
    timeout : float, optional
        Seconds that the request had, if not those of the options.
    """
    causes = list(_causes(error))
    cause = causes[-1]
    if isinstance(error, requests.RequestException):
        error.request = None  # it has the login, and reports of errors show it
    if late := _passed_timeout(request, error, causes, gateway, timeout):
        text, advice = late
        return GatewayTimeout(f"{request}: {text}", advice=advice), cause
    if isinstance(error, requests.exceptions.SSLError) or not isinstance(
        error, requests.RequestException
    ):
        try:
            gateway.ssl_context()
        except GatewayError as bad_file:  # it names the option and the file
            return bad_file, cause
    text = " ".join(str(cause).split())[:_LONGEST_TEXT]
    if timeout is None and _wants_tls(request, gateway.effective_request_timeout):
        advice = WANTS_TLS
    else:
        advice = _advice(request, error, cause)
    return GatewayConnectionError(f"{request}: {text}", advice=advice), cause


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error` and what caused it, through the layers of requests and urllib3."""
    while error is not None:
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)


def _passed_timeout(
    request: RequestInfo,
    error: Exception,
    causes: list[BaseException],
    gateway: GatewayClient,
    timeout: float | None,
) -> tuple[str, str] | None:
    """Return which timeout passed, and the advice for it; None if none did."""
    longest = gateway.effective_request_timeout
    own = longest <= gateway.request_timeout
    if isinstance(error, requests.ConnectTimeout):
        what, limit, name = "connection", gateway.connect_timeout, "connect_timeout"
        advice = NO_WAY
    elif any(isinstance(cause, HandshakeTimeout) for cause in causes):
        what, limit, name = "TLS handshake", gateway.connect_timeout, "connect_timeout"
        advice = HTTP_ONLY
        if isinstance(error, requests.exceptions.ProxyError):  # its own TLS, not the gateway's
            what, advice = "TLS handshake with the proxy", for_proxy(request.proxy)
    elif any(isinstance(cause, ReadTimeoutError) for cause in causes):  # in the body, too
        what, limit = "response", longest
        name = "request_timeout" if own else "kernel_launch_timeout"
        advice = AT_WORK
    else:
        return None
    if timeout is not None:  # the caller's own
        return f"no {what} within {timeout:g} s", advice
    return f"no {what} within {limit:g} s ({name})", for_timeout(advice, name)


def _advice(request: RequestInfo, error: Exception, cause: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return for_tls(cause)
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidSchema):
        return for_proxy(request.proxy, str(cause))
    if isinstance(error, requests.ConnectionError):
        return for_connection(cause, encrypted=request.url.startswith("https:"))
    return "see the error that this one came from"


def is_coming_up(error: GatewayError) -> bool:
    """Return True if a failed request may mean that the gateway is still starting.

    Its port refuses connections, or what is in front of it (the proxy of a container) closes them,
    does not answer, or answers that the gateway is not there.  An unknown host name, a certificate
    that is not accepted and a login page do not change while one waits.
    """
    if isinstance(error, GatewayHTTPError):
        return error.status_code in TRANSIENT
    ended = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return isinstance(error, GatewayTimeout) or isinstance(error.__cause__, ended)


def _wants_tls(request: RequestInfo, timeout: float) -> bool:
    """Return True if a port that gave no answer to HTTP speaks TLS."""
    parts = urlsplit(request.url)
    if parts.scheme != "http" or request.proxy:
        return False
    return speaks_tls(parts.hostname or "", parts.port or 80, timeout)
