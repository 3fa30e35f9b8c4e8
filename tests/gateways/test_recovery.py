"""What fails between a client and a real gateway, through a proxy that cuts, swallows and lies.

The numbers in the docstrings are those of the table in docs/topics/reliability.rst.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from gateway_blocking import (
    BlockingGatewayKernelClient as Client,
)
from gateway_blocking import (
    BlockingGatewayKernelManager as Manager,
)
from gateway_blocking import (
    DeadKernelError,
    GatewayAuthError,
    GatewayConnectionClosed,
    GatewayTimeout,
    KernelGone,
    KernelRestarted,
    NoSuchKernel,
    ReplyLost,
)
from gateway_blocking.actions import State
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.kernels import needs
from support.rawserver import certificate
from support.servers import own_gateway, proxy_of, upstream_of
from support.waiting import wait_until

# A heartbeat that notices a half-open connection after a second, and quick tries.
IMPATIENT = {
    "ws_ping_interval": 0.5,
    "ws_ping_timeout": 0.5,
    "gateway_retry_interval": 0.1,
    "gateway_retry_interval_max": 1.0,
}


# One for who counts the websockets: on a busy machine a second passes without any fault.
PATIENT = {**IMPATIENT, "ws_ping_timeout": 60.0}


@contextmanager
def kernel_by(
    proxy: FaultProxy, gateway: LocalGateway, **options: Any
) -> Iterator[tuple[Manager, Client]]:
    """A kernel, its manager by the direct way, and a ready client that goes through the proxy."""
    name = options.pop("kernel_name", "python3")
    with Manager(**gateway.options(), kernel_name=name) as km:
        km.start_kernel()
        options = {**IMPATIENT, "auth_token": gateway.token, **options}
        with Client(kernel_id=km.kernel_id, url=proxy.url, **options) as kc:
            kc.wait_for_ready(timeout=60)
            yield km, kc


@pytest.fixture
def kc(gateway: LocalGateway, proxy: FaultProxy) -> Iterator[Client]:
    with kernel_by(proxy, gateway) as (_km, kc):
        yield kc


@pytest.fixture
def once(tmp_path: Path) -> Once:
    return Once(tmp_path / "executed")


class Once:
    """Cells that leave a mark in a file, for who does not take the client's word for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gate = path.with_name("may go on")
        self.pause = (
            f"import os, time\nwhile not os.path.exists({str(self._gate)!r}): time.sleep(0.01)"
        )

    def pause_at(self, number: int) -> str:
        """One of several pauses, each of which ends by itself."""
        return self.pause.replace(str(self._gate), f"{self._gate} {number}")

    def go_on(self, number: int | None = None) -> None:
        """End the pause that cells make, or the one of this number."""
        gate = self._gate if number is None else Path(f"{self._gate} {number}")
        gate.touch()

    def begin(
        self, pool: Executor, kc: Client, mark: str = "x", *, ignores_interrupts: bool = False
    ) -> Future[Any]:
        """Execute a cell that takes long, and wait until it has begun.

        A gateway interrupts a kernel before it restarts it, and ipykernel may reply to that.
        """
        marks = self.marks + mark
        code = self.cell(mark, "import time; time.sleep(600)")
        if ignores_interrupts:
            code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{code}"
        waiting = pool.submit(kc.execute, code, reply=True)
        self.wait(marks)
        return waiting

    def count(self, before: int, pause: float) -> str:
        """Counts to 39, and makes the pause when it has come so far."""
        return (
            f"{COUNT.format(count=before, pause=pause)}\n{self.pause}\n"
            f"for number in range({before}, 40): print(number, flush=True)\n"
        )

    def cell(self, mark: str = "x", more: str = "") -> str:
        return f"with open({str(self.path)!r}, 'a') as f: f.write({mark!r})\n{more}"

    @property
    def marks(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    def wait(self, marks: str) -> None:
        wait_until(lambda: self.marks == marks)


def state_of(kc: Client) -> State:
    assert kc.connection_slot.connection is not None
    return kc.connection_slot.connection.state


def wait_until_open_again(kc: Client, after: int = 1) -> None:
    """Wait for the connection that follows one that was lost, or is about to be noticed as lost."""
    connection = kc.connection_slot.connection
    assert connection is not None
    wait_until(lambda: connection._protocol.epoch > after and connection.state is State.OPEN)


def generation_of(kc: Client) -> int:
    """Which of the client's connections it is."""
    assert kc.connection_slot.connection is not None
    return kc.connection_slot.connection._protocol.epoch


def outstanding(kc: Client) -> int:
    """How many requests were sent and are not answered."""
    connection = kc.connection_slot.connection
    assert connection is not None
    with connection._runner.mutex:
        return len(connection._protocol._requests.outstanding())


COUNT = """
import sys, time
for number in range({count}):
    sys.stdout.write(f"{{number}}\\n")
    sys.stdout.flush()  # so that each number is one message
    time.sleep({pause})
"""


class Counting:
    """An execution that counts, in a thread of its own, and what is printed meanwhile."""

    def __init__(
        self, kc: Client, count: int = 40, pause: float = 0.05, code: str | None = None
    ) -> None:
        self.kc, self.count = kc, count
        self.printed: list[int] = []
        self.texts: list[str] = []
        self._pool = ThreadPoolExecutor(1)
        code = code or COUNT.format(count=count, pause=pause)
        self._reply = self._pool.submit(
            kc.execute_interactive, code, output_hook=self._see, timeout=60
        )

    def _see(self, message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            self.texts.append(message["content"]["text"])
            self.printed += [int(number) for number in message["content"]["text"].split()]

    def wait_for(self, number: int) -> None:
        wait_until(lambda: number in self.printed)

    def is_done(self) -> bool:
        return self._reply.done()

    def check(self, *, most_missing: int, several_losses: bool = False) -> None:
        """It ends well, everything came once and in order, and what is missing is counted."""
        reply = self._reply.result(timeout=60)
        self._pool.shutdown()
        assert reply["content"]["status"] == "ok"
        assert self.printed == sorted(set(self.printed))
        missing = self.count - len(self.printed)
        assert missing <= most_missing
        counted = self.kc.missing_messages(reply["parent_header"]["msg_id"])
        if several_losses:  # some of what the connection asked between them may be lost, too
            assert counted in (None, *range(min(1, missing), missing + 1))
        else:
            assert counted == missing


# --- the websocket is lost ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_cut_in_the_middle_of_a_cell(
    gateway: LocalGateway, proxy: FaultProxy, once: Once, how: Any
) -> None:
    """Faults 1, 2: its output comes whole but for what was in flight, and the reply comes."""
    with kernel_by(proxy, gateway, **PATIENT) as (_km, kc):
        counting = Counting(kc, code=once.count(14, 0.05))
        counting.wait_for(10)
        proxy.websocket.cut(how)
        wait_until_open_again(kc)
        once.go_on()
        counting.check(most_missing=3)
        assert len(proxy.websockets) == 2


def test_a_cut_while_the_gateway_cannot_be_reached(
    gateway: LocalGateway, proxy: FaultProxy, once: Once
) -> None:
    """Fault 1: the gateway keeps what is printed in the gap, and not a line of it is lost."""
    with kernel_by(proxy, gateway, **PATIENT, gateway_retry_max=30) as (km, kc):
        counting = Counting(kc, code=once.count(3, 0) + once.cell())
        counting.wait_for(2)
        with proxy.refusing():
            proxy.websocket.cut("rst")
            # What a gateway sends before it has noticed is lost with the connection.
            wait_until(lambda: km.rest.get_kernel(kc.kernel_id)["connections"] == 0)
            once.go_on()
            once.wait("x")
            assert counting.printed == [0, 1, 2]
        counting.check(most_missing=0)
    assert "".join(counting.texts) == "".join(f"{number}\n" for number in range(40))
    assert len(proxy.websockets) == 2


UNHEEDED = ["ignore::urllib3.exceptions.InsecureRequestWarning"]
if sys.version_info < (3, 13):
    # ``SSLContext.wrap_socket()`` leaves a socket that was reset just before to the garbage
    # collector: it has no peer any more.
    UNHEEDED.append(r"ignore:unclosed <ssl\.SSLSocket (?!.*raddr=):ResourceWarning")


@pytest.mark.filterwarnings(*UNHEEDED)
@pytest.mark.parametrize("trust", ["ca_certs", "validate_cert"])
@pytest.mark.parametrize("how", ["rst", "fin", "hole"])
def test_an_encrypted_connection(tmp_path: Path, once: Once, how: Any, trust: str) -> None:
    """Faults 1 to 3: the same, though what is lost is then a piece of a TLS record; with a
    certificate that is trusted, and with one that is not looked at."""
    _, cert = certificate(tmp_path)
    trusting = {"ca_certs": cert} if trust == "ca_certs" else {"validate_cert": False}
    files = [f"--KernelGatewayApp.certfile={cert}"]
    files += [f"--KernelGatewayApp.keyfile={tmp_path / 'key.pem'}"]
    with ExitStack() as stack:
        own = stack.enter_context(own_gateway(*files))
        proxy = stack.enter_context(proxy_of(own))
        options = {**IMPATIENT, "auth_token": own.token, **trusting}
        km = stack.enter_context(Manager(url=own.url, **options))
        km.start_kernel()
        url = proxy.url.replace("http:", "https:")
        kc = stack.enter_context(Client(kernel_id=km.kernel_id, url=url, **options))
        kc.wait_for_ready(timeout=60)
        counting = Counting(kc, code=once.count(20, 0.05))
        counting.wait_for(5)
        for link in proxy.links:  # which of them is the websocket cannot be seen
            link.cut(how)
        wait_until_open_again(kc)
        once.go_on()
        counting.check(most_missing=14)
        assert kc.execute(once.cell(), reply=True, timeout=30)["content"]["status"] == "ok"
        assert once.marks == "x"


def test_ten_cuts(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 9: one after the other, as soon as the connection is open again."""
    code = "import time\n"
    for cut in range(10):
        code += f"for number in range({10 * cut}, {10 * cut + 10}):\n"
        code += f"    print(number, flush=True); time.sleep(0.03)\n{once.pause_at(cut)}\n"
    counting = Counting(kc, 100, code=code)
    for cut in range(10):
        counting.wait_for(10 * cut + 6)
        before = generation_of(kc)
        proxy.websocket.cut("rst")
        wait_until_open_again(kc, before)
        once.go_on(cut)
    counting.check(most_missing=30, several_losses=True)


def test_a_connection_that_swallows_everything(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 3: noticed by the heartbeat; what was lost is counted, the reply comes."""
    counting = Counting(kc, code=once.count(20, 0.05))
    counting.wait_for(5)
    proxy.websocket.hole("both")
    wait_until_open_again(kc)
    once.go_on()
    counting.check(most_missing=14)


def test_a_reply_that_was_swallowed(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 4: the kernel executed it, once, and its waiter is told so; the next is as usual."""
    with ThreadPoolExecutor(1) as pool:
        link = proxy.websocket
        waiting = pool.submit(kc.execute, once.cell(more=f"{once.pause}\nprint(1)"), reply=True)
        once.wait("x")
        link.hole("down")
        once.go_on()
        with pytest.raises(ReplyLost, match="the kernel executed it, once") as caught:
            waiting.result(timeout=30)
    assert caught.value.executed is True
    assert once.marks == "x"
    assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"


def test_a_lost_reply_stands_in_the_queue(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """For who reads the channel without waiting for a certain reply: raised once, in its place."""
    msg_id = kc.execute(once.cell(more=once.pause))
    once.wait("x")
    proxy.websocket.hole("down")
    once.go_on()
    with pytest.raises(ReplyLost) as caught:
        kc.get_shell_msg(timeout=30)
    assert caught.value.msg_id == msg_id
    later = kc.execute("1")
    assert kc.get_shell_msg(timeout=30)["parent_header"]["msg_id"] == later


def test_a_request_that_was_swallowed(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 6: it is sent again, and executed once."""
    proxy.websocket.hole("up")
    assert kc.execute(once.cell(), reply=True, timeout=30)["content"]["status"] == "ok"
    assert once.marks == "x"


@pytest.mark.usefixtures("default_format")
def test_packets_that_come_late(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 6: the first copy of a request arrives after the second, and is not executed."""
    link = proxy.websocket
    link.hole("up")
    assert kc.execute(once.cell(), reply=True, timeout=30)["content"]["status"] == "ok"
    link.heal()
    assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
    assert once.marks == "x"


def test_a_cut_right_after_each_request(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 6: twenty times; each is executed once, and its outcome is the true one."""
    for number in range(20):
        link = proxy.websocket
        msg_id = kc.execute(once.cell(chr(ord("a") + number)))
        time.sleep(0.0005 * (number % 5))
        link.cut("rst")
        try:
            reply = kc._recv_reply(msg_id, timeout=30)
            assert reply["content"]["status"] == "ok"
        except ReplyLost as lost:
            assert lost.executed is True
    assert once.marks == "abcdefghijklmnopqrst"


def test_a_pipeline_that_is_cut(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 6: five requests on their way, a cut after the second: each once, in order."""
    requests = [kc.execute(once.cell("a"))]
    requests += [kc.execute(once.cell(mark, once.pause)) for mark in "bcde"]
    assert kc._recv_reply(requests.pop(0), timeout=30)["content"]["status"] == "ok"
    once.wait("ab")
    proxy.websocket.cut("rst")
    once.go_on()
    for msg_id in requests:
        assert kc._recv_reply(msg_id, timeout=30)["content"]["status"] == "ok"
    assert once.marks == "abcde"


def test_requests_during_the_gap(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 1: they wait for the connection, within their time-out; who times out sent nothing."""
    with ExitStack() as stack:
        stack.enter_context(proxy.refusing())
        proxy.websocket.cut("rst")
        wait_until(lambda: state_of(kc) is State.RECONNECTING)
        assert kc.is_alive()
        with pytest.raises(GatewayTimeout, match=r"within 0\.1 s"):
            kc.execute(once.cell("n"), reply=True, timeout=0.1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(kc.execute, once.cell("y"), reply=True, timeout=30)
            time.sleep(0.3)
            stack.close()  # it is reached again
            assert waiting.result(timeout=30)["content"]["status"] == "ok"
    assert once.marks == "y"


def test_a_cut_while_the_kernel_waits_for_input(kc: Client, proxy: FaultProxy) -> None:
    """Fault 7: the answer reaches it after the reconnection."""
    asked = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(
            kc.execute_interactive,
            "answer = input('? ')",
            allow_stdin=True,
            stdin_hook=lambda request: asked.set(),
            timeout=60,
        )
        assert asked.wait(30)
        proxy.websocket.cut("rst")
        kc.input("42")
        assert reply.result(timeout=30)["content"]["status"] == "ok"
    info = kc.execute("", user_expressions={"it": "answer"}, reply=True, timeout=30)
    assert info["content"]["user_expressions"]["it"]["data"]["text/plain"] == "'42'"


def test_an_answer_that_was_swallowed(kc: Client, proxy: FaultProxy) -> None:
    """Fault 7: what was typed into a dead connection is sent again."""

    def answer(request: dict[str, Any]) -> None:
        proxy.websocket.hole("both")
        kc.input("42")

    reply = kc.execute_interactive(
        "answer = input('? ')", allow_stdin=True, stdin_hook=answer, timeout=60
    )
    assert reply["content"]["status"] == "ok"


def test_a_cut_in_the_middle_of_a_large_frame(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 8: no half message is delivered; what is lost is counted."""
    outputs: list[dict[str, Any]] = []
    proxy.websocket.cut_after("down", 1_000_000, "rst")
    code = f"display({{'text/plain': 'z' * 3_000_000}}, raw=True)\n{once.pause}\nprint('after')"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kc.execute_interactive, code, output_hook=outputs.append, timeout=60)
        wait_until(lambda: len(proxy.websockets) == 2 and state_of(kc) is State.OPEN)
        time.sleep(1)  # in which the last question on control is answered, too
        once.go_on()
        reply = running.result(timeout=60)
    assert reply["content"]["status"] == "ok"
    kinds = [message["msg_type"] for message in outputs]
    assert kinds.count("display_data") == 0
    assert kinds.count("stream") == 1
    assert kc.missing_messages(reply["parent_header"]["msg_id"]) == 1


def test_a_gateway_in_trouble(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 10: 503 for a while is no reason to give up."""
    counting = Counting(kc, code=once.count(14, 0.05))
    counting.wait_for(10)
    proxy.answer("503 Service Unavailable", to="websocket", times=3)
    proxy.websocket.cut("rst")
    wait_until_open_again(kc)
    once.go_on()
    counting.check(most_missing=3)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_reconnection(kc: Client, proxy: FaultProxy, once: Once, status: str) -> None:
    """Fault 11: tried once more, in case the token can be renewed; then told at once."""
    proxy.answer(status, to="websocket")
    with ThreadPoolExecutor(1) as pool:
        waiting = once.begin(pool, kc)
        proxy.websocket.cut("rst")
        with pytest.raises(GatewayConnectionClosed, match=status[:3]) as caught:
            waiting.result(timeout=30)
    assert any(isinstance(cause, GatewayAuthError) for cause in causes(caught.value))
    assert "tried 2 times" in str(caught.value)
    assert kc.is_alive() is True  # the kernel is, as far as REST tells


def causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def test_a_kernel_that_is_not_there_any_more(
    gateway: LocalGateway, proxy: FaultProxy, once: Once
) -> None:
    """Fault 12: told at once, as a dead kernel and as one that does not exist."""
    with kernel_by(proxy, gateway, ws_ping_interval=0) as (km, kc):
        with ThreadPoolExecutor(1) as pool, proxy.refusing():
            waiting = once.begin(pool, kc)
            proxy.websocket.cut("rst")
            km.shutdown_kernel()
        with pytest.raises(DeadKernelError) as caught:
            waiting.result(timeout=30)
        assert isinstance(caught.value, NoSuchKernel)
        with pytest.raises(KernelGone):
            kc.execute("1")


def test_a_gateway_that_never_comes_back(kc: Client, proxy: FaultProxy, once: Once) -> None:
    """Fault 13: told when the tries are used up, with how many they were."""
    with ThreadPoolExecutor(1) as pool, proxy.refusing():
        waiting = once.begin(pool, kc)
        proxy.websocket.cut("rst")
        with pytest.raises(GatewayConnectionClosed, match=r"tried 6 times within \d+ s"):
            waiting.result(timeout=60)


# --- the gateway itself ---------------------------------------------------------------------------


def test_a_gateway_that_stands_still() -> None:
    """Fault 14: nothing is lost, and nobody hangs up, though it is silent for long."""
    with own_gateway() as own, proxy_of(own) as proxy, kernel_by(proxy, own) as (_km, kc):
        assert own.pid is not None
        counting = Counting(kc, 100)
        counting.wait_for(10)
        os.kill(own.pid, signal.SIGSTOP)
        try:
            time.sleep(4)  # the heartbeat's patience is one second
        finally:
            os.kill(own.pid, signal.SIGCONT)
        counting.check(most_missing=0)
        assert len(proxy.websockets) == 1


# --- the kernel -----------------------------------------------------------------------------------


def test_a_kernel_that_is_killed_in_a_cell(kc: Client, once: Once) -> None:
    """Fault 16: all that was asked of it, before and after, ends within seconds; nothing runs
    unnoticed on the empty kernel that the gateway starts in its place, and wait_for_ready() goes
    on with that."""

    def ask() -> list[Future[Any]]:
        return [pool.submit(kc.execute, "'state' in globals()", reply=True) for _ in range(5)]

    kc.execute("state = 1", reply=True, timeout=30)
    with ThreadPoolExecutor(11) as pool:
        last = once.cell(more=f"{once.pause}\nos._exit(1)")
        waiting = [pool.submit(kc.execute, last, reply=True)]
        once.wait("x")
        waiting += ask()
        wait_until(lambda: outstanding(kc) == 6)
        once.go_on()
        time.sleep(0.5)
        waiting += ask()
        for one in waiting:
            with pytest.raises(KernelRestarted):
                one.result(timeout=30)
    with pytest.raises(KernelRestarted, match="wait_for_ready"):
        kc.execute("1")
    kc.wait_for_ready(timeout=60)
    assert kc.execute("assert 'state' not in globals()", reply=True)["content"]["status"] == "ok"


def test_a_kernel_that_somebody_else_restarts(
    gateway: LocalGateway, kc: Client, once: Once
) -> None:
    """Fault 18: told within seconds, what it executes and what it has yet to; the client works
    on."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [once.begin(pool, kc, ignores_interrupts=True)]
        waiting.append(pool.submit(kc.execute, "1", reply=True))
        wait_until(lambda: outstanding(kc) == 2)
        with Manager(kernel_id=kc.kernel_id, **gateway.options()) as other:
            other.start_kernel()
            other.restart_kernel()
        for one in waiting:
            with pytest.raises(KernelRestarted):
                one.result(timeout=30)
    assert not kc.is_alive()
    kc.wait_for_ready(timeout=60)
    assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"


def test_a_restart_while_the_connection_is_lost(
    gateway: LocalGateway, kc: Client, proxy: FaultProxy, once: Once
) -> None:
    """Fault 18: what was asked of the old process is not sent to the new one."""
    with ThreadPoolExecutor(1) as pool:
        proxy.websocket.hole("up")
        waiting = pool.submit(kc.execute, once.cell(), reply=True)
        with Manager(kernel_id=kc.kernel_id, **gateway.options()) as other:
            other.start_kernel()
            other.restart_kernel()
        with pytest.raises(KernelRestarted):
            waiting.result(timeout=30)
    kc.wait_for_ready(timeout=60)
    assert once.marks == ""


def test_our_own_restart(gateway: LocalGateway, once: Once) -> None:
    """Calls that wait get KernelRestarted; the same client goes on, many times."""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        kc = km.client()
        kc.start_channels()
        kc.wait_for_ready(timeout=60)
        for _ in range(3):
            with ThreadPoolExecutor(1) as pool:
                waiting = once.begin(pool, kc, ignores_interrupts=True)
                km.restart_kernel()
                with pytest.raises(KernelRestarted):
                    waiting.result(timeout=30)
            kc.wait_for_ready(timeout=60)
            assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
            assert km.is_alive()
        kc.stop_channels()


def test_a_kernel_that_is_deleted_silently(gateway: LocalGateway, kc: Client) -> None:
    """Fault 19: the websocket stays open and says nothing, when the kernel cannot."""
    pid = kc.execute("", user_expressions={"pid": "__import__('os').getpid()"}, reply=True)
    os.kill(int(pid["content"]["user_expressions"]["pid"]["data"]["text/plain"]), signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kc.execute, "1", reply=True)
        with Manager(kernel_id=kc.kernel_id, **gateway.options()) as other:
            other.start_kernel()
            other.owned_kernel = True
            other.shutdown_kernel()
        with pytest.raises(KernelGone):
            waiting.result(timeout=30)
    assert not kc.is_alive()


def test_an_interrupt_by_somebody_else(gateway: LocalGateway, kc: Client, once: Once) -> None:
    """Fault 20: the reply tells of a KeyboardInterrupt, as with a local kernel."""
    with ThreadPoolExecutor(1) as pool:
        waiting = once.begin(pool, kc)
        with Manager(kernel_id=kc.kernel_id, **gateway.options()) as other:
            other.start_kernel()
            other.interrupt_kernel()
        assert waiting.result(timeout=20)["content"]["ename"] == "KeyboardInterrupt"


# --- limits ---------------------------------------------------------------------------------------


def test_output_that_comes_too_fast(caplog: pytest.LogCaptureFixture) -> None:
    """Fault 27: the gateway drops some and says so; how much is known and told.

    Its limit is low here: of a thousand messages at once ZMQ may drop some, too, and any of them.
    """
    printed: list[str] = []

    def see(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    limit = "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=100"  # a second, for 3 s
    with (
        own_gateway(limit) as gateway,
        Manager(**gateway.options()) as km,
    ):
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            code = COUNT.format(count=600, pause=0)
            reply = kc.execute_interactive(code, output_hook=see, timeout=60)
            missing = kc.missing_messages(reply["parent_header"]["msg_id"])
    assert missing == 600 - len(printed)
    assert missing > 0
    assert f"output is missing: at least {missing} messages" in caplog.text
    assert "faster than its iopub_msg_rate_limit allows" in caplog.text
    assert "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0" in caplog.text


@pytest.mark.parametrize(
    "code",
    [
        "class P:\n def _ipython_display_(self): print('p')\nP()",
        # as async-kernel does
        "session = get_ipython().kernel.session\n"
        "for i in range(50): session.msg('display_data'); display(i)",
    ],
)
def test_numbers_that_the_kernel_does_not_use(
    gateway: LocalGateway, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """A kernel that makes messages and does not send them has lost none: nothing warns of it."""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            for _ in range(2):
                reply = kc.execute_interactive(code, output_hook=lambda _: None, timeout=60)
                assert kc.missing_messages(reply["parent_header"]["msg_id"]) is None
                assert not kc.connection_slot.may_lack_output(reply["parent_header"]["msg_id"])
    assert "missing" not in caplog.text


def test_a_message_above_the_maximum(gateway: LocalGateway, proxy: FaultProxy) -> None:
    """Fault 25: refused when its length is known.  What came behind it is lost with it, which is
    said; the rest goes on on another websocket."""
    with kernel_by(proxy, gateway, **PATIENT, ws_max_message_size=1_000_000) as (_km, kc):
        outputs: list[dict[str, Any]] = []
        large = "display({'text/plain': 'z' * 3_000_000}, raw=True)"
        try:
            kc.execute_interactive(large, output_hook=outputs.append, timeout=60)
        except ReplyLost as lost:
            assert lost.executed is True
        assert "display_data" not in [message["msg_type"] for message in outputs]
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
        assert len(proxy.websockets) == 2


@pytest.mark.parametrize("when", ["reconnecting", "recovering"])
def test_stopping_while_the_connection_is_lost(kc: Client, proxy: FaultProxy, when: str) -> None:
    """Fault 29: stop_channels() returns within two seconds and leaves no thread."""
    if when == "reconnecting":
        with proxy.refusing():
            proxy.websocket.cut("rst")
            wait_until(lambda: state_of(kc) is State.RECONNECTING)
            begun = time.monotonic()
            kc.stop_channels()
    else:
        proxy.websocket.cut("rst")
        proxy.stall()  # accepts, and never answers
        time.sleep(0.5)
        begun = time.monotonic()
        kc.stop_channels()
        proxy.go_on()
    assert time.monotonic() - begun < 10, "two seconds, and what a busy machine takes"
    assert not [t for t in threading.enumerate() if t.name.startswith("gateway-")]


def test_a_recovery_that_is_cut_short(gateway: LocalGateway, proxy: FaultProxy, once: Once) -> None:
    """Fault 9: lost again before the kernel has answered, and not reached for a while; the
    heartbeat goes on, and finds the next loss."""
    with kernel_by(proxy, gateway, gateway_retry_max=30) as (_km, kc):
        proxy.websocket.cut("rst")
        wait_until(lambda: len(proxy.websockets) == 2)
        again = proxy.websocket
        again.hole("up")  # the questions, or what is still to be sent of them, are swallowed
        with proxy.refusing():
            again.cut("rst")
            time.sleep(4)  # longer than a kernel is given to answer
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(kc.execute, once.cell(more=once.pause), reply=True)
            once.wait("x")
            proxy.websocket.hole("down")
            once.go_on()
            with pytest.raises(ReplyLost):
                waiting.result(timeout=30)


def test_harmless_requests_are_answered_after_all(
    kc: Client, proxy: FaultProxy, once: Once
) -> None:
    """Also by a kernel that had them before, and ignores what it had."""
    with ThreadPoolExecutor(3) as pool:
        kc.execute(once.pause)
        waiting = [
            pool.submit(kc.complete, "impor", reply=True),
            pool.submit(kc.is_complete, "for x in y:", reply=True),
            pool.submit(kc.wait_for_ready, 60),
        ]
        wait_until(lambda: outstanding(kc) >= 4)
        proxy.websocket.hole("down")
        once.go_on()
        answers = [one.result(timeout=30) for one in waiting]
    assert "import" in answers[0]["content"]["matches"]
    assert answers[1]["content"]["status"] == "incomplete"
    with pytest.raises(ReplyLost):  # the cell's, which nobody waited for
        kc.get_shell_msg(timeout=30)
    with pytest.raises(Empty):
        kc.get_shell_msg(timeout=0.5)


def test_what_was_asked_of_a_dead_kernel_is_not_waited_for(kc: Client) -> None:
    """Not even after wait_for_ready() has gone on with the next one."""
    msg_id = kc.execute("import os, time; time.sleep(0.5); os._exit(1)")
    with pytest.raises(KernelRestarted):
        kc.execute("1", reply=True)
    kc.wait_for_ready(timeout=60)
    with pytest.raises(KernelRestarted):
        kc._recv_reply(msg_id)


# --- kernels that are not built on jupyter_client's Session ---------------------------------------


@pytest.fixture(scope="module")
def xeus() -> Iterator[LocalGateway]:
    """A gateway whose kernels listen on ports: xeus-python and ipymini know nothing else."""
    with LocalGateway() as gateway:
        yield gateway


@needs("xpython")
def test_a_kernel_that_repeats(xeus: LocalGateway, once: Once) -> None:
    """Fault 6: what it may have had is not sent again; that nobody knows is what is said."""
    with proxy_of(xeus) as proxy, kernel_by(proxy, xeus, kernel_name="xpython") as (_km, kc):
        kc.execute("1", reply=True, timeout=30)
        proxy.websocket.hole("up")
        with pytest.raises(ReplyLost, match="it is unknown whether") as caught:
            kc.execute(once.cell(), reply=True)
        assert caught.value.executed is None
        assert once.marks == ""
        assert kc.complete("impor", reply=True, timeout=30)["content"]["status"] == "ok"
        assert kc.execute(once.cell("y"), reply=True, timeout=30)["content"]["status"] == "ok"
        assert once.marks == "y"


@needs("xpython")
def test_a_kernel_that_is_deaf(xeus: LocalGateway, once: Once) -> None:
    """Fault 4: it takes the new connection for a double of the old one, which the gateway still
    has; that is noticed, and another made that it answers to."""
    with proxy_of(xeus) as proxy, kernel_by(proxy, xeus, kernel_name="xpython") as (_km, kc):
        proxy.websocket.hole("both")
        wait_until(lambda: len(proxy.websockets) > 1 and state_of(kc) is State.OPEN, 30)
        assert kc.execute(once.cell(), reply=True, timeout=30)["content"]["status"] == "ok"
        assert once.marks == "x"
        assert len(proxy.websockets) < 5


# --- kernels that answer questions while they execute ---------------------------------------------


@needs("py")
def test_a_cut_while_a_concurrent_kernel_executes(xeus: LocalGateway, once: Once) -> None:
    """Fault 46: it answers every question meanwhile, and its reply is waited for all the same.

    Nothing that it had is sent again: async-kernel would print a traceback then.
    """
    outputs: list[str] = []

    def see(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            outputs.append(message["content"]["text"])

    with proxy_of(xeus) as proxy, kernel_by(proxy, xeus, kernel_name="py") as (_km, kc):
        with ThreadPoolExecutor(1) as pool:
            code = once.cell(more=f"print(1, flush=True)\n{once.pause}\nprint(2)")
            running = pool.submit(kc.execute_interactive, code, output_hook=see, timeout=60)
            wait_until(lambda: "".join(outputs).split() == ["1"])
            proxy.websocket.cut("rst")
            wait_until_open_again(kc)
            for _ in range(3):  # each of which is answered while the cell runs
                assert kc.kernel_info(reply=True, timeout=30)["content"]["status"] == "ok"
            connection = kc.connection_slot.connection
            assert connection is not None
            recovery = connection._protocol._recovery
            assert recovery.recovery is not None, "it waits for the end of an execution"
            once.go_on()
            assert running.result(timeout=60)["content"]["status"] == "ok"
        assert once.marks == "x"
        assert "".join(outputs).split() == ["1", "2"]
        wait_until(lambda: connection._protocol._recovery.recovery is None)
        for message in kc.iopub_channel.get_msgs():
            assert "Traceback" not in message["content"].get("text", "")


@needs("py")
def test_a_concurrent_kernels_reply_that_was_swallowed(xeus: LocalGateway, once: Once) -> None:
    """Fault 46: the end of a later execution proves that it is lost."""
    with proxy_of(xeus) as proxy, kernel_by(proxy, xeus, kernel_name="py") as (_km, kc):
        with ThreadPoolExecutor(1) as pool:
            link = proxy.websocket
            waiting = pool.submit(kc.execute, once.cell(more=once.pause), reply=True, timeout=60)
            once.wait("x")
            link.hole("down")
            once.go_on()
            with pytest.raises(ReplyLost, match="the kernel executed it, once") as caught:
                waiting.result(timeout=60)
        assert caught.value.executed is True
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"


def test_a_request_to_another_subshell_is_waited_for(
    gateway: LocalGateway, proxy: FaultProxy, once: Once
) -> None:
    """Fault 46: ipykernel's subshells execute beside one another."""
    with kernel_by(proxy, gateway) as (_km, kc):
        features = kc.kernel_info(reply=True, timeout=30)["content"].get("supported_features", [])
        if "kernel subshells" not in features:
            pytest.skip("an ipykernel before 7 has no subshells")
        kc.control_channel.send(made := kc.session.msg("create_subshell_request"))
        reply = kc._recv_reply(made["header"]["msg_id"], timeout=30, channel="control")
        message = kc.session.msg(
            "execute_request", {**EXECUTION, "code": once.cell(more=once.pause)}
        )
        message["header"]["subshell_id"] = reply["content"]["subshell_id"]
        kc.shell_channel.send(message)
        once.wait("x")
        proxy.websocket.cut("rst")
        wait_until_open_again(kc)
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
        time.sleep(1)  # in which it would have been given up
        once.go_on()
        reply = kc._recv_reply(message["header"]["msg_id"], timeout=60)
        assert reply["content"]["status"] == "ok"


EXECUTION = {
    "silent": False,
    "store_history": True,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": True,
}


# --- more of what fails ---------------------------------------------------------------------------


def test_another_client_takes_what_came_meanwhile(
    gateway: LocalGateway, proxy: FaultProxy, once: Once
) -> None:
    """Fault 1: with somebody else connected, a gateway keeps nothing: what was said in the gap
    is lost, and that is said."""
    with kernel_by(proxy, gateway) as (km, kc), km.client() as other:
        other.wait_for_ready(timeout=60)
        msg_id = kc.execute(once.cell(more=f"{once.pause}\nprint('lost')"))
        once.wait("x")
        with proxy.refusing():
            proxy.websocket.cut("rst")
            wait_until(lambda: km.rest.get_kernel(kc.kernel_id)["connections"] == 1)
            once.go_on()
            heard = []
            while "lost\n" not in heard:  # the gateway has told the other, and so both
                heard.append(other.get_iopub_msg(timeout=30)["content"].get("text"))
        with pytest.raises(ReplyLost) as caught:
            kc._recv_reply(msg_id, timeout=30)
        assert caught.value.executed is True
        assert once.marks == "x"


def test_an_idle_connection_that_is_cut(kc: Client, proxy: FaultProxy) -> None:
    """Fault 5: the next request finds an open one."""
    for how in ("rst", "fin", "hole"):
        proxy.websocket.cut(how)  # type: ignore[arg-type]
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"


def test_pings_keep_a_connection_open(gateway: LocalGateway, proxy: FaultProxy) -> None:
    """Fault 5: an idle websocket has traffic both ways."""
    with kernel_by(proxy, gateway, **PATIENT):
        link = proxy.websocket
        before = dict(link.forwarded)
        wait_until(lambda: all(link.forwarded[way] > before[way] for way in ("up", "down")))
        assert len(proxy.websockets) == 1


def test_a_gateway_that_is_started_anew(once: Once) -> None:
    """Fault 15: its kernels are gone, which is not the same as a gateway that is away."""
    with own_gateway() as own, own_gateway() as new, proxy_of(own) as proxy:
        km = Manager(**own.options())
        km.start_kernel()
        client = Client(kernel_id=km.kernel_id, url=proxy.url, auth_token=own.token, **IMPATIENT)
        with client as kc, ThreadPoolExecutor(1) as pool:
            kc.wait_for_ready(timeout=60)
            waiting = once.begin(pool, kc)
            proxy.upstream = upstream_of(new)
            kc.gateway.auth_token = new.token
            with proxy.refusing():
                assert own.pid is not None
                os.kill(own.pid, signal.SIGKILL)
                time.sleep(0.3)
            with pytest.raises(KernelGone):
                waiting.result(timeout=30)
        km.cleanup_resources()


def test_a_kernel_that_cannot_be_started_again(tmp_path: Path) -> None:
    """Fault 17: first it was restarted; when the gateway has given up, it is dead."""
    broken = tmp_path / "broken"
    spec = tmp_path / "kernels" / "fragile"
    spec.mkdir(parents=True)
    start = f'test ! -e "{broken}" && exec "{sys.executable}" -m ipykernel_launcher -f "$0"'
    argv = ["/bin/sh", "-c", start, "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Fragile"}))
    with (
        own_gateway(env={"JUPYTER_PATH": str(tmp_path)}) as own,
        proxy_of(own) as proxy,
        kernel_by(proxy, own, kernel_name="fragile") as (_km, kc),
    ):
        broken.touch()
        with pytest.raises(KernelRestarted):
            kc.execute("import os; os._exit(1)", reply=True)
        with pytest.raises(DeadKernelError):
            kc.wait_for_ready(timeout=60)
        assert not kc.is_alive()


def test_a_token_that_expires(gateway: LocalGateway, proxy: FaultProxy) -> None:
    """Fault 33: the open websocket goes on; REST and the next websocket get the renewed token.

    The renewer gives a token that the gateway does not accept any more, as at the moment when it
    expires: the refusal has the renewer asked again, for both.
    """
    tokens = [gateway.token]
    asked: list[str] = []

    class Renewer:
        def get_token(self, key: str, scheme: str | None, token: str, **kwargs: Any) -> str:
            asked.append(token)
            return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    with kernel_by(proxy, gateway, gateway_token_renewer_class=Renewer) as (_km, kc):
        kc.gateway.auth_token = "expired"
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
        tokens[:] = ["expired", gateway.token]
        proxy.websocket.cut("rst")
        assert kc.execute("1", reply=True, timeout=30)["content"]["status"] == "ok"
        assert tokens == [gateway.token], "the reconnection was refused, and asked once more"
        kc.gateway.auth_token = "expired"
        tokens[:] = ["expired", gateway.token]
        assert kc.rest.get_kernel(kc.kernel_id)["id"] == kc.kernel_id
        assert tokens == [gateway.token], "the request was refused, and repeated with the new one"
        assert kc.gateway.auth_token == gateway.token
    assert "expired" in asked
