"""Types of options: which values are taken, and what an error shows of the others."""

from __future__ import annotations

import abc
import logging
from pathlib import Path
from typing import Any

import pytest
from traitlets import HasTraits, TraitError

from gateway_blocking import traits
from gateway_blocking.traits import HeaderError, safe_url


class Plain:
    """A class without the method that is wanted."""


class Ready(Plain):
    def go(self) -> None:
        """Do what is wanted."""


class Abstract(Ready, abc.ABC):
    @abc.abstractmethod
    def more(self) -> None:
        """Do what a subclass knows."""


class Options(HasTraits):
    """One option of each type."""

    url = traits.URL("http", "https")
    text = traits.Text()
    secret = traits.Text().tag(secret=True)
    header = traits.HeaderText()
    header_name = traits.HeaderName("X-Name")
    headers = traits.Headers("{}")
    file = traits.File()
    switch = traits.Switch(False)
    seconds = traits.Seconds(1.0, least=0.5)
    count = traits.Count(1)
    kind = traits.ClassWith("go", Ready)
    listener = traits.Listener(None)


def taken(name: str, value: Any) -> Any:
    """Return what the option is after it was set."""
    options = Options(**{name: value})
    return getattr(options, name)


def read(name: str, text: str) -> Any:
    """Return what the option is after it was set by a text of the environment."""
    return taken(name, Options.class_traits()[name].from_string(text))


# --- values that are taken ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("url", " HTTP://Host:1/Path ", "http://Host:1/Path"),
        ("url", "", None),
        ("url", None, None),
        ("url", "https://[::1]:8888", "https://[::1]:8888"),
        ("header", "é\tok", "é\tok"),
        ("header", "from a file\n", "from a file\n"),
        ("header_name", "X-!#$%&'*+.^_`|~1", "X-!#$%&'*+.^_`|~1"),
        ("headers", {"A": "1"}, '{"A": "1"}'),
        ("headers", "", "{}"),
        ("file", Path("/a/b"), "/a/b"),
        ("file", "", None),
        ("switch", "Yes", True),
        ("switch", False, False),
        ("seconds", 2, 2.0),
        ("kind", Ready, Ready),
        ("kind", f"{__name__}.Ready", Ready),
        ("listener", None, None),
        ("listener", print, print),
        ("listener", logging.getLogger("tests"), logging.getLogger("tests")),
    ],
)
def test_a_valid_value_is_taken_in_its_form(name: str, value: Any, expected: Any) -> None:
    """A path becomes a text, a mapping JSON, a dotted name the class."""
    assert taken(name, value) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("text", "'~/x'", "'~/x'"),
        ("text", "None", None),
        ("count", " 7", 7),
        ("seconds", "1e2", 100.0),
        ("kind", f"{__name__}.Ready", Ready),
        *(("switch", text, True) for text in ("1", "true", "YES", " on ")),
        *(("switch", text, False) for text in ("0", "False", "no", "OFF")),
    ],
)
def test_a_text_of_the_environment_is_read(name: str, text: str, expected: Any) -> None:
    """Quotes and ~ mean nothing in a text, which may be a token."""
    assert read(name, text) == expected


# --- values that are refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("'http://host'", "has quotes around it"),
        ("host:8888", "has no http:// or https:// before it"),
        ("http://", "does not name a host"),
        ("http://[::1", "does not name a host"),
        ("http://host:0", "a port that is not a number from 1 to 65535"),
        ("http://host:99999", "a port that is not a number from 1 to 65535"),
        ("http://host:port", "a port that is not a number from 1 to 65535"),
        ("http://host/a b", "write a space of the path as %20"),
        ("ws://host", "does not begin with http:// or https://"),
        ("http://host?token=sesame", "has a query.*its token belongs in auth_token"),
        ("http://host?a=1", r"has a query: leave out all from the \? on$"),
        ("http://host#part", "has a fragment: leave out all from the # on"),
        ("http://a..b", "has a host name, 'a..b', that is not valid"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_its_fault(url: str, fault: str) -> None:
    """Each has its own text, which begins with the name of the option."""
    with pytest.raises(TraitError, match=f"^url=.*{fault}") as caught:
        taken("url", url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://me:sesame@host/path", "'ftp://host/path'"),
        ("ftp://host?token=sesame", r"'ftp://host\?\.\.\.'"),
        ("ftp://host#sesame", r"'ftp://host#\.\.\.'"),
        ("me:sesame@host", "a value that may contain a password"),
        ("http://me:a/sesame@host", "a value that may contain a password"),
        ("http://me:sesame", r"'http://me:\.\.\.'"),
        ("host?token=sesame", "'host'"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    """Also a mistyped one, of which it is not clear where the password stands."""
    with pytest.raises(TraitError, match=f"^url={shown} ") as caught:
        taken("url", url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("text", 7, "text must be text, got a value of type int"),
        ("secret", b"sesame", "secret must be text, got a value of type bytes"),
        ("headers", "sesame", r"headers=a text without a colon \(it may be secret\) is not a JSON"),
        ("headers", '{"A": ["sesame"]}', "headers=.*the rest may be secret.* is not a JSON object"),
        ("headers", ["sesame"], "headers=a list is not a JSON object of strings"),
        ("headers", {"A": 1}, "is not a JSON object of strings"),
        ("switch", "maybe", "switch='maybe' must be 1/0, true/false, yes/no or on/off"),
        ("seconds", 0.1, "seconds"),
        ("seconds", float("nan"), "seconds=nan is not a number of seconds"),
        ("seconds", 10**400, "seconds=inf is not a number of seconds"),
        ("kind", 7, "kind=7 is not a class"),
        ("kind", Plain, r"is a class without a method go\(\)"),
        ("kind", Abstract, r"is a class without a method go\(\)"),
        ("kind", f"{__name__}.Missing", f"{__name__} has no class 'Missing'"),
        ("kind", "no_such_module.Class", "check that PYTHONPATH has its directory"),
        ("kind", "no_such_module", "it must be written as module.Class"),
        ("listener", "events.log", "listener='events.log' is neither a callable nor"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(name: str, value: Any, text: str) -> None:
    """The error has the option's name and what is wanted, and nothing that may be secret."""
    with pytest.raises(TraitError, match=text) as caught:
        taken(name, value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header", "sesame\r\nX-Other: 1"),
        ("header", "sesame\u20ac"),
        ("header_name", "X Name"),
        ("headers", {"X Name": "sesame"}),
        ("headers", {"X-Name": "sesame\n"}),
    ],
)
def test_what_no_header_can_carry_is_a_header_error(name: str, value: Any) -> None:
    """It is a TypeError, too; a text with a line break could add another header."""
    with pytest.raises(HeaderError, match=name) as caught:
        taken(name, value)
    assert isinstance(caught.value, TypeError)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("count", "many"), ("seconds", "soon")])
def test_a_text_that_is_no_number_is_refused_by_name(name: str, text: str) -> None:
    """Python's own error would not name the option."""
    with pytest.raises(TraitError, match=f"{name}='{text}' is not a"):
        read(name, text)


def test_a_secret_is_never_shown() -> None:
    """Errors of other modules ask for it by this method."""
    options = Options.class_traits()
    assert options["secret"].shown("sesame") == "a value that is not shown"
    assert options["text"].shown("plain") == "'plain'"


def test_a_safe_url_has_no_login_query_or_fragment() -> None:
    """All else is as it was."""
    assert safe_url("http://me:pw@Host:1/A%20b?token=x#y") == "http://Host:1/A%20b"
