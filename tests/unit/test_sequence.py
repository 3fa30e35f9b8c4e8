"""Gaps in the numbers of a kernel's messages; how they are counted is in test_requests_table.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.messages import Message
from gateway_blocking.sequence import (
    MessageSequence,
    OwnQuestion,
    forget_oldest,
    is_reply,
    is_request,
    number_of,
)
from support.protocol import says


def output() -> Message:
    return says("stream", None, text="x", name="stdout")


def about(msg_type: str, request: str, **content: Any) -> Message:
    """Return a message about a request of another client."""
    message = says(msg_type, None, **content)
    message["parent_header"] = {"msg_id": request, "msg_type": "execute_request"}
    return message


@pytest.mark.parametrize(
    ("msg_id", "number"),
    [
        ("5b_12_7", 7),
        ("5b-12_0", 0),
        ("5b-12", None),  # of a kernel that does not number its messages
        ("12", None),
        ("5b_12_x", None),
        ("5b_12_", None),
        ("5b_-1", None),
        ("", None),
    ],
)
def test_number_of_is_the_last_part_of_an_id(msg_id: str, number: int | None) -> None:
    """An ID of another form has no number, whatever digits are in it."""
    assert number_of(msg_id) == number


@pytest.mark.parametrize("msg_type", [None, 3, ["execute_request"], "comm_msg", "request"])
def test_is_request_and_is_reply_take_any_value(msg_type: Any) -> None:
    """A parent header comes from the kernel, and may have anything there."""
    assert not is_request(msg_type)
    assert not is_reply(msg_type)


@given(st.lists(st.integers(0, 60), unique=True, min_size=1))
def test_missing_counts_each_number_below_the_greatest_that_did_not_come(came: list[int]) -> None:
    """In any order; what came before the first message is not known, and does not count."""
    sequence = MessageSequence()
    for number in came:
        sequence.received(output(), number)
    expected = set(range(came[0], max(came) + 1)) - set(came)
    assert sequence.missing(came[0], 100) == len(expected)
    assert sequence.next == max(came) + 1


def test_unexplained_is_a_gap_where_no_loss_is_known() -> None:
    """A kernel that takes a number and does not send the message leaves such a gap."""
    sequence = MessageSequence()
    for number in (0, 1, 4):
        sequence.output_received("stream", number)
        sequence.received(output(), number)
    assert sequence.unexplained(0, 4) == 2
    sequence.expect_loss()
    for number in (8, 9):
        sequence.output_received("stream", number)
        sequence.received(output(), number)
    assert sequence.missing(5, 9) == 3
    assert sequence.unexplained(5, 9) == 0


def test_reply_to_another_client_is_assumed_between_busy_and_idle() -> None:
    """It never comes here, and its number is no lost output."""
    sequence = MessageSequence()
    sequence.received(about("status", "other", execution_state="busy"), 0)
    accounted = sequence.received(about("status", "other", execution_state="idle"), 2)
    assert accounted == 2
    assert sequence.missing(0, 2) == 0


def test_reply_that_comes_after_its_idle_takes_its_own_place() -> None:
    """The place that was assumed for it is a gap again if the reply has another number."""
    sequence = MessageSequence()
    sequence.received(about("status", "own", execution_state="busy"), 0)
    sequence.received(about("status", "own", execution_state="idle"), 3)
    sequence.received(about("execute_reply", "own", status="ok"), 1)
    assert sequence.missing(0, 3) == 1
    assert sequence.missing(2, 2) == 1


def test_answers_to_an_own_question_hide_no_more_than_are_missing() -> None:
    """Three answers have numbers: busy, reply and idle; those before the question are not its."""
    sequence = MessageSequence()
    for number in (0, 6):
        sequence.received(output(), number)
    assert OwnQuestion(0).hidden(sequence, 0, 6) == 3
    assert OwnQuestion(4).hidden(sequence, 0, 6) == 2
    assert OwnQuestion(0, missing=-1).hidden(sequence, 0, 6) == 0


def test_forget_oldest_keeps_the_newest_entries() -> None:
    """A dict keeps the order of insertion."""
    table = dict.fromkeys(range(10))
    forget_oldest(table, 3)
    assert list(table) == [7, 8, 9]
