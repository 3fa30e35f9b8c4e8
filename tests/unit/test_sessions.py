"""Sessions: which store is used, and what becomes of their kernels."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from requests_mock import Mocker

from gateway_blocking import BlockingGatewaySessionManager
from gateway_blocking.errors import GatewayHTTPError, NoSuchKernel, NoSuchSession

pytestmark = pytest.mark.usefixtures("_without_reaper")

URL = "http://gateway.example:8888"
API = f"{URL}/api"


class Server:
    """The REST API of a gateway with kernels, and perhaps with sessions."""

    def __init__(self, mocker: Mocker, status: int) -> None:
        self.kernels: dict[str, dict[str, str]] = {}
        self.deleted: list[str] = []
        mocker.get(f"{API}/status", status_code=status, json={})
        mocker.get(f"{API}/kernels", json=lambda *_: list(self.kernels.values()))
        mocker.post(f"{API}/kernels", json=self.start, status_code=201)
        one = re.compile(rf"{API}/kernels/([\w-]+)$")
        mocker.get(one, json=self.model)
        mocker.delete(one, text=self.delete, status_code=204)

    def start(self, request: Any, context: Any) -> dict[str, str]:
        wanted = json.load(request.body)
        kernel_id = wanted.get("kernel_id") or f"kernel-{len(self.kernels)}"
        self.kernels[kernel_id] = {"id": kernel_id, "name": wanted.get("name", "python3")}
        return self.kernels[kernel_id]

    def model(self, request: Any, context: Any) -> Any:
        kernel = self.kernels.get(request.path.rpartition("/")[2])
        context.status_code = 200 if kernel else 404
        return kernel or {}

    def delete(self, request: Any, context: Any) -> str:
        kernel_id = request.path.rpartition("/")[2]
        context.status_code = 204 if self.kernels.pop(kernel_id, None) else 404
        self.deleted.append(kernel_id)
        return ""


@pytest.fixture
def mocker() -> Iterator[Mocker]:
    with Mocker() as mocker:
        yield mocker


@pytest.fixture
def server(mocker: Mocker) -> Server:
    return Server(mocker, 404)


@pytest.fixture
def sessions(server: Server) -> Iterator[BlockingGatewaySessionManager]:
    sessions = manager()
    yield sessions
    sessions.kernel_manager.shutdown_all(now=True)
    sessions.close()


def manager() -> BlockingGatewaySessionManager:
    return BlockingGatewaySessionManager(
        url=URL, log=logging.getLogger("tests"), max_request_retries=0
    )


@pytest.mark.parametrize(("status", "are_shared"), [(200, True), (403, True), (404, False)])
def test_sessions_are_the_servers_if_it_has_some(
    mocker: Mocker, status: int, are_shared: bool
) -> None:
    """A Jupyter Server has /api/status, and neither of the two gateways has it."""
    Server(mocker, status)
    sessions = manager()
    assert sessions.are_shared is are_shared
    sessions.close()


def test_kind_of_the_server_is_not_guessed_after_an_error(mocker: Mocker) -> None:
    """A proxy in front of it may have answered; the next call asks again."""
    Server(mocker, 500)
    sessions = manager()
    with pytest.raises(GatewayHTTPError):
        sessions.list_sessions()
    mocker.get(f"{API}/status", status_code=404)
    assert sessions.list_sessions() == []
    sessions.close()


def test_create_session_starts_a_kernel_once_for_each_path(
    server: Server, sessions: BlockingGatewaySessionManager
) -> None:
    """The second call with the same path gets the session that is there."""
    first = sessions.create_session(path="a.ipynb", kernel_name="python3")
    again = sessions.create_session(path="a.ipynb")
    other = sessions.create_session(path="b.ipynb")
    assert again["id"] == first["id"] != other["id"]
    assert len(server.kernels) == 2
    assert sessions.session_exists("a.ipynb")
    assert sessions.get_session(path="b.ipynb")["kernel"]["id"] == other["kernel"]["id"]


def test_create_session_for_a_kernel_that_is_missing_creates_none(
    sessions: BlockingGatewaySessionManager,
) -> None:
    """The error comes before the session."""
    with pytest.raises(NoSuchKernel):
        sessions.create_session(path="a.ipynb", kernel_id="missing")
    assert sessions.list_sessions() == []


def test_session_whose_kernel_is_gone_is_not_listed(
    server: Server, sessions: BlockingGatewaySessionManager
) -> None:
    """The kernel was culled, or another client shut it down."""
    session = sessions.create_session(path="a.ipynb")
    del server.kernels[session["kernel"]["id"]]
    sessions.kernel_manager.remove_kernel(session["kernel"]["id"])
    assert sessions.list_sessions() == []
    with pytest.raises(NoSuchSession):
        sessions.get_session(path="a.ipynb")


def test_delete_session_shuts_its_kernel_down(
    server: Server, sessions: BlockingGatewaySessionManager
) -> None:
    """The session is not listed any more, and deleting it again is an error."""
    session = sessions.create_session(path="a.ipynb")
    sessions.delete_session(session["id"])
    assert server.deleted == [session["kernel"]["id"]]
    with pytest.raises(NoSuchSession):
        sessions.delete_session(session["id"])


def test_update_session_to_another_kernel_shuts_the_first_down(
    server: Server, sessions: BlockingGatewaySessionManager
) -> None:
    """No session has it any more."""
    session = sessions.create_session(path="a.ipynb")
    other = sessions.create_session(path="b.ipynb")["kernel"]["id"]
    changed = sessions.update_session(session["id"], kernel_id=other, name="new")
    assert (changed["kernel"]["id"], changed["name"]) == (other, "new")
    assert server.deleted == [session["kernel"]["id"]]


@pytest.mark.parametrize("which", [{}, {"color": "red"}])
def test_get_session_by_an_unknown_property_is_a_type_error(
    sessions: BlockingGatewaySessionManager, which: dict[str, str]
) -> None:
    """Otherwise the first session of all would be found."""
    with pytest.raises(TypeError, match="session_id, path or kernel_id"):
        sessions.get_session(**which)
