"""No token or password is printed by a command, however it was mistyped."""

from __future__ import annotations

import subprocess

import pytest

from gateway_blocking.adapters import proxy_for
from gateway_blocking.errors import GatewayConnectionError
from support.terminal import Terminal, errors

SECRET = "sesame-open"


def without_secret(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that the command wrote."""
    assert SECRET not in done.stdout + done.stderr
    assert done.returncode == 2
    [line] = errors(done)
    return line


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([f"--token={SECRET}", f"--token={SECRET}"], "--token is given more than once"),
        (
            [f"--GatewayClient.http_pwd={SECRET}", f"--GatewayClient.http_pwd={SECRET}"],
            "--GatewayClient.http_pwd is given more than once",
        ),
        ([f"--url=http://me:{SECRET}@h", "--url=http://h"], "--url is given more than once"),
        ([f"--GatewayClient.auth_token.x={SECRET}"], "--GatewayClient.auth_token.x is malformed"),
        ([f"--auth-token={SECRET}"], "there is no option --auth-token; the nearest is --token"),
        ([f"--token:{SECRET}"], "there is no option --token"),
        ([f"---token={SECRET}"], "there is no option --token"),
        ([f"--debug={SECRET}"], "--debug takes no value"),
        (["--token", SECRET, SECRET], "the command takes no arguments, got 1"),
        ([f"token={SECRET}"], "the command takes no arguments, got 1"),
        ([f"--url=http://me:{SECRET}"], "url='http://me:...' has a port that is not a number"),
        ([f"--url=https://me:{SECRET}@h", "--GatewayClient.ws_url=ws://h"], "without encryption"),
    ],
)
def test_a_mistyped_option_does_not_show_its_value(
    terminal: Terminal, args: list[str], told: str
) -> None:
    """One line says which option, and status 2."""
    assert told in without_secret(terminal("kernels", *args))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"c.GatewayClient.auth_token = {SECRET.replace('-', '_')}", "NameError: line 2; text,"),
        (f"c.GatewayClient.auth_token = '{SECRET}", "SyntaxError: line 2; text, such as a token"),
        (f"c.GatewayClient.auth_token = {SECRET} {SECRET}", "SyntaxError: line 2"),
        (f"int('{SECRET}')", "ValueError: line 2"),
        (f"c.GatewayClient.auth_token = open('/no/such/file').read(), '{SECRET}'", "No such file"),
        (f"c.GatewayClient.auth_token = ['{SECRET}']", "auth_token must be text"),
        (f"c.GatewayClient.headers = ['{SECRET}']", "headers="),
    ],
)
def test_a_configuration_file_does_not_show_its_lines(
    terminal: Terminal, line: str, told: str
) -> None:
    """Only the kind of the error and the number of the line; with --debug neither."""
    secret = SECRET.replace("-", "_")
    terminal.write("gateway.py", f"c = get_config()\n{line}\n")
    assert told in without_secret(terminal("kernels", "--config=gateway.py"))
    done = terminal("kernels", "--config=gateway.py", "--debug")
    assert SECRET not in done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr


def test_what_is_configured_is_shown_without_secrets(terminal: Terminal) -> None:
    """As traitlets shows it on demand."""
    args = [f"--token={SECRET}", f"--url=http://me:{SECRET}@h/base", "--GatewayClient.http_user=me"]
    done = terminal("kernels", "--Application.show_config=True", *args)
    assert SECRET not in done.stdout + done.stderr
    assert "http://h/base" in done.stdout
    assert "'me'" in done.stdout


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("proxy:3128", r"^HTTPS_PROXY='proxy:3128' needs http:// before the proxy's name"),
        (f"me:{SECRET}@proxy:3128", r"^HTTPS_PROXY needs http:// before"),
    ],
)
def test_a_proxy_without_a_scheme_is_named(
    value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its variable, for REST and the websocket, and without its password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    for url in ("https://h.example/api", "wss://h.example/api"):
        with pytest.raises(GatewayConnectionError, match=told) as caught:
            proxy_for(url)
        assert SECRET not in str(caught.value)
    assert proxy_for("http://h.example/api") is None


def test_the_commands_name_a_proxy_without_a_scheme(terminal: Terminal) -> None:
    """In one line."""
    for command in ("kernels", "status"):
        done = terminal(command, "--url=https://h.example", HTTPS_PROXY="proxy:3128")
        assert done.returncode == 3
        assert "HTTPS_PROXY='proxy:3128' needs http://" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
