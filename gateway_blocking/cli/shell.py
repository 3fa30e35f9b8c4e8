"""jupyter_console's shell, without its trust that a kernel and its messages are near.

Where a reply comes late, the original takes it for that to its next question.
"""

from __future__ import annotations

import asyncio
from queue import Empty
from typing import Any

from jupyter_console.completer import ZMQCompleter
from jupyter_console.ptshell import ZMQTerminalInteractiveShell
from jupyter_console.zmqhistory import ZMQHistoryManager
from traitlets import Float

from ..deadline import Deadline
from ..errors import GatewayError, GatewayTimeout, KernelRestarted, ReplyLost
from .command import READY_TIMEOUT
from .errors import Signal
from .terminal import echo, renderer

__all__ = ["Shell"]

# In seconds; the original's second is short for a kernel that is far away.
_PATIENCE = 10.0
_HISTORY_PATIENCE = 5.0  # some kernels have none, and do not say so
_SILENCE = 2.0  # after a reply: there will be no more output


class _Completer(ZMQCompleter):  # type: ignore[misc, unused-ignore]
    """What Tab asks."""

    def complete_request(self, code: str, cursor_pos: int) -> Any:
        try:
            reply = self.client.complete(code, cursor_pos, reply=True, timeout=self.timeout)
        except GatewayError:  # of which the next cell tells
            return {"matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}
        return reply["content"]


class _History(ZMQHistoryManager):  # type: ignore[misc, unused-ignore]
    """The cells of before, for the arrow keys."""

    def _load_history(self, *args: Any, **kwargs: Any) -> Any:
        try:
            reply = self.client.history(*args, reply=True, timeout=_HISTORY_PATIENCE, **kwargs)
        except GatewayError:
            return []
        return reply["content"].get("history", [])


class Shell(ZMQTerminalInteractiveShell):  # type: ignore[misc, unused-ignore]
    """The prompt, and what executes the cells typed at it."""

    is_executing = property(lambda self: self._executing)
    kernel_is_complete_timeout = Float(
        _PATIENCE,
        config=True,
        help="Seconds to wait for the kernel to tell whether the code is complete.",
    )

    def show_banner(self) -> None:
        """Show the kernel's own banner, which is its output."""
        _filter(self.kernel_info)
        super().show_banner()

    def init_completer(self) -> None:
        """Complete with ours."""
        self.Completer = _Completer(self, self.client, config=self.config)

    def init_history(self) -> None:
        """Remember with ours."""
        super().init_history()
        self.history_manager = _History(client=self.client)

    def check_complete(self, code: str) -> tuple[bool, str]:
        """Whether the code is to be continued, and how far its next line is indented."""
        if not self.use_kernel_is_complete:  # type: ignore[has-type, unused-ignore]
            return super().check_complete(code)  # type: ignore[no-any-return, unused-ignore]
        try:
            reply = self.client.is_complete(
                code, reply=True, timeout=self.kernel_is_complete_timeout
            )
        except GatewayTimeout:  # of a kernel that knows no such question
            self.use_kernel_is_complete = False
            return False, ""
        except GatewayError:
            return False, ""
        return reply["content"]["status"] == "incomplete", reply["content"].get("indent", "")

    def run_cell(self, cell: str, store_history: bool = True) -> None:
        """Have a cell executed, and go on where the kernel or the connection was lost meanwhile."""
        try:
            if not self.client.channels_running:
                self.client.start_channels()
                self.client.wait_for_ready(READY_TIMEOUT)
            self.raise_if_dead()
            self._silence = Deadline(_SILENCE)
            self._executing = True  # the original says so when the kernel may have begun
            super().run_cell(cell, store_history)
            self._executing = False
            self.raise_if_dead()
        except KernelRestarted:
            echo("the kernel was restarted (it died, or somebody did it), without its variables")
            self._executing = False
            self.client.wait_for_ready(READY_TIMEOUT)
        except ReplyLost:  # a warning has said what is known of the cell
            echo("the connection was lost and is open again; the kernel has its variables")
            self._executing = False

    def handle_iopub(self, msg_id: str = "") -> None:
        """Show what there is, and see whether the request is done."""
        self._cell = msg_id
        super().handle_iopub(msg_id)

    def include_output(self, msg: Any) -> bool:
        """Whether a message counts; of those that say "idle", only that of the cell does.

        Far away, the one of the question whether the code is complete comes after the cell was
        sent. The original takes it for the cell's, and does not wait for the output.
        """
        if msg["msg_type"] == "status" and msg["parent_header"].get("msg_id") != self._cell:
            return False
        self._silence = Deadline(_SILENCE)
        _filter(msg["content"])
        return super().include_output(msg)  # type: ignore[no-any-return, unused-ignore]

    def raise_if_dead(self) -> None:
        """Raise what became of a kernel that is gone; the original is silent then."""
        if not self.client.is_alive():
            self.client.kernel_info(reply=True, timeout=READY_TIMEOUT)

    def handle_input_request(self, msg_id: str, timeout: float = 0.1) -> None:
        """Answer a question of the cell's, or see that it is done though its "idle" got lost.

        The original would wait for that for ever.
        """
        try:
            question = self.client.stdin_channel.get_msg(timeout=timeout)
            _filter(question["content"])
            self.client.stdin_channel.put(question)
            super().handle_input_request(msg_id, timeout=timeout)
        except Empty:
            if not self.client.shell_channel.msg_ready():
                self._silence = Deadline(_SILENCE)
            elif self._silence.passed():
                self._execution_state = "idle"
            raise

    def handle_execute_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Take the reply to the cell, and forget those that came late to something else.

        The original takes the first that is there, and goes on without the cell's.
        """
        channel = self.client.shell_channel
        reply = channel.get_reply(msg_id, timeout)
        channel.get_msgs()
        channel.put(reply)
        super().handle_execute_reply(msg_id, timeout=timeout)

    async def handle_external_iopub(self, loop: Any = None) -> None:
        """Show what others execute; the original polls a ZMQ socket for that."""
        while self.keep_running:
            self.handle_iopub()
            await asyncio.sleep(0.5)

    async def _main_task(self) -> None:  # the original loses what interact() raises
        if self.include_other_output:
            self._listening = asyncio.create_task(self.handle_external_iopub())
        await self.interact()

    def mainloop(self) -> None:
        """Prompt; the original ends the kernel as well, also one that is not ours."""
        while True:
            try:
                asyncio.run(self._main_task())
            except Signal:
                raise
            except KeyboardInterrupt:
                continue
            return


def _filter(content: dict[str, Any]) -> None:
    """Take from a message's texts, in place, what the terminal would not draw but obey."""
    for name in ("text", "text/plain", "code", "prompt", "banner"):
        if isinstance(text := content.get(name), str):
            content[name] = renderer.filtered(
                "stderr" if content.get("name") == "stderr" else "stdout", text
            )
    if isinstance(content.get("data"), dict):
        _filter(content["data"])
    if isinstance(lines := content.get("traceback"), list):
        content["traceback"] = [renderer.filtered("stderr", str(line)) for line in lines]
