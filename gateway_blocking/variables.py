"""Variables of a kernel: text, numbers, lists, dicts and bytes go to it and back as JSON.

Nothing is pickled, so that neither side executes what the other sends.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import GatewayError
from .execution import Execution

__all__ = ["LANGUAGES", "Language", "check_name", "decoded", "encoded", "language_of", "read"]

_NAME = re.compile(r"[^\W\d]\w*")


class Language(NamedTuple):
    """How variables are assigned and read in one programming language.

    ``assign(name, text, is_bytes)`` returns code that assigns a value, which `text` holds as JSON,
    or as base64 if it is bytes.  ``read(name)`` returns code that prints ``json:`` or ``bytes:``
    and such a text; or, if `is_expression` is true, a Python expression with such a text as value.
    """

    assign: Callable[[str, str, bool], str]
    read: Callable[[str], str]
    is_expression: bool = False


def check_name(name: str) -> None:
    """Raise ValueError unless a variable can have this name.

    >>> check_name("a b")
    Traceback (most recent call last):
    ValueError: a variable's name must be an identifier, got 'a b'
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a variable's name must be an identifier, got {name!r}")


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
            f"{name}: a {type(value).__name__} cannot be sent; possible are None, bool, int, float,"
            " str, list and dict of these, and bytes.  Write it to a file, and use upload()"
        )


def decoded(name: str, text: str) -> Any:
    """Return the value that the code of :attr:`Language.read` printed."""
    kind, _, value = text.strip().partition(":")
    if kind == "json":
        return json.loads(value)
    if kind == "bytes":
        return base64.b64decode(value)
    raise GatewayError(f"the kernel's answer about {name} cannot be read: {text!r:.200}")


def read(run: Callable[..., Execution], language: Language, name: str) -> Any:
    """Return the value of a variable; `run` is ``run()`` of the client.

    Raises
    ------
    NameError
        The kernel has no such variable.
    TypeError
        JSON cannot represent the value.
    """
    code = language.read(name)
    if language.is_expression:
        done = run("", silent=True, user_expressions={"value": code}, check=True)
        answer = done.user_expressions.get("value") or {}
        if answer.get("status") == "ok":
            return decoded(name, ast.literal_eval(answer["data"]["text/plain"]))
        ename, evalue = str(answer.get("ename", "")), str(answer.get("evalue", ""))
    else:
        done = run(code, store_history=False)
        if done.ok and done.stdout.strip():
            return decoded(name, done.stdout)
        ename, evalue = done.error[:2] if done.error else ("", done.stderr.strip())
    if ename in ("TypeError", "ValueError", "OverflowError"):
        raise TypeError(f"{name}: {evalue}; write it to a file, and use download()")
    if ename == "NameError" or not done.running:
        raise NameError(f"the kernel has no variable {name!r}: {evalue or ename}")
    raise GatewayError(f"{name} cannot be read: {done.detail or evalue}")


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
    return f"globals()[{name!r}] = {function}({text!r})"


def _python_read(name: str) -> str:
    return (
        "(lambda value: 'bytes:' + __import__('base64').b64encode(value).decode()"
        " if isinstance(value, (bytes, bytearray, memoryview))"
        f" else 'json:' + __import__('json').dumps(value))({name})"
    )


def _bash_assign(name: str, text: str, is_bytes: bool) -> str:
    if not is_bytes:
        value = json.loads(text)
        plain = value if isinstance(value, str) else text
        text = base64.b64encode(plain.encode("utf-8", "surrogateescape")).decode()
    return f"{name}=$(printf %s '{text}' | base64 -d)"


def _bash_read(name: str) -> str:
    is_set = f'[ -n "${{{name}+x}}" ]'
    return f'{is_set} && printf bytes: && printf %s "${name}" | base64 -w0; echo'


def _r_assign(name: str, text: str, is_bytes: bool) -> str:
    quoted = json.dumps(text)
    if is_bytes:
        return f"{name} <- jsonlite::base64_dec({quoted})"
    return f"{name} <- jsonlite::fromJSON({quoted})"


def _r_read(name: str) -> str:
    return (
        f'if (is.raw({name})) cat("bytes:", jsonlite::base64_enc({name}), "\\n", sep = "") else'
        f' cat("json:", jsonlite::toJSON({name}, auto_unbox = TRUE, digits = NA, null = "null"),'
        ' "\\n", sep = "")'
    )


LANGUAGES: dict[str, Language] = {
    "python": Language(_python_assign, _python_read, is_expression=True),
    "bash": Language(_bash_assign, _bash_read),
    "r": Language(_r_assign, _r_read),
}
"""The languages whose variables are supported, by the name in ``language_info``, in small letters.

Add an entry to support another language.
"""
