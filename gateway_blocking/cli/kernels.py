"""``jupyter gateway kernels``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from ..advice import NO_LISTING
from ..errors import GatewayError, KernelsNotListed
from ..models import KernelModel
from ..rest import GatewayREST
from .command import ReportCommand
from .errors import OK
from .started import recorded_names
from .terminal import echo, table, write

__all__ = ["KernelsCommand"]

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


class KernelsCommand(ReportCommand):
    """``jupyter gateway kernels``."""

    name = "jupyter-gateway-kernels"
    description = """
    List the kernels that run on the gateway.

    Usage: jupyter gateway kernels [OPTIONS]

    The given name of a kernel is the one of "jupyter gateway start --name". With --json, it is
    "given_name", and null for the other kernels.

    If the clocks of this machine and of the gateway differ, idle times are off by the difference.

    The exit status:

        0    the kernels are listed, or there are none
        2    the command was not understood
        3    the gateway is not configured, cannot be reached, or does not list its kernels
    """
    examples = """\
jupyter gateway kernels
jupyter gateway kernels --json
"""

    def run(self) -> int:
        """List the kernels."""
        self.reject_arguments()
        with self.rest() as rest:
            models = _list(rest)
            names = recorded_names(str(rest.gateway.url))
        if self.as_json:
            self.write_json([{**model, "given_name": names.get(model["id"])} for model in models])
        elif models:
            write(sys.stdout, _table(models, names) + "\n")
        else:
            echo("no kernel is running on this gateway")
        return OK


def _list(rest: GatewayREST) -> list[KernelModel]:
    """Return all kernels; raise an error that says what to do if the gateway does not list them."""
    try:
        return rest.list_kernels()
    except KernelsNotListed as error:
        raise GatewayError(
            f"{NO_LISTING}; other commands still take the whole id of a kernel"
        ) from error


def _table(models: list[KernelModel], names: dict[str, str]) -> str:
    """Return the kernels as a table, with a column of given names if any kernel has one."""
    titles = ["id", "name", "state", "idle since", "connections"]
    rows = [_row(model) for model in models]
    if any(model["id"] in names for model in models):
        titles.insert(1, "given name")
        for model, row in zip(models, rows, strict=True):
            row.insert(1, names.get(model["id"], ""))
    return table(titles, rows)


def _row(model: KernelModel) -> list[str]:
    """Return the row of a kernel in the table."""
    state = model.get("execution_state") or ""
    idle = _ago(model.get("last_activity") or "") if state == "idle" else ""
    return [model["id"], model["name"], state, idle, str(model.get("connections", ""))]


def _ago(moment: str) -> str:
    """Return how long ago a moment was, or the text itself if it is not a time."""
    try:
        then = datetime.fromisoformat(moment)
        passed = (datetime.now(UTC) - then).total_seconds()
    except (TypeError, ValueError):  # TypeError if it has no time zone
        return moment
    for unit, seconds in _UNITS:
        if count := int(passed // seconds if passed > 0 else 0):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"  # also if the gateway's clock is ahead
