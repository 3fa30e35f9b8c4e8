"""Extensions of requests and urllib3: connection pools, login, cookies and retries."""

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
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url
from urllib3.util.retry import Retry
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from .bodies import ENCODINGS, TimedResponse
from .config import GatewayClient
from .errors import GatewayConnectionError
from .timeouts import RETRY_JITTER, RETRY_PAUSE, RETRY_PAUSE_MAX
from .tls import DirectTLSSocket, NoTLSError, TLSSocket
from .urls import as_http

__all__ = [
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
_MAX_RETRIES = 10
_POOL_SIZE = 32
_XSRF = re.compile(r'(?:^|; *)_xsrf="?([^";]+)')  # in a Cookie header


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy that the environment names for this URL, or None."""
    url = as_http(url)
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy or "://" in proxy:
        return proxy
    if not parse_url(proxy).host:  # "proxy:3128", which requests takes for a URL of scheme "proxy"
        raise GatewayConnectionError(
            f"{_variable_of(proxy)} needs http:// before the proxy's name",
            advice="write it as in http://proxy:3128",
        )
    return f"http://{proxy}"


def _variable_of(proxy: str) -> str:
    """Return the environment variable that names this proxy, with its value unless it is secret."""
    names = [name for name, value in os.environ.items() if value == proxy]
    name = next((name for name in names if name.lower().endswith("_proxy")), "the proxy")
    return name if "@" in proxy else f"{name}={proxy!r}"


class Body(BytesIO):
    """The body of a request, which knows if it was read: the request may have arrived only then."""

    was_read = False

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Body:
        """Return the wanted values as JSON, without those that are None."""
        return cls(json.dumps({k: v for k, v in wanted.items() if v is not None}).encode())

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes."""
        self.was_read = True
        return super().read(size)


class Login(AuthBase):
    """The headers of the options, set last, so that no ``~/.netrc`` replaces the login."""

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
            request.headers.setdefault("X-XSRFToken", proofs[-1])  # tornado takes the last one
        return request


class OnlyXSRF(DefaultCookiePolicy):
    """Policy that keeps only the cookie without which a Jupyter Server may refuse all changes."""

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        """Return True if a cookie is to be kept."""
        return cookie.name == "_xsrf" and super().set_ok(cookie, request)


class RetryPolicy(Retry):
    """Policy of retries, which does not wait for a ``Retry-After`` beyond the request's timeout."""

    longest: float = 0.0

    @classmethod
    def of(cls, gateway: GatewayClient) -> RetryPolicy:
        """Return the policy of these options."""
        policy = cls(
            total=max(0, min(gateway.max_request_retries, _MAX_RETRIES)),
            allowed_methods=("GET", "DELETE"),
            status_forcelist=TRANSIENT,
            backoff_factor=RETRY_PAUSE,
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
        """Return the policy for what is left after an attempt; raise the error if nothing is."""
        if response is not None and (self.get_retry_after(response) or 0) > self.longest:
            raise MaxRetryError(_pool, url or "", error)  # the caller gets the response
        if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
            raise MaxRetryError(_pool, url or "", error)  # requests looks for it in there
        if isinstance(error, ReadTimeoutError):
            raise error
        if isinstance(error, SSLError) and isinstance(error.args[0], NoTLSError):
            raise error  # the port will not speak TLS at the next attempt
        if isinstance(error, ProxyError) and isinstance(error.original_error, ReadTimeoutError):
            raise error  # the handshake with an https:// proxy, which probably speaks http://
        # A TLS or proxy error may come after the request was sent; urllib3 would send it again.
        repeatable = self._is_method_retryable(method or "")
        if error is not None and not repeatable and not self._is_connection_error(error):
            raise error
        left = super().increment(method, url, response, error, _pool, _stacktrace)
        if response is not None:
            response.close()  # urllib3 would read all of it, of any size
        return left

    def get_retry_after(self, response: Any) -> float | None:
        """Return the seconds of the ``Retry-After``, None if there is no valid one."""
        try:
            return super().get_retry_after(response)
        except InvalidHeader:
            return None

    def get_backoff_time(self) -> float:
        """Return the seconds until the next attempt."""
        # At random, so that not all clients of a gateway return to it at the same moment.
        factor = random.uniform(1.0, 1.0 + RETRY_JITTER)  # noqa: S311
        return min(super().get_backoff_time(), RETRY_PAUSE_MAX) * factor


def was_retried(response: requests.Response) -> bool:
    """Return True if the request was sent more than once."""
    retries = getattr(response.raw, "retries", None)
    return bool(retries is not None and retries.history)


class _Kept:
    """The kept connections of a pool, with the interface of a queue, but without a lock.

    urllib3 empties the queue when the pool is dropped and when the process ends.  It does so in a
    child process, too, where no thread would release a lock that was held during the fork.
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
        """Close the connections that are kept, and every one that comes back later."""
        self._closed = True
        while self._connections:
            with suppress(IndexError):  # another thread took the last one
                if connection := self._connections.pop():
                    connection.close()


class _Connection(HTTPConnection):
    response_class = TimedResponse


class _TLSConnection(HTTPSConnection):
    response_class = TimedResponse

    def connect(self) -> None:
        if self.ssl_context is None:
            # The context that urllib3 would make, with another class of sockets.
            context = create_urllib3_context(cert_reqs=resolve_cert_reqs(self.cert_reqs))
            context.sslsocket_class = DirectTLSSocket if self.proxy is None else TLSSocket
            self.ssl_context = context
        super().connect()


class _HTTPPool(HTTPConnectionPool):
    QueueCls = _Kept  # type: ignore[assignment]  # it has the methods that are used
    ConnectionCls = _Connection


class _HTTPSPool(HTTPSConnectionPool):
    QueueCls = _Kept  # type: ignore[assignment]  # it has the methods that are used
    ConnectionCls = _TLSConnection


class Session(requests.Session):
    """A session of requests with the pools and the policy of this module.

    It follows no redirect.  Any number of threads may use it.

    Parameters
    ----------
    policy : RetryPolicy
        Policy of retries.
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
        """Return None, because requests would read a redirect's whole body without following it."""


class Adapter(HTTPAdapter):
    """Adapter with pools that have no lock, also for proxies, and that close their connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the manager of the pools for direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Return the manager of the pools for connections through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def close(self) -> None:
        """Close all connections.

        urllib3 closes them only when the pool is collected, which the traceback of an error, for
        example, delays.
        """
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
                if pool := manager.pools.get(key):
                    pool.pool.close()
        super().close()


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
