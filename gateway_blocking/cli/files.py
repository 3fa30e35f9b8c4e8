"""Files: notebooks and scripts are read, and notebooks written, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from .command import UsageError

__all__ = ["read_notebook", "read_text", "replace"]


def read_notebook(source: Path) -> Any:
    """The notebook in a file, in the current format."""
    text = read_text(source)
    try:
        import nbclient  # noqa: F401 - its absence is better known now than later
        import nbformat
    except ModuleNotFoundError as error:
        raise UsageError(
            f'a notebook needs {error.name}: pip install "gateway-blocking[notebook]"'
        ) from error
    try:
        nb = nbformat.reads(text, as_version=4)
        nbformat.validate(nb)
    except Exception as error:  # many kinds, by what is wrong with it
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{source} is not a notebook: {reason}") from error
    return nb


def read_text(path: Path) -> str:
    """The text of a file, in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text") from error


def replace(path: Path, text: str) -> None:
    """Write a file so that there is always either the old or the new one, whole."""
    path = path.resolve()  # what a link points to is replaced, not the link
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        new.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        new.unlink(missing_ok=True)
