"""What managers and clients share: options, methods without a meaning, pickling."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest
from traitlets import TraitError, Unicode
from traitlets.config import Config

from gateway_blocking.config import GatewayClient
from gateway_blocking.errors import RemoteNotSupported
from gateway_blocking.remote import GatewayMixin, RemoteKernelMixin, unsupported
from gateway_blocking.rest import GatewayREST

URL = "http://gateway.example:8888"


class Sender(GatewayMixin):
    """Anything that sends requests."""


class Kernel(RemoteKernelMixin):
    """Anything that has a remote kernel."""

    kernel_id = Unicode("k")


# --- options --------------------------------------------------------------------------------------


def test_options_are_passed_by_their_names() -> None:
    """They go to the gateway, and come before the configuration."""
    config = Config({"GatewayClient": {"url": "http://configured.example", "auth_token": "c"}})
    sender = Sender(config=config, url=URL)
    assert (sender.gateway.url, sender.gateway.auth_token) == (URL, "c")


def test_without_options_the_gateway_is_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made at once, so that a later change of the environment changes nothing."""
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", URL)
    sender = Sender()
    monkeypatch.setenv("JUPYTER_GATEWAY_URL", "http://other.example")
    assert sender.gateway.url == URL


def test_a_gateway_and_options_are_not_mixed() -> None:
    """One of both would be ignored; the error names the options."""
    with pytest.raises(TypeError, match=r"either gateway= or auth_token, url=, not both"):
        Sender(gateway=GatewayClient(url=URL), url=URL, auth_token="t")


def test_an_unknown_keyword_is_an_error_with_a_guess() -> None:
    """traitlets would warn only."""
    with pytest.raises(TypeError, match="auth_tokne.*auth_token"):
        Sender(url=URL, auth_tokne="t")


def test_a_malformed_option_is_an_error_of_the_constructor() -> None:
    """It must not wait for the first request."""
    with pytest.raises(TraitError, match="ftp"):
        Sender(url="ftp://gateway.example")


@pytest.mark.parametrize("is_shared", [False, True])
def test_only_rest_of_its_own_is_closed(is_shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of a manager shares the manager's, which goes on using it."""
    closed: list[GatewayREST] = []
    monkeypatch.setattr(GatewayREST, "close", lambda self: closed.append(self))
    gateway = GatewayClient(url=URL)
    rest = {"rest": GatewayREST(gateway)} if is_shared else {}
    sender = Sender(gateway=gateway, **rest)
    used = sender.rest
    sender._close_rest()
    assert closed == ([] if is_shared else [used])


def test_rest_that_was_never_used_is_not_made_to_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing an object costs nothing if it did nothing."""
    sender = Sender(url=URL)
    sender._close_rest()
    assert not sender.trait_has_value("rest")


# --- a remote kernel ------------------------------------------------------------------------------

IMPOSSIBLE = [
    *("connect_shell", "connect_iopub", "connect_stdin", "connect_hb", "connect_control"),
    *("write_connection_file", "load_connection_file", "load_connection_info"),
]


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_method_without_a_meaning_says_why(name: str) -> None:
    """With any arguments, by an error that names class, method and reason, and is documented."""
    method = getattr(Kernel(url=URL), name)
    with pytest.raises(RemoteNotSupported, match=rf"Kernel\.{name}\(\) is not possible: a kernel"):
        method("anything", at="all")
    assert str(inspect.getdoc(method)).startswith("Not possible, because a kernel behind")


def test_an_unsupported_method_can_be_made_for_any_class() -> None:
    """It is a method: the name of the object's class stands in the text."""

    class Thing:
        fly = unsupported("fly", "it has no wings")

    with pytest.raises(RemoteNotSupported, match=r"^Thing\.fly\(\) is not possible: it has no wi"):
        Thing().fly()
    assert Thing.fly.__name__ == "fly"


def test_what_has_a_remote_kernel_cannot_be_pickled() -> None:
    """A copy in another process would share the kernel and close it; the error says what works."""
    with pytest.raises(TypeError, match="a Kernel belongs to its process.*send its kernel_id"):
        pickle.dumps(Kernel(url=URL))


def test_the_connection_info_has_id_and_url_and_a_session_if_it_is_wanted() -> None:
    """Each call gives another session, because a gateway drops the older of two alike."""
    kernel: Any = Kernel(url=URL)
    assert kernel.get_connection_info() == {"kernel_id": "k", "url": URL}
    one, two = (kernel.get_connection_info(session=True)["session"] for _ in range(2))
    assert len({kernel.session.session, one.session, two.session}) == 3
    assert one.key == kernel.session.key
    assert kernel.ports == []
