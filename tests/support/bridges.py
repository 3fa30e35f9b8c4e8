"""Kernelspecs of the bridge, for front ends that know nothing of this package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_blocking.local import LocalGateway

SPEC = "work-python3"
"""The name of the kernelspec that `bridge_kernelspec` installs."""

DISPLAY_NAME = "Python 3 (ipykernel) (work)"
"""How front ends show it."""


@contextmanager
def front_end(
    code: str, *, says: str, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that executes the code of a front end, and has written this line."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{says}\n"
        yield process


@contextmanager
def bridge_kernelspec(
    gateway: LocalGateway, folder: Path, *options: str, url: str = ""
) -> Iterator[Path]:
    """Install the gateway's Python below this folder, and let this process find it.

    A profile has the gateway's URL and token, so that no front end needs them in its environment;
    `url` is another way to the gateway.  What is yielded is the folder of the kernelspec.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(folder / name.lower()))
        patch.setenv("JUPYTER_PATH", str(folder / "prefix" / "share" / "jupyter"))
        login = {
            "JUPYTER_GATEWAY_URL": url or gateway.url,
            "JUPYTER_GATEWAY_AUTH_TOKEN": gateway.token,
        }
        _run("profile", "add", "work", **login)
        prefix = f"--prefix={folder / 'prefix'}"
        _run("install", "--profile=work", prefix, *options, "python3")
        yield folder / "prefix" / "share" / "jupyter" / "kernels" / SPEC


def _run(*args: str, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway_blocking", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
