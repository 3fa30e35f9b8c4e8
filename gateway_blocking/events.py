"""Events: what a program is told of the requests to a gateway, and of the lives of its kernels.

They have the ids and the fields of jupyter_server's events, so that what reads those reads these.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

__all__ = ["GATEWAY_CLIENT", "KERNEL_ACTIONS", "can_be_told", "emit", "prepare"]

GATEWAY_CLIENT = "https://events.jupyter.org/jupyter_server/gateway_client/v1"
"""A request: ``status`` (success or error), ``status_code``, ``msg``, ``gateway_url``."""

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
"""Something done to a kernel: ``action`` (start, restart, interrupt, shutdown), ``kernel_id``,
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


def can_be_told(receiver: Any) -> bool:
    """Whether `receiver` is one of the kinds that :func:`emit` knows."""
    return callable(receiver) or isinstance(receiver, _LOGGERS) or _is_event_logger(receiver)


def prepare(receiver: Any) -> None:
    """Let an EventLogger know the schemas of what it will be told, if it does not.

    Before there is anything to tell: it is not made for two threads that do that at once.
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
    """Tell somebody of an event; what goes wrong there is logged, and goes no further.

    Parameters
    ----------
    receiver : callable, logging.Logger, jupyter_events.EventLogger or None
        Called with `schema_id` and `data`; or given a log record, with both as its ``event``; or
        given the event, see :func:`prepare`.
    schema_id : str
        What kind of event it is.
    data : mapping
        Its fields; those without a value are left out.
    log : logging.Logger or adapter
        Who learns of what goes wrong.
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
    except Exception:  # it is not the fault of whoever makes the request
        log.exception("an event could not be told to %r", receiver)
