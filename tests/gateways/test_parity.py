"""Our client and manager beside jupyter_client's: same names, signatures, messages; no ZMQ."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from queue import Empty
from typing import Any

import jupyter_client.manager
import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.channels import ZMQSocketChannel
from jupyter_client.channelsabc import ChannelABC, HBChannelABC
from jupyter_client.client import KernelClient
from jupyter_client.clientabc import KernelClientABC
from jupyter_client.manager import KernelManager
from jupyter_client.managerabc import KernelManagerABC
from jupyter_core.utils import ensure_event_loop
from traitlets.config import LoggingConfigurable

import gateway_blocking
from gateway_blocking import (
    BlockingGatewayKernelClient,
    BlockingGatewayKernelManager,
    RemoteNotSupported,
    start_new_kernel,
)
from gateway_blocking.local import LocalGateway
from gateway_blocking.remote import unsupported
from support.kernels import available

Client = BlockingGatewayKernelClient
Manager = BlockingGatewayKernelManager

PAIRS = {"client": (Client, BlockingKernelClient), "manager": (Manager, KernelManager)}

# Public methods and properties that are jupyter_client's own, and why they are right as they are.
INHERITED = {
    "client": {
        "cleanup_connection_file": "removes the connection file that was written: none",
        "cleanup_ipc_files": "removes the files of ipc sockets: none",
        "cleanup_random_ports": "forgets the ports that were chosen: none",
    },
    "manager": {
        "cleanup_connection_file": "removes the connection file that was written: none",
        "cleanup_ipc_files": "removes the files of ipc sockets: none",
        "cleanup_random_ports": "forgets the ports that were chosen: none",
        "add_restart_callback": "for a restarter on this machine; there is none",
        "remove_restart_callback": "for a restarter on this machine; there is none",
        "start_restarter": "does nothing in jupyter_client's blocking manager either",
        "stop_restarter": "does nothing in jupyter_client's blocking manager either",
        "ipykernel": "judges kernel_spec, which is ours",
        "owns_kernel": "the attribute that ours is kept in",
    },
}

NOT_POSSIBLE = {
    "client": {
        "connect_control",
        "connect_hb",
        "connect_iopub",
        "connect_shell",
        "connect_stdin",
        "load_connection_file",
        "load_connection_info",
        "write_connection_file",
    },
}
NOT_POSSIBLE["manager"] = NOT_POSSIBLE["client"] | {
    "format_kernel_cmd",
    "post_start_kernel",
    "pre_start_kernel",
    "update_env",
}


def public(theirs: type) -> list[str]:
    """The public methods and properties of a class of jupyter_client, without traitlets' own."""
    return [
        name
        for name in sorted(set(dir(theirs)) - set(dir(LoggingConfigurable)))
        if not name.startswith("_")
        and isinstance(inspect.getattr_static(theirs, name), (types.FunctionType, property))
    ]


MEMBERS = [(kind, name) for kind, (_, theirs) in PAIRS.items() for name in public(theirs)]


# --- names and signatures -------------------------------------------------------------------------


def test_the_look_at_jupyter_client_sees_its_methods() -> None:
    """The tests below are only as good as the list that they walk."""
    assert {"execute", "get_shell_msg", "wait_for_ready", "shell_channel"} <= set(
        public(BlockingKernelClient)
    )
    assert {"start_kernel", "is_alive", "has_kernel", "client"} <= set(public(KernelManager))


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_every_public_member_is_ours_or_is_known_to_fit(kind: str, name: str) -> None:
    """Nothing of jupyter_client's that knows of processes and sockets is left uncovered."""
    ours, _ = PAIRS[kind]
    owner = next(cls for cls in ours.__mro__ if name in vars(cls))
    if name in INHERITED[kind]:
        assert owner.__module__.startswith("jupyter_client."), "take it off the list"
    else:
        assert owner.__module__.startswith("gateway_blocking."), f"inherited from {owner}"


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_members_are_called_in_the_same_way(kind: str, name: str) -> None:
    """Same parameters, in the same order, with the same defaults; a property is a property."""
    ours, theirs = (inspect.getattr_static(cls, name) for cls in PAIRS[kind])
    assert isinstance(ours, property) == isinstance(theirs, property)
    if isinstance(theirs, property) or name in NOT_POSSIBLE[kind]:
        return
    expected = parameters(_unwrapped(PAIRS[kind][1], name))
    found = parameters(ours)
    extra = [p for p in found if p.kind is p.KEYWORD_ONLY and p.name in ("reply", "timeout")]
    assert [_call(p) for p in found if p not in extra] == [_call(p) for p in expected]
    assert [_call(p)[2] for p in extra] in ([], [False, None])


def _unwrapped(theirs: type, name: str) -> Callable[..., Any]:
    """What jupyter_client wrapped: its wrappers take (*args, **kwargs)."""
    if name.startswith("get_") and name.endswith("_msg"):
        return ZMQSocketChannel.get_msg  # which gets what they are called with
    method = getattr(theirs, name)
    if "wrapped" in method.__qualname__ and method.__module__ == "jupyter_core.utils":
        (method,) = inspect.getclosurevars(method).nonlocals.values()
    elif method.__qualname__.startswith("wrapped."):
        method = inspect.getclosurevars(method).nonlocals["meth"]
    return method


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = list(inspect.signature(function).parameters.values())
    return found[1:] if found and found[0].name == "self" else found


def _call(parameter: inspect.Parameter) -> tuple[str, Any, Any]:
    """What of a parameter matters to who calls; the name of ``**kwargs`` does not."""
    named = parameter.kind is not parameter.VAR_KEYWORD
    return parameter.name if named else "**", parameter.kind, parameter.default


@pytest.mark.parametrize("name", ["start_new_kernel", "run_kernel"])
def test_the_functions_are_called_in_the_same_way(name: str) -> None:
    """A script changes its import and nothing else."""
    ours, theirs = getattr(gateway_blocking, name), getattr(jupyter_client.manager, name)
    assert [_call(p) for p in parameters(ours)] == [_call(p) for p in parameters(theirs)]


def test_the_classes_are_what_callers_ask_for(
    gateway: LocalGateway, remote: BlockingGatewayKernelClient
) -> None:
    """nbclient's trait wants a KernelManager; others ask for the abstract classes."""
    assert issubclass(Manager, KernelManager)
    assert issubclass(Manager, KernelManagerABC)
    assert issubclass(Client, BlockingKernelClient)
    assert issubclass(Client, KernelClientABC)
    assert isinstance(remote, KernelClient)
    assert isinstance(remote.parent, KernelManager)
    for name in ("shell", "iopub", "stdin", "control"):
        assert isinstance(getattr(remote, f"{name}_channel"), ChannelABC)
    assert isinstance(remote.hb_channel, HBChannelABC)


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in NOT_POSSIBLE.items() for name in sorted(names)],
)
def test_the_impossible_is_refused_with_a_reason(
    kind: str, name: str, remote: BlockingGatewayKernelClient
) -> None:
    """It is an error that names the method, whatever the arguments."""
    target = {"client": remote, "manager": remote.parent}[kind]
    with pytest.raises(RemoteNotSupported, match=rf"{name}\(\) is not possible: a? ?\w+"):
        getattr(target, name)()
    with pytest.raises(NotImplementedError):
        getattr(target, name)("anything", env={})


def test_signals_other_than_interrupt_are_refused(remote: BlockingGatewayKernelClient) -> None:
    """The kernel's process is out of reach."""
    with pytest.raises(RemoteNotSupported, match="only SIGINT"):
        remote.parent.signal_kernel(signal.SIGTERM)


def test_what_careful_callers_look_at_is_there_and_empty(
    remote: BlockingGatewayKernelClient,
) -> None:
    """Code that asks ``if km.provisioner:`` or ``if km.connection_file:`` takes the other way."""
    km = remote.parent
    assert km.provisioner is None
    assert km.has_kernel
    for each in (km, remote):
        assert each.connection_file == ""
        assert each.ports == []
        assert [getattr(each, f"{n}_port") for n in ("shell", "iopub", "stdin", "hb")] == [0] * 4
        each.cleanup_connection_file()
        each.cleanup_ipc_files()
        each.cleanup_random_ports()
        assert set(each.get_connection_info()) == {"kernel_id", "url"}
    assert remote.shell_channel.socket is None
    assert km.resolve_path("notebook.ipynb") is None


def test_a_client_of_a_client_reaches_the_kernel(remote: BlockingGatewayKernelClient) -> None:
    """``blocking_client()`` gives one of ours, also when asked of a client."""
    for origin in (remote, remote.parent):
        with origin.blocking_client() as other:
            assert isinstance(other, Client)
            assert other.kernel_id == remote.kernel_id
            assert other.session.session != remote.session.session
            other.wait_for_ready(timeout=60)


# --- neither run_sync nor an event loop nor ZMQ: what the code can reach --------------------------

FORBIDDEN = {
    "run_sync",
    "ensure_async",
    "ensure_event_loop",
    "new_event_loop",
    "run_until_complete",
    "run_forever",
    "run_coroutine_threadsafe",
    "zmq",
    "Poller",
}
FOLLOWED = ("gateway_blocking.", "jupyter_client.", "jupyter_core.")
Index = dict[str, list[types.FunctionType]]


def reached(cls: type, name: str, index: Index) -> list[types.FunctionType]:
    """The functions that a member is made of, and those that they may call.

    A name in the code counts as a call of everything that is called so: of the function in its
    module, and of all methods of that name in the index.  That finds more than is really called,
    never less, as long as the call is by name and stays within gateway_blocking and jupyter_client.
    """
    seen: dict[types.CodeType, types.FunctionType] = {}
    todo = functions_in(inspect.getattr_static(cls, name))
    while todo:
        function = todo.pop()
        if function.__code__ not in seen and function.__module__.startswith(FOLLOWED):
            seen[function.__code__] = function
            for cell in function.__closure__ or ():
                todo += functions_in(cell.cell_contents)
            for each in names_in(function.__code__):
                todo += functions_in(function.__globals__.get(each))
                todo += index.get(each, ())
    return list(seen.values())


def forbidden(functions: Iterable[types.FunctionType]) -> set[str]:
    """What is mentioned in functions and should not be."""
    found = set()
    for function in functions:
        names = set(names_in(function.__code__))
        found |= names & FORBIDDEN
        if function.__module__ == "jupyter_core.utils":
            found.add("run_sync")  # what it returns
        if "context" in names and "_created_context" not in names:
            found.add("context")  # the trait makes one when it is looked at
    return found


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def functions_in(value: Any) -> list[types.FunctionType]:
    """The functions that a member of a class, or of a module, is made of."""
    if isinstance(value, types.FunctionType):
        return [value, *functions_in(getattr(value, "__wrapped__", None))]
    if isinstance(value, property):
        return functions_in(value.fget) + functions_in(value.fset)
    if isinstance(value, (staticmethod, classmethod)):
        return functions_in(value.__func__)
    if isinstance(value, type) and value.__module__.startswith("gateway_blocking."):
        return functions_in(inspect.getattr_static(value, "__init__"))
    return []


def index_of(classes: Iterable[type]) -> Index:
    """The methods of classes by name, inherited ones too."""
    index: Index = {}
    for cls in classes:
        for name in dir(cls):
            index.setdefault(name, []).extend(functions_in(inspect.getattr_static(cls, name, None)))
    return index


def our_classes() -> list[type]:
    """All of the package but its front, which is above client and manager."""
    front = ("bridge", "cli", "local", "__main__")
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("gateway_blocking.") and name.split(".")[1] not in front
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("kind", PAIRS)
def test_no_public_member_can_reach_an_event_loop_or_zmq(kind: str) -> None:
    """Walked through by what the byte code names, over the whole package."""
    ours, theirs = PAIRS[kind]
    walked = {*public(theirs), *public(ours), "__init__", "__enter__", "__exit__", "__repr__"}
    index = index_of(our_classes())
    assert {name: bad for name in walked if (bad := forbidden(reached(ours, name, index)))} == {}


def test_the_walk_goes_all_the_way_down() -> None:
    """From a method of the client to the socket, over properties and what was handed down."""
    found = {
        function.__qualname__ for function in reached(Client, "execute", index_of(our_classes()))
    }
    assert {"Channel.send", "Connection.send", "Transport.send", "Mailbox.take"} <= found


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        (BlockingKernelClient, "execute"),
        (BlockingKernelClient, "wait_for_ready"),
        (BlockingKernelClient, "start_channels"),
        (KernelManager, "start_kernel"),
        (KernelManager, "is_alive"),
    ],
)
def test_the_walk_finds_what_is_there(theirs: type, name: str) -> None:
    """In jupyter_client's own classes the same walk comes upon event loops and ZMQ."""
    assert forbidden(reached(theirs, name, index_of([theirs])))


# --- neither run_sync nor an event loop nor ZMQ: what really happens ------------------------------


@pytest.fixture
def no_loop_no_zmq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes or runs an event loop, or makes a ZMQ context, fails."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        pytest.fail("an event loop or ZMQ was used")

    monkeypatch.setattr(zmq.Context, "__new__", refuse)
    monkeypatch.setattr(zmq.Socket, "__new__", refuse)
    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    monkeypatch.setattr(asyncio.BaseEventLoop, "__init__", refuse)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_until_complete", refuse)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_forever", refuse)
    monkeypatch.setattr("jupyter_core.utils._TaskRunner.run", refuse)


def test_jupyter_client_would_not_pass(no_loop_no_zmq: None) -> None:
    """The traps work: what jupyter_client does at first runs into them."""
    with pytest.raises(pytest.fail.Exception, match="was used"):
        zmq.Context()
    coroutine = asyncio.sleep(0)
    with pytest.raises(pytest.fail.Exception, match="was used"):
        ensure_event_loop().run_until_complete(coroutine)
    coroutine.close()


def test_a_whole_session_without_an_event_loop_and_without_zmq(
    gateway: LocalGateway, no_loop_no_zmq: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From start to shutdown, all that a client can ask for."""
    shown: list[Any] = []
    with Manager(kernel_name="python3", **gateway.options()) as km:
        km.start_kernel()
        assert km.is_alive()
        assert km.ipykernel
        assert km.ready.done()
        with km.client() as kc:
            kc.wait_for_ready(timeout=60)
            assert kc.is_alive()
            assert kc.hb_channel.is_beating()
            ask = {"reply": True, "timeout": 20}
            assert kc.execute("x = 6 * 7; x", **ask)["content"]["status"] == "ok"
            assert kc.complete("x.bit_l", **ask)["content"]["matches"]
            assert kc.inspect("x", **ask)["content"]["found"]
            assert kc.history(hist_access_type="tail", n=1, **ask)["content"]["history"]
            assert kc.comm_info(**ask)["content"]["comms"] == {}
            assert kc.is_complete("for x in y:", **ask)["content"]["status"] == "incomplete"
            assert kc.kernel_info(**ask)["content"]["language_info"]["name"] == "python"
            assert kc.get_iopub_msg(timeout=20)["msg_type"] == "status"
            kc.iopub_channel.get_msgs()
            with pytest.raises(Empty):
                kc.get_shell_msg(timeout=0)

            monkeypatch.setattr("builtins.input", lambda prompt: f"answer to {prompt}")
            kc.execute_interactive("print(input('?'))", timeout=20, output_hook=shown.append)
            assert "answer to ?\n" in [m["content"].get("text") for m in shown]

            msg_id = kc.execute("import time; print('ready'); time.sleep(60)")
            while kc.get_iopub_msg(timeout=20)["msg_type"] != "stream":
                pass
            km.interrupt_kernel()
            reply = kc.get_shell_msg(timeout=20)
            assert reply["parent_header"]["msg_id"] == msg_id
            assert reply["content"]["ename"] == "KeyboardInterrupt"

            km.restart_kernel(now=True)
            kc.wait_for_ready(timeout=60)
            assert kc.execute("x", **ask)["content"]["ename"] == "NameError"
            kc.shutdown(reply=True, timeout=20)
        km.shutdown_kernel(now=True)
        assert not km.is_alive()


# --- the same messages ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(_event_loop_of_jupyter: None) -> Iterator[BlockingKernelClient]:
    """jupyter_client's own client of a kernel on this machine."""
    km, kc = jupyter_client.manager.start_new_kernel(kernel_name="python3")
    # Its wait_for_ready asks again every second: what is answered late is not to be in the way.
    msg_id = kc.kernel_info()
    while kc.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != msg_id:
        pass
    # On a busy machine it would take another socket, which would seem to be left by a test.
    kc.hb_channel.pause()
    yield kc
    kc.stop_channels()
    km.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def remote(gateway: LocalGateway) -> Iterator[BlockingGatewayKernelClient]:
    """Our client of a kernel behind the gateway; its parent is the manager."""
    km, kc = start_new_kernel(kernel_name="python3", **gateway.options())
    yield kc
    kc.stop_channels()
    km.shutdown_kernel(now=True)
    km.cleanup_resources()


# Values that differ from kernel to kernel, or from message to message.
DIFFERENT = {"banner", "comm_id", "date", "engine", "engine_uuid", "msg_id", "session"} | {
    "started",
    "username",
}


def comparable(value: Any, name: str = "") -> Any:
    """A message with its order of keys and its types, and without what must differ."""
    kind = type(value).__name__
    if isinstance(value, dict):
        # (ipykernel writes the parent header of a stream in an order that is random.)
        items = sorted(value.items()) if name == "parent_header" else value.items()
        return kind, [(key, comparable(each, key)) for key, each in items]
    if isinstance(value, (list, tuple)):
        return kind, [comparable(each) for each in value]
    if isinstance(value, datetime):
        return kind, value.utcoffset()
    if isinstance(value, memoryview):
        return kind, value.format, value.tobytes()
    return kind if name in DIFFERENT else (kind, value)


def conversation(kc: BlockingKernelClient, code: str) -> list[tuple[str, Any]]:
    """All messages that come in answer to some code, each with its channel."""
    msg_id = kc.execute(code)
    heard = []
    while True:
        msg = kc.get_iopub_msg(timeout=30)
        if msg["parent_header"].get("msg_id") == msg_id:
            heard.append(("iopub", comparable(msg)))
            if msg["content"].get("execution_state") == "idle":
                break
    msg = kc.get_shell_msg(timeout=30)
    assert msg["parent_header"]["msg_id"] == msg_id
    return [*heard, ("shell", comparable(msg))]


CODE = {
    "nothing": ("pass", []),
    "stream": ("print('one\\n\\u2603', flush=True)", ["stream"]),
    "result": ("{'a': [1, 2]}", ["execute_result"]),
    "display": (
        "h = display('x', display_id='d'); h.update('y')",
        ["display_data", "update_display_data"],
    ),
    "html": ("from IPython.display import HTML; HTML('<b>x</b>')", ["execute_result"]),
    "clear": ("from IPython.display import clear_output; clear_output(True)", ["clear_output"]),
    "error": ("1 / 0", ["error"]),
    "odd": (
        "display({'text/plain': '\\U0001d4b3', 'x/y': [None, 1e300, {}]}, raw=True)",
        ["display_data"],
    ),
    "latin-1": (  # as os.listdir() gives the name of a file that another system wrote
        "print('found', b'caf\\xe9.txt'.decode('utf-8', 'surrogateescape'))",
        ["stream"],
    ),
    "latin-1 result": (
        "raw = b'\\xff'.decode('utf-8', 'surrogateescape')\n"
        "display({'text/plain': raw, raw: raw}, metadata={raw: 1}, raw=True)",
        ["display_data"],
    ),
    "latin-1 error": (
        "raise ValueError(b'caf\\xe9.txt'.decode('utf-8', 'surrogateescape'))",
        ["error"],
    ),
    "latin-1 code": ("print(ascii('caf\udce9'))", ["stream"]),
    "buffers": (
        "from comm import create_comm\n"
        "c = create_comm(target_name='t', data={'a': 1}, buffers=[b'\\x00\\xff', b''])\n"
        "c.send({'b': [2]}, buffers=[memoryview(b'x' * 70000), b'123'])\n"
        "c.close()",
        ["comm_open", "comm_msg", "comm_close"],
    ),
}


@pytest.mark.parametrize("code", CODE)
def test_the_answers_to_code_are_the_same(
    code: str, local: BlockingKernelClient, remote: BlockingGatewayKernelClient
) -> None:
    """Same messages in the same order, with same keys, types, values and buffers."""
    source, expected = CODE[code]
    here, there = conversation(local, source), conversation(remote, source)
    types_ = [dict(message[1])["msg_type"][1] for _, message in there]
    assert types_[:2] == ["status", "execute_input"]
    assert types_[2:-2][: len(expected)] == expected
    assert there == here


OTHER_CODE = {
    "ir": ["cat('one\\n')", "6 * 7", "stop('x')"],
    "py": ["print('one', flush=True)", "6 * 7"],
    "xpython": ["print('one', flush=True)", "6 * 7", "1 / 0"],
}


@pytest.mark.usefixtures("_event_loop_of_jupyter")
@pytest.mark.parametrize("name", available("py", "ir", "xpython"))
def test_other_kernels_answer_the_same(name: str) -> None:
    """Same messages with the same content; these kernels listen on ports."""
    with LocalGateway() as host:
        local_km, local_kc = jupyter_client.manager.start_new_kernel(kernel_name=name)
        km, kc = start_new_kernel(kernel_name=name, **host.options())
        try:
            msg_id = local_kc.kernel_info()
            while local_kc.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != msg_id:
                pass
            for code in OTHER_CODE[name]:
                here, there = (contents(conversation(one, code)) for one in (local_kc, kc))
                assert here == there
        finally:
            kc.stop_channels()
            km.shutdown_kernel(now=True)
            km.cleanup_resources()
            local_kc.stop_channels()
            local_km.shutdown_kernel(now=True)


def contents(messages: list[tuple[str, Any]]) -> list[tuple[str, Any, Any]]:
    """Channel, type and content of each: jupyter_client leaves a date in nanoseconds as text."""
    parts = [(channel, dict(message[1])) for channel, message in messages]
    return [(channel, part["msg_type"], part["content"]) for channel, part in parts]


REQUESTS: dict[str, Callable[..., Any]] = {
    "kernel_info": lambda kc, **kw: kc.kernel_info(**kw),
    "complete": lambda kc, **kw: kc.complete("x = ran", 7, **kw),
    "inspect": lambda kc, **kw: kc.inspect("len", cursor_pos=2, detail_level=1, **kw),
    "history": lambda kc, **kw: kc.history(hist_access_type="tail", n=0, **kw),
    "comm_info": lambda kc, **kw: kc.comm_info("nobody", **kw),
    "execute": lambda kc, **kw: kc.execute("y = 1", user_expressions={"y": "y", "z": "z"}, **kw),
    "latin-1": lambda kc, **kw: kc.execute(
        "", user_expressions={"x": "b'caf\\xe9'.decode('utf-8', 'surrogateescape')"}, **kw
    ),
    "silent": lambda kc, **kw: kc.execute("2", silent=True, store_history=False, **kw),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_replies_to_requests_are_the_same(
    request_: str, local: BlockingKernelClient, remote: BlockingGatewayKernelClient
) -> None:
    """Also those that are waited for with ``reply=True``."""
    ask = REQUESTS[request_]
    for kc in (local, remote):  # jedi gives up after a while, and then completes nothing
        kc.execute("%config IPCompleter.use_jedi = False", reply=True, timeout=30)
    replies = [comparable(ask(kc, reply=True, timeout=30)) for kc in (local, remote)]
    assert replies[0] == replies[1]


def test_is_complete_replies_the_same(
    local: BlockingKernelClient, remote: BlockingGatewayKernelClient
) -> None:
    """jupyter_client's own has no ``reply=``: both are read from the channel."""
    for code in ("x = 1", "if x:", "x ="):
        for kc in (local, remote):
            kc.is_complete(code)
        here, there = (comparable(kc.get_shell_msg(timeout=30)) for kc in (local, remote))
        assert here == there


def test_the_message_ids_have_the_same_form(
    local: BlockingKernelClient, remote: BlockingGatewayKernelClient
) -> None:
    """A request's id is one of jupyter_client's, so that what parses it goes on to."""
    ids = [kc.execute("pass") for kc in (local, remote)]
    for kc, msg_id in zip((local, remote), ids, strict=True):
        assert kc.get_shell_msg(timeout=30)["parent_header"]["msg_id"] == msg_id
        assert msg_id.startswith(kc.session.session + "_")
    assert ids[0].count("_") == ids[1].count("_")


def test_buffers_arrive_in_the_kernel(
    local: BlockingKernelClient, remote: BlockingGatewayKernelClient
) -> None:
    """A hand-made message with buffers is understood by the kernel as one over ZMQ is."""
    serve = (
        "from comm import get_comm_manager\n"
        "def serve(comm, msg):\n"
        "    print([type(b).__name__ for b in msg['buffers']],"
        " [bytes(b) for b in msg['buffers']], msg['content']['data'])\n"
        "get_comm_manager().register_target('serve', serve)"
    )
    told = []
    for kc in (local, remote):
        conversation(kc, serve)
        content = {"comm_id": "c", "target_name": "serve", "data": {"k": "v"}}
        msg = kc.session.msg("comm_open", content)
        msg["buffers"] = [b"\x00\x01", memoryview(b"view"), bytearray(b"")]
        kc.shell_channel.send(msg)
        while (msg := kc.get_iopub_msg(timeout=30))["msg_type"] != "stream":
            pass
        told.append(msg["content"])
    assert "b'view'" in told[0]["text"]
    assert told[0] == told[1]


def test_impossible_methods_are_marked_as_such() -> None:
    """The list above is that of all methods that were made with ``unsupported``."""
    made = unsupported("x", "y").__code__
    for kind, (ours, theirs) in PAIRS.items():
        found = {
            name
            for name in public(theirs)
            if getattr(inspect.getattr_static(ours, name), "__code__", None) is made
        }
        assert found == NOT_POSSIBLE[kind]
