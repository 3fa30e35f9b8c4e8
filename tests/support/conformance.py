"""The whole public API against one server: what all of them can do, each feature a test.

A class of its own for each kind of server derives from :class:`Conformance`, gives the ``server``,
and lists what that server cannot do by itself, with the reason.  It is expected to fail then: one
that can after all is a failure, too.  ``docs/reference/servers.rst`` has the table.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import nbformat
import pytest
from nbclient import NotebookClient

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    BlockingGatewayKernelSpecManager,
    BlockingGatewayMultiKernelManager,
    BlockingGatewaySessionManager,
    DeadKernelError,
    GatewayAuthError,
    KernelGone,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from support.leaks import nothing_left
from support.servers import Server

_UNKNOWN = "5e1d5ef3-c08b-4e3c-8a2e-3a4ac1ee6ac2"
_PATIENCE = 60.0  # seconds


class Conformance:
    """Every feature, one after the other, with one kernel where that is enough."""

    name: ClassVar[str]
    """Which server it is."""

    cannot: ClassVar[dict[str, str]] = {}
    """The tests that this kind of server fails by itself, and why."""

    # --- a server and a kernel ------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _expected(self, request: pytest.FixtureRequest) -> None:
        if reason := self.cannot.get(request.function.__name__):
            request.applymarker(pytest.mark.xfail(strict=True, reason=reason))

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _nothing_is_left_of_it(cls) -> Iterator[None]:
        """Of all tests together: what they share has sockets, too."""
        with nothing_left():
            yield

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self) -> None:
        """In place of the fixture that looks after each test."""

    @pytest.fixture(scope="class")
    @classmethod
    def manager(cls, server: Server) -> Iterator[BlockingGatewayKernelManager]:
        options = {**server.client_options(), "ws_ping_interval": 0.5}
        with BlockingGatewayKernelManager(kernel_name="python3", **options) as km:
            km.start_kernel()
            yield km

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, manager: BlockingGatewayKernelManager) -> Iterator[BlockingGatewayKernelClient]:
        with manager.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            yield kc

    @pytest.fixture
    def km(self, manager: BlockingGatewayKernelManager) -> BlockingGatewayKernelManager:
        """The manager of a kernel that all tests share."""
        return manager

    @pytest.fixture
    def kc(self, client: BlockingGatewayKernelClient) -> BlockingGatewayKernelClient:
        """A client of a kernel that all tests share."""
        client.wait_for_ready(timeout=_PATIENCE)
        return client

    @pytest.fixture
    def own(self, server: Server) -> Iterator[BlockingGatewayKernelManager]:
        """The manager of a kernel that is this test's to end."""
        options = {**server.client_options(), "ws_ping_interval": 0.5}
        with BlockingGatewayKernelManager(kernel_name="python3", **options) as km:
            km.start_kernel()
            yield km

    # --- messages -------------------------------------------------------------------------------

    def test_code_is_executed(self, kc: BlockingGatewayKernelClient) -> None:
        """Execute code, with output and with an error."""
        assert run(kc, "print(6 * 7)") == "42\n"
        reply = kc.execute("1 / 0", reply=True, timeout=_PATIENCE)
        assert reply["content"]["ename"] == "ZeroDivisionError"

    def test_output_comes_whole_and_in_order(self, kc: BlockingGatewayKernelClient) -> None:
        """Get output of some hundred messages."""
        code = "for i in range(300): print(i, flush=True)"
        assert run(kc, code).split() == [str(i) for i in range(300)]

    def test_every_request_is_answered(self, kc: BlockingGatewayKernelClient) -> None:
        """Get completion, inspection, history, kernel info and comm info."""
        for reply in (
            kc.complete("pri", reply=True, timeout=_PATIENCE),
            kc.inspect("print", reply=True, timeout=_PATIENCE),
            kc.is_complete("for i in x:", reply=True, timeout=_PATIENCE),
            kc.history(hist_access_type="tail", n=1, reply=True, timeout=_PATIENCE),
            kc.kernel_info(reply=True, timeout=_PATIENCE),
            kc.comm_info(reply=True, timeout=_PATIENCE),
        ):
            assert reply["content"]["status"] in ("ok", "incomplete")

    def test_input_is_asked_for(self, kc: BlockingGatewayKernelClient) -> None:
        """Answer ``input()``."""
        msg_id = kc.execute("print(input('who? '))", allow_stdin=True)
        asked = kc.get_stdin_msg(timeout=_PATIENCE)
        assert asked["content"]["prompt"] == "who? "
        kc.input("me")
        assert output_of(kc, msg_id) == "me\n"

    def test_buffers_go_both_ways(self, own: BlockingGatewayKernelManager) -> None:
        """Send and receive binary buffers, as widgets do."""
        listen = (
            "from comm import get_comm_manager\n"
            "def opened(comm, message):\n"
            "    @comm.on_msg\n"
            "    def heard(message):\n"
            "        comm.send({}, buffers=[bytes(b)[::-1] for b in message['buffers']])\n"
            "get_comm_manager().register_target('conformance', opened)"
        )
        sent = [b"abc", bytes(range(256)) * 1000]
        with own.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            run(kc, listen)
            comm = {"comm_id": "c", "target_name": "conformance", "data": {}}
            kc.shell_channel.send(kc.session.msg("comm_open", comm))
            message = kc.session.msg("comm_msg", {"comm_id": "c", "data": {}})
            kc.shell_channel.send({**message, "buffers": sent})
            heard = kc.get_iopub_msg(timeout=10)
            while heard["msg_type"] != "comm_msg":
                heard = kc.get_iopub_msg(timeout=10)
            assert [bytes(buffer)[::-1] for buffer in heard["buffers"]] == sent
            assert run(kc, "print('after')") == "after\n"

    def test_large_messages(self, kc: BlockingGatewayKernelClient) -> None:
        """Send and receive messages of several megabytes."""
        text = "x" * 4_000_000
        reply = kc.execute(
            f"got = {text!r}",
            user_expressions={"back": "got + got"},
            reply=True,
            timeout=_PATIENCE,
        )
        assert len(reply["content"]["user_expressions"]["back"]["data"]["text/plain"]) > 7_999_999

    def test_control_is_a_channel_of_its_own(self, own: BlockingGatewayKernelManager) -> None:
        """Call ``shutdown(reply=True)``, with a reply on the control channel."""
        with own.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            reply = kc.shutdown(reply=True, timeout=_PATIENCE)
            assert reply["msg_type"] == "shutdown_reply"

    # --- threads and clients --------------------------------------------------------------------

    def test_threads_share_a_client(self, kc: BlockingGatewayKernelClient) -> None:
        """Share a client between eight threads."""

        def ask(number: int) -> str:
            wanted = {"user_expressions": {"it": f"{number} * 2"}}
            reply = kc.execute("", reply=True, timeout=_PATIENCE, **wanted)
            return str(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(40))) == [str(2 * i) for i in range(40)]

    def test_clients_share_a_kernel(
        self, km: BlockingGatewayKernelManager, kc: BlockingGatewayKernelClient
    ) -> None:
        """Use two clients of one kernel."""
        with km.client() as other:
            other.wait_for_ready(timeout=_PATIENCE)
            run(other, "shared = 1")
            assert run(kc, "print(shared)") == "1\n"

    def test_attaching_by_id(self, km: BlockingGatewayKernelManager, server: Server) -> None:
        """Attach to a kernel by its ID, and leave it running."""
        options = server.client_options()
        with BlockingGatewayKernelManager(kernel_id=km.kernel_id, **options) as other:
            other.start_kernel()
            with other.client() as kc:
                kc.wait_for_ready(timeout=_PATIENCE)
                assert run(kc, "print(1)") == "1\n"
        assert km.refresh_model() is not None

    # --- a kernel's life ------------------------------------------------------------------------

    def test_interrupt(
        self, km: BlockingGatewayKernelManager, kc: BlockingGatewayKernelClient
    ) -> None:
        """Interrupt running code."""
        running = threading.Timer(0.5, km.interrupt_kernel)
        running.start()
        reply = kc.execute("import time; time.sleep(60)", reply=True, timeout=_PATIENCE)
        running.join()
        assert reply["content"]["ename"] == "KeyboardInterrupt"

    def test_restart(self, own: BlockingGatewayKernelManager) -> None:
        """Restart the kernel, and continue with the same client."""
        with own.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            run(kc, "lost = 1")
            kernel_id = own.kernel_id
            own.restart_kernel()
            kc.wait_for_ready(timeout=_PATIENCE)
            assert own.kernel_id == kernel_id
            assert run(kc, "print('lost' in dir())") == "False\n"

    def test_a_kernel_that_dies(self, own: BlockingGatewayKernelManager) -> None:
        """Raise in the waiting call if the kernel dies."""
        with own.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            with pytest.raises(DeadKernelError):
                kc.execute("import os; os._exit(1)", reply=True, timeout=_PATIENCE)

    def test_a_kernel_that_somebody_else_shuts_down(
        self, own: BlockingGatewayKernelManager, server: Server
    ) -> None:
        """Raise in the waiting call if another client deletes the kernel."""
        with own.client() as kc:
            kc.wait_for_ready(timeout=_PATIENCE)
            options = server.client_options()
            with BlockingGatewayKernelManager(kernel_id=own.kernel_id, **options) as other:
                other.start_kernel()
                other.owned_kernel = True
            with pytest.raises(KernelGone):
                while True:
                    kc.get_iopub_msg()
            assert not own.is_alive()

    # --- the connection -------------------------------------------------------------------------

    def test_a_connection_that_is_lost(self, kc: BlockingGatewayKernelClient) -> None:
        """Reconnect after a loss in the middle of a cell, and get the reply."""
        cell = "import time\nfor i in range(10): print(i, flush=True); time.sleep(0.1)"
        msg_id = kc.execute(cell)
        while kc.get_iopub_msg(timeout=_PATIENCE)["msg_type"] != "stream":
            pass
        connection: Any = kc.connection_slot.connection
        before = connection._reader.transport
        socket.socket.shutdown(before._sock, socket.SHUT_RDWR)
        reply = kc.shell_channel.get_reply(msg_id, _PATIENCE)
        assert reply["content"]["status"] == "ok"
        assert connection._reader.transport is not before

    def test_an_idle_connection_stays_open(self, kc: BlockingGatewayKernelClient) -> None:
        """Keep an idle connection open, also through a proxy that closes idle ones."""
        connection: Any = kc.connection_slot.connection
        before = connection._reader.transport
        time.sleep(IDLE + 1)
        assert run(kc, "print(1)") == "1\n"
        assert connection._reader.transport is before

    # --- who may do what, and what there is not -------------------------------------------------

    def test_a_wrong_login_is_refused(self, server: Server) -> None:
        """Raise a clear error for a wrong token."""
        options = {**server.client_options(), "auth_token": "wrong"}
        km = BlockingGatewayKernelManager(**options)
        kc = BlockingGatewayKernelClient(kernel_id=_UNKNOWN, **options)
        with pytest.raises(GatewayAuthError):
            km.start_kernel(kernel_name="cobol")
        with pytest.raises(GatewayAuthError):
            kc.start_channels()

    def test_an_unknown_kernel(self, server: Server) -> None:
        """Raise a clear error for an unknown kernel."""
        options = server.client_options()
        with pytest.raises(NoSuchKernel):
            BlockingGatewayKernelManager(kernel_id=_UNKNOWN, **options).start_kernel()
        with pytest.raises(NoSuchKernel):
            BlockingGatewayKernelClient(kernel_id=_UNKNOWN, **options).start_channels()

    def test_an_unknown_kernelspec(self, server: Server) -> None:
        """Raise an error for an unknown kernelspec that names the known ones."""
        km = BlockingGatewayKernelManager(kernel_name="cobol", **server.client_options())
        with pytest.raises(NoSuchKernelSpec, match="python3"):
            km.start_kernel()

    # --- what a kernel is started with ----------------------------------------------------------

    def test_the_id_can_be_chosen(self, server: Server) -> None:
        """Find a started kernel if the response is lost."""
        chosen = "0a6f3b2e-52c4-4d0e-9c53-9d9e2d1b7f10"
        with BlockingGatewayKernelManager(**server.client_options()) as km:
            km.start_kernel(env={"KERNEL_ID": chosen})
            assert km.kernel_id == chosen

    def test_environment_variables(self, server: Server) -> None:
        """Set environment variables for the kernel."""
        with BlockingGatewayKernelManager(**server.client_options()) as km:
            km.start_kernel(env={"KERNEL_COLOUR": "red"})
            with km.client() as kc:
                kc.wait_for_ready(timeout=_PATIENCE)
                assert run(kc, "import os; print(os.environ.get('KERNEL_COLOUR'))") == "red\n"

    # --- the other managers ---------------------------------------------------------------------

    def test_kernelspecs(self, server: Server) -> None:
        """Get kernelspecs and their files."""
        specs = BlockingGatewayKernelSpecManager(**server.client_options())
        assert specs.default_kernel_name == "python3"
        assert "python3" in specs.find_kernel_specs()
        assert specs.get_kernel_spec("python3").language == "python"
        logo = specs.get_kernel_spec_resource("python3", "logo-64x64.png")
        assert logo is not None
        assert logo.startswith(b"\x89PNG")
        with pytest.raises(NoSuchKernelSpec):
            specs.get_kernel_spec("cobol")
        specs.rest.close()

    def test_a_kernelspec_without_a_file(self, server: Server) -> None:
        """Return None for a missing file of a kernelspec."""
        specs = BlockingGatewayKernelSpecManager(**server.client_options())
        try:
            assert specs.get_kernel_spec_resource("python3", "none") is None
        finally:
            specs.rest.close()

    def test_several_kernels(self, server: Server) -> None:
        """Start several kernels at once with one manager."""
        with BlockingGatewayMultiKernelManager(**server.client_options()) as kernels:
            with ThreadPoolExecutor(2) as pool:
                ids = set(pool.map(lambda _: kernels.start_kernel(), range(2)))
            assert set(kernels.list_kernel_ids()) == ids
            first, second = ids
            assert kernels.kernel_model(first)["name"] == "python3"
            kernels.shutdown_kernel(first)
            assert kernels.list_kernel_ids() == [second]
            assert not kernels.kernel_culled(first)

    def test_kernels_can_be_listed(self, server: Server, km: BlockingGatewayKernelManager) -> None:
        """List all kernels, also those that others started."""
        with BlockingGatewayKernelManager(**server.client_options()) as other:
            assert km.kernel_id in {model["id"] for model in other.rest.list_kernels()}

    def test_sessions(self, server: Server) -> None:
        """Create, find, change and end sessions."""
        with BlockingGatewayMultiKernelManager(**server.client_options()) as kernels:
            sessions = BlockingGatewaySessionManager(kernel_manager=kernels)
            made = sessions.create_session("a.ipynb", kernel_name="python3")
            assert sessions.create_session("a.ipynb")["id"] == made["id"]
            changed = sessions.update_session(made["id"], path="b.ipynb")
            assert changed["path"] == "b.ipynb"
            assert sessions.get_session(path="b.ipynb")["kernel"]["id"] == made["kernel"]["id"]
            sessions.delete_session(made["id"])
            with pytest.raises(NoSuchSession):
                sessions.get_session(path="b.ipynb")

    def test_sessions_are_shared(self, server: Server) -> None:
        """Share sessions with other clients of the server."""
        sessions = BlockingGatewaySessionManager(**server.client_options())
        assert sessions.are_shared
        sessions.rest.close()

    # --- with others' programs ------------------------------------------------------------------

    def test_nbclient(self, server: Server) -> None:
        """Execute a notebook with nbclient."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("x = 20"), nbformat.v4.new_code_cell("print(x + 22)")]
        )
        options = server.client_options()
        with BlockingGatewayKernelManager(kernel_name="python3", **options) as km:
            NotebookClient(notebook, km=km, timeout=60).execute()
        assert notebook.cells[1].outputs[0]["text"] == "42\n"


IDLE = 2
"""Seconds after which the proxy of these tests ends an idle connection."""

OPEN = {"test_a_wrong_login_is_refused": "It requires no credentials"}
"""What no server can do that everybody may use."""

AS_INSTALLED = {
    "test_kernels_can_be_listed": "It lists its kernels only if list_kernels is on",
    "test_sessions_are_shared": "Its sessions do not work: the manager keeps sessions itself",
}
"""What neither a Kernel Gateway nor an Enterprise Gateway can do as it is installed."""


def run(kc: BlockingGatewayKernelClient, code: str) -> str:
    """Execute code, and give what it printed."""
    return output_of(kc, kc.execute(code))


def output_of(kc: BlockingGatewayKernelClient, msg_id: str) -> str:
    """What an execution prints, until the kernel is idle again."""
    printed = ""
    deadline = time.monotonic() + _PATIENCE
    while True:
        message = kc.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            printed += content["text"]
        elif content.get("execution_state") == "idle":
            kc.shell_channel.get_reply(msg_id, _PATIENCE)
            return printed
