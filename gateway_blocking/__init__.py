"""jupyter_client's blocking API for kernels behind a Jupyter gateway.

:class:`BlockingGatewayKernelManager` and :class:`BlockingGatewayKernelClient` take the place of
jupyter_client's ``KernelManager`` and ``BlockingKernelClient``; the kernel runs behind a Jupyter
Kernel Gateway, an Enterprise Gateway or a Jupyter Server.
"""

from typing import TYPE_CHECKING

from ._version import __version__
from .client import BlockingGatewayKernelClient
from .config import GatewayClient
from .deprecation import deprecated_names
from .errors import (
    DeadKernelError,
    ExecutionError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayError,
    GatewayFull,
    GatewayHTTPError,
    GatewayTimeout,
    KernelGone,
    KernelNotReady,
    KernelRestarted,
    KernelsNotListed,
    MessageTooLarge,
    NoKernel,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
    PoolClosed,
    PoolSetupFailed,
    PoolTimeout,
    RemoteNotSupported,
    ReplyLost,
    WireError,
)
from .kernelspec import BlockingGatewayKernelSpecManager
from .manager import BlockingGatewayKernelManager, run_kernel, start_new_kernel
from .multikernelmanager import BlockingGatewayMultiKernelManager
from .sessions import BlockingGatewaySessionManager
from .tokens import GatewayTokenRenewerBase, NoOpTokenRenewer

__all__ = [
    "BlockingGatewayKernelClient",
    "BlockingGatewayKernelManager",
    "BlockingGatewayKernelSpecManager",
    "BlockingGatewayMultiKernelManager",
    "BlockingGatewaySessionManager",
    "DeadKernelError",
    "ExecutionError",
    "GatewayAuthError",
    "GatewayClient",
    "GatewayConnectionClosed",
    "GatewayConnectionError",
    "GatewayError",
    "GatewayFull",
    "GatewayHTTPError",
    "GatewayTimeout",
    "GatewayTokenRenewerBase",
    "KernelGone",
    "KernelNotReady",
    "KernelPool",
    "KernelRestarted",
    "KernelsNotListed",
    "MessageTooLarge",
    "NoKernel",
    "NoOpTokenRenewer",
    "NoSuchKernel",
    "NoSuchKernelSpec",
    "NoSuchSession",
    "PoolClosed",
    "PoolSetupFailed",
    "PoolTimeout",
    "RemoteNotSupported",
    "ReplyLost",
    "WireError",
    "__version__",
    "run_kernel",
    "start_new_kernel",
]

if TYPE_CHECKING:
    from .pool import KernelPool

    NotRemotelyPossible = RemoteNotSupported
else:

    def __getattr__(name: str) -> object:
        if name == "KernelPool":  # imported when it is needed, because many programs have no pool
            from .pool import KernelPool

            return KernelPool
        return _deprecated(name)

    _deprecated = deprecated_names(
        __name__, {"NotRemotelyPossible": RemoteNotSupported}, stacklevel=3
    )
del TYPE_CHECKING, deprecated_names
