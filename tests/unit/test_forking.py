"""What is called in a forked child process."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

from gateway_blocking import forking


class Owner:
    """Counts how often its method is called."""

    def __init__(self) -> None:
        self.calls = 0
        forking.register_after_fork(self._after_fork)

    def _after_fork(self) -> None:
        self.calls += 1


def test_register_after_fork_calls_the_method_of_what_exists() -> None:
    """An object that is gone is not kept alive, and not called."""
    kept, dropped = Owner(), Owner()
    reference = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert reference() is None
    forking._run_callbacks()
    assert kept.calls == 1


def test_register_after_fork_twice_keeps_the_last_method() -> None:
    """An object has one such method."""
    owner = Owner()
    forking.register_after_fork(owner._after_fork)
    forking._run_callbacks()
    assert owner.calls == 1


def test_an_object_that_is_collected_with_its_class_leaves_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the interpreter's end, an object and its class are collected at the same time."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    class Owner:
        after_fork: Any

    owner: Any = Owner()
    owner.itself = owner  # so that only the garbage collector frees it
    # The collector handles objects by age, and the order decides: here the owner is the first.
    Owner.after_fork = lambda self: None
    forking.register_after_fork(owner.after_fork)
    reference = weakref.ref(owner)
    del Owner, owner
    gc.collect()
    assert unraisable == []
    assert reference() is None
