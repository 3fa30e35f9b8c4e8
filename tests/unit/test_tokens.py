"""Token renewers, as such; who asks them is in test_config."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from jupyter_server.gateway import gateway_client as reference
from traitlets import Unicode
from traitlets.config import Config

from gateway_blocking import GatewayClient
from gateway_blocking.tokens import GatewayTokenRenewerBase, NoOpTokenRenewer


def test_a_renewer_must_have_get_token() -> None:
    """Forgetting it is found when the renewer is made, not at the first request."""

    class Forgetful(GatewayTokenRenewerBase):
        pass

    with pytest.raises(TypeError, match="get_token"):
        Forgetful()  # type: ignore[abstract]


def test_the_default_keeps_the_token() -> None:
    """Also where jupyter_server would give it more arguments one day."""
    assert NoOpTokenRenewer().get_token("Authorization", None, "abc", more=1) == "abc"


@pytest.mark.parametrize("cls", [GatewayTokenRenewerBase, NoOpTokenRenewer])
def test_the_signature_is_jupyter_servers(cls: type[GatewayTokenRenewerBase]) -> None:
    """A renewer written for one works with the other: same names, same order, same kinds."""

    def shape(function: object) -> list[tuple[str, object]]:
        assert callable(function)
        return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()]

    assert shape(cls.get_token) == shape(reference.GatewayTokenRenewerBase.get_token)


def test_a_renewer_has_a_log_and_a_parent(caplog: pytest.LogCaptureFixture) -> None:
    """As jupyter_server's base has, which is configurable; the parent has the options."""
    seen: list[object] = []

    class Talkative(GatewayTokenRenewerBase):
        scheme = Unicode("token").tag(config=True)

        def get_token(
            self, auth_header_key: str, auth_scheme: str | None, auth_token: str, **kwargs: Any
        ) -> str:
            self.log.warning("renewing a %s", self.scheme)
            seen.append(self.parent)
            return "new"

    config = Config({"Talkative": {"scheme": "cookie"}})
    gateway = GatewayClient(config=config, gateway_token_renewer_class=Talkative)
    assert gateway.request_headers() == {"Authorization": "token new"}
    assert seen == [gateway]
    assert "renewing a cookie" in caplog.text


def test_an_exit_of_a_renewer_is_the_callers() -> None:
    """It is raised in the thread that makes the request."""

    class Exiting(NoOpTokenRenewer):
        def get_token(self, *args: Any, **kwargs: Any) -> str:
            raise SystemExit(5)

    with pytest.raises(SystemExit):
        GatewayClient(gateway_token_renewer_class=Exiting).request_headers()
