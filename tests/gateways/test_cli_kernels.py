"""The commands that look at a gateway and its kernels, and that start and stop kernels."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway_blocking import BlockingGatewayKernelClient
from gateway_blocking.cli.started import forget_kernel, record_kernel, recorded_kernels
from gateway_blocking.local import LocalGateway
from support.rawserver import Peer, Script, certificate, serving
from support.servers import kernels_of, own_gateway
from support.terminal import Terminal, errors


class Canned:
    """A gateway that gives these answers, and notes what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"kernelspecs": {"default": "a", "kernelspecs": {}}, **answers}
        self.asked: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> dict[str, str]:
        where = self._stack.enter_context(serving(self._answer))
        return {"JUPYTER_GATEWAY_URL": f"http://{where}"}

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def _answer(self, peer: Peer) -> None:
        peer.read_request()
        method, path = peer.request.decode().split()[:2]
        if method != "GET":
            self.asked.append(f"{method} {path}")
            peer.answer("204 No Content", Connection="close")
        elif (answer := self.answers.get(path.removeprefix("/api").lstrip("/"))) is not None:
            peer.answer("200 OK", json.dumps(answer).encode(), Connection="close")
        else:
            peer.answer("404 Not Found", b"{}", Connection="close")


@pytest.fixture(scope="module")
def reserved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables for a Kernel Gateway as it comes: it does not let its kernels be listed."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    log = (tmp_path_factory.mktemp("reserved") / "log").open("wb")
    command = [sys.executable, "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1"]
    command += [f"--KernelGatewayApp.port={url.rpartition(':')[2]}"]
    env = {**os.environ, "KG_AUTH_TOKEN": "reserved"}
    with log, subprocess.Popen(command, env=env, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    requests.get(url, timeout=30)
                    break
                except requests.ConnectionError:
                    assert time.monotonic() < deadline, "no Kernel Gateway came up"
                    time.sleep(0.05)
            yield {"JUPYTER_GATEWAY_URL": url, "JUPYTER_GATEWAY_AUTH_TOKEN": "reserved"}
        finally:
            process.terminate()


def started(terminal: Terminal, *args: str, **env: str) -> str:
    """The id of a kernel that the command line started."""
    done = terminal("start", *args, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.removesuffix("\n")


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The lines of a report by their names."""
    rows = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    return {row[8:22].strip(): f"{row[:8].strip()} {row[22:]}" for row in rows}


def remove(gateway: LocalGateway, kernel_id: str) -> None:
    """Shut the kernel down behind the command line's back."""
    headers = {"Authorization": f"token {gateway.token}"}
    url = f"{gateway.url}/api/kernels/{kernel_id}"
    requests.delete(url, headers=headers, timeout=30).raise_for_status()


# --- what the gateway has -------------------------------------------------------------------------


def test_a_kernel_from_start_to_stop(terminal: Terminal, gateway: LocalGateway) -> None:
    """It is listed while it runs, and the beginning of its id is enough to stop it."""
    kernel_id = started(terminal, "python3")
    (model,) = json.loads(terminal("kernels", "--json").stdout)
    assert (model["id"], model["name"]) == (kernel_id, "python3")
    done = terminal("stop", kernel_id[:8])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"kernel {kernel_id} was stopped\n"
    assert kernels_of(gateway) == []


def test_no_kernels(terminal: Terminal) -> None:
    """People are told so, and programs get an empty list."""
    done = terminal("kernels")
    assert (done.returncode, done.stdout) == (0, "")
    assert errors(done) == ["no kernel is running on this gateway"]
    done = terminal("kernels", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_table_of_kernels(terminal: Terminal) -> None:
    """How long a kernel is idle is said in words; what a gateway leaves out is left out."""

    def ago(**passed: int) -> str:
        return (datetime.now(UTC) - timedelta(**passed)).isoformat()

    def kernel(kernel_id: str, **model: Any) -> dict[str, Any]:
        return {"id": kernel_id, "name": "python3", **model}

    kernels = [
        kernel("k1", execution_state="idle", last_activity=ago(minutes=3, seconds=9).split("+")[0]),
        kernel("k2", execution_state="idle", last_activity=ago(hours=1, minutes=2), connections=2),
        kernel("k3", execution_state="busy", last_activity=ago(days=3)),
        kernel("k4", execution_state="idle", last_activity=ago(days=-1)),
        kernel("k5", execution_state="idle", last_activity=ago(days=50)[:10] + "T00:00:00Z"),
        kernel("k6"),
    ]
    kernels[0]["last_activity"] += "Z"
    with Canned(kernels=kernels) as env:
        lines = terminal("kernels", **env).stdout.splitlines()
    assert [re.split(r" {2,}", line) for line in lines] == [
        ["id", "name", "state", "idle since", "connections"],
        ["k1", "python3", "idle", "3 minutes ago"],
        ["k2", "python3", "idle", "1 hour ago", "2"],
        ["k3", "python3", "busy"],
        ["k4", "python3", "idle", "just now"],
        ["k5", "python3", "idle", "50 days ago"],
        ["k6", "python3"],
    ]


def test_kernelspecs(terminal: Terminal) -> None:
    """A table that marks the default, or the gateway's answer as it is."""
    title, *rows = terminal("kernelspecs").stdout.splitlines()
    assert title.split("  ")[0] == "name"
    [default] = [row for row in rows if row.endswith("yes")]
    assert re.fullmatch(r"python3 +python +Python 3 \(ipykernel\) +yes", default)
    answer = json.loads(terminal("kernelspecs", "--json").stdout)
    assert answer["default"] == "python3"
    assert answer["kernelspecs"]["python3"]["spec"]["language"] == "python"


def test_a_gateway_that_does_not_list_its_kernels(
    terminal: Terminal, reserved: dict[str, str]
) -> None:
    """It is said how to change that; one's own kernels are known, others by their whole id."""
    done = terminal("kernels", **reserved)
    assert (done.returncode, done.stdout) == (3, "")
    assert len(errors(done)) == 1
    assert "KG_LIST_KERNELS=True" in done.stderr
    assert "whole id" in done.stderr
    kernel_id = started(terminal, **reserved)
    unknown = terminal("interrupt", "zz", **reserved)
    assert (unknown.returncode, len(errors(unknown))) == (2, 1)
    assert "needs its whole id" in unknown.stderr
    assert terminal("interrupt", kernel_id[:8], **reserved).returncode == 0
    elsewhere = {**reserved, "JUPYTER_RUNTIME_DIR": str(terminal.directory / "elsewhere")}
    assert terminal("interrupt", kernel_id, **elsewhere).returncode == 0
    assert terminal("stop", "--all-mine", **reserved).returncode == 0


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        ("kernels", {"JUPYTER_GATEWAY_URL": ""}, "no gateway is configured (JUPYTER_GATEWAY_URL"),
        (
            "start",
            {"JUPYTER_GATEWAY_URL": "http://127.0.0.1:1"},
            "the gateway is running",
        ),
        ("kernelspecs", {"JUPYTER_GATEWAY_AUTH_TOKEN": "S3CR3T"}, "the token is wrong"),
    ],
)
def test_one_line_says_what_is_wrong_with_the_gateway(
    terminal: Terminal, command: str, env: dict[str, str], said: str
) -> None:
    """None configured, nobody there, or a wrong token: status 3, and no token is shown."""
    done = terminal(command, **env)
    assert (done.returncode, done.stdout, len(errors(done))) == (3, "", 1)
    assert done.stderr.startswith(f"jupyter gateway {command}: ")
    assert said in done.stderr
    assert "S3CR3T" not in done.stderr


@pytest.mark.parametrize(
    "args", [["kernels", "surplus"], ["stop"], ["stop", "--all-mine", "k"]], ids=" ".join
)
def test_what_cannot_be_meant_is_refused(terminal: Terminal, args: list[str]) -> None:
    """Status 2, one line, and nothing is done."""
    done = terminal(*args)
    assert (done.returncode, done.stdout, len(errors(done))) == (2, "", 1)
    assert done.stderr.startswith(f"jupyter gateway {args[0]}: ")


def test_an_unknown_kernelspec(terminal: Terminal) -> None:
    """Status 3, and those that there are."""
    done = terminal("start", "cobol")
    assert (done.returncode, done.stdout, len(errors(done))) == (3, "", 1)
    assert re.search(r"no kernelspec 'cobol'; it has ([\w-]+, )*python3", done.stderr)
    done = terminal("status", "--kernel=cobol")
    assert done.returncode == 3
    assert lines(done)["kernel"].startswith("FAILED POST http://")
    assert lines(done)["kernel"].endswith(": the gateway has no kernelspec 'cobol'")


def test_an_ambiguous_prefix_stays_ambiguous(terminal: Terminal) -> None:
    """It is not used for the kernel that is left when the same command has stopped the other."""
    canned = Canned(kernels=[{"id": "ab-1", "name": "a"}, {"id": "ab-2", "name": "a"}])
    with canned as env:
        done = terminal("stop", "ab-1", "ab", "ab-", "cd", "ab-1", **env)
    assert done.returncode == 2
    assert errors(done) == [
        "jupyter gateway stop: more than one kernel's id begins with 'ab': ab-1, ab-2",
        "jupyter gateway stop: more than one kernel's id begins with 'ab-': ab-1, ab-2",
        "jupyter gateway stop: the gateway has no kernel whose id begins with 'cd';"
        " jupyter gateway kernels lists its kernels",
        "kernel ab-1 was stopped",
    ]
    assert canned.asked == ["DELETE /api/kernels/ab-1"]


def test_a_long_id_is_shortened(terminal: Terminal) -> None:
    """A text that was pasted by mistake may be of any length."""
    with Canned(kernels=[]) as env:
        done = terminal("stop", "a" * 100_000, **env)
    assert done.returncode == 2
    [line] = errors(done)
    assert "no kernel whose id begins with 'aaaa" in line
    assert len(line) < 400


# --- a kernel's life ------------------------------------------------------------------------------


def test_interrupt_and_restart(terminal: Terminal, kc: BlockingGatewayKernelClient) -> None:
    """The code that runs ends with KeyboardInterrupt; or the kernel is as new, with the same ID."""
    # An error makes ipykernel abort what comes at its heels; stop_on_error=False does not.
    begin = "kept = 1; import time; print('begun', flush=True); time.sleep(600)"
    kc.execute(begin, stop_on_error=False)
    while kc.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    assert terminal("interrupt", kc.kernel_id[:8]).returncode == 0
    assert kc.get_shell_msg(timeout=60)["content"]["ename"] == "KeyboardInterrupt"
    assert kc.execute("kept", reply=True, timeout=60)["content"]["status"] == "ok"
    done = terminal("restart", kc.kernel_id[:8])
    assert (done.returncode, done.stderr) == (0, f"kernel {kc.kernel_id} was restarted\n")
    kc.wait_for_ready(timeout=60)
    assert kc.execute("kept", reply=True, timeout=60)["content"]["ename"] == "NameError"


def test_all_mine(terminal: Terminal, gateway: LocalGateway) -> None:
    """Two started at once are both stopped, one that is gone is no error, another's stays."""
    gone = started(terminal)
    remove(gateway, gone)
    other = started(terminal, JUPYTER_RUNTIME_DIR=str(terminal.directory / "other"))
    (terminal.directory / "runtime" / "gateway-kernels" / "damaged.json").write_text("{")
    processes = [terminal.popen("start") for _ in range(2)]
    ids = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert {gone, other}.isdisjoint(ids)
    done = terminal("stop", "--all-mine")
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(errors(done)) == sorted(
        [f"kernel {gone} was gone already", *(f"kernel {kernel} was stopped" for kernel in ids)]
    )
    assert kernels_of(gateway) == [other]
    assert errors(terminal("stop", "--all-mine")) == ["you have no kernels on this gateway"]
    remove(gateway, other)


def test_a_kernel_that_cannot_be_noted(terminal: Terminal, gateway: LocalGateway) -> None:
    """It runs, its id is written, and a line says that it is not known to be one's own."""
    done = terminal("start", JUPYTER_RUNTIME_DIR=str(terminal.directory / terminal.write("f", "")))
    assert done.returncode == 0
    assert kernels_of(gateway) == [done.stdout.strip()]
    assert re.search(f"cannot record .* that you started kernel {done.stdout.strip()}", done.stderr)
    remove(gateway, done.stdout.strip())


def test_all_mine_without_a_record(terminal: Terminal) -> None:
    """If the record could not be written, it is not said that there are no kernels: status 2."""
    nowhere = str(terminal.directory / terminal.write("file", "") / "runtime")
    done = terminal("stop", "--all-mine", JUPYTER_RUNTIME_DIR=nowhere)
    assert done.returncode == 2
    [line] = errors(done)
    assert f"cannot know which kernels you started: their record in {nowhere}" in line
    assert "JUPYTER_RUNTIME_DIR" in line


def test_notes_are_kept_for_each_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its URL without the login; and no id, whatever it is, names a file elsewhere."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    assert recorded_kernels("http://a") == []
    record_kernel("http://me:S3CR3T@a/", "../../../first")
    os.utime(*(tmp_path / "runtime").rglob("*.json"), (1, 1))  # earlier than the next
    record_kernel("http://a", "second")
    record_kernel("http://b", "third")
    assert recorded_kernels("http://a/") == ["../../../first", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["runtime"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert not any("S3CR3T" in path.read_text() for path in files)
    forget_kernel("http://a", "second")
    forget_kernel("http://a", "second")
    assert recorded_kernels("http://a") == ["../../../first"]
    assert recorded_kernels("http://b") == ["third"]


# --- status ---------------------------------------------------------------------------------------


def test_status_of_a_good_gateway(terminal: Terminal) -> None:
    """Line by line, from its URL to its kernels; the token is said to be set, and not shown."""
    done = terminal("status")
    assert (done.returncode, done.stderr) == (0, "")
    said = lines(done)
    url = terminal.env["JUPYTER_GATEWAY_URL"]
    assert said["url"] == f"ok {url} (from JUPYTER_GATEWAY_URL)"
    assert re.fullmatch(r"ok 127.0.0.1 port \d+, connected: [\d.]+ ms", said["reached"])
    assert said["encryption"] == "note none: it is http"
    assert said["allowed in"] == "ok yes (sent: auth_token: set (JUPYTER_GATEWAY_AUTH_TOKEN))"
    assert re.fullmatch(
        r"ok it looks like a Kernel Gateway, on jupyter_server [\d.]+", said["server"]
    )
    assert re.fullmatch(r"ok median of 5 requests: [\d.]+ ms", said["round trip"])
    assert re.fullmatch(r"ok ([\w-]+, )*python3 \(default\)(, [\w-]+)*", said["kernelspecs"])
    assert said["kernels"] == "ok 0 running"
    assert said["websocket"].startswith("note not refused; ")
    assert "add --kernel=NAME" in said["websocket"]
    assert terminal.env["JUPYTER_GATEWAY_AUTH_TOKEN"] not in done.stdout


def test_status_tries_a_kernel(terminal: Terminal, gateway: LocalGateway) -> None:
    """With --kernel one is started, used and shut down."""
    done = terminal("status", "--kernel=python3", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True)
    assert [*report][-3:] == ["kernel", "websocket", "execution"]
    assert all(report[name]["ms"] > 0 for name in [*report][-3:])
    assert kernels_of(gateway) == []


def test_status_says_where_the_url_is_from(terminal: Terminal) -> None:
    """From the command line, a configuration file, or nowhere."""
    none = {"JUPYTER_GATEWAY_URL": ""}
    done = terminal("status", "--url=http://me:S3CR3T@127.0.0.1:1/base", **none)
    assert done.returncode == 3
    assert lines(done) == {
        "url": "ok http://127.0.0.1:1/base (from the command line)",
        "reached": "FAILED 127.0.0.1 port 1: Connection refused",
    }
    assert (
        done.stdout.splitlines()[-1].strip()
        == "check that the gateway is running, and that the port is right"
    )
    config = terminal.write("c.py", "c.GatewayClient.url = 'http://127.0.0.1:1'")
    done = terminal("status", "--config", config, **none)
    assert lines(done)["url"] == "ok http://127.0.0.1:1 (from a configuration file)"
    done = terminal("status", "--json", **none)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["url"]["from"]) == (3, False, None)
    assert "JUPYTER_GATEWAY_URL" in report["url"]["todo"]
    assert [*report] == ["ok", "url"]


@pytest.mark.parametrize(
    ("path", "token", "line", "said", "advice"),
    [
        (
            *("", "S3CR3T", "allowed in", "no: 401 Unauthorized (sent: auth_token: set (JUPYTER_G"),
            "the token is wrong, or not sent as this gateway wants it",
        ),
        (
            *("", "", "allowed in", "no: 401 Unauthorized (sent: nothing: auth_token is not set)"),
            "no token was sent: set auth_token",
        ),
        (
            *("/base", "S3CR3T", "answer", "/base/api/kernelspecs: the gateway answered 404"),
            "check the URL, with the gateway's base path",
        ),
    ],
)
def test_status_where_the_gateway_says_no(
    terminal: Terminal, path: str, token: str, line: str, said: str, advice: str
) -> None:
    """Which credentials were sent, and not what they are; what to do; and nothing after that."""
    url = terminal.env["JUPYTER_GATEWAY_URL"] + path
    done = terminal("status", JUPYTER_GATEWAY_URL=url, JUPYTER_GATEWAY_AUTH_TOKEN=token)
    assert (done.returncode, done.stderr) == (3, "")
    assert [*lines(done)] == ["url", "reached", "encryption", line]
    assert lines(done)[line].startswith("FAILED ")
    assert said in lines(done)[line]
    assert done.stdout.splitlines()[-1].startswith(" " * 22 + advice)
    assert "S3CR3T" not in done.stdout


def test_status_of_a_host_that_is_not_known(terminal: Terminal) -> None:
    """The name is what is wrong."""
    done = terminal("status", "--url=http://nobody.invalid")
    assert done.returncode == 3
    assert lines(done)["reached"].startswith("FAILED nobody.invalid port 80: ")
    assert done.stdout.splitlines()[-1].strip().startswith("check the host name")


def test_status_of_an_encrypted_gateway(terminal: Terminal, tmp_path: Path) -> None:
    """Whose certificate it is and until when; if nobody vouches for it, what can be done."""
    _, cert = certificate(tmp_path)
    files = [f"--KernelGatewayApp.certfile={cert}"]
    files += [f"--KernelGatewayApp.keyfile={tmp_path / 'key.pem'}"]
    with own_gateway(*files) as gateway:
        env = {"JUPYTER_GATEWAY_URL": gateway.url, "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token}
        untrusted = terminal("status", **env)
        trusted = terminal("status", **env, JUPYTER_GATEWAY_CA_CERTS=cert)
        anybody = terminal("status", "--json", **env, JUPYTER_GATEWAY_VALIDATE_CERT="no")
        missing = terminal("status", **env, JUPYTER_GATEWAY_CA_CERTS="no-such-file")
    assert untrusted.returncode == 3
    assert [*lines(untrusted)] == ["url", "reached", "encryption"]
    assert "FAILED the certificate is not accepted: self" in lines(untrusted)["encryption"]
    assert untrusted.stdout.splitlines()[-1].strip().startswith("set ca_certs")
    assert trusted.returncode == 0
    told = r"ok TLSv1.\d; certificate of 127.0.0.1, good until \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert re.fullmatch(told, lines(trusted)["encryption"])
    assert anybody.returncode == 0
    assert json.loads(anybody.stdout)["encryption"]["verified"] is False
    assert missing.returncode == 3
    assert "ca_certs='no-such-file' cannot be used" in lines(missing)["encryption"]


def test_status_with_a_renewer_that_fails(terminal: Terminal) -> None:
    """The configured token is sent then; the output says so, and why."""
    terminal.write("renewers.py", "class Broken:\n    def get_token(self, *args): 1 / 0")
    how = {"JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS": "renewers.Broken"}
    done = terminal("status", **how, PYTHONPATH=str(terminal.directory))
    assert lines(done)["allowed in"] == (
        "ok yes (sent: auth_token: set (JUPYTER_GATEWAY_AUTH_TOKEN);"
        " the token's renewer failed: Broken raised ZeroDivisionError)"
    )


def blocks_websockets(upstream: dict[str, str]) -> Script:
    """A proxy that forwards requests, and answers 403 to each that asks for a websocket."""

    def forward(peer: Peer) -> None:
        peer.read_request()
        if b"upgrade: websocket" in peer.request.lower():
            peer.answer("403 Forbidden", b"blocked by policy", Connection="close")
            return
        path = peer.request.decode().split()[1]
        headers = {"Authorization": f"token {upstream['JUPYTER_GATEWAY_AUTH_TOKEN']}"}
        url = upstream["JUPYTER_GATEWAY_URL"] + path
        response = requests.get(url, headers=headers, timeout=30)
        status = f"{response.status_code} {response.reason}"
        peer.answer(status, response.content, Connection="close")

    return forward


def test_status_where_websockets_are_blocked(terminal: Terminal) -> None:
    """A proxy that refuses every websocket is found without a kernel; its words are shown."""
    with serving(blocks_websockets(terminal.env)) as where:
        done = terminal("status", JUPYTER_GATEWAY_URL=f"http://{where}")
    assert done.returncode == 3, done.stdout
    assert lines(done)["kernelspecs"].startswith("ok ")
    assert lines(done)["websocket"].startswith("FAILED ")
    assert "403" in lines(done)["websocket"]
    assert "blocked by policy" in done.stdout


def test_status_of_a_gateway_without_encryption_by_https(terminal: Terminal) -> None:
    """It takes the handshake for a request: unfinished, or not a good one, if chance has it.

    Both are told in the time that a connection may take.
    """
    url = terminal.env["JUPYTER_GATEWAY_URL"].replace("http:", "https:")
    done = terminal("status", JUPYTER_GATEWAY_URL=url, JUPYTER_GATEWAY_CONNECT_TIMEOUT="1")
    assert done.returncode == 3
    unfinished, answered = "no TLS handshake in time", r"the TLS handshake failed: \[SSL.*"
    assert re.fullmatch(f"FAILED ({unfinished}|{answered})", lines(done)["encryption"])
    assert "this port may speak http:// only" in done.stdout


def test_status_asks_a_silent_port_whether_it_speaks_plain_http(terminal: Terminal) -> None:
    """A gateway without TLS may wait for the rest of a line; the report says what the port is."""

    def plain(peer: Peer) -> None:
        if peer.sock.recv(65536).startswith(b"GET "):
            peer.sock.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")
        peer.wait_for_end()

    with serving(plain) as where:
        done = terminal("status", JUPYTER_GATEWAY_URL=f"https://{where}")
    assert lines(done)["encryption"] == "FAILED the port answers plain HTTP, and not TLS"
    assert "this port may speak http:// only" in done.stdout


def test_status_tells_the_remedy_for_a_missing_file_once(terminal: Terminal) -> None:
    """The line says what is wrong, and the next line what to do."""
    with serving(Peer.wait_for_end) as where:
        done = terminal(
            "status", JUPYTER_GATEWAY_URL=f"https://{where}", JUPYTER_GATEWAY_CA_CERTS="no.pem"
        )
    failed = "FAILED ca_certs='no.pem' cannot be used: [Errno 2] No such file or directory"
    assert lines(done)["encryption"] == failed
    assert done.stdout.count("JUPYTER_GATEWAY_CA_CERTS") == 1


def test_status_where_kernels_cannot_be_listed(
    terminal: Terminal, reserved: dict[str, str]
) -> None:
    """That is a way to run a gateway, and no fault of it."""
    done = terminal("status", **reserved)
    assert done.returncode == 0
    assert lines(done)["kernels"].startswith(
        "note this gateway does not permit listing its kernels"
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"": {"version": "1.23", "gateway_version": "3.2.3"}}, "Enterprise Gateway 3.2.3, on"),
        (
            {"": {"version": "2.14"}, "status": {}},
            "it looks like a Jupyter Server, on jupyter_server 2.14",
        ),
    ],
)
def test_status_of_other_servers(terminal: Terminal, answers: dict[str, Any], said: str) -> None:
    """They are told apart by what only one of them has; no kernelspecs are a failure."""
    with Canned(kernels=[], **answers) as env:
        done = terminal("status", **env)
    assert said in lines(done)["server"]
    assert done.returncode == 3
    assert lines(done)["kernelspecs"] == "FAILED none: no kernel can be started"
