"""A clean-up whose own failure does not hide why there is something to clean up."""

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
    """Within the ``with``, clean up after an error: what fails then becomes a note on that error.

    Without an error before it, what fails in the clean-up is raised.  So is always what is no
    ``Exception``: a second Ctrl-C ends a clean-up, too.

    Parameters
    ----------
    error : BaseException or None
        The error that ended the block, which is raised again afterwards.
    log : logging.Logger
        Is warned of what fails after a ``SystemExit``, which is shown without its notes.
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
