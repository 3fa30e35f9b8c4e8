"""Gaps in the numbers of a kernel's messages (no I/O).

jupyter_client's ``Session``, which every ipykernel uses, numbers a kernel's messages
(``<session>_<pid>_<number>``).  A message that a gateway drops because output comes too fast, or
that is lost with a connection, leaves a gap.  But a number is taken when a message is made, and
some messages are made and never sent: by ipykernel 7.3 for each result that displays itself
(``_ipython_display_``), by async-kernel 0.23 for each display.  So a gap counts as a loss only if a
loss is known that explains it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from .messages import Message

__all__ = ["MessageSequence", "OwnQuestion", "forget_oldest", "is_reply", "is_request", "number_of"]

_REMEMBERED = 1000  # gaps, losses, and requests that are executing
_ASSUMED = 64  # replies to other clients whose number is not certain
_UNLIMITED = frozenset({"status", "comm_open", "execute_input"})  # exempt from a gateway's limits
_ANSWERS = 3  # numbered messages about a request without output: busy, reply, idle


@dataclass
class OwnQuestion:
    """A request of the connection itself, whose answers have numbers, too."""

    first: int
    """The least number that an answer can have: the next one when the question was sent."""
    missing: int = _ANSWERS
    """Number of answers that have not come."""

    def hidden(self, sequence: MessageSequence, first: int, last: int) -> int:
        """Return how many answers may be among the missing numbers from `first` to `last`."""
        return min(max(0, self.missing), sequence.missing(max(first, self.first), last))


class MessageSequence:
    """The messages of one kernel process that came, by their numbers.

    The replies to other clients have numbers, too, and never come here.  Each one is sent after the
    "busy" of its request and before the "idle".  So one number between these two that did not come
    is assumed to be the reply's.

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
        self._is_limited = False  # the expected loss is due to a gateway's limit
        self._gaps: list[tuple[int, int]] = []  # the first number, and the one after the last
        self._busy: dict[str, int] = {}  # by request, until its "idle"
        self._headless: deque[tuple[str, int]] = deque(maxlen=_ASSUMED)  # "idle" without "busy"
        self._replied: dict[str, None] = {}  # requests, until their "idle"
        # The "busy" and the number that is assumed to be the reply's, of requests of other clients
        # or of requests whose reply may still come.
        self._assumed: dict[str, tuple[int, int]] = {}

    # --- what is missing ------------------------------------------------------------------------

    def missing(self, first: int, last: int) -> int:
        """Return how many numbers from `first` to `last` did not come."""
        return sum(max(0, min(end, last + 1) - max(start, first)) for start, end in self._gaps)

    def unexplained(self, first: int, last: int) -> int:
        """Return how many numbers from `first` to `last` did not come without a known loss."""
        losses = list(self._losses)
        if self._expects_loss:
            losses.append((self._last_output + 1, last))
        explained = (self.missing(max(first, start), min(last, end)) for start, end in losses)
        return self.missing(first, last) - sum(explained)

    def other(self, first: int, last: int, but: Set[str]) -> int:
        """Return how many missing numbers between the two may be those of other requests.

        These are the reply to a request that began in between and is not done, and the "busy" of
        a request that was done in between and of which only the "idle" came, as after a gateway's
        own question.  Requests in `but` are not counted.
        """
        open_or_headless = (*self._busy.items(), *self._headless)
        return sum(
            first < number < last and request not in but for request, number in open_or_headless
        )

    def may_hide(self, first: int, last: int) -> bool:
        """Return True if a number there that is assumed to be a reply's may be another message's.

        The reply then has a missing number before `first`.
        """
        return any(
            busy < first <= reply <= last and self.missing(busy, first - 1)
            for busy, reply in self._assumed.values()
        )

    # --- losses ---------------------------------------------------------------------------------

    def expect_loss(self, *, limited: bool = False) -> None:
        """Take note that output may be lost between the last message that came and the next.

        Parameters
        ----------
        limited : bool, optional
            Whether the cause is a limit of the gateway, and not a lost connection.
        """
        self._is_limited = limited or (self._expects_loss and self._is_limited)
        self._expects_loss = True

    def lose(self, number: int) -> None:
        """Take note that the message with this number came, but is lost."""
        self._losses.append((number, number))

    # --- messages -------------------------------------------------------------------------------

    def output_received(self, msg_type: str, number: int) -> None:
        """Take note of the number of a message on iopub."""
        if number <= self._last_output:
            return
        if self._expects_loss and not (self._is_limited and msg_type in _UNLIMITED):
            self._losses.append((self._last_output + 1, number - 1))
            self._expects_loss = False
        if not self._expects_loss:
            self._last_output = number

    def received(self, message: Message, number: int) -> int:
        """Take note of a message.

        Returns
        -------
        int
            Number of answers to its request that it accounts for: 2 for an "idle" whose
            reply is assumed to have a number before it.
        """
        msg_type, parent = message["msg_type"], message["parent_header"]
        if msg_type == "status" and is_request(parent.get("msg_type")):
            return self._status_received(message["content"].get("execution_state"), parent, number)
        if is_reply(msg_type):
            return self._reply_received(parent.get("msg_id", ""), number)
        self._fill(number)
        return 1

    def _status_received(self, state: Any, parent: Mapping[str, Any], number: int) -> int:
        self._fill(number)
        request = parent.get("msg_id", "")
        if state == "busy":
            self._busy[request] = number
            forget_oldest(self._busy)
        elif state == "idle":
            if (busy := self._busy.pop(request, None)) is None:
                self._headless.append((request, number))
                busy = 0
            if request in self._replied:
                del self._replied[request]
            elif (reply := self._last_missing(busy, number)) is not None:
                self._close_gap(reply)
                self._assumed[request] = busy, reply
                forget_oldest(self._assumed, _ASSUMED)
                return 2
        return 1

    def _reply_received(self, request: str, number: int) -> int:
        if (assumed := self._assumed.pop(request, None)) is None:
            self._fill(number)
            self._replied[request] = None
            forget_oldest(self._replied)
            return 1
        _, place = assumed
        if place != number:
            self._gaps.append((place, place + 1))
            self._gaps.sort()
            self._fill(number)
        return 0

    # --- gaps -----------------------------------------------------------------------------------

    def _fill(self, number: int) -> None:
        """Take note that the message with this number came: the next, a later or a missing one."""
        if number == self.next:
            self.next += 1
        elif number > self.next:
            if self.next:
                self._gaps.append((self.next, number))
                del self._gaps[:-_REMEMBERED]
            self.next = number + 1
        else:
            self._close_gap(number)

    def _close_gap(self, number: int) -> None:
        for place in reversed(range(len(self._gaps))):
            start, end = self._gaps[place]
            if start <= number < end:
                parts = ((start, number), (number + 1, end))
                self._gaps[place : place + 1] = [part for part in parts if part[0] < part[1]]
            if start <= number:
                return

    def _last_missing(self, first: int, last: int) -> int | None:
        """Return the greatest missing number between the two; None if all came."""
        for start, end in reversed(self._gaps):
            if start < last and end > first:
                return min(end, last) - 1
        return None


def number_of(msg_id: str) -> int | None:
    """Return the number of a message; None if the kernel does not number its messages."""
    _, line, number = msg_id.rpartition("_")
    return int(number) if line and number.isdecimal() else None


def is_request(msg_type: Any) -> bool:
    """Return True if messages of this type get a reply."""
    return isinstance(msg_type, str) and msg_type.endswith("_request")


def is_reply(msg_type: Any) -> bool:
    """Return True if messages of this type are replies."""
    return isinstance(msg_type, str) and msg_type.endswith("_reply")


def forget_oldest(table: dict[str, Any], most: int = _REMEMBERED) -> None:
    """Remove the oldest entries of a table until it has `most` at most."""
    while len(table) > most:
        del table[next(iter(table))]
