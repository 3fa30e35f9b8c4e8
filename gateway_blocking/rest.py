"""The gateway's REST API: one method for each endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from .advice import NO_LISTING, for_kernelspec, shown
from .config import GatewayClient
from .contents import Contents
from .deadline import Deadline
from .errors import (
    GatewayError,
    GatewayHTTPError,
    KernelsNotListed,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from .failures import is_coming_up
from .http import Requester, check_segments
from .launch import Launch
from .logger import Log
from .models import (
    OPTIONAL_KERNEL_MODEL,
    APIVersion,
    KernelModel,
    KernelSpecModel,
    KernelSpecs,
    ModelError,
    NewSession,
    ServerStatus,
    SessionChanges,
    SessionModel,
)
from .reaper import Hold
from .retry import Backoff
from .timeouts import (
    KERNEL_LIST_PAUSE,
    KERNEL_LIST_PAUSE_MAX,
    RESTART_PAUSE,
    RESTART_PAUSE_MAX,
    RESTART_TIMEOUT,
    UP_PAUSE,
    UP_PAUSE_MAX,
    UP_TIMEOUT,
)

__all__ = ["GatewayREST"]

_LIST_ATTEMPTS = 4  # after the first

_T = TypeVar("_T")


class GatewayREST:
    """The REST API of one gateway.

    A GET or a DELETE is sent again after a lost connection and after a 502, 503 or 504, at growing
    intervals or when the gateway's ``Retry-After`` says so.  A POST is sent again only if it did
    not reach the gateway: a kernel must not start twice, and the next cell must not be
    interrupted.  A request whose timeout passed is not sent again.

    Every method raises :exc:`.GatewayConnectionError`, :exc:`.GatewayTimeout`,
    :exc:`.GatewayAuthError` or :exc:`.GatewayHTTPError`, in addition to those that it names.  Any
    number of threads may use one GatewayREST.

    Parameters
    ----------
    gateway : GatewayClient
        The options.
    """

    def __init__(self, gateway: GatewayClient) -> None:
        self.gateway = gateway
        self._http = Requester(gateway)
        self._log: Log = gateway.log

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.gateway!r}>"

    def __enter__(self) -> GatewayREST:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept; later requests open new ones.

        The search for a kernel whose start was not answered ends.
        """
        self._http.close()

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until the gateway answers; see :meth:`.GatewayClient.wait_until_up`."""
        deadline, warned = Deadline(timeout), False
        backoff = self._backoff(UP_PAUSE, UP_PAUSE_MAX, deadline)
        while True:
            try:
                within = deadline.within(UP_TIMEOUT)
                self._http.request("GET", self.gateway.api_url, wanted=object, deadline=within)
            except GatewayError as error:
                if not is_coming_up(error):
                    if isinstance(error, GatewayHTTPError):
                        return  # it is up; the next request finds out if it accepts the login
                    raise
                if not warned:
                    limit = "" if timeout is None else f" up to {timeout:g} s"
                    self._log.warning("%s; waiting%s for the gateway", str(error), limit)
                    warned = True
                if not backoff.wait() or deadline.passed():
                    raise
            else:
                return

    def _backoff(self, first: float, longest: float, deadline: Deadline) -> Backoff:
        return Backoff(first, longest, deadline=deadline, closing=self._http.closing)

    # --- endpoints ------------------------------------------------------------------------------

    def api_version(self) -> APIVersion:
        """Return the gateway's ``version``."""
        return self._http.request("GET", self.gateway.api_url, wanted=APIVersion)

    def server_status(self) -> ServerStatus:
        """Return the server's ``/api/status``, for which a Kernel Gateway answers 404."""
        return self._http.request("GET", f"{self.gateway.api_url}/status", wanted=ServerStatus)

    def list_kernels(self) -> list[KernelModel]:
        """Return all kernels of the gateway, if it permits listing them.

        A server may answer 500 while any kernel starts (measured with all three servers: 4 to 15 %
        of the lists while forty kernels started, each time for 0.15 s at most).  The request is
        sent again then.

        Raises
        ------
        KernelsNotListed
            The gateway does not permit listing, and the login is valid.
        """
        backoff = Backoff(
            KERNEL_LIST_PAUSE,
            KERNEL_LIST_PAUSE_MAX,
            attempts=_LIST_ATTEMPTS,
            closing=self._http.closing,
        )
        while True:
            try:
                url = self.gateway.kernels_url
                return self._http.request("GET", url, wanted=list[KernelModel])
            except GatewayHTTPError as error:
                if error.status_code == 403 and self._is_let_in():
                    raise _kernels_not_listed(error) from error
                if error.status_code != 500 or not backoff.wait():
                    raise

    def _is_let_in(self) -> bool:
        """Return True if the gateway permits another request than the list of its kernels."""
        try:
            self.list_kernelspecs()
        except GatewayError:
            return False
        return True

    def get_kernel(self, kernel_id: str, timeout: float | None = None) -> KernelModel:
        """Return a kernel's model, or raise NoSuchKernel.

        Parameters
        ----------
        kernel_id : str
            ID of the kernel.
        timeout : float, optional
            Seconds for the connection and the response together; the request is then sent only
            once.  By default the gateway's options say how long to wait and how often to send it.
        """
        deadline = None if timeout is None else Deadline(timeout)
        return self._http.kernel_request("GET", kernel_id, wanted=KernelModel, deadline=deadline)

    def start_kernel(
        self,
        name: str | None,
        env: dict[str, str],
        *,
        path: str | None = None,
        kernel_id: str | None = None,
        hold: Hold | None = None,
    ) -> KernelModel:
        """Start a kernel.

        The request is sent once.  If it may have reached the gateway and the response was lost,
        the kernel is searched for by its `kernel_id` until a start would have timed out, and is
        returned if it is found.  The request is not sent again, because a server that is still
        starting the first kernel would start a second one (measured with all three servers).

        Parameters
        ----------
        name : str or None
            Name of the kernelspec; None for the gateway's default.
        env : dict
            Environment of the kernel.  It is always sent: a Kernel Gateway may give a kernel that
            comes without one the environment of another kernel.
        path : str, optional
            Working directory, relative to the server's root.
        kernel_id : str, optional
            ID for the kernel, on servers that let it be chosen: a Jupyter Server and a Kernel
            Gateway read it here, an Enterprise Gateway as ``KERNEL_ID`` in `env`.  The response
            says which ID the kernel got.  See :func:`choose_kernel_id`.
        hold : Hold, optional
            Hold of that kernel.  If the start fails, it is released, unless the kernel may run
            anyway.

        Raises
        ------
        NoSuchKernelSpec
            The gateway does not have the kernelspec.
        """
        launch = Launch(self._http, kernel_id, self.list_kernelspecs)
        try:
            return launch.start(name, env, path)
        except BaseException:
            if hold is not None and not launch.may_run:
                hold.release()
            raise

    def delete_kernel(self, kernel_id: str, timeout: float | None = None) -> None:
        """Shut a kernel down, or raise NoSuchKernel.

        Parameters
        ----------
        kernel_id : str
            ID of the kernel.
        timeout : float, optional
            Seconds for all attempts; by default the options say how long to wait.
        """
        deadline = None if timeout is None else Deadline(timeout)
        self._change_kernel("DELETE", kernel_id, "", object, deadline)

    def hold_kernel(
        self, kernel_id: str, delete: Callable[[float], bool], start_timeout: float = 0.0
    ) -> Hold:
        """Shut a kernel down when this process ends in any way, unless the hold is released.

        Parameters
        ----------
        kernel_id : str
            ID of the kernel.
        delete : callable
            Deletes the kernel when the interpreter ends: see :class:`.Hold`.
        start_timeout : float
            Seconds that the kernel may still take to start.
        """
        return self._http.hold(self.gateway.kernel_url(kernel_id), delete, start_timeout)

    def interrupt_kernel(self, kernel_id: str, timeout: float | None = None) -> None:
        """Interrupt a kernel, or raise NoSuchKernel.

        Parameters
        ----------
        kernel_id : str
            ID of the kernel.
        timeout : float, optional
            Seconds for all attempts; by default the options say how long to wait.
        """
        deadline = None if timeout is None else Deadline(timeout)
        self._change_kernel("POST", kernel_id, "/interrupt", object, deadline)

    def restart_kernel(self, kernel_id: str) -> KernelModel | None:
        """Restart a kernel and return its model, or raise NoSuchKernel.

        The model is None if the gateway answers without one.
        """
        return self._change_kernel("POST", kernel_id, "/restart", OPTIONAL_KERNEL_MODEL)

    def _change_kernel(
        self,
        method: str,
        kernel_id: str,
        action: str,
        wanted: type[_T],
        deadline: Deadline | None = None,
    ) -> _T:
        """Send a request that changes a kernel; a 500 becomes NoSuchKernel if that is its cause."""

        def change() -> _T:
            try:
                return self._http.kernel_request(
                    method, kernel_id, action, wanted=wanted, deadline=deadline
                )
            except GatewayHTTPError as error:
                if error.status_code == 500:
                    self._raise_if_gone(kernel_id, deadline)
                raise

        return self._retry_during_restart(change, deadline)

    def _retry_during_restart(
        self, change: Callable[[], _T], deadline: Deadline | None = None
    ) -> _T:
        """Call `change`, and call it again while the gateway restarts the kernel.

        A gateway restarts a kernel that died.  Until that is done, it answers 500 to requests that
        change the kernel, and does not do what they ask (Kernel Gateway 3.0.1 and Jupyter Server
        2.21.1, for 40 to 250 ms).
        """
        until = (deadline or Deadline(None)).within(RESTART_TIMEOUT)
        backoff = self._backoff(RESTART_PAUSE, RESTART_PAUSE_MAX, until)
        while True:
            try:
                return change()
            except GatewayHTTPError as error:
                if error.status_code != 500 or not backoff.wait():
                    raise
                self._log.debug("%s; sending it again", str(error))

    def _raise_if_gone(self, kernel_id: str, deadline: Deadline | None) -> None:
        try:
            self._http.kernel_request("GET", kernel_id, wanted=object, deadline=deadline)
        except NoSuchKernel:
            raise
        except GatewayHTTPError:
            pass  # the gateway is restarting the kernel

    def list_kernelspecs(self, user: str | None = None) -> KernelSpecs:
        """Return the gateway's ``default`` kernelspec and all ``kernelspecs`` by name.

        Parameters
        ----------
        user : str, optional
            User whose kernelspecs are listed, if the gateway distinguishes users; by default the
            :attr:`~.GatewayClient.kernel_username`.
        """
        url = self.gateway.kernelspecs_url + self._user_query(user)
        return self._http.request("GET", url, wanted=KernelSpecs)

    def get_kernelspec(self, name: str, user: str | None = None) -> KernelSpecModel:
        """Return a kernelspec's ``name``, ``spec`` and ``resources``; or NoSuchKernelSpec."""
        not_found = partial(NoSuchKernelSpec, name=name)
        check_segments([name], not_found)
        url = f"{self.gateway.kernelspecs_url}/{quote(name, safe='')}{self._user_query(user)}"
        try:
            return self._http.request("GET", url, not_found=not_found, wanted=KernelSpecModel)
        except NoSuchKernelSpec as error:
            url = shown(error.url.rpartition("/")[0])
            error.args = (f"GET {url}: the gateway has no kernelspec '{shown(name)}'",)
            with suppress(GatewayError):  # the list is only advice
                error.advice = for_kernelspec(name, self.list_kernelspecs(user)["kernelspecs"])
            raise

    def get_kernelspec_resource(self, name: str, path: str) -> bytes:
        """Return a file of a kernelspec, such as ``logo-64x64.png``; or NoSuchKernelSpec."""
        not_found = partial(NoSuchKernelSpec, name=name)
        check_segments(f"{name}/{path}".split("/"), not_found)
        url = f"{self.gateway.kernelspecs_resource_url}/{quote(name, safe='')}/{quote(path)}"
        return self._http.request("GET", url, not_found=not_found, wanted=bytes)

    def _user_query(self, user: str | None) -> str:
        user = self.gateway.kernel_username if user is None else user
        return f"?user={quote(user, safe='')}" if user else ""

    def list_sessions(self) -> list[SessionModel]:
        """Return all sessions of the server."""
        return self._http.request("GET", self.gateway.sessions_url, wanted=list[SessionModel])

    def create_session(self, wanted: NewSession) -> SessionModel:
        """Create a session, and start its kernel unless `wanted` has the ID of one.

        Parameters
        ----------
        wanted : dict
            ``path``, ``name``, ``type`` and ``kernel``, which has an ``id`` or a ``name``.
        """
        body = json.dumps(wanted).encode()
        try:
            return self._http.request("POST", self.gateway.sessions_url, body, wanted=SessionModel)
        except GatewayError as error:
            if isinstance(error.__cause__, ModelError) and not wanted["kernel"].get("id"):
                self._delete_unusable(error.__cause__.answer)
            raise

    def _delete_unusable(self, session: object) -> None:
        """Delete a session that was created with a kernel, because its model cannot be used."""
        session_id = session.get("id") if isinstance(session, dict) else None
        if isinstance(session_id, str):
            try:
                self.delete_session(session_id)
            except GatewayError as error:
                self._log.warning("a session and its kernel may be left: %s", str(error))

    def update_session(self, session_id: str, changes: SessionChanges) -> SessionModel:
        """Change a session and return its model, or raise NoSuchSession."""
        body = json.dumps(changes).encode()
        url = self._session_url(session_id)
        return self._http.request("PATCH", url, body, not_found=NoSuchSession, wanted=SessionModel)

    def delete_session(self, session_id: str) -> None:
        """Delete a session and shut its kernel down, or raise NoSuchSession."""
        request = partial(self._http.request, not_found=NoSuchSession, wanted=object)
        url = self._session_url(session_id)
        self._retry_during_restart(lambda: request("DELETE", url))

    def _session_url(self, session_id: str) -> str:
        check_segments([session_id], NoSuchSession)
        return f"{self.gateway.sessions_url}/{quote(session_id, safe='')}"

    def contents(self, timeout: float | None = None) -> Contents:
        """Return the files of the server, with a timeout for each request."""
        return Contents(self._http, f"{self.gateway.api_url}/contents", timeout)

    # --- for websockets -------------------------------------------------------------------------

    def cookie_header(self, url: str) -> str | None:
        """Return the ``Cookie`` header for a websocket handshake with `url`."""
        return self._http.cookie_header(url)

    def keep_cookies(self, url: str, cookies: Iterable[str]) -> None:
        """Keep the ``Set-Cookie`` headers that a websocket handshake with `url` got."""
        self._http.keep_cookies(url, cookies)

    @property
    def was_allowed(self) -> bool:
        """True if the gateway accepted the credentials of the last request."""
        return self._http.was_allowed


def _kernels_not_listed(error: GatewayHTTPError) -> KernelsNotListed:
    return KernelsNotListed(
        f"GET {shown(error.url)}: the gateway answered 403, {shown(error.reason)}",
        advice=NO_LISTING,
        method=error.method,
        url=error.url,
        status_code=403,
        reason=error.reason,
        message=error.message,
    )
