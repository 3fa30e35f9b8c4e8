"""The routes of a bridge, and the messages that it makes itself."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from gateway_blocking.bridge import routing
from gateway_blocking.bridge.kernelspecs import (
    is_of_this_package,
    kernel_json,
    local_name,
    local_names,
)
from gateway_blocking.bridge.routing import (
    Route,
    RouteTable,
    asks_for_restart,
    end_messages,
    failure_messages,
    lost_output_text,
    text_for_front_end,
    topic,
)
from gateway_blocking.errors import GatewayAuthError, KernelRestarted, ReplyLost


def header(msg_id: str, msg_type: str = "execute_request") -> dict[str, Any]:
    return {"msg_id": msg_id, "msg_type": msg_type, "session": "s"}


def test_a_reply_goes_to_the_front_end_that_asked() -> None:
    """Several front ends share a bridge, and each has its own identity."""
    routes = RouteTable()
    routes.add(Route("shell", (b"one",), header("1")))
    routes.add(Route("control", (b"two", b"more"), header("2")))
    assert routes.find("2") == routes.close("2") == (b"two", b"more")
    assert routes.find("3") is routes.close("3") is None


def test_a_question_after_the_reply_has_a_route() -> None:
    """A thread of the kernel may call input() after the cell has ended."""
    routes = RouteTable()
    routes.add(Route("shell", (b"one",), header("1")))
    assert routes.close("1") == routes.find("1") == routes.close("1") == (b"one",)


def test_a_request_fails_once_and_not_after_its_reply() -> None:
    """A front end gets one reply to each request."""
    routes = RouteTable()
    for number in "12":
        routes.add(Route("shell", (b"one",), header(number)))
    routes.close("1")
    assert routes.fail("1") is None
    assert routes.fail("2") == Route("shell", (b"one",), header("2"))
    assert routes.fail("2") is routes.fail("3") is None


def test_what_is_remembered_of_an_answered_request_is_small() -> None:
    """A front end that runs for weeks makes many requests."""
    routes = RouteTable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            routes.add(Route("shell", (b"one",), {**header(str(number)), "data": "x" * number}))
            routes.close(str(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 300_000


def test_open_requests_are_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those whose reply was sent are, the oldest first."""
    monkeypatch.setattr(routing, "_REMEMBERED", 2)
    routes = RouteTable()
    for number in range(10):
        routes.add(Route("shell", (b"x",), header(str(number))))
    for number in range(5, 10):
        routes.close(str(number))
    assert [number for number in range(10) if routes.find(str(number))] == [0, 1, 2, 3, 4, 8, 9]


def test_requests_without_a_reply_are_known() -> None:
    """They are what a cell waits for if the kernel does not start."""
    routes = RouteTable()
    for number in "123":
        routes.add(Route("shell", (b"x",), header(number)))
    routes.close("2")
    assert [route.header["msg_id"] for route in routes.open_requests()] == ["1", "3"]


@pytest.mark.parametrize(
    ("content", "restarts"),
    [
        (b'{"restart": true}', True),
        (b'{"restart": false}', False),
        (b"{}", False),
        (b"[]", False),
        (b"no JSON", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
    ids=range(7),
)
def test_restart_is_asked_for_in_the_content(content: bytes, restarts: bool) -> None:
    """Of a shutdown_request, the only content that the bridge parses."""
    assert asks_for_restart(content) is restarts


def test_a_lost_reply_ends_its_cell() -> None:
    """The error is shown, the request has a reply, and the cell is idle."""
    messages = failure_messages(header("1"), ReplyLost("it was lost"), 5)
    assert [(channel, msg_type) for channel, msg_type, _ in messages] == [
        ("iopub", "error"),
        ("reply", "execute_reply"),
        ("iopub", "status"),
    ]
    assert messages[1][2]["status"] == "error"
    assert messages[1][2]["ename"] == "ReplyLost"
    assert messages[1][2]["evalue"] == "it was lost"
    assert messages[1][2]["execution_count"] == 5


def test_a_lost_message_without_a_reply_only_ends() -> None:
    """A comm message has none; a completion shows no error."""
    comm = failure_messages(header("1", "comm_msg"), ReplyLost("x"), 0)
    assert [each[:2] for each in comm] == [("iopub", "status")]
    completion = failure_messages(header("1", "complete_request"), ReplyLost("x"), 0)
    assert [each[:2] for each in completion] == [("reply", "complete_reply"), ("iopub", "status")]


@pytest.mark.parametrize(
    ("request_type", "fields"),
    [
        ("execute", {"execution_count"}),
        ("complete", {"matches", "cursor_start", "cursor_end"}),
        ("history", {"history"}),
        ("inspect", {"found", "data"}),
    ],
)
def test_a_failed_reply_has_the_fields_that_front_ends_read(
    request_type: str, fields: set[str]
) -> None:
    """qtconsole reads them whatever the status is, and ends with a KeyError without them."""
    messages = failure_messages(header("1", f"{request_type}_request"), ReplyLost("x"), 0)
    (content,) = [content for channel, _, content in messages if channel == "reply"]
    assert fields <= content.keys()


def test_the_end_of_the_kernel_is_said_below_a_cell() -> None:
    """Other requests show nothing; all end, although none gets a reply."""
    ended = KernelRestarted("kernel k crashed", advice="call wait_for_ready() to continue")
    assert end_messages(header("1"), ended) == [
        ("stream", {"name": "stderr", "text": "[gateway] kernel k crashed\n"}),
        ("status", {"execution_state": "idle"}),
    ]
    completion = end_messages(header("1", "complete_request"), ended)
    assert [msg_type for msg_type, _ in completion] == ["status"]


def test_a_kernel_info_request_that_fails_has_output_but_no_reply() -> None:
    """A front end takes any reply for a kernel that is ready, and reads its fields."""
    messages = failure_messages(header("1", "kernel_info_request"), ReplyLost("it was lost"), 0)
    assert [each[:2] for each in messages] == [("iopub", "stream"), ("iopub", "status")]
    assert messages[0][2]["text"] == "ReplyLost: it was lost\n"


def test_a_front_end_gets_no_advice_that_only_a_program_can_follow() -> None:
    """It restarts the kernel in its own way; what is wrong with a login helps its user, too."""
    ended = KernelRestarted("kernel k was restarted", advice="call wait_for_ready() to continue")
    assert text_for_front_end(ended) == "kernel k was restarted"
    refused = GatewayAuthError("401", advice="set auth_token")
    assert text_for_front_end(refused) == "401; set auth_token"


def test_topic_is_the_one_of_ipykernel() -> None:
    """Front ends may subscribe to messages of one type."""
    message = {"header": {"session": "s"}, "msg_type": "status"}
    assert topic(message) == b"kernel.s.status"


def test_the_line_about_lost_output() -> None:
    """It is one line, below the cell."""
    assert lost_output_text(3) == "[gateway] at least 3 messages of this output were lost\n"


# --- kernelspecs ----------------------------------------------------------------------------------

MODEL: Any = {
    "name": "python3",
    "spec": {
        "argv": ["python", "-m", "ipykernel"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {"debugger": True, "kernel_provisioner": {"provisioner_name": "k8s"}},
    },
    "resources": {},
}


def test_a_local_kernelspec_runs_the_bridge() -> None:
    """It keeps the debugger, names profile and gateway, and holds no secret."""
    spec = kernel_json(MODEL, "/usr/bin/python3", "work", "gateway.example.org")
    assert spec == {
        "argv": [
            *("/usr/bin/python3", "-m", "gateway_blocking", "bridge", "--kernel=python3"),
            *("--profile=work", "-f", "{connection_file}"),
        ],
        "display_name": "Python 3 (work)",
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {
            "debugger": True,
            "supported_encryption": ["curve"],
            "gateway_blocking": {"kernel": "python3", "profile": "work"},
        },
    }


def test_a_local_kernelspec_says_nothing_of_the_machine_of_the_other() -> None:
    """VS Code would look for the interpreter that it once wrote there."""
    of_code = {"interpreter": {"path": "/far/bin/python"}, "vscode": {}, "originalSpecFile": "/far"}
    model = {**MODEL, "spec": {**MODEL["spec"], "metadata": of_code}}
    metadata = kernel_json(model, "/usr/bin/python3", "work", "h")["metadata"]
    assert set(metadata) == {"supported_encryption", "gateway_blocking"}


def test_a_local_kernelspec_has_the_directories_of_the_other_machine() -> None:
    """The process that it starts gets them as options."""
    spec = kernel_json(MODEL, "/usr/bin/python3", "", "h", ["/home/ada=/mnt/ada", "/data=/d"])
    maps = ["--map=/home/ada=/mnt/ada", "--map=/data=/d"]
    assert spec["argv"][4:] == ["--kernel=python3", *maps, "-f", "{connection_file}"]


def test_a_local_kernelspec_without_a_profile() -> None:
    """The environment of the bridge names the gateway."""
    spec = kernel_json(MODEL, "/usr/bin/python3", "", "gateway.example.org")
    assert spec["argv"][4:] == ["--kernel=python3", "-f", "{connection_file}"]
    assert spec["display_name"] == "Python 3 (gateway.example.org)"


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("python3", "", "Gateway.example.org"), "gateway.example.org-python3"),
        (("IR 4/x", "work", "h"), "work-ir-4-x"),
    ],
)
def test_local_names_are_valid(args: tuple[str, str, str], name: str) -> None:
    """jupyter_client accepts these characters only."""
    assert local_name(*args) == name


def test_two_kernelspecs_with_one_local_name() -> None:
    """The second would replace the first."""
    assert local_names(["R", "python3"], "work", "h") == {"work-r": "R", "work-python3": "python3"}
    assert local_names(["R", "R"], "work", "h") == {"work-r": "R"}
    with pytest.raises(ValueError, match="'R 4' and 'r-4' would have the same name .* work-r-4"):
        local_names(["R 4", "r-4"], "work", "h")


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        (b'{"metadata": {"gateway_blocking": {}}}', True),
        (b'{"metadata": {}}', False),
        (b'{"metadata": null}', False),
        (b"{}", False),
        (b"[]", False),
        (b"\xff", False),
    ],
)
def test_kernelspecs_of_this_package(content: bytes, is_ours: bool) -> None:
    """Only they are replaced."""
    assert is_of_this_package(content) is is_ours
