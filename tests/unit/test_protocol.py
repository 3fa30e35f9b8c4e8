"""The state machine of a connection: one decision a test, with a time of the test's own."""

from __future__ import annotations

import pytest
from jupyter_client.session import Session

from gateway_blocking import kernel_monitor
from gateway_blocking.actions import (
    GiveUp,
    LogMessage,
    PollKernel,
    PollReason,
    ReportResent,
    RestartToken,
    Retry,
    SendPing,
    State,
)
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    KernelGone,
    KernelRestarted,
    NoSuchKernel,
)
from gateway_blocking.liveness import KernelStatus, PollResult
from gateway_blocking.requests_table import Request
from gateway_blocking.wire import FORMATS, V1
from support.protocol import (
    LOST,
    PING_INTERVAL,
    PING_TIMEOUT,
    Client,
    frames_of,
    says,
    transport,
)


@pytest.fixture
def client() -> Client:
    return Client()


# --- opening and sending --------------------------------------------------------------------------


def test_epoch_to_send_is_none_until_the_first_websocket_is_open() -> None:
    """Callers wait while the gateway holds the handshake back."""
    client = Client(opened=False)
    assert client.protocol.state is State.CONNECTING
    assert client.protocol.epoch_to_send("shell") is None
    assert client.protocol.connection_opened(V1, 1.0) == ()
    assert client.protocol.epoch_to_send("shell") == 1


def test_connection_opened_after_close_changes_nothing(client: Client) -> None:
    """CLOSED is terminal."""
    client.protocol.close()
    assert client.protocol.connection_opened(V1, 1.0) == ()
    assert client.protocol.state is State.CLOSED


def test_register_refuses_the_websocket_that_was_lost(client: Client) -> None:
    """The caller then waits for the next one."""
    client.protocol.connection_lost(LOST, 1.0)
    message = client.message()
    frame = FORMATS[V1].encode("shell", message, client.session.pack)
    request = Request(message["msg_id"], "execute_request", "shell", V1, frame)
    assert not client.protocol.register(request, 1)


def test_epoch_to_send_lets_only_control_pass_while_it_recovers(client: Client) -> None:
    """A new request on shell must not overtake one that is sent again."""
    client.reconnect()
    assert client.protocol.state is State.RECOVERING
    assert client.protocol.epoch_to_send("shell") is None
    assert client.protocol.epoch_to_send("control") == 2


def test_epoch_to_send_after_close_names_what_ended_the_connection(client: Client) -> None:
    """The cause is chained, and the way out is named."""
    client.protocol.close(LOST)
    with pytest.raises(GatewayConnectionClosed, match="the websocket broke.*start_channels") as e:
        client.protocol.epoch_to_send("shell")
    assert e.value.__cause__ is LOST


def test_request_not_sent_may_be_sent_again(client: Client) -> None:
    """The kernel cannot have it."""
    request = client.register(client.message())
    assert client.protocol.request_not_sent(request, 1.0) is True
    assert client.protocol.kernel_restarting().requests == ()


def test_request_not_sent_after_the_kernel_ended_has_failed_already(client: Client) -> None:
    """It must not end twice."""
    request = client.register(client.message())
    client.protocol.kernel_ended(KernelStatus.DEAD)
    assert client.protocol.request_not_sent(request, 1.0) is False
    assert list(client.sinks["shell"].failures) == [request.msg_id]


# --- a thread that is writing while its websocket is lost -----------------------------------------


def test_recovery_waits_for_a_thread_that_is_writing(client: Client) -> None:
    """It knows best whether the gateway can have the request."""
    request = client.register(client.message())
    assert client.reconnect() == ()
    assert client.protocol.request_not_sent(request, 2.1) is True
    assert client.protocol.next_timer() == 2.1  # the second thread begins the recovery
    actions = client.protocol.timer_expired(2.1, None)
    assert [channel for channel, _ in frames_of(actions)] == ["control"]


def test_recovery_takes_over_what_a_thread_does_not_report(client: Client) -> None:
    """After a second: then the thread is told not to send it again."""
    request = client.register(client.message())
    assert client.reconnect() == ()
    assert client.protocol.next_timer() == 3.0
    actions = client.protocol.timer_expired(3.0, None)
    assert [channel for channel, _ in frames_of(actions)] == ["control"]
    assert client.protocol.request_not_sent(request, 3.1) is False


def test_writers_that_report_before_the_websocket_is_open_begin_nothing(client: Client) -> None:
    """The recovery begins with the websocket."""
    request = client.register(client.message())
    client.protocol.connection_lost(LOST, 1.0)
    assert client.protocol.request_sent(request, 1.1) == ()
    assert client.protocol.timer_expired(1.1, None) == []
    assert frames_of(client.protocol.connection_opened(V1, 1.2))


# --- losing the websocket -------------------------------------------------------------------------


def test_connection_failed_gives_up_if_the_kernel_is_unknown(client: Client) -> None:
    """Every pending request fails with KernelGone."""
    asked = client.send()
    client.protocol.connection_lost(LOST, 1.0)
    decision = client.protocol.connection_failed(NoSuchKernel("404"), 1.0)
    assert isinstance(decision, GiveUp)
    assert isinstance(client.sinks["shell"].failures[asked["msg_id"]], KernelGone)


def test_connection_failed_before_the_first_websocket_is_the_callers_error() -> None:
    """Only other credentials are worth another attempt."""
    protocol = Client(opened=False).protocol
    refused = GatewayAuthError("401")
    assert protocol.connection_failed(refused, 1.0, credentials_changed=True) == Retry(0.0)
    assert protocol.connection_failed(refused, 1.0, credentials_changed=True) == GiveUp(refused)


def test_events_after_close_ask_for_nothing(client: Client) -> None:
    """Whatever the threads still report."""
    client.protocol.close()
    assert isinstance(client.protocol.connection_lost(LOST, 1.0), GiveUp)
    assert isinstance(client.protocol.connection_failed(LOST, 1.0), GiveUp)
    poll = PollKernel(1, PollReason.PING)
    assert client.protocol.kernel_polled(poll, PollResult.DEAD, None, 1.0) == ()
    assert client.receive("iopub", says("stream", None)) == ()
    assert client.sinks["iopub"].messages == []
    assert client.protocol.next_timer() == float("inf")


@pytest.mark.parametrize(
    ("opened", "text"), [(True, "was lost: the websocket broke"), (False, "was not connected to")]
)
def test_close_with_an_error_tells_every_channel(opened: bool, text: str) -> None:
    """With the cause chained; closing twice changes nothing."""
    client = Client(opened=opened)
    client.protocol.close(LOST)
    client.protocol.close()
    for sink in client.sinks.values():
        assert text in str(sink.end)
        assert sink.end is not None
        assert sink.end.__cause__ is LOST


def test_close_after_the_kernels_end_tells_of_the_kernel(client: Client) -> None:
    """That is why the connection ended."""
    client.protocol.kernel_ended(KernelStatus.DEAD)
    client.protocol.close(LOST)
    assert type(client.sinks["shell"].end) is DeadKernelError


# --- recovery -------------------------------------------------------------------------------------


def test_recovery_resends_what_the_kernel_does_not_have(client: Client) -> None:
    """After the kernel proved that it ignores a repetition; then new requests pass."""
    client.receive("iopub", says("status", client.send(), execution_state="idle"))
    asked = client.send()
    [(_, question)] = frames_of(client.reconnect())
    actions = client.receive("control", says("kernel_info_reply", question))
    [(_, copy), (_, again)] = frames_of(actions)
    assert copy["msg_id"] == again["msg_id"]
    [(_, fence)] = frames_of(client.receive("control", says("kernel_info_reply", copy)))
    actions = client.receive("control", says("kernel_info_reply", fence))
    sent = frames_of(actions)
    assert sent[0][1]["msg_id"] == asked["msg_id"]
    assert isinstance(actions[-1], ReportResent)
    client.protocol.requests_resent(2, 2.0)
    assert client.protocol.state is State.OPEN
    for channel, barrier in sent[1:]:
        reply = barrier["msg_type"].replace("request", "reply")
        client.receive(channel, says(reply, barrier, status="ok"))
    actions = client.protocol.timer_expired(client.protocol.next_timer(), None)
    assert [action.level for action in actions] == ["warning", "warning"]
    assert [lost.executed for lost in client.sinks["shell"].losses] == [True, True]


def test_requests_resent_of_an_older_websocket_is_ignored(client: Client) -> None:
    """It was lost meanwhile."""
    client.reconnect()
    client.protocol.requests_resent(1, 2.0)
    assert client.protocol.state is State.RECOVERING


def test_recovery_never_resends_what_newer_requests_may_have_overtaken(client: Client) -> None:
    """The kernel did not answer on control in time, and new requests passed."""
    client.receive("iopub", says("status", client.send(), execution_state="idle"))
    asked = client.send()
    client.reconnect()
    while client.protocol.state is not State.OPEN:
        now = client.protocol.next_timer()
        for action in client.protocol.timer_expired(now, transport(now)):
            assert isinstance(action, PollKernel | SendPing)
            if isinstance(action, PollKernel):
                found = client.protocol.kernel_polled(action, PollResult.BUSY, transport(now), now)
                if any(isinstance(a, ReportResent) for a in found):
                    client.protocol.requests_resent(2, now)
    client.send()
    [(_, question)] = frames_of(client.reconnect())
    sent = frames_of(client.receive("control", says("kernel_info_reply", question)))
    assert asked["msg_id"] not in [message["msg_id"] for _, message in sent]
    # The newer one may still be sent again, so that the kernel is asked whether it ignores that.
    assert sent[0][1]["msg_id"] == sent[1][1]["msg_id"]
    [(_, fence)] = frames_of(client.receive("control", says("kernel_info_reply", sent[0][1])))
    sent = frames_of(client.receive("control", says("kernel_info_reply", fence)))
    assert asked["msg_id"] not in [message["msg_id"] for _, message in sent]


def test_recovery_takes_another_session_if_the_kernel_ignores_this_one(client: Client) -> None:
    """The gateway takes the new connection for a duplicate; the websocket is opened again."""
    before = client.protocol.session_id
    client.reconnect()
    for _ in range(6):
        now = client.protocol.next_timer()
        for action in client.protocol.timer_expired(now, transport(now)):
            if isinstance(action, PollKernel):
                client.protocol.kernel_polled(action, PollResult.IDLE, transport(now), now)
                if client.protocol.abort_reason:
                    assert client.protocol.session_id != before
                    assert client.protocol.state is State.RECONNECTING
                    return
    raise AssertionError("no other session was tried")


# --- pings and silence ----------------------------------------------------------------------------


def test_timer_expired_pings_and_polls(client: Client) -> None:
    """A websocket does not tell whether the kernel still exists."""
    assert client.protocol.timer_expired(PING_INTERVAL, transport(9.0)) == [
        SendPing(1),
        PollKernel(1, PollReason.PING),
    ]
    assert client.protocol.timer_expired(PING_INTERVAL + 1, transport(9.0)) == []


def test_timer_expired_only_polls_while_there_is_no_websocket() -> None:
    """The gateway may hold the handshake back because the kernel is gone."""
    client = Client(opened=False)
    assert client.protocol.timer_expired(PING_INTERVAL, None) == [PollKernel(0, PollReason.PING)]


def test_no_timer_is_armed_without_pings() -> None:
    """An interval of 0 switches them off."""
    assert Client(ping_interval=0).protocol.next_timer() == float("inf")


def test_silence_aborts_the_websocket_if_the_gateway_responds(client: Client) -> None:
    """It does, but not here: what is sent on this websocket is lost."""
    now = PING_INTERVAL + PING_TIMEOUT + 5.0
    actions = client.protocol.timer_expired(now, transport(5.0))
    poll = PollKernel(1, PollReason.SILENCE)
    assert poll in actions
    assert client.protocol.kernel_polled(poll, PollResult.IDLE, transport(5.0), now) == ()
    assert "nothing was received from the gateway for 30 s" in client.protocol.abort_reason
    assert client.protocol.epoch_to_send("shell") is None


def test_silence_of_a_frozen_gateway_is_waited_for(client: Client) -> None:
    """Its host acknowledges what is sent, and REST does not respond either."""
    now = PING_INTERVAL + PING_TIMEOUT + 5.0
    info = transport(5.0, acknowledged=True)
    client.protocol.timer_expired(now, info)
    poll = PollKernel(1, PollReason.SILENCE)
    assert client.protocol.kernel_polled(poll, PollResult.TIMEOUT, info, now) == ()
    assert client.protocol.state is State.OPEN


def test_silence_that_ended_before_the_timer_is_no_silence(client: Client) -> None:
    """The timer is armed for the next one."""
    now = PING_INTERVAL + PING_TIMEOUT
    assert PollKernel(1, PollReason.SILENCE) not in client.protocol.timer_expired(
        now, transport(now - 1)
    )


# --- messages -------------------------------------------------------------------------------------


def test_message_on_an_unknown_channel_is_only_logged(client: Client) -> None:
    """A gateway may know more channels than we do."""
    [log] = client.receive("lunch", says("stream", client.send()))
    assert isinstance(log, LogMessage)
    assert "'lunch'" in log.text


def test_reply_that_cannot_be_read_fails_its_request(client: Client) -> None:
    """It was executed, and the reason is told."""
    asked = client.send()
    client.receive("shell", says("execute_reply", asked, status="ok"), "not JSON")
    [lost] = client.sinks["shell"].losses
    assert (lost.msg_id, lost.executed) == (asked["msg_id"], True)
    assert "not JSON" in str(lost)


def test_question_that_cannot_be_read_fails_the_request_on_shell(client: Client) -> None:
    """Nothing else would end it."""
    client.receive("stdin", says("input_request", client.send()), "not JSON")
    [lost] = client.sinks["shell"].losses
    assert "interrupt_kernel()" in str(lost)


def test_late_reply_of_what_was_given_up_is_dropped(client: Client) -> None:
    """And its drop is logged."""
    asked = client.send()
    client.protocol.ignore_replies([asked["msg_id"]])
    [log] = client.receive("shell", says("execute_reply", asked, status="ok"))
    assert "dropped" in log.text
    assert client.sinks["shell"].messages == []


def test_message_lost_has_the_kernel_asked_whether_replies_are_missing(client: Client) -> None:
    """An audit: barriers behind what is outstanding, and its end fails what got no reply."""
    client.receive("iopub", says("status", asked := client.send(), execution_state="busy"))
    client.protocol.message_lost(1.0)
    sent = frames_of(client.protocol.timer_expired(2.0, transport(1.0)))
    assert [channel for channel, _ in sent] == ["shell", "shell"]
    for channel, barrier in sent:
        reply = barrier["msg_type"].replace("request", "reply")
        client.receive(channel, says(reply, barrier, status="ok"))
    client.protocol.timer_expired(2.5, transport(2.0))
    [lost] = client.sinks["shell"].losses
    assert (lost.msg_id, lost.executed) == (asked["msg_id"], True)


def test_audit_does_not_ask_about_a_request_that_is_being_written(client: Client) -> None:
    """The question could reach the kernel before the request."""
    client.register(client.message())
    client.protocol.message_lost(1.0)
    assert frames_of(client.protocol.timer_expired(2.0, transport(1.0))) == []


def test_limit_that_the_server_names_is_told_with_the_gap(client: Client) -> None:
    """It is the reason why output is missing."""
    asked = client.send()
    notice = client.session.msg(  # a gateway's own messages have the client's session ID
        "stream", {"name": "stderr", "text": "IOPub message rate exceeded.\n"}, parent=asked
    )
    client.receive("iopub", says("status", asked, execution_state="busy"))
    client.receive("iopub", notice)
    for _ in range(3):
        says("stream", asked)  # which the gateway drops
    client.receive("shell", says("execute_reply", asked, status="ok"))
    [log] = client.receive("iopub", says("status", asked, execution_state="idle"))
    assert "is missing: at least" in log.text
    assert "iopub_msg_rate_limit" in log.text
    assert client.protocol.missing(asked["msg_id"])
    assert client.protocol.may_lack_output(asked["msg_id"])


# --- the kernel's end -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kind"), [("dead", DeadKernelError), ("restarting", KernelRestarted)]
)
def test_status_of_the_gateway_fails_what_is_pending(
    client: Client, state: str, kind: type[DeadKernelError]
) -> None:
    """And everything that is asked later, until the kernel is trusted again."""
    asked = client.send()
    client.receive("iopub", says("status", None, execution_state=state))
    assert type(client.sinks["shell"].failures[asked["msg_id"]]) is kind
    with pytest.raises(kind):
        client.protocol.epoch_to_send("shell")
    client.protocol.revive()
    assert client.protocol.abort_reason == "the kernel was restarted"
    assert client.protocol.kernel_status is KernelStatus.ALIVE


def test_message_of_another_process_means_a_restart(client: Client) -> None:
    """A gateway may restart a kernel without a word."""
    first = client.send()
    client.receive("iopub", says("status", first, execution_state="busy"))
    other = Session(key=b"secret")
    client.receive("iopub", other.msg("status", {"execution_state": "busy"}, parent=client.send()))
    assert isinstance(client.sinks["shell"].failures[first["msg_id"]], KernelRestarted)


def see_a_restart(client: Client) -> RestartToken:
    """Hear of the new process before the restart returns; return what the restart has noted."""
    token = client.protocol.kernel_restarting()
    client.receive(
        "iopub",
        Session(key=b"secret").msg("status", {"execution_state": "busy"}, parent=client.send()),
    )
    client.protocol.revive()
    client.reconnect()
    client.protocol.requests_resent(2, 2.0)
    return token


def test_revive_takes_another_session_id(client: Client) -> None:
    """Two websockets of one session_id exclude each other if the kernel restarts beside both."""
    before = client.protocol.session_id
    client.send()
    client.receive("iopub", says("status", None, execution_state="restarting"))
    client.protocol.revive()
    assert client.protocol.session_id != before


def test_revive_keeps_the_session_id_of_a_request_to_the_new_process(client: Client) -> None:
    """The gateway sends its reply to this session_id only."""
    client.receive("iopub", says("status", client.send(), execution_state="busy"))
    token = see_a_restart(client)
    client.send()
    before = client.protocol.session_id
    client.protocol.kernel_restarted(token, KernelRestarted("restarted here"))
    assert client.protocol.session_id == before


def test_revive_without_a_websocket_aborts_none(client: Client) -> None:
    """The next one is on its way."""
    client.protocol.connection_lost(LOST, 1.0)
    client.protocol.revive()
    assert client.protocol.abort_reason == ""


def test_kernel_restarted_fails_only_what_the_old_process_was_asked(client: Client) -> None:
    """Another thread may have asked the new process already."""
    client.receive("iopub", says("status", old := client.send(), execution_state="busy"))
    token = see_a_restart(client)
    new = client.send()
    client.protocol.kernel_restarted(token, KernelRestarted("restarted here"))
    failed = client.sinks["shell"].failures
    assert old["msg_id"] in failed
    assert new["msg_id"] not in failed


def test_shutdown_is_believed_if_the_gateway_no_longer_knows_the_kernel(client: Client) -> None:
    """The kernel announces it; only REST can tell."""
    client.receive("iopub", says("shutdown_reply", None, restart=False))
    assert client.protocol.kernel_status is KernelStatus.SHUTTING_DOWN
    poll = PollKernel(1, PollReason.SHUTDOWN)
    assert client.protocol.timer_expired(1.0, transport(1.0)) == [poll]
    client.protocol.kernel_polled(poll, PollResult.BUSY, transport(1.0), 1.0)
    assert client.protocol.kernel_status is KernelStatus.SHUTTING_DOWN
    client.protocol.kernel_polled(poll, PollResult.GONE, transport(1.0), 1.3)
    assert client.protocol.kernel_status is KernelStatus.GONE


def test_shutdown_that_does_not_happen_is_forgotten(client: Client) -> None:
    """Something else answered with the same message."""
    client.receive("iopub", says("shutdown_reply", None, restart=False))
    poll = PollKernel(1, PollReason.SHUTDOWN)
    for _ in range(kernel_monitor._SHUTDOWN_POLLS):
        client.protocol.kernel_polled(poll, PollResult.IDLE, transport(1.0), 1.0)
    assert client.protocol.kernel_status is KernelStatus.ALIVE
    client.protocol.kernel_polled(poll, PollResult.GONE, transport(1.0), 1.0)
    assert client.protocol.kernel_status is KernelStatus.ALIVE


@pytest.mark.parametrize(
    ("result", "status"),
    [(PollResult.DEAD, KernelStatus.DEAD), (PollResult.GONE, KernelStatus.SHUTTING_DOWN)],
)
def test_poll_tells_of_the_kernels_end(
    client: Client, result: PollResult, status: KernelStatus
) -> None:
    """A kernel that the gateway does not know is asked for again first."""
    client.protocol.kernel_polled(PollKernel(1, PollReason.PING), result, transport(1.0), 1.0)
    assert client.protocol.kernel_status is status


@pytest.mark.parametrize("result", [PollResult.DEAD, PollResult.GONE])
def test_poll_that_began_before_a_restart_says_nothing_of_the_new_process(
    client: Client, result: PollResult
) -> None:
    """Its response may come afterwards, and tell that the process before is dead."""
    now = client.protocol.next_timer()
    polls: list[PollKernel] = []
    while not polls:
        actions = client.protocol.timer_expired(now, transport(0.0))
        polls = [action for action in actions if isinstance(action, PollKernel)]
        now = max(now, client.protocol.next_timer())
    client.protocol.kernel_restarted(
        client.protocol.kernel_restarting(), KernelRestarted("restarted here")
    )
    client.protocol.kernel_polled(polls[0], result, None, now)
    assert client.protocol.kernel_status is KernelStatus.ALIVE


def test_kernel_that_never_said_anything_and_is_gone_died_while_starting(client: Client) -> None:
    """The text says so, and where to look."""
    client.protocol.kernel_ended(KernelStatus.GONE)
    assert "it died while starting" in str(client.sinks["shell"].death)
    assert "the gateway's log says more" in str(client.sinks["shell"].death)


def test_repr_shows_state_status_and_epoch(client: Client) -> None:
    """For a debugger."""
    assert repr(client.protocol) == "<KernelProtocol 12345678, OPEN, kernel ALIVE, epoch 1>"
