"""jupyter_client with a local kernelspec whose kernel runs behind a gateway.

jupyter-kernel-provisioner-proxy 0.1.1, which has the same purpose, is not measured here: it needs a
Jupyter Server without a token, and a blocking client got no reply through it.  An asynchronous
client had a round trip of 52 ms.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from local_zmq import LocalZMQ
from peers import Found, first_reply, run_notebook

NAME = "bridged"
_FOLDER = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def install(spec: dict[str, Any]) -> None:
    """Make the kernelspec, where jupyter_client finds it."""
    folder = Path(_FOLDER.name, "kernels", NAME)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"display_name": NAME, "language": "python", **spec}
    (folder / "kernel.json").write_text(json.dumps(whole))
    os.environ["JUPYTER_PATH"] = _FOLDER.name


class Bridge(LocalZMQ):
    """The bridge of this package; its kernel lives as long as the worker."""

    kernel_name = NAME
    cannot: ClassVar[dict[str, str]] = {
        **LocalZMQ.cannot,
        "idle": "its CPU time is that of another process",
    }

    def connect(self, url: str, kernel_id: str) -> Any:
        self.install(url)
        return super().connect(url, kernel_id)

    def start(self, url: str) -> Found:
        self.install(url)
        return first_reply(self.manager)

    def notebook(self, url: str, cells: int) -> Found:
        self.install(url)
        return run_notebook("jupyter_client.manager.AsyncKernelManager", cells, NAME)

    def install(self, url: str) -> None:
        """Make the kernelspec for this gateway."""
        os.environ["JUPYTER_GATEWAY_URL"] = url
        command = ["-m", "gateway_blocking", "bridge", "--kernel=python3"]
        argv = [sys.executable, *command, "-f", "{connection_file}"]
        install({"argv": argv, "interrupt_mode": "message"})
