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
from gateway_blocking.messages import Message
from gateway_blocking.outcomes import execution_outcome
from gateway_blocking.reconnection import delays, is_final
from gateway_blocking.recovery import (
    Barrier,
    Recovery,
    Step,
    is_safe_to_resend,
    is_worth_repeating,
)
from gateway_blocking.requests_table import Request

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
    assert is_safe_to_resend(request(f"{what}_request", incarnation="old"), "new", ignores)
    assert is_safe_to_resend(request(f"{what}_request"), None, ignores)


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
    assert is_safe_to_resend(request(msg_type, incarnation=meant_for), there, ignores) is may


@pytest.mark.parametrize("msg_type", HARMFUL)
def test_what_the_kernel_has_is_not_sent_again(msg_type: str) -> None:
    """Something was heard of it: then nothing is gained, and async-kernel prints a traceback."""
    seen = request(msg_type, incarnation="k", seen=True)
    assert not is_worth_repeating(seen, "k")
    assert not is_safe_to_resend(seen, "k", True)
    assert is_worth_repeating(request(msg_type, incarnation="k"), "k")


@pytest.mark.parametrize("what", HARMLESS)
def test_a_question_is_sent_again_whatever_was_heard_of_it(what: str) -> None:
    """Its answer is what is lost; for that no kernel has to be tested."""
    seen = request(f"{what}_request", incarnation="k", seen=True)
    assert is_safe_to_resend(seen, "k", None)
    assert not is_worth_repeating(request(f"{what}_request", incarnation="k"), "k")


@pytest.mark.parametrize("msg_type", ["execute_request", "kernel_info_request"])
def test_nothing_is_repeated_for_ever(msg_type: str) -> None:
    """It may be the request itself that the connection breaks of."""
    assert is_safe_to_resend(request(msg_type, incarnation="k", sent=20), "k", True)
    assert not is_safe_to_resend(request(msg_type, incarnation="k", sent=21), "k", True)


@pytest.mark.parametrize("repeated", [True, False])
def test_what_was_seen_was_executed(repeated: bool) -> None:
    """It does not matter if it was sent again."""
    executed, why = execution_outcome(request(seen=True), repeated)
    assert executed is True
    assert "executed it, once" in why
    assert "ignored" not in why


def test_what_was_repeated_without_an_answer_was_executed() -> None:
    """Else the repetition would have been executed and answered."""
    executed, why = execution_outcome(request(), repeated=True)
    assert executed is True
    assert "ignored it" in why


def test_of_what_was_neither_seen_nor_repeated_nothing_is_known() -> None:
    """And the text says so, and why it was not sent again."""
    executed, why = execution_outcome(request(), repeated=False)
    assert executed is None
    assert "it is unknown whether" in why
    assert "twice" in why


@pytest.mark.parametrize(
    ("seen", "idle", "executed"),
    [(True, True, None), (True, False, True), (False, False, None)],
)
def test_a_reply_that_is_missing_though_nothing_was_lost(
    seen: bool, idle: bool, executed: bool | None
) -> None:
    """An interrupt may have come before the kernel began; no text speaks of a lost connection."""
    asked = request(seen=seen, idle=idle)
    found, why = execution_outcome(asked, repeated=False, reconnected=False)
    assert found is executed
    assert "connection" not in why


# --- a recovery -----------------------------------------------------------------------------------

SHELL, CONTROL = Barrier("shell"), Barrier("control")
EXECUTION = Barrier("shell", True)


def identified(session: Any = None) -> Recovery:
    """A recovery that knows which process the kernel is."""
    recovery = Recovery("ours_")
    assert recovery.step is Step.PROBING
    assert recovery.receive(answer(recovery.question, session=session)) is Step.TESTING
    return recovery


def after_the_test(copies: int) -> Recovery:
    """A recovery whose copies were answered so many times before the fence was."""
    recovery = identified()
    assert recovery.receive(answer(recovery.copy)) is Step.FENCING
    for _ in range(copies - 1):
        assert recovery.receive(answer(recovery.copy)) is None
    assert recovery.receive(answer(recovery.fence)) is Step.WAITING
    return recovery


def waiting(*barriers: Barrier) -> tuple[Recovery, list[str]]:
    """A recovery that has set barriers, and their msg_ids."""
    recovery = identified()
    recovery.go_on_without_test()
    return recovery, [recovery.ask(barrier) for barrier in barriers]


def test_its_questions_are_nobody_elses() -> None:
    """And no two recoveries have one in common."""
    mine: set[str] = set()
    for _ in range(2):
        recovery, barriers = waiting(CONTROL, SHELL, EXECUTION)
        mine |= {recovery.question, recovery.copy, recovery.fence, *barriers}
    assert len(mine) == 12
    assert all(msg_id.startswith("ours_") for msg_id in mine)
    assert "WAITING" in repr(recovery)


def test_the_first_answer_tells_the_incarnation() -> None:
    """Nothing more is asked unless something is to be sent again."""
    recovery = identified()
    assert recovery.incarnation == KERNEL.session
    assert recovery.ignores_repetitions is None
    recovery.go_on_without_test()
    assert recovery.step is Step.WAITING


@pytest.mark.parametrize(("copies", "ignores"), [(1, True), (2, False)])
def test_the_number_of_answers_tells_whether_repetitions_are_ignored(
    copies: int, ignores: bool
) -> None:
    """One answer is the proof.  The last question is sent when the first copy is answered, so that
    a kernel that works on several at once has had time for the second."""
    assert after_the_test(copies).ignores_repetitions is ignores


@pytest.mark.parametrize("session", [CLIENT, ""])
def test_a_kernel_that_echoes_the_session_has_no_incarnation(session: str) -> None:
    """So nothing that does something is ever sent to it again."""
    recovery = identified(session)
    assert recovery.incarnation is None
    assert not is_worth_repeating(request(incarnation=None), recovery.incarnation)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_barriers_must_be_passed(order: tuple[int, ...]) -> None:
    """In whichever order; each answer counts once."""
    recovery, msg_ids = waiting(CONTROL, EXECUTION, Barrier("shell", True, "sub"))
    kinds = ["kernel_info_reply", "execute_reply", "execute_reply"]
    *first, last = [(msg_ids[number], kinds[number]) for number in order]
    for msg_id, kind in first:
        assert recovery.receive(answer(msg_id, kind)) is None
        assert recovery.receive(answer(msg_id, kind)) is None
    assert recovery.step is Step.WAITING
    assert recovery.receive(answer(*last)) is Step.GRACE
    assert recovery.receive(answer(*last)) is None


def test_a_question_is_no_proof_that_an_execution_ended() -> None:
    """A kernel may answer it while it executes; the end of a later execution is the proof."""
    recovery, (question, execution) = waiting(SHELL, EXECUTION)
    running = request()
    assert recovery.receive(answer(question)) is None
    assert not recovery.has_passed(running)
    assert recovery.step is Step.WAITING
    assert recovery.receive(answer(execution, "execute_reply")) is Step.GRACE
    assert recovery.has_passed(running)


def test_a_later_execution_is_behind_the_question() -> None:
    """Which a kernel may have lost."""
    recovery, (_, execution) = waiting(SHELL, EXECUTION)
    assert recovery.receive(answer(execution, "execute_reply")) is Step.GRACE


def test_its_own_idle_is_a_proof() -> None:
    """The reply was sent before it, so that it is lost once a later answer came without it."""
    recovery, (question,) = waiting(SHELL)
    done, running = request(idle=True), request()
    assert not recovery.has_passed(done)
    assert recovery.receive(answer(question)) is Step.GRACE
    assert recovery.has_passed(done)
    assert not recovery.has_passed(running)


def test_each_subshell_has_a_barrier_of_its_own() -> None:
    """They execute beside one another."""
    recovery, (main, sub) = waiting(EXECUTION, Barrier("shell", True, "sub"))
    in_main, in_sub = request(), request(subshell="sub")
    recovery.receive(answer(main, "execute_reply"))
    assert recovery.has_passed(in_main)
    assert not recovery.has_passed(in_sub)
    recovery.receive(answer(sub, "execute_reply"))
    assert recovery.has_passed(in_sub)


def test_a_subshell_that_was_deleted_holds_nothing_up() -> None:
    """A request to it ends only by messages about itself."""
    recovery, (main, _) = waiting(EXECUTION, Barrier("shell", True, "sub"))
    assert not recovery.forget_subshells()
    assert recovery.receive(answer(main, "execute_reply")) is Step.GRACE
    assert not recovery.has_passed(request(subshell="sub"))
    recovery, _ = waiting(Barrier("shell", True, "sub"))
    assert recovery.forget_subshells()
    assert recovery.step is Step.GRACE


def test_a_barrier_may_be_set_again() -> None:
    """The first may have been lost; either answer will do."""
    for number in (0, 1):
        recovery, msg_ids = waiting(EXECUTION, EXECUTION)
        assert recovery.receive(answer(msg_ids[number], "execute_reply")) is Step.GRACE


def test_a_barrier_is_set_again_ever_more_seldom() -> None:
    """A kernel may look idle while it executes for hours."""
    recovery = Recovery("ours_")
    again = []
    for recovery.idle_polls in range(1000):
        if recovery.is_to_ask_again():
            again.append(recovery.idle_polls)
    assert again == [4, 8, 16, 32, 64, 128, 256, 512]


def test_a_kernel_that_answers_any_question_is_not_deaf() -> None:
    """Though it is not busy, as a gateway has it, and does not answer the execution."""
    recovery, (question, _) = waiting(SHELL, EXECUTION)
    recovery.idle_polls = 2
    assert recovery.is_session_ignored()
    recovery.receive(answer(question))
    assert not recovery.is_session_ignored()


def test_without_a_loss_only_the_barriers_are_asked() -> None:
    """And a kernel that does not answer is not deaf: it is the same websocket as before."""
    recovery = Recovery("ours_", lost=False)
    assert recovery.step is Step.WAITING
    question = recovery.ask(SHELL)
    recovery.idle_polls = 5
    assert not recovery.is_session_ignored()
    assert recovery.receive(answer(question)) is Step.GRACE


def test_only_replies_count() -> None:
    """The busy and idle of the questions come on iopub, with the same parent."""
    recovery = Recovery("ours_")
    assert recovery.receive(answer(recovery.question, "status")) is None
    recovery, msg_ids = waiting(CONTROL, EXECUTION)
    for msg_id in msg_ids:
        assert recovery.receive(answer(msg_id, "status")) is None
    assert recovery.step is Step.WAITING


def test_without_control_the_shell_alone_is_the_barrier() -> None:
    """A kernel that does not answer there is taken for one that executes repetitions."""
    recovery = Recovery("ours_")
    recovery.go_on_without_control()
    assert recovery.step is Step.WAITING
    assert not recovery.has_control
    assert recovery.ignores_repetitions is None
    execution = recovery.ask(EXECUTION)
    for msg_id in (recovery.question, recovery.copy, recovery.fence):
        assert recovery.receive(answer(msg_id)) is None
    assert recovery.ignores_repetitions is None
    assert recovery.receive(answer(execution, "execute_reply")) is Step.GRACE
    assert recovery.has_passed(request(channel="control"))
