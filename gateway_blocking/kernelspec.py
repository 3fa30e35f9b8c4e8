"""The kernelspecs of a gateway, with jupyter_client's API."""

from __future__ import annotations

from typing import cast

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from traitlets import Unicode, default

from .errors import NoSuchKernelSpec
from .models import InstalledSpec, KernelSpecModel, LocatedKernelSpecModel, LocatedKernelSpecs
from .remote import GatewayMixin, unsupported

__all__ = ["BlockingGatewayKernelSpecManager"]

_NOT_HERE = "the kernelspecs are the gateway's, and only its administrator can change them"


class BlockingGatewayKernelSpecManager(GatewayMixin, KernelSpecManager):
    """A :class:`~jupyter_client.kernelspec.KernelSpecManager` of a gateway's kernelspecs.

    The kernelspecs of this machine are not included.  ``allowed_kernelspecs`` restricts the
    gateway's, as it does with local ones.

    >>> specs = BlockingGatewayKernelSpecManager()  # doctest: +SKIP
    >>> specs.get_kernel_spec("python3").display_name  # doctest: +SKIP
    'Python 3 (ipykernel)'

    Every method raises :exc:`.GatewayError` if the gateway does not answer, in addition to the
    errors that it names.

    Parameters
    ----------
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_username = Unicode(
        config=True,
        help="User whose kernelspecs are listed, if the gateway distinguishes users; by default"
        " KERNEL_USERNAME, else the http_user of the gateway's options.",
    )
    resource_base_url = Unicode(
        config=True,
        help="Beginning of the URLs of the kernelspecs' resources, for a server that forwards"
        " requests for them: its base_url.  By default the URLs lead to the gateway.",
    )

    @default("kernel_username")
    def _default_kernel_username(self) -> str:
        return self.gateway.kernel_username

    @property
    def default_kernel_name(self) -> str:
        """Name of the kernelspec that is started without a name; "" for none."""
        return str(self.list_kernel_specs().get("default") or "")

    def list_kernel_specs(self) -> LocatedKernelSpecs:
        """Return the gateway's own list.

        Returns
        -------
        dict
            ``{"default": name, "kernelspecs": {name: {"name", "spec", "resources"}}}``; the
            resources are URLs by name.
        """
        listed = self.rest.list_kernelspecs(self.kernel_username)
        specs = listed.get("kernelspecs") or {}
        allowed = self.allowed_kernelspecs
        specs = {name: specs[name] for name in specs if not allowed or name in allowed}
        located = {name: self._located(specs[name]) for name in specs}
        return cast("LocatedKernelSpecs", {**listed, "kernelspecs": located})

    def find_kernel_specs(self) -> dict[str, str]:
        """Return the names of the kernelspecs, each with "" instead of a local directory."""
        return dict.fromkeys(self.list_kernel_specs()["kernelspecs"], "")

    def get_all_specs(self) -> dict[str, InstalledSpec]:
        """Return all kernelspecs as ``{name: {"resource_dir": "", "spec"}}``."""
        specs = self.list_kernel_specs()["kernelspecs"]
        return {name: {"resource_dir": "", "spec": specs[name]["spec"]} for name in specs}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return a kernelspec.

        Raises
        ------
        NoSuchKernelSpec
            The gateway has no kernelspec of this name.  The error is a ``KeyError`` and
            jupyter_client's ``NoSuchKernel``, too.
        """
        self._check_allowed(kernel_name)
        model = self.rest.get_kernelspec(kernel_name, self.kernel_username)
        return self.kernel_spec_class(resource_dir="", **model["spec"])

    def get_kernel_spec_resource(self, kernel_name: str, path: str) -> bytes | None:
        """Return a file of a kernelspec, such as ``logo-64x64.png``; None if there is none."""
        try:
            self._check_allowed(kernel_name)
            return self.rest.get_kernelspec_resource(kernel_name, path)
        except NoSuchKernelSpec:
            return None

    def close(self) -> None:
        """Close the connections that are kept; later calls open new ones."""
        self._close_rest()

    def _check_allowed(self, kernel_name: str) -> None:
        if self.allowed_kernelspecs and kernel_name not in self.allowed_kernelspecs:
            allowed = ", ".join(sorted(self.allowed_kernelspecs))
            raise NoSuchKernelSpec(
                f"the kernelspec {kernel_name!r} is not among allowed_kernelspecs: {allowed}",
                name=kernel_name,
            )

    def _located(self, model: KernelSpecModel) -> LocatedKernelSpecModel:
        """Return the model with whole URLs of its resources instead of the gateway's paths."""
        base = self.gateway.kernelspecs_resource_url
        if self.resource_base_url:
            endpoint = (self.gateway.kernelspecs_resource_endpoint or "").strip("/")
            base = f"{self.resource_base_url.rstrip('/')}/{endpoint}"
        resources = {
            name: f"{base}/{path.partition('/kernelspecs/')[2]}"
            for name, path in (model.get("resources") or {}).items()
        }
        return cast("LocatedKernelSpecModel", {**model, "resources": resources})

    install_kernel_spec = unsupported("install_kernel_spec", _NOT_HERE)
    install_native_kernel_spec = unsupported("install_native_kernel_spec", _NOT_HERE)
    remove_kernel_spec = unsupported("remove_kernel_spec", _NOT_HERE)
