"""Token renewers, as GatewayClient uses them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jupyter_server.gateway.gateway_client import GatewayTokenRenewerBase as Theirs

from gateway_blocking import GatewayClient, GatewayTokenRenewerBase, NoOpTokenRenewer


def client(renewer: Any, token: str = "first") -> GatewayClient:
    return GatewayClient(url="http://x", auth_token=token, gateway_token_renewer_class=renewer)


def test_the_default_keeps_the_token() -> None:
    """And is what jupyter_server's is."""
    assert NoOpTokenRenewer().get_token("Authorization", "token", "t") == "t"
    assert client(NoOpTokenRenewer).request_headers() == {"Authorization": "token first"}


@pytest.mark.parametrize("base", [GatewayTokenRenewerBase, Theirs])
def test_a_renewer_is_asked_before_each_request(base: type) -> None:
    """One that derives from ours or from jupyter_server's, also where no token is set."""
    asked: list[tuple[str, str | None, str]] = []

    class Counting(base):  # type: ignore[misc]
        def get_token(self, key: str, scheme: str | None, token: str, **kwargs: Any) -> str:
            asked.append((key, scheme, token))
            return f"t{len(asked)}"

    gateway = client(Counting, token="")
    assert gateway.request_headers() == {"Authorization": "token t1"}
    assert gateway.request_headers() == {"Authorization": "token t2"}
    assert asked == [("Authorization", "token", ""), ("Authorization", "token", "t1")]


def test_a_failing_renewer_leaves_the_old_token(caplog: pytest.LogCaptureFixture) -> None:
    """A warning says so, without the error's text, which may hold a secret."""

    class Failing(GatewayTokenRenewerBase):
        def get_token(self, *args: Any, **kwargs: Any) -> str:
            raise RuntimeError("the password is sesame")

    assert client(Failing).request_headers() == {"Authorization": "token first"}
    assert "RuntimeError" in caplog.text
    assert "sesame" not in caplog.text


def test_one_thread_at_a_time() -> None:
    """A renewer need not be safe to share."""
    inside = threading.Lock()

    class Careful(GatewayTokenRenewerBase):
        def get_token(self, *args: Any, **kwargs: Any) -> str:
            assert inside.acquire(blocking=False)
            try:
                return "ok"
            finally:
                inside.release()

    gateway = client(Careful)
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(gateway.request_headers) for _ in range(200)]:
            assert one.result() == {"Authorization": "token ok"}
