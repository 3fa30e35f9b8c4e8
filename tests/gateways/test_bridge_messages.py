"""The messages of a kernel through a bridge, compared with those of a local kernel."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import create_connection
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.manager import KernelManager

from gateway_blocking.local import LocalGateway
from support.bridges import SPEC, bridge_kernelspec
from support.faultproxy import FaultProxy
from support.ports import free_port
from support.rawserver import Peer, serving
from support.terminal import Terminal

TIMEOUT = 60


@contextmanager
def kernel(name: str) -> Iterator[BlockingKernelClient]:
    """A client of a new kernel, as any front end has it."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=TIMEOUT)
        # On a busy machine it would take another socket, which would seem to be left by a test.
        client.hb_channel.pause()
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()


@pytest.fixture(scope="module")
def _kernelspec(gateway: LocalGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with bridge_kernelspec(gateway, tmp_path_factory.mktemp("bridge")):
        yield


@pytest.fixture(scope="module")
def bridged(_kernelspec: None) -> Iterator[BlockingKernelClient]:
    with kernel(SPEC) as client:
        yield client


@pytest.fixture
def debugged(_kernelspec: None) -> Iterator[BlockingKernelClient]:
    """A kernel of its own: ipykernel 7.4 has no working subshells after it was debugged."""
    with kernel(SPEC) as client:
        yield client


@pytest.fixture(scope="module")
def local() -> Iterator[BlockingKernelClient]:
    with kernel("python3") as client:
        yield client


def asked(kc: BlockingKernelClient, msg_type: str, channel: str = "shell", **content: Any) -> Any:
    """The reply to a request of any type."""
    message = kc.session.msg(msg_type, content)
    getattr(kc, f"{channel}_channel").send(message)
    return kc._recv_reply(message["header"]["msg_id"], timeout=TIMEOUT, channel=channel)


def outputs_until_idle(kc: BlockingKernelClient, msg_id: str) -> list[Any]:
    """What a request publishes."""
    outputs = []
    while True:
        message = kc.get_iopub_msg(timeout=TIMEOUT)
        if message["parent_header"].get("msg_id") == msg_id:
            outputs.append(message)
            if message["content"].get("execution_state") == "idle":
                return outputs


def shape(message: Any) -> Any:
    """What is the same for two kernels that are asked the same."""
    content = {
        name: re.sub(r"ipykernel_\d+", "ipykernel", str(value))
        for name, value in message["content"].items()
        if name not in ("execution_count", "engine_info", "banner")  # the latter has a random tip
    }
    return message["msg_type"], sorted(message["header"]), sorted(message["metadata"]), content


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("kernel_info_request", {}),
    ("complete_request", {"code": "an_int.bit_le", "cursor_pos": 13}),
    ("inspect_request", {"code": "a_function", "cursor_pos": 3, "detail_level": 0}),
    ("is_complete_request", {"code": "for i in x:"}),
    ("comm_info_request", {"target_name": "a_target"}),
    (
        "history_request",
        {"hist_access_type": "range", "session": 0, "start": 1, "raw": True, "output": False},
    ),
    ("execute_request", {"code": "1 / 0", "silent": False, "stop_on_error": False}),
    ("execute_request", {"code": "", "silent": True, "user_expressions": {"x": "an_int"}}),
]


@pytest.mark.parametrize(("msg_type", "content"), REQUESTS, ids=[r[0] for r in REQUESTS])
def test_a_usual_request_has_the_reply_of_a_local_kernel(
    bridged: BlockingKernelClient,
    local: BlockingKernelClient,
    msg_type: str,
    content: dict[str, Any],
) -> None:
    """The same fields of header, metadata and content, and the same output."""
    found = []
    for client in (bridged, local):
        client.execute(
            "an_int = 3\n"
            "def a_function(x):\n    'Do it.'\n"
            "from comm import create_comm; a_comm = create_comm('a_target', comm_id='c')",
            reply=True,
            timeout=TIMEOUT,
        )
        reply = asked(client, msg_type, **content)
        outputs = outputs_until_idle(client, reply["parent_header"]["msg_id"])
        if msg_type == "history_request":  # of all the tests before: the last one will do
            reply["content"]["history"] = [line[2] for line in reply["content"]["history"][-1:]]
        found.append([shape(message) for message in (reply, *outputs)])
    assert found[0] == found[1]


def test_the_debugger_speaks_through_a_bridge(debugged: BlockingKernelClient) -> None:
    """Its requests go over control, and its events come over iopub."""
    seq = 0

    def debug(command: str, **arguments: Any) -> Any:
        nonlocal seq
        seq += 1
        request = {"type": "request", "command": command, "seq": seq, "arguments": arguments}
        return asked(debugged, "debug_request", "control", **request)

    reply = debug("initialize", clientID="test", adapterID="", pathFormat="path")
    assert reply["content"]["success"] is True
    assert reply["content"]["body"]["supportsConfigurationDoneRequest"] is True
    debug("attach")
    events = set()
    while "initialized" not in events:
        message = debugged.get_iopub_msg(timeout=TIMEOUT)
        if message["msg_type"] == "debug_event":
            events.add(message["content"]["event"])
    assert debug("debugInfo")["content"]["body"]["isStarted"] is True
    debug("disconnect", restart=False, terminateDebuggee=False)


def test_a_subshell_executes_beside_the_main_shell(bridged: BlockingKernelClient) -> None:
    """Its ID is in the header of a request, which is passed on unchanged."""
    features = bridged.kernel_info(reply=True, timeout=TIMEOUT)["content"]
    if "kernel subshells" not in features.get("supported_features", ()):
        pytest.skip("an ipykernel before 7 has no subshells")
    made = asked(bridged, "create_subshell_request", "control")
    waiting = bridged.execute(
        f"import threading; e = threading.Event(); assert e.wait({TIMEOUT})", silent=False
    )
    message = bridged.session.msg("execute_request", {"code": "e.set()", "silent": False})
    message["header"]["subshell_id"] = made["content"]["subshell_id"]
    while bridged.get_iopub_msg(timeout=TIMEOUT)["parent_header"].get("msg_id") != waiting:
        pass  # it has begun, and the subshell is asked now
    bridged.shell_channel.send(message)
    assert bridged._recv_reply(waiting, timeout=TIMEOUT)["content"]["status"] == "ok"
    listed = asked(bridged, "list_subshell_request", "control")
    assert listed["content"]["subshell_id"] == [made["content"]["subshell_id"]]
    deleted = asked(
        bridged,
        "delete_subshell_request",
        "control",
        subshell_id=made["content"]["subshell_id"],
    )
    assert deleted["content"]["status"] == "ok"


def test_buffers_pass_in_both_directions(bridged: BlockingKernelClient) -> None:
    """A megabyte of any bytes, with a comm that the kernel opened."""
    code = (
        "from comm import create_comm\n"
        "def echo(m): answering.send({'n': len(m['buffers'])},\n"
        "                            buffers=[bytes(b)[::-1] for b in m['buffers']])\n"
        "answering = create_comm('t', comm_id='echo'); answering.on_msg(echo)"
    )
    bridged.execute(code, reply=True, timeout=TIMEOUT)
    buffers = [bytes(range(256)) * 4096, b"", b"\xff<IDS|MSG>"]
    message = bridged.session.msg("comm_msg", {"comm_id": "echo", "data": {}})
    bridged.session.send(bridged.shell_channel.socket, message, buffers=buffers)
    while (got := bridged.get_iopub_msg(timeout=TIMEOUT))["msg_type"] != "comm_msg":
        pass
    assert got["content"]["data"] == {"n": 3}
    assert [bytes(buffer)[::-1] for buffer in got["buffers"]] == buffers


def test_a_large_output_is_passed_on_as_a_whole(bridged: BlockingKernelClient) -> None:
    """30 MB in one message; 100 MB take three times as long."""
    texts = []
    reply = bridged.execute_interactive(
        "print('0123456789' * 3_000_000)",
        timeout=TIMEOUT,
        output_hook=lambda message: texts.append(message["content"].get("text", "")),
    )
    assert reply["content"]["status"] == "ok"
    assert "".join(texts) == "0123456789" * 3_000_000 + "\n"


def test_a_stranger_on_a_port_does_not_end_the_bridge(bridged: BlockingKernelClient) -> None:
    """A browser, a scan of the ports, and a message in ZMQ's first format without a delimiter."""
    channels = (bridged.shell_port, bridged.control_port, bridged.stdin_port, bridged.iopub_port)
    for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)), b"\x01\x00\x02\x00x"):
        for port in (*channels, bridged.hb_port):
            with create_connection(("127.0.0.1", port), TIMEOUT) as stranger:
                stranger.sendall(data)
                with suppress(ConnectionResetError):  # ZMQ may have refused it already
                    stranger.recv(1)
    for _ in range(3):
        reply = bridged.execute("1", reply=True, timeout=TIMEOUT)
        assert reply["content"]["status"] == "ok"


def test_a_password_is_asked_for(bridged: BlockingKernelClient) -> None:
    """A front end does not show what is typed."""
    questions, texts = [], []

    def answer(message: Any) -> None:
        questions.append(message["content"])
        bridged.input("secret")

    bridged.execute_interactive(
        "import getpass; print(len(getpass.getpass('Key: ')))",
        timeout=TIMEOUT,
        stdin_hook=answer,
        output_hook=lambda message: texts.append(message["content"].get("text", "")),
    )
    assert questions == [{"prompt": "Key: ", "password": True}]
    assert "6\n" in texts


@contextmanager
def starting(
    terminal: Terminal, **options: str
) -> Iterator[tuple[subprocess.Popen[str], BlockingKernelClient]]:
    """A bridge that may still be starting its kernel, and a front end that it hears."""
    file = terminal.directory / "connection.json"
    ports = {f"{name}_port": free_port() for name in ("shell", "iopub", "stdin", "hb", "control")}
    write_connection_file(str(file), key=b"key", **ports)
    with terminal.popen("bridge", "--kernel=python3", "-f", str(file), **options) as bridge:
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        try:
            while client.get_iopub_msg(timeout=TIMEOUT)["msg_type"] != "iopub_welcome":
                pass  # what is published from now on arrives
            yield bridge, client
        finally:
            client.stop_channels()
            client.context.destroy()
            bridge.kill()  # unless the test has ended it
            assert bridge.stderr is not None
            print(bridge.stderr.read())


def wait_until_received(client: BlockingKernelClient) -> None:
    """Wait until the bridge has dealt with the messages before: it answers this one itself."""
    for channel in ("shell", "control"):
        message = client.session.msg("interrupt_request", {})
        getattr(client, f"{channel}_channel").send(message)
        received = getattr(client, f"get_{channel}_msg")(timeout=TIMEOUT)
        assert received["parent_header"]["msg_id"] == message["header"]["msg_id"]


def test_a_cell_that_waits_shows_why_the_kernel_did_not_start(terminal: Terminal) -> None:
    """As an error output and a reply, before the bridge ends."""

    def refuse(peer: Peer) -> None:
        release.wait(TIMEOUT)
        peer.answer("403 Forbidden")

    release = threading.Event()
    with (
        serving(refuse) as address,
        starting(terminal, JUPYTER_GATEWAY_URL=f"http://{address}") as (bridge, client),
    ):
        cell = client.execute("1")
        wait_until_received(client)
        release.set()
        outputs = outputs_until_idle(client, cell)
        reply = client._recv_reply(cell, timeout=TIMEOUT)["content"]
        assert [m["msg_type"] for m in outputs] == ["error", "status"]
        assert outputs[0]["content"]["evalue"] == reply["evalue"]
        assert reply["ename"] == "GatewayAuthError"
        assert bridge.wait(TIMEOUT) == 1


def test_requests_on_all_channels_wait_for_the_start(terminal: Terminal, proxy: FaultProxy) -> None:
    """VS Code asks for the kernel's information on control before it does so on shell."""
    proxy.stall()
    with starting(terminal, JUPYTER_GATEWAY_URL=proxy.url) as (bridge, client):
        sent = {}
        for channel in ("control", "shell"):
            message = client.session.msg("kernel_info_request", {})
            getattr(client, f"{channel}_channel").send(message)
            sent[channel] = message["header"]["msg_id"]
        wait_until_received(client)
        proxy.go_on()
        for channel, msg_id in sent.items():
            reply = getattr(client, f"get_{channel}_msg")(timeout=TIMEOUT)
            assert reply["parent_header"]["msg_id"] == msg_id
            assert reply["content"]["status"] == "ok"
        # Another client may ask for the end on shell, as in older versions of the protocol.
        assert asked(client, "shutdown_request")["content"]["status"] == "ok"
        assert bridge.wait(TIMEOUT) == 0
