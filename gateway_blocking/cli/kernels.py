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
from .terminal import echo, table, write

__all__ = ["KernelsCommand"]

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


class KernelsCommand(ReportCommand):
    """``jupyter gateway kernels``."""

    name = "jupyter-gateway-kernels"
    description = """
    List the kernels that run on the gateway.

    Usage: jupyter gateway kernels [OPTIONS]

    The exit status says how it went:

        0    they are listed, also when there are none
        2    the command was not understood
        3    the gateway: not configured, not reached, or it does not let kernels be listed
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
        if self.as_json:
            self.write_json(models)
        elif models:
            titles = ["id", "name", "state", "idle since", "connections"]
            write(sys.stdout, table(titles, [_row(model) for model in models]) + "\n")
        else:
            echo("no kernel is running on this gateway")
        return OK


def _list(rest: GatewayREST) -> list[KernelModel]:
    try:
        return rest.list_kernels()
    except KernelsNotListed as error:
        raise GatewayError(
            f"{NO_LISTING}; each kernel can still be reached by its whole id"
        ) from error


def _row(model: KernelModel) -> list[str]:
    state = model.get("execution_state") or ""
    idle = _ago(model.get("last_activity") or "") if state == "idle" else ""
    return [model["id"], model["name"], state, idle, str(model.get("connections", ""))]


def _ago(moment: str) -> str:
    """How long ago that was, or the text itself where it is no time as we know it."""
    try:
        then = datetime.fromisoformat(moment)
        passed = (datetime.now(UTC) - then).total_seconds()
    except (TypeError, ValueError):  # the first where it has no time zone
        return moment
    for unit, seconds in _UNITS:
        if count := int(passed // seconds if passed > 0 else 0):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"  # also where the clocks disagree
