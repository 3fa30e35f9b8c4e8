"""``jupyter gateway console``: jupyter_console's prompt, for a kernel behind a gateway."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from types import FrameType
from typing import Any

from traitlets import Float

from ..deadline import Deadline
from ..errors import GatewayError, GatewayTimeout, KernelRestarted, ReplyLost
from ..manager import BlockingGatewayKernelManager
from .command import OK, READY_TIMEOUT, OnKernel, Signal, UsageError
from .terminal import say

__all__ = ["ConsoleCommand"]

# In seconds; the original's second is short for a kernel that is far away.
_PATIENCE = 10.0
_HISTORY_PATIENCE = 3.0  # some kernels have none, and do not say so
_SILENCE = 2.0  # after a reply: there will be no more output


class ConsoleCommand(OnKernel):
    """``jupyter gateway console``."""

    name = "jupyter-gateway-console"
    description = """
    Type code at a prompt, and have it executed on a kernel behind a gateway.

    Usage: jupyter gateway console [OPTIONS]

    The prompt is jupyter_console's: Tab completes, Ctrl-C interrupts what the kernel executes,
    "exit" or Ctrl-D ends it. The kernel is a new one, which is shut down at the end, or the one of
    --kernel-id. If the gateway starts it again after it died, or the connection was lost meanwhile,
    the prompt goes on. Options of jupyter_console can be set by their full name, such as
    --ZMQTerminalInteractiveShell.editing_mode=vi

    The gateway is the one of --url, of jupyter_gateway_config.py (c.GatewayClient.url), or of the
    environment variable JUPYTER_GATEWAY_URL. Where there is none, and no --kernel-id, one is
    started on this machine and stopped at the end.

    The exit status says how it ended:

        0    as you wanted
        2    the command was not understood, --kernel-id stands for no kernel or for several,
             there is no terminal, or jupyter_console is not installed
        3    the gateway: not reached, refused, or the kernel died or did not start
    """
    examples = """\
jupyter gateway console
jupyter gateway console --kernel=ir
jupyter gateway console --kernel-id=1f3a
"""

    def run(self) -> int:
        """Prompt, until the person has enough."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("there is no terminal; jupyter gateway exec - executes what is piped")
        try:
            shell_class = _shell_class()
        except ModuleNotFoundError as error:
            raise UsageError(
                'this needs jupyter_console: pip install "gateway-blocking[console]"'
            ) from error
        failure: BaseException | None = None
        with self.chosen_kernel() as (km, kc):
            shell = shell_class.instance(
                parent=self, manager=km, client=kc, confirm_exit=km.owned_kernel
            )
            shell.show_banner()
            try:
                with _ctrl_c_interrupts(shell, km):
                    shell.mainloop()
            except (GatewayError, Signal) as error:
                if shell.is_executing:
                    raise
                failure = error  # no reason to interrupt what others execute on the kernel
        if failure is not None:
            raise failure
        if not km.owned_kernel:
            say(f"kernel {km.kernel_id} is left running")
        return OK


@contextmanager
def _ctrl_c_interrupts(shell: Any, km: BlockingGatewayKernelManager) -> Iterator[None]:
    """Meanwhile a Ctrl-C interrupts the kernel; at the prompt the terminal sends none."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if not shell.is_executing:
            raise KeyboardInterrupt
        try:
            km.interrupt_kernel()
        except GatewayError as error:
            say(f"not interrupted: {error}")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shell_class() -> Any:
    """jupyter_console's shell, without its trust that a kernel and its messages are near.

    Where a reply comes late, the original takes it for that to its next question.
    """
    from jupyter_console.completer import ZMQCompleter
    from jupyter_console.ptshell import ZMQTerminalInteractiveShell
    from jupyter_console.zmqhistory import ZMQHistoryManager

    class Completer(ZMQCompleter):  # type: ignore[misc, unused-ignore]
        def complete_request(self, code: str, cursor_pos: int) -> Any:
            try:
                reply = self.client.complete(code, cursor_pos, reply=True, timeout=self.timeout)
            except GatewayError:  # of which the next cell tells
                return {"matches": [], "cursor_start": 0, "cursor_end": 0, "metadata": {}}
            return reply["content"]

    class History(ZMQHistoryManager):  # type: ignore[misc, unused-ignore]
        def _load_history(self, *args: Any, **kwargs: Any) -> Any:
            try:
                reply = self.client.history(*args, reply=True, timeout=_HISTORY_PATIENCE, **kwargs)
            except GatewayError:
                return []
            return reply["content"].get("history", [])

    class Shell(ZMQTerminalInteractiveShell):  # type: ignore[misc, unused-ignore]
        is_executing = property(lambda self: self._executing)
        kernel_is_complete_timeout = Float(
            _PATIENCE,
            config=True,
            help="Seconds to wait for the kernel to tell whether the code is complete.",
        )

        def init_completer(self) -> None:
            self.Completer = Completer(self, self.client, config=self.config)

        def init_history(self) -> None:
            super().init_history()
            self.history_manager = History(client=self.client)

        def check_complete(self, code: str) -> tuple[bool, str]:
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
            try:
                if not self.client.channels_running:
                    self.client.start_channels()
                    self.client.wait_for_ready(READY_TIMEOUT)
                self.ask_after_kernel()
                self._silence = Deadline(_SILENCE)
                self._executing = True  # the original says so when the kernel may have begun
                super().run_cell(cell, store_history)
                self._executing = False
                self.ask_after_kernel()
            except KernelRestarted:
                say("the kernel was restarted (it died, or somebody did it), without its variables")
                self._executing = False
                self.client.wait_for_ready(READY_TIMEOUT)
            except ReplyLost:  # a warning has said what is known of the cell
                say("the connection was lost and is open again; the kernel has its variables")
                self._executing = False

        def handle_iopub(self, msg_id: str = "") -> None:
            self._cell = msg_id
            super().handle_iopub(msg_id)

        def include_output(self, msg: Any) -> bool:
            # To the original any "idle" is the cell's. Far away, that of the question whether the
            # code is complete comes after the cell was sent; its output would not be waited for.
            if msg["msg_type"] == "status" and msg["parent_header"].get("msg_id") != self._cell:
                return False
            self._silence = Deadline(_SILENCE)
            return super().include_output(msg)  # type: ignore[no-any-return, unused-ignore]

        def ask_after_kernel(self) -> None:
            if not self.client.is_alive():  # the original would be silent
                self.client.kernel_info(reply=True, timeout=READY_TIMEOUT)

        def handle_input_request(self, msg_id: str, timeout: float = 0.1) -> None:
            try:
                super().handle_input_request(msg_id, timeout=timeout)
            except Empty:  # the original waits for an "idle" for ever, which may have got lost
                if not self.client.shell_channel.msg_ready():
                    self._silence = Deadline(_SILENCE)
                elif self._silence.passed():
                    self._execution_state = "idle"
                raise

        async def handle_external_iopub(self, loop: Any = None) -> None:
            while self.keep_running:  # the original polls a ZMQ socket
                self.handle_iopub()
                await asyncio.sleep(0.5)

        async def _main_task(self) -> None:  # the original loses what interact() raises
            if self.include_other_output:
                self._listening = asyncio.create_task(self.handle_external_iopub())
            await self.interact()

        def mainloop(self) -> None:
            while True:  # the original ends the kernel as well, also one that is not ours
                try:
                    asyncio.run(self._main_task())
                except Signal:
                    raise
                except KeyboardInterrupt:
                    continue
                return

    return Shell
