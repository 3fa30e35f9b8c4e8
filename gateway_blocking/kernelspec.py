"""The kernelspecs of a gateway, with jupyter_client's API."""

from __future__ import annotations

from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from traitlets import Unicode, default

from .errors import NoSuchKernelSpec
from .models import KernelSpecModel
from .remote import GatewayMixin, unsupported

__all__ = ["BlockingGatewayKernelSpecManager"]

_NOT_HERE = "the kernelspecs are the gateway's, and its administrator's to change"


class BlockingGatewayKernelSpecManager(GatewayMixin, KernelSpecManager):
    """A :class:`~jupyter_client.kernelspec.KernelSpecManager` of what a gateway has.

    Kernelspecs of this machine are not among them.  ``allowed_kernelspecs`` restricts them
    further, as it does locally.

    >>> specs = BlockingGatewayKernelSpecManager()  # doctest: +SKIP
    >>> specs.get_kernel_spec("python3").display_name  # doctest: +SKIP
    'Python 3 (ipykernel)'

    Every method raises :exc:`.GatewayError` where the gateway does not answer, besides what it
    says itself.

    Parameters
    ----------
    gateway, **options
        See :class:`.GatewayMixin`.
    """

    kernel_username = Unicode(
        config=True,
        help="Whose kernelspecs are asked for, where a gateway has others for other users."
        " KERNEL_USERNAME by default, else the http_user of the gateway's options.",
    )
    resource_base_url = Unicode(
        config=True,
        help="What the URLs of the kernelspecs' resources begin with, for a server that passes"
        " them on: its base_url. By default they lead to the gateway.",
    )

    @default("kernel_username")
    def _default_kernel_username(self) -> str:
        return self.gateway.kernel_username

    @property
    def default_kernel_name(self) -> str:
        """The kernelspec of a kernel that is started without a name; "" for none."""
        return str(self.list_kernel_specs().get("default") or "")

    def list_kernel_specs(self) -> dict[str, Any]:
        """Return the gateway's own list.

        Returns
        -------
        dict
            ``{"default": name, "kernelspecs": {name: {"name", "spec", "resources"}}}``, the
            resources by name as URLs.
        """
        listed = self.rest.list_kernelspecs(self.kernel_username)
        specs = listed.get("kernelspecs") or {}
        allowed = self.allowed_kernelspecs
        specs = {name: specs[name] for name in specs if not allowed or name in allowed}
        return {**listed, "kernelspecs": {name: self._located(specs[name]) for name in specs}}

    def find_kernel_specs(self) -> dict[str, str]:
        """Return the names of the kernelspecs, each with "", because it has no directory here."""
        return dict.fromkeys(self.list_kernel_specs()["kernelspecs"], "")

    def get_all_specs(self) -> dict[str, Any]:
        """All kernelspecs, as of a local machine: ``{name: {"resource_dir": "", "spec"}}``."""
        specs = self.list_kernel_specs()["kernelspecs"]
        return {name: {"resource_dir": "", "spec": specs[name]["spec"]} for name in specs}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return a kernelspec.

        Raises
        ------
        NoSuchKernelSpec
            There is none of this name; a ``KeyError`` and jupyter_client's ``NoSuchKernel``, too.
        """
        self._check_allowed(kernel_name)
        model = self.rest.get_kernelspec(kernel_name, self.kernel_username)
        return self.kernel_spec_class(resource_dir="", **model["spec"])

    def get_kernel_spec_resource(self, kernel_name: str, path: str) -> bytes | None:
        """Return a file of a kernelspec, such as ``logo-64x64.png``; None if it has none."""
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

    def _located(self, model: KernelSpecModel) -> dict[str, Any]:
        """With the whole URLs of its resources, which a gateway gives as paths of its own."""
        base = self.gateway.kernelspecs_resource_url
        if self.resource_base_url:
            endpoint = (self.gateway.kernelspecs_resource_endpoint or "").strip("/")
            base = f"{self.resource_base_url.rstrip('/')}/{endpoint}"
        resources = {
            name: f"{base}/{path.partition('/kernelspecs/')[2]}"
            for name, path in (model.get("resources") or {}).items()
        }
        return {**model, "resources": resources}

    install_kernel_spec = unsupported("install_kernel_spec", _NOT_HERE)
    install_native_kernel_spec = unsupported("install_native_kernel_spec", _NOT_HERE)
    remove_kernel_spec = unsupported("remove_kernel_spec", _NOT_HERE)
