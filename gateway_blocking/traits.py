"""Types of options: which values are valid, and how an error shows a value that is not."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from traitlets import Any as AnyTrait
from traitlets import Bool, Float, Int, TraitError, Type, Unicode
from traitlets.utils.importstring import import_item

from .deadline import LONGEST
from .events import is_receiver
from .urls import canonical_url

__all__ = [
    "URL",
    "ClassWith",
    "Count",
    "File",
    "HeaderError",
    "HeaderName",
    "HeaderText",
    "Headers",
    "Listener",
    "Seconds",
    "Switch",
    "Text",
    "safe_url",
]


def safe_url(url: str) -> str:
    """Return the URL without the parts that may be secret: login, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


_SWITCHES = {"1": True, "true": True, "yes": True, "on": True}
_SWITCHES.update({"0": False, "false": False, "no": False, "off": False})


class Text(Unicode["str | None", Any]):
    """Any text, or None; a secret one is not shown in errors."""

    def __init__(self, default: str | None = None, **metadata: Any) -> None:
        super().__init__(default, allow_none=True, **metadata)

    def shown(self, value: Any) -> str:
        """Return the value as an error may show it."""
        return "a value that is not shown" if self.metadata.get("secret") else repr(value)

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        if not isinstance(value, str):  # not traitlets' own error, which would show it
            kind = type(value).__name__
            raise TraitError(f"{self.name} must be text, got a value of type {kind}")
        return value

    def from_string(self, s: str) -> str | None:
        """Return the value that a text stands for."""
        # Unchanged: quotes and ~ have no meaning in a token.
        return None if s == "None" else s


class HeaderError(TraitError, TypeError):
    """A text that cannot be sent in an HTTP header."""


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # Latin-1 is what servers decode
_NOT_ALLOWED = (
    "has a character that HTTP does not allow there, such as the end of a line or one that is not"
    " in Latin-1; its value is not shown"
)


class HeaderText(Text):
    """A text that is sent in an HTTP header."""

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        text = super().validate(obj, value)
        if not _HEADER_VALUE.fullmatch((text or "").strip()):  # a file's last line end is not sent
            raise HeaderError(f"{self.name} {_NOT_ALLOWED}")
        return text


class HeaderName(Text):
    """The name of an HTTP header."""

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        text = super().validate(obj, value)
        if text and not _HEADER_NAME.fullmatch(text):
            raise HeaderError(
                f"{self.name}={text!r} is a name that HTTP does not allow for a header"
            )
        return text


class File(Text):
    """The path of a file; ``~`` is the home directory."""

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        path = super().validate(obj, os.fspath(value) if isinstance(value, os.PathLike) else value)
        return os.path.expanduser(path or "") or None  # noqa: PTH111  # the value may not be a path yet


_QUOTES = ("'", '"')


class URL(Text):
    """A URL with one of some schemes, and without a query: URLs are made from it."""

    def __init__(self, *schemes: str, **metadata: Any) -> None:
        super().__init__(None, **metadata)
        self.schemes = schemes

    def shown(self, value: Any) -> str:
        """Return the value as an error may show it."""
        try:
            parts = urlsplit(str(value))
            # An @ elsewhere may end a password, too: "me:secret@host", "http://me:a/b@host".  A
            # port that is not a number may be a password without a host: "http://me:secret".
            if "@" not in parts.path + parts.query + parts.fragment:
                if "://" not in str(value):  # unchanged: urlunsplit would add slashes
                    return repr(re.split("[?#]", str(value))[0])
                shown = safe_url(str(value))
                port = urlsplit(shown).netloc.rpartition("]")[2].partition(":")[2]
                if port and not port.isdigit():
                    shown = shown.replace(f":{port}", ":...", 1)
                return repr(shown + ("?..." if parts.query else "#..." if parts.fragment else ""))
        except ValueError:
            pass
        return "a value that may contain a password"

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        text = (super().validate(obj, value) or "").strip()
        if not text:
            return None
        if fault := self._fault(text):
            raise TraitError(f"{self.name}={self.shown(value)} {fault}")
        scheme = urlsplit(text).scheme
        return scheme + text[len(scheme) :]  # the scheme in lower case

    def _fault(self, text: str) -> str:
        """Return what is wrong with a URL, or ""."""
        wanted = " or ".join(f"{scheme}://" for scheme in self.schemes)
        if text[0] in _QUOTES and text[-1] in _QUOTES:
            return "has quotes around it: leave them out, as Docker's --env-file passes them on"
        if "://" not in text:
            return f"has no {wanted} before it"
        no_host = f"does not name a host, as {wanted}host:port/path does"
        try:
            parts = urlsplit(text)
            host = parts.hostname
        except ValueError:
            return no_host
        if not host:
            return no_host
        try:
            usable = parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            return "has a port that is not a number from 1 to 65535"
        if re.search(r"\s", text):
            return "has a space or a line break in it: write a space of the path as %20"
        if parts.scheme not in self.schemes:
            return f"does not begin with {wanted}"
        if re.search(r"[?#]", text):
            token = "; its token belongs in auth_token" if "token=" in text else ""
            what, begin = ("query", "?") if "?" in text else ("fragment", "#")
            return f"has a {what}: leave out all from the {begin} on{token}"
        try:
            canonical_url(safe_url(text))
        except ValueError:
            return f"has a host name, {host!r}, that is not valid"
        return ""


class Headers(Text):
    """HTTP headers: a dict, or a JSON object in a string."""

    def shown(self, value: Any) -> str:
        """Return the value as an error may show it."""
        if not isinstance(value, str | Mapping):
            return f"a {type(value).__name__}"
        begin, colon, _ = str(value).partition(":")
        if not colon:  # it may be only a token
            return "a text without a colon (it may be secret)"
        return f"{begin + ':...'!r} (the rest may be secret)"

    def validate(self, obj: Any, value: Any) -> str | None:
        """Return the validated value."""
        try:
            text = json.dumps(dict(value)) if isinstance(value, Mapping) else value
            headers = json.loads(text or "{}")
            good = isinstance(headers, dict) and all(isinstance(v, str) for v in headers.values())
        except (TypeError, ValueError):
            good = False
        if not good:
            raise TraitError(
                f"{self.name}={self.shown(value)} is not a JSON object of strings,"
                ' as in {"X-Name": "value"}'
            )
        for name, content in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise HeaderError(f"{self.name}: the name {name!r} {_NOT_ALLOWED}")
            if not _HEADER_VALUE.fullmatch(content):
                raise HeaderError(f"{self.name}: the header {name!r} {_NOT_ALLOWED}")
        return str(text or "{}")


class Switch(Bool[bool, "bool | str"]):
    """Yes or no, in the usual spellings."""

    def from_string(self, s: str) -> bool:
        """Return the value that a text stands for."""
        try:
            return _SWITCHES[s.strip().lower()]
        except KeyError:
            raise TraitError(
                f"{self.name}={s!r} must be 1/0, true/false, yes/no or on/off"
            ) from None

    def validate(self, obj: Any, value: Any) -> Any:
        """Return the validated value."""
        if isinstance(value, str):
            value = self.from_string(value)
        try:
            return super().validate(obj, value)
        except TraitError:
            raise TraitError(f"{self.name}={value!r} is not true or false") from None


class Seconds(Float[float, float]):
    """A finite time in seconds, with a minimum.

    The longest time is about 24 days, because the waits of the system accept no more.
    """

    def __init__(self, default: float, least: float = 0.0, **metadata: Any) -> None:
        super().__init__(default, min=least, **metadata)

    def validate(self, obj: Any, value: Any) -> float:
        """Return the validated value."""
        try:
            seconds = float(super().validate(obj, value))
        except TraitError:
            raise TraitError(
                f"{self.name}={value!r} is not a number of seconds of at least {self.min:g}"
            ) from None
        except OverflowError:  # no float can hold such a whole number
            seconds = math.inf
        if not math.isfinite(seconds):
            raise TraitError(f"{self.name}={seconds!r} is not a number of seconds")
        return min(seconds, float(LONGEST))

    def from_string(self, s: str) -> float:
        """Return the value that a text stands for."""
        try:
            return float(s)
        except ValueError:
            raise TraitError(f"{self.name}={s!r} is not a number") from None


class Count(Int[int, int]):
    """A whole number, with a minimum."""

    def validate(self, obj: Any, value: Any) -> int:
        """Return the validated value."""
        try:
            return int(super().validate(obj, value))
        except TraitError:
            raise TraitError(
                f"{self.name}={value!r} is not a whole number of at least {self.min}"
            ) from None

    def from_string(self, s: str) -> int:
        """Return the value that a text stands for."""
        try:
            return int(s)
        except ValueError:
            raise TraitError(f"{self.name}={s!r} is not a whole number") from None


class ClassWith(Type[Any, Any]):
    """A class that has a method, or the dotted name to import it by."""

    def __init__(self, method: str, default: type, **metadata: Any) -> None:
        super().__init__(default, klass=object, **metadata)
        self.method = method

    def from_string(self, s: str) -> str:
        """Return the value that a text stands for."""
        return s

    def validate(self, obj: Any, value: Any) -> type:
        """Return the validated value."""
        found = self._imported(value) if isinstance(value, str) else value
        if not isinstance(found, type):
            raise TraitError(f"{self.name}={value!r} is not a class")
        if not callable(getattr(found, self.method, None)) or inspect.isabstract(found):
            raise TraitError(f"{self.name}={value!r} is a class without a method {self.method}()")
        return found

    def _imported(self, name: str) -> Any:
        try:
            return import_item(name)
        except Exception as error:  # the import of a user's module may raise any error
            hint = ""
            module, _, cls = name.rpartition(".")
            # import_item says "No module named", although only the class is missing.
            if isinstance(error.__cause__, AttributeError):
                raise TraitError(
                    f"{self.name}={name!r} cannot be imported: {module} has no class {cls!r}"
                ) from error
            if isinstance(error, ModuleNotFoundError):
                hint = "; check that PYTHONPATH has its directory"
                hint = hint if module else "; it must be written as module.Class"
            raise TraitError(
                f"{self.name}={name!r} could not be imported: {type(error).__name__}: {error}{hint}"
            ) from error


class Listener(AnyTrait):
    """A receiver of events, or None."""

    def validate(self, obj: Any, value: Any) -> Any:
        """Return the validated value."""
        if value is None or is_receiver(value):
            return value
        raise TraitError(
            f"{self.name}={value!r} is neither a callable nor a logging.Logger nor an EventLogger"
        )
