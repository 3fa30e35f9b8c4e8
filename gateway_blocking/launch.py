"""The start of a kernel: asked for once, looked for if the answer was lost, or given back."""

from __future__ import annotations

import http.client
import logging
import ssl
import uuid
from collections.abc import Callable
from typing import Any, cast

from .adapters import BACKOFF_MAX, TRANSIENT, Body
from .advice import LOG, WANTS_TLS, shown
from .deadline import Deadline
from .errors import (
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
    NoSuchKernelSpec,
)
from .http import Requester
from .models import KernelModel, KernelSpecs, ModelError

__all__ = ["Launch", "choose_kernel_id"]

_LOOKS = 3  # for a kernel whose start was not answered: at least so many, if there is time
_LOOK_PAUSE = 0.5  # seconds from the first to the second, doubled from look to look
_LOOK_TIMEOUT = 5.0
_LEAST_LOOK = 0.05
_GIVE_BACK_TIMEOUT = 5.0
_SEE = ": see `jupyter gateway kernels`"


class Launch:
    """One start of a kernel, with the search for it.

    Parameters
    ----------
    http : Requester
        The requests to the gateway.
    kernel_id : str or None
        The ID that the kernel is to have.
    list_kernelspecs : callable
        Asks for the kernelspecs of a user.

    Attributes
    ----------
    may_run : bool
        Whether a kernel of this ID may run although the start failed.
    """

    def __init__(
        self,
        http: Requester,
        kernel_id: str | None,
        list_kernelspecs: Callable[[str | None], KernelSpecs],
    ) -> None:
        self._http, self._gateway = http, http.gateway
        self._log: logging.Logger | logging.LoggerAdapter[Any] = self._gateway.log
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
            model = self._ask(body, KernelModel | None)
            if model is None:
                # A Jupyter Server in front of a gateway takes the ID for one to attach to, does
                # not find it, and has started none.  Some gateways read this one.
                self._kernel_id = env.get("KERNEL_ID")
                body = Body.of({**wanted, "kernel_id": None})
                model = self._ask(body, KernelModel)
            return cast("KernelModel", model)
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
        except BaseException:  # a Ctrl-C: no caller will ever hear of this kernel
            if body.was_read and self._kernel_id:
                self.may_run = True
                self._give_back(self._kernel_id, "whose start was interrupted")
            raise

    def _ask(self, body: Body, wanted: Any) -> Any:
        url = self._gateway.kernels_url
        return self._http.request("POST", url, body, wanted=wanted, alone=True)

    # --- looking for it -------------------------------------------------------------------------

    def _find(self, lost: GatewayError) -> KernelModel | None:
        """Return the kernel whose start was not answered; None, and `lost` says more, if none."""
        if not _may_change(lost) or lost.advice == WANTS_TLS:
            return None  # whatever that was, it is not a gateway
        if self._kernel_id is None:
            lost.args = (f"{lost}; a kernel may have been started all the same{_SEE}",)
            return None
        self.may_run = True
        url, why = self._gateway.kernels_url, _in_short(lost)
        self._log.warning("POST %s: %s; now looking for kernel %s", url, why, self._kernel_id)
        looks, pause = 0, _LOOK_PAUSE
        while True:
            looks += 1
            try:
                found = self._look(self._kernel_id, looks)
            except GatewayError as error:
                failure = error
            else:
                self._log.info("kernel %s was started all the same, and is used", self._kernel_id)
                return found
            left = self._launched.left() or 0.0
            if not _may_change(failure) or (looks >= _LOOKS and not left) or self._end.passed():
                break
            pause_now = min(pause, left or pause, self._end.left() or 0.0)
            if self._closing.wait(Deadline(pause_now)):
                break
            pause = min(2 * pause, BACKOFF_MAX)
        if isinstance(failure.__cause__, ValueError) and not _is_page(failure):
            self._give_back(self._kernel_id, "whose model cannot be used")
        lost.args = (
            f"{lost}; looked for kernel {shown(self._kernel_id)} {looks} times, and"
            f" {_outcome(failure, lost)}; it may run all the same, with this id, or another on a"
            f" server that does not let it be chosen{_SEE}",
        )
        return None

    def _look(self, kernel_id: str, looks: int) -> KernelModel:
        """Ask for the kernel once, in its share of the time that is left."""
        left = self._end.left() or 0.0
        share = max(_LEAST_LOOK, left / max(1, _LOOKS + 1 - looks))
        deadline = Deadline(min(_LOOK_TIMEOUT, share))
        model = self._http.kernel_request("GET", kernel_id, wanted=KernelModel, deadline=deadline)
        return cast("KernelModel", model)

    # --- giving it back -------------------------------------------------------------------------

    def _give_back_unusable(self, error: ModelError) -> None:
        """Shut down a kernel that was started, though its model cannot be used."""
        model = error.answer
        given = model.get("id") if isinstance(model, dict) else None
        if error.status != 201 and given is None:
            return  # whatever that was, it is not a gateway
        fit = isinstance(given, str) and given.isprintable() and len(given) <= 255
        if kernel_id := (given if fit else self._kernel_id):
            self.may_run = True
            self._give_back(str(kernel_id), "whose model cannot be used")

    def _give_back(self, kernel_id: str, which: str) -> None:
        """Shut a kernel down that no caller will hear of, if it comes up within seconds."""
        deadline = Deadline(_GIVE_BACK_TIMEOUT)
        while True:
            try:
                self._http.kernel_request("DELETE", kernel_id, deadline=deadline)
            except NoSuchKernel as error:
                failure: GatewayError = error
            except GatewayError as error:
                failure = error
                break
            else:
                self.may_run = False
                self._log.info("kernel %s, %s, was shut down", kernel_id, which)
                return
            if deadline.passed() or self._closing.wait(Deadline(_LOOK_PAUSE)):
                break
        self._log.warning("kernel %s, %s, may run all the same: %s", kernel_id, which, failure)

    # --- why it was not started -----------------------------------------------------------------

    def _check_kernelspec(self, name: str, user: str | None, error: GatewayHTTPError) -> None:
        try:
            failed = str(error).removesuffix(f"; {error.advice}")
            known = sorted(self._list_kernelspecs(user)["kernelspecs"])
        except GatewayError:  # what the gateway said first says more
            error.args = (f"{failed}; has it a kernelspec '{shown(name)}'? {LOG}",)
            return
        if name in known:
            error.args = (
                f"{failed}; it has the kernelspec '{shown(name)}', and could not start it: is the"
                f" program of it installed there? {LOG}",
            )
        else:
            raise NoSuchKernelSpec(
                f"POST {error.url}: the gateway has no kernelspec '{shown(name)}';"
                f" it has {shown(', '.join(known), 1000) or 'none'}",
                name=name,
                method=error.method,
                url=error.url,
                status_code=error.status_code,
                reason=error.reason,
                message=error.message,
            ) from error


def choose_kernel_id(*wanted: str | None) -> str:
    """Return the ID for a new kernel: the first of those `wanted` that is fit for it, or a new one.

    Fit is a canonical UUID of version 4.  Servers take others, too, and then cannot find the
    kernel again by some of them, not even to shut it down.
    """
    return next((given for given in wanted if given and _is_uuid4(given)), str(uuid.uuid4()))


def _is_uuid4(text: str) -> bool:
    try:
        return str(uuid.UUID(text, version=4)) == text
    except ValueError:
        return False


def _may_change(error: GatewayError) -> bool:
    """Return whether the kernel that was not found may be found a little later."""
    cause = error.__cause__
    if isinstance(error, GatewayHTTPError):
        return error.status_code in (404, 429, 500) or error.status_code in TRANSIENT
    if isinstance(cause, ModelError):
        return False
    not_http = isinstance(cause, http.client.BadStatusLine)
    not_http = not_http and not isinstance(cause, http.client.RemoteDisconnected)
    return not (_is_page(error) or not_http or isinstance(cause, ssl.SSLCertVerificationError))


def _is_page(error: GatewayError) -> bool:
    """Return whether the answer is a page of HTML, to log in most likely."""
    return str(getattr(error.__cause__, "doc", "")).lstrip().startswith("<")


def _in_short(error: GatewayError) -> str:
    """Return what came instead of an answer, in a few words."""
    if isinstance(error, GatewayHTTPError):
        return f"the gateway answered {error.status_code}"
    if isinstance(error, GatewayTimeout):
        return "no answer in time"
    return f"the connection was lost ({type(error.__cause__).__name__})"


def _outcome(failure: GatewayError, lost: GatewayError) -> str:
    """Return how the last look for a kernel ended, whose start was lost."""
    if isinstance(failure, NoSuchKernel):
        return "it is not there"
    if isinstance(failure, GatewayTimeout):
        return "there was no answer: is it a gateway, or is it overloaded?"
    if _in_short(failure) == _in_short(lost):
        return "the result was the same"
    return f"at last this came: {failure}"
