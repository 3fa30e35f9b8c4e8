"""A notebook that cells are appended to: a record of code that was executed, and its outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UsageError
from .files import check_writable, read_text, replace_file

__all__ = ["NotebookLog"]

_MINOR_OF_IDS = 5  # the first minor version of format 4 in which cells have IDs


class NotebookLog:
    """A notebook file that cells are appended to.

    Each append replaces the whole file, so that it is valid at any time.  It is read again before,
    so that a cell that another program has appended stays.

    Parameters
    ----------
    path : Path
        The file; it is made by the first append if there is none.

    Raises
    ------
    UsageError
        The file is not a notebook of format 4, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Before code is executed, whose outputs would be lost.
        check_writable(path)
        self._read()

    def append(self, cell: dict[str, Any]) -> None:
        """Append a code cell of format 4.5.

        Raises
        ------
        UsageError
            The file cannot be read or written.
        """
        notebook = self._read()
        if notebook["nbformat_minor"] < _MINOR_OF_IDS:
            cell = {name: value for name, value in cell.items() if name != "id"}
        notebook["cells"].append(cell)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        # UTF-8 has no lone surrogates; their escapes are valid in JSON.
        replace_file(self._path, text.encode("utf-8", "backslashreplace"))

    def _read(self) -> dict[str, Any]:
        """Return the notebook in the file, or an empty one."""
        if not self._path.exists():
            empty: list[Any] = []
            return {"cells": empty, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        try:
            notebook = json.loads(read_text(self._path))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"cannot append to {self._path}: it is not JSON ({error})") from error
        if not (
            isinstance(notebook, dict)
            and notebook.get("nbformat") == 4
            and isinstance(notebook.setdefault("nbformat_minor", 0), int)
            and isinstance(notebook.get("cells"), list)
        ):
            raise UsageError(f"cannot append to {self._path}: it is not a notebook of format 4")
        return notebook
