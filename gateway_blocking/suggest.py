"""Suggestions for misspelt names: of options, keywords, environment variables and commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

__all__ = ["closest", "suggestion"]

_SYNONYMS: Mapping[str, str] = {
    "kernel": "kernel_name",
    "user": "http_user",
    "password": "http_pwd",
}


def closest(
    name: str, known: Iterable[str], *, ending: str | None = None, cutoff: float = 0.6
) -> str:
    """Return the known name that is most likely meant by `name`, or "".

    Parameters
    ----------
    name : str
        A name that is not known.
    known : iterable
        The known names.
    ending : str, optional
        Words that the meant name may end with; by default the whole name.
    cutoff : float
        Similarity of two names from 0 to 1 from which on one may mean the other.
    """
    names = list(known)
    if _SYNONYMS.get(name) in names:
        return _SYNONYMS[name]
    ending = ending or name
    same_end = [each for each in names if name.endswith(f"_{each}") or each.endswith(f"_{ending}")]
    found = same_end or get_close_matches(name, names, 1, cutoff)
    return found[0] if found else ""


def suggestion(meant: str) -> str:
    """Return the end of an error's text that suggests this name; "" if there is none."""
    return f"; the nearest is {meant}" if meant else ""
