"""``jupyter gateway profile``."""

from __future__ import annotations

import os
import sys
from typing import Any

from traitlets import TraitError, TraitType, import_item

from ..config import GatewayClient
from ..rest import GatewayREST
from ..traits import File, safe_url
from .command import ReportCommand
from .errors import OK, UsageError
from .profiles import profile_names, profile_path, read_profile, write_profile
from .terminal import echo, table, write

__all__ = ["ProfileCommand"]


class ProfileCommand(ReportCommand):
    """``jupyter gateway profile``."""

    name = "jupyter-gateway-profile"
    description = """
    Keep the options of a gateway in a file, for front ends that have no environment variables.

    Usage: jupyter gateway profile add NAME [OPTIONS]
           jupyter gateway profile list
           jupyter gateway profile remove NAME
           jupyter gateway profile test NAME

    "add" writes the options of this command line, of jupyter_gateway_config.py and of the
    environment variables into a file that only this user can read. Each command takes
    --profile=NAME.

    The exit status:

        0    it was done
        2    the command was not understood, there is no such profile, or its file cannot be used
        3    "test": the gateway cannot be reached, or refused
    """
    examples = """\
jupyter gateway profile add work --url=https://gateway.example.org --token=...
jupyter gateway profile test work
jupyter gateway install --all --profile=work
"""

    def run(self) -> int:
        """Do what the first argument says."""
        actions = {"add": 2, "list": 1, "remove": 2, "test": 2}
        action = self.extra_args[0] if self.extra_args else ""
        if len(self.extra_args) != actions.get(action):
            raise UsageError("give add NAME, list, remove NAME, or test NAME; see --help")
        if action == "list":
            self._list()
        elif action == "add":
            self._add(self.extra_args[1])
        elif action == "remove":
            self._remove(self.extra_args[1])
        else:
            self._test(self.extra_args[1])
        return OK

    def _list(self) -> None:
        profiles = {name: _url(name) for name in profile_names()}
        if self.as_json:
            self.write_json(profiles)
        elif profiles:
            rows = [[name, url] for name, url in profiles.items()]
            write(sys.stdout, table(["profile", "url"], rows) + "\n")
        else:
            echo("there are no profiles; jupyter gateway profile add makes one")

    def _add(self, name: str) -> None:
        gateway = GatewayClient(config=self.config)
        if not gateway.gateway_enabled:
            raise UsageError("no gateway is configured (JUPYTER_GATEWAY_URL, --url)")
        options: dict[str, Any] = {}
        for option, trait in gateway.traits(config=True).items():
            value = getattr(gateway, option)
            if value != trait.default() and (kept := _as_json(trait, value)) is not None:
                options[option] = kept
        path = write_profile(name, options)
        echo(f"wrote {path}")

    def _remove(self, name: str) -> None:
        path = profile_path(name)
        try:
            path.unlink()
        except OSError as error:
            raise UsageError(f"cannot remove {path}: {error.strerror}") from error

    def _test(self, name: str) -> None:
        with GatewayREST(GatewayClient(**read_profile(name))) as rest:
            names = sorted(rest.list_kernelspecs()["kernelspecs"])
        echo(f"the gateway of {name!r} responds; its kernelspecs: {', '.join(names)}")


def _as_json(trait: TraitType[Any, Any], value: Any) -> Any:
    """Return the value of an option as a profile has it; None if it cannot be in a file."""
    if isinstance(trait, File):  # a front end has another working directory
        return os.path.abspath(value)  # noqa: PTH100  # links stay
    if isinstance(value, type):
        name = f"{value.__module__}.{value.__qualname__}"
        try:
            return name if import_item(name) is value else None
        except ImportError:  # it is defined in a configuration file, which is read all the same
            return None
    return value if isinstance(value, str | int | float | list | dict) else None


def _url(name: str) -> str:
    """Return the URL of a profile for a table, or what is wrong with the profile."""
    try:
        return safe_url(str(GatewayClient(**read_profile(name)).url or ""))
    except (UsageError, TraitError) as error:
        return str(error)
