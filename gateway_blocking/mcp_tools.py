"""The tools of the MCP server: which of them are offered, what they take, and what they answer.

Nothing here needs the MCP SDK: arguments and answers are dicts as they are on the wire.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .deadline import Deadline
from .errors import GatewayError, KernelGone
from .escape import plain_text, printable
from .execution import Execution
from .mcp_session import Call, CallCancelled, KernelSession, SessionKernel, ToolError
from .suggest import closest, suggestion

__all__ = [
    "Answer",
    "Block",
    "Tool",
    "ToolOptions",
    "answer_of",
    "call_tool",
    "check_arguments",
    "encodable",
    "last_line",
    "offered_tools",
    "shortened_text",
    "time_limit",
]

Block = dict[str, Any]
"""A part of an answer: text, or an image."""

_log = logging.getLogger(__name__)

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")  # that language models know
_LONGEST_LINE = 200  # characters of a notification
_LONGEST_IMAGES = 4_000_000  # bytes of all images of one answer


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
    """

    timeout: float | None = None
    max_output: int = 20_000
    allow_start: bool = False
    allow_stop: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer to a call."""

    content: list[Block]
    is_error: bool = False


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


# --- answers --------------------------------------------------------------------------------------


def _text(text: str, is_error: bool = False) -> Answer:
    return Answer([{"type": "text", "text": encodable(text)}], is_error)


def _json(value: object) -> Answer:
    return _text(json.dumps(value, indent=2, ensure_ascii=False))


def encodable(text: str) -> str:
    r"""Return a text with each lone surrogate as an escape, because UTF-8 cannot encode it.

    >>> print(encodable("a\udc80"))
    a\udc80
    """
    return text.encode("utf-8", "backslashreplace").decode()


def shortened_text(text: str, longest: int, was_cut: bool = False) -> str:
    """Return a text with its beginning and its end, and between them how much was cut.

    Parameters
    ----------
    text : str
        The text.
    longest : int
        Characters to keep.
    was_cut : bool
        Whether some was cut before, so that the number is only a lower bound.
    """
    if len(text) <= longest:
        return text
    half = longest // 2
    cut, end = len(text) - 2 * half, text[-half:] if half else ""
    about = "more than " if was_cut else ""
    return f"{text[:half]}\n[... {about}{cut:,} characters were cut here ...]\n{end}"


def last_line(text: str) -> str:
    r"""Return the last line of a text that is not blank, shortened.

    >>> last_line("a\nepoch 1\r\n\n")
    'epoch 1'
    """
    lines = plain_text(text[-_LONGEST_LINE:]).split("\n")
    return encodable(next((line.strip() for line in reversed(lines) if line.strip()), ""))


def answer_of(done: Execution, longest: int) -> Answer:
    """Return the answer for an execution: its text, what went wrong, and its images."""
    text = shortened_text(done.text(), longest, done.truncated)
    notes = list(_notes(done))
    images, omitted = _images(done)
    if omitted:
        notes.append(f"{omitted} images are too large to be shown")
    if not (text or notes or images):
        notes.append("the code ended without output")
    if text and notes and not text.endswith("\n"):
        text += "\n"
    text += "\n".join(f"[{shortened_text(note, longest)}]" for note in notes)
    content: list[Block] = [{"type": "text", "text": encodable(text)}] if text else []
    return Answer(content + images, is_error=not done.ok)


def _notes(done: Execution) -> Iterator[str]:
    """Yield sentences about the end of an execution that its outputs do not say."""
    if done.status == "died":  # the exception advises a programmer
        gone = isinstance(done.exception, KernelGone)
        what = "was shut down, or removed by the gateway" if gone else "died, or was restarted"
        yield f"the kernel {what}; its variables are lost"
    elif done.detail:
        yield f"{done.status}: {done.detail}"
    elif done.status == "aborted":
        yield "the kernel skipped the code, because an earlier request failed"
    elif done.error and not any(each["output_type"] == "error" for each in done.outputs):
        yield f"{done.error.ename}: {done.error.evalue}"
    if done.complete is False:
        yield "some output is missing, because it was lost on its way"


def _images(done: Execution) -> tuple[list[Block], int]:
    """Return the images that an answer has room for, and the number of the others."""
    images: list[Block] = []
    left, omitted = _LONGEST_IMAGES, 0
    for image in done.images:
        if image.mime not in _IMAGES:
            continue
        left -= len(image.data)
        if left < 0:
            omitted += 1
            left += len(image.data)
            continue
        data = base64.b64encode(image.data).decode()
        images.append({"type": "image", "data": data, "mimeType": image.mime})
    return images, omitted


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
        return _text(f"{name}: the call was cancelled, or the session has ended", is_error=True)
    except (GatewayError, ToolError, OSError, ValueError, TypeError) as error:
        return _text(shortened_text(f"{name}: {error}", options.max_output), is_error=True)
    except Exception as error:  # the client gets an answer in any case
        _log.exception("tool %s failed", printable(name))
        return _text(f"{name}: {type(error).__name__}: {printable(error)}", is_error=True)


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


# --- the tools ------------------------------------------------------------------------------------


def _run_code(request: _Request) -> Answer:
    timeout = time_limit(request.arguments.get("timeout"), request.options.timeout)
    kernel = request.session.kernel(request.kernel_id)
    done = kernel.run(request.call, request.arguments["code"], timeout)
    return answer_of(done, request.options.max_output)


def _list_kernels(request: _Request) -> Answer:
    kernels = [_describe(request.session, kernel) for kernel in request.session.kernels()]
    return _json(kernels) if kernels else _text("no kernel runs; run_code starts one")


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
    return _text(f"kernel {kernel.kernel_id} was interrupted")


def _restart(request: _Request) -> Answer:
    kernel = request.session.existing_kernel(request.kernel_id)
    kernel.restart()
    return _text(f"kernel {kernel.kernel_id} was restarted; its variables are lost")


def _list_kernelspecs(request: _Request) -> Answer:
    return _json(request.session.kernelspecs())


def _start(request: _Request) -> Answer:
    return _json(
        _describe(request.session, request.session.start(request.arguments.get("name", "")))
    )


def _stop(request: _Request) -> Answer:
    kernel = request.session.existing_kernel(request.kernel_id)
    request.session.stop(kernel)
    return _text(f"kernel {kernel.kernel_id} was stopped")


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
