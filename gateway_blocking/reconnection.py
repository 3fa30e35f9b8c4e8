"""When a websocket is opened again, and when reconnecting stops (no I/O, no clock)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .actions import GiveUp, Retry
from .errors import GatewayAuthError, GatewayConnectionError, GatewayError, NoSuchKernel

__all__ = ["Reconnection", "delays", "is_final"]


def delays(
    interval: float,
    longest: float,
    attempts: int,
    spread: Callable[[float, float], float] = random.uniform,
) -> Iterator[float]:
    """Yield the seconds to wait before each attempt to open a websocket again: ever longer.

    Parameters
    ----------
    interval, longest : float
        Seconds before the second attempt; doubled from attempt to attempt, up to `longest`.
    attempts : int
        Number of attempts after the one at once; 0 for none at all.
    spread : callable
        ``spread(0.8, 1.2)`` returns a factor, so that the clients of a gateway that comes back do
        not return at the same moment.
    """
    if attempts > 0:
        yield 0.0
    for number in range(attempts):
        # The exponent is bounded, because the number of attempts is not.
        yield min(interval * 2 ** min(number, 60), longest) * spread(0.8, 1.2)


def is_final(error: Exception) -> bool:
    """Return True if another attempt is useless: the kernel or the credentials are unknown."""
    return isinstance(error, GatewayAuthError | NoSuchKernel)


class Reconnection:
    """The attempts to open a websocket: what follows each one that failed.

    The back-off begins anew only after :meth:`succeeded`: a websocket that opens and breaks at
    once does not reset it.

    Parameters
    ----------
    delays : callable
        Returns an iterator over the seconds to wait before each attempt.
    """

    def __init__(self, delays: Callable[[], Iterator[float]]) -> None:
        self._delays = delays
        self._backoff: Iterator[float] | None = None
        self._lost_at = 0.0
        self._attempts = 0
        self._was_refused = False

    def succeeded(self) -> None:
        """Begin the back-off anew after the next loss, because the kernel answered."""
        self._backoff = None

    def handshake_failed(self, error: GatewayError, *, credentials_changed: bool) -> Retry | GiveUp:
        """Decide what follows if the first websocket of a connection was not opened.

        Only a refusal is worth another attempt: once, if the attempt presents other credentials.
        """
        is_refusal = isinstance(error, GatewayAuthError)
        if is_refusal and credentials_changed and not self._was_refused:
            self._was_refused = True
            return Retry(0.0)
        return GiveUp(error)

    def lost(self, error: GatewayError, now: float) -> Retry | GiveUp:
        """Decide what follows the loss of a websocket that was open."""
        self._backoff = self._backoff or self._delays()
        self._lost_at, self._attempts, self._was_refused = now, 0, False
        return self._next_attempt(error, now)

    def failed(self, error: GatewayError, now: float) -> Retry | GiveUp:
        """Decide what follows an attempt to open the websocket again that failed."""
        is_refusal = isinstance(error, GatewayAuthError)
        if is_final(error) and (self._was_refused or not is_refusal):
            return self._give_up(error, now)
        self._was_refused = is_refusal  # the next attempt asks the token's renewer once more
        return self._next_attempt(error, now)

    def _next_attempt(self, error: GatewayError, now: float) -> Retry | GiveUp:
        assert self._backoff is not None
        delay = next(self._backoff, None)
        if delay is None:
            return self._give_up(error, now)
        self._attempts += 1
        return Retry(delay)

    def _give_up(self, error: GatewayError, now: float) -> GiveUp:
        failure = GatewayConnectionError(
            f"{error.args[0]} (and the websocket could not be opened again, tried"
            f" {self._attempts} times within {now - self._lost_at:.0f} s)",
            advice=error.advice,
        )
        failure.__cause__ = error
        return GiveUp(failure)
