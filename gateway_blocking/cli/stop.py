"""``jupyter gateway stop``."""

from __future__ import annotations

from traitlets import Bool

from ..errors import GatewayError, GatewayHTTPError, NoSuchKernel
from ..rest import GatewayREST
from .command import FLAGS, LAST_HELP, Command
from .errors import OK, UsageError
from .kernel_lookup import LAST, find_kernel
from .started import check_record, forget_kernel, recorded_kernels
from .terminal import echo

__all__ = ["StopCommand"]


class StopCommand(Command):
    """``jupyter gateway stop``."""

    name = "jupyter-gateway-stop"
    description = """
    Stop kernels.

    Usage: jupyter gateway stop [OPTIONS] ID...
           jupyter gateway stop [OPTIONS] --last
           jupyter gateway stop [OPTIONS] --all-mine

    An ID may be the beginning of a kernel's ID, if no other ID begins so, or its name. If one
    kernel cannot be stopped, the others still are.

    The exit status:

        0    the kernels were stopped; with --all-mine, some may have been gone before
        2    the command was not understood, or an ID matches no kernel, or several; or, with
             --all-mine, the record of your kernels cannot be read
        3    the gateway is not configured, cannot be reached, or did not stop a kernel
    """
    examples = """\
jupyter gateway stop 1f3a
jupyter gateway stop --all-mine
"""

    all_mine = Bool(
        help='Stop the kernels that you started with "start" or "run --keep" from this machine.'
    ).tag(config=True)

    last = Bool(help=LAST_HELP).tag(config=True)

    flags = {  # noqa: RUF012 - as in every traitlets application
        **FLAGS,
        "last": ({"StopCommand": {"last": True}}, LAST_HELP),
        "all-mine": ({"StopCommand": {"all_mine": True}}, all_mine.help),
    }

    def run(self) -> int:
        """Stop the kernels."""
        chosen = ["--last"] * self.last + ["--all-mine"] * self.all_mine
        chosen += ["kernels"] * bool(self.extra_args)
        if len(chosen) > 1:
            raise UsageError(f"give either {' or '.join(chosen)}, not both")
        if not chosen:
            raise UsageError("give the IDs of kernels, --last or --all-mine; see --help")
        self._status = OK
        with self.rest() as rest:
            given = (
                self._recorded(rest) if self.all_mine else [LAST] if self.last else self.extra_args
            )
            # All kernels are found before any is stopped: a prefix that matched two kernels must
            # not match the one that is left.
            found = [self._find(rest, text) for text in given]
            for kernel_id in dict.fromkeys(filter(None, found)):
                self._stop(rest, kernel_id)
        return self._status

    def _recorded(self, rest: GatewayREST) -> list[str]:
        """Return the IDs of all kernels that this user started on the gateway."""
        if not (ids := recorded_kernels(str(rest.gateway.url))):
            check_record()
            echo("you have no kernels on this gateway")
        return ids

    def _find(self, rest: GatewayREST, text: str) -> str | None:
        """Return the kernel's ID; report the error and return None if it is not found."""
        try:
            return (rest.get_kernel(text) if self.all_mine else find_kernel(rest, text))["id"]
        except (GatewayHTTPError, UsageError) as error:
            self._handle_failure(rest, text, error)
            return None

    def _stop(self, rest: GatewayREST, kernel_id: str) -> None:
        try:
            rest.delete_kernel(kernel_id)
        except GatewayError as error:
            self._handle_failure(rest, kernel_id, error)
        else:
            forget_kernel(str(rest.gateway.url), kernel_id)
            echo(f"kernel {kernel_id} was stopped")

    def _handle_failure(self, rest: GatewayREST, kernel_id: str, error: Exception) -> None:
        if isinstance(error, NoSuchKernel) and self.all_mine:
            forget_kernel(str(rest.gateway.url), kernel_id)
            echo(f"kernel {kernel_id} was gone already")
        else:
            self._status = max(self._status, self.report_error(error))
