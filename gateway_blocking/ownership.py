"""The hold on the kernel that a manager owns: such a kernel ends with this process."""

from __future__ import annotations

from .clients import ClientGroup
from .errors import NoSuchKernel
from .events import action_event
from .forking import register_after_fork
from .reaper import Hold
from .rest import GatewayREST

__all__ = ["KernelOwnership"]


class KernelOwnership:
    """The hold on one kernel, or on none.

    It has no reference to the manager, so that a manager which is dropped can be collected.  The
    manager calls it in one thread at a time.

    Parameters
    ----------
    clients : ClientGroup
        The clients of the manager, which are muted before the kernel is deleted.
    """

    def __init__(self, clients: ClientGroup) -> None:
        self._clients = clients
        self.hold: Hold | None = None
        """The current hold."""
        self._about = {"kernel_id": "", "kernel_name": ""}
        register_after_fork(self.forget)

    def take(
        self, rest: GatewayREST, kernel_id: str, kernel_name: str, start_timeout: float = 0.0
    ) -> None:
        """Hold a kernel, which may take `start_timeout` seconds to start."""

        def delete(timeout: float) -> bool:
            return self._delete_at_exit(rest, kernel_id, timeout)

        self.hold = rest.hold_kernel(kernel_id, delete, start_timeout)
        self._about = {"kernel_id": kernel_id, "kernel_name": kernel_name}

    def update(self, rest: GatewayREST, kernel_id: str | None, kernel_name: str) -> None:
        """Hold this kernel, which has started, and no other; None to hold none."""
        if self.hold is not None and self._about["kernel_id"] != kernel_id:
            self.hold.release()
            self.hold = None
        if self.hold is not None:
            self.hold.started()
        elif kernel_id is not None:
            self.take(rest, kernel_id, kernel_name)

    def forget(self) -> None:
        """Forget the hold without releasing it, because it ended or belongs to a parent process."""
        self.hold = None

    def _delete_at_exit(self, rest: GatewayREST, kernel_id: str, timeout: float) -> bool:
        """Delete a kernel at the end of the interpreter; return True if it is gone."""
        gateway, about = rest.gateway, {"kernel_id": kernel_id}
        if kernel_id == self._about["kernel_id"]:  # else the manager has another kernel by now
            about = self._about
            self._clients.mute()
        try:
            with action_event(gateway.emit, "shutdown", lambda: about):
                rest.delete_kernel(kernel_id, timeout)
        except NoSuchKernel:
            return True
        except Exception as error:
            gateway.log.warning("kernel %s was not shut down: %s", kernel_id, str(error))
            return False
        return True
