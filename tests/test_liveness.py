"""What messages say of a kernel's life."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.liveness import Verdict, verdict_of

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
        ("shutdown_reply", PARENT, {"restart": True}, None),
        ("stream", {}, {"text": "dead"}, None),
    ],
)
def test_a_verdict_from_a_message(
    msg_type: str, parent: dict[str, Any], content: dict[str, Any], verdict: Verdict | None
) -> None:
    """Only a gateway's own word, without a parent, or a shutdown says anything."""
    message = {"msg_type": msg_type, "parent_header": parent, "content": content}
    assert verdict_of(message) is verdict
