"""The tools of the MCP server: which of them are offered, what they take, and what they answer.

Nothing here needs the MCP SDK: arguments and answers are dicts as they are on the wire.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .deadline import Deadline
from .errors import DeadKernelError, GatewayError
from .escape import printable
from .mcp_answers import Answer, answer_of, death_of, json_answer, shortened_text, text_answer
from .mcp_session import Call, CallCancelled, KernelSession, SessionKernel, ToolError
from .suggest import closest, suggestion

__all__ = [
    "Tool",
    "ToolOptions",
    "call_tool",
    "check_arguments",
    "offered_tools",
    "path_within",
    "time_limit",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToolOptions:
    """The decisions of the user about the tools.

    Attributes
    ----------
    timeout : float or None
        Seconds that code may run, however long the model asks for; None if there is no limit.
    max_output : int
        Characters of text in one answer.
    allow_start : bool
        Whether further kernels may be started.
    allow_stop : bool
        Whether kernels may be stopped.
    files : Path or None
        The folder of this machine whose files may be sent to kernels and received; None for no
        folder.
    """

    timeout: float | None = None
    max_output: int = 20_000
    allow_start: bool = False
    allow_stop: bool = False
    files: Path | None = None


@dataclass(frozen=True)
class _Request:
    """A call with all that its tool needs."""

    session: KernelSession
    call: Call
    options: ToolOptions
    arguments: Mapping[str, Any]

    @property
    def kernel_id(self) -> str:
        """ID of the kernel that the call names, or ""."""
        return str(self.arguments.get("kernel", ""))

    def report_bytes(self, done: int, total: int | None) -> None:
        """Report the progress of a transfer."""
        if self.call.on_text is not None:
            whole = "" if total is None else f" of {total:,}"
            self.call.on_text(f"{done:,}{whole} bytes")


@dataclass(frozen=True)
class Tool:
    """A tool as the client sees it, and its function."""

    name: str
    description: str
    function: Callable[[_Request], Answer]
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The JSON schema of each argument."""
    required: tuple[str, ...] = ()
    hints: dict[str, bool] = field(default_factory=dict)
    """The annotations of MCP."""
    is_offered: Callable[[ToolOptions], bool] = lambda _options: True

    def to_dict(self) -> dict[str, Any]:
        """Return the description of the tool for the client."""
        schema = {
            "type": "object",
            "properties": self.arguments,
            "required": list(self.required),
            "additionalProperties": False,
        }
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": schema,
            "annotations": self.hints,
        }


# --- calls ----------------------------------------------------------------------------------------


def offered_tools(options: ToolOptions) -> list[Tool]:
    """Return the tools that the user allows."""
    return [_for(tool, options) for tool in _TOOLS if tool.is_offered(options)]


def _for(tool: Tool, options: ToolOptions) -> Tool:
    """Return a tool without the choice of a kernel if there is only one kernel."""
    if options.allow_start or "kernel" not in tool.arguments:
        return tool
    arguments = {name: each for name, each in tool.arguments.items() if name != "kernel"}
    required = tuple(name for name in tool.required if name != "kernel")
    return Tool(**{**vars(tool), "arguments": arguments, "required": required})


def call_tool(
    session: KernelSession,
    call: Call,
    options: ToolOptions,
    name: str,
    arguments: Mapping[str, Any],
) -> Answer:
    """Call a tool; an error that the model may have to know is an answer, too."""
    tools = {tool.name: tool for tool in offered_tools(options)}
    try:
        if name not in tools:
            raise ToolError(f"there is no tool {name!r}{suggestion(closest(name, tools))}")
        check_arguments(tools[name], arguments)
        return tools[name].function(_Request(session, call, options, arguments))
    except CallCancelled:
        text = "the call was cancelled, or the session has ended"
    except DeadKernelError as error:
        text = death_of(error)
    except (GatewayError, ToolError, OSError, NameError, ValueError, TypeError) as error:
        text = str(error)
    except Exception as error:  # the client gets an answer in any case
        _log.exception("tool %s failed", printable(name))
        text = f"{type(error).__name__}: {printable(error)}"
    return text_answer(shortened_text(f"{name}: {text}", options.max_output), is_error=True)


_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "number": (int, float)}


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Raise ToolError unless the arguments are those of the schema."""
    for name, value in arguments.items():
        if name not in tool.arguments:
            raise ToolError(
                f"there is no argument {name!r}{suggestion(closest(name, tool.arguments))}"
            )
        kind = tool.arguments[name].get("type")
        if kind and (isinstance(value, bool) or not isinstance(value, _TYPES[kind])):
            raise ToolError(f"{name} must be a {kind}, got {value!r:.100}")
    for name in tool.required:
        if name not in arguments:
            raise ToolError(f"{name} is missing")


def time_limit(asked: float | None, allowed: float | None) -> float | None:
    """Return the seconds that code may run, or None if there is no limit.

    Raises
    ------
    ValueError
        The number is negative, or not a number.
    """
    Deadline(asked)
    limits = [each for each in (asked, allowed) if each is not None]
    return min(limits, default=None)


def path_within(folder: Path, given: str) -> Path:
    """Return the path that is meant in a folder.

    Raises
    ------
    ToolError
        The path leads out of the folder, perhaps by a symbolic link.
    """
    path = (folder / given).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ToolError(f"{given!r} is not in {folder}, the folder that the user allows")
    return path


# --- the tools ------------------------------------------------------------------------------------


def _run_code(request: _Request) -> Answer:
    timeout = time_limit(request.arguments.get("timeout"), request.options.timeout)
    kernel = request.session.kernel(request.kernel_id)
    done = kernel.run(request.call, request.arguments["code"], timeout)
    return answer_of(done, request.options.max_output)


def _list_kernels(request: _Request) -> Answer:
    kernels = [_describe(request.session, kernel) for kernel in request.session.kernels()]
    return json_answer(kernels) if kernels else text_answer("no kernel runs; run_code starts one")


def _describe(session: KernelSession, kernel: SessionKernel) -> dict[str, Any]:
    return {
        "kernel": kernel.kernel_id,
        "state": kernel.state(),
        "default": session.is_default(kernel),
        "started_by_this_session": kernel.is_owned,
    }


def _interrupt(request: _Request) -> Answer:
    kernel = request.session.existing_kernel(request.kernel_id)
    kernel.client.interrupt_kernel()
    return text_answer(f"kernel {kernel.kernel_id} was interrupted")


def _restart(request: _Request) -> Answer:
    kernel = request.session.existing_kernel(request.kernel_id)
    kernel.restart()
    return text_answer(f"kernel {kernel.kernel_id} was restarted; its variables are lost")


def _read_variable(request: _Request) -> Answer:
    kernel = request.session.kernel(request.kernel_id)
    with kernel.turn_of(request.call) as client:
        value = client.get(request.arguments["name"])
    if isinstance(value, bytes):
        value = {"base64": base64.b64encode(value).decode()}
    text = json.dumps(value, ensure_ascii=False)
    return text_answer(shortened_text(text, request.options.max_output))


def _write_variable(request: _Request) -> Answer:
    name = request.arguments["name"]
    kernel = request.session.kernel(request.kernel_id)
    with kernel.turn_of(request.call) as client:
        client.put(**{name: request.arguments["value"]})
    return text_answer(f"{name} was assigned")


def _upload(request: _Request) -> Answer:
    local = _local_path(request, request.arguments["local"])
    kernel = request.session.kernel(request.kernel_id)
    with kernel.turn_of(request.call) as client:
        remote = request.arguments.get("remote", local.name)
        path = client.upload(local, remote, progress=request.report_bytes)
    return text_answer(f"the file is {path} in the kernel")


def _download(request: _Request) -> Answer:
    remote = request.arguments["remote"]
    local = _local_path(request, request.arguments.get("local", PurePosixPath(remote).name))
    kernel = request.session.kernel(request.kernel_id)
    with kernel.turn_of(request.call) as client:
        client.download(remote, local, progress=request.report_bytes)
    return text_answer(f"the file is {local} on the user's machine")


def _local_path(request: _Request, given: str) -> Path:
    assert request.options.files is not None
    return path_within(request.options.files, given)


def _list_kernelspecs(request: _Request) -> Answer:
    return json_answer(request.session.kernelspecs())


def _start(request: _Request) -> Answer:
    return json_answer(
        _describe(request.session, request.session.start(request.arguments.get("name", "")))
    )


def _stop(request: _Request) -> Answer:
    kernel = request.session.existing_kernel(request.kernel_id)
    request.session.stop(kernel)
    return text_answer(f"kernel {kernel.kernel_id} was stopped")


_KERNEL = {
    "kernel": {
        "type": "string",
        "description": "ID of a kernel that start_kernel returned; by default the first kernel.",
    }
}

_READS = {"readOnlyHint": True}
_DESTROYS = {"destructiveHint": True}

_TOOLS = (
    Tool(
        "run_code",
        "Execute code in the session's Jupyter kernel, and return its output, the value of its last"
        " expression, its images and its error. Variables stay until the kernel ends. The first"
        " call starts the kernel.",
        _run_code,
        {
            "code": {"type": "string", "description": "The code to execute."},
            "timeout": {
                "type": "number",
                "description": "Seconds after which the code is interrupted.",
            },
            **_KERNEL,
        },
        required=("code",),
        hints={"openWorldHint": True, **_DESTROYS},
    ),
    Tool(
        "list_kernels",
        "List the kernels of this session with their states.",
        _list_kernels,
        hints=_READS,
    ),
    Tool(
        "interrupt_kernel",
        "Interrupt the code that the kernel executes. Its variables stay.",
        _interrupt,
        _KERNEL,
    ),
    Tool(
        "restart_kernel",
        "Restart the kernel: its code ends, and its variables are lost.",
        _restart,
        _KERNEL,
        hints=_DESTROYS,
    ),
    Tool(
        "read_variable",
        "Return the value of a variable of the kernel as JSON.",
        _read_variable,
        {"name": {"type": "string", "description": "Name of the variable."}, **_KERNEL},
        required=("name",),
        hints=_READS,
    ),
    Tool(
        "write_variable",
        "Assign a JSON value to a variable of the kernel.",
        _write_variable,
        {
            "name": {"type": "string", "description": "Name of the variable."},
            "value": {"description": "The value: any JSON."},
            **_KERNEL,
        },
        required=("name", "value"),
        hints=_DESTROYS,
    ),
    Tool(
        "upload_file",
        "Copy a file of the user's folder to the kernel's machine.",
        _upload,
        {
            "local": {"type": "string", "description": "Path in the user's folder."},
            "remote": {
                "type": "string",
                "description": "Path in the kernel; by default the same name in its directory.",
            },
            **_KERNEL,
        },
        required=("local",),
        hints=_DESTROYS,
        is_offered=lambda options: options.files is not None,
    ),
    Tool(
        "download_file",
        "Copy a file of the kernel's machine to the user's folder.",
        _download,
        {
            "remote": {"type": "string", "description": "Path in the kernel."},
            "local": {
                "type": "string",
                "description": "Path in the user's folder; by default the same name.",
            },
            **_KERNEL,
        },
        required=("remote",),
        hints=_DESTROYS,
        is_offered=lambda options: options.files is not None,
    ),
    Tool(
        "list_kernelspecs",
        "List the names of the kinds of kernels that start_kernel can start.",
        _list_kernelspecs,
        hints=_READS,
        is_offered=lambda options: options.allow_start,
    ),
    Tool(
        "start_kernel",
        "Start a further kernel, and return its ID. It ends with the session.",
        _start,
        {
            "name": {
                "type": "string",
                "description": "Name of a kernelspec.",
            }
        },
        is_offered=lambda options: options.allow_start,
    ),
    Tool(
        "stop_kernel",
        "Stop a kernel: its code ends, and its variables are lost.",
        _stop,
        _KERNEL,
        hints=_DESTROYS,
        is_offered=lambda options: options.allow_stop,
    ),
)
