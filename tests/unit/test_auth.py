"""The headers of requests: basic authentication, tokens and their renewal."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.gateway import gateway_client as reference
from traitlets import TraitError

from gateway_blocking.config import GatewayClient
from gateway_blocking.tokens import GatewayTokenRenewerBase, NoOpTokenRenewer
from support.options import SECRET, Counting, basic, plain_logger

# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({}, {}),
        ({"auth_token": None}, {}),
        ({"auth_token": "T"}, {"Authorization": "token T"}),
        ({"auth_token": "T", "auth_scheme": "Bearer"}, {"Authorization": "Bearer T"}),
        ({"auth_token": "T", "auth_scheme": None}, {"Authorization": "T"}),
        ({"auth_token": "T", "auth_scheme": ""}, {"Authorization": "T"}),
        ({"auth_token": "T\n"}, {"Authorization": "token T"}),
        ({"auth_token": "T", "auth_header_key": "X-Key"}, {"X-Key": "token T"}),
        ({"auth_token": "T", "auth_header_key": ""}, {"Authorization": "token T"}),
        ({"auth_token": "T", "auth_header_key": None}, {"Authorization": "token T"}),
        ({"http_user": "ü", "http_pwd": "p"}, {"Authorization": basic("ü", "p")}),
        ({"http_user": "u"}, {"Authorization": basic("u", "")}),
        ({"http_user": "u", "auth_token": "T"}, {"Authorization": basic("u", "")}),
        ({"http_pwd": "p", "auth_token": "T"}, {"Authorization": "token T"}),
        ({"url": "http://a%40b:p%3A@h"}, {"Authorization": basic("a@b", "p:")}),
        ({"url": "http://a:b@h", "http_user": "u"}, {"Authorization": basic("u", "")}),
        (
            {"headers": {"X-One": "1"}, "auth_token": "T"},
            {"X-One": "1", "Authorization": "token T"},
        ),
        ({"headers": '{"authorization": "mine"}', "auth_token": "T"}, {"authorization": "mine"}),
        ({"headers": {"AUTHORIZATION": "mine"}, "http_user": "u"}, {"AUTHORIZATION": "mine"}),
        ({"headers": "", "auth_token": "T"}, {"Authorization": "token T"}),
        ({"headers": None, "auth_token": "T"}, {"Authorization": "token T"}),
    ],
)
def test_the_headers_of_a_request(options: dict[str, Any], headers: dict[str, str]) -> None:
    """The user's own, then Basic, then the token; nothing where there is nothing to say."""
    assert GatewayClient(**options).request_headers() == headers


def test_headers_are_made_anew() -> None:
    """A caller may change what it got, and a later change of an option counts."""
    gateway = GatewayClient(auth_token="one", headers={"X-One": "1"})
    gateway.request_headers()["X-Two"] = "2"
    gateway.auth_token = "two"
    assert gateway.request_headers() == {"X-One": "1", "Authorization": "token two"}


@pytest.mark.parametrize(
    "options",
    [
        {"auth_token": f"{SECRET}\r\nX-Evil: 1"},
        {"auth_token": f"{SECRET}…"},
        {"auth_token": SECRET, "auth_scheme": "Schlüssel…"},
        {"auth_token": SECRET, "auth_header_key": "X Key"},
        {"headers": {"X-One": f"{SECRET}\n"}},
        {"headers": {"X-One:": SECRET}},
    ],
)
def test_a_header_that_http_does_not_allow_is_refused(options: dict[str, Any]) -> None:
    """At once, and without the value; neither a second header nor one that is no Latin-1."""
    with pytest.raises(TypeError, match="does not allow") as caught:
        GatewayClient(**options)
    assert isinstance(caught.value, TraitError)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_variable_that_http_does_not_allow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TypeError, too, without the value."""
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", f"{SECRET}…")
    with pytest.raises(TypeError, match="JUPYTER_GATEWAY_AUTH_TOKEN=.*Latin-1") as caught:
        GatewayClient()
    assert SECRET not in str(caught.value)


# --- token renewers -----------------------------------------------------------------------------


def test_the_renewer_is_asked_for_each_request() -> None:
    """With the options, and the token it gave last."""
    gateway = GatewayClient(gateway_token_renewer_class=Counting, auth_token="t0")
    assert gateway.request_headers() == {"Authorization": "token t1"}
    assert gateway.request_headers() == {"Authorization": "token t2"}
    assert gateway.auth_token == "t2"
    assert Counting.made[-1].asked == [
        ("Authorization", "token", "t0"),
        ("Authorization", "token", "t1"),
    ]


def test_the_renewer_may_give_the_first_token() -> None:
    """No token is configured."""
    gateway = GatewayClient(gateway_token_renewer_class=Counting)
    assert gateway.request_headers() == {"Authorization": "token t1"}


def test_one_thread_at_a_time_asks_the_renewer() -> None:
    """So that a renewer need not be thread-safe; each request gets a token of its own."""
    gateway = GatewayClient(gateway_token_renewer_class=Counting)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: gateway.request_headers()["Authorization"], range(200)))
    assert sorted(found) == sorted(f"token t{i}" for i in range(1, 201))


class OfJupyterServer(reference.GatewayTokenRenewerBase):  # type: ignore[misc]
    """Written for jupyter_server: has traits, and its gateway as the parent."""

    def get_token(self, auth_header_key: str, auth_scheme: Any, auth_token: str, **kw: Any) -> str:
        return f"{self.parent.http_pwd}+{auth_token}"


@pytest.mark.parametrize("given", [OfJupyterServer, f"{__name__}.OfJupyterServer"])
def test_a_renewer_of_jupyter_server_works(given: Any) -> None:
    """As a class or by its name; it can read the other options from its parent."""
    gateway = GatewayClient(gateway_token_renewer_class=given, auth_token="a", http_pwd="b")
    assert gateway.request_headers() == {"Authorization": "token b+a"}


class Failing(NoOpTokenRenewer):
    """Tells the token to whoever reads the log."""

    def get_token(self, auth_header_key: str, auth_scheme: Any, auth_token: str, **kw: Any) -> str:
        raise RuntimeError(f"not renewed: {auth_token}")


class Sometimes(NoOpTokenRenewer):
    """Fails while `fails` is true."""

    fails = True

    def get_token(self, auth_header_key: str, auth_scheme: Any, auth_token: str, **kw: Any) -> str:
        if self.fails:
            raise OSError
        return auth_token


def test_a_renewer_that_fails_again_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is called for each request; a failure after a success is new."""
    gateway = GatewayClient(
        gateway_token_renewer_class=Sometimes, auth_token="a", log=plain_logger()
    )
    for fails, count in ((True, 1), (True, 1), (False, 1), (True, 2)):
        monkeypatch.setattr(Sometimes, "fails", fails)
        gateway.request_headers()
        assert caplog.text.count("not renewed") == count


class NoText(NoOpTokenRenewer):
    """Gives no text."""

    def get_token(self, *args: Any, **kw: Any) -> Any:
        return {"token": SECRET}


class NoRenewer:
    """Is none at all."""


@pytest.mark.parametrize("renewer", [Failing, NoText])
def test_a_failing_renewer_leaves_the_old_token(
    renewer: type, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning, which does not have its text: the token may stand in it."""
    gateway = GatewayClient(
        gateway_token_renewer_class=renewer, auth_token=SECRET, log=plain_logger()
    )
    assert gateway.request_headers() == {"Authorization": f"token {SECRET}"}
    assert "not renewed" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (NoRenewer, "is a class without a method get_token()"),
        (GatewayTokenRenewerBase, "is a class without a method get_token()"),
        (Failing(), "is not a class"),
        ("no_such_module.Renewer", "ModuleNotFoundError: No module named 'no_such_module'; check"),
        ("json.Renewer", "cannot be imported: json has no class 'Renewer'"),
        ("Renewer", "No module named 'Renewer'; it must be written as module.Class"),
        ("broken_renewer.Renewer", "could not be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_renewer_is_told_at_once(
    given: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not be noticed later: requests go on with the token that there is."""
    (tmp_path / "broken_renewer.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TraitError) as caught:
        GatewayClient(gateway_token_renewer_class=given)
    assert str(caught.value).startswith(f"gateway_token_renewer_class={given!r} ")
    assert told in str(caught.value)
