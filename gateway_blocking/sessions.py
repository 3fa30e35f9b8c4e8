"""Sessions: which notebook, or other thing with a path, has which kernel."""

from __future__ import annotations

import uuid
from typing import Any, Protocol, cast
from weakref import WeakValueDictionary

from traitlets import Instance, default

from .errors import GatewayHTTPError, NoSuchSession
from .forking import register_after_fork
from .locks import Lock
from .models import SessionModel
from .multikernelmanager import BlockingGatewayMultiKernelManager
from .remote import GatewayMixin
from .rest import GatewayREST

__all__ = ["BlockingGatewaySessionManager"]


class BlockingGatewaySessionManager(GatewayMixin):
    """The sessions of a Jupyter Server; or of this object, where a gateway has none.

    A Jupyter Server has sessions that all of its users' clients see: of it, they are listed and
    changed.  A Kernel Gateway and an Enterprise Gateway do not list them, or answer with an
    error: with those, the sessions are kept here, and only the kernels are the gateway's.

    >>> sessions = BlockingGatewaySessionManager()  # doctest: +SKIP
    >>> session = sessions.create_session("load.ipynb", kernel_name="python3")  # doctest: +SKIP
    >>> kc = sessions.kernel_manager.get_kernel(session["kernel"]["id"]).client()  # doctest: +SKIP

    May be used by any number of threads.  Every method raises :exc:`.GatewayError` where the
    server does not answer, and with an unknown session :exc:`.NoSuchSession`.

    Parameters
    ----------
    kernel_manager : BlockingGatewayMultiKernelManager, optional
        Where the sessions' kernels are.
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_manager = Instance(BlockingGatewayMultiKernelManager)

    def __init__(self, **kwargs: Any) -> None:
        kernel_manager = kwargs.get("kernel_manager")
        if kernel_manager is not None:  # one without kernels has the length 0
            kwargs |= {"gateway": kernel_manager.gateway, "rest": kernel_manager.rest}
        super().__init__(**kwargs)
        self._own = _Own(self.kernel_manager)  # (now: two threads might each make a manager)
        self._kept: _Sessions | None = None
        self._after_fork()
        register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        """In a child process nobody would end what was begun."""
        self._lock = Lock()
        # By path, and only as long as a session of that path is being created.
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
        if self._kept is None:  # (two threads may ask: they are told the same)
            self._kept = _Shared(self.rest) if _has_sessions(self.rest) else self._own
        return self._kept

    @property
    def are_shared(self) -> bool:
        """Whether the sessions are the server's, for all to see, and not only this object's."""
        return isinstance(self._sessions, _Shared)

    def create_session(
        self,
        path: str | None = None,
        name: str | None = None,
        type: str | None = None,  # noqa: A002 - as jupyter_server names it
        kernel_name: str | None = None,
        kernel_id: str | None = None,
    ) -> SessionModel:
        """Create a session, and start its kernel; that of the same path, where there is one.

        Parameters
        ----------
        path : str, optional
            Of the notebook; made up where there is none.
        name, type : str, optional
            What to call it, and what it is: ``notebook`` by default.
        kernel_name : str, optional
            The kernelspec of a new kernel.
        kernel_id : str, optional
            A kernel that runs already; without effect where there is a session of this path.
        """
        if kernel_id:
            self.kernel_manager.start_kernel(kernel_id=kernel_id)  # an error if it does not run
        kernel = {"id": kernel_id} if kernel_id else {"name": kernel_name} if kernel_name else {}
        path = path or f"session-{uuid.uuid4()}"
        wanted = {"path": path, "name": name or "", "type": type or "notebook", "kernel": kernel}
        creating = self._lock_of(path)  # in the table only as long as it has this name
        with creating:  # two threads get the same one: servers would make two
            return self._attached(self._sessions.create(wanted))

    def _lock_of(self, path: str) -> Lock:
        with self._lock:
            return self._creating.setdefault(path, Lock())

    def _attached(self, session: SessionModel) -> SessionModel:
        """Return the session, whose kernel is one of :attr:`kernel_manager`, too."""
        kernel_id = session["kernel"]["id"]
        if kernel_id not in self.kernel_manager:
            self.kernel_manager.start_kernel(kernel_id=kernel_id)
        return session

    def _end_kernel(self, kernel_id: str) -> None:
        """End a session's kernel for its clients, too; also one that was attached to."""
        try:
            manager = self.kernel_manager.get_kernel(kernel_id)
        except KeyError:
            return  # never one of ours, or gone already
        manager.owned_kernel = True
        self.kernel_manager.shutdown_kernel(kernel_id)

    def list_sessions(self) -> list[SessionModel]:
        """All sessions, but those whose kernel is gone."""
        return self._sessions.list()

    def get_session(self, **which: str) -> SessionModel:
        """Return the session that is asked for.

        Parameters
        ----------
        **which
            One or more of ``session_id``, ``path``, ``name``, ``type`` and ``kernel_id``.

        Raises
        ------
        TypeError
            Nothing is asked for, or something that a session has not.
        """
        if not which or not which.keys() <= {"session_id", "path", "name", "type", "kernel_id"}:
            raise TypeError(f"sessions are found by session_id, path or kernel_id, not {which}")
        for session in self._sessions.list():
            found = {**session, "session_id": session["id"], "kernel_id": session["kernel"]["id"]}
            if which.items() <= {key: found[key] for key in which}.items():
                return session
        raise NoSuchSession(f"there is no session with {which}")

    def session_exists(self, path: str) -> bool:
        """Whether there is a session of this path."""
        return any(session["path"] == path for session in self._sessions.list())

    def update_session(self, session_id: str, **changes: Any) -> SessionModel:
        """Change a session.

        Parameters
        ----------
        session_id : str
            The session.
        **changes
            ``path``, ``name``, ``type``; or ``kernel_id``, for another kernel, that runs.  The
            one before it is shut down.
        """
        if not changes.keys() <= {"path", "name", "type", "kernel_id"}:
            raise TypeError(f"a session has a path, name, type and kernel_id, not {changes}")
        before = self.get_session(session_id=session_id)
        if kernel_id := changes.pop("kernel_id", None):
            self.kernel_manager.start_kernel(kernel_id=kernel_id)  # an error if it does not run
            changes["kernel"] = {"id": kernel_id}
        session = self._attached(self._sessions.update(session_id, changes))
        if session["kernel"]["id"] != before["kernel"]["id"]:
            self._end_kernel(before["kernel"]["id"])
        return session

    def delete_session(self, session_id: str) -> None:
        """End a session, and shut its kernel down."""
        kernel_id = self.get_session(session_id=session_id)["kernel"]["id"]
        if not self.are_shared:
            self._end_kernel(kernel_id)  # first: a kernel that cannot be ended keeps its session
        self._sessions.delete(session_id)
        self._end_kernel(kernel_id)  # which a server has ended: its clients are told

    def kernel_culled(self, kernel_id: str) -> bool:
        """Whether a kernel that was ours is gone from the gateway, without our doing."""
        return self.kernel_manager.kernel_culled(kernel_id)


class _Sessions(Protocol):
    """Where the sessions are."""

    def list(self) -> list[SessionModel]: ...
    def create(self, wanted: dict[str, Any]) -> SessionModel: ...
    def update(self, session_id: str, changes: dict[str, Any]) -> SessionModel: ...
    def delete(self, session_id: str) -> None: ...


class _Shared:
    """On the server."""

    def __init__(self, rest: GatewayREST) -> None:
        self.list = rest.list_sessions
        self.create = rest.create_session
        self.update = rest.update_session
        self.delete = rest.delete_session


class _Own:
    """In a table here, whose kernels are a gateway's."""

    def __init__(self, kernels: BlockingGatewayMultiKernelManager) -> None:
        self._kernels = kernels
        self._table: dict[str, SessionModel] = {}  # each change is a single step

    def list(self) -> list[SessionModel]:
        models = {model["id"]: model for model in self._kernels.list_kernels()}
        for session_id, session in list(self._table.items()):
            if model := models.get(session["kernel"]["id"]):
                session["kernel"] = model
            elif session["kernel"]["id"] not in self._kernels:  # else it was just started
                self._table.pop(session_id, None)
        return [session.copy() for session in list(self._table.values())]

    def create(self, wanted: dict[str, Any]) -> SessionModel:
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

    def update(self, session_id: str, changes: dict[str, Any]) -> SessionModel:
        if wanted := changes.get("kernel"):
            changes = {**changes, "kernel": self._kernels.get_kernel(wanted["id"]).kernel}
        session = self._table[session_id]
        session.update(cast("SessionModel", changes))
        return session.copy()

    def delete(self, session_id: str) -> None:
        self._table.pop(session_id, None)


def _has_sessions(rest: GatewayREST) -> bool:
    """Whether this is a Jupyter Server.

    A Kernel Gateway 3.0 answers 403, or 500 from the second request on; neither it nor an
    Enterprise Gateway has ``/api/status``.  A Jupyter Server that fronts a gateway has it, and
    answers 403 where that gateway does not list its kernels.
    """
    try:
        rest.server_status()
    except GatewayHTTPError as error:
        if error.status_code not in (403, 404):
            raise  # a proxy may say so, before whatever server
        return error.status_code == 403
    return True
