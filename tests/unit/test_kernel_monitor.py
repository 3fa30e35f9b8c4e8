"""KernelMonitor: how the end of a kernel is noticed, and what it fails."""

from __future__ import annotations

import pytest

from gateway_blocking.errors import DeadKernelError, KernelGone, KernelRestarted
from gateway_blocking.kernel_monitor import KernelMonitor
from gateway_blocking.liveness import KernelStatus, PollResult
from gateway_blocking.requests_table import Request, RequestTable
from gateway_blocking.timers import Timer, Timers
from support.protocol import RecordingSink, says


class Monitored:
    """A monitor with its sinks, its timers and one request in flight."""

    def __init__(self) -> None:
        self.sinks = {"shell": RecordingSink(), "iopub": RecordingSink()}
        self.requests = RequestTable("own")
        self.requests.add(Request("asked", "execute_request", "shell", "", (1, b"")))
        self.timers = Timers(lambda: None)
        self.changes: list[KernelStatus] = []
        self.monitor = KernelMonitor(
            "k", self.sinks, self.requests, self.timers, lambda: self.changes.append(self.status)
        )

    @property
    def status(self) -> KernelStatus:
        return self.monitor.status

    def polls(self) -> bool:
        """Return True if the kernel's shutdown is about to be polled."""
        return self.timers.is_armed(Timer.SHUTDOWN_POLL)


@pytest.fixture
def kernel() -> Monitored:
    return Monitored()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (KernelStatus.DEAD, DeadKernelError),
        (KernelStatus.GONE, KernelGone),
        (KernelStatus.RESTARTED, KernelRestarted),
    ],
)
def test_ended_fails_the_requests_and_every_later_wait(
    kernel: Monitored, status: KernelStatus, error: type[DeadKernelError]
) -> None:
    """The request in flight fails with the error of its status, and so does each channel."""
    kernel.monitor.ended(status)
    assert type(kernel.sinks["shell"].failures["asked"]) is error
    assert all(type(sink.death) is error for sink in kernel.sinks.values())
    assert kernel.requests.outstanding() == []
    assert kernel.changes == [status]


def test_ended_once_more_fails_new_requests_and_tells_the_channels_nothing_new(
    kernel: Monitored,
) -> None:
    """An interruption may have come into the first call; the second completes it."""
    kernel.monitor.ended(KernelStatus.DEAD)
    for sink in kernel.sinks.values():
        sink.death = None
    kernel.requests.add(Request("late", "execute_request", "shell", "", (1, b"")))
    kernel.monitor.ended(KernelStatus.DEAD)
    assert "late" in kernel.sinks["shell"].failures
    assert kernel.sinks["iopub"].death is None
    assert len(kernel.changes) == 1


def test_ended_once_more_says_the_same_of_the_kernel(kernel: Monitored) -> None:
    """A kernel that was heard has not died while starting, whoever tells of its end next."""
    kernel.requests.incarnation = "one"
    kernel.monitor.ended(KernelStatus.GONE)
    first = str(kernel.monitor.death)
    kernel.monitor.ended(KernelStatus.GONE)
    assert str(kernel.monitor.death) == first
    assert "while starting" not in first


def test_revive_trusts_the_next_process(kernel: Monitored) -> None:
    """The channels wait again, and the error is forgotten."""
    kernel.monitor.ended(KernelStatus.DEAD)
    kernel.monitor.revive()
    assert (kernel.status, kernel.monitor.death) == (KernelStatus.ALIVE, None)
    assert all(sink.death is None for sink in kernel.sinks.values())
    assert kernel.changes == [KernelStatus.DEAD, KernelStatus.ALIVE]


def test_shutdown_reply_is_believed_only_after_a_poll(kernel: Monitored) -> None:
    """Another client may have shut it down with restart, or the gateway may start it again."""
    kernel.monitor.status_received(says("shutdown_reply", None, restart=False), None, 1.0)
    assert kernel.status is KernelStatus.SHUTTING_DOWN
    assert kernel.polls()
    kernel.monitor.shutdown_polled(PollResult.GONE, 1.1)
    assert kernel.status is KernelStatus.GONE
    assert not kernel.polls()


def test_kernel_that_outlives_its_shutdown_counts_as_alive_again(kernel: Monitored) -> None:
    """The polls end after a number of them, and each of them is soon."""
    kernel.monitor.polled(PollResult.GONE, 1.0)
    for polls in range(1, 100):  # noqa: B007
        assert kernel.polls()
        kernel.timers.cancel(Timer.SHUTDOWN_POLL)
        kernel.monitor.shutdown_polled(PollResult.BUSY, 1.0)
        if kernel.status is KernelStatus.ALIVE:
            break
    assert 5 < polls < 100
    assert not kernel.polls()
    assert kernel.sinks["shell"].failures == {}


def test_poll_result_that_comes_after_a_revival_is_ignored(kernel: Monitored) -> None:
    """The kernel was restarted while the gateway was asked whether its shutdown is done."""
    kernel.monitor.polled(PollResult.GONE, 1.0)
    kernel.monitor.revive()
    kernel.monitor.shutdown_polled(PollResult.GONE, 1.1)
    assert kernel.status is KernelStatus.ALIVE


@pytest.mark.parametrize("result", [PollResult.ERROR, PollResult.TIMEOUT, PollResult.BUSY])
def test_poll_without_a_verdict_changes_nothing(kernel: Monitored, result: PollResult) -> None:
    """A gateway that does not respond says nothing about the kernel."""
    kernel.monitor.polled(result, 1.0)
    assert kernel.status is KernelStatus.ALIVE
    assert not kernel.polls()


def test_gateway_that_gave_up_restarting_ends_the_kernel_at_once(kernel: Monitored) -> None:
    """It says so itself, so that no second poll is needed."""
    kernel.monitor.polled(PollResult.DEAD, 1.0)
    assert kernel.status is KernelStatus.DEAD
