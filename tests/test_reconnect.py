"""When to open a websocket again, what may be repeated, and how a recovery goes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from gateway_blocking.errors import (
    GatewayAuthError,
    GatewayConnectionError,
    GatewayHTTPError,
    GatewayTimeout,
    KernelGone,
    NoSuchKernel,
)
from gateway_blocking.ledger import Request
from gateway_blocking.reconnect import (
    Recovery,
    Step,
    delays,
    is_final,
    may_repeat,
    what_is_known,
)
from gateway_blocking.wire import Message

KERNEL = Session(key=b"secret")
CLIENT = "the session of the client"


def unspread(low: float, high: float) -> float:
    assert (low, high) == (0.8, 1.2)
    return 1.0


def request(msg_type: str = "execute_request", **known: Any) -> Request:
    made = Request("1", msg_type, "shell", "", (1, b"{}"))
    for name, value in known.items():
        setattr(made, name, value)
    return made


def answer(msg_id: str, msg_type: str = "kernel_info_reply", session: Any = None) -> Message:
    """A kernel's answer to one of the requests of a recovery."""
    message: Message = KERNEL.msg(msg_type, {})
    message["parent_header"] = {"msg_id": msg_id, "session": CLIENT}
    message["header"]["session"] = session if session is not None else KERNEL.session
    return message


# --- opening again --------------------------------------------------------------------------------


def test_the_first_try_is_at_once_and_the_others_ever_later() -> None:
    """Doubled from try to try, up to the longest; `tries` counts those after the one at once."""
    assert list(delays(1, 10, 6, unspread)) == [0.0, 1, 2, 4, 8, 10, 10]
    assert list(delays(1, 10, 1, unspread)) == [0.0, 1]


def test_no_tries_is_no_try_at_all() -> None:
    """Not even the one at once."""
    assert list(delays(1, 10, 0, unspread)) == []


def test_clients_come_back_at_different_moments() -> None:
    """Each delay is spread by a fifth, but the first, which is for a blip."""
    several = [list(delays(4, 8, 3)) for _ in range(20)]
    assert len({tuple(one) for one in several}) > 1
    for first, *others in several:
        assert first == 0.0
        for delay, middle in zip(others, (4, 8, 8), strict=True):
            assert 0.8 * middle <= delay <= 1.2 * middle


def test_tries_without_end_stay_numbers() -> None:
    """The power of two is bounded long before a float is."""
    assert list(islice(delays(0.5, 30, 10**9, unspread), 3000))[-1] == 30


@given(interval=st.floats(0, 1e6), longest=st.floats(0, 1e6), tries=st.integers(0, 100), spread=...)
def test_delays_are_bounded_and_never_shorter_than_before(
    interval: float, longest: float, tries: int, spread: bool
) -> None:
    """For any interval, longest and number of tries."""
    factor = 1.2 if spread else 0.8
    found = list(delays(interval, longest, tries, lambda low, high: factor))
    assert len(found) == (tries + 1 if tries else 0)
    assert found == sorted(found)
    assert all(0 <= delay <= factor * longest for delay in found)


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (GatewayAuthError("403"), True),
        (NoSuchKernel("404"), True),
        (KernelGone("gone"), True),
        (GatewayHTTPError("502"), False),
        (GatewayConnectionError("refused"), False),
        (GatewayTimeout("late"), False),
        (OSError("reset"), False),
    ],
)
def test_only_a_clear_no_is_final(error: Exception, final: bool) -> None:
    """A gateway that does not answer may be on its way back."""
    assert is_final(error) is final


# --- what was under way ---------------------------------------------------------------------------

HARMLESS = ["kernel_info", "complete", "inspect", "history", "is_complete", "comm_info"]
HARMFUL = ["execute_request", "comm_msg", "comm_open", "input_reply", "shutdown_request"]


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.parametrize("ignores", [True, False, None])
def test_what_only_asks_may_always_be_repeated(what: str, ignores: bool | None) -> None:
    """To whatever kernel, also a new process, also one that answers twice."""
    assert may_repeat(request(f"{what}_request", incarnation="old"), "new", ignores)
    assert may_repeat(request(f"{what}_request"), None, ignores)


@pytest.mark.parametrize("msg_type", HARMFUL)
@pytest.mark.parametrize(
    ("meant_for", "there", "ignores", "may"),
    [
        ("k", "k", True, True),
        ("k", "k", False, False),
        ("k", "k", None, False),
        ("k", "new", True, False),
        ("k", None, True, False),
        (None, "k", True, False),
        (None, None, True, False),  # both unknown is not the same
    ],
)
def test_what_does_something_goes_only_to_its_process_if_that_ignores_repetitions(
    msg_type: str, meant_for: str | None, there: str | None, ignores: bool | None, may: bool
) -> None:
    """Anything in doubt is not sent again."""
    assert may_repeat(request(msg_type, incarnation=meant_for), there, ignores) is may


@pytest.mark.parametrize("msg_type", ["execute_request", "kernel_info_request"])
def test_nothing_is_repeated_for_ever(msg_type: str) -> None:
    """It may be the request itself that the connection breaks of."""
    assert may_repeat(request(msg_type, incarnation="k", sent=20), "k", True)
    assert not may_repeat(request(msg_type, incarnation="k", sent=21), "k", True)


@pytest.mark.parametrize("repeated", [True, False])
def test_what_was_seen_was_executed(repeated: bool) -> None:
    """Whether or not it was sent again."""
    executed, why = what_is_known(request(seen=True), repeated)
    assert executed is True
    assert "executed it, once" in why
    assert "ignored" not in why


def test_what_was_repeated_without_an_answer_was_executed() -> None:
    """Else the repetition would have been executed and answered."""
    executed, why = what_is_known(request(), repeated=True)
    assert executed is True
    assert "ignored it" in why


def test_of_what_was_neither_seen_nor_repeated_nothing_is_known() -> None:
    """And the text says so, and why it was not sent again."""
    executed, why = what_is_known(request(), repeated=False)
    assert executed is None
    assert "nobody knows" in why
    assert "twice" in why


# --- a recovery -----------------------------------------------------------------------------------


def probed(copies: int, session: Any = None) -> Recovery:
    """A recovery whose first questions were answered, the repeated one so many times."""
    recovery = Recovery("ours_")
    copy, _, fence = recovery.probes
    for _ in range(copies):
        assert recovery.hear(answer(copy, session=session)) is None
    assert recovery.step is Step.PROBING
    assert recovery.hear(answer(fence, session=session)) is Step.WAITING
    return recovery


def test_a_recovery_asks_one_thing_twice_and_another_once() -> None:
    """Its questions are nobody else's, and no two recoveries have one in common."""
    recovery, another = Recovery("ours_"), Recovery("ours_")
    copy, again, fence = recovery.probes
    assert copy == again != fence
    assert set(recovery.barriers) == {"control", "shell"}
    mine = {*recovery.probes, *recovery.barriers.values()}
    assert len(mine) == 4
    assert all(msg_id.startswith("ours_") for msg_id in mine)
    assert not mine & {*another.probes, *another.barriers.values()}
    assert "PROBING" in repr(recovery)


@pytest.mark.parametrize(("copies", "ignores"), [(1, True), (2, False), (0, False)])
def test_the_number_of_answers_tells_whether_repetitions_are_ignored(
    copies: int, ignores: bool
) -> None:
    """One answer is the proof; where none came, there is none."""
    recovery = probed(copies)
    assert recovery.step is Step.WAITING
    assert recovery.ignores_repetitions is ignores
    assert recovery.incarnation == KERNEL.session


def test_nothing_is_known_before_the_last_question_is_answered() -> None:
    """Until then a second answer may be on its way."""
    recovery = Recovery("ours_")
    assert recovery.hear(answer(recovery.probes[0])) is None
    assert recovery.step is Step.PROBING
    assert recovery.ignores_repetitions is None
    assert recovery.incarnation is None


@pytest.mark.parametrize("session", [CLIENT, ""])
def test_a_kernel_that_echoes_the_session_has_no_incarnation(session: str) -> None:
    """So nothing that does something is ever sent to it again."""
    recovery = probed(1, session)
    assert recovery.incarnation is None
    assert not may_repeat(request(incarnation=None), recovery.incarnation, True)


@pytest.mark.parametrize("order", [("control", "shell"), ("shell", "control")])
def test_both_channels_must_be_passed(order: tuple[str, str]) -> None:
    """In whichever order; each answer counts once."""
    recovery = probed(1)
    first, last = (recovery.barriers[channel] for channel in order)
    assert recovery.hear(answer(first)) is None
    assert recovery.hear(answer(first)) is None
    assert recovery.step is Step.WAITING
    assert recovery.hear(answer(last)) is Step.SETTLING
    assert recovery.step is Step.SETTLING
    assert recovery.hear(answer(last)) is None


def test_only_replies_count() -> None:
    """The busy and idle of the questions come on iopub, with the same parent."""
    recovery = Recovery("ours_")
    for msg_id in recovery.probes:
        assert recovery.hear(answer(msg_id, "status")) is None
    assert recovery.step is Step.PROBING
    recovery = probed(1)
    for msg_id in recovery.barriers.values():
        assert recovery.hear(answer(msg_id, "status")) is None
    assert recovery.step is Step.WAITING


def test_without_control_the_shell_alone_is_the_barrier() -> None:
    """A kernel that does not answer there is taken for one that executes repetitions."""
    recovery = Recovery("ours_")
    recovery.go_on_without_control()
    assert recovery.step is Step.WAITING
    assert list(recovery.barriers) == ["shell"]
    assert recovery.ignores_repetitions is None
    assert not may_repeat(
        request(incarnation="k"), recovery.incarnation, recovery.ignores_repetitions
    )
    assert recovery.hear(answer(recovery.barriers["shell"])) is Step.SETTLING


def test_an_answer_that_comes_after_that_changes_nothing() -> None:
    """What was decided stays."""
    recovery = Recovery("ours_")
    recovery.go_on_without_control()
    for msg_id in recovery.probes:
        assert recovery.hear(answer(msg_id)) is None
    assert recovery.step is Step.WAITING
    assert recovery.ignores_repetitions is None
    assert recovery.incarnation is None
    assert recovery.hear(answer(recovery.barriers["shell"])) is Step.SETTLING
    assert recovery.hear(answer(recovery.probes[2])) is None
    assert recovery.step is Step.SETTLING
