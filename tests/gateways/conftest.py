"""What several modules with real gateways use."""

from __future__ import annotations

import pytest


@pytest.fixture
def default_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients offer no subprotocol that the gateway has, so that both use the default format.

    A gateway takes a late frame of a websocket that it has replaced for one of the default format.
    If it was one of the other format, it reads there that 100 million parts follow.  It then takes
    3.3 GB for that, in a cache that it keeps (jupyter_server 2.21.1, Python 3.11).
    """
    monkeypatch.setattr("gateway_blocking.connector.V1", "unknown")
