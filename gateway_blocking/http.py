"""One request to a gateway: sent, sent again if that is safe, and its answer read and checked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from email.message import Message
from functools import partial
from time import monotonic
from typing import Any

import requests
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar
from urllib3.exceptions import MaxRetryError, ProtocolError
from urllib3.util.retry import Retry
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
from .advice import NO_GATEWAY, shown
from .bodies import BodyError, read_body
from .config import GatewayClient
from .deadline import Deadline
from .errors import GatewayConnectionError, GatewayError, GatewayHTTPError, NoSuchKernel
from .events import GATEWAY_CLIENT
from .failures import Answer, Missing, RequestInfo, connection_error, http_error, misfit, not_json
from .forking import register_after_fork
from .locks import Latch
from .models import ModelError, check
from .reaper import Deletion, Hold
from .traits import safe_url
from .urls import as_http

__all__ = ["Requester", "check_segments"]

_LONGEST = 64 * 1024**2  # bytes of a file
_LONGEST_JSON = 16 * 1024**2  # bytes, which may take twenty times as much once it is parsed
_LONGEST_REFUSAL = 64 * 1024  # bytes that are looked at
_CHECK_TIMEOUT = 5.0  # seconds, whether a refusal means the credentials
_XSRF_WITHIN = 4096  # bytes of a refusal


class Requester:
    """The requests to one gateway, with their connections, cookies and credentials.

    Any number of threads may use one.

    Parameters
    ----------
    gateway : GatewayClient
        The options.

    Attributes
    ----------
    closing : Latch
        Opened by the next :meth:`close`.
    was_allowed : bool
        Whether the credentials of the last request were accepted.
    """

    def __init__(self, gateway: GatewayClient) -> None:
        self.gateway = gateway
        self._log: logging.Logger | logging.LoggerAdapter[Any] = gateway.log
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
        """Close the connections that are kept, and end each :meth:`pause`."""
        self._session.close()
        was_open, self.closing = self.closing, Latch()
        was_open.open()

    def _after_fork(self) -> None:
        """Begin anew in a child process: what is kept, and locked, is its parent's."""
        self._cookies = self._cookies.copy()
        self._begin()

    def pause(self, seconds: float) -> bool:
        """Wait so long, or until a :meth:`close`; return True if that came."""
        return self.closing.wait(Deadline(seconds))

    # --- what ends with this process -------------------------------------------------------------

    def hold(self, url: str, delete: Callable[[float], bool], start_timeout: float) -> Hold:
        """Have what is at this URL deleted when this process ends, unless it is released before.

        Parameters
        ----------
        url, delete, start_timeout
            See :class:`.Deletion` and :class:`.Hold`.

        Raises
        ------
        GatewayError
            The options are wrong, or the token's renewer fails; but not once the gateway has
            accepted a request.
        """
        headers = self._accepted
        if headers is None:  # nothing was asked yet
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
        """Note the headers that the gateway has just accepted, for what is held."""
        self._accepted = headers
        for hold in list(self._holds):
            if hold.released:
                self._holds.pop(hold, None)
            else:
                hold.renew(headers)

    # --- for websockets -------------------------------------------------------------------------

    def cookie_header(self, url: str) -> str | None:
        """Return what a websocket handshake with `url` is to send as its ``Cookie``."""
        if not len(self._cookies):  # spares half a millisecond
            return None
        return self._of_websocket(url).headers.get("Cookie")

    def keep_cookies(self, url: str, cookies: Iterable[str]) -> None:
        """Keep what a websocket handshake with `url` was answered as its ``Set-Cookie``."""
        answer = Message()
        for cookie in cookies:
            answer["Set-Cookie"] = cookie
        # As requests does with its own answers; http.cookiejar knows no other way.
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
        wanted: Any = object,
        missing: Missing = GatewayHTTPError,
        deadline: Deadline | None = None,
        alone: bool = False,
    ) -> Any:
        """Make a request and return its answer.

        Parameters
        ----------
        method, url : str
            The request.
        body : bytes or Body, optional
            JSON to send with it.
        wanted : type
            What the answer is checked by, see :func:`.models.check`; ``bytes`` for a file.
        missing : callable
            The error that a 404 means.
        deadline : Deadline, optional
            Ask only once, and until then.  By default the options say how long and how often.
        alone : bool
            Whether to use a connection of its own.  The server may just be closing one that was
            kept, and the request would seem lost.

        Raises
        ------
        GatewayError
            Any of those of REST.
        """
        if deadline is None and not alone:
            return self._repeat(self._session, method, url, body, missing, deadline, wanted)
        policy = self._policy if deadline is None else self._policy.new(total=0)
        with Session(policy, self._cookies) as session:
            return self._repeat(session, method, url, body, missing, deadline, wanted)

    def kernel_request(self, method: str, kernel_id: str, action: str = "", **how: Any) -> Any:
        """Make a request about a kernel; the error for a 404 is NoSuchKernel."""
        check_segments([kernel_id], NoSuchKernel)
        url = self.gateway.kernel_url(kernel_id) + action
        return self.request(method, url, b"{}" if action else None, missing=NoSuchKernel, **how)

    def _repeat(
        self,
        session: Session,
        method: str,
        url: str,
        body: bytes | Body | None,
        missing: Missing,
        deadline: Deadline | None,
        wanted: Any,
    ) -> Any:
        """Make a request, and a GET again if its answer did not come whole.

        An answer that broke off, or is not JSON though its status is fine, is a lost connection
        as well, but one that urllib3 does not see.
        """
        retry: Retry = self._policy
        while True:
            try:
                return self._tell(session, method, url, body, missing, deadline, wanted)
            except _CutOff as error:
                try:
                    if method != "GET" or deadline is not None:
                        raise
                    retry = retry.increment(method, url, error=ProtocolError(str(error)))
                except (MaxRetryError, ProtocolError, _CutOff):
                    failure = GatewayConnectionError(str(error))
                    failure.advice = error.advice
                    raise failure from error.__cause__
                self.pause(retry.get_backoff_time())

    def _tell(self, session: Session, method: str, url: str, *how: Any) -> Any:
        """Make a request, and emit an event that says how it ended."""
        told = partial(self.gateway.emit, GATEWAY_CLIENT, gateway_url=safe_url(self.gateway.url))
        try:
            status, answer = self._exchange(session, method, url, *how)
        except (GatewayError, _CutOff) as error:
            told(status="error", status_code=getattr(error, "status_code", None), msg=str(error))
            raise
        told(status="success", status_code=status, msg=f"{method} {safe_url(url)}: {status}")
        return answer

    def _exchange(
        self,
        session: Session,
        method: str,
        url: str,
        body: bytes | Body | None,
        missing: Missing,
        deadline: Deadline | None,
        wanted: Any,
    ) -> tuple[int, Any]:
        """Return the status of a good answer, and the answer."""
        tried = RequestInfo(method, safe_url(url), safe_url(proxy_for(url) or ""))
        start = monotonic()
        try:
            answer = self._ask(session, method, url, body, deadline, wanted)
        except GatewayError as error:  # of the token's renewer
            error.args = (f"{tried}: {error}",)
            raise
        except (requests.RequestException, OSError) as error:
            kind = type(error).__name__
            self._log.debug("%s: %s after %.3f s", tried, kind, monotonic() - start)
            if isinstance(error, requests.exceptions.ChunkedEncodingError):
                raise _CutOff(f"{tried}: the answer broke off{_perhaps_done(method)}") from error
            limit = None if deadline is None else deadline.timeout
            failure, cause = connection_error(tried, error, self.gateway, limit)
            raise failure from cause  # not requests' own, with the tracebacks of all its layers
        except BodyError as error:
            text = f"{tried}: the answer cannot be read: {error}{_perhaps_done(method)}"
            raise GatewayConnectionError(text) from error
        self._log.debug("%s: %s in %.3f s", tried, answer.status, monotonic() - start)
        self._notice_expiry(tried, answer, deadline)
        return answer.status, self._read(tried, answer, missing, wanted)

    def _ask(
        self,
        session: Session,
        method: str,
        url: str,
        body: bytes | Body | None,
        deadline: Deadline | None,
        wanted: Any,
    ) -> Answer:
        """Send a request; once more if it is refused, and there are other credentials now."""
        answer = self._send(session, method, url, body, deadline, wanted)
        if answer.status in (401, 403) and self._has_another_login(answer, deadline):
            if isinstance(body, Body):
                body.seek(0)
            answer = self._send(session, method, url, body, deadline, wanted)
        return answer

    def _send(
        self,
        session: Session,
        method: str,
        url: str,
        body: bytes | Body | None,
        deadline: Deadline | None,
        wanted: Any,
    ) -> Answer:
        login = self._login(deadline)  # it may take a part of the time
        response = session.request(
            method,
            url,
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
            auth=login,
            timeout=self._limits(deadline),
            verify=self.gateway.tls_verify,
            cert=self.gateway.tls_cert,
            allow_redirects=False,  # the credentials must not leave, nor a POST become a GET
            stream=True,
        )
        if 200 <= response.status_code < 300:
            self._renew_holds(response.request.headers)
            content = read_body(response, _LONGEST if wanted is bytes else _LONGEST_JSON)
        else:
            content = read_body(response, _LONGEST_REFUSAL, cut=True)
        return Answer(
            response.status_code,
            response.reason or "",
            response.headers,
            content,
            response.url,
            response.request.headers,
            was_retried(response),
        )

    def _notice_expiry(self, tried: RequestInfo, answer: Answer, deadline: Deadline | None) -> None:
        """Warn once if credentials are refused that were accepted before."""
        if answer.status not in (401, 403) or not self.was_allowed:
            return
        if answer.status == 403 and self._is_let_in(deadline):  # this only is not allowed
            return
        self.was_allowed = False
        self._log.warning(
            "%s: the gateway does not accept the credentials any more (%s): has the token"
            " expired? What runs there goes on; set auth_token (JUPYTER_GATEWAY_AUTH_TOKEN)",
            tried,
            answer.status,
        )

    def _is_let_in(self, deadline: Deadline | None) -> bool:
        """Return whether the gateway grants what every user may ask, or it cannot be known."""
        within = (deadline or Deadline(None)).within(_CHECK_TIMEOUT)
        with suppress(GatewayError, requests.RequestException, OSError, BodyError):
            url = self.gateway.kernelspecs_url
            answer = self._send(self._session, "GET", url, None, within, object)
            return answer.status not in (401, 403)
        return True

    def _login(self, deadline: Deadline | None) -> Login:
        return Login(self.gateway.request_headers(deadline.left() if deadline else None))

    def _limits(self, deadline: Deadline | None) -> Any:
        """Return the timeouts of a request, as requests takes them."""
        if deadline is None:
            return self.gateway.connect_timeout, self.gateway.effective_request_timeout
        left = deadline.left()
        return Timeout(total=None if left is None else max(left, 0.001))  # urllib3 takes no 0

    def _has_another_login(self, refused: Answer, deadline: Deadline | None) -> bool:
        """Return whether there are other credentials now than those that were refused.

        The token's renewer may have a new one.  Or this is a Jupyter Server that wants no login:
        then it wants a cookie of its own, in a header as well, with all that changes something
        (against forged requests of other sites).  It gives the cookie with its pages, even with
        one that says 404.
        """
        if b"_xsrf" in refused.content[:_XSRF_WITHIN].lower():
            page = f"{self.gateway.api_url}/no-such-page"
            self._send(self._session, "GET", page, None, deadline, object)
        login = self._login(deadline)
        again = self._session.prepare_request(requests.Request("GET", refused.url, auth=login))
        return any(refused.sent.get(name) != value for name, value in again.headers.items())

    def _read(self, tried: RequestInfo, answer: Answer, missing: Missing, wanted: Any) -> Any:
        """Return the JSON of a good answer, or its bytes if those are wanted."""
        if not 200 <= answer.status < 300:
            if tried.method == "DELETE" and answer.status == 404 and answer.repeated:
                return None  # done by an earlier try, its answer was lost
            raise http_error(tried, answer, missing, self.gateway.login_note)
        self.was_allowed = True
        if wanted is bytes:
            return bytes(answer.content)
        if answer.status == 204:
            return None
        try:
            said = answer.json()
        except ValueError as error:
            raise _CutOff(not_json(tried, answer), NO_GATEWAY) from error
        try:
            check(said, wanted, answer.status)
        except ModelError as error:
            failure = GatewayConnectionError(misfit(tried, answer, error))
            failure.advice = NO_GATEWAY
            raise failure from error
        return said


def check_segments(segments: Sequence[str], missing: Missing) -> None:
    """Raise `missing` for a name that cannot be a part of a URL.

    One that leads out of its folder must not be sent: requests go where a URL's dots point to.
    """
    for segment in segments:
        try:
            fit = segment not in ("", ".", "..") and bool(segment.encode())
        except UnicodeEncodeError:  # a lone surrogate, as JSON may have one
            fit = False
        if not fit:
            raise missing(f"there is nothing of the name '{shown('/'.join(segments))}'")


def _perhaps_done(method: str) -> str:
    return "" if method == "GET" else "; what was asked may have been done"


class _CutOff(Exception):
    """An answer that did not come whole."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice
