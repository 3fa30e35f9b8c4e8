"""Destinations of the notebooks that ``jupyter gateway run`` has executed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError
from .files import check_writable

__all__ = ["Destinations", "check_source", "make_writable"]


@dataclass(frozen=True)
class Destinations:
    """The options that choose where notebooks are written; at most one of them is given.

    Parameters
    ----------
    output : str
        Name of the file for one notebook.
    output_dir : str
        Name of the directory for all notebooks.
    inplace : bool
        Whether each notebook replaces its original.
    """

    output: str = ""
    output_dir: str = ""
    inplace: bool = False

    def check(self, files: list[str], notebooks: list[str]) -> None:
        """Raise UsageError if the options contradict each other or the files.

        Parameters
        ----------
        files : list of str
            All files of the command line.
        notebooks : list of str
            The notebooks among them.
        """
        given = {
            "--output": self.output,
            "--output-dir": self.output_dir,
            "--inplace": self.inplace,
        }
        chosen = [option for option, value in given.items() if value]
        if len(chosen) > 1:
            raise UsageError(f"give either {' or '.join(chosen)}, not both")
        if self.output and (len(files) > 1 or not notebooks):
            raise UsageError("--output is for one notebook")
        if self.output and not self.output.endswith(".ipynb"):
            raise UsageError(
                f"--output={self.output} does not end in .ipynb: a notebook is written there;"
                " jupyter nbconvert converts it to other formats"
            )
        if chosen and not notebooks:
            raise UsageError(f"{chosen[0]} is for notebooks, and {files[0]} is a script")

    def assign(self, notebooks: list[str]) -> dict[str, Path]:
        """Return the destination of each notebook.

        Raises
        ------
        UsageError
            Two notebooks have the same destination, or a destination is another original.
        """
        destinations: dict[str, Path] = {}
        written: dict[str, str] = {}
        originals = {os.path.realpath(name): name for name in notebooks}
        for name in notebooks:
            destination = self._destination(Path(name))
            # Path.resolve() of Python 3.11 fails at a link to itself.
            real = os.path.realpath(destination)
            if other := written.get(real):
                raise UsageError(f"{other} and {name} would both be written to {destination}")
            if (self.output or self.output_dir) and (original := originals.get(real)):
                option = "--output" if self.output else "--output-dir"
                raise UsageError(
                    f"{option}={self.output or self.output_dir} would write over the original"
                    f" {original}; --inplace does that"
                )
            written[real], destinations[name] = name, destination
        return destinations

    def _destination(self, source: Path) -> Path:
        if self.inplace:
            return source
        if self.output_dir:
            return Path(self.output_dir, source.name)
        return Path(self.output) if self.output else source.with_suffix(".executed.ipynb")


def check_source(source: Path) -> None:
    """Raise UsageError if there is no such notebook."""
    if not source.is_file():
        why = "it is not a file" if source.exists() else "No such file or directory"
        raise UsageError(f"cannot read {source}: {why}")


def make_writable(destination: Path, *, create: bool) -> None:
    """Raise UsageError if a file cannot be written; create its directory before, if asked to."""
    directory = destination.parent
    if create:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the directory {directory}: {error.strerror}") from error
    check_writable(destination)
