"""A :class:`.KernelProtocol` for several threads: one mutex around its events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import Any

from .actions import Action, Actions, LogMessage, State
from .deadline import Deadline
from .locks import Latch, RLock, Waiters
from .protocol import KernelProtocol

__all__ = ["ProtocolRunner"]


class ProtocolRunner:
    """The protocol of a connection, and what its threads share.

    Parameters
    ----------
    name : str
        ID of the kernel, used in texts.
    log : logging.Logger or adapter
        The log.
    **options : Any
        The other options of :class:`.KernelProtocol`.
    """

    def __init__(
        self, name: str, log: logging.Logger | logging.LoggerAdapter[Any], **options: Any
    ) -> None:
        self.name = name
        self.log = log
        self.mutex = RLock()
        """Held during each event of the protocol, and never during I/O.

        Reentrant, because a signal handler or a finalizer may close a client in a thread that
        holds it.
        """
        self.waiters = Waiters()
        """Callers' threads that wait for a change of the state."""
        # Reentrant: a client is collected, and abandons its connection, in any thread.
        self.inbox: SimpleQueue[Action | None] = SimpleQueue()
        """Actions that the second thread performs; None wakes it."""
        self.is_closing = False
        self.is_muted = False
        self.abort_if_asked: Callable[[], None] = lambda: None
        """Aborts the websocket if the protocol asks for that; the reader provides it."""
        self.protocol = KernelProtocol(
            name,
            on_change=self._notify,
            on_timer=partial(self.inbox.put, None),
            now=monotonic(),
            **options,
        )

    def _notify(self) -> None:
        self.waiters.notify_all()
        self.inbox.put(None)

    def event(self, event: Callable[..., Actions], *args: Any) -> None:
        """Report an event with the time of now, from any thread."""
        with self.mutex:
            actions = event(*args, monotonic())
        self.accept(actions)

    def accept(self, actions: Actions) -> None:
        """Log and abort at once, and leave the other actions to the second thread.

        An abort does not wait, and may end what the second thread is waiting for.
        """
        for action in actions:
            if isinstance(action, LogMessage):
                getattr(self.log, action.level)("%s", action.text)
            else:
                self.inbox.put(action)
        self.abort_if_asked()

    def close(self, error: BaseException | None = None) -> None:
        """End the connection as the protocol sees it, unless it is muted."""
        if not self.is_muted:
            with self.mutex:
                self.protocol.close(error)
        self.wake()

    def wake(self) -> None:
        """Let both threads look whether the connection is to end.  Takes no lock."""
        self._notify()

    def pause(self, seconds: float) -> bool:
        """Sleep; return False if the connection is closed meanwhile."""
        return not self.waiters.wait_while(lambda: not self.is_closing, Deadline(seconds))

    def stay_if_muted(self) -> None:
        """Keep a thread of the connection here for what is left of the process, if it is muted."""
        if self.is_muted:
            Latch().wait(Deadline(None))

    def after_fork(self) -> None:
        """End in a child process, where another thread may have held the mutex."""
        self.mutex, self.waiters = RLock(), Waiters()
        self.is_closing, self.protocol.state = True, State.CLOSED
