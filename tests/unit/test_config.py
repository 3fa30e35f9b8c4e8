"""The options of a gateway: where they come from, and what follows from them."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.gateway import gateway_client as reference
from traitlets.config import Application, Config, LoggingConfigurable

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import GatewayConnectionError
from gateway_blocking.tokens import NoOpTokenRenewer
from gateway_blocking.traits import safe_url
from gateway_blocking.urls import canonical_url
from support.options import OPTIONS, SECRET, Counting, basic, section

URL = "https://Host.example:8443/Base/http-gw/"

# A value of each option's type that is not its default: as text, and as it then is.
VALUES: dict[str, tuple[str, Any]] = {
    "url": (URL, URL),
    "ws_url": ("wss://other.example/ws", "wss://other.example/ws"),
    "kernels_endpoint": ("/k", "/k"),
    "kernelspecs_endpoint": ("/s", "/s"),
    "kernelspecs_resource_endpoint": ("/r", "/r"),
    "connect_timeout": ("7.5", 7.5),
    "request_timeout": ("77", 77.0),
    "client_key": ("/key.pem", "/key.pem"),
    "client_cert": ("/cert.pem", "/cert.pem"),
    "ca_certs": ("/ca.pem", "/ca.pem"),
    "http_user": ("ada", "ada"),
    "http_pwd": ("'pw'", "'pw'"),
    "headers": ('{"X-One": "1"}', '{"X-One": "1"}'),
    "auth_header_key": ("X-Token", "X-Token"),
    "auth_token": ("~/tok", "~/tok"),
    "auth_scheme": ("Bearer", "Bearer"),
    "validate_cert": ("False", False),
    "allowed_envs": ("A, B", "A, B"),
    "env_whitelist": ("A, B", "A, B"),
    "gateway_retry_interval": ("0.5", 0.5),
    "gateway_retry_interval_max": ("9", 9.0),
    "gateway_retry_max": ("2", 2),
    "ws_ping_interval": ("15", 15.0),
    "ws_ping_timeout": ("2.5", 2.5),
    "ws_max_message_size": ("1048576", 1048576),
    "max_unread_size": ("0", 0),
    "gateway_token_renewer_class": ("tests_renewer.None", None),  # has tests of its own
    "launch_timeout_pad": ("3", 3.0),
    "accept_cookies": ("YES", True),
    "max_request_retries": ("4", 4),
    "kernel_launch_timeout": ("90", 90.0),
    "event_logger": ("", None),  # an object: no text stands for one
}
VARIABLES = [
    (variable, name) for name, trait in OPTIONS.items() for variable in trait.metadata["env"]
]


# --- the options --------------------------------------------------------------------------------


def test_every_option_of_jupyter_server_is_there() -> None:
    """Same names, same variables, same defaults; but that nobody is told of events by default."""
    other = reference.GatewayClient()
    theirs = other.class_own_traits(config=True).keys()
    added = {"ws_ping_interval", "ws_ping_timeout", "ws_max_message_size", "max_unread_size"}
    assert theirs == OPTIONS.keys() - {"max_request_retries", "kernel_launch_timeout"} - added
    ours = GatewayClient()
    for name in theirs - {"gateway_token_renewer_class", "event_logger"}:
        assert getattr(ours, name) == getattr(other, name), name
    assert ours.gateway_token_renewer_class is NoOpTokenRenewer
    for name in theirs - {"env_whitelist", "event_logger"}:
        assert OPTIONS[name].metadata["env"][0] == getattr(other, f"{name}_env"), name
    assert ours.max_request_retries == reference.RetryableHTTPClient.MAX_RETRIES_DEFAULT
    assert ours.kernel_launch_timeout == reference.GatewayClient.KERNEL_LAUNCH_TIMEOUT


def test_each_option_has_a_help_and_a_test() -> None:
    """The documentation shows the help, which is a sentence."""
    assert OPTIONS.keys() == VALUES.keys()
    assert all((trait.help or "").endswith(".") for trait in OPTIONS.values())


@pytest.mark.parametrize(("variable", "name"), VARIABLES)
def test_an_option_comes_from_its_variable(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbatim: a token may begin with a tilde, and quotes are part of a password."""
    text, value = VALUES[name]
    if name == "gateway_token_renewer_class":
        text, value = f"{__name__}.Counting", Counting
    monkeypatch.setenv(variable, text)
    assert getattr(GatewayClient(), name) == value


@pytest.mark.parametrize(("variable", "name"), VARIABLES)
def test_an_empty_variable_is_none(
    variable: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``JUPYTER_GATEWAY_URL= command`` switches a variable off."""
    default = getattr(GatewayClient(), name)
    monkeypatch.setenv(variable, "")
    assert getattr(GatewayClient(), name) == default


def test_the_old_variable_of_allowed_envs_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """If both are set, the new name counts."""
    monkeypatch.setenv("JUPYTER_GATEWAY_ENV_WHITELIST", "OLD")
    monkeypatch.setenv("JUPYTER_GATEWAY_ALLOWED_ENVS", "NEW")
    assert GatewayClient().allowed_envs == "NEW"


def test_env_whitelist_is_deprecated_and_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing configuration goes on, with a warning, and before the environment."""
    monkeypatch.setenv("JUPYTER_GATEWAY_ALLOWED_ENVS", "ENV")
    with pytest.warns(DeprecationWarning, match="allowed_envs"):
        assert GatewayClient(config=section(env_whitelist="A")).allowed_envs == "A"
    with pytest.warns(DeprecationWarning, match="allowed_envs"):
        configured = GatewayClient(config=section(allowed_envs="B"), env_whitelist="A")
    assert configured.allowed_envs == "A"


# --- where they come from -----------------------------------------------------------------------


class BlockingGatewayKernelManager(LoggingConfigurable):
    """Stands for any parent; named as the one that users configure."""


def test_the_order_is_keyword_configuration_environment_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each source goes before the next, for each option on its own."""
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_SCHEME", "env")
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", "env")
    monkeypatch.setenv("JUPYTER_GATEWAY_HTTP_USER", "env")
    gateway = GatewayClient(config=section(auth_scheme="file", auth_token="file"), auth_scheme="kw")
    assert gateway.auth_scheme == "kw"
    assert gateway.auth_token == "file"
    assert gateway.http_user == "env"
    assert gateway.auth_header_key == "Authorization"


def test_a_keyword_may_also_be_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit value counts, also if it is the default."""
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_SCHEME", "env")
    assert GatewayClient(auth_scheme="token").auth_scheme == "token"
    assert GatewayClient(auth_scheme=None).auth_scheme is None


def test_configuration_of_a_parent_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The parent's configuration is used, and its own section before the general one."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://env.example")
    general = {"url": "http://general.example", "auth_token": "general"}
    own = {"GatewayClient": {"url": "http://own.example"}}
    config = Config({"GatewayClient": general, "BlockingGatewayKernelManager": own})
    gateway = GatewayClient(parent=BlockingGatewayKernelManager(config=config))
    assert gateway.url == "http://own.example"
    assert gateway.auth_token == "general"
    keyword = GatewayClient(
        parent=BlockingGatewayKernelManager(config=config), url="http://kw.example"
    )
    assert keyword.url == "http://kw.example"


def test_a_parent_without_configuration_leaves_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child of a manager that nobody configured is configured by the variables."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://env.example")
    assert GatewayClient(parent=BlockingGatewayKernelManager()).url == "http://env.example"


def test_the_configuration_that_was_given_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of the environment do not leak into a shared Config, nor back."""
    monkeypatch.setenv("JUPYTER_GATEWAY_AUTH_TOKEN", SECRET)
    config = section(url="http://h.example")
    GatewayClient(config=config)
    GatewayClient(parent=BlockingGatewayKernelManager(config=config))
    assert config == section(url="http://h.example")


def test_a_subclass_reads_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone's own class has the same options, variables and section."""

    class MyGateway(GatewayClient):
        pass

    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://env.example")
    gateway = MyGateway(config=section(auth_token="file"))
    assert (gateway.url, gateway.auth_token) == ("http://env.example", "file")
    assert MyGateway.class_traits(config=True).keys() == OPTIONS.keys()


def test_the_command_line_works_as_with_jupyter_server() -> None:
    """``--GatewayClient.url=...`` and all other types of options, as text."""

    class App(Application):
        classes = [GatewayClient]  # noqa: RUF012  # as traitlets wants it

    texts = {
        n: t
        for n, (t, _) in VALUES.items()
        if n not in ("gateway_token_renewer_class", "event_logger")
    }
    app = App()
    app.parse_command_line([f"--GatewayClient.{name}={text}" for name, text in texts.items()])
    with pytest.warns(DeprecationWarning, match="allowed_envs"):
        gateway = GatewayClient(parent=app)
    assert {name: getattr(gateway, name) for name in texts} == {n: VALUES[n][1] for n in texts}


def test_two_gateways_live_side_by_side() -> None:
    """Nothing is shared by the objects of one process, and none is a singleton."""
    one = GatewayClient(url="http://one.example", auth_token="1")
    two = GatewayClient(url="http://two.example", auth_token="2")
    assert one.kernels_url != two.kernels_url
    assert one.request_headers() != two.request_headers()


def test_the_environment_is_read_once_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of a variable changes no gateway that exists."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://env.example")
    before = dict(os.environ)
    gateway = GatewayClient(http_user="ada", kernel_launch_timeout=100)
    gateway.kernel_env({"KERNEL_X": "1"}, cwd="/here")
    gateway.request_headers()
    gateway.ssl_context()
    assert dict(os.environ) == before
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://later.example")
    assert gateway.url == "http://env.example"


# --- URLs ---------------------------------------------------------------------------------------


def test_urls_are_below_the_base_path() -> None:
    """With port and base path as they are, the host in lower case, and no slash twice."""
    gateway = GatewayClient(url=URL)
    assert gateway.gateway_enabled
    base = "https://host.example:8443/Base/http-gw"
    assert gateway.api_url == f"{base}/api"
    assert gateway.kernels_url == f"{base}/api/kernels"
    assert gateway.kernelspecs_url == f"{base}/api/kernelspecs"
    assert gateway.kernelspecs_resource_url == f"{base}/kernelspecs"
    assert gateway.kernel_url("id") == f"{base}/api/kernels/id"


@pytest.mark.parametrize(
    ("url", "websocket"),
    [
        (URL, "wss://host.example:8443/Base/http-gw"),
        ("http://bücher.example/ü", "ws://xn--bcher-kva.example/%C3%BC"),
        ("HTTPS://myhttphost/Http-gw", "wss://myhttphost/Http-gw"),
        ("HTTP://h:80", "ws://h:80"),
        (" http://[::1]:8888/ ", "ws://[::1]:8888"),
    ],
)
def test_the_websocket_differs_in_its_scheme_only(url: str, websocket: str) -> None:
    """Also where the host or the path contain "http", and however the scheme is written."""
    channels = GatewayClient(url=url).channels_url("k", "s")
    assert channels == f"{websocket}/api/kernels/k/channels?session_id=s"


@given(st.text(st.characters(exclude_characters="?#\t\n\r"), max_size=20))
def test_urls_stay_as_they_are_when_requests_sends_them(path: str) -> None:
    """The URLs of REST and of the websocket are normalized already, and ASCII."""
    url = GatewayClient(url="http://h/b", kernels_endpoint=path).kernels_url
    assert url.isascii()
    assert requests.Request("GET", url).prepare().url == url == canonical_url(url)


def test_a_websocket_url_of_its_own_is_used() -> None:
    """A proxy may have the websockets elsewhere."""
    gateway = GatewayClient(url="http://h", ws_url="WSS://W:1/b/")
    assert gateway.channels_url("k", "s") == "wss://w:1/b/api/kernels/k/channels?session_id=s"
    assert gateway.kernels_url == "http://h/api/kernels"


@pytest.mark.parametrize("endpoint", ["/x/kernels", "x/kernels/"])
def test_endpoints_may_have_slashes_or_not(endpoint: str) -> None:
    """At both ends."""
    gateway = GatewayClient(
        url="http://h/",
        kernels_endpoint=endpoint,
        kernelspecs_endpoint=endpoint,
        kernelspecs_resource_endpoint=endpoint,
    )
    assert gateway.kernels_url == "http://h/x/kernels"
    assert gateway.kernelspecs_url == gateway.kernelspecs_resource_url == "http://h/x/kernels"
    assert gateway.channels_url("k", "s").startswith("ws://h/x/kernels/k/channels")


def test_ids_are_quoted() -> None:
    """An odd id addresses nothing else, and is not split."""
    gateway = GatewayClient(url="http://h")
    assert gateway.kernel_url("../a b?") == "http://h/api/kernels/..%2Fa%20b%3F"
    assert gateway.channels_url("a/b", "s&t=ü").endswith(
        "/a%2Fb/channels?session_id=s%26t%3D%C3%BC"
    )


@pytest.mark.parametrize("url", [None, "", "  "])
def test_without_a_url_no_gateway_is_configured(url: str | None) -> None:
    """One may ask; what needs a URL says what to set."""
    gateway = GatewayClient(url=url)
    assert not gateway.gateway_enabled
    for ask in (lambda: gateway.kernels_url, lambda: gateway.channels_url("k", "s")):
        with pytest.raises(GatewayConnectionError, match="set JUPYTER_GATEWAY_URL"):
            ask()


def test_a_login_in_the_url_stays_out_of_the_others() -> None:
    """It becomes a header, and stands in no URL that may be logged."""
    gateway = GatewayClient(url=f"https://me:{SECRET}@h:1/b", ws_url=f"wss://me:{SECRET}@w")
    assert gateway.kernels_url == "https://h:1/b/api/kernels"
    assert gateway.channels_url("k", "s") == "wss://w/api/kernels/k/channels?session_id=s"
    assert gateway.request_headers() == {"Authorization": basic("me", SECRET)}


def test_safe_url_hides_what_may_be_secret() -> None:
    """User, password, query and fragment."""
    assert safe_url("http://me:p@w@h:1/a/b?token=t#f") == "http://h:1/a/b"


# --- TLS ----------------------------------------------------------------------------------------


def test_what_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """validate_cert, then ca_certs, then the usual variables, then certifi's."""
    assert GatewayClient().tls_verify == certifi.where()
    monkeypatch.setenv("CURL_CA_BUNDLE", "/curl.pem")
    assert GatewayClient().tls_verify == "/curl.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert GatewayClient().tls_verify == "/requests.pem"
    assert GatewayClient(ca_certs="/mine.pem").tls_verify == "/mine.pem"
    assert GatewayClient(ca_certs="/mine.pem", validate_cert=False).tls_verify is False


def test_the_client_certificate() -> None:
    """With a key or without; a key alone is none."""
    assert GatewayClient().tls_cert is None
    assert GatewayClient(client_cert="/c").tls_cert == "/c"
    assert GatewayClient(client_cert="/c", client_key="/k").tls_cert == ("/c", "/k")
    assert GatewayClient(client_key="/k").tls_cert is None


def test_a_file_may_be_in_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not expand the tilde in the middle of a word."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("JUPYTER_GATEWAY_CLIENT_KEY", "~/key.pem")
    gateway = GatewayClient(ca_certs=Path("~/ca.pem"), client_cert="")
    assert gateway.ca_certs == "/home/ada/ca.pem"
    assert gateway.client_key == "/home/ada/key.pem"
    assert gateway.client_cert is None


def test_the_context_may_trust_anybody() -> None:
    """validate_cert=False switches off both the chain and the name, with a ca_certs or without."""
    for options in ({}, {"ca_certs": "/no/such/file"}):
        context = GatewayClient(validate_cert=False, **options).ssl_context()
        assert context.verify_mode == ssl.CERT_NONE
        assert not context.check_hostname


# --- time-outs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "request_timeout", "pad", "expected"),
    [
        (40, 42, 2, (40, 42)),
        (100, 42, 2, (100, 102)),
        (10, 42, 2, (40, 42)),
        (40, 60, 2, (58, 60)),
        (10, 10, 2, (10, 12)),
        (40, 10.5, 2, (40, 42)),
        (4.5, 1, 2, (5, 7)),
        (0, 0.5, 0, (0, 0.5)),
        (2_000_000, 42, 2, (2_000_000, 2_000_002)),
    ],
)
def test_a_request_outlasts_a_launch(
    launch: float, request_timeout: float, pad: float, expected: tuple[int, float]
) -> None:
    """jupyter_server's rule: each of both time-outs may extend the other; in whole seconds."""
    gateway = GatewayClient(
        kernel_launch_timeout=launch, request_timeout=request_timeout, launch_timeout_pad=pad
    )
    assert (gateway.launch_timeout, gateway.effective_request_timeout) == expected
    assert gateway.kernel_env()["KERNEL_LAUNCH_TIMEOUT"] == str(expected[0])
    assert gateway.request_timeout == request_timeout, "no option changes by itself"
