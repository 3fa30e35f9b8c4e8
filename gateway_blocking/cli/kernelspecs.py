"""``jupyter gateway kernelspecs``."""

from __future__ import annotations

import sys

from .command import ReportCommand
from .errors import OK
from .terminal import echo, table, write

__all__ = ["KernelspecsCommand"]


class KernelspecsCommand(ReportCommand):
    """``jupyter gateway kernelspecs``."""

    name = "jupyter-gateway-kernelspecs"
    description = """
    List the kernelspecs of the gateway: the kinds of kernels that it can start.

    Usage: jupyter gateway kernelspecs [OPTIONS]

    With --json, the response of the gateway is written as it is: its "default", and all
    "kernelspecs" by name.

    The exit status:

        0    the kernelspecs are listed
        2    the command was not understood
        3    the gateway is not configured, cannot be reached, or refused
    """
    examples = """\
jupyter gateway kernelspecs
jupyter gateway kernelspecs --json
"""

    def run(self) -> int:
        """List the kernelspecs."""
        self.reject_arguments()
        with self.rest() as rest:
            response = rest.list_kernelspecs()
        if self.as_json:
            self.write_json(response)
            return OK
        rows = []
        for name, model in sorted(response.get("kernelspecs", {}).items()):
            spec, default = model.get("spec", {}), name == response.get("default")
            shown = spec.get("language", ""), spec.get("display_name", "")
            rows.append([name, *shown, "yes" if default else ""])
        if rows:
            titles = ["name", "language", "display name", "default"]
            write(sys.stdout, table(titles, rows) + "\n")
        else:
            echo("the gateway has no kernelspecs: it cannot start a kernel")
        return OK
