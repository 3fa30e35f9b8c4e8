"""``jupyter gateway status`` at a port that does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway_blocking.cli.status import StatusCommand
from gateway_blocking.config import GatewayClient
from support.scripted import Server, scripted, stalls


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve a port that accepts connections and never answers, to a command in haste."""
    for name in ("CONNECT_TIMEOUT", "REQUEST_TIMEOUT"):
        monkeypatch.delenv(f"JUPYTER_GATEWAY_{name}", raising=False)
    monkeypatch.setattr("gateway_blocking.cli.status.STATUS_REQUEST_TIMEOUT", 1.1)
    monkeypatch.setattr("gateway_blocking.cli.status.STATUS_PATIENCE", 0.01)
    with scripted(stalls()) as server:
        yield server


def command(server: Server, *options: str) -> StatusCommand:
    status = StatusCommand()
    status.initialize([f"--url=http://{server.where}", *options])
    return status


def test_a_port_that_never_answers_fails_within_the_timeout_of_the_command(
    silent: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A response may take as long as the start of a kernel elsewhere: 42 seconds of silence."""
    assert command(silent).run() == 3
    out, err = capsys.readouterr()
    assert "FAILED  answer" in out
    assert "no response within 1.1 s (request_timeout)" in out
    assert "to wait longer, raise request_timeout" in out
    assert err.endswith(
        "jupyter gateway status: waiting for the response to"
        f" GET http://{silent.where}/api/kernelspecs, for up to 1.1 s\n"
    )


def test_a_timeout_that_is_configured_replaces_that_of_the_command(
    silent: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time that a kernel may take to start does not extend it."""
    assert command(silent, "--GatewayClient.request_timeout=0.3").run() == 3
    assert "no response within 0.3 s (request_timeout)" in capsys.readouterr().out


def test_a_start_keeps_the_time_that_is_configured() -> None:
    """Only the requests that start nothing are in haste."""
    status = StatusCommand()
    status.initialize(["--url=http://h"])
    gateway = GatewayClient(config=status.config)
    assert status._in_haste(gateway).effective_request_timeout == 10
    assert status._in_haste(gateway).connect_timeout == 10
    assert gateway.effective_request_timeout == 42
