"""Variables of a kernel as text, in each language."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.deadline import Deadline
from gateway_blocking.errors import ExecutionError, GatewayError
from gateway_blocking.variables import LANGUAGES, decoded, encoded, get, language_of, put

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
    assert eval(python.assign("x", *encoded("x", value)), scope) is None
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
        (object(), "x: a value of type object cannot be sent"),
        ([1, {2}], "x: a value of type set cannot be sent"),
        ({"a": [{1: 2}]}, "the keys of a dict must be str, got int"),
        (1j, "x: a value of type complex cannot be sent"),
    ],
)
def test_what_json_would_change_is_refused(value: Any, text: str) -> None:
    """The text names the variable, the type, and what to do."""
    with pytest.raises(TypeError, match=text):
        encoded("x", value)


class Kernel:
    """A kernel that notes what it is told, and answers with a fixed result or error."""

    def __init__(self, answer: Any = None) -> None:
        self.codes: list[str] = []
        self._answer = answer

    def evaluate(self, code: str, deadline: Any = None, **options: Any) -> Any:
        self.codes.append(code)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def put(self, language: str, **values: Any) -> None:
        put(self.evaluate, self, LANGUAGES[language], values, Deadline(None))  # type: ignore[arg-type]

    def get(self, language: str, name: str) -> Any:
        return get(self.evaluate, self, LANGUAGES[language], name, Deadline(None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("language", "name"),
    [
        *(("python", name) for name in ("", "a b", "1a", "a.b", "a;b", "$(x)", "class")),
        *(("bash", name) for name in ("a;b", "$(x)", "ä")),
        *(("r", name) for name in ("a;b", "_a")),
    ],
)
def test_a_name_that_the_language_does_not_have_is_refused(language: str, name: str) -> None:
    """A name becomes part of code, so that nothing is sent."""
    kernel = Kernel()
    with pytest.raises(ValueError, match="must be an identifier"):
        kernel.put(language, good=1, **{name: 1})
    with pytest.raises(ValueError, match="must be an identifier"):
        kernel.get(language, name)
    assert kernel.codes == []


def test_a_name_is_normalized_as_python_does_it() -> None:
    """The ligature that a user types is the name that the code finds."""
    scope: dict[str, Any] = {}
    eval(LANGUAGES["python"].assign("ﬁ", "1", False), scope)
    assert eval("ﬁ", scope) == scope["fi"] == 1


def test_a_value_that_cannot_be_written_as_json_is_a_type_error() -> None:
    """A list that contains itself, a deep one, and a number with too many digits are such."""
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    kernel = Kernel()
    for value, text in (
        (endless, "x: the value is nested too deeply, or contains itself"),
        (deep, "x: the value is nested too deeply"),
        (10**5000, r"x: the value cannot be sent: .*4300 digits"),
    ):
        with pytest.raises(TypeError, match=text):
            kernel.put("python", good=1, x=value)
    with pytest.raises(TypeError, match="bash cannot contain a null character"):
        kernel.put("bash", x=b"a\0b")
    with pytest.raises(TypeError, match="x: the value cannot be sent: .*surrogates not allowed"):
        kernel.put("bash", x="\ud800")
    assert kernel.codes == []


@pytest.mark.parametrize(
    ("ename", "error"),
    [
        ("NameError", NameError),
        ("TypeError", TypeError),
        ("RecursionError", TypeError),
        ("KeyError", ExecutionError),
    ],
)
def test_an_exception_in_the_kernel_is_not_taken_for_a_missing_variable(
    ename: str, error: type[Exception]
) -> None:
    """Only NameError says so."""
    with pytest.raises(error) as caught:
        Kernel(ExecutionError(ename, "text")).get("python", "x")
    assert type(caught.value) is error


def test_code_of_bash_and_r() -> None:
    """A value is never part of the code as it is, but as base64 or as a quoted text."""
    bash, r = LANGUAGES["bash"], LANGUAGES["r"]
    value = base64.b64encode(b"a'b $(c)").decode()
    assert bash.assign("x", *encoded("x", "a'b $(c)")) == (
        f"x=$(printf %s '{value}' | base64 -d; printf x); x=${{x%x}}"
    )
    assert r.assign("x", *encoded("x", [1, 2.5])) == 'x <- jsonlite::fromJSON("[1, 2.5]")'
    assert r.assign("x", *encoded("x", {"a": [1, "b"]})) == (
        'x <- jsonlite::fromJSON("{\\"a\\": [1, \\"b\\"]}", simplifyVector = FALSE)'
    )
    assert r.assign("x", *encoded("x", b"a")) == 'x <- jsonlite::base64_dec("YQ==")'
    assert "jsonlite::toJSON(x" in r.read("x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("missing:\n", "no variable 'x'"),
        ("json:[", "cannot be read"),
        ("bytes:a", "cannot be read"),
    ],
)
def test_an_answer_without_a_value(value: str, text: str) -> None:
    """It is a NameError if the variable is missing, and a GatewayError if it is damaged."""
    with pytest.raises((NameError, GatewayError), match=text):
        decoded("x", value)


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
