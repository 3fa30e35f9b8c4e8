"""Token renewers: what gives a fresh token before each request."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

from traitlets import MetaHasTraits
from traitlets.config import LoggingConfigurable

__all__ = ["GatewayTokenRenewerBase", "NoOpTokenRenewer"]


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
        """The token to use from now on.

        Called before each request and each websocket handshake, by one thread at a time.

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
