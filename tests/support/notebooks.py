"""Notebooks, and the programs that execute them in a terminal's directory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from support.terminal import Terminal

REMOTE = "gateway_blocking.BlockingGatewayKernelManager"
LOCAL = "jupyter_client.manager.AsyncKernelManager"


def notebook(*sources: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


def client_of(nb: nbformat.NotebookNode, manager: str = REMOTE, **kwargs: Any) -> NotebookClient:
    return NotebookClient(nb, kernel_manager_class=manager, **kwargs)


def text_of(cell: nbformat.NotebookNode) -> str:
    return json.dumps(cell.outputs, ensure_ascii=False)


def comparable(node: Any) -> Any:
    """A notebook without what differs each time: times, addresses, processes, widgets' ids."""
    text = json.dumps(node, ensure_ascii=False)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME", text)
    text = re.sub(r"0x[0-9a-f]{8,}", "ADDRESS", text)
    text = re.sub(r"ipykernel_\d+", "PROCESS", text)
    ids = dict.fromkeys(re.findall(r"\b[0-9a-f]{32}\b", text))
    for number, each in enumerate(ids):
        text = text.replace(each, f"ID {number}")
    return json.loads(text)


def start(terminal: Terminal, *args: str, **env: str) -> subprocess.Popen[str]:
    env = {**terminal.env, **env}
    return subprocess.Popen(
        [sys.executable, *args],
        cwd=terminal.directory,
        env={name: text for name, text in env.items() if not name.startswith("PYTEST_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(terminal: Terminal, *args: str, **env: str) -> tuple[int, str]:
    """The exit status, and what was printed."""
    with start(terminal, *args, **env) as process:
        out, _ = process.communicate(timeout=100)
    return process.returncode, out


def write(directory: Path, *sources: str) -> None:
    """in.ipynb; its first cell may be overruled by parameters."""
    nb = notebook(*sources)
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, directory / "in.ipynb")
