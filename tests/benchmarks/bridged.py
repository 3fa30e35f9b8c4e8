"""jupyter_client with a local kernelspec whose kernel runs behind a gateway."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from local_zmq import LocalZMQ
from peers import CODE, Found, clock, cpu_time, finish, first_reply, run_notebook, status

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

    def connect(self, url: str, kernel_id: str) -> Any:
        self.install(url)
        return super().connect(url, kernel_id)

    def start(self, url: str) -> Found:
        self.install(url)
        return first_reply(self.manager)

    def idle(self, url: str, kernel_id: str, seconds: float) -> Found:
        found: Found = {}
        with self.client(url, kernel_id) as client:
            finish(client, client.execute(CODE))
            before = cpu_time(self._process_id())
            with clock(found):
                finish(client, client.execute(f"import time; time.sleep({seconds})"))
            return {"share": (cpu_time(self._process_id()) - before) / found["seconds"]}

    def resident(self, url: str, kernel_id: str) -> Found:
        """Memory of the process of the bridge."""
        self.round_trips(url, kernel_id, 200)
        return {"bytes": status("VmRSS", self._process_id()) * 1024}

    def _process_id(self) -> int:
        provisioner = self._kernel.provisioner if self._kernel else None
        assert isinstance(provisioner, LocalProvisioner)
        assert provisioner.pid is not None
        return provisioner.pid

    def notebook(self, url: str, cells: int) -> Found:
        self.install(url)
        return run_notebook("jupyter_client.manager.AsyncKernelManager", cells, NAME)

    def install(self, url: str) -> None:
        """Make the kernelspec for this gateway."""
        os.environ["JUPYTER_GATEWAY_URL"] = url
        command = ["-m", "gateway_blocking", "bridge", "--kernel=python3"]
        argv = [sys.executable, *command, "-f", "{connection_file}"]
        install({"argv": argv, "interrupt_mode": "message"})
