"""Events: requests to a gateway, and actions on its kernels, for a receiver of the program.

They have the ids and the fields of jupyter_server's events, so that a program which reads those can
read these.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = [
    "GATEWAY_CLIENT",
    "KERNEL_ACTIONS",
    "action_event",
    "emit",
    "is_receiver",
    "register_schemas",
]

GATEWAY_CLIENT = "https://events.jupyter.org/jupyter_server/gateway_client/v1"
"""A request: ``status`` (success or error), ``status_code``, ``msg``, ``gateway_url``."""

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
"""An action on a kernel: ``action`` (start, restart, interrupt, shutdown), ``kernel_id``,
``kernel_name``, ``status``, ``status_code``, ``msg``."""


def _schema(schema_id: str, *required: str, **properties: Any) -> dict[str, Any]:
    status = {"enum": ["success", "error"]}
    common = {"status": status, "status_code": {"type": "number"}, "msg": {"type": "string"}}
    return {
        "$id": schema_id,
        "version": "1",
        "title": schema_id.split("/")[-2],
        "personal-data": True,
        "type": "object",
        "required": ["msg", *required],
        "properties": {**common, **properties},
    }


_LOGGERS = (logging.Logger, logging.LoggerAdapter)
_TEXT = {"type": "string"}
_SCHEMAS = {
    GATEWAY_CLIENT: _schema(GATEWAY_CLIENT, "status", gateway_url=_TEXT),
    KERNEL_ACTIONS: _schema(
        KERNEL_ACTIONS,
        "action",
        action={"enum": ["start", "restart", "interrupt", "shutdown"]},
        kernel_id=_TEXT,
        kernel_name=_TEXT,
    ),
}


def is_receiver(receiver: Any) -> bool:
    """Return True if `receiver` is of a kind that :func:`emit` knows."""
    return callable(receiver) or isinstance(receiver, _LOGGERS) or _is_event_logger(receiver)


def register_schemas(receiver: Any) -> None:
    """Register the schemas of the events with an EventLogger that does not know them.

    Call this before the first event: an EventLogger is not made for two threads that do it at once.
    """
    if _is_event_logger(receiver):
        for schema_id, schema in _SCHEMAS.items():
            if schema_id not in receiver.schemas:
                receiver.register_event_schema(schema)


def _is_event_logger(receiver: Any) -> bool:
    return hasattr(receiver, "register_event_schema")


def emit(
    receiver: Any,
    schema_id: str,
    data: Mapping[str, Any],
    log: logging.Logger | logging.LoggerAdapter[Any],
) -> None:
    """Send an event to its receiver; log an error of the receiver instead of raising it.

    Parameters
    ----------
    receiver : callable, logging.Logger, jupyter_events.EventLogger or None
        A function to call with `schema_id` and `data`; or a logger for a record that has both as
        its ``event``; or an EventLogger, see :func:`register_schemas`.
    schema_id : str
        The kind of the event.
    data : mapping
        The fields of the event; a field without a value is left out.
    log : logging.Logger or adapter
        The logger for errors of the receiver.
    """
    if receiver is None:
        return
    data = {name: value for name, value in data.items() if value not in (None, "")}
    try:
        if isinstance(receiver, _LOGGERS):
            level = logging.WARNING if data.get("status") == "error" else logging.INFO
            event = {"schema_id": schema_id, **data}
            receiver.log(level, "%s", data.get("msg", ""), extra={"event": event})
        elif _is_event_logger(receiver):
            receiver.emit(schema_id=schema_id, data=data)
        else:
            receiver(schema_id, data)
    except Exception:  # an error of the receiver is not the fault of the caller's request
        log.exception("an event could not be told to %r", receiver)


@contextmanager
def action_event(
    emit: Callable[..., None], action: str, about: Callable[[], Mapping[str, str | None]]
) -> Iterator[None]:
    """Within the ``with``, act on a kernel; then emit an event with the outcome.

    Parameters
    ----------
    emit : callable
        ``emit(schema_id, **data)``, which sends an event.
    action : str
        The action: ``start``, ``restart``, ``interrupt`` or ``shutdown``.
    about : callable
        Returns ``kernel_id`` and ``kernel_name``, as they are after the action.
    """
    try:
        yield
    except Exception as error:
        code = getattr(error, "status_code", None)
        outcome = {"status": "error", "status_code": code, "msg": str(error)}
        emit(KERNEL_ACTIONS, action=action, **about(), **outcome)
        raise
    kernel = about()
    msg = f"{action}: kernel {kernel['kernel_id']}"
    emit(KERNEL_ACTIONS, action=action, **kernel, status="success", msg=msg)
