"""What requests and urllib3 are given to work with: the pools, the login, when to try again."""

from __future__ import annotations

import json
import os
import random
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from http.cookiejar import Cookie, DefaultCookiePolicy
from io import BytesIO
from queue import Empty, Full
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.cookies import RequestsCookieJar
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.util import parse_url
from urllib3.util.retry import Retry

from .bodies import ENCODINGS, TimedResponse
from .config import GatewayClient
from .errors import GatewayConnectionError
from .urls import as_http

__all__ = [
    "BACKOFF_MAX",
    "TRANSIENT",
    "Adapter",
    "Body",
    "Login",
    "OnlyXSRF",
    "RetryPolicy",
    "Session",
    "proxy_for",
    "was_retried",
]

TRANSIENT = frozenset((502, 503, 504))
BACKOFF_MAX = 5.0  # seconds
_MAX_RETRIES = 10
_BACKOFF = 0.1  # seconds, doubled from try to try
_POOL_SIZE = 32
_XSRF = re.compile(r'(?:^|; *)_xsrf="?([^";]+)')  # in a Cookie header


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or for a websocket's handshake."""
    url = as_http(url)
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy or "://" in proxy:
        return proxy
    if not parse_url(proxy).host:  # "proxy:3128", which requests takes for a URL of scheme "proxy"
        raise GatewayConnectionError(
            f"{_variable_of(proxy)} needs http:// before the proxy's name, as in http://proxy:3128"
        )
    return f"http://{proxy}"


def _variable_of(proxy: str) -> str:
    """Return the environment variable that names this proxy, with its value unless it is secret."""
    names = [name for name, value in os.environ.items() if value == proxy]
    name = next((name for name in names if name.lower().endswith("_proxy")), "the proxy")
    return name if "@" in proxy else f"{name}={proxy!r}"


class Body(BytesIO):
    """What is sent with a request.  Before it is read, the request cannot have arrived."""

    was_read = False

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Body:
        """Return what is wanted as JSON, but for what is None."""
        return cls(json.dumps({k: v for k, v in wanted.items() if v is not None}).encode())

    def read(self, size: int | None = -1, /) -> bytes:
        """Return some of it."""
        self.was_read = True
        return super().read(size)


class Login(AuthBase):
    """The headers of the configuration, set last, so that no ``~/.netrc`` replaces the login."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Return the request, with its headers."""
        kept = request.headers.get("Cookie")
        request.headers.update(self._headers)
        own = request.headers.get("Cookie")
        if kept and own and kept != own:  # the user's cookies do not replace the gateway's
            request.headers["Cookie"] = f"{own}; {kept}"
        if proofs := _XSRF.findall(request.headers.get("Cookie", "")):
            request.headers.setdefault("X-XSRFToken", proofs[-1])  # the one that tornado takes
        return request


class OnlyXSRF(DefaultCookiePolicy):
    """Takes no cookies but the one without which a Jupyter Server may refuse to do anything."""

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        """Whether to keep a cookie."""
        return cookie.name == "_xsrf" and super().set_ok(cookie, request)


class RetryPolicy(Retry):
    """When a request is repeated; a ``Retry-After`` beyond the request's timeout is not slept."""

    longest: float = 0.0

    @classmethod
    def of(cls, gateway: GatewayClient) -> RetryPolicy:
        """Return the policy of these options."""
        policy = cls(
            total=max(0, min(gateway.max_request_retries, _MAX_RETRIES)),
            allowed_methods=("GET", "DELETE"),
            status_forcelist=TRANSIENT,
            backoff_factor=_BACKOFF,
            raise_on_status=False,
            redirect=False,
        )
        policy.longest = gateway.effective_request_timeout
        return policy

    def __repr__(self) -> str:  # urllib3 puts it into its warnings
        return f"{self.total} {'try' if self.total == 1 else 'tries'} left"

    def new(self, **kw: Any) -> RetryPolicy:
        """Return a copy with changes."""
        policy = super().new(**kw)
        policy.longest = self.longest
        return policy

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> RetryPolicy:
        """Return what is left after a try; raise the error if nothing is."""
        if response is not None and (self.get_retry_after(response) or 0) > self.longest:
            raise MaxRetryError(_pool, url or "", error)  # gives the caller the response
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            raise MaxRetryError(_pool, url or "", error)  # in which requests looks for it
        if isinstance(error, ReadTimeoutError):
            raise error
        # A TLS or proxy error may come after the request was sent; urllib3 would send it again.
        repeatable = self._is_method_retryable(method or "")
        if error is not None and not repeatable and not self._is_connection_error(error):
            raise error
        left = super().increment(method, url, response, error, _pool, _stacktrace)
        if response is not None:
            response.close()  # urllib3 would read all of it, however much that is
        return left

    def get_retry_after(self, response: Any) -> float | None:
        """Return the seconds that the gateway asks for, if it does."""
        try:
            return super().get_retry_after(response)
        except InvalidHeader:
            return None  # one that cannot be read counts as none

    def get_backoff_time(self) -> float:
        """Seconds until the next try."""
        # Not all clients of a gateway that comes back are to return at the same moment.
        return min(super().get_backoff_time(), BACKOFF_MAX) * random.uniform(1.0, 1.5)  # noqa: S311


def was_retried(response: requests.Response) -> bool:
    """Whether this is the answer to a second try, or a later one."""
    retries = getattr(response.raw, "retries", None)
    return bool(retries is not None and retries.history)


class _Kept:
    """The connections that a pool keeps, as the queue that it expects, but without a lock.

    urllib3 empties it when the pool is dropped and when the process ends, also in a child
    process, where nobody would release a lock that was held when it was forked.
    """

    def __init__(self, maxsize: int) -> None:
        self._connections: deque[Any] = deque()
        self._maxsize = maxsize
        self._closed = False

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._connections.pop()
        except IndexError:
            raise Empty from None

    def put(self, connection: Any, block: bool = False) -> None:
        if len(self._connections) >= self._maxsize:
            raise Full
        self._connections.append(connection)
        if self._closed:
            self.close()

    def qsize(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        """Close what is kept, and from now on what comes back after its use."""
        self._closed = True
        while self._connections:
            with suppress(IndexError):  # somebody else took the last one
                if connection := self._connections.pop():
                    connection.close()


class _Connection(HTTPConnection):
    response_class = TimedResponse


class _TLSConnection(HTTPSConnection):
    response_class = TimedResponse


class _HTTPPool(HTTPConnectionPool):
    QueueCls = _Kept  # type: ignore[assignment]  # of a queue it has what is used
    ConnectionCls = _Connection


class _HTTPSPool(HTTPSConnectionPool):
    QueueCls = _Kept  # type: ignore[assignment]  # of a queue it has what is used
    ConnectionCls = _TLSConnection


class Session(requests.Session):
    """Connections with their pools and policy; it follows no redirect.

    Parameters
    ----------
    policy : RetryPolicy
        When a request is repeated.
    cookies : RequestsCookieJar
        The cookies, which several sessions may share.
    """

    def __init__(self, policy: Retry, cookies: RequestsCookieJar) -> None:
        super().__init__()
        self.cookies = cookies
        self.headers["Accept-Encoding"] = ENCODINGS
        for scheme in ("http://", "https://"):
            self.mount(scheme, Adapter(max_retries=policy))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: requests reads a redirect's whole body, even if it does not follow it."""


class Adapter(HTTPAdapter):
    """Pools without a lock, also where a proxy is in between, and which a close does close."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """For connections to the gateway itself."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """For connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def close(self) -> None:
        """Close all connections.

        urllib3 leaves that to the end of the pool itself, which the traceback of an error, for
        example, puts off.
        """
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
                if pool := manager.pools.get(key):
                    pool.pool.close()
        super().close()


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
