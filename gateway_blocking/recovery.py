"""What becomes of the requests in flight when a websocket is lost (no I/O).

A request that was sent just before the loss may or may not have reached the kernel, and a kernel
may have executed it although nothing was heard of that.  After the websocket is open again, with
the same ``session_id`` (so that the gateway replays what it kept), a :class:`Recovery` asks the
kernel, on its ``control`` channel, which even a busy kernel answers at once:

1. A ``kernel_info_request``.  Its answer tells which kernel process this is.
2. Only if something is to be sent again of which nothing was heard: another one twice, byte for
   byte, and a different one when the first is answered.  Kernels built on jupyter_client's
   ``Session`` ignore a repetition, and answer the first only once.
3. What may be repeated is sent again.  What is harmless always, with another date, so that it
   is answered again, as a new request is; anything else byte for byte, only if nothing was heard
   of it, and only to a kernel that ignores repetitions and is the process that it was meant for.
4. The barriers.  What proves that an execution ended is the end of a later *execution*: an empty,
   silent one.  The answer to a ``kernel_info_request`` proves nothing, because a kernel may answer
   it while it executes (ipymini, async-kernel, xeus-python do); it is sent as well, because a
   kernel that does not even answer that does not listen to this websocket.

``docs/topics/delivery.rst`` has the whole argument.  What is said here of kernels and gateways
was measured on real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import uuid4

from .requests_table import Request
from .wire import Message

__all__ = [
    "Barrier",
    "Recovery",
    "Step",
    "is_idempotent",
    "is_worth_repeating",
    "is_safe_to_resend",
]

_HARMLESS = frozenset(
    f"{what}_request"
    for what in ("kernel_info", "complete", "inspect", "history", "is_complete", "comm_info")
)
_MOST_REPETITIONS = 20


# --- what was under way ---------------------------------------------------------------------------


def is_idempotent(request: Request) -> bool:
    """Whether it changes nothing in a kernel to be asked this, however often."""
    return request.msg_type in _HARMLESS


def is_worth_repeating(request: Request, incarnation: str | None) -> bool:
    """Return True if a request may be executed only if it is sent again, whatever it does.

    Nothing was heard of it, and the kernel is the process that it was meant for.
    """
    return bool(
        not request.seen
        and not request.is_overtaken
        and not is_idempotent(request)
        and request.sent <= _MOST_REPETITIONS
        and request.incarnation
        and request.incarnation == incarnation
    )


def is_safe_to_resend(
    request: Request, incarnation: str | None, ignores_repetitions: bool | None
) -> bool:
    """Return True if a request is to be sent again, and certainly is not executed twice.

    Parameters
    ----------
    request : Request
        The request, whose effect is not known.
    incarnation : str or None
        The kernel process that would get it.
    ignores_repetitions : bool or None
        Whether that ignores a message which it had before.
    """
    if is_idempotent(request):  # unless it is what the connection breaks of
        return request.sent <= _MOST_REPETITIONS
    return bool(ignores_repetitions) and is_worth_repeating(request, incarnation)


class Step(Enum):
    """How far a recovery is."""

    PROBING = "asking which kernel process this is"
    TESTING = "asking whether the kernel ignores what it had before"
    FENCING = "asking whether a second answer to the same question is still to come"
    WAITING = "waiting for the kernel to be done with what was sent before"
    GRACE = "everything was answered that will be"


@dataclass(frozen=True)
class Barrier:
    """A request of the connection, behind others of which it proves that they are done."""

    channel: str
    execution: bool = False
    """True if it is an empty execution, and not a question."""
    subshell: str | None = None
    """The subshell of the kernel, which executes beside the others."""


class Recovery:
    """The questions to a kernel after its websocket was opened again, and what they told.

    The connection sends what :attr:`question`, :attr:`copy`, :attr:`fence` and :meth:`ask` name,
    and shows each message about them to :meth:`hear`.

    Parameters
    ----------
    prefix : str
        With which the msg_ids of these requests, and of no others, begin.
    lost : bool
        Whether the connection was lost.  If not, only the barriers are asked: replies may be
        missing all the same.
    """

    def __init__(self, prefix: str, lost: bool = True) -> None:
        self.lost = lost
        self.step = Step.PROBING if lost else Step.WAITING
        self.in_doubt: list[Request] = []
        """The requests that the barriers were sent behind."""
        self.repeated: set[str] = set()
        """The msg_ids of what was sent again."""
        self.incarnation: str | None = None
        """The kernel process, as far as its messages tell."""
        self.ignores_repetitions: bool | None = None
        self.question, self.copy, self.fence = (
            f"{prefix}{what}_{uuid4().hex}" for what in ("question", "copy", "fence")
        )
        """The msg_ids of what is asked on control; `copy` is sent twice."""
        self.has_control = True
        """True if the kernel answers on control, as far as known."""
        self.unanswered: set[Barrier] = set()
        self.polls = self.idle_polls = 0
        """How often the gateway was asked why no answer comes, and how often it is not busy."""
        self._prefix = prefix
        self._copies = 0
        self._barriers: dict[str, Barrier] = {}  # by msg_id

    def __repr__(self) -> str:
        return f"<Recovery {self.step.name}>"

    def hear(self, message: Message) -> Step | None:
        """Note a message about one of the requests; the next step, if it is time for that."""
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
        if barrier.execution:  # which is later than the question on the same channel
            self.unanswered.discard(Barrier(barrier.channel))
        if not self.unanswered:
            self.step = Step.GRACE

    def ask(self, barrier: Barrier) -> str:
        """Return the msg_id of a request that is to be the barrier, perhaps once more."""
        msg_id = f"{self._prefix}{barrier.channel}_{uuid4().hex}"
        self._barriers[msg_id] = barrier
        self.unanswered.add(barrier)
        return msg_id

    def has_passed(self, request: Request) -> bool:
        """Return True if a request that was sent before the barriers is done for certain."""
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
        """Nothing is sent again for which it matters whether the kernel ignores a repetition."""
        self.step = Step.WAITING

    def go_on_without_control(self) -> None:
        """Do what can be done with a kernel that does not answer on control, such as IRkernel."""
        self.has_control = False
        self.step = Step.WAITING

    def is_session_ignored(self) -> bool:
        """Return True if the kernel does not answer here, though it has nothing else to do."""
        return self.lost and Barrier("shell") in self.unanswered and self.idle_polls > 1

    def is_to_ask_again(self) -> bool:
        """Return True if a barrier may have been lost: asked ever more seldom."""
        return self.idle_polls >= 4 and self.idle_polls & (self.idle_polls - 1) == 0

    def forget_subshells(self) -> bool:
        """Wait no more for subshells, which may have been deleted; return True if that was all.

        What was sent to one then ends only by what is heard of itself.
        """
        self._barriers = {i: b for i, b in self._barriers.items() if b.subshell is None}
        self.unanswered = {barrier for barrier in self.unanswered if barrier.subshell is None}
        if not self.unanswered:
            self.step = Step.GRACE
        return not self.unanswered
