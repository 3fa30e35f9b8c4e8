"""Pauses between the attempts of one operation."""

from __future__ import annotations

import math
import random

from .deadline import Deadline
from .locks import Latch

__all__ = ["Backoff"]


class Backoff:
    """Growing pauses between the attempts of one operation.

    Each pause is twice as long as the one before.  One thread uses a Backoff.

    Parameters
    ----------
    first, longest : float
        Seconds of the first pause and of the longest one.
    jitter : float
        Part of a pause by which it may be longer at random, so that not all clients of a gateway
        return to it at the same moment.
    deadline : Deadline, optional
        End of the pauses; an attempt may follow the last one.
    attempts : int, optional
        Number of attempts after the first; by default there is no limit.
    closing : Latch, optional
        Ends the attempts when it opens.
    """

    def __init__(
        self,
        first: float,
        longest: float,
        *,
        jitter: float = 0.0,
        deadline: Deadline | None = None,
        attempts: int | None = None,
        closing: Latch | None = None,
    ) -> None:
        self._pause, self._longest, self._jitter = first, longest, jitter
        self._deadline = deadline or Deadline(None)
        self._attempts = math.inf if attempts is None else attempts
        self._closing = closing or Latch()

    def wait(self, at_most: float | None = None) -> bool:
        """Wait until the next attempt is due; return False if there is none.

        Parameters
        ----------
        at_most : float, optional
            Seconds that this pause may take.
        """
        if self._attempts <= 0 or self._deadline.passed():
            return False
        self._attempts -= 1
        limits = [limit for limit in (at_most, self._deadline.left()) if limit is not None]
        pause = min([self._pause * random.uniform(1.0, 1.0 + self._jitter), *limits])  # noqa: S311
        self._pause = min(2 * self._pause, self._longest)
        return not self._closing.wait(Deadline(pause))
