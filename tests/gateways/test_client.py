"""The client, against a real Kernel Gateway with a real kernel."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayConnectionError,
    GatewayTimeout,
    KernelGone,
    KernelNotReady,
    KernelRestarted,
    MessageTooLarge,
    NoSuchKernel,
    WireError,
    connector,
    readiness,
    run_kernel,
    start_new_kernel,
)
from gateway_blocking.frames import TEXT
from gateway_blocking.local import LocalGateway
from gateway_blocking.wire import V1
from support.kernels import deaf_cell
from support.rawserver import Peer, serving
from support.servers import kernels_of, own_gateway
from support.waiting import least_time, wait_until

Client = BlockingGatewayKernelClient
Manager = BlockingGatewayKernelManager


def outputs(kc: Client, msg_id: str) -> str:
    """What the request printed, read from iopub until it is idle."""
    text = ""
    while True:
        msg = kc.get_iopub_msg(timeout=10)
        if msg["parent_header"].get("msg_id") != msg_id:
            continue
        if msg["msg_type"] == "stream":
            text += msg["content"]["text"]
        if msg["msg_type"] == "status" and msg["content"]["execution_state"] == "idle":
            return text


# --- requests and replies -------------------------------------------------------------------------


def test_a_reply_comes_to_who_waits_for_it(kc: Client) -> None:
    """execute(reply=True) returns the reply, and the output is on iopub."""
    reply = kc.execute("print(6 * 7)", reply=True, timeout=10)
    assert reply["msg_type"] == "execute_reply"
    assert reply["content"]["status"] == "ok"
    assert outputs(kc, reply["parent_header"]["msg_id"]) == "42\n"


def test_without_reply_the_msg_id_is_returned_and_the_reply_waits_on_shell(kc: Client) -> None:
    """The jupyter_client way: send, then get_shell_msg."""
    msg_id = kc.execute("1")
    assert kc.get_shell_msg(timeout=10)["parent_header"]["msg_id"] == msg_id


@pytest.mark.parametrize(
    ("ask", "reply_type"),
    [
        (lambda kc, **kw: kc.kernel_info(**kw), "kernel_info_reply"),
        (lambda kc, **kw: kc.complete("pri", **kw), "complete_reply"),
        (lambda kc, **kw: kc.inspect("print", 3, 1, **kw), "inspect_reply"),
        (lambda kc, **kw: kc.history(hist_access_type="tail", n=3, **kw), "history_reply"),
        (lambda kc, **kw: kc.history(**kw), "history_reply"),
        (lambda kc, **kw: kc.comm_info(**kw), "comm_info_reply"),
        (lambda kc, **kw: kc.is_complete("for i in", **kw), "is_complete_reply"),
    ],
)
def test_every_request_has_its_reply(kc: Client, ask: Any, reply_type: str) -> None:
    """Each kind of request can wait for its reply, or return its msg_id."""
    assert ask(kc, reply=True, timeout=10)["msg_type"] == reply_type
    msg_id = ask(kc)
    assert kc._recv_reply(msg_id, timeout=10)["msg_type"] == reply_type


def test_shutdown_is_answered_on_control(kc: Client) -> None:
    """kc.shutdown(reply=True) gets its reply, which comes on the control channel."""
    assert kc.shutdown(reply=True, timeout=10)["msg_type"] == "shutdown_reply"


def test_bad_code_is_refused_before_anything_is_sent(kc: Client) -> None:
    """As jupyter_client: a ValueError."""
    with pytest.raises(ValueError, match="must be a string"):
        kc.execute(42)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be a string"):
        kc.execute("1", user_expressions={"a": 1})


def test_no_reply_in_time_is_a_timeout_and_the_late_reply_is_not_lost(kc: Client) -> None:
    """The time-out says what was waited for; the reply can be had from shell later."""
    with pytest.raises(TimeoutError, match="Timeout waiting for reply: none to execute_request"):
        kc.execute("import time; time.sleep(1)", reply=True, timeout=0.2)
    assert kc.get_shell_msg(timeout=10)["msg_type"] == "execute_reply"


def test_a_timeout_may_be_positional_and_must_not_be_negative(kc: Client) -> None:
    """get_msg(0.1) waits a tenth of a second; a negative time-out is a ValueError."""
    with pytest.raises(Empty):
        kc.get_shell_msg(0.1)
    with pytest.raises(ValueError, match="negative"):
        kc.get_shell_msg(-1)
    with pytest.raises(ValueError, match="negative"):
        kc.execute("1", reply=True, timeout=-1)


@pytest.fixture(scope="module", params=[V1, ""], ids=["v1", "default"])
def speaker(
    request: pytest.FixtureRequest, gateway: LocalGateway
) -> Iterator[tuple[LocalGateway, str]]:
    """A gateway for each wire format, and the subprotocol that it speaks."""
    if request.param:
        yield gateway, request.param
        return
    with own_gateway("--ZMQChannelsWebsocketConnection.kernel_ws_protocol=") as own:
        yield own, request.param


def test_buffers_travel_both_ways(speaker: tuple[LocalGateway, str]) -> None:
    """A comm message with binary buffers comes back as it was sent, in either wire format, and
    what is printed after it comes, too."""
    gateway, subprotocol = speaker
    with run_kernel(kernel_name="python3", **gateway.options()) as kc:
        assert kc.connection_slot.connection is not None
        assert kc.connection_slot.connection._reader.transport is not None
        assert kc.connection_slot.connection._reader.transport.subprotocol == subprotocol
        kc.execute_interactive(
            "from comm import get_comm_manager\n"
            "def echo(comm, msg):\n"
            "    @comm.on_msg\n"
            "    def answer(msg):\n"
            "        comm.send(msg['content']['data'], buffers=msg['buffers'])\n"
            "        print('sent')\n"
            "get_comm_manager().register_target('echo', echo)",
            timeout=20,
        )
        sent = [b"\x00\xff" * 1000, bytes(100_000), b""]
        kc.shell_channel.send(
            kc.session.msg("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}})
        )
        message = kc.session.msg("comm_msg", {"comm_id": "c", "data": {"a": 1}})
        message["buffers"] = [memoryview(part) for part in sent]
        kc.shell_channel.send(message)
        while (answer := kc.get_iopub_msg(timeout=10))["msg_type"] != "comm_msg":
            pass
        assert answer["content"]["data"] == {"a": 1}
        assert all(isinstance(buffer, memoryview) for buffer in answer["buffers"])
        assert [bytes(buffer) for buffer in answer["buffers"]] == sent
        assert outputs(kc, message["header"]["msg_id"]) == "sent\n"
        reply = kc.execute("print('after')", reply=True, timeout=10)
        assert outputs(kc, reply["parent_header"]["msg_id"]) == "after\n"


def test_extra_header_keys_are_kept(kc: Client) -> None:
    """A hand-made message goes out as it is, and its header comes back as the parent."""
    message = kc.session.msg("kernel_info_request")
    message["header"]["remark"] = "mine"
    kc.shell_channel.send(message)
    assert kc.get_shell_msg(timeout=10)["parent_header"]["remark"] == "mine"


def test_a_message_too_large_is_refused_and_the_connection_goes_on(kc: Client) -> None:
    """Above the gateway's 10 MiB nothing is sent; the next request works."""
    with pytest.raises(MessageTooLarge, match="in parts"):
        kc.execute("#" * 11_000_000, reply=True, timeout=10)
    assert kc.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"


def test_an_idle_wait_costs_no_cpu(kc: Client) -> None:
    """Two seconds without a message, and two without a reply: the process sleeps meanwhile."""
    begun = time.process_time()
    with pytest.raises(Empty):
        kc.get_shell_msg(timeout=2)
    assert time.process_time() - begun < 0.1
    begun = time.process_time()
    kc.execute("import time; time.sleep(2)", reply=True, timeout=30)
    assert time.process_time() - begun < 0.1


def test_output_that_is_not_read_is_bounded(
    km: Manager, gateway: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Not that of execute_interactive, however slow its hook is."""
    km.start_kernel()
    # Not print(): a kernel merges what it is sent faster than it can send it.
    code = "for i in range(200): display({'text/plain': 'x' * 10_000}, raw=True)"
    options = {**gateway.options(), "max_unread_size": 300_000}
    with Client(kernel_id=km.kernel_id, **options) as kc:
        kc.wait_for_ready(timeout=60)
        kc.execute(code, reply=True, timeout=60)
        assert kc.execute("1", reply=True, timeout=60)["content"]["status"] == "ok"
        # Replies do not wait for output, which comes on another channel.
        wait_until(lambda: kc.iopub_channel.dropped > 50)
        assert kc.iopub_channel.size <= 300_000
        assert [r.getMessage() for r in caplog.records if "max_unread_size" in r.getMessage()]
        seen: list[str] = []

        def slow(msg: dict[str, Any]) -> None:
            if msg["msg_type"] == "display_data":
                seen.append(msg["content"]["data"]["text/plain"])
                time.sleep(0.001)

        kc.execute_interactive(code, output_hook=slow, timeout=60)
        assert len("".join(seen)) == 200 * 10_000


# --- many threads ---------------------------------------------------------------------------------


def test_eight_threads_share_a_client(kc: Client) -> None:
    """8 threads x 50 execute(reply=True): every reply reaches its caller."""

    def work(worker: int) -> list[str]:
        found = []
        for n in range(50):
            reply = kc.execute(
                "", user_expressions={"me": f"{worker} * 1000 + {n}"}, reply=True, timeout=60
            )
            found.append(reply["content"]["user_expressions"]["me"]["data"]["text/plain"])
        return found

    with ThreadPoolExecutor(8) as pool:
        for worker, found in enumerate(pool.map(work, range(8))):
            assert found == [str(worker * 1000 + n) for n in range(50)]
    with pytest.raises(Empty):
        kc.get_shell_msg(timeout=0)


def test_interactive_executions_in_threads_get_each_their_own_output(kc: Client) -> None:
    """Four threads print at once, and each sees its own lines only, all of them."""

    def work(worker: int) -> str:
        seen: list[str] = []

        def hook(msg: dict[str, Any]) -> None:
            if msg["msg_type"] == "stream":
                seen.append(msg["content"]["text"])

        for n in range(5):
            kc.execute_interactive(f"print({worker}, {n})", output_hook=hook, timeout=60)
        return "".join(seen)

    with ThreadPoolExecutor(4) as pool:
        for worker, seen in enumerate(pool.map(work, range(4))):
            assert seen == "".join(f"{worker} {n}\n" for n in range(5))


# --- interactive ----------------------------------------------------------------------------------


def test_output_is_shown_as_it_comes(kc: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """Without hooks, streams and results are printed here, errors on standard error."""
    reply = kc.execute_interactive("print('out'); 6 * 7", timeout=20)
    assert reply["content"]["status"] == "ok"
    reply = kc.execute_interactive("1 / 0", timeout=20)
    assert reply["content"]["ename"] == "ZeroDivisionError"
    captured = capsys.readouterr()
    assert captured.out == "out\n42"
    assert "ZeroDivisionError" in captured.err


def test_output_is_shown_while_the_code_still_runs(kc: Client) -> None:
    """The hook is called seconds before the reply."""
    times: list[float] = []

    def hook(msg: dict[str, Any]) -> None:
        if msg["msg_type"] == "stream":
            times.append(time.monotonic())

    code = "import time; print(1, flush=True); time.sleep(2); print(2)"
    kc.execute_interactive(code, output_hook=hook, timeout=30)
    assert len(times) == 2
    assert times[1] - times[0] > 1


def test_input_and_getpass_are_asked_here(kc: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """input() asks with its prompt, getpass without echo, and both get their answer."""
    monkeypatch.setattr("builtins.input", lambda prompt: f"<{prompt}>")
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"*{prompt}*")
    seen: list[str] = []
    kc.execute_interactive(
        "import getpass; print(input('name?'), getpass.getpass('word?'))",
        output_hook=lambda msg: seen.append(msg["content"].get("text", "")),
        timeout=20,
    )
    assert "".join(seen) == "<name?> *word?*\n"


def test_a_stdin_hook_answers_from_any_thread(kc: Client) -> None:
    """stdin_hook is called with the request and answers with kc.input()."""
    prompts: list[str] = []

    def hook(msg: dict[str, Any]) -> None:
        prompts.append(msg["content"]["prompt"])
        kc.input("blue")

    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(
            kc.execute_interactive, "x = input('colour?')", stdin_hook=hook, timeout=20
        ).result()
    assert reply["content"]["status"] == "ok"
    assert prompts == ["colour?"]
    reply = kc.execute("", user_expressions={"x": "x"}, reply=True, timeout=10)
    assert reply["content"]["user_expressions"]["x"]["data"]["text/plain"] == "'blue'"


def test_a_coroutine_as_stdin_hook_is_a_clear_error(kc: Client) -> None:
    """A blocking client cannot await; it says so instead of hanging."""

    async def hook(msg: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match="blocking"):
        kc.execute_interactive("input()", stdin_hook=hook, timeout=20)


def test_input_can_be_forbidden(kc: Client) -> None:
    """allow_stdin=False makes input() an error in the kernel."""
    reply = kc.execute_interactive(
        "input()", allow_stdin=False, output_hook=lambda msg: None, timeout=20
    )
    assert reply["content"]["ename"] == "StdinNotImplementedError"


def test_interactive_execution_has_a_deadline(kc: Client) -> None:
    """The time-out ends it, also while output keeps coming."""
    code = "import time\nfor i in range(100): print(i, flush=True); time.sleep(0.1)"
    with pytest.raises(GatewayTimeout, match="Timeout waiting for output"):
        kc.execute_interactive(code, output_hook=lambda msg: None, timeout=1)
    assert isinstance(kc.parent, Manager)
    kc.parent.interrupt_kernel()


def test_interactive_execution_has_a_deadline_for_output_that_comes_too_fast(kc: Client) -> None:
    """The time-out ends it, also where the hook is slower than the code that prints."""
    seen: list[str] = []

    def slow(msg: dict[str, Any]) -> None:
        seen.append(msg["msg_type"])
        time.sleep(0.02)

    code = "import time\nfor i in range(1500): print(i, flush=True); time.sleep(0.002)"
    with pytest.raises(GatewayTimeout, match="Timeout waiting for output"):
        kc.execute_interactive(code, output_hook=slow, timeout=1)
    assert 0 < len(seen) < 500
    assert isinstance(kc.parent, Manager)
    kc.parent.interrupt_kernel()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot wait for a pipe")
def test_a_question_on_an_open_pipe_has_the_deadline(
    kc: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the standard input of a process that serves on it."""
    ours, theirs = os.pipe()
    with os.fdopen(ours) as stdin, os.fdopen(theirs, "wb") as pipe:
        monkeypatch.setattr(sys, "stdin", stdin)
        guard = threading.Timer(60, pipe.raw.close)  # type: ignore[attr-defined]
        guard.start()
        with pytest.raises(GatewayTimeout, match="Timeout waiting for output"):
            kc.execute_interactive("input()", output_hook=lambda msg: None, timeout=1)
        assert guard.is_alive()
        guard.cancel()
        guard.join()
        assert isinstance(kc.parent, Manager)
        kc.parent.interrupt_kernel()
        kc.wait_for_ready(timeout=30)
        pipe.write(b"one\ntwo\n")
        pipe.flush()
        kc.execute_interactive("x = input(), input()", timeout=30)
    reply = kc.execute("", user_expressions={"x": "x"}, reply=True, timeout=10)
    assert reply["content"]["user_expressions"]["x"]["data"]["text/plain"] == "('one', 'two')"


QUESTION = {"prompt": "Gateway password: ", "password": True}


def asked_by_the_gateway(*channels: str, **kwargs: Any) -> list[Any]:
    """Execute something while a gateway asks on its own, and return what it got for an answer."""
    received: list[Any] = []

    def script(peer: Peer) -> None:
        peer.accept()
        request = json.loads(peer.receive().data)
        msg_id = request["header"]["msg_id"]
        for channel in channels:
            peer.send_message(channel, "input_request", msg_id, **QUESTION)
        peer.send_message("shell", "execute_reply", msg_id, status="ok")
        peer.send_message("iopub", "status", msg_id, execution_state="idle")
        while (frame := peer.receive()).opcode == TEXT:
            received.append(json.loads(frame.data))

    with serving(script) as where, Client(kernel_id="k", url=f"http://{where}") as kc:
        kc.execute_interactive("1", output_hook=lambda msg: None, timeout=30, **kwargs)
        # What was sent before this has arrived when this has.
        kc.shell_channel.send(kc.session.msg("comm_info_request", {}))
        wait_until(lambda: any(m["header"]["msg_type"] == "comm_info_request" for m in received))
    return [m for m in received if m["header"]["msg_type"] == "input_reply"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The questions that reach the user, each of which gets an answer."""
    questions: list[Any] = []

    def answer(prompt: str) -> str:
        questions.append(prompt)
        return "secret"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("getpass.getpass", answer)
    return questions


@pytest.mark.parametrize("hook", [True, False])
def test_a_gateway_cannot_ask_where_input_is_forbidden(
    hook: bool, asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the hook nor the user is asked, on whatever channel; a warning tells of it."""
    stdin_hook = asked.append if hook else None
    every = ("stdin", "shell", "iopub", "control")
    found = asked_by_the_gateway(*every, allow_stdin=False, stdin_hook=stdin_hook)
    assert found == asked == []
    assert "allow_stdin" in caplog.text


@pytest.mark.parametrize("channel", ["shell", "iopub", "control"])
def test_a_question_counts_on_the_stdin_channel_only(channel: str, asked: list[Any]) -> None:
    """On another it is no question."""
    assert asked_by_the_gateway(channel, stdin_hook=asked.append) == asked == []
    assert asked_by_the_gateway(channel) == asked == []


# --- start and stop -------------------------------------------------------------------------------


def test_channels_can_be_stopped_and_started_again(kc: Client) -> None:
    """A client is reusable; stopping is idempotent and what came before is forgotten."""
    kc.execute("print(1)", reply=True, timeout=10)
    kc.stop_channels()
    kc.stop_channels()
    assert not kc.channels_running
    with pytest.raises(GatewayConnectionClosed):
        kc.execute("1")
    kc.start_channels()
    kc.start_channels()
    kc.wait_for_ready(timeout=30)
    assert kc.execute("2", reply=True, timeout=10)["content"]["execution_count"] == 2


def test_a_client_that_was_never_started_says_so(km: Manager) -> None:
    """Neither waits for ever nor fails obscurely."""
    km.start_kernel()
    client = km.client()
    client.stop_channels()
    assert not client.channels_running
    assert client.is_alive()
    with pytest.raises(GatewayConnectionClosed, match="start_channels"):
        client.execute("1")
    with pytest.raises(RuntimeError, match="IOPub channel must be running"):
        client.execute_interactive("1")


def test_a_client_needs_a_kernel(gateway: LocalGateway) -> None:
    """Without a kernel's id, start_channels says what is missing."""
    client = Client(**gateway.options())
    with pytest.raises(GatewayConnectionClosed, match="kernel_id="):
        client.start_channels()
    assert not client.is_alive()


def test_a_client_alone_needs_only_the_id(km: Manager, gateway: LocalGateway) -> None:
    """Without a manager, as a context manager, beside another client of the same kernel."""
    km.start_kernel()
    assert km.kernel_id is not None
    with Client(kernel_id=km.kernel_id, **gateway.options()) as alone, km.client() as other:
        alone.wait_for_ready(timeout=30)
        other.wait_for_ready(timeout=30)
        assert alone.is_alive()
        assert alone.session.session != other.session.session
        alone.execute("x = 5", reply=True, timeout=10)
        reply = other.execute("", user_expressions={"x": "x"}, reply=True, timeout=10)
        assert reply["content"]["user_expressions"]["x"]["data"]["text/plain"] == "5"


def test_stop_channels_ends_a_waiting_call(kc: Client) -> None:
    """A thread that waits without a time-out gets GatewayConnectionClosed."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kc.get_shell_msg)
        wait_until(waiting.running)
        time.sleep(0.1)
        kc.stop_channels()
        with pytest.raises(GatewayConnectionClosed, match="stopped"):
            waiting.result(timeout=5)


@pytest.mark.parametrize("fate", ["alive", "stopped", "vanished"])
def test_stop_channels_takes_two_seconds_at_most(fate: str) -> None:
    """The gateway may live, stand still or be gone; no thread is left (see conftest)."""

    def stop() -> float:
        with own_gateway() as own:
            _, kc = start_new_kernel(**own.options())
            assert own.pid is not None
            if fate == "stopped":
                os.kill(own.pid, signal.SIGSTOP)
            elif fate == "vanished":
                os.kill(own.pid, signal.SIGKILL)
            try:
                start = time.monotonic()
                kc.stop_channels()
                taken = time.monotonic() - start
                assert not [t for t in threading.enumerate() if t.name.startswith("gateway-")]
            finally:
                if fate == "stopped":
                    os.kill(own.pid, signal.SIGCONT)
        return taken

    assert least_time(stop, 2) < 2


@pytest.mark.parametrize("packer", ["pickle", "jupyter_client.session.json_packer"])
def test_a_session_that_does_not_pack_json(packer: str) -> None:
    """No gateway would ever answer it, nor say why: it is refused before anything is sent."""
    unpacker = packer.replace("_packer", "_unpacker")
    session = Session(packer=packer, unpacker=unpacker)
    kc = Client(kernel_id="k", url="http://127.0.0.1:9", session=session)
    with pytest.raises(WireError if packer == "pickle" else GatewayConnectionError) as caught:
        kc.start_channels()
    assert ("set it to 'json'" in str(caught.value)) is (packer == "pickle")


def test_stop_channels_wins_over_a_start_channels_under_way(
    km: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that another thread stops while it connects stays stopped."""
    km.start_kernel()
    kc = km.client()
    connecting, go_on = threading.Event(), threading.Event()
    endpoint = connector._endpoint

    def slowly(*args: Any) -> Any:
        connecting.set()
        assert go_on.wait(10)
        return endpoint(*args)

    monkeypatch.setattr(connector, "_endpoint", slowly)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(kc.start_channels)
        assert connecting.wait(10)
        kc.stop_channels()
        go_on.set()
        with pytest.raises(GatewayConnectionClosed, match="were stopped"):
            starting.result(timeout=10)
    assert not kc.channels_running


def test_a_lost_gateway_ends_every_wait_with_the_reason() -> None:
    """Killed gateway: once the tries are used up; what came before stays readable."""
    with own_gateway() as own:
        km, kc = start_new_kernel(**own.options(), gateway_retry_interval=0.1, gateway_retry_max=3)
        kc.execute("1", reply=True, timeout=10)
        kc.execute("2")
        wait_until(lambda: kc.shell_channel.qsize() == 1)
        sleeping = "import time; time.sleep(60)"
        with ThreadPoolExecutor(2) as pool:
            replies = [
                pool.submit(kc.execute, sleeping, reply=True),
                pool.submit(kc.execute_interactive, sleeping, output_hook=lambda msg: None),
            ]
            time.sleep(0.5)
            assert own.pid is not None
            os.kill(own.pid, signal.SIGKILL)
            for reply in replies:
                with pytest.raises(GatewayConnectionClosed, match="was lost") as caught:
                    reply.result(timeout=15)
                assert isinstance(caught.value.__cause__, GatewayConnectionError)
                assert "Connection refused" in str(caught.value)
                assert "tried 4 times" in str(caught.value)
        assert kc.get_shell_msg(timeout=0)["msg_type"] == "execute_reply"
        with pytest.raises(GatewayConnectionClosed):
            kc.get_shell_msg()
        with pytest.raises(GatewayConnectionClosed):
            kc.execute("1")
        assert not kc.hb_channel.is_beating()
        kc.stop_channels()
        km.cleanup_resources()


def test_a_dropped_client_ends_its_threads(km: Manager) -> None:
    """Forgetting stop_channels() leaks no thread once the client is collected."""
    km.start_kernel()
    client = km.client()
    client.start_channels()
    del client
    gc.collect()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gateway-")], 5)


def test_control_c_while_the_channels_start_leaves_nothing() -> None:
    """No thread and no socket, also of a client that is just dropped then."""
    asked, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:  # a gateway that holds the handshake back
        peer.read_request()
        asked.set()
        peer.wait_for_end()
        gone.set()

    def start(where: str) -> None:
        client = Client(kernel_id="a-b-c-d-e", url=f"http://{where}")
        with pytest.raises(KeyboardInterrupt):
            client.start_channels()
        assert not client.channels_running

    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with serving(script) as where:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            start(where)
        finally:
            signal.signal(signal.SIGALRM, previous)
        gc.collect()
        assert gone.wait(10) or not asked.is_set()
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("gateway-")])


def test_the_interpreter_exits_with_channels_running(gateway_env: LocalGateway) -> None:
    """A script that forgets stop_channels() ends, silently, and its kernel with it."""
    script = (
        "from gateway_blocking import start_new_kernel\n"
        "km, kc = start_new_kernel()\n"
        "print(km.kernel_id)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() not in kernels_of(gateway_env)


def test_control_c_ends_a_wait_and_the_client_goes_on(kc: Client) -> None:
    """KeyboardInterrupt comes at once out of a wait without a time-out."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            kc.execute("import time; time.sleep(2)", reply=True)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert kc.execute("1", reply=True, timeout=20)["content"]["status"] == "ok"


# --- the kernel's life ----------------------------------------------------------------------------


def test_a_busy_kernel_is_ready_when_it_is_done(kc: Client) -> None:
    """wait_for_ready waits for a running cell, and its time-out is kept."""
    kc.execute("import time; time.sleep(2)")
    with pytest.raises(KernelNotReady, match="Kernel didn't respond in 0.5 seconds"):
        kc.wait_for_ready(timeout=0.5)
    kc.wait_for_ready(timeout=20)
    assert kc.is_alive()


def test_wait_for_ready_leaves_no_message_behind(kc: Client) -> None:
    """Answers to its questions, and to the gateway's, are not taken for output later."""
    kc.wait_for_ready(timeout=20)
    for get in (kc.get_shell_msg, kc.get_iopub_msg):
        with pytest.raises(Empty):
            get(timeout=0.3)


def test_wait_for_ready_asks_a_kernel_again_that_lost_the_question() -> None:
    """As jupyter_client does; what is answered later, or twice, is in nobody's way."""
    asked: list[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        while (frame := peer.receive()).opcode == TEXT:
            header = json.loads(frame.data)["header"]
            if header["msg_type"] == "kernel_info_request":
                asked.append(header["msg_id"])
                if len(asked) < 3:
                    continue
                answered = [asked[2], asked[2], asked[0], asked[1]]
            else:
                answered = [header["msg_id"]]
            for msg_id in answered:
                reply = header["msg_type"].replace("_request", "_reply")
                peer.send_message("shell", reply, msg_id, status="ok")
                peer.send_message("iopub", "status", msg_id, execution_state="idle")

    with serving(script) as where, Client(kernel_id="k", url=f"http://{where}") as kc:
        kc.wait_for_ready(timeout=60)
        assert kc.comm_info(reply=True, timeout=30)["msg_type"] == "comm_info_reply"
        assert kc.shell_channel.get_msgs() == []
        assert len(asked) == 3
        assert kc.session.adapt_version == 0  # which the replies do not tell
        assert kc.shell_channel._claims == kc.iopub_channel._claims == {}


def has_irkernel() -> bool:
    command = ["R", "--slave", "-e", "packageVersion('IRkernel')"]
    return shutil.which("R") is not None and not subprocess.call(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.skipif(not has_irkernel(), reason="R has no package IRkernel here")
def test_irkernel_is_ready_after_each_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it loses the next request most times."""
    spec = tmp_path / "kernels" / "ir" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "R", "language": "R"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with own_gateway() as own, run_kernel(kernel_name="ir", **own.options()) as kc:
        assert isinstance(kc.parent, Manager)
        for _ in range(5):
            msg_id = kc.execute("cat('begun')\nSys.sleep(60)")
            while kc.get_iopub_msg(timeout=60)["msg_type"] != "stream":
                pass
            kc.parent.interrupt_kernel()
            kc.wait_for_ready(timeout=60)
            assert kc._recv_reply(msg_id, timeout=60)["msg_type"] == "execute_reply"


def test_a_busy_kernel_is_asked_again_without_harm(kc: Client) -> None:
    """It answers each question when it is done, and none of the replies is left behind."""
    msg_id = kc.execute("import time; time.sleep(3)")
    kc.wait_for_ready(timeout=60)
    assert kc.comm_info(reply=True, timeout=30)["content"]["status"] == "ok"
    assert [m["parent_header"]["msg_id"] for m in kc.shell_channel.get_msgs()] == [msg_id]


def test_a_kernel_is_not_asked_again_without_end() -> None:
    """Each second at first, then less and less often."""
    waited, times = 0.0, []
    while waited < 3600:
        times.append(waited)
        waited += readiness._retry_delay(waited)
    assert times[:5] == [0, 1, 2, 3, 4]
    assert len(times) < 100


def test_wait_for_ready_goes_on_with_a_kernel_that_is_restarted_meanwhile(kc: Client) -> None:
    """Whoever restarts it: here the gateway, because it was killed."""
    pid = "__import__('os').getpid()"
    reply = kc.execute("", user_expressions={"pid": pid}, reply=True, timeout=10)
    found = reply["content"]["user_expressions"]["pid"]["data"]["text/plain"]
    seen: list[str] = []
    executing = threading.Event()

    def hook(msg: dict[str, Any]) -> None:
        seen.append(msg["msg_type"])
        if msg["msg_type"] == "execute_input":
            executing.set()

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(kc.execute_interactive, "while True: pass", output_hook=hook)
        assert executing.wait(60)
        waiting = pool.submit(kc.wait_for_ready, 60)
        wait_until(lambda: len(kc.shell_channel._claims) > 1)
        os.kill(int(found), signal.SIGKILL)
        with pytest.raises(KernelRestarted):
            running.result(timeout=60)
        assert waiting.result(timeout=60) is None
    assert kc.execute("1", reply=True, timeout=10)["content"]["execution_count"] == 1


def test_a_client_that_does_not_listen_to_output_is_ready_too(km: Manager) -> None:
    """start_channels(iopub=False): the reply is enough."""
    km.start_kernel()
    client = km.client()
    client.start_channels(iopub=False)
    try:
        client.wait_for_ready(timeout=60)
        assert client.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"
    finally:
        client.stop_channels()


def test_without_pings_silence_is_no_sign_of_death() -> None:
    """An idle kernel says nothing, so that its heart beats as long as the connection is open."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.wait_for_end()

    with serving(script) as where:
        options = {"ws_ping_interval": 0, "ws_ping_timeout": 0.001, "gateway_retry_max": 0}
        client = Client(kernel_id="a-b-c-d-e", url=f"http://{where}", **options)
        with client:
            wait_until(client.hb_channel.is_beating)
            time.sleep(0.1)
            assert client.hb_channel.is_beating()
        assert not client.hb_channel.is_beating()
        client.start_channels()
        wait_until(client.hb_channel.is_beating)
    wait_until(lambda: not client.hb_channel.is_beating())  # the gateway has gone
    client.stop_channels()


def test_a_dead_kernel_ends_every_wait(kc: Client) -> None:
    """The gateway restarts a crashed kernel silently; waiters are told, and is_alive is False."""
    pid = "__import__('os').getpid()"
    reply = kc.execute("", user_expressions={"pid": pid}, reply=True, timeout=10)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(
            kc.execute_interactive, "while True: pass", output_hook=lambda msg: None
        )
        time.sleep(0.3)
        queued = pool.submit(kc.execute, "1", reply=True)
        expressions = reply["content"]["user_expressions"]
        os.kill(int(expressions["pid"]["data"]["text/plain"]), signal.SIGKILL)
        for waiting in (running, queued):
            with pytest.raises(
                KernelRestarted, match=r"crashed \(out of memory\?\); its variables"
            ):
                waiting.result(timeout=20)
    assert not kc.is_alive()
    assert not kc.hb_channel.is_beating()
    assert isinstance(kc.parent, Manager)
    assert not kc.parent.is_alive()
    with pytest.raises(DeadKernelError):
        kc.get_shell_msg()
    kc.wait_for_ready(timeout=30)
    assert kc.is_alive()
    assert kc.parent.is_alive()
    assert kc.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"


def test_a_kernel_deleted_by_someone_else_ends_every_wait(
    kc: Client, km: Manager, gateway: LocalGateway, tmp_path: Path
) -> None:
    """The websocket stays open and silent then; the heartbeat asks the gateway."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kc.execute, deaf_cell(tmp_path / "begun"), reply=True)
        wait_until((tmp_path / "begun").exists)
        with Manager(kernel_id=km.kernel_id, **gateway.options()) as other:
            other.start_kernel()
            other.owned_kernel = True
        with pytest.raises(DeadKernelError, match="shut down or culled"):
            waiting.result(timeout=20)
    assert not kc.is_alive()
    assert not km.is_alive()
    assert not km.has_kernel
    with pytest.raises(DeadKernelError):
        kc.wait_for_ready(timeout=10)


@pytest.mark.parametrize("first", ["client", "manager"])
def test_a_kernel_deleted_by_someone_else_is_noticed_by_itself(
    kc: Client, km: Manager, gateway: LocalGateway, first: str
) -> None:
    """Nobody waits and nothing is asked of the kernel: is_alive() turns False all the same."""
    assert kc.is_alive()
    assert km.is_alive()
    with Manager(kernel_id=km.kernel_id, **gateway.options()) as other:
        other.start_kernel()
        other.owned_kernel = True
    wait_until(lambda: not (kc if first == "client" else km).is_alive(), 20)
    assert not kc.is_alive()
    assert not km.is_alive()


def test_a_culled_kernel_ends_a_wait_for_output() -> None:
    """Also one without a time-out, by a client that is connected and asks for nothing."""
    # Idle is also a kernel that still starts, which must be over before it is culled.
    args = ["--MappingKernelManager.cull_idle_timeout=5", "--MappingKernelManager.cull_interval=1"]
    args += ["--MappingKernelManager.cull_connected=True"]
    with own_gateway(*args) as own, Manager(**own.options()) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            assert km.is_alive()
            with pytest.raises(KernelGone, match="culled, or the gateway was restarted"):
                while True:  # what the kernel says at its end comes first
                    kc.get_iopub_msg()
            assert not kc.is_alive()
            assert not km.is_alive()
            assert not km.has_kernel
        assert "Culling 'idle' kernel" in own.log_tail(1000)


# --- errors of connecting -------------------------------------------------------------------------


def test_a_wrong_token_is_refused_without_being_shown(km: Manager, gateway: LocalGateway) -> None:
    """401 on the websocket is GatewayAuthError, and says nothing of the token."""
    km.start_kernel()
    client = Client(kernel_id=km.kernel_id, url=gateway.url, auth_token="sesame-open")
    with pytest.raises(GatewayAuthError, match="401") as caught:
        client.start_channels()
    assert "sesame" not in f"{caught.value} {caught.value.__cause__} {client!r}"
    assert not client.channels_running


def test_an_unknown_kernel_id_is_named(gateway: LocalGateway) -> None:
    """404 on the websocket is NoSuchKernel, a KeyError."""
    client = Client(kernel_id="0000-dead-beef-0000-0000", **gateway.options())
    with pytest.raises(NoSuchKernel, match="0000-dead-beef-0000-0000"):
        client.start_channels()


def test_a_gateway_that_is_down_is_named() -> None:
    """Connection refused, with the address and what to look at."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        client = Client(kernel_id="a-b-c-d-e", url=f"http://127.0.0.1:{port}")
        with pytest.raises(GatewayConnectionError, match=rf"{port}.*the gateway is running"):
            client.start_channels()


# --- the functions --------------------------------------------------------------------------------


def test_run_kernel_shuts_its_kernel_down(gateway: LocalGateway) -> None:
    """The client is ready in the block and its kernel is gone after it (see conftest)."""
    with run_kernel(kernel_name="python3", **gateway.options()) as kc:
        assert kc.execute("1", reply=True, timeout=10)["content"]["status"] == "ok"
    assert not kc.channels_running
    assert not kc.is_alive()


def test_start_new_kernel_leaves_nothing_when_the_kernel_is_not_ready(
    gateway: LocalGateway,
) -> None:
    """Its kernel is shut down when it does not answer in time (see conftest)."""
    with pytest.raises(RuntimeError, match="Kernel didn't respond"):
        start_new_kernel(startup_timeout=0, **gateway.options())
