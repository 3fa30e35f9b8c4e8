"""What was asked of a kernel and is not answered yet, and what was heard of it: pure.

A connection enters every request before it sends it, and shows every message that comes.  So it
knows, when its websocket is lost, which requests are in doubt; and three things that no single
message tells:

* *which process* answers.  A kernel's own messages carry the id of the kernel process as
  ``header.session``, another after every restart: its *incarnation*.  A request sent between a
  kernel's death and its silent restart is executed by the new, empty process; that is no answer
  to what was asked.  (Kernels that put the session of the request there, as IRkernel does, have
  no incarnation that could be seen.)
* *what is missing*.  jupyter_client's ``Session``, which every ipykernel uses, numbers a kernel's
  messages (``<session>_<pid>_<number>``).  What a gateway drops, because it came too fast or
  because a connection swallowed it, leaves a gap within the numbers of one execution.  But a
  number is taken when a message is made, and some are made and never sent: by ipykernel 7.3 for
  each result that displays itself (``_ipython_display_``), by async-kernel 0.23 for each display.
  A gap is a loss only if a loss is known that explains it.
* *what came twice*, replayed by a gateway.

All of this was measured on real servers.  Not thread-safe: the connection has the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from .wire import Message

__all__ = ["Disposition", "RequestTable", "Request"]

_RECENT = 4096  # ids of messages among which one that comes twice is looked for
_REMEMBERED = 1000  # requests that were given up; executions and what is missing of them
_UNFINISHED = 256  # answered requests that still wait for their "idle", which may be lost
_LONGEST_SESSION = 1024  # characters; that of a real kernel has 36
_ASSUMED = 64  # messages to others whose place is not certain
_QUEUE = 1000  # messages that wait between a kernel and its gateway before ZMQ drops some
_UNLIMITED = frozenset({"status", "comm_open", "execute_input"})  # whatever a gateway's limits are
_ANSWERS = 3  # messages with a number of what asks for no output: busy, reply, idle


class Disposition(Enum):
    """What a message is."""

    DELIVER = "to be delivered"
    DELIVER_INCOMPLETE = "to be delivered; the last of an execution of which messages are missing"
    DUPLICATE = "replayed, though it came before"
    STALE = "of a request that was given up, or from another process than the one it was sent to"
    NEW_PROCESS = "the first from a new kernel process; the old one's state is lost"
    LOST = "what its request waits for, but it cannot be read; the request was given up"


@dataclass(eq=False)
class Request:
    """A message to the kernel whose effect is not known yet, and the frame it was sent in."""

    msg_id: str
    msg_type: str
    channel: str
    subprotocol: str
    frame: tuple[int, bytes]
    """Opcode and payload, in the format of the subprotocol."""
    subshell: str | None = None
    """The subshell of the kernel that executes it, beside the others."""
    incarnation: str | None = None
    """The kernel process that it was meant for; None where none was known."""
    writing: bool = True
    """Whether a thread is writing it to the websocket just now."""
    epoch: int = 0
    """Which of the connection's websockets it was sent on first."""
    sent: int = 1
    """How often it was sent."""
    is_overtaken: bool = False
    """Whether newer requests may have been sent since it was lost: it is not sent again."""
    seen: bool = False
    """Whether a message was heard that has it as its parent: the kernel has it."""
    replied: bool = False
    idle: bool = False
    first: int | None = None
    """The number of the first message that came of it on iopub."""
    first_is_busy: bool = False
    reply_number: int | None = None
    unreadable: int = 0
    """Number of messages of its output that came and could not be read."""

    @property
    def settled(self) -> bool:
        """Whether its effect is known.  A ``comm_msg`` gets no reply, only an ``idle``."""
        return self.replied if _is_request(self.msg_type) else self.idle


@dataclass
class _Question:
    """What the connection asked the kernel itself."""

    first: int
    """The least number that an answer can have: the next when it was asked."""
    unheard: int = _ANSWERS
    """How many of the answers did not come."""

    def hidden(self, numbers: _Numbers, first: int, last: int) -> int:
        """How many of the answers may be among what did not come from the first to the last."""
        return min(max(0, self.unheard), numbers.missing(max(first, self.first), last))


class RequestTable:
    """The requests of one client, in the order in which they were sent.

    Parameters
    ----------
    session_id : str
        The client's; a gateway uses it for messages that it makes itself.
    """

    def __init__(self, session_id: str) -> None:
        self.incarnation: str | None = None
        """The kernel process that was heard of last, where that can be known."""
        self.session_id = session_id
        """ID by which the gateway knows this client."""
        self.heard = 0
        """How many messages came: grows while the kernel has something to say."""
        self._own_sessions = {session_id}
        self._past: dict[str, None] = {}  # incarnations
        self._requests: dict[str, Request] = {}
        self._unfinished: dict[str, Request] = {}  # those that have their reply, but no "idle"
        self._one_way: deque[str] = deque()  # the msg_ids of those that get no reply
        self._given_up: dict[str, str | None] = {}  # msg_ids, and the process each was meant for
        self._input_asked_by = ""  # the request that last asked for input
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._replayed: frozenset[str] = frozenset()
        self._numbers = _Numbers()
        # What the connection asked itself, and of which nothing more is to be expected.
        self._questions: dict[str, _Question] = {}
        self._past_questions: set[str] = set()
        self._missing: dict[str, int | None] = {}
        self._unsuspected: dict[str, None] = {}  # executions of which no loss is known
        self._unreadable: dict[str, str] = {}  # by request, why output of it could not be read

    # --- requests -------------------------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Enter a request that is about to be sent."""
        request.incarnation = self.incarnation
        self._given_up.pop(request.msg_id, None)
        if request.msg_type == "input_reply":
            request.msg_id = _answer_to(self._input_asked_by)  # by which it will be looked for
        if not _is_request(request.msg_type):
            self._one_way.append(request.msg_id)
            if len(self._one_way) > _REMEMBERED:  # a kernel that does not publish "idle" for them
                self._requests.pop(self._one_way.popleft(), None)
        self._requests[request.msg_id] = request

    def discard(self, request: Request) -> bool:
        """Forget a request, which was not sent after all; False where that was done already."""
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
        """Wait no more for the last output of what has its reply, and was sent before.

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
        """Nobody is to get an answer to these any more, should one come all the same."""
        for request in requests:
            self._requests.pop(request.msg_id, None)
            self._unfinished.pop(request.msg_id, None)
            self._given_up[request.msg_id] = request.incarnation
        _forget_oldest(self._given_up)

    def ignore_replies(self, msg_ids: Collection[str]) -> None:
        """Give these requests up, and ignore another reply to those that have one already."""
        self.abandon(*(request for request in self.outstanding() if request.msg_id in msg_ids))
        for msg_id in msg_ids:
            self._given_up.setdefault(msg_id, self.incarnation)
        _forget_oldest(self._given_up)

    def ask(self, *msg_ids: str) -> None:
        """Note requests of the connection's own on control, whose replies have numbers.

        The numbers of those that are lost cannot be told from the numbers of lost output, until
        :meth:`replay_is_over`.
        """
        self._questions.update({msg_id: _Question(self._numbers.next) for msg_id in msg_ids})

    def end_incarnation(self) -> None:
        """Give up all requests because the kernel process has ended."""
        self.abandon(*self.outstanding())
        if self.incarnation is not None:
            self._past[self.incarnation] = None
            _forget_oldest(self._past)
            self.incarnation = None

    def change_session_id(self) -> None:
        """Take another ``session_id``, so that a gateway takes this client for another one."""
        self.session_id = uuid4().hex
        self._own_sessions.add(self.session_id)

    def missing(self, msg_id: str) -> int | None:
        """How many messages of an execution have not come; None where that is not known."""
        return self._missing.get(msg_id)

    def may_lack_output(self, msg_id: str) -> bool:
        """Return False if no loss is known that could be of the output of an execution."""
        return msg_id not in self._unsuspected

    def why_unreadable(self, msg_id: str) -> str:
        """Return why output of a request could not be read; "" if all that came could be."""
        return self._unreadable.get(msg_id, "")

    # --- what is heard --------------------------------------------------------------------------

    def expect_loss(self) -> None:
        """Take note that output may be lost between the last that came and the next."""
        self._numbers.expect_loss()

    def expect_replay(self) -> None:
        """Note that the websocket was opened again: what came before may be replayed."""
        self._replayed = frozenset(self._recent)
        self._numbers.expect_loss()
        self._past_questions.update(self._questions)

    def replay_is_over(self) -> None:
        """From now on every message is news, and all that was asked before is done."""
        self._replayed = frozenset()
        self._questions.clear()
        self._past_questions.clear()

    def receive(self, channel: str, message: Message, unreadable: str = "") -> Disposition:
        """Take note of a message that came.

        One that is ``RESTARTED`` is not noted, but to be shown again after
        :meth:`end_incarnation`.

        Parameters
        ----------
        channel : str
            The name of the channel that it came on.
        message : Message
            The message.
        unreadable : str, optional
            Why only its headers could be read.  It counts as lost then.
        """
        msg_id, parent = message["msg_id"], message["parent_header"]
        if self._replayed and msg_id in self._replayed:
            return Disposition.DUPLICATE
        session, parent_id = message["header"].get("session"), parent.get("msg_id")
        if session != self.incarnation and self.is_incarnation(session, parent):
            if self.incarnation is not None:
                return Disposition.NEW_PROCESS
            self.incarnation, self._numbers = session, _Numbers(self._numbers.skips)
            for question in self._questions.values():
                question.first = 0
        self.heard += 1
        self._recent.append(msg_id)
        number = _number(msg_id) if session == self.incarnation else None
        if channel == "iopub":
            if number is not None:
                self._numbers.hear_output(message["msg_type"], number)
            elif message["msg_type"] == "stream" and self._is_own(session):
                self._numbers.expect_loss(limited=True)  # the gateway says that it drops output
        if unreadable and channel == "iopub" and message["msg_type"] != "status":
            self._note_unreadable(parent_id, unreadable)  # the gap in the numbers stays
            if number is not None:
                self._numbers.lose(number)
        elif number is not None:
            answered = self._numbers.hear(message, number)
            if parent_id in self._questions:
                self._questions[parent_id].unheard -= answered
                if channel == "control":
                    self._past_questions.add(parent_id)
        if self._given_up and parent_id in self._given_up:
            output = channel == "iopub" or channel == "stdin"
            late = output and session in (self._given_up[parent_id], *self._own_sessions)
            return Disposition.DELIVER if late else Disposition.STALE
        if unreadable and self._awaits(channel, message["msg_type"], parent_id):
            self.abandon(self._requests[parent_id])
            return Disposition.LOST
        return self._follow(channel, message, parent_id, number)

    def _note_unreadable(self, msg_id: Any, why: str) -> None:
        if (request := self._requests.get(msg_id)) is not None:
            request.unreadable += 1
            self._unreadable[request.msg_id] = why
            _forget_oldest(self._unreadable)

    def _awaits(self, channel: str, msg_type: str, msg_id: Any) -> bool:
        """Return True if a request cannot end well without this message."""
        request = self._requests.get(msg_id)
        if request is None or request.replied:
            return False
        return channel == "stdin" or (channel == request.channel and _is_reply(msg_type))

    def _is_own(self, session: Any) -> bool:
        return isinstance(session, str) and session in self._own_sessions

    def is_incarnation(self, session: Any, parent: Mapping[str, Any]) -> bool:
        """Whether a header's session is the id of a kernel process, and not of a past one."""
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
        """See how far the request is that a message belongs to."""
        msg_type, request = message["msg_type"], self._requests.get(parent_id)
        if parent_id == self._input_asked_by:  # it goes on, so that it has its answer
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
        if channel == request.channel and _is_reply(msg_type):
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
        """Note that the last output of a request came, with this number, or that no more comes."""
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
        if request.unreadable:  # also where the kernel does not number its messages
            missing = max(missing or 0, request.unreadable)
        self._missing[request.msg_id] = missing
        _forget_oldest(self._missing)
        if missing or doubtful:
            return Disposition.DELIVER_INCOMPLETE
        if first is not None and end is not None:
            self._unsuspected[request.msg_id] = None
            _forget_oldest(self._unsuspected)
        return Disposition.DELIVER

    def _count(
        self, request: Request, first: int, end: int, without_idle: bool
    ) -> tuple[int | None, bool]:
        """Return how many messages of an execution are missing, and whether some may be."""
        numbers = self._numbers
        sure = (not request.first_is_busy) + without_idle  # every kernel sends "busy" and "idle"
        gap, unexplained = numbers.missing(first, end), numbers.unexplained(first, end)
        questions = (self._questions[msg_id] for msg_id in self._past_questions)
        other = sum(question.hidden(numbers, first, end) for question in questions)
        other += numbers.other(first, end, but={request.msg_id, *self._past_questions})
        overflow = not numbers.skips and numbers.unexplained(first + _QUEUE, end) > 0
        numbers.skips = numbers.skips or unexplained > other
        if gap and numbers.skips:
            return sure or None, gap > unexplained or overflow
        if without_idle:
            return _at_least(gap + sure, other) or 1, True
        if gap + sure == 0 and numbers.may_hide(first, end):
            return None, True
        missing = _at_least(gap + sure, other)
        return missing, missing is None


class _Numbers:
    """Which messages of a kernel process came, by their numbers.

    Messages without a place here have numbers, too: the replies to other clients.  Each comes
    after the "busy" of its request and before the "idle", so that one number between these that
    did not come is taken for the reply's.

    Parameters
    ----------
    skips : bool
        Whether an earlier process of this kernel was seen to skip numbers.
    """

    def __init__(self, skips: bool = False) -> None:
        self.next = 0
        """The number after the greatest that came."""
        self.skips = skips
        """True if numbers did not come although no loss is known that explains it."""
        self._last_output = -1  # the greatest number on iopub, where messages keep their order
        self._losses: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # both ends included
        self._expects_loss = True  # until the next message on iopub
        self._limited = False  # until the next that a gateway's limits do not exempt
        self._gaps: list[tuple[int, int]] = []  # from, and up to but without
        self._busy: dict[str, int] = {}  # by request, until its "idle"
        self._headless: deque[tuple[str, int]] = deque(maxlen=_ASSUMED)  # "idle" without "busy"
        self._replied: dict[str, None] = {}  # requests, until their "idle"
        # The "busy" and the number that was taken for the reply's, of requests that were not ours
        # or whose reply may still come.
        self._assumed: dict[str, tuple[int, int]] = {}

    def missing(self, first: int, last: int) -> int:
        """How many from the first to the last did not come."""
        return sum(max(0, min(end, last + 1) - max(start, first)) for start, end in self._gaps)

    def unexplained(self, first: int, last: int) -> int:
        """Return how many from the first to the last did not come without a known loss."""
        losses = list(self._losses)
        if self._expects_loss:
            losses.append((self._last_output + 1, last))
        explained = (self.missing(max(first, start), min(last, end)) for start, end in losses)
        return self.missing(first, last) - sum(explained)

    def expect_loss(self, *, limited: bool = False) -> None:
        """Take note that output may be lost between the last that came and the next.

        Parameters
        ----------
        limited : bool, optional
            Whether the cause is a limit of the gateway, and not a lost connection.
        """
        self._limited = limited or (self._expects_loss and self._limited)
        self._expects_loss = True

    def lose(self, number: int) -> None:
        """Take note that the message with a number came, but is lost."""
        self._losses.append((number, number))

    def hear_output(self, msg_type: str, number: int) -> None:
        """Take note of the number of a message on iopub."""
        if number <= self._last_output:
            return
        if self._expects_loss and not (self._limited and msg_type in _UNLIMITED):
            self._losses.append((self._last_output + 1, number - 1))
            self._expects_loss = False
        if not self._expects_loss:
            self._last_output = number

    def other(self, first: int, last: int, but: Set[str]) -> int:
        """How many in between may not have come that are of other requests than these.

        The reply to one that began in between and is not done yet; and the "busy" of one that was
        done in between, where only its "idle" came, as after a gateway's own question.
        """
        open_or_headless = (*self._busy.items(), *self._headless)
        return sum(
            first < number < last and request not in but for request, number in open_or_headless
        )

    def may_hide(self, first: int, last: int) -> bool:
        """Whether what was taken for a reply there may be another message, and the reply before."""
        return any(
            busy < first <= reply <= last and self.missing(busy, first - 1)
            for busy, reply in self._assumed.values()
        )

    def hear(self, message: Message, number: int) -> int:
        """Note a message; how many of the answers to its request are accounted for with it."""
        msg_type, parent = message["msg_type"], message["parent_header"]
        if msg_type == "status" and _is_request(parent.get("msg_type")):
            return self._hear_state(message["content"].get("execution_state"), parent, number)
        if _is_reply(msg_type):
            return self._hear_reply(parent.get("msg_id"), number)
        self._note(number)
        return 1

    def _hear_state(self, state: Any, parent: Mapping[str, Any], number: int) -> int:
        self._note(number)
        request = parent.get("msg_id", "")
        if state == "busy":
            self._busy[request] = number
            _forget_oldest(self._busy)
        elif state == "idle":
            if (busy := self._busy.pop(request, None)) is None:
                self._headless.append((request, number))
                busy = 0
            if request in self._replied:
                del self._replied[request]
            elif (reply := self._last_missing(busy, number)) is not None:
                self._fill(reply)
                self._assumed[request] = busy, reply
                _forget_oldest(self._assumed, _ASSUMED)
                return 2
        return 1

    def _hear_reply(self, request: str, number: int) -> int:
        if (assumed := self._assumed.pop(request, None)) is None:
            self._note(number)
            self._replied[request] = None
            _forget_oldest(self._replied)
            return 1
        _, place = assumed
        if place != number:
            self._gaps.append((place, place + 1))
            self._gaps.sort()
            self._note(number)
        return 0

    def _note(self, number: int) -> None:
        if number == self.next:
            self.next += 1
        elif number > self.next:
            if self.next:
                self._gaps.append((self.next, number))
                del self._gaps[:-_REMEMBERED]
            self.next = number + 1
        else:
            self._fill(number)

    def _fill(self, number: int) -> None:
        for place in reversed(range(len(self._gaps))):
            start, end = self._gaps[place]
            if start <= number < end:
                parts = ((start, number), (number + 1, end))
                self._gaps[place : place + 1] = [part for part in parts if part[0] < part[1]]
            if start <= number:
                return

    def _last_missing(self, first: int, last: int) -> int | None:
        for start, end in reversed(self._gaps):
            if start < last and end > first:
                return min(end, last) - 1
        return None


def _state(message: Message) -> Any:
    return message["content"].get("execution_state") if message["msg_type"] == "status" else ""


def _is_request(msg_type: Any) -> bool:
    return isinstance(msg_type, str) and msg_type.endswith("_request")


def _is_reply(msg_type: Any) -> bool:
    return isinstance(msg_type, str) and msg_type.endswith("_reply")


def _answer_to(msg_id: str) -> str:
    return f"answer to {msg_id}"


def _number(msg_id: str) -> int | None:
    """Return the number of a message; None if the kernel does not number them."""
    _, line, number = msg_id.rpartition("_")
    return int(number) if line and number.isdecimal() else None


def _at_least(gap: int, other: int) -> int | None:
    """How many of a gap's messages are output, if others may be; None where perhaps none is."""
    return max(0, gap - other) or (None if gap else 0)


def _forget_oldest(table: dict[str, Any], most: int = _REMEMBERED) -> None:
    while len(table) > most:
        del table[next(iter(table))]
