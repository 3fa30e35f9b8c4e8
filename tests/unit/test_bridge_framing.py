"""The frames of a bridge's ZMQ sockets, compared with what jupyter_client makes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyter_client.session import Session

from gateway_blocking.bridge import framing as module
from gateway_blocking.bridge.framing import Framing

KEY = b"key"


def new_framing(key: bytes = KEY) -> Framing:
    session = Session(key=key)
    return Framing(session.sign, session.pack)


def frames_of(key: bytes = KEY, content: Any = None) -> list[bytes]:
    """A request, as a front end sends it."""
    session = Session(key=key)
    message = session.msg("execute_request", content or {"code": "1"})
    return [b"identity", *session.serialize(message)]


def test_a_message_is_received_as_it_was_sent() -> None:
    """Only its header is parsed; its parts and its identities are kept."""
    frames = [*frames_of(), b"buffer"]
    received = new_framing().receive(frames)
    assert received.identities == (b"identity",)
    assert received.header["msg_type"] == "execute_request"
    assert received.parts == frames[3:]


def test_jupyter_client_accepts_the_frames() -> None:
    """With parts that came from a kernel, and with a message that the bridge made."""
    made: dict[str, Any] = Session().msg("status", {"execution_state": "idle"})
    made["buffers"] = [b"b"]
    relayed = {"parts": [b"%s" % json.dumps(made["header"], default=str).encode()]}
    relayed["parts"] += [b"{}", b"{ }", b'{"execution_state":  "idle"}', b"b"]
    for message in (made, relayed):
        frames = new_framing().frames([b"topic"], message)
        session = Session(key=KEY)
        prefix, parts = session.feed_identities(frames)
        got = session.deserialize(parts)
        assert prefix == [b"topic"]
        assert got["content"] == {"execution_state": "idle"}
        assert [bytes(buffer) for buffer in got["buffers"]] == [b"b"]
    assert frames[3:] == relayed["parts"]


def test_what_is_not_signed_with_the_key_is_refused() -> None:
    """Nor is what came before, or has no signature or no delimiter."""
    framing, good = new_framing(), frames_of()
    framing.receive(good)
    with pytest.raises(ValueError, match="came before"):
        framing.receive(good)
    for bad, why in [
        (frames_of(b"other"), "another key"),
        ([*good[:2], b"", *good[3:]], "another key"),
        ([*good[:6], b'{"code": "2"}'], "another key"),
        (good[:6], "3 parts"),
        ([b"identity"], "no delimiter"),
        ([b"<IDS|MSG>"], "0 parts"),
    ]:
        with pytest.raises(ValueError, match=why):
            framing.receive(bad)


def test_a_connection_file_without_a_key_takes_all() -> None:
    """As every kernel does."""
    framing, frames = new_framing(b""), frames_of(b"")
    assert framing.receive(frames) == framing.receive(frames)


@pytest.mark.parametrize(
    "header",
    [
        b"no JSON",
        b"[]",
        b'{"msg_id": "1"}',
        b'{"msg_id": ["1"], "msg_type": "t"}',
        b"\xff",
        b"[" * 100_000,
        rb'{"msg_id": "\ud800", "msg_type": "t"}',  # the reply could not be written
    ],
    ids=range(7),
)
def test_a_header_must_name_the_message(header: bytes) -> None:
    """Its reply could not be routed."""
    session = Session(key=KEY)
    parts = [header, b"{}", b"{}", b"{}"]
    with pytest.raises(ValueError):
        new_framing().receive([b"<IDS|MSG>", session.sign(parts), *parts])


def test_a_name_that_is_not_utf_8_is_received() -> None:
    """It is the user's in the header, on a machine with another encoding."""
    session = Session(key=KEY)
    parts = [b'{"msg_id": "1", "msg_type": "t", "username": "Ren\xe9"}', b"{}", b"{}", b"{}"]
    received = new_framing().receive([b"<IDS|MSG>", session.sign(parts), *parts])
    assert received.header["username"] == "Ren\ufffd"
    assert received.parts == parts


def test_the_memory_of_signatures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first."""
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    framing = new_framing()
    first, *others = [frames_of(content={"code": str(n)}) for n in range(3)]
    for frames in (first, *others):
        framing.receive(frames)
    for frames in others:
        with pytest.raises(ValueError, match="came before"):
            framing.receive(frames)
    framing.receive(first)
