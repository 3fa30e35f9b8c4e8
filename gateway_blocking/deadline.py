"""A timeout for several steps together."""

from __future__ import annotations

from time import monotonic

__all__ = ["LONGEST", "Deadline"]

LONGEST = 2**31 // 1000  # seconds, some 24 days: the system's waits take no more


class Deadline:
    """A moment, made from a timeout in seconds; ``None`` never comes.

    Every step of a call then waits for what is left of the whole:

    >>> deadline = Deadline(5)
    >>> 0 < deadline.left() <= 5
    True
    >>> Deadline(None).left() is None
    True
    >>> Deadline(0).passed()
    True

    Parameters
    ----------
    timeout : float or None
        Seconds from now.
    name : str
        Name of the caller's argument, used in errors.

    Raises
    ------
    TypeError, ValueError
        The timeout is not a number; or it is negative or NaN.
    """

    __slots__ = ("_at", "timeout")

    def __init__(self, timeout: float | None, name: str = "timeout") -> None:
        try:
            good = timeout is None or timeout >= 0  # a NaN is not
        except TypeError:
            raise TypeError(f"{name} must be a number of seconds, got {timeout!r}") from None
        if not good:
            raise ValueError(f"{name} must not be negative, got {timeout!r}")
        if timeout is not None and timeout > LONGEST:
            timeout = None
        self.timeout = timeout
        self._at = None if timeout is None else monotonic() + timeout

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0, or None if there is no end."""
        return None if self._at is None else max(0.0, self._at - monotonic())

    def passed(self) -> bool:
        """Return True if the moment has come."""
        return self._at is not None and monotonic() >= self._at

    def within(self, timeout: float) -> Deadline:
        """Return this one, or one in `timeout` seconds if that comes first."""
        left = self.left()
        return self if left is not None and left <= timeout else Deadline(timeout)

    @classmethod
    def of(cls, timeout: float | Deadline | None) -> Deadline:
        """`timeout` itself where it is a deadline already, else one that starts now."""
        return timeout if isinstance(timeout, Deadline) else cls(timeout)

    def __repr__(self) -> str:
        left = self.left()
        return "<Deadline: none>" if left is None else f"<Deadline: {left:.3f} s left>"
