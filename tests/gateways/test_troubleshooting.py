"""Each text in the table of ``docs/howto/troubleshooting.rst`` is provoked here."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway_blocking import BlockingGatewayKernelManager, GatewayError, start_new_kernel
from gateway_blocking.local import LocalGateway
from support.rawserver import Script
from support.scripted import says, scripted, stalls
from support.terminal import Terminal

ROOT = next(folder for folder in Path(__file__).parents if (folder / "setup.cfg").is_file())
PAGE = ROOT / "docs" / "howto" / "troubleshooting.rst"
ELSEWHERE = "http://gateway.invalid:8888"
BRIEF = {"request_timeout": 1, "kernel_launch_timeout": 0, "launch_timeout_pad": 0}


@dataclass
class World:
    """What a situation may need."""

    gateway: LocalGateway
    terminal: Terminal
    tls: ssl.SSLContext
    patch: pytest.MonkeyPatch


Provoke = Callable[[World], str]
PROVOKED: dict[str, Provoke] = {}


def provokes(text: str) -> Callable[[Provoke], Provoke]:
    """Register the situation whose error has this text."""

    def register(provoke: Provoke) -> Provoke:
        PROVOKED[text] = provoke
        return provoke

    return register


def start(**options: Any) -> str:
    km = BlockingGatewayKernelManager(kernel_name="python3", **options)
    with km, pytest.raises(GatewayError) as error:
        km.start_kernel()
    return str(error.value)


def served(script: Script, tls: ssl.SSLContext | None = None) -> str:
    with scripted(script, tls=tls) as server:
        return start(url=f"http{'s' * bool(tls)}://{server.where}", **BRIEF)


@contextmanager
def kernel(world: World) -> Iterator[tuple[Any, Any]]:
    km, kc = start_new_kernel(kernel_name="python3", **world.gateway.options())
    with km, kc:
        yield km, kc


@provokes("no gateway is configured")
def _(world: World) -> str:
    return start()


@provokes("Connection refused")
def _(world: World) -> str:
    return start(url="http://127.0.0.1:9")


@provokes("Name or service not known")
def _(world: World) -> str:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    world.patch.setattr(socket, "getaddrinfo", unknown)
    return start(url=ELSEWHERE)


@provokes("no connection within")
def _(world: World) -> str:
    def silent(*args: Any, **kwargs: Any) -> Any:
        raise TimeoutError("timed out")

    world.patch.setattr(socket.socket, "connect", silent)
    return start(url="http://127.0.0.1:9")


@provokes("the port answers plain HTTP")
def _(world: World) -> str:
    world.patch.setattr("gateway_blocking.tls.TLS_PATIENCE", 0.1)
    world.patch.setattr("gateway_blocking.tls.PLAIN_HTTP_TIMEOUT", 30.0)  # the machine may be busy
    return start(url=world.gateway.url.replace("http://", "https://"))


@provokes("no TLS handshake within")
def _(world: World) -> str:
    with scripted(stalls()) as server:
        return start(url=f"https://{server.where}", connect_timeout=0.5, **BRIEF)


@provokes("certificate verify failed")
def _(world: World) -> str:
    return served(says({}), tls=world.tls)


@provokes("401, Unauthorized")
def _(world: World) -> str:
    return start(url=world.gateway.url, auth_token="wrong")


@provokes("403, Forbidden")
def _(world: World) -> str:
    return served(says({"message": "Forbidden"}, "403 Forbidden"))


@provokes("404, Not Found")
def _(world: World) -> str:
    return start(**{**world.gateway.options(), "url": f"{world.gateway.url}/wrong"})


@provokes("is not JSON but a page")
def _(world: World) -> str:
    return served(says(b"<html><title>Log in</title></html>", Content_Type="text/html"))


@provokes("went through the proxy")
def _(world: World) -> str:
    world.patch.setenv("http_proxy", "http://127.0.0.1:9")
    return start(url=ELSEWHERE)


@provokes("the gateway has no kernelspec")
def _(world: World) -> str:
    with pytest.raises(GatewayError) as error:
        start_new_kernel(kernel_name="pyhton3", **world.gateway.options())
    return str(error.value)


@provokes("the gateway's limit of kernels is reached")
def _(world: World) -> str:
    return served(says({"reason": "Resource Limit"}, "403 Forbidden"))


@provokes("does not permit listing its kernels")
def _(world: World) -> str:
    with scripted(says({}, "403 Forbidden")) as server:
        km = BlockingGatewayKernelManager(url=f"http://{server.where}")
        with km, pytest.raises(GatewayError) as error:
            km.rest.list_kernels()
    return str(error.value)


@provokes("Kernel didn't respond in")
def _(world: World) -> str:
    with kernel(world) as (_, kc):
        kc.execute("import time; time.sleep(600)")
        with pytest.raises(GatewayError) as error:
            kc.wait_for_ready(timeout=0.5)
    return str(error.value)


@provokes("Timeout waiting for")
def _(world: World) -> str:
    with kernel(world) as (_, kc):
        with pytest.raises(GatewayError) as error:
            kc.execute("import time; time.sleep(600)", reply=True, timeout=0.5)
        with pytest.raises(GatewayError) as second:
            kc.execute_interactive("1", timeout=0.5)
    assert "Timeout waiting for" in str(second.value)
    return str(error.value)


@provokes("was restarted")
def _(world: World) -> str:
    with kernel(world) as (_, kc), pytest.raises(GatewayError) as error:
        kc.execute("import os; os._exit(1)", reply=True, timeout=60)
    return str(error.value)


@provokes("the kernel died")
def _(world: World) -> str:
    return world.terminal("exec", "import os; os._exit(1)").stderr


def test_the_table_has_the_provoked_texts() -> None:
    """Not one more, and not one less."""
    table = PAGE.read_text(encoding="utf-8").partition(".. list-table:: Error texts")[2]
    assert re.findall(r"^   \* - ``(.+)``$", table, re.MULTILINE) == list(PROVOKED)


@pytest.mark.parametrize("text", PROVOKED)
def test_text_is_what_the_situation_says(
    text: str,
    gateway: LocalGateway,
    terminal: Terminal,
    tls: tuple[ssl.SSLContext, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error has the text, and is a GatewayError or the line of a command."""
    assert text in PROVOKED[text](World(gateway, terminal, tls[0], monkeypatch))
