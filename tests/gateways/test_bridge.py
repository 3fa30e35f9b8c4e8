"""The bridge with jupyter_client's own manager and client: a remote kernel, as if it were local."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.bridge.kernel import write_record
from gateway_blocking.bridge.sockets import write_new_connection_file
from gateway_blocking.local import LocalGateway
from support.bridges import front_end
from support.faultproxy import FaultProxy
from support.notebooks import notebook
from support.servers import kernels_of
from support.terminal import Terminal
from support.waiting import wait_until


@pytest.fixture
def spec(
    terminal: Terminal, gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of an installed kernelspec, which a profile leads to the gateway."""
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        terminal.env[name] = os.environ[name]
    options = gateway.options()
    made = terminal("profile", "add", "test", JUPYTER_GATEWAY_URL=options["url"])
    assert made.returncode == 0, made.stderr
    done = terminal("install", "--profile=test", "python3")
    assert done.returncode == 0, done.stderr
    before = set(kernels_of(gateway))
    yield "test-python3"
    wait_until(lambda: set(kernels_of(gateway)) <= before)


class Outputs(list[Any]):
    """Collects the outputs of an execution."""

    def __call__(self, message: Any) -> None:
        self.append(message)

    @property
    def text(self) -> str:
        return "".join(each["content"].get("text", "") for each in self)


def run(kc: BlockingKernelClient, code: str, **kwargs: Any) -> tuple[dict[str, Any], Outputs]:
    outputs = Outputs()
    reply = kc.execute_interactive(code, timeout=60, output_hook=outputs, **kwargs)
    content: dict[str, Any] = reply["content"]
    return content, outputs


@pytest.fixture
def km(spec: str) -> Iterator[KernelManager]:
    manager = KernelManager(kernel_name=spec)
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)
    manager.context.destroy()


@pytest.fixture
def kc(km: KernelManager) -> Iterator[BlockingKernelClient]:
    client = km.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()


def test_the_working_directory_of_the_other_machine(
    spec: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The gateway is told the name that it knows, of the directory that the front end chose."""
    monkeypatch.chdir(tmp_path)
    done = terminal("install", "--profile=test", "--map=.=/mnt/ada", "python3")
    assert done.returncode == 0, done.stderr
    manager = KernelManager(kernel_name=spec)
    (tmp_path / "project").mkdir()
    manager.start_kernel(cwd=str(tmp_path / "project"))
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        _, outputs = run(client, "import os; print(os.environ['KERNEL_WORKING_DIR'])")
        assert outputs.text == "/mnt/ada/project\n"
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
        manager.context.destroy()


def test_code_input_and_heartbeat(kc: BlockingKernelClient) -> None:
    """Streams, a value, input() and the heartbeat are those of a local kernel."""
    reply, outputs = run(kc, "print('hi')\n6 * 7")
    assert reply["status"] == "ok"
    assert outputs.text == "hi\n"
    assert [m["content"]["data"] for m in outputs if m["msg_type"] == "execute_result"] == [
        {"text/plain": "42"}
    ]
    _, outputs = run(kc, "print(input('name? '))", stdin_hook=lambda message: kc.input("Ada"))
    assert outputs.text == "Ada\n"
    assert kc.is_alive()
    assert kc.complete("pri", reply=True, timeout=60)["content"]["matches"]
    assert kc.kernel_info(reply=True, timeout=60)["content"]["implementation"] == "ipython"


def test_interrupt_and_restart(km: KernelManager, kc: BlockingKernelClient) -> None:
    """The same kernel is restarted on the gateway, and its variables are gone."""
    msg_id = kc.execute("x = 1; print('begun', flush=True); import time; time.sleep(600)")
    while kc.get_iopub_msg(timeout=60)["content"].get("text") != "begun\n":
        pass
    km.interrupt_kernel()
    assert kc._recv_reply(msg_id, timeout=60)["content"]["ename"] == "KeyboardInterrupt"
    km.restart_kernel()
    kc.wait_for_ready(timeout=60)
    assert run(kc, "x")[0]["ename"] == "NameError"


def test_buffers_and_comms_go_both_ways(kc: BlockingKernelClient) -> None:
    """A widget's messages pass through unchanged, with their buffers."""
    run(
        kc,
        "from comm import get_comm_manager\n"
        "def opened(comm, message):\n"
        "    comm.on_msg(lambda m: comm.send({'n': 1}, buffers=[bytes(m['buffers'][0])[::-1]]))\n"
        "get_comm_manager().register_target('t', opened)",
    )
    kc.shell_channel.send(
        kc.session.msg("comm_open", {"comm_id": "c", "target_name": "t", "data": {}})
    )
    message = kc.session.msg("comm_msg", {"comm_id": "c", "data": {}})
    kc.session.send(kc.shell_channel.socket, message, buffers=[b"abc"])
    while (got := kc.get_iopub_msg(timeout=60))["msg_type"] != "comm_msg":
        pass
    assert [bytes(buffer) for buffer in got["buffers"]] == [b"cba"]


def test_two_front_ends_share_a_bridge(km: KernelManager, kc: BlockingKernelClient) -> None:
    """Each gets its own replies and questions, and both see all output."""
    other = BlockingKernelClient(connection_file=km.connection_file)  # with its own identity
    other.load_connection_file()
    other.start_channels()
    other.wait_for_ready(timeout=60)
    run(kc, "shared = 'mine'")
    _, outputs = run(
        other, "print(shared, input('? '))", stdin_hook=lambda m: other.input("theirs")
    )
    assert outputs.text == "mine theirs\n"
    texts = []
    while "mine theirs\n" not in texts:
        texts.append(kc.get_iopub_msg(timeout=60)["content"].get("text"))
    other.stop_channels()
    other.context.destroy()


def test_a_message_with_another_key_is_refused(kc: BlockingKernelClient) -> None:
    """A forged or repeated request executes nothing."""
    good = kc.session.msg("execute_request", {"code": "n = globals().get('n', 0) + 1"})
    parts = kc.session.serialize(good)
    for _ in range(2):  # the second is a replay
        kc.shell_channel.socket.send_multipart(parts)
    forged = [*parts[:1], b"0" * 64, *parts[2:]]
    kc.shell_channel.socket.send_multipart(forged)
    assert run(kc, "print(n)")[1].text == "1\n"


def test_a_kernel_that_dies_ends_the_bridge(km: KernelManager, kc: BlockingKernelClient) -> None:
    """A line below the cell says why, and no front end shows it as running, such as Emacs.

    Emacs does not watch how the process ends, and takes no input while its last cell runs.
    """
    msg_id = kc.execute("import os; os._exit(1)")
    outputs, state = Outputs(), ""
    while state != "idle":
        message = kc.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == msg_id:
            outputs(message)
            state = message["content"].get("execution_state")
    assert outputs.text.startswith("[gateway] kernel ")
    assert "crashed" in outputs.text
    wait_until(lambda: not km.is_alive(), 60)


def test_a_shutdown_ends_the_remote_kernel(
    km: KernelManager, kc: BlockingKernelClient, gateway: LocalGateway
) -> None:
    """The fixture sees that no kernel is left."""
    kc.shutdown()
    assert kc.get_control_msg(timeout=60)["content"] == {"status": "ok", "restart": False}
    wait_until(lambda: not km.is_alive(), 60)


@pytest.mark.parametrize("how", ["now", "kill", "restart"])
def test_a_bridge_that_is_killed_leaves_no_kernel(
    how: str, km: KernelManager, kc: BlockingKernelClient
) -> None:
    """Its own reaper deletes the kernel; a restart that kills the bridge starts another."""
    assert km.provisioner is not None
    if how == "kill":
        os.kill(km.provisioner.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    elif how == "now":
        km.shutdown_kernel(now=True)
    else:
        run(kc, "x = 1")
        km.restart_kernel(now=True)
        kc.wait_for_ready(timeout=60)
        assert run(kc, "x")[0]["ename"] == "NameError"


def test_a_restart_that_fails_leaves_no_kernel(
    terminal: Terminal, proxy: FaultProxy, gateway: LocalGateway
) -> None:
    """The bridge owns the kernel that it is to restart from the beginning."""
    with BlockingGatewayKernelManager(**gateway.options()) as owner:
        owner.start_kernel()
        owner.owned_kernel = False
        file = terminal.directory / "connection.json"
        write_new_connection_file(file, "python3")
        write_record(file, {"kernel_id": owner.kernel_id or "", "url": proxy.url})
        with proxy.refusing():
            command = ("bridge", "--kernel=python3", "-f", str(file))
            assert terminal(*command, JUPYTER_GATEWAY_URL=proxy.url).returncode == 1
        wait_until(lambda: owner.kernel_id not in kernels_of(gateway), 60)


def test_a_front_end_that_is_killed_leaves_no_kernel(spec: str, gateway: LocalGateway) -> None:
    """The bridge ends with the process that started it."""
    code = (
        "from jupyter_client.manager import start_new_kernel\n"
        f"start_new_kernel(kernel_name={spec!r}); print('ready', flush=True); input()"
    )
    before = set(kernels_of(gateway))
    with front_end(code, says="ready") as process:
        assert set(kernels_of(gateway)) > before
        process.kill()
    wait_until(lambda: set(kernels_of(gateway)) <= before, 60)


def test_nbclient_notices_a_dead_kernel(spec: str) -> None:
    """Without the end of the bridge it would wait for its whole timeout."""
    nb = notebook("import os; os._exit(1)")
    with pytest.raises(DeadKernelError):
        NotebookClient(nb, kernel_name=spec, timeout=100).execute()


@contextmanager
def client_of(file: Path) -> Iterator[BlockingKernelClient]:
    """A client of a bridge that writes this connection file."""
    wait_until(lambda: file.exists() and json.loads(file.read_text() or "{}"), 60)
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    client.context.destroy()


def test_a_running_kernel_is_attached_to(
    spec: str, terminal: Terminal, gateway: LocalGateway
) -> None:
    """--kernel-id writes a connection file for another front end, and leaves the kernel."""
    with BlockingGatewayKernelManager(**gateway.options()) as owner:
        owner.start_kernel()
        file = terminal.directory / "connection.json"
        arguments = "bridge", f"--kernel-id={owner.kernel_id}", "-f", str(file)
        with terminal.popen(*arguments) as bridge, client_of(file) as client:
            assert file.stat().st_mode & 0o077 == 0
            assert run(client, "print('attached')")[1].text == "attached\n"
            client.shutdown()
            assert bridge.wait(60) == 0
        assert owner.is_alive()
    assert not file.exists()


@pytest.fixture
def _quits_by_default() -> Iterator[None]:
    """A shell that runs the tests in the background lets them ignore SIGQUIT."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGQUIT")
@pytest.mark.usefixtures("_quits_by_default")
def test_ctrl_backslash_ends_a_bridge_and_removes_its_connection_file(
    terminal: Terminal, gateway: LocalGateway
) -> None:
    """The command names a file of its own, which only this user can read."""
    with BlockingGatewayKernelManager(**gateway.options()) as owner:
        owner.start_kernel()
        with terminal.popen("bridge", f"--kernel-id={owner.kernel_id}") as bridge:
            assert bridge.stderr is not None
            path = Path(bridge.stderr.readline().split("--existing ")[1].strip())
            assert path.is_relative_to(terminal.env["JUPYTER_RUNTIME_DIR"])
            assert path.stat().st_mode & 0o077 == 0
            bridge.send_signal(signal.SIGQUIT)
            assert bridge.wait(60) == 128 + signal.SIGQUIT
        assert owner.is_alive()
    assert not path.exists()


def test_a_kernel_to_attach_to_that_does_not_exist(terminal: Terminal) -> None:
    """One line says so, and no connection file is written."""
    done = terminal("bridge", "--kernel-id=0123456789")
    assert done.returncode == 2
    assert "the gateway has no kernel whose id begins with '0123456789'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(Path(terminal.env["JUPYTER_RUNTIME_DIR"]).glob("kernel-*"))


@pytest.mark.parametrize("starter", ["a person", "a front end"])
def test_an_attached_bridge_whose_parent_ends(
    starter: str, spec: str, terminal: Terminal, gateway: LocalGateway, tmp_path: Path
) -> None:
    """It goes on if a person has started it in a shell, and ends with a front end."""
    with BlockingGatewayKernelManager(**gateway.options()) as owner:
        owner.start_kernel()
        file, err = tmp_path / "connection.json", tmp_path / "err"
        command = f'"$0" -m gateway_blocking bridge --kernel-id={owner.kernel_id} -f "$1" 2>"$2" &'
        env = {**terminal.env, "JUPYTER_GATEWAY_URL": str(owner.gateway.url)}
        env.pop("JPY_PARENT_PID", None)
        if starter == "a front end":
            command = f"export JPY_PARENT_PID=$$; {command}"
        else:  # the shell ends when the bridge has seen it
            command += ' while ! test -s "$1"; do sleep 0.1; done; sleep 1'
        err.touch()
        subprocess.run(["sh", "-c", command, sys.executable, file, err], env=env, check=True)
        if starter == "a front end":
            wait_until(lambda: "has ended" in err.read_text(), 60)
            return
        with client_of(file) as client:
            assert run(client, "print('attached')")[1].text == "attached\n"
            client.shutdown()
            assert client.get_control_msg(timeout=60)["content"]["status"] == "ok"


def test_a_cut_in_the_middle_of_a_cell(
    spec: str, terminal: Terminal, proxy: FaultProxy, gateway: LocalGateway
) -> None:
    """The output is complete afterwards, and the front end has noticed nothing."""
    options = {"JUPYTER_GATEWAY_URL": proxy.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
    assert terminal("profile", "add", "test", **options).returncode == 0
    manager = KernelManager(kernel_name=spec)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    texts: list[str] = []

    def hook(message: Any) -> None:
        texts.append(message["content"].get("text", ""))
        if texts[-1] == "3\n":
            proxy.websocket.cut("rst")

    code = "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.1)"
    reply = client.execute_interactive(code, timeout=100, output_hook=hook)
    assert reply["content"]["status"] == "ok"
    assert "19\n" in "".join(texts)
    client.stop_channels()
    manager.shutdown_kernel()
    manager.context.destroy()


def test_install_and_uninstall(spec: str, terminal: Terminal) -> None:
    """Uninstall removes these kernelspecs, and no others."""
    manager = KernelSpecManager()
    installed = manager.get_kernel_spec(spec)
    assert installed.metadata["gateway_blocking"] == {"kernel": "python3", "profile": "test"}
    assert "token" not in Path(installed.resource_dir, "kernel.json").read_text()
    done = terminal("uninstall", "python3")
    assert (done.returncode, done.stderr.count("is not a kernelspec that")) == (2, 1)
    assert terminal("uninstall", "--all").stdout == f"removed {spec}\n"
    assert spec not in KernelSpecManager().find_kernel_specs()
    done = terminal("uninstall", "--all")
    assert (done.returncode, done.stdout) == (0, "")
    assert "there is no kernelspec that jupyter gateway install made" in done.stderr


def test_install_replaces_no_kernelspec_of_others(spec: str, terminal: Terminal) -> None:
    """It does replace one that it made, as after a change of the gateway's."""
    assert terminal("install", "--profile=test", "python3").returncode == 0
    file = Path(KernelSpecManager().get_kernel_spec(spec).resource_dir, "kernel.json")
    mine = json.dumps({"argv": ["mine"], "display_name": "Mine", "language": "python"})
    file.write_text(mine)
    done = terminal("install", "--profile=test", "--all")
    assert (done.returncode, done.stderr.count("is another kernelspec")) == (2, 1)
    assert file.read_text() == mine


def test_install_all_leaves_out_what_it_has_made(
    spec: str, terminal: Terminal, tmp_path: Path
) -> None:
    """A gateway on this machine lists the kernelspec of its own bridge, too."""
    with LocalGateway() as gateway:
        env = {
            "JUPYTER_GATEWAY_URL": gateway.url,
            "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token,
        }
        assert spec in terminal("kernelspecs", **env).stdout
        done = terminal("install", "--all", f"--prefix={tmp_path / 'prefix'}", **env)
    assert done.returncode == 0, done.stderr
    assert f"left out {spec}, which jupyter gateway install has made" in done.stderr
    assert not list(tmp_path.glob(f"prefix/share/jupyter/kernels/*{spec}"))
    assert list(tmp_path.glob("prefix/share/jupyter/kernels/127.0.0.1-python3"))


def test_a_gateway_that_cannot_be_reached(spec: str, terminal: Terminal) -> None:
    """The bridge ends with the error and its advice, instead of waiting."""
    options = {"JUPYTER_GATEWAY_URL": "http://127.0.0.1:9"}
    done = terminal("bridge", "--kernel=python3", "-f", "new.json", **options)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
