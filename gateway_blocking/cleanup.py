"""Cleaning up after an error, without hiding that error by another one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["cleaning_up"]


@contextmanager
def cleaning_up(
    error: BaseException | None, log: logging.Logger | logging.LoggerAdapter[Any]
) -> Iterator[None]:
    """Within the ``with``, clean up; add an error of the cleanup as a note to the earlier error.

    If there is no earlier error, an error of the cleanup is raised.  An exception that is not an
    ``Exception`` is raised in any case, so that a second Ctrl-C ends a cleanup.

    Parameters
    ----------
    error : BaseException or None
        The error that ended the block, which the caller raises again afterwards.
    log : logging.Logger
        The logger for a warning after a ``SystemExit``, which Python shows without its notes.
    """
    try:
        yield
    except Exception as failure:
        if error is None:
            raise
        text = f"While cleaning up: {type(failure).__name__}: {failure}"
        error.add_note(text)
        if isinstance(error, SystemExit | GeneratorExit):
            log.warning("%s", text)
