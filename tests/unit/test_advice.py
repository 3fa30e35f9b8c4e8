"""What to do about a failure, as far as no server is needed to know it."""

from __future__ import annotations

import pytest

from gateway_blocking.advice import exceeded_limit, for_lost_output, for_status, for_websocket

SAID = """IOPub {} rate exceeded.
The Jupyter server will temporarily stop sending output
to the client in order to avoid crashing it.
"""


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (SAID.format("data"), "iopub_data_rate_limit"),
        ("\n" + SAID.format("message"), "iopub_msg_rate_limit"),
        ("I said: IOPub data rate exceeded", ""),
        ("", ""),
        (None, ""),
        (["IOPub data rate exceeded"], ""),
    ],
)
def test_the_limit_that_a_server_names(text: object, limit: str) -> None:
    """It stands at the beginning of what the server writes, which may be anything."""
    assert exceeded_limit(text) == limit


def test_lost_output_has_the_right_option_for_each_server() -> None:
    """A Kernel Gateway does not know the option that the server's own words name."""
    text = for_lost_output("iopub_data_rate_limit")
    new = "a Kernel Gateway 3 or a Jupyter Server 2 with --ZMQChannelsWebsocketConnection."
    assert f"{new}iopub_data_rate_limit=0" in text
    assert "a Jupyter Server 1 with --ServerApp.iopub_data_rate_limit=0" in text
    assert "limit" not in for_lost_output("")


@pytest.mark.parametrize(
    ("sent", "advice"),
    [
        ({}, "no token was sent: set auth_token"),
        ({"Authorization": "token x"}, "the token is wrong, or not sent as this gateway wants it"),
        ({"Authorization": "Basic x"}, "check http_user (JUPYTER_GATEWAY_HTTP_USER) and http_pwd"),
    ],
)
def test_a_403_says_what_was_sent(sent: dict[str, str], advice: str) -> None:
    """A Jupyter Server answers it where a Kernel Gateway says 401."""
    for text in (for_status(403, sent, ""), for_websocket(403, sent, "", rest_allowed=False)):
        assert text.startswith(advice)
        assert "; or the user may not" in text
