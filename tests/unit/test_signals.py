"""SigtermRaises: a SIGTERM that raises SystemExit in a block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from gateway_blocking import signals
from gateway_blocking.signals import SigtermRaises


@pytest.fixture
def default_sigterm() -> Iterator[None]:
    """The handler that a script begins with; the test has to leave it so."""
    previous = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    left = signal.signal(signal.SIGTERM, previous)
    assert left is signal.SIG_DFL


def sigterm_raises() -> bool:
    """Whether a SIGTERM raises now."""
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit as stop:
        assert stop.code == 128 + signal.SIGTERM
        return True
    return False


@pytest.mark.usefixtures("default_sigterm")
def test_blocks_that_overlap_share_the_handler() -> None:
    """It is there from the begin of the first to the end of the last, in whatever order."""
    first, second = SigtermRaises(), SigtermRaises()
    for blocks in ([first, second], [second, first], [first, first]):
        with first, second:
            assert sigterm_raises()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        for block in blocks:
            block.__enter__()
        blocks[0].__exit__()
        if blocks[0] is not blocks[1]:
            assert sigterm_raises()
        blocks[1].__exit__()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default_sigterm")
def test_who_sends_sigterm_twice_ends_a_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would end what the first began; but a block that goes on can be ended again."""
    with SigtermRaises():
        assert sigterm_raises()
        assert not sigterm_raises()
    with SigtermRaises():
        assert sigterm_raises()
        monkeypatch.setattr(signals, "SIGTERM_REPEATED", 0.0)
        assert sigterm_raises()


@pytest.mark.usefixtures("default_sigterm")
def test_a_sigterm_waits_for_the_end_of_a_clean_up() -> None:
    """It must not end a clean-up halfway; then it is raised, and the block around ends as well."""
    done = []
    with pytest.raises(SystemExit) as stop, SigtermRaises():
        inner = SigtermRaises().__enter__()
        with inner.end():
            assert not sigterm_raises()
            assert not sigterm_raises()
            done.append("clean-up")
        done.append("more")
    assert (done, stop.value.code) == (["clean-up"], 143)


@pytest.mark.usefixtures("default_sigterm")
@pytest.mark.parametrize("their", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "their own"])
@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_handler_of_somebody_elses_is_left_alone(their: signal.Handlers, when: str) -> None:
    """One that was there first stays, and so does one that is set within the block."""
    if when == "before":
        signal.signal(signal.SIGTERM, their)
    with SigtermRaises():
        if when == "inside":
            signal.signal(signal.SIGTERM, their)
        assert signal.getsignal(signal.SIGTERM) is their
    assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is their


@pytest.mark.usefixtures("default_sigterm")
def test_a_block_in_another_thread_has_no_handler() -> None:
    """Only the main thread can set one, and only it is interrupted."""
    found = []

    def enter() -> None:
        with SigtermRaises():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
