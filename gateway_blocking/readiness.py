"""The wait until a kernel replies to requests and its output arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from time import monotonic

from .channels import Channel, Claim
from .connector import ConnectionSlot
from .deadline import Deadline
from .errors import DeadKernelError, GatewayTimeout, KernelNotReady, KernelRestarted, ReplyLost
from .messages import Message, is_idle

__all__ = ["ReadinessCheck"]


@dataclass(frozen=True)
class ReadinessCheck:
    """A question to a kernel that is repeated until the kernel answers it.

    Parameters
    ----------
    kernel_id : str
        ID of the kernel, used in error texts.
    slot : ConnectionSlot
        The connection of the client.
    shell, iopub : Channel
        The channels on which reply and output arrive.
    new_request : callable
        ``new_request()``, which returns a ``kernel_info_request``.
    kernel_exists : callable
        Asks the gateway if it has the kernel.
    """

    kernel_id: str
    slot: ConnectionSlot
    shell: Channel
    iopub: Channel
    new_request: Callable[[], Message]
    kernel_exists: Callable[[], bool]

    def wait(self, deadline: Deadline) -> Message:
        """Wait until the kernel is ready, and return its ``kernel_info_reply``.

        Raises
        ------
        KernelNotReady, DeadKernelError, GatewayConnectionClosed
            See ``wait_for_ready()`` of the client.
        """
        reply = None
        while reply is None:
            self._accept_restarted_kernel()
            reply = self._ask(deadline)
        return reply

    def _accept_restarted_kernel(self) -> None:
        if self.slot.kernel_seems_alive:
            return
        if not self.kernel_exists():
            raise DeadKernelError(
                f"Kernel died before replying to kernel_info: {self.kernel_id}"
                " does not exist any more: it died while starting, was shut down or culled, or the"
                " gateway was restarted; the gateway's log says more"
            )
        self.slot.revive()

    def _ask(self, deadline: Deadline) -> Message | None:
        """Return the reply to ``kernel_info``, or None if the kernel was restarted meanwhile.

        Replies to requests that were sent more than once are dropped, even if they come later.
        """
        message = self.new_request()
        with Claim(
            message["header"]["msg_id"], self.shell, self.iopub, give_back=False, mute=True
        ) as claim:
            try:
                return self._repeat(message, claim, deadline)
            except (KernelRestarted, ReplyLost) as error:
                if deadline.passed():
                    raise self._not_ready(deadline) from error
                return None
            except DeadKernelError as error:
                raise DeadKernelError(
                    f"Kernel died before replying to kernel_info: {error}"
                ) from error
            finally:
                self.slot.give_up(claim.msg_ids)

    def _repeat(self, message: Message, claim: Claim, deadline: Deadline) -> Message:
        """Send the request, again each second or so, until its reply and its output came.

        A kernel may lose a request, as IRkernel does after an interrupt.  A gateway that has just
        connected to the kernel may lose the first published message.
        """
        begun = monotonic()
        reply, has_output = None, not self.iopub.is_alive()
        while True:
            try:
                self.shell.send(message, deadline)
            except GatewayTimeout as error:
                if deadline.passed():
                    raise self._not_ready(deadline) from error
                raise
            until = deadline.within(_retry_delay(monotonic() - begun))
            while not (reply and has_output):
                try:
                    answer = claim.take(until)
                except Empty:
                    break
                if claim.origin is self.iopub:
                    has_output = has_output or is_idle(answer)
                elif answer["msg_type"] == "kernel_info_reply":
                    reply = answer
            if reply and has_output:
                return reply
            if deadline.passed():
                raise self._not_ready(deadline)
            message = self.new_request()
            claim.add_request(message["header"]["msg_id"])

    def _not_ready(self, deadline: Deadline) -> KernelNotReady:
        return KernelNotReady(
            f"Kernel didn't respond in {deadline.timeout:g} seconds: kernel {self.kernel_id} is"
            " starting, or busy, or cannot start, which the gateway's log says"
        )


def _retry_delay(waited: float) -> float:
    """Return the seconds after which a kernel that is not ready yet is asked again.

    The delay grows, because a kernel that is busy answers all of these requests when it is done.
    """
    return max(1.0, waited / 10)
