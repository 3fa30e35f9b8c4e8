"""The options of a gateway, and what follows from them: URLs, headers, TLS, timeouts.

Each option is one row of :class:`GatewayClient`: a trait with its type, default and help, tagged
with its environment variable.  Names, variables and defaults are those of jupyter_server's class
of this name, whose configuration keeps working.
"""

from __future__ import annotations

import json
import math
import os
import ssl
import warnings
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import certifi
from traitlets import HasTraits, TraitError, TraitType, observe, validate
from traitlets.config import Config, LoggingConfigurable

from .deadline import LONGEST, Deadline
from .errors import GatewayConnectionError, GatewayError, GatewayTimeout
from .events import emit, register_schemas
from .forking import register_after_fork
from .locks import Lock
from .tokens import NoOpTokenRenewer, Renewal
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


_PREFIX = "JUPYTER_GATEWAY_"


def reject_unknown_kwargs(what: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for a keyword that nobody knows; its value may be secret."""
    for name in names:
        if name not in known:
            raise TypeError(
                f"{what} got an unexpected keyword argument {name!r}{_guess(name, known)}"
            )


_SYNONYMS = {"kernel": "kernel_name", "user": "http_user", "password": "http_pwd"}


def _guess(name: str, known: Iterable[str]) -> str:
    """Return what a name may be meant for: one with the same end, or one that is spelt alike."""
    names = [*known, *GatewayClient.class_trait_names(config=True)]
    if _SYNONYMS.get(name) in names:
        return f"; is it {_SYNONYMS[name]!r}?"
    found = [each for each in names if name.endswith(f"_{each}") or each.endswith(f"_{name}")]
    found = found or get_close_matches(name, names, 1)
    return f"; is it {found[0]!r}?" if found else ""


def _env(*names: str, **metadata: Any) -> dict[str, Any]:
    """Return the metadata of an option: its environment variables, the first that is set counts."""
    return {"config": True, "env": names, **metadata}


# --- the options ----------------------------------------------------------------------------------


class GatewayClient(LoggingConfigurable):
    """The options of one gateway; any number of gateways may be used in one process.

    An option comes from the keyword of its name, else from the command line or a configuration
    file (``c.GatewayClient.url = ...``), else from its environment variable, else it has its
    default.  The environment is read when the object is made, and never written.

    Raises
    ------
    traitlets.TraitError
        A value is malformed; the error names it, and the variable it came from.
    """

    url = URL(
        "http",
        "https",
        help="The gateway's URL, with its base path.  A user:password in it is as http_user.",
    ).tag(**_env("JUPYTER_GATEWAY_URL"))
    ws_url = URL(
        "ws", "wss", help="The URL of its websockets; by default `url` with ws for http."
    ).tag(**_env("JUPYTER_GATEWAY_WS_URL"))
    kernels_endpoint = Text("/api/kernels", help="Where the kernels are, below the URL.").tag(
        **_env("JUPYTER_GATEWAY_KERNELS_ENDPOINT")
    )
    kernelspecs_endpoint = Text("/api/kernelspecs", help="Where the kernelspecs are.").tag(
        **_env("JUPYTER_GATEWAY_KERNELSPECS_ENDPOINT")
    )
    kernelspecs_resource_endpoint = Text(
        "/kernelspecs", help="Where the kernelspecs' files are."
    ).tag(**_env("JUPYTER_GATEWAY_KERNELSPECS_RESOURCE_ENDPOINT"))
    connect_timeout = Seconds(40.0, least=0.001, help="Seconds to reach the gateway.").tag(
        **_env("JUPYTER_GATEWAY_CONNECT_TIMEOUT")
    )
    request_timeout = Seconds(
        42.0,
        least=0.001,
        help="Seconds for the whole answer to a request; at least the launch timeout and its pad.",
    ).tag(**_env("JUPYTER_GATEWAY_REQUEST_TIMEOUT"))
    client_key = File(help="File of the client certificate's private key.").tag(
        **_env("JUPYTER_GATEWAY_CLIENT_KEY")
    )
    client_cert = File(help="File of a client certificate.").tag(
        **_env("JUPYTER_GATEWAY_CLIENT_CERT")
    )
    ca_certs = File(help="File of the certificate authorities to trust, instead of the usual.").tag(
        **_env("JUPYTER_GATEWAY_CA_CERTS")
    )
    http_user = Text(help="User name for HTTP basic authentication; goes before a token.").tag(
        **_env("JUPYTER_GATEWAY_HTTP_USER")
    )
    http_pwd = Text(help="Password for HTTP basic authentication.").tag(
        **_env("JUPYTER_GATEWAY_HTTP_PWD", secret=True)
    )
    headers = Headers(
        "{}",
        help="HTTP headers of every request: a JSON object. They go before"
        " those that are made here.",
    ).tag(**_env("JUPYTER_GATEWAY_HEADERS", secret=True))
    auth_header_key = HeaderName("Authorization", help="The header that carries the token.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_HEADER_KEY")
    )
    auth_token = HeaderText("", help="The token; none is sent where it is empty.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_TOKEN", secret=True)
    )
    auth_scheme = HeaderText("token", help="What stands before the token; may be empty.").tag(
        **_env("JUPYTER_GATEWAY_AUTH_SCHEME")
    )
    validate_cert = Switch(True, help="Whether the gateway's certificate is verified.").tag(
        **_env("JUPYTER_GATEWAY_VALIDATE_CERT")
    )
    allowed_envs = Text(
        "",
        help="Environment variables to forward to a kernel besides KERNEL_*, separated by commas.",
    ).tag(**_env("JUPYTER_GATEWAY_ALLOWED_ENVS", "JUPYTER_GATEWAY_ENV_WHITELIST"))
    env_whitelist = Text("", help="Deprecated: the old name of allowed_envs.").tag(**_env())
    gateway_retry_interval = Seconds(
        1.0,
        help="Seconds between the first and the second attempt to reopen a lost websocket;"
        " doubled after each further attempt.",
    ).tag(**_env("JUPYTER_GATEWAY_RETRY_INTERVAL"))
    gateway_retry_interval_max = Seconds(30.0, help="The longest that it grows to.").tag(
        **_env("JUPYTER_GATEWAY_RETRY_INTERVAL_MAX")
    )
    gateway_retry_max = Count(
        5,
        min=0,
        help="Attempts after the first, which is made at once; 0 switches reopening off.",
    ).tag(**_env("JUPYTER_GATEWAY_RETRY_MAX"))
    ws_ping_interval = Seconds(
        10.0,
        help="Seconds between two pings of a websocket, and between two looks whether its kernel"
        " still exists; 0 for none.",
    ).tag(**_env("JUPYTER_GATEWAY_WS_PING_INTERVAL"))
    ws_ping_timeout = Seconds(
        20.0,
        least=0.001,
        help="Seconds without a sign of life after a ping until a websocket counts as lost.",
    ).tag(**_env("JUPYTER_GATEWAY_WS_PING_TIMEOUT"))
    ws_max_message_size = Count(
        2 * 1024**3, min=1024, help="Bytes that a message of the gateway's may have."
    ).tag(**_env("JUPYTER_GATEWAY_WS_MAX_MESSAGE_SIZE"))
    max_unread_size = Count(
        64 * 1024**2,
        min=0,
        help="Bytes of messages that a client keeps until a caller takes them; then the oldest are"
        " dropped.  0 for no limit.",
    ).tag(**_env("JUPYTER_GATEWAY_MAX_UNREAD_SIZE"))
    gateway_token_renewer_class = ClassWith(
        "get_token",
        NoOpTokenRenewer,
        help="Class with a get_token method that is asked for the token before each request.",
    ).tag(**_env("JUPYTER_GATEWAY_TOKEN_RENEWER_CLASS"))
    launch_timeout_pad = Seconds(
        2.0, help="Seconds by which a request may outlast a kernel's launch."
    ).tag(**_env("JUPYTER_GATEWAY_LAUNCH_TIMEOUT_PAD"))
    accept_cookies = Switch(
        False, help="Whether the gateway's cookies are kept and sent back."
    ).tag(**_env("JUPYTER_GATEWAY_ACCEPT_COOKIES"))
    max_request_retries = Count(
        2, help="How often a failed GET or DELETE is repeated; from 0 to 10."
    ).tag(**_env("JUPYTER_GATEWAY_MAX_REQUEST_RETRIES"))
    kernel_launch_timeout = Seconds(40.0, help="Seconds that a kernel may take to start.").tag(
        **_env("KERNEL_LAUNCH_TIMEOUT")
    )

    event_logger = Listener(
        help="Who is told of requests and of what is done to kernels: a callable of a schema id"
        " and a dict, a logging.Logger, or an EventLogger of jupyter_events."
    ).tag(**_env())

    def __init__(self, **kwargs: Any) -> None:
        reject_unknown_kwargs(type(self).__name__, kwargs, self.trait_names())
        parent = kwargs.get("parent")
        given = kwargs.pop("config", None) or (parent.config if parent is not None else {})
        config = Config({"GatewayClient": self._from_environment()})
        config.merge(Config(given))
        if "env_whitelist" in kwargs:  # a keyword still goes before a configured allowed_envs
            kwargs.setdefault("allowed_envs", kwargs["env_whitelist"])
        self._token_lock = Lock()
        self._token_renewer: Any = None
        self._renewal: Renewal | None = None  # that runs
        self.renewal_failure = ""  # why the token is not a new one
        super().__init__(config=config, **kwargs)
        self._tell_of_unknown_variables()
        register_after_fork(self._after_fork)

    @validate("url", "ws_url")
    def _is_encrypted_as_well(self, proposal: Any) -> Any:
        """Refuse a websocket in clear beside REST with TLS: it would send the same token."""
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
        """Tell the :attr:`event_logger`, if there is one, of an event; see :mod:`.events`."""
        emit(self.event_logger, schema_id, data, self.log)

    def _after_fork(self) -> None:
        """In a child process nobody would release the lock."""
        self._token_lock = Lock()
        self._renewal = None

    @classmethod
    def _from_environment(cls) -> dict[str, Any]:
        found = {}
        for name, trait in cls._options().items():
            variable = next((env for env in trait.metadata["env"] if os.environ.get(env)), None)
            if variable is None:
                continue
            text = os.environ[variable]
            try:
                value = trait.from_string(text)
                found[name] = None if value is None else trait.validate(cls, value)  # type: ignore[attr-defined]
            except (TraitError, ValueError) as error:
                kind = type(error) if isinstance(error, TraitError) else TraitError
                if str(error).startswith(f"{name}="):
                    raise kind(f"{variable}{str(error)[len(name) :]}") from None
                shown = trait.shown(text) if isinstance(trait, Text) else repr(text)
                raise kind(f"{variable}={shown}: {error}") from None
        return found

    def _tell_of_unknown_variables(self) -> None:
        """Warn of variables that are no options; raise where the code would run elsewhere.

        Without a URL, the commands and other programs start a kernel on this machine.
        """
        known = {name for trait in self._options().values() for name in trait.metadata["env"]}
        for name in os.environ:
            if not name.startswith("JUPYTER") or name in known:
                continue
            ours = name.startswith(_PREFIX)
            likely = [e for e in known if ours and e.endswith(name[len(_PREFIX) - 1 :])]
            likely = likely or get_close_matches(name, known, 1, 0.92)  # (much is the prefix)
            hint = f"; is it {likely[0]}?" if likely else ""
            if likely == ["JUPYTER_GATEWAY_URL"] and not self.gateway_enabled:
                raise TraitError(
                    f"{name} is no option{hint} That one decides where code runs: rename this"
                    " variable, or unset it"
                )
            if ours:
                warnings.warn(f"{name} is no option{hint}", stacklevel=4)

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

    @classmethod
    def table(cls) -> list[tuple[str, str, str, str, str]]:
        """Return a row for each option: name, type, environment variables, default, help."""
        kinds = {Switch: "yes or no", Seconds: "seconds", Count: "number", URL: "URL"}
        kinds.update({Headers: "JSON object", File: "file", ClassWith: "class", Listener: "object"})
        return [
            (
                name,
                kinds.get(type(trait), "text"),
                ", ".join(trait.metadata["env"]),
                trait.default_value_repr(),
                trait.help or "",
            )
            for name, trait in cls._options().items()
        ]

    def wait_until_up(self, timeout: float | None = None) -> None:
        """Wait until the gateway answers, for a script that is started together with it.

        Waited for is a gateway that refuses or ends connections, does not answer, or is said by a
        proxy not to be there (502, 503, 504).  Nothing is changed on it: it is asked for its
        version.  Any other answer ends the wait, also one that refuses the login.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default there is no limit.

        Raises
        ------
        GatewayError
            It did not come up in time; or, at once, waiting does not help: its host name is not
            known, its certificate is not accepted, or it is not a gateway.
        """
        from .rest import GatewayREST  # which needs this module

        with GatewayREST(self) as rest:
            rest.wait_until_up(timeout)

    # --- URLs -----------------------------------------------------------------------------------

    @property
    def gateway_enabled(self) -> bool:
        """Whether a gateway is configured at all."""
        return bool(self.url)

    def _base_url(self) -> str:
        if not self.url:
            raise GatewayConnectionError(
                "no gateway is configured: set JUPYTER_GATEWAY_URL, or give url=..."
            )
        # Its user:password become a header.
        return canonical_url(safe_url(self.url)).rstrip("/")

    @property
    def api_url(self) -> str:
        """Where the gateway tells its version."""
        return f"{self._base_url()}/api"

    @property
    def sessions_url(self) -> str:
        """Where sessions are listed and created, on servers that have them."""
        return f"{self.api_url}/sessions"

    @property
    def kernels_url(self) -> str:
        """Where the kernels are."""
        return _join(self._base_url(), self.kernels_endpoint)

    @property
    def kernelspecs_url(self) -> str:
        """Where the kernelspecs are."""
        return _join(self._base_url(), self.kernelspecs_endpoint)

    @property
    def kernelspecs_resource_url(self) -> str:
        """Where the files of kernelspecs are."""
        return _join(self._base_url(), self.kernelspecs_resource_endpoint)

    def kernel_url(self, kernel_id: str) -> str:
        """Where the kernel is."""
        return f"{self.kernels_url}/{quote(kernel_id, safe='')}"

    def channels_url(self, kernel_id: str, session_id: str) -> str:
        """Return the URL of a kernel's websocket; `session_id` tells the kernel's clients apart."""
        base = self._base_url()
        # The scheme only: a host or a path may contain "http" too.
        base = "ws" + base[len("http") :]
        if self.ws_url:
            base = canonical_url(safe_url(self.ws_url)).rstrip("/")
        kernel = f"{_join(base, self.kernels_endpoint)}/{quote(kernel_id, safe='')}"
        return f"{kernel}/channels?session_id={quote(session_id, safe='')}"

    # --- headers --------------------------------------------------------------------------------

    def request_headers(self, timeout: float | None = None) -> dict[str, str]:
        """Return the headers of one request or handshake: the user's own, then the login.

        A header of the user's goes before the same one made here.  Basic authentication goes
        before a token, as in jupyter_server.  All of it is Latin-1.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for the token's renewer; by default those of a request.

        Raises
        ------
        GatewayTimeout
            It gave no token in this time.
        """
        headers: dict[str, str] = json.loads(self.headers or "{}")
        for name, value in self._login(timeout).items():
            if name.lower() not in {own.lower() for own in headers}:
                headers[name] = value
        return headers

    def _login(self, timeout: float | None) -> dict[str, str]:
        user, password = self.http_user, self.http_pwd
        if not user:
            parts = urlsplit(self.url or "")
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user:
            login = f"{user}:{password or ''}".encode()
            return {"Authorization": "Basic " + b64encode(login).decode()}
        token = self._renewed_token(timeout)
        if not token:
            return {}
        return {self.auth_header_key: f"{self.auth_scheme or ''} {token}".strip()}

    def _renewed_token(self, timeout: float | None) -> str:
        if self.gateway_token_renewer_class is NoOpTokenRenewer:
            return self.auth_token or ""
        timeout = self.effective_request_timeout if timeout is None else timeout
        deadline = Deadline(min(timeout, LONGEST))
        renewer = self.gateway_token_renewer_class.__name__
        late = GatewayTimeout(
            f"no token within {deadline.timeout:g} s: {renewer}.get_token()"
            " (gateway_token_renewer_class) has not returned"
        )
        with self._token_lock.within(deadline, late):
            # One that a request gave up goes on, and two must not run at once.
            if self._renewal is not None and not self._renewal.wait(deadline):
                raise late
            self._renewal = Renewal(self._renew)
            if not self._renewal.wait(deadline):
                raise late
            self._renewal = None
            return self.auth_token or ""

    def _renew(self) -> None:
        """Replace the token by the renewer's, if it gives one."""
        token = self.auth_token or ""
        try:
            if self._token_renewer is None:
                cls = self.gateway_token_renewer_class
                arguments = {"parent": self} if issubclass(cls, HasTraits) else {}
                self._token_renewer = cls(**arguments)
            self.auth_token = self._token_renewer.get_token(
                self.auth_header_key, self.auth_scheme, token
            )
            self.renewal_failure = ""
        except Exception as error:  # a stranger's class; the old token may still be good
            kind = type(error).__name__  # its text may have the token in it
            rest = "with the old one" if token else "without one"
            self.log.warning("the token was not renewed (%s), going on %s", kind, rest)
            renewer = self.gateway_token_renewer_class.__name__
            self.renewal_failure = f"the token's renewer failed: {renewer} raised {kind}"

    @property
    def login_note(self) -> str:
        """What to add to the error for a login that is refused: who gave the token, or did not."""
        for name in ("auth_token", "http_pwd"):
            if (value := getattr(self, name) or "")[:1] in ("'", '"') and value[:1] == value[-1:]:
                return (
                    f"{name} has quotes around it, which are sent, too: leave them out (Docker's"
                    " --env-file passes them on)"
                )
        if self.renewal_failure or self._token_renewer is None:
            return self.renewal_failure
        renewer = self.gateway_token_renewer_class.__name__
        given = "the" if self.auth_token else "no"
        return f"gateway_token_renewer_class ({renewer}) gave {given} token"

    # --- TLS ------------------------------------------------------------------------------------

    @property
    def tls_verify(self) -> bool | str:
        """The file of the authorities that REST and websockets both trust; False for anybody."""
        if not self.validate_cert:
            return False
        usual = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
        trusted: str = self.ca_certs or next(filter(None, usual), None) or certifi.where()
        return trusted

    @property
    def tls_cert(self) -> str | tuple[str, str] | None:
        """The client certificate, with its key where that is a file of its own."""
        if self.client_cert and self.client_key:
            return self.client_cert, self.client_key
        return self.client_cert or None

    def ssl_context(self) -> ssl.SSLContext:
        """Return a websocket's TLS; REST does it with :attr:`tls_verify` and :attr:`tls_cert`.

        Raises
        ------
        GatewayError
            A file cannot be read.
        """
        if self.client_key and not self.client_cert:
            raise GatewayError(
                f"client_key={self.client_key!r} is set, and client_cert is not: set it to the file"
                " of the certificate whose key this is"
            )
        verify, used = self.tls_verify, f"ca_certs={self.ca_certs!r}"
        wanted = "certificates in PEM format"
        try:
            if isinstance(verify, str):
                if not self.ca_certs:
                    used = f"{verify!r} (REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or certifi's)"
                folder, file = (verify, None) if Path(verify).is_dir() else (None, verify)
                # With the flags of each Python, which urllib3 sets, too.
                context = ssl.create_default_context(capath=folder, cafile=file)
                context.hostname_checks_common_name = False  # nor does urllib3
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.client_cert:
                used = f"client_cert={self.client_cert!r}, client_key={self.client_key!r}"
                wanted = (
                    "a certificate in PEM format, and its private key, without a password,"
                    " in the same file or in that of client_key"
                )
                # No password: rather an error than a question on the terminal.
                context.load_cert_chain(self.client_cert, self.client_key, password="")
        except OSError as error:  # an SSLError is one, too
            raise GatewayError(f"{used} cannot be used: {error}; it must be {wanted}") from error
        return context

    # --- starting a kernel ----------------------------------------------------------------------

    @property
    def launch_timeout(self) -> int:
        """Whole seconds that a kernel may take to start; a longer request timeout extends it."""
        own, request = float(self.kernel_launch_timeout), float(self.request_timeout)
        return max(math.ceil(own), int(request - self.launch_timeout_pad))

    @property
    def effective_request_timeout(self) -> float:
        """Seconds without an answer after which a request is given up."""
        own, pad = float(self.request_timeout), float(self.launch_timeout_pad)
        return max(own, self.launch_timeout + pad)

    @property
    def kernel_username(self) -> str:
        """Whose kernels and kernelspecs these are, for a gateway that makes a difference."""
        return os.environ.get("KERNEL_USERNAME") or self.http_user or ""

    def kernel_env(
        self, extra: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> dict[str, str]:
        """Return the environment that is sent when a kernel is started.

        Parameters
        ----------
        extra : mapping, optional
            Variables besides those of this process, and before them.
        cwd : str, optional
            The working directory, for ``KERNEL_WORKING_DIR``.

        Returns
        -------
        dict
            Those whose name begins with ``KERNEL_`` or stands in :attr:`allowed_envs`.
        """
        allowed = {name.strip() for name in (self.allowed_envs or "").split(",")}
        env = {
            name: str(value)
            for name, value in {**os.environ, **(extra or {})}.items()
            if name.startswith("KERNEL_") or name in allowed
        }
        if left_out := sorted(set(extra or ()) - set(env)):
            names = ", ".join(left_out)
            self.log.debug("not sent to the kernel, because allowed_envs has not: %s", names)
        if cwd is not None:
            env.setdefault("KERNEL_WORKING_DIR", str(cwd))
        if user := self.kernel_username:
            env.setdefault("KERNEL_USERNAME", user)
        env["KERNEL_LAUNCH_TIMEOUT"] = str(self.launch_timeout)
        return env


def _join(base: str, endpoint: str | None) -> str:
    return canonical_url(f"{base}/{(endpoint or '').strip('/')}")
