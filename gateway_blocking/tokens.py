"""Token renewers: classes of users that return the token for each request."""

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
    """Metaclass of an abstract class with traits."""


class GatewayTokenRenewerBase(LoggingConfigurable, metaclass=_Meta):
    """Base class of token renewers, with the signature of jupyter_server's class of this name.

    A class that was written for jupyter_server works, too; it need not derive from this one.  The
    ``parent`` is the :class:`.GatewayClient`.
    """

    @abstractmethod
    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        """Return the token to use from now on.

        This is called before each request and each websocket handshake, by one thread at a time.
        The thread exists only for the call: a request waits for it no longer than its timeout.

        Parameters
        ----------
        auth_header_key, auth_scheme, auth_token : str
            The options of these names; `auth_token` is the last token that was used.
        """


class NoOpTokenRenewer(GatewayTokenRenewerBase):
    """The default renewer, which keeps the configured token."""

    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        """Return `auth_token`."""
        return auth_token


class Renewal:
    """A call of a token renewer, in a thread of its own because it may never return.

    Parameters
    ----------
    renew : callable
        Function that the thread calls.
    """

    def __init__(self, renew: Callable[[], object]) -> None:
        self._renew = renew
        self._error: BaseException | None = None
        self._done = Latch()
        thread = threading.Thread(target=self._run, name="gateway-token", daemon=True)
        apart(thread.start)

    def wait(self, deadline: Deadline) -> bool:
        """Wait until the call returns, and raise its error; return False if the deadline passes."""
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
