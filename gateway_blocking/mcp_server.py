"""The MCP server: the tools of :mod:`.mcp_tools` over standard input and output, with the MCP SDK.

The event loop of the SDK runs in a daemon thread.  The main thread owns the kernels and gets the
signals.  So a signal ends the session even if the client neither reads nor closes its pipes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from ._version import __version__
from .deadline import Deadline
from .errors import GatewayError
from .locks import apart
from .mcp_answers import Answer, last_line
from .mcp_session import Call, KernelSession
from .mcp_tools import ToolOptions, call_tool, offered_tools
from .threads import DaemonThread

__all__ = ["serve"]

_log = logging.getLogger(__name__)

_INSTRUCTIONS = (
    "Executes code in a Jupyter kernel behind a gateway. The kernel keeps its variables between"
    " the calls. Calls of run_code for one kernel are executed one after another."
)
_CALLS = 50  # calls at once; more of them wait
_PROGRESS_INTERVAL = 1.0  # seconds between two notifications


def serve(session: KernelSession, options: ToolOptions) -> None:
    """Serve one client on standard input and output, until it disconnects."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            anyio.run(_serve, session, options)
        except BaseException as error:  # raised to the caller
            errors.append(error)

    thread = DaemonThread("gateway-mcp", run)
    apart(thread.start)
    thread.has_ended(Deadline(None))
    if errors:
        raise errors[0]


async def _serve(session: KernelSession, options: ToolOptions) -> None:
    tools = [types.Tool.model_validate(tool.to_dict()) for tool in offered_tools(options)]
    limiter = anyio.CapacityLimiter(_CALLS)

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        def run(call: Call) -> Answer:
            return call_tool(session, call, options, params.name, params.arguments or {})

        answer = await _answer(context, limiter, run)
        return types.CallToolResult.model_validate(
            {"content": answer.content, "isError": answer.is_error}
        )

    server: Server[Any] = Server(
        "gateway_blocking",
        version=__version__,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call,
    )
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


async def _answer(
    context: ServerRequestContext[Any, Any],
    limiter: anyio.CapacityLimiter,
    run: Callable[[Call], Answer],
) -> Answer:
    """Call a function in a thread; if the client cancels the request, cancel the call, too."""
    progress = _Progress()
    call = Call(progress.add)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(progress.report, context)
            answer = await anyio.to_thread.run_sync(
                run, call, abandon_on_cancel=True, limiter=limiter
            )
            group.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_cancel, call)
        raise
    return answer


def _cancel(call: Call) -> None:
    try:
        call.cancel()
    except GatewayError as error:
        _log.warning("the code of a cancelled call could not be interrupted: %s", str(error))


class _Progress:
    """The progress of one call: its last line of output, and the seconds that it has taken."""

    def __init__(self) -> None:
        self._line = ""

    def add(self, text: str) -> None:
        """Add output of the code; called in the thread of the call."""
        self._line = last_line(text) or self._line

    async def report(self, context: ServerRequestContext[Any, Any]) -> None:
        """Notify the client each second, if it asked for that."""
        began = anyio.current_time()
        while True:
            await anyio.sleep(_PROGRESS_INTERVAL)
            await context.session.report_progress(
                anyio.current_time() - began, message=self._line or None
            )
