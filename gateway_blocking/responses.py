"""Errors for HTTP responses that refuse a request, or that are not what was asked for.

REST and the websocket's handshake use the same functions, so that one cause has one text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urljoin

from .advice import (
    FULL,
    GONE,
    NO_LISTING,
    WANTS_TLS,
    for_redirect,
    for_status,
    for_websocket,
    shown,
)
from .errors import GatewayAuthError, GatewayFull, GatewayHTTPError, NoSuchKernel
from .traits import safe_url

__all__ = [
    "NotFound",
    "RequestInfo",
    "Response",
    "http_error",
    "not_json",
    "wrong_model",
]

NotFound = Callable[..., GatewayHTTPError]
"""Maker of the error for a 404, with the arguments of :exc:`.GatewayHTTPError`."""

_LONGEST_URL = 400  # characters of a URL in a text
_LONGEST_QUOTE = 200  # characters of a body in a text
_TITLE_WITHIN = 4096  # bytes of a page
_PAGES = re.compile(r"/(lab|tree|notebooks|hub|api)(/.*)?$")  # of the same server, for people


class RequestInfo(NamedTuple):
    """A request as errors may show it, without anything secret.

    Parameters
    ----------
    method, url : str
        The request; the URL is without its login and query.
    proxy : str
        URL of the proxy that the request goes through, without its login; "" for none.
    is_websocket : bool
        True for the handshake of a websocket.
    rest_allowed : bool
        True if REST requests with the same credentials were accepted.
    url_option : str
        Option that the URL comes from, ``url`` or ``ws_url``.
    """

    method: str
    url: str
    proxy: str = ""
    is_websocket: bool = False
    rest_allowed: bool = False
    url_option: str = "url"

    def __str__(self) -> str:
        url = shown(self.url, _LONGEST_URL)
        return f"cannot open the websocket {url}" if self.is_websocket else f"{self.method} {url}"


class Response(NamedTuple):
    """A response with its body.

    Parameters
    ----------
    status : int
        HTTP status.
    reason : str
        HTTP reason phrase.
    headers : mapping
        Headers of the response.
    content : bytes
        The decoded body; only its beginning if the status is an error.
    url : str
        URL of the request.
    sent : mapping
        Headers of the request.
    was_retried : bool
        True if the request was sent more than once.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes | bytearray
    url: str
    sent: Mapping[str, str]
    was_retried: bool = False

    @property
    def is_success(self) -> bool:
        """True if the request was done."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body's JSON, None if the status is 204; raise ValueError if it is not JSON."""
        if self.status == 204:
            return None
        try:
            return json.loads(self.content)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


# --- refusals -------------------------------------------------------------------------------------


def http_error(
    request: RequestInfo, response: Response, not_found: NotFound, note: str = ""
) -> GatewayHTTPError:
    """Return the error for a response that refuses a request.

    Parameters
    ----------
    request : RequestInfo
        The request.
    response : Response
        The response.
    not_found : callable
        Maker of the error for a 404.
    note : str
        Advice for a login that was refused, in addition to the usual.
    """
    status = response.status
    reason, message = _reason_and_message(response)
    kind: NotFound = GatewayHTTPError
    if status == 403 and request.method == "POST" and _is_full(f"{reason} {message}"):
        kind = GatewayFull
    elif status in (401, 403):
        kind = GatewayAuthError
    elif status == 404:
        kind = not_found
    told = [str(status), shown(reason)]
    if message not in (f"a page, {reason!r}", f"a page, {f'{status} {reason}'!r}"):
        told.append(shown(message))  # the title of a proxy's page is the reason once more
    parts = dict.fromkeys(filter(None, told))
    advice = FULL if kind is GatewayFull else _advice(request, response, not_found)
    return kind(
        f"{request}: the gateway answered {', '.join(parts)}",
        method=request.method,
        url=request.url,
        status_code=status,
        reason=reason,
        message=message,
        advice="; ".join(filter(None, (advice, note if kind is GatewayAuthError else ""))),
    )


def _is_full(text: str) -> bool:
    """Return True if a refusal names a limit of kernels.

    A Kernel Gateway answers "Resource Limit", an Enterprise Gateway also "A max kernels limit has
    been set to 1" and "A max kernels per user limit ...".  A Jupyter Server has no limit.
    """
    text = text.lower()
    return "resource limit" in text or ("max kernels" in text and "limit" in text)


def _advice(request: RequestInfo, response: Response, not_found: NotFound) -> str:
    status = response.status
    if 300 <= status < 400:
        return for_redirect(_redirect_target(response), request.url_option)
    if status == 400 and b"HTTPS" in response.content:
        return WANTS_TLS
    if request.is_websocket:
        allowed = request.rest_allowed
        advice = for_websocket(status, response.sent, request.proxy, rest_allowed=allowed)
    elif status == 404 and not_found is NoSuchKernel:
        return GONE
    elif status == 404 and not_found is not GatewayHTTPError:
        return "it does not exist there (any more)"
    elif status == 404 and (page := _PAGES.search(request.url.rpartition("/api")[0])):
        return f"try it without {page[0]} at the end of the url"
    else:
        advice = for_status(status, response.sent, request.proxy)
    if status == 403 and request.method == "GET" and request.url.endswith("/kernels"):
        advice += f"; or {NO_LISTING}"
    elif wait := response.headers.get("Retry-After"):
        later = f"it asks to come back later (Retry-After: {shown(wait)})"
        advice = f"{advice}; {later}" if advice else later
    return advice


def _redirect_target(response: Response) -> str:
    """Return the URL that a redirect leads to, as a text may show it."""
    try:
        return shown(safe_url(urljoin(response.url, response.headers.get("Location", ""))))
    except ValueError:
        return "a URL that is malformed"


def _reason_and_message(response: Response) -> tuple[str, str]:
    """Return the gateway's own reason and message, from any body."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return response.reason, _quoted_body(response.content) if response.content else ""
    return str(body.get("reason") or response.reason), str(body.get("message") or "")


# --- successes with another body ------------------------------------------------------------------


def not_json(request: RequestInfo, response: Response) -> str:
    """Return the text for a successful response whose body is not JSON."""
    body = _quoted_body(response.content)
    return f"{request}: the response, {response.status}, is not JSON but {body}"


def wrong_model(request: RequestInfo, response: Response, fault: object) -> str:
    """Return the text for a successful response whose JSON is not the model asked for."""
    body = _quoted_body(response.content)
    return f"{request}: the response, {response.status}, is JSON, but {fault}: {body}"


def _quoted_body(content: bytes | bytearray) -> str:
    """Return the beginning of a body; of an HTML page its title."""
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
    text = content[: 4 * _LONGEST_QUOTE].decode("utf-8", "replace")
    return repr(" ".join(text.split())[:_LONGEST_QUOTE])
