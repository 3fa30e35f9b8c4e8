"""Sequences of faults around a protocol in a simulated world, for Hypothesis to choose from."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway_blocking.actions import State
from support.simulation import World


class Faults(RuleBasedStateMachine):
    """A client that works while everything around it fails."""

    ignores_repetitions = True
    answers_while_busy = False

    def __init__(self) -> None:
        super().__init__()
        self.world = World(
            ignores_repetitions=self.ignores_repetitions,
            answers_while_busy=self.answers_while_busy,
        )

    @rule(count=st.integers(1, 3))
    def request(self, count: int) -> None:
        for _ in range(count):
            self.world.request()

    @rule(rounds=st.integers(1, 12))
    def run_rounds(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.run_round()

    @rule(
        count=st.integers(1, 3),
        rounds=st.integers(0, 8),
        arrived=st.integers(0, 3),
        repeated=st.integers(0, 3),
    )
    def lose_the_websocket_while_busy(
        self, count: int, rounds: int, arrived: int, repeated: int
    ) -> None:
        """What random steps rarely do by themselves: a loss just when requests are in flight."""
        self.request(count)
        self.run_rounds(rounds)
        self.world.cut(arrived=arrived, repeated=repeated)

    @rule(rounds=st.integers(5, 40), busy=st.booleans())
    def run_more_rounds(self, rounds: int, busy: bool) -> None:
        """Its caller executes one thing after another, if it is busy."""
        for _ in range(rounds):
            if busy:
                self.world.request()
            self.world.run_round()

    @rule()
    def end_to_write(self) -> None:
        self.world.end_to_write()
        self.world.begin_to_write()

    @rule(count=st.integers(1, 5))
    def pass_on(self, count: int) -> None:
        for _ in range(count):
            self.world.pass_on()

    @rule(count=st.integers(1, 5))
    def work(self, count: int) -> None:
        for _ in range(count):
            self.world.work()

    @rule(count=st.integers(1, 10))
    def receive(self, count: int) -> None:
        for _ in range(count):
            self.world.receive()

    @rule(headers=st.booleans(), before=st.integers(0, 3))
    def fail_to_read(self, headers: bool, before: int) -> None:
        self.receive(before)
        self.world.fail_to_read(headers=headers)

    @rule()
    def miss_a_message_while_a_request_is_written(self) -> None:
        """The audit asks the kernel before that request reaches it."""
        self.run_rounds(2)
        self.world.request()
        self.world.fail_to_read(headers=False)
        self.world.advance(1.1)
        for _ in range(8):
            self.world.perform()
            self.world.pass_on()
            self.world.work()
            self.world.receive()
        self.world.advance(0.4)

    @rule()
    def perform(self) -> None:
        self.world.perform()

    @rule(seconds=st.sampled_from([0.1, 0.4, 1.0, 5.0, 31.0]))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(arrived=st.integers(0, 3))
    def cut(self, arrived: int) -> None:
        self.world.cut(arrived=arrived)

    @rule(up=st.booleans(), down=st.booleans())
    def hold(self, up: bool, down: bool) -> None:
        if self.world.wire:
            self.world.wire.holds_up, self.world.wire.holds_down = up, down

    @rule()
    def notice_loss(self) -> None:
        self.world.notice_loss()

    @rule()
    def reconnect(self) -> None:
        self.world.reconnect()

    @rule()
    def restart_kernel(self) -> None:
        self.world.restart_kernel()

    @rule()
    def restart_kernel_here(self) -> None:
        self.world.restart_kernel_here()

    @rule(refuse=st.booleans())
    def refuse(self, refuse: bool) -> None:
        self.world.is_refusing = refuse

    @invariant()
    def a_closed_connection_stays_closed(self) -> None:
        assert not self.world.is_closed or self.world.protocol.state is State.CLOSED

    def teardown(self) -> None:
        self.world.run_until_quiet()
        self.world.check()


class RepeatingFaults(Faults):
    """The kernel executes a request again that it had before."""

    ignores_repetitions = False


class FaultsWithQuickAnswers(Faults):
    """The kernel answers questions on shell while it executes, as ipymini does."""

    answers_while_busy = True


MACHINES = (Faults, RepeatingFaults, FaultsWithQuickAnswers)


def run_sequences(faults: type[Faults], count: int) -> None:
    """Try so many sequences; the promises of ``delivery.rst`` are asserted in each."""
    run_state_machine_as_test(
        faults,
        settings=settings(
            max_examples=count,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
