"""What messages say of a kernel's life."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.liveness import KernelStatus, PollResult, should_abort, status_from_message

PARENT = {"msg_id": "a"}


@pytest.mark.parametrize(
    ("msg_type", "parent", "content", "verdict"),
    [
        ("status", {}, {"execution_state": "restarting"}, KernelStatus.RESTARTED),
        ("status", {}, {"execution_state": "dead"}, KernelStatus.DEAD),
        ("status", {}, {"execution_state": "starting"}, None),
        ("status", PARENT, {"execution_state": "busy"}, None),
        ("status", PARENT, {"execution_state": "dead"}, None),
        ("status", {}, {}, None),
        ("shutdown_reply", PARENT, {"restart": False}, KernelStatus.SHUTTING_DOWN),
        ("shutdown_reply", PARENT, {"restart": True}, KernelStatus.RESTARTED),
        ("stream", {}, {"text": "dead"}, None),
    ],
)
def test_a_verdict_from_a_message(
    msg_type: str, parent: dict[str, Any], content: dict[str, Any], verdict: KernelStatus | None
) -> None:
    """Only a gateway's own word, without a parent, or a shutdown says anything."""
    message = {
        "header": {"session": "k"},
        "msg_type": msg_type,
        "parent_header": parent,
        "content": content,
    }
    assert status_from_message(message, "k") is verdict


def test_the_end_of_another_process_is_no_news() -> None:
    """Such as of the one that the client itself has just had restarted."""
    message = {
        "header": {"session": "old"},
        "msg_type": "shutdown_reply",
        "parent_header": PARENT,
        "content": {"restart": True},
    }
    assert status_from_message(message, "new") is None
    assert status_from_message(message, None) is None


@pytest.mark.parametrize(
    ("silence", "look", "ever_heard", "acknowledged", "lost"),
    [
        (29, PollResult.IDLE, True, True, False),
        (31, PollResult.IDLE, True, True, True),  # it answers, only not here
        (31, PollResult.BUSY, True, False, True),
        (31, PollResult.IDLE, False, True, False),  # it may still wait for its kernel
        (71, PollResult.IDLE, False, True, True),
        (31, PollResult.ERROR, True, True, True),
        (31, PollResult.TIMEOUT, True, False, True),  # packets get lost
        (31, PollResult.TIMEOUT, True, True, False),  # it stands still
        (119, PollResult.TIMEOUT, True, True, False),
        (121, PollResult.TIMEOUT, True, True, True),
    ],
)
def test_silence(
    silence: float, look: PollResult, ever_heard: bool, acknowledged: bool, lost: bool
) -> None:
    """A websocket is given up where patience would lose more than another websocket."""
    assert lost is should_abort(
        silence, look, ever_heard=ever_heard, acknowledged=acknowledged, patience=30
    )
