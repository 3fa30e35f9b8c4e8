"""papermill's engine ``gateway``: ``papermill --engine gateway in.ipynb out.ipynb``.

papermill finds it by its entry point.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

from traitlets.config import Config

from .config import GatewayClient
from .signals import SigtermRaises
from .suggest import closest, suggestion

__all__ = ["GatewayEngine"]

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class GatewayEngine:
    """papermill's own engine, with its kernel behind a gateway.

    It calls papermill's engine, and does not derive from it: papermill loads its engines while it
    is imported, and would be incomplete if a program imported this module first.
    """

    @staticmethod
    def nb_kernel_name(nb: Any, name: str | None = None) -> Any:
        """Return the kernelspec to execute the notebook on, by default its own.

        Raises
        ------
        ValueError
            There is no kernelspec, or the notebook names the ID of a kernel.  An ID counts only as
            an argument, so that a notebook cannot choose the kernel that executes it.
        """
        if name == "":  # from a shell variable that is not set
            raise ValueError("cannot execute the notebook: the name of the kernel is empty")
        chosen = _papermills_own().nb_kernel_name(nb, name)
        if not name and _ID.fullmatch(str(chosen)):
            raise ValueError(
                f"cannot execute the notebook: its kernelspec is {chosen!r}, the ID of a kernel and"
                " not a name; pass a kernelspec with -k (kernel_name=), or, to execute it in that"
                " kernel, the ID (-k, or kernel_id=)"
            )
        return chosen

    @staticmethod
    def nb_language(nb: Any, language: str | None = None) -> Any:
        """Return the language to write parameters in, by default the notebook's own."""
        return _papermills_own().nb_language(nb, language)

    @staticmethod
    def execute_notebook(
        nb: Any,
        kernel_name: str,
        *,
        kernel_id: str | None = None,
        config: Config | None = None,
        **kwargs: Any,
    ) -> Any:
        """Execute the notebook, for papermill's function of this name.

        Parameters
        ----------
        nb : NotebookNode
            The notebook, with its parameters.
        kernel_name : str
            Name of the kernelspec on the gateway, or ID of a kernel that runs there: papermill's
            command line has no other option for an ID.
        kernel_id : str, optional
            ID of a kernel to attach to, which is left running.
        config : Config, optional
            A configuration, such as ``c.GatewayClient``.
        **kwargs
            Options of :class:`.GatewayClient` (``url=``, ``auth_token=``, ...); all others are
            arguments of papermill's own engine.

        Returns
        -------
        NotebookNode
            The executed notebook.

        Raises
        ------
        GatewayError
            The kernel could not be started or attached to, or the connection was lost.
        """
        if _ID.fullmatch(kernel_name):
            kernel_id, kernel_name = kernel_id or kernel_name, ""  # nbclient takes the notebook's
        names = GatewayClient.class_traits(config=True)
        _refuse_misspelt(kwargs, (*names, "kernel_id"))
        options = {name: kwargs.pop(name) for name in list(kwargs) if name in names}
        # As configuration, because nbclient makes its manager, and shuts the kernel down, itself.
        given = Config({"GatewayClient": options})
        if kernel_id:
            given.BlockingGatewayKernelManager.kernel_id = kernel_id
        whole = deepcopy(config) if config else Config()  # the caller's object gets no token
        whole.merge(given)
        defaults = {
            "kernel_manager_class": "gateway_blocking.BlockingGatewayKernelManager",
            # A local kernel is started in the current directory of papermill.
            "resources": {"metadata": {"path": str(Path.cwd())}},
        }
        with SigtermRaises():
            return _papermills_own().execute_notebook(
                nb, kernel_name, config=whole, **{**defaults, **kwargs}
            )


def _refuse_misspelt(given: Collection[str], names: Collection[str]) -> None:
    """Raise TypeError for a misspelt option, which nbclient would ignore."""
    for name in given:
        if name not in names and (meant := closest(name, names, cutoff=0.8)):
            hint = suggestion(repr(meant))
            raise TypeError(f"the engine gateway has no option {name!r}{hint}")


def _papermills_own() -> Any:
    from papermill.engines import NBClientEngine

    return NBClientEngine
