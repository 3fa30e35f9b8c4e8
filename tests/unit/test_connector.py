"""The slot of a client: with and without a connection, and what a manager tells it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from jupyter_client.session import Session

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.clients import ClientGroup
from gateway_blocking.config import GatewayClient
from gateway_blocking.connection import Connection, State
from gateway_blocking.connector import ConnectionSlot, new_connection
from gateway_blocking.errors import GatewayConnectionClosed, GatewayTimeout, KernelRestarted
from gateway_blocking.liveness import KernelStatus
from gateway_blocking.rest import GatewayREST
from support.options import plain_logger


class Recorder:
    """In place of a connection: notes what is called, in order."""

    kernel_status = KernelStatus.ALIVE

    def __init__(self, state: State = State.OPEN) -> None:
        self.state = state
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            return "token" if name == "kernel_restarting" else None

        return call


def slot_with(recorder: Recorder) -> ConnectionSlot:
    slot = ConnectionSlot()
    slot.connection = cast(Connection, recorder)
    return slot


def test_an_empty_slot_knows_nothing_and_sends_nothing() -> None:
    """The error says what to call."""
    slot = ConnectionSlot()
    assert (str(slot), slot.is_open, slot.is_reconnecting) == ("not started", False, False)
    assert slot.kernel_seems_alive
    assert not slot.is_beating(1)
    assert slot.missing("1") is None
    assert slot.may_lack_output("1")
    with pytest.raises(GatewayConnectionClosed, match=r"call start_channels\(\)"):
        slot.send("shell", {}, None)
    slot.close()
    slot.mute()
    slot.revive()
    slot.kernel_gone("gone")
    slot.give_up(["1"])
    slot.kernel_restarting("abc")()


@pytest.mark.parametrize("state", State)
def test_a_slot_is_open_unless_its_connection_is_closed(state: State) -> None:
    """A connection that is being opened again still watches the kernel."""
    slot = slot_with(Recorder(state))
    assert slot.is_open == (state is not State.CLOSED)
    assert slot.is_reconnecting == (state is State.RECONNECTING)
    assert str(slot) == state.value


@pytest.mark.parametrize("status", KernelStatus)
def test_a_kernel_seems_alive_until_its_end_is_known(status: KernelStatus) -> None:
    """A kernel that announced its shutdown may still run: a gateway restarts some."""
    alive = status in (KernelStatus.ALIVE, KernelStatus.SHUTTING_DOWN)
    recorder = Recorder()
    recorder.kernel_status = status
    assert slot_with(recorder).kernel_seems_alive == alive


def test_an_inherited_slot_sends_nothing_in_the_child() -> None:
    """Each call has an error object of its own."""
    recorder = Recorder()
    slot = slot_with(recorder)
    slot.inherited = GatewayConnectionClosed("this client belongs to another process")
    for call in (slot.check_process, lambda: slot.send("shell", {}, None)):
        with pytest.raises(GatewayConnectionClosed, match="another process") as raised:
            call()
        assert raised.value is not slot.inherited
    assert recorder.calls == []


def test_a_connection_that_cannot_be_opened_is_closed() -> None:
    """It is in the slot before it opens, so that stop_channels() reaches it."""
    slot = ConnectionSlot()

    class Failing(Recorder):
        def open(self) -> None:
            assert slot.connection is cast(Connection, self)
            raise GatewayTimeout("no answer")

    failing = Failing()
    with pytest.raises(GatewayTimeout):
        slot.open(cast(Connection, failing))
    assert failing.calls == [("close",)]


def test_a_restart_is_told_before_and_after() -> None:
    """Requests that were in flight before it fail with KernelRestarted."""
    recorder = Recorder()
    restarted = slot_with(recorder).kernel_restarting("abc")
    assert recorder.calls == [("kernel_restarting",)]
    restarted()
    name, token, error = recorder.calls[1]
    assert (name, token, type(error)) == ("kernel_restarted", "token", KernelRestarted)
    assert "kernel abc was restarted before it replied" in str(error)


def test_a_client_without_a_kernel_says_where_to_get_one() -> None:
    """No request is sent for it."""
    unused = cast(Any, None)
    with pytest.raises(GatewayConnectionClosed, match="the client has no kernel: give kernel_id="):
        new_connection("", gateway=unused, rest=unused, channels={}, session=unused, log=unused)


@pytest.mark.parametrize(
    ("options", "option"), [({}, "url"), ({"ws_url": "ws://other.example:1"}, "ws_url")]
)
def test_an_endpoint_names_the_option_of_its_url(options: dict[str, str], option: str) -> None:
    """The advice of an error names it."""
    gateway = GatewayClient(url="http://gateway.example:1", **options)
    with GatewayREST(gateway) as rest:
        connection = new_connection(
            "k", gateway=gateway, rest=rest, channels={}, session=Session(), log=plain_logger()
        )
        endpoint = connection._reader._endpoint("session")
    assert endpoint.url_option == option
    assert endpoint.url.startswith(options.get("ws_url", "ws://gateway.example:1"))


def test_a_group_tells_all_clients_and_forgets_dropped_ones() -> None:
    """The manager knows of the kernel's end what one of them knows."""
    group = ClientGroup()
    clients = [BlockingGatewayKernelClient(kernel_id="abc", url="http://127.0.0.1:9") for _ in "ab"]
    recorders = [Recorder(), Recorder(State.CLOSED)]
    for client, recorder in zip(clients, recorders, strict=True):
        client.connection_slot.connection = cast(Connection, recorder)
        group.add(client)
    assert group.kernel_seems_alive
    assert group.is_any_open
    recorders[1].kernel_status = KernelStatus.GONE
    assert not group.kernel_seems_alive
    group.kernel_gone("gone")
    group.mute()
    group.kernel_restarting("abc")()
    for recorder in recorders:
        assert [name for name, *_ in recorder.calls] == [
            *("kernel_ended", "mute", "kernel_restarting", "kernel_restarted")
        ]
    for client in clients:
        client.connection_slot.connection = None
    del client, clients
    assert list(group) == []
