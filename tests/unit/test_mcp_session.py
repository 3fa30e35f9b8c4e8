"""The calls of one session, and their cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway_blocking import locks, mcp_session
from gateway_blocking.errors import GatewayError, KernelGone
from gateway_blocking.mcp_session import Call, CallCancelled, KernelSession, ToolError


class FakeKernel:
    """Stands for a kernel: it can be gone, and remembers what was done with it."""

    made: list[FakeKernel]

    def __init__(self, gateway: object, name: str = "", kernel_id: str = "") -> None:
        self.name, self.is_owned = name, not kernel_id
        self.kernel_id = kernel_id or f"k{len(self.made)}"
        self.gone: Exception | None = None
        self.closed = self.stopped = self.death_is_known = False
        self.made.append(self)

    def revive(self) -> None:
        if self.gone:
            raise self.gone

    def close(self) -> None:
        self.closed = True

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeKernel]:
    FakeKernel.made = []
    monkeypatch.setattr(mcp_session, "SessionKernel", FakeKernel)
    return FakeKernel.made


@pytest.fixture
def session(made: list[FakeKernel]) -> KernelSession:
    gateway: Any = None
    return KernelSession(gateway, "python3")


# --- kernels --------------------------------------------------------------------------------------


def test_the_first_call_starts_the_kernel_and_the_next_one_uses_it(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    assert not made
    first = session.kernel()
    assert session.kernel() is first
    assert [each.name for each in made] == ["python3"]


def test_kernels_are_closed_at_the_end_even_if_one_cannot_be(
    session: KernelSession, made: list[FakeKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GatewayError, match="away"), session:
        session.kernel()
        session.start()

        def fail() -> None:
            raise GatewayError("away")

        monkeypatch.setattr(made[1], "close", fail)
    assert made[0].closed


def test_a_kernel_that_is_started_after_the_end_is_closed(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    with session:
        pass
    with pytest.raises(CallCancelled):
        session.kernel()
    assert made[0].closed


def test_a_default_kernel_that_is_gone_is_replaced_after_it_was_told(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    """The model must know that the variables are lost before it uses the new kernel."""
    session.kernel()
    made[0].gone = KernelGone("gone")
    with pytest.raises(ToolError, match="its variables are lost"):
        session.kernel()
    assert session.kernel() is made[1]
    assert made[0].closed
    assert session.kernels() == [made[1]]


def test_a_death_that_is_known_is_not_told_again(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    session.kernel()
    made[0].gone, made[0].death_is_known = KernelGone("gone"), True
    assert session.kernel() is made[1]
    assert made[0].closed
    assert session.kernels() == [made[1]]


def test_a_named_kernel_that_is_gone_is_an_error(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    session.start()
    made[0].gone = KernelGone("gone")
    with pytest.raises(ToolError, match="its variables are lost"):
        session.kernel("k0")
    with pytest.raises(ToolError, match="this session has no kernel 'k0'"):
        session.kernel("k0")


def test_no_kernel_takes_the_place_of_the_one_that_the_user_named(made: list[FakeKernel]) -> None:
    gateway: Any = None
    session = KernelSession(gateway, kernel_id="users")
    session.kernel()
    made[0].gone = KernelGone("gone")
    with pytest.raises(KernelGone):
        session.kernel()
    assert len(made) == 1
    assert not made[0].closed


def test_a_gateway_that_is_away_ends_no_kernel(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    session.kernel()
    made[0].gone = GatewayError("away")
    with pytest.raises(GatewayError, match="away"):
        session.kernel()
    made[0].gone = None
    assert session.kernel() is made[0]


def test_a_kernel_of_another_session_cannot_be_used(session: KernelSession) -> None:
    for use in (session.kernel, session.existing_kernel):
        with pytest.raises(ToolError, match="this session has no kernel 'other'"):
            use("other")
    with pytest.raises(ToolError, match="no kernel runs"):
        session.existing_kernel()


def test_a_stopped_default_kernel_is_replaced_by_the_next_call(
    session: KernelSession, made: list[FakeKernel]
) -> None:
    session.stop(session.kernel())
    assert made[0].stopped
    assert session.kernels() == []
    assert session.kernel() is made[1]


# --- calls ----------------------------------------------------------------------------------------


def test_a_cancelled_call_interrupts_its_code_and_no_other() -> None:
    call, interrupted = Call(), list[str]()
    with call.interrupted_by(lambda: interrupted.append("mine")):
        call.cancel()
    assert interrupted == ["mine"]
    call.cancel()
    assert interrupted == ["mine"]


def test_a_call_that_was_cancelled_before_its_turn_does_not_begin() -> None:
    call = Call()
    call.cancel()
    with pytest.raises(CallCancelled), call.interrupted_by(lambda: None):
        pytest.fail("it began")


def in_threads(*functions: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def test_calls_have_their_turns_one_at_a_time() -> None:
    turns = mcp_session.Turns()
    at_once, most = 0, list[int]()

    def work() -> None:
        nonlocal at_once
        for _ in range(50):
            with turns.turn_of(Call()):
                at_once += 1
                most.append(at_once)
                at_once -= 1

    for thread in in_threads(*[work] * 8):
        thread.join(60)
    assert most == [1] * 400
    assert not turns.is_taken


def test_a_waiting_call_that_is_cancelled_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCK_SLICE", 0.01)
    turns, waiting, given_up = mcp_session.Turns(), Call(), threading.Event()

    def wait() -> None:
        with pytest.raises(CallCancelled), turns.turn_of(waiting):
            pass
        given_up.set()

    with turns.turn_of(Call()):
        threads = in_threads(wait)
        waiting.cancel()
        assert given_up.wait(60)
    threads[0].join(60)
    assert not turns.is_taken


def test_code_that_goes_on_after_its_call_was_cancelled_is_an_error_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mcp_session, "_SETTLE", 0.01)
    monkeypatch.setattr(locks, "LOCK_SLICE", 0.01)
    turns, first = mcp_session.Turns(), Call()
    with turns.turn_of(first):
        first.cancel()
        with pytest.raises(ToolError, match="restart the kernel"), turns.turn_of(Call()):
            pytest.fail("it began")
    with turns.turn_of(Call()):
        pass
