"""Values as literals of Python, on their way to a kernel and back."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.kernel_calls import KernelCalls, literal_value

TEXTS = st.text(st.sampled_from("ab'\"\\\r\n\0\t\x0c\x1a\x85ü\ud800\u2028")) | st.text()


@given(TEXTS | st.none() | st.integers())
def test_a_literal_is_read_as_python_reads_it(value: Any) -> None:
    """Whatever a kernel may send as the repr of a text."""
    assert literal_value(repr(value)) == value


@given(st.text(st.sampled_from("ab'\"\\\n{}0, ()")))
def test_what_is_no_literal_is_an_error(text: str) -> None:
    """The short way accepts nothing that Python does not."""
    try:
        expected = ast.literal_eval(text)
    except Exception as error:
        with pytest.raises(type(error)):
            literal_value(text)
    else:
        assert literal_value(text) == expected


@given(TEXTS)
def test_an_argument_arrives_as_it_is(value: str) -> None:
    """The expression that is sent contains it as a literal."""
    sent: list[str] = []

    class Recorded(Exception):
        """Ends the call after its request was made."""

    def new_request(expressions: dict[str, str]) -> Any:
        sent.extend(expressions.values())
        raise Recorded

    source = "def call(name, args): return name, args"
    with pytest.raises(Recorded):
        KernelCalls(None, new_request, source)("f", value)  # type: ignore[arg-type]
    assert eval(sent[0]) == ("f", (value,))
