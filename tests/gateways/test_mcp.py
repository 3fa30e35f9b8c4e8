"""``jupyter gateway mcp``, driven by the MCP SDK's own client, and by one that misbehaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import GatewayClient, run_kernel
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.faultproxy import FaultProxy
from support.servers import kernels_of
from support.terminal import Terminal, wait_for, without_a_gateway
from support.waiting import wait_until

pytest.importorskip("mcp", reason="the MCP SDK is not installed")

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, ImageContent, TextContent

Scenario = Callable[[ClientSession], Awaitable[None]]

PICTURE = """
import base64
from IPython.display import Image, display
display(Image(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
                               "awAAAABJRU5ErkJggg==")))
"""


def server_of(terminal: Terminal, *args: str) -> StdioServerParameters:
    command = ["-m", "gateway_blocking", "mcp", *args]
    directory = terminal.directory
    return StdioServerParameters(
        command=sys.executable, args=command, env=terminal.env, cwd=directory
    )


def converse(terminal: Terminal, *args: str, scenario: Scenario) -> None:
    """Let the SDK's client start the server, and do what the scenario does with it."""

    async def main() -> None:
        with anyio.fail_after(90):
            server = server_of(terminal, *args)
            async with stdio_client(server) as pipes, ClientSession(*pipes) as session:
                await session.initialize()
                await scenario(session)

    anyio.run(main)


@dataclass
class Conversation:
    """A session that several tests share, because a server takes seconds to start."""

    portal: BlockingPortal
    session: ClientSession

    def __call__(self, scenario: Scenario) -> None:
        async def within_a_time() -> None:
            with anyio.fail_after(90):
                await scenario(self.session)

        self.portal.call(within_a_time)


@pytest.fixture(scope="module")
def shared(
    gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Conversation]:
    """A session whose kernel runs already, and in which ``x`` is 1."""
    server = server_of(Terminal(tmp_path_factory.mktemp("shared"), gateway))
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(stdio_client(server)) as pipes,
        portal.wrap_async_context_manager(ClientSession(*pipes)) as session,
    ):
        portal.call(session.initialize)
        portal.call(run_code, session, "import pathlib, time; x = 1")
        yield Conversation(portal, session)


@pytest.fixture
def new_kernels(gateway: LocalGateway) -> Callable[[], list[str]]:
    """``new_kernels()`` returns the kernels that were started since the test began."""
    before = kernels_of(gateway)
    return lambda: [kernel_id for kernel_id in kernels_of(gateway) if kernel_id not in before]


async def run_code(session: ClientSession, code: str, **more: Any) -> tuple[bool, str]:
    """Return True if it is an error, and the text."""
    done = await session.call_tool("run_code", {"code": code, **more})
    return bool(done.is_error), text_of(done)


def text_of(done: Any) -> str:
    assert isinstance(done, CallToolResult)
    return "".join(each.text for each in done.content if isinstance(each, TextContent))


# --- what the tools do ----------------------------------------------------------------------------


def test_code_is_executed_in_one_kernel_that_ends_with_the_session(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    """The first call starts it, and later calls have its variables."""

    async def scenario(session: ClientSession) -> None:
        names = [tool.name for tool in (await session.list_tools()).tools]
        assert names[:4] == ["run_code", "list_kernels", "interrupt_kernel", "restart_kernel"]
        assert not {"start_kernel", "stop_kernel", "upload_file", "download_file"} & set(names)
        assert new_kernels() == []
        assert await run_code(session, "x = 6\nprint('hi')\nx * 7") == (False, "hi\n42")
        [kernel_id] = new_kernels()
        assert await run_code(session, "x") == (False, "6")
        assert await run_code(session, "pass") == (False, "[the code ended without output]")
        [listed] = json.loads(text_of(await session.call_tool("list_kernels", {})))
        assert listed == {
            "kernel": kernel_id,
            "state": "idle",
            "default": True,
            "started_by_this_session": True,
        }

    converse(terminal, scenario=scenario)
    wait_until(lambda: new_kernels() == [])


def test_an_exception_and_a_wrong_call_are_errors_that_the_model_sees(shared: Conversation) -> None:
    async def scenario(session: ClientSession) -> None:
        is_error, text = await run_code(session, "1 / 0")
        assert is_error
        assert "ZeroDivisionError: division by zero" in text
        assert "\x1b" not in text
        wrong = await session.call_tool("run_code", {"kode": "1"})
        assert wrong.is_error
        assert text_of(wrong) == "run_code: there is no argument 'kode'; the nearest is code"
        assert text_of(await session.call_tool("stop_kernel", {})).startswith(
            "stop_kernel: there is no tool 'stop_kernel'"
        )

    shared(scenario)


def test_images_are_images(shared: Conversation) -> None:
    async def scenario(session: ClientSession) -> None:
        done = await session.call_tool("run_code", {"code": PICTURE})
        [image] = [each for each in done.content if isinstance(each, ImageContent)]
        assert image.mime_type == "image/png"
        assert image.data.startswith("iVBORw0KGgo")

    shared(scenario)


def test_progress_has_the_last_line_of_output(shared: Conversation) -> None:
    async def scenario(session: ClientSession) -> None:
        told: list[tuple[float, str | None]] = []

        async def keep(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, message))

        code = "import time\nfor i in range(4):\n    print('epoch', i)\n    time.sleep(1)"
        await session.call_tool("run_code", {"code": code}, progress_callback=keep)
        assert told
        assert told == sorted(told)
        assert told[-1][1] in [f"epoch {i}" for i in range(4)]

    shared(scenario)


def test_variables_are_read_and_written(shared: Conversation) -> None:
    async def scenario(session: ClientSession) -> None:
        async def use(tool: str, **arguments: Any) -> tuple[bool, str]:
            done = await session.call_tool(tool, arguments)
            return bool(done.is_error), text_of(done)

        value = {"rows": [1, 2.5, None], "name": "漢"}
        assert await use("write_variable", name="table", value=value) == (
            False,
            "table was assigned",
        )
        assert await run_code(session, "table['rows'][1]") == (False, "2.5")
        is_error, text = await use("read_variable", name="table")
        assert (is_error, json.loads(text)) == (False, value)
        await run_code(session, "long = 'y' * 1_000_000; data = bytes(3); odd = float('nan')")
        is_error, text = await use("read_variable", name="long")
        assert not is_error
        assert len(text) < 21_000
        assert await use("read_variable", name="data") == (False, '{"base64": "AAAA"}')
        assert (await use("read_variable", name="no_such"))[0] is True
        is_error, text = await use("read_variable", name="1 / 0")
        assert is_error
        assert "must be an identifier" in text
        assert (await use("read_variable", name="time"))[0] is True
        assert await run_code(session, "x") == (False, "1")

    shared(scenario)


def test_files_of_one_folder_are_copied_if_that_is_allowed(terminal: Terminal) -> None:
    folder = terminal.directory / "open"
    folder.mkdir()
    (folder / "in.csv").write_text("a,b\n1,2\n")
    (terminal.directory / "secret").write_text("secret")

    async def scenario(session: ClientSession) -> None:
        there = str(terminal.directory / "copy.csv")
        done = await session.call_tool("upload_file", {"local": "in.csv", "remote": there})
        assert (done.is_error, there in text_of(done)) == (False, True)
        await run_code(session, f"text = open({there!r}).read(); open({there!r}, 'a').write('3,4')")
        assert await run_code(session, "print(text, end='')") == (False, "a,b\n1,2\n")
        done = await session.call_tool("download_file", {"remote": there})
        assert not done.is_error
        assert (folder / "copy.csv").read_text() == "a,b\n1,2\n3,4"
        for tool, arguments in (
            ("upload_file", {"local": "../secret"}),
            ("download_file", {"remote": there, "local": "../secret"}),
            ("upload_file", {"local": "no-such.csv"}),
            ("download_file", {"remote": "/no/such"}),
        ):
            assert (await session.call_tool(tool, arguments)).is_error, tool
        assert (terminal.directory / "secret").read_text() == "secret"

    converse(terminal, "--files=open", scenario=scenario)


def test_further_kernels_are_started_and_stopped_if_that_is_allowed(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    async def scenario(session: ClientSession) -> None:
        await run_code(session, "x = 1")
        specs = json.loads(text_of(await session.call_tool("list_kernelspecs", {})))
        assert "python3" in specs
        started = await session.call_tool("start_kernel", {"name": "python3"})
        second = json.loads(text_of(started))["kernel"]
        assert await run_code(session, "x = 2", kernel=second) == (
            False,
            "[the code ended without output]",
        )
        assert await run_code(session, "x") == (False, "1")
        assert await run_code(session, "x", kernel=second) == (False, "2")
        await session.call_tool("stop_kernel", {"kernel": second})
        assert second not in new_kernels()
        is_error, text = await run_code(session, "x", kernel=second)
        assert is_error
        assert f"this session has no kernel {second!r}" in text
        unknown = await session.call_tool("start_kernel", {"name": "no-such"})
        assert unknown.is_error
        assert "no-such" in text_of(unknown)

    converse(terminal, "--allow-start", "--allow-stop", scenario=scenario)


def test_a_running_kernel_is_used_and_left_running(terminal: Terminal) -> None:
    with run_kernel(**terminal.gateway.options()) as kc:
        kc.run("y = 'of the notebook'", check=True)

        async def scenario(session: ClientSession) -> None:
            assert await run_code(session, "y") == (False, "'of the notebook'")
            await run_code(session, "z = 3")

        converse(terminal, f"--kernel-id={kc.kernel_id[:8]}", scenario=scenario)
        assert kc.run("z").text() == "3"


def test_a_gateway_is_started_if_none_is_configured(terminal: Terminal) -> None:
    terminal.env = without_a_gateway(terminal.env)

    async def scenario(session: ClientSession) -> None:
        assert await run_code(session, "6 * 7") == (False, "42")

    converse(terminal, scenario=scenario)


# --- code that never ends, or too much of it ------------------------------------------------------


def test_code_that_does_not_end_is_interrupted_after_the_timeout(terminal: Terminal) -> None:
    """The model may ask for less than the user allows, and not for more."""

    async def scenario(session: ClientSession) -> None:
        await run_code(session, "x = 1")
        for asked in ({"timeout": 0.5}, {"timeout": 1000}, {}):
            is_error, text = await run_code(session, "print('begun')\nwhile True: pass", **asked)
            assert is_error
            assert text.startswith("begun\n")
            assert "it was interrupted, and ended" in text
        assert await run_code(session, "x") == (False, "1")

    converse(terminal, "--timeout=1", scenario=scenario)


def test_a_cancelled_call_interrupts_its_code(shared: Conversation) -> None:
    async def scenario(session: ClientSession) -> None:
        with anyio.move_on_after(1):
            await run_code(session, "while True: time.sleep(0.1)")
        assert await run_code(session, "x") == (False, "1")

    shared(scenario)


def test_a_cancelled_call_leaves_the_code_of_another_alone(
    shared: Conversation, tmp_path: Path
) -> None:
    """The second call waits for the first, and its cancellation does not interrupt that."""

    async def scenario(session: ClientSession) -> None:
        results: list[tuple[bool, str]] = []
        begun = tmp_path / "begun"

        async def first() -> None:
            code = f"pathlib.Path({str(begun)!r}).touch(); time.sleep(3); print('whole')"
            results.append(await run_code(session, code))

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            while not begun.exists():
                await anyio.sleep(0.05)
            with anyio.move_on_after(0.5):
                await run_code(session, "print('never')", timeout=0.1)
        assert results == [(False, "whole\n")]

    shared(scenario)


def test_two_calls_at_once_are_executed_one_after_another(shared: Conversation) -> None:
    """The timeout of a call begins with its turn."""

    async def scenario(session: ClientSession) -> None:
        results: dict[int, tuple[bool, str]] = {}

        async def call(number: int) -> None:
            code = f"time.sleep(1); print({number})"
            results[number] = await run_code(session, code, timeout=30 if number else 3)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(call, number)
        assert results == {number: (False, f"{number}\n") for number in range(4)}

    shared(scenario)


def test_code_that_ignores_interrupts_is_ended_by_a_restart(terminal: Terminal) -> None:
    """The next call does not wait for ever: it says what to do."""
    stubborn = (
        "import signal, pathlib\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "pathlib.Path('begun').touch()\n"
        "while True: pass"
    )

    async def scenario(session: ClientSession) -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run_code, session, stubborn)
                while not (terminal.directory / "begun").exists():
                    await anyio.sleep(0.05)
                scope.cancel()
        is_error, text = await run_code(session, "1 + 1")
        assert is_error
        assert "restart the kernel" in text
        await session.call_tool("restart_kernel", {})
        assert await run_code(session, "1 + 1") == (False, "2")

    converse(terminal, scenario=scenario)


def test_much_output_is_cut_in_the_middle(terminal: Terminal) -> None:
    """100 MB are received, and a thousandth of them is passed on."""

    async def scenario(session: ClientSession) -> None:
        code = "print('first')\nfor _ in range(1000): print('x' * 100_000)\nprint('last')"
        is_error, text = await run_code(session, code)
        assert not is_error
        assert len(text) < 5_100
        assert text.startswith("first\nxxx")
        assert text.endswith("xxx\nlast\n")
        assert "characters were cut here" in text

    converse(terminal, "--max-output=5000", scenario=scenario)


def test_text_that_is_no_text_does_not_end_the_session(shared: Conversation) -> None:
    """A lone surrogate cannot be encoded, and NaN is no JSON."""

    async def scenario(session: ClientSession) -> None:
        code = r"print('\udc80'); raise ValueError('\ud800')"
        assert (await run_code(session, code))[0] is True
        publish = (
            "from IPython.display import publish_display_data\n"
            "publish_display_data({'application/json': {'a': float('nan')}})"
        )
        assert (await run_code(session, publish))[0] is False
        assert await run_code(session, "1 + 1") == (False, "2")

    shared(scenario)


# --- what fails -----------------------------------------------------------------------------------


def test_a_kernel_that_dies_is_replaced(terminal: Terminal) -> None:
    async def scenario(session: ClientSession) -> None:
        is_error, text = await run_code(
            session, "print('before', flush=True)\nimport os; os._exit(1)"
        )
        assert is_error
        assert "its variables are lost" in text
        assert await run_code(session, "1 + 1") == (False, "2")

    converse(terminal, scenario=scenario)


def test_a_kernel_that_is_gone_is_replaced(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    """Another client shut it down, or the gateway removed it because it was idle."""

    async def scenario(session: ClientSession) -> None:
        await run_code(session, "x = 1")
        [kernel_id] = new_kernels()
        with GatewayREST(GatewayClient(**terminal.gateway.options())) as rest:
            rest.delete_kernel(kernel_id)
        is_error, text = await run_code(session, "x")
        assert is_error
        assert "its variables are lost" in text
        assert await run_code(session, "1 + 1") == (False, "2")

    converse(terminal, scenario=scenario)


def test_a_gateway_that_is_gone_is_an_error_that_says_so(terminal: Terminal) -> None:
    async def scenario(session: ClientSession) -> None:
        is_error, text = await run_code(session, "1 + 1")
        assert is_error
        assert "Connection refused" in text

    converse(terminal, "--url=http://127.0.0.1:9", scenario=scenario)


# --- how a session ends ---------------------------------------------------------------------------


@contextmanager
def busy_server(
    terminal: Terminal, *args: str, code: str = "import time; time.sleep(600)"
) -> Iterator[subprocess.Popen[str]]:
    """Yield a server, without the SDK's client, that executes code which does not end."""
    process = terminal.popen("mcp", *args)
    assert process.stdin
    client = {"name": "test", "version": "1"}
    start = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    touch = f"import pathlib; pathlib.Path({str(terminal.directory / 'begun')!r}).touch()"
    call = {"name": "run_code", "arguments": {"code": f"{touch}; {code}"}}
    for message in (
        {"id": 1, "method": "initialize", "params": start},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": call},
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()
    try:
        wait_for(terminal.directory / "begun")
        yield process
    finally:
        process.kill()
        process.wait(60)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe
            pipe.close()


def test_a_client_that_disconnects_ends_code_and_kernel(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    with busy_server(terminal) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0
        assert new_kernels() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_sigterm_ends_code_and_kernel(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    """The client need not close its end of the pipe."""
    with busy_server(terminal) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert new_kernels() == []
        assert process.stderr
        assert process.stderr.read().splitlines() == ["jupyter gateway mcp: stopped by SIGTERM"]


def test_a_kill_ends_the_kernel(terminal: Terminal, new_kernels: Callable[[], list[str]]) -> None:
    with busy_server(terminal) as process:
        process.kill()
        wait_until(lambda: new_kernels() == [])


def test_the_code_of_a_session_ends_with_it_in_a_kernel_that_is_left(terminal: Terminal) -> None:
    """Nothing goes on executing in a kernel of --kernel-id."""
    for end in ("close", "SIGTERM"):
        with run_kernel(**terminal.gateway.options()) as kc:
            with busy_server(terminal, f"--kernel-id={kc.kernel_id}") as process:
                assert process.stdin
                process.stdin.close() if end == "close" else process.terminate()
                process.wait(60)
            assert kc.run("1 + 1", timeout=30).text() == "2"
        (terminal.directory / "begun").unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_client_that_does_not_read_keeps_nothing_from_ending(
    terminal: Terminal, new_kernels: Callable[[], list[str]]
) -> None:
    """The pipe is full, and the server waits to write."""
    with busy_server(terminal, "--max-output=8000000", code="print('x' * 4_000_000)") as process:
        wait_until(lambda: waiting_to_be_read(process) > 60_000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert new_kernels() == []


def waiting_to_be_read(process: subprocess.Popen[str]) -> int:
    """Return the number of bytes in the pipe of standard output."""
    import fcntl
    import termios

    assert process.stdout
    return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_only_messages_are_written_to_standard_output(terminal: Terminal) -> None:
    """Also with --debug, and what the code prints stays in its answer."""
    process = terminal.popen("mcp", "--debug")
    out, _ = process.communicate("not a message\n", timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["jsonrpc"] for line in out.splitlines()] == ["2.0"] * len(
        out.splitlines()
    )


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (["code"], 2, "the command takes no arguments"),
        (["--files=no-such"], 2, "--files=no-such: there is no such folder"),
        (["--timeout=0"], 2, "--timeout must be more than 0 seconds, got 0.0"),
        (["--kernel=python3", "--kernel-id=1"], 2, "give either --kernel or --kernel-id"),
        (["--kernel-id=no-such"], 2, "the gateway has no kernel whose id begins with 'no-such'"),
        (["--allow-strat"], 2, "--allow-start"),
    ],
)
def test_a_wrong_option_is_an_error(
    terminal: Terminal, args: list[str], status: int, text: str
) -> None:
    done = terminal("mcp", *args)
    assert done.returncode == status
    assert text in done.stderr
    assert done.stdout == ""


def test_without_the_sdk_the_error_names_the_extra(terminal: Terminal) -> None:
    (terminal.directory / "mcp_types.py").write_text("raise ModuleNotFoundError('no mcp_types')")
    done = terminal("mcp", PYTHONPATH=f"{terminal.directory}:{terminal.env['PYTHONPATH']}")
    assert done.returncode == 2
    assert 'pip install "gateway-blocking[mcp]"' in done.stderr


def test_a_lost_connection_does_not_lose_the_result(terminal: Terminal, proxy: FaultProxy) -> None:
    async def scenario(session: ClientSession) -> None:
        await run_code(session, "import pathlib, time")

        async def cut() -> None:
            while not (terminal.directory / "begun").exists():
                await anyio.sleep(0.05)
            proxy.websocket.cut("rst")

        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            code = "pathlib.Path('begun').touch(); time.sleep(2); print('whole'); 1 + 1"
            is_error, text = await run_code(session, code)
        assert not is_error
        assert text.endswith("2")

    converse(terminal, f"--url={proxy.url}", scenario=scenario)
