"""The gateway's REST interface: one method per endpoint."""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import uuid
from collections.abc import Callable, Iterable, Sequence
from email.message import Message
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, TypedDict, cast
from urllib.parse import quote

import requests
from requests.cookies import MockRequest, MockResponse, RequestsCookieJar
from urllib3.exceptions import (
    MaxRetryError,
    ProtocolError,
)
from urllib3.util.retry import Retry
from urllib3.util.timeout import Timeout

from .adapters import (
    BACKOFF_MAX,
    TRANSIENT,
    Adapter,
    Body,
    Login,
    OnlyXSRF,
    RetryPolicy,
    proxy_for,
    was_retried,
)
from .config import GatewayClient
from .deadline import Deadline
from .errors import (
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from .events import GATEWAY_CLIENT
from .failures import Missing, Tried, not_reached, refused, unusable, wants_tls
from .forking import tell_after_fork
from .locks import Latch
from .traits import safe_url
from .urls import as_http

__all__ = ["GatewayREST", "KernelModel", "SessionModel", "choose_kernel_id"]

_LOOKS = 3  # for a kernel whose start was not answered: at least so many
_LOOK_PAUSE = 0.5  # seconds from the first to the second, doubled from look to look
_LOOK_TIMEOUT = 5.0
_GIVE_BACK_TIMEOUT = 5.0
_LIST_PAUSES = (0.1, 0.2, 0.4, 0.8)  # seconds
_SEE = ": see `jupyter gateway kernels`"


class _Answer(NamedTuple):
    """What an answer has to be, for it to be a gateway's."""

    name: str
    fits: Callable[[Any], bool]


_ANYTHING = _Answer("", lambda answer: True)
_BYTES = _Answer("", lambda answer: True)  # not JSON
_OBJECT = _Answer("an object", lambda answer: isinstance(answer, dict))
_MODEL = _Answer("an object with an id", lambda answer: isinstance(answer, dict) and "id" in answer)
_MODELS = _Answer(
    "a list of objects with an id",
    lambda answer: isinstance(answer, list) and all(map(_MODEL.fits, answer)),
)
_SPECS = _Answer(
    "a list of kernelspecs",
    lambda answer: isinstance(answer, dict) and isinstance(answer.get("kernelspecs"), dict),
)
_STARTED = _Answer(_MODEL.name, lambda answer: answer is None or _MODEL.fits(answer))


class _RequiredKernelModel(TypedDict):
    id: str
    name: str


class KernelModel(_RequiredKernelModel, total=False):
    """A kernel, as a gateway describes it."""

    last_activity: str
    execution_state: str
    connections: int
    reason: str


class SessionModel(TypedDict):
    """A session, as a Jupyter Server describes it: a notebook or another thing with a kernel."""

    id: str
    path: str
    name: str
    type: str
    kernel: KernelModel


class GatewayREST:
    """The REST interface of one gateway.  May be used by any number of threads.

    A GET or a DELETE that fails for want of a connection, or with 502, 503 or 504, is repeated,
    at growing intervals or when the gateway's ``Retry-After`` says so.  A POST is repeated only
    where it never reached the gateway: a kernel is not to be started twice, nor the next cell
    to be interrupted.  What took all of its time-out is not repeated.

    Every method raises :exc:`.GatewayConnectionError`, :exc:`.GatewayTimeout`,
    :exc:`.GatewayAuthError` or :exc:`.GatewayHTTPError`, besides what it says itself.

    Parameters
    ----------
    gateway : GatewayClient
        The options.
    """

    def __init__(self, gateway: GatewayClient) -> None:
        self.gateway = gateway
        self._log: logging.Logger | logging.LoggerAdapter[Any] = gateway.log
        self._policy = RetryPolicy.of(gateway)
        self._auth = Login(gateway)
        self._cookies = RequestsCookieJar()
        if not gateway.accept_cookies:
            self._cookies.set_policy(OnlyXSRF())
        self._session = self._new_session(self._policy)
        self._open = Latch()
        tell_after_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.gateway!r}>"

    def __enter__(self) -> GatewayREST:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept; later requests open new ones.

        A kernel whose start was not answered is not looked for any longer.
        """
        self._session.close()
        was_open, self._open = self._open, Latch()
        was_open.open()

    def after_fork(self) -> None:
        """Begin anew in a child process: what is kept, and locked, is its parent's."""
        self._cookies = self._cookies.copy()
        self._session = self._new_session(self._policy)
        self._open = Latch()

    # --- endpoints ------------------------------------------------------------------------------

    def api_version(self) -> dict[str, Any]:
        """The gateway's ``version``."""
        return cast("dict[str, Any]", self._request("GET", self.gateway.api_url, wanted=_OBJECT))

    def server_status(self) -> dict[str, Any]:
        """What ``/api/status`` says; a Jupyter Server has it, a Kernel Gateway answers 404."""
        url = f"{self.gateway.api_url}/status"
        return cast("dict[str, Any]", self._request("GET", url, wanted=_OBJECT))

    def list_kernels(self) -> list[KernelModel]:
        """All kernels of the gateway, where it allows that they are listed.

        At the moment when any kernel is started, a server answers 500 (measured with all three: 4
        to 15 % of the lists while forty started, each time for 0.15 s at most).  It is asked again.
        """
        list_: Callable[[], list[KernelModel]] = partial(
            self._request, "GET", self.gateway.kernels_url, wanted=_MODELS
        )
        for pause in _LIST_PAUSES:
            try:
                return list_()
            except GatewayHTTPError as error:
                if error.status_code != 500:
                    raise
            self._open.wait(Deadline(pause))  # or until a close()
        return list_()

    def get_kernel(self, kernel_id: str, timeout: float | None = None) -> KernelModel:
        """A kernel's model; NoSuchKernel where there is none.

        Parameters
        ----------
        kernel_id : str
            The kernel.
        timeout : float, optional
            Ask only once, and for so many seconds: the connection and the wait for an answer
            share them.  By default the gateway's options say how long and how often.
        """
        if timeout is None:
            return cast("KernelModel", self._kernel("GET", kernel_id, wanted=_MODEL))
        with self._new_session(self._policy.new(total=0)) as session:
            how: dict[str, Any] = {"session": session, "timeout": timeout, "wanted": _MODEL}
            model = self._kernel("GET", kernel_id, **how)
        return cast("KernelModel", model)

    def start_kernel(
        self,
        name: str | None,
        env: dict[str, str],
        *,
        path: str | None = None,
        kernel_id: str | None = None,
    ) -> KernelModel:
        """Start a kernel.

        A kernel is asked for once.  Where that may have reached the gateway and the answer was
        lost, the kernel is looked for under its `kernel_id` until a start takes no longer, and is
        the result if it is found.  It is not asked for again, because a server that still starts
        the first would start a second (measured with all three).

        Parameters
        ----------
        name : str or None
            The kernelspec; None for the gateway's default.
        env : dict
            The kernel's environment.  Always sent: a Kernel Gateway may give a kernel that
            comes without one the environment of another.
        path : str, optional
            The working directory, relative to the server's root.
        kernel_id : str, optional
            The id that the kernel is to have, for servers that let it be chosen: a Jupyter
            Server and a Kernel Gateway read it here, an Enterprise Gateway as ``KERNEL_ID`` in
            `env`.  The answer says which id it got.  See :func:`choose_kernel_id`.

        Raises
        ------
        NoSuchKernelSpec
            The gateway does not have it.
        """
        gateway = self.gateway
        wanted = {"name": name, "env": env, "path": path, "kernel_id": kernel_id}
        body = Body.of(wanted)
        until = monotonic() + gateway.launch_timeout + gateway.launch_timeout_pad
        try:
            # On a connection that was kept, and that the server just closed, it would seem lost.
            with self._new_session(self._policy) as session:
                how: dict[str, Any] = {"session": session, "wanted": _STARTED}
                model = self._request("POST", gateway.kernels_url, body, **how)
                if model is None:
                    # A Jupyter Server in front of a gateway takes the id for one to attach to,
                    # does not find it, and has started none.
                    body = Body.of({**wanted, "kernel_id": None})
                    how["wanted"] = _MODEL
                    model = self._request("POST", gateway.kernels_url, body, **how)
            return cast("KernelModel", model)
        except GatewayError as error:
            status = error.status_code if isinstance(error, GatewayHTTPError) else None
            if body.was_read and status in (None, 502, 504):
                if found := self._find(kernel_id, error, until):
                    return found
            # All servers answer a plain 500 to an unknown kernelspec.
            elif isinstance(error, GatewayHTTPError) and status == 500 and name is not None:
                self._check_kernelspec(name, env.get("KERNEL_USERNAME"), error)
            raise
        except BaseException:  # a Ctrl-C: nobody will ever hear of this kernel
            if body.was_read and kernel_id:
                self._give_back(kernel_id)
            raise

    def _give_back(self, kernel_id: str) -> None:
        """Shut a kernel down whose start was not waited for, if it comes up within seconds."""
        deadline = Deadline(_GIVE_BACK_TIMEOUT)
        while True:
            try:
                how: dict[str, Any] = {"timeout": _GIVE_BACK_TIMEOUT}
                with self._new_session(self._policy.new(total=0)) as session:
                    self._kernel("DELETE", kernel_id, session=session, **how)
            except NoSuchKernel as error:
                failure: GatewayError = error
            except GatewayError as error:
                failure = error
                break
            else:
                self._log.info("kernel %s, whose start was interrupted, was shut down", kernel_id)
                return
            if deadline.passed() or self._open.wait(Deadline(_LOOK_PAUSE)):
                break
        self._log.warning(
            "kernel %s, whose start was interrupted, may run all the same: %s", kernel_id, failure
        )

    def delete_kernel(self, kernel_id: str) -> None:
        """Shut a kernel down; NoSuchKernel where there is none."""
        self._kernel("DELETE", kernel_id)

    def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt a kernel; NoSuchKernel where there is none."""
        self._kernel("POST", kernel_id, "/interrupt")

    def restart_kernel(self, kernel_id: str) -> KernelModel:
        """Restart a kernel, and give its model; NoSuchKernel where there is none."""
        try:
            return cast("KernelModel", self._kernel("POST", kernel_id, "/restart"))
        except GatewayHTTPError as error:
            if error.status_code == 500:  # what servers answer where the kernel is gone, too
                self.get_kernel(kernel_id)
            raise

    def list_kernelspecs(self, user: str | None = None) -> dict[str, Any]:
        """The gateway's ``default`` kernelspec and all ``kernelspecs`` by name.

        Parameters
        ----------
        user : str, optional
            Only those that this user may start, where the gateway makes a difference; by default
            the :attr:`~.GatewayClient.kernel_username`.
        """
        url = self.gateway.kernelspecs_url + self._of_user(user)
        return cast("dict[str, Any]", self._request("GET", url, wanted=_SPECS))

    def get_kernelspec(self, name: str, user: str | None = None) -> dict[str, Any]:
        """A kernelspec's ``name``, ``spec`` and ``resources``; or NoSuchKernelSpec."""
        missing = partial(NoSuchKernelSpec, name=name)
        _check_segments([name], missing)
        url = f"{self.gateway.kernelspecs_url}/{quote(name, safe='')}{self._of_user(user)}"
        return cast("dict[str, Any]", self._request("GET", url, missing=missing, wanted=_OBJECT))

    def get_kernelspec_resource(self, name: str, path: str) -> bytes:
        """A file of a kernelspec, such as ``logo-64x64.png``; or NoSuchKernelSpec."""
        missing = partial(NoSuchKernelSpec, name=name)
        _check_segments(f"{name}/{path}".split("/"), missing)
        url = f"{self.gateway.kernelspecs_resource_url}/{quote(name, safe='')}/{quote(path)}"
        return cast("bytes", self._request("GET", url, missing=missing, wanted=_BYTES))

    def _of_user(self, user: str | None) -> str:
        user = self.gateway.kernel_username if user is None else user
        return f"?user={quote(user, safe='')}" if user else ""

    def list_sessions(self) -> list[SessionModel]:
        """All sessions of the server."""
        models = self._request("GET", self.gateway.sessions_url, wanted=_MODELS)
        return cast("list[SessionModel]", models)

    def create_session(self, wanted: dict[str, Any]) -> SessionModel:
        """Create a session, and start its kernel if it is to have a new one.

        Parameters
        ----------
        wanted : dict
            ``path``, ``name``, ``type`` and ``kernel``, of which an ``id`` or a ``name``.
        """
        body = json.dumps(wanted).encode()
        model = self._request("POST", self.gateway.sessions_url, body, wanted=_MODEL)
        return cast("SessionModel", model)

    def update_session(self, session_id: str, changes: dict[str, Any]) -> SessionModel:
        """Change a session; NoSuchSession where there is none."""
        body = json.dumps(changes).encode()
        return cast("SessionModel", self._session_request("PATCH", session_id, body))

    def delete_session(self, session_id: str) -> None:
        """End a session and shut its kernel down; NoSuchSession where there is none."""
        self._session_request("DELETE", session_id)

    # --- for websockets -------------------------------------------------------------------------

    def cookie_header(self, url: str) -> str | None:
        """What a websocket handshake with `url` is to send as its ``Cookie``."""
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

    def _new_session(self, policy: Retry) -> requests.Session:
        """Connections of its own, with the cookies of all."""
        session = requests.Session()
        session.cookies = self._cookies
        for scheme in ("http://", "https://"):
            session.mount(scheme, Adapter(max_retries=policy))
        return session

    def _session_request(self, method: str, session_id: str, body: bytes | None = None) -> Any:
        _check_segments([session_id], NoSuchSession)
        url = f"{self.gateway.sessions_url}/{quote(session_id, safe='')}"
        return self._request(method, url, body, missing=NoSuchSession)

    def _kernel(self, method: str, kernel_id: str, action: str = "", **how: Any) -> Any:
        _check_segments([kernel_id], NoSuchKernel)
        url = self.gateway.kernel_url(kernel_id) + action
        body = b"{}" if action else None
        return self._request(method, url, body, missing=NoSuchKernel, **how)

    def _request(
        self,
        method: str,
        url: str,
        body: bytes | Body | None = None,
        *,
        missing: Missing = GatewayHTTPError,
        session: requests.Session | None = None,
        timeout: float | None = None,
        wanted: _Answer = _ANYTHING,
    ) -> Any:
        """Make a request and return its answer.  `missing` is what a 404 means."""
        retry: Retry = self._policy
        session = session or self._session
        while True:
            try:
                return self._request_once(method, url, body, missing, session, timeout, wanted)
            except _CutOff as error:
                # The answer broke off, or is not JSON though the gateway was fine with it: that
                # is a lost connection as well, but one that urllib3 does not see.
                try:
                    if method != "GET" or timeout is not None:
                        raise
                    retry = retry.increment(method, url, error=ProtocolError(str(error)))
                except (MaxRetryError, ProtocolError, _CutOff):
                    raise GatewayConnectionError(str(error)) from error.__cause__
                self._open.wait(Deadline(retry.get_backoff_time()))  # or until a close()

    def _request_once(self, method: str, url: str, *how: Any) -> Any:
        """Make a request, and let it be known how it ended."""
        told = partial(self.gateway.emit, GATEWAY_CLIENT, gateway_url=safe_url(self.gateway.url))
        try:
            status, answer = self._exchange(method, url, *how)
        except (GatewayError, _CutOff) as error:
            told(status="error", status_code=getattr(error, "status_code", None), msg=str(error))
            raise
        told(status="success", status_code=status, msg=f"{method} {safe_url(url)}: {status}")
        return answer

    def _exchange(
        self,
        method: str,
        url: str,
        body: bytes | Body | None,
        missing: Missing,
        session: requests.Session,
        timeout: float | None,
        wanted: _Answer,
    ) -> tuple[int, Any]:
        """The status of a good answer, and the answer."""
        gateway = self.gateway
        limits: Any = (gateway.connect_timeout, gateway.effective_request_timeout)
        if timeout is not None:
            limits = Timeout(total=max(timeout, 0.001))  # urllib3 takes no 0
        tried = Tried(method, safe_url(url), safe_url(proxy_for(url) or ""))
        start = monotonic()
        try:
            response = self._send(session, method, url, body, limits)
            if response.status_code in (401, 403) and self._has_another_login(response, limits):
                if isinstance(body, Body):
                    body.seek(0)
                response = self._send(session, method, url, body, limits)
        except (requests.RequestException, OSError) as error:
            kind = type(error).__name__
            self._log.debug("%s: %s after %.3f s", tried, kind, monotonic() - start)
            if isinstance(error, requests.exceptions.ChunkedEncodingError):
                done = "" if method == "GET" else "; what was asked may have been done"
                raise _CutOff(f"{tried}: the answer broke off{done}") from error
            failure, cause = not_reached(tried, error, gateway, timeout)
            raise failure from cause  # not requests' own, with the tracebacks of all its layers
        self._log.debug("%s: %s in %.3f s", tried, response.status_code, monotonic() - start)
        return response.status_code, self._read(tried, response, missing, wanted)

    def _read(
        self, tried: Tried, response: requests.Response, missing: Missing, wanted: _Answer
    ) -> Any:
        """The JSON of a good answer, or its bytes where those are wanted."""
        if not 200 <= response.status_code < 300:
            if tried.method == "DELETE" and response.status_code == 404 and was_retried(response):
                return None  # done by an earlier try, its answer was lost
            raise refused(tried, response, missing, self.gateway.login_note)
        if response.status_code == 204:
            return None
        if wanted is _BYTES:
            return response.content
        try:
            answer = response.json()
        except ValueError as error:
            raise _CutOff(unusable(tried, response)) from error
        if not wanted.fits(answer):
            raise GatewayConnectionError(unusable(tried, response, wanted.name))
        return answer

    def _send(
        self, session: requests.Session, method: str, url: str, body: Any, limits: Any
    ) -> requests.Response:
        return session.request(
            method,
            url,
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
            auth=self._auth,
            timeout=limits,
            verify=self.gateway.tls_verify,
            cert=self.gateway.tls_cert,
            allow_redirects=False,  # the credentials must not leave, nor a POST become a GET
        )

    def _has_another_login(self, refused: requests.Response, limits: Any) -> bool:
        """Whether what was refused may be granted now: there are other credentials than it had.

        The token's renewer may have a new one.  Or this is a Jupyter Server that wants no login:
        then it wants a cookie of its own, in a header as well, with all that changes something
        (against forged requests of other sites).  It gives the cookie with its pages, even with
        one that says 404.
        """
        if b"_xsrf" in refused.content.lower():
            page = f"{self.gateway.api_url}/no-such-page"
            self._send(self._session, "GET", page, None, limits)
        again = self._session.prepare_request(requests.Request("GET", refused.url, auth=self._auth))
        sent = refused.request.headers
        return any(sent.get(name) != value for name, value in again.headers.items())

    def _find(self, kernel_id: str | None, lost: GatewayError, until: float) -> KernelModel | None:
        """The kernel whose start was not answered; None, and `lost` says more, if there is none."""
        if not _may_change(lost) or wants_tls(Tried("POST", self.gateway.kernels_url)):
            return None  # whoever that was, it is no gateway
        if kernel_id is None:
            lost.args = (f"{lost}; a kernel may have been started all the same{_SEE}",)
            return None
        self._log.warning("%s; now looking for kernel %s", str(lost), kernel_id)
        looks, pause, still_open = 0, _LOOK_PAUSE, self._open
        while True:
            looks += 1
            try:
                found = self.get_kernel(kernel_id, timeout=_LOOK_TIMEOUT)
            except GatewayError as error:
                failure, left = error, until - monotonic()
                if not _may_change(error) or (looks >= _LOOKS and left <= 0):
                    break
            else:
                self._log.info("kernel %s was started all the same, and is used", kernel_id)
                return found
            if still_open.wait(Deadline(min(pause, left) if left > 0 else pause)):
                break
            pause = min(2 * pause, BACKOFF_MAX)
        lost.args = (
            f"{lost}; looked for kernel {kernel_id} {looks} times, and {_outcome(failure, lost)};"
            " it may run all the same, with this id, or another on a server that does not let it be"
            f" chosen{_SEE}",
        )
        return None

    def _check_kernelspec(self, name: str, user: str | None, error: GatewayHTTPError) -> None:
        try:
            known = sorted(self.list_kernelspecs(user)["kernelspecs"])
        except GatewayError:  # what the gateway said first says more
            error.args = (f"{error}; has it a kernelspec {name!r}? see also its log",)
            return
        if name in known:
            error.args = (
                f"{error}; it has the kernelspec {name!r}, and could not start it: is the program"
                " of it installed there? its log says more",
            )
        else:
            raise NoSuchKernelSpec(
                f"POST {error.url}: the gateway has no kernelspec {name!r};"
                f" it has {', '.join(known) or 'none'}",
                name=name,
                method=error.method,
                url=error.url,
                status_code=error.status_code,
                reason=error.reason,
                message=error.message,
            ) from error


def _check_segments(segments: Sequence[str], missing: Missing) -> None:
    """Refuse what would lead out of its folder: requests go where a URL's dots point to."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise missing(f"there is nothing of the name {'/'.join(segments)!r}")


def choose_kernel_id(*wanted: str | None) -> str:
    """The id for a new kernel: the first of those `wanted` that is fit for it, or a new one.

    Fit is a canonical UUID of version 4.  Servers take others, too, and then cannot find the
    kernel again by some of them, not even to shut it down.
    """
    return next((given for given in wanted if given and _is_uuid4(given)), str(uuid.uuid4()))


def _is_uuid4(text: str) -> bool:
    try:
        return str(uuid.UUID(text, version=4)) == text
    except ValueError:
        return False


class _CutOff(Exception):
    """An answer that did not come whole."""


def _may_change(error: GatewayError) -> bool:
    """Whether the kernel that was not found may be found a little later."""
    cause = error.__cause__
    if isinstance(error, GatewayHTTPError):
        return error.status_code in (404, 429, 500) or error.status_code in TRANSIENT
    if type(error) is GatewayConnectionError and cause is None:
        return False  # JSON of somebody else's
    is_page = str(getattr(cause, "doc", "")).lstrip().startswith("<")  # to log in, most likely
    not_http = isinstance(cause, http.client.BadStatusLine)
    not_http = not_http and not isinstance(cause, http.client.RemoteDisconnected)
    return not (is_page or not_http or isinstance(cause, ssl.SSLCertVerificationError))


def _outcome(failure: GatewayError, lost: GatewayError) -> str:
    """How the last look for a kernel ended, whose start was lost."""
    if isinstance(failure, NoSuchKernel):
        return "it is not there"
    if isinstance(failure, GatewayTimeout):
        return "there was no answer: is it a gateway, or is it overloaded?"
    if str(failure).partition(": ")[2] == str(lost).partition(": ")[2]:
        return "the result was the same"
    return f"at last this came: {failure}"
