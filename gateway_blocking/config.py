"""The options of a gateway, and the URLs, headers and timeouts that follow from them.

Each option is one row of :class:`GatewayClient`: a trait with its type, default and help, tagged
with its environment variable.  Names, variables and defaults are those of jupyter_server's class
of this name, so that its configuration works here, too.
"""

from __future__ import annotations

import math
import os
import ssl
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from traitlets import TraitError, TraitType, default, observe, validate
from traitlets.config import Config, LoggingConfigurable

from .auth import Credentials
from .environment import check_variables, forwarded_variables, options_from_environment
from .errors import GatewayConnectionError
from .events import emit, register_schemas
from .logger import Log, default_logger
from .suggest import closest, suggestion
from .tls import make_context, trusted_authorities
from .tokens import NoOpTokenRenewer
from .traits import (
    URL,
    ClassWith,
    Count,
    File,
    HeaderName,
    Headers,
    HeaderText,
    Listener,
    Seconds,
    Switch,
    Text,
    safe_url,
)
from .urls import canonical_url

__all__ = ["GatewayClient", "reject_unknown_kwargs"]


def reject_unknown_kwargs(function: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for the first unknown keyword of a call; its value may be secret."""
    for name in names:
        if name not in known:
            meant = closest(name, [*known, *GatewayClient.class_trait_names(config=True)])
            hint = suggestion(repr(meant) if meant else "")
            raise TypeError(f"{function} got an unexpected keyword argument {name!r}{hint}")


def _env(*names: str, **metadata: Any) -> dict[str, Any]:
    """Return the metadata of an option: its environment variables, in order of precedence."""
    return {"config": True, "env": names, **metadata}


# --- the options ----------------------------------------------------------------------------------


class GatewayClient(LoggingConfigurable):
    """The options of one gateway.

    The value of an option is the keyword of its name; otherwise the value of the command line or a
    configuration file (``c.GatewayClient.url = ...``); otherwise the value of its environment
    variable; otherwise its default.  The object reads the environment when it is made, and never
    writes it.

    One process may use any number of gateways, and any number of threads may use one object.

    Raises
    ------
    traitlets.TraitError
        A value is malformed.  The error names the option, and the variable if it came from one.
    """

    url = URL(
        "http",
        "https",
        help="URL of the gateway, with its base path.  A user:password in it is like http_user.",
    ).tag(**_env("JUPYTER_GATEWAY_URL"))
    ws_url = URL(
        "ws", "wss", help="URL of its websockets; by default `url` with ws instead of http."
    ).tag(**_env("JUPYTER_GATEWAY_WS_URL"))
    kernels_endpoint = Text("/api/kernels", help="Path of the kernels below the URL.").tag(
        **_env("JUPYTER_GATEWAY_KERNELS_ENDPOINT")
    )
    kernelspecs_endpoint = Text("/api/kernelspecs", help="Path of the kernelspecs.").tag(
        **_env("JUPYTER_GATEWAY_KERNELSPECS_ENDPOINT")
    )
    kernelspecs_resource_endpoint = Text(
        "/kernelspecs", help="Path of the kernelspecs' files."
    ).tag(**_env("JUPYTER_GATEWAY_KERNELSPECS_RESOURCE_ENDPOINT"))
    connect_timeout = Seconds(40.0, least=0.001, help="Seconds to connect to the gateway.").tag(
        **_env("JUPYTER_GATEWAY_CONNECT_TIMEOUT")
    )
    request_timeout = Seconds(
        42.0,
        least=0.001,
        help="Seconds for a whole response; at least the launch timeout and its pad.",
    ).tag(**_env("JUPYTER_GATEWAY_REQUEST_TIMEOUT"))
    client_key = File(help="File of the client certificate's private key, in PEM format.").tag(
        **_env("JUPYTER_GATEWAY_CLIENT_KEY")
    )
    client_cert = File(help="File of a client certificate, in PEM format.").tag(
        **_env("JUPYTER_GATEWAY_CLIENT_CERT")
    )
    ca_certs = File(help="File of trusted certificate authorities; by default the usual ones.").tag(
        **_env("JUPYTER_GATEWAY_CA_CERTS")
    )
    http_user = Text(help="User name for HTTP basic authentication; replaces a token.").tag(
        **_env("JUPYTER_GATEWAY_HTTP_USER")
    )
    http_pwd = Text(help="Password for HTTP basic authentication.").tag(
        **_env("JUPYTER_GATEWAY_HTTP_PWD", secret=True)
    )
    headers = Headers(
        "{}",
        help="HTTP headers of every request, as a JSON object.  They replace those that follow from"
        " other options.",
    ).tag(**_env("JUPYTER_GATEWAY_HEADERS", secret=True))
    auth_header_key = HeaderName("Authorization", help="Name of the token's header.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_HEADER_KEY")
    )
    auth_token = HeaderText("", help="Token; none is sent if it is empty.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_TOKEN", secret=True)
    )
    auth_scheme = HeaderText("token", help="Word before the token; may be empty.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_SCHEME")
    )
    validate_cert = Switch(True, help="Verify the gateway's certificate.").tag(
        **_env("JUPYTER_GATEWAY_VALIDATE_CERT")
    )
    allowed_envs = Text(
        "",
        help="Environment variables to forward to a kernel in addition to KERNEL_*, separated by"
        " commas.",
    ).tag(**_env("JUPYTER_GATEWAY_ALLOWED_ENVS", "JUPYTER_GATEWAY_ENV_WHITELIST"))
    env_whitelist = Text("", help="Deprecated name of allowed_envs.").tag(**_env())
    gateway_retry_interval = Seconds(
        1.0,
        help="Seconds between the first and the second attempt to reopen a lost websocket;"
        " doubled after each further attempt.",
    ).tag(**_env("JUPYTER_GATEWAY_RETRY_INTERVAL"))
    gateway_retry_interval_max = Seconds(30.0, help="Longest interval, in seconds.").tag(
        **_env("JUPYTER_GATEWAY_RETRY_INTERVAL_MAX")
    )
    gateway_retry_max = Count(
        5,
        min=0,
        help="Attempts to reopen a websocket after the first, which is made at once; 0 switches"
        " reopening off.",
    ).tag(**_env("JUPYTER_GATEWAY_RETRY_MAX"))
    ws_ping_interval = Seconds(
        10.0,
        help="Seconds between two pings of a websocket, and between two polls of its kernel's"
        " existence; 0 for none.",
    ).tag(**_env("JUPYTER_GATEWAY_WS_PING_INTERVAL"))
    ws_ping_timeout = Seconds(
        20.0,
        least=0.001,
        help="Seconds without any data after a ping until a websocket counts as lost.",
    ).tag(**_env("JUPYTER_GATEWAY_WS_PING_TIMEOUT"))
    ws_max_message_size = Count(
        2 * 1024**3, min=1024, help="Most bytes of a message from the gateway."
    ).tag(**_env("JUPYTER_GATEWAY_WS_MAX_MESSAGE_SIZE"))
    max_unread_size = Count(
        64 * 1024**2,
        min=0,
        help="Most bytes of messages that a client keeps until a caller takes them; beyond that,"
        " the oldest are dropped.  0 for no limit.",
    ).tag(**_env("JUPYTER_GATEWAY_MAX_UNREAD_SIZE"))
    gateway_token_renewer_class = ClassWith(
        "get_token",
        NoOpTokenRenewer,
        help="Class whose get_token method returns the token for each request.",
    ).tag(**_env("JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS"))
    launch_timeout_pad = Seconds(
        2.0, help="Seconds that a request may take longer than the launch of a kernel."
    ).tag(**_env("JUPYTER_GATEWAY_LAUNCH_TIMEOUT_PAD"))
    accept_cookies = Switch(False, help="Keep the gateway's cookies, and send them back.").tag(
        **_env("JUPYTER_GATEWAY_ACCEPT_COOKIES")
    )
    max_request_retries = Count(
        2, help="Number of times that a failed GET or DELETE is sent again, from 0 to 10."
    ).tag(**_env("JUPYTER_GATEWAY_MAX_REQUEST_RETRIES"))
    kernel_launch_timeout = Seconds(40.0, help="Seconds that a kernel may take to start.").tag(
        **_env("KERNEL_LAUNCH_TIMEOUT")
    )

    event_logger = Listener(
        help="Receiver of events about requests and kernels: a callable with a schema ID and a"
        " dict, a logging.Logger, or an EventLogger of jupyter_events."
    ).tag(**_env())

    def __init__(self, **kwargs: Any) -> None:
        reject_unknown_kwargs(type(self).__name__, kwargs, self.trait_names())
        parent = kwargs.get("parent")
        given = kwargs.pop("config", None) or (parent.config if parent is not None else {})
        config = Config({"GatewayClient": options_from_environment(self._options(), type(self))})
        config.merge(Config(given))
        if "env_whitelist" in kwargs:  # as a keyword, it precedes a configured allowed_envs
            kwargs.setdefault("allowed_envs", kwargs["env_whitelist"])
        self._credentials = Credentials(self)
        super().__init__(config=config, **kwargs)
        check_variables(self._options(), self.gateway_enabled)

    @default("log")
    def _default_log(self) -> Log:
        return default_logger(self.parent)

    @validate("url", "ws_url")
    def _is_encrypted_as_well(self, proposal: Any) -> Any:
        """Refuse a websocket without TLS beside REST with TLS: it would send the same token."""
        urls = {"url": self.url, "ws_url": self.ws_url, proposal["trait"].name: proposal["value"]}
        if str(urls["url"]).startswith("https:") and str(urls["ws_url"]).startswith("ws:"):
            raise TraitError(
                f"ws_url={safe_url(urls['ws_url'])!r} would send the token and all messages without"
                " encryption, but url begins with https://: ws_url must begin with wss://"
            )
        return proposal["value"]

    @observe("event_logger")
    def _event_logger_changed(self, change: Any) -> None:
        register_schemas(change["new"])

    def emit(self, schema_id: str, **data: Any) -> None:
        """Send an event to the :attr:`event_logger`, if there is one; see :mod:`.events`."""
        emit(self.event_logger, schema_id, data, self.log)

    @classmethod
    def _options(cls) -> dict[str, TraitType[Any, Any]]:
        return {n: t for n, t in cls.class_traits().items() if "env" in t.metadata}

    @observe("env_whitelist")
    def _env_whitelist_changed(self, change: Any) -> None:
        warnings.warn(
            "GatewayClient.env_whitelist is deprecated, use allowed_envs",
            DeprecationWarning,
            stacklevel=2,
        )
        self.allowed_envs = change["new"]

    def __repr__(self) -> str:
        where = safe_url(self.url) if self.url else "no url"
        return f"<{type(self).__name__} {where}, {'a' if self.auth_token else 'no'} token>"

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until the gateway answers, for a script that is started together with it.

        This sends requests for the gateway's version, which change nothing.  It waits as long as
        the gateway refuses or closes connections, or does not answer, or a proxy answers that it is
        not there (502, 503, 504).  Any other response ends the wait, also one that refuses the
        login.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default there is no limit.

        Raises
        ------
        GatewayError
            The timeout passed.  Or, at once, waiting does not help: the host name is unknown, the
            certificate is not accepted, or the server is not a gateway.
        """
        from .rest import GatewayREST  # it imports this module

        with GatewayREST(self) as rest:
            rest.wait_until_up(timeout)

    # --- URLs -----------------------------------------------------------------------------------

    @property
    def gateway_enabled(self) -> bool:
        """True if a gateway is configured."""
        return bool(self.url)

    def _base_url(self) -> str:
        if not self.url:
            raise GatewayConnectionError(
                "no gateway is configured", advice="set JUPYTER_GATEWAY_URL, or pass url=..."
            )
        # Its user:password become a header.
        return canonical_url(safe_url(self.url)).rstrip("/")

    @property
    def api_url(self) -> str:
        """URL of the gateway's version."""
        return f"{self._base_url()}/api"

    @property
    def sessions_url(self) -> str:
        """URL of the sessions, on servers that have them."""
        return f"{self.api_url}/sessions"

    @property
    def kernels_url(self) -> str:
        """URL of the kernels."""
        return _join(self._base_url(), self.kernels_endpoint)

    @property
    def kernelspecs_url(self) -> str:
        """URL of the kernelspecs."""
        return _join(self._base_url(), self.kernelspecs_endpoint)

    @property
    def kernelspecs_resource_url(self) -> str:
        """URL of the kernelspecs' files."""
        return _join(self._base_url(), self.kernelspecs_resource_endpoint)

    def kernel_url(self, kernel_id: str) -> str:
        """Return the URL of a kernel."""
        return f"{self.kernels_url}/{quote(kernel_id, safe='')}"

    def channels_url(self, kernel_id: str, session_id: str) -> str:
        """Return the URL of a kernel's websocket; `session_id` distinguishes its clients."""
        base = self._base_url()
        # The scheme only: a host or a path may contain "http", too.
        base = "ws" + base[len("http") :]
        if self.ws_url:
            base = canonical_url(safe_url(self.ws_url)).rstrip("/")
        kernel = f"{_join(base, self.kernels_endpoint)}/{quote(kernel_id, safe='')}"
        return f"{kernel}/channels?session_id={quote(session_id, safe='')}"

    # --- headers --------------------------------------------------------------------------------

    def request_headers(self, timeout: float | None = None) -> dict[str, str]:
        """Return the headers of one request or handshake: those of :attr:`headers`, and the login.

        A header in :attr:`headers` replaces the login's header of the same name.  Basic
        authentication replaces a token, as in jupyter_server.  All headers are Latin-1.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the token's renewer; by default those of a request.

        Raises
        ------
        GatewayTimeout
            The renewer gave no token in this time.
        """
        return self._credentials.headers(timeout)

    @property
    def login_note(self) -> str:
        """Advice for a login that is refused, from what is known of the token's origin."""
        return self._credentials.note

    @property
    def renewal_failure(self) -> str:
        """Error of the token's renewer at the last request; "" for none."""
        return self._credentials.failure

    # --- TLS ------------------------------------------------------------------------------------

    @property
    def tls_verify(self) -> bool | str:
        """File of the authorities that REST and websockets trust; False if none is verified."""
        return trusted_authorities(self.validate_cert, self.ca_certs)

    @property
    def tls_cert(self) -> str | tuple[str, str] | None:
        """The client certificate, with its key if that is in another file."""
        if self.client_cert and self.client_key:
            return self.client_cert, self.client_key
        return self.client_cert or None

    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS context of a websocket; REST uses the two properties above.

        Raises
        ------
        GatewayError
            A file cannot be read.
        """
        return make_context(self.tls_verify, self.ca_certs, self.client_cert, self.client_key)

    # --- starting a kernel ----------------------------------------------------------------------

    @property
    def launch_timeout(self) -> int:
        """Whole seconds that a kernel may take to start; a longer request timeout extends them."""
        own, request = float(self.kernel_launch_timeout), float(self.request_timeout)
        return max(math.ceil(own), int(request - self.launch_timeout_pad))

    @property
    def effective_request_timeout(self) -> float:
        """Seconds that the response to a request may take."""
        own, pad = float(self.request_timeout), float(self.launch_timeout_pad)
        return max(own, self.launch_timeout + pad)

    @property
    def kernel_username(self) -> str:
        """User of the kernels and kernelspecs, for a gateway that distinguishes users."""
        return os.environ.get("KERNEL_USERNAME") or self.http_user or ""

    def kernel_env(
        self, extra: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> dict[str, str]:
        """Return the environment that is sent with the start of a kernel.

        Parameters
        ----------
        extra : mapping, optional
            Variables in addition to those of this process, which they replace.
        cwd : str, optional
            Working directory, for ``KERNEL_WORKING_DIR``.

        Returns
        -------
        dict
            The variables whose name begins with ``KERNEL_`` or is in :attr:`allowed_envs`.
        """
        env, left_out = forwarded_variables(extra or {}, self.allowed_envs or "")
        if left_out:
            names = ", ".join(left_out)
            self.log.debug("not sent to the kernel, because not in allowed_envs: %s", names)
        if cwd is not None:
            env.setdefault("KERNEL_WORKING_DIR", str(cwd))
        if user := self.kernel_username:
            env.setdefault("KERNEL_USERNAME", user)
        env["KERNEL_LAUNCH_TIMEOUT"] = str(self.launch_timeout)
        return env


def _join(base: str, endpoint: str | None) -> str:
    return canonical_url(f"{base}/{(endpoint or '').strip('/')}")
