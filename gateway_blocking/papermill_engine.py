"""papermill's engine ``gateway``: ``papermill --engine gateway in.ipynb out.ipynb``.

papermill finds it by its entry point; nothing else imports this module, which needs papermill.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from papermill.engines import NBClientEngine, NotebookExecutionManager
from traitlets.config import Config

from .config import GatewayClient

__all__ = ["GatewayEngine"]

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class GatewayEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """papermill's own engine, with its kernel behind a gateway."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        kernel_id: str | None = None,
        config: Config | None = None,
        **kwargs: Any,
    ) -> Any:
        """Execute the notebook; papermill calls this from ``execute_notebook()``.

        Parameters
        ----------
        nb_man : NotebookExecutionManager
            papermill's, with the notebook.
        kernel_name : str
            The kernelspec as the gateway names it, or the id of a kernel that runs there: the
            command line has no other way to give one.
        kernel_id : str, optional
            A kernel to attach to, which is left running.
        config : Config, optional
            A configuration, such as ``c.GatewayClient``.
        **kwargs
            Options of :class:`.GatewayClient` (``url=``, ``auth_token=``, ...); anything else
            means what it means to papermill's own engine.

        Raises
        ------
        GatewayError
            The kernel could not be started or attached to, or the connection was lost.
        """
        if _ID.fullmatch(kernel_name):
            kernel_id, kernel_name = kernel_id or kernel_name, ""  # nbclient takes the notebook's
        names = GatewayClient.class_traits(config=True)
        options = {name: kwargs.pop(name) for name in list(kwargs) if name in names}
        # As configuration: nbclient makes its manager itself, and so shuts the kernel down itself.
        given = Config({"GatewayClient": options})
        if kernel_id:
            given.BlockingGatewayKernelManager.kernel_id = kernel_id
        whole = Config(config or {})
        whole.merge(given)
        defaults = {
            "kernel_manager_class": "gateway_blocking.BlockingGatewayKernelManager",
            # A local kernel is started in the directory into which papermill went.
            "resources": {"metadata": {"path": str(Path.cwd())}},
        }
        return super().execute_managed_notebook(
            nb_man, kernel_name, config=whole, **{**defaults, **kwargs}
        )
