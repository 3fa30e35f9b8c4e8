"""Requests and kernels while a token renewer hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway_blocking import GatewayTimeout
from gateway_blocking.tokens import NoOpTokenRenewer
from support.scripted import error_of, rest_of, says, scripted


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
