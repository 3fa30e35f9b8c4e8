"""The embedded Kernel Gateway."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway_blocking import local, run_kernel
from gateway_blocking.errors import GatewayError, GatewayTimeout
from gateway_blocking.local import LocalGateway
from support.servers import own_gateway

WITHOUT_STOPPING = """
import sys, time
from gateway_blocking.local import LocalGateway
gateway = LocalGateway().start()
print(gateway.pid, gateway.log_path, flush=True)
time.sleep(float(sys.argv[1]))
"""


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_gone(pid: int, within: float = 30) -> bool:
    """Whether a process that is not our child ends in time."""
    deadline = time.monotonic() + within
    while exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not exists(pid)


def start_kernel(gateway: LocalGateway) -> None:
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}/api/kernels"
    requests.post(url, headers=headers, json={"env": {}}, timeout=60).raise_for_status()


def test_answers_only_with_its_token(gateway: LocalGateway) -> None:
    """It is a gateway on loopback that lists its kernels to who has the token, and to no other."""
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}/api/kernels"
    assert gateway.url.startswith("http://127.0.0.1:")
    assert gateway.options() == {"url": gateway.url, "auth_token": gateway.token}
    assert requests.get(url, headers=headers, timeout=30).json() == []
    assert requests.get(url, timeout=30).status_code == 401


def test_a_users_arguments_win() -> None:
    """Also over what is usual here: this gateway does not let its kernels be listed."""
    args = ["--JupyterWebsocketPersonality.list_kernels=False"]
    with LocalGateway(kernel_gateway_args=args) as gateway:
        headers = {"Authorization": f"token {gateway.token}"}
        url = f"{gateway.url}/api/kernels"
        assert requests.get(url, headers=headers, timeout=30).status_code == 403


def test_keeps_the_token_to_itself(gateway: LocalGateway) -> None:
    """The token is neither in the arguments of the process, which all can read, nor in the log."""
    arguments = Path(f"/proc/{gateway.pid}/cmdline").read_text()
    assert "gateway_blocking.local" in arguments
    assert gateway.token not in arguments
    assert "is available at" in gateway.log_tail(10**9)
    assert gateway.token not in gateway.log_tail(10**9)
    assert gateway.token not in repr(gateway)


def test_stops_with_its_kernels_and_files() -> None:
    """After stop() no gateway, kernel or file of it is left, and it can be started again."""
    with LocalGateway() as gateway:
        pid = gateway.pid
        assert gateway.start().pid == pid  # it runs already
        assert pid is not None
        assert gateway.log_path is not None
        directory = gateway.log_path.parent
        start_kernel(gateway)
        [kernel] = local._children(pid)
        gateway.stop()
        assert gateway.pid is None
        assert repr(gateway) == "<LocalGateway: not running>"
        gateway.stop()
        assert gateway.start().pid not in (None, pid)
    assert not exists(pid)
    assert is_gone(kernel)
    assert not directory.exists()


def test_kills_what_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that does not end in time is killed, and its kernels as well."""
    gateway = LocalGateway().start()
    pid = gateway.pid
    assert pid is not None
    start_kernel(gateway)
    [kernel] = local._children(pid)
    monkeypatch.setattr(local, "GATEWAY_EXIT_TIMEOUT", 0.0)
    gateway.stop()
    assert not exists(pid)
    assert is_gone(kernel)


def test_does_not_outlive_a_killed_parent() -> None:
    """A gateway ends and cleans up by itself when the process that started it is killed."""
    command = [sys.executable, "-c", WITHOUT_STOPPING, "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, log = parent.stdout.readline().split()
        assert exists(int(pid))
        assert Path(log).exists()
        parent.kill()
    assert is_gone(int(pid))
    assert not Path(log).parent.exists()


def test_is_stopped_at_interpreter_exit() -> None:
    """A program that forgets stop() ends normally, and the gateway with it."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_STOPPING, "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert not exists(int(done.stdout.split()[0]))


def test_a_fork_does_not_stop_the_gateway_of_its_parent() -> None:
    """A forked worker that ends normally leaves the gateway of its parent alone."""
    program = """
import os, sys
from gateway_blocking.local import LocalGateway
gateway = LocalGateway().start()
if os.fork() == 0:
    sys.exit()
os.wait()
os.kill(gateway.pid, 0)
"""
    # A thread of the start may still be ending, of which Python warns.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_its_arguments_are_not_one_string() -> None:
    """Whose letters would be arguments."""
    with pytest.raises(TypeError, match=r"got '--debug': write \['--debug'\]"):
        LocalGateway(kernel_gateway_args="--debug")


def test_start_failure_shows_the_log() -> None:
    """A gateway that cannot start says why, in its own words, and leaves nothing."""
    gateway = LocalGateway(kernel_gateway_args=["--KernelGatewayApp.api=no_such_api"])
    with pytest.raises(GatewayError, match=r"ended with status 1(.|\n)*API module no_such_api"):
        gateway.start()
    assert gateway.pid is None
    with pytest.raises(GatewayError, match="not running"):
        gateway.options()


def test_start_is_bounded() -> None:
    """A gateway that takes too long is stopped again, and that is an error."""
    with pytest.raises(GatewayTimeout, match=r"did not listen within 0\.01 seconds"):
        LocalGateway(start_timeout=0.01).start()


def test_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module in the folder where somebody starts a gateway does not run with its token."""
    seen = tmp_path / "seen"
    spy = f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(os.environ['KG_AUTH_TOKEN'])"
    for name in ("tornado", "json", "ipykernel"):
        (tmp_path / f"{name}.py").write_text(spy)
    for package in ("kernel_gateway", "gateway_blocking"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(spy)
    monkeypatch.chdir(tmp_path)
    with LocalGateway() as gateway:
        assert gateway.url
    assert not seen.exists()


def test_does_not_import_the_slow_check_of_iris(tmp_path: Path) -> None:
    """The gateway starts a second earlier: see gateway_blocking.imports."""
    seen = tmp_path / "seen"
    (tmp_path / "rfc3987_syntax.py").write_text(f"open({str(seen)!r}, 'x').close()")
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    with LocalGateway(env={"PYTHONPATH": path}):
        assert not seen.exists()


def test_drops_no_output() -> None:
    """All 1,000,003 characters of a cell arrive, and all of 5,000 messages.

    A server's default limits let 600,000 characters through here.
    """
    text: list[str] = []

    def see(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            assert message["content"]["name"] == "stdout", message["content"]["text"]
            text.append(message["content"]["text"])

    with LocalGateway() as gateway, run_kernel(**gateway.options()) as kc:
        code = "for _ in range(5): print('x' * 199_999, flush=True)\nprint('ok')"
        kc.execute_interactive(code, output_hook=see, timeout=60)
        assert "".join(text) == ("x" * 199_999 + "\n") * 5 + "ok\n"
        text.clear()
        # Slowly enough for the queues of ZMQ, which drop, too, and fast enough for the limits.
        code = "import time\nfor i in range(5000): print(i, flush=True); time.sleep(0.0002)"
        kc.execute_interactive(code, output_hook=see, timeout=60)
        assert "".join(text).split() == [str(i) for i in range(5000)]


def test_names_the_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error is the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GatewayError, match=r'pip install "gateway-blocking\[local\]"'):
        LocalGateway().start()


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of other gateways do not reach it; those of the caller do."""
    monkeypatch.setenv("KG_API", "no_such_api")
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://127.0.0.1:9")
    with LocalGateway(env={"KG_BASE_URL": "/behind/a/proxy"}) as gateway:
        variables = Path(f"/proc/{gateway.pid}/environ").read_text().split("\0")
        assert not [v for v in variables if v.startswith(("KG_API=", "JUPYTER_GATEWAY_"))]
        assert gateway.url.endswith("/behind/a/proxy")
        start_kernel(gateway)


def test_kernels_start_where_the_client_works(gateway: LocalGateway, tmp_path: Path) -> None:
    """A kernel's working directory is the one that the client sends, as it is on this machine."""
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}/api/kernels"
    assert gateway.pid is not None
    before = set(local._children(gateway.pid))
    body = {"env": {"KERNEL_WORKING_DIR": str(tmp_path)}}
    model = requests.post(url, headers=headers, json=body, timeout=60).json()
    [kernel] = set(local._children(gateway.pid)) - before
    assert Path(f"/proc/{kernel}/cwd").readlink() == tmp_path
    requests.delete(f"{url}/{model['id']}", headers=headers, timeout=60).raise_for_status()


def test_what_fails_while_it_stops_does_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that of the block nor that of a start; alone, it is raised."""
    stop = LocalGateway.stop

    def fail(gateway: LocalGateway) -> None:
        stop(gateway)
        raise OSError("not stopped")

    monkeypatch.setattr(LocalGateway, "stop", fail)
    with pytest.raises(KeyError) as caught, own_gateway():
        raise KeyError
    assert caught.value.__notes__ == ["While cleaning up: OSError: not stopped"]
    with pytest.raises(GatewayError, match="ended with status") as failed:
        own_gateway("--KernelGatewayApp.ip=nonsense").start()
    assert failed.value.__notes__ == ["While cleaning up: OSError: not stopped"]
    with pytest.raises(OSError, match="not stopped"), own_gateway():
        pass
