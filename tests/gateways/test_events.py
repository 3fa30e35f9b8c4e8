"""Events: who is told what of the requests, and of what is done to kernels."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import jupyter_server
import pytest
from jupyter_events import EventLogger
from traitlets import TraitError

from gateway_blocking import (
    BlockingGatewayKernelManager,
    GatewayAuthError,
    GatewayClient,
    NoSuchKernel,
    NoSuchKernelSpec,
)
from gateway_blocking.events import GATEWAY_CLIENT, KERNEL_ACTIONS
from gateway_blocking.local import LocalGateway

Event = tuple[str, dict[str, Any]]


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, schema_id: str, data: dict[str, Any]) -> None:
        self.events.append((schema_id, data))

    def of(self, schema_id: str) -> list[dict[str, Any]]:
        return [data for told, data in self.events if told == schema_id]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def km(gateway: LocalGateway, told: Told) -> Iterator[BlockingGatewayKernelManager]:
    with BlockingGatewayKernelManager(**gateway.options(), event_logger=told) as km:
        yield km


def test_what_is_done_to_a_kernel_is_told(km: BlockingGatewayKernelManager, told: Told) -> None:
    """Started, interrupted, restarted, shut down: an event each, of that kernel."""
    km.start_kernel(kernel_name="python3")
    about = {"kernel_id": km.kernel_id, "kernel_name": "python3", "status": "success"}
    km.interrupt_kernel()
    km.restart_kernel()
    km.shutdown_kernel()
    events = told.of(KERNEL_ACTIONS)
    assert [event.pop("action") for event in events] == [
        "start",
        "interrupt",
        "restart",
        "shutdown",
    ]
    for event in events:
        assert about["kernel_id"] in event.pop("msg")
        assert event == about


def test_what_was_not_done_is_told(
    km: BlockingGatewayKernelManager, gateway: LocalGateway, told: Told
) -> None:
    """As an error, with the gateway's status and what the exception says."""
    with pytest.raises(NoSuchKernelSpec) as unknown:
        km.start_kernel(kernel_name="cobol")
    km.start_kernel(kernel_name="python3")
    with BlockingGatewayKernelManager(**gateway.options()) as other:
        other.start_kernel(kernel_id=km.kernel_id)
        other.owned_kernel = True
        other.shutdown_kernel()
    with pytest.raises(NoSuchKernel) as gone:
        km.interrupt_kernel()
    failed = [event for event in told.of(KERNEL_ACTIONS) if event["status"] == "error"]
    assert [(event["action"], event["status_code"]) for event in failed] == [
        ("start", 500),
        ("interrupt", 404),
    ]
    assert [event["msg"] for event in failed] == [str(unknown.value), str(gone.value)]
    assert "kernel_id" not in failed[0]


def test_the_kernel_is_told_by_its_own_name_and_id(gateway: LocalGateway) -> None:
    """One that is attached to may be another than its manager was made for; one that was not
    started has no id, also where there was another before it."""
    told = Told()
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel(kernel_name="python3")
        options = {**gateway.options(), "event_logger": told, "kernel_name": "cobol"}
        with BlockingGatewayKernelManager(**options) as other:
            other.start_kernel(kernel_id=km.kernel_id)
            other.shutdown_kernel()
            with pytest.raises(NoSuchKernelSpec):
                other.start_kernel(kernel_name="cobol")
    started, failed = told.of(KERNEL_ACTIONS)
    assert (started["kernel_name"], started["kernel_id"]) == ("python3", km.kernel_id)
    assert failed["kernel_name"] == "cobol"
    assert "kernel_id" not in failed


def test_a_kernel_that_is_not_ours_is_not_shut_down(
    km: BlockingGatewayKernelManager, gateway: LocalGateway
) -> None:
    """So there is no event that says so."""
    km.start_kernel()
    told = Told()
    with BlockingGatewayKernelManager(**gateway.options(), event_logger=told) as other:
        other.start_kernel(kernel_id=km.kernel_id)
    assert [event["action"] for event in told.of(KERNEL_ACTIONS)] == ["start"]


def test_requests_are_told(
    km: BlockingGatewayKernelManager, gateway: LocalGateway, told: Told
) -> None:
    """Each with its status."""
    km.start_kernel()
    km.rest.get_kernel(km.kernel_id)
    km.shutdown_kernel()
    with pytest.raises(NoSuchKernel):
        km.rest.get_kernel(km.kernel_id)
    requests = told.of(GATEWAY_CLIENT)
    assert [request["status_code"] for request in requests] == [201, 200, 204, 404]
    assert [request["status"] for request in requests] == ["success"] * 3 + ["error"]
    assert {request["gateway_url"] for request in requests} == {gateway.url}
    assert all(f"{gateway.url}/api/kernels" in request["msg"] for request in requests)


def test_no_event_has_a_secret(gateway: LocalGateway, told: Told) -> None:
    """Neither where a request succeeds nor where it fails."""
    for token in (gateway.token, "not-the-token"):
        url = gateway.url.replace("//", "//me:sesame-open@")
        headers = {"Authorization": f"token {token}"}
        km = BlockingGatewayKernelManager(url=url, headers=headers, event_logger=told)
        try:
            km.rest.list_kernelspecs()
        except GatewayAuthError:
            pass
        km.cleanup_resources()
    assert [data["status"] for data in told.of(GATEWAY_CLIENT)] == ["success", "error"]
    text = json.dumps(told.events)
    assert gateway.token not in text
    assert "not-the-token" not in text
    assert "sesame" not in text


def test_a_logger_is_told(gateway: LocalGateway, caplog: pytest.LogCaptureFixture) -> None:
    """By a record with the text, which has all of the event besides."""
    caplog.set_level("INFO", "my.events")
    options = {**gateway.options(), "event_logger": logging.getLogger("my.events")}
    with BlockingGatewayKernelManager(**options) as km:
        with pytest.raises(NoSuchKernelSpec) as unknown:
            km.start_kernel(kernel_name="cobol")
        km.start_kernel(kernel_name="python3")
    records = [record for record in caplog.records if record.name == "my.events"]
    actions = {
        (event["action"], event["status"]): record
        for record in records
        if (event := vars(record)["event"])["schema_id"] == KERNEL_ACTIONS
    }
    assert actions["start", "success"].levelname == "INFO"
    assert actions["start", "error"].levelname == "WARNING"
    assert actions["start", "error"].getMessage() == str(unknown.value)


def _schemas_of_jupyter_server() -> Iterator[Path]:
    folder = Path(jupyter_server.__file__).parent / "event_schemas"
    for name in ("gateway_client", "kernel_actions"):
        yield folder / name / "v1.yaml"


@pytest.mark.parametrize("known", [False, True])
def test_an_event_logger_of_jupyter_is_told(gateway: LocalGateway, known: bool) -> None:
    """By jupyter_server's schemas where it has them, and by the same fields where not."""
    written = io.StringIO()
    logger = EventLogger(handlers=[logging.StreamHandler(written)])
    if known:
        for schema in _schemas_of_jupyter_server():
            logger.register_event_schema(schema)
    with BlockingGatewayKernelManager(**gateway.options(), event_logger=logger) as km:
        with pytest.raises(NoSuchKernelSpec):
            km.start_kernel(kernel_name="cobol")
        km.start_kernel(kernel_name="python3")
        kernel_id = km.kernel_id
    events = [json.loads(line) for line in written.getvalue().splitlines()]
    assert {event["__schema__"] for event in events} == {GATEWAY_CLIENT, KERNEL_ACTIONS}
    done = [e for e in events if e["__schema__"] == KERNEL_ACTIONS]
    assert [(e["action"], e["status"]) for e in done] == [
        ("start", "error"),
        ("start", "success"),
        ("shutdown", "success"),
    ]
    assert done[-1]["kernel_id"] == kernel_id


def test_who_cannot_be_told_does_not_disturb(
    gateway: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The request goes on; the log says what was wrong."""

    def broken(schema_id: str, data: dict[str, Any]) -> None:
        raise OSError("the disk is full")

    with BlockingGatewayKernelManager(**gateway.options(), event_logger=broken) as km:
        km.start_kernel()
        assert km.is_alive()
    assert "the disk is full" in caplog.text


def test_what_cannot_be_told_is_no_event_logger() -> None:
    """Which is found where it is configured."""
    with pytest.raises(TraitError, match="event_logger='print'"):
        GatewayClient(event_logger="print")


def test_threads_that_begin_at_once_lose_no_event(gateway: LocalGateway) -> None:
    """With an EventLogger, which is not made to learn of schemas in two threads at once."""
    written = io.StringIO()
    logger = EventLogger(handlers=[logging.StreamHandler(written)])
    client = GatewayClient(**gateway.options(), event_logger=logger)
    together = Barrier(8)

    def tell(number: int) -> None:
        together.wait(60)
        client.emit(KERNEL_ACTIONS, action="start", status="success", msg=str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))
    assert len(written.getvalue().splitlines()) == 8
