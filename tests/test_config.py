"""The options of a gateway."""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from pathlib import Path
from typing import Any

import certifi
import pytest
from jupyter_server.gateway.gateway_client import GatewayClient as Reference
from rawserver import certificate
from traitlets import TraitError
from traitlets.config import Config, Configurable

from gateway_blocking import GatewayClient, GatewayConnectionError, GatewayError
from gateway_blocking.config import safe_url

OPTIONS = GatewayClient.class_own_traits(config=True)
# What jupyter_server's class has and ours not (yet).
NOT_OURS = {"event_logger"}


def theirs() -> list[str]:
    return sorted(set(Reference.class_own_traits(config=True)) - NOT_OURS)


@pytest.mark.parametrize("name", theirs())
def test_every_option_of_jupyter_server_is_here(name: str) -> None:
    """Same name, same variable, same default."""
    assert name in OPTIONS
    variable = getattr(Reference, f"{name}_env", None)
    if variable is not None:
        assert OPTIONS[name].metadata["env"][0] == variable
    default = getattr(Reference(), name)
    if name not in ("url", "ws_url", "gateway_token_renewer_class"):
        assert getattr(GatewayClient(), name) == default


SAMPLES = {
    "url": ("http://h:1/x", "http://h:1/x"),
    "ws_url": ("ws://h:1/x", "ws://h:1/x"),
    "headers": ('{"A": "b"}', '{"A": "b"}'),
    "validate_cert": ("no", False),
    "accept_cookies": ("yes", True),
    "gateway_token_renewer_class": (
        "collections.OrderedDict",
        __import__("collections").OrderedDict,
    ),
}


def sample(name: str) -> tuple[str, Any]:
    if name in SAMPLES:
        return SAMPLES[name]
    kind = type(OPTIONS[name]).__name__
    return {"_Seconds": ("7.5", 7.5), "_Count": ("7", 7)}.get(kind, ("some text", "some text"))


@pytest.mark.parametrize("name", [n for n, t in OPTIONS.items() if t.metadata["env"]])
def test_every_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable of each option sets it."""
    text, value = sample(name)
    for variable in OPTIONS[name].metadata["env"]:
        with monkeypatch.context() as patch:
            patch.setenv(variable, text)
            assert getattr(GatewayClient(), name) == value
            patch.setenv(variable, "")
            assert getattr(GatewayClient(), name) == OPTIONS[name].default()


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword before configuration before environment before default."""
    config = Config({"GatewayClient": {"connect_timeout": 2.0}})
    assert GatewayClient().connect_timeout == 40
    monkeypatch.setenv("JUPYTER_GATEWAY_CONNECT_TIMEOUT", "3")
    assert GatewayClient().connect_timeout == 3
    assert GatewayClient(config=config).connect_timeout == 2
    assert GatewayClient(config=config, connect_timeout=1).connect_timeout == 1
    parent = Configurable(config=config)
    assert GatewayClient(parent=parent).connect_timeout == 2
    nested = Config({"Configurable": {"GatewayClient": {"connect_timeout": 4.0}}})
    assert GatewayClient(parent=Configurable(config=nested)).connect_timeout == 4
    assert config == Config({"GatewayClient": {"connect_timeout": 2.0}})


def test_two_gateways_do_not_share() -> None:
    """It is no singleton."""
    a, b = GatewayClient(url="http://a", auth_token="1"), GatewayClient(url="http://b")
    assert (a.url, b.url, b.auth_token) == ("http://a", "http://b", "")


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", "Yes", "on", " ON "])
@pytest.mark.parametrize("positive", [True, False])
def test_spellings_of_yes_and_no(
    text: str, positive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any case, from the environment."""
    opposite = {"1": "0", "true": "false", "yes": "no", "on": "off"}
    if not positive:
        text = opposite[text.strip().lower()].upper()
    monkeypatch.setenv("JUPYTER_GATEWAY_ACCEPT_COOKIES", text)
    assert GatewayClient().accept_cookies is positive


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("JUPYTER_GATEWAY_URL", "gateway:8888", "'gateway:8888'"),
        ("JUPYTER_GATEWAY_URL", "ftp://me:sesame@host/x?y", "'ftp://host/x'"),
        ("JUPYTER_GATEWAY_URL", "http://", "name a host"),
        ("JUPYTER_GATEWAY_WS_URL", "http://host", "ws:// or wss://"),
        ("JUPYTER_GATEWAY_HEADERS", "[1]", "'[1]'"),
        ("JUPYTER_GATEWAY_HEADERS", '{"Cookie": "sesame"', '{"Cookie":...'),
        ("JUPYTER_GATEWAY_HEADERS", '{"a": 1}', "JSON object of strings"),
        ("JUPYTER_GATEWAY_CONNECT_TIMEOUT", "soon", "'soon' is not a number"),
        ("JUPYTER_GATEWAY_REQUEST_TIMEOUT", "-1", "'-1'"),
        ("JUPYTER_GATEWAY_RETRY_MAX", "2.5", "'2.5' is not a whole number"),
        ("JUPYTER_GATEWAY_VALIDATE_CERT", "perhaps", "'perhaps'"),
        ("JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS", "no.such.thing", "'no.such.thing'"),
        ("KERNEL_LAUNCH_TIMEOUT", "4,5", "'4,5'"),
    ],
)
def test_malformed_variables(
    variable: str, value: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TraitError when the object is made, with variable and value, without what is secret."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(TraitError) as caught:
        GatewayClient()
    assert variable in str(caught.value)
    assert shown in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_malformed_keywords_and_configuration() -> None:
    """The same checks, naming the option."""
    with pytest.raises(TraitError, match="url='foo'"):
        GatewayClient(url="foo")
    with pytest.raises(TraitError, match="url='foo'"):
        GatewayClient(config=Config({"GatewayClient": {"url": "foo"}}))
    with pytest.raises(TraitError, match="connect_timeout"):
        GatewayClient(connect_timeout="x")


def test_the_environment_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when read nor when a kernel's environment is made."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://x")
    before = dict(os.environ)
    gateway = GatewayClient(request_timeout=100, http_user="me")
    gateway.kernel_env({"KERNEL_A": "b"}, "/x")
    assert dict(os.environ) == before


# --- what follows from the options ----------------------------------------------------------------


def test_urls_keep_everything_but_the_scheme() -> None:
    """Case, "http" elsewhere, base paths, slashes, ports; ids are quoted."""
    gateway = GatewayClient(url="https://myHTTPhost:8443/Http-gw/")
    assert gateway.gateway_enabled
    assert gateway.kernels_url == "https://myHTTPhost:8443/Http-gw/api/kernels"
    assert gateway.api_url == "https://myHTTPhost:8443/Http-gw/api"
    assert gateway.kernelspecs_url.endswith("/Http-gw/api/kernelspecs")
    assert gateway.kernelspecs_resource_url.endswith("/Http-gw/kernelspecs")
    assert gateway.kernel_url("a/b").endswith("/api/kernels/a%2Fb")
    assert gateway.channels_url("a b", "s&t") == (
        "wss://myHTTPhost:8443/Http-gw/api/kernels/a%20b/channels?session_id=s%26t"
    )
    own = GatewayClient(url="http://a", ws_url="wss://b/c/", kernels_endpoint="/k/")
    assert own.channels_url("i", "s") == "wss://b/c/k/i/channels?session_id=s"


def test_no_gateway_is_an_error_that_says_what_to_set() -> None:
    """Not before a URL is needed."""
    gateway = GatewayClient()
    assert not gateway.gateway_enabled
    with pytest.raises(GatewayConnectionError, match="JUPYTER_GATEWAY_URL"):
        _ = gateway.kernels_url


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({}, {}),
        ({"auth_token": "t"}, {"Authorization": "token t"}),
        ({"auth_token": "t", "auth_scheme": "Bearer"}, {"Authorization": "Bearer t"}),
        ({"auth_token": "t", "auth_scheme": ""}, {"Authorization": "t"}),
        ({"auth_token": "t", "auth_scheme": None}, {"Authorization": "t"}),
        ({"auth_token": "t", "auth_header_key": "X-Key"}, {"X-Key": "token t"}),
        ({"auth_token": None}, {}),
        (
            {"http_user": "me", "http_pwd": "pw", "auth_token": "t"},
            {"Authorization": "Basic " + b64encode(b"me:pw").decode()},
        ),
        ({"http_pwd": "pw"}, {}),
        ({"headers": {"A": "b"}, "auth_token": "t"}, {"A": "b", "Authorization": "token t"}),
        ({"headers": '{"authorization": "x"}', "auth_token": "t"}, {"authorization": "x"}),
        ({"headers": ""}, {}),
    ],
)
def test_headers(options: dict[str, Any], headers: dict[str, str]) -> None:
    """The user's own go before ours, basic authentication before a token."""
    assert GatewayClient(**options).request_headers() == headers


@pytest.mark.parametrize(
    ("options", "launch", "request_timeout"),
    [
        ({}, 40, 42),
        ({"kernel_launch_timeout": 100}, 100, 102),
        ({"kernel_launch_timeout": 10}, 40, 42),
        ({"request_timeout": 60}, 58, 60),
        ({"request_timeout": 10, "kernel_launch_timeout": 10}, 10, 12),
        ({"request_timeout": 10.5}, 40, 42),
        ({"request_timeout": 1, "kernel_launch_timeout": 1, "launch_timeout_pad": 0}, 1, 1),
    ],
)
def test_the_timeouts_fit_together(
    options: dict[str, Any], launch: float, request_timeout: float
) -> None:
    """A request outlasts a launch by the pad, as jupyter_server has it, without side effects."""
    gateway = GatewayClient(**options)
    assert gateway.launch_timeout == launch
    assert gateway.effective_request_timeout == request_timeout
    assert gateway.kernel_env()["KERNEL_LAUNCH_TIMEOUT"] == str(launch)


def test_a_kernels_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL_* and allowed names of this process and of the call; cwd and user where free."""
    for name in ("KERNEL_A", "FOO", "BAR", "SECRET"):
        monkeypatch.setenv(name, "process")
    gateway = GatewayClient(allowed_envs="FOO, BAR", http_user="me")
    assert gateway.kernel_env({"KERNEL_A": "call", "BAR": "call", "SECRET": "s"}, "/w") == {
        "KERNEL_A": "call",
        "FOO": "process",
        "BAR": "call",
        "KERNEL_WORKING_DIR": "/w",
        "KERNEL_USERNAME": "me",
        "KERNEL_LAUNCH_TIMEOUT": "40",
    }
    own = {"KERNEL_WORKING_DIR": "/x", "KERNEL_USERNAME": "you"}
    assert gateway.kernel_env(own, "/w").items() >= own.items()


def test_the_old_name_of_allowed_envs() -> None:
    """Still works, with a DeprecationWarning."""
    with pytest.warns(DeprecationWarning, match="allowed_envs"):
        gateway = GatewayClient(env_whitelist="A,B")
    assert gateway.allowed_envs == "A,B"


def test_tls_is_the_same_for_both_transports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ca_certs before the environment before the usual bundle; off only when asked for."""
    _, cert = certificate(tmp_path)
    assert GatewayClient().tls_verify == certifi.where()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cert)
    assert GatewayClient().tls_verify == cert
    assert len(GatewayClient().ssl_context().get_ca_certs()) == 1
    assert GatewayClient(ca_certs=certifi.where()).tls_verify == certifi.where()
    off = GatewayClient(validate_cert=False)
    assert off.tls_verify is False
    assert off.ssl_context().verify_mode == ssl.CERT_NONE
    on = GatewayClient().ssl_context()
    assert (on.verify_mode, on.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert GatewayClient(client_cert="c").tls_cert == "c"
    assert GatewayClient(client_cert="c", client_key="k").tls_cert == ("c", "k")
    assert GatewayClient().tls_cert is None


@pytest.mark.parametrize("option", ["ca_certs", "client_cert"])
def test_an_unreadable_file_is_named(option: str) -> None:
    """With the option that it comes from."""
    with pytest.raises(GatewayError, match=f"{option}='/no/such/file'"):
        GatewayClient(**{option: "/no/such/file"}).ssl_context()


def test_nothing_secret_is_shown() -> None:
    """Neither in the repr nor in the table of options."""
    gateway = GatewayClient(url="https://me:sesame@host/x", auth_token="sesame", http_pwd="sesame")
    assert repr(gateway) == "<GatewayClient https://host/x, a token>"
    assert safe_url("http://a:b@c:1/d?token=e#f") == "http://c:1/d"


def test_the_table_has_every_option() -> None:
    """For the documentation."""
    rows = GatewayClient.table()
    assert {row[0] for row in rows} == set(OPTIONS)
    assert ("url", "URL", "JUPYTER_GATEWAY_URL") in [row[:3] for row in rows]
    assert all(row[4] for row in rows)
