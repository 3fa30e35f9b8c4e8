"""A proxy that fails on demand, for what a network does to a client of a real gateway.

One thread moves all the bytes, so that nothing else holds a socket when it is to be reset.  What a
test asks for is done under the lock that this thread holds while it works.  "up" is from the client
to the gateway, "down" the way back.
"""

from __future__ import annotations

import fcntl
import math
import re
import selectors
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE
from typing import Literal

Direction = Literal["up", "down"]
Ending = Literal["rst", "fin"]
Cut = Literal["rst", "fin", "hole"]

_CHUNK = 1 << 16
_ROOM = 1 << 20  # bytes that wait in one direction before the sender has to
_PIECES_PER_SECOND = 20  # of a throttled direction
_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /")
_UPGRADE = re.compile(rb"GET \S+/channels[? ]")


class FaultProxy:
    """Stands in front of the gateway at ``host:port`` until it is closed, or its ``with`` ends.

    A connection to the gateway is made when a client's first bytes are forwarded; where that fails
    the client is reset.  ``upstream`` may be set to where a gateway was started again.
    """

    def __init__(self, host: str, port: int, own_port: int = 0) -> None:
        self.upstream = (host, port)
        self._changed = threading.Condition()
        self._links: list[Link] = []
        self._answers: list[_Answer] = []
        self._losses: list[tuple[bytes, Cut]] = []
        self._refuses = self._stands_still = self._closed = False
        self._listener = socket.create_server(("127.0.0.1", own_port), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._wakes, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._listener, self._wakes, self._woken):
            sock.setblocking(False)
        for sock in (self._listener, self._woken):
            self._selector.register(sock, EVENT_READ)
        name = "faultproxy-" + self.url.rpartition(":")[2]
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection; neither a thread nor a socket is left, two seconds at most."""
        with self._changing():
            self._closed = True
        self._thread.join(2)
        assert not self._thread.is_alive()

    # ----------------------------------------------------------------------- what passed by

    @property
    def links(self) -> list[Link]:
        """All connections so far, in order, open or not; those that were refused are not here."""
        return list(self._links)

    @property
    def websockets(self) -> list[Link]:
        """Those of the links that asked for a kernel's channels, also if they did not get them."""
        return [link for link in self.links if link.is_websocket]

    @property
    def websocket(self) -> Link:
        """The newest that is open and was forwarded; TimeoutError if there is none in 10 s."""
        with self._changed:
            found = self._changed.wait_for(self._open_websockets, 10)
        if not found:
            raise TimeoutError("no websocket came to the proxy within 10 s")
        return found[-1]

    def _open_websockets(self) -> list[Link]:
        return [link for link in self.websockets if link.open and link.forwarded["up"]]

    # ----------------------------------------------------------------------- faults of all links

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """New connections are reset at once."""
        with self._changing():
            self._refuses = True
        try:
            yield
        finally:
            with self._changing():
                self._refuses = False

    def stall(self) -> None:
        """Nothing moves; who connects is accepted, and waits as well."""
        with self._changing():
            self._stands_still = True

    def go_on(self) -> None:
        """The end of `stall`."""
        with self._changing():
            self._stands_still = False

    def answer(
        self,
        status: str,
        to: Literal["websocket", "rest", "all"] = "all",
        times: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Answer requests here, such as with "503 Service Unavailable", the gateway sees nothing.

        What was asked for first goes first, so that several calls are a sequence.
        """
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        text = "\r\n".join([*lines, "", ""]).encode() + body
        with self._changing():
            self._answers.append(_Answer(text, to, math.inf if times is None else times))

    def answer_no_more(self) -> None:
        """Forward all requests again."""
        with self._changing():
            self._answers.clear()

    def lose_answer(self, beginning: bytes, how: Cut = "rst") -> None:
        """The gateway gets the next request that begins so, and the client never its answer.

        When the answer comes the connection is ended, or with "hole" silent from there on.
        ``b"POST /api/kernels "`` with its blank is not an interrupt of a kernel.
        """
        with self._changing():
            self._losses.append((beginning, how))

    def _answer_to(self, kind: str) -> bytes | None:
        """The answer that is to be given here, if one is."""
        for answer in self._answers:
            if answer.to in (kind, "all") and answer.left > 0:
                answer.left -= 1
                return answer.text
        return None

    def _loss_of(self, request: bytes) -> Cut | None:
        """How the answer to the request is to be lost, if it is."""
        for loss in self._losses:
            if request.startswith(loss[0]):
                self._losses.remove(loss)
                return loss[1]
        return None

    # ----------------------------------------------------------------------- the thread

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone with the state; the thread then looks at it anew."""
        with self._changed:
            yield
            with suppress(OSError):  # enough wake-up calls are on the way, or it has ended
                self._wakes.send(b"\0")

    def _run(self) -> None:
        try:
            while not self._closed:
                with self._changed:
                    self._accept()
                    timeout = self._move()
                    self._changed.notify_all()
                self._selector.select(timeout)
                with suppress(BlockingIOError):
                    self._woken.recv(_CHUNK)
        finally:
            with self._changed:
                for link in self._links:
                    link.cut("fin")
                for closable in (self._listener, self._wakes, self._woken, self._selector):
                    closable.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                client, _ = self._listener.accept()
                if self._refuses:
                    _end(client, "rst")
                else:
                    self._links.append(Link(self, client))

    def _move(self) -> float | None:
        """Move what can move; the seconds until there may be more, if only time is waited for."""
        now = time.monotonic()
        moving = not self._stands_still
        opened = [link for link in self._links if link.open]
        soonest = min((link._move(now) for link in opened if moving), default=math.inf)
        for sock, events in [watched for link in opened for watched in link._watched(now)]:
            self._watch(sock, events if moving else 0)
        return None if soonest == math.inf else max(0, soonest - now)

    def _watch(self, sock: socket.socket, events: int) -> None:
        key = self._selector.get_map().get(sock)
        if events == (key.events if key else 0):
            return
        if key:
            self._selector.unregister(sock)
        if events:
            self._selector.register(sock, events)


class Link:
    """A client's connection, and the one to the gateway that was made for it.

    ``forwarded`` counts the bytes of each direction.
    """

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        _prepare(client)
        self.open = True
        self.is_websocket = False
        self.forwarded: dict[str, int] = {"up": 0, "down": 0}
        self._proxy = proxy
        self._up, self._down = _Pipe(self, "up"), _Pipe(self, "down")
        self._up.back, self._down.back = self._down, self._up
        self._up.source = self._down.sink = client
        self._swallows = False  # what belongs to a request that was answered here
        self._loses: Cut | None = None  # the answer of the gateway that comes next

    # ----------------------------------------------------------------------- faults

    def cut(self, how: Cut) -> None:
        """End both sides now; what is on its way is lost.  A "hole" is one both ways."""
        if how == "hole":
            self.hole("both")
            return
        with self._proxy._changing():
            if self.open:
                self.open = False
                for sock in filter(None, (self._up.source, self._up.sink)):
                    self._proxy._watch(sock, 0)
                    _end(sock, how)

    def hole(self, direction: Literal["up", "down", "both"] = "both") -> None:
        """Half-open: what goes this way, an end too, does not arrive, and nobody is told."""
        with self._proxy._changing():
            for pipe in (self._up, self._down):
                pipe.held |= direction in (pipe.direction, "both")

    def heal(self) -> None:
        """The end of `hole`: what was held back arrives late, and all else after it."""
        with self._proxy._changing():
            self._up.held = self._down.held = False

    def cut_after(self, direction: Direction, n_bytes: int, how: Cut) -> None:
        """Cut when so many more bytes, and no byte more, have arrived at the other side."""
        with self._proxy._changing():
            pipe = self._pipe(direction)
            pipe.budget, pipe.how = n_bytes, how

    def cut_at(self, direction: Direction, marker: bytes, how: Cut) -> None:
        """Cut when the chunk in which the marker ends was forwarded, as a whole.

        A chunk is what could be read at once, of a short message all.  The frames of a client are
        masked: going up, only what HTTP says can be a marker.
        """
        with self._proxy._changing():
            pipe = self._pipe(direction)
            pipe.marker, pipe.marker_how, pipe.tail = marker, how, b""

    def throttle(self, direction: Direction, bytes_per_second: float) -> None:
        """Forward no faster; ``math.inf`` lifts it."""
        with self._proxy._changing():
            pipe = self._pipe(direction)
            pipe.rate, pipe.not_before = bytes_per_second, 0.0

    def delay(self, direction: Direction, seconds: float) -> None:
        """Let all that comes from now on arrive so much later, in its order."""
        with self._proxy._changing():
            self._pipe(direction).latency = seconds

    def _pipe(self, direction: Direction) -> _Pipe:
        return self._up if direction == "up" else self._down

    # ----------------------------------------------------------------------- for the thread

    def _move(self, now: float) -> float:
        """Move what can move; when the clock alone allows for more."""
        for pipe in (self._up, self._down):
            pipe.read(now)
        for pipe in (self._up, self._down):
            pipe.write(now)
        return min(self._up.due(now), self._down.due(now)) if self.open else math.inf

    def _watched(self, now: float) -> Iterator[tuple[socket.socket, int]]:
        """The sockets, and what is waited for at each."""
        for reader, writer in ((self._up, self._down), (self._down, self._up)):
            if self.open and reader.source:
                reads = EVENT_READ if reader.reads else 0
                writes = EVENT_WRITE if writer.is_blocked(now) else 0
                yield reader.source, reads | writes

    def _look_at(self, pipe: _Pipe, chunk: bytes, now: float) -> bytes:
        """What is to be forwarded of a chunk whose turn it is."""
        if pipe is self._down:
            if self._loses:
                how, self._loses = self._loses, None
                self.hole("down") if how == "hole" else self.cut(how)
            return chunk
        talks = self.is_websocket and self.forwarded["up"]  # in frames, no longer in requests
        if _REQUEST.match(chunk) and not talks:
            self.is_websocket = bool(_UPGRADE.match(chunk))
            answer = self._proxy._answer_to("websocket" if self.is_websocket else "rest")
            self._swallows = answer is not None
            if answer is not None:
                self._down.put(answer, now)
            else:
                self._loses = self._proxy._loss_of(chunk)
        if self._swallows:
            return b""
        if not self._up.sink:
            self._up.sink = self._down.source = _prepare(socket.socket())
            self._up.sink.connect_ex(self._proxy.upstream)  # an error shows at the first byte
        return chunk

    def _pass_on(self, pipe: _Pipe, ending: Ending, now: float) -> None:
        """Tell the other side of an end."""
        if ending == "rst":
            self.cut("rst")
            return
        pipe.finished = True
        if pipe.sink:
            with suppress(OSError):  # it has ended as well
                pipe.sink.shutdown(socket.SHUT_WR)
        else:
            self._down.put("fin", now)  # no gateway was asked for, and none will do it
        if pipe.back.finished:
            self.cut("fin")


class _Pipe:
    """One direction of a link: what was read from the source, on its way to the sink."""

    back: _Pipe  # the other direction
    source: socket.socket | None = None
    sink: socket.socket | None = None

    def __init__(self, link: Link, direction: Direction) -> None:
        self.link, self.direction = link, direction
        self.queue: deque[tuple[float, bytes | Ending]] = deque()  # each with when it is due
        self.queued = 0  # bytes
        self.rest = b""  # of the chunk that is being forwarded
        self.ended = self.finished = False  # the source has ended; the sink was told
        self.lost = False  # the sink takes nothing any more
        self.held = False
        self.latency, self.rate, self.not_before = 0.0, math.inf, 0.0
        self.budget: float = math.inf  # bytes until the cut
        self.how: Cut = "rst"
        self.marker = self.tail = b""  # and the end of what was looked through for it
        self.marker_how: Cut = "rst"

    @property
    def reads(self) -> bool:
        return not self.ended and (self.held or self.queued < _ROOM)

    def is_blocked(self, now: float) -> bool:
        """Whether it only waits for the sink to take more."""
        return bool(self.rest) and not self.held and self.budget > 0 and self.not_before <= now

    def due(self, now: float) -> float:
        """When it goes on by itself."""
        if self.budget <= 0 and not self.held:
            return now + 0.001  # nothing says when all has arrived
        if self.held or self.is_blocked(now) or not (self.rest or self.queue):
            return math.inf
        return max(self.not_before, 0 if self.rest else self.queue[0][0])

    def put(self, item: bytes | Ending, now: float) -> None:
        """Let it go on when its turn comes."""
        self.queue.append((now + self.latency, item))
        self.queued += len(item)

    def read(self, now: float) -> None:
        """Take what the source has sent."""
        if not (self.source and self.reads):
            return
        try:
            chunk = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.back.lost = True
            chunk = b""
        _acknowledge(self.source)
        self.ended = not chunk
        self.put(chunk or ("rst" if self.back.lost else "fin"), now)

    def write(self, now: float) -> None:
        """Forward all that may go on."""
        while self.link.open and not self.held:
            if self.budget <= 0:
                if self._is_on_its_way():
                    return
                self.budget = math.inf
                self.link.cut(self.how)
            elif self.rest and now >= self.not_before:
                if not self._send(now):
                    return
            elif self.rest or not self.queue or self.queue[0][0] > now:
                return
            else:
                self._take(now)

    def _take(self, now: float) -> None:
        """Begin with what comes next."""
        _, item = self.queue.popleft()
        self.queued -= len(item)
        if isinstance(item, str):
            self.link._pass_on(self, item, now)
            return
        self.rest = self.link._look_at(self, item, now)
        if self.marker:
            seen = self.tail + self.rest
            if self.marker in seen:
                self.marker = b""
                if len(self.rest) < self.budget:
                    self.budget, self.how = len(self.rest), self.marker_how
            self.tail = seen[max(0, len(seen) - len(self.marker) + 1) :]

    def _send(self, now: float) -> bool:
        """Forward a piece; False where the sink has no room for it."""
        assert self.sink
        size = min(len(self.rest), self.budget, max(1, self.rate / _PIECES_PER_SECOND))
        try:
            sent = self.sink.send(self.rest[: int(size)])
        except BlockingIOError:
            return False
        except OSError:
            self.lost, self.rest = True, b""
            if self.back.ended:  # else that is what reading finds out
                self.back.put("rst", now)
            return True
        self.rest = self.rest[sent:]
        self.budget -= sent
        self.not_before = now + sent / self.rate
        self.link.forwarded[self.direction] += sent
        return True

    def _is_on_its_way(self) -> bool:
        """Whether bytes have left, but not arrived: a reset would overtake them."""
        if not self.sink or self.lost:
            return False
        return any(fcntl.ioctl(self.sink, termios.TIOCOUTQ, bytes(4)))


@dataclass
class _Answer:
    """An answer that is given here, how many times more, and to what."""

    text: bytes
    to: str
    left: float


def _prepare(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _acknowledge(sock: socket.socket) -> None:
    """Confirm at once what came.

    A gateway's next small frame waits for that (Nagle's algorithm), up to 40 ms on Linux, and would
    be lost with the gateway's end of a connection that is cut meanwhile, though nobody lost it.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    except (OSError, AttributeError):  # it has ended; or another system, which does not delay
        pass


def _end(sock: socket.socket, how: Ending) -> None:
    """Close with an RST or a FIN."""
    with suppress(OSError):  # the other side was faster
        if how == "rst":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            sock.shutdown(socket.SHUT_WR)
            while len(sock.recv(_CHUNK)) == _CHUNK:  # what is unread would make a reset of it
                pass
    sock.close()
