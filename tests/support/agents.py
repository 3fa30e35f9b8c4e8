"""The packages of agents that the documentation shows code for, in an environment of their own."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

# numpy is for kernels: the code of smolagents' tools imports it there.
PACKAGES = ("smolagents==1.26.0", "autogen-core==0.7.5", "numpy")

_PAGE = Path(__file__).parents[2] / "docs" / "howto" / "agents.rst"


def file_of_page(caption: str) -> str:
    """Return the code that the page has under a caption."""
    block = rf"^    :caption: {re.escape(caption)}\n\n((?:    .*\n|\n)+)"
    found = re.search(block, _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, caption
    return textwrap.dedent(found[1])


def environment_of_agents(folder: Path) -> str:
    """Return the Python of a virtual environment with the packages, made if there is none.

    It also has all that is installed here; what the packages need in another version comes first.
    """
    done = folder / f"done-{sys.version_info[0]}.{sys.version_info[1]}"
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / scripts / Path(sys.executable).name
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=120)
        values = {"base": str(folder), "platbase": str(folder)}
        site = Path(sysconfig.get_path("purelib", "venv", values))
        (site / "tests.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        made = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed: {made.stderr[-500:]}")
        done.touch()
    return str(python)
