"""Requester: credentials, retries and checks of a response, without a server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests_mock import Mocker

from gateway_blocking.adapters import Body
from gateway_blocking.config import GatewayClient
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    NoSuchKernel,
)
from gateway_blocking.events import GATEWAY_CLIENT
from gateway_blocking.http import Requester, check_segments
from gateway_blocking.models import KernelModel, ModelError
from support.options import Counting

URL = "http://gateway.example:8888"
KERNELS = f"{URL}/api/kernels"
KERNEL = {"id": "k", "name": "python3"}


@pytest.fixture
def mocker() -> Iterator[Mocker]:
    with Mocker() as mocker:
        yield mocker


def requester(**options: Any) -> Requester:
    options = {"url": URL, "auth_token": "secret", "max_request_retries": 0, **options}
    return Requester(GatewayClient(log=logging.getLogger("tests"), **options))


def get(http: Requester, **options: Any) -> Any:
    return http.request("GET", f"{KERNELS}/k", wanted=KernelModel, **options)


# --- responses ------------------------------------------------------------------------------------


def test_request_returns_the_json_that_is_wanted(mocker: Mocker) -> None:
    """The request has the token, and no redirect is followed."""
    mocker.get(f"{KERNELS}/k", json=KERNEL)
    http = requester()
    assert get(http) == KERNEL
    assert mocker.last_request.headers["Authorization"] == "token secret"
    assert http.was_allowed
    mocker.get(f"{KERNELS}/k", status_code=302, headers={"Location": f"{URL}/elsewhere"})
    with pytest.raises(GatewayHTTPError, match="redirects"):
        get(http)


def test_request_whose_json_is_another_model_is_an_error(mocker: Mocker) -> None:
    """The cause has the answer, and no second request is sent."""
    mocker.get(f"{KERNELS}/k", json={"id": 3})
    with pytest.raises(GatewayConnectionError, match="it has no name") as caught:
        get(requester(max_request_retries=2))
    assert isinstance(caught.value.__cause__, ModelError)
    assert mocker.call_count == 1


def test_get_whose_response_is_not_json_is_sent_again(mocker: Mocker) -> None:
    """A body that broke off looks like this; the last attempt's error is raised."""
    mocker.get(f"{KERNELS}/k", [{"text": '{"id": "k", '}, {"json": KERNEL}])
    assert get(requester(max_request_retries=1)) == KERNEL
    mocker.get(f"{KERNELS}/k", text="<html><title>Log in</title></html>")
    with pytest.raises(GatewayConnectionError, match="is not JSON but a page, 'Log in'"):
        get(requester(max_request_retries=1))
    assert mocker.call_count == 4


def test_post_whose_response_is_not_json_is_sent_once(mocker: Mocker) -> None:
    """The request may have been done."""
    mocker.post(KERNELS, text="no json")
    with pytest.raises(GatewayConnectionError, match="is not JSON"):
        requester(max_request_retries=3).request("POST", KERNELS, b"{}", wanted=KernelModel)
    assert mocker.call_count == 1


def test_request_with_a_deadline_is_sent_once(mocker: Mocker) -> None:
    """The caller polls, and decides itself when to ask again."""
    mocker.get(f"{KERNELS}/k", text="no json")
    with pytest.raises(GatewayConnectionError):
        get(requester(max_request_retries=3), deadline=Deadline(30))
    assert mocker.call_count == 1


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (requests.ConnectTimeout(), GatewayTimeout, "no connection within 40 s"),
        (
            requests.ConnectionError(ConnectionRefusedError("refused")),
            GatewayConnectionError,
            "ref",
        ),
        (requests.exceptions.ChunkedEncodingError("cut"), GatewayConnectionError, "broke off"),
    ],
)
def test_request_without_a_response_is_an_error_with_its_cause(
    mocker: Mocker, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type, text: str
) -> None:
    """It names the request, and nothing that is secret."""
    monkeypatch.setattr("gateway_blocking.failures.speaks_tls", lambda *_: False)
    mocker.get(f"{KERNELS}/k", exc=error)
    with pytest.raises(kind, match=text) as caught:
        get(requester())
    assert f"GET {KERNELS}/k: " in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "secret" not in str(caught.value)


def test_delete_that_was_sent_again_may_find_nothing(
    mocker: Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt did it, and its response was lost."""
    mocker.delete(f"{KERNELS}/k", status_code=404)
    http = requester()
    with pytest.raises(NoSuchKernel):
        http.kernel_request("DELETE", "k", wanted=object)
    monkeypatch.setattr("gateway_blocking.http.was_retried", lambda response: True)
    assert http.kernel_request("DELETE", "k", wanted=object) is None


# --- credentials ----------------------------------------------------------------------------------


def test_refused_request_is_sent_once_more_with_a_renewed_token(mocker: Mocker) -> None:
    """The body is sent from its beginning."""
    bodies: list[bytes] = []

    def answer(request: Any, context: Any) -> dict[str, str]:
        bodies.append(request.body.read())
        context.status_code = 401 if len(bodies) == 1 else 201
        return KERNEL

    mocker.post(KERNELS, json=answer)
    http = requester(gateway_token_renewer_class=Counting)
    http.request("POST", KERNELS, Body(b'{"name": "python3"}'), wanted=KernelModel)
    first, second = (sent.headers["Authorization"] for sent in mocker.request_history)
    assert first != second
    assert bodies == [b'{"name": "python3"}'] * 2


def test_refused_request_with_the_same_credentials_is_an_error_at_once(mocker: Mocker) -> None:
    """Another attempt would be refused, too, and may lock the user out."""
    mocker.get(f"{KERNELS}/k", status_code=401)
    with pytest.raises(GatewayAuthError):
        get(requester())
    assert mocker.call_count == 1


def test_xsrf_cookie_is_fetched_and_sent_in_a_header(mocker: Mocker) -> None:
    """A Jupyter Server without a login wants it with each request that changes something."""
    refusal = {"status_code": 403, "text": "'_xsrf' argument missing from POST"}
    mocker.post(KERNELS, [refusal, {"json": KERNEL}])
    http = requester(auth_token="")

    def set_cookie(request: object, context: object) -> str:
        http.keep_cookies(f"ws{URL[len('http') :]}/api", ["_xsrf=proof; Path=/"])
        return "a page"

    mocker.get(f"{URL}/api/no-such-page", status_code=404, text=set_cookie)
    http.request("POST", KERNELS, b"{}", wanted=KernelModel)
    assert mocker.last_request.headers["X-XSRFToken"] == "proof"


def test_credentials_that_expire_are_warned_of_once(
    mocker: Mocker, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernels run on; the user has to set another token."""
    responses = [{"json": KERNEL}, {"status_code": 401}, {"status_code": 401}]
    mocker.get(f"{KERNELS}/k", responses)
    http = requester()
    get(http)
    for _ in range(2):
        with pytest.raises(GatewayAuthError):
            get(http)
    assert caplog.text.count("does not accept the credentials any more") == 1
    assert not http.was_allowed


def test_refusal_of_one_request_is_not_taken_for_expired_credentials(
    mocker: Mocker, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway still answers what every user may ask."""
    mocker.get(f"{KERNELS}/k", [{"json": KERNEL}, {"status_code": 403}])
    mocker.get(f"{URL}/api/kernelspecs", json={"kernelspecs": {}})
    http = requester()
    get(http)
    with pytest.raises(GatewayAuthError):
        get(http)
    assert "any more" not in caplog.text


# --- events, cookies and names --------------------------------------------------------------------


def test_each_request_is_an_event_with_its_outcome(mocker: Mocker) -> None:
    """Also one that is refused."""
    mocker.get(f"{KERNELS}/k", [{"json": KERNEL}, {"status_code": 500}])
    events: list[tuple[str, Any]] = []
    http = requester(event_logger=lambda schema_id, data: events.append((schema_id, data)))
    get(http)
    with pytest.raises(GatewayHTTPError):
        get(http)
    assert {schema_id for schema_id, _ in events} == {GATEWAY_CLIENT}
    outcomes = [(data["status"], data.get("status_code")) for _, data in events]
    assert outcomes == [("success", 200), ("error", 500)]


def test_cookies_of_a_handshake_are_kept_if_the_option_says_so() -> None:
    """A load balancer sends the websocket to the same server by them; _xsrf is always kept."""
    url = f"ws{URL[len('http') :]}/api/kernels/k/channels"
    cookies = ["route=one; Path=/", "_xsrf=proof; Path=/", "other=x; Domain=elsewhere.example"]
    http = requester(accept_cookies=True)
    assert http.cookie_header(url) is None
    http.keep_cookies(url, cookies)
    assert set(str(http.cookie_header(url)).split("; ")) == {"route=one", "_xsrf=proof"}
    strict = requester()
    strict.keep_cookies(url, cookies)
    assert strict.cookie_header(url) == "_xsrf=proof"


@pytest.mark.parametrize("name", ["", ".", "..", "a\ud800"])
def test_check_segments_refuses_what_cannot_be_a_part_of_a_url(name: str) -> None:
    """Dots lead out of the folder, and a lone surrogate cannot be encoded."""
    with pytest.raises(NoSuchKernel, match="nothing of the name"):
        check_segments(["a", name], NoSuchKernel)
    check_segments(["a", "b..c"], NoSuchKernel)


def test_close_opens_the_latch_and_leaves_the_requester_usable(mocker: Mocker) -> None:
    """Searches and waits for a retry end; a later request opens a new connection."""
    mocker.get(f"{KERNELS}/k", json=KERNEL)
    http = requester()
    closing = http.closing
    http.close()
    assert closing.wait(Deadline(0))
    assert not http.closing.wait(Deadline(0))
    assert get(http) == KERNEL
