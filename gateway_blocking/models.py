"""Types of the models that REST returns, and a function that checks JSON by them."""

# Not "from __future__ import annotations": a TypedDict would not find its NotRequired then.

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    NotRequired,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from .advice import shown

__all__ = [
    "OPTIONAL_KERNEL_MODEL",
    "APIVersion",
    "ContentsModel",
    "InstalledSpec",
    "KernelModel",
    "KernelSpecModel",
    "KernelSpecs",
    "LocatedKernelSpecModel",
    "LocatedKernelSpecs",
    "ModelError",
    "NewSession",
    "ServerStatus",
    "SessionChanges",
    "SessionKernel",
    "SessionModel",
    "SessionUpdate",
    "Spec",
    "check",
]

_LONGEST_ID = 255  # characters; servers use UUIDs, and the ID becomes a part of URLs
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
}
_KINDS |= {float: "a number", NoneType: "null"}


class KernelModel(TypedDict):
    """A kernel, as a gateway describes it."""

    id: str
    name: str
    last_activity: NotRequired[str | None]
    execution_state: NotRequired[str | None]
    connections: NotRequired[int | None]
    reason: NotRequired[str | None]


OPTIONAL_KERNEL_MODEL = cast("type[KernelModel | None]", KernelModel | None)


class SessionModel(TypedDict):
    """A session of a Jupyter Server: a notebook, or another document, with its kernel."""

    id: str
    path: str
    name: str
    type: str
    kernel: KernelModel


class SessionKernel(TypedDict, total=False):
    """The kernel of a session to be created: a running one by ``id``, a new one by ``name``."""

    id: str
    name: str


class NewSession(TypedDict):
    """A session to be created."""

    path: str
    name: str
    type: str
    kernel: SessionKernel


class SessionChanges(TypedDict, total=False):
    """Changes of a session."""

    path: str
    name: str
    type: str
    kernel: SessionKernel


class SessionUpdate(TypedDict, total=False):
    """Arguments of :meth:`.BlockingGatewaySessionManager.update_session`."""

    path: str
    name: str
    type: str
    kernel_id: str


class Spec(TypedDict, total=False):
    """The contents of a ``kernel.json``."""

    argv: list[str]
    display_name: str
    language: str
    interrupt_mode: str
    env: dict[str, Any]
    metadata: dict[str, Any]


class KernelSpecModel(TypedDict):
    """A kernelspec, as a gateway describes it."""

    spec: Spec
    name: NotRequired[str]
    resources: NotRequired[dict[str, str] | None]


class KernelSpecs(TypedDict):
    """All kernelspecs of a gateway, by name, and the name of its default."""

    kernelspecs: dict[str, KernelSpecModel]
    default: NotRequired[str | None]


class LocatedKernelSpecModel(TypedDict):
    """A kernelspec whose resources have whole URLs."""

    spec: Spec
    name: NotRequired[str]
    resources: dict[str, str]


class LocatedKernelSpecs(TypedDict):
    """All kernelspecs of a gateway, with whole URLs of their resources."""

    kernelspecs: dict[str, LocatedKernelSpecModel]
    default: NotRequired[str | None]


class InstalledSpec(TypedDict):
    """A kernelspec as jupyter_client describes a local one; it has no directory here."""

    resource_dir: str
    spec: Spec


class ServerStatus(TypedDict, total=False):
    """The ``/api/status`` of a Jupyter Server."""

    started: str | None
    last_activity: str | None
    connections: int | None
    kernels: int | None


class ContentsModel(TypedDict):
    """A file or folder of a Jupyter Server."""

    path: str
    type: str
    size: NotRequired[int | None]
    content: NotRequired[object]
    hash: NotRequired[str | None]
    hash_algorithm: NotRequired[str | None]


class APIVersion(TypedDict, total=False):
    """The versions that ``GET /api`` returns."""

    version: str
    gateway_version: str


class ModelError(ValueError):
    """The JSON of a response is not the model that was asked for.

    Attributes
    ----------
    answer : object
        The JSON.
    status : int
        HTTP status of the response.
    """

    def __init__(self, text: str, answer: object, status: int) -> None:
        super().__init__(text)
        self.answer, self.status = answer, status


def check(answer: Any, wanted: Any, status: int = 0) -> None:
    """Raise :exc:`ModelError` if JSON is not of the type that is wanted.

    Parameters
    ----------
    answer : object
        The JSON.
    wanted : type
        A TypedDict, or a type that occurs in one: ``list[...]``, ``dict[str, ...]``, a union,
        ``str``, ``int``.  Any value fits ``object`` and ``Any``.
    status : int
        HTTP status for the error.
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
        found = _KINDS.get(type(value), "another type")
        return f"{where or 'it'} is {found}, not {_KINDS[kind]}"
    return _fault_inside(value, wanted, where)


def _fault_inside(value: Any, wanted: Any, where: str) -> str:
    """Return what is wrong inside a value whose own type is right, or ""."""
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
    """Return the types of a TypedDict's keys, without NotRequired."""
    return get_type_hints(wanted)


def _fault_of_id(value: str, where: str) -> str:
    """Return what is wrong with an ID, which becomes a part of URLs and texts; or ""."""
    if not value:
        return f"{where} is empty"
    if len(value) > _LONGEST_ID:
        return f"{where} has {len(value)} characters"
    return "" if value.isprintable() else f"{where} has a control character"


def _join(where: str, key: str) -> str:
    key = shown(key, 40)
    return f"{where}.{key}" if where else key
