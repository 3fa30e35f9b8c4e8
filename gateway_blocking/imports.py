"""Imports of other packages that would take too long otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_iri_checks"]

_IRI_CHECKS = "rfc3987_syntax"


@contextmanager
def without_iri_checks() -> Iterator[None]:
    """Keep an import of jsonschema from importing rfc3987_syntax, which takes a second.

    jsonschema 4.26 uses it, if it is installed, to check IRIs.  Version 1.1.0 builds a parser at
    each import: 1.0 s of the 1.26 s that nbclient takes (CPU time, Python 3.11).  This is for the
    package's own processes only: no notebook, and no event of a gateway, has an IRI to check.
    """
    if _IRI_CHECKS in sys.modules:
        yield
        return
    sys.modules[_IRI_CHECKS] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        yield
    finally:
        del sys.modules[_IRI_CHECKS]
