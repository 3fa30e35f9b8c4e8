"""Keep what needs a server or a process out of the unit tests."""

from __future__ import annotations

import socket
import subprocess
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_server_and_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a unit test that binds or connects a socket, or that starts a process."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a unit test uses no server and no other process: see docs/contributing.rst")

    for name in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture(scope="session")
def gateway() -> None:
    """Fail what uses the gateway of the session, such as the fixtures ``kc`` and ``terminal``."""
    pytest.fail("a unit test has no gateway: it belongs into another folder")
