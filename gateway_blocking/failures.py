"""What it means that a request got no answer, or one that it cannot use: the errors of REST."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import ReadTimeoutError

from .advice import (
    HTTP_ONLY,
    NO_GATEWAY,
    NO_LISTING,
    NO_WAY,
    for_connection,
    for_proxy,
    for_redirect,
    for_status,
    for_tls,
)
from .config import GatewayClient
from .errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
)
from .traits import safe_url

__all__ = ["Missing", "Tried", "not_reached", "refused", "unusable", "wants_tls"]

Missing = Callable[..., GatewayHTTPError]
"""What a 404 means: makes the error."""

_SHOWN = 200  # characters of what the gateway says
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_PAGES = re.compile(r"/(lab|tree|notebooks|hub|api)(/.*)?$")  # of the same server, for people


class Tried(NamedTuple):
    """A request, as errors may tell of it: without anything secret.

    Parameters
    ----------
    method, url : str
        What was asked of whom.
    proxy : str
        Through which proxy; "" for none.
    """

    method: str
    url: str
    proxy: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


# --- no answer ------------------------------------------------------------------------------------


def not_reached(
    tried: Tried, error: Exception, gateway: GatewayClient, timeout: float | None
) -> tuple[GatewayError, BaseException]:
    """The error for a request that got no answer, and what happened underneath.

    Parameters
    ----------
    tried : Tried
        The request.
    error : Exception
        That of requests.
    gateway : GatewayClient
        The options.
    timeout : float, optional
        Seconds that the request had, if not those of the options.
    """
    happened = list(_causes(error))
    if isinstance(error, requests.RequestException):
        error.request = None  # it has the login, and reports of errors show it
    if late := _too_late(error, happened, gateway, timeout):
        return GatewayTimeout(f"{tried}: {late}"), happened[-1]
    if isinstance(error, requests.exceptions.SSLError) or not isinstance(
        error, requests.RequestException
    ):
        try:
            gateway.ssl_context()
        except GatewayError as bad_file:  # it names the option and the file
            return bad_file, happened[-1]
    text = " ".join(str(happened[-1]).split())[:_SHOWN]
    if timeout is None and wants_tls(tried):
        advice = "this port wants https://"
    else:
        advice = _advice(tried, error, happened[-1])
    return GatewayConnectionError(f"{tried}: {text}; {advice}"), happened[-1]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what happened underneath, layer by layer of requests and urllib3."""
    while error is not None:
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)


def _too_late(
    error: Exception, happened: list[BaseException], gateway: GatewayClient, timeout: float | None
) -> str:
    """Which time-out it was, and what to do about it; "" where it was none."""
    connect = f"{gateway.connect_timeout:g} s (connect_timeout)"
    longest = gateway.effective_request_timeout
    own = longest <= gateway.request_timeout
    option = "request_timeout" if own else "kernel_launch_timeout and launch_timeout_pad"
    request = f"{longest:g} s ({option})"
    if timeout is not None:
        connect = request = f"{timeout:g} s"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect}; {NO_WAY}"
    if any("handshake operation timed out" in str(cause) for cause in happened):
        return f"no TLS handshake within {connect}; {HTTP_ONLY}"
    if any(isinstance(cause, ReadTimeoutError) for cause in happened):  # in the body, too
        return f"no answer within {request}; the gateway may still be working on it"
    return ""


def _advice(tried: Tried, error: Exception, happened: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return for_tls(happened)
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidSchema):
        return for_proxy(tried.proxy)
    if isinstance(error, requests.ConnectionError):
        return for_connection(happened)
    return "see the error that this one came from"


def wants_tls(tried: Tried) -> bool:
    """Whether a port that gave no answer to HTTP speaks TLS."""
    parts = urlsplit(tried.url)
    if parts.scheme != "http" or tried.proxy:
        return False
    try:
        ssl.get_server_certificate((parts.hostname or "", parts.port or 80), timeout=2.0)
    except (OSError, ValueError):
        return False
    return True


# --- an answer that is a refusal ------------------------------------------------------------------


def refused(
    tried: Tried, response: requests.Response, missing: Missing, note: str = ""
) -> GatewayHTTPError:
    """The error for an answer that is one.

    Parameters
    ----------
    tried : Tried
        The request.
    response : requests.Response
        The answer.
    missing : callable
        What a 404 means.
    note : str
        What else is known of a login that was refused.
    """
    status = response.status_code
    reason, message = _said(response)
    kind: Missing = GatewayHTTPError
    if status in (401, 403):
        kind = GatewayAuthError
    elif status == 404:
        kind = missing
    text = ", ".join(dict.fromkeys(filter(None, (str(status), reason, message))))
    known = [_what_to_do(tried, response, missing), note if kind is GatewayAuthError else ""]
    return kind(
        "; ".join(filter(None, (f"{tried}: the gateway answered {text}", *known))),
        method=tried.method,
        url=tried.url,
        status_code=status,
        reason=reason,
        message=message,
    )


def _what_to_do(tried: Tried, response: requests.Response, missing: Missing) -> str:
    status, headers = response.status_code, response.headers
    if status == 404 and missing is not GatewayHTTPError:
        return "it does not exist there (any more)"
    if 300 <= status < 400:
        return for_redirect(safe_url(urljoin(response.url, headers.get("Location", ""))))
    if status == 400 and b"HTTPS" in response.content:
        return "this port wants https://"
    advice = for_status(status, response.request.headers, tried.proxy)
    if status == 403 and tried.method == "GET" and tried.url.endswith("/kernels"):
        advice += f"; or {NO_LISTING}"
    elif status == 404 and (page := _PAGES.search(tried.url.rpartition("/api")[0])):
        advice = f"try it without {page[0]} at the end of the url"
    elif wait := headers.get("Retry-After"):
        advice = f"{advice}; it asks to come back later (Retry-After: {wait[:_SHOWN]})"
    return advice


def _said(response: requests.Response) -> tuple[str, str]:
    """The gateway's own reason and message, from whatever body."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return response.reason or "", _begin(response) if response.content else ""
    reason = body.get("reason") or response.reason or ""
    return str(reason), str(body.get("message") or "")


# --- an answer that is none -----------------------------------------------------------------------


def unusable(tried: Tried, response: requests.Response, wanted: str = "") -> str:
    """What to say of an answer that is fine, and not JSON; or JSON, and not what was `wanted`."""
    what = f"JSON, but not {wanted}: " if wanted else "not JSON but "
    return f"{tried}: the answer, {response.status_code}, is {what}{_begin(response)}; {NO_GATEWAY}"


def _begin(response: requests.Response) -> str:
    """The first of what an answer says; of a page its title."""
    content = response.content
    if content.lstrip().startswith(b"<"):
        title = _TITLE.search(content)
        return f"a page, {_shown(title[1])}" if title else "a page"
    return _shown(content) if content.strip() else "nothing"


def _shown(content: bytes) -> str:
    return repr(" ".join(content[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN])
