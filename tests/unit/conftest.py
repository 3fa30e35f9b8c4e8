"""Keep what needs a server or a process out of the unit tests."""

from __future__ import annotations

import socket
import subprocess
from typing import Any

import pytest

from gateway_blocking.http import Requester


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


class UnwatchedHold:
    """A hold on a kernel that no second process watches."""

    def release(self) -> None:
        """End it."""

    def started(self) -> None:
        """Note that the kernel has started."""


@pytest.fixture
def _without_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let managers own kernels without the process that deletes them in the end."""
    monkeypatch.setattr(Requester, "hold", lambda *_: UnwatchedHold())
