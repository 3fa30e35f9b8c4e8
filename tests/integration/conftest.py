"""Fixtures of several modules."""

from __future__ import annotations

import pytest


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_blocking.launch.SEARCH_PAUSE", 0.05)
    monkeypatch.setattr("gateway_blocking.launch.RETRY_PAUSE_MAX", 0.2)
