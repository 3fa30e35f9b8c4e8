"""The local kernelspecs of a bridge: made from those of a gateway (no I/O)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..models import KernelSpecModel

__all__ = ["MARK", "is_of_this_package", "kernel_json", "local_name", "local_names"]

MARK = "gateway_blocking"
"""Name in the metadata by which the kernelspecs of this package are known."""


def local_name(kernel_name: str, profile: str, host: str) -> str:
    """Return the name of a local kernelspec, which has small letters, digits and ``-._`` only.

    >>> local_name("Python3", "", "gateway.example.org")
    'gateway.example.org-python3'
    """
    return re.sub(r"[^a-z0-9._-]+", "-", f"{profile or host}-{kernel_name}".lower())


def local_names(kernel_names: Iterable[str], profile: str, host: str) -> dict[str, str]:
    """Return the names of the gateway's kernelspecs by their local names.

    Raises
    ------
    ValueError
        Two of them would have the same local name.
    """
    names: dict[str, str] = {}
    for kernel_name in kernel_names:
        local = local_name(kernel_name, profile, host)
        if names.setdefault(local, kernel_name) != kernel_name:
            raise ValueError(
                f"{names[local]!r} and {kernel_name!r} would have the same name on this machine,"
                f" {local}: give the names of those to install"
            )
    return names


def is_of_this_package(content: bytes) -> bool:
    """Return True if this ``kernel.json`` was made by this package."""
    try:
        spec = json.loads(content)
    except (ValueError, RecursionError):
        return False
    metadata = spec.get("metadata") if isinstance(spec, dict) else None
    return isinstance(metadata, dict) and MARK in metadata


# What VS Code writes about the machine on which it made the kernelspec: it would look for that
# interpreter on this one.
_OF_ANOTHER_MACHINE = ("interpreter", "vscode", "originalSpecFile")


def kernel_json(
    model: KernelSpecModel,
    python: str,
    profile: str,
    host: str,
    maps: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the content of the ``kernel.json`` of a local kernelspec.

    It has no ``kernel_protocol_version``, because from 5.6 on jupyter_client may start the process
    without a connection file.

    Parameters
    ----------
    model : dict
        The kernelspec of the gateway.
    python : str
        Absolute path of the Python that runs the bridge.
    profile : str
        Name of the profile, or "" if the environment names the gateway.
    host : str
        Host name of the gateway, for the display name.
    maps : iterable of str, optional
        The values of the bridge's option ``--map``.
    """
    spec: Mapping[str, Any] = model["spec"]
    name = model["name"]
    metadata = dict(spec.get("metadata") or {})
    for key in ("kernel_provisioner", *_OF_ANOTHER_MACHINE):  # the provisioner is the gateway's
        metadata.pop(key, None)
    metadata["supported_encryption"] = ["curve"]
    metadata[MARK] = {"kernel": name, "profile": profile}
    of_profile = [f"--profile={profile}"] if profile else []
    bridge = ["-m", "gateway_blocking", "bridge", f"--kernel={name}", *of_profile]
    return {
        "argv": [python, *bridge, *(f"--map={each}" for each in maps), "-f", "{connection_file}"],
        "display_name": f"{spec.get('display_name') or name} ({profile or host})",
        "language": spec.get("language", ""),
        "interrupt_mode": "message",
        "metadata": metadata,
    }
