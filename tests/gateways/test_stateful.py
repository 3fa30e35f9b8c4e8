"""Any faults, in any order: what a client is told of its requests, beside what the kernel did.

The model is docs/topics/delivery.rst: whatever happens, each request ends in one of its ways, and
truly so, which a file tells that the cells write.  The same sequences of faults come in every run;
tests/soak.py makes others, at random times and for hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway_blocking import BlockingGatewayKernelClient, BlockingGatewayKernelManager, ReplyLost
from gateway_blocking.local import LocalGateway
from support.faultproxy import FaultProxy

PATIENCE = 90  # seconds for what ends by itself; a gateway may stand still for ten of them
PRINTS = 20
IMPATIENT = {
    "ws_ping_interval": 0.5,
    "ws_ping_timeout": 0.5,
    "gateway_retry_interval": 0.1,
    "gateway_retry_interval_max": 0.5,
    "gateway_retry_max": 1000,
}
TRUE = {"replied": {1}, "executed": {1}, "nobody knows": {0, 1}}
SETTINGS = settings(
    max_examples=20,
    stateful_step_count=14,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # made smaller, a sequence would not fail at the same moment
    suppress_health_check=list(HealthCheck),
)


class ClientAndProxy(RuleBasedStateMachine):
    """A client that works while the proxy in front of its gateway fails."""

    def __init__(self, kernel_id: str, upstream: tuple[str, int], token: str, path: Path) -> None:
        super().__init__()
        self.path = path
        self.resources = ExitStack()
        self.proxy = self.resources.enter_context(FaultProxy(*upstream))
        self.kc = self.resources.enter_context(
            BlockingGatewayKernelClient(
                kernel_id=kernel_id, url=self.proxy.url, auth_token=token, **IMPATIENT
            )
        )
        self.kc.wait_for_ready(timeout=PATIENCE)
        self.pool = self.resources.enter_context(ThreadPoolExecutor(64))
        self.refusal: ExitStack | None = None
        self.outcomes: dict[str, Future[str]] = {}
        self.rows: list[list[str]] = []
        self.others: list[Future[None]] = []

    # --- what the client does ---

    def outcome(self, mark: str, get: Callable[[], dict[str, Any]]) -> str:
        """In which of the ways a request ended; its reply is its own."""
        try:
            reply = get()
        except ReplyLost as lost:
            return "executed" if lost.executed else "nobody knows"
        assert reply["content"]["status"] == "ok"
        found = reply["content"]["user_expressions"]["mark"]["data"]["text/plain"]
        assert found == repr(mark)
        return "replied"

    def request(self, code: str) -> str:
        """Send one, and let a thread wait for what comes of it; the mark that it leaves."""
        mark = f"{self.path.name}-{len(self.outcomes)}"
        code = f"with open({str(self.path)!r}, 'a') as f: f.write({mark!r} + ' ')\n{code}"
        msg_id = self.kc.execute(code, user_expressions={"mark": repr(mark)})
        get = partial(self.kc._recv_reply, msg_id, timeout=PATIENCE)
        self.outcomes[mark] = self.pool.submit(self.outcome, mark, get)
        return mark

    @precondition(lambda self: not self.refusal)
    @rule(count=st.integers(1, 4), pause=st.sampled_from([0, 0, 0.05]))
    def execute(self, count: int, pause: float) -> None:
        """Some in a row, from one thread, which does not wait for replies."""
        code = f"import time; time.sleep({pause})"
        self.rows.append([self.request(code) for _ in range(count)])

    @rule()
    def print_numbers(self) -> None:
        """What is printed comes in order, once, and what is missing is counted."""

        def look() -> None:
            outputs: list[dict[str, Any]] = []
            code = f"for i in range({PRINTS}):\n    display({{'n': i}}, raw=True); time.sleep(0.01)"
            try:
                reply = self.kc.execute_interactive(
                    "import time\n" + code, output_hook=outputs.append, timeout=PATIENCE
                )
            except ReplyLost:
                return
            displayed = [m for m in outputs if m["msg_type"] == "display_data"]
            numbers = [m["content"]["data"]["n"] for m in displayed]
            assert numbers == sorted(set(numbers))
            counted = self.kc.missing_messages(reply["parent_header"]["msg_id"])
            missing = PRINTS + 3 - len(outputs)  # busy, execute_input and idle come, too
            assert counted is None or counted <= missing
            assert counted != 0 or len(numbers) == PRINTS

        self.others.append(self.pool.submit(look))

    @rule()
    def complete(self) -> None:
        """What is harmless is answered, whatever happens."""

        def look() -> None:
            reply = self.kc.complete("impor", reply=True, timeout=PATIENCE)
            assert reply["content"]["status"] == "ok"

        self.others.append(self.pool.submit(look))

    # --- what happens meanwhile ---

    @rule(how=st.sampled_from(["rst", "fin"]))
    def cut(self, how: Literal["rst", "fin"]) -> None:
        """The newest websocket ends."""
        for link in [link for link in self.proxy.websockets if link.open][-1:]:
            link.cut(how)

    @rule(direction=st.sampled_from(["up", "down", "both"]))
    def hole(self, direction: Literal["up", "down", "both"]) -> None:
        """The newest websocket swallows what goes this way."""
        for link in [link for link in self.proxy.websockets if link.open][-1:]:
            link.hole(direction)

    @rule()
    def heal(self) -> None:
        """What was swallowed arrives late."""
        for link in self.proxy.websockets:
            link.heal()

    @precondition(lambda self: not self.refusal)
    @rule()
    def refuse(self) -> None:
        """No new connection is made."""
        self.refusal = ExitStack()
        self.refusal.enter_context(self.proxy.refusing())

    @precondition(lambda self: self.refusal)
    @rule()
    def accept(self) -> None:
        """They are made again."""
        assert self.refusal
        self.refusal.close()
        self.refusal = None

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 1.5]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    # --- what is true ---

    @invariant()
    def is_alive(self) -> None:
        """A gateway that cannot be reached is no dead kernel."""
        assert self.kc.is_alive()

    def teardown(self) -> None:
        """Then there is peace; all requests end, and each as was told."""
        with self.resources:
            if self.refusal:
                self.accept()
            self.heal()
            told = {mark: end.result(timeout=PATIENCE) for mark, end in self.outcomes.items()}
            for other in self.others:
                other.result(timeout=PATIENCE)
            marks = self.path.read_text().split() if self.path.exists() else []
            for mark, outcome in told.items():
                assert marks.count(mark) in TRUE[outcome]
            for row in self.rows:
                places = [marks.index(mark) for mark in row if mark in marks]
                assert places == sorted(places)


@pytest.fixture
def kernel_id(gateway: LocalGateway) -> Iterator[str]:
    with BlockingGatewayKernelManager(**gateway.options()) as km:
        km.start_kernel()
        yield km.kernel_id


@pytest.mark.usefixtures("default_format")
def test_any_faults(kernel_id: str, gateway: LocalGateway, tmp_path: Path) -> None:
    """Twenty sequences of requests and faults."""
    host, port = gateway.url.removeprefix("http://").split(":")
    paths = (tmp_path / str(number) for number in range(1000))
    run_state_machine_as_test(
        lambda: ClientAndProxy(kernel_id, (host, int(port)), gateway.token, next(paths)),
        settings=SETTINGS,
    )
