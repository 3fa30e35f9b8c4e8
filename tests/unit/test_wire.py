"""Messages and their frames, compared with what jupyter_server and jupyter_client make."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session, json_packer, json_unpacker
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)

from gateway_blocking.errors import WireError
from gateway_blocking.frames import BINARY, TEXT
from gateway_blocking.messages import Unreadable
from gateway_blocking.wire import DEFAULT, FORMATS, RELAY_FORMATS, V1

Message = dict[str, Any]  # which has more than a kernel's message, such as a subshell's ID
SESSION = Session(key=b"secret")
PACKERS = [(SESSION.pack, SESSION.unpack), (json_packer, json_unpacker)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
contents = st.dictionaries(st.text(), json_values, max_size=4)
buffers = st.lists(st.binary(max_size=50), max_size=3)


def message_of(content: dict[str, Any], parts: list[bytes]) -> Message:
    parent = SESSION.msg("execute_request", {"code": "1"})
    message: Message = SESSION.msg("comm_msg", content, parent=parent, metadata={"a": [1]})
    message["buffers"] = parts
    return message


def over_zmq(message: Message) -> Message:
    """The message as jupyter_client receives it."""
    receiver = Session(key=b"secret")
    _, parts = receiver.feed_identities(SESSION.serialize(message) + list(message["buffers"]))
    received: Message = receiver.deserialize(parts)
    return received


@pytest.mark.parametrize(("pack", "unpack"), PACKERS)
@pytest.mark.parametrize("name", FORMATS)
@given(content=contents, parts=buffers)
def test_a_message_is_as_jupyter_client_receives_it(
    name: str, pack: Any, unpack: Any, content: dict[str, Any], parts: list[bytes]
) -> None:
    """Same keys in the same order, same values, datetimes, buffers as memoryviews."""
    sent = message_of(content, parts)
    form = FORMATS[name]
    channel, received = form.decode(*form.encode("iopub", sent, pack), unpack)
    expected = over_zmq(sent)
    assert channel == "iopub"
    assert list(received) == list(expected)
    assert received == expected
    assert isinstance(received["header"]["date"], datetime)
    assert all(isinstance(buffer, memoryview) for buffer in received["buffers"])


@given(content=contents, parts=buffers)
def test_v1_frames_are_jupyter_servers(content: dict[str, Any], parts: list[bytes]) -> None:
    """The server reads what we write, and writes what we write."""
    message = message_of(content, parts)
    opcode, payload = FORMATS[V1].encode("shell", message, SESSION.pack)
    channel, read = deserialize_msg_from_ws_v1(payload)
    assert (opcode, channel) == (BINARY, "shell")
    assert json.loads(read[3]) == content
    assert read[4:] == parts
    assert serialize_msg_to_ws_v1(read, "shell") == payload


@given(content=contents, parts=buffers.filter(bool))
def test_default_frames_are_jupyter_servers(content: dict[str, Any], parts: list[bytes]) -> None:
    """The server reads what we write, and we read what the server writes."""
    message = message_of(content, parts)
    opcode, payload = FORMATS[DEFAULT].encode("shell", message, json_packer)
    assert opcode == BINARY
    read = deserialize_binary_message(payload)
    assert (read["channel"], read["content"]) == ("shell", content)
    assert [bytes(part) for part in read["buffers"]] == parts
    written = serialize_binary_message({**message, "channel": "shell"})
    _, back = FORMATS[DEFAULT].decode(BINARY, written, SESSION.unpack)
    assert back == over_zmq(message)


def test_extra_header_keys_are_kept() -> None:
    """Such as the subshell's id."""
    message = message_of({}, [])
    message["header"]["subshell_id"] = "s"
    for form in FORMATS.values():
        _, back = form.decode(*form.encode("shell", message, SESSION.pack), SESSION.unpack)
        assert back["header"]["subshell_id"] == "s"


def text_frame(**changes: Any) -> str:
    whole = {
        "channel": "iopub",
        "header": {"msg_id": "1", "msg_type": "status", "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"execution_state": "restarting"},
    }
    whole.update(changes)
    return json.dumps({key: value for key, value in whole.items() if value is not ...})


def decode_text(text: str) -> Message:
    return FORMATS[DEFAULT].decode(TEXT, text.encode(), SESSION.unpack)[1]


def test_a_gateways_own_messages_lack_some_parts() -> None:
    """A status without buffers, parent header and metadata is a message all the same."""
    message = decode_text(text_frame(parent_header=..., metadata=...))
    assert (message["parent_header"], message["metadata"], message["buffers"]) == ({}, {}, [])


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-01-02T03:04:05.678901Z", timedelta(0)),
        ("2026-01-02T03:04:05.678901+00:00", timedelta(0)),
        ("2026-01-02T05:04:05.678901+02:00", timedelta(hours=2)),
        ("2026-01-02T03:04:05.678Z", timedelta(0)),
        ("2026-01-02T03:04:05.6Z", timedelta(0)),
        ("2026-01-02T03:04:05Z", timedelta(0)),
    ],
)
def test_dates_of_all_kernels(date: str, expected: timedelta) -> None:
    """Fractions of any length, any offset: a datetime that knows its zone."""
    header = {"msg_id": "1", "msg_type": "x", "version": "5.0", "date": date}
    found = decode_text(text_frame(header=header))["header"]["date"]
    assert found.utcoffset() == expected
    assert found.astimezone(UTC).replace(microsecond=0) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_date_without_zone_is_local_and_nonsense_stays_text() -> None:
    """As jupyter_client has it, but without a warning that the user could do nothing about."""
    header = {"msg_id": "1", "msg_type": "x", "version": "5.0"}
    naive = decode_text(text_frame(header={**header, "date": "2026-01-02T03:04:05"}))
    assert naive["header"]["date"] == datetime(2026, 1, 2, 3, 4, 5).astimezone()
    for date in ("soon", "2026-02-30T03:04:05Z", "0001-01-01T00:00:00"):
        nonsense = decode_text(text_frame(header={**header, "date": date}))
        assert nonsense["header"]["date"] == date


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        "{}",
        text_frame(channel=...),
        text_frame(header=...),
        text_frame(content=...),
        text_frame(header={}),
        text_frame(header=[1]),
        text_frame(parent_header=[1]),
        text_frame(content=3),
        text_frame(header={"msg_id": "1", "msg_type": "stream", "version": "x"}),
        "[" * 100_000,
    ],
)
def test_malformed_text_frames(text: str) -> None:
    """Each is a WireError."""
    with pytest.raises(WireError):
        decode_text(text)


@pytest.mark.parametrize("part", ["header", "parent_header", "metadata", "content"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("pack", "unpack"), PACKERS)
def test_text_that_is_not_utf8(name: str, pack: Any, unpack: Any, part: str) -> None:
    """It is replaced as jupyter_client replaces it, in each part: a file name may be Latin-1."""
    sent = message_of({"text": "good"}, [])
    sent[part] = {**sent[part], "name": b"caf\xe9 \xff\xfe.txt".decode("utf-8", "surrogateescape")}
    frame = FORMATS[V1].encode("iopub", sent, pack)
    assert b"caf\xe9" in frame[1]
    if name == DEFAULT:  # as a gateway might pass it on: our own frames are UTF-8
        whole = {"channel": "iopub", **{key: sent[key] for key in PARTS}}
        frame = TEXT, pack(whole)
    _, received = FORMATS[name].decode(*frame, unpack)
    assert received[part]["name"] == "caf\ufffd \ufffd\ufffd.txt"
    assert received == over_zmq(sent)


@pytest.mark.parametrize("parts", [[], [b"buffer"]])
def test_a_frame_of_the_default_format_is_utf8(parts: list[bytes]) -> None:
    """A server closes the websocket on which other bytes come."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    sent = message_of({"code": name}, parts)
    opcode, payload = FORMATS[DEFAULT].encode("shell", sent, SESSION.pack)
    if parts:
        assert deserialize_binary_message(payload)["content"] == {"code": "caf\ufffd"}
    else:
        assert json.loads(payload.decode("utf-8"))["content"] == {"code": "caf\ufffd"}
    assert opcode == (BINARY if parts else TEXT)


PARTS = ("header", "parent_header", "metadata", "content")
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("part", "spoiled"),
    [(part, spoiled) for part in PARTS[2:] for spoiled in (b"no json", DEEP, b"9" * 5000)]
    + [("content", b"3"), ("content", b'["x"]')],
)
def test_what_is_left_of_a_message_that_cannot_be_read(part: str, spoiled: bytes) -> None:
    """The headers tell who waits for it; they come with the error."""
    sent = message_of({"a": 1}, [b"buffer"])
    payload = v1_frame(sent, **{part: spoiled})
    with pytest.raises(Unreadable) as caught:
        FORMATS[V1].decode(BINARY, payload, json_unpacker)
    assert caught.value.channel == "iopub"
    left = caught.value.message
    assert left["header"]["msg_id"] == left["msg_id"] == sent["msg_id"]
    assert left["msg_type"] == "comm_msg"
    assert left["parent_header"]["msg_id"] == sent["parent_header"]["msg_id"]
    assert (left["metadata"], left["content"], left["buffers"]) == ({}, {}, [])
    assert len(str(caught.value)) < 500


def v1_frame(message: Message, **spoiled: bytes) -> bytes:
    """A frame of V1 some of whose parts are other bytes."""
    parts = [b"iopub", *(spoiled.get(part) or SESSION.pack(message[part]) for part in PARTS)]
    parts += message["buffers"]
    offsets = [8 * (2 + len(parts))]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


@pytest.mark.parametrize("parent", [b"no json", b"3", b'["x"]', b'{"msg_id": ["x"]}', DEEP])
def test_a_parent_header_that_cannot_be_read(parent: bytes) -> None:
    """Then nothing tells whose message it is."""
    payload = v1_frame(message_of({}, []), parent_header=parent)
    with pytest.raises(Unreadable) as caught:
        FORMATS[V1].decode(BINARY, payload, json_unpacker)
    assert caught.value.message["parent_header"] == {}
    assert caught.value.message["msg_type"] == "comm_msg"


@pytest.mark.parametrize("part", ["parent_header", "metadata", "content"])
@pytest.mark.parametrize("name", FORMATS)
def test_null_in_place_of_a_part(name: str, part: str) -> None:
    """It is an empty part."""
    message = {**message_of({}, []), part: None}
    frame = (BINARY, v1_frame(message))
    if name == DEFAULT:
        frame = TEXT, SESSION.pack({"channel": "iopub", **{key: message[key] for key in PARTS}})
    assert FORMATS[name].decode(*frame, SESSION.unpack)[1][part] == {}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        struct.pack("<Q", 2**60),
        struct.pack("<QQ", 1, 16),
        struct.pack("<7Q", 6, 56, 50, 40, 30, 20, 10),
        struct.pack("<7Q", 6, 56, 56, 56, 56, 56, 9999),
        struct.pack("<Q", 10_000) + struct.pack("<Q", 80_008) * 10_000,
    ],
)
def test_malformed_v1_frames(payload: bytes) -> None:
    """Too short, a count that lies, offsets that go back or beyond: each a WireError."""
    with pytest.raises(WireError):
        FORMATS[V1].decode(BINARY, payload, SESSION.unpack)


def test_a_text_frame_on_a_v1_websocket() -> None:
    """Is refused."""
    with pytest.raises(WireError, match="text frame"):
        FORMATS[V1].decode(TEXT, text_frame().encode(), SESSION.unpack)


@given(st.sampled_from(sorted(FORMATS)), st.sampled_from((TEXT, BINARY)), st.binary(max_size=200))
def test_noise_gives_only_wire_errors(name: str, opcode: int, noise: bytes) -> None:
    """Whatever comes, the reader gets a message or a WireError."""
    with pytest.raises(WireError):
        FORMATS[name].decode(opcode, noise, SESSION.unpack)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_a_damaged_frame_gives_a_message_or_a_wire_error(name: str, data: st.DataObject) -> None:
    """One byte changed anywhere in a good frame."""
    opcode, payload = FORMATS[name].encode("iopub", message_of({"a": 1}, [b"b"]), SESSION.pack)
    position = data.draw(st.integers(0, len(payload) - 1))
    damaged = bytearray(payload)
    damaged[position] = data.draw(st.integers(0, 255))
    try:
        channel, message = FORMATS[name].decode(opcode, bytes(damaged), SESSION.unpack)
    except WireError:
        return
    assert isinstance(channel, str)
    assert next(iter(message)) == "header"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.pop("header"),
        lambda m: m.pop("content"),
        lambda m: m.update(content={"a": object()}),
        lambda m: m.update(buffers=["text"]),
        lambda m: m.update(buffers=[memoryview(b"abcd")[::2]]),
    ],
)
def test_what_cannot_be_sent(name: str, spoil: Callable[[Message], Any]) -> None:
    """A message without a part, or with what JSON or a buffer cannot hold, is a WireError."""
    message = message_of({}, [])
    spoil(message)
    with pytest.raises(WireError):
        FORMATS[name].encode("shell", message, SESSION.pack)


def test_messages_do_not_share_their_parent_header() -> None:
    """Though it is parsed only once for all the output of a request: each has one to change."""
    session = Session()
    parent = session.msg("execute_request")
    frames = [
        FORMATS[V1].encode("iopub", session.msg("comm_msg", {}, parent=parent), session.pack)
        for _ in range(3)
    ]
    first, second = (FORMATS[V1].decode(*frame, session.unpack)[1] for frame in frames[:2])
    assert first["parent_header"] == second["parent_header"] == parent["header"]
    first["parent_header"]["msg_id"] = "changed"
    third = FORMATS[V1].decode(*frames[2], session.unpack)[1]
    assert third["parent_header"] == second["parent_header"] == parent["header"]


def test_a_parent_header_that_could_be_shared_deeper_is_parsed_anew() -> None:
    """One with lists or objects in it, as some kernels have them."""
    session = Session()
    parent = {**session.msg("execute_request")["header"], "tags": ["a"]}
    message = {**session.msg("comm_msg", {}), "parent_header": parent}
    frame = FORMATS[V1].encode("iopub", message, session.pack)
    first, second = (FORMATS[V1].decode(*frame, session.unpack)[1] for _ in range(2))
    first["parent_header"]["tags"].append("b")
    assert second["parent_header"]["tags"] == ["a"]


def test_each_unpacker_reads_a_parent_header_itself() -> None:
    """A session may have one of its own."""
    session = Session()
    message = session.msg("comm_msg", {}, parent=session.msg("execute_request"))
    frame = FORMATS[V1].encode("iopub", message, session.pack)
    read: list[str] = []

    def unpack(text: str) -> Any:
        read.append(text)
        return session.unpack(text)

    FORMATS[V1].decode(*frame, session.unpack)
    FORMATS[V1].decode(*frame, unpack)
    assert any("execute_request" in text for text in read)


# --- what takes more memory or time than it has bytes ---------------------------------------------


def stream(text: str) -> bytes:
    """A message of the default format whose content is this JSON."""
    return (
        '{"channel": "iopub", "header": {"msg_id": "m", "msg_type": "other", "version": "5.3"},'
        f' "parent_header": {{}}, "metadata": {{}}, "content": {{"text": {text}}}}}'
    ).encode()


def test_more_arrays_than_a_message_may_have() -> None:
    """Millions of empty ones would take twenty times their bytes; in text they are but text."""
    decode = FORMATS[DEFAULT].decode
    with pytest.raises(WireError, match="more than 4000000 JSON arrays and objects"):
        decode(TEXT, stream("[" + "[]," * 4_000_001 + "1]"), json_unpacker)
    text = "[{" * 3_750_000 + '\\"' * 400_000
    assert len(decode(TEXT, stream(f'"{text}"'), json_unpacker)[1]["content"]["text"]) == 7_900_000


@pytest.mark.parametrize("text", ['"' + '\\"' * 6_000_000, '"' * 12_000_000, "\\" * 12_000_000])
def test_text_that_is_no_json_takes_no_longer_than_text_that_is(text: str) -> None:
    """The time grows with its length, not with the square of that."""
    with pytest.raises(WireError, match=r"not JSON|more than 4000000"):
        FORMATS[DEFAULT].decode(TEXT, stream(text + "[" * 4_000_001 + "\\"), json_unpacker)


# --- messages that are passed on ------------------------------------------------------------------


def relayed(message: Message) -> Any:
    """The message as a program gets it that passes it on."""
    frame = FORMATS[V1].encode("iopub", message, SESSION.pack)
    channel, received = RELAY_FORMATS[V1].decode(*frame, SESSION.unpack)
    assert channel == "iopub"
    return received


@pytest.mark.parametrize("name", FORMATS)
@given(content=contents, parts=buffers)
def test_a_relayed_message_is_passed_on_unchanged(
    name: str, content: dict[str, Any], parts: list[bytes]
) -> None:
    """Byte for byte in v1, and with the same values in the default format."""
    message = message_of(content, parts)
    received = relayed(message)
    again = RELAY_FORMATS[name].encode("iopub", received, SESSION.pack)
    if name == V1:
        assert again == FORMATS[V1].encode("iopub", message, SESSION.pack)
    assert FORMATS[name].decode(*again, SESSION.unpack)[1] == over_zmq(message)


def test_only_the_headers_of_a_relayed_message_are_parsed() -> None:
    """Its content is parsed if the protocol looks at it, and then only once."""
    texts: list[str] = []

    def unpack(text: str) -> Any:
        texts.append(text)
        return json.loads(text)

    frame = FORMATS[V1].encode("iopub", message_of({"a": [1]}, [b"x"]), SESSION.pack)
    _, received = RELAY_FORMATS[V1].decode(*frame, unpack)
    parsed = len(texts)
    assert parsed <= 2
    assert dict(received["content"]) == {"a": [1]}
    assert (received["content"].get("a"), received["content"].get("b"), len(texts) - parsed) == (
        [1],
        None,
        1,
    )
    assert [bytes(buffer) for buffer in received["buffers"]] == [b"x"]


@pytest.mark.parametrize("content", [b"no JSON", b"[]", b"\xff"])
def test_a_relayed_content_that_cannot_be_parsed_is_for_its_receiver(content: bytes) -> None:
    """It is passed on as it is, and says nothing to the protocol."""
    header = json.dumps(SESSION.msg("status")["header"], default=str).encode()
    message = {"header": {}, "parts": [header, b"{}", b"{}", content]}
    frame = RELAY_FORMATS[V1].encode("iopub", message, SESSION.pack)
    _, received = RELAY_FORMATS[V1].decode(*frame, SESSION.unpack)
    assert received["content"].get("execution_state") is None
    assert RELAY_FORMATS[V1].encode("iopub", received, SESSION.pack) == frame


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("text", [b"no JSON", b"[1]", b'{"msg_id": 1}'])
def test_a_relayed_message_must_have_its_headers(part: int, text: bytes) -> None:
    """The protocol could not tell which request it belongs to."""
    header = json.dumps(SESSION.msg("status")["header"], default=str).encode()
    parts = [header, b"{}", b"{}", b"{}"]
    parts[part] = text
    frame = RELAY_FORMATS[V1].encode("iopub", {"header": {}, "parts": parts}, SESSION.pack)
    with pytest.raises(WireError):
        RELAY_FORMATS[V1].decode(*frame, SESSION.unpack)


def test_a_message_of_another_version_is_adapted_instead_of_relayed() -> None:
    """Front ends expect the version of the protocol that their connection file is for."""
    message = SESSION.msg("pyout", {"data": {}, "execution_count": 1})
    message["header"]["version"] = "4.1"
    assert "parts" not in relayed(message)


def test_a_relayed_message_that_is_not_json_cannot_be_sent_in_the_default_format() -> None:
    """The server would close the websocket."""
    message = {"header": {}, "parts": [b"{}", b"{}", b"{}", b"no JSON"]}
    with pytest.raises(WireError, match="is not JSON"):
        RELAY_FORMATS[DEFAULT].encode("shell", message, SESSION.pack)
