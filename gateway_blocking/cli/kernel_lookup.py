"""Lookup of the kernel that a word on the command line means.

The word is an ID, the beginning of one, or the name of a kernel that this user started.
"""

from __future__ import annotations

import re

from ..advice import shown
from ..errors import GatewayAuthError, NoSuchKernel
from ..models import KernelModel
from ..rest import GatewayREST
from .errors import UsageError
from .started import check_record, recorded_kernels, recorded_names

__all__ = ["LAST", "check_kernel_label", "find_kernel", "find_labelled"]

LAST = "--last"
"""Word that means the only kernel that this user has started; no ID and no name begins so."""

_UUID_LENGTH = 36
_LABEL = re.compile(r"[^\W_][\w.-]{0,63}")
_PART_OF_ID = re.compile(r"[0-9a-fA-F-]+")


def find_kernel(rest: GatewayREST, prefix: str) -> KernelModel:
    """Return the model of the kernel that has this name, or whose ID begins with `prefix`.

    Raises
    ------
    UsageError
        There is no such kernel, or there are several.
    GatewayError
        The gateway did not answer.
    """
    if prefix == LAST:
        return _find_only(rest)
    if model := find_labelled(rest, prefix):
        return model
    if prefix in recorded_names(_url(rest)).values():
        raise UsageError(
            f"the kernel {shown(prefix)} is gone: it was shut down or culled, or the gateway was"
            f" restarted; jupyter gateway start --name={shown(prefix)} starts another"
        )
    try:
        models = rest.list_kernels()
    except GatewayAuthError as error:
        if error.status_code != 403:
            raise
        return _find_unlisted(rest, prefix)
    by_id = {model["id"]: model for model in models}
    if kernel_id := _match_prefix(list(by_id), prefix):
        return by_id[kernel_id]
    unnamed = "" if _PART_OF_ID.fullmatch(prefix) else ", and you started none with this name"
    raise UsageError(
        f"the gateway has no kernel whose id begins with '{shown(prefix)}'{unnamed};"
        " jupyter gateway kernels lists its kernels"
    )


def find_labelled(rest: GatewayREST, label: str) -> KernelModel | None:
    """Return the kernel that runs and that this user has given a name, or None.

    Raises
    ------
    UsageError
        Several have this name: two commands started them at the same time.
    """
    ids = [kernel_id for kernel_id, name in recorded_names(_url(rest)).items() if name == label]
    models = _running(rest, ids)
    if len(models) > 1:
        raise UsageError(f"several kernels have the name {shown(label)}: {_listed(rest, models)}")
    return models[0] if models else None


def check_kernel_label(label: str) -> None:
    """Raise UsageError if a kernel cannot have this name."""
    if not _LABEL.fullmatch(label):
        raise UsageError(
            "--name must be at most 64 letters, digits, dots, hyphens and underscores, and begin"
            f" with a letter or a digit, got {shown(repr(label))}"
        )
    if _PART_OF_ID.fullmatch(label):
        raise UsageError(
            f"--name must not look like an ID, got {label!r}; add a letter other than a to f"
        )


def _find_only(rest: GatewayREST) -> KernelModel:
    """Return the only kernel that this user has started and that still runs."""
    models = _running(rest, recorded_kernels(_url(rest)))
    if not models:
        check_record()
        raise UsageError(
            "--last: you have started no kernel on this gateway that still runs; jupyter gateway"
            " start starts one"
        )
    if len(models) > 1:
        raise UsageError(
            f"--last: you have started {len(models)} kernels, {_listed(rest, models)}; give the ID"
            " or the name of one"
        )
    return models[0]


def _running(rest: GatewayREST, ids: list[str]) -> list[KernelModel]:
    """Return the models of those kernels that the gateway still has."""
    models = []
    for kernel_id in ids:
        try:
            models.append(rest.get_kernel(kernel_id))
        except NoSuchKernel:
            continue
    return models


def _listed(rest: GatewayREST, models: list[KernelModel]) -> str:
    """Return the IDs and names of kernels as a part of a sentence."""
    names = recorded_names(_url(rest))
    ids = [model["id"] for model in models]
    return ", ".join(
        f"{shown(kernel_id)} ({names[kernel_id]})" if kernel_id in names else shown(kernel_id)
        for kernel_id in ids
    )


def _url(rest: GatewayREST) -> str:
    return str(rest.gateway.url)


def _find_unlisted(rest: GatewayREST, prefix: str) -> KernelModel:
    """Return a kernel of a gateway that does not list its kernels: it knows whole IDs only."""
    started = _match_prefix(recorded_kernels(_url(rest)), prefix)
    try:
        return rest.get_kernel(started or prefix)
    except NoSuchKernel as error:
        text = f"the gateway has no kernel '{shown(started or prefix)}'"
        if len(prefix) < _UUID_LENGTH:
            text += (
                "; because it does not list its kernels, a kernel that was not started here needs"
                " its whole id"
            )
        raise UsageError(text) from error


def _match_prefix(ids: list[str], prefix: str) -> str | None:
    """Return the only ID that begins with `prefix`, or None.

    Raises
    ------
    UsageError
        Several IDs begin so, or `prefix` is empty.
    """
    if not prefix:
        raise UsageError("the id of the kernel is empty")
    found = [kernel_id for kernel_id in ids if kernel_id.startswith(prefix)]
    if len(found) > 1:
        raise UsageError(f"more than one kernel's id begins with {prefix!r}: {', '.join(found)}")
    return found[0] if found else None
