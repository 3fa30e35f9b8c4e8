"""Which tools the MCP server offers, and what they accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_blocking.mcp_session import Call, ToolError
from gateway_blocking.mcp_tools import (
    ToolOptions,
    call_tool,
    check_arguments,
    offered_tools,
    path_within,
    time_limit,
)


def names(options: ToolOptions) -> list[str]:
    return [tool.name for tool in offered_tools(options)]


# --- the tools ------------------------------------------------------------------------------------


def test_by_default_nothing_is_started_or_stopped() -> None:
    assert names(ToolOptions()) == [
        "run_code",
        "list_kernels",
        "interrupt_kernel",
        "restart_kernel",
        "read_variable",
        "write_variable",
    ]


def test_each_permission_adds_its_tools() -> None:
    usual = set(names(ToolOptions()))
    assert set(names(ToolOptions(allow_start=True))) - usual == {"start_kernel", "list_kernelspecs"}
    assert set(names(ToolOptions(allow_stop=True))) - usual == {"stop_kernel"}
    files = ToolOptions(files=Path())
    assert set(names(files)) - usual == {"upload_file", "download_file"}


def test_a_kernel_can_be_named_only_if_there_may_be_several() -> None:
    for allowed in (False, True):
        for tool in offered_tools(ToolOptions(allow_start=allowed, allow_stop=True)):
            if tool.name not in ("list_kernels", "list_kernelspecs", "start_kernel"):
                assert ("kernel" in tool.arguments) is allowed


def test_a_description_is_a_json_schema_that_admits_nothing_else() -> None:
    run_code = offered_tools(ToolOptions())[0].to_dict()
    assert run_code["inputSchema"]["type"] == "object"
    assert run_code["inputSchema"]["required"] == ["code"]
    assert run_code["inputSchema"]["additionalProperties"] is False
    assert set(run_code["inputSchema"]["properties"]) == {"code", "timeout"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "code is missing"),
        ({"kode": "1"}, "there is no argument 'kode'; the nearest is code"),
        ({"code": 1}, "code must be a string, got 1"),
        ({"code": "1", "timeout": "2"}, "timeout must be a number, got '2'"),
        ({"code": "1", "timeout": True}, "timeout must be a number, got True"),
        ({"code": "1", "timeout": None}, "timeout must be a number, got None"),
        ({"code": "1", "kernel": "k"}, "there is no argument 'kernel'"),
    ],
)
def test_wrong_arguments_are_an_error_that_names_them(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ToolError) as caught:
        check_arguments(offered_tools(ToolOptions())[0], arguments)
    assert str(caught.value).startswith(text)


def test_a_tool_that_is_not_allowed_is_not_called() -> None:
    session: Any = None  # is not touched
    answer = call_tool(session, Call(), ToolOptions(), "stop_kernel", {})
    assert answer.is_error
    assert answer.content[0]["text"].startswith("stop_kernel: there is no tool 'stop_kernel'")


def test_an_unexpected_exception_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    session: Any = None  # has no attribute `kernel`
    answer = call_tool(session, Call(), ToolOptions(), "run_code", {"code": "1"})
    assert answer.is_error
    assert "AttributeError" in answer.content[0]["text"]
    assert "tool run_code failed" in caplog.text


@pytest.mark.parametrize(
    ("asked", "allowed", "limit"),
    [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7), (0, 7, 0)],
)
def test_the_model_may_ask_for_less_time_only(
    asked: float | None, allowed: float | None, limit: float | None
) -> None:
    assert time_limit(asked, allowed) == limit


@pytest.mark.parametrize("asked", [-1, float("nan")])
def test_a_time_that_is_no_time_is_an_error(asked: float) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        time_limit(asked, 7)


def test_a_file_is_one_of_the_folder(tmp_path: Path) -> None:
    assert path_within(tmp_path, "a/b.csv") == tmp_path / "a" / "b.csv"
    assert path_within(tmp_path, str(tmp_path / "c")) == tmp_path / "c"


@pytest.mark.parametrize("given", ["..", "../other", "/etc/passwd", "a/../../b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(ToolError, match="the folder that the user allows"):
        path_within(tmp_path, given)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path)
    with pytest.raises(ToolError, match="the folder that the user allows"):
        path_within(tmp_path / "open", "link/secret")
