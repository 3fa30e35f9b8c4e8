"""The types of options: which values are refused, and how an error shows them."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from traitlets import TraitError
from traitlets.config import Application

from gateway_blocking import run_kernel
from gateway_blocking.config import GatewayClient
from support.options import OPTIONS, SECRET, section

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


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("request_timeout", -1, "a number of seconds of at least 0.001"),
        ("request_timeout", "x", "a number of seconds of at least 0.001"),
        ("ws_ping_interval", -1, "a number of seconds of at least 0"),
        ("gateway_retry_max", -1, "a whole number of at least 0"),
        ("gateway_retry_max", 1.5, "a whole number of at least 0"),
        ("ws_max_message_size", 10, "a whole number of at least 1024"),
        ("validate_cert", 3, "true or false"),
    ],
)
def test_a_bad_number_is_told_in_the_words_of_other_errors(
    name: str, value: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """traitlets would tell of a trait of an instance."""
    with pytest.raises(TraitError) as caught:
        GatewayClient(**{name: value})
    assert str(caught.value) == f"{name}={value!r} is not {what}"
    if isinstance(value, int) and value != 3:
        variable = OPTIONS[name].metadata["env"][0]
        monkeypatch.setenv(variable, str(value))
        with pytest.raises(TraitError, match=rf"^{variable}={value}(\.0)? is not {what}$"):
            GatewayClient()


@pytest.mark.parametrize(("given", "meant"), [("kernel", "kernel_name"), ("token", "auth_token")])
def test_a_keyword_as_on_the_command_line_gets_a_hint(given: str, meant: str) -> None:
    """--kernel and --token are kernel_name and auth_token here."""
    match = rf"^run_kernel\(\) got .*{given!r}; the nearest is {meant!r}"
    with pytest.raises(TypeError, match=match):
        run_kernel(**{given: "python3", "url": "http://127.0.0.1:9"}).__enter__()


@pytest.mark.parametrize("name", ["auth_token", "http_pwd"])
def test_quotes_around_a_secret_are_told_when_it_is_refused(name: str) -> None:
    """Docker's --env-file keeps them; but they may belong to it, so they are sent."""
    gateway = GatewayClient(**{name: f'"{SECRET}"'})
    assert gateway.login_note.startswith(f"{name} (JUPYTER_GATEWAY_{name.upper()}) has quotes")
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
    """It shows the URL and whether there is a token, for a log or a debugger."""
    gateway = GatewayClient(url=f"http://me:{SECRET}@h.example/x", auth_token=SECRET)
    assert repr(gateway) == "<GatewayClient http://h.example/x, a token>"
    assert repr(GatewayClient()) == "<GatewayClient no url, no token>"
