"""The clients of one manager, which learn from it what becomes of the kernel."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

from .client import BlockingGatewayKernelClient
from .connector import ConnectionSlot
from .forking import register_after_fork
from .locks import Lock

__all__ = ["ClientGroup"]


class ClientGroup:
    """The clients that a manager made, as long as they exist.

    Any number of threads may use it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._clients: weakref.WeakSet[BlockingGatewayKernelClient] = weakref.WeakSet()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = Lock()

    def __iter__(self) -> Iterator[BlockingGatewayKernelClient]:
        with self._lock:
            clients = list(self._clients)
        return iter(clients)

    def add(self, client: BlockingGatewayKernelClient) -> None:
        """Add a client."""
        with self._lock:
            self._clients.add(client)

    @property
    def _slots(self) -> list[ConnectionSlot]:
        return [client.connection_slot for client in self]

    # --- what the clients know ------------------------------------------------------------------

    @property
    def kernel_seems_alive(self) -> bool:
        """True unless a client was told that its kernel died or was restarted."""
        return all(slot.kernel_seems_alive for slot in self._slots)

    @property
    def is_any_open(self) -> bool:
        """True if a client has a connection, which then watches the kernel."""
        return any(slot.is_open for slot in self._slots)

    # --- what the clients are told --------------------------------------------------------------

    def kernel_restarting(self, kernel_id: str) -> Callable[[], None]:
        """Note that the kernel is about to be restarted; return the function to call afterwards."""
        restarted = [slot.kernel_restarting(kernel_id) for slot in self._slots]

        def kernel_restarted() -> None:
            for tell in restarted:
                tell()

        return kernel_restarted

    def kernel_gone(self, text: str) -> None:
        """Fail all requests with :exc:`.KernelGone`, because the kernel does not exist any more."""
        for slot in self._slots:
            slot.kernel_gone(text)

    def mute(self) -> None:
        """Deliver nothing any more, because the interpreter ends."""
        for slot in self._slots:
            slot.mute()

    def stop(self) -> None:
        """Stop the channels of all clients."""
        for client in self:
            client.stop_channels()
