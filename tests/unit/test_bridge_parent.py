"""The process that started a bridge."""

from __future__ import annotations

import os

import pytest

from gateway_blocking.bridge.parent import ParentProcess, is_orphan, names_parent


@pytest.mark.parametrize(
    ("parent", "first_parent", "started_by", "expected"),
    [
        (7, 7, "7", False),
        (7, 7, "", False),
        (7, 7, "5", False),  # a program in between, such as a shell, has started the bridge
        (1, 7, "7", True),
        (8, 7, "7", True),  # a process that adopts orphans
        (1, 7, "", True),
        (1, 1, "7", True),  # it ended while Python started
        (1, 1, "1", False),  # the front end is the first process of a container
        (1, 1, "", False),  # so is what starts the bridge, or a person wants it so
    ],
)
def test_orphans(parent: int, first_parent: int, started_by: str, *, expected: bool) -> None:
    """On POSIX, an orphan gets another parent."""
    assert is_orphan(parent, first_parent, started_by) is expected


def test_this_process_is_no_orphan() -> None:
    """Its parent has not ended, whether it is named or not."""
    for environment in ({}, {"JPY_PARENT_PID": str(os.getppid())}):
        assert names_parent(environment) is bool(environment)
        assert not ParentProcess(environment).has_ended()
