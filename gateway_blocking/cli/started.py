"""The record of kernels that this user started and left running.

Each kernel has a file of its own, so that several commands may start and stop kernels at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from jupyter_core.paths import jupyter_runtime_dir
from jupyter_core.utils import ensure_dir_exists

from ..traits import safe_url
from .errors import UsageError
from .terminal import echo

__all__ = [
    "check_record",
    "forget_kernel",
    "record_kernel",
    "recorded_kernels",
    "recorded_names",
]

_CHOOSE = "set JUPYTER_RUNTIME_DIR to a folder that you can write to"


def record_kernel(url: str, kernel_id: str, name: str = "") -> None:
    """Record that this kernel of the gateway at `url` was started here, with this name if any.

    If the record cannot be written, a message says so; the kernel runs nevertheless.
    """
    path = _file(url, kernel_id)
    new = path.with_suffix(f".{os.getpid()}")
    try:
        _make_directory()
        new.write_text(
            json.dumps({"url": _key(url), "id": kernel_id, "name": name}), encoding="utf-8"
        )
        new.replace(path)
    except OSError as error:
        echo(
            f"cannot record in {path.parent} that you started kernel {kernel_id}: {error.strerror};"
            f" stop --all-mine will not stop it; {_CHOOSE}"
        )


def forget_kernel(url: str, kernel_id: str) -> None:
    """Delete the record of a kernel, if there is one."""
    try:
        _file(url, kernel_id).unlink()
    except OSError:
        pass  # either there is none, or it stays, and the kernel is found to be gone each time


def recorded_kernels(url: str) -> list[str]:
    """Return the IDs of the kernels started here on the gateway at `url`, the oldest first."""
    return [kernel_id for kernel_id, _ in _records(url)]


def recorded_names(url: str) -> dict[str, str]:
    """Return the names of the kernels started here with a name, by their IDs."""
    return {kernel_id: name for kernel_id, name in _records(url) if name}


def _records(url: str) -> list[tuple[str, str]]:
    """Return ID and name of each kernel started here on the gateway at `url`, the oldest first."""
    found = []
    for path in _directory().glob("*.json"):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["url"] == _key(url):
                name = str(record.get("name", ""))
                found.append((path.stat().st_mtime, str(record["id"]), name))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it was deleted meanwhile, or is damaged
    return [(kernel_id, name) for _, kernel_id, name in sorted(found)]


def check_record() -> None:
    """Raise UsageError if the record may be incomplete because it cannot be written."""
    try:
        directory = _make_directory()
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot know which kernels you started: their record in {_directory()} cannot be"
            f" written: {error.strerror}; jupyter gateway kernels lists all kernels; {_CHOOSE}"
        ) from error


def _make_directory() -> Path:
    ensure_dir_exists(jupyter_runtime_dir(), 0o700)
    directory = _directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _directory() -> Path:
    return Path(jupyter_runtime_dir(), "gateway-kernels")


def _file(url: str, kernel_id: str) -> Path:
    # A digest, because the gateway chooses the ID, and must not choose a path on this machine.
    digest = hashlib.sha256(f"{_key(url)} {kernel_id}".encode()).hexdigest()
    return _directory() / f"{digest[:32]}.json"


def _key(url: str) -> str:
    return safe_url(url).rstrip("/")
