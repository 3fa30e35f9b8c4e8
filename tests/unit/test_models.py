"""The check of the JSON that REST returns."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_blocking.models import (
    OPTIONAL_KERNEL_MODEL,
    APIVersion,
    KernelModel,
    KernelSpecs,
    ModelError,
    SessionModel,
    check,
)

KERNEL = {"id": "k", "name": "python3"}
SESSION = {"id": "s", "path": "p", "name": "", "type": "console", "kernel": KERNEL}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (KERNEL, KernelModel),
        ({**KERNEL, "connections": None, "execution_state": "idle", "more": [1]}, KernelModel),
        (None, OPTIONAL_KERNEL_MODEL),
        (KERNEL, OPTIONAL_KERNEL_MODEL),
        ([], list[KernelModel]),
        ([KERNEL, KERNEL], list[KernelModel]),
        (SESSION, SessionModel),
        ({"kernelspecs": {"a": {"spec": {"env": {"X": 1}}}}}, KernelSpecs),
        ({}, APIVersion),
        (3, object),
    ],
)
def test_check_accepts_a_model_with_more_than_is_needed(answer: Any, wanted: Any) -> None:
    """Servers add fields, and leave out those that are not required."""
    check(answer, wanted)


@pytest.mark.parametrize(
    ("answer", "wanted", "fault"),
    [
        (None, KernelModel, "it is null, not an object"),
        ([], KernelModel, "it is a list, not an object"),
        ({"id": "k"}, KernelModel, "it has no name"),
        ({"id": 3, "name": "n"}, KernelModel, "id is a whole number, not text"),
        ({**KERNEL, "connections": True}, KernelModel, "true or false, not a whole number"),
        ({**KERNEL, "connections": 1.5}, KernelModel, "a number, not a whole number"),
        ({}, OPTIONAL_KERNEL_MODEL, "it has no id"),
        ([KERNEL, {"id": "k"}], list[KernelModel], "[1] has no name"),
        ({**SESSION, "kernel": {"id": "k"}}, SessionModel, "kernel has no name"),
        ({"kernelspecs": {"a": {"spec": []}}}, KernelSpecs, "kernelspecs.a.spec is a list"),
    ],
)
def test_check_names_the_place_and_the_kind_of_the_fault(
    answer: Any, wanted: Any, fault: str
) -> None:
    """The error keeps the answer, from which a kernel may still be given back."""
    with pytest.raises(ModelError) as caught:
        check(answer, wanted, 201)
    assert fault in str(caught.value)
    assert caught.value.answer is answer
    assert caught.value.status == 201


@pytest.mark.parametrize(
    ("kernel_id", "fault"),
    [("", "is empty"), ("x" * 256, "has 256 characters"), ("a\x1b[0m", "has a control character")],
)
def test_check_refuses_an_id_that_cannot_be_a_part_of_a_url(kernel_id: str, fault: str) -> None:
    """An ID goes into URLs, file names and terminals."""
    with pytest.raises(ModelError, match=f"^id {fault}$"):
        check({"id": kernel_id, "name": "n"}, KernelModel)


def test_check_shows_a_key_of_the_server_harmlessly() -> None:
    """A terminal would obey what is in the name of a kernelspec."""
    with pytest.raises(ModelError) as caught:
        check({"kernelspecs": {"\x1b]0;x\x07": []}}, KernelSpecs)
    assert "\x1b" not in str(caught.value)
