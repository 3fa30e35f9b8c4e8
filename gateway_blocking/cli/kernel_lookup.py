"""Lookup of the kernel that an ID on the command line means: a whole ID, or its beginning."""

from __future__ import annotations

from ..advice import shown
from ..errors import GatewayAuthError, NoSuchKernel
from ..models import KernelModel
from ..rest import GatewayREST
from .errors import UsageError
from .started import recorded_kernels

__all__ = ["find_kernel"]

_UUID_LENGTH = 36


def find_kernel(rest: GatewayREST, prefix: str) -> KernelModel:
    """Return the model of the kernel whose ID begins with `prefix`.

    Raises
    ------
    UsageError
        No kernel has such an ID, or several have.
    GatewayError
        The gateway did not answer.
    """
    try:
        models = rest.list_kernels()
    except GatewayAuthError as error:
        if error.status_code != 403:
            raise
        return _find_unlisted(rest, prefix)
    by_id = {model["id"]: model for model in models}
    if kernel_id := _match_prefix(list(by_id), prefix):
        return by_id[kernel_id]
    raise UsageError(
        f"the gateway has no kernel whose id begins with '{shown(prefix)}';"
        " jupyter gateway kernels lists its kernels"
    )


def _find_unlisted(rest: GatewayREST, prefix: str) -> KernelModel:
    """Return a kernel of a gateway that does not list its kernels: it knows whole IDs only."""
    started = _match_prefix(recorded_kernels(str(rest.gateway.url)), prefix)
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
