"""A kernel of a process among others ends with its owner: forks, workers, the reaper."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gateway_blocking.local import LocalGateway
from support.owners import is_running, kernels, program, wait_until_gone
from support.servers import Server
from support.waiting import wait_until


@pytest.fixture
def server(gateway: LocalGateway) -> Server:
    """The session's Kernel Gateway."""
    return Server(gateway.url, {"auth_token": gateway.token})


def test_a_fork_neither_ends_its_parents_kernel_nor_leaves_its_own(
    server: Server, tmp_path: Path
) -> None:
    """However it ends; and it does not keep the parent's kernel, if it lives longer."""
    code = """
km, kc = start_new_kernel()
own = []
for ending in sys.argv[1:]:
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        mine, _ = start_new_kernel()
        os.write(write, mine.kernel_id.encode())
        exec(ending)
        os._exit(0)
    own.append(os.read(read, 100).decode())
    os.waitpid(pid, 0)
assert kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"
if os.fork() == 0:
    time.sleep(600)
    os._exit(0)
tell(kernel=km.kernel_id, own=own)
wait()
"""
    endings = ("sys.exit()", "1 / 0", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)")
    with program(server, tmp_path, code, *endings) as owner:
        told = owner.told()
        assert told["kernel"] in kernels(server)
        wait_until_gone(server, *told["own"])
        assert told["kernel"] in kernels(server)
        owner.end(signal.SIGKILL)
        wait_until_gone(server, told["kernel"])
        os.killpg(owner.process.pid, signal.SIGKILL)  # the last child


def test_a_daemon_neither_keeps_the_first_process_kernel_nor_leaves_its_own(
    server: Server, tmp_path: Path
) -> None:
    """It closes all descriptors, as daemons do, and goes on in a session of its own."""
    code = """
km, kc = start_new_kernel()
tell(kernel=km.kernel_id)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(3, 1000)
own, _ = start_new_kernel()
assert own.has_kernel
tell(kernel=own.kernel_id, pid=os.getpid())
time.sleep(600)
"""
    with program(server, tmp_path, code) as owner:
        first, daemon = owner.told()["kernel"], owner.told()
        wait_until_gone(server, first)
        assert daemon["kernel"] in kernels(server)
        os.kill(daemon["pid"], signal.SIGKILL)
        wait_until_gone(server, daemon["kernel"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_kernel_ends_with_a_worker_of_multiprocessing(
    server: Server, tmp_path: Path, method: str
) -> None:
    """However it ends, also terminated; the parent's kernel and the workers' are apart."""
    code = """
ENDINGS = ("return", "1 / 0", "sys.exit(3)", "time.sleep(600)")

def work(ending, queue):
    sys.stderr = open(os.devnull, "w")
    km, kc = start_new_kernel()
    queue.put((ending, km.kernel_id))
    if ending != "return":
        exec(ending)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    km, kc = start_new_kernel()
    queue = context.Queue()
    workers = {e: context.Process(target=work, args=(e, queue)) for e in ENDINGS}
    for worker in workers.values():
        worker.start()
    own = dict(queue.get(timeout=120) for _ in workers)
    workers["time.sleep(600)"].terminate()
    for worker in workers.values():
        worker.join(60)
    assert kc.execute("6 * 7", reply=True, timeout=60)["content"]["status"] == "ok"
    statuses = [worker.exitcode for worker in workers.values()]
    tell(kernel=km.kernel_id, own=list(own.values()), statuses=statuses)
    wait()
"""
    with program(server, tmp_path, code, method) as owner:
        told = owner.told()
        assert told["statuses"] == [0, 1, 3, -signal.SIGTERM]
        assert len(set(told["own"])) == len(told["statuses"])
        wait_until_gone(server, *told["own"])
        assert told["kernel"] in kernels(server)
        owner.end(signal.SIGKILL)
        wait_until_gone(server, told["kernel"])


def test_a_worker_without_a_reaper_ends_its_kernel_itself(server: Server, tmp_path: Path) -> None:
    """Also one that was forked, which until Python 3.13 ends without what atexit knows."""
    code = """
def work(queue):
    km, kc = start_new_kernel()
    queue.put(km.kernel_id)

sys.frozen = True
context = multiprocessing.get_context("fork")
queue = context.Queue()
worker = context.Process(target=work, args=(queue,))
worker.start()
own = queue.get(timeout=120)
worker.join(60)
tell(own=own, status=worker.exitcode)
"""
    with program(server, tmp_path, code) as owner:
        told = owner.told()
        assert told["status"] == 0
        assert told["own"] not in kernels(server)


def test_the_reaper_is_small_alone_and_knows_no_secret_that_others_can_read(
    server: Server, tmp_path: Path
) -> None:
    """One for the process, no child of it, deaf to signals, under 12 MB; it ends with its owner."""
    code = """
first, _ = start_new_kernel()
pid = reaper_process()
second, _ = start_new_kernel()
assert reaper_process() == pid
try:
    os.waitpid(-1, os.WNOHANG)
    tell(children=True)
except ChildProcessError:
    tell(children=False)
tell(reaper=pid, kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    with program(server, tmp_path, code) as owner:
        assert owner.told()["children"] is False
        told = owner.told()
        proc = Path("/proc", str(told["reaper"]))
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        assert int(status["VmRSS"].split()[0]) < 12_000
        assert int(status["Threads"]) == 1
        assert server.options["auth_token"].encode() not in (proc / "environ").read_bytes()
        assert server.options["auth_token"].encode() not in (proc / "cmdline").read_bytes()
        assert os.getpgid(told["reaper"]) != os.getpgid(owner.process.pid)
        assert (proc / "cwd").readlink() == Path("/")
        assert sorted(path.name for path in (proc / "fd").iterdir()) == ["0", "1", "2"]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(told["reaper"], number)
        assert is_running(told["reaper"])
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *told["kernels"])
        wait_until(lambda: not is_running(told["reaper"]))


def test_a_reaper_ends_without_a_word_if_nothing_is_left(server: Server, tmp_path: Path) -> None:
    """After the script has shut its kernel down."""
    code = """
with run_kernel():
    tell(reaper=reaper_process())
"""
    with program(server, tmp_path, code) as owner:
        told = owner.told()
        assert owner.process.wait(60) == 0
        wait_until(lambda: not is_running(told["reaper"]))


def test_a_reaper_that_was_killed_is_replaced(server: Server, tmp_path: Path) -> None:
    """With the next kernel; the new one is told of all."""
    code = """
first, _ = start_new_kernel()
pid = reaper_process()
os.kill(pid, signal.SIGKILL)
while reaper_process() is not None:
    time.sleep(0.01)
second, _ = start_new_kernel()
assert reaper_process() not in (pid, None)
tell(kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    with program(server, tmp_path, code) as owner:
        found = owner.told()["kernels"]
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *found)


def test_a_pipe_that_others_closed_is_not_written_to(server: Server, tmp_path: Path) -> None:
    """Its number may be that of another file since."""
    code = """
first, _ = start_new_kernel()
number = reaper._reaper._process._pipe
os.close(number)
with open(sys.argv[1], "wb") as file:
    os.dup2(file.fileno(), number)
    second, _ = start_new_kernel()
tell(kernels=[first.kernel_id, second.kernel_id])
wait()
"""
    other = tmp_path / "other"
    with program(server, tmp_path, code, str(other)) as owner:
        found = owner.told()["kernels"]
        assert other.read_bytes() == b""
        owner.end(signal.SIGKILL)
        wait_until_gone(server, *found)
