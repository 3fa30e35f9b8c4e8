"""The headers of requests, secrets, and the log."""

from __future__ import annotations

import logging
import re
import traceback
from pathlib import Path

import pytest
import requests

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import (
    GatewayTimeout,
)
from gateway_blocking.traits import Seconds
from support.calls import CALLS, FAILED, MODEL, SECRET
from support.rawserver import Peer, Script
from support.scripted import (
    BUSY,
    CUT_BODY,
    NOT_THERE,
    error_of,
    rest_of,
    says,
    scripted,
    sends,
    stalls,
)

# --- headers ------------------------------------------------------------------------------------


def test_headers_are_made_for_each_request() -> None:
    """A token that changes is sent at once, with the user's own headers."""
    with scripted(says(MODEL)) as server, rest_of(server, headers={"X-One": "1"}) as rest:
        for token in ("one", "two"):
            rest.gateway.auth_token = token
            rest.get_kernel("k")
    assert [h["authorization"] for h in server.headers] == ["token one", "token two"]
    assert {h["x-one"] for h in server.headers} == {"1"}


def test_each_try_of_a_request_has_the_headers() -> None:
    """A repeated request is still logged in."""
    scripts = (BUSY, says(b"{"), says(MODEL))
    with scripted(*scripts) as server, rest_of(server, auth_token="t") as rest:
        rest.get_kernel("k")
    assert [h["authorization"] for h in server.headers] == ["token t"] * 3


@pytest.mark.parametrize("options", [{"auth_token": "mine"}, {"http_user": "mine"}, {}])
def test_netrc_does_not_replace_the_login(
    options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it add one: the configuration says who one is."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(says(MODEL)) as server, rest_of(server, **options) as rest:
        assert requests.utils.get_netrc_auth(f"http://{server.where}"), "the file is not read"
        rest.get_kernel("k")
        expected = rest.gateway.request_headers().get("Authorization")
    assert server.headers[0].get("authorization") == expected


def test_a_login_in_the_url_is_sent_as_a_header() -> None:
    """As tornado does it for jupyter_server."""
    with scripted(says(MODEL)) as server, rest_of(f"http://me:{SECRET}@{server.where}") as rest:
        rest.get_kernel("k")
        assert server.headers[0]["authorization"].startswith("Basic ")
        assert server.headers[0]["host"] == server.where
        assert SECRET not in repr(rest)


# --- nothing secret, and a log ------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        says({}, "401 Unauthorized"),
        says({}, "403 Forbidden"),
        says(b"", "302 Found", Location="/login"),
        FAILED,
        BUSY,
        NOT_THERE,
        says(b"<html>"),
        sends(b""),
        sends(CUT_BODY),
        Peer.reset,
        stalls(),
    ],
)
@pytest.mark.parametrize("method", CALLS)
def test_no_failure_shows_a_secret(
    method: str, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error with all of its causes, nor any line of any log."""
    caplog.set_level(logging.DEBUG)
    gateway_log = logging.getLogger("tests")
    with scripted(script) as server:
        error = error_of(
            CALLS[method],
            f"http://me:{SECRET}@{server.where}",
            log=gateway_log,
            request_timeout=0.5,
            auth_token=SECRET,
            headers={"X-Secret": SECRET},
            http_pwd=SECRET,
        )
    assert SECRET in server.headers[0]["x-secret"]
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in caplog.text
    cause: BaseException | None = error
    while cause := cause and cause.__cause__:  # what reports of errors show of an exception
        request = getattr(cause, "request", None)
        assert SECRET not in str(vars(request) if request else "")


def test_a_repetition_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By urllib3, in words that are no internal name of anybody's."""
    with scripted(Peer.reset, says(MODEL)) as server, rest_of(server) as rest:
        rest.get_kernel("k")
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("Retrying (1 try left) after connection broken by")


def test_each_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its outcome and duration; one that fails, too."""
    caplog.set_level(logging.DEBUG, "tests")
    with scripted(says(MODEL), stalls()) as server:
        options = {"log": logging.getLogger("tests"), "request_timeout": 0.5}
        with rest_of(server, **options) as rest:
            rest.get_kernel("k")
            with pytest.raises(GatewayTimeout):
                rest.delete_kernel("k")
    url = f"http://{server.where}/api/kernels/k"
    first, second = [r.getMessage() for r in caplog.records if r.name == "tests"]
    assert re.fullmatch(rf"GET {re.escape(url)}: 200 in \d+\.\d\d\d s", first)
    assert re.fullmatch(rf"DELETE {re.escape(url)}: ReadTimeout after \d+\.\d\d\d s", second)


def test_a_huge_time_is_no_error_of_a_request() -> None:
    """On both transports, whose libraries do not take it."""
    seconds = [
        name for name, trait in GatewayClient.class_traits().items() if isinstance(trait, Seconds)
    ]
    options = {name: 1e10 for name in seconds if "interval" not in name}
    with scripted(says({"id": "k", "name": "n"})) as server, rest_of(server, **options) as rest:
        assert rest.get_kernel("k")["id"] == "k"
        assert rest.get_kernel("k", timeout=1e10)["id"] == "k"
