"""Variables of a kernel as text, in each language."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.errors import GatewayError
from gateway_blocking.variables import LANGUAGES, check_name, decoded, encoded, language_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES | st.binary())
def test_python_gets_and_sends_any_value(value: Any) -> None:
    """The code assigns what was given, and the expression gives it back."""
    scope: dict[str, Any] = {}
    python = LANGUAGES["python"]
    exec(python.assign("x", *encoded("x", value)), scope)
    assert scope["x"] == value
    assert set(scope) == {"x", "__builtins__"}
    assert decoded("x", eval(python.read("x"), scope)) == value


def test_numbers_that_json_does_not_have() -> None:
    """Python's own JSON writes and reads them."""
    assert math.isnan(decoded("x", "json:" + encoded("x", math.nan)[0]))
    assert decoded("x", "json:" + encoded("x", -math.inf)[0]) == -math.inf


def test_text_with_a_lone_surrogate_is_sent_in_ascii() -> None:
    """The websocket carries UTF-8, which has none."""
    text, _ = encoded("x", "\ud800'\"\n")
    assert text.isascii()
    assert json.loads(text) == "\ud800'\"\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "x: a object cannot be sent"),
        ([1, {2}], "x: a set cannot be sent"),
        ({"a": [{1: 2}]}, "the keys of a dict must be str, got int"),
        (1j, "x: a complex cannot be sent"),
    ],
)
def test_what_json_would_change_is_refused(value: Any, text: str) -> None:
    """The text names the variable, the type, and what to do."""
    with pytest.raises(TypeError, match=text):
        encoded("x", value)


@pytest.mark.parametrize("name", ["", "a b", "1a", "a.b", "a;b", "$(x)"])
def test_a_name_is_an_identifier(name: str) -> None:
    """A name becomes part of code."""
    with pytest.raises(ValueError, match="must be an identifier"):
        check_name(name)


def test_code_of_bash_and_r() -> None:
    """A value is never part of the code as it is, but as base64 or as a quoted text."""
    bash, r = LANGUAGES["bash"], LANGUAGES["r"]
    value = base64.b64encode(b"a'b $(c)").decode()
    assert bash.assign("x", *encoded("x", "a'b $(c)")) == f"x=$(printf %s '{value}' | base64 -d)"
    assert r.assign("x", *encoded("x", [1, "a"])) == 'x <- jsonlite::fromJSON("[1, \\"a\\"]")'
    assert r.assign("x", *encoded("x", b"a")) == 'x <- jsonlite::base64_dec("YQ==")'
    assert "jsonlite::toJSON(x" in r.read("x")


def test_a_language_is_found_by_the_kernels_reply() -> None:
    """The error names the languages that are supported."""
    assert language_of({"language_info": {"name": "R"}}) is LANGUAGES["r"]
    for info in ({}, {"language_info": None}, {"language_info": {"name": "julia"}}):
        with pytest.raises(GatewayError, match="only of bash, python, r"):
            language_of(info)


def test_an_answer_of_another_kind_is_an_error() -> None:
    """Such as the output of code that prints on its own."""
    with pytest.raises(GatewayError, match="answer about x cannot be read"):
        decoded("x", "hello")
