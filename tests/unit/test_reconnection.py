"""When a websocket is opened again, and when reconnecting stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway_blocking.actions import GiveUp, Retry
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    NoSuchKernel,
)
from gateway_blocking.reconnection import Reconnection

REFUSED = GatewayConnectionError("connection refused")
FORBIDDEN = GatewayAuthError("401", status_code=401)
UNKNOWN = NoSuchKernel("404", status_code=404)
BUSY = GatewayHTTPError("503", status_code=503)


def reconnection(*delays: float) -> Reconnection:
    def generate() -> Iterator[float]:
        yield from delays

    return Reconnection(generate)


def test_lost_retries_with_the_delays_in_order() -> None:
    """Each attempt that fails takes the next delay."""
    attempts = reconnection(0.0, 1.0, 2.0)
    assert attempts.lost(REFUSED, 10.0) == Retry(0.0)
    assert attempts.failed(REFUSED, 10.0) == Retry(1.0)
    assert attempts.failed(BUSY, 11.0) == Retry(2.0)


def test_failed_gives_up_after_the_last_delay_and_says_how_often_it_tried() -> None:
    """The error names the last cause, and chains it."""
    attempts = reconnection(0.0, 1.0)
    attempts.lost(REFUSED, 10.0)
    attempts.failed(REFUSED, 10.0)
    decision = attempts.failed(BUSY, 13.0)
    assert isinstance(decision, GiveUp)
    assert "503 (and the websocket could not be opened again, tried 2 times within 3 s)" in str(
        decision.error
    )
    assert decision.error.__cause__ is BUSY


def test_failed_gives_up_with_the_advice_of_the_last_cause_at_the_end() -> None:
    """In the middle of the text, it would be told twice."""
    cause = GatewayConnectionError("refused", advice="check the port")
    decision = reconnection().lost(cause, 0.0)
    assert isinstance(decision, GiveUp)
    assert decision.error.args[0].startswith("refused (and the websocket could not be")
    assert decision.error.advice == "check the port"


def test_lost_gives_up_at_once_without_delays() -> None:
    """An option switches reconnecting off."""
    assert isinstance(reconnection().lost(REFUSED, 0.0), GiveUp)


def test_failed_gives_up_at_once_if_the_kernel_is_unknown() -> None:
    """No later attempt can find it."""
    attempts = reconnection(0.0, 1.0)
    attempts.lost(REFUSED, 0.0)
    assert isinstance(attempts.failed(UNKNOWN, 0.0), GiveUp)


def test_failed_tries_once_more_after_a_refusal() -> None:
    """The token's renewer is asked again; a second refusal in a row is final."""
    attempts = reconnection(0.0, 1.0, 2.0, 3.0)
    attempts.lost(REFUSED, 0.0)
    assert attempts.failed(FORBIDDEN, 0.0) == Retry(1.0)
    assert isinstance(attempts.failed(FORBIDDEN, 1.0), GiveUp)


def test_failed_forgets_a_refusal_that_another_error_followed() -> None:
    """Only two refusals in a row are final."""
    attempts = reconnection(0.0, 1.0, 2.0, 3.0)
    attempts.lost(REFUSED, 0.0)
    attempts.failed(FORBIDDEN, 0.0)
    attempts.failed(BUSY, 1.0)
    assert attempts.failed(FORBIDDEN, 3.0) == Retry(3.0)


def test_lost_continues_the_back_off_until_the_kernel_answered() -> None:
    """A websocket that opens and breaks at once does not begin it anew."""
    attempts = reconnection(0.0, 1.0, 2.0)
    assert attempts.lost(REFUSED, 0.0) == Retry(0.0)
    assert attempts.lost(REFUSED, 0.0) == Retry(1.0)
    attempts.succeeded()
    assert attempts.lost(REFUSED, 0.0) == Retry(0.0)


@pytest.mark.parametrize("error", [REFUSED, BUSY, UNKNOWN, FORBIDDEN])
def test_handshake_failed_gives_up_with_the_same_credentials(error: GatewayError) -> None:
    """The first error is the caller's."""
    decision = reconnection(0.0).handshake_failed(error, credentials_changed=False)
    assert decision == GiveUp(error)


def test_handshake_failed_tries_once_with_other_credentials() -> None:
    """A second refusal is final, whatever the credentials."""
    attempts = reconnection(0.0)
    assert attempts.handshake_failed(FORBIDDEN, credentials_changed=True) == Retry(0.0)
    assert attempts.handshake_failed(FORBIDDEN, credentials_changed=True) == GiveUp(FORBIDDEN)
    assert reconnection().handshake_failed(BUSY, credentials_changed=True) == GiveUp(BUSY)
