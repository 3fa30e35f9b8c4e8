"""The error for a response that refuses a request."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayFull,
    GatewayHTTPError,
    NoSuchKernel,
    NoSuchKernelSpec,
)
from gateway_blocking.responses import (
    NotFound,
    RequestInfo,
    Response,
    http_error,
    not_json,
    wrong_model,
)

GET = RequestInfo("GET", "http://h/api/kernels/k")
POST = RequestInfo("POST", "http://h/api/kernels")
UPGRADE = RequestInfo("GET", "ws://h/api/kernels/k/channels", is_websocket=True)
TOKEN = {"Authorization": "token x"}


def response(status: int, reason: str = "", body: Any = b"", **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, reason, named, content, "http://h/api", TOKEN)


@pytest.mark.parametrize(
    ("request_", "status", "not_found", "kind"),
    [
        (GET, 401, NoSuchKernel, GatewayAuthError),
        (GET, 403, NoSuchKernel, GatewayAuthError),
        (GET, 404, NoSuchKernel, NoSuchKernel),
        (GET, 404, partial(NoSuchKernelSpec, name="ir"), NoSuchKernelSpec),
        (GET, 404, GatewayHTTPError, GatewayHTTPError),
        (GET, 429, NoSuchKernel, GatewayHTTPError),
        (UPGRADE, 401, NoSuchKernel, GatewayAuthError),
        (UPGRADE, 404, NoSuchKernel, NoSuchKernel),
        (UPGRADE, 200, NoSuchKernel, GatewayHTTPError),
    ],
)
def test_the_status_chooses_the_exception(
    request_: RequestInfo, status: int, not_found: NotFound, kind: type[GatewayHTTPError]
) -> None:
    """The exception has the request, the status and the gateway's words."""
    body = {"reason": "Why", "message": "Because"}
    error = http_error(request_, response(status, "Phrase", body), not_found)
    assert type(error) is kind
    assert (error.method, error.url, error.status_code) == ("GET", request_.url, status)
    assert (error.reason, error.message) == ("Why", "Because")
    assert error.args[0] == f"{request_}: the gateway answered {status}, Why, Because"
    assert error.advice
    assert str(error) == f"{error.args[0]}; {error.advice}"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"reason": "Resource Limit"}, GatewayFull),
        ({"reason": "A max kernels limit has been set to 1"}, GatewayFull),
        ({"message": "A max kernels per user limit has been reached"}, GatewayFull),
        ({"message": "Forbidden"}, GatewayAuthError),
    ],
)
def test_a_403_for_a_start_may_mean_a_full_gateway(
    body: dict[str, str], kind: type[GatewayHTTPError]
) -> None:
    """The gateway's words tell; a full gateway has no wrong token."""
    error = http_error(POST, response(403, "Forbidden", body), GatewayHTTPError, "a note")
    assert type(error) is kind
    assert ("limit of kernels is reached" in error.advice) == (kind is GatewayFull)
    assert error.advice.endswith("; a note") == (kind is GatewayAuthError)


@pytest.mark.parametrize(
    ("request_", "answer", "advice"),
    [
        (GET._replace(url="http://h/lab/api/kernels"), response(404), "try it without /lab"),
        (
            GET,
            response(302, Location="http://u:p@h/hub/login?x=1"),
            "login page, http://h/hub/login",
        ),
        (GET, response(302, Location="http://[::1"), "a URL that is malformed"),
        (GET, response(400, body=b"sent to HTTPS port"), "this port wants https://"),
        (GET, response(429, Retry_After="7"), "come back later (Retry-After: 7)"),
        (POST._replace(proxy="http://p:1"), response(502), "the proxy http://p:1"),
        (POST._replace(method="GET"), response(403), "EG_LIST_KERNELS=True"),
        (UPGRADE, response(403), "the token is wrong"),
        (UPGRADE._replace(rest_allowed=True), response(403), "REST requests are allowed"),
        (UPGRADE, response(400), "lets websockets through"),
        (UPGRADE, response(404), "does not let websockets through"),
        (UPGRADE, response(502), "the gateway behind this proxy is not reachable"),
        (UPGRADE._replace(proxy="http://p:1"), response(503), "the proxy http://p:1"),
    ],
)
def test_the_advice_fits_the_cause(request_: RequestInfo, answer: Response, advice: str) -> None:
    """REST and the websocket share the texts, except where the causes differ."""
    assert advice in http_error(request_, answer, GatewayHTTPError).advice


def test_a_page_is_shown_by_its_title() -> None:
    """Other bodies are quoted, in one line and shortened."""
    page = response(200, body=b" <html><TITLE lang=en>Log in</TITLE></html>")
    assert not_json(GET, page).endswith("200, is not JSON but a page, 'Log in'")
    assert not_json(GET, response(200, body=b"<html></html>")).endswith("but a page")
    assert not_json(GET, response(200, body=b"a\n b\x1b" + 500 * b"c")).count("c") < 300
    assert not_json(GET, response(200)).endswith("is not JSON but nothing")
    text = wrong_model(GET, response(201, body=b"[]"), "it is a list, not an object")
    assert text.endswith("201, is JSON, but it is a list, not an object: '[]'")


def test_a_204_has_no_json() -> None:
    """A body that is not JSON raises ValueError, as does one that is nested too deeply."""
    assert response(204).json() is None
    for body in (b"", b"{", 100_000 * b"["):
        with pytest.raises(ValueError, match=r"."):
            response(200, body=body).json()


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("502 Bad Gateway", "502, Bad Gateway"),
        ("Bad Gateway", "502, Bad Gateway"),
        ("Down for maintenance", "502, Bad Gateway, a page, 'Down for maintenance'"),
    ],
)
def test_title_of_a_page_that_repeats_the_reason_is_not_told_again(title: str, told: str) -> None:
    """A proxy sends such a page; the attribute ``message`` still has it."""
    page = f"<html><head><title>{title}</title></head>".encode()
    error = http_error(POST, response(502, "Bad Gateway", page), GatewayHTTPError)
    assert error.args[0] == f"POST http://h/api/kernels: the gateway answered {told}"
    assert error.message == f"a page, {title!r}"
