"""Credentials of requests: basic authentication, a token, or a token from a renewer."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from traitlets import HasTraits

from .advice import option
from .deadline import LONGEST, Deadline
from .errors import GatewayTimeout
from .forking import register_after_fork
from .locks import Lock
from .tokens import NoOpTokenRenewer, Renewal

if TYPE_CHECKING:
    from .config import GatewayClient

__all__ = ["Credentials"]

_RENEWER = option("gateway_token_renewer_class")


class Credentials:
    """The credentials of one gateway.

    Any number of threads may use one object.

    Parameters
    ----------
    options : GatewayClient
        The options.  A renewed token becomes their ``auth_token``.

    Attributes
    ----------
    failure : str
        Error of the token's renewer at the last request; "" for none.
    """

    def __init__(self, options: GatewayClient) -> None:
        self._options = options
        self._renewer: Any = None  # an object of the user's class, made at the first request
        self.failure = ""
        self._after_fork()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Make the lock anew in a child process, where no thread would release it."""
        self._lock = Lock()  # one call of the renewer at a time
        self._renewal: Renewal | None = None  # the call that has not returned

    def headers(self, timeout: float | None) -> dict[str, str]:
        """Return the headers of one request; see :meth:`.GatewayClient.request_headers`."""
        headers: dict[str, str] = json.loads(self._options.headers or "{}")
        own = {name.lower() for name in headers}
        login = self._login(timeout)
        return headers | {name: value for name, value in login.items() if name.lower() not in own}

    def _login(self, timeout: float | None) -> dict[str, str]:
        options = self._options
        user, password = options.http_user, options.http_pwd
        if not user:
            parts = urlsplit(options.url or "")
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user:
            login = f"{user}:{password or ''}".encode()
            return {"Authorization": "Basic " + b64encode(login).decode()}
        token = self._renewed_token(timeout)
        if not token:
            return {}
        name = options.auth_header_key or "Authorization"
        return {name: f"{options.auth_scheme or ''} {token}".strip()}

    @property
    def note(self) -> str:
        """Advice for a login that is refused, from what is known of the token's origin."""
        for name in ("auth_token", "http_pwd"):
            value = getattr(self._options, name) or ""
            if value[:1] in ("'", '"') and value[:1] == value[-1:]:
                return (
                    f"{option(name)} has quotes around it, which are sent, too: leave them out"
                    " (Docker's --env-file passes them on)"
                )
        if self.failure or self._renewer is None:
            return self.failure
        given = "the" if self._options.auth_token else "no"
        return f"{self._renewer_name}, of {_RENEWER}, gave {given} token"

    # --- renewal --------------------------------------------------------------------------------

    @property
    def _renewer_name(self) -> str:
        name: str = self._options.gateway_token_renewer_class.__name__
        return name

    def _renewed_token(self, timeout: float | None) -> str:
        options = self._options
        if options.gateway_token_renewer_class is NoOpTokenRenewer:
            return options.auth_token or ""
        timeout = options.effective_request_timeout if timeout is None else timeout
        deadline = Deadline(min(timeout, LONGEST))
        late = GatewayTimeout(
            f"no token within {deadline.timeout:g} s: {self._renewer_name}.get_token(), of"
            f" {_RENEWER}, has not returned"
        )
        with self._lock.within(deadline, late):
            # A call that an earlier request gave up goes on, and two must not run at once.
            if self._renewal is not None and not self._renewal.wait(deadline):
                raise late
            self._renewal = Renewal(self._renew)
            if not self._renewal.wait(deadline):
                raise late
            self._renewal = None
            return options.auth_token or ""

    def _renew(self) -> None:
        """Replace the token by the renewer's, if it gives one."""
        options = self._options
        token = options.auth_token or ""
        try:
            if self._renewer is None:
                cls = options.gateway_token_renewer_class
                arguments = {"parent": options} if issubclass(cls, HasTraits) else {}
                self._renewer = cls(**arguments)
            options.auth_token = self._renewer.get_token(
                options.auth_header_key, options.auth_scheme, token
            )
            self.failure = ""
        except Exception as error:  # any error of a user's class; the old token may still be valid
            kind = type(error).__name__  # its text may contain the token
            failure = f"the token's renewer failed: {self._renewer_name} raised {kind}"
            if failure != self.failure:  # it is called for each request, and may fail for each
                which = "with the old one" if token else "without one"
                options.log.warning("the token was not renewed (%s), going on %s", kind, which)
            self.failure = failure
