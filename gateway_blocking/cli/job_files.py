"""The files that a job needs in the kernel's directory, and those that it leaves there."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..client import BlockingGatewayKernelClient
from ..errors import GatewayError
from ..timeouts import KERNEL_INFO_TIMEOUT
from .errors import UsageError
from .terminal import echo

__all__ = ["check_language", "fetch_files", "local_path", "send_files"]


def check_language(kc: BlockingGatewayKernelClient) -> None:
    """Raise UsageError unless the language of the kernel is Python, which copies need."""
    info = kc.kernel_info(reply=True, timeout=KERNEL_INFO_TIMEOUT)["content"]
    language = info.get("language_info", {}).get("name")
    if language != "python":
        raise UsageError(
            "--upload and --download need a Python kernel, and the language of this one is"
            f" {language!r}"
        )


def send_files(kc: BlockingGatewayKernelClient, paths: Sequence[str]) -> None:
    """Copy files into the kernel's working directory, under their own names.

    Raises
    ------
    UsageError
        A file cannot be read here or written there.
    """
    for path in paths:
        try:
            kc.upload(path, "./")
        except GatewayError:  # some are OSErrors, too
            raise
        except OSError as error:
            raise UsageError(f"cannot upload {path}: {error.strerror or error}") from error


def fetch_files(
    kc: BlockingGatewayKernelClient,
    patterns: Sequence[str],
    directory: Path,
    copied: dict[Path, str],
) -> None:
    """Copy the files in the kernel that match the patterns into a directory.

    A pattern without a match is only told, because code that failed may have left nothing.  A file
    that would overwrite another of this command is refused, and the rest is copied.

    Parameters
    ----------
    kc : BlockingGatewayKernelClient
        Client of the kernel.
    patterns : sequence of str
        Patterns of Python's glob.
    directory : Path
        Directory to write to.
    copied : dict
        The files that this command has written, and the ID of the kernel of each.  It is updated.

    Raises
    ------
    UsageError
        A file cannot be read there or written here.
    """
    refused = []
    for target, names in _sources(kc, patterns, directory).items():
        if len(names) > 1:
            refused.append(f"cannot download {' and '.join(names)}: each would be {target}")
        elif (owner := copied.setdefault(target, kc.kernel_id)) != kc.kernel_id:
            why = f"{target} was copied from the kernel {owner} before"
            refused.append(f"cannot download {names[0]}: {why}")
        else:
            _fetch(kc, names[0], target)
    if refused:
        raise UsageError("; ".join(refused))


def _sources(
    kc: BlockingGatewayKernelClient, patterns: Sequence[str], directory: Path
) -> dict[Path, list[str]]:
    """Return the files to write, and for each the files in the kernel that would become it."""
    found: dict[Path, dict[PurePosixPath, str]] = {}
    for pattern in patterns:
        names = _matching(kc, pattern)
        if not names:
            echo(f"no file in the kernel matches {pattern}")
        for name in names:
            same = found.setdefault(local_path(directory, name), {})
            same.setdefault(PurePosixPath(name.replace("\\", "/")), name)
    return {target: list(same.values()) for target, same in found.items()}


def _fetch(kc: BlockingGatewayKernelClient, name: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kc.download(name, target)
    except GatewayError:  # some are OSErrors, too
        raise
    except OSError as error:
        raise UsageError(f"cannot download {name}: {error.strerror or error}") from error


def local_path(directory: Path, name: str) -> Path:
    """Return where a file of the kernel goes: a relative path keeps its folders.

    >>> local_path(Path("here"), "out/a.csv").as_posix()
    'here/out/a.csv'
    >>> local_path(Path("here"), "/x/b").as_posix()
    'here/b'
    """
    path = PurePosixPath(name.replace("\\", "/"))
    is_inside = not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]
    return directory / (path if is_inside else path.name)


def _matching(kc: BlockingGatewayKernelClient, pattern: str) -> list[str]:
    """Return the paths of the files in the kernel that match a pattern, as Python's glob does."""
    code = (
        "__import__('json').dumps(sorted(name for name in __import__('glob').glob("
        f"{pattern!r}, recursive=True) if __import__('os').path.isfile(name)))"
    )
    done = kc.run("", silent=True, user_expressions={"names": code}, check=True)
    answer = done.user_expressions.get("names") or {}
    if answer.get("status") != "ok":
        raise GatewayError(f"cannot list {pattern} in the kernel: {answer.get('evalue', '')}")
    names: list[str] = json.loads(ast.literal_eval(answer["data"]["text/plain"]))
    return names
