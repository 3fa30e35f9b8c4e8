"""The manager, against a real Kernel Gateway with real kernels."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from jupyter_client.multikernelmanager import MultiKernelManager
from traitlets import TraitError
from traitlets.config import Config

from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    DeadKernelError,
    GatewayAuthError,
    GatewayClient,
    GatewayConnectionError,
    GatewayError,
    GatewayHTTPError,
    GatewayTimeout,
    KernelNotReady,
    KernelRestarted,
    NoKernel,
    NoSuchKernel,
    NoSuchKernelSpec,
    RemoteNotSupported,
    start_new_kernel,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.rest import GatewayREST
from support.interrupting import interrupt_at_each_moment, interrupt_often
from support.kernels import deaf_cell
from support.rawserver import Peer, Script, serving
from support.scripted import Server, read, says, scripted
from support.servers import Server as RunningServer
from support.servers import jupyter_server, kernel_gateway, kernels_of, own_gateway
from support.waiting import wait_until

Manager = BlockingGatewayKernelManager


def value(kc: BlockingGatewayKernelClient, expression: str) -> str:
    """What the expression is in the kernel, as its repr."""
    reply = kc.execute("", user_expressions={"it": expression}, reply=True, timeout=20)
    found: str = reply["content"]["user_expressions"]["it"]["data"]["text/plain"]
    return found


def test_the_life_of_a_kernel(gateway: LocalGateway) -> None:
    """Nothing before start_kernel, a model after it, nothing again after shutdown_kernel."""
    km = Manager(kernel_name="python3", **gateway.options())
    assert not km.has_kernel
    assert km.kernel is None
    assert not km.is_alive()
    km.start_kernel()
    assert km.has_kernel
    assert km.owned_kernel
    assert km.owns_kernel
    assert km.ready.done()
    assert km.kernel is not None
    assert km.kernel["id"] == km.kernel_id
    assert km.kernel["name"] == "python3"
    assert km.is_alive()
    with pytest.raises(RuntimeError, match="runs already"):
        km.start_kernel()
    km.shutdown_kernel(now=True)
    assert not km.has_kernel
    assert not km.is_alive()
    assert kernels_of(gateway) == []
    km.shutdown_kernel()
    km.cleanup_resources()
    km.cleanup_resources()


def test_a_manager_can_start_another_kernel_after_a_shutdown(km: Manager) -> None:
    """start_kernel after shutdown_kernel starts a new one."""
    km.start_kernel()
    first = km.kernel_id
    km.shutdown_kernel()
    km.start_kernel()
    assert km.kernel_id != first
    assert km.is_alive()


def test_configuration_comes_from_the_environment(gateway_env: LocalGateway) -> None:
    """JUPYTER_GATEWAY_URL and _AUTH_TOKEN are all that is needed."""
    with Manager() as km:
        km.start_kernel()
        assert km.is_alive()


def test_a_gateway_may_be_given_as_object_or_by_options_but_not_both(
    gateway: LocalGateway,
) -> None:
    """Two ways to say it; a mixture is an error, not a guess."""
    options = GatewayClient(**gateway.options())
    with Manager(gateway=options) as km:
        km.start_kernel()
    with pytest.raises(TypeError, match="not both"):
        Manager(gateway=options, url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Manager(token="sesame"), "'token'; the nearest is 'auth_token'"),
        (lambda: Manager(kernelname="sesame"), "'kernelname'; the nearest is 'kernel_name'"),
        (
            lambda: BlockingGatewayKernelClient(server_url="sesame"),
            "'server_url'; the nearest is 'url'",
        ),
        (lambda: GatewayClient(auth_tokn="sesame"), "'auth_tokn'; the nearest is 'auth_token'"),
        (
            lambda: start_new_kernel(kernal_name="sesame"),
            "'kernal_name'; the nearest is 'kernel_name'",
        ),
        (lambda: start_new_kernel(name="sesame"), "'name'; the nearest is 'kernel_name'"),
        (lambda: start_new_kernel(timeout=5), "'timeout'; the nearest is 'startup_timeout'"),
        (lambda: Manager(kernel_nam="sesame"), "'kernel_nam'; the nearest is 'kernel_name'"),
        (lambda: Manager().start_kernel(token="sesame"), "'token'; the nearest is 'auth_token'"),
        (lambda: Manager(whatever="sesame"), "'whatever'"),
    ],
)
def test_an_unknown_keyword_is_an_error(make: Callable[[], Any], said: str) -> None:
    """As of a local kernel.  It was meant for something; its value may be secret."""
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value).endswith(f" got an unexpected keyword argument {said}")


def test_a_malformed_timeout_starts_no_kernel(gateway: LocalGateway) -> None:
    """Such as a kernelspec where the time-out belongs."""
    text = "^startup_timeout must be a number of seconds, got 'python3'$"
    with pytest.raises(TypeError, match=text):
        start_new_kernel("python3", **gateway.options())  # type: ignore[arg-type]
    assert kernels_of(gateway) == []


@pytest.mark.parametrize("again", [KeyboardInterrupt, SystemExit])
def test_an_end_in_the_clean_up_of_a_failed_start_leaves_no_kernel(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, again: type[BaseException]
) -> None:
    """Ctrl-C is often hit twice."""
    before, stop = kernels_of(gateway), BlockingGatewayKernelClient.stop_channels

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def stop_and_end(client: BlockingGatewayKernelClient) -> None:
        stop(client)
        raise again

    monkeypatch.setattr(BlockingGatewayKernelClient, "wait_for_ready", interrupt)
    monkeypatch.setattr(BlockingGatewayKernelClient, "stop_channels", stop_and_end)
    with pytest.raises(again):
        start_new_kernel(**gateway.options())
    assert kernels_of(gateway) == before


def test_control_c_at_any_moment_leaves_a_manager_that_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not just being started for ever."""
    with Manager(url="http://127.0.0.1:9") as km:
        monkeypatch.setattr(km, "_start_and_resolve", lambda: None)
        interrupt_often(km.start_kernel, lambda: not km._starting.locked())


def test_an_interrupted_start_leaves_its_future_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at each moment, also in Python's own Future: the next start ends another one."""
    for interrupted in interrupt_at_each_moment("concurrent.futures", "threading"):
        with Manager(url="http://127.0.0.1:9") as km:
            monkeypatch.setattr(km, "_start_or_attach", lambda: None)
            interrupted(km.start_kernel)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(km.start_kernel).result(timeout=30)
            assert km.ready.result(timeout=30) is None


def test_what_is_for_a_local_process_is_ignored(km: Manager) -> None:
    """Nobody needs to know where a kernel runs to start it."""
    km.start_kernel(extra_arguments=["--debug"], stdout=None, independent=True, bufsize=0)
    assert km.is_alive()


@pytest.mark.parametrize("make", [Manager, BlockingGatewayKernelClient])
def test_what_belongs_to_a_process_cannot_be_pickled(make: Callable[[], Any]) -> None:
    """The error says what to send instead."""
    with pytest.raises(TypeError, match="send its kernel_id"):
        pickle.dumps(make())


def test_a_malformed_option_is_told_when_a_manager_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at its first request, and once."""
    monkeypatch.setenv("JUPYTER_GATEWAY_REQUEST_TIMEOUT", "soon")
    with pytest.raises(TraitError) as caught:
        Manager()
    assert str(caught.value) == "JUPYTER_GATEWAY_REQUEST_TIMEOUT='soon' is not a number"
    assert caught.value.__cause__ is None


def test_options_win_over_an_early_look_at_the_gateway() -> None:
    """A subclass may ask which gateway it is before its options were seen."""

    class Eager(Manager):
        def __init__(self, **kwargs: Any) -> None:
            self.seen = self.gateway.url
            super().__init__(**kwargs)

    km = Eager(url="http://given.example")
    assert (km.seen, km.gateway.url) == (Manager().gateway.url, "http://given.example")
    km.cleanup_resources()


def test_environment_variables_reach_the_kernel(
    km: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KERNEL_* of the process and of env= are forwarded, cwd as KERNEL_WORKING_DIR."""
    monkeypatch.setenv("KERNEL_FROM_PROCESS", "a")
    km.start_kernel(env={"KERNEL_FROM_CALL": "b"}, cwd="/some/where", extra_arguments=["--x"])
    with km.client() as kc:
        kc.wait_for_ready(timeout=60)
        names = ("KERNEL_FROM_PROCESS", "KERNEL_FROM_CALL", "KERNEL_WORKING_DIR")
        found = value(kc, f"[__import__('os').environ.get(n) for n in {names}]")
    assert found == "['a', 'b', '/some/where']"


def test_no_environment_at_all_is_as_good_as_an_empty_one(
    km: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """start_kernel(env=None), as runners say it: KERNEL_* of the process are forwarded."""
    monkeypatch.setenv("KERNEL_FROM_PROCESS", "a")
    km.start_kernel(env=None)
    with km.client() as kc:
        kc.wait_for_ready(timeout=60)
        assert value(kc, "__import__('os').environ['KERNEL_FROM_PROCESS']") == "'a'"


@pytest.mark.parametrize(
    "end",
    [
        lambda km: km.request_shutdown(),
        lambda km: km.finish_shutdown(),
        lambda km: km.finish_shutdown(waittime=5, pollinterval=0.1),
        lambda km: (km.request_shutdown(), km.finish_shutdown()),
    ],
    ids=["request", "finish", "finish-in-time", "both"],
)
def test_either_half_of_a_shutdown_is_the_whole(
    km: Manager, gateway: LocalGateway, end: Callable[[Manager], object]
) -> None:
    """request_shutdown, finish_shutdown: the kernel is gone, and asked for twice is no error."""
    km.start_kernel()
    assert km.kernel_id in kernels_of(gateway)
    end(km)
    assert km.kernel_id not in kernels_of(gateway)
    assert not km.has_kernel
    assert not km.is_alive()


def test_attaching_leaves_the_kernel_running(km: Manager, gateway: LocalGateway) -> None:
    """A kernel that was not started here is not shut down here, by nobody's accident."""
    km.start_kernel()
    assert km.kernel_id is not None
    with km.client() as kc:
        kc.wait_for_ready(timeout=60)
        kc.execute("x = 41", reply=True, timeout=10)
    with Manager(**gateway.options()) as other:
        other.start_kernel(kernel_id=km.kernel_id)
        assert not other.owned_kernel
        assert other.kernel_name == "python3"
        with other.client() as kc:
            kc.wait_for_ready(timeout=60)
            assert value(kc, "x + 1") == "42"
        other.shutdown_kernel(now=True)
        assert not other.has_kernel
    assert kernels_of(gateway) == [km.kernel_id]
    with Manager(kernel_id=km.kernel_id, **gateway.options()) as third:
        third.start_kernel()
        assert third.kernel_id == km.kernel_id
        third.owned_kernel = True
    assert kernels_of(gateway) == []
    assert not km.is_alive()


def test_attaching_to_a_missing_kernel_is_an_error(km: Manager) -> None:
    """NoSuchKernel, a KeyError, and the manager has no kernel."""
    with pytest.raises(NoSuchKernel, match="0-0-0-0-0"):
        km.start_kernel(kernel_id="0-0-0-0-0")
    assert not km.has_kernel


def test_an_unknown_kernelspec_is_named_with_what_there_is(km: Manager) -> None:
    """The gateway's bare 500 becomes the name asked for and the names that exist."""
    with pytest.raises(NoSuchKernelSpec, match=r"cobol.*python3"):
        km.start_kernel(kernel_name="cobol")
    assert not km.has_kernel


def test_a_wrong_token_is_refused_without_being_shown(gateway: LocalGateway) -> None:
    """GatewayAuthError in a moment."""
    km = Manager(url=gateway.url, auth_token="sesame-open")
    with pytest.raises(GatewayAuthError) as caught:
        km.start_kernel()
    assert "sesame" not in f"{caught.value} {caught.value.__cause__} {km!r} {km.gateway!r}"
    km.cleanup_resources()


def test_a_gateway_that_is_down_is_a_clear_error() -> None:
    """GatewayConnectionError, which is a ConnectionError, names the address."""
    km = Manager(url="http://127.0.0.1:9", connect_timeout=5)
    with pytest.raises(GatewayConnectionError, match=r"127\.0\.0\.1:9"):
        km.start_kernel()


def test_no_gateway_configured_says_what_to_set() -> None:
    """The first error that a new user meets."""
    with pytest.raises(GatewayConnectionError, match="JUPYTER_GATEWAY_URL"):
        Manager().start_kernel()


def test_the_same_client_goes_on_after_a_restart(
    km: Manager, kc: BlockingGatewayKernelClient, tmp_path: Path
) -> None:
    """restart_kernel ends what waits with KernelRestarted; then the client works as before."""
    kc.execute("x = 1", reply=True, timeout=10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(kc.execute, deaf_cell(tmp_path / "begun"), reply=True)
        wait_until((tmp_path / "begun").exists)
        km.restart_kernel(now=True)
        with pytest.raises(KernelRestarted):
            waiting.result(timeout=10)
    kc.wait_for_ready(timeout=60)
    assert kc.is_alive()
    assert km.is_alive()
    assert value(kc, "'x' in globals()") == "False"


def test_the_kernel_to_attach_to_may_be_configured(
    km: Manager, kc: BlockingGatewayKernelClient, gateway: LocalGateway
) -> None:
    """c.BlockingGatewayKernelManager.kernel_id is for runners that build the manager themselves."""
    config = Config({"BlockingGatewayKernelManager": {"kernel_id": km.kernel_id}})
    kc.execute("x = 6 * 7", reply=True, timeout=10)
    with Manager(config=config, **gateway.options()) as other:
        other.start_kernel()
        assert not other.owned_kernel
        with other.client() as client:
            client.wait_for_ready(timeout=30)
            assert value(client, "x") == "42"
    assert km.is_alive()


def test_interrupt_reaches_the_running_cell(km: Manager, kc: BlockingGatewayKernelClient) -> None:
    """interrupt_kernel, and SIGINT by signal_kernel, raise KeyboardInterrupt in the kernel."""
    code = "import time; print('running', flush=True); time.sleep(60)"
    for interrupt in (km.interrupt_kernel, lambda: km.signal_kernel(signal.SIGINT)):
        # With stop_on_error, a kernel aborts what comes right after an error.
        msg_id = kc.execute(code, stop_on_error=False)
        while kc.get_iopub_msg(timeout=30)["msg_type"] != "stream":
            pass
        interrupt()
        reply = kc.shell_channel.get_reply(msg_id, timeout=30)
        assert reply["content"]["ename"] == "KeyboardInterrupt"


def test_without_a_kernel_the_manager_says_so(gateway: LocalGateway) -> None:
    """NoKernel is a RuntimeError with the words that nbclient looks for."""
    km = Manager(**gateway.options())
    for call in (km.interrupt_kernel, km.restart_kernel, lambda: km.signal_kernel(signal.SIGINT)):
        with pytest.raises(RuntimeError, match="No kernel is running!") as caught:
            call()
        assert isinstance(caught.value, NoKernel)


def test_what_a_gateway_cannot_do_is_a_clear_error(km: Manager) -> None:
    """Signals but SIGINT, connection files, ZMQ sockets, half a restart."""
    km.start_kernel()
    for call in (
        lambda: km.signal_kernel(signal.SIGTERM),
        lambda: km.shutdown_kernel(restart=True),
        km.write_connection_file,
        km.connect_shell,
        lambda: km.update_env(env={}),
    ):
        with pytest.raises(RemoteNotSupported):
            call()
    assert km.provisioner is None
    assert km.ports == []
    assert km.connection_file == ""
    assert km.resolve_path("x") is None
    assert km.is_alive()


def test_the_kernelspec_comes_from_the_gateway(gateway: LocalGateway) -> None:
    """kernel_spec is a KernelSpec, ipykernel is answered without a request."""
    km = Manager(kernel_name="python", **gateway.options())
    assert km.ipykernel
    assert km.kernel_spec is not None
    assert km.kernel_spec.language == "python"
    assert km.kernel_spec.interrupt_mode == "signal"
    with pytest.raises(NoSuchKernelSpec):
        _ = Manager(kernel_name="cobol", **gateway.options()).kernel_spec
    km.cleanup_resources()


def test_a_foreign_client_factory_is_not_used(km: Manager) -> None:
    """jupyter's applications set ZMQ classes, which could reach nothing; a subclass is used."""

    class Mine(BlockingGatewayKernelClient):
        pass

    km.start_kernel()
    km.client_class = "jupyter_client.blocking.BlockingKernelClient"
    assert type(km.client()) is BlockingGatewayKernelClient
    km.client_factory = Mine
    assert type(km.client()) is Mine


def test_get_connection_info_makes_a_client(km: Manager, gateway: LocalGateway) -> None:
    """Two of them have different sessions, so that the gateway keeps both."""
    km.start_kernel()
    first, second = km.get_connection_info(session=True), km.get_connection_info(session=True)
    assert first["session"].session != second["session"].session
    with BlockingGatewayKernelClient(**first, auth_token=gateway.token) as kc:
        kc.wait_for_ready(timeout=60)
    assert km.blocking_client().kernel_id == km.kernel_id


def test_a_multi_kernel_manager_chooses_the_id(gateway_env: LocalGateway) -> None:
    """jupyter_client's MultiKernelManager passes a new id, which the kernel then has."""
    mkm = MultiKernelManager(kernel_manager_class="gateway_blocking.BlockingGatewayKernelManager")
    wanted = str(uuid.uuid4())
    assert mkm.start_kernel(kernel_name="python3", kernel_id=wanted) == wanted
    assert kernels_of(gateway_env) == [wanted]
    assert mkm.is_alive(wanted)
    mkm.interrupt_kernel(wanted)
    mkm.shutdown_kernel(wanted, now=True)
    assert kernels_of(gateway_env) == []
    mkm.context.destroy()


def test_two_gateways_work_side_by_side(gateway: LocalGateway) -> None:
    """Different addresses and tokens in one process, at the same time."""
    with (
        own_gateway() as second,
        Manager(**gateway.options()) as a,
        Manager(**second.options()) as b,
    ):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda km: km.start_kernel(), (a, b)))
        assert a.kernel_id in kernels_of(gateway)
        assert kernels_of(second) == [b.kernel_id]
        with a.client() as ka, b.client() as kb:
            ka.wait_for_ready(timeout=60)
            kb.wait_for_ready(timeout=60)
            assert value(ka, "1") == value(kb, "1") == "1"


def test_a_context_manager_shuts_down_on_an_error_too(gateway: LocalGateway) -> None:
    """An exception in the block leaves no kernel (see conftest)."""
    km = Manager(**gateway.options())

    def work() -> None:
        with km:
            km.start_kernel()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not km.has_kernel


# --- what some servers say --------------------------------------------------------------------


MODEL = {"id": "k", "name": "python3", "execution_state": "idle", "connections": 0}


@pytest.mark.parametrize(
    "activity",
    [{"last_activity": "2026-01-02T03:04:05Z"}, {"last_activity": None}, {}],
    ids=["no-fraction", "null", "none"],
)
def test_the_time_of_the_last_activity_does_not_matter(activity: dict[str, str | None]) -> None:
    """It may have no fraction of a second, or be missing: a model is a model."""
    model = {**MODEL, **activity}
    with (
        scripted(says(model)) as server,
        Manager(kernel_id="k", url=f"http://{server.where}") as km,
    ):
        km.start_kernel()
        assert km.refresh_model() == km.kernel == model
        assert km.is_alive()
    assert server.lines == ["GET /api/kernels/k"] * 3


def test_a_kernel_that_is_just_restarted_is_shut_down_a_little_later() -> None:
    """A gateway answers 500 while it starts a dead kernel again; it is asked until it did it."""
    failed = says({"message": "Unhandled error"}, "500 Internal Server Error")
    there = says(MODEL)
    answers = [there, failed, there, failed, there, says(b"", "204 No Content")]
    with scripted(*answers) as server, Manager(kernel_id="k", url=f"http://{server.where}") as km:
        km.start_kernel()
        km.owned_kernel = True
        km.shutdown_kernel()
        assert not km.has_kernel
    assert server.lines == [f"{method} /api/kernels/k" for method in ["GET", "DELETE"] * 3]


# --- a start whose answer is lost -------------------------------------------------------------


def whole_request(peer: Peer) -> tuple[bytes, bytes]:
    """Its head and its body."""
    size = int(peer.read_request().get("content-length", 0))
    head, _, body = peer.request.partition(b"\r\n\r\n")
    while len(body) < size:
        body += peer.sock.recv(65536)
    return head, body


@contextmanager
def losing(gateway: LocalGateway, lose: Script, early: bool) -> Iterator[tuple[str, list[str]]]:
    """The URL of a proxy, and the requests it has passed on; a start is not answered but lost.

    `early` is while the gateway still starts the kernel, else it is when it has answered.
    """
    passed: list[str] = []
    parts = urlsplit(gateway.url)

    def script(peer: Peer) -> None:
        head, body = whole_request(peer)
        line = head.decode().partition(" HTTP/")[0]
        passed.append(line)
        once = head.replace(b"Connection: keep-alive", b"Connection: close")
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as server:
            server.sendall(once + b"\r\n\r\n" + body)
            if early and line == "POST /api/kernels":
                lose(peer)
            answer = b"".join(iter(lambda: server.recv(65536), b""))
        if line != "POST /api/kernels":
            peer.sock.sendall(answer)
        elif not early:
            assert b" 201 " in answer.partition(b"\r\n")[0]
            lose(peer)

    with serving(script) as where:
        yield f"http://{where}", passed


def bad_gateway(peer: Peer) -> None:
    peer.answer("502 Bad Gateway", Connection="close")


def fin(peer: Peer) -> None:
    peer.sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("lose", "early"),
    [
        (Peer.reset, False),
        (fin, False),
        (bad_gateway, False),
        (Peer.wait_for_end, False),
        (Peer.reset, True),
        (fin, True),
        (bad_gateway, True),
    ],
)
def test_a_kernel_whose_start_was_not_answered_is_adopted(
    gateway: LocalGateway, lose: Script, early: bool
) -> None:
    """Exactly one is started, whatever took the answer; it is ours, and shut down at the end."""
    before = set(kernels_of(gateway))
    # Silence ends with the request's time-out, which the start must not need.
    seconds = 8 if lose is Peer.wait_for_end else 40
    limits = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0, "request_timeout": seconds}
    with (
        losing(gateway, lose, early) as (url, passed),
        Manager(url=url, auth_token=gateway.token, **limits) as km,
    ):
        km.start_kernel(kernel_name="python3")
        assert set(kernels_of(gateway)) - before == {km.kernel_id}
        assert passed.count("POST /api/kernels") == 1
        assert f"GET /api/kernels/{km.kernel_id}" in passed
        assert km.owned_kernel
        assert km.is_alive()
    assert set(kernels_of(gateway)) == before
    assert passed.count("POST /api/kernels") == 1


def test_a_kernel_that_cannot_be_found_is_named() -> None:
    """A gateway that does not know it: the error tells the id that was sent, once."""
    sent: list[tuple[bytes, bytes]] = []

    def swallow(peer: Peer) -> None:
        sent.append(whole_request(peer))
        if peer.request.startswith(b"POST"):
            peer.reset()
        else:
            peer.answer("404 Not Found", Connection="close")

    limits = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0, "request_timeout": 1}
    with serving(swallow) as where, Manager(url=f"http://{where}", **limits) as km:
        with pytest.raises(GatewayConnectionError, match="jupyter gateway kernels") as caught:
            km.start_kernel()
        assert not km.has_kernel
    kernel_id = str(caught.value).partition("looked for kernel ")[2][:36]
    assert str(uuid.UUID(kernel_id, version=4)) == kernel_id
    body = json.loads(sent[0][1])
    assert kernel_id == body["kernel_id"] == body["env"]["KERNEL_ID"]
    assert [head[:4] for head, _ in sent[:2]] == [b"POST", b"GET "]
    assert not any(head.startswith(b"POST") for head, _ in sent[1:])


MINE = str(uuid.uuid4())


@pytest.mark.parametrize("env", [{}, {"KERNEL_ID": MINE}, {"KERNEL_ID": "not-one"}])
def test_the_id_of_a_new_kernel_is_chosen(
    km: Manager, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By env=, else anew; the kernel that this process itself may run in has no say."""
    of_this_process = str(uuid.uuid4())
    monkeypatch.setenv("KERNEL_ID", of_this_process)
    km.start_kernel(env=env)
    assert km.kernel_id is not None
    with km.client() as kc:
        kc.wait_for_ready(timeout=60)
        found = value(kc, "__import__('os').environ['KERNEL_ID']")
    assert found == repr(env.get("KERNEL_ID", km.kernel_id))
    assert uuid.UUID(km.kernel_id).version == 4
    assert (km.kernel_id == MINE) == (env.get("KERNEL_ID") == MINE)
    assert km.kernel_id != of_this_process


def test_an_answer_of_404_means_that_there_is_no_kernel(gateway: LocalGateway) -> None:
    """To an interrupt or a restart; whoever waits is told."""
    for act in ("interrupt_kernel", "restart_kernel"):
        with Manager(**gateway.options()) as km:
            km.start_kernel()
            km.rest.delete_kernel(str(km.kernel_id))
            with pytest.raises(NoSuchKernel):
                getattr(km, act)()
            assert not km.has_kernel


def test_ready_ends_with_the_start(gateway: LocalGateway) -> None:
    """With its exception, and anew with the next start."""
    with Manager(**gateway.options()) as km:
        first = km.ready
        with pytest.raises(NoSuchKernelSpec):
            km.start_kernel(kernel_name="cobol")
        assert isinstance(first.exception(timeout=0), NoSuchKernelSpec)
        km.start_kernel(kernel_name="python3")
        assert km.ready.result(timeout=0) is None


def test_ready_ends_with_any_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with one that cannot be copied."""

    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    km = Manager(url="http://127.0.0.1:9")

    def fail(**_: Any) -> None:
        raise Odd(1, 2)

    monkeypatch.setattr(km, "_start_or_attach", fail)
    with pytest.raises(Odd):
        km.start_kernel()
    assert "1 2" in str(km.ready.exception(timeout=0))


def test_two_threads_do_not_start_two_kernels(gateway: LocalGateway) -> None:
    """One does; the other is told."""
    with Manager(**gateway.options()) as km, ThreadPoolExecutor(2) as pool:
        starts = [pool.submit(km.start_kernel) for _ in range(2)]
        errors = [start.exception(60) for start in starts]
        assert [type(error) for error in errors if error] == [RuntimeError]


def test_the_second_of_two_starts_never_replaces_the_kernel_of_the_first() -> None:
    """Whoever was about to start one finds that there is one: none is forgotten."""
    looked, go_on = threading.Event(), threading.Event()

    class Slow(Manager):
        @property
        def has_kernel(self) -> bool:
            has_kernel: bool = super().has_kernel
            if not looked.is_set():
                looked.set()
                assert go_on.wait(60)
            return has_kernel

    with (
        scripted(says(MODEL, "201 Created")) as server,
        Slow(url=f"http://{server.where}") as km,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(km.start_kernel)
        assert looked.wait(60)
        second = pool.submit(km.start_kernel)
        wait((second,), timeout=60)
        go_on.set()
        errors = [start.exception(60) for start in (first, second)]
    assert [type(error) for error in errors if error] == [RuntimeError]
    assert [line for line in server.lines if line.startswith("POST")] == ["POST /api/kernels"]


class Noting(Manager):
    """A manager that notes each call which must be alone, before it waits for that."""

    def __init__(self, **kwargs: Any) -> None:
        self.calls: list[str] = []
        super().__init__(**kwargs)

    def _alone(self, what: str) -> Any:
        entry = super()._alone(what)
        self.calls.append(what)
        return entry


@contextmanager
def held(*restarts: Script, **options: Any) -> Iterator[tuple[Noting, Server, threading.Event]]:
    """A manager, and a gateway that answers no restart before the event."""
    arrived, go_on = threading.Event(), threading.Event()
    left = list(restarts)
    seen = Server("")

    def script(peer: Peer) -> None:
        read(peer, seen)
        if not seen.lines[-1].endswith("/restart"):
            says(MODEL)(peer)
            return
        arrived.set()
        assert go_on.wait(60)
        (left.pop(0) if left else says(MODEL))(peer)

    limits = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0, "request_timeout": 60}
    with (
        serving(script) as where,
        Noting(kernel_id="k", url=f"http://{where}", **{**limits, **options}) as km,
        ThreadPoolExecutor(1) as pool,
    ):
        km.start_kernel()
        km.calls.clear()
        restarting = pool.submit(km.restart_kernel)
        assert arrived.wait(60)
        try:
            yield km, seen, go_on
        finally:
            go_on.set()
        if not restarts:
            restarting.result(60)


@pytest.mark.parametrize("serve", [kernel_gateway, jupyter_server])
def test_three_threads_restart_a_kernel_at_once(
    serve: Callable[[Path], AbstractContextManager[RunningServer]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """All succeed, and a client that waits for the kernel goes on with it."""
    with (
        serve(tmp_path_factory.mktemp("server")) as server,
        Manager(kernel_name="python3", **server.client_options()) as km,
        ThreadPoolExecutor(4) as pool,
    ):
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            restarts = [pool.submit(km.restart_kernel) for _ in range(3)]
            ready = pool.submit(kc.wait_for_ready, 60)
            assert [one.result(60) for one in (*restarts, ready)] == [None] * 4
            kc.wait_for_ready(timeout=60)
            reply = kc.execute("1", reply=True, timeout=60)
            assert reply["content"]["execution_count"] == 1


def restarts_of(server: Server) -> int:
    return server.lines.count("POST /api/kernels/k/restart")


def test_a_restart_that_waited_for_another_is_done() -> None:
    """However many threads want one at once, the kernel is restarted once, and all succeed."""
    with held() as (km, server, go_on), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(km.restart_kernel) for _ in range(2)]
        wait_until(lambda: len(km.calls) == 3)
        go_on.set()
        assert [one.result(60) for one in waiting] == [None, None]
        assert restarts_of(server) == 1
        km.restart_kernel()
        assert restarts_of(server) == 2


def test_a_restart_that_waited_for_one_that_failed_is_made() -> None:
    """It is a restart of its own."""
    with held(says(b"", "418 No")) as (km, server, go_on), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(km.restart_kernel)
        wait_until(lambda: len(km.calls) == 2)
        go_on.set()
        assert waiting.result(60) is None
        assert restarts_of(server) == 2


def test_a_shutdown_waits_for_a_restart() -> None:
    """And then shuts the kernel down that was restarted."""
    with held() as (km, server, go_on), ThreadPoolExecutor(1) as pool:
        km.owned_kernel = True
        waiting = pool.submit(km.shutdown_kernel)
        wait_until(lambda: len(km.calls) == 2)
        assert km.has_kernel
        go_on.set()
        waiting.result(60)
        assert not km.has_kernel
    assert [line.split()[0] for line in server.lines] == ["GET", "POST", "DELETE"]


def test_a_start_waits_for_a_shutdown() -> None:
    """So the kernel that it starts is not the one that is shut down."""
    go_on = threading.Event()
    seen = Server("")

    def script(peer: Peer) -> None:
        read(peer, seen)
        if seen.lines[-1].startswith("DELETE"):
            assert go_on.wait(60)
        says({**MODEL, "id": f"k{len(seen.lines)}"}, "201 Created")(peer)

    with (
        serving(script) as where,
        Noting(url=f"http://{where}") as km,
        ThreadPoolExecutor(2) as pool,
    ):
        km.start_kernel()
        ending = pool.submit(km.shutdown_kernel)
        wait_until(lambda: len(seen.lines) == 2)
        starting = pool.submit(km.start_kernel)
        wait_until(lambda: len(km.calls) == 3)
        go_on.set()
        ending.result(60)
        starting.result(60)
        assert km.kernel_id == "k3"
        assert km.has_kernel


def test_the_wait_for_another_thread_has_an_end() -> None:
    """Twice the time-out of a request; then the error says what it waited for."""
    with held(request_timeout=60) as (km, server, _):
        km.gateway.request_timeout = 0.05
        with pytest.raises(GatewayTimeout, match=r"shutdown_kernel\(\): another thread"):
            km.shutdown_kernel()
        assert restarts_of(server) == 1


def test_an_interrupt_waits_for_nothing() -> None:
    """It may be what ends a restart that takes too long."""
    with held() as (km, server, _):
        km.interrupt_kernel()
        assert "POST /api/kernels/k/interrupt" in server.lines


def test_the_thread_that_restarts_may_shut_down() -> None:
    """As a signal handler does, or a listener to events."""
    events: list[str] = []

    def listener(_schema: str, data: dict[str, Any]) -> None:
        if data.get("action") == "restart" and not events:
            events.append(data["action"])
            km.shutdown_kernel()

    with (
        scripted(says(MODEL)) as server,
        Manager(kernel_id="k", url=f"http://{server.where}", event_logger=listener) as km,
    ):
        km.start_kernel()
        km.owned_kernel = True
        km.restart_kernel()
        assert events
        assert not km.has_kernel


def test_a_manager_of_a_running_kernel_asks_whether_it_is_alive(
    gateway: LocalGateway, km: Manager
) -> None:
    """Before start_kernel() attaches to it, too."""
    km.start_kernel()
    with Manager(kernel_id=km.kernel_id, **gateway.options()) as other:
        assert other.is_alive()
        assert not other.has_kernel
        other.start_kernel()
        other.shutdown_kernel()
        assert not other.is_alive()
    with Manager(kernel_id=str(uuid.uuid4()), **gateway.options()) as none:
        assert not none.is_alive()
    with Manager(**gateway.options()) as none:
        assert not none.is_alive()


def test_a_log_of_ones_own_gets_all(
    gateway: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the requests, too, and of the client."""
    caplog.set_level("DEBUG", "mine")
    with Manager(**gateway.options(), log=logging.getLogger("mine")) as km:
        km.start_kernel()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
    texts = [record.getMessage() for record in caplog.records if record.name == "mine"]
    assert any("POST" in text and "201" in text for text in texts)
    assert any("was shut down" in text for text in texts)


@pytest.mark.parametrize(
    ("step", "first"),
    [
        ("start", GatewayHTTPError),
        ("channels", GatewayHTTPError),
        ("silence", KernelNotReady),
        ("death", DeadKernelError),
    ],
)
def test_start_new_kernel_raises_what_went_wrong_first(
    step: str, first: type[GatewayError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the kernel cannot be shut down either; and all is let go of, at once."""
    seen = Server("")
    peers: list[Peer] = []
    ended: list[Peer] = []
    closed: list[GatewayREST] = []
    close = GatewayREST.close

    def answer(peer: Peer) -> None:
        read(peer, seen)
        line = seen.lines[-1]
        if line.startswith("DELETE"):
            peer.answer("403 Forbidden")
        elif line.startswith("POST") and step != "start":
            model = json.dumps({**MODEL, "id": seen.bodies[-1]["kernel_id"]})
            peer.answer("201 Created", model.encode())
        elif "/channels" in line and step in ("silence", "death"):
            peer.accept()
            if step == "death":
                peer.receive()  # the question whether it is ready
                peer.send_message("iopub", "status", execution_state="dead")
            peer.wait_for_end()
        else:
            peer.answer("418 What went wrong first")

    def script(peer: Peer) -> None:
        peers.append(peer)
        try:
            while True:
                answer(peer)
                peer.request = b""
        finally:
            ended.append(peer)

    def noted(rest: GatewayREST) -> None:
        closed.append(rest)
        close(rest)

    monkeypatch.setattr(GatewayREST, "close", noted)
    with serving(script) as where:
        with pytest.raises(GatewayError) as caught:
            start_new_kernel(0.5 if step == "silence" else 60, url=f"http://{where}")
        assert isinstance(caught.value, first)
        assert ("What went wrong first" in str(caught.value)) is (first is GatewayHTTPError)
        assert any(line.startswith("DELETE") for line in seen.lines) is (step != "start")
        assert closed
        # While the error is kept, and with it the traceback:
        assert not [t.name for t in threading.enumerate() if t.name.startswith("gateway-")]
        if step != "start":  # (the answer that is an error keeps its connection)
            wait_until(lambda: len(ended) == len(peers), 10)
