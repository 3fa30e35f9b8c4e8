"""Environment variables: those that give options their values, and those that kernels get."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from traitlets import TraitError, TraitType

from .suggest import closest, suggestion
from .traits import Text

__all__ = ["check_variables", "forwarded_variables", "options_from_environment"]

_PREFIX = "JUPYTER_GATEWAY_"
_URL = "JUPYTER_GATEWAY_URL"
_SIMILAR = 0.92  # much of the variables' names is the same prefix

_Options = Mapping[str, TraitType[Any, Any]]


def options_from_environment(options: _Options, owner: Any) -> dict[str, Any]:
    """Return the values of the options that have a variable in the environment.

    Parameters
    ----------
    options : mapping
        The traits by name, each with the names of its variables as its metadata ``env``.
    owner : object
        Object that the traits validate for.

    Raises
    ------
    traitlets.TraitError
        A value is malformed; the error names the variable.
    """
    found: dict[str, Any] = {}
    for name, trait in options.items():
        variable = next((env for env in trait.metadata["env"] if os.environ.get(env)), None)
        if variable is None:
            continue
        text = os.environ[variable]
        try:
            value = trait.from_string(text)
            found[name] = None if value is None else trait.validate(owner, value)  # type: ignore[attr-defined]
        except (TraitError, ValueError) as error:
            kind = type(error) if isinstance(error, TraitError) else TraitError
            if str(error).startswith(f"{name}="):
                raise kind(f"{variable}{str(error)[len(name) :]}") from None
            shown = trait.shown(text) if isinstance(trait, Text) else repr(text)
            raise kind(f"{variable}={shown}: {error}") from None
    return found


def check_variables(options: _Options, gateway_enabled: bool) -> None:
    """Warn of unknown variables, and raise TraitError for one that may be meant as the URL.

    Without a URL, the commands and other programs run code on this machine.

    Parameters
    ----------
    options : mapping
        See :func:`options_from_environment`.
    gateway_enabled : bool
        True if there is a URL.
    """
    known = [variable for trait in options.values() for variable in trait.metadata["env"]]
    for name in os.environ:
        if not name.startswith("JUPYTER") or name in known:
            continue
        meant = closest(name, known, ending=name.removeprefix(_PREFIX), cutoff=_SIMILAR)
        text = f"{name} is not an option{suggestion(meant)}"
        if meant == _URL and not gateway_enabled:
            raise TraitError(f"{text}, which decides where code runs: rename {name} or unset it")
        if name.startswith(_PREFIX):
            warnings.warn(text, stacklevel=4)


def forwarded_variables(extra: Mapping[str, str], allowed: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables that a kernel gets, and the names of those in `extra` that it does not.

    Parameters
    ----------
    extra : mapping
        Variables in addition to those of this process, which they replace.
    allowed : str
        Names to forward in addition to ``KERNEL_*``, separated by commas.
    """
    names = {name.strip() for name in allowed.split(",")}
    env = {
        name: str(value)
        for name, value in {**os.environ, **extra}.items()
        if name.startswith("KERNEL_") or name in names
    }
    return env, sorted(set(extra) - set(env))
