"""jupyter_console's shell, changed for a kernel that is far away.

jupyter_console takes a late reply for the reply to its next request.  Here each request takes its
own reply, and the losses of connection and kernel are handled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from queue import Empty
from typing import Any

from jupyter_console.completer import ZMQCompleter
from jupyter_console.ptshell import ZMQTerminalInteractiveShell
from jupyter_console.zmqhistory import ZMQHistoryManager
from traitlets import Float

from ..collector import OutputCollector
from ..deadline import Deadline
from ..errors import GatewayError, GatewayTimeout, KernelRestarted, ReplyLost
from ..messages import Message
from ..timeouts import CONSOLE_REPLY_TIMEOUT, CONSOLE_SILENCE, HISTORY_TIMEOUT, READY_TIMEOUT
from .errors import Signal
from .terminal import echo, renderer

__all__ = ["Shell"]

# In seconds.  jupyter_console waits for one second, which is short for a distant kernel.


class _Completer(ZMQCompleter):  # type: ignore[misc, unused-ignore]
    """Completion with Tab."""

    def complete_request(self, code: str, cursor_pos: int) -> dict[str, Any]:
        try:
            reply = self.client.complete(code, cursor_pos, reply=True, timeout=self.timeout)
        except GatewayError:  # the next cell reports it
            return {"matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}
        content: dict[str, Any] = reply["content"]
        return content


class _History(ZMQHistoryManager):  # type: ignore[misc, unused-ignore]
    """Earlier cells, for the arrow keys."""

    def _load_history(self, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            reply = self.client.history(*args, reply=True, timeout=HISTORY_TIMEOUT, **kwargs)
        except GatewayError:
            return []
        cells: list[Any] = reply["content"].get("history", [])
        return cells


class Shell(ZMQTerminalInteractiveShell):  # type: ignore[misc, unused-ignore]
    """The prompt; it executes the cells that are typed."""

    is_executing = property(lambda self: self._executing)
    kernel_is_complete_timeout = Float(
        CONSOLE_REPLY_TIMEOUT,
        config=True,
        help="Seconds to wait for the kernel's reply whether the code is complete.",
    )

    def show_banner(self) -> None:
        """Show the banner of the kernel, filtered like its output."""
        _filter(self.kernel_info)
        super().show_banner()

    def init_completer(self) -> None:
        """Use the completer of this module."""
        self.Completer = _Completer(self, self.client, config=self.config)

    def init_history(self) -> None:
        """Use the history of this module."""
        super().init_history()
        self.history_manager = _History(client=self.client)

    def check_complete(self, code: str) -> tuple[bool, str]:
        """Return whether the code is incomplete, and the indentation of its next line."""
        if not self.use_kernel_is_complete:  # type: ignore[has-type, unused-ignore]
            return super().check_complete(code)  # type: ignore[no-any-return, unused-ignore]
        try:
            reply = self.client.is_complete(
                code, reply=True, timeout=self.kernel_is_complete_timeout
            )
        except GatewayTimeout:  # the kernel does not support the request
            self.use_kernel_is_complete = False
            return False, ""
        except GatewayError:
            return False, ""
        return reply["content"]["status"] == "incomplete", reply["content"].get("indent", "")

    on_cell: Callable[[dict[str, Any]], None] | None = None
    """Called with each cell that was executed, as a code cell of format 4.5 of notebooks."""

    def run_cell(self, cell: str, store_history: bool = True) -> None:
        """Execute a cell; continue after a loss of the kernel or of the connection."""
        self._outputs, self._count = OutputCollector(), None
        try:
            self._run_cell(cell, store_history)
        finally:
            if self.on_cell is not None and cell.strip():
                self.on_cell(
                    {
                        "cell_type": "code",
                        "id": uuid.uuid4().hex,
                        "metadata": {},
                        "source": cell,
                        "execution_count": self._count,
                        "outputs": self._outputs.outputs(),
                    }
                )

    def _run_cell(self, cell: str, store_history: bool) -> None:
        try:
            if not self.client.channels_running:
                self.client.start_channels()
                self.client.wait_for_ready(READY_TIMEOUT)
            self.raise_if_dead()
            self._silence = Deadline(CONSOLE_SILENCE)
            self._executing = True  # jupyter_console sets it only after the request is sent
            super().run_cell(cell, store_history)
            self._executing = False
            self.raise_if_dead()
        except KernelRestarted:
            echo(
                "the kernel was restarted, or crashed (out of memory, perhaps); its variables are"
                " lost"
            )
            self._executing = False
            self.client.wait_for_ready(READY_TIMEOUT)
        except ReplyLost:  # a warning has described the state of the cell
            echo("the connection was lost and is open again; the kernel keeps its variables")
            self._executing = False

    def handle_iopub(self, msg_id: str = "") -> None:
        """Show the output that has arrived, and notice the end of the request."""
        self._cell = msg_id
        super().handle_iopub(msg_id)

    def include_output(self, msg: Message) -> bool:
        """Return True if a message belongs to the output; of status messages, only the cell's does.

        From a distant kernel, the status of the request whether the code is complete arrives after
        the cell was sent.  jupyter_console would take it for the cell's, and miss the output.
        """
        if msg["msg_type"] == "status" and msg["parent_header"].get("msg_id") != self._cell:
            return False
        self._silence = Deadline(CONSOLE_SILENCE)
        if msg["parent_header"].get("msg_id") == self._cell:
            self._outputs.add(msg)
        _filter(msg["content"])
        return super().include_output(msg)  # type: ignore[no-any-return, unused-ignore]

    def handle_rich_data(self, data: dict[str, str]) -> bool:
        """Draw an image in the terminal if it can, else show it as jupyter_console does.

        By default, jupyter_console opens a window if Pillow is installed.
        """
        if self.image_handler == "PIL" and renderer.draw(data):
            return True
        try:
            return bool(super().handle_rich_data(data))
        except Exception as error:  # of Pillow or of a viewer; it must not end the prompt
            echo(f"the image is not shown: {error}")
            return False

    def raise_if_dead(self) -> None:
        """Raise an error that says what happened if the kernel is dead."""
        if not self.client.is_alive():
            self.client.kernel_info(reply=True, timeout=READY_TIMEOUT)

    def handle_input_request(self, msg_id: str, timeout: float = 0.1) -> None:
        """Answer a question of the cell, or notice that it is done although its status was lost.

        jupyter_console would wait forever for the status.
        """
        try:
            question = self.client.stdin_channel.get_msg(timeout=timeout)
            _filter(question["content"])
            self.client.stdin_channel.put(question)
            super().handle_input_request(msg_id, timeout=timeout)
        except Empty:
            if not self.client.shell_channel.msg_ready():
                self._silence = Deadline(CONSOLE_SILENCE)
            elif self._silence.passed():
                self._execution_state = "idle"
            raise

    def handle_execute_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Take the reply to the cell, and discard late replies to other requests.

        jupyter_console would take the first reply that is there.
        """
        channel = self.client.shell_channel
        reply = channel.get_reply(msg_id, timeout)
        self._count = reply["content"].get("execution_count")
        channel.get_msgs()
        channel.put(reply)
        super().handle_execute_reply(msg_id, timeout=timeout)

    async def handle_external_iopub(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Show the output of other clients' code; jupyter_console polls a ZMQ socket for it."""
        while self.keep_running:
            self.handle_iopub()
            await asyncio.sleep(0.5)

    async def _main_task(self) -> None:
        # jupyter_console loses the exceptions of interact().
        if self.include_other_output:
            self._listening = asyncio.create_task(self.handle_external_iopub())
        await self.interact()

    def mainloop(self) -> None:
        """Show the prompt until it ends; jupyter_console would shut the kernel down, too."""
        while True:
            try:
                asyncio.run(self._main_task())
            except Signal:
                raise
            except KeyboardInterrupt:
                continue
            return


def _filter(content: dict[str, Any]) -> None:
    """Remove control sequences from the texts of a message, in place; colours stay."""
    for name in ("text", "text/plain", "code", "prompt", "banner"):
        if isinstance(text := content.get(name), str):
            content[name] = renderer.filtered(
                "stderr" if content.get("name") == "stderr" else "stdout", text
            )
    if isinstance(content.get("data"), dict):
        _filter(content["data"])
    if isinstance(lines := content.get("traceback"), list):
        content["traceback"] = [renderer.filtered("stderr", str(line)) for line in lines]
