"""Sessions: which notebook, or other document with a path, uses which kernel."""

from __future__ import annotations

import uuid
from typing import Any, Protocol, Unpack, cast
from weakref import WeakValueDictionary

from traitlets import Instance, default

from .errors import GatewayHTTPError, NoSuchSession
from .forking import register_after_fork
from .locks import Lock
from .models import NewSession, SessionChanges, SessionKernel, SessionModel, SessionUpdate
from .multikernelmanager import BlockingGatewayMultiKernelManager
from .remote import GatewayMixin
from .rest import GatewayREST

__all__ = ["BlockingGatewaySessionManager"]


class BlockingGatewaySessionManager(GatewayMixin):
    """The sessions of a Jupyter Server, or a table of sessions for a gateway that has none.

    All clients of a Jupyter Server share its sessions, so this class lists and changes those.  A
    Kernel Gateway and an Enterprise Gateway do not list sessions, or answer with an error: for
    them this object keeps the sessions, and only the kernels are the gateway's.

    >>> sessions = BlockingGatewaySessionManager()  # doctest: +SKIP
    >>> session = sessions.create_session("load.ipynb", kernel_name="python3")  # doctest: +SKIP
    >>> kc = sessions.kernel_manager.get_kernel(session["kernel"]["id"]).client()  # doctest: +SKIP

    Any number of threads may use one manager.  Every method raises :exc:`.GatewayError` if the
    server does not answer, and :exc:`.NoSuchSession` if the session is unknown.

    Parameters
    ----------
    kernel_manager : BlockingGatewayMultiKernelManager, optional
        Manager of the sessions' kernels.
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_manager = Instance(BlockingGatewayMultiKernelManager)

    def __init__(self, **kwargs: Any) -> None:
        kernel_manager = kwargs.get("kernel_manager")
        if kernel_manager is not None:  # its length is 0 if it has no kernels
            kwargs |= {"gateway": kernel_manager.gateway, "rest": kernel_manager.rest}
        super().__init__(**kwargs)
        self._own = _Own(self.kernel_manager)  # now: later, two threads might each make one
        self._kept: _Sessions | None = None
        self._after_fork()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """Make the locks anew in a child process, where no thread would release them."""
        self._lock = Lock()
        # For each path, as long as a session of that path is being created.
        self._creating: WeakValueDictionary[str, Lock] = WeakValueDictionary()

    @default("kernel_manager")
    def _default_kernel_manager(self) -> BlockingGatewayMultiKernelManager:
        return BlockingGatewayMultiKernelManager(
            gateway=self.gateway, rest=self.rest, config=self.config, log=self.log
        )

    def close(self) -> None:
        """Close the connections that are kept; later calls open new ones."""
        self._close_rest()

    @property
    def _sessions(self) -> _Sessions:
        kept = self._kept
        if kept is None:  # two threads may both ask, and get the same answer
            kept = _Shared(self.rest) if _has_sessions(self.rest) else self._own
            self._kept = kept
        return kept

    @property
    def are_shared(self) -> bool:
        """True if the sessions are the server's, and False if they are only this object's."""
        return isinstance(self._sessions, _Shared)

    def create_session(
        self,
        path: str | None = None,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - as jupyter_server names it
        kernel_name: str | None = None,
        kernel_id: str | None = None,
    ) -> SessionModel:
        """Create a session and start its kernel, or return the session that has this path.

        Parameters
        ----------
        path : str, optional
            Path of the notebook; by default a new one.
        name, type : str, optional
            Name and type of the session; the type is ``notebook`` by default.
        kernel_name : str, optional
            Name of the kernelspec of a new kernel.
        kernel_id : str, optional
            ID of a kernel that runs already; without effect if a session has this path.
        """
        if kernel_id:
            self.kernel_manager.start_kernel(kernel_id=kernel_id)  # an error if it does not run
        kernel: SessionKernel = {"id": kernel_id} if kernel_id else {}
        if kernel_name and not kernel_id:
            kernel = {"name": kernel_name}
        path = path or f"session-{uuid.uuid4()}"
        wanted: NewSession = {
            "path": path,
            "name": name or "",
            "type": type or "notebook",
            "kernel": kernel,
        }
        creating = self._lock_of(path)  # the table has it only as long as this name refers to it
        with creating:  # two threads get the same session: a server would create two
            return self._attached(self._sessions.create(wanted))

    def _lock_of(self, path: str) -> Lock:
        with self._lock:
            return self._creating.setdefault(path, Lock())

    def _attached(self, session: SessionModel) -> SessionModel:
        """Return the session, and attach :attr:`kernel_manager` to its kernel if necessary."""
        kernel_id = session["kernel"]["id"]
        if kernel_id not in self.kernel_manager:
            self.kernel_manager.start_kernel(kernel_id=kernel_id)
        return session

    def _end_kernel(self, kernel_id: str) -> None:
        """Shut a session's kernel down, also if it was attached to, and end its clients."""
        try:
            manager = self.kernel_manager.get_kernel(kernel_id)
        except KeyError:
            return  # the manager never had it, or it is gone already
        manager.owned_kernel = True
        self.kernel_manager.shutdown_kernel(kernel_id)

    def list_sessions(self) -> list[SessionModel]:
        """Return all sessions except those whose kernel is gone."""
        return self._sessions.list()

    def get_session(self, **which: str) -> SessionModel:
        """Return the first session that has all of these properties.

        Parameters
        ----------
        **which
            One or more of ``session_id``, ``path``, ``name``, ``type`` and ``kernel_id``.

        Raises
        ------
        TypeError
            There is no property, or one that a session does not have.
        """
        if not which or not which.keys() <= {"session_id", "path", "name", "type", "kernel_id"}:
            raise TypeError(f"sessions are found by session_id, path or kernel_id, not {which}")
        for session in self._sessions.list():
            found = {**session, "session_id": session["id"], "kernel_id": session["kernel"]["id"]}
            if which.items() <= {key: found[key] for key in which}.items():
                return session
        raise NoSuchSession(f"there is no session with {which}")

    def session_exists(self, path: str) -> bool:
        """Return True if a session has this path."""
        return any(session["path"] == path for session in self._sessions.list())

    def update_session(self, session_id: str, **changes: Unpack[SessionUpdate]) -> SessionModel:
        """Change a session.

        Parameters
        ----------
        session_id : str
            ID of the session.
        **changes
            ``path``, ``name``, ``type``; or ``kernel_id``, the ID of another running kernel.  The
            session's kernel before that is shut down.
        """
        if not changes.keys() <= {"path", "name", "type", "kernel_id"}:
            raise TypeError(f"a session has a path, name, type and kernel_id, not {changes}")
        before = self.get_session(session_id=session_id)
        kernel_id = changes.pop("kernel_id", None)
        wanted = cast("SessionChanges", changes)
        if kernel_id:
            self.kernel_manager.start_kernel(kernel_id=kernel_id)  # an error if it does not run
            wanted["kernel"] = {"id": kernel_id}
        session = self._attached(self._sessions.update(session_id, wanted))
        if session["kernel"]["id"] != before["kernel"]["id"]:
            self._end_kernel(before["kernel"]["id"])
        return session

    def delete_session(self, session_id: str) -> None:
        """Delete a session, and shut its kernel down."""
        kernel_id = self.get_session(session_id=session_id)["kernel"]["id"]
        if not self.are_shared:
            # First: a kernel that cannot be shut down keeps its session.
            self._end_kernel(kernel_id)
        self._sessions.delete(session_id)
        self._end_kernel(kernel_id)  # a server has shut it down: this ends its clients

    def kernel_culled(self, kernel_id: str) -> bool:
        """Return True if a kernel of this manager is gone, and the manager did not end it."""
        return self.kernel_manager.kernel_culled(kernel_id)


class _Sessions(Protocol):
    """A store of sessions."""

    def list(self) -> list[SessionModel]: ...
    def create(self, wanted: NewSession, /) -> SessionModel: ...
    def update(self, session_id: str, changes: SessionChanges, /) -> SessionModel: ...
    def delete(self, session_id: str, /) -> None: ...


class _Shared:
    """The sessions of a server."""

    def __init__(self, rest: GatewayREST) -> None:
        self.list = rest.list_sessions
        self.create = rest.create_session
        self.update = rest.update_session
        self.delete = rest.delete_session


class _Own:
    """A table of sessions whose kernels run behind a gateway."""

    def __init__(self, kernels: BlockingGatewayMultiKernelManager) -> None:
        self._kernels = kernels
        self._table: dict[str, SessionModel] = {}  # each change is atomic

    def list(self) -> list[SessionModel]:
        models = {model["id"]: model for model in self._kernels.list_kernels()}
        for session_id, session in list(self._table.items()):
            if model := models.get(session["kernel"]["id"]):
                session["kernel"] = model
            elif session["kernel"]["id"] not in self._kernels:  # otherwise it has just started
                self._table.pop(session_id, None)
        return [session.copy() for session in list(self._table.values())]

    def create(self, wanted: NewSession) -> SessionModel:
        for session in self.list():
            if session["path"] == wanted["path"]:
                return session
        kernel_id = wanted["kernel"].get("id") or self._kernels.start_kernel(
            kernel_name=wanted["kernel"].get("name")
        )
        kernel = self._kernels.get_kernel(kernel_id).kernel
        session = cast("SessionModel", {**wanted, "id": str(uuid.uuid4()), "kernel": kernel})
        self._table[session["id"]] = session
        return session.copy()

    def update(self, session_id: str, changes: SessionChanges) -> SessionModel:
        changed: dict[str, Any] = dict(changes)
        if wanted := changes.get("kernel"):
            changed["kernel"] = self._kernels.get_kernel(wanted["id"]).kernel
        session = self._table[session_id]
        session.update(cast("SessionModel", changed))
        return session.copy()

    def delete(self, session_id: str) -> None:
        self._table.pop(session_id, None)


def _has_sessions(rest: GatewayREST) -> bool:
    """Return True if the server is a Jupyter Server.

    A Kernel Gateway 3.0 answers 403 to a request for sessions, or 500 from the second one on, so
    that this asks for ``/api/status`` instead.  Neither a Kernel Gateway nor an Enterprise Gateway
    has it.  A Jupyter Server in front of a gateway has it, and answers 403 if that gateway does
    not permit listing its kernels.
    """
    try:
        rest.server_status()
    except GatewayHTTPError as error:
        if error.status_code not in (403, 404):
            raise  # a proxy in front of any server may have answered
        return error.status_code == 403
    return True
