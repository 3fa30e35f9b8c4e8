"""A kernel, a gateway and a network without sockets, threads or a clock.

:class:`World` drives a :class:`~gateway_blocking.protocol.KernelProtocol` as the connection does,
against a kernel that executes in order, behind a gateway that keeps the kernel's messages while no
websocket is open.  Each method is one event; a test calls them in any order.  Time is a number that
:meth:`World.advance` adds to.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from jupyter_client.session import Session

from gateway_blocking.actions import (
    GiveUp,
    PollKernel,
    ReportResent,
    Retry,
    SendPing,
    SendRequest,
    State,
    TransportInfo,
)
from gateway_blocking.errors import GatewayConnectionError, GatewayError, KernelRestarted, ReplyLost
from gateway_blocking.liveness import PollResult
from gateway_blocking.protocol import KernelProtocol
from gateway_blocking.requests_table import Request
from gateway_blocking.wire import FORMATS, V1

Message = dict[str, Any]
Frame = tuple[int, bytes]

PING_INTERVAL, PING_TIMEOUT = 10.0, 20.0
ATTEMPTS = 50


class RecordingSink:
    """A channel that records what the protocol tells it."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world

    def deliver(self, message: Message, size: int = 0) -> None:
        assert not self.world.is_closed, "nothing is delivered after close"
        if message["msg_type"] == "execute_reply":
            process = message["header"]["session"]
            self.world.end(message["parent_header"]["msg_id"], "reply", process)
        elif self.name == "iopub" and message["msg_type"] == "stream":
            self.world.output.append(message["content"]["text"])

    def deliver_loss(self, lost: ReplyLost) -> None:
        self.world.end(lost.msg_id, "lost", lost.executed)

    def request_failed(self, msg_id: str, error: GatewayError) -> None:
        if not isinstance(error, ReplyLost):  # that is the end of the output of a request
            self.world.end(msg_id, "failed", type(error).__name__)

    def kernel_died(self, error: GatewayError) -> None:
        pass

    def revive(self) -> None:
        pass

    def close(self, error: GatewayError | None = None) -> None:
        self.world.is_closed = True


class KernelProcess:
    """A kernel process: it executes shell requests in order, and answers control at once."""

    def __init__(self, *, ignores_repetitions: bool, answers_while_busy: bool) -> None:
        self.session = uuid4().hex
        self._answers_while_busy = answers_while_busy
        self.executed: list[str] = []
        self._ignores_repetitions = ignores_repetitions
        self._signatures: set[bytes] = set()
        self._number = 0
        self._queue: deque[Message] = deque()
        self._executing: Message | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._executing or self._queue)

    def pending(self) -> list[str]:
        """Return the msg_ids of the requests that it executes, now or later."""
        requests = [*self._queue, *filter(None, [self._executing])]
        return [request["header"]["msg_id"] for request in requests]

    def receive(self, channel: str, message: Message, payload: bytes) -> list[tuple[str, Message]]:
        """Take a request; return what the kernel says at once."""
        if self._ignores_repetitions and payload in self._signatures:
            return []
        self._signatures.add(payload)
        is_question = message["header"]["msg_type"] == "kernel_info_request"
        if channel == "shell" and not (is_question and self._answers_while_busy):
            self._queue.append(message)
            return []
        return [
            self._status("busy", message),
            (channel, self._message("kernel_info_reply", message)),
            self._status("idle", message),
        ]

    def work(self) -> list[tuple[str, Message]]:
        """Begin the next request, or end the one that is executing."""
        if self._executing is None:
            if not self._queue:
                return []
            self._executing = request = self._queue.popleft()
            if request["msg_type"] == "execute_request" and request["content"].get("code"):
                self.executed.append(request["header"]["msg_id"])
            return [self._status("busy", request)]
        request, self._executing = self._executing, None
        reply_type = request["header"]["msg_type"].replace("_request", "_reply")
        said = [("shell", self._message(reply_type, request, status="ok"))]
        if request["content"].get("code"):
            text = request["header"]["msg_id"]
            said.insert(0, ("iopub", self._message("stream", request, text=text)))
        return [*said, self._status("idle", request)]

    def _status(self, state: str, request: Message) -> tuple[str, Message]:
        return "iopub", self._message("status", request, execution_state=state)

    def _message(self, msg_type: str, request: Message, **content: Any) -> Message:
        header = {
            "msg_id": f"{self.session}_1_{self._number}",
            "msg_type": msg_type,
            "session": self.session,
            "username": "kernel",
            "date": datetime(2026, 1, 1, tzinfo=UTC),
        }
        self._number += 1
        return _message(header, request["header"], **content)


def _message(header: dict[str, Any], parent: dict[str, Any], **content: Any) -> Message:
    return {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": parent,
        "metadata": {},
        "content": content,
        "buffers": [],
    }


@dataclass
class Wire:
    """A websocket: what is under way in each direction, and what the network does to it."""

    up: deque[Frame] = field(default_factory=deque)
    down: deque[tuple[str, Message]] = field(default_factory=deque)
    holds_up: bool = False
    """Whether nothing arrives any more; what is under way arrives later, or is lost with a cut."""
    holds_down: bool = False
    is_open: bool = True
    """As the client sees it."""
    gateway_sees_it: bool = True
    opened: float = 0.0
    last_received: float = 0.0


class World:
    """The shell of a protocol, its network, its gateway and its kernel."""

    def __init__(
        self, *, ignores_repetitions: bool = True, answers_while_busy: bool = False
    ) -> None:
        self.now = 1000.0
        self.session = Session()
        self.ignores_repetitions = ignores_repetitions
        self.answers_while_busy = answers_while_busy
        self.kernel = self.new_process()
        self.processes = [self.kernel]
        self.is_closed = False
        self.is_refusing = False
        self.ends: dict[str, list[tuple[str, Any]]] = {}
        self.meant_for: dict[str, str | None] = {}  # None: no kernel process was known yet
        self.sent_order: list[str] = []
        self.output: list[str] = []
        self.inbox: deque[Any] = deque()
        self.wire: Wire | None = None
        self.writing: deque[tuple[Request, Wire]] = deque()
        self.unsent: deque[Message] = deque()  # calls that wait until they may send
        self.retry_at: float | None = None
        self.kept: deque[tuple[str, Message]] = deque()  # by the gateway, for the next websocket
        self.kept_for = ""
        self.received: deque[tuple[str, Message]] = deque(maxlen=3)
        self.protocol = KernelProtocol(
            "12345678-kernel",
            session=self.session,
            sinks={n: RecordingSink(n, self) for n in ("shell", "iopub", "stdin", "control")},
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            delays=lambda: iter([0.0] + [1.0] * ATTEMPTS),
            on_change=lambda: None,
            on_timer=lambda: None,
            now=self.now,
        )
        self.connect()

    def new_process(self) -> KernelProcess:
        return KernelProcess(
            ignores_repetitions=self.ignores_repetitions,
            answers_while_busy=self.answers_while_busy,
        )

    # --- the caller -----------------------------------------------------------------------------

    def request(self) -> str:
        """Call execute(); the request is written when the connection lets it."""
        message = self.session.msg("execute_request", {"code": "work"})
        msg_id: str = message["header"]["msg_id"]
        self.ends[msg_id] = []
        self.sent_order.append(msg_id)
        self.unsent.append(message)
        self.begin_to_write()
        return msg_id

    def begin_to_write(self) -> None:
        """Register the calls that may send now, as the thread of one caller does: in order."""
        while self.unsent and not self.writing and not self.is_closed:
            try:
                epoch = self.protocol.epoch_to_send("shell")
            except GatewayError as error:
                self.end(self.unsent.popleft()["header"]["msg_id"], "refused", type(error).__name__)
                continue
            if epoch is None:
                return
            message = self.unsent.popleft()
            header = message["header"]
            frame = FORMATS[V1].encode("shell", message, self.session.pack)
            request = Request(header["msg_id"], header["msg_type"], "shell", V1, frame)
            assert self.protocol.register(request, epoch)
            assert self.wire
            self.meant_for[header["msg_id"]] = self.protocol._requests.incarnation
            self.writing.append((request, self.wire))

    def end_to_write(self) -> None:
        """The oldest call that is writing is done, or learns that it cannot."""
        if not self.writing:
            return
        request, wire = self.writing.popleft()
        if wire.is_open:
            wire.up.append(request.frame)
            self.do(self.protocol.request_sent(request, self.now))
            return
        if self.protocol.request_not_sent(request, self.now):
            _channel, message = FORMATS[V1].decode(*request.frame, self.session.unpack)
            self.unsent.appendleft(message)

    # --- the second thread ----------------------------------------------------------------------

    def do(self, actions: Any) -> None:
        self.inbox.extend(actions)
        if self.protocol.abort_reason and self.wire is not None:
            self.wire.is_open = False

    def perform(self) -> None:
        """Perform the oldest action."""
        if not self.inbox:
            return
        action = self.inbox.popleft()
        wire = self.wire
        if isinstance(action, PollKernel):
            self.do(self.protocol.kernel_polled(action, self.poll(), self.info(), self.now))
        elif isinstance(action, ReportResent):
            self.protocol.requests_resent(action.epoch, self.now)
        elif wire is not None and getattr(action, "epoch", None) == self.protocol.epoch:
            if isinstance(action, SendRequest) and wire.is_open:
                wire.up.append((action.opcode, action.payload))
            elif isinstance(action, SendPing) and wire.is_open:
                if not (wire.holds_up or wire.holds_down) and wire.gateway_sees_it:
                    wire.last_received = self.now

    def poll(self) -> PollResult:
        if self.is_refusing:
            return PollResult.ERROR
        return PollResult.BUSY if self.kernel.is_busy else PollResult.IDLE

    def info(self) -> TransportInfo | None:
        if self.wire is None:
            return None
        return TransportInfo(self.wire.opened, self.wire.last_received, False, False)

    def advance(self, seconds: float) -> None:
        """Let time pass, without skipping a timer."""
        until = self.now + seconds
        while (due := self.protocol.next_timer()) <= until:
            self.now = max(self.now, due)
            self.do(self.protocol.timer_expired(self.now, self.info()))
            if not self.inbox and self.protocol.next_timer() <= self.now:
                break
            while self.inbox:
                self.perform()
        self.now = max(self.now, until)

    # --- the reader -----------------------------------------------------------------------------

    def receive(self) -> None:
        """Take the oldest message from the websocket."""
        if self.wire and self.wire.is_open and self.wire.down and not self.wire.holds_down:
            self.wire.last_received = self.now
            channel, message = self.wire.down.popleft()
            self.received.append((channel, message))
            self.do(self.protocol.message_received(channel, message, 1, self.now))

    def fail_to_read(self, *, headers: bool) -> None:
        """The oldest message came, but cannot be read; its headers perhaps can."""
        if self.wire and self.wire.is_open and self.wire.down and not self.wire.holds_down:
            self.wire.last_received = self.now
            channel, message = self.wire.down.popleft()
            if headers:
                self.do(self.protocol.message_received(channel, message, 1, self.now, "why"))
            else:
                self.do(self.protocol.message_lost(self.now))

    def notice_loss(self) -> None:
        """The reader's receive() fails on a websocket that has ended."""
        if self.wire is None or self.wire.is_open:
            return
        self.wire.gateway_sees_it = False
        self.wire = None
        error = GatewayConnectionError("the websocket broke")
        self.decide(self.protocol.connection_lost(error, self.now))

    def decide(self, decision: Retry | GiveUp) -> None:
        if isinstance(decision, Retry):
            self.retry_at = self.now + decision.delay
        else:
            self.retry_at = None
            self.protocol.close(decision.error)

    def reconnect(self) -> None:
        """Try to open the websocket again, when it is time to."""
        if self.retry_at is None or self.retry_at > self.now or self.is_closed:
            return
        self.retry_at = None
        if self.is_refusing:
            error = GatewayConnectionError("connection refused")
            self.decide(self.protocol.connection_failed(error, self.now))
        else:
            self.connect()

    def connect(self) -> None:
        self.wire = Wire(opened=self.now, last_received=self.now)
        if self.kept_for == self.protocol.session_id:
            self.wire.down.extend(self.kept)
        self.kept.clear()
        self.kept_for = self.protocol.session_id
        self.do(self.protocol.connection_opened(V1, self.now))

    # --- the network, the gateway, the kernel ---------------------------------------------------

    def cut(self, *, arrived: int = 0, repeated: int = 0) -> None:
        """The websocket ends.

        So many requests arrive before, and so many of the last messages come again afterwards.
        """
        if self.wire is None:
            return
        for _ in range(arrived):
            self.pass_on()
        self.wire.up.clear()
        self.wire.down.clear()
        self.wire.is_open = self.wire.gateway_sees_it = False
        if repeated:
            self.kept.extendleft(reversed(list(self.received)[-repeated:]))

    def pass_on(self) -> None:
        """The gateway passes the oldest request on to the kernel."""
        if self.wire and self.wire.up and not self.wire.holds_up:
            opcode, payload = self.wire.up.popleft()
            channel, message = FORMATS[V1].decode(opcode, payload, self.session.unpack)
            self.say(self.kernel.receive(channel, message, bytes(payload)))

    def work(self) -> None:
        """The kernel begins or ends a request."""
        self.say(self.kernel.work())
        for msg_id in self.kernel.pending():
            ends = self.ends.get(msg_id, [])
            assert not any(how == "lost" for how, _ in ends), "executed after it was given up"

    def say(self, messages: list[tuple[str, Message]]) -> None:
        for said in messages:
            if self.wire and self.wire.gateway_sees_it:
                self.wire.down.append(said)
            else:
                self.kept.append(said)

    def restart_kernel(self) -> None:
        """The kernel process dies; the gateway says so and starts another one."""
        header = {"msg_id": uuid4().hex, "msg_type": "status", "session": "gateway"}
        self.say([("iopub", _message(header, {}, execution_state="restarting"))])
        self.kernel = self.new_process()
        self.processes.append(self.kernel)

    def restart_kernel_here(self) -> None:
        """The client has the kernel restarted, and is told so."""
        if self.is_closed:
            return
        token = self.protocol.kernel_restarting()
        self.restart_kernel()
        error = KernelRestarted("restarted here")
        self.protocol.kernel_restarted(token, error)
        self.do(())

    # --- ends -----------------------------------------------------------------------------------

    def end(self, msg_id: str, how: str, detail: Any) -> None:
        if msg_id in self.ends:
            assert how != "lost" or msg_id not in self.kernel.pending(), "not done with it"
            self.ends[msg_id].append((how, detail))

    def run_round(self) -> None:
        """Let each part do its next step, as they do while nothing fails."""
        self.notice_loss()
        self.reconnect()
        self.end_to_write()
        self.begin_to_write()
        while self.inbox:
            self.perform()
        self.pass_on()
        self.work()
        self.receive()

    def run_until_quiet(self, limit: int = 5000) -> None:
        """Heal the network, and let everything happen that happens by itself."""
        self.is_refusing = False
        for _ in range(limit):
            if self.wire:
                self.wire.holds_up = self.wire.holds_down = False
            self.run_round()
            is_quiet = self.is_closed or (
                all(self.ends.values())
                and self.protocol.state is State.OPEN
                and not self.kernel.is_busy
                and not (self.wire and (self.wire.up or self.wire.down))
            )
            if is_quiet:
                return
            if not (self.wire and (self.wire.up or self.wire.down)) and not self.kernel.is_busy:
                self.advance(0.25)
        raise AssertionError(f"still waiting: {self.ends} {self.protocol!r}")

    def check(self) -> None:
        """Assert what the delivery page promises."""
        for process in self.processes:
            counts = Counter(process.executed)
            assert all(count == 1 for count in counts.values()), "executed twice"
            places = [self.sent_order.index(msg_id) for msg_id in process.executed]
            assert places == sorted(places), "out of order"
        executed = Counter(msg_id for process in self.processes for msg_id in process.executed)
        for msg_id, ends in self.ends.items():
            assert len(ends) == 1 or (self.is_closed and not ends), f"{msg_id} ended {ends}"
            for how, detail in ends:
                if how == "reply":
                    assert executed[msg_id] == 1
                    assert self.meant_for[msg_id] in (None, detail), "a reply of another process"
                elif how == "lost" and detail:
                    assert executed[msg_id] == 1, "said to be executed, and was not"
        assert all(count == 1 for count in Counter(self.output).values()), "delivered twice"
