"""Cleaning up after an error: which error the caller sees."""

from __future__ import annotations

import logging

import pytest

from gateway_blocking.cleanup import cleaning_up

LOG = logging.getLogger("test")


def test_an_error_of_the_cleanup_alone_is_raised() -> None:
    """No other error would tell of it."""
    with pytest.raises(ValueError, match="cleanup"), cleaning_up(None, LOG):
        raise ValueError("cleanup")


def test_an_error_of_the_cleanup_is_a_note_on_the_earlier_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The earlier error is what the caller expects; nothing is logged, because notes are shown."""
    error = KeyError("body")
    with cleaning_up(error, LOG):
        raise ValueError("cleanup")
    assert error.__notes__ == ["While cleaning up: ValueError: cleanup"]
    assert caplog.text == ""


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()])
def test_a_note_that_python_does_not_show_is_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """So it is after ``sys.exit()``, and after a generator that is closed."""
    with cleaning_up(error, LOG):
        raise ValueError("cleanup")
    assert "While cleaning up: ValueError: cleanup" in caplog.text


@pytest.mark.parametrize("error", [None, KeyError("body")])
@pytest.mark.parametrize("second", [KeyboardInterrupt, SystemExit])
def test_a_second_interruption_ends_the_cleanup(
    error: BaseException | None, second: type[BaseException]
) -> None:
    """A user who presses Ctrl-C again does not want to wait."""
    with pytest.raises(second), cleaning_up(error, LOG):
        raise second


def test_a_cleanup_that_succeeds_changes_nothing() -> None:
    """The earlier error has no note."""
    error = KeyError("body")
    with cleaning_up(error, LOG):
        pass
    assert not hasattr(error, "__notes__")
