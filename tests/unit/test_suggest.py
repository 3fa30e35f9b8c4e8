"""Suggestions for misspelt names."""

from __future__ import annotations

import pytest

from gateway_blocking.suggest import closest, suggestion

KNOWN = ["auth_token", "url", "ws_url", "kernel_name", "http_user"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("token", "auth_token"),  # the end of a known name
        ("server_url", "url"),  # ends with a known name
        ("auth_tokn", "auth_token"),
        ("kernel", "kernel_name"),  # a synonym
        ("password", ""),  # its synonym is not known here
        ("xyz", ""),
    ],
)
def test_closest_returns_the_name_that_is_meant(name: str, meant: str) -> None:
    """The name has the same end, is a synonym, or is spelt nearly the same."""
    assert closest(name, KNOWN) == meant


def test_closest_accepts_an_ending_and_a_cutoff() -> None:
    """Environment variables share a prefix, which makes all of them similar."""
    known = ["JUPYTER_GATEWAY_URL", "JUPYTER_GATEWAY_AUTH_TOKEN"]
    name = "JUPYTER_GATEWAY_TOKEN"
    assert closest(name, known, ending="TOKEN", cutoff=0.92) == "JUPYTER_GATEWAY_AUTH_TOKEN"
    assert closest("JUPYTER_GATEWAY_ULR", known, ending="ULR", cutoff=0.92) == known[0]
    assert closest("JUPYTER_GATEWAY_NOTHING", known, ending="NOTHING", cutoff=0.92) == ""


def test_suggestion_is_empty_without_a_name() -> None:
    """An error's text ends with it either way."""
    assert suggestion("") == ""
    assert suggestion("--jobs") == "; the nearest is --jobs"
