"""``jupyter gateway status``: the first command to run when something is wrong."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from statistics import median
from time import perf_counter
from typing import TypedDict, cast
from urllib.parse import urlsplit
from uuid import uuid4

from traitlets import Float, Unicode

from ..adapters import proxy_for
from ..advice import HTTP_ONLY, NO_LISTING, for_connection, for_tls
from ..client import BlockingGatewayKernelClient
from ..config import GatewayClient
from ..errors import (
    GatewayAuthError,
    GatewayError,
    GatewayHTTPError,
    KernelsNotListed,
    NoSuchKernel,
)
from ..escape import printable
from ..manager import BlockingGatewayKernelManager
from ..models import KernelSpecs
from ..rest import GatewayREST
from ..timeouts import (
    READY_TIMEOUT,
    STATUS_PATIENCE,
    STATUS_REPLY_TIMEOUT,
    STATUS_REQUEST_TIMEOUT,
    STATUS_TLS_TIMEOUT,
)
from ..tls import DirectTLSSocket, NoTLSError
from ..tokens import NoOpTokenRenewer
from ..traits import safe_url
from .command import ALIASES, ReportCommand
from .errors import GATEWAY, OK
from .terminal import echo_after, write

__all__ = ["StatusCommand"]

_ROUND_TRIPS = 5
_NAME = "commonName"
_DEFAULT = "its default"


@dataclass
class _Result:
    """Result of one check, which is one line of the report; it is a failure if it has advice."""

    name: str
    text: str
    advice: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    mark: str = "ok"

    def __str__(self) -> str:
        begin = f"{'FAILED' if self.advice else self.mark:8}{self.name:14}"
        end = f"\n{'':22}{printable(self.advice)}" if self.advice else ""
        return begin + printable(self.text) + end

    def as_dict(self) -> dict[str, object]:
        advice = {"todo": self.advice} if self.advice else {}
        return {"ok": not self.advice, "text": self.text, **advice, **self.facts}


class StatusCommand(ReportCommand):
    """``jupyter gateway status``."""

    name = "jupyter-gateway-status"
    description = """
    Check the gateway, and report line by line which one is configured, whether it can be used,
    and if not, what to do.

    Usage: jupyter gateway status [OPTIONS]

    The report ends with the first check that fails, because the others depend on it. With
    --kernel=NAME, a kernel is started, used and shut down, too; without it, no kernel is started,
    and whether a websocket works is not known. With --wait=SECONDS, the command waits for a
    gateway that is still starting. A connection and a response may take 10 seconds each, unless
    connect_timeout or request_timeout is set. Tokens and passwords are never shown. With --json,
    the report is an object with a key for each line.

    The exit status:

        0    all checks passed
        2    the command or an option was not understood
        3    a check failed
    """
    examples = """\
jupyter gateway status
jupyter gateway status --kernel=python3
jupyter gateway status --json
jupyter gateway status --wait=60 && jupyter gateway run analysis.ipynb
"""

    kernel_name = Unicode(help="Kernelspec to try: a kernel is started, used and shut down.").tag(
        config=True
    )

    wait = Float(
        min=0, help="Seconds to wait for a gateway that is still starting; by default 0."
    ).tag(config=True)

    aliases = {  # noqa: RUF012
        **ALIASES,
        "kernel": "StatusCommand.kernel_name",
        "wait": "StatusCommand.wait",
    }

    def run(self) -> int:
        """Make one check after another, and write the report."""
        self.reject_arguments()
        report: dict[str, object] = {"ok": True}
        with closing(self._checks()) as checks:  # shuts a kernel down that was started
            for check in checks:
                if not self.as_json:
                    write(sys.stdout, f"{check}\n")
                report[check.name.replace(" ", "_")] = check.as_dict()
                if check.advice:
                    report["ok"] = False
                    break
        if self.as_json:
            self.write_json(report)
        return OK if report["ok"] else GATEWAY

    def _checks(self) -> Generator[_Result, None, None]:
        """Yield the results of all checks; the caller ends with the first failure."""
        configured = GatewayClient(config=self.config)
        yield self._url(configured)
        gateway = self._in_haste(configured)
        if self.wait:
            yield from _check_startup(gateway, self.wait)
        yield from _check_connection(gateway)
        with GatewayREST(gateway) as rest:
            try:
                yield from _check_api(rest, partial(self._credentials, gateway))
                if self.kernel_name:
                    yield from self._check_kernel(configured)
                else:
                    yield _check_websocket(rest)
            except GatewayError as error:
                yield _failed("answer", error)

    # --- what is configured ---------------------------------------------------------------------

    def _in_haste(self, gateway: GatewayClient) -> GatewayClient:
        """Return the same gateway with the timeouts of this command, where none is configured.

        Only the start of a kernel may take long, and only :meth:`_check_kernel` starts one.
        """
        names = ("connect_timeout", "request_timeout")
        chosen = {
            name: STATUS_REQUEST_TIMEOUT
            for name in names
            if self._source(gateway, name) == _DEFAULT
        }
        no_start = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0}
        return GatewayClient(config=self.config, **chosen, **no_start)

    def _url(self, gateway: GatewayClient) -> _Result:
        if not gateway.gateway_enabled:
            advice = "set JUPYTER_GATEWAY_URL, or give --url"
            return _Result("url", "no gateway is configured", advice, {"url": None, "from": None})
        url, source = safe_url(gateway.url or ""), self._source(gateway, "url")
        return _Result("url", f"{url} (from {source})", facts={"url": url, "from": source})

    def _source(self, gateway: GatewayClient, option: str) -> str:
        """Return the source of an option's value."""
        if option in self.cli_config.GatewayClient:
            return "the command line"
        if option in self.config.GatewayClient:
            return "a configuration file"
        for variable in gateway.traits()[option].metadata["env"]:
            if os.environ.get(variable):
                return str(variable)
        return _DEFAULT

    def _credentials(self, gateway: GatewayClient) -> str:
        """Return which credentials were sent, without their values."""
        names, failure = ["auth_token"], gateway.renewal_failure
        if gateway.gateway_token_renewer_class is not NoOpTokenRenewer and not failure:
            names = ["gateway_token_renewer_class"]
        if gateway.http_user or urlsplit(gateway.url or "").username:
            names = ["http_user"] if gateway.http_user else ["a user in the url"]
        found = []
        for name in (*names, "client_cert"):
            if name not in gateway.trait_names():
                found.append(f"{name}: set")
            elif getattr(gateway, name):
                found.append(f"{name}: set ({self._source(gateway, name)})")
        if headers := ", ".join(json.loads(gateway.headers or "{}")):
            found.append(f"headers: set ({headers})")
        sent = ", ".join(found) or "nothing: auth_token is not set"
        return f"{sent}; {failure}" if failure else sent

    # --- a kernel -------------------------------------------------------------------------------

    def _check_kernel(self, gateway: GatewayClient) -> Iterator[_Result]:
        """Start a kernel, use it, and shut it down; yield a result for each step."""
        name = "kernel"
        try:
            with BlockingGatewayKernelManager(
                gateway=gateway, config=self.config, kernel_name=self.kernel_name
            ) as km:
                begun = perf_counter()
                with _told_if_slow("the start of a kernel", gateway.effective_request_timeout):
                    km.start_kernel()
                yield _timed(name, f"{km.kernel_name} started", _since(begun))
                name = "websocket"
                begun = perf_counter()
                with km.client() as kc:
                    yield _timed(name, "connected", _since(begun))
                    name = "execution"
                    begun = perf_counter()
                    with _told_if_slow("a reply of the kernel", READY_TIMEOUT):
                        kc.wait_for_ready(timeout=READY_TIMEOUT)
                    ready = _since(begun)
                    taken = _median(
                        lambda: kc.execute("", reply=True, timeout=STATUS_REPLY_TIMEOUT)
                    )
                    text = f"ready after {ready:.0f} ms; an empty cell's round trip"
                    yield _timed(name, text, taken)
        except GatewayError as error:
            yield _failed(name, error)


# --- the way to the gateway -----------------------------------------------------------------------


def _check_startup(gateway: GatewayClient, timeout: float) -> Iterator[_Result]:
    """Wait for a gateway that is starting; yield whether it came up."""
    begun = perf_counter()
    try:
        gateway.wait_until_up(timeout)
    except GatewayError as error:
        yield _failed("up", error)
    else:
        yield _timed("up", "it answers, after", _since(begun))


def _check_connection(gateway: GatewayClient) -> Iterator[_Result]:
    """Connect to the gateway's host, and yield whether it can be reached, and its certificate."""
    parts = urlsplit(gateway.url or "")
    if proxy := proxy_for(gateway.kernels_url):
        text = f"not tried: it is behind the proxy {safe_url(proxy)} of the environment"
        yield _Result("reached", text, mark="note")
        return  # only a request shows what is behind the proxy
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{parts.hostname} port {port}"
    begun = perf_counter()
    try:
        with _told_if_slow(f"a connection to {where}", gateway.connect_timeout):
            sock = socket.create_connection((parts.hostname or "", port), gateway.connect_timeout)
    except OSError as error:
        yield _Result("reached", f"{where}: {error.strerror or error}", for_connection(error))
        return
    with sock:
        yield _timed("reached", f"{where}, connected", _since(begun))
        sock.settimeout(min(gateway.connect_timeout, STATUS_TLS_TIMEOUT))
        if parts.scheme == "https":
            yield _encryption(gateway, parts.hostname, sock)
        else:
            yield _Result("encryption", "none: it is http", facts={"encrypted": False}, mark="note")


def _encryption(gateway: GatewayClient, host: str | None, sock: socket.socket) -> _Result:
    try:
        context = gateway.ssl_context()
    except GatewayError as error:
        return _Result("encryption", str(error.args[0]), error.advice, {})
    context.sslsocket_class = DirectTLSSocket  # it notices a port that speaks plain HTTP
    try:
        with context.wrap_socket(sock, server_hostname=host) as wrapped:
            version = wrapped.version()
            certificate = cast("_Certificate", wrapped.getpeercert() or {})
    except OSError as error:
        return _Result("encryption", *_refused(error))
    if not certificate:
        text = f"{version}; the certificate is not verified (validate_cert)"
        return _Result(
            "encryption", text, facts={"encrypted": True, "verified": False}, mark="note"
        )
    subject = _subject(certificate)
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    facts = {"encrypted": True, "verified": True, "subject": subject, "expires": end.isoformat()}
    text = f"{version}; certificate of {', '.join(subject)}, good until {end:%Y-%m-%d %H:%M} UTC"
    return _Result("encryption", text, facts=facts)


class _Certificate(TypedDict, total=False):
    """Result of ``SSLSocket.getpeercert()``."""

    subject: tuple[tuple[tuple[str, str], ...], ...]
    subjectAltName: tuple[tuple[str, str], ...]
    notAfter: str


def _subject(certificate: _Certificate) -> list[str]:
    """Return the names that a certificate is for."""
    parts = certificate.get("subject", ())
    names = [name for part in parts for kind, name in part if kind == _NAME]
    return names or [name for _, name in certificate.get("subjectAltName", ())]


def _refused(error: OSError) -> tuple[str, str]:
    """Return why the TLS handshake failed, and the advice."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}", for_tls(error)
    if isinstance(error, NoTLSError):
        return str(error.args[-1]), HTTP_ONLY
    if isinstance(error, TimeoutError):
        return "no TLS handshake in time", HTTP_ONLY
    return f"the TLS handshake failed: {error}", for_tls(error)


# --- the REST interface ------------------------------------------------------------------------


def _check_api(rest: GatewayREST, sent: Callable[[], str]) -> Iterator[_Result]:
    try:
        url, timeout = rest.gateway.kernelspecs_url, rest.gateway.effective_request_timeout
        with _told_if_slow(f"the response to GET {safe_url(url)}", timeout):
            specs = rest.list_kernelspecs()
    except GatewayAuthError as error:
        check = _failed("allowed in", error)
        check.text = f"no: {error.status_code} {error.reason} (sent: {sent()})"
        yield check
        return
    yield _Result("allowed in", f"yes (sent: {sent()})")
    yield _server(rest)
    taken = _median(rest.list_kernelspecs)
    yield _timed("round trip", f"median of {_ROUND_TRIPS} requests", taken)
    yield _kernelspecs(specs)
    yield _listing(rest)


def _check_websocket(rest: GatewayREST) -> _Result:
    """Ask for the websocket of a kernel that does not exist.

    A proxy may refuse every websocket.  If it does not, only a kernel shows whether websockets
    work: a gateway answers 404 here, and so it does if a proxy removed the ``Upgrade`` header.
    """
    client = BlockingGatewayKernelClient(kernel_id=str(uuid4()), gateway=rest.gateway, rest=rest)
    try:
        with _told_if_slow("the handshake of a websocket", rest.gateway.connect_timeout):
            client.start_channels()
    except NoSuchKernel:
        pass
    except GatewayError as error:
        return _failed("websocket", error)
    finally:
        client.stop_channels()
    text = "not refused; only a kernel shows whether it works: add --kernel=NAME"
    return _Result("websocket", text, facts={"tried": False}, mark="note")


def _server(rest: GatewayREST) -> _Result:
    """Return the kind of server, its version if it tells, and the version of jupyter_server."""
    try:
        response = rest.api_version()
    except GatewayHTTPError as error:
        return _Result("server", f"unknown: /api answered {error.status_code}")
    version = response.get("version", "unknown")
    if "gateway_version" in response:
        kind, seems = "Enterprise Gateway", f"Enterprise Gateway {response['gateway_version']}"
    else:
        kind = _kind(rest)
        seems = f"it looks like a {kind}" if kind else "of an unknown kind"
    # /api has the version of jupyter_server, on which all known gateways are built.
    text = f"{seems}, on jupyter_server {version}"
    return _Result("server", text, facts={"kind": kind or None, "version": version})


def _kind(rest: GatewayREST) -> str:
    """Return the kind of server: only a Jupyter Server has /api/status, not a Kernel Gateway."""
    try:
        rest.server_status()
    except GatewayHTTPError as error:
        return "Kernel Gateway" if error.status_code == 404 else ""
    return "Jupyter Server"


def _kernelspecs(specs: KernelSpecs) -> _Result:
    names, default = sorted(specs.get("kernelspecs", {})), specs.get("default")
    facts = {"names": names, "default": default}
    if not names:
        advice = "install a kernel, such as ipykernel, where the gateway runs"
        return _Result("kernelspecs", "none: no kernel can be started", advice, facts)
    text = ", ".join(f"{name} (default)" if name == default else name for name in names)
    if default not in names:
        text += f"; and not its default, {default}"
    return _Result("kernelspecs", text, facts=facts)


def _listing(rest: GatewayREST) -> _Result:
    try:
        models = rest.list_kernels()
    except KernelsNotListed:
        return _Result("kernels", NO_LISTING, facts={"listed": False}, mark="note")
    count = len(models)
    return _Result("kernels", f"{count} running", facts={"listed": True, "running": count})


# --- lines ----------------------------------------------------------------------------------------


def _told_if_slow(what: str, timeout: float) -> AbstractContextManager[None]:
    """Tell on standard error what the block waits for, if it takes long."""
    text = f"jupyter gateway status: waiting for {what}, for up to {timeout:g} s"
    return echo_after(STATUS_PATIENCE, text)


def _failed(name: str, error: GatewayError) -> _Result:
    """Return a failure with the text of an error and its advice."""
    return _Result(name, str(error.args[0]), error.advice or "see the gateway's log")


def _timed(name: str, text: str, milliseconds: float) -> _Result:
    return _Result(name, f"{text}: {milliseconds:.1f} ms", facts={"ms": round(milliseconds, 3)})


def _since(begun: float) -> float:
    return (perf_counter() - begun) * 1000


def _median(ask: Callable[[], object]) -> float:
    """Return the median of the milliseconds that a request takes."""
    taken = []
    for _ in range(_ROUND_TRIPS):
        begun = perf_counter()
        ask()
        taken.append(_since(begun))
    return median(taken)
