"""In place of a package that takes 1.5 s to import, in every process that imports jsonschema.

jsonschema uses it, if it can be imported, to check IRIs (version 1.1.0: it builds a parser at each
import).  Nothing here has IRIs, and more than a thousand processes of the tests import jsonschema:
each gateway, and each command that reads a notebook.
"""

raise ImportError("the tests need no IRIs: see tests/support/light")
