"""Who one is: cookies, tokens that are renewed, and what a Jupyter Server without a login wants.

All of it by REST and with websockets alike.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
import websocket

from gateway_blocking import (
    BlockingGatewayKernelClient,
    GatewayAuthError,
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    GatewayTokenRenewerBase,
)
from support.rawserver import Script
from support.scripted import (
    COOKIE,
    CUT_HEADERS,
    Server,
    accepts,
    error_of,
    rest_of,
    says,
    scripted,
    stalls,
)

KERNEL = {"id": "k", "name": "python3"}
MODEL = {**KERNEL, "path": "a", "type": "notebook", "kernel": KERNEL}  # of a session as well
REFUSED = says({"message": "who are you?"}, "401 Unauthorized")
FORBIDDEN = says({"message": "Forbidden"}, "403 Forbidden")


def client_of(server: Server, **options: Any) -> BlockingGatewayKernelClient:
    """A client of the kernel k there."""
    return BlockingGatewayKernelClient(kernel_id="k", url=f"http://{server.where}", **options)


# --- cookies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [True, False])
def test_cookies_are_kept_where_that_is_configured(accept: bool) -> None:
    """And sent back then, by REST and with a websocket's handshake."""
    with scripted(says(MODEL, **COOKIE)) as server, rest_of(server, accept_cookies=accept) as rest:
        rest.get_kernel("k")
        rest.get_kernel("k")
        expected = "one=1" if accept else None
        assert [h.get("cookie") for h in server.headers] == [None, expected]
        assert rest.cookie_header(f"ws://{server.where}/api/kernels/k/channels") == expected
        assert rest.cookie_header("ws://other.example/") is None


def test_a_secure_cookie_is_for_a_secure_websocket(tls: tuple[ssl.SSLContext, str]) -> None:
    """wss counts as https."""
    with scripted(says(MODEL, Set_Cookie="one=1; Secure; Path=/"), tls=tls[0]) as server:
        options = {"accept_cookies": True, "ca_certs": tls[1]}
        with rest_of(f"https://{server.where}", **options) as rest:
            rest.get_kernel("k")
            assert rest.cookie_header(f"wss://{server.where}/") == "one=1"
            assert rest.cookie_header(f"ws://{server.where}/") is None


@pytest.mark.parametrize("bad", ["one=1; Max-Age=soon", "=", "one=1; Expires=never; Partitioned"])
def test_a_cookie_that_is_malformed_is_no_error(bad: str) -> None:
    """It is the gateway's problem."""
    script = says(MODEL, Set_Cookie=bad)
    with scripted(script) as server, rest_of(server, accept_cookies=True) as rest:
        assert rest.get_kernel("k") == rest.get_kernel("k") == MODEL


def test_the_users_cookies_are_sent_with_those_of_the_gateway() -> None:
    """Both, in one header."""
    options = {"accept_cookies": True, "headers": {"cookie": "mine=1"}}
    with scripted(says(MODEL, **COOKIE)) as server, rest_of(server, **options) as rest:
        rest.get_kernel("k")
        rest.get_kernel("k")
    assert [h["cookie"] for h in server.headers] == ["mine=1", "mine=1; one=1"]


def test_a_cookie_of_the_handshake_is_kept() -> None:
    """A load balancer may set its own there only: the reconnection has it, and so has REST."""
    two = "one=1; Path=/\ntwo=2; Path=/api/kernels; HttpOnly; SameSite=Lax"
    with scripted(accepts(Set_Cookie=two), accepts(), says(MODEL)) as server:
        kc = client_of(server, accept_cookies=True)
        for _ in range(2):
            kc.start_channels(hb=False)
            kc.stop_channels()
        kc.rest.get_kernel("k")
        kc.rest.close()
    assert [h.get("cookie") for h in server.headers] == [None, "two=2; one=1", "two=2; one=1"]


def test_a_cookie_of_a_refused_handshake_is_kept() -> None:
    """As a proxy sends it with its 503."""
    script = says({}, "503 Service Unavailable", **COOKIE)
    with scripted(script, accepts()) as server:
        kc = client_of(server, accept_cookies=True)
        with pytest.raises(GatewayHTTPError):
            kc.start_channels()
        kc.start_channels()
        kc.stop_channels()
    assert [h.get("cookie") for h in server.headers] == [None, "one=1"]


@pytest.mark.parametrize("life", ["Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_cookie_that_has_expired_is_not_sent(life: str) -> None:
    """Which is how a server takes one back."""
    scripts = (says(MODEL, **COOKIE), says(MODEL, Set_Cookie=f"one=1; Path=/; {life}"), says(MODEL))
    with scripted(*scripts) as server, rest_of(server, accept_cookies=True) as rest:
        for _ in range(3):
            rest.get_kernel("k")
    assert [h.get("cookie") for h in server.headers] == [None, "one=1", None]


def test_websocket_clients_own_cookies_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one jar for a process: what others put there is not for us, nor ours for them."""
    jar: Any = websocket._handshake.CookieJar
    monkeypatch.setattr(jar, "jar", {})
    jar.add("theirs=1; Domain=127.0.0.1")
    with scripted(accepts(Set_Cookie="one=1; Domain=127.0.0.1; Path=/")) as server:
        for accept, headers in ((True, {}), (False, {"Cookie": "mine=1"})):
            kc = client_of(server, accept_cookies=accept, headers=headers)
            kc.start_channels()
            kc.stop_channels()
    assert [h.get("cookie") for h in server.headers] == [None, "mine=1"]
    assert jar.get("127.0.0.1") == "theirs=1"


def test_two_gateways_do_not_share_cookies() -> None:
    """Not even those of one host, from which cookies go to all ports."""
    with scripted(says(MODEL, **COOKIE)) as server:
        for _ in range(2):
            with rest_of(server, accept_cookies=True) as rest:
                rest.get_kernel("k")
    assert [h.get("cookie") for h in server.headers] == [None, None]


# --- tokens that are renewed --------------------------------------------------------------------


class Renewer(GatewayTokenRenewerBase):
    """Notices that a token was refused when it is asked the second time for another."""

    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        self.asked = getattr(self, "asked", 0) + 1
        return "new" if self.asked > 1 else "old"


CALLS: dict[str, Callable[[Any], Any]] = {
    "GET": lambda rest: rest.get_kernel("k"),
    "DELETE": lambda rest: rest.delete_kernel("k"),
    "POST": lambda rest: rest.start_kernel("python3", {"A": "1"}),
    "PATCH": lambda rest: rest.update_session("s", {"path": "a.ipynb"}),
}
OPTIONS = {"gateway_token_renewer_class": Renewer}


@pytest.mark.parametrize("refusal", [REFUSED, FORBIDDEN])
@pytest.mark.parametrize("method", CALLS)
def test_a_refused_request_is_made_again_with_another_token(method: str, refusal: Script) -> None:
    """With all that was sent the first time: what is refused was not done."""
    with scripted(refusal, says(MODEL)) as server, rest_of(server, **OPTIONS) as rest:
        assert CALLS[method](rest) == (None if method == "DELETE" else MODEL)
    assert [h["authorization"] for h in server.headers] == ["token old", "token new"]
    assert server.bodies[0] == server.bodies[1]
    assert server.lines[0] == server.lines[1]


def test_a_request_that_is_refused_again_is_an_error() -> None:
    """Not a third try."""
    with scripted(REFUSED) as server:
        assert isinstance(error_of(CALLS["GET"], server, **OPTIONS), GatewayAuthError)
    assert len(server.lines) == 2


class Broken(GatewayTokenRenewerBase):
    """Cannot get another token."""

    def get_token(self, *args: Any, **kwargs: Any) -> str:
        raise KeyError("sesame")


def test_a_refusal_tells_of_a_renewer_that_failed() -> None:
    """Whose warning a script does not show; its text may have the token in it."""
    options = {"gateway_token_renewer_class": Broken, "auth_token": "old"}
    with scripted(REFUSED) as server:
        error = error_of(CALLS["GET"], server, **options)
    assert str(error).endswith("; the token's renewer failed: Broken raised KeyError")


@pytest.mark.parametrize(("token", "given"), [("wrong", "the"), ("", "no")])
def test_a_refusal_tells_of_a_renewer_that_gave_the_token(token: str, given: str) -> None:
    """Else the advice would be to look at auth_token, which it replaced."""

    class Giving(GatewayTokenRenewerBase):
        def get_token(self, *args: Any, **kwargs: Any) -> str:
            return token

    options = {"gateway_token_renewer_class": Giving, "auth_token": "good"}
    with scripted(REFUSED) as server:
        error = error_of(CALLS["GET"], server, **options)
    option = "gateway_token_renewer_class (JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS)"
    assert str(error).endswith(f"; Giving, of {option}, gave {given} token")


def test_a_request_is_not_repeated_with_the_same_token() -> None:
    """It would be refused the same way."""
    with scripted(REFUSED) as server:
        assert isinstance(error_of(CALLS["GET"], server, auth_token="t"), GatewayAuthError)
    assert len(server.lines) == 1


def test_the_first_websocket_is_opened_again_with_another_token() -> None:
    """Without its user noticing."""
    with scripted(REFUSED, accepts()) as server:
        kc = client_of(server, **OPTIONS)
        kc.start_channels()
        assert kc.channels_running
        kc.stop_channels()
    assert [h["authorization"] for h in server.headers] == ["token old", "token new"]


@pytest.mark.parametrize(("options", "tries"), [(OPTIONS, 2), ({"auth_token": "t"}, 1)])
def test_a_websocket_that_is_refused_is_an_error(options: dict[str, Any], tries: int) -> None:
    """After the second try, where the renewer had another token."""
    with scripted(REFUSED) as server:
        kc = client_of(server, **options)
        with pytest.raises(GatewayAuthError):
            kc.start_channels()
    assert len(server.lines) == tries


def test_the_second_try_may_fail_for_another_reason() -> None:
    """Which then is the error."""
    with scripted(REFUSED, lambda peer: peer.sock.sendall(CUT_HEADERS)) as server:
        kc = client_of(server, **OPTIONS)
        with pytest.raises(GatewayConnectionError) as caught:
            kc.start_channels()
    assert not isinstance(caught.value, GatewayAuthError)


# --- a Jupyter Server without a login -----------------------------------------------------------

NO_PROOF = says({"message": "'_xsrf' argument missing from POST"}, "403 Forbidden")
PAGE = says(b"<html>not here", "404 Not Found", Set_Cookie='_xsrf="2|ab|cd"; Path=/')


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("method", ["DELETE", "POST", "PATCH"])
def test_the_proof_against_forged_requests_is_fetched(method: str, accept: bool) -> None:
    """A cookie, whether others are accepted or not; and from then on sent in a header as well."""
    scripts = (NO_PROOF, PAGE, says(MODEL))
    with scripted(*scripts) as server, rest_of(server, accept_cookies=accept) as rest:
        for _ in range(2):
            CALLS[method](rest)
    assert server.lines[1].startswith("GET /api/")
    assert [h.get("x-xsrftoken") for h in server.headers] == [None, None, "2|ab|cd", "2|ab|cd"]
    assert [h.get("cookie") for h in server.headers[2:]] == ['_xsrf="2|ab|cd"'] * 2
    assert server.bodies[0] == server.bodies[2]


def test_a_server_that_gives_no_proof_is_an_error() -> None:
    """The first one: what the server said."""
    with scripted(NO_PROOF, says({}, "404 Not Found")) as server:
        error = error_of(CALLS["POST"], server)
    assert isinstance(error, GatewayAuthError)
    assert "_xsrf" in str(error)
    assert len(server.lines) == 2


def test_a_look_has_its_time_also_where_a_cookie_is_asked_for() -> None:
    """The heartbeat's is short, and the options' time-outs are not for it."""
    with scripted(NO_PROOF, stalls()) as server, rest_of(server, request_timeout=90) as rest:
        begin = time.monotonic()
        with pytest.raises(GatewayTimeout):
            rest.get_kernel("k", timeout=0.5)
        assert time.monotonic() - begin < 60
    assert len(server.lines) == 2


def test_a_proof_of_the_users_own_is_used() -> None:
    """One that is configured as a cookie, such as of a browser."""
    headers = {"Cookie": "a=1; _xsrf=mine"}
    with scripted(says(MODEL)) as server, rest_of(server, headers=headers) as rest:
        CALLS["POST"](rest)
    assert server.headers[0]["x-xsrftoken"] == "mine"


def test_of_two_proofs_the_servers_is_sent() -> None:
    """One of the user's that is no good does not stand in the way: tornado takes the last."""
    headers = {"Cookie": "_xsrf=mine"}
    with scripted(NO_PROOF, PAGE, says(MODEL)) as server, rest_of(server, headers=headers) as rest:
        CALLS["POST"](rest)
    assert server.headers[-1]["cookie"] == '_xsrf=mine; _xsrf="2|ab|cd"'
    assert server.headers[-1]["x-xsrftoken"] == "2|ab|cd"
