"""The requests in flight, and the kernel process that answers them (no I/O).

A connection adds every request before it sends it, and reports every message.  So it knows, when
its websocket is lost, which requests are in doubt; and three facts that no single message tells:

* *Which process* answers.  A kernel's own messages carry the ID of the kernel process as
  ``header.session``, another one after every restart: its *incarnation*.  A request sent between a
  kernel's death and its silent restart is executed by the new, empty process; that is not an
  answer to the request.  (Kernels that put the session of the request there, as IRkernel does,
  have no visible incarnation.)
* *What is missing* of an execution's output: see :mod:`.sequence`.
* *What came twice*, because a gateway replayed it.

All of this was measured on real servers.  Not thread-safe: the protocol serializes the calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from .messages import Message
from .sequence import MessageSequence, OwnQuestion, forget_oldest, is_reply, is_request, number_of

__all__ = ["Disposition", "RequestTable", "Request"]

_RECENT = 4096  # msg_ids among which a duplicate is looked for
_REMEMBERED = 1000  # abandoned requests; executions and their missing messages
_UNFINISHED = 256  # answered requests that still wait for their "idle", which may be lost
_OWN_SESSIONS = 10  # the newest, by which a gateway may still name this client in a late message
_LONGEST_SESSION = 1024  # characters; a real kernel's session has 36
_QUEUE = 1000  # messages that wait between a kernel and its gateway before ZMQ drops some


class Disposition(Enum):
    """Decision about a message that came."""

    DELIVER = "it is delivered"
    DELIVER_INCOMPLETE = "it is delivered; it ends an execution with missing messages"
    DUPLICATE = "it was replayed, although it came before"
    STALE = "its request was abandoned, or was sent to another kernel process"
    NEW_PROCESS = "it is the first of a new kernel process; the old one's state is lost"
    LOST = "its request waits for it, but it cannot be read; the request was abandoned"


@dataclass(eq=False)
class Request:
    """A message to the kernel whose effect is not known yet, and the frame that it was sent in."""

    msg_id: str
    msg_type: str
    channel: str
    subprotocol: str
    frame: tuple[int, bytes]
    """Opcode and payload, in the format of the subprotocol."""
    subshell: str | None = None
    """ID of the subshell that executes it, beside the others; None for the main shell."""
    incarnation: str | None = None
    """The kernel process that it was meant for; None if none was known."""
    writing: bool = True
    """True while a thread is writing it to the websocket."""
    epoch: int = 0
    """Number of the connection's websocket that it was sent on."""
    sent: int = 1
    """How often it was sent."""
    is_overtaken: bool = False
    """True if newer requests may have been sent since it was lost: it is not sent again."""
    seen: bool = False
    """True if a message came that has it as its parent: the kernel has it."""
    replied: bool = False
    idle: bool = False
    first: int | None = None
    """Number of the first message about it that came on iopub."""
    first_is_busy: bool = False
    reply_number: int | None = None
    unreadable: int = 0
    """Number of messages of its output that came and could not be read."""

    @property
    def settled(self) -> bool:
        """True if its effect is known.  A ``comm_msg`` gets no reply, only an "idle"."""
        return self.replied if is_request(self.msg_type) else self.idle


class RequestTable:
    """The requests of one client, in the order in which they were sent.

    Parameters
    ----------
    session_id : str
        ID of the client's session, which a gateway also uses for messages that it makes itself.
    """

    def __init__(self, session_id: str) -> None:
        self.incarnation: str | None = None
        """The kernel process that sent the last message; None if that is not known."""
        self.session_id = session_id
        """ID by which the gateway knows this client."""
        self._own_sessions = {session_id: None}  # the first is in the headers of requests
        self._past: dict[str, None] = {}  # incarnations
        self._requests: dict[str, Request] = {}
        self._unfinished: dict[str, Request] = {}  # replied to, but without an "idle"
        self._one_way: deque[str] = deque()  # the msg_ids of messages that get no reply
        self._abandoned: dict[str, str | None] = {}  # by msg_id, the process that it was meant for
        self._input_asked_by = ""  # the request that last asked for input
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._replayed: frozenset[str] = frozenset()
        self._sequence = MessageSequence()
        # The connection's own questions, and those without more answers to come.
        self._questions: dict[str, OwnQuestion] = {}
        self._past_questions: set[str] = set()
        self._missing: dict[str, int | None] = {}
        self._unsuspected: dict[str, None] = {}  # executions without a known loss
        self._unreadable: dict[str, str] = {}  # by request, why its output could not be read

    # --- requests -------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Add a request that is about to be sent."""
        request.incarnation = self.incarnation
        self._abandoned.pop(request.msg_id, None)
        if request.msg_type == "input_reply":
            request.msg_id = _answer_to(self._input_asked_by)  # by which it will be looked for
        if not is_request(request.msg_type):
            self._one_way.append(request.msg_id)
            if len(self._one_way) > _REMEMBERED:  # the kernel publishes no "idle" for them
                self._requests.pop(self._one_way.popleft(), None)
        self._requests[request.msg_id] = request

    def discard(self, request: Request) -> bool:
        """Forget a request that was not sent; return False if it is not in the table any more."""
        return self._requests.pop(request.msg_id, None) is not None

    def outstanding(self) -> list[Request]:
        """Return the requests whose effect is not known, in order."""
        return [request for request in list(self._requests.values()) if not request.settled]

    def unreplied(self) -> list[Request]:
        """Return the requests that the kernel is done with, and whose replies have not come."""
        return [request for request in self.outstanding() if request.idle]

    def is_unreplied(self, parent_header: Mapping[str, Any]) -> bool:
        """Return True if the kernel is done with a request of ours, but has not replied."""
        request = self._requests.get(parent_header.get("msg_id", ""))
        return request is not None and request.idle and not request.settled

    def is_outstanding(self, request: Request) -> bool:
        """Return True if a request still waits for its effect to be known."""
        return self._requests.get(request.msg_id) is request and not request.settled

    def forget_unfinished(self, epoch: float) -> list[str]:
        """Wait no more for the last output of requests that have a reply and were sent before.

        Returns the msg_ids of these requests.
        """
        unfinished = [
            request
            for request in list(self._unfinished.values())
            if request.settled and request.epoch < epoch
        ]
        for request in unfinished:
            self._finish(request, None)
        return [request.msg_id for request in unfinished]

    def abandon(self, *requests: Request) -> None:
        """Wait for no replies to these requests, and drop a reply that comes all the same."""
        for request in requests:
            self._requests.pop(request.msg_id, None)
            self._unfinished.pop(request.msg_id, None)
            self._abandoned[request.msg_id] = request.incarnation
        forget_oldest(self._abandoned)

    def ignore_replies(self, msg_ids: Collection[str]) -> None:
        """Abandon these requests, and ignore another reply to those that have one already."""
        self.abandon(*(request for request in self.outstanding() if request.msg_id in msg_ids))
        for msg_id in msg_ids:
            self._abandoned.setdefault(msg_id, self.incarnation)
        forget_oldest(self._abandoned)

    def ask(self, *msg_ids: str) -> None:
        """Note requests of the connection's own on control, whose answers have numbers, too.

        If answers are lost, their numbers look like those of lost output, until
        :meth:`replay_is_over`.
        """
        self._questions.update({msg_id: OwnQuestion(self._sequence.next) for msg_id in msg_ids})

    def end_incarnation(self) -> None:
        """Abandon all requests because the kernel process has ended."""
        self.abandon(*self.outstanding())
        if self.incarnation is not None:
            self._past[self.incarnation] = None
            forget_oldest(self._past)
            self.incarnation = None

    def change_session_id(self) -> None:
        """Take another ``session_id``, by which a gateway takes this client for another one."""
        self.session_id = uuid4().hex
        self._own_sessions[self.session_id] = None
        if len(self._own_sessions) > _OWN_SESSIONS:
            del self._own_sessions[[*self._own_sessions][1]]

    def missing(self, msg_id: str) -> int | None:
        """Return how many messages of an execution have not come; None if that is not known."""
        return self._missing.get(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """Return False if no loss is known that could be of the output of an execution."""
        return msg_id not in self._unsuspected

    def why_unreadable(self, msg_id: str) -> str:
        """Return why output of a request could not be read; "" if all of it could be read."""
        return self._unreadable.get(msg_id, "")

    # --- messages received ----------------------------------------------------------------------

    def expect_loss(self) -> None:
        """Take note that output may be lost between the last message that came and the next."""
        self._sequence.expect_loss()

    def expect_replay(self) -> None:
        """Take note that the websocket was opened again: messages may be replayed."""
        self._replayed = frozenset(self._recent)
        self._sequence.expect_loss()
        self._past_questions.update(self._questions)

    def replay_is_over(self) -> None:
        """Take note that no message is a replay from now on, and all earlier questions are done."""
        self._replayed = frozenset()
        self._questions.clear()
        self._past_questions.clear()

    def receive(self, channel: str, message: Message, unreadable: str = "") -> Disposition:
        """Take note of a message that came.

        A message of a ``NEW_PROCESS`` is not noted: the caller passes it again after
        :meth:`end_incarnation`.

        Parameters
        ----------
        channel : str
            Name of the channel that it came on.
        message : Message
            The message.
        unreadable : str, optional
            Why only its headers could be read.  It then counts as lost.
        """
        msg_id, parent = message["msg_id"], message["parent_header"]
        if self._replayed and msg_id in self._replayed:
            return Disposition.DUPLICATE
        session, parent_id = message["header"].get("session"), parent.get("msg_id") or ""
        if session != self.incarnation and self.is_incarnation(session, parent):
            if self.incarnation is not None:
                return Disposition.NEW_PROCESS
            self.incarnation, self._sequence = session, MessageSequence(self._sequence.skips)
            for question in self._questions.values():
                question.first = 0
        self._recent.append(msg_id)
        number = number_of(msg_id) if session == self.incarnation else None
        if channel == "iopub":
            if number is not None:
                self._sequence.output_received(message["msg_type"], number)
            elif message["msg_type"] == "stream" and self._is_own(session):
                self._sequence.expect_loss(limited=True)  # the gateway says that it drops output
        if unreadable and channel == "iopub" and message["msg_type"] != "status":
            self._note_unreadable(parent_id, unreadable)  # the gap in the numbers stays
            if number is not None:
                self._sequence.lose(number)
        elif number is not None:
            answered = self._sequence.received(message, number)
            if parent_id in self._questions:
                self._questions[parent_id].missing -= answered
                if channel == "control":
                    self._past_questions.add(parent_id)
        if self._abandoned and parent_id in self._abandoned:
            output = channel == "iopub" or channel == "stdin"
            late = output and (session == self._abandoned[parent_id] or self._is_own(session))
            return Disposition.DELIVER if late else Disposition.STALE
        if unreadable and self._awaits(channel, message["msg_type"], parent_id):
            self.abandon(self._requests[parent_id])
            return Disposition.LOST
        return self._follow(channel, message, parent_id, number)

    def _note_unreadable(self, msg_id: Any, why: str) -> None:
        if (request := self._requests.get(msg_id)) is not None:
            request.unreadable += 1
            self._unreadable[request.msg_id] = why
            forget_oldest(self._unreadable)

    def _awaits(self, channel: str, msg_type: str, msg_id: Any) -> bool:
        """Return True if a request cannot succeed without this message."""
        request = self._requests.get(msg_id)
        if request is None or request.replied:
            return False
        return channel == "stdin" or (channel == request.channel and is_reply(msg_type))

    def _is_own(self, session: Any) -> bool:
        return isinstance(session, str) and session in self._own_sessions

    def is_incarnation(self, session: Any, parent: Mapping[str, Any]) -> bool:
        """Return True if a header's session is the ID of a kernel process that is not past."""
        return bool(
            parent
            and session
            and isinstance(session, str)
            and len(session) <= _LONGEST_SESSION
            and session != parent.get("session")
            and session not in self._own_sessions
            and session not in self._past
        )

    def _follow(
        self, channel: str, message: Message, parent_id: str, number: int | None
    ) -> Disposition:
        """Take note of how far the request of a message is."""
        msg_type, request = message["msg_type"], self._requests.get(parent_id)
        if parent_id and parent_id == self._input_asked_by:  # it goes on, so it has its answer
            self._requests.pop(_answer_to(parent_id), None)
        if msg_type == "input_request":
            self._input_asked_by = parent_id
        state = _state(message)
        if request is None:
            return Disposition.DELIVER
        if not request.seen:
            request.seen = True
            request.incarnation = request.incarnation or self.incarnation
        if channel == "iopub" and request.first is None:
            request.first, request.first_is_busy = number, state == "busy"
        if channel == request.channel and is_reply(msg_type):
            request.replied = True
            request.reply_number = number
            self._unfinished[parent_id] = request
            if request.idle:
                self._requests.pop(parent_id, None)
                self._unfinished.pop(parent_id, None)
            elif len(self._unfinished) > _UNFINISHED:
                self._finish(next(iter(self._unfinished.values())), None)
            if request.sent > 1 and request.msg_type != "execute_request":
                self.abandon(request)  # a kernel that got it twice answers twice
        if state == "idle":
            return self._finish(request, number)
        return Disposition.DELIVER

    def _finish(self, request: Request, last: int | None) -> Disposition:
        """Take note that the last output of a request came, with this number, or will not come."""
        request.idle = True
        self._unfinished.pop(request.msg_id, None)
        if request.settled:
            self._requests.pop(request.msg_id, None)
        if request.msg_type != "execute_request":
            return Disposition.DELIVER
        first, end = request.first, request.reply_number if last is None else last
        missing, doubtful = None, False
        if first is not None and end is not None:
            missing, doubtful = self._count(request, first, end, last is None)
        if request.unreadable:  # also if the kernel does not number its messages
            missing = max(missing or 0, request.unreadable)
        self._missing[request.msg_id] = missing
        forget_oldest(self._missing)
        if missing or doubtful:
            return Disposition.DELIVER_INCOMPLETE
        if first is not None and end is not None:
            self._unsuspected[request.msg_id] = None
            forget_oldest(self._unsuspected)
        return Disposition.DELIVER

    def _count(
        self, request: Request, first: int, end: int, without_idle: bool
    ) -> tuple[int | None, bool]:
        """Return how many messages of an execution are missing, and whether some may be."""
        sequence = self._sequence
        sure = (not request.first_is_busy) + without_idle  # every kernel sends "busy" and "idle"
        gap, unexplained = sequence.missing(first, end), sequence.unexplained(first, end)
        questions = (self._questions[msg_id] for msg_id in self._past_questions)
        other = sum(question.hidden(sequence, first, end) for question in questions)
        other += sequence.other(first, end, but={request.msg_id, *self._past_questions})
        overflow = not sequence.skips and sequence.unexplained(first + _QUEUE, end) > 0
        sequence.skips = sequence.skips or unexplained > other
        if gap and sequence.skips:
            return sure or None, gap > unexplained or overflow
        if without_idle:
            return _at_least(gap + sure, other) or 1, True
        if gap + sure == 0 and sequence.may_hide(first, end):
            return None, True
        missing = _at_least(gap + sure, other)
        return missing, missing is None


def _state(message: Message) -> Any:
    return message["content"].get("execution_state") if message["msg_type"] == "status" else ""


def _answer_to(msg_id: str) -> str:
    return f"answer to {msg_id}"


def _at_least(gap: int, other: int) -> int | None:
    """Return how many messages of a gap are output for certain; None if perhaps none is."""
    return max(0, gap - other) or (None if gap else 0)
