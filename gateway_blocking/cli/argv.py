"""The command line as it is typed: each option that is mistyped is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

from traitlets.config import Config
from traitlets.config.loader import ArgumentError, KVArgParseConfigLoader

from .errors import UsageError

__all__ = ["StrictLoader", "with_option_name"]

_TRAIT = re.compile(r"The (?:value of the )?'(\w+)' trait of an? \w+ instance ")


def with_option_name(text: str) -> str:
    """Return what traitlets says of a bad value, with the option as it is typed."""
    return _TRAIT.sub(lambda match: f"--{match[1].replace('_', '-')} ", text)


def _reject(message: str) -> NoReturn:
    raise UsageError(message) from None


def _spellings(names: Any) -> tuple[str, ...]:
    """Those of one option, which traitlets takes as a name or several."""
    return (names,) if isinstance(names, str) else names


class StrictLoader(KVArgParseConfigLoader):
    """A mistyped option is an error: ``--inplcae`` must not mean ``write somewhere else``."""

    def _create_parser(self) -> None:
        super()._create_parser()
        self.parser.error = self._reject_argument  # type: ignore[method-assign]

    def _reject_argument(self, message: str) -> NoReturn:
        if without_value := re.fullmatch(r"argument --?(\S+): expected one argument", message):
            name = without_value[1]
            if "." not in name:  # what argparse does not know it takes for an option, too
                self._handle_unrecognized_alias(name)
            name = next((short for short, long in self._aliases() if long == name), name)
            _reject(f"--{name} needs a value, as in --{name}=...")
        if unknown := re.fullmatch(r"unrecognized arguments: -*([\w.-]*).*", message, re.DOTALL):
            self._handle_unrecognized_alias(unknown[1])
        if with_value := re.match(r"argument -*([^:/]+).*: ignored explicit argument", message):
            _reject(f"--{with_value[1]} takes no value")
        _reject(message)

    def _aliases(self) -> Iterator[tuple[str, str]]:
        """Return the options that have a short name, with their long ones."""
        for names, option in self.aliases.items():
            yield from ((name, _spellings(option)[0]) for name in _spellings(names))

    def load_config(self, *args: Any, **kwargs: Any) -> Config:
        """Return what the command line says."""
        try:
            config: Config = super().load_config(*args, **kwargs)
        except ArgumentError as error:  # has the values in its text
            found = re.match(r"Error loading argument ([\w.]+)", str(error))
            name = found[1] if found else "an option"
            name = next((short for short, long in self._aliases() if long == name), name)
            why = "is given more than once" if "only accepts one" in str(error) else "is malformed"
            _reject(f"--{name} {why}")
        for cls in self.classes:
            for name in ("kernel_id", "url"):  # of a shell variable that is not set
                if config.get(cls.__name__, {}).get(name) == "":
                    _reject(f"--{name.replace('_', '-')} is given, and empty")
            known = cls.class_trait_names(config=True)
            for name in sorted(set(config.get(cls.__name__, ())) - set(known)):
                hint = "".join(f"; is it {close}?" for close in get_close_matches(name, known, 1))
                _reject(f"there is no option --{cls.__name__}.{name}{hint}")
        return config

    def _handle_unrecognized_alias(self, arg: str) -> NoReturn:
        spellings = [name for each in (*self.aliases, *self.flags) for name in _spellings(each)]
        names = [name for name in spellings if len(name) > 1]
        found = [name for name in names if name.startswith(arg) or arg.endswith(f"-{name}")]
        found = found or get_close_matches(arg, names, 1)
        hint = f"; is it --{found[0]}?" if found else ""
        _reject(f"there is no option --{arg}{hint}")
