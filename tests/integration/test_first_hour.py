"""The walk: every error of the first hour with a gateway, and whether it is enough to go on.

Each says what was tried and on what, what came back and what to do about it, in one line that
nobody needs the documentation for, and shows nothing that is secret.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from traitlets import TraitError

from gateway_blocking import BlockingGatewayKernelManager
from gateway_blocking.errors import GatewayError
from gateway_blocking.local import LocalGateway
from support.rawserver import Script, certificate
from support.scripted import NOT_THERE, accepts, says, scripted, sends, stalls
from support.servers import own_gateway
from support.terminal import Person, Terminal, errors, without_a_gateway

SECRET = "sesame-open"
LONGEST = 600
NO_LAUNCH = {"kernel_launch_timeout": 0, "launch_timeout_pad": 0}  # they prolong a request
QUICK = {"auth_token": SECRET, "connect_timeout": 5, "request_timeout": 3, **NO_LAUNCH}
BRIEF = {"request_timeout": 1}  # also for how long a lost kernel is looked for
KERNEL = "6b3f4a1e-0f5d-4c53-9d51-7a2c8f1e9b04"
MODEL = says({"id": KERNEL, "name": "python3"}, "201 Created")
DELETED = says(b"", "204 No Content")
ELSEWHERE = "http://gateway.invalid:8888"
SPECS = {  # the programs of kernels that do not start
    "no-program": ["/no/such/program"],
    "ends-at-once": [sys.executable, "-c", "import sys; sys.exit('no')"],
    "never-answers": [sys.executable, "-c", "import time; time.sleep(60)"],
}


class World(NamedTuple):
    """What a situation may need."""

    gateway: LocalGateway
    broken: LocalGateway  # whose kernels do not start, and are not listed
    tls: tuple[ssl.SSLContext, str]
    folder: Path
    patch: pytest.MonkeyPatch


Options = dict[str, Any]
Provoke = Callable[[World], AbstractContextManager[Options]]
Encryption = tuple[ssl.SSLContext | None, Options]
Call = Callable[[BlockingGatewayKernelManager], object]


# --- situations -----------------------------------------------------------------------------------


def given(variable: str = "", value: str = "", **options: Any) -> Provoke:
    """These options, one of them perhaps by a variable; and no server."""

    def provoke(world: World) -> AbstractContextManager[Options]:
        if variable:
            world.patch.setenv(f"JUPYTER_GATEWAY_{variable}", value)
        return nullcontext(options)

    return provoke


def real(which: str = "gateway", path: str = "", scheme: str = "http", **options: Any) -> Provoke:
    """A real Kernel Gateway."""

    def provoke(world: World) -> AbstractContextManager[Options]:
        own = getattr(world, which).options()
        url = own["url"].replace("http", scheme) + path
        return nullcontext({**own, "request_timeout": 60, "url": url, **options})

    return provoke


def served(*scripts: Script, **options: Any) -> Provoke:
    """A server that answers so, request by request."""
    return encrypted(lambda world: (None, options), "http", *scripts)


def page(status: str, title: str = "") -> Script:
    """Answers with a page, as proxies and other servers do."""
    text = f"<html>\r\n<head><title>{title or status}</title></head>\r\n<body>\r\n</body></html>"
    return says(text.encode(), status, Content_Type="text/html")


def proxied(*scripts: Script, port: int = 0) -> Provoke:
    """A proxy that the environment names, and that answers so; or a port where there is none."""

    @contextmanager
    def provoke(world: World) -> Iterator[Options]:
        with scripted(*scripts) as proxy:
            where = f"127.0.0.1:{port}" if port else proxy.where
            world.patch.setenv("http_proxy", f"http://me:{SECRET}@{where}")
            yield {"url": ELSEWHERE}

    return provoke


def encrypted(
    how: Callable[[World], Encryption], scheme: str = "https", *scripts: Script
) -> Provoke:
    """A server with this TLS, and options for it."""

    @contextmanager
    def provoke(world: World) -> Iterator[Options]:
        tls, options = how(world)
        with scripted(*(scripts or [says({})]), tls=tls) as server:
            yield {"url": f"{scheme}://{server.where}", **options}

    return provoke


def as_it_is(world: World) -> Encryption:
    return world.tls[0], {}


def for_another_host(world: World) -> Encryption:
    tls, cert = certificate(world.folder, "other.example")
    return tls, {"ca_certs": cert}


def expired(world: World) -> Encryption:
    _, cert = certificate(world.folder)
    key, old = world.folder / "key.pem", world.folder / "old.pem"
    again = ["openssl", "x509", "-in", cert, "-signkey", key, "-days", "-1", "-out", old]
    subprocess.run(again, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(old, key)
    return tls, {"ca_certs": str(old)}


def wants_certificate(world: World) -> Encryption:
    tls, cert = certificate(world.folder)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the alert comes late, and may be lost
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cert)
    return tls, {"ca_certs": cert}


def without_key(world: World) -> Encryption:
    return world.tls[0], {"ca_certs": world.tls[1], "client_cert": world.tls[1]}


def no_certificates(world: World) -> Encryption:
    (world.folder / "some.pem").write_text("hello\n")
    return world.tls[0], {"ca_certs": str(world.folder / "some.pem")}


# --- what is called -------------------------------------------------------------------------------


def start(km: BlockingGatewayKernelManager) -> None:
    km.start_kernel(env={"KERNEL_ID": KERNEL})


def then(call: Callable[[BlockingGatewayKernelManager, Any], object]) -> Call:
    """Also this, with a client whose channels run."""

    def started(km: BlockingGatewayKernelManager) -> None:
        start(km)
        with km.client() as kc:
            call(km, kc)

    return started


READY = then(lambda km, kc: kc.wait_for_ready(timeout=60))


# --- the table ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A situation, and what its error has to say."""

    id: str
    provoke: Provoke
    came: str
    advice: str
    tried: str = "POST {url}/api/kernels"
    call: Call = start
    unsaid: str = SECRET  # what would lead astray


MAY_RUN = "the kernel may have started anyway"
LOG = "the gateway's log"
UPGRADE = "cannot open the websocket ws://127.0.0.1:"
LET_THROUGH = "check that each proxy in between lets websockets through"
IS_IT = "check that this is the URL of a gateway"
PEM = "to certificates in PEM format"
BRACES = 'as in {"X-Name": "value"}'

ROWS = [
    # the URL
    Row("nothing configured", given(), "no gateway is configured", "set JUPYTER_GATEWAY_URL", ""),
    Row("no scheme", given(url="gateway.example:8888"), "has no http:// or https://",
        "before it", "url='gateway.example:8888'"),
    Row("from a browser", given(url=f"http://gateway.example/lab?token={SECRET}"), "has a query",
        "leave out all from the ? on; its token belongs in auth_token", "//gateway.example/lab?"),
    Row("/lab", real(path="/lab"), "404", "try it without /lab"),
    Row("/api", real(path="/api"), "404", "try it without /api"),
    Row("unknown host", given(url=ELSEWHERE), "[Errno -", "check the host name"),
    Row("nothing listens", given(url="http://127.0.0.1:9"), "Connection refused",
        "check that the gateway is running, and that the port is right"),
    Row("http to TLS", encrypted(as_it_is, "http"), "", "this port wants https://"),
    Row("https to http", real(scheme="https", connect_timeout=1),
        "", "this port may speak http:// only"),  # it may answer: what TLS begins with is random
    Row("another server", served(page("200 OK", "Hello")), "not JSON but a page, 'Hello'", IS_IT),
    Row("another, 404", served(page("404 Not Found")), "404, Not Found", "check the URL"),
    Row("another, JSON", served(says({}), **BRIEF), "JSON, but it has no id: '{}'",
        IS_IT, unsaid=MAY_RUN),
    Row("SSH", served(sends(b"SSH-2.0-OpenSSH_9.6\r\n"), **BRIEF), "SSH-2.0",
        "check that it is a gateway", unsaid=MAY_RUN),
    Row("silence", served(stalls(), **BRIEF), "no response within 1 s (request_timeout",
        "it is not a gateway, or it is overloaded"),
    Row("start time-out", served(stalls(), NOT_THERE, request_timeout=0.1, kernel_launch_timeout=1),
        "no response within 1 s (kernel_launch_timeout", MAY_RUN, unsaid="(any more)"),
    # the login
    Row("no token", real(auth_token=""), "401, Unauthorized",
        "no token was sent: set auth_token (JUPYTER_GATEWAY_AUTH_TOKEN)"),
    Row("wrong token", real(auth_token=SECRET), "401, Unauthorized", "the token is wrong"),
    Row("wrong password", real(http_user="me", http_pwd=SECRET), "401, Unauthorized",
        "check http_user (JUPYTER_GATEWAY_HTTP_USER) and http_pwd"),
    Row("token of two lines", given(url=ELSEWHERE, auth_token=f"{SECRET}\n{SECRET}"),
        "a character that HTTP does not allow", "such as the end of a line", "auth_token has"),
    Row("a login page", served(says(b"", "302 Found", Location=f"/hub/login?next={SECRET}")),
        "302, Found", "/hub/login: the token is wrong or missing"),
    Row("listing", real("broken"), "403, Forbidden", "KG_LIST_KERNELS=True",
        "GET {url}/api/kernels", lambda km: km.rest.list_kernels()),
    # the kernel
    Row("unknown kernelspec", real(kernel_name="julia"),
        "no kernelspec 'julia'; it has ", "python3"),
    Row("no program", real("broken", kernel_name="no-program"), "500, Internal Server Error",
        "check that its program is installed there; its log says more"),
    Row("ends at once", real("broken", kernel_name="ends-at-once", ws_ping_interval=4), "died", LOG,
        KERNEL, READY),
    Row("ended already", real("broken", kernel_name="ends-at-once", ws_ping_interval=1), "died",
        LOG, KERNEL, READY),  # before anybody waited for it
    Row("never answers", real("broken", kernel_name="never-answers"), "in 2 seconds", LOG, KERNEL,
        then(lambda km, kc: kc.wait_for_ready(timeout=2))),
    # proxies
    Row("no proxy", proxied(MODEL, port=9), "Connection refused", "add its host to NO_PROXY"),
    Row("proxy, 403", proxied(page("403 Forbidden")), "403, Forbidden", "proxy http://127.0.0.1:"),
    Row("proxy, 407", proxied(page("407 Authenticate")), "407, Authenticate",
        "this is a proxy that wants a login, as in http://user:password@..."),
    Row("upgrade, 400", served(MODEL, page("400 Bad Request"), DELETED), "400, Bad Request",
        LET_THROUGH, UPGRADE, READY),
    Row("upgrade, 404", served(MODEL, page("404 Not Found"), DELETED), "404, Not Found",
        "a proxy in between does not let websockets through", UPGRADE, READY),
    Row("upgrade, 200", served(MODEL, page("200 OK"), DELETED), "200, OK", LET_THROUGH, UPGRADE,
        READY),
    Row("502", served(page("502 Bad Gateway"), **BRIEF), "502, Bad Gateway", "is not reachable"),
    Row("503", served(page("503 Unavailable")), "503, Unavailable", "is not available now"),
    Row("504", served(page("504 Time-out"), **BRIEF), "504, Time-out", "did not answer in time"),
    Row("413", served(page("413 Too Large")), "413, Too Large", "does not take so large a request"),
    # TLS
    Row("self-signed", encrypted(as_it_is), "certificate",
        "set ca_certs (JUPYTER_GATEWAY_CA_CERTS) to this certificate, if you trust it"),
    Row("for another host", encrypted(for_another_host), "'127.0.0.1'",
        "use a name of its subjectAltName"),
    Row("expired", encrypted(expired), "has expired", "the gateway needs a new certificate"),
    Row("no ca_certs", given(url="https://127.0.0.1:9", ca_certs="/no/such.pem"),
        "No such file or directory", PEM, "ca_certs='/no/such.pem'"),
    Row("ca_certs of text", encrypted(no_certificates), "cannot be used", PEM,
        "ca_certs='{folder}/some.pem'"),
    Row("no client_cert", encrypted(wants_certificate), "alert", "a client certificate"),
    Row("client_cert alone", encrypted(without_key), "client_key=None cannot be used",
        "with its private key", "client_cert='"),
    # options
    Row("no number", given("REQUEST_TIMEOUT", "abc"), "'abc'", "is not a number",
        "JUPYTER_GATEWAY_REQUEST_TIMEOUT"),
    Row("no switch", given("VALIDATE_CERT", "maybe"), "'maybe' must be",
        "1/0, true/false, yes/no or on/off", "JUPYTER_GATEWAY_VALIDATE_CERT"),
    Row("no JSON", given("HEADERS", f"X-Api-Key: {SECRET}"), "is not a JSON object",
        BRACES, "JUPYTER_GATEWAY_HEADERS='X-Api-Key:...'"),
    Row("misspelt variable", given("TOKEN", SECRET), "is not an option",
        "the nearest is JUPYTER_GATEWAY_AUTH_TOKEN", "JUPYTER_GATEWAY_TOKEN"),
    Row("misspelt keyword", given(token=SECRET), "an unexpected keyword argument 'token'",
        "the nearest is 'auth_token'", "BlockingGatewayKernelManager"),
    # the order of calls
    Row("client first", given(url=ELSEWHERE), "has no kernel", "start_kernel()", "client",
        lambda km: km.client().start_channels()),
    Row("interrupt first", given(url=ELSEWHERE), "No kernel is running", "Call start_kernel()",
        "Cannot interrupt kernel", lambda km: km.interrupt_kernel()),
    Row("second start", served(MODEL, DELETED), "runs already", "shut it down first", KERNEL,
        lambda km: (start(km), start(km))),
    Row("before start_channels", served(MODEL, DELETED), "are not running",
        "call start_channels()", "the channels", lambda km: (start(km), km.client().execute("1"))),
    Row("after shutdown", served(MODEL, accepts(), DELETED), "was shut down", "start_kernel()",
        KERNEL, then(lambda km, kc: (km.shutdown_kernel(), kc.execute("1")))),
    Row("after stop_channels", served(MODEL, accepts(), DELETED), "closed", "start_channels()",
        KERNEL, then(lambda km, kc: (kc.stop_channels(), kc.execute("1")))),
]  # fmt: skip
WITH_ADVICE = ["https to http", "upgrade, 400", "upgrade, 404", "upgrade, 200", "another, JSON"]
WITH_ADVICE += ["another server", "nothing listens", "no token", "self-signed"]
BY_STATUS = ["nothing configured", "nothing listens", "https to http", "no token", "a login page"]
BY_STATUS += ["wrong token", "self-signed"]


@pytest.fixture(scope="module")
def broken_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGateway]:
    path = tmp_path_factory.mktemp("jupyter")
    for name, argv in SPECS.items():
        (path / "kernels" / name).mkdir(parents=True)
        spec = {"argv": [*argv, "{connection_file}"], "display_name": name, "language": "none"}
        (path / "kernels" / name / "kernel.json").write_text(json.dumps(spec))
    args = ["--JupyterWebsocketPersonality.list_kernels=False"]
    args += ["--KernelRestarter.time_to_dead=0.2", "--KernelRestarter.restart_limit=1"]
    with own_gateway(*args, env={"JUPYTER_PATH": str(path)}) as gateway:
        yield gateway


@pytest.fixture
def world(
    gateway: LocalGateway,
    broken_gateway: LocalGateway,
    tls: tuple[ssl.SSLContext, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    monkeypatch.setattr("gateway_blocking.launch.SEARCH_TIMEOUT", 0.5)
    monkeypatch.setattr("gateway_blocking.launch.SEARCH_PAUSE", 0.05)
    return World(gateway, broken_gateway, tls, tmp_path, monkeypatch)


def check(text: str, *parts: str) -> None:
    assert not [part for part in parts if part not in text], text
    assert "\n" not in text
    assert len(text) <= LONGEST


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_an_error_is_enough_to_go_on(row: Row, world: World) -> None:
    """It says what was tried, what came back and what to do, in one line without a secret."""
    kinds = (GatewayError, TraitError, TypeError, RuntimeError, UserWarning)
    with (
        row.provoke(world) as options,
        pytest.raises(kinds) as caught,
        BlockingGatewayKernelManager(**{**QUICK, **options}) as km,
    ):
        row.call(km)
    advice = getattr(caught.value, "advice", "")
    assert advice in str(caught.value)
    assert row.advice in advice or row.id not in WITH_ADVICE
    tried = row.tried.format(url=options.get("url"), folder=world.folder)
    check(str(caught.value), tried, row.came, row.advice)
    assert row.unsaid not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(x in shown for x in (SECRET, world.gateway.token, world.broken.token))


@pytest.mark.parametrize("name", BY_STATUS)
def test_the_status_gives_the_same_advice(name: str, world: World, terminal: Terminal) -> None:
    """Its last two lines are what failed, and what to do about it."""
    [row] = [row for row in ROWS if row.id == name]
    terminal.env = without_a_gateway(terminal.env)
    with row.provoke(world) as options:
        variables = {f"JUPYTER_GATEWAY_{name.upper()}": str(options[name]) for name in options}
        done = terminal("status", **variables)
    assert (done.returncode, done.stderr) == (3, "")
    *_, failed, todo = done.stdout.splitlines()
    assert failed.startswith("FAILED")
    check(todo, row.advice)
    assert not any(x in done.stdout for x in (SECRET, world.gateway.token))


INSTALL = 'pip install "gateway-blocking[{}]"'
COMMANDS = [
    ("nbclient", ["run", "a.ipynb"], 2, "a notebook needs nbclient", INSTALL.format("notebook")),
    ("nbformat", ["run", "a.ipynb"], 2, "a notebook needs nbformat", INSTALL.format("notebook")),
    ("papermill", ["run", "a.ipynb", "-p", "a", "1"], 2, "-p needs papermill", "pip install"),
    ("kernel_gateway", ["run", "a.py"], 3, "needs kernel_gateway", INSTALL.format("local")),
    ("ipykernel", ["run", "a.py"], 3, "needs ipykernel", INSTALL.format("local")),
    ("", ["run", "none.ipynb"], 2, "cannot read none.ipynb", "No such file or directory"),
    ("", ["run", "text.ipynb"], 2, "text.ipynb is not a notebook", "JSON"),
]


def without(package: str, terminal: Terminal) -> dict[str, str]:
    """The environment of a command that does not find the package."""
    terminal.write("sitecustomize.py", f"import sys; sys.modules[{package!r}] = None")
    return {"PYTHONPATH": str(terminal.directory)}


@pytest.mark.parametrize(("package", "args", "status", "came", "advice"), COMMANDS)
def test_the_command_line_is_enough_to_go_on(
    package: str, args: list[str], status: int, came: str, advice: str, terminal: Terminal
) -> None:
    """One line on standard error, where a package is missing or a file is not what it should be."""
    terminal.notebook("a.ipynb", "1")
    terminal.write("a.py", "1")
    terminal.write("text.ipynb", "print(1)")
    terminal.env = without_a_gateway(terminal.env)
    done = terminal(*args, **without(package, terminal))
    assert (done.returncode, done.stdout) == (status, "")
    [line] = errors(done)
    check(line, "jupyter gateway run: ", came, advice)


def test_without_jupyter_console(terminal: Terminal) -> None:
    """This one needs a terminal: without one, that is the error."""
    with Person(terminal, "console", **without("jupyter_console", terminal)) as person:
        status, said = person.ends()
    assert status == 2
    check(said.strip(), "needs jupyter_console", INSTALL.format("console"))


def test_without_rich(terminal: Terminal) -> None:
    """That is no error: the progress is plainer, and nobody is told to install anything."""
    terminal.notebook("a.ipynb", "1")
    done = terminal("run", "a.ipynb", **without("rich", terminal))
    assert (done.returncode, done.stderr) == (0, "wrote a.executed.ipynb\n")
