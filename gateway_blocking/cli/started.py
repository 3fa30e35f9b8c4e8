"""Which kernels this user started and left running: a small file for each.

A file for each kernel, because two commands may start or stop kernels at the same moment.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import ensure_dir_exists

from ..traits import safe_url
from .terminal import echo

__all__ = ["forget_kernel", "recorded_kernels", "record_kernel"]


def record_kernel(url: str, kernel_id: str) -> None:
    """Note that this kernel of the gateway at `url` was started here.

    Where that cannot be written, it is said: the kernel runs nevertheless.
    """
    path = _file(url, kernel_id)
    new = path.with_suffix(f".{os.getpid()}")
    try:
        ensure_dir_exists(jupyter_runtime_dir(), 0o700)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new.write_text(json.dumps({"url": _key(url), "id": kernel_id}), encoding="utf-8")
        new.replace(path)
    except OSError as error:
        echo(f"cannot note in {path.parent} that kernel {kernel_id} is yours: {error.strerror}")


def forget_kernel(url: str, kernel_id: str) -> None:
    """Take the note back, if there is one."""
    try:
        _file(url, kernel_id).unlink()
    except OSError:
        pass  # never noted, or for ever: then it is found to be gone each time


def recorded_kernels(url: str) -> list[str]:
    """Return the IDs of the kernels started here on the gateway at `url`, the oldest first."""
    found = []
    for path in _directory().glob("*.json"):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            if note["url"] == _key(url):
                found.append((path.stat().st_mtime, str(note["id"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just forgotten, or damaged
    return [kernel_id for _, kernel_id in sorted(found)]


def _directory() -> Path:
    return Path(jupyter_runtime_dir(), "gateway-kernels")


def _file(url: str, kernel_id: str) -> Path:
    # The gateway makes up the id: it is not to choose a path on this machine.
    digest = hashlib.sha256(f"{_key(url)} {kernel_id}".encode()).hexdigest()
    return _directory() / f"{digest[:32]}.json"


def _key(url: str) -> str:
    return safe_url(url).rstrip("/")
