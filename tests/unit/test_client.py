"""BlockingGatewayKernelClient: what it does without a connection; the rest needs a kernel."""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

import pytest
from jupyter_client.session import Session
from requests_mock import Mocker

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.errors import (
    GatewayConnectionClosed,
    GatewayTimeout,
    RemoteNotSupported,
    WireError,
)
from gateway_blocking.liveness import KernelStatus
from support.protocol import says

URL = "http://gateway.example:8888"


def client(**options: Any) -> BlockingGatewayKernelClient:
    options = {"kernel_id": "k", "max_request_retries": 0, **options}
    return BlockingGatewayKernelClient(url=URL, log=logging.getLogger("tests"), **options)


def test_request_before_start_channels_says_what_to_call() -> None:
    """Nothing is sent, and nothing waits."""
    kc = client()
    with pytest.raises(GatewayConnectionClosed, match=r"start_channels\(\)"):
        kc.execute("1")
    assert not kc.channels_running
    assert "not started" in repr(kc)


@pytest.mark.parametrize(("kernel_id", "is_refused"), [("", True), ("k", False)])
def test_connection_file_is_refused_unless_there_is_an_id(kernel_id: str, is_refused: bool) -> None:
    """It names a local kernel; code for jupyter_client may pass both."""
    if not is_refused:
        assert client(kernel_id=kernel_id, connection_file="kernel-1.json").kernel_id == "k"
        return
    with pytest.raises(RemoteNotSupported, match="only its ID: pass kernel_id="):
        client(kernel_id=kernel_id, connection_file="kernel-1.json")


def test_message_before_start_channels_is_empty_with_a_reason() -> None:
    """The error is the one of jupyter_client, whose text is empty."""
    kc = client()
    with pytest.raises(Empty, match=r"iopub channel was not started: call start_channels\(\)"):
        kc.get_iopub_msg(timeout=0.001)
    kc.iopub_channel.start()
    with pytest.raises(Empty) as caught:
        kc.get_iopub_msg(timeout=0.001)
    assert str(caught.value) == ""


def test_timeout_without_a_reply_warns_and_names_the_right_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in jupyter_client, the request is sent, and nothing is waited for."""
    kc = client()
    sent: list[Any] = []
    monkeypatch.setattr(kc.shell_channel, "_send", lambda *message: sent.append(message))
    with pytest.warns(UserWarning, match=r"call run\(code, timeout=5\) or") as caught:
        kc.execute("1", timeout=5)
    assert caught[0].filename == __file__
    assert len(sent) == 1


def test_start_channels_refuses_a_session_that_packs_no_json() -> None:
    """A gateway reads nothing else, and the error comes before the connection."""
    kc = client(session=Session(packer="pickle", key=b"secret"))
    with pytest.raises(WireError, match=r"Session\.packer"):
        kc.start_channels()
    assert not kc.channels_running


def test_start_channels_that_fails_leaves_no_channel_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later call can start them again."""

    def refuse(**_: Any) -> Any:
        raise GatewayTimeout("no connection")

    monkeypatch.setattr("gateway_blocking.client.new_connection", lambda *_, **__: None)
    kc = client()
    monkeypatch.setattr(kc.connection_slot, "open", lambda connection: refuse())
    with pytest.raises(GatewayTimeout):
        kc.start_channels()
    assert not kc.channels_running


def test_reply_is_taken_from_its_channel_and_other_replies_stay() -> None:
    """As in jupyter_client, a reply is found by the ID of its request."""
    kc = client()
    kc.shell_channel.start()
    asked = [kc.session.msg("execute_request", {}) for _ in range(2)]
    for message in asked:
        kc.shell_channel.deliver(says("execute_reply", message, status="ok"))  # type: ignore[arg-type]
    second = kc._recv_reply(asked[1]["msg_id"], 30)
    assert second["parent_header"]["msg_id"] == asked[1]["msg_id"]
    assert kc.get_shell_msg(0)["parent_header"]["msg_id"] == asked[0]["msg_id"]
    with pytest.raises(GatewayTimeout, match="Timeout waiting for reply"):
        kc._recv_reply(asked[1]["msg_id"], 0.001)


@pytest.mark.parametrize(
    ("status", "state", "is_alive"), [(200, "idle", True), (200, "dead", False), (404, "", False)]
)
def test_is_alive_without_a_connection_asks_the_gateway(
    status: int, state: str, is_alive: bool
) -> None:
    """With one, the messages of the kernel tell."""
    with Mocker() as mocker:
        model = {"id": "k", "name": "python3", "execution_state": state}
        mocker.get(f"{URL}/api/kernels/k", status_code=status, json=model)
        assert client().is_alive() is is_alive
        assert client(kernel_id="").is_alive() is False


def test_is_alive_is_false_from_the_moment_of_the_kernels_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No request is made then: the variables are lost, whether or not it was restarted."""
    kc = client()

    class Connection:
        kernel_status = KernelStatus.RESTARTED

    monkeypatch.setattr(kc.connection_slot, "connection", Connection())
    assert not kc.is_alive()


def test_blocking_client_is_another_client_of_the_same_kernel() -> None:
    """A gateway drops the older one of two with the same session."""
    kc = client()
    other = kc.blocking_client()
    assert other.kernel_id == kc.kernel_id
    assert other.session.session != kc.session.session
    assert other.session.key == kc.session.key
    assert other.gateway is kc.gateway


def test_client_after_a_fork_raises_at_each_call() -> None:
    """The connection is the parent's; each call says how to get a client here."""
    kc = client()
    kc._after_fork()
    for call in (kc.start_channels, lambda: kc.execute("1")):
        with pytest.raises(GatewayConnectionClosed, match="was forked"):
            call()
