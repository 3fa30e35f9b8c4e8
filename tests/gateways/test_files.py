"""Variables and files to real kernels and back, also through a connection that breaks."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    GatewayError,
    GatewayTimeout,
    MessageTooLarge,
    run_kernel,
)
from gateway_blocking.errors import ReplyLost
from gateway_blocking.kernel_calls import KernelCall, KernelCalls
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy
from support.kernels import needs
from support.servers import jupyter_server, own_gateway
from support.terminal import Person, Terminal


@pytest.fixture(scope="module", params=["Kernel Gateway", "Jupyter Server"])
def kc(
    request: pytest.FixtureRequest,
    gateway: LocalGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BlockingGatewayKernelClient]:
    """A client of a kernel, on each kind of server."""
    with ExitStack() as stack:
        options = gateway.options()
        if request.param == "Jupyter Server":
            folder = tmp_path_factory.mktemp("server")
            options = stack.enter_context(jupyter_server(folder)).client_options()
        yield stack.enter_context(run_kernel(**options))


# --- variables ------------------------------------------------------------------------------------


def test_variables_go_both_ways(kc: BlockingGatewayKernelClient) -> None:
    """They leave no other name behind, and the execution count stays."""
    before = kc.run("sorted(globals())[-1:]; 0", timeout=60)
    kc.put(n=10**30, text="ü\ud800\n'", data=b"\0\xff", rows=[{"a": [1.5, None, True]}])
    assert (kc.get("n"), kc.get("text"), kc.get("data")) == (10**30, "ü\ud800\n'", b"\0\xff")
    assert kc.get("rows") == [{"a": [1.5, None, True]}]
    after = kc.run("[name for name in globals() if 'json' in name or 'base64' in name]")
    assert after.text() == "[]"
    assert after.execution_count == (before.execution_count or 0) + 1


def test_variables_that_cannot_be_read(kc: BlockingGatewayKernelClient) -> None:
    """The error says what the kernel said."""
    with pytest.raises(NameError, match="the kernel has no variable 'missing'"):
        kc.get("missing")
    kc.run("thing = object()", timeout=60, check=True)
    with pytest.raises(TypeError, match=r"thing: .*not JSON serializable; .*use download\(\)"):
        kc.get("thing")


def test_variables_go_through_a_queue_of_failing_code(kc: BlockingGatewayKernelClient) -> None:
    """The kernel skips what is queued behind an error, and it is sent again."""
    for _ in range(5):
        kc.execute("import time; time.sleep(0.05); 1 / 0")
    kc.put(behind=1)
    for _ in range(5):
        kc.execute("import time; time.sleep(0.05); 1 / 0")
    assert kc.get("behind") == 1


def test_a_busy_kernel_is_awaited_for_the_timeout(kc: BlockingGatewayKernelClient) -> None:
    """Each wait has an end, and a reply that comes after it is dropped."""
    kc.put({"timeout": 1}, timeout=60)  # the kernel's language is known then
    msg_id = kc.execute("import time; time.sleep(60)")
    for call in (
        lambda: kc.put({"timeout": 1}, timeout=0.2),
        lambda: kc.get("timeout", timeout=0.2),
    ):
        with pytest.raises(GatewayTimeout, match=r"did not answer within 0\.2 s, and "):
            call()
    for transfer in (
        lambda: kc.upload(io.BytesIO(b"x"), "x", timeout=0.2),
        lambda: kc.download("x", io.BytesIO(), timeout=0.2),
    ):
        with pytest.raises(GatewayTimeout, match=r"did not answer within 0\.2 s; a kernel that"):
            transfer()
    kc.interrupt_kernel()
    kc.rest.close()
    kc.kernel_info(reply=True, timeout=60)
    assert kc.shell_channel.get_msgs()[-1]["parent_header"]["msg_id"] == msg_id
    kc.put({"timeout": 2}, timeout=60)
    assert kc.get("timeout", timeout=60) == 2
    with pytest.raises(TypeError, match="got no variable, only the timeout"):
        kc.put(timeout=5)


def test_answers_to_requests_of_our_own_stay_out_of_the_queues(
    kc: BlockingGatewayKernelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither late replies nor the kernel's status is left for the caller to read."""
    known = [kc.kernel_info(reply=True, timeout=60)["parent_header"]["msg_id"]]
    monkeypatch.setattr(kc, "_kernel_info", None)  # so that put() asks for the language
    kc.shell_channel.get_msgs()
    kc.iopub_channel.get_msgs()
    known.append(kc.execute("import time; time.sleep(60)"))
    for call in (
        lambda: kc.put({"late": 1}, timeout=0.2),
        lambda: kc.upload(io.BytesIO(b"x"), "x", timeout=0.2),
    ):
        with pytest.raises(GatewayTimeout):
            call()
    kc.interrupt_kernel()
    kc.rest.close()
    kc.put({"late": 2}, timeout=60)
    known.append(kc.kernel_info())
    replies = [kc.get_shell_msg(timeout=60), kc.get_shell_msg(timeout=60)]
    assert [each["parent_header"]["msg_id"] for each in replies] == known[1:]
    parents: list[str] = []
    while parents.count(known[-1]) < 2:  # busy and idle, after all else
        parents.append(kc.get_iopub_msg(timeout=60)["parent_header"]["msg_id"])
    assert set(parents) <= set(known)


def test_a_large_value_is_sent_as_an_expression(kc: BlockingGatewayKernelClient) -> None:
    """IPython would transform code of this size for seconds, and its history would keep it."""
    data = os.urandom(5 << 20)
    before = kc.run("In[-1]", timeout=60)
    kc.put(data=data)
    assert kc.get("data") == data
    assert kc.run("In[-2]", timeout=60).text() == repr(before.code)


def test_a_value_above_the_limit_of_a_message(kc: BlockingGatewayKernelClient) -> None:
    """The error says what to do, and the connection goes on."""
    with pytest.raises(MessageTooLarge, match="by way of a file"):
        kc.put(data=bytes(12 << 20))
    assert kc.run("1", timeout=60).ok


def test_a_large_value_is_not_lost(kc: BlockingGatewayKernelClient) -> None:
    """It does not come as output, whose rate a gateway may limit."""
    kc.run("large = list(range(500_000))", timeout=60, check=True)
    assert kc.get("large") == list(range(500_000))


@pytest.fixture
def bash(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BlockingGatewayKernelClient]:
    """The client of a bash kernel, on a gateway that has its kernelspec."""
    folder = tmp_path / "kernels" / "bash"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Bash", "language": "bash", "env": {"PS1": "$"}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with own_gateway() as own, run_kernel(kernel_name="bash", **own.options()) as client:
        yield client


def test_variables_of_bash(bash: BlockingGatewayKernelClient) -> None:
    """Another language, by its row in the table; a text comes back as bytes."""
    bash.put(text='it\'s $(date) "ü"', n=5)
    assert bash.get("text") == 'it\'s $(date) "ü"'.encode()
    assert bash.get("n") == b"5"
    bash.put(lines="a\n\n", large="x" * 100_000)
    assert bash.get("lines") == b"a\n\n"
    assert bash.get("large") == b"x" * 100_000
    with pytest.raises(NameError, match="missing"):
        bash.get("missing")
    with pytest.raises(GatewayError, match="Python kernel"):
        bash.upload(io.BytesIO(b"x"), "x", timeout=60)
    bash.execute("sleep 60")
    for call in (lambda: bash.put(n=6, timeout=0.2), lambda: bash.get("n", timeout=0.2)):
        with pytest.raises(GatewayTimeout, match="did not answer within"):
            call()
    bash.interrupt_kernel()
    bash.put(n=7, timeout=60)
    assert bash.get("n", timeout=60) == b"7"


@needs("ir")
def test_variables_of_r(gateway: LocalGateway) -> None:
    """A vector of one element is a number, as jsonlite has it."""
    with run_kernel(kernel_name="ir", **gateway.options()) as client:
        client.put(text='it\'s "ü"', n=5, numbers=[1, 2.5], data=b"\0\xff")
        assert client.get("text") == 'it\'s "ü"'
        assert client.get("n") == 5
        client.put(mixed=[1, "a", None])
        assert client.get("mixed") == [1, "a", None]
        assert client.get("numbers") == [1, 2.5]
        assert client.get("data") == b"\0\xff"
        with pytest.raises(NameError, match="absent"):
            client.get("absent")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9_000_000])
def test_files_go_both_ways(kc: BlockingGatewayKernelClient, tmp_path: Path, size: int) -> None:
    """Any size and any name is possible, and the progress is told."""
    data = os.urandom(size)
    source = tmp_path / 'it\'s "ü"\n.bin'
    source.write_bytes(data)
    seen: list[tuple[int, int | None]] = []
    there = tmp_path / "there"
    there.mkdir()
    path = kc.upload(source, str(there), progress=lambda *args: seen.append(args))
    assert path == str(there / source.name)
    assert Path(path).read_bytes() == data
    assert (seen[-1:] == [(size, size)]) == (size > 0)
    back = kc.download(path, tmp_path / "back")
    assert back == tmp_path / "back"
    assert back.read_bytes() == data
    assert sorted(each.name for each in tmp_path.iterdir()) == ["back", source.name, "there"]


@needs("xpython")
def test_a_kernel_that_stops_at_two_large_requests_gets_one_at_a_time(tmp_path: Path) -> None:
    """xeus-python, which listens on ports only, executed nothing any more."""
    (tmp_path / "source").write_bytes(data := os.urandom(9_000_000))
    with (
        LocalGateway() as gateway,
        run_kernel(**gateway.options(), kernel_name="xpython") as kc,
    ):
        kc.upload(tmp_path / "source", str(tmp_path / "there"), timeout=60)
        kc.download(str(tmp_path / "there"), tmp_path / "back", timeout=60)
    assert (tmp_path / "back").read_bytes() == data


def test_a_kernel_that_drops_buffers_gets_text(
    kc: BlockingGatewayKernelClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunks come as buffers of the requests, or else as base64."""
    data, start = os.urandom(5_000_000), KernelCalls.start
    chunks: list[type] = []
    drops = False

    def spy(self: KernelCalls, function: str, *args: Any, **options: Any) -> KernelCall:
        if function == "write":
            chunks.append(type(args[-1]))
        if drops:
            options["buffer"] = None
        return start(self, function, *args, **options)

    monkeypatch.setattr(KernelCalls, "start", spy)
    kc.upload(io.BytesIO(data), str(tmp_path / "binary"))
    drops = True
    kc.upload(io.BytesIO(data), str(tmp_path / "text"))
    assert chunks == [type(None)] * 3 + [str] * 3
    assert [(tmp_path / name).read_bytes() for name in ("binary", "text")] == [data, data]


def test_file_objects(kc: BlockingGatewayKernelClient, tmp_path: Path) -> None:
    """Anything that reads or writes bytes."""
    kc.upload(io.BytesIO(b"abc"), str(tmp_path / "x"))
    target = io.BytesIO()
    assert kc.download(str(tmp_path / "x"), target) is None
    assert target.getvalue() == b"abc"


@pytest.mark.parametrize(
    ("local", "remote", "error"),
    [
        ("missing", "x", FileNotFoundError),
        ("here", "no/such/folder/x", FileNotFoundError),
        ("here", "/dev/null", OSError),
    ],
)
def test_an_upload_that_fails_leaves_nothing(
    kc: BlockingGatewayKernelClient, tmp_path: Path, local: str, remote: str, error: Any
) -> None:
    """The error is the one of the system, here or there."""
    (tmp_path / "here").write_text("x")
    with pytest.raises(error):
        kc.upload(tmp_path / local, remote if remote[0] == "/" else str(tmp_path / remote))
    assert [each.name for each in tmp_path.iterdir()] == ["here"]


def test_an_upload_that_is_interrupted_leaves_nothing(
    kc: BlockingGatewayKernelClient, tmp_path: Path
) -> None:
    """Ctrl-C may come while chunks are on their way, and the next upload works."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "source").write_bytes(bytes(20_000_000))

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kc.upload(tmp_path / "source", str(target), progress=interrupt)
    assert list(target.iterdir()) == []
    kc.upload(tmp_path / "source", str(target))
    assert [each.name for each in target.iterdir()] == ["source"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for files")
def test_an_upload_that_does_not_fit_leaves_nothing(gateway: LocalGateway, tmp_path: Path) -> None:
    """The error is the kernel's, as if its disk were full."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))"
    with run_kernel(**gateway.options()) as client:
        client.run(limit, timeout=60, check=True)
        with pytest.raises(OSError, match="in the kernel: File too large"):
            client.upload(io.BytesIO(bytes(20_000_000)), str(tmp_path / "copy"))
        assert list(tmp_path.iterdir()) == []


def test_an_upload_whose_first_reply_is_lost_leaves_nothing_else(
    kc: BlockingGatewayKernelClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that makes the temporary file is made again, and makes no second file."""
    take, lost = KernelCall._reply, []

    def lose(self: KernelCall, deadline: Any) -> Any:
        reply = take(self, deadline)
        lost.append(reply)
        if len(lost) <= 3:
            raise ReplyLost("lost", msg_id=reply["parent_header"]["msg_id"])
        return reply

    monkeypatch.setattr(KernelCall, "_reply", lose)
    kc.upload(io.BytesIO(b"abc"), str(tmp_path / "copy"))
    assert len(lost) > 3
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("copy", b"abc")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_text(kc: BlockingGatewayKernelClient, tmp_path: Path) -> None:
    """Its bytes stay the same on both ways."""
    source = tmp_path / os.fsdecode(b"a\xff")
    source.write_bytes(b"abc")
    (tmp_path / "there").mkdir()
    path = kc.upload(source, str(tmp_path / "there"))
    assert os.fsencode(path).endswith(b"/there/a\xff")
    assert kc.download(path, tmp_path / "back") == tmp_path / "back"
    assert (tmp_path / "back").read_bytes() == b"abc"


def test_a_download_that_fails_leaves_the_old_file(
    kc: BlockingGatewayKernelClient, tmp_path: Path
) -> None:
    """The source may be missing, or a directory."""
    (tmp_path / "old").write_text("old")
    for remote in ("missing", "."):
        with pytest.raises(OSError, match="in the kernel"):
            kc.download(str(tmp_path / remote), tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["old"]


def test_a_file_that_grows_is_told(kc: BlockingGatewayKernelClient, tmp_path: Path) -> None:
    """The copy would be of a state that never was."""
    source = tmp_path / "log"
    source.write_bytes(bytes(5 << 20))

    def grow(done: int, total: int | None) -> None:
        with source.open("ab") as file:
            file.write(b"more")

    with pytest.raises(GatewayError, match="changed in the kernel while it was read"):
        kc.download(str(source), tmp_path / "copy", progress=grow)
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_transfer_goes_on_after_a_cut(
    direction: str, proxy: FaultProxy, gateway: LocalGateway, tmp_path: Path
) -> None:
    """A chunk whose reply is lost is sent again."""
    data = os.urandom(20_000_000)
    (tmp_path / "source").write_bytes(data)
    cuts = iter([True, False, False, True])

    def cut(done: int, total: int | None) -> None:
        if next(cuts, False):
            proxy.websocket.cut("rst")

    with run_kernel(**{**gateway.options(), "url": proxy.url}) as client:
        if direction == "up":
            client.upload(tmp_path / "source", str(tmp_path / "copy"), progress=cut)
        else:
            client.download(str(tmp_path / "source"), tmp_path / "copy", progress=cut)
    assert (tmp_path / "copy").read_bytes() == data


# --- jupyter gateway cp ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(gateway: LocalGateway) -> Iterator[str]:
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        with km.client() as client:
            client.wait_for_ready(timeout=60)
        yield str(km.kernel_id)


def test_cp(terminal: Terminal, kernel: str, tmp_path: Path) -> None:
    """To the kernel, and several files back into a directory."""
    for name in "ab":
        (terminal.directory / name).write_text(name)
    assert terminal("cp", "a", "b", f"{kernel}:{tmp_path}").returncode == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]
    (terminal.directory / "back").mkdir()
    done = terminal("cp", f"{kernel[:8]}:{tmp_path}/a", f"{kernel[:8]}:{tmp_path}/b", "back")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (terminal.directory / "back" / "b").read_text() == "b"


def test_cp_on_a_terminal(terminal: Terminal, kernel: str, tmp_path: Path) -> None:
    """A line tells how much was copied, and how fast."""
    (terminal.directory / "ä").write_bytes(bytes(3_000_000))
    with Person(terminal, "cp", "ä", f"{kernel}:{tmp_path}/copy") as person:
        assert person.sees(r"100%      3\.0 MB +[\d.]+ MB/s +'\\xe4'\n")
        assert person.ends()[0] == 0
    assert (tmp_path / "copy").stat().st_size == 3_000_000


def test_cp_by_contents(terminal: Terminal, tmp_path: Path) -> None:
    """To a Jupyter Server and back, relative to its root folder."""
    root = tmp_path / "root"
    root.mkdir()
    (terminal.directory / "a b").write_text("a")
    with jupyter_server(root) as server, run_kernel(**server.client_options()) as client:
        terminal.env["JUPYTER_GATEWAY_URL"] = server.url
        terminal.env["JUPYTER_GATEWAY_AUTH_TOKEN"] = server.options["auth_token"]
        done = terminal("cp", "--via=contents", "a b", f"{client.kernel_id}:")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (root / "a b").read_text() == "a"
        done = terminal("cp", "--via=contents", f"{client.kernel_id}:a b", "back")
        assert (done.returncode, done.stderr) == (0, "")
        assert (terminal.directory / "back").read_text() == "a"
        done = terminal("cp", "--via=contents", f"{client.kernel_id}:b", ".")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "on the server: No such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["a"], "give SOURCE and DESTINATION"),
        (["a", "b"], "must be KERNEL:PATH"),
        (["KERNEL:a", "KERNEL:b"], "must be KERNEL:PATH"),
        (["a", "KERNEL:b", "c"], "must be KERNEL:PATH"),
        (["KERNEL:a", "b", "c"], "all sources must be on the same side"),
        (
            ["missing", "KERNEL:b"],
            "cannot copy missing to KERNEL:b: No such file or directory: missing",
        ),
        (
            ["KERNEL:/missing", "."],
            "cannot copy KERNEL:/missing to .: in the kernel: No such file or directory: /missing",
        ),
        (
            ["a", "KERNEL:/missing/a"],
            "to KERNEL:/missing/a: in the kernel: No such file or directory: /missing/a\n",
        ),
        (
            ["KERNEL:/etc/passwd", "missing/a"],
            "cannot copy KERNEL:/etc/passwd to missing/a: No such file or directory: ",
        ),
        (["a", "unknown-kernel:b"], "no kernel whose id begins with"),
    ],
)
def test_cp_that_cannot_be_done(
    terminal: Terminal, kernel: str, args: list[str], error: str
) -> None:
    """One line says why, and the exit status is 2."""
    (terminal.directory / "a").write_text("a")
    done = terminal("cp", *[arg.replace("KERNEL", kernel) for arg in args])
    assert done.returncode == 2
    assert error in done.stderr.replace(kernel, "KERNEL")
    assert done.stderr.count("\n") == 1
    assert ".part" not in done.stderr
