"""What the reaper does with what it is told: protocol, TLS, proxies, a gateway in trouble."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from gateway_blocking import reaper
from gateway_blocking.reaper import Deletion
from support.httpproxy import http_proxy
from support.rawserver import Peer
from support.scripted import BUSY, NOT_THERE, Server, says, scripted, sends
from support.waiting import wait_until

GONE = says(b"", "204 No Content")
REFUSED = says({}, "401 Unauthorized")
RESTARTING = says({}, "500 Internal Server Error")


def deletion(server: Server, kernel: str = "k", scheme: str = "http", **options: Any) -> Deletion:
    url = f"{scheme}://{server.where}/api/kernels/{kernel}"
    return Deletion(url, {"Authorization": "token sesame"}, timeout=10, **options)


def reap(*lines: bytes) -> None:
    """Tell a reaper this, end, and wait for its end."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(reaper._PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        # Its standard output, which it shares with the process that it forks, ends with the latter.
        assert process.communicate(b"".join(b"\n%s\n" % line for line in lines), 60) == (b"", None)


def test_what_is_held_is_deleted_and_what_is_released_is_not() -> None:
    """With the headers that were told last; a line that was torn spoils no other."""
    with scripted(GONE) as server:
        old, new = deletion(server, "a"), deletion(server, "b")
        renewed = new.of_headers({"Authorization": b"token new", "Content-Type": "x/y"})
        torn = b"3 " + deletion(server, "c").encode()[:40]
        reap(b"1 " + old.encode(), b"2 " + new.encode(), torn, b"1", b"2 " + renewed.encode())
    assert server.lines == ["DELETE /api/kernels/b"]
    assert server.headers[0]["authorization"] == "token new"
    assert "content-type" not in server.headers[0]


def test_many_are_deleted() -> None:
    """More than are asked for at once."""
    with scripted(GONE) as server:
        reap(*(b"%d %s" % (n, deletion(server, str(n)).encode()) for n in range(40)))
    assert sorted(server.lines) == sorted(f"DELETE /api/kernels/{n}" for n in range(40))


@pytest.mark.parametrize(
    ("scripts", "options", "requests"),
    [
        ((REFUSED, GONE), {}, 1),
        ((NOT_THERE, GONE), {}, 1),
        ((NOT_THERE, GONE), {"start_timeout": 60.0}, 2),
        ((BUSY, GONE), {}, 2),
        ((RESTARTING, RESTARTING, GONE), {}, 3),
        ((sends(b""), GONE), {}, 2),
        ((sends(b"SSH-2.0-OpenSSH_9.6\r\n"), GONE), {}, 2),
    ],
    ids=["refused", "gone", "still starting", "busy", "restarting", "hangs up", "not HTTP"],
)
def test_what_may_pass_is_asked_for_again(
    scripts: tuple[Any, ...], options: dict[str, Any], requests: int
) -> None:
    """And what is final is not."""
    with scripted(*scripts) as server:
        reap(b"1 " + deletion(server, **options).encode())
    assert len(server.lines) == requests


@pytest.mark.parametrize("verify", ["the certificate", False])
def test_tls_as_it_is_configured(tls: tuple[ssl.SSLContext, str], verify: str | bool) -> None:
    """Verified, or not if that is switched off."""
    context, cert = tls
    with scripted(GONE, tls=context) as server:
        it = deletion(server, scheme="https", verify=cert if verify else False)
        reap(b"1 " + it.encode())
    assert server.lines == ["DELETE /api/kernels/k"]


def test_a_certificate_that_is_not_trusted(tls: tuple[ssl.SSLContext, str]) -> None:
    """Nothing is sent, and it is not tried again."""
    with scripted(GONE, tls=tls[0]) as server:
        reap(b"1 " + deletion(server, scheme="https", verify=certifi.where()).encode())
    assert server.lines == []


def test_a_client_certificate(
    tls: tuple[ssl.SSLContext, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are found from another folder, too."""
    _, cert = tls
    key = str(Path(cert).with_name("key.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cert)
    monkeypatch.chdir(tmp_path)
    relative = [os.path.relpath(path) for path in (cert, key)]
    with scripted(GONE, tls=context) as server:
        it = deletion(server, scheme="https", verify=relative[0], cert=tuple(relative))
        reap(b"1 " + it.encode())
    assert server.lines == ["DELETE /api/kernels/k"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_with_a_login(tls: tuple[ssl.SSLContext, str], scheme: str) -> None:
    """Which is asked for the whole URL, or to connect."""
    context, cert = tls
    asked: list[str] = []
    logins: list[str | None] = []
    with (
        scripted(GONE, tls=context if scheme == "https" else None) as server,
        http_proxy(f"http://{server.where}", asked, logins) as proxy,
    ):
        login = f"http://me:s%C3%A9same@{proxy}"
        it = deletion(server, scheme=scheme, verify=cert, proxy=login)
        reap(b"1 " + it.encode())
    assert server.lines == ["DELETE /api/kernels/k"]
    assert asked == [f"DELETE {it.url}" if scheme == "http" else f"CONNECT {server.where}"]
    assert logins == ["Basic bWU6c+lzYW1l"]


STARTS = """
import os, signal, sys
from gateway_blocking import BlockingGatewayKernelManager, GatewayError

options = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0, "request_timeout": 5}
km = BlockingGatewayKernelManager(url=sys.argv[1], **options)
for _ in range(2):
    try:
        km.start_kernel(kernel_name="python3")
    except GatewayError as error:
        print(error)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ending", ["normal", "killed"])
def test_a_kernel_whose_start_was_not_answered_is_deleted(ending: str) -> None:
    """It was not found, and may run all the same; one that was refused was not started."""
    starts = iter((sends(b""), REFUSED))

    def answer(peer: Peer) -> None:
        method = server.lines[-1].split()[0]
        ({"GET": NOT_THERE, "DELETE": GONE}.get(method) or next(starts))(peer)

    with scripted(answer) as server:
        command = [sys.executable, "-c", STARTS, f"http://{server.where}", ending]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "the kernel may have started anyway" in done.stdout, done
        kernel_id = server.bodies[0]["kernel_id"]
        wait_until(lambda: f"DELETE /api/kernels/{kernel_id}" in server.lines)
    assert done.stderr == ""
    assert {line for line in server.lines if "DELETE" in line} == {
        f"DELETE /api/kernels/{kernel_id}"
    }


RENEWS = """
import os, sys
from gateway_blocking.config import GatewayClient
from gateway_blocking.rest import GatewayREST

class Renewer:
    number = 0
    def get_token(self, *_):
        self.number += 1
        return f"number-{self.number}"

rest = GatewayREST(GatewayClient(url=sys.argv[1], gateway_token_renewer_class=Renewer))
rest.hold_kernel("k", lambda timeout: False)
for _ in range(3):
    rest.get_kernel("k")
os._exit(0)
"""


def test_a_renewed_token_is_the_reapers_too() -> None:
    """The last that the gateway has accepted."""
    with scripted(*[says({"id": "k", "name": "python3"})] * 3, GONE) as server:
        command = [sys.executable, "-c", RENEWS, f"http://{server.where}"]
        subprocess.run(command, check=True, timeout=60)
        wait_until(lambda: len(server.lines) == 4)
    assert server.lines[-1] == "DELETE /api/kernels/k"
    assert [h["authorization"] for h in server.headers[-2:]] == ["token number-4"] * 2
