"""Recovery of the requests in flight when a websocket is lost (no I/O).

A request that was sent just before the loss may or may not have reached the kernel, and the kernel
may have executed it although no message about it arrived.  After the websocket is open again, with
the same ``session_id`` (so that the gateway replays the messages that it kept), a :class:`Recovery`
asks the kernel on its ``control`` channel, which even a busy kernel answers at once:

1. It sends a ``kernel_info_request``.  The answer tells which kernel process this is.
2. If a request has to be sent again about which no message arrived, it sends another question
   twice, byte for byte, and a different one when that is answered.  Kernels built on
   jupyter_client's ``Session`` ignore a repetition, and answer the repeated question only once.
3. It sends requests again.  An idempotent request is always sent again, with another date, so that
   the kernel answers it like a new one.  Any other request is sent again byte for byte, only if no
   message about it arrived, and only to a kernel that ignores repetitions and is the process that
   the request was meant for.
4. It sends the barriers.  The end of a later *execution*, an empty and silent one, proves that an
   execution ended.  The answer to a ``kernel_info_request`` proves nothing, because a kernel may
   answer it while it executes (ipymini, async-kernel, xeus-python do).  It is sent as well, because
   a kernel that does not even answer a question does not listen to this websocket.

``docs/topics/delivery.rst`` has the whole argument.  The facts about kernels and gateways were
measured on real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import uuid4

from .messages import Message
from .requests_table import Request

__all__ = [
    "Barrier",
    "Recovery",
    "Step",
    "is_idempotent",
    "is_worth_repeating",
    "is_safe_to_resend",
]

_IDEMPOTENT = frozenset(
    f"{what}_request"
    for what in ("kernel_info", "complete", "inspect", "history", "is_complete", "comm_info")
)
_MAX_SENT = 20


# --- requests in flight ---------------------------------------------------------------------------


def is_idempotent(request: Request) -> bool:
    """Return True if a kernel may execute a request any number of times without a change."""
    return request.msg_type in _IDEMPOTENT


def is_worth_repeating(request: Request, incarnation: str | None) -> bool:
    """Return True if the kernel may lack a request, and is the process that it was meant for."""
    return bool(
        not request.seen
        and not request.is_overtaken
        and not is_idempotent(request)
        and request.sent <= _MAX_SENT
        and request.incarnation
        and request.incarnation == incarnation
    )


def is_safe_to_resend(
    request: Request, incarnation: str | None, ignores_repetitions: bool | None
) -> bool:
    """Return True if a request is worth sending again, and certainly is not executed twice.

    Parameters
    ----------
    request : Request
        The request, whose effect is not known.
    incarnation : str or None
        The kernel process that would get it.
    ignores_repetitions : bool or None
        Whether that process ignores a message that it had before; None if that is not known.
    """
    if is_idempotent(request):  # unless the connection breaks because of it
        return request.sent <= _MAX_SENT
    return bool(ignores_repetitions) and is_worth_repeating(request, incarnation)


class Step(Enum):
    """Step of a recovery."""

    PROBING = "asking which kernel process this is"
    TESTING = "asking whether the kernel ignores a message that it had before"
    FENCING = "asking whether a second answer to the same question is still to come"
    WAITING = "waiting until the kernel is done with all that was sent before"
    GRACE = "the kernel is done; the last messages may still be on their way"


@dataclass(frozen=True)
class Barrier:
    """A request of the connection whose reply proves that the requests before it are done."""

    channel: str
    execution: bool = False
    """True if it is an empty execution; False if it is a question."""
    subshell: str | None = None
    """ID of the subshell, which executes beside the others; None for the main shell."""


class Recovery:
    """The questions to a kernel after its websocket was opened again, and their answers.

    The driver sends requests with the msg_ids :attr:`question`, :attr:`copy`, :attr:`fence` and
    those of :meth:`ask`, and passes each message about them to :meth:`receive`.

    Parameters
    ----------
    prefix : str
        Prefix of the msg_ids of these requests, and of no others.
    lost : bool
        Whether the connection was lost.  If not, only barriers are sent, because replies may be
        missing all the same.
    """

    def __init__(self, prefix: str, lost: bool = True) -> None:
        self.lost = lost
        self.step = Step.PROBING if lost else Step.WAITING
        self.in_doubt: list[Request] = []
        """The requests before the barriers."""
        self.repeated: set[str] = set()
        """The msg_ids of the requests that were sent again."""
        self.incarnation: str | None = None
        """The kernel process; None if its messages do not tell."""
        self.ignores_repetitions: bool | None = None
        self.question, self.copy, self.fence = (
            f"{prefix}{what}_{uuid4().hex}" for what in ("question", "copy", "fence")
        )
        """The msg_ids of the questions on control; `copy` is sent twice."""
        self.has_control = True
        """True if the kernel answers on control, as far as known."""
        self.unanswered: set[Barrier] = set()
        self.polls = self.idle_polls = 0
        """Number of polls because no answer came, and of those that found the kernel idle."""
        self._prefix = prefix
        self._copies = 0
        self._barriers: dict[str, Barrier] = {}  # by msg_id

    def __repr__(self) -> str:
        return f"<Recovery {self.step.name}>"

    def receive(self, message: Message) -> Step | None:
        """Note a message about one of the questions; return the next step if it begins now."""
        if message["msg_type"] not in ("kernel_info_reply", "execute_reply"):
            return None
        msg_id, before = message["parent_header"]["msg_id"], self.step
        self._copies += msg_id == self.copy
        if before is Step.PROBING and msg_id == self.question:
            session = message["header"].get("session")
            is_own = session and session != message["parent_header"].get("session")
            self.incarnation = session if is_own else None
            self.step = Step.TESTING
        elif before is Step.TESTING and msg_id == self.copy:
            self.step = Step.FENCING
        elif before is Step.FENCING and msg_id == self.fence:
            self.ignores_repetitions = self._copies == 1
            self.step = Step.WAITING
        elif before is Step.WAITING and msg_id in self._barriers:
            self._pass(self._barriers[msg_id])
        return None if self.step is before else self.step

    def _pass(self, barrier: Barrier) -> None:
        self.unanswered.discard(barrier)
        if barrier.execution:  # and so is the question before it on the same channel
            self.unanswered.discard(Barrier(barrier.channel))
        if not self.unanswered:
            self.step = Step.GRACE

    def ask(self, barrier: Barrier) -> str:
        """Return the msg_id for a barrier, which may be sent several times."""
        msg_id = f"{self._prefix}{barrier.channel}_{uuid4().hex}"
        self._barriers[msg_id] = barrier
        self.unanswered.add(barrier)
        return msg_id

    def has_passed(self, request: Request) -> bool:
        """Return True if the kernel is certainly done with a request sent before the barriers."""
        if request.channel == "control":
            barrier = Barrier("control")
        elif request.idle:  # its reply would come before any later message on its channel
            barrier = Barrier("shell")
        else:
            barrier = Barrier("shell", True, request.subshell)
        if not self.has_control and barrier.channel == "control":
            return True  # no answer comes from there
        return barrier in self._barriers.values() and barrier not in self.unanswered

    def go_on_without_test(self) -> None:
        """Skip the question whether the kernel ignores a repetition, because it does not matter."""
        self.step = Step.WAITING

    def go_on_without_control(self) -> None:
        """Skip the questions on control, which a kernel such as IRkernel does not answer."""
        self.has_control = False
        self.step = Step.WAITING

    def is_session_ignored(self) -> bool:
        """Return True if the kernel is idle, but does not answer on this websocket."""
        return self.lost and Barrier("shell") in self.unanswered and self.idle_polls > 1

    def is_to_ask_again(self) -> bool:
        """Return True if the barriers should be sent again: at polls that get ever rarer."""
        return self.idle_polls >= 4 and self.idle_polls & (self.idle_polls - 1) == 0

    def forget_subshells(self) -> bool:
        """Wait no more for subshells, which may have been deleted; return True if nothing is left.

        A request to a subshell then ends only with a message about the request itself.
        """
        self._barriers = {i: b for i, b in self._barriers.items() if b.subshell is None}
        self.unanswered = {barrier for barrier in self.unanswered if barrier.subshell is None}
        if not self.unanswered:
            self.step = Step.GRACE
        return not self.unanswered
