"""The start of a kernel, and the search for it if the response was lost."""

from __future__ import annotations

import http.client
import ssl
import uuid
from collections.abc import Callable
from typing import TypeVar

from .adapters import TRANSIENT, Body
from .advice import LOG, WANTS_TLS, for_kernelspec, shown
from .deadline import Deadline
from .errors import (
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
    NoSuchKernelSpec,
)
from .http import Requester
from .logger import Log
from .models import OPTIONAL_KERNEL_MODEL, KernelModel, KernelSpecs, ModelError
from .retry import Backoff
from .timeouts import (
    GIVE_BACK_TIMEOUT,
    RETRY_PAUSE_MAX,
    SEARCH_AWAY,
    SEARCH_PAUSE,
    SEARCH_TIMEOUT,
    SEARCH_TIMEOUT_MIN,
)

__all__ = ["Launch", "choose_kernel_id"]

_T = TypeVar("_T")
_LEAST_ATTEMPTS = 3  # for a kernel whose start was not answered, if there is time
_MAY_RUN = "the kernel may have started anyway: see `jupyter gateway kernels`"


class Launch:
    """One start of a kernel.

    Parameters
    ----------
    http : Requester
        Sends the requests to the gateway.
    kernel_id : str or None
        ID for the kernel.
    list_kernelspecs : callable
        Returns the kernelspecs of a user.

    Attributes
    ----------
    may_run : bool
        True if a kernel with this ID may run although the start failed.
    """

    def __init__(
        self,
        http: Requester,
        kernel_id: str | None,
        list_kernelspecs: Callable[[str | None], KernelSpecs],
    ) -> None:
        self._http, self._gateway = http, http.gateway
        self._log: Log = self._gateway.log
        self._closing = http.closing
        self._kernel_id = kernel_id
        self.may_run = False
        self._list_kernelspecs = list_kernelspecs
        self._launched = Deadline(self._gateway.launch_timeout + self._gateway.launch_timeout_pad)
        self._end = Deadline(2 * self._gateway.effective_request_timeout)

    def start(self, name: str | None, env: dict[str, str], path: str | None) -> KernelModel:
        """Start the kernel; see :meth:`.GatewayREST.start_kernel`."""
        wanted = {"name": name, "env": env, "path": path, "kernel_id": self._kernel_id}
        body = Body.of(wanted)
        try:
            model = self._request(body, OPTIONAL_KERNEL_MODEL)
            if model is not None:
                return model
            # A Jupyter Server in front of another gateway tries to attach to a kernel of this ID,
            # does not find it, and has started none.  Without the ID it starts one, whose ID the
            # other gateway chooses: an Enterprise Gateway takes the one in the environment.
            self._kernel_id = env.get("KERNEL_ID")
            body = Body.of({**wanted, "kernel_id": None})
            return self._request(body, KernelModel)
        except GatewayError as error:
            status = error.status_code if isinstance(error, GatewayHTTPError) else None
            if isinstance(error.__cause__, ModelError):
                self._give_back_unusable(error.__cause__)
            elif body.was_read and status in (None, 502, 504):
                if found := self._find(error):
                    return found
            # All servers answer a plain 500 to an unknown kernelspec.
            elif isinstance(error, GatewayHTTPError) and status == 500 and name is not None:
                self._check_kernelspec(name, env.get("KERNEL_USERNAME"), error)
            raise
        except BaseException:  # a Ctrl-C: the caller never gets this kernel
            if body.was_read and self._kernel_id:
                self.may_run = True
                self._give_back(self._kernel_id, "whose start was interrupted")
            elif body.was_read:
                self._log.warning("the start was interrupted; %s", _MAY_RUN)
            raise

    def _request(self, body: Body, wanted: type[_T]) -> _T:
        url = self._gateway.kernels_url
        return self._http.request("POST", url, body, wanted=wanted, alone=True)

    # --- search ---------------------------------------------------------------------------------

    def _find(self, lost: GatewayError) -> KernelModel | None:
        """Return the kernel whose start was not answered.

        If it is not found, return None and say so in the text and the advice of `lost`.
        """
        if not _may_change(lost) or lost.advice == WANTS_TLS:
            return None  # the other side is not a gateway
        if self._kernel_id is None:
            lost.advice = "; ".join(filter(None, (lost.advice, _MAY_RUN)))
            return None
        self.may_run = True
        url, why = self._gateway.kernels_url, _in_short(lost)
        left = self._launched.left() or 0.0
        self._log.warning(
            "POST %s: %s; now looking for kernel %s%s",
            *(url, why, self._kernel_id, f", for up to {left:.0f} s" if left >= 1 else ""),
        )
        attempts, backoff = 0, self._backoff(SEARCH_PAUSE, RETRY_PAUSE_MAX, self._end)
        away = Deadline(SEARCH_AWAY)
        while True:
            attempts += 1
            try:
                found = self._get(self._kernel_id, attempts)
            except GatewayError as error:
                failure = error
            else:
                self._log.info("kernel %s was started anyway, and is used", self._kernel_id)
                return found
            if not _is_away(failure):
                away = Deadline(SEARCH_AWAY)
            left = self._launched.left() or 0.0
            is_over = not left or away.passed()
            if not _may_change(failure) or (attempts >= _LEAST_ATTEMPTS and is_over):
                break
            if not backoff.wait(at_most=left or None):
                break
        if isinstance(failure.__cause__, ValueError) and not _is_page(failure):
            self._give_back(self._kernel_id, "whose model cannot be used")
        lost.args = (
            f"{lost.args[0]}; looked for kernel {shown(self._kernel_id)} {attempts} times, and"
            f" {_outcome(failure, lost)}",
        )
        lost.advice = "; ".join(filter(None, (lost.advice, _MAY_RUN)))
        return None

    def _backoff(self, first: float, longest: float, deadline: Deadline) -> Backoff:
        return Backoff(first, longest, deadline=deadline, closing=self._closing)

    def _get(self, kernel_id: str, attempts: int) -> KernelModel:
        """Request the kernel's model once, within its share of the time that is left."""
        left = self._end.left() or 0.0
        share = max(SEARCH_TIMEOUT_MIN, left / max(1, _LEAST_ATTEMPTS + 1 - attempts))
        deadline = Deadline(min(SEARCH_TIMEOUT, share))
        return self._http.kernel_request("GET", kernel_id, wanted=KernelModel, deadline=deadline)

    # --- giving it back -------------------------------------------------------------------------

    def _give_back_unusable(self, error: ModelError) -> None:
        """Shut down a kernel that was started, because its model cannot be used."""
        model = error.answer
        given = model.get("id") if isinstance(model, dict) else None
        if error.status != 201 and given is None:
            return  # the other side is not a gateway, or has started none
        fit = isinstance(given, str) and given.isprintable() and len(given) <= 255
        if kernel_id := (given if fit else self._kernel_id):
            self.may_run = True
            self._give_back(str(kernel_id), "whose model cannot be used")

    def _give_back(self, kernel_id: str, which: str) -> None:
        """Shut down a kernel that the caller never gets, if it comes up within seconds."""
        deadline = Deadline(GIVE_BACK_TIMEOUT)
        backoff = self._backoff(SEARCH_PAUSE, SEARCH_PAUSE, deadline)
        while True:
            try:
                self._http.kernel_request("DELETE", kernel_id, wanted=object, deadline=deadline)
            except GatewayError as error:
                if not isinstance(error, NoSuchKernel) or not backoff.wait():
                    text = str(error)
                    self._log.warning("kernel %s, %s, may run anyway: %s", kernel_id, which, text)
                    return
            else:
                self.may_run = False
                self._log.info("kernel %s, %s, was shut down", kernel_id, which)
                return

    # --- why it was not started -----------------------------------------------------------------

    def _check_kernelspec(self, name: str, user: str | None, error: GatewayHTTPError) -> None:
        """Raise NoSuchKernelSpec if that is the cause of a 500, else complete its advice."""
        try:
            known = sorted(self._list_kernelspecs(user)["kernelspecs"])
        except GatewayError:  # the first error says more
            error.advice = f"check that it has a kernelspec '{shown(name)}'; {LOG}"
            return
        if name in known:
            error.advice = (
                f"it has the kernelspec '{shown(name)}', and could not start it: check that its"
                f" program is installed there; {LOG}"
            )
        else:
            raise NoSuchKernelSpec(
                f"POST {error.url}: the gateway has no kernelspec '{shown(name)}'",
                advice=for_kernelspec(name, known),
                name=name,
                method=error.method,
                url=error.url,
                status_code=error.status_code,
                reason=error.reason,
                message=error.message,
            ) from error


def choose_kernel_id(*wanted: str | None) -> str:
    """Return the ID for a new kernel: the first suitable one of those `wanted`, or a new one.

    A canonical UUID of version 4 is suitable.  Servers accept other IDs, too, but cannot find a
    kernel again by some of them, not even to shut it down.
    """
    return next((given for given in wanted if given and _is_uuid4(given)), str(uuid.uuid4()))


def _is_uuid4(text: str) -> bool:
    try:
        return str(uuid.UUID(text, version=4)) == text
    except ValueError:
        return False


def _may_change(error: GatewayError) -> bool:
    """Return True if a kernel that was not found may be found a little later."""
    cause = error.__cause__
    if isinstance(error, GatewayHTTPError):
        return error.status_code in (404, 429, 500) or error.status_code in TRANSIENT
    if isinstance(cause, ModelError):
        return False
    not_http = isinstance(cause, http.client.BadStatusLine)
    not_http = not_http and not isinstance(cause, http.client.RemoteDisconnected)
    return not (_is_page(error) or not_http or isinstance(cause, ssl.SSLCertVerificationError))


def _is_away(error: GatewayError) -> bool:
    """Return True if nothing listens at the gateway's port, or a proxy says so."""
    if isinstance(error, GatewayHTTPError):
        return error.status_code in (502, 503)
    return isinstance(error.__cause__, ConnectionRefusedError)


def _is_page(error: GatewayError) -> bool:
    """Return True if the response is an HTML page, most likely to log in."""
    return str(getattr(error.__cause__, "doc", "")).lstrip().startswith("<")


def _in_short(error: GatewayError) -> str:
    """Return what came instead of a response, in a few words."""
    if isinstance(error, GatewayHTTPError):
        return f"the gateway answered {error.status_code}"
    if isinstance(error, GatewayTimeout):
        return "no response in time"
    return f"the connection was lost ({type(error.__cause__).__name__})"


def _outcome(failure: GatewayError, lost: GatewayError) -> str:
    """Return how the last request for a kernel ended whose start was lost."""
    if isinstance(failure, NoSuchKernel):
        return "it is not there"
    if isinstance(failure, GatewayTimeout):
        return "no response came: it is not a gateway, or it is overloaded"
    if _in_short(failure) == _in_short(lost):
        return "the result was the same"
    return f"at last this came: {failure}"
