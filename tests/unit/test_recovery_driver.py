"""The steps of a recovery, as actions."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.actions import PollKernel, PollReason, ReportResent, SendRequest
from gateway_blocking.liveness import PollResult
from gateway_blocking.wire import FORMATS, V1
from support.protocol import Client, frames_of, says, transport


@pytest.fixture
def client() -> Client:
    """A client whose kernel process is known."""
    client = Client()
    client.receive("iopub", says("status", client.send(), execution_state="idle"))
    return client


def poll(client: Client, result: PollResult) -> Any:
    """Let the next probe expire, and return what follows from the poll."""
    probe, now = next_probe(client)
    return client.protocol.kernel_polled(probe, result, transport(now), now)


def next_probe(client: Client) -> tuple[PollKernel, float]:
    """Let the next probe expire, and return the poll that it asks for, and the time."""
    while True:
        now = client.protocol.next_timer()
        assert now < 1000
        for action in client.protocol.timer_expired(now, transport(now)):
            if isinstance(action, PollKernel) and action.reason is PollReason.PROBE:
                return action, now


def begin(client: Client) -> Any:
    """Reconnect, and answer the question which process this is."""
    [(channel, question)] = frames_of(client.reconnect())
    assert channel == "control"
    return frames_of(client.receive("control", says("kernel_info_reply", question)))


def test_idempotent_request_is_resent_with_another_date(client: Client) -> None:
    """Else a kernel that had it would ignore it; no test of the kernel is needed."""
    client = Client()
    client.receive("iopub", says("status", client.send("kernel_info_request")))
    asked = client.send("complete_request")
    sent = begin(client)
    [again] = [message for _, message in sent if message["msg_id"] == asked["msg_id"]]
    assert again["header"]["date"] != asked["header"]["date"]


def test_relayed_request_that_cannot_be_read_is_resent_as_it_is(client: Client) -> None:
    """A front end made it, and the kernel will ignore it, too."""
    asked = client.message("complete_request")
    parts = [client.session.pack(asked["header"]), b"{}", b"{}", b"no JSON"]
    request = client.register(asked)
    request.frame = FORMATS[V1].encode("shell", {"parts": parts}, client.session.pack)
    client.protocol.request_sent(request, 0.0)
    [(_, question)] = frames_of(client.reconnect())
    actions = client.receive("control", says("kernel_info_reply", question))
    assert request.frame in [(a.opcode, a.payload) for a in actions if isinstance(a, SendRequest)]


def test_request_to_a_subshell_has_a_barrier_of_its_own(client: Client) -> None:
    """Subshells execute beside one another."""
    message = client.message()
    message["header"]["subshell_id"] = "sub"
    request = client.register(message)
    request.subshell = "sub"
    client.protocol.request_sent(request, 0.0)
    client.receive("iopub", says("status", message, execution_state="busy"))
    sent = begin(client)
    assert "sub" in [message["header"].get("subshell_id") for _, message in sent]


def test_answers_of_an_earlier_recovery_are_ignored(client: Client) -> None:
    """Its websocket is lost."""
    [(_, question)] = frames_of(client.reconnect())
    client.protocol.connection_lost(ConnectionError(), 3.0)  # type: ignore[arg-type]
    assert client.receive("control", says("kernel_info_reply", question)) == ()


def test_probe_of_a_busy_kernel_only_waits(client: Client) -> None:
    """It may be executing what it was asked before; three polls do not count against it."""
    client.reconnect()
    assert [poll(client, PollResult.BUSY) for _ in range(3)] == [(), (), ()]


def test_barriers_are_sent_again_if_they_may_be_lost(client: Client) -> None:
    """The kernel is idle, answered the question on shell, and not the barrier."""
    client.receive("iopub", says("status", client.send(), execution_state="busy"))
    barriers = begin(client)
    [question] = [
        message
        for channel, message in barriers
        if channel == "shell" and message["msg_type"] == "kernel_info_request"
    ]
    client.receive("shell", says("kernel_info_reply", question))
    sent = [frames_of(poll(client, PollResult.IDLE)) for _ in range(4)]
    assert sent[:3] == [[], [], []]
    again = {(channel, message["msg_type"]) for channel, message in sent[3]}
    assert ("shell", "execute_request") in again


def test_poll_from_before_a_question_does_not_count_for_it(client: Client) -> None:
    """The kernel was idle because it had no question; it has a control channel, as it answered."""
    client.send()
    [(_, question)] = frames_of(client.reconnect())
    stale, now = next_probe(client)
    copies = frames_of(client.receive("control", says("kernel_info_reply", question)))
    assert [channel for channel, _ in copies] == ["control", "control"]
    assert client.protocol.kernel_polled(stale, PollResult.IDLE, transport(now), now) == ()
    next_probe(client)  # which asks about the copies


def test_poll_from_before_the_barriers_does_not_count_for_them(client: Client) -> None:
    """An idle kernel had not got them yet, and does not ignore the session."""
    client.receive("iopub", says("status", client.send(), execution_state="busy"))
    [(_, question)] = frames_of(client.reconnect())
    stale, now = next_probe(client)
    assert frames_of(client.receive("control", says("kernel_info_reply", question)))
    assert client.protocol.kernel_polled(stale, PollResult.IDLE, transport(now), now) == ()
    poll(client, PollResult.IDLE)
    assert client.protocol.abort_reason == ""
    poll(client, PollResult.IDLE)
    assert "does not answer on this websocket" in client.protocol.abort_reason


def test_poll_of_an_earlier_audit_does_not_count_for_a_later_one(client: Client) -> None:
    """The barriers are sent again after four polls of their own."""
    client.send()
    first = audit(client, 1.0)
    stale, now = next_probe(client)
    for channel, barrier in first:
        reply = barrier["msg_type"].replace("request", "reply")
        client.receive(channel, says(reply, barrier, status="ok"))
    client.protocol.timer_expired(now + 1.0, transport(now))  # the first audit ends
    client.send()
    assert audit(client, now + 2.0)
    client.protocol.kernel_polled(stale, PollResult.IDLE, transport(now), now)
    sent = [frames_of(poll(client, PollResult.IDLE)) for _ in range(4)]
    assert sent[:3] == [[], [], []]
    assert sent[3]


def audit(client: Client, now: float) -> Any:
    """Lose a message, and return the barriers of the audit that follows."""
    client.protocol.message_lost(now)
    return frames_of(client.protocol.timer_expired(now + 1.0, transport(now)))


def test_barrier_of_a_subshell_that_was_deleted_is_waited_for_no_more(client: Client) -> None:
    """The recovery then ends, as far as the rest is concerned."""
    message = client.message()
    request = client.register(message)
    request.subshell = "sub"
    client.protocol.request_sent(request, 0.0)
    client.receive("iopub", says("status", message, execution_state="busy"))
    for channel, barrier in begin(client):
        if not barrier["header"].get("subshell_id"):
            reply = barrier["msg_type"].replace("request", "reply")
            client.receive(channel, says(reply, barrier, status="ok"))
    found = [poll(client, PollResult.IDLE) for _ in range(4)]
    assert found == [(), (), (), (ReportResent(2),)]


def test_audit_waits_while_another_recovery_is_under_way(client: Client) -> None:
    """It begins when that is done."""
    client.send()
    client.protocol.message_lost(1.0)
    client.reconnect(1.5)
    assert frames_of(client.protocol.timer_expired(2.0, transport(2.0))) == []
    assert client.protocol.next_timer() <= 3.5


def test_audit_of_nothing_asks_nothing() -> None:
    """No request is outstanding."""
    client = Client()
    client.protocol.message_lost(1.0)
    assert client.protocol.timer_expired(2.0, transport(2.0)) == []


def test_settle_fails_the_output_that_was_lost_with_the_connection(client: Client) -> None:
    """The reply came, and the "idle" will not."""
    asked = client.send()
    client.receive("iopub", says("status", asked, execution_state="busy"))
    client.receive("shell", says("execute_reply", asked, status="ok"))
    for channel, barrier in begin(client):
        reply = barrier["msg_type"].replace("request", "reply")
        client.receive(channel, says(reply, barrier, status="ok"))
    actions = client.protocol.timer_expired(client.protocol.next_timer(), None)
    assert any("output" in action.text for action in actions)
    assert "lost with the connection" in str(client.sinks["iopub"].failures[asked["msg_id"]])
