"""Sessions: on a Jupyter Server they are the server's, elsewhere they are kept here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from gateway_blocking import (
    BlockingGatewayMultiKernelManager,
    BlockingGatewaySessionManager,
    GatewayAuthError,
    GatewayConnectionError,
    GatewayHTTPError,
    KernelGone,
    NoSuchKernel,
    NoSuchSession,
)
from gateway_blocking.local import LocalGateway
from support.scripted import says, scripted
from support.servers import Server, jupyter_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Jupyter Server with a token."""
    with jupyter_server(tmp_path_factory.mktemp("jupyter-server")) as server:
        yield server


@pytest.fixture(params=["a Kernel Gateway", "a Jupyter Server"])
def there(request: pytest.FixtureRequest, gateway: LocalGateway, server: Server) -> Server:
    """One that has no sessions of its own, and one that has."""
    if request.param == "a Jupyter Server":
        return server
    return Server(gateway.url, {"auth_token": gateway.token})


@pytest.fixture
def kernels(there: Server) -> Iterator[BlockingGatewayMultiKernelManager]:
    with BlockingGatewayMultiKernelManager(**there.client_options()) as kernels:
        yield kernels


@pytest.fixture
def sessions(kernels: BlockingGatewayMultiKernelManager) -> Iterator[BlockingGatewaySessionManager]:
    sessions = BlockingGatewaySessionManager(kernel_manager=kernels)
    yield sessions
    for session in sessions.list_sessions():
        sessions.delete_session(session["id"])


def test_the_whole_life_of_a_session(
    sessions: BlockingGatewaySessionManager, kernels: BlockingGatewayMultiKernelManager
) -> None:
    """Created with a kernel, found, renamed, ended with its kernel."""
    assert sessions.list_sessions() == []
    created = sessions.create_session("a.ipynb", "first", kernel_name="python3")
    kernel_id = created["kernel"]["id"]
    assert (created["path"], created["name"], created["type"]) == ("a.ipynb", "first", "notebook")
    assert created["kernel"]["name"] == "python3"
    with kernels.get_kernel(kernel_id).client() as kc:
        kc.wait_for_ready(timeout=60)
        assert kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"

    assert sessions.session_exists("a.ipynb")
    assert not sessions.session_exists("b.ipynb")
    assert [session["id"] for session in sessions.list_sessions()] == [created["id"]]
    for which in ({"session_id": created["id"]}, {"path": "a.ipynb"}, {"kernel_id": kernel_id}):
        assert sessions.get_session(**which)["id"] == created["id"]

    assert sessions.update_session(created["id"], path="b.ipynb", name="second")["name"] == "second"
    assert sessions.get_session(path="b.ipynb", name="second")["id"] == created["id"]
    assert not sessions.session_exists("a.ipynb")

    sessions.delete_session(created["id"])
    assert sessions.list_sessions() == []
    assert kernel_id not in kernels
    assert not sessions.kernel_culled(kernel_id)
    with pytest.raises(NoSuchKernel):
        kernels.rest.get_kernel(kernel_id)


def test_a_path_has_one_session(
    sessions: BlockingGatewaySessionManager, kernels: BlockingGatewayMultiKernelManager
) -> None:
    """Also when it is asked for again."""
    first = sessions.create_session("a.ipynb", kernel_name="python3")
    again = sessions.create_session("a.ipynb", kernel_name="python3")
    assert again["id"] == first["id"]
    assert again["kernel"]["id"] == first["kernel"]["id"]
    assert len(kernels) == 1


def test_many_threads_create_sessions(there: Server) -> None:
    """Those of one path get one session; those of others do not wait for it."""
    with BlockingGatewayMultiKernelManager(**there.client_options()) as kernels:
        sessions = BlockingGatewaySessionManager(kernel_manager=kernels)
        paths = ["a.ipynb", "b.ipynb"] * 4
        with ThreadPoolExecutor(len(paths)) as pool:
            created = list(pool.map(sessions.create_session, paths))
        assert len({session["id"] for session in created}) == 2
        assert len(kernels) == 2
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(sessions.delete_session, {session["id"] for session in created}))
        assert sessions.list_sessions() == []


def test_a_session_of_a_running_kernel(
    there: Server,
    sessions: BlockingGatewaySessionManager,
    kernels: BlockingGatewayMultiKernelManager,
) -> None:
    """It gets that one, and may be given another; what it had, and has, is shut down with it."""
    first, second = kernels.start_kernel(), kernels.start_kernel()
    session = sessions.create_session("a.ipynb", kernel_id=first)
    assert session["kernel"]["id"] == first
    assert sessions.update_session(session["id"], kernel_id=second)["kernel"]["id"] == second
    assert sessions.get_session(kernel_id=second)["id"] == session["id"]
    with BlockingGatewayMultiKernelManager(**there.client_options()) as others:
        third = others.start_kernel()
        sessions.update_session(session["id"], kernel_id=third)
        sessions.delete_session(session["id"])
        for kernel_id in (first, second, third):
            with pytest.raises(NoSuchKernel):
                kernels.rest.get_kernel(kernel_id)


def test_a_session_of_a_kernel_that_does_not_run(sessions: BlockingGatewaySessionManager) -> None:
    """No session is made for it."""
    with pytest.raises(NoSuchKernel):
        sessions.create_session("a.ipynb", kernel_id="5e1d5ef3-c08b-4e3c-8a2e-3a4ac1ee6ac2")
    assert sessions.list_sessions() == []


def test_a_session_ends_with_its_kernel(
    there: Server, sessions: BlockingGatewaySessionManager
) -> None:
    """Whoever deleted that: the gateway's culling, or another client."""
    kernel_id = sessions.create_session("a.ipynb")["kernel"]["id"]
    requests.delete(
        f"{there.url}/api/kernels/{kernel_id}",
        headers={"Authorization": f"token {there.options['auth_token']}"},
        timeout=60,
    ).raise_for_status()
    assert sessions.kernel_culled(kernel_id)
    assert sessions.list_sessions() == []


def test_an_unknown_session_is_an_error(sessions: BlockingGatewaySessionManager) -> None:
    """One of its own, and a KeyError."""
    unknown = "5e1d5ef3-c08b-4e3c-8a2e-3a4ac1ee6ac2"
    for call in (
        lambda: sessions.get_session(path="nowhere.ipynb"),
        lambda: sessions.update_session(unknown, path="b.ipynb"),
        lambda: sessions.delete_session(unknown),
    ):
        with pytest.raises(NoSuchSession) as caught:
            call()
        assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("which", [{}, {"colour": "red"}])
def test_a_session_is_found_by_what_it_has(which: dict[str, str], gateway: LocalGateway) -> None:
    """A misspelt name finds nothing, and says so."""
    sessions = BlockingGatewaySessionManager(**gateway.options())
    with pytest.raises(TypeError, match="session_id, path"):
        sessions.get_session(**which)


def test_whose_the_sessions_are(gateway: LocalGateway, server: Server) -> None:
    """A Jupyter Server's are seen by all of its clients, those of a gateway only here."""
    assert not BlockingGatewaySessionManager(**gateway.options()).are_shared
    one, other = (BlockingGatewaySessionManager(**server.client_options()) for _ in range(2))
    assert one.are_shared
    session = one.create_session("shared.ipynb")
    assert other.get_session(path="shared.ipynb")["id"] == session["id"]
    other.delete_session(session["id"])
    assert not one.session_exists("shared.ipynb")


def test_a_server_that_does_not_answer_is_an_error() -> None:
    """And not one that has no sessions."""
    sessions = BlockingGatewaySessionManager(url="http://127.0.0.1:9", max_request_retries=0)
    with pytest.raises(GatewayConnectionError):
        sessions.list_sessions()


def test_a_session_whose_kernel_is_gone_is_made_anew(
    sessions: BlockingGatewaySessionManager, kernels: BlockingGatewayMultiKernelManager
) -> None:
    """Its kernel was culled, or shut down here."""
    for shut_down in (kernels.rest.delete_kernel, kernels.shutdown_kernel):
        first = sessions.create_session("a.ipynb")
        kernels.get_kernel(first["kernel"]["id"]).owned_kernel = True
        shut_down(first["kernel"]["id"])
        again = sessions.create_session("a.ipynb")
        assert again["id"] != first["id"]
        assert kernels.is_alive(again["kernel"]["id"])
        sessions.delete_session(again["id"])


def test_the_clients_of_a_sessions_kernel_are_told_of_its_end(
    sessions: BlockingGatewaySessionManager, kernels: BlockingGatewayMultiKernelManager
) -> None:
    """At once, whoever has ended it."""
    session = sessions.create_session("a.ipynb")
    manager = kernels.get_kernel(session["kernel"]["id"])
    with manager.client() as kc:
        kc.wait_for_ready(timeout=60)
        sessions.delete_session(session["id"])
        assert not manager.has_kernel
        with pytest.raises(KernelGone):
            while True:
                kc.get_iopub_msg(timeout=0)


def test_a_session_that_cannot_be_ended_stays(gateway: LocalGateway) -> None:
    """If the gateway does not end its kernel, it can be tried again."""
    with BlockingGatewayMultiKernelManager(**gateway.options()) as kernels:
        sessions = BlockingGatewaySessionManager(kernel_manager=kernels)
        session = sessions.create_session("a.ipynb")
        gateway_token, kernels.gateway.auth_token = kernels.gateway.auth_token, "wrong"
        with pytest.raises(GatewayAuthError):
            sessions.delete_session(session["id"])
        kernels.gateway.auth_token = gateway_token
        sessions.delete_session(session["id"])
        assert sessions.list_sessions() == []


@pytest.mark.parametrize("passing", ["503 Service Unavailable", "500 Oops", "429 Too Many"])
def test_a_passing_failure_does_not_decide_whose_the_sessions_are(passing: str) -> None:
    """A proxy in front of a gateway that is just starting may say so."""
    with scripted(says({}, passing), says({}, "404 Not Found")) as server:
        sessions = BlockingGatewaySessionManager(
            url=f"http://{server.where}", max_request_retries=0
        )
        with pytest.raises(GatewayHTTPError):
            sessions.list_sessions()
        assert not sessions.are_shared
        sessions.close()


def test_an_event_listener_may_ask_for_sessions(gateway: LocalGateway) -> None:
    """While it is found out whose they are: no lock is held."""
    found: list[object] = []

    def listen(_: str, data: dict[str, object]) -> None:
        if not found:
            found.append("asked")
            found.append(sessions.list_sessions())

    sessions = BlockingGatewaySessionManager(**gateway.options(), event_logger=listen)
    assert sessions.list_sessions() == []
    assert found == ["asked", []]
    sessions.close()


def test_a_session_has_not_whatever_one_likes(sessions: BlockingGatewaySessionManager) -> None:
    """Not another id, for one."""
    session = sessions.create_session("a.ipynb")
    with pytest.raises(TypeError, match="a session has a path"):
        sessions.update_session(session["id"], id="mine")
