"""Token renewers: what gives a fresh token before each request."""

from __future__ import annotations

import threading
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

from traitlets import MetaHasTraits
from traitlets.config import LoggingConfigurable

from .deadline import Deadline
from .locks import Latch, apart

__all__ = ["GatewayTokenRenewerBase", "NoOpTokenRenewer", "Renewal"]


class _Meta(ABCMeta, MetaHasTraits):
    """Of a class with traits that is abstract, too."""


class GatewayTokenRenewerBase(LoggingConfigurable, metaclass=_Meta):
    """The base of token renewers, with the signature of jupyter_server's class of this name.

    A class written for jupyter_server works as well; it need not derive from this one.  The
    ``parent`` is the :class:`.GatewayClient`.
    """

    @abstractmethod
    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        """Return the token to use from now on.

        Called before each request and each websocket handshake, by one thread at a time, which
        is made for the call: a request waits for it no longer than its own timeout.

        Parameters
        ----------
        auth_header_key, auth_scheme, auth_token : str
            The options of these names; `auth_token` is the one used last.
        """


class NoOpTokenRenewer(GatewayTokenRenewerBase):
    """Keeps the token that is configured: the default."""

    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        """`auth_token`, unchanged."""
        return auth_token


class Renewal:
    """A call of a token renewer, in a thread of its own because it may never return.

    Parameters
    ----------
    renew : callable
        What the thread calls.
    """

    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew
        self._error: BaseException | None = None
        self._done = Latch()
        thread = threading.Thread(target=self._run, name="gateway-token", daemon=True)
        apart(thread.start)

    def wait(self, deadline: Deadline) -> bool:
        """Wait until it returned, and raise what it raised; return False if that is not in time."""
        if not self._done.wait(deadline):
            return False
        if self._error is not None:
            raise self._error
        return True

    def _run(self) -> None:
        try:
            self._renew()
        except BaseException as error:  # raised to the thread that waits
            self._error = error
        finally:
            self._done.open()
