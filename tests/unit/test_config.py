"""The options of a gateway: where they come from, what is refused, what follows from them."""

from __future__ import annotations

import base64
import json
import math
import os
import socket
import ssl
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import certifi
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.gateway import gateway_client as reference
from traitlets import TraitError
from traitlets.config import Application, Config, LoggingConfigurable

from gateway_blocking import run_kernel
from gateway_blocking.config import GatewayClient
from gateway_blocking.deadline import LONGEST
from gateway_blocking.errors import GatewayConnectionError
from gateway_blocking.tokens import GatewayTokenRenewerBase, NoOpTokenRenewer
from gateway_blocking.traits import Seconds, safe_url
from gateway_blocking.urls import canonical_url

SECRET = "sesame-open"
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
OPTIONS = GatewayClient.class_traits(config=True)
VARIABLES = [
    (variable, name) for name, trait in OPTIONS.items() for variable in trait.metadata["env"]
]


def section(**options: Any) -> Config:
    return Config({"GatewayClient": options})


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
    """Where both are set, the new name counts."""
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
    """What is said explicitly counts, also where it says "as usual"."""
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
    """What is read from the environment does not leak into a shared Config, nor back."""
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


# --- what is refused ----------------------------------------------------------------------------

MALFORMED = [
    ("url", "gateway.example", "gateway.example"),
    ("url", "ftp://gateway.example", "ftp://gateway.example"),
    ("url", "http://", "http://"),
    ("url", "http:///path", "http:///path"),
    ("url", "http://h:99999", "99999"),
    ("url", "http://h:port", "port"),
    ("url", "http://[h", ""),
    ("url", f"http://me:{SECRET}", "http://me:..."),
    ("url", "http://h/my gateway", "write a space of the path as %20"),
    ("url", "http://h:99999", "has a port that is not a number from 1 to 65535"),
    ("url", "'http://h'", "has quotes around it"),
    ("url", '"http://h"', "Docker's --env-file"),
    ("url", "http:/h:8888", "='http:/h:8888' has no http:// or https:// before it"),
    ("url", "http://h/#lab", "='http://h/#...' has a fragment: leave out all from the # on"),
    ("url", "http://a..b/", "has a host name, 'a..b', that is not valid"),
    ("url", f"http://{'a' * 64}.example", "that is not valid"),
    ("url", "http://*.example", "has a host name, '*.example', that is not valid"),
    ("url", "ws://h", "ws://h"),
    ("url", f"http://h/?token={SECRET}", "http://h/"),
    ("url", f"http://h/#{SECRET}", "http://h/"),
    ("url", f"ftp://me:{SECRET}@gateway.example", "gateway.example"),
    ("url", f"me:{SECRET}@gateway.example", "password"),
    ("url", f"http//me:{SECRET}@gateway.example", "password"),
    ("url", f"http://me:{SECRET}/{SECRET}@gateway.example", "password"),
    ("url", f"http://me:#{SECRET}@gateway.example", "password"),
    ("ws_url", "http://h", "http://h"),
    ("ws_url", "h", "'h'"),
    ("headers", "X-One: 1", "X-One:..."),
    ("headers", f'{{"X-One": "{SECRET}"', '{"X-One":...'),
    ("headers", f'{{"X-One": ["{SECRET}"]}}', '{"X-One":...'),
    ("headers", f'["{SECRET}"]', "a text without a colon"),
    ("headers", f"Bearer {SECRET}", "a text without a colon"),
    ("headers", "1", "a text without a colon"),
    ("connect_timeout", "soon", "soon"),
    ("connect_timeout", "-1", "-1"),
    ("connect_timeout", "0", "0"),
    ("connect_timeout", "nan", "nan"),
    ("connect_timeout", "inf", "inf"),
    ("request_timeout", "1 s", "1 s"),
    ("request_timeout", "0", "0"),
    ("launch_timeout_pad", "-0.5", "-0.5"),
    ("kernel_launch_timeout", "forty", "forty"),
    ("kernel_launch_timeout", "-1", "-1"),
    ("gateway_retry_interval", "-1", "-1"),
    ("gateway_retry_max", "2.5", "2.5"),
    ("gateway_retry_max", "-1", "-1"),
    ("max_request_retries", "many", "many"),
    ("validate_cert", "maybe", "maybe"),
    ("accept_cookies", "2", "2"),
    ("gateway_token_renewer_class", "no.such.Class", "no.such.Class"),
    ("gateway_token_renewer_class", "os.path", "path"),
]


@pytest.mark.parametrize(("name", "text", "shown"), MALFORMED)
def test_a_malformed_variable_is_an_error_that_names_it(
    name: str, text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At construction, with the variable and the value, but without what may be secret."""
    variable = OPTIONS[name].metadata["env"][0]
    monkeypatch.setenv(variable, text)
    with pytest.raises(TraitError) as caught:
        GatewayClient()
    assert str(caught.value).startswith(f"{variable}=")
    assert shown in str(caught.value)
    assert f"{name}=" not in str(caught.value), "once is enough"
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("JUPYTER_GATEWAY_TOKEN", "; the nearest is JUPYTER_GATEWAY_AUTH_TOKEN"),
        ("JUPYTER_GATEWAY_WSURL", "; the nearest is JUPYTER_GATEWAY_WS_URL"),
        ("JUPYTER_GATEWAY_XYZ", ""),
    ],
)
def test_a_variable_that_is_no_option(
    variable: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning, without what it may tell."""
    monkeypatch.setenv(variable, SECRET)
    with pytest.warns(UserWarning, match=variable) as told:
        GatewayClient()
    assert [str(each.message) for each in told] == [f"{variable} is not an option{hint}"]


NEARLY_URL = [
    *("JUPYTER_GATEWAY_ULR", "JUPYTER_GATEWAY_URI", "JUPYTER_GATEWY_URL", "JUPYTER_GATEWAYURL"),
    *("JUPYTERGATEWAY_URL", "JUPYTER_GATEWAY__URL"),
]


@pytest.mark.parametrize("variable", NEARLY_URL)
def test_nearly_the_variable_of_the_url_is_an_error(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URL the code would run on this machine, and nothing would fail."""
    monkeypatch.setenv(variable, f"http://me:{SECRET}@h")
    with pytest.raises(
        TraitError, match=f"{variable} is not an option; the nearest is JUPYTER_GATEWAY_URL"
    ):
        GatewayClient()


@pytest.mark.parametrize("variable", NEARLY_URL[:2])
def test_nearly_the_variable_of_the_url_is_a_warning_beside_a_url(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it changes nothing, as any other variable that is no option."""
    monkeypatch.setenv(variable, SECRET)
    with pytest.warns(
        UserWarning, match=f"^{variable} is not an option; the nearest is JUPYTER_GATEWAY_URL$"
    ):
        GatewayClient(url="http://h")


def test_other_variables_of_jupyter_are_no_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JupyterHub sets them."""
    for name in ("JUPYTER_SERVER_URL", "JUPYTERHUB_API_URL", "JUPYTER_PATH", "JUPYTER_TOKEN"):
        monkeypatch.setenv(name, "http://h")
    assert not GatewayClient().gateway_enabled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "https://h", "ws_url": "ws://me:sesame-open@w"}, "ws_url='ws://w' would send"),
        ({"url": "HTTPS://h", "ws_url": "WS://h"}, "ws_url must begin with wss://"),
    ],
)
def test_a_token_is_not_sent_in_clear_beside_tls(options: dict[str, str], message: str) -> None:
    """By keyword, from a file, from the environment, or when an option is changed later."""
    with pytest.raises(TraitError, match=message) as caught:
        GatewayClient(**options)
    assert SECRET not in str(caught.value)
    with pytest.raises(TraitError, match=message):
        GatewayClient(config=section(ws_url=options["ws_url"]), url=options["url"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_GATEWAY_WS_URL", options["ws_url"])
        with pytest.raises(TraitError, match=message):
            GatewayClient(url=options["url"])
    gateway = GatewayClient(url="http://h", ws_url=options["ws_url"])
    with pytest.raises(TraitError, match=message):
        gateway.url = options["url"]
    assert gateway.channels_url("k", "s").startswith("ws://")
    assert GatewayClient(url="https://h", ws_url="wss://w").ws_url == "wss://w"


@pytest.mark.parametrize(("given", "meant"), [("kernel", "kernel_name"), ("token", "auth_token")])
def test_a_keyword_as_on_the_command_line_gets_a_hint(given: str, meant: str) -> None:
    """--kernel and --token are kernel_name and auth_token here."""
    with pytest.raises(TypeError, match=f"{given!r}; the nearest is {meant!r}"):
        run_kernel(**{given: "python3", "url": "http://127.0.0.1:9"}).__enter__()


@pytest.mark.parametrize("name", ["auth_token", "http_pwd"])
def test_quotes_around_a_secret_are_told_when_it_is_refused(name: str) -> None:
    """Docker's --env-file keeps them; but they may belong to it, so they are sent."""
    gateway = GatewayClient(**{name: f'"{SECRET}"'})
    assert gateway.login_note.startswith(f"{name} has quotes around it, which are sent, too")
    assert SECRET not in gateway.login_note
    assert GatewayClient(**{name: SECRET}).login_note == ""


@pytest.mark.parametrize(("name", "text", "shown"), MALFORMED)
def test_a_malformed_command_line_is_an_error_that_names_it(
    name: str, text: str, shown: str
) -> None:
    """The same checks, with the name of the option."""

    class App(Application):
        classes = [GatewayClient]  # noqa: RUF012

    app = App()
    app.parse_command_line([f"--GatewayClient.{name}={text}"])
    with pytest.raises(TraitError, match=name) as caught:
        GatewayClient(parent=app)
    assert shown in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth_token", 12345),
        ("auth_token", SECRET.encode()),
        ("http_pwd", [SECRET]),
        ("headers", [SECRET]),
        ("headers", {"X-One": SECRET.encode()}),
        ("headers", {"X-One": 12345}),
        ("url", SECRET.encode()),
        ("connect_timeout", "12345"),
        ("validate_cert", 12345),
    ],
)
def test_a_keyword_of_the_wrong_type_is_an_error(name: str, value: Any) -> None:
    """It names the option; a value that is secret is not shown, of whatever type it is."""
    with pytest.raises(TraitError, match=name) as caught:
        GatewayClient(**{name: value})
    if name in ("auth_token", "http_pwd", "headers"):
        text = "".join(traceback.format_exception(caught.value, limit=0))
        assert SECRET not in text
        assert "12345" not in text


@pytest.mark.parametrize("text", ["1", "true", "True", "YES", "yes", "On", " on "])
@pytest.mark.parametrize("how", ["environment", "configuration", "keyword"])
def test_yes_in_all_its_spellings(text: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a variable, in a file and in code alike."""
    assert switched(text, how, "accept_cookies", monkeypatch) is True


@pytest.mark.parametrize("text", ["0", "false", "False", "NO", "no", "Off", " off "])
@pytest.mark.parametrize("how", ["environment", "configuration", "keyword"])
def test_no_in_all_its_spellings(text: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``False`` does not mean True, as it does in jupyter_server."""
    assert switched(text, how, "validate_cert", monkeypatch) is False


def switched(text: str, how: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    if how == "environment":
        monkeypatch.setenv(f"JUPYTER_GATEWAY_{name.upper()}", text)
        return getattr(GatewayClient(), name)
    if how == "configuration":
        return getattr(GatewayClient(config=section(**{name: text})), name)
    return getattr(GatewayClient(**{name: text}), name)


@pytest.mark.parametrize("value", [True, 1])
def test_a_switch_takes_what_python_has(value: Any) -> None:
    """True and 1 as they are."""
    assert GatewayClient(accept_cookies=value).accept_cookies is True


def test_repr_shows_no_secret() -> None:
    """Where it goes and whether there is a token, for a log or a debugger."""
    gateway = GatewayClient(url=f"http://me:{SECRET}@h.example/x", auth_token=SECRET)
    assert repr(gateway) == "<GatewayClient http://h.example/x, a token>"
    assert repr(GatewayClient()) == "<GatewayClient no url, no token>"


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
    """What REST and the websocket are given is normalized already, and ASCII."""
    url = GatewayClient(url="http://h/b", kernels_endpoint=path).kernels_url
    assert url.isascii()
    assert requests.Request("GET", url).prepare().url == url == canonical_url(url)


def test_a_websocket_url_of_its_own_is_used() -> None:
    """Where a proxy has the websockets elsewhere."""
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


# --- headers ------------------------------------------------------------------------------------


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


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


class Counting(GatewayTokenRenewerBase):
    """Gives t1, t2, ...; and notices if two threads ask at once."""

    made: ClassVar[list[Counting]] = []

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        Counting.made.append(self)
        self.asked: list[tuple[str, str | None, str]] = []
        self.busy = threading.Lock()

    def get_token(
        self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
    ) -> str:
        assert self.busy.acquire(blocking=False), "two threads at once"
        try:
            self.asked.append((auth_header_key, auth_scheme, auth_token))
            time.sleep(0.001)  # long enough for another thread
            return f"t{len(self.asked)}"
        finally:
            self.busy.release()


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
    """Where none is configured."""
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
        gateway_token_renewer_class=renewer, auth_token=SECRET, log=_plain_logger()
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


def _plain_logger() -> Any:
    import logging

    return logging.getLogger("tests")


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


# --- the environment of a kernel ----------------------------------------------------------------


def test_the_environment_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL_* and the allowed names, from the caller before this process, and nothing else."""
    monkeypatch.setenv("KERNEL_A", "process")
    monkeypatch.setenv("KERNEL_B", "process")
    monkeypatch.setenv("ALLOWED", "process")
    monkeypatch.setenv("TOO", "process")
    monkeypatch.setenv("PRIVATE", SECRET)
    gateway = GatewayClient(allowed_envs=" ALLOWED, TOO ,,MISSING")
    extra = {"KERNEL_B": "caller", "TOO": "caller", "OTHER": "caller"}
    assert gateway.kernel_env(extra) == {
        "KERNEL_A": "process",
        "KERNEL_B": "caller",
        "ALLOWED": "process",
        "TOO": "caller",
        "KERNEL_LAUNCH_TIMEOUT": "40",
    }
    assert extra == {"KERNEL_B": "caller", "TOO": "caller", "OTHER": "caller"}


def test_what_is_not_sent_is_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """Someone who wonders why a variable is missing finds it in the log, without its value."""
    caplog.set_level("DEBUG", "tests")
    GatewayClient(log=_plain_logger()).kernel_env({"MINE": SECRET, "KERNEL_X": "1"})
    assert "not in allowed_envs: MINE" in caplog.text
    assert SECRET not in caplog.text


def test_the_working_directory_and_the_user_of_a_kernel() -> None:
    """From what is known here, unless the caller says otherwise."""
    gateway = GatewayClient(http_user="ada")
    env = gateway.kernel_env(cwd="/work")
    assert (env["KERNEL_WORKING_DIR"], env["KERNEL_USERNAME"]) == ("/work", "ada")
    own = {"KERNEL_WORKING_DIR": "/own", "KERNEL_USERNAME": "me"}
    env = gateway.kernel_env(own, cwd="/work")
    assert (env["KERNEL_WORKING_DIR"], env["KERNEL_USERNAME"]) == ("/own", "me")
    assert not own.keys() & GatewayClient().kernel_env().keys()


def test_whose_kernels_these_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """KERNEL_USERNAME's, then that of the login, else nobody's."""
    assert GatewayClient().kernel_username == ""
    gateway = GatewayClient(http_user="ada")
    assert gateway.kernel_username == "ada"
    monkeypatch.setenv("KERNEL_USERNAME", "bob")
    assert gateway.kernel_username == gateway.kernel_env()["KERNEL_USERNAME"] == "bob"


def test_the_environment_can_be_sent_as_json() -> None:
    """Also where a caller gives a path or a number."""
    env = GatewayClient().kernel_env({"KERNEL_N": 1}, cwd=Path("/work"))  # type: ignore[arg-type,dict-item]
    assert json.loads(json.dumps(env)) == env
    assert env["KERNEL_N"] == "1"


SECONDS = sorted(n for n, t in GatewayClient.class_traits().items() if isinstance(t, Seconds))


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [1e10, 10**20, 1e300])
def test_a_huge_time_is_one_that_the_system_can_wait_for(name: str, value: float) -> None:
    """Some 24 days: sockets and locks refuse more, by an OverflowError in a call."""
    gateway = GatewayClient(**{name: value})
    assert getattr(gateway, name) == LONGEST
    with socket.socket() as sock:
        sock.settimeout(getattr(gateway, name))
    threading.Lock().acquire(timeout=getattr(gateway, name))
    assert gateway.effective_request_timeout < threading.TIMEOUT_MAX


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -1e300, 10**400, -(10**400)])
def test_a_time_that_is_none_is_refused_where_it_is_set(name: str, value: float) -> None:
    """By an error that names it, as a keyword and later."""
    with pytest.raises(TraitError, match=name):
        GatewayClient(**{name: value})
    gateway = GatewayClient()
    with pytest.raises(TraitError, match=name):
        setattr(gateway, name, value)
