"""Variables of a kernel: text, numbers, lists, dicts and bytes go to it and back as JSON.

Nothing is pickled, so that neither side executes what the other sends.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from keyword import iskeyword
from queue import Empty
from typing import Any, NamedTuple

from .deadline import Deadline
from .errors import ExecutionError, GatewayError, GatewayTimeout
from .execution import Execution
from .kernel_calls import KernelCalls

__all__ = [
    "LANGUAGES",
    "Language",
    "answered_in_time",
    "decoded",
    "encoded",
    "get",
    "language_of",
    "put",
]

_MOST_TRIES = 5  # of code that the kernel skipped, because earlier code failed
_NOT_JSON = ("TypeError", "ValueError", "OverflowError", "RecursionError")  # Python's json raises


def _is_python_name(name: str) -> bool:
    return name.isidentifier() and not iskeyword(name)


class Language(NamedTuple):
    """Assignment and reading of variables in one programming language.

    ``assign(name, text, is_bytes)`` returns code that assigns a value, which `text` holds as JSON,
    or as base64 if it is bytes; it raises ValueError if the language has no such value.
    ``read(name)`` returns code that prints ``json:`` or ``bytes:`` and such a text, or ``missing:``
    if there is no such variable.  ``is_name(name)`` tells if a variable can have this name.

    If `is_expression` is true, both return Python expressions, and the value of the second is the
    text, or it raises NameError.
    """

    assign: Callable[[str, str, bool], str]
    read: Callable[[str], str]
    is_name: Callable[[str], bool] = str.isidentifier
    is_expression: bool = False


def put(
    run: Callable[..., Execution],
    calls: KernelCalls,
    language: Language,
    values: Mapping[str, Any],
    deadline: Deadline,
) -> None:
    """Assign variables: see ``put()`` of the client.

    Nothing is assigned if one of the names or values is wrong.
    """
    codes = {name: _assignment(language, name, value) for name, value in values.items()}
    for name, code in codes.items():
        with answered_in_time(deadline, f"{name} may be assigned later"):
            if language.is_expression:
                calls.evaluate(code, deadline)
            else:
                _run(run, code, deadline, silent=True)


def get(
    run: Callable[..., Execution],
    calls: KernelCalls,
    language: Language,
    name: str,
    deadline: Deadline,
) -> Any:
    """Return the value of a variable: see ``get()`` of the client."""
    _check_name(language, name)
    code = language.read(name)
    try:
        with answered_in_time(deadline, f"{name} was not read"):
            if language.is_expression:
                return decoded(name, calls.evaluate(code, deadline))
            return decoded(name, _run(run, code, deadline, store_history=False).stdout)
    except ExecutionError as error:
        if language.is_expression and error.ename == "NameError":
            raise NameError(f"the kernel has no variable {name!r}") from error
        if not language.is_expression or error.ename in _NOT_JSON:
            text = f"{name}: {error.evalue}; write it to a file, and use download()"
            raise TypeError(text) from error
        raise


@contextmanager
def answered_in_time(deadline: Deadline, consequence: str) -> Iterator[None]:
    """Within the ``with``, raise a GatewayTimeout with its consequence if a wait ends too late."""
    try:
        yield
    except (Empty, GatewayTimeout) as error:
        if not deadline.passed():  # the connection's own limit
            raise
        raise GatewayTimeout(
            f"the kernel did not answer within {deadline.timeout:g} s, and {consequence}",
            advice="a kernel that executes code answers when it is done",
        ) from error


def _run(
    run: Callable[..., Execution], code: str, deadline: Deadline, **options: bool
) -> Execution:
    """Run code; run it again if the kernel skipped it, because earlier code failed."""
    for _ in range(_MOST_TRIES):
        # The kernel may execute other code, which must not be interrupted.
        done = run(code, timeout=deadline.left(), on_timeout="raise", **options)
        if done.status != "aborted":
            break
    return done.raise_for_error()


def _check_name(language: Language, name: str) -> None:
    """Raise ValueError unless a variable can have this name, which becomes part of code."""
    if not (isinstance(name, str) and language.is_name(name)):
        raise ValueError(f"the name of a variable must be an identifier, got {name!r}")


def _assignment(language: Language, name: str, value: Any) -> str:
    """Return the code that assigns a value."""
    _check_name(language, name)
    try:
        return language.assign(name, *encoded(name, value))
    except ValueError as error:  # such as an int with too many digits
        raise TypeError(f"{name}: the value cannot be sent: {error}") from error
    except RecursionError as error:
        raise TypeError(f"{name}: the value is nested too deeply, or contains itself") from error


def encoded(name: str, value: Any) -> tuple[str, bool]:
    """Return a value as text, and True if it is bytes.

    Raises
    ------
    TypeError
        The value is neither bytes nor what JSON can represent without a change.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode(), True
    _check(name, value)
    return json.dumps(value), False


def _check(name: str, value: Any) -> None:
    """Raise TypeError if the value contains what JSON would change or cannot represent."""
    if isinstance(value, dict):
        for key, each in value.items():
            if type(key) is not str:
                raise TypeError(
                    f"{name}: the keys of a dict must be str, got {type(key).__name__}"
                    f" ({key!r:.50})"
                )
            _check(name, each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check(name, each)
    elif type(value) not in (str, int, float, bool, type(None)):
        raise TypeError(
            f"{name}: a value of type {type(value).__name__} cannot be sent; possible are None,"
            " bool, int, float, str, list and dict of these, and bytes.  Write it to a file, and"
            " use upload()"
        )


def decoded(name: str, text: str) -> Any:
    """Return the value that the code of :attr:`Language.read` printed.

    Raises
    ------
    NameError
        The kernel has no such variable.
    GatewayError
        The code printed something else.
    """
    kind, colon, value = str(text).strip().partition(":")
    try:
        if kind == "json":
            return json.loads(value)
        if kind == "bytes":
            return base64.b64decode(value)
    except ValueError as error:
        raise GatewayError(f"the kernel's answer about {name} cannot be read: {error}") from error
    if kind == "missing" and colon:
        raise NameError(f"the kernel has no variable {name!r}")
    raise GatewayError(f"the kernel's answer about {name} cannot be read: {text!r:.200}")


def language_of(info: dict[str, Any]) -> Language:
    """Return the language of a kernel, from the content of its ``kernel_info_reply``.

    Raises
    ------
    GatewayError
        Variables of this language are not supported.
    """
    about = info.get("language_info")
    name = str(about.get("name", "")).lower() if isinstance(about, dict) else ""
    if name not in LANGUAGES:
        raise GatewayError(
            f"variables of a {name or 'kernel of an unknown language'!r} kernel are not supported,"
            f" only of {', '.join(sorted(LANGUAGES))}; add yours to LANGUAGES of"
            " gateway_blocking.variables"
        )
    return LANGUAGES[name]


def _python_assign(name: str, text: str, is_bytes: bool) -> str:
    function = "__import__('base64').b64decode" if is_bytes else "__import__('json').loads"
    name = unicodedata.normalize("NFKC", name)  # as Python does it for names in code
    return f"globals().__setitem__({name!r}, {function}('{_quoted(text)}'))"


def _quoted(text: str) -> str:
    """Return ASCII text for a literal of Python in single quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _python_read(name: str) -> str:
    return (
        "(lambda value: 'bytes:' + __import__('base64').b64encode(value).decode()"
        " if isinstance(value, (bytes, bytearray, memoryview))"
        f" else 'json:' + __import__('json').dumps(value))({name})"
    )


def _bash_assign(name: str, text: str, is_bytes: bool) -> str:
    if is_bytes:
        data = base64.b64decode(text)
    else:
        value = json.loads(text)
        data = (value if isinstance(value, str) else text).encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a variable of bash cannot contain a null character")
    encoded_data = base64.b64encode(data).decode()
    # $(...) drops newlines at the end; the x keeps them.
    return f"{name}=$(printf %s '{encoded_data}' | base64 -d; printf x); {name}=${{{name}%x}}"


def _bash_read(name: str) -> str:
    return (
        f'if [ -z "${{{name}+x}}" ]; then echo missing:;'
        f" else printf bytes:; printf %s \"${name}\" | base64 | tr -d '\\n'; echo; fi"
    )


def _r_assign(name: str, text: str, is_bytes: bool) -> str:
    quoted = json.dumps(text)
    if is_bytes:
        return f"{name} <- jsonlite::base64_dec({quoted})"
    simplify = "" if _is_simple(json.loads(text)) else ", simplifyVector = FALSE"
    return f"{name} <- jsonlite::fromJSON({quoted}{simplify})"


def _is_simple(value: Any) -> bool:
    """Return True unless R would change the values of a list that has several types."""
    if isinstance(value, dict):
        return all(map(_is_simple, value.values()))
    if not isinstance(value, list):
        return True
    types = {float if type(each) is int else type(each) for each in value} - {type(None)}
    return len(types) <= 1 and all(map(_is_simple, value))


def _r_read(name: str) -> str:
    return (
        f'if (!exists("{name}")) cat("missing:\\n") else if (is.raw({name}))'
        f' cat("bytes:", jsonlite::base64_enc({name}), "\\n", sep = "") else'
        f' cat("json:", jsonlite::toJSON({name}, auto_unbox = TRUE, digits = NA, null = "null"),'
        ' "\\n", sep = "")'
    )


def _is_r_name(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")


def _is_bash_name(name: str) -> bool:
    return name.isidentifier() and name.isascii()


LANGUAGES: dict[str, Language] = {
    "python": Language(_python_assign, _python_read, _is_python_name, is_expression=True),
    "bash": Language(_bash_assign, _bash_read, _is_bash_name),
    "r": Language(_r_assign, _r_read, _is_r_name),
}
"""The languages whose variables are supported, by the name in ``language_info``, in small letters.

Add an entry to support another language.
"""
