"""Notebook files: they are read, repaired if they could not be executed otherwise, and written."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ..advice import shown
from ..imports import without_iri_checks
from .errors import UsageError
from .files import read_text, replace_file

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["read_notebook", "repair", "silence_nbformat", "write_notebook"]

_V4 = 4
_MINOR_OF_IDS = 5  # the first minor version in which cells have IDs
_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_ERROR_LENGTH = 120  # characters; errors of nbformat contain the whole cell
_ONLY_IN_CODE = ("outputs", "execution_count")


def read_notebook(source: Path) -> tuple[NotebookNode, list[str]]:
    """Return the notebook in a file, converted to format 4, and a list of its repairs.

    Raises
    ------
    UsageError
        The file cannot be read, or is not a notebook that could be executed.
    """
    text = read_text(source)
    try:
        with without_iri_checks():
            import nbclient  # noqa: F401 - its absence is reported before a kernel is started
            import nbformat
    except ModuleNotFoundError as error:
        raise UsageError(
            f'a notebook needs {error.name}: pip install "gateway-blocking[notebook]"'
        ) from error
    try:
        content = _parse(text)
        if content["nbformat"] != _V4:
            content = nbformat.convert(nbformat.reader.reads(json.dumps(content)), _V4)
        repaired = repair(content)
        nb = nbformat.v4.to_notebook_json(content)
        repaired += _validation_errors(nb)
    except Exception as error:  # nbformat raises many kinds
        raise UsageError(f"{source} is not a notebook: {_brief(error)}") from error
    return nb, repaired


def write_notebook(nb: NotebookNode, destination: Path, *, source: Path) -> None:
    """Write a notebook, even if it is not valid; see :func:`.replace_file`."""
    import nbformat

    text = nbformat.v4.writes_json(nb)  # nbformat.writes() warns of an invalid notebook
    text = text if text.endswith("\n") else text + "\n"
    # UTF-8 has no lone surrogates; the escapes of Python for them are valid in JSON, too.
    replace_file(destination, text.encode("utf-8", "backslashreplace"), source=source)


def silence_nbformat(log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
    """Keep nbformat's warnings out of a log: this module reports the same in one line."""
    logger = log.logger if isinstance(log, logging.LoggerAdapter) else log
    logger.addFilter(_is_not_of_nbformat)


def _is_not_of_nbformat(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Notebook JSON is ")


def _parse(text: str) -> dict[str, object]:
    """Return the JSON object of a notebook."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise TypeError(f"it is JSON, but not an object: {text[:40]!r}")
    content.setdefault("nbformat", 3 if "worksheets" in content else _V4)
    return content


def _brief(error: Exception) -> str:
    """Return the first line of an error that a user can understand."""
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    text = str(error).partition("\n")[0]
    return text if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: {text}"


def _validation_errors(nb: NotebookNode) -> list[str]:
    """Return nbformat's error for a notebook that is invalid after the repair."""
    import nbformat

    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        return [f"not repaired: {shown(_brief(error), _MAX_ERROR_LENGTH)}"]
    return []


# --- repair ---------------------------------------------------------------------------------------


def repair(nb: dict[str, object]) -> list[str]:
    """Repair a notebook of format 4 in place, so that it can be executed and written.

    A repair never changes code: a cell whose source is not text is an error.

    Parameters
    ----------
    nb : dict
        JSON object of the notebook.

    Returns
    -------
    list of str
        Description of each repair.

    Raises
    ------
    ValueError
        The notebook has no list of cells, or a cell cannot be repaired.
    """
    cells = nb.get("cells")
    if not isinstance(cells, list):
        raise ValueError("it has no list of cells")
    repaired: list[str] = []
    metadata = nb.get("metadata")
    if not isinstance(metadata, dict):
        metadata = nb["metadata"] = {}
        repaired.append("metadata missing")
    _repair_metadata(metadata, repaired)
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict):
            raise ValueError(f"cell {number} is not an object")
        repaired += [f"cell {number}: {what}" for what in _repair_cell(cell, number)]
    _repair_ids(nb, cells, repaired)
    return repaired


def _repair_metadata(metadata: dict[str, object], repaired: list[str]) -> None:
    """Remove a kernelspec or a language that has no name."""
    for name in ("kernelspec", "language_info"):
        value = metadata.get(name, {"name": ""})
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            del metadata[name]
            repaired.append(f"{name} without a name")
    if isinstance(spec := metadata.get("kernelspec"), dict):
        spec.setdefault("display_name", spec["name"])


def _repair_cell(cell: dict[str, object], number: int) -> list[str]:
    """Repair one cell; return a description of each repair."""
    wrong = []
    kind = cell.get("cell_type")
    if not isinstance(kind, str):
        raise ValueError(f"cell {number} has no cell_type")
    if not _is_text(cell.setdefault("source", "")):
        raise ValueError(f"the source of cell {number} is not text")
    if not isinstance(cell.get("metadata"), dict):
        cell["metadata"] = {}
        wrong.append("metadata missing")
    if kind == "code":
        return wrong + _repair_code(cell)
    for name in _ONLY_IN_CODE:
        if name in cell and kind in ("markdown", "raw"):
            del cell[name]
            wrong.append(f"{name}, although it is not code")
    if not isinstance(cell.get("attachments", {}), dict):
        del cell["attachments"]
        wrong.append("invalid attachments")
    return wrong


def _repair_code(cell: dict[str, object]) -> list[str]:
    """Repair what only a code cell has; return a description of each repair."""
    wrong = []
    if "execution_count" not in cell or not _is_count(cell["execution_count"]):
        wrong.append(f"execution_count {cell.get('execution_count', 'missing')!r}"[:60])
        cell["execution_count"] = None
    outputs = cell.get("outputs")
    if not isinstance(outputs, list):
        wrong.append("outputs missing")
        outputs = []
    valid = cell["outputs"] = [output for output in outputs if _is_output(output)]
    if len(valid) < len(outputs):
        wrong.append("invalid outputs")
    return wrong


def _repair_ids(nb: dict[str, object], cells: list[dict[str, object]], repaired: list[str]) -> None:
    """Give each cell an ID of its own if the format requires one, or if any cell has one."""
    minor = nb.get("nbformat_minor")
    if not isinstance(minor, int):
        minor = nb["nbformat_minor"] = _MINOR_OF_IDS
        repaired.append("nbformat_minor missing")
    if minor < _MINOR_OF_IDS:
        if not any("id" in cell for cell in cells):
            return
        nb["nbformat_minor"] = _MINOR_OF_IDS
        repaired.append(f"ids of cells, which format 4.{minor} does not have: it is 4.5 now")
    seen: set[str] = set()
    for number, cell in enumerate(cells, 1):
        cell_id = cell.get("id")
        if not isinstance(cell_id, str) or not _CELL_ID.fullmatch(cell_id) or cell_id in seen:
            if minor >= _MINOR_OF_IDS:
                repaired.append(f"cell {number}: id {'missing' if cell_id is None else 'invalid'}")
            cell_id = cell["id"] = uuid4().hex[:8]
        seen.add(cell_id)


def _is_text(source: object) -> bool:
    """Return True if this is text in the format of notebooks: a string, or a list of strings."""
    return isinstance(source, str) or (
        isinstance(source, list) and all(isinstance(line, str) for line in source)
    )


def _is_count(value: object) -> bool:
    """Return True if this is an ``execution_count``."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _is_output(output: object) -> bool:
    """Return True if nbformat can write this output."""
    if not isinstance(output, dict):
        return False
    kind = output.get("output_type")
    if kind == "stream":
        return _is_text(output.get("text")) and output.get("name") in ("stdout", "stderr")
    if kind in ("display_data", "execute_result"):
        return isinstance(output.get("data"), dict) and isinstance(output.get("metadata"), dict)
    return kind == "error"
