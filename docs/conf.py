"""Configuration of Sphinx, and the directive that makes the table of options from the code."""

from __future__ import annotations

from typing import Any

from gateway_blocking import GatewayClient, __version__

project = "gateway_blocking"
author = "the gateway_blocking developers"
copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
html_theme = "furo"
html_title = f"gateway_blocking {release}"
default_role = "code"  # `name` in a docstring is a parameter, or a word of code
highlight_language = "python"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say it in words
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # types are words for people: "float, optional" is no reference

nitpicky = True
# What belongs to others is named, not linked: no other project's inventory is needed to build this.
nitpick_ignore_regex = [(r"py:.*", r"(?!\.?gateway_blocking\b)[\w.]+")]


def options_table() -> str:
    """The options of a gateway as a table, from config.py."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 45 15 40", ""]
    lines += ["   * - Option and environment variables", "     - Default", "     - Meaning"]
    for name, kind, variables, default, text in GatewayClient.table():
        lines += [f"   * - .. option:: {name}"] if False else [f"   * - ``{name}``"]
        lines += ["", *(f"       ``{variable}``" for variable in variables.split(", ") if variable)]
        lines += [f"     - ``{default}``", f"     - {text} ({kind})"]
    return "\n".join(lines) + "\n"


def setup(app: Any) -> None:
    """Add the directive ``gateway-options``."""
    from docutils import nodes
    from docutils.parsers.rst import Directive
    from docutils.statemachine import StringList

    class GatewayOptions(Directive):
        def run(self) -> list[nodes.Node]:
            lines = StringList(options_table().splitlines(), source="gateway_blocking/config.py")
            parent = nodes.container()
            self.state.nested_parse(lines, self.content_offset, parent)
            return parent.children

    app.add_directive("gateway-options", GatewayOptions)
