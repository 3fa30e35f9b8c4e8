"""What messages say of a kernel's life."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.liveness import Look, Verdict, is_lost, verdict_of

PARENT = {"msg_id": "a"}


@pytest.mark.parametrize(
    ("msg_type", "parent", "content", "verdict"),
    [
        ("status", {}, {"execution_state": "restarting"}, Verdict.RESTARTED),
        ("status", {}, {"execution_state": "dead"}, Verdict.DEAD),
        ("status", {}, {"execution_state": "starting"}, None),
        ("status", PARENT, {"execution_state": "busy"}, None),
        ("status", PARENT, {"execution_state": "dead"}, None),
        ("status", {}, {}, None),
        ("shutdown_reply", PARENT, {"restart": False}, Verdict.DOUBTFUL),
        ("shutdown_reply", PARENT, {"restart": True}, Verdict.RESTARTED),
        ("stream", {}, {"text": "dead"}, None),
    ],
)
def test_a_verdict_from_a_message(
    msg_type: str, parent: dict[str, Any], content: dict[str, Any], verdict: Verdict | None
) -> None:
    """Only a gateway's own word, without a parent, or a shutdown says anything."""
    message = {
        "header": {"session": "k"},
        "msg_type": msg_type,
        "parent_header": parent,
        "content": content,
    }
    assert verdict_of(message, "k") is verdict


def test_the_end_of_another_process_is_no_news() -> None:
    """Such as of the one that the client itself has just had restarted."""
    message = {
        "header": {"session": "old"},
        "msg_type": "shutdown_reply",
        "parent_header": PARENT,
        "content": {"restart": True},
    }
    assert verdict_of(message, "new") is None
    assert verdict_of(message, None) is None


@pytest.mark.parametrize(
    ("silence", "look", "ever_heard", "acknowledged", "lost"),
    [
        (29, Look.QUIET, True, True, False),
        (31, Look.QUIET, True, True, True),  # it answers, only not here
        (31, Look.BUSY, True, False, True),
        (31, Look.QUIET, False, True, False),  # it may still wait for its kernel
        (71, Look.QUIET, False, True, True),
        (31, Look.REFUSAL, True, True, True),
        (31, Look.SILENCE, True, False, True),  # packets get lost
        (31, Look.SILENCE, True, True, False),  # it stands still
        (119, Look.SILENCE, True, True, False),
        (121, Look.SILENCE, True, True, True),
    ],
)
def test_silence(
    silence: float, look: Look, ever_heard: bool, acknowledged: bool, lost: bool
) -> None:
    """A websocket is given up where patience would lose more than another websocket."""
    assert lost is is_lost(
        silence, look, ever_heard=ever_heard, acknowledged=acknowledged, patience=30
    )
