"""``jupyter gateway install`` and ``uninstall``: local kernelspecs for the kernels of a gateway."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from jupyter_client.kernelspec import KernelSpecManager
from traitlets import Bool, List, Unicode

from ..bridge.kernelspecs import (
    MARK,
    is_of_this_package,
    kernel_json,
    local_name,
    local_names,
)
from ..errors import GatewayError
from ..escape import printable
from ..models import KernelSpecModel
from ..rest import GatewayREST
from .command import ReportCommand
from .directory_maps import MAP_HELP, directory_maps
from .errors import OK, UsageError
from .terminal import echo, write

__all__ = ["InstallCommand", "UninstallCommand"]


class InstallCommand(ReportCommand):
    """``jupyter gateway install``."""

    name = "jupyter-gateway-install"
    description = """
    Install a kernelspec on this machine for each kernelspec of the gateway, so that JupyterLab,
    VS Code, jupyter console and other front ends use the remote kernels.

    Usage: jupyter gateway install [OPTIONS] [NAME...]

    Without NAME, give --all, which leaves out kernelspecs that this command has made on the
    gateway's machine. Without --profile, the front end's own environment variables name
    the gateway, which most graphical front ends do not have: see "jupyter gateway profile".

    The exit status:

        0    the kernelspecs are installed
        2    the command was not understood, or a kernelspec cannot be written
        3    the gateway cannot be reached, refused, or has no such kernelspec
    """
    examples = """\
jupyter gateway install --all --profile=work
jupyter gateway install --sys-prefix python3
"""

    everything = Bool(help="Install all kernelspecs of the gateway.").tag(config=True)
    user = Bool(help="Install for this user. This is the default.").tag(config=True)
    sys_prefix = Bool(help="Install into the environment of this Python.").tag(config=True)
    prefix = Unicode(help="Install into the environment of this folder.").tag(config=True)
    map_directory = List(Unicode(), help=MAP_HELP).tag(config=True)

    aliases = {  # noqa: RUF012
        **ReportCommand.aliases,
        "prefix": "InstallCommand.prefix",
        "map": "InstallCommand.map_directory",
    }
    flags = {  # noqa: RUF012
        **ReportCommand.flags,
        "all": ({"InstallCommand": {"everything": True}}, everything.help),
        "user": ({"InstallCommand": {"user": True}}, user.help),
        "sys-prefix": ({"InstallCommand": {"sys_prefix": True}}, sys_prefix.help),
    }

    def run(self) -> int:
        """Install the kernelspecs."""
        if bool(self.extra_args) == self.everything:
            raise UsageError("give the names of kernelspecs, or --all; see --help")
        if self.user + self.sys_prefix + bool(self.prefix) > 1:
            raise UsageError("give one of --user, --sys-prefix and --prefix")
        maps = [str(each) for each in directory_maps(self.map_directory)]
        with self.rest() as rest:
            if self.everything:
                models = _without_ours(rest.list_kernelspecs()["kernelspecs"])
            else:
                models = [rest.get_kernelspec(name) for name in self.extra_args]
            host = urlsplit(str(rest.gateway.url)).hostname or "gateway"
            self._check_names([model["name"] for model in models], host)
            installed, errors = {}, []
            for model in models:
                try:
                    installed[model["name"]] = self._install(rest, model, host, maps)
                except OSError as error:
                    errors.append(f"cannot install {model['name']}: {error}")
        if self.as_json:
            self.write_json(installed)
        else:
            for name, place in installed.items():
                echo(f"installed {name} in {place}")
            if installed and not self.profile:
                echo(
                    "the front end's environment must name the gateway (JUPYTER_GATEWAY_URL); with"
                    " --profile it need not"
                )
        if errors:
            raise UsageError("\n".join(errors))
        return OK

    def _check_names(self, kernel_names: list[str], host: str) -> None:
        """Raise UsageError if a kernelspec would replace one that this command did not make."""
        try:
            names = local_names(kernel_names, self.profile, host)
        except ValueError as error:
            raise UsageError(str(error)) from None
        for name in names:
            self._check_place(name)

    def _check_place(self, name: str) -> None:
        """Raise UsageError if another kernelspec has the place of this one."""
        if prefix := self._prefix():
            place = Path(prefix, "share", "jupyter", "kernels", name)
        else:
            place = Path(KernelSpecManager().user_kernel_dir, name)
        try:
            is_free = is_of_this_package((place / "kernel.json").read_bytes())
        except FileNotFoundError:
            is_free = not place.exists()
        except OSError as error:
            raise UsageError(f"cannot read {place}: {error}") from error
        if not is_free:
            raise UsageError(
                f"{place} is another kernelspec, which jupyter gateway install did not make: remove"
                " it, or give another --profile"
            )

    def _prefix(self) -> str | None:
        """Return the folder of the environment to install into; None for the user's own."""
        return sys.prefix if self.sys_prefix else self.prefix or None

    def _install(
        self, rest: GatewayREST, model: KernelSpecModel, host: str, maps: list[str]
    ) -> str:
        """Install one kernelspec, and return its folder."""
        content = kernel_json(model, sys.executable, self.profile, host, maps)
        prefix = self._prefix()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "kernel.json").write_text(json.dumps(content, indent=1), "utf-8")
            for name in model.get("resources") or {}:
                if name.startswith("logo-"):
                    self._copy(rest, model["name"], name, Path(folder))
            Path(folder).chmod(0o755)  # not private, as a temporary folder is
            return str(
                KernelSpecManager().install_kernel_spec(
                    folder,
                    local_name(model["name"], self.profile, host),
                    user=prefix is None,
                    prefix=prefix,
                )
            )

    def _copy(self, rest: GatewayREST, kernel_name: str, name: str, folder: Path) -> None:
        """Copy a logo; a front end can do without it."""
        # The gateway chooses the key, and must not choose a path on this machine.
        file = Path(name).name + ("" if "." in name else ".png")
        try:
            data = rest.get_kernelspec_resource(kernel_name, file)
        except GatewayError as error:
            self.log.info("no %s of %s: %s", file, kernel_name, str(error))
        else:
            (folder / file).write_bytes(data)


def _without_ours(models: dict[str, KernelSpecModel]) -> list[KernelSpecModel]:
    """Return all kernelspecs except those that this command has made, for instance for this user.

    A gateway on this machine lists them, too.  Each kernel would have a bridge to another bridge.
    """
    ours = [name for name, model in models.items() if MARK in (model["spec"].get("metadata") or {})]
    if ours:
        echo(f"left out {', '.join(map(printable, ours))}, which jupyter gateway install has made")
    return [model for name, model in models.items() if name not in ours]


class UninstallCommand(ReportCommand):
    """``jupyter gateway uninstall``."""

    name = "jupyter-gateway-uninstall"
    description = """
    Remove kernelspecs of this machine that "jupyter gateway install" has made, and no others.

    Usage: jupyter gateway uninstall [OPTIONS] [NAME...]

    NAME is the name on this machine, as "jupyter kernelspec list" shows it. Without NAME, give
    --all.

    The exit status:

        0    the kernelspecs are removed
        2    the command was not understood, or a kernelspec is not one of these
    """
    examples = """\
jupyter gateway uninstall --all
jupyter gateway uninstall work-python3
"""

    everything = Bool(help="Remove all kernelspecs of this kind.").tag(config=True)

    flags = {  # noqa: RUF012
        **ReportCommand.flags,
        "all": ({"UninstallCommand": {"everything": True}}, everything.help),
    }

    def run(self) -> int:
        """Remove the kernelspecs."""
        if bool(self.extra_args) == self.everything:
            raise UsageError("give the names of kernelspecs, or --all; see --help")
        specs = KernelSpecManager(ensure_native_kernel=False)
        ours = {
            name: model["resource_dir"]
            for name, model in specs.get_all_specs().items()
            if MARK in (model["spec"].get("metadata") or {})
        }
        wanted = list(ours) if self.everything else self.extra_args
        for name in wanted:
            if name not in ours:
                raise UsageError(f"{name!r} is not a kernelspec that jupyter gateway install made")
        removed, errors = [], []
        for name in wanted:
            try:
                specs.remove_kernel_spec(name)
            except OSError as error:
                errors.append(f"cannot remove {ours[name]}: {error}")
            except KeyError:  # another process has just removed it
                pass
            else:
                removed.append(name)
        if self.as_json:
            self.write_json({name: os.fspath(ours[name]) for name in removed})
        elif not wanted:
            echo("there is no kernelspec that jupyter gateway install made")
        else:
            write(sys.stdout, "".join(f"removed {name}\n" for name in removed))
        if errors:
            raise UsageError("\n".join(errors))
        return OK
