"""The logger of this package."""

from __future__ import annotations

import logging
from typing import Any

from traitlets.config import Application, LoggingConfigurable

__all__ = ["Log", "default_logger"]

Log = logging.Logger | logging.LoggerAdapter[Any]

_log = logging.getLogger(__package__)
_log.addHandler(logging.NullHandler())  # as a library does: Python would print the warnings


def default_logger(parent: object = None) -> Log:
    """Return the parent's logger, else the application's, else ``gateway_blocking``."""
    if isinstance(parent, LoggingConfigurable):
        found: Log = parent.log
    elif Application.initialized():
        found = Application.instance().log
    else:
        found = _log
    return found
