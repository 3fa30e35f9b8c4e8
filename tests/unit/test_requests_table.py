"""The table: what is outstanding, which kernel process answers, what is missing or came twice."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session

from gateway_blocking.messages import Message
from gateway_blocking.requests_table import Disposition, Request, RequestTable

CONTROL = ("interrupt_request", "shutdown_request")


class Kernel:
    """A kernel process, whose messages are made by the Session that ipykernel uses."""

    def __init__(self) -> None:
        self.session = Session(key=b"secret")
        self.incarnation = self.session.session

    def says(self, msg_type: str, parent: Message | None, **content: Any) -> Message:
        message: Message = self.session.msg(msg_type, content, parent=parent)
        return message

    def busy(self, parent: Message) -> Message:
        return self.says("status", parent, execution_state="busy")

    def idle(self, parent: Message) -> Message:
        return self.says("status", parent, execution_state="idle")

    def prints(self, parent: Message) -> Message:
        return self.says("stream", parent, name="stdout", text="x")

    def replies(self, parent: Message) -> Message:
        return self.says(parent["msg_type"].replace("_request", "_reply"), parent)

    def executes(self, parent: Message, prints: int = 3) -> list[Message]:
        """All that comes of an execution."""
        outputs = [self.busy(parent), self.says("execute_input", parent)]
        outputs += [self.prints(parent) for _ in range(prints)]
        return [*outputs, self.replies(parent), self.idle(parent)]

    def serves(self, parent: Message) -> list[Message]:
        """All that comes of another request."""
        return [self.busy(parent), self.replies(parent), self.idle(parent)]


class Unnumbered(Kernel):
    """As xeus: the ids of its messages are random."""

    def says(self, msg_type: str, parent: Message | None, **content: Any) -> Message:
        message = super().says(msg_type, parent, **content)
        message["msg_id"] = message["header"]["msg_id"] = uuid4().hex
        return message


class Echo(Unnumbered):
    """As IRkernel: it puts the session of the request into its own headers, too."""

    def says(self, msg_type: str, parent: Message | None, **content: Any) -> Message:
        message = super().says(msg_type, parent, **content)
        message["header"]["session"] = parent["header"]["session"] if parent else ""
        return message


class Client:
    """A client with a table."""

    def __init__(self) -> None:
        self.session = Session(key=b"secret")
        self.table = RequestTable(self.session.session)
        self._next = 0  # the number that the kernel's next message has if none is dropped

    def asks(self, msg_type: str = "execute_request", channel: str = "shell") -> Message:
        """A message that is sent, and entered before."""
        message: Message = self.session.msg(msg_type, {})
        self.enters(message, channel)
        return message

    def enters(self, message: Message, channel: str = "shell") -> Request:
        msg_type = message["msg_type"]
        request = Request(message["msg_id"], msg_type, channel, "", (1, b"{}"))
        self.table.add(request)
        return request

    def receives(self, *messages: Message) -> Disposition:
        """Hear messages from a gateway that says so when it drops some.

        Returns
        -------
        Disposition
            What the last of them is.
        """
        for message in messages:
            number = message["msg_id"].rpartition("_")[2]
            if number.isdecimal():
                if int(number) > self._next:
                    self.receives_all(self.notice())
                self._next = int(number) + 1
            heard = self.receives_all(message)
        return heard

    def receives_all(self, *messages: Message) -> Disposition:
        """Hear messages of which the gateway dropped none; return what the last of them is."""
        for message in messages:
            heard = self.table.receive(channel_of(message), message)
        return heard

    def notice(self) -> Message:
        """Return what a gateway says in the client's name when it begins to drop output."""
        text = "IOPub message rate exceeded."
        notice: Message = Session(session=self.session.session, key=b"secret").msg(
            "stream", {"name": "stderr", "text": text}
        )
        return notice

    def waits_for(self) -> list[str]:
        return [request.msg_id for request in self.table.outstanding()]


def channel_of(message: Message) -> str:
    if message["msg_type"].endswith("_reply"):
        return "control" if message["parent_header"]["msg_type"] in CONTROL else "shell"
    return "stdin" if message["msg_type"] == "input_request" else "iopub"


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def stranger() -> Client:
    """Another client of the same kernel."""
    return Client()


# --- what is outstanding --------------------------------------------------------------------------


def test_requests_are_outstanding_in_their_order_until_their_reply(
    client: Client, kernel: Kernel
) -> None:
    """Each until its own reply comes, and not before, whatever it prints."""
    first, second, third = (client.asks() for _ in range(3))
    client.receives(kernel.busy(second), kernel.prints(second))
    assert client.waits_for() == [first["msg_id"], second["msg_id"], third["msg_id"]]
    assert client.receives(kernel.replies(second)) is Disposition.DELIVER
    assert client.waits_for() == [first["msg_id"], third["msg_id"]]


def test_an_idle_does_not_settle_a_request(client: Client, kernel: Kernel) -> None:
    """Its reply may still come: the order between the channels is not kept."""
    asked = client.asks()
    client.receives(kernel.busy(asked), kernel.idle(asked))
    assert client.waits_for() == [asked["msg_id"]]
    client.receives(kernel.replies(asked))
    assert client.waits_for() == []


def test_a_reply_on_another_channel_does_not_settle_a_request(
    client: Client, kernel: Kernel
) -> None:
    """ipykernel publishes shutdown_reply on iopub as well, before the reply proper."""
    asked = client.asks("shutdown_request", "control")
    published = kernel.replies(asked)
    client.table.receive("iopub", published)
    assert client.waits_for() == [asked["msg_id"]]
    client.receives(kernel.replies(asked))
    assert client.waits_for() == []


def test_a_comm_message_is_settled_by_its_idle(client: Client, kernel: Kernel) -> None:
    """Because it gets no reply."""
    asked = client.asks("comm_msg")
    client.receives(kernel.busy(asked))
    assert client.waits_for() == [asked["msg_id"]]
    assert client.receives(kernel.idle(asked)) is Disposition.DELIVER
    assert client.waits_for() == []


def test_an_input_reply_is_settled_when_the_execution_goes_on(
    client: Client, kernel: Kernel
) -> None:
    """Its own id is never anybody's parent; another request's messages say nothing of it."""
    asked, other = client.asks(), client.asks()
    client.receives(kernel.busy(asked), kernel.says("input_request", asked, prompt="?"))
    answer: Message = client.session.msg("input_reply", {"value": "x"})
    request = client.enters(answer, "stdin")
    client.receives(kernel.says("stream", other))
    assert request in client.table.outstanding()
    client.receives(kernel.prints(asked))
    assert client.waits_for() == [asked["msg_id"], other["msg_id"]]


def test_the_answer_to_the_first_input_is_settled_by_the_second(
    client: Client, kernel: Kernel
) -> None:
    """And the answer to the second waits again."""
    asked = client.asks()
    for _ in range(2):
        client.receives(kernel.says("input_request", asked, prompt="?"))
        assert client.waits_for() == [asked["msg_id"]]
        client.enters(client.session.msg("input_reply", {"value": "x"}), "stdin")
        assert len(client.waits_for()) == 2
    client.receives(kernel.replies(asked))
    assert client.waits_for() == []


def test_what_was_not_sent_is_struck_once(client: Client) -> None:
    """The second time says that there was nothing to strike."""
    request = client.enters(client.session.msg("execute_request", {}))
    assert client.table.discard(request)
    assert not client.table.discard(request)
    assert client.waits_for() == []


def test_whatever_is_heard_of_a_request_tells_that_the_kernel_has_it(
    client: Client, kernel: Kernel
) -> None:
    """Also its output only; and then the process is known that it was meant for."""
    request = client.enters(asked := client.session.msg("execute_request", {}))
    assert not request.seen
    assert request.incarnation is None
    client.receives(kernel.prints(asked))
    assert request.seen
    assert request.incarnation == kernel.incarnation
    assert not request.settled


def test_the_gateways_word_on_another_clients_output_tells_no_incarnation(
    client: Client, stranger: Client
) -> None:
    """It speaks in this client's name there, too."""
    notice: Message = client.session.msg("stream", {}, parent=stranger.asks())
    assert client.receives(notice) is Disposition.DELIVER
    assert client.table.incarnation is None


def test_a_new_process_is_noticed_before_anything_else(client: Client, kernel: Kernel) -> None:
    """RESTARTED is not noted; once the old process is ended, the message is shown again."""
    old, asked = client.asks(), client.asks()
    client.receives(kernel.busy(old))
    answer = Kernel().replies(asked)
    assert client.receives(answer) is Disposition.NEW_PROCESS
    assert len(client.table.outstanding()) == 2
    assert client.table.incarnation == kernel.incarnation
    client.table.end_incarnation()
    assert client.table.incarnation is None
    assert client.waits_for() == []
    assert client.receives(answer) is Disposition.STALE  # an empty process answered
    assert client.table.incarnation == answer["header"]["session"]


def test_the_new_process_output_of_an_old_request_is_strange(
    client: Client, kernel: Kernel
) -> None:
    """All that a gateway queued over the restart is run by the wrong process."""
    client.receives(*kernel.serves(client.asks("kernel_info_request")))
    asked = client.asks()
    client.table.end_incarnation()
    for message in Kernel().executes(asked):
        assert client.receives(message) is Disposition.STALE


def test_a_past_process_is_not_taken_for_a_new_one(client: Client, kernel: Kernel) -> None:
    """Its messages that come late are only output."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    client.table.end_incarnation()
    client.receives(*(new := Kernel()).serves(client.asks("kernel_info_request")))
    assert client.receives(kernel.prints(asked)) is Disposition.DELIVER
    assert client.receives(kernel.replies(asked)) is Disposition.STALE
    assert client.table.incarnation == new.incarnation


def test_a_session_that_is_too_long_is_no_kernel_process(client: Client) -> None:
    """The past ones are remembered, a thousand of them."""
    answer = Kernel().busy(client.asks("kernel_info_request"))
    answer["header"]["session"] = "x" * 1025
    assert client.receives(answer) is Disposition.DELIVER
    assert client.table.incarnation is None


def test_ending_an_unknown_incarnation_ends_the_requests(client: Client, kernel: Kernel) -> None:
    """And shuts no process out: the next that speaks is the kernel."""
    client.asks()
    client.table.end_incarnation()
    assert client.waits_for() == []
    client.receives(*kernel.serves(client.asks("kernel_info_request")))
    assert client.table.incarnation == kernel.incarnation


def test_a_kernel_that_echoes_the_session_has_no_incarnation(
    client: Client, stranger: Client
) -> None:
    """With whoever's requests; all it says is news, and its replies settle."""
    kernel = Echo()
    for asked in (client.asks(), stranger.asks()):
        for message in (kernel.busy(asked), kernel.prints(asked), *kernel.serves(asked)):
            assert client.receives(message) is Disposition.DELIVER
    assert client.table.incarnation is None
    assert client.waits_for() == []


def test_late_output_of_a_kernel_that_echoes_the_session_is_delivered(client: Client) -> None:
    """Only the reply to what was given up is not."""
    kernel = Echo()
    request = client.enters(asked := client.session.msg("execute_request", {}))
    client.table.abandon(request)
    assert client.receives(kernel.prints(asked)) is Disposition.DELIVER
    assert client.receives(kernel.replies(asked)) is Disposition.STALE


@pytest.mark.parametrize("session", [None, "", 7, ["list"]])
def test_a_session_that_is_no_text_is_no_incarnation(client: Client, session: Any) -> None:
    """Whatever a kernel puts there."""
    message = Kernel().busy(client.asks())
    message["header"]["session"] = session
    assert client.receives(message) is Disposition.DELIVER
    assert client.table.incarnation is None


# --- what came twice ------------------------------------------------------------------------------


def test_only_a_replay_makes_a_message_come_again(client: Client, kernel: Kernel) -> None:
    """A message from before the loss of the websocket is a duplicate; a later one is not."""
    asked = client.asks()
    busy, source, *rest = kernel.executes(asked)
    client.receives(busy, source)
    assert client.receives(source) is Disposition.DELIVER  # a kernel's business
    client.table.expect_replay()
    assert client.receives(busy) is Disposition.DUPLICATE
    assert client.receives(source) is Disposition.DUPLICATE
    for message in rest:
        assert client.receives(message) in (Disposition.DELIVER, Disposition.DELIVER_INCOMPLETE)
    client.table.replay_is_over()
    assert client.receives(busy) is Disposition.DELIVER


def test_a_replay_does_not_hide_a_gap(client: Client, kernel: Kernel) -> None:
    """A message that comes twice counts once, so that the missing one is missed."""
    asked = client.asks()
    busy, source, *lost_and_more = kernel.executes(asked)
    client.receives(busy, source)
    client.table.expect_replay()
    assert client.receives(busy, source, *lost_and_more[1:]) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 1


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("reply_at", [0, 1, 4, 99])
def test_nothing_is_missing_of_a_complete_execution(
    client: Client, kernel: Kernel, reply_at: int
) -> None:
    """Wherever among the outputs its reply comes, which has a number, too."""
    asked = client.asks()
    messages = kernel.executes(asked)
    messages.insert(reply_at, messages.pop(-2))
    for message in messages:
        assert client.receives(message) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) == 0


@pytest.mark.parametrize("dropped", [1, 2, 7])
@pytest.mark.parametrize("reply_last", [False, True])
def test_a_gap_is_as_wide_as_what_was_dropped(
    client: Client, kernel: Kernel, dropped: int, reply_last: bool
) -> None:
    """It is told with the idle, whether the reply came before or comes after."""
    asked = client.asks()
    *messages, reply, idle = kernel.executes(asked, prints=10)
    del messages[3 : 3 + dropped]
    client.receives(*messages)
    if not reply_last:
        client.receives(reply)
    assert client.table.missing(asked["msg_id"]) is None
    assert client.receives(idle) is Disposition.DELIVER_INCOMPLETE
    if reply_last:
        assert client.receives(reply) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) == dropped
    assert client.waits_for() == []


@given(data=st.data(), kinds=st.lists(st.sampled_from(["stream", "input_request", "error"])))
def test_every_gap_is_counted_exactly(data: st.DataObject, kinds: list[str]) -> None:
    """For any outputs of which any but busy and idle are dropped; the reply comes anywhere.

    Before it, another client's execution, of which some is dropped, too, is another matter.
    """
    client, kernel, stranger = Client(), Kernel(), Client()
    client.receives(*outputs_of(kernel.executes(stranger.asks()))[data.draw(st.integers(0, 5)) :])
    asked = client.asks()
    busy = kernel.busy(asked)
    outputs = [kernel.says(kind, asked) for kind in kinds]
    reply, idle = kernel.replies(asked), kernel.idle(asked)
    kept = [message for message in outputs if data.draw(st.booleans())]
    heard = [busy, *kept, idle]
    heard.insert(data.draw(st.integers(0, len(heard))), reply)
    client.receives(*heard)
    assert client.table.missing(asked["msg_id"]) == len(outputs) - len(kept)
    assert client.waits_for() == []


def outputs_of(messages: list[Message]) -> list[Message]:
    """What other clients see of this."""
    return [message for message in messages if channel_of(message) == "iopub"]


@pytest.mark.parametrize("dropped", [0, 1])
def test_other_clients_and_the_control_channel_leave_and_hide_no_gap(
    client: Client, stranger: Client, kernel: Kernel, dropped: int
) -> None:
    """Their replies have numbers, but only their outputs come here; comms have no reply."""
    asked, comm = client.asks(), stranger.asks("comm_msg")
    client.receives(kernel.busy(asked), kernel.says("execute_input", asked))
    client.receives(*outputs_of(kernel.serves(stranger.asks("interrupt_request", "control"))))
    client.receives(*kernel.serves(client.asks("interrupt_request", "control")))
    client.receives(kernel.busy(comm), kernel.says("comm_msg", comm), kernel.idle(comm))
    for _ in range(dropped):
        kernel.prints(asked)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == dropped


@pytest.mark.parametrize(
    ("before", "dropped", "missing"), [(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, None), (2, 2, 1)]
)
def test_an_answer_to_another_that_began_before_hides_no_gap(
    client: Client,
    stranger: Client,
    kernel: Kernel,
    before: int,
    dropped: int,
    missing: int | None,
) -> None:
    """Its status and perhaps its reply come before the execution, the rest within."""
    asked, other = client.asks(), stranger.asks("kernel_info_request", "control")
    steps = iter([kernel.busy, kernel.replies, kernel.idle])
    answers = [next(steps)(other) for _ in range(before)]
    client.receives(answers[0], kernel.busy(asked), kernel.says("execute_input", asked))
    for _ in range(dropped):
        kernel.prints(asked)
    answers = [step(other) for step in steps]
    client.receives(answers[-1], kernel.prints(asked), kernel.replies(asked))
    heard = client.receives(kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == missing
    assert heard is (Disposition.DELIVER if dropped == 0 else Disposition.DELIVER_INCOMPLETE)


@pytest.mark.parametrize(("dropped", "missing"), [(0, None), (2, 2)])
def test_an_answer_to_another_that_is_not_over_is_no_gap(
    client: Client, stranger: Client, kernel: Kernel, dropped: int, missing: int | None
) -> None:
    """The missing number may be that of its reply, when the execution ends."""
    asked, other = client.asks(), stranger.asks("kernel_info_request", "control")
    client.receives(kernel.busy(asked), kernel.busy(other))
    for _ in range(dropped):
        kernel.prints(asked)
    kernel.replies(other)
    client.receives(kernel.replies(asked), kernel.idle(asked), kernel.idle(other))
    assert client.table.missing(asked["msg_id"]) == missing


@pytest.mark.parametrize(("dropped", "missing"), [(0, None), (2, 2)])
def test_a_gateways_own_question_is_no_gap(
    client: Client, stranger: Client, kernel: Kernel, dropped: int, missing: int | None
) -> None:
    """It keeps the answer's first status for itself, and passes on the last."""
    asked, question = client.asks(), stranger.asks("kernel_info_request", "control")
    client.receives(kernel.busy(asked))
    _, _, idle = kernel.serves(question)
    client.receives(idle)
    for _ in range(dropped):
        kernel.prints(asked)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == missing


def test_a_reply_that_comes_after_the_idle_fills_its_own_place(
    client: Client, kernel: Kernel
) -> None:
    """And gives back the one that was taken for it: channels have no common order."""
    asked, other = client.asks(), client.asks("kernel_info_request", "control")
    client.receives(kernel.busy(asked), kernel.busy(other))
    reply = kernel.replies(other)
    kernel.prints(asked)  # lost, and its number is nearer to the idle
    client.receives(kernel.idle(other))
    client.table.receive("control", reply)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == 1


def test_another_clients_execution_between_two_leaves_no_gap(
    client: Client, stranger: Client, kernel: Kernel
) -> None:
    """Queued requests of two clients are executed in turn."""
    mine = [client.asks(), client.asks()]
    first = kernel.executes(mine[0])
    between = outputs_of(kernel.executes(stranger.asks()))
    for message in (*first, *between, *kernel.executes(mine[1])):
        assert client.receives(message) is Disposition.DELIVER
    assert [client.table.missing(asked["msg_id"]) for asked in mine] == [0, 0]


def test_late_output_of_a_request_that_was_abandoned_leaves_no_gap(
    client: Client, kernel: Kernel
) -> None:
    """A thread that an earlier execution began may print during a later one."""
    request = client.enters(early := client.session.msg("execute_request", {}))
    client.receives(kernel.busy(early))
    client.table.abandon(request)
    asked = client.asks()
    client.receives(kernel.busy(asked), kernel.prints(early))
    assert client.receives(kernel.replies(asked), kernel.idle(asked)) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) == 0


def test_the_answer_to_what_was_abandoned_leaves_no_gap(client: Client, kernel: Kernel) -> None:
    """On the control channel it may come in the middle of an execution."""
    request = client.enters(early := client.session.msg("interrupt_request", {}), "control")
    client.receives(kernel.busy(early))
    client.table.abandon(request)
    asked = client.asks()
    client.receives(kernel.busy(asked), kernel.replies(early), kernel.idle(early))
    assert client.receives(kernel.replies(asked), kernel.idle(asked)) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) == 0


@pytest.mark.parametrize(("dropped", "missing"), [(0, None), (2, 2)])
def test_a_lost_question_of_the_connection_may_be_what_is_missing(
    client: Client, kernel: Kernel, dropped: int, missing: int | None
) -> None:
    """It is not known if the kernel got it."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    client.table.ask((question := client.session.msg("kernel_info_request"))["msg_id"])
    kernel.serves(question)
    client.table.expect_replay()
    for _ in range(dropped):
        kernel.prints(asked)
    assert (
        client.receives(kernel.replies(asked), kernel.idle(asked)) is Disposition.DELIVER_INCOMPLETE
    )
    assert client.table.missing(asked["msg_id"]) == missing


@pytest.mark.parametrize("heard", [["reply", "idle"], ["reply"]])
@pytest.mark.parametrize("dropped", [0, 3])
def test_an_answer_to_the_connection_that_a_gateway_did_not_pass_on(
    client: Client, kernel: Kernel, heard: list[str], dropped: int
) -> None:
    """It listens to a kernel's output a moment later than to its replies."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    client.table.ask((question := client.session.msg("kernel_info_request"))["msg_id"])
    _busy, reply, idle = kernel.serves(question)
    assert client.table.receive("control", reply) is Disposition.DELIVER
    if "idle" in heard:
        client.receives(idle)
    for _ in range(dropped):
        kernel.prints(asked)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == (dropped or None)


@pytest.mark.parametrize("dropped", [0, 1, 3])
@pytest.mark.parametrize("answered", ["before", "late", "not yet"])
def test_other_questions_of_the_connection_hide_no_gap(
    client: Client, kernel: Kernel, dropped: int, answered: str
) -> None:
    """Not those that are answered, late or not, and not those lost before the execution."""
    client.table.ask("lost")
    client.table.expect_replay()
    client.table.replay_is_over()
    asked = client.asks()
    client.receives(kernel.busy(asked))
    client.table.ask((question := client.session.msg("kernel_info_request"))["msg_id"])
    if answered == "before":
        client.receives(*kernel.serves(question))
    elif answered == "late":
        client.table.expect_replay()
        client.receives(*kernel.serves(question))
    for _ in range(dropped):
        kernel.prints(asked)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == dropped


def test_what_was_lost_before_a_question_is_no_answer_to_it(client: Client, kernel: Kernel) -> None:
    """Though its answers have not all come yet: the kernel numbers them later."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    for _ in range(3):
        kernel.prints(asked)
    client.receives(kernel.replies(asked))
    client.table.ask((question := client.session.msg("kernel_info_request"))["msg_id"])
    idle, (_busy, reply, _idle) = kernel.idle(asked), kernel.serves(question)
    client.table.receive("control", reply)
    client.receives(idle)
    assert client.table.missing(asked["msg_id"]) == 3


def test_a_question_to_a_kernel_that_was_not_heard_of_may_be_what_is_missing(
    client: Client, kernel: Kernel
) -> None:
    """How far the kernel before it had counted means nothing."""
    for _ in range(9):
        client.receives(*kernel.executes(client.asks()))
    client.table.end_incarnation()
    client.table.ask((question := client.session.msg("kernel_info_request"))["msg_id"])
    new, asked = Kernel(), client.asks()
    client.receives(new.busy(asked))
    new.serves(question)
    client.table.expect_replay()
    client.receives(new.replies(asked), new.idle(asked))
    assert client.table.missing(asked["msg_id"]) is None


def test_where_busy_is_missing_at_least_that_is_missing(client: Client, kernel: Kernel) -> None:
    """How many were lost before what came first cannot be known."""
    asked = client.asks()
    assert client.receives(*kernel.executes(asked)[1:]) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 1
    asked = client.asks()
    assert client.receives(*kernel.executes(asked, prints=5)[4:]) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 1


def test_where_only_the_idle_came_something_is_missing(client: Client, kernel: Kernel) -> None:
    """And the reply, if that came, does not change it."""
    asked = client.asks()
    assert client.receives(*kernel.executes(asked)[-2:]) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 1


@pytest.mark.parametrize("kind", [Unnumbered, Echo])
def test_of_a_kernel_without_numbers_nothing_is_known(
    client: Client, kind: type[Unnumbered]
) -> None:
    """None, and no warning, whether something was lost or not."""
    kernel, asked = kind(), client.asks()
    for message in (kernel.busy(asked), kernel.replies(asked), kernel.idle(asked)):
        assert client.receives(message) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) is None
    assert client.waits_for() == []


def test_the_gateways_notice_does_not_fill_the_gap(client: Client, kernel: Kernel) -> None:
    """In place of ten outputs it sends one message of its own, with a number of its own."""
    asked = client.asks()
    busy, source, *dropped, reply, idle = kernel.executes(asked, prints=10)
    notice: Message = client.session.msg("stream", {"name": "stderr"}, parent=asked)
    assert client.receives(busy, source, notice, reply) is Disposition.DELIVER
    assert client.receives(idle) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == len(dropped) == 10


def test_the_gateways_notice_is_not_the_first_number(client: Client, kernel: Kernel) -> None:
    """The "busy" was lost, too, and the notice has no number of the kernel's."""
    for _ in range(100):
        kernel.session.msg("stream")
    asked = client.asks()
    _, source, *_, reply, idle = kernel.executes(asked, prints=10)
    notice: Message = client.session.msg("stream", {"name": "stderr"}, parent=asked)
    assert client.receives(notice, source, reply, idle) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 11


def test_two_messages_of_one_number_are_no_negative_gap(client: Client, kernel: Kernel) -> None:
    """Two threads of a kernel may count at the same moment."""
    asked = client.asks()
    busy, one = kernel.busy(asked), kernel.prints(asked)
    two = {**kernel.prints(asked), "msg_id": one["msg_id"]}
    kernel.session.message_count -= 1
    client.receives(busy, one, two)
    assert client.receives(kernel.replies(asked), kernel.idle(asked)) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) == 0


@pytest.mark.parametrize("double", ["busy", "reply"])
@pytest.mark.parametrize("dropped", [0, 1])
def test_two_messages_of_one_number_hide_no_gap(
    client: Client, kernel: Kernel, double: str, dropped: int
) -> None:
    """An answer on control, which the connection asked for, and an output beside it."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    question = client.session.msg("kernel_info_request")
    client.table.ask(question["msg_id"])
    for step in ("busy", "reply", "idle"):
        answer = {"busy": kernel.busy, "reply": kernel.replies, "idle": kernel.idle}[step](question)
        client.receives(answer)
        if step == double:
            kernel.session.message_count -= 1
            client.receives(kernel.prints(asked))
    for _ in range(dropped):
        kernel.prints(asked)
    client.receives(kernel.replies(asked), kernel.idle(asked))
    assert client.table.missing(asked["msg_id"]) == dropped


def test_only_executions_are_examined(client: Client, kernel: Kernel) -> None:
    """A completion has no output that could be missed."""
    asked = client.asks("complete_request")
    busy, _, reply, idle = kernel.busy(asked), kernel.prints(asked), *kernel.serves(asked)[1:]
    assert client.receives(busy, reply, idle) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) is None


# --- the end of waiting, and of memory ------------------------------------------------------------


@pytest.mark.parametrize("dropped", [0, 3])
def test_an_idle_that_was_lost_is_not_waited_for(
    client: Client, kernel: Kernel, dropped: int
) -> None:
    """It is missing, and what else is; what has no reply stays outstanding."""
    asked, open_ = client.asks(), client.asks()
    busy, *outputs, reply, idle = kernel.executes(asked, prints=10)
    client.receives(busy, *outputs[dropped:], reply)
    assert client.table.forget_unfinished(math.inf) == [asked["msg_id"]]
    assert client.table.missing(asked["msg_id"]) == dropped + 1
    assert client.waits_for() == [open_["msg_id"]]
    assert client.receives(idle) is Disposition.DELIVER
    assert client.table.forget_unfinished(math.inf) == []


def test_where_idle_was_lost_the_answers_to_others_are_not_missing(
    client: Client, kernel: Kernel
) -> None:
    """A recovery asks its questions on control while the kernel executes."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    for _ in range(3):
        client.receives(*kernel.serves(client.asks("interrupt_request", "control")))
    client.receives(kernel.prints(asked), kernel.replies(asked))
    client.table.forget_unfinished(math.inf)
    assert client.table.missing(asked["msg_id"]) == 1


def test_where_idle_was_lost_nothing_is_known_of_a_kernel_without_numbers(client: Client) -> None:
    """Not even that it was sent."""
    kernel, asked = Unnumbered(), client.asks()
    client.receives(*kernel.executes(asked)[:-1])
    client.table.forget_unfinished(math.inf)
    assert client.table.missing(asked["msg_id"]) is None


def test_what_was_sent_on_the_newest_websocket_is_waited_for(
    client: Client, kernel: Kernel
) -> None:
    """Only what was sent on an earlier one is forgotten."""
    sent: list[Message] = [client.session.msg("execute_request", {}) for _ in range(2)]
    for epoch, asked in enumerate(sent):
        client.enters(asked).epoch = epoch
    scripts = [kernel.executes(asked) for asked in sent]
    client.receives(*scripts[0][:-1], *scripts[1][:-1])
    assert client.table.forget_unfinished(1) == [sent[0]["msg_id"]]
    client.receives(scripts[0][-1], scripts[1][-1])
    assert [client.table.missing(asked["msg_id"]) for asked in sent] == [1, 0]


def test_another_name_is_still_this_client(client: Client, kernel: Kernel) -> None:
    """A gateway's message in it is not the kernel's, and is delivered late, too."""
    client.table.change_session_id()
    name = client.table.session_id
    client.table.change_session_id()
    assert name not in (client.session.session, client.table.session_id)
    request = client.enters(asked := client.session.msg("execute_request", {}))
    notice: Message = Session(key=b"secret", session=name).msg("stream", {}, parent=asked)
    assert client.receives(notice) is Disposition.DELIVER
    assert client.table.incarnation is None
    client.receives(kernel.busy(asked))
    client.table.abandon(request)
    assert client.receives(notice) is Disposition.DELIVER


def test_past_names_of_this_client_are_forgotten_but_not_its_first(client: Client) -> None:
    """A kernel that is restarted for each caller of a pool fills no memory."""
    for _ in range(100):
        client.table.change_session_id()
    assert len(client.table._own_sessions) == 10
    for session in (client.session.session, client.table.session_id):
        assert not client.table.is_incarnation(session, {"session": "another"})


def test_many_requests_under_way_lose_no_count(client: Client, kernel: Kernel) -> None:
    """A thousand cells sent at once: that most are not answered is no reason to forget others."""
    asked = [client.asks() for _ in range(1000)]
    *messages, idle = kernel.executes(asked[0])
    client.receives(*messages)
    client.asks()
    client.receives(idle)
    assert client.table.missing(asked[0]["msg_id"]) == 0


def test_a_long_life_takes_no_more_memory(client: Client, kernel: Kernel) -> None:
    """Of executions, of lost idles, of what was given up and what was heard some are kept."""
    for number in range(4500):
        asked = client.asks()
        if number % 3 == 0:
            client.table.abandon(*client.table.outstanding())
        client.receives(kernel.replies(asked))
        if number % 3 == 1:
            client.receives(kernel.idle(asked))
    table = client.table
    assert len(table._requests) < 1000
    assert len(table._abandoned) <= 1000
    assert len(table._missing) <= 1000
    assert len(table._recent) <= 4096


def test_a_request_that_was_abandoned_long_ago_is_forgotten_first(
    client: Client, kernel: Kernel
) -> None:
    """The newest of many is still known."""
    sent: list[Message] = [client.session.msg("execute_request", {}) for _ in range(1500)]
    for asked in sent:
        client.table.abandon(client.enters(asked))
    assert client.receives(kernel.replies(sent[-1])) is Disposition.STALE
    assert client.receives(kernel.replies(sent[0])) is Disposition.DELIVER


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kernel, Unnumbered, Echo])
def test_output_that_cannot_be_read_is_missing(client: Client, kind: type[Kernel]) -> None:
    """It is counted, also where the kernel does not number its messages; with the reason."""
    kernel, asked = kind(), client.asks()
    busy, source, one, two, three, reply, idle = kernel.executes(asked)
    client.receives(busy, source, one)
    for message in (two, three):
        assert client.table.receive("iopub", message, "no JSON") is Disposition.DELIVER
    assert client.receives(reply, idle) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 2
    assert client.table.why_unreadable(asked["msg_id"]) == "no JSON"


def test_a_status_that_cannot_be_read_is_no_output(client: Client, kernel: Kernel) -> None:
    """It is one message that is missing, as if it had not come."""
    asked = client.asks()
    busy, *rest, reply, idle = kernel.executes(asked)
    client.table.receive("iopub", {**busy, "content": {}}, "no JSON")
    client.receives(*rest, reply, idle)
    assert client.table.missing(asked["msg_id"]) == 1
    assert client.table.why_unreadable(asked["msg_id"]) == ""


def test_a_reply_that_cannot_be_read_is_lost(client: Client, kernel: Kernel) -> None:
    """Its request is given up, so that it ends now; what is printed later is still delivered."""
    asked = client.asks()
    client.receives(kernel.busy(asked))
    assert client.table.receive("shell", kernel.replies(asked), "no JSON") is Disposition.LOST
    assert client.waits_for() == []
    assert client.receives(kernel.prints(asked)) is Disposition.DELIVER


def test_a_question_that_cannot_be_read_is_lost(client: Client, kernel: Kernel) -> None:
    """The kernel waits for an answer that cannot be given."""
    asked = client.asks()
    question = kernel.says("input_request", asked)
    assert client.table.receive("stdin", question, "no JSON") is Disposition.LOST
    assert client.waits_for() == []


def test_what_is_not_waited_for_may_be_unreadable(
    client: Client, stranger: Client, kernel: Kernel
) -> None:
    """The reply to a request of another client, or on another channel, ends nothing here."""
    asked = client.asks()
    assert (
        client.table.receive("shell", kernel.replies(stranger.asks()), "why")
        is not Disposition.LOST
    )
    assert client.table.receive("control", kernel.replies(asked), "why") is not Disposition.LOST
    assert client.waits_for() == [asked["msg_id"]]


# --- numbers that are never used ------------------------------------------------------------------


class Skipping(Kernel):
    """A kernel as async-kernel 0.23: it makes the message of each display twice."""

    def displays(self, parent: Message) -> Message:
        self.session.msg("display_data", {}, parent=parent)  # takes a number, and is not sent
        return self.says("display_data", parent, data={}, metadata={})

    def shows(self, parent: Message, displays: int = 3) -> list[Message]:
        """Return all that comes of an execution that displays things."""
        outputs = [self.busy(parent), self.says("execute_input", parent)]
        outputs += [self.displays(parent) for _ in range(displays)]
        return [*outputs, self.replies(parent), self.idle(parent)]


@pytest.fixture
def skipping() -> Skipping:
    return Skipping()


def test_a_gap_that_no_loss_explains_is_not_known_to_be_one(
    client: Client, skipping: Skipping
) -> None:
    """Nothing is said to be missing: all 150 displays came."""
    for _ in range(3):
        asked = client.asks()
        assert client.receives_all(*skipping.shows(asked, displays=50)) is Disposition.DELIVER
        assert client.table.missing(asked["msg_id"]) is None
        assert not client.table.may_lack_output(asked["msg_id"])


def test_a_result_that_displays_itself_is_no_gap(client: Client, kernel: Kernel) -> None:
    """ipykernel takes a number for the execute_result, which it does not send then."""
    asked = client.asks()
    before = [kernel.busy(asked), kernel.says("execute_input", asked)]
    kernel.says("execute_result", asked)
    after = [kernel.prints(asked), kernel.replies(asked), kernel.idle(asked)]
    assert client.receives_all(*before, *after) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) is None


def test_where_numbers_are_skipped_a_loss_is_not_counted(
    client: Client, skipping: Skipping
) -> None:
    """Two numbers are two messages or one: some may be missing, which is said."""
    client.receives_all(*skipping.shows(client.asks()))
    asked = client.asks()
    busy, echo, _, *rest = skipping.shows(asked)
    assert client.receives_all(busy, echo, client.notice(), *rest) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) is None
    assert client.table.may_lack_output(asked["msg_id"])
    asked = client.asks()
    assert client.receives_all(*skipping.shows(asked)) is Disposition.DELIVER


def test_a_restarted_kernel_skips_numbers_still(client: Client, skipping: Skipping) -> None:
    """It depends on the program of the kernel."""
    client.receives_all(*skipping.shows(client.asks()))
    client.table.end_incarnation()
    asked, another = client.asks(), Skipping()
    busy, echo, _, *rest = another.shows(asked)
    client.receives_all(busy, echo, client.notice(), *rest)
    assert client.table.missing(asked["msg_id"]) is None


def test_what_is_skipped_beside_a_loss_makes_it_uncertain(
    client: Client, skipping: Skipping
) -> None:
    """One execution shows both: its gap is wider than what was lost."""
    asked = client.asks()
    busy, echo, _, *rest = skipping.shows(asked)
    assert client.receives_all(busy, echo, client.notice(), *rest) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) is None


def test_a_lost_connection_explains_only_what_is_missing_around_it(
    client: Client, kernel: Kernel
) -> None:
    """The first message on iopub after it ends the loss, also if a reply overtook it."""
    asked = client.asks()
    busy, *outputs, reply, idle = kernel.executes(asked, prints=5)
    client.receives_all(busy, *outputs[:2])
    client.table.expect_replay()
    assert client.receives_all(reply, *outputs[4:], idle) is Disposition.DELIVER_INCOMPLETE
    assert client.table.missing(asked["msg_id"]) == 2


def test_a_lost_connection_explains_nothing_that_comes_later(
    client: Client, skipping: Skipping
) -> None:
    """The kernel's word on the client's own question ends the loss, before the displays."""
    asked, question = client.asks(), client.asks("kernel_info_request", "control")
    busy, echo = skipping.busy(asked), skipping.says("execute_input", asked)
    client.receives_all(busy, echo)
    client.table.expect_replay()
    client.receives_all(*skipping.serves(question))
    rest = [skipping.displays(asked), skipping.replies(asked), skipping.idle(asked)]
    assert client.receives_all(*rest) is Disposition.DELIVER
    assert client.table.missing(asked["msg_id"]) is None


def test_a_limit_lasts_until_what_it_does_not_exempt(client: Client, kernel: Kernel) -> None:
    """A gateway sends every status, whatever it drops."""
    asked, other = client.asks(), client.asks("kernel_info_request")
    busy, echo = kernel.busy(asked), kernel.says("execute_input", asked)
    kernel.prints(asked)
    served = kernel.serves(other)
    kernel.prints(asked)
    rest = [kernel.prints(asked), kernel.replies(asked), kernel.idle(asked)]
    assert (
        client.receives_all(busy, echo, client.notice(), *served, *rest)
        is Disposition.DELIVER_INCOMPLETE
    )
    assert client.table.missing(asked["msg_id"]) == 2


@pytest.mark.parametrize(
    ("prints", "heard"), [(900, Disposition.DELIVER), (1100, Disposition.DELIVER_INCOMPLETE)]
)
def test_very_much_output_may_be_lost_on_its_way_to_the_gateway(
    client: Client, kernel: Kernel, prints: int, heard: Disposition
) -> None:
    """ZMQ drops silently what is more than 1000 messages."""
    asked = client.asks()
    *messages, _, reply, idle = kernel.executes(asked, prints=prints)
    assert client.receives_all(*messages, reply, idle) is heard
    assert client.table.missing(asked["msg_id"]) is None


def test_what_cannot_be_read_is_no_number_that_was_skipped(client: Client, kernel: Kernel) -> None:
    """A later loss is counted as before."""
    for notice in ([], [client.notice()]):
        asked = client.asks()
        busy, first, second, *rest = kernel.executes(asked)
        client.receives_all(busy, first, *notice)
        if not notice:
            client.table.receive("iopub", second, "it is not JSON")
        client.receives_all(*rest)
        assert client.table.missing(asked["msg_id"]) == 1


def test_past_processes_are_forgotten(client: Client) -> None:
    """A gateway that makes up a new process with each message fills no memory."""
    for _ in range(1200):
        client.receives_all(Kernel().busy(client.asks()))
        client.table.end_incarnation()
    assert len(client.table._past) == 1000


def test_another_reply_is_ignored_if_that_is_wanted(client: Client, kernel: Kernel) -> None:
    """The first one may have come before."""
    replied, asked = client.asks(), client.asks()
    reply = kernel.replies(replied)
    assert client.receives_all(kernel.busy(replied), reply) is Disposition.DELIVER
    client.table.ignore_replies([replied["msg_id"], asked["msg_id"]])
    assert client.table.receive("shell", kernel.replies(replied)) is Disposition.STALE
    assert client.table.receive("shell", kernel.replies(asked)) is Disposition.STALE
    assert client.table.outstanding() == []
