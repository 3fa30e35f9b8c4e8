"""The gateway of managers and clients, and the methods that a remote kernel does not support."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, NotRequired, TypedDict

from jupyter_client.connect import ConnectionFileMixin
from jupyter_client.session import Session, new_id
from traitlets import Instance, default
from traitlets.config import LoggingConfigurable

from .config import GatewayClient, reject_unknown_kwargs
from .errors import RemoteNotSupported
from .logger import Log, default_logger
from .rest import GatewayREST

__all__ = [
    "ConnectionInfo",
    "GatewayMixin",
    "RemoteKernelMixin",
    "reject_connection_file",
    "unsupported",
]


def unsupported(name: str, why: str) -> Callable[..., NoReturn]:
    """Return a method that raises :exc:`.RemoteNotSupported`.

    Parameters
    ----------
    name : str
        Name of the method.
    why : str
        The reason, for the error's text.
    """

    def method(self: object, *args: Any, **kwargs: Any) -> NoReturn:
        raise RemoteNotSupported(f"{type(self).__name__}.{name}() is not possible: {why}")

    method.__name__ = name
    method.__doc__ = f"Not possible, because {why}."
    return method


_NO_SOCKETS = "a kernel behind a gateway has no ZMQ sockets to connect to, only its websocket"
_NO_FILE = "a kernel behind a gateway has no connection file, only its ID: pass kernel_id="


def reject_connection_file(class_name: str, kwargs: Mapping[str, object]) -> None:
    """Raise RemoteNotSupported if a client is to be made of a connection file, without an ID."""
    if kwargs.get("connection_file") and not kwargs.get("kernel_id"):
        raise RemoteNotSupported(f"{class_name}(connection_file=) is not possible: {_NO_FILE}")


_NO_TRAITS = ("owns_kernel",)  # keywords of jupyter_client's KernelManager that are not traits


class ConnectionInfo(TypedDict):
    """The data that a client needs to connect to a kernel."""

    kernel_id: str
    url: str
    session: NotRequired[Session]


class GatewayMixin(LoggingConfigurable):
    """Base class of everything that sends requests to a gateway.

    Parameters
    ----------
    gateway : GatewayClient, optional
        The gateway's options.  Instead, any of them may be passed by its own name:
        ``url="https://..."``, ``auth_token="..."``.  The others come from the configuration
        (``c.GatewayClient``), or else from the ``JUPYTER_GATEWAY_*`` variables.
    """

    gateway = Instance(GatewayClient, help="The options of the gateway.")
    rest = Instance(GatewayREST, help="The gateway's REST interface.")

    def __init__(self, **kwargs: Any) -> None:
        names = GatewayClient.class_traits(config=True)
        options = {name: kwargs.pop(name) for name in list(kwargs) if name in names}
        if options and "gateway" in kwargs:
            raise TypeError(f"pass either gateway= or {', '.join(sorted(options))}=, not both")
        reject_unknown_kwargs(type(self).__name__, kwargs, (*self.trait_names(), *_NO_TRAITS))
        self._owns_rest = "rest" not in kwargs
        super().__init__(**kwargs)
        # Now, so that a malformed option is an error here.
        if options or not self.trait_has_value("gateway"):
            self.gateway = GatewayClient(config=self.config, log=self.log, **options)

    @default("log")
    def _default_log(self) -> Log:
        return default_logger(self.parent)

    @default("gateway")
    def _default_gateway(self) -> GatewayClient:
        # Not parent=self: a dropped client must be collected at once, and not by the next cycle
        # of garbage collection.
        return GatewayClient(config=self.config, log=self.log)

    @default("rest")
    def _default_rest(self) -> GatewayREST:
        return GatewayREST(self.gateway)

    def _close_rest(self) -> None:
        """Close the connections of REST, unless another object shares it."""
        if self._owns_rest and self.trait_has_value("rest"):
            self.rest.close()


class RemoteKernelMixin(GatewayMixin, ConnectionFileMixin):
    """Base class of managers and clients of one remote kernel, without ports and files.

    Parameters
    ----------
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_id: Any  # a trait of both

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} belongs to its process, and cannot be pickled:"
            " send its kernel_id, and make another one there"
        )

    def get_connection_info(  # type: ignore[override]  # other keys: there are no ports
        self, session: bool = False
    ) -> ConnectionInfo:
        """Return what a client needs: ``kernel_id`` and ``url``; there are no ports.

        The URL may contain a login, as jupyter_client's result contains the key.

        Parameters
        ----------
        session : bool
            Add ``session``, a new session with its own ID.  A gateway distinguishes the clients of
            one kernel by it, and drops the older one of two with the same ID.
        """
        info: ConnectionInfo = {"kernel_id": self.kernel_id or "", "url": self.gateway.url or ""}
        if session:
            info["session"] = self.session.clone()
            info["session"].session = new_id()
        return info

    ports = property(lambda self: [], doc="An empty list: a remote kernel has no ports.")

    connect_shell = unsupported("connect_shell", _NO_SOCKETS)
    connect_iopub = unsupported("connect_iopub", _NO_SOCKETS)
    connect_stdin = unsupported("connect_stdin", _NO_SOCKETS)
    connect_hb = unsupported("connect_hb", _NO_SOCKETS)
    connect_control = unsupported("connect_control", _NO_SOCKETS)
    write_connection_file = unsupported("write_connection_file", _NO_FILE)
    load_connection_file = unsupported("load_connection_file", _NO_FILE)
    load_connection_info = unsupported("load_connection_info", _NO_FILE)
