"""The exceptions: their tree, their texts, and copies of them."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import traceback
from types import ModuleType

import pytest

import gateway_blocking
from gateway_blocking import errors
from gateway_blocking.errors import (
    GatewayConnectionClosed,
    GatewayError,
    GatewayHTTPError,
    NoSuchKernel,
    copy_for_raise,
)

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, GatewayError) and cls.__module__ == errors.__name__
]
# One line of the picture: branches, a class, and perhaps a standard base in parentheses.
LINE = re.compile(
    r"^ {4}((?:[│ ] {3})*(?:[├└]── )?)(\w+)(?: \((?:kernelspec\.)?(\w+)\))?(?: {2,}\S.*)?$"
)


def drawn() -> dict[str, set[str]]:
    """The bases of each class, as the picture in the module's docstring has them."""
    bases: dict[str, set[str]] = {}
    path: list[str] = []
    assert errors.__doc__
    picture = errors.__doc__.split("::\n\n")[1].split("\n\n")[0]
    for line in picture.splitlines():
        match = LINE.match(line)
        assert match, f"not a line of a tree: {line!r}"
        depth, name, standard = len(match[1]) // 4, match[2], match[3]
        parent = path[depth - 1] if depth else "Exception"
        path[depth:] = [name]
        assert name not in bases, f"{name} is drawn twice"
        bases[name] = {parent, standard} - {None}
    return bases


def test_the_picture_shows_the_tree() -> None:
    """The docstring draws every exception, under its base, with its standard base, and no other."""
    assert drawn() == {cls.__name__: {base.__name__ for base in cls.__bases__} for cls in CLASSES}


def test_everything_drawn_is_exported() -> None:
    """``__all__`` is the classes of the tree, and ``copy_for_raise``."""
    assert sorted(errors.__all__) == sorted([*drawn(), "copy_for_raise"])


@pytest.mark.parametrize("cls", CLASSES)
def test_the_text_is_what_was_given(cls: type[GatewayError]) -> None:
    """No base spoils it: a KeyError would put it in quotes, an OSError split it in two."""
    assert str(cls('it\'s "gone" for good')) == 'it\'s "gone" for good'


@pytest.mark.parametrize("cls", CLASSES)
def test_it_can_be_pickled_and_copied(cls: type[GatewayError]) -> None:
    """An error gets through a process pool, with its text and attributes."""
    error = cls("text")
    vars(error).update(status_code=404, method="GET")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is cls
        assert str(again) == "text"
        assert vars(again) == vars(error)


def test_an_error_without_a_text_has_an_empty_one() -> None:
    """``str()`` of an exception never raises."""
    assert str(GatewayError()) == ""


def test_an_http_error_has_its_parts() -> None:
    """Code that catches one can look at the status without reading the text."""
    error = NoSuchKernel(
        "text", method="GET", url="http://h/x", status_code=404, reason="Not Found", message="no"
    )
    parts = (error.method, error.url, error.status_code, error.reason, error.message)
    assert parts == ("GET", "http://h/x", 404, "Not Found", "no")
    assert GatewayHTTPError("text").status_code == 0


def lost() -> GatewayConnectionClosed:
    """A lost connection, as a reader thread keeps it: raised once, with its cause."""
    try:
        try:
            raise ConnectionResetError("reset by peer")
        except ConnectionResetError as cause:
            raise GatewayConnectionClosed("lost") from cause
    except GatewayConnectionClosed as error:
        return error


def test_a_fresh_error_is_the_same_without_a_traceback() -> None:
    """Type, text, attributes and cause are kept; where it was raised before is not."""
    error = lost()
    error.note = "kept"  # type: ignore[attr-defined]
    again = copy_for_raise(error)
    assert again is not error
    assert type(again) is type(error)
    assert str(again) == "lost"
    assert vars(again) == vars(error)
    assert again.__cause__ is error.__cause__
    assert again.__traceback__ is None
    assert error.__traceback__ is not None


def test_fresh_errors_collect_no_tracebacks() -> None:
    """However often one event is raised, each traceback tells of its own caller only."""
    error = lost()
    frames_before = len(traceback.extract_tb(error.__traceback__))
    for _ in range(3):
        with pytest.raises(GatewayConnectionClosed) as caught:
            raise copy_for_raise(error)
        assert len(traceback.extract_tb(caught.value.__traceback__)) == 1
    assert len(traceback.extract_tb(error.__traceback__)) == frames_before


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionError, OSError])
def test_code_for_jupyter_client_catches_a_closed_connection(kind: type[Exception]) -> None:
    """nbclient catches a RuntimeError where the connection is gone, network code an OSError."""
    with pytest.raises(kind):
        raise copy_for_raise(lost())


@pytest.mark.parametrize("module", [errors, gateway_blocking])
def test_a_deprecated_name_warns_and_is_the_same_class(module: ModuleType) -> None:
    """An ``except`` clause with the old name catches the new class."""
    with pytest.warns(DeprecationWarning, match="use RemoteNotSupported") as caught:
        assert module.NotRemotelyPossible is errors.RemoteNotSupported
    assert {warning.filename for warning in caught} == {__file__}
    with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'Missing'"):
        _ = module.Missing
