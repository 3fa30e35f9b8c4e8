"""How it ends: a fork, SIGTERM, Ctrl-C, an exception, the interpreter's exit, a dropped client.

What ends a process, or forks it, is done in one of its own, with a real gateway.
"""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway_blocking import BlockingGatewayKernelClient as Client
from gateway_blocking import BlockingGatewayKernelManager as Manager
from gateway_blocking.actions import State
from gateway_blocking.frames import TEXT
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy, Link
from support.interrupting import interrupt_at_each_moment
from support.rawserver import Peer, serving
from support.servers import kernels_of
from support.waiting import wait_until

PROMPT = 20  # seconds, for what takes one or two where nothing else is to be done

PREAMBLE = """
import multiprocessing, os, signal, sys, threading, time, traceback
from gateway_blocking import *
from gateway_blocking import BlockingGatewayKernelClient as Client
from gateway_blocking import BlockingGatewayKernelManager as Manager

def sleep_for_a_signal():
    "Sleep in short steps: a signal right before a sleep begins is handled only after it."
    for _ in range(600):
        time.sleep(0.1)

def status_of(pid):
    "How the child ended, which it does promptly."
    for _ in range(2000):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return "it hangs"

def in_child(function):
    "Call the function in a child process, which ends without cleaning up."
    if (pid := os.fork()) == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert status_of(pid) == 0

def is_refused(call, *args, **kwargs):
    "In a child process: it is told at once whose client that is."
    begun = time.monotonic()
    try:
        call(*args, **kwargs)
    except GatewayConnectionClosed as error:
        text = str(error)
        assert f"process {os.getppid()}, from which this one was forked" in text, text
    else:
        assert not "refused"
    assert time.monotonic() - begun < 5

def pause():
    "Wait until the test goes on."
    print("ready", flush=True)
    sys.stdin.readline()

def works(client):
    return client.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"

def is_undisturbed(client):
    "It works, and on its first websocket."
    return works(client) and client.connection_slot.connection._protocol.epoch == 1
"""


@contextmanager
def program(code: str, *args: str, first: str = "") -> Iterator[subprocess.Popen[str]]:
    """A Python that executes the preamble and the code, with the gateway of the environment."""
    fork = "ignore:This process:DeprecationWarning"  # of 3.12, where there are threads
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-W", fork, "-c", first + PREAMBLE + code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def passes(code: str, *args: str) -> bool:
    """Whether all that the program asserts holds; it says nothing."""
    with program(code, *args) as process:
        out, err = process.communicate(timeout=90)
    assert (process.returncode, out, err) == (0, "", "")
    return True


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


def go_on(process: subprocess.Popen[str]) -> None:
    """To the next pause."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    wait_until_ready(process)


def end_of(process: subprocess.Popen[str], number: int = 0) -> str:
    """Wait for the prompt end of a program, by a signal perhaps; what it says on stderr."""
    if number:
        process.send_signal(number)
    _out, err = process.communicate(timeout=PROMPT)
    return err


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name[:8] == "gateway-"]


# --- fork -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gateway_env")
def test_a_child_is_told_that_the_client_is_its_parents() -> None:
    """Whatever it asks of the client is refused at once; the parent gets its reply all the same."""
    assert passes("""
with run_kernel() as kc:
    msg_id = kc.execute("import time; time.sleep(1); print(6 * 7)")

    def child():
        is_refused(kc.execute, "1")
        is_refused(kc.execute, "1", reply=True)
        is_refused(kc.execute_interactive, "1")
        is_refused(kc.wait_for_ready)
        is_refused(kc.get_iopub_msg)
        is_refused(kc.shell_channel.get_reply, msg_id)
        is_refused(kc.start_channels)
        kc.stop_channels()
        is_refused(kc.start_channels)
        assert not kc.channels_running
        assert not kc.hb_channel.is_beating()

    in_child(child)
    assert kc.shell_channel.get_reply(msg_id, 60)["content"]["status"] == "ok"
    assert is_undisturbed(kc)
""")


@pytest.mark.usefixtures("gateway_env")
def test_a_child_that_is_forked_in_the_middle_of_an_execution() -> None:
    """The wait that it is a copy of ends in the child, and goes on in the parent."""
    assert passes("""
children = []

def fork(message):
    if message["msg_type"] == "stream":
        children.append(os.fork())

with run_kernel() as kc:
    parent = os.getpid()
    try:
        kc.execute_interactive("print(1); import time; time.sleep(1)", output_hook=fork)
    except GatewayConnectionClosed:
        os._exit(3 if os.getpid() != parent else 1)
    assert [status_of(pid) for pid in children] == [3]
    assert is_undisturbed(kc)
""")


@pytest.mark.usefixtures("gateway_env")
@pytest.mark.parametrize("how", ["sys.exit(3)", "raise SystemExit(3)", "os._exit(3)"])
@pytest.mark.parametrize("collected", [False, True])
def test_a_child_that_ends_leaves_connection_and_kernel_alone(how: str, collected: bool) -> None:
    """Also one that leaves the ``with`` of kernel and client, or drops them, on its way out."""
    assert passes(f"""
import gc
with Manager() as km, run_kernel() as other:
    km.start_kernel()
    with km.client() as kc:
        kc.wait_for_ready(60)
        if (pid := os.fork()) == 0:
            if {collected}:
                other = kc = None
                gc.collect()
            {how}
        assert status_of(pid) == 3
        assert is_undisturbed(kc)
        assert is_undisturbed(other)
        assert km.is_alive()
""")


@pytest.mark.usefixtures("gateway_env")
def test_a_child_does_not_wait_for_a_lock_that_another_thread_held() -> None:
    """All locks of our objects are held at the moment of the fork, for ever as the child sees it.

    Those of urllib3's connection pools are found too, which are closed at the end of a process.
    """
    assert passes("""
import gc, queue
LOCKS = type(threading.Lock()), type(threading.RLock())
OWNERS = "gateway_blocking.", "urllib3.", "requests."

def locks():
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith(OWNERS):
            for part in [*getattr(thing, "__dict__", {}).values()]:
                lock = part.mutex if isinstance(part, queue.Queue) else part
                lock = getattr(lock, "plain", lock)
                if isinstance(lock, LOCKS):
                    yield lock

def hold():
    try:
        # Those that are held all the time are no locks, but wake who waits for them.
        held.extend(lock for lock in locks() if lock.acquire(timeout=0.1))
    finally:
        holding.set()
    forked.wait()
    for lock in held:
        lock.release()

with run_kernel() as kc:
    km = kc.parent
    assert km.is_alive()
    km.refresh_model()
    held, holding, forked = [], threading.Event(), threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    assert len(held) > 8, held
    if (pid := os.fork()) == 0:
        is_refused(kc.execute, "1", reply=True)
        is_refused(kc.start_channels)
        is_refused(kc.get_shell_msg)
        kc.stop_channels()
        assert km.is_alive()
        with km.client() as mine:
            mine.wait_for_ready(60)
            assert works(mine)
        sys.exit(3)
    forked.set()
    holder.join()
    assert status_of(pid) == 3
    assert is_undisturbed(kc)
""")


@pytest.mark.usefixtures("gateway_env")
def test_a_child_may_make_a_client_of_its_own() -> None:
    """Of the same kernel or of a new one, which it shuts down; and so may a child of the child."""
    assert passes("""
def child():
    with km.client() as mine:
        mine.wait_for_ready(60)
        assert works(mine)

def family():
    child()
    with run_kernel() as another:
        assert works(another)
        in_child(lambda: is_refused(another.execute, "1"))
        assert is_undisturbed(another)
    in_child(child)

with run_kernel() as kc:
    km = kc.parent
    in_child(family)
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert is_undisturbed(kc)
""")


def traffic_of(links: list[Link]) -> list[dict[str, int]]:
    """The bytes that passed by, once it is a while that some did: a new kernel has much to say."""
    while True:
        passed = [dict(link.forwarded) for link in links]
        time.sleep(1)
        if passed == [link.forwarded for link in links]:
            return passed


def test_parent_and_child_share_no_connection(gateway: LocalGateway, proxy: FaultProxy) -> None:
    """The child opens one of its own; on those that the parent has, nothing passes or ends."""
    code = """
options = {"url": sys.argv[1], "auth_token": sys.argv[2], "ws_ping_interval": 0}
with Manager(**options) as km:
    km.start_kernel()
    with km.client() as kc:
        kc.wait_for_ready(60)
        km.refresh_model()
        pause()

        def child():
            assert km.refresh_model()
            kc.stop_channels()

        in_child(child)
        pause()
        assert km.refresh_model()
        assert is_undisturbed(kc)
        pause()
"""
    with program(code, proxy.url, gateway.token) as process:
        wait_until_ready(process)
        parents = [link for link in proxy.links if link.open]
        before, passed = len(proxy.links), traffic_of(parents)
        go_on(process)
        assert len(proxy.links) == before + 1
        assert traffic_of(parents) == passed
        assert all(link.open for link in parents)
        go_on(process)
        assert len(proxy.links) == before + 1
        _out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, err) == (0, "")


# --- a signal, an exception, an exit inside a block -----------------------------------------------

BLOCKS = {
    "run_kernel": """
with run_kernel() as kc:
    inside(kc)
""",
    "manager": """
with Manager() as km:
    km.start_kernel()
    kc = km.client()
    kc.start_channels()
    kc.wait_for_ready(60)
    inside(kc)
""",
    "nested": """
with Manager() as km:
    km.start_kernel()
    with run_kernel() as kc:
        inside(kc)
""",
}
WAITS = """
def inside(kc):
    kc.execute("import time; time.sleep(60)")
    print("ready", flush=True)
    kc.get_shell_msg()
"""


@pytest.mark.usefixtures("gateway_env")
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_inside_a_block(gateway: LocalGateway, block: str, number: signal.Signals) -> None:
    """SIGTERM ends a script without a word, Ctrl-C as ever; its kernels are shut down."""
    with program(WAITS + BLOCKS[block]) as process:
        wait_until_ready(process)
        assert kernels_of(gateway)
        err = end_of(process, number)
    if number == signal.SIGTERM:
        assert (process.returncode, err) == (128 + number, "")
    else:
        assert (process.returncode, err.splitlines()[-1]) == (-number, "KeyboardInterrupt")
    assert kernels_of(gateway) == []


@pytest.mark.usefixtures("gateway_env")
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("sys.exit(3)", 3, ""),
        ("sys.exit('enough')", 1, "enough"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_an_exception_inside_a_block(
    gateway: LocalGateway, block: str, ending: str, status: int, said: str
) -> None:
    """An error or an exit is what the caller sees; the kernels are shut down, also busy ones."""
    inside = f"""
def inside(kc):
    kc.execute("import time; time.sleep(60)")
    print("ready", flush=True)
    {ending}
"""
    with program(inside + BLOCKS[block]) as process:
        wait_until_ready(process)
        err = end_of(process)
    assert process.returncode == status
    assert err.splitlines()[-1:] == [] if not said else err.splitlines()[-1].startswith(said)
    assert kernels_of(gateway) == []


@pytest.mark.usefixtures("gateway_env")
def test_sigterm_ends_a_forked_child_as_ever(gateway: LocalGateway) -> None:
    """A child that ``multiprocessing`` terminates does not unwind the block; the kernel stays."""
    assert passes("""
with run_kernel() as kc:
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(20)
    assert process.exitcode == -signal.SIGTERM
    assert is_undisturbed(kc)
""")
    assert kernels_of(gateway) == []


@pytest.mark.usefixtures("gateway_env")
def test_a_sigterm_that_comes_in_a_fork_is_not_lost(gateway: LocalGateway) -> None:
    """Python drops what a handler raises in what is called then; the block ends right after it."""
    hook = """
import os, signal
def send():
    os.kill(os.getpid(), signal.SIGTERM)
os.register_at_fork(before=lambda: armed and send())
armed = False
"""
    forks = """
with run_kernel() as kc:
    armed = True
    pid = os.fork()
    armed = False
    if pid == 0:
        os._exit(0)
    assert status_of(pid) == 0
    sleep_for_a_signal()
"""
    with program(forks, first=hook) as process:
        err = end_of(process)
    assert (process.returncode, err) == (128 + signal.SIGTERM, "")
    assert kernels_of(gateway) == []


@pytest.mark.usefixtures("gateway_env")
def test_a_block_that_ended_in_another_thread_leaves_sigterm_as_it_was() -> None:
    """The handler cannot be taken back there, and does what the system would have done."""
    with program("""
km = Manager().__enter__()
thread = threading.Thread(target=km.__exit__)
thread.start()
thread.join()
print("ready", flush=True)
sleep_for_a_signal()
""") as process:
        wait_until_ready(process)
        err = end_of(process, signal.SIGTERM)
    assert (process.returncode, err) == (-signal.SIGTERM, "")


# --- a Ctrl-C at any moment -----------------------------------------------------------------------


@contextmanager
def endless_gateway() -> Iterator[tuple[Client, list[str]]]:
    """A client of a gateway that takes any websocket, and the types of the requests it has got."""
    got: list[str] = []

    def script(peer: Peer) -> None:
        peer.accept()
        while (frame := peer.receive()).opcode == TEXT:
            got.append(json.loads(frame.data)["header"]["msg_type"])

    with serving(script) as where:
        client = Client(kernel_id="a-b-c-d-e", url=f"http://{where}", ws_ping_interval=0)
        yield client, got
        client.stop_channels()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # Python closes those
def test_an_interrupted_start_leaves_nothing_behind() -> None:
    """Interrupted at each moment of start_channels(): no thread, no socket; and it starts again."""
    moment = 0
    with endless_gateway() as (client, got):
        for interrupted in interrupt_at_each_moment():
            interrupted(client.start_channels)
            if moment % 10 == 0:  # it starts again in any case, which takes a while to try
                client.start_channels()
                client.shell_channel.send(client.session.msg("kernel_info_request"), 30)
                wait_until(lambda: got)
                got.clear()
            client.stop_channels()
            assert not threads_of_ours(), f"after moment {moment}"
            connection = client.connection_slot.connection
            socket = connection._reader.socket if connection else None
            assert socket is None or socket._sock is None or socket._sock.fileno() == -1, moment
            moment += 1


def test_after_an_interrupted_stop_it_starts_anew() -> None:
    """Interrupted at each moment of stop_channels(): the next start has a connection that works."""
    with endless_gateway() as (client, got):
        for interrupted in interrupt_at_each_moment():
            client.start_channels()
            interrupted(client.stop_channels)
            client.start_channels()
            client.shell_channel.send(client.session.msg("kernel_info_request"), 30)
            wait_until(lambda: got)
            got.clear()
            assert all(channel.is_alive() for channel in client._channels.values())
            assert client.is_alive()
            assert len(threads_of_ours()) == 2


# --- what nobody ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("connection", ["open", "refused", "stalled"])
def test_the_interpreter_exits_without_stop_channels(
    gateway: LocalGateway, proxy: FaultProxy, connection: str
) -> None:
    """At once and silently, also while the connection is lost and is being opened again."""
    code = """
kc = Client(url=sys.argv[1], auth_token=sys.argv[2], kernel_id=sys.argv[3])
kc.start_channels()
kc.wait_for_ready(60)
kc.execute("import time; time.sleep(60)")
print("ready", flush=True)
while kc.connection_slot.connection.state.name != sys.argv[4]:
    time.sleep(0.01)
"""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        assert km.kernel_id
        state = "OPEN" if connection == "open" else "RECONNECTING"
        with program(code, proxy.url, gateway.token, km.kernel_id, state) as process:
            wait_until_ready(process)
            with losing(proxy, connection):
                err = end_of(process)
    assert (process.returncode, err) == (0, "")


def test_threads_that_read_while_the_interpreter_ends_say_nothing(gateway: LocalGateway) -> None:
    """Also while an exit handler that was registered earlier takes its time and uses the client."""
    code = """
import atexit

def last():
    reader.join(0.5)
    assert reader.is_alive()
    assert works(kc)

atexit.register(last)
kc = Client(url=sys.argv[1], auth_token=sys.argv[2], kernel_id=sys.argv[3])
kc.start_channels()
kc.wait_for_ready(60)

def read():
    while True:
        kc.get_stdin_msg()

reader = threading.Thread(target=read, daemon=True)
reader.start()
"""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        assert km.kernel_id
        assert passes(code, gateway.url, gateway.token, km.kernel_id)


@pytest.mark.parametrize("connection", ["open", "refused", "stalled"])
def test_a_dropped_client_ends_its_threads(
    gateway: LocalGateway, proxy: FaultProxy, connection: str
) -> None:
    """Once the last reference is gone, also while the connection is being opened again."""
    with Manager(**gateway.options()) as km:
        km.start_kernel()
        kc = Client(url=proxy.url, auth_token=gateway.token, kernel_id=km.kernel_id)
        kc.start_channels()
        kc.wait_for_ready(timeout=60)
        link = kc.connection_slot.connection
        assert link
        with losing(proxy, connection):
            wait_until(lambda: (link.state is State.OPEN) == (connection == "open"), PROMPT)
            del kc
            gc.collect()
            wait_until(
                lambda: not [t for t in threading.enumerate() if t.name[:8] == "gateway-"], PROMPT
            )


@contextmanager
def losing(proxy: FaultProxy, how: str) -> Iterator[None]:
    """Meanwhile the websocket is lost and cannot be opened again; unless it is to stay open."""
    if how == "open":
        yield
    elif how == "stalled":
        proxy.websocket.cut("rst")
        proxy.stall()
        yield
        proxy.go_on()
    else:
        with proxy.refusing():
            proxy.websocket.cut("rst")
            yield
