"""Backlog: which message is dropped if a client's messages fill too much memory."""

from __future__ import annotations

from gateway_blocking.backlog import Backlog


class Queue:
    """A queue of messages, each of which is its size."""

    def __init__(self, *sizes: int, read: bool = False) -> None:
        self.queue = list(sizes)
        self.read = read

    @property
    def size(self) -> int:
        return sum(self.queue)

    def has_reader(self) -> bool:
        return self.read

    def drop_oldest(self) -> None:
        del self.queue[0]


def backlog_of(limit: int, *queues: Queue, warnings: list[str] | None = None) -> Backlog:
    backlog = Backlog(limit, (warnings if warnings is not None else []).append)
    for queue in queues:
        backlog.join(queue)  # type: ignore[arg-type]  # its size is not set
    return backlog


def test_check_drops_the_oldest_of_the_largest_queue() -> None:
    """A flood of output displaces no replies."""
    replies, output = Queue(40, 10), Queue(30, 30, 30)
    backlog_of(100, replies, output).check()
    assert (replies.queue, output.queue) == ([40, 10], [30])


def test_check_keeps_the_last_message_of_each_queue() -> None:
    """A caller gets at least the newest, however large it is."""
    one, two = Queue(500), Queue(10, 600)
    backlog_of(100, one, two).check()
    assert (one.queue, two.queue) == ([500], [600])


def test_check_spares_a_queue_that_a_task_reads() -> None:
    """The task takes all messages in time, as it would from a local kernel."""
    read, other = Queue(100, 100, read=True), Queue(10, 10)
    backlog_of(50, read, other).check()
    assert (read.queue, other.queue) == ([100, 100], [10])


def test_limit_of_zero_drops_nothing() -> None:
    """The option's value 0 means no limit."""
    queue = Queue(10**12, 10**12)
    backlog = backlog_of(0, queue)
    backlog.check()
    assert len(queue.queue) == 2
    assert not backlog.must_warn


def test_warning_comes_once_and_names_limit_and_option() -> None:
    """One line in the log is enough, and says what to do."""
    warnings: list[str] = []
    queue = Queue(60, 60)
    backlog = backlog_of(1000, queue, warnings=warnings)
    backlog.check()
    assert not backlog.must_warn
    queue.queue += [1000]
    backlog.check()
    assert backlog.must_warn
    backlog.warn()
    queue.queue += [1000]
    backlog.check()
    assert not backlog.must_warn
    [text] = warnings
    assert "1,000 bytes" in text
    assert "max_unread_size" in text
