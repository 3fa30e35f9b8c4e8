"""Profiles: files with the options of a gateway, for front ends that have no environment variables.

A profile may contain a token.  Its file therefore has the mode 0600, and a file that other users
can read is refused.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_dir
from jupyter_core.utils import ensure_dir_exists

from ..config import GatewayClient
from ..suggest import closest, suggestion
from .errors import UsageError

__all__ = ["check_name", "profile_names", "profile_path", "read_profile", "write_profile"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def profile_path(name: str) -> Path:
    """Return the path of the file of a profile.

    Raises
    ------
    UsageError
        The name cannot be one of a profile.
    """
    check_name(name)
    return _directory() / f"{name}.json"


def check_name(name: str) -> None:
    """Raise UsageError unless a profile can have this name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"the name of a profile must be of letters, digits, '.', '_' and '-', got {name!r}"
        )


def profile_names() -> list[str]:
    """Return the names of all profiles."""
    return sorted(path.stem for path in _directory().glob("*.json"))


def read_profile(name: str) -> dict[str, Any]:
    """Return the options of a profile, by the names of :class:`.GatewayClient`.

    Raises
    ------
    UsageError
        There is no such profile, others can read its file, or it is malformed.
    """
    path = profile_path(name)
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise UsageError(
                    f"the profile {path} may be read by other users, and may contain a token:"
                    " chmod 600 it"
                )
            options = json.load(file)
    except FileNotFoundError:
        hint = suggestion(closest(name, profile_names()))
        raise UsageError(
            f"there is no profile {name!r}{hint}; jupyter gateway profile list shows them"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the profile {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the profile {path} is not JSON: line {_line(error)}") from None
    known = GatewayClient.class_trait_names(config=True)
    text = f"the profile {path} must be an object with options of GatewayClient only"
    if not isinstance(options, dict):
        raise UsageError(text)
    if unknown := [name for name in options if name not in known]:
        raise UsageError(f"{text}; this version does not know {', '.join(map(repr, unknown))}")
    return options


def write_profile(name: str, options: dict[str, Any]) -> Path:
    """Write the file of a profile, which only this user can read, and return its path."""
    path = profile_path(name)
    new = path.with_suffix(f".{os.getpid()}")
    try:
        ensure_dir_exists(jupyter_config_dir(), 0o700)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(options, file, indent=2)
            file.write("\n")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()  # a part of the options, perhaps with the token
        raise UsageError(f"cannot write the profile {path}: {error.strerror}") from error
    return path


def _directory() -> Path:
    return Path(jupyter_config_dir(), "gateway-profiles")


def _line(error: Exception) -> int:
    return error.lineno if isinstance(error, json.JSONDecodeError) else 1
