"""The command line as it is typed: a mistyped option or value is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from traitlets.config import Config
from traitlets.config.loader import ArgumentError, KVArgParseConfigLoader

from ..suggest import closest, suggestion
from .errors import UsageError

__all__ = ["StrictLoader", "UnknownOption", "option_error", "spellings"]

_TRAIT = re.compile(r"The (?:value of the )?'(\w+)' trait of an? \w+ instance ")
_WORDS = {
    r"expected (an? \w+), not the (?:str|int|float) (.*)$": r"must be \1, got \2",
    r"\ban int\b": "a whole number",
    r"\ba float\b": "a number",
    r"should not be less than": "must be at least",
    r", but a value of (.*) was specified": r", got \1",
}
_MUST_NOT_BE_EMPTY = ("kernel_id", "url")  # a shell variable that is not set makes them so


class UnknownOption(UsageError):
    """An option that the command does not have."""


def option_error(text: str) -> str:
    """Return traitlets' text about a bad value in the words of the other errors."""
    text = _TRAIT.sub(lambda match: f"--{match[1].replace('_', '-')} ", text).rstrip(".")
    for pattern, replacement in _WORDS.items():
        text = re.sub(pattern, replacement, text)
    return text


def _reject(message: str, kind: type[UsageError] = UsageError) -> NoReturn:
    raise kind(message) from None


def spellings(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return all names of one option; traitlets takes one name or a tuple of them."""
    return (names,) if isinstance(names, str) else names


class StrictLoader(KVArgParseConfigLoader):
    """A loader that rejects an option it does not know.

    traitlets only warns of it, and ``--inplcae`` would write to another file than was meant.
    """

    def _create_parser(self) -> None:
        super()._create_parser()
        self.parser.error = self._reject_argument  # type: ignore[method-assign]

    def _reject_argument(self, message: str) -> NoReturn:
        """Raise UsageError for an error of argparse, in the words of the other errors."""
        if without_value := re.fullmatch(r"argument --?(\S+): expected one argument", message):
            name = without_value[1]
            if "." not in name:  # argparse says so of an unknown option, too
                self._handle_unrecognized_alias(name)
            _reject(f"--{self._typed(name)} needs a value, as in --{self._typed(name)}=...")
        if unknown := re.fullmatch(r"unrecognized arguments: -*([\w.-]*).*", message, re.DOTALL):
            self._handle_unrecognized_alias(unknown[1])
        if with_value := re.match(r"argument -*([^:/]+).*: ignored explicit argument", message):
            _reject(f"--{with_value[1]} takes no value")
        _reject(message)

    def _typed(self, name: str) -> str:
        """Return the short name of an option if it has one."""
        return next((short for short, full in self._aliases() if full == name), name)

    def _aliases(self) -> Iterator[tuple[str, str]]:
        """Yield each short name of an option with the full name."""
        for names, option in self.aliases.items():
            yield from ((name, spellings(option)[0]) for name in spellings(names))

    def load_config(self, *args: Any, **kwargs: Any) -> Config:
        """Return the configuration that the command line holds."""
        try:
            config: Config = super().load_config(*args, **kwargs)
        except ArgumentError as error:  # its text has the values, such as a token
            found = re.match(r"Error loading argument ([\w.]+)", str(error))
            name = f"--{self._typed(found[1])}" if found else "an option"
            why = "is given more than once" if "only accepts one" in str(error) else "is malformed"
            _reject(f"{name} {why}")
        self._check_names(config)
        return config

    def _check_names(self, config: Config) -> None:
        for cls in self.classes:
            section = config.get(cls.__name__, {})
            for name in _MUST_NOT_BE_EMPTY:
                if section.get(name) == "":
                    _reject(f"--{name.replace('_', '-')} is given, and empty")
            known = cls.class_trait_names(config=True)
            for name in sorted(set(section) - set(known)):
                hint = suggestion(closest(name, known))
                _reject(f"there is no option --{cls.__name__}.{name}{hint}")

    def _handle_unrecognized_alias(self, arg: str) -> NoReturn:
        if self.subcommands:
            _reject(f"there is no option --{arg} here; options of a command come after its name")
        every = [name for each in (*self.aliases, *self.flags) for name in spellings(each)]
        names = [name for name in every if len(name) > 1]
        found = [name for name in names if name.startswith(arg) or arg.endswith(f"-{name}")]
        meant = found[0] if found else closest(arg, names)
        _reject(f"there is no option --{arg}{suggestion(meant and f'--{meant}')}", UnknownOption)
