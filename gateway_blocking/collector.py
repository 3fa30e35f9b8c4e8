"""The outputs of one execution, collected from the kernel's messages (no I/O).

The rules are those of nbclient: ``clear_output``, ``update_display_data``, and the output widget.
Streams are merged, and the collection can be bounded while the messages arrive.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from .messages import Message

__all__ = ["OUTPUT_TYPES", "Output", "OutputCollector", "shortened"]

Output = dict[str, Any]
"""An output of a code cell, as nbformat 4 describes it."""

OUTPUT_TYPES = ("stream", "display_data", "execute_result", "error")

_BLOCK = 4096  # characters at most by which the tail may exceed its limit, so that cutting is rare
_COST = 128  # characters that each piece counts in addition, because it takes memory as well


class _Piece:
    """One output, or a part of a stream, with its size in characters."""

    __slots__ = ("display_id", "output", "size", "texts")

    def __init__(self, output: Output, size: int, display_id: str | None = None) -> None:
        self.output = output
        self.display_id = display_id
        self.texts: list[str] = [output["text"]] if output["output_type"] == "stream" else []
        self.size = size + _COST

    def is_stream(self, name: str) -> bool:
        """Return True if this is a part of the stream `name`."""
        return bool(self.texts) and self.output["name"] == name

    def extend(self, text: str) -> None:
        """Add text to a stream."""
        self.texts.append(text)
        self.size += len(text)
        if len(self.texts) > 64:  # one text takes less memory than many
            self.texts = ["".join(self.texts)]


class OutputCollector:
    """The outputs of one execution so far.

    Not thread-safe: one thread adds messages and reads the outputs.

    Parameters
    ----------
    limit : int or None
        Characters to keep, half of them from the beginning and half from the end.  A small cost
        per output is counted, too, and at least 512 are kept.  None keeps everything.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._half = math.inf if limit is None else max(limit // 2, 2 * _COST)
        self._block = min(_BLOCK, self._half // 4)
        self.cut = 0
        """Number of characters that were dropped because of the limit."""
        self._clear_with_next = False
        self._clear()

    def _clear(self) -> None:
        self._head: list[_Piece] = []
        self._tail: deque[_Piece] = deque()
        self._head_size = self._tail_size = 0
        self._displays: dict[str, list[_Piece]] = {}

    @property
    def truncated(self) -> bool:
        """True if output was dropped because of the limit."""
        return self.cut > 0

    # --- messages -------------------------------------------------------------------------------

    def add(self, message: Message) -> Output | None:
        """Add a message of the ``iopub`` channel; return what it adds, for a display as it comes.

        Returns
        -------
        dict or None
            The output, not merged with others, and with its ``display_id`` if it has one; or a
            dict whose ``output_type`` is ``"clear_output"`` or ``"update_display_data"``.  It is
            None for any other message.
        """
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            self._clear_with_next = bool(content.get("wait"))
            if not self._clear_with_next:
                self._clear()
            return {"output_type": kind, "wait": self._clear_with_next}
        if kind == "update_display_data":
            output, display_id = _display(kind, content), _display_id(content)
            self._update(display_id, output)
            return {**output, "display_id": display_id}
        if kind not in OUTPUT_TYPES:
            return None
        if self._clear_with_next:
            self._clear_with_next = False
            self._clear()
        if kind == "stream":
            name = "stderr" if content.get("name") == "stderr" else "stdout"
            text = _text(content.get("text"))
            self._add_stream(name, text)
            return {"output_type": kind, "name": name, "text": text}
        if kind == "error":
            output = _error(content)
            self._add(_Piece(output, sum(map(len, output["traceback"])) + len(output["evalue"])))
            return output
        output, display_id = _display(kind, content), _display_id(content)
        self._update(display_id, output)  # as nbclient does: a display with this ID replaces it
        self._add(_Piece(output, _size(output["data"]), display_id))
        return {**output, "display_id": display_id} if display_id else output

    def _add_stream(self, name: str, text: str) -> None:
        if not text:
            return
        if not self._tail:
            room = self._half - self._head_size
            if self._head and self._head[-1].is_stream(name):
                if len(text) <= room:
                    self._head[-1].extend(text)
                    self._head_size += len(text)
                    return
            else:
                room -= _COST
            if 0 < room < len(text):
                cut = int(room)
                self._add_stream(name, text[:cut])
                text = text[cut:]
        if self._tail and self._tail[-1].is_stream(name) and self._tail[-1].size < self._block:
            self._tail[-1].extend(text)
            self._tail_size += len(text)
            self._trim()
        else:
            self._add(_Piece({"output_type": "stream", "name": name, "text": text}, len(text)))

    def _add(self, piece: _Piece) -> None:
        if piece.display_id is not None:
            self._displays.setdefault(piece.display_id, []).append(piece)
        if not self._tail and self._head_size + piece.size <= self._half:
            self._head.append(piece)
            self._head_size += piece.size
        else:
            self._fit(piece)
            self._tail.append(piece)
            self._tail_size += piece.size
            self._trim()

    def _fit(self, piece: _Piece) -> None:
        """Make an output that is larger than the tail small enough to be kept."""
        if piece.size <= self._half or piece.texts:
            return
        before, room = piece.size, int(self._half) - _COST
        if piece.output["output_type"] == "error":
            texts = [shortened(text, room // 4) for text in piece.output["traceback"][-2:]]
            evalue = shortened(piece.output["evalue"], room // 4)
            piece.output = {**piece.output, "evalue": evalue, "traceback": texts}
            piece.size = sum(map(len, texts)) + len(evalue) + _COST
        else:
            plain = shortened(str(piece.output["data"].get("text/plain", "")), room)
            data = {"text/plain": plain} if plain else {}
            piece.output = {**piece.output, "data": data}
            piece.size = len(plain) + _COST
        self.cut += max(before - piece.size, 0)

    def _trim(self) -> None:
        """Drop the oldest of the tail if it has become larger than the limit says."""
        if self._tail_size - self._half <= self._block:
            return
        while (excess := int(self._tail_size - self._half)) > 0:
            first = self._tail[0]
            if first.texts and first.size - _COST > excess:
                first.texts = ["".join(first.texts)[excess:]]
                first.size -= excess
                self._tail_size -= excess
                self.cut += excess
            elif len(self._tail) > 1:
                self._drop_oldest()
            else:
                return

    def _drop_oldest(self) -> None:
        piece = self._tail.popleft()
        self._tail_size -= piece.size
        self.cut += max(piece.size - _COST, 1)
        if piece.display_id is not None:
            self._displays[piece.display_id].remove(piece)

    def _update(self, display_id: str | None, output: Output) -> None:
        for piece in self._displays.get(display_id, ()) if display_id else ():
            self._resize(piece, -piece.size)
            piece.output = {
                **piece.output,
                "data": output["data"],
                "metadata": output["metadata"],
            }
            piece.size = _size(output["data"]) + _COST
            self._fit(piece)
            self._resize(piece, piece.size)
        if self._tail:
            self._trim()

    def _resize(self, piece: _Piece, difference: int) -> None:
        if any(piece is kept for kept in self._head):
            self._head_size += difference
        else:
            self._tail_size += difference

    # --- the result -----------------------------------------------------------------------------

    def outputs(self) -> list[Output]:
        """Return the outputs: streams are merged, and what was cut is marked."""
        marker = _Piece({"output_type": "stream", "name": self._name_of_the_cut(), "text": ""}, 0)
        marker.texts = [f"\n[... {self.cut:,} characters of output were cut here ...]\n"]
        pieces = [*self._head, *([marker] if self.cut else []), *self._tail]
        return list(_merged(pieces))

    def _name_of_the_cut(self) -> str:
        for piece in (*self._head[-1:], *list(self._tail)[:1]):
            if piece.texts:
                return str(piece.output["name"])
        return "stdout"


def _merged(pieces: list[_Piece]) -> Iterator[Output]:
    """Yield the outputs, with consecutive parts of one stream as one."""
    texts: list[str] = []
    name = ""
    for piece in pieces:
        if texts and not piece.is_stream(name):
            yield {"output_type": "stream", "name": name, "text": "".join(texts)}
            texts = []
        if piece.texts:
            name = piece.output["name"]
            texts += piece.texts
        else:
            yield dict(piece.output)  # a copy, which later updates do not change
    if texts:
        yield {"output_type": "stream", "name": name, "text": "".join(texts)}


def shortened(text: str, longest: int) -> str:
    """Return a text with about `longest` characters at most; the cut in its middle is marked.

    A text stays as it is if the mark would make it longer.

    >>> shortened(100 * "0" + 100 * "9", 4)
    '00[... 196 characters were cut here ...]99'
    """
    half = longest // 2
    cut = len(text) - 2 * half
    short = f"{text[:half]}[... {cut:,} characters were cut here ...]{text[len(text) - half :]}"
    return short if cut > 0 and len(short) < len(text) else text


# --- what a kernel may send, in the shape that nbformat wants -----------------------------------


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _display_id(content: Mapping[str, Any]) -> str | None:
    return _text(_dict(content.get("transient")).get("display_id")) or None


def _display(kind: str, content: Mapping[str, Any]) -> Output:
    """Return the output of a display or a result."""
    output: Output = {
        "output_type": kind,
        "data": _dict(content.get("data")),
        "metadata": _dict(content.get("metadata")),
    }
    if kind == "execute_result":
        count = content.get("execution_count")
        output["execution_count"] = count if isinstance(count, int) else None
    return output


def _error(content: Mapping[str, Any]) -> Output:
    """Return the output of an exception."""
    lines = content.get("traceback")
    return {
        "output_type": "error",
        "ename": _text(content.get("ename")),
        "evalue": _text(content.get("evalue")),
        "traceback": [_text(line) for line in lines] if isinstance(lines, list) else [],
    }


def _size(data: Mapping[str, Any]) -> int:
    """Return the number of characters of a MIME bundle, roughly for what is not text."""
    return sum(
        len(value) if isinstance(value, str) else len(repr(value)) for value in data.values()
    )
