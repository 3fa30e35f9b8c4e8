"""Launch: the start of a kernel, and the search for it if the response was lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests_mock import Mocker

from gateway_blocking import launch as module
from gateway_blocking.config import GatewayClient
from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import (
    GatewayConnectionError,
    GatewayHTTPError,
    NoSuchKernelSpec,
)
from gateway_blocking.http import Requester
from gateway_blocking.launch import Launch, choose_kernel_id

KERNELS = "http://gateway.example:8888/api/kernels"
KERNEL_ID = "b4b2e0ba-2b54-4a7a-8f4d-31f5a9a3a1b7"
KERNEL = {"id": KERNEL_ID, "name": "python3"}


@pytest.fixture
def mocker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mocker]:
    for name in ("SEARCH_PAUSE", "RETRY_PAUSE_MAX"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(module, "GIVE_BACK_TIMEOUT", 0.0)
    monkeypatch.setattr("gateway_blocking.failures.speaks_tls", lambda *_: False)
    with Mocker() as mocker:
        yield mocker


def launch(kernel_id: str | None = KERNEL_ID, **options: Any) -> Launch:
    options = {"max_request_retries": 0, "log": logging.getLogger("tests"), **options}
    gateway = GatewayClient(url=KERNELS.removesuffix("/api/kernels"), **options)
    specs: Any = {"kernelspecs": {"python3": {"spec": {}}, "ir": {"spec": {}}}}
    started = Launch(Requester(gateway), kernel_id, lambda user: specs)
    started._launched = Deadline(0)  # the time that a start may take is over
    return started


def lost(request: Any, context: Any) -> Any:
    """Lose the response to a request that arrived."""
    request.body.read()
    raise requests.ConnectionError(ConnectionResetError("reset by peer"))


def answer(status: int, **body: Any) -> Any:
    """Return a response for a request that arrived."""

    def respond(request: Any, context: Any) -> Any:
        request.body.read()
        context.status_code = status
        return body

    return respond


def methods(mocker: Mocker) -> list[str]:
    return [sent.method for sent in mocker.request_history]


# --- the response was lost ------------------------------------------------------------------------


def test_start_whose_response_was_lost_finds_the_kernel(mocker: Mocker) -> None:
    """It is not sent again: a server would start a second kernel."""
    mocker.post(KERNELS, json=lost)
    mocker.get(f"{KERNELS}/{KERNEL_ID}", [{"status_code": 404}, {"json": KERNEL}])
    started = launch()
    assert started.start("python3", {}, None) == KERNEL
    assert methods(mocker) == ["POST", "GET", "GET"]


def test_start_whose_kernel_is_not_found_says_so(mocker: Mocker) -> None:
    """The kernel may come up later, so that its hold is kept."""
    mocker.post(KERNELS, json=lost)
    mocker.get(f"{KERNELS}/{KERNEL_ID}", status_code=404)
    started = launch()
    with pytest.raises(GatewayConnectionError, match="it is not there") as caught:
        started.start("python3", {}, None)
    assert "the kernel may have started anyway" in caught.value.advice
    assert started.may_run
    assert methods(mocker) == ["POST"] + 3 * ["GET"]


def test_start_without_an_id_is_not_searched_for(mocker: Mocker) -> None:
    """Nothing tells which kernel it would be."""
    mocker.post(KERNELS, json=lost)
    with pytest.raises(GatewayConnectionError) as caught:
        launch(None).start("python3", {}, None)
    assert "may have started anyway" in caught.value.advice
    assert methods(mocker) == ["POST"]


def test_start_that_did_not_arrive_is_not_searched_for(mocker: Mocker) -> None:
    """The body was not read, so that no server has it."""
    mocker.post(KERNELS, exc=requests.ConnectionError(ConnectionRefusedError("refused")))
    started = launch()
    with pytest.raises(GatewayConnectionError):
        started.start("python3", {}, None)
    assert methods(mocker) == ["POST"]
    assert not started.may_run


@pytest.mark.parametrize("status", [502, 504])
def test_start_that_a_proxy_gave_up_is_searched_for(mocker: Mocker, status: int) -> None:
    """The gateway behind it may have got the request."""
    mocker.post(KERNELS, json=answer(status))
    mocker.get(f"{KERNELS}/{KERNEL_ID}", json=KERNEL)
    assert launch().start("python3", {}, None) == KERNEL


@pytest.mark.parametrize(
    ("left", "end"), [(41.6, f"looking for kernel {KERNEL_ID}, for up to 42 s"), (0, KERNEL_ID)]
)
def test_search_tells_at_its_begin_how_long_it_may_take(
    mocker: Mocker, caplog: pytest.LogCaptureFixture, left: float, end: str
) -> None:
    """The call is silent until then; a start that took all of its time leaves a short search."""
    mocker.post(KERNELS, json=answer(504))
    mocker.get(f"{KERNELS}/{KERNEL_ID}", json=KERNEL)
    started = launch()
    started._launched = Deadline(left)
    started.start("python3", {}, None)
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert told.getMessage().endswith(end)


def test_interrupted_start_gives_the_kernel_back(mocker: Mocker) -> None:
    """The caller never gets it, and nothing else would shut it down."""

    def interrupt(request: Any, context: Any) -> Any:
        request.body.read()
        raise KeyboardInterrupt

    mocker.post(KERNELS, json=interrupt)
    mocker.delete(f"{KERNELS}/{KERNEL_ID}", status_code=204)
    started = launch()
    with pytest.raises(KeyboardInterrupt):
        started.start("python3", {}, None)
    assert methods(mocker) == ["POST", "DELETE"]
    assert not started.may_run


# --- the response cannot be used ------------------------------------------------------------------


def test_kernel_whose_model_cannot_be_used_is_given_back(mocker: Mocker) -> None:
    """A kernel was started, and its ID is in the model; another one is not deleted."""
    mocker.post(KERNELS, json=answer(201, id="given"))
    mocker.delete(f"{KERNELS}/given", status_code=204)
    with pytest.raises(GatewayConnectionError, match="has no name"):
        launch().start("python3", {}, None)
    assert methods(mocker) == ["POST", "DELETE"]


def test_page_instead_of_a_model_starts_no_search(mocker: Mocker) -> None:
    """The other side is not a gateway."""
    mocker.post(KERNELS, text="<html>log in</html>")
    with pytest.raises(GatewayConnectionError, match="is not JSON"):
        launch().start("python3", {}, None)
    assert methods(mocker) == ["POST"]


def test_null_instead_of_a_model_is_asked_again_without_the_id(mocker: Mocker) -> None:
    """A Jupyter Server in front of another gateway looked for a kernel of this ID."""
    sent: list[Any] = []

    def respond(request: Any, context: Any) -> Any:
        sent.append(request.body.read())
        return "null" if len(sent) == 1 else json.dumps(KERNEL)

    mocker.post(KERNELS, text=respond)
    assert launch().start("python3", {"KERNEL_ID": KERNEL_ID}, None) == KERNEL
    assert b'"kernel_id"' in sent[0]
    assert b'"kernel_id"' not in sent[1]


# --- why it was not started -----------------------------------------------------------------------


def test_500_for_an_unknown_kernelspec_names_those_that_exist(mocker: Mocker) -> None:
    """All servers answer a plain 500 to it."""
    mocker.post(KERNELS, json=answer(500))
    with pytest.raises(NoSuchKernelSpec, match="no kernelspec 'julia'") as caught:
        launch().start("julia", {}, None)
    assert caught.value.advice == "it has ir, python3"
    assert caught.value.name == "julia"


def test_500_for_a_known_kernelspec_says_where_to_look(mocker: Mocker) -> None:
    """Its program is not installed there, most likely."""
    mocker.post(KERNELS, json=answer(500))
    with pytest.raises(GatewayHTTPError) as caught:
        launch().start("python3", {}, None)
    assert "could not start it" in caught.value.advice
    assert methods(mocker) == ["POST"]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ((KERNEL_ID,), KERNEL_ID),
        ((None, "", "my-kernel", KERNEL_ID), KERNEL_ID),
        ((KERNEL_ID.upper(),), None),
        (("my-kernel",), None),
        ((), None),
    ],
)
def test_choose_kernel_id_takes_a_canonical_uuid(
    wanted: tuple[str | None, ...], chosen: str | None
) -> None:
    """Servers cannot find a kernel again by some other IDs; a new one is made then."""
    found = choose_kernel_id(*wanted)
    assert found == chosen or (chosen is None and found not in wanted and len(found) == 36)
