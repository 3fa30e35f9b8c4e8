"""HTTP requests to one gateway: login, retries, and checks of the response."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from functools import partial
from time import monotonic
from typing import Any, TypeVar, cast

import requests
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar
from urllib3.util.timeout import Timeout

from .adapters import (
    Body,
    Login,
    OnlyXSRF,
    RetryPolicy,
    Session,
    proxy_for,
    was_retried,
)
from .advice import NO_GATEWAY, option, shown
from .bodies import BodyError, read_body
from .config import GatewayClient
from .deadline import Deadline
from .errors import GatewayConnectionError, GatewayError, GatewayHTTPError, NoSuchKernel
from .events import GATEWAY_CLIENT
from .failures import connection_error
from .forking import register_after_fork
from .locks import Latch
from .logger import Log
from .models import ModelError, check
from .reaper import Deletion, Hold
from .responses import NotFound, RequestInfo, Response, http_error, not_json, wrong_model
from .retry import Backoff
from .timeouts import CREDENTIALS_CHECK_TIMEOUT, RETRY_JITTER, RETRY_PAUSE, RETRY_PAUSE_MAX
from .traits import safe_url
from .urls import as_http

__all__ = ["LONGEST_FILE", "Requester", "check_segments"]

LONGEST_FILE = 64 * 1024**2
"""Bytes of the longest body that is not JSON for :mod:`.models`."""
_LONGEST_JSON = 16 * 1024**2  # bytes, which may take twenty times as much once it is parsed
_LONGEST_REFUSAL = 64 * 1024  # bytes that are read
_XSRF_WITHIN = 4096  # bytes of a refusal

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Call:
    """Arguments of :meth:`Requester.request`, and the session that sends the request."""

    session: Session
    method: str
    url: str
    body: bytes | Body | None
    wanted: Any
    not_found: NotFound
    deadline: Deadline | None


class Requester:
    """Requests to one gateway, with their connections, cookies and credentials.

    Any number of threads may use one Requester.

    Parameters
    ----------
    gateway : GatewayClient
        The options.

    Attributes
    ----------
    closing : Latch
        Opens at the next :meth:`close`.
    was_allowed : bool
        True if the credentials of the last request were accepted.
    """

    def __init__(self, gateway: GatewayClient) -> None:
        self.gateway = gateway
        self._log: Log = gateway.log
        self._policy = RetryPolicy.of(gateway)
        self._cookies = RequestsCookieJar()
        if not gateway.accept_cookies:
            self._cookies.set_policy(OnlyXSRF())
        self.was_allowed = False
        self._begin()
        register_after_fork(self._after_fork)

    def _begin(self) -> None:
        self._holds: dict[Hold, None] = {}  # each change is a single step
        self._accepted: Mapping[str, str] | None = None
        self._session = Session(self._policy, self._cookies)
        self.closing = Latch()

    def close(self) -> None:
        """Close the connections that are kept, and open :attr:`closing`."""
        self._session.close()
        was_open, self.closing = self.closing, Latch()
        was_open.open()

    def _after_fork(self) -> None:
        """Begin anew in a child process: connections and locks belong to its parent."""
        self._cookies = self._cookies.copy()
        self._begin()

    # --- holds -----------------------------------------------------------------------------------

    def hold(self, url: str, delete: Callable[[float], bool], start_timeout: float) -> Hold:
        """Delete the resource of this URL when this process ends, unless the hold is released.

        Parameters
        ----------
        url, delete, start_timeout
            See :class:`.Deletion` and :class:`.Hold`.

        Raises
        ------
        GatewayError
            The options are wrong, or the token's renewer fails.  Neither is raised if the gateway
            has accepted a request before.
        """
        headers = self._accepted
        if headers is None:  # no request was sent yet
            request = requests.Request("DELETE", url, auth=self._login(None))
            headers = self._session.prepare_request(request).headers
        cert = self.gateway.tls_cert
        deletion = Deletion(
            url=str(requests.Request("DELETE", url).prepare().url),
            headers=headers,
            proxy=proxy_for(url),
            verify=self.gateway.tls_verify,
            cert=(cert,) if isinstance(cert, str) else cert,
            timeout=self.gateway.effective_request_timeout,
            start_timeout=start_timeout,
        )
        hold = Hold(deletion, delete)
        self._holds[hold] = None
        return hold

    def _renew_holds(self, headers: Mapping[str, str]) -> None:
        """Give the headers that the gateway has just accepted to all holds."""
        self._accepted = headers
        for hold in list(self._holds):
            if hold.released:
                self._holds.pop(hold, None)
            else:
                hold.renew(headers)

    # --- for websockets -------------------------------------------------------------------------

    def cookie_header(self, url: str) -> str | None:
        """Return the ``Cookie`` header for a websocket handshake with `url`."""
        if not len(self._cookies):  # saves half a millisecond
            return None
        return self._of_websocket(url).headers.get("Cookie")

    def keep_cookies(self, url: str, cookies: Iterable[str]) -> None:
        """Keep the ``Set-Cookie`` headers that a websocket handshake with `url` got."""
        answer = Message()
        for cookie in cookies:
            answer["Set-Cookie"] = cookie
        # requests does the same with its responses; http.cookiejar has no other interface.
        request: Any = MockRequest(self._of_websocket(url))
        response: Any = MockResponse(answer)
        self._cookies.extract_cookies(response, request)

    def _of_websocket(self, url: str) -> requests.PreparedRequest:
        return self._session.prepare_request(requests.Request("GET", as_http(url)))

    # --- requests -------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str,
        body: bytes | Body | None = None,
        *,
        wanted: type[_T],
        not_found: NotFound = GatewayHTTPError,
        deadline: Deadline | None = None,
        alone: bool = False,
    ) -> _T:
        """Send a request and return what its response contains.

        Parameters
        ----------
        method, url : str
            The request.
        body : bytes or Body, optional
            JSON to send with it.
        wanted : type
            Type that the response's JSON is checked by, see :func:`.models.check`; ``bytes`` for a
            file, ``object`` for any JSON.
        not_found : callable
            Maker of the error for a 404.
        deadline : Deadline, optional
            Send the request only once, and wait until then.  By default the options say how long
            to wait and how often to send it.
        alone : bool
            Use a connection of its own.  The server may just be closing one that was kept, and the
            response would seem lost.

        Raises
        ------
        GatewayError
            Any of the errors of REST.
        """
        if deadline is None and not alone:
            call = _Call(self._session, method, url, body, wanted, not_found, None)
            return cast("_T", self._repeat(call))
        policy = self._policy if deadline is None else self._policy.new(total=0)
        with Session(policy, self._cookies) as session:
            call = _Call(session, method, url, body, wanted, not_found, deadline)
            return cast("_T", self._repeat(call))

    def kernel_request(
        self,
        method: str,
        kernel_id: str,
        action: str = "",
        *,
        wanted: type[_T],
        deadline: Deadline | None = None,
    ) -> _T:
        """Send a request about a kernel; the error for a 404 is NoSuchKernel."""
        check_segments([kernel_id], NoSuchKernel)
        url = self.gateway.kernel_url(kernel_id) + action
        body = b"{}" if action else None
        return self.request(
            method, url, body, wanted=wanted, not_found=NoSuchKernel, deadline=deadline
        )

    def _repeat(self, call: _Call) -> object:
        """Make a call, and make a GET again if its response did not come whole.

        urllib3 does not notice if a body breaks off, or is not JSON although the status is good.
        Both are treated like a lost connection.
        """
        attempts = self._policy.total if call.method == "GET" and call.deadline is None else 0
        backoff = Backoff(
            RETRY_PAUSE,
            RETRY_PAUSE_MAX,
            jitter=RETRY_JITTER,
            attempts=int(attempts or 0),
            closing=self.closing,
        )
        while True:
            try:
                return self._emit_outcome(call)
            except _Incomplete as error:
                if not backoff.wait():
                    text, advice = error.args[0], error.advice
                    raise GatewayConnectionError(text, advice=advice) from error.__cause__

    def _emit_outcome(self, call: _Call) -> object:
        """Make a call, and emit an event that says how it ended."""
        url = safe_url(self.gateway.url or "")
        emit = partial(self.gateway.emit, GATEWAY_CLIENT, gateway_url=url)
        try:
            status, result = self._exchange(call)
        except GatewayError as error:
            emit(status="error", status_code=getattr(error, "status_code", None), msg=str(error))
            raise
        msg = f"{call.method} {safe_url(call.url)}: {status}"
        emit(status="success", status_code=status, msg=msg)
        return result

    def _exchange(self, call: _Call) -> tuple[int, object]:
        """Return the status of a successful response, and what it contains."""
        request = RequestInfo(call.method, safe_url(call.url), safe_url(proxy_for(call.url) or ""))
        start = monotonic()
        try:
            response = self._send_with_login(call)
        except GatewayError as error:  # of the token's renewer
            error.args = (f"{request}: {error.args[0]}",)
            raise
        except (requests.RequestException, OSError) as error:
            kind = type(error).__name__
            self._log.debug("%s: %s after %.3f s", request, kind, monotonic() - start)
            if isinstance(error, requests.exceptions.ChunkedEncodingError):
                text = f"{request}: the response broke off{_perhaps_done(call.method)}"
                raise _Incomplete(text) from error
            limit = None if call.deadline is None else call.deadline.timeout
            failure, cause = connection_error(request, error, self.gateway, limit)
            raise failure from cause  # not requests' own, with the tracebacks of all its layers
        except BodyError as error:
            text = f"{request}: the response cannot be read: {error}{_perhaps_done(call.method)}"
            raise GatewayConnectionError(text) from error
        self._log.debug("%s: %s in %.3f s", request, response.status, monotonic() - start)
        self._notice_expiry(request, response, call.deadline)
        return response.status, self._read(request, response, call)

    def _send_with_login(self, call: _Call) -> Response:
        """Send a request; send it again if it is refused and the credentials have changed."""
        response = self._send(call)
        if response.status in (401, 403) and self._has_another_login(response, call.deadline):
            if isinstance(call.body, Body):
                call.body.seek(0)
            response = self._send(call)
        return response

    def _send(self, call: _Call) -> Response:
        login = self._login(call.deadline)  # it may take a part of the time
        response = call.session.request(
            call.method,
            call.url,
            data=call.body,
            headers={"Content-Type": "application/json"} if call.body is not None else None,
            auth=login,
            timeout=self._timeout(call.deadline),
            verify=self.gateway.tls_verify,
            cert=self.gateway.tls_cert,
            allow_redirects=False,  # the credentials must not leave, nor a POST become a GET
            stream=True,
        )
        if 200 <= response.status_code < 300:
            self._renew_holds(response.request.headers)
            longest = LONGEST_FILE if call.wanted is bytes else _LONGEST_JSON
            content = read_body(response, longest)
        else:
            content = read_body(response, _LONGEST_REFUSAL, cut=True)
        return Response(
            response.status_code,
            response.reason or "",
            response.headers,
            content,
            response.url,
            response.request.headers,
            was_retried(response),
        )

    def _notice_expiry(
        self, request: RequestInfo, response: Response, deadline: Deadline | None
    ) -> None:
        """Warn once if credentials are refused that were accepted before."""
        if response.status not in (401, 403) or not self.was_allowed:
            return
        if response.status == 403 and self._is_let_in(deadline):  # only this request is refused
            return
        self.was_allowed = False
        self._log.warning(
            "%s: the gateway does not accept the credentials any more (%s); the token may have"
            " expired.  What runs there goes on.  Set %s",
            request,
            response.status,
            option("auth_token"),
        )

    def _is_let_in(self, deadline: Deadline | None) -> bool:
        """Return True if the gateway permits what every user may ask, or that is not known."""
        within = (deadline or Deadline(None)).within(CREDENTIALS_CHECK_TIMEOUT)
        with suppress(GatewayError, requests.RequestException, OSError, BodyError):
            return self._get(self.gateway.kernelspecs_url, within).status not in (401, 403)
        return True

    def _get(self, url: str, deadline: Deadline | None) -> Response:
        """Send a GET once, whatever the response is."""
        return self._send(
            _Call(self._session, "GET", url, None, object, GatewayHTTPError, deadline)
        )

    def _login(self, deadline: Deadline | None) -> Login:
        return Login(self.gateway.request_headers(deadline.left() if deadline else None))

    def _timeout(self, deadline: Deadline | None) -> Any:
        """Return the timeouts of a request; requests passes urllib3's Timeout on."""
        if deadline is None:
            return self.gateway.connect_timeout, self.gateway.effective_request_timeout
        left = deadline.left()
        return Timeout(total=None if left is None else max(left, 0.001))  # urllib3 takes no 0

    def _has_another_login(self, refusal: Response, deadline: Deadline | None) -> bool:
        """Return True if the credentials are not those that were refused any more.

        The token's renewer may have a new one.  Or the server is a Jupyter Server that wants no
        login: then it wants a cookie of its own, in a header as well, with every request that
        changes something (against forged requests of other sites).  It sets the cookie with its
        pages, even with a page for a 404.
        """
        if b"_xsrf" in refusal.content[:_XSRF_WITHIN].lower():
            self._get(f"{self.gateway.api_url}/no-such-page", deadline)
        login = self._login(deadline)
        again = self._session.prepare_request(requests.Request("GET", refusal.url, auth=login))
        return any(refusal.sent.get(name) != value for name, value in again.headers.items())

    def _read(self, request: RequestInfo, response: Response, call: _Call) -> object:
        """Return the JSON of a successful response, or its bytes if those are wanted."""
        if not response.is_success:
            if call.method == "DELETE" and response.status == 404 and response.was_retried:
                return None  # an earlier attempt did it, and its response was lost
            raise http_error(request, response, call.not_found, self.gateway.login_note)
        self.was_allowed = True
        if call.wanted is bytes:
            return bytes(response.content)
        try:
            content = response.json()
        except ValueError as error:
            raise _Incomplete(not_json(request, response), advice=NO_GATEWAY) from error
        try:
            check(content, call.wanted, response.status)
        except ModelError as error:
            text = wrong_model(request, response, error)
            raise GatewayConnectionError(text, advice=NO_GATEWAY) from error
        return cast("object", content)


def check_segments(segments: Sequence[str], not_found: NotFound) -> None:
    """Raise `not_found` for a name that cannot be a part of a URL.

    A name that leads out of its folder must not be sent: requests resolves the dots of a URL.
    """
    for segment in segments:
        try:
            fits = segment not in ("", ".", "..") and bool(segment.encode())
        except UnicodeEncodeError:  # a lone surrogate, which JSON can contain
            fits = False
        if not fits:
            raise not_found(f"the gateway has nothing of the name '{shown('/'.join(segments))}'")


def _perhaps_done(method: str) -> str:
    return "" if method == "GET" else "; what was asked may have been done"


class _Incomplete(GatewayConnectionError):
    """A response that did not come whole."""
