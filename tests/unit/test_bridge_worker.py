"""A thread of a bridge that does one thing after another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from gateway_blocking.bridge.worker import Worker
from gateway_blocking.deadline import Deadline
from gateway_blocking.locks import Latch
from support.waiting import wait_until


@pytest.fixture
def errors() -> list[Exception]:
    return []


@pytest.fixture
def worker(errors: list[Exception]) -> Iterator[Worker]:
    worker = Worker("test-worker", errors.append)
    worker.start()
    yield worker
    worker.stop()


def finish(worker: Worker) -> None:
    """Wait until all is done that was given before."""
    done = Latch()
    worker.do(done.open)
    assert done.wait(Deadline(60))


def test_work_is_done_in_order_after_a_failure_too(worker: Worker, errors: list[Exception]) -> None:
    """A failure is reported, and the next work is done."""
    results: list[object] = []
    worker.do(partial(results.append, 1))
    worker.do(partial(int, "x"))
    worker.do(partial(results.append, 2))
    finish(worker)
    assert results == [1, 2]
    assert [type(error) for error in errors] == [ValueError]


def test_a_worker_is_idle_only_when_all_is_done(worker: Worker) -> None:
    """Otherwise a request could overtake one that was given before."""
    assert worker.is_idle
    begun, may_end = Latch(), Latch()

    def work() -> None:
        begun.open()
        may_end.wait(Deadline(60))

    worker.do(work)
    assert begun.wait(Deadline(60))
    assert not worker.is_idle
    may_end.open()
    wait_until(lambda: worker.is_idle)
