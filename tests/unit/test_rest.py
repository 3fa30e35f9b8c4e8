"""GatewayREST: what each endpoint sends, and what it makes of a refusal."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests_mock import Mocker

from gateway_blocking import rest as module
from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    KernelsNotListed,
    NoSuchKernel,
    NoSuchKernelSpec,
    NoSuchSession,
)
from gateway_blocking.rest import GatewayREST

URL = "http://gateway.example:8888"
API = f"{URL}/api"
KERNEL = {"id": "k", "name": "python3"}
SPECS = {"default": "python3", "kernelspecs": {"python3": {"spec": {}}}}


@pytest.fixture
def mocker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mocker]:
    for name in ("KERNEL_LIST_PAUSE", "RESTART_PAUSE", "UP_PAUSE"):
        monkeypatch.setattr(module, name, 0.0)
        monkeypatch.setattr(module, f"{name}_MAX", 0.0)
    monkeypatch.setattr("gateway_blocking.failures.speaks_tls", lambda *_: False)
    with Mocker() as mocker:
        yield mocker


@pytest.fixture
def rest() -> Iterator[GatewayREST]:
    options: dict[str, Any] = {"log": logging.getLogger("tests"), "max_request_retries": 0}
    with GatewayREST(GatewayClient(url=URL, auth_token="secret", **options)) as rest:
        yield rest


# --- lists ----------------------------------------------------------------------------------------


def test_list_kernels_is_sent_again_while_a_kernel_starts(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """All servers answer 500 now and then while any kernel starts."""
    mocker.get(f"{API}/kernels", [{"status_code": 500}, {"status_code": 500}, {"json": [KERNEL]}])
    assert rest.list_kernels() == [KERNEL]


def test_list_kernels_ends_after_some_attempts(mocker: Mocker, rest: GatewayREST) -> None:
    """A server that always answers 500 has another fault."""
    mocker.get(f"{API}/kernels", status_code=500)
    with pytest.raises(GatewayHTTPError):
        rest.list_kernels()
    assert mocker.call_count == 5


@pytest.mark.parametrize(("specs", "kind"), [(200, KernelsNotListed), (403, GatewayHTTPError)])
def test_list_kernels_that_is_refused_may_be_forbidden_to_all(
    mocker: Mocker, rest: GatewayREST, specs: int, kind: type[GatewayHTTPError]
) -> None:
    """If the login is valid for another request, the gateway does not permit the list."""
    mocker.get(f"{API}/kernels", status_code=403)
    mocker.get(f"{API}/kernelspecs", status_code=specs, json=SPECS)
    with pytest.raises(GatewayHTTPError) as caught:
        rest.list_kernels()
    assert isinstance(caught.value, KernelsNotListed) == (kind is KernelsNotListed)


# --- changes of a kernel --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("DELETE", lambda rest: rest.delete_kernel("k")),
        ("POST", lambda rest: rest.interrupt_kernel("k")),
        ("POST", lambda rest: rest.restart_kernel("k")),
    ],
)
def test_change_of_a_kernel_waits_while_the_gateway_restarts_it(
    mocker: Mocker, rest: GatewayREST, method: str, call: Any
) -> None:
    """A gateway that restarts a dead kernel answers 500, and did not do what was asked."""
    responses = [{"status_code": 500}, {"status_code": 500}, {"json": KERNEL}]
    mocker.register_uri(method, re.compile(rf"{API}/kernels/k(/\w+)?$"), responses)
    mocker.get(f"{API}/kernels/k", json=KERNEL)
    call(rest)
    assert [sent.method for sent in mocker.request_history].count(method) == 3


def test_change_of_a_kernel_that_is_gone_is_no_such_kernel(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """An Enterprise Gateway answers 500 to it; a GET tells the cause."""
    mocker.post(f"{API}/kernels/k/interrupt", status_code=500)
    mocker.get(f"{API}/kernels/k", status_code=404)
    with pytest.raises(NoSuchKernel):
        rest.interrupt_kernel("k")


def test_restart_without_a_model_returns_none(mocker: Mocker, rest: GatewayREST) -> None:
    """Some gateways answer 204."""
    mocker.post(f"{API}/kernels/k/restart", status_code=204)
    assert rest.restart_kernel("k") is None


@pytest.mark.parametrize("kernel_id", ["", "..", "."])
def test_kernel_id_that_leads_elsewhere_is_not_sent(
    mocker: Mocker, rest: GatewayREST, kernel_id: str
) -> None:
    """DELETE /api/kernels/.. would delete something else."""
    with pytest.raises(NoSuchKernel):
        rest.delete_kernel(kernel_id)
    assert mocker.call_count == 0


def test_kernel_id_is_quoted(mocker: Mocker, rest: GatewayREST) -> None:
    """A slash in it does not lead to another endpoint."""
    mocker.get(f"{API}/kernels/a%2Fb", json=KERNEL)
    assert rest.get_kernel("a/b") == KERNEL


# --- kernelspecs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "advice"),
    [("pyhton3", "it has ir, python3; the nearest is python3"), ("julia", "it has ir, python3")],
)
def test_kernelspec_that_is_missing_names_those_that_exist(
    mocker: Mocker, rest: GatewayREST, name: str, advice: str
) -> None:
    """The error says the same as that of a start; and the exception is jupyter_client's."""
    mocker.get(f"{API}/kernelspecs/{name}", status_code=404)
    mocker.get(
        f"{API}/kernelspecs", json={"kernelspecs": {"python3": {"spec": {}}, "ir": {"spec": {}}}}
    )
    with pytest.raises(NoSuchKernelSpec) as caught:
        rest.get_kernelspec(name)
    assert caught.value.name == name
    text = f"GET {API}/kernelspecs: the gateway has no kernelspec '{name}'; {advice}"
    assert str(caught.value) == text


def test_kernelspec_that_is_missing_is_told_without_the_list(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """The list is only advice: its failure replaces no error."""
    mocker.get(f"{API}/kernelspecs/ir", status_code=404)
    mocker.get(f"{API}/kernelspecs", status_code=500)
    with pytest.raises(NoSuchKernelSpec, match="has no kernelspec 'ir'") as caught:
        rest.get_kernelspec("ir")
    assert caught.value.name == "ir"


def test_kernelspec_resource_is_bytes_and_stays_in_its_folder(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """A path with dots is not sent."""
    mocker.get(f"{URL}/kernelspecs/python3/sub/logo.png", content=b"\x89PNG")
    assert rest.get_kernelspec_resource("python3", "sub/logo.png") == b"\x89PNG"
    with pytest.raises(NoSuchKernelSpec):
        rest.get_kernelspec_resource("python3", "../secret")


@pytest.mark.parametrize(("user", "query"), [("me", "user=me"), ("", ""), ("a&b", "user=a%26b")])
def test_list_kernelspecs_of_a_user(
    mocker: Mocker, rest: GatewayREST, user: str, query: str
) -> None:
    """An Enterprise Gateway shows each user other kernelspecs."""
    mocker.get(f"{API}/kernelspecs", json=SPECS)
    assert rest.list_kernelspecs(user) == SPECS
    assert mocker.last_request.query.lower() == query.lower()


# --- sessions -------------------------------------------------------------------------------------


def test_session_with_an_unusable_model_is_deleted_if_its_kernel_is_new(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """The kernel would run on, and the caller never learned of it."""
    mocker.post(f"{API}/sessions", status_code=201, json={"id": "s"})
    mocker.delete(f"{API}/sessions/s", status_code=204)
    new: Any = {"path": "p", "name": "", "type": "console", "kernel": {"name": "python3"}}
    with pytest.raises(GatewayConnectionError):
        rest.create_session(new)
    assert mocker.last_request.method == "DELETE"
    with pytest.raises(GatewayConnectionError):
        rest.create_session({**new, "kernel": {"id": "k"}})
    assert mocker.last_request.method == "POST"


def test_session_that_is_gone_is_no_such_session(mocker: Mocker, rest: GatewayREST) -> None:
    """Each of the two methods says so."""
    for method in ("PATCH", "DELETE"):
        mocker.register_uri(method, f"{API}/sessions/s", status_code=404)
    with pytest.raises(NoSuchSession):
        rest.update_session("s", {"path": "other"})
    with pytest.raises(NoSuchSession):
        rest.delete_session("s")


# --- waiting for the gateway ----------------------------------------------------------------------


def test_wait_until_up_waits_for_a_gateway_that_is_starting(
    mocker: Mocker, rest: GatewayREST, caplog: pytest.LogCaptureFixture
) -> None:
    """Its port refuses connections at first, and a proxy in front of it answers 502."""
    refused = requests.ConnectionError(ConnectionRefusedError("refused"))
    mocker.get(API, [{"exc": refused}, {"status_code": 502}, {"json": {"version": "1"}}])
    rest.wait_until_up(30)
    assert mocker.call_count == 3
    assert caplog.text.count("waiting up to 30 s for the gateway") == 1


@pytest.mark.parametrize("status", [401, 404])
def test_wait_until_up_ends_with_any_response_of_a_server(
    mocker: Mocker, rest: GatewayREST, status: int
) -> None:
    """The next request finds out whether the login is accepted."""
    mocker.get(API, status_code=status)
    rest.wait_until_up(30)
    assert mocker.call_count == 1


def test_wait_until_up_raises_what_time_does_not_mend(mocker: Mocker, rest: GatewayREST) -> None:
    """An unknown host name stays unknown."""
    mocker.get(API, exc=requests.ConnectionError("no such host"))
    with pytest.raises(GatewayConnectionError):
        rest.wait_until_up(30)
    assert mocker.call_count == 1


def test_delete_kernel_with_a_timeout_waits_while_the_gateway_restarts_it(
    mocker: Mocker, rest: GatewayREST
) -> None:
    """A kernel that is given back at exit is not left because it has just died."""
    mocker.delete(f"{API}/kernels/k", [{"status_code": 500}, {"status_code": 204}])
    mocker.get(f"{API}/kernels/k", json=KERNEL)
    rest.delete_kernel("k", timeout=30)
    assert [sent.method for sent in mocker.request_history] == ["DELETE", "GET", "DELETE"]


@pytest.mark.parametrize("name", ["interrupt_kernel", "delete_kernel"])
def test_change_of_a_kernel_during_a_restart_ends_with_its_timeout(
    mocker: Mocker, rest: GatewayREST, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The retries, and the question whether the kernel exists, are part of it."""
    monkeypatch.setattr(module, "RESTART_TIMEOUT", 3600.0)
    mocker.post(f"{API}/kernels/k/interrupt", status_code=500)
    mocker.delete(f"{API}/kernels/k", status_code=500)
    mocker.get(f"{API}/kernels/k", json=KERNEL)
    with pytest.raises((GatewayHTTPError, GatewayTimeout)):
        getattr(rest, name)("k", timeout=0.05)
