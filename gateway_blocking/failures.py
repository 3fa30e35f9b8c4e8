"""What it means that a request got no answer, or one that it cannot use: the errors of REST."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import ReadTimeoutError

from .adapters import TRANSIENT
from .advice import (
    FULL,
    HTTP_ONLY,
    NO_GATEWAY,
    NO_LISTING,
    NO_WAY,
    WANTS_TLS,
    for_connection,
    for_proxy,
    for_redirect,
    for_status,
    for_tls,
    shown,
)
from .config import GatewayClient
from .errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    GatewayHTTPError,
    GatewayTimeout,
)
from .traits import safe_url

__all__ = [
    "Answer",
    "Missing",
    "RequestInfo",
    "is_coming_up",
    "misfit",
    "not_json",
    "connection_error",
    "http_error",
]

Missing = Callable[..., GatewayHTTPError]
"""What a 404 means: makes the error."""

_LONGEST_URL = 400  # characters of a URL in a text
_SHOWN = 200  # characters of what the gateway says
_TLS_PATIENCE = 2.0
_TITLE_WITHIN = 4096  # bytes of a page
_PAGES = re.compile(r"/(lab|tree|notebooks|hub|api)(/.*)?$")  # of the same server, for people


class RequestInfo(NamedTuple):
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
        return f"{self.method} {shown(self.url, _LONGEST_URL)}"


class Answer(NamedTuple):
    """An answer to a request, with its body.

    Parameters
    ----------
    status : int
        The HTTP status.
    reason : str
        The reason phrase.
    headers : mapping
        The headers of the answer.
    content : bytes
        The body, decoded; of a refusal the beginning.
    url : str
        The URL that was asked.
    sent : mapping
        The headers of the request.
    repeated : bool
        Whether it is the answer to a second try or a later one.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes | bytearray
    url: str
    sent: Mapping[str, str]
    repeated: bool = False

    def json(self) -> Any:
        """Return what the body says as JSON, or raise ValueError."""
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


# --- no answer ------------------------------------------------------------------------------------


def connection_error(
    request: RequestInfo, error: Exception, gateway: GatewayClient, timeout: float | None
) -> tuple[GatewayError, BaseException]:
    """Return the error of a request that got no response, and what happened underneath.

    Parameters
    ----------
    request : RequestInfo
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
        failure: GatewayError = GatewayTimeout(f"{request}: {'; '.join(late)}")
        failure.advice = late[1]
        return failure, happened[-1]
    if isinstance(error, requests.exceptions.SSLError) or not isinstance(
        error, requests.RequestException
    ):
        try:
            gateway.ssl_context()
        except GatewayError as bad_file:  # it names the option and the file
            return bad_file, happened[-1]
    text = " ".join(str(happened[-1]).split())[:_SHOWN]
    if timeout is None and _wants_tls(request, gateway.effective_request_timeout):
        advice = WANTS_TLS
    else:
        advice = _advice(request, error, happened[-1])
    failure = GatewayConnectionError(f"{request}: {text}; {advice}")
    failure.advice = advice
    return failure, happened[-1]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what happened underneath, layer by layer of requests and urllib3."""
    while error is not None:
        yield error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)


def _too_late(
    error: Exception, happened: list[BaseException], gateway: GatewayClient, timeout: float | None
) -> tuple[str, str] | None:
    """Return which timeout it was, and what to do about it; None if it was none."""
    connect = f"{gateway.connect_timeout:g} s (connect_timeout)"
    longest = gateway.effective_request_timeout
    own = longest <= gateway.request_timeout
    option = "request_timeout" if own else "kernel_launch_timeout and launch_timeout_pad"
    request = f"{longest:g} s ({option})"
    if timeout is not None:
        connect = request = f"{timeout:g} s"
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect}", NO_WAY
    if any("handshake operation timed out" in str(cause) for cause in happened):
        return f"no TLS handshake within {connect}", HTTP_ONLY
    if any(isinstance(cause, ReadTimeoutError) for cause in happened):  # in the body, too
        return f"no answer within {request}", "the gateway may still be working on it"
    return None


def _advice(request: RequestInfo, error: Exception, happened: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return for_tls(happened)
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidSchema):
        return for_proxy(request.proxy)
    if isinstance(error, requests.ConnectionError):
        return for_connection(happened)
    return "see the error that this one came from"


def is_coming_up(error: GatewayError) -> bool:
    """Return whether a failed request may mean a gateway that is still coming up.

    Its port refuses connections, or what is in front of it (the proxy of a container) ends them,
    does not answer, or says that the gateway is not there.  A host name that is not known, a
    certificate that is not accepted and a login page stay what they are.
    """
    if isinstance(error, GatewayHTTPError):
        return error.status_code in TRANSIENT
    ended = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return isinstance(error, GatewayTimeout) or isinstance(error.__cause__, ended)


def _wants_tls(request: RequestInfo, timeout: float) -> bool:
    """Return whether a port that gave no answer to HTTP speaks TLS."""
    parts = urlsplit(request.url)
    if parts.scheme != "http" or request.proxy:
        return False
    step = min(_TLS_PATIENCE, timeout / 2)  # half of it for TCP, half for the handshake
    try:
        ssl.get_server_certificate((parts.hostname or "", parts.port or 80), timeout=step)
    except (OSError, ValueError):
        return False
    return True


# --- an answer that is a refusal ------------------------------------------------------------------


def http_error(
    request: RequestInfo, answer: Answer, missing: Missing, note: str = ""
) -> GatewayHTTPError:
    """Return the error for an answer that is one.

    Parameters
    ----------
    request : RequestInfo
        The request.
    answer : Answer
        The answer.
    missing : callable
        What a 404 means.
    note : str
        What else is known of a login that was refused.
    """
    status = answer.status
    reason, message = _said(answer)
    kind: Missing = GatewayHTTPError
    if status == 403 and request.method == "POST" and _is_full(f"{reason} {message}"):
        kind = GatewayFull
    elif status in (401, 403):
        kind = GatewayAuthError
    elif status == 404:
        kind = missing
    text = ", ".join(dict.fromkeys(filter(None, (str(status), shown(reason), shown(message)))))
    advice = FULL if kind is GatewayFull else _what_to_do(request, answer, missing)
    advice = "; ".join(filter(None, (advice, note if kind is GatewayAuthError else "")))
    error = kind(
        "; ".join(filter(None, (f"{request}: the gateway answered {text}", advice))),
        method=request.method,
        url=request.url,
        status_code=status,
        reason=reason,
        message=message,
    )
    error.advice = advice
    return error


def _is_full(said: str) -> bool:
    """Return whether a refusal speaks of a limit of kernels.

    A Kernel Gateway says "Resource Limit", an Enterprise Gateway also "A max kernels limit has
    been set to 1" and "A max kernels per user limit ...".  A Jupyter Server has no limit.
    """
    said = said.lower()
    return "resource limit" in said or ("max kernels" in said and "limit" in said)


def _what_to_do(request: RequestInfo, answer: Answer, missing: Missing) -> str:
    status, headers = answer.status, answer.headers
    if status == 404 and missing is not GatewayHTTPError:
        return "it does not exist there (any more)"
    if 300 <= status < 400:
        return for_redirect(_target(answer))
    if status == 400 and b"HTTPS" in answer.content:
        return WANTS_TLS
    advice = for_status(status, answer.sent, request.proxy)
    if status == 403 and request.method == "GET" and request.url.endswith("/kernels"):
        advice += f"; or {NO_LISTING}"
    elif status == 404 and (page := _PAGES.search(request.url.rpartition("/api")[0])):
        advice = f"try it without {page[0]} at the end of the url"
    elif wait := headers.get("Retry-After"):
        later = f"it asks to come back later (Retry-After: {shown(wait)})"
        advice = f"{advice}; {later}" if advice else later
    return advice


def _target(answer: Answer) -> str:
    """Return where a redirect leads, as it may be shown."""
    try:
        return shown(safe_url(urljoin(answer.url, answer.headers.get("Location", ""))))
    except ValueError:
        return "a URL that is malformed"


def _said(answer: Answer) -> tuple[str, str]:
    """Return the gateway's own reason and message, from whatever body."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return answer.reason, _begin(answer.content) if answer.content else ""
    return str(body.get("reason") or answer.reason), str(body.get("message") or "")


# --- an answer that is none -----------------------------------------------------------------------


def not_json(request: RequestInfo, answer: Answer) -> str:
    """Return the text for an answer that is fine, and not JSON."""
    begin = _begin(answer.content)
    return f"{request}: the answer, {answer.status}, is not JSON but {begin}; {NO_GATEWAY}"


def misfit(request: RequestInfo, answer: Answer, fault: object) -> str:
    """Return the text for an answer that is JSON, and not the model that was asked for."""
    what = f"is JSON, but {fault}: {_begin(answer.content)}"
    return f"{request}: the answer, {answer.status}, {what}; {NO_GATEWAY}"


def _begin(content: bytes | bytearray) -> str:
    """Return the first of what an answer says; of a page its title."""
    begin = bytes(content[:_TITLE_WITHIN])
    if begin.lstrip().startswith(b"<"):
        title = _title(begin)
        return f"a page, {_quoted(title)}" if title else "a page"
    return _quoted(begin) if begin.strip() else "nothing"


def _title(page: bytes) -> bytes:
    """Return the title at the beginning of a page.

    A regular expression would take time with the square of the length.
    """
    begin = page.lower().find(b"<title")
    begin = page.find(b">", begin) + 1 if begin >= 0 else 0
    end = page.lower().find(b"</title", begin)
    return page[begin:end] if begin and end >= 0 else b""


def _quoted(content: bytes) -> str:
    return repr(" ".join(content[: 4 * _SHOWN].decode("utf-8", "replace").split())[:_SHOWN])
