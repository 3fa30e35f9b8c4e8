"""LocalGateway: its options, its environment and its end; the process itself needs a system."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import local as module
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import GatewayError, GatewayTimeout
from gateway_blocking.local import LocalGateway


class Process:
    """A process that has written a line to its standard output, and perhaps ended."""

    pid = 1
    stdin = None

    def __init__(self, output: bytes = b"", status: int | None = None) -> None:
        self.stdout = io.BytesIO(output)
        self.status = status
        self.calls: list[str] = []

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout: float | None = None) -> int | None:
        return self.status

    def kill(self) -> None:
        self.calls.append("kill")


def test_arguments_in_one_text_are_refused() -> None:
    """Each character would become an argument."""
    with pytest.raises(TypeError, match="must be a sequence of arguments"):
        LocalGateway(kernel_gateway_args="--debug")


def test_options_of_a_gateway_that_does_not_run_is_an_error() -> None:
    """A client without a URL would say that no gateway is configured."""
    gateway = LocalGateway()
    with pytest.raises(GatewayError, match=r"call start\(\) first"):
        gateway.options()
    assert gateway.pid is None
    assert gateway.log_tail() == ""
    gateway.stop()


def test_each_gateway_has_a_token_of_its_own() -> None:
    """Other users of the machine can reach its port."""
    assert len({LocalGateway().token for _ in range(3)}) == 3


def test_environment_leaves_out_what_would_configure_the_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a gateway's URL it would be a proxy of itself; the own variables come last."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://other")
    monkeypatch.setenv("KG_PORT", "1")
    monkeypatch.setenv("KEPT", "yes")
    gateway = LocalGateway(env={"KG_BASE_URL": "/b", "KEPT": "mine"})
    environment = gateway._environment()
    assert "JUPYTER_GATEWAY_URL" not in environment
    assert "KG_PORT" not in environment
    assert (environment["KG_BASE_URL"], environment["KEPT"]) == ("/b", "mine")
    assert gateway.token in environment.values()


def test_url_comes_from_the_line_that_the_gateway_writes() -> None:
    """The system chooses the port."""
    process: Any = Process(b'{"url": "http://127.0.0.1:1234"}\n')
    assert LocalGateway()._wait_until_it_listens(process) == "http://127.0.0.1:1234"


def test_gateway_that_ends_instead_of_listening_is_an_error(tmp_path: Path) -> None:
    """The text has the status and the end of the log."""
    gateway = LocalGateway()
    gateway.log_path = tmp_path / "gateway.log"
    gateway.log_path.write_text("first\nno such option\n")
    process: Any = Process(b"", status=2)
    with pytest.raises(GatewayError, match=r"status 2 instead of listening.*no such option") as e:
        gateway._wait_until_it_listens(process)
    assert not isinstance(e.value, GatewayTimeout)


def test_gateway_that_does_not_listen_in_time_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start is bounded."""
    monkeypatch.setattr(module, "_first_line", lambda pipe, deadline: None)
    process: Any = Process()
    with pytest.raises(GatewayTimeout, match="did not listen within 5 seconds"):
        LocalGateway(start_timeout=5)._wait_until_it_listens(process)


def test_first_line_ends_with_the_pipe_or_the_deadline() -> None:
    """A thread reads the pipe, and closes it."""
    assert module._first_line(io.BytesIO(b"one\ntwo\n"), Deadline(60)) == b"one\n"
    assert module._first_line(io.BytesIO(b""), Deadline(60)) == b""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb"):
        assert module._first_line(os.fdopen(reading, "rb"), Deadline(0)) is None


def test_packages_that_are_missing_are_named() -> None:
    """The error says how to install them."""
    with pytest.raises(GatewayError, match=r"needs no_such_module, .*gateway-blocking\[local\]"):
        module._require("json", "no_such_module")


def test_stop_in_a_forked_child_leaves_the_process_alone(tmp_path: Path) -> None:
    """It belongs to the parent, and so does its folder."""
    process: Any = Process()
    module._stop(process, tmp_path, [], owner=os.getpid() + 1)
    assert process.calls == []
    assert tmp_path.is_dir()


def test_stop_of_a_process_that_has_ended_removes_its_folder(tmp_path: Path) -> None:
    """Nothing of it is left behind."""
    process: Any = Process(status=0)
    module._stop(process, tmp_path / "folder", [], owner=os.getpid())
    assert process.calls == []
