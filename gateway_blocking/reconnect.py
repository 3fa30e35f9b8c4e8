"""What is done when a websocket is lost: when to open it again, and what then: pure.

A request that was sent just before the loss may or may not have reached the kernel, and a kernel
may have executed it although nothing was heard of that.  After the websocket is open again, with
the same ``session_id`` (so that the gateway replays what it kept), a :class:`Recovery` asks the
kernel, on its ``control`` channel, which even a busy kernel answers at once:

1. the same ``kernel_info_request`` twice, byte for byte, and a different one after it.  The
   answers tell which kernel process this is, and whether this kernel ignores a repetition, as
   those built on jupyter_client's ``Session`` do: then the first is answered once.
2. What may be repeated is sent again.  What is harmless always, with another date, so that it
   is answered again; anything else byte for byte, and only to a kernel that ignores repetitions
   and is the process that it was meant for.
3. A ``kernel_info_request`` on ``shell`` (and ``control``), the barrier.  Each is first in, first
   out: when it is answered, what was sent before has been executed, or never arrived.

``docs/topics/delivery.rst`` has the whole argument.  What is said here of kernels and gateways
was measured on real ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from enum import Enum
from uuid import uuid4

from .errors import GatewayAuthError, NoSuchKernel
from .ledger import Request
from .wire import Message

__all__ = ["Recovery", "Step", "delays", "is_final", "is_harmless", "may_repeat", "what_is_known"]

_HARMLESS = frozenset(
    f"{what}_request"
    for what in ("kernel_info", "complete", "inspect", "history", "is_complete", "comm_info")
)
_MOST_REPETITIONS = 20


# --- opening again --------------------------------------------------------------------------------


def delays(
    interval: float,
    longest: float,
    tries: int,
    spread: Callable[[float, float], float] = random.uniform,
) -> Iterator[float]:
    """The seconds to wait before each try to open a websocket again: at once, then ever longer.

    Parameters
    ----------
    interval, longest : float
        Seconds before the second try; doubled from try to try, up to `longest`.
    tries : int
        How many there are after the one at once; 0 for none at all.
    spread : callable
        ``spread(0.8, 1.2)``: not all clients of a gateway that comes back are to return at the
        same moment.
    """
    if tries > 0:
        yield 0.0
    for number in range(tries):
        # The exponent is bounded, because the number of tries is not.
        yield min(interval * 2 ** min(number, 60), longest) * spread(0.8, 1.2)


def is_final(error: Exception) -> bool:
    """Whether another try is useless: the gateway does not know the kernel, or not us."""
    return isinstance(error, GatewayAuthError | NoSuchKernel)


# --- what was under way ---------------------------------------------------------------------------


def is_harmless(request: Request) -> bool:
    """Whether it changes nothing in a kernel to be asked this, however often."""
    return request.msg_type in _HARMLESS


def may_repeat(request: Request, incarnation: str | None, ignores_repetitions: bool | None) -> bool:
    """Whether it is certain that a request, sent again, is not executed twice.

    Parameters
    ----------
    request : Request
        The request, whose effect is not known.
    incarnation : str or None
        The kernel process that would get it.
    ignores_repetitions : bool or None
        Whether that ignores a message which it had before.
    """
    if request.sent > _MOST_REPETITIONS:  # perhaps it is what the connection breaks of
        return False
    if is_harmless(request):
        return True
    return bool(ignores_repetitions and request.incarnation and request.incarnation == incarnation)


def what_is_known(request: Request, repeated: bool) -> tuple[bool | None, str]:
    """Of a request without an answer, once the barrier behind it was answered.

    Parameters
    ----------
    request : Request
        The request.
    repeated : bool
        Whether it was sent again.

    Returns
    -------
    (bool or None, str)
        Whether it was executed, None where nobody knows; and the reason.
    """
    if request.seen:
        return True, "the kernel executed it, once, and its reply was lost with the connection"
    if repeated:
        return True, (
            "the kernel executed it, once: it ignored it when it was sent again; what it printed"
            " and its reply were lost with the connection"
        )
    return None, (
        "nobody knows whether the kernel executed it: nothing was heard of it, and as this kernel"
        " may execute a repeated request twice, it was not sent again"
    )


class Step(Enum):
    """How far a recovery is."""

    PROBING = "asking which kernel process this is"
    WAITING = "waiting for the kernel to be done with what was sent before"
    SETTLING = "everything was answered that will be"


class Recovery:
    """The questions to a kernel after its websocket was opened again, and what they told.

    The connection sends what :attr:`probes` and :attr:`barriers` name, and shows each message
    about them to :meth:`hear`.

    Parameters
    ----------
    prefix : str
        With which the msg_ids of these requests, and of no others, begin.
    """

    def __init__(self, prefix: str) -> None:
        self.step = Step.PROBING
        self.repeated: set[str] = set()
        """The msg_ids of what was sent again."""
        self.incarnation: str | None = None
        """The kernel process, as far as its messages tell."""
        self.ignores_repetitions: bool | None = None
        copy, fence = (f"{prefix}{what}_{uuid4().hex}" for what in ("copy", "fence"))
        self.probes = (copy, copy, fence)
        """The msg_ids of the requests to be sent first, on control."""
        self.barriers = {
            channel: f"{prefix}{channel}_{uuid4().hex}" for channel in ("control", "shell")
        }
        """The msg_ids of the requests to be sent last, by channel."""
        self.looks = self.quiet_looks = 0
        """How often the gateway was asked why no answer comes, and how often it is not busy."""
        self._copies = 0
        self._passed: set[str] = set()

    def __repr__(self) -> str:
        return f"<Recovery {self.step.name}>"

    def hear(self, message: Message) -> Step | None:
        """Note a message about one of the requests; the next step, where it is time for that."""
        if message["msg_type"] != "kernel_info_reply":
            return None
        parent = message["parent_header"]
        copy, _, fence = self.probes
        if parent["msg_id"] == copy:
            self._copies += 1
        elif self.step is Step.PROBING and parent["msg_id"] == fence:
            session = message["header"].get("session")
            self.incarnation = session if session and session != parent.get("session") else None
            self.ignores_repetitions = self._copies == 1
            self.step = Step.WAITING
            return self.step
        elif self.step is Step.WAITING and parent["msg_id"] in self.barriers.values():
            self._passed.add(parent["msg_id"])
            if self._passed >= set(self.barriers.values()):
                self.step = Step.SETTLING
                return self.step
        return None

    def go_on_without_control(self) -> None:
        """The kernel does not answer on control, as IRkernel does not: do what can be done."""
        del self.barriers["control"]
        self.step = Step.WAITING
