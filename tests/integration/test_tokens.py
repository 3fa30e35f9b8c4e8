"""Token renewers, as such; who asks them is in test_config."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jupyter_server.gateway import gateway_client as reference
from traitlets import Unicode
from traitlets.config import Config

from gateway_blocking import GatewayClient, GatewayTimeout
from gateway_blocking.tokens import GatewayTokenRenewerBase, NoOpTokenRenewer
from support.scripted import error_of, rest_of, says, scripted


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


class Hanging(NoOpTokenRenewer):
    """Gives a token when it is allowed to, and counts its calls."""

    go, calls = threading.Event(), 0

    def get_token(self, *args: Any, **kwargs: Any) -> str:
        type(self).calls += 1
        assert self.go.wait(60)
        return "new"


@pytest.fixture
def hanging() -> Iterator[type[Hanging]]:
    class Fresh(Hanging):
        go = threading.Event()

    yield Fresh
    Fresh.go.set()


def test_a_renewer_that_hangs_holds_up_no_request(hanging: type[Hanging]) -> None:
    """Each ends within its own timeout, with an error that names the renewer; and none is sent."""
    options = {"gateway_token_renewer_class": hanging, "request_timeout": 0.5}
    with scripted(says({"id": "k", "name": "n"})) as server, rest_of(server, **options) as rest:
        begin = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(rest.get_kernel, "k") for _ in range(4)]
            errors = [each.exception(timeout=60) for each in asking]
        with pytest.raises(GatewayTimeout, match=r"^GET http.*no token within 0\.\d+ s: Fresh\.g"):
            rest.get_kernel("k", timeout=0.2)
        assert time.monotonic() - begin < 15
        assert [type(error) for error in errors] == [GatewayTimeout] * 4
        assert server.lines == []
        assert hanging.calls == 1, "two at once, or a thread more for each request"
        hanging.go.set()
        assert rest.get_kernel("k")["id"] == "k"
        assert server.headers[0]["authorization"] == "token new"


def test_a_renewer_that_hangs_leaves_no_kernel(hanging: type[Hanging]) -> None:
    """Nothing was sent, so that nothing has to be looked for."""
    options = {"gateway_token_renewer_class": hanging, "request_timeout": 0.3}
    with scripted(says({})) as server:
        error = error_of(lambda rest: rest.start_kernel("n", {}, kernel_id="k"), server, **options)
    assert "may run" not in str(error)
    assert server.lines == []


def test_an_exit_of_a_renewer_is_the_callers() -> None:
    """It is raised in the thread that makes the request."""

    class Exiting(NoOpTokenRenewer):
        def get_token(self, *args: Any, **kwargs: Any) -> str:
            raise SystemExit(5)

    with pytest.raises(SystemExit):
        GatewayClient(gateway_token_renewer_class=Exiting).request_headers()
