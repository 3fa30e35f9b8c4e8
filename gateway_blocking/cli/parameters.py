"""Parameters of notebooks: ``-p NAME VALUE`` on the command line, and their warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..suggest import suggestion
from .errors import UsageError

__all__ = ["ParameterValue", "parameter_warnings", "split_parameters"]

ParameterValue = bool | int | float | str | None

_LONG_NAMES = ("--parameters", "--parameter", "--params", "--param")  # papermill has the first
_PARAMETER = re.compile(r"([^\W\d][\w.]*)(?:=(.*))?", re.DOTALL)


def split_parameters(words: list[str]) -> tuple[dict[str, ParameterValue], list[str]]:
    """Return the parameters that are given with ``-p``, and the other words of a command line.

    Raises
    ------
    UsageError
        A ``-p`` is not followed by a name and a value, or by NAME=VALUE; or it is spelt as in
        papermill.
    """
    parameters: dict[str, ParameterValue] = {}
    others: list[str] = []
    left = iter(words)
    for word in left:
        if (name := word.partition("=")[0]) in _LONG_NAMES:
            raise UsageError(f"there is no option {name}{suggestion('-p')}")
        if word != "-p":
            others.append(word)
            continue
        first = next(left, "")
        if not (match := _PARAMETER.fullmatch(first)):
            raise UsageError(f"-p must be followed by NAME VALUE or NAME=VALUE, got {first!r}")
        name, value = match.groups()
        if value is None:
            value = next(left, None)
            if value is None or value.startswith("--"):
                got = "nothing" if value is None else repr(value)
                raise UsageError(
                    f"-p {name} must be followed by a value, got {got}; write a value that begins"
                    f" with -- as -p {name}=--..."
                )
        parameters[name] = _value(value)
    return parameters, others


def _value(text: str) -> ParameterValue:
    """Return the value of a parameter, as papermill reads it: a number, a literal, or text."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False}.get(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parameter_warnings(cells: Sequence[Mapping[str, Any]], given: Iterable[str]) -> list[str]:
    """Return warnings about parameters that may have no effect on a notebook.

    Parameters
    ----------
    cells : sequence of mapping
        Cells of the notebook.
    given : iterable of str
        Names of the parameters that are given.
    """
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    warnings = [
        f"-p {name} has no effect: no cell has a variable of this name"
        for name in given
        if not any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", source) for source in code)
    ]
    tagged = any("parameters" in _tags(cell) for cell in cells)
    if not tagged and not warnings:
        warnings.append(
            'no cell is tagged "parameters": -p comes before the first cell, and a cell that sets'
            " the same variable wins"
        )
    return warnings


def _tags(cell: Mapping[str, Any]) -> list[str]:
    """Return the tags of a cell."""
    tags = cell.get("metadata", {}).get("tags")
    return tags if isinstance(tags, list) else []
