"""KernelOwnership: which kernel is held, and how it is deleted at the end."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from gateway_blocking.clients import ClientGroup
from gateway_blocking.errors import GatewayConnectionError, NoSuchKernel
from gateway_blocking.events import KERNEL_ACTIONS
from gateway_blocking.ownership import KernelOwnership


class Hold:
    """A hold that records what becomes of it."""

    def __init__(self, kernel_id: str, delete: Any) -> None:
        self.kernel_id, self.delete = kernel_id, delete
        self.calls: list[str] = []

    def release(self) -> None:
        self.calls.append("release")

    def started(self) -> None:
        self.calls.append("started")


class REST:
    """A gateway's REST API, whose kernels can be held and deleted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gateway = self
        self.log = logging.getLogger("tests")
        self.error = error
        self.deleted: list[str] = []
        self.events: list[dict[str, Any]] = []

    def emit(self, schema_id: str, **data: Any) -> None:
        assert schema_id == KERNEL_ACTIONS
        self.events.append(data)

    def hold_kernel(self, kernel_id: str, delete: Any, start_timeout: float) -> Hold:
        return Hold(kernel_id, delete)

    def delete_kernel(self, kernel_id: str, timeout: float) -> None:
        self.deleted.append(kernel_id)
        if self.error is not None:
            raise self.error


class Clients:
    """The clients of a manager, which count how often they are muted."""

    muted = 0

    def mute(self) -> None:
        self.muted += 1


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture
def ownership(clients: Clients) -> KernelOwnership:
    return KernelOwnership(cast(ClientGroup, clients))


def hold_of(ownership: KernelOwnership) -> Hold:
    return cast(Hold, ownership.hold)


def test_update_keeps_the_hold_that_was_taken_for_the_start(ownership: KernelOwnership) -> None:
    """The start is over, so that the time for it is over, too."""
    rest: Any = REST()
    ownership.take(rest, "k", "python3", 40.0)
    hold = hold_of(ownership)
    ownership.update(rest, "k", "python3")
    assert ownership.hold is hold
    assert hold.calls == ["started"]


def test_update_for_another_kernel_releases_the_first(ownership: KernelOwnership) -> None:
    """The gateway chose another ID than was asked for."""
    rest: Any = REST()
    ownership.take(rest, "wanted", "python3", 40.0)
    first = hold_of(ownership)
    ownership.update(rest, "given", "python3")
    assert first.calls == ["release"]
    assert hold_of(ownership).kernel_id == "given"


def test_update_for_no_kernel_holds_none(ownership: KernelOwnership) -> None:
    """The manager gave its kernel away, or shut it down."""
    rest: Any = REST()
    ownership.take(rest, "k", "python3")
    ownership.update(rest, None, "python3")
    assert ownership.hold is None


def test_forget_does_not_release_the_hold(ownership: KernelOwnership) -> None:
    """In a forked child, the hold is the parent's."""
    rest: Any = REST()
    ownership.take(rest, "k", "python3")
    hold = hold_of(ownership)
    ownership.forget()
    assert ownership.hold is None
    assert hold.calls == []


@pytest.mark.parametrize(
    ("error", "is_gone"),
    [(None, True), (NoSuchKernel("gone"), True), (GatewayConnectionError("no way"), False)],
)
def test_delete_at_exit_says_whether_the_kernel_is_gone(
    ownership: KernelOwnership, clients: Clients, error: Exception | None, is_gone: bool
) -> None:
    """A kernel that is not there was shut down by another; of any other error there is a line."""
    rest: Any = REST(error)
    ownership.take(rest, "k", "python3")
    assert hold_of(ownership).delete(5.0) is is_gone
    assert rest.deleted == ["k"]
    assert clients.muted == 1
    [event] = rest.events
    assert (event["action"], event["kernel_name"]) == ("shutdown", "python3")


def test_delete_at_exit_of_an_earlier_kernel_leaves_the_clients_alone(
    ownership: KernelOwnership, clients: Clients
) -> None:
    """They belong to the kernel that the manager has now."""
    rest: Any = REST()
    ownership.take(rest, "first", "python3")
    first = hold_of(ownership)
    ownership.update(rest, "second", "python3")
    assert first.delete(5.0)
    assert rest.deleted == ["first"]
    assert clients.muted == 0
