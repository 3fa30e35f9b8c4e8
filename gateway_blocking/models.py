"""The models that REST returns, as types, and the one function that checks an answer by them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from .advice import shown

__all__ = [
    "APIVersion",
    "KernelModel",
    "KernelSpecModel",
    "KernelSpecs",
    "ModelError",
    "SessionModel",
    "Spec",
    "check",
]

_LONGEST_ID = 255  # characters; servers make up UUIDs, and a URL has to take it
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
}
_KINDS |= {float: "a number", NoneType: "null"}


class _RequiredKernelModel(TypedDict):
    id: str
    name: str


class KernelModel(_RequiredKernelModel, total=False):
    """A kernel, as a gateway describes it."""

    last_activity: str | None
    execution_state: str | None
    connections: int | None
    reason: str | None


class SessionModel(TypedDict):
    """A session of a Jupyter Server: a notebook or another thing with a kernel."""

    id: str
    path: str
    name: str
    type: str
    kernel: KernelModel


class Spec(TypedDict, total=False):
    """The contents of a ``kernel.json``."""

    argv: list[str]
    display_name: str
    language: str
    interrupt_mode: str
    env: dict[str, Any]
    metadata: dict[str, Any]


class _RequiredKernelSpecModel(TypedDict):
    spec: Spec


class KernelSpecModel(_RequiredKernelSpecModel, total=False):
    """A kernelspec, as a gateway describes it."""

    name: str
    resources: dict[str, str] | None


class _RequiredKernelSpecs(TypedDict):
    kernelspecs: dict[str, KernelSpecModel]


class KernelSpecs(_RequiredKernelSpecs, total=False):
    """All kernelspecs of a gateway, by name, and the name of its default."""

    default: str | None


class APIVersion(TypedDict, total=False):
    """The answer to ``GET /api``."""

    version: str
    gateway_version: str


class ModelError(ValueError):
    """An answer is JSON, but not the model that was asked for.

    Attributes
    ----------
    answer : object
        The answer.
    status : int
        Its HTTP status.
    """

    def __init__(self, text: str, answer: object, status: int) -> None:
        super().__init__(text)
        self.answer, self.status = answer, status


def check(answer: Any, wanted: Any, status: int = 0) -> None:
    """Raise :exc:`ModelError` if an answer is not of the type that is wanted.

    Parameters
    ----------
    answer : object
        The answer, from JSON.
    wanted : type
        A TypedDict, or what such is made of: ``list[...]``, ``dict[str, ...]``, a union, ``str``,
        ``int``.  Anything is an ``object`` and an ``Any``.
    status : int
        The HTTP status that the error is to have.
    """
    if fault := _fault(answer, wanted, ""):
        raise ModelError(fault, answer, status)


def _fault(value: Any, wanted: Any, where: str) -> str:
    """Return what is wrong with a value, or "" if nothing is."""
    if wanted is Any or wanted is object:
        return ""
    if get_origin(wanted) in (Union, UnionType):
        kinds = get_args(wanted)
        if value is None and NoneType in kinds:
            return ""
        return _fault(value, next(kind for kind in kinds if kind is not NoneType), where)
    kind = dict if is_typeddict(wanted) else get_origin(wanted) or wanted
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = _KINDS.get(type(value), "something else")
        return f"{where or 'it'} is {found}, not {_KINDS[kind]}"
    return _fault_inside(value, wanted, where)


def _fault_inside(value: Any, wanted: Any, where: str) -> str:
    """Return what is wrong with a part of a value whose own type is right."""
    faults: Iterator[str] = iter(())
    if is_typeddict(wanted):
        if missing := sorted(wanted.__required_keys__ - value.keys()):
            return f"{where or 'it'} has no {missing[0]}"
        faults = (
            _fault(value[key], kind, _join(where, key))
            or (_fault_of_id(value[key], _join(where, key)) if key == "id" else "")
            for key, kind in _parts(wanted).items()
            if key in value
        )
    elif isinstance(value, list):
        (item,) = get_args(wanted)
        faults = (_fault(each, item, f"{where}[{i}]") for i, each in enumerate(value))
    elif isinstance(value, dict):
        _, item = get_args(wanted)
        faults = (_fault(each, item, _join(where, key)) for key, each in value.items())
    return next(filter(None, faults), "")


@cache
def _parts(wanted: Any) -> dict[str, Any]:
    return get_type_hints(wanted)


def _fault_of_id(value: str, where: str) -> str:
    """Return what is wrong with an ID, which becomes a part of URLs, thread names and texts."""
    if not value:
        return f"{where} is empty"
    if len(value) > _LONGEST_ID:
        return f"{where} has {len(value)} characters"
    return "" if value.isprintable() else f"{where} has a control character"


def _join(where: str, key: str) -> str:
    key = shown(key, 40)
    return f"{where}.{key}" if where else key
