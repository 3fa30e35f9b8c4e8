"""The gateway's REST interface: one method per endpoint."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast
from urllib.parse import quote

from .advice import NO_LISTING, shown
from .config import GatewayClient
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
from .models import APIVersion, KernelModel, KernelSpecModel, KernelSpecs, ModelError, SessionModel
from .reaper import Hold

__all__ = ["GatewayREST"]

_LIST_PAUSES = (0.1, 0.2, 0.4, 0.8)  # seconds
_UP_TIMEOUT = 5.0  # seconds for one question to a gateway that is coming up
_UP_PAUSE, _UP_PAUSE_MAX = 0.1, 1.0
_RESTART_PATIENCE = 10.0  # seconds for a gateway that is restarting a kernel itself
_RESTART_PAUSE, _RESTART_PAUSE_MAX = 0.05, 0.5


class GatewayREST:
    """The REST interface of one gateway.  May be used by any number of threads.

    A GET or a DELETE that fails for want of a connection, or with 502, 503 or 504, is repeated,
    at growing intervals or when the gateway's ``Retry-After`` says so.  A POST is repeated only
    where it never reached the gateway: a kernel is not to be started twice, nor the next cell
    to be interrupted.  What took all of its timeout is not repeated.

    Every method raises :exc:`.GatewayConnectionError`, :exc:`.GatewayTimeout`,
    :exc:`.GatewayAuthError` or :exc:`.GatewayHTTPError`, besides what it says itself.

    Parameters
    ----------
    gateway : GatewayClient
        The options.
    """

    def __init__(self, gateway: GatewayClient) -> None:
        self.gateway = gateway
        self._http = Requester(gateway)
        self._log: logging.Logger | logging.LoggerAdapter[Any] = gateway.log

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
        self._http.close()

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until the gateway answers; see :meth:`.GatewayClient.wait_until_up`."""
        deadline, pause, told = Deadline(timeout), _UP_PAUSE, False
        while True:
            try:
                within = deadline.within(_UP_TIMEOUT)
                self._http.request("GET", self.gateway.api_url, deadline=within)
            except GatewayError as error:
                failure = error
            else:
                return
            if not is_coming_up(failure):
                if isinstance(failure, GatewayHTTPError):
                    return  # it is up; if it lets us in, the next request finds out
                raise failure
            if not told:
                limit = "" if timeout is None else f" up to {timeout:g} s"
                self._log.warning("%s; waiting%s for the gateway", str(failure), limit)
                told = True
            left = deadline.left()
            if self._http.pause(pause if left is None else min(pause, left)) or deadline.passed():
                raise failure
            pause = min(2 * pause, _UP_PAUSE_MAX)

    # --- endpoints ------------------------------------------------------------------------------

    def api_version(self) -> APIVersion:
        """Return the gateway's ``version``."""
        answer = self._http.request("GET", self.gateway.api_url, wanted=APIVersion)
        return cast("APIVersion", answer)

    def server_status(self) -> dict[str, Any]:
        """Return what ``/api/status`` says.

        A Jupyter Server has it, a Kernel Gateway answers 404.
        """
        url = f"{self.gateway.api_url}/status"
        return cast("dict[str, Any]", self._http.request("GET", url, wanted=dict[str, Any]))

    def list_kernels(self) -> list[KernelModel]:
        """Return all kernels of the gateway, if it allows that they are listed.

        At the moment when any kernel is started, a server answers 500 (measured with all three: 4
        to 15 % of the lists while forty started, each time for 0.15 s at most).  It is asked again.

        Raises
        ------
        KernelsNotListed
            It does not allow that, and the login is fine.
        """
        list_: Callable[[], list[KernelModel]] = partial(
            self._http.request, "GET", self.gateway.kernels_url, wanted=list[KernelModel]
        )
        for pause in _LIST_PAUSES:
            try:
                return list_()
            except GatewayHTTPError as error:
                if error.status_code == 403 and self._is_let_in():
                    raise self._not_listed(error) from error
                if error.status_code != 500:
                    raise
            self._http.pause(pause)
        return list_()

    def _is_let_in(self) -> bool:
        """Return whether the gateway grants something else than the list of its kernels."""
        try:
            self.list_kernelspecs()
        except GatewayError:
            return False
        return True

    def _not_listed(self, error: GatewayHTTPError) -> KernelsNotListed:
        said = f"the gateway answered 403, {shown(error.reason)}"
        failure = KernelsNotListed(
            f"GET {shown(error.url)}: {said}; {NO_LISTING}",
            method=error.method,
            url=error.url,
            status_code=403,
            reason=error.reason,
            message=error.message,
        )
        failure.advice = NO_LISTING
        return failure

    def get_kernel(self, kernel_id: str, timeout: float | None = None) -> KernelModel:
        """Return a kernel's model, or raise NoSuchKernel.

        Parameters
        ----------
        kernel_id : str
            The kernel.
        timeout : float, optional
            Ask only once, and for so many seconds: the connection and the wait for an answer
            share them.  By default the gateway's options say how long and how often.
        """
        deadline = None if timeout is None else Deadline(timeout)
        how: dict[str, Any] = {"wanted": KernelModel, "deadline": deadline}
        return cast("KernelModel", self._http.kernel_request("GET", kernel_id, **how))

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
        hold : Hold, optional
            The hold of that kernel.  If the start fails, it is released, unless the kernel may run
            all the same.

        Raises
        ------
        NoSuchKernelSpec
            The gateway does not have it.
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
            The kernel.
        timeout : float, optional
            Ask only once, and for so many seconds: see :meth:`get_kernel`.
        """
        if timeout is None:
            self._despite_restart(self._kernel_request, "DELETE", kernel_id)
        else:
            self._http.kernel_request("DELETE", kernel_id, deadline=Deadline(timeout))

    def hold_kernel(
        self, kernel_id: str, delete: Callable[[float], bool], start_timeout: float = 0.0
    ) -> Hold:
        """Have a kernel end with this process, however that ends, unless it is released before.

        Parameters
        ----------
        kernel_id : str
            The kernel.
        delete : callable
            Deletes it at the end of the interpreter: see :class:`.Hold`.
        start_timeout : float
            Seconds that it may still take to start.
        """
        return self._http.hold(self.gateway.kernel_url(kernel_id), delete, start_timeout)

    def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt a kernel, or raise NoSuchKernel."""
        self._despite_restart(self._kernel_request, "POST", kernel_id, "/interrupt")

    def restart_kernel(self, kernel_id: str) -> KernelModel | None:
        """Restart a kernel and return its model, or raise NoSuchKernel.

        The model is None if the gateway answers without one.
        """
        kind = KernelModel | None
        model = self._despite_restart(self._kernel_request, "POST", kernel_id, "/restart", kind)
        return cast("KernelModel | None", model)

    def _kernel_request(
        self, method: str, kernel_id: str, action: str = "", wanted: Any = object
    ) -> Any:
        """Make a request that changes a kernel; a 500 is NoSuchKernel if that is its reason."""
        try:
            return self._http.kernel_request(method, kernel_id, action, wanted=wanted)
        except GatewayHTTPError as error:
            if error.status_code == 500:
                self._raise_if_gone(kernel_id)
            raise

    def _despite_restart(self, request: Callable[..., Any], *how: Any) -> Any:
        """Make a request that changes a kernel; again if the gateway is just restarting it.

        A gateway restarts a kernel that died by itself, and meanwhile answers 500 to whatever is
        to be done with it: it has done nothing of that (Kernel Gateway 3.0.1 and Jupyter Server
        2.21.1, for 40 to 250 ms).
        """
        deadline, pause = Deadline(_RESTART_PATIENCE), _RESTART_PAUSE
        while True:
            try:
                return request(*how)
            except GatewayHTTPError as error:
                if error.status_code != 500:
                    raise
                failure = error
            if deadline.passed() or self._http.pause(pause):
                raise failure
            self._log.debug("%s; asking again", str(failure))
            pause = min(2 * pause, _RESTART_PAUSE_MAX)

    def _raise_if_gone(self, kernel_id: str) -> None:
        try:
            self._http.kernel_request("GET", kernel_id)
        except NoSuchKernel:
            raise
        except GatewayHTTPError:
            pass  # of a gateway that is restarting the kernel

    def list_kernelspecs(self, user: str | None = None) -> KernelSpecs:
        """Return the gateway's ``default`` kernelspec and all ``kernelspecs`` by name.

        Parameters
        ----------
        user : str, optional
            Only those that this user may start, where the gateway makes a difference; by default
            the :attr:`~.GatewayClient.kernel_username`.
        """
        url = self.gateway.kernelspecs_url + self._of_user(user)
        return cast("KernelSpecs", self._http.request("GET", url, wanted=KernelSpecs))

    def get_kernelspec(self, name: str, user: str | None = None) -> KernelSpecModel:
        """Return a kernelspec's ``name``, ``spec`` and ``resources``; or NoSuchKernelSpec."""
        missing = partial(NoSuchKernelSpec, name=name)
        check_segments([name], missing)
        url = f"{self.gateway.kernelspecs_url}/{quote(name, safe='')}{self._of_user(user)}"
        model = self._http.request("GET", url, missing=missing, wanted=KernelSpecModel)
        return cast("KernelSpecModel", model)

    def get_kernelspec_resource(self, name: str, path: str) -> bytes:
        """Return a file of a kernelspec, such as ``logo-64x64.png``; or NoSuchKernelSpec."""
        missing = partial(NoSuchKernelSpec, name=name)
        check_segments(f"{name}/{path}".split("/"), missing)
        url = f"{self.gateway.kernelspecs_resource_url}/{quote(name, safe='')}/{quote(path)}"
        return cast("bytes", self._http.request("GET", url, missing=missing, wanted=bytes))

    def _of_user(self, user: str | None) -> str:
        user = self.gateway.kernel_username if user is None else user
        return f"?user={quote(user, safe='')}" if user else ""

    def list_sessions(self) -> list[SessionModel]:
        """Return all sessions of the server."""
        models = self._http.request("GET", self.gateway.sessions_url, wanted=list[SessionModel])
        return cast("list[SessionModel]", models)

    def create_session(self, wanted: dict[str, Any]) -> SessionModel:
        """Create a session, and start its kernel if it is to have a new one.

        Parameters
        ----------
        wanted : dict
            ``path``, ``name``, ``type`` and ``kernel``, of which an ``id`` or a ``name``.
        """
        body = json.dumps(wanted).encode()
        try:
            url = self.gateway.sessions_url
            model = self._http.request("POST", url, body, wanted=SessionModel)
        except GatewayError as error:
            if isinstance(error.__cause__, ModelError) and not wanted["kernel"].get("id"):
                self._give_back(error.__cause__.answer)
            raise
        return cast("SessionModel", model)

    def _give_back(self, session: Any) -> None:
        """End a session that was created with a kernel, though its model cannot be used."""
        session_id = session.get("id") if isinstance(session, dict) else None
        if isinstance(session_id, str):
            try:
                self.delete_session(session_id)
            except GatewayError as error:
                self._log.warning("a session and its kernel may be left: %s", str(error))

    def update_session(self, session_id: str, changes: dict[str, Any]) -> SessionModel:
        """Change a session, or raise NoSuchSession."""
        model = self._session_request("PATCH", session_id, json.dumps(changes).encode())
        return cast("SessionModel", model)

    def delete_session(self, session_id: str) -> None:
        """End a session and shut its kernel down, or raise NoSuchSession."""
        self._despite_restart(self._session_request, "DELETE", session_id)

    def _session_request(self, method: str, session_id: str, body: bytes | None = None) -> Any:
        check_segments([session_id], NoSuchSession)
        url = f"{self.gateway.sessions_url}/{quote(session_id, safe='')}"
        wanted = SessionModel if body else object
        return self._http.request(method, url, body, missing=NoSuchSession, wanted=wanted)

    # --- for websockets -------------------------------------------------------------------------

    def cookie_header(self, url: str) -> str | None:
        """Return what a websocket handshake with `url` is to send as its ``Cookie``."""
        return self._http.cookie_header(url)

    def keep_cookies(self, url: str, cookies: Iterable[str]) -> None:
        """Keep what a websocket handshake with `url` was answered as its ``Set-Cookie``."""
        self._http.keep_cookies(url, cookies)

    @property
    def was_allowed(self) -> bool:
        """True if the gateway accepted the credentials of the last request that was decided."""
        return self._http.was_allowed
