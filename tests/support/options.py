"""Options of a gateway for tests, without a gateway."""

from __future__ import annotations

import base64
import threading
import time
from typing import Any, ClassVar

from traitlets.config import Config

from gateway_blocking.config import GatewayClient
from gateway_blocking.tokens import GatewayTokenRenewerBase

SECRET = "sesame-open"


OPTIONS = GatewayClient.class_traits(config=True)


def section(**options: Any) -> Config:
    return Config({"GatewayClient": options})


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def plain_logger() -> Any:
    import logging

    return logging.getLogger("tests")


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
