"""The tree of errors, and what every error can do."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from gateway_blocking import errors
from gateway_blocking.errors import GatewayError, GatewayHTTPError, fresh

NAMES = sorted(set(errors.__all__) - {"fresh"})
CLASSES = [getattr(errors, name) for name in NAMES]


def drawn() -> dict[str, tuple[str, set[str]]]:
    """Class, parent and further bases, as the picture at the top of the module has them."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str, set[str]]] = {}
    above: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+)(?: \((\w+)\))?(?:  |$)", line)
        if not match:
            continue
        depth = len(match[1]) // 4
        above[depth:] = [match[2]]
        parent = above[depth - 1] if depth else "Exception"
        found[match[2]] = (parent, {match[3]} - {None})
    return found


def test_the_picture_is_true() -> None:
    """Every class is drawn, under its parent, with its standard bases."""
    picture = drawn()
    assert sorted(picture) == NAMES
    for cls in CLASSES:
        parent, others = picture[cls.__name__]
        assert [base.__name__ for base in cls.__bases__] == [parent, *others]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_its_text(cls: type[GatewayError]) -> None:
    """Not quoted, though some are KeyErrors; it survives copy and pickle."""
    error = cls("the 'text'")
    assert str(error) == "the 'text'"
    assert isinstance(error, GatewayError)
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(same), str(same)) == (cls, "the 'text'")


def test_fresh_keeps_what_an_error_knows() -> None:
    """A copy with attributes and cause, and without the traceback."""
    cause = OSError("underneath")
    try:
        raise GatewayHTTPError("no", method="GET", status_code=500) from cause
    except GatewayHTTPError as error:
        again = fresh(error)
        assert again is not error
        assert (again.method, again.status_code, again.reason) == ("GET", 500, "")
        assert again.__cause__ is cause
        assert again.__traceback__ is None
