"""``jupyter gateway mcp``: a kernel as tools for a language model."""

from __future__ import annotations

from pathlib import Path

from traitlets import Bool, Float, Integer, Unicode

from ..config import GatewayClient
from ..mcp_session import KernelSession
from ..mcp_tools import ToolOptions
from ..rest import GatewayREST
from .command import KERNEL_ID_ADVICE, KernelCommand
from .errors import OK, UsageError
from .kernel_lookup import find_kernel

__all__ = ["McpCommand"]


class McpCommand(KernelCommand):
    """``jupyter gateway mcp``."""

    name = "jupyter-gateway-mcp"
    description = """
    Give a language model a kernel, as the tools of an MCP server on standard input and output.

    Usage: jupyter gateway mcp [OPTIONS]

    A client of the Model Context Protocol, such as an editor or a chat application, starts this
    command. The tools execute code in one kernel, read and write its variables, and interrupt and
    restart it. The first call starts the kernel, which ends with the session, or uses the kernel of
    --kernel-id. Messages and errors go to standard error.

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. If none is given, and no --kernel-id, a gateway is
    started on this machine and stopped at the end.

    The exit status:

        0    the client ended the session
        2    the command was not understood, --kernel-id matches no kernel, or several, or the
             MCP SDK is not installed
        3    a kernel of --kernel-id cannot be looked up, or a gateway cannot be started here
        143  a signal ended the session (128 and the number of the signal); its kernels ended, too
    """
    examples = """\
jupyter gateway mcp
jupyter gateway mcp --kernel=ir --timeout=600
jupyter gateway mcp --kernel-id=1f3a
jupyter gateway mcp --files=data
"""

    timeout = Float(
        None,
        allow_none=True,
        help="Seconds that code may run in one call; without a limit by default.",
    ).tag(config=True)
    max_output = Integer(
        ToolOptions.max_output, min=100, help="Characters of text that one call may return."
    ).tag(config=True)
    allow_start = Bool(help="Let the model start further kernels.").tag(config=True)
    allow_stop = Bool(help="Let the model stop kernels, also the one of --kernel-id.").tag(
        config=True
    )

    files = Unicode(
        help="Folder of this machine to which the model may copy files of a kernel, and from which"
        " it may copy files to a kernel. By default it may do neither."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as in every traitlets application
        **KernelCommand.aliases,
        "timeout": "McpCommand.timeout",
        "max-output": "McpCommand.max_output",
        "files": "McpCommand.files",
    }
    flags = {  # noqa: RUF012
        "debug": KernelCommand.flags["debug"],
        "allow-start": ({"McpCommand": {"allow_start": True}}, allow_start.help),
        "allow-stop": ({"McpCommand": {"allow_stop": True}}, allow_stop.help),
    }

    def run(self) -> int:
        """Serve the client until it disconnects."""
        self.reject_arguments(KERNEL_ID_ADVICE)
        self.check_kernel_options()
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"--timeout must be more than 0 seconds, got {self.timeout}")
        if self.files and not Path(self.files).is_dir():
            raise UsageError(f"--files={self.files}: there is no such folder")
        try:
            from ..mcp_server import serve
        except ModuleNotFoundError as error:
            raise UsageError(
                'the command needs the MCP SDK: pip install "gateway-blocking[mcp]"'
            ) from error
        options = ToolOptions(
            timeout=self.timeout,
            max_output=self.max_output,
            allow_start=self.allow_start,
            allow_stop=self.allow_stop,
            files=Path(self.files).resolve() if self.files else None,
        )
        with self.gateway(local=not self.kernel_id) as gateway:
            kernel_id = self._whole_id(gateway)
            with KernelSession(gateway, self.kernel_name, kernel_id) as session:
                serve(session, options)
        return OK

    def _whole_id(self, gateway: GatewayClient) -> str:
        """Return the ID of the kernel of --kernel-id; "" if none is given."""
        if not self.kernel_id:
            return ""
        with GatewayREST(gateway) as rest:
            return find_kernel(rest, self.kernel_id)["id"]
