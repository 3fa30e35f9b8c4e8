"""Configuration of Sphinx, and directives that take their text from the code."""

from __future__ import annotations

import ast
import builtins
import configparser
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from traitlets.utils.importstring import import_item

from gateway_blocking import GatewayClient, __version__, cli
from gateway_blocking.traits import URL, ClassWith, Count, File, Headers, Listener, Seconds, Switch

project = "gateway_blocking"
author = "the gateway_blocking developers"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"gateway_blocking {release}"
default_role = "code"  # `name` in a docstring is a parameter, or a word of code
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # types are words for people: "float, optional" is no reference

nitpicky = True
# What belongs to others is named, not linked: no other project's inventory is needed to build this.
# So are options, which are in their table, and modules that the reference leaves out.
_OTHERS = "collections|concurrent|datetime|jupyter_client|jupyter_server|os|pathlib|queue"
_OTHERS += "|requests|traitlets"
_INTERNAL = "backlog|connection|connector|deadline|locks|rest|transport|wire|frames"
nitpick_ignore_regex = [
    ("py:.*", rf"({_OTHERS})\..*|Path|datetime|" + "|".join(dir(builtins))),
    ("py:class", "CodeRun|OnTimeout|Output|Progress|Via"),  # described where they are used
    ("py:attr", r"\w+"),
    ("py:.*", rf"gateway_blocking\.({_INTERNAL})\..*"),
]


def options(cls: type[GatewayClient] = GatewayClient) -> list[tuple[str, str, str, str, str]]:
    """Return name, type, environment variables, default and help of each option."""
    kinds = {Switch: "yes or no", Seconds: "seconds", Count: "number", URL: "URL"}
    kinds.update({Headers: "JSON object", File: "file", ClassWith: "class", Listener: "object"})
    return [
        (
            name,
            kinds.get(type(trait), "text"),
            ", ".join(trait.metadata["env"]),
            trait.default_value_repr(),
            trait.help or "",
        )
        for name, trait in cls.class_traits().items()
        if "env" in trait.metadata
    ]


def options_table() -> str:
    """The options of a gateway as a table, from config.py."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 50 15 35", ""]
    lines += ["   * - Option, environment variable", "     - Default", "     - Meaning"]
    for name, kind, variables, default, text in options():
        lines += [f"   * - | ``{name}``"]
        lines += [f"       | ``{variable}``" for variable in variables.split(", ") if variable]
        lines += [f"     - ``{default}``", f"     - {text} ({kind})"]
    return "\n".join(lines)


def requirements() -> str:
    """What is installed with the package and its extras, and from which version on."""
    config = configparser.ConfigParser()
    config.read(Path(__file__).parent.parent / "setup.cfg")
    needed = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - Package", "     - From version"]
    lines += ["     - Extra"]
    for extra in ("", "notebook", "console", "images", "mcp", "local"):
        for name, least in re.findall(r"(?m)^([a-zA-Z][\w-]+) *>=([\d.]+)", needed[extra]):
            lines += [f"   * - {name}", f"     - {least}", f"     - {extra}"]
    return "\n".join(lines)


def command_help(command: str) -> str:
    """What a command says to ``--help``."""
    app = import_item(cli.GatewayApp.subcommands[command][0])()
    app.classes = [*app.classes, GatewayClient]  # as its initialize(), but without its files
    text = textwrap.indent("\n".join(app.emit_help()), "    ")
    return f"::\n\n{text}"


def modules_table() -> str:
    """Return the modules of the package with the first lines of their docstrings."""
    package = Path(__file__).parent.parent / "gateway_blocking"
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 25 75", ""]
    lines += ["   * - Module", "     - Purpose"]
    for path in sorted(package.rglob("[!_]*.py"), key=lambda path: (path.parent, path.name)):
        purpose = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        purpose = re.sub(r":\w+:`([^`]+)`", r"``\1``", purpose)  # without links
        lines += [f"   * - ``{path.relative_to(package).as_posix()}``", f"     - {purpose}"]
    return "\n".join(lines)


def setup(app: Any) -> None:
    """Add the directives whose text comes from the code."""
    from docutils import nodes
    from docutils.parsers.rst import Directive
    from docutils.statemachine import StringList

    def directive(source: Callable[..., str]) -> type[Directive]:
        class Generated(Directive):
            optional_arguments = 1

            def run(self) -> list[nodes.Node]:
                lines = StringList(source(*self.arguments).splitlines(), source=source.__name__)
                parent = nodes.Element()
                self.state.nested_parse(lines, 0, parent)
                return parent.children

        return Generated

    def keep_colon(_app: Any, what: str, *others: Any) -> None:
        """Napoleon takes what stands before a colon in the first line for the type of a value."""
        if what in ("attribute", "data", "property"):
            others[-1][:0] = ["..", ""]

    def name_options(
        _app: Any, what: str, _name: str, _object: Any, _options: Any, text: Any, *_: Any
    ) -> Any:
        """Replace the signature that each class with traits has: its parameters are described."""
        return ("(**options)", None) if what == "class" and "t.Any" in (text or "") else None

    app.connect("autodoc-process-docstring", keep_colon, priority=400)
    app.connect("autodoc-process-signature", name_options)
    app.add_directive("gateway-options", directive(options_table))
    app.add_directive("requirements", directive(requirements))
    app.add_directive("modules", directive(modules_table))
    app.add_directive("command-help", directive(command_help))
