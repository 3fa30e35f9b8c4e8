"""Texts and types of the errors that tell a client what became of its requests."""

from __future__ import annotations

import pytest

from gateway_blocking import outcomes
from gateway_blocking.errors import (
    DeadKernelError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    KernelGone,
    KernelRestarted,
    NoSuchKernel,
)
from gateway_blocking.liveness import KernelStatus
from gateway_blocking.requests_table import Request, RequestTable


def request(*, seen: bool = False, idle: bool = False) -> Request:
    return Request("asked", "execute_request", "shell", "", (1, b""), seen=seen, idle=idle)


@pytest.mark.parametrize(
    ("seen", "idle", "repeated", "reconnected", "executed"),
    [
        (True, False, False, True, True),
        (False, False, True, True, True),  # the kernel ignored the copy: it had the first
        (False, False, False, True, None),
        (True, True, False, False, None),  # interrupted, it may have been executed in part
        (True, False, False, False, True),
        (False, False, False, False, None),
    ],
)
def test_execution_outcome_claims_only_what_is_known(
    seen: bool, idle: bool, repeated: bool, reconnected: bool, executed: bool | None
) -> None:
    """None means that it cannot be known; each outcome has its reason."""
    asked = request(seen=seen, idle=idle)
    found, why = outcomes.execution_outcome(asked, repeated, reconnected)
    assert found is executed
    assert ("once" in why) == (executed is True)


def test_reply_lost_has_what_a_program_needs_to_decide() -> None:
    """The ID finds the request, and `executed` says whether it may be sent again."""
    lost = outcomes.reply_lost("k", request(), None, "the reason")
    assert (lost.msg_id, lost.executed) == ("asked", None)
    assert str(lost) == "no reply to the execute_request asked to kernel k: the reason"


def test_unreadable_question_says_how_to_end_the_execution() -> None:
    """The kernel waits for an answer that no caller can give; a reply needs no such advice."""
    question = outcomes.unreadable_reply("k", "stdin", "asked", "input_request", "why")
    assert "interrupt_kernel()" in str(question)
    reply = outcomes.unreadable_reply("k", "shell", "asked", "execute_reply", "why")
    assert "its execute_reply cannot be read: why" in str(reply)
    assert reply.executed
    assert question.executed


@pytest.mark.parametrize(
    ("status", "was_heard", "kind", "text"),
    [
        (KernelStatus.RESTARTED, True, KernelRestarted, "wait_for_ready() to continue"),
        (KernelStatus.GONE, True, KernelGone, "was shut down or culled"),
        (KernelStatus.GONE, False, KernelGone, "it died while starting, most likely"),
        (KernelStatus.DEAD, False, DeadKernelError, "gave up restarting it"),
    ],
)
def test_death_has_the_type_and_the_text_of_the_status(
    status: KernelStatus, was_heard: bool, kind: type[Exception], text: str
) -> None:
    """A kernel that never said anything most likely died while starting."""
    error = outcomes.death("k", status, "", was_heard=was_heard)
    assert type(error) is kind
    assert text in str(error)
    assert str(outcomes.death("k", status, "known better", was_heard=was_heard)) == "known better"


def test_connection_lost_tells_whether_anything_may_have_been_executed() -> None:
    """Nothing was sent on a connection that was never open."""
    cause = GatewayConnectionError("the websocket broke")
    lost = outcomes.connection_lost("k", cause, was_open=True)
    never = outcomes.connection_lost("k", cause, was_open=False)
    assert "may have been executed or not" in str(lost)
    assert "executed" not in str(never)
    for error in (lost, never):
        assert isinstance(error, GatewayConnectionClosed)
        assert error.__cause__ is cause


def test_missing_output_names_the_cause_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that came and cannot be read is not the fault of a limit."""
    table = RequestTable("own")
    limit = "iopub_data_rate_limit"
    text = outcomes.missing_output("k", "asked", table, limit)
    assert "may be missing" in text
    assert limit in text
    monkeypatch.setattr(table, "missing", lambda msg_id: 2)
    monkeypatch.setattr(table, "why_unreadable", lambda msg_id: "not JSON")
    text = outcomes.missing_output("k", "asked", table, limit)
    assert "at least 2 messages" in text
    assert text.endswith("cannot be read: not JSON")


def test_connection_lost_tells_the_cause_and_its_advice_once() -> None:
    """The error of the last attempt is the cause, and not the one that counts the attempts."""
    refused = GatewayConnectionError("cannot open it: refused", advice="check the port")
    gave_up = GatewayConnectionError("cannot open it: refused (tried 6 times)", advice="check it")
    gave_up.__cause__ = refused
    lost = outcomes.connection_lost("k", gave_up, was_open=True)
    assert str(lost) == (
        "the connection to kernel k was lost: cannot open it: refused (tried 6 times); what was"
        " asked of the kernel before may have been executed or not; check it"
    )
    assert lost.__cause__ is refused


@pytest.mark.parametrize(
    ("failure", "end"),
    [
        (NoSuchKernel("404", advice="the kernel was culled"), "(404); the kernel was culled"),
        (
            GatewayConnectionError("refused", advice="check the port"),
            "(refused); check the port; start_channels() opens a new one",
        ),
        (OSError("broken"), "(broken); start_channels() opens a new one"),
    ],
)
def test_not_connected_suggests_a_new_connection_unless_the_kernel_is_gone(
    failure: Exception, end: str
) -> None:
    """The advice is told once, at the end."""
    error = outcomes.not_connected("k", failure)
    assert str(error) == f"cannot send a message to kernel k: the connection is closed {end}"
    assert error.__cause__ is failure
