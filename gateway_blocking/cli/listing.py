"""``jupyter gateway kernels`` and ``kernelspecs``: what the gateway has."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from traitlets import Bool

from ..advice import NO_LISTING
from ..errors import GatewayError, KernelsNotListed
from ..models import KernelModel
from ..rest import GatewayREST
from .command import FLAGS, Command
from .errors import OK, UsageError
from .terminal import say, table, write

__all__ = ["KernelsCommand", "KernelspecsCommand", "Listing"]

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


class Listing(Command):
    """A command that tells something, and takes no arguments."""

    as_json = Bool(help="Write JSON, for other programs.").tag(config=True)

    flags = {**FLAGS, "json": ({"Listing": {"as_json": True}}, as_json.help)}  # noqa: RUF012

    def refuse_arguments(self) -> None:
        """Refuse what cannot be meant."""
        if self.extra_args:
            # They are not shown: one may be a token, as in "--token X Y".
            raise UsageError(f"it takes no arguments, and got {len(self.extra_args)}")

    def write_json(self, what: Any) -> None:
        """Write it to standard output."""
        write(sys.stdout, json.dumps(what, indent=2) + "\n")


class KernelsCommand(Listing):
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
        self.refuse_arguments()
        with self.rest() as rest:
            models = _list(rest)
        if self.as_json:
            self.write_json(models)
        elif models:
            titles = ["id", "name", "state", "idle since", "connections"]
            write(sys.stdout, table(titles, [_row(model) for model in models]) + "\n")
        else:
            say("no kernel is running on this gateway")
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


class KernelspecsCommand(Listing):
    """``jupyter gateway kernelspecs``."""

    name = "jupyter-gateway-kernelspecs"
    description = """
    List the kernelspecs of the gateway: the kinds of kernels that it can start.

    Usage: jupyter gateway kernelspecs [OPTIONS]

    With --json, this is the gateway's own answer: its "default" and all "kernelspecs" by name.

    The exit status says how it went:

        0    they are listed
        2    the command was not understood
        3    the gateway: not configured, not reached, or it refused
    """
    examples = """\
jupyter gateway kernelspecs
jupyter gateway kernelspecs --json
"""

    def run(self) -> int:
        """List the kernelspecs."""
        self.refuse_arguments()
        with self.rest() as rest:
            answer = rest.list_kernelspecs()
        if self.as_json:
            self.write_json(answer)
            return OK
        rows = []
        for name, model in sorted(answer.get("kernelspecs", {}).items()):
            spec, default = model.get("spec", {}), name == answer.get("default")
            shown = spec.get("language", ""), spec.get("display_name", "")
            rows.append([name, *shown, "yes" if default else ""])
        if rows:
            titles = ["name", "language", "display name", "default"]
            write(sys.stdout, table(titles, rows) + "\n")
        else:
            say("this gateway has no kernelspecs: no kernel can be started there")
        return OK
