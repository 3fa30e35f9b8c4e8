"""A gateway that is still coming up: which calls wait for it, and for what they do not wait."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from gateway_blocking import BlockingGatewayKernelManager, GatewayClient, run_kernel
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
)
from gateway_blocking.failures import is_coming_up
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.rawserver import Peer, Script
from support.scripted import rest_of, says, scripted, sends, stalls
from support.servers import upstream_of
from support.terminal import Terminal

UP = says({"version": "1"})
UNAVAILABLE = says({}, "503 Service Unavailable")


class Late:
    """An address that refuses connections until :meth:`come_up`, and then leads to a gateway."""

    def __init__(self, gateway: LocalGateway) -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            self.port = reserved.getsockname()[1]
        self.options = {**gateway.options(), "url": f"http://127.0.0.1:{self.port}"}
        self.upstream = upstream_of(gateway)
        self.proxy: FaultProxy | None = None

    def come_up(self) -> None:
        self.proxy = FaultProxy(*self.upstream, own_port=self.port)

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()


@contextmanager
def late(gateway: LocalGateway, seconds: float = 1.5) -> Iterator[dict[str, Any]]:
    """The options for an address that refuses, and after a while leads to the gateway."""
    with closing(Late(gateway)) as address:
        timer = threading.Timer(seconds, address.come_up)
        timer.start()
        try:
            yield address.options
        finally:
            timer.join()


@pytest.mark.parametrize("script", [sends(b""), Peer.reset, UNAVAILABLE])
def test_a_gateway_that_comes_up_is_waited_for(script: Script) -> None:
    """Its port ends connections, or a proxy says that it is not there; it is asked harmlessly."""
    with scripted(script, script, script, UP) as server:
        GatewayClient(url=f"http://{server.where}").wait_until_up(60)
    assert server.lines == ["GET /api"] * 4


@pytest.mark.parametrize("status", ["401 No", "403 No", "404 No", "500 Oops", "302 Found"])
def test_any_other_answer_ends_the_wait(status: str) -> None:
    """It is up; whether it lets one in, the next request tells."""
    with scripted(says({}, status)) as server:
        GatewayClient(url=f"http://{server.where}").wait_until_up(60)
    assert server.lines == ["GET /api"]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Peer.reset, GatewayConnectionError),
        (UNAVAILABLE, GatewayHTTPError),
        (stalls(), GatewayTimeout),
    ],
)
def test_the_wait_has_an_end(
    script: Script, kind: type[GatewayError], caplog: pytest.LogCaptureFixture
) -> None:
    """The error is the last one; that it waits, and why, was said once, at the beginning."""
    caplog.set_level(logging.WARNING, "tests")
    options = {"log": logging.getLogger("tests")}
    with scripted(script) as server, rest_of(server, **options) as rest:
        begin = time.monotonic()
        with pytest.raises(kind):
            rest.wait_until_up(0.5)
        assert time.monotonic() - begin < 15
    told = [record.getMessage() for record in caplog.records if record.name == "tests"]
    assert len(told) <= 1
    assert all("; waiting up to 0.5 s for the gateway" in text for text in told)


def test_a_close_ends_the_wait() -> None:
    """Of another thread."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with rest_of(f"http://127.0.0.1:{port}") as rest:
        timer = threading.Timer(0.5, rest.close)
        timer.start()
        with pytest.raises(GatewayConnectionError, match="refused"):
            rest.wait_until_up()
        timer.join()


def test_a_wrong_host_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a certificate that is not accepted, nor what is no gateway."""

    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(GatewayConnectionError, match="check the host name"):
        GatewayClient(url="http://gateway.invalid").wait_until_up(600)
    monkeypatch.undo()
    for script in (sends(b"SSH-2.0-x\r\n\r\n"), says(b"<html>")):
        with scripted(script) as server, pytest.raises(GatewayConnectionError, match="gateway"):
            GatewayClient(url=f"http://{server.where}").wait_until_up(600)


def test_what_may_come_up() -> None:
    """The decision, by the error and by what it came from."""

    def with_cause(error: GatewayError, cause: BaseException | None) -> GatewayError:
        error.__cause__ = cause
        return error

    connection = GatewayConnectionError
    assert is_coming_up(with_cause(connection(""), ConnectionRefusedError()))
    assert is_coming_up(with_cause(connection(""), ConnectionResetError()))
    assert is_coming_up(GatewayTimeout(""))
    assert is_coming_up(GatewayHTTPError("", status_code=503))
    assert not is_coming_up(GatewayHTTPError("", status_code=500))
    assert not is_coming_up(with_cause(connection(""), socket.gaierror()))
    assert not is_coming_up(with_cause(connection(""), OSError("No route to host")))
    assert not is_coming_up(connection(""))


def test_run_kernel_waits(gateway: LocalGateway) -> None:
    """As start_new_kernel() does, within the startup_timeout."""
    with late(gateway) as options, run_kernel(**options, startup_timeout=60) as kc:
        assert kc.execute("1", reply=True, timeout=60)["content"]["status"] == "ok"


def test_nbclient_waits(gateway: LocalGateway) -> None:
    """Within its own startup_timeout; so do papermill and all that use it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    with late(gateway) as options:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            kernel_manager_class="gateway_blocking.BlockingGatewayKernelManager",
            config=Config({"GatewayClient": options}),
        )
        client.execute()
    assert notebook.cells[0].outputs[0].text == "42\n"


def test_the_command_run_waits(gateway: LocalGateway, terminal: Terminal) -> None:
    """And says at once what it waits for."""
    terminal.write("a.py", "print(6 * 7)")
    with (
        closing(Late(gateway)) as address,
        terminal.popen("run", f"--url={address.options['url']}", "a.py") as process,
    ):
        assert process.stderr is not None
        told = process.stderr.readline()
        address.come_up()
        out, _ = process.communicate(timeout=90)
    assert "refused" in told
    assert "for the gateway" in told
    assert (process.returncode, out) == (0, "42\n")


def test_a_managers_start_does_not_wait(gateway: LocalGateway) -> None:
    """A wrong port is an error at once."""
    with (
        closing(Late(gateway)) as address,
        BlockingGatewayKernelManager(**address.options) as km,
        pytest.raises(GatewayConnectionError, match="the port is right"),
    ):
        begin = time.monotonic()
        km.start_kernel()
    assert time.monotonic() - begin < 30, "waiting would take a minute"


def test_the_status_waits_if_it_is_told_to(gateway: LocalGateway, terminal: Terminal) -> None:
    """For a script: the next command finds a gateway that answers."""
    with (
        closing(Late(gateway)) as address,
        terminal.popen("status", f"--url={address.options['url']}", "--wait=60") as process,
    ):
        assert process.stderr is not None
        assert "refused" in process.stderr.readline()
        address.come_up()
        out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "it answers, after" in out
    done = terminal("status", "--url=http://127.0.0.1:1", "--wait=0.1")
    assert done.returncode == 3
    assert "check that the gateway is running" in done.stdout.splitlines()[-1]
