"""Imports that are kept light."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gateway_blocking.imports import without_iri_checks


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Install a package of that name."""
    (tmp_path / "rfc3987_syntax.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rfc3987_syntax", raising=False)


def test_the_package_cannot_be_imported_meanwhile_and_can_afterwards() -> None:
    """The block raises what jsonschema suppresses."""
    with without_iri_checks(), pytest.raises(ImportError):
        importlib.import_module("rfc3987_syntax")
    assert importlib.import_module("rfc3987_syntax")


def test_a_package_that_is_imported_already_stays() -> None:
    """Another part of the process may use it."""
    module = importlib.import_module("rfc3987_syntax")
    with without_iri_checks():
        assert importlib.import_module("rfc3987_syntax") is module
    assert sys.modules["rfc3987_syntax"] is module


def test_an_import_that_fails_leaves_nothing_behind() -> None:
    """A package that is missing must not hide another one."""
    with pytest.raises(ModuleNotFoundError), without_iri_checks():
        importlib.import_module("no_such_package")
    assert "rfc3987_syntax" not in sys.modules
