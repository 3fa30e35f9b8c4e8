"""Events: what a receiver gets, and what an error of it does."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from jupyter_events import EventLogger

from gateway_blocking.errors import NoSuchKernel
from gateway_blocking.events import (
    GATEWAY_CLIENT,
    KERNEL_ACTIONS,
    action_event,
    emit,
    is_receiver,
    register_schemas,
)

LOG = logging.getLogger("tests")
ABOUT = {"kernel_id": "k", "kernel_name": "python3"}


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (print, True),
        (LOG, True),
        (logging.LoggerAdapter(LOG), True),
        (EventLogger(), True),
        (3, False),
        ("print", False),
    ],
)
def test_is_receiver_knows_functions_loggers_and_event_loggers(
    receiver: Any, expected: bool
) -> None:
    """The option refuses any other value before the first request."""
    assert is_receiver(receiver) is expected


def test_emit_leaves_out_fields_without_a_value() -> None:
    """A status code of None would not be valid by the schema."""
    got: list[tuple[str, dict[str, Any]]] = []
    data = {"status": "success", "status_code": None, "msg": "", "gateway_url": "http://h"}
    emit(lambda schema_id, data: got.append((schema_id, data)), GATEWAY_CLIENT, data, LOG)
    assert got == [(GATEWAY_CLIENT, {"status": "success", "gateway_url": "http://h"})]


@pytest.mark.parametrize(
    ("status", "level"), [("success", logging.INFO), ("error", logging.WARNING)]
)
def test_emit_to_a_logger_makes_a_record_of_the_event(
    caplog: pytest.LogCaptureFixture, status: str, level: int
) -> None:
    """A handler finds the fields in ``event``; a % in the text is no format."""
    with caplog.at_level(logging.INFO):
        emit(LOG, GATEWAY_CLIENT, {"status": status, "msg": "100 %s"}, LOG)
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (level, "100 %s")
    assert record.event == {  # type: ignore[attr-defined]
        "schema_id": GATEWAY_CLIENT,
        "status": status,
        "msg": "100 %s",
    }


def test_emit_logs_an_error_of_the_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """The request was done, and does not fail because of it."""
    emit(lambda schema_id, data: 1 / 0, GATEWAY_CLIENT, {"msg": "x"}, LOG)
    assert "could not be told" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_emit_without_a_receiver_does_nothing() -> None:
    """Most programs have none."""
    emit(None, GATEWAY_CLIENT, {"msg": "x"}, LOG)


def test_register_schemas_leaves_a_schema_that_is_there() -> None:
    """jupyter_server registers its own of the same ID; to register twice is an error."""
    receiver = EventLogger()
    register_schemas(receiver)
    register_schemas(receiver)
    assert GATEWAY_CLIENT in receiver.schemas
    assert KERNEL_ACTIONS in receiver.schemas
    register_schemas(print)


def test_action_event_tells_of_the_kernel_as_it_is_afterwards() -> None:
    """The ID of a kernel is known only when it has started."""
    got: list[dict[str, Any]] = []
    about = {"kernel_id": "", "kernel_name": "python3"}
    with action_event(lambda schema_id, **data: got.append(data), "start", lambda: about):
        about["kernel_id"] = "k"
    [event] = got
    assert event == {**ABOUT, "action": "start", "status": "success", "msg": "start: kernel k"}


def test_action_event_tells_of_the_error_and_raises_it() -> None:
    """The caller gets the error all the same."""
    got: list[dict[str, Any]] = []
    error = NoSuchKernel("it is gone", status_code=404)
    event = action_event(lambda _, **data: got.append(data), "interrupt", lambda: ABOUT)
    with pytest.raises(NoSuchKernel), event:
        raise error
    [told] = got
    assert (told["status"], told["status_code"], told["msg"]) == ("error", 404, "it is gone")


def test_action_event_tells_nothing_of_an_interruption() -> None:
    """A Ctrl-C is not the outcome of the action, which may still go on."""
    got: list[object] = []
    event = action_event(lambda _, **data: got.append(data), "shutdown", lambda: ABOUT)
    with pytest.raises(KeyboardInterrupt), event:
        raise KeyboardInterrupt
    assert got == []
