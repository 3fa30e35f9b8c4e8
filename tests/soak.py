"""Execute for a long time under random faults, and see whether each outcome that was told is true.

A script, not a test of the suite::

    python tests/soak.py                                  # 1000 executes, Kernel Gateway
    python tests/soak.py --minutes 30 --work /tmp/soak    # leaves its log and what was executed
    python tests/soak.py --server js --faults kernels --kernel repeating --seed 7
    python tests/soak.py --server eg --eg-python ~/eg/bin/python    # where that is installed

Every 0.2 to 2 s comes a fault.  "cuts" are resets, closes and refused connections, after which only
those replies are missing that were on their way; "network" also holes one way and both ways that
heal late, 503s, delays and second cuts; "kernels" also kernels that are killed or restarted.  A
"repeating" kernel executes a message again that it had before.  The cells write their numbers to a
file, with which the outcomes are compared.
Exit status 1 where one is not true.  A seed repeats the choices, not the moments.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import gateway_blocking as gb
from support.faultproxy import FaultProxy, Link

SERVERS = {  # module, application, options
    "kg": ("kernel_gateway", "KernelGatewayApp", ()),
    "js": ("jupyter_server", "ServerApp", ("--allow-root", "--no-browser")),
    "eg": ("enterprise_gateway", "EnterpriseGatewayApp", ("--{app}.unauthorized_users=nobody",)),
}
KINDS = {"cuts": ["rst", "fin", "refuse"]}
KINDS["network"] = [*KINDS["cuts"], "hole up", "hole down", "hole both"]
KINDS["network"] += ["unavailable", "delay", "double cut"]
KINDS["kernels"] = KINDS["network"]
OF_KERNELS = ["kill", "restart"]
LATE = 4.0  # seconds until a hole heals
ON_ITS_WAY = 0.25  # seconds that a message is at most; most of them until a gateway notices a cut
PATIENCE = 60.0  # seconds without an outcome, faults or not
KILL_PAUSE = 12.0  # a gateway gives a kernel up that dies more often
DISPLAYS = 150  # of a long cell
# How often a request may be found in the file, by what its caller was told.
TRUE = {"done": {1}, "lost, executed": {1}, "lost, unknown": {0, 1}, "not sent": {0}}
TRUE |= {"restarted": {0, 1}, "error": {0, 1}, "aborted": {0}}  # error: interrupted by a restart
ARGV = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
ARGV += ["--Session.digest_history_size=0"]  # by which others know what is repeated
SPECS = {  # of kernels that install none, or that are not installed in that way
    "repeating": {"argv": ARGV, "display_name": "repeating", "language": "python"},
    "bash": {
        "argv": ["python", "-m", "bash_kernel", "-f", "{connection_file}"],
        "display_name": "bash",
        "language": "bash",
    },
}
OF_US = rb"ipykernel|ipymini|async_kernel|IRkernel"  # in the command of a kernel that is killed


class Language(NamedTuple):
    """What the cells are made of, with the names of what they are about in braces."""

    begin: str
    """Write number and pid to the file, and pause."""
    end: str
    """Write the number and when that is to the file."""
    show: str
    """Display or print the numbers from 0."""
    set_state: str
    expressions: Mapping[str, str] = {}
    """What the reply is to contain; nothing if the kernel does not evaluate any."""


PYTHON = Language(
    begin="import os, time\n"
    "with open({path!r}, 'a') as f: f.write(f'{number} {{os.getpid()}}\\n')\n"
    "cell = {number}\ntime.sleep({pause})\n",
    end="with open({path!r}, 'a') as f: f.write(f'{number} ended {{time.time()}}\\n')\n",
    # Not printed: of what is printed, the kernel may make less or more messages.
    show="from IPython.display import publish_display_data as display_data\n"
    "for i in range({count}):\n"
    "    display_data({{'text/plain': str(i)}})\n    time.sleep(0.008)\n",
    set_state="state = {state}",
    expressions={"cell": "cell", "state": "globals().get('state')"},
)
BASH = Language(
    begin="echo {number} $$ >> {path}\nsleep {pause}\n",
    end="echo {number} ended $(date +%s.%N) >> {path}\n",
    show="for i in $(seq 0 $(({count} - 1))); do echo $i; sleep 0.008; done\n",
    set_state="state={state}",
)
R = Language(
    begin="cat({number}, ' ', Sys.getpid(), '\\n', sep='', file='{path}', append=TRUE)\n"
    "Sys.sleep({pause})\n",
    end="cat(sprintf('%d ended %.6f\\n', {number}L, as.numeric(Sys.time())),"
    " file='{path}', append=TRUE)\n",
    show="for (i in seq_len({count}) - 1L) {{ cat(i, '\\n', sep=''); Sys.sleep(0.008) }}\n",
    set_state="state <- {state}",
)
# ipymini and async-kernel answer questions while they execute.  async-kernel is not installed with
# the tests, and ends by itself now and then (tests/support/kernels.py has the reason).  bash_kernel
# is an ipykernel of another language; IRkernel is not built on jupyter_client's Session.
KERNELS = dict.fromkeys(("python3", "repeating", "py", "async"), PYTHON)
KERNELS |= {"bash": BASH, "ir": R}
log = logging.getLogger("soak")


@contextmanager
def serve(kind: str, python: str, work: Path) -> Iterator[tuple[int, str]]:
    """A real server; yields its port and its token."""
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    module, app, options = SERVERS[kind]
    command = [python, "-m", module, f"--{app}.port={port}", f"--{app}.ip=127.0.0.1"]
    command += [option.format(app=app) for option in options]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER_", "KG_", "EG_"))}
    env |= dict.fromkeys(("JUPYTER_TOKEN", "KG_AUTH_TOKEN", "EG_AUTH_TOKEN"), token)
    env |= {f"JUPYTER_{name}_DIR": str(work) for name in ("CONFIG", "DATA", "RUNTIME")}
    env["IPYTHONDIR"] = str(work / "ipython")
    with (work / "server.log").open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, cwd=work)
    try:
        headers = {"Authorization": f"token {token}"}
        for _ in range(600):
            with suppress(OSError):
                urlopen(Request(f"http://127.0.0.1:{port}/api/kernelspecs", headers=headers))
                break
            time.sleep(0.1)
        yield port, token
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()


class Faults(threading.Thread):
    """Does one fault after the other, until it is stopped, and counts them in the soak's notes."""

    def __init__(self, soak: Soak) -> None:
        super().__init__(daemon=True)
        self._soak, self._proxy = soak, soak.proxy
        self._random = random.Random(soak.random.randrange(1 << 30))
        self._stopping = threading.Event()
        self._next_of_kernel = time.monotonic() + 3 if soak.faults == "kernels" else float("inf")
        self._next_kill = 0.0
        self.start()

    def stop(self) -> None:
        """No more faults, but those that heal late."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Do them."""
        while not self._stopping.wait(self._random.uniform(0.2, 2)):
            kind, now = self._random.choice(KINDS[self._soak.faults]), time.monotonic()
            if now > self._next_of_kernel:
                self._next_of_kernel = now + self._random.uniform(4, 10)
                kind = "restart" if now < self._next_kill else self._random.choice(OF_KERNELS)
            log.info("FAULT %s", kind)
            self._soak.cuts.append(time.time())
            self._soak.notes[f"fault: {kind}"] += 1
            if kind in OF_KERNELS:
                self._hurt_kernel(kind)
            else:
                for link in [link for link in self._proxy.websockets if link.open][-1:]:
                    self._hurt_network(kind, link, self._random.uniform(0.1, 1.5))

    def _hurt_kernel(self, kind: str) -> None:
        """Kill it, or restart it as somebody else would."""
        if kind == "restart":
            try:
                self._soak.manager.restart_kernel()
            except gb.GatewayError as error:  # such as 500: the gateway restarts it just now
                log.info("restart failed: %s", str(error))
            return
        self._next_kill = time.monotonic() + KILL_PAUSE
        for _, pid in self._soak.executed()[-1:]:
            with suppress(OSError):
                if re.search(OF_US, Path(f"/proc/{pid}/cmdline").read_bytes()):
                    os.kill(pid, signal.SIGKILL)

    def _hurt_network(self, kind: str, link: Link, pause: float) -> None:
        if kind.startswith("hole"):
            link.hole(kind.split()[1])  # type: ignore[arg-type]
            threading.Timer(self._random.uniform(0, LATE), link.heal).start()
        elif kind == "delay":
            link.delay("up", pause / 5)
            link.delay("down", pause / 5)
        elif kind == "refuse":
            with self._proxy.refusing():
                link.cut("rst")
                time.sleep(pause)
        elif kind == "unavailable":
            self._proxy.answer("503 Unavailable", self._random.choice(["websocket", "all"]))
            link.cut("fin")
            time.sleep(pause)
            self._proxy.answer_no_more()
        else:
            link.cut("fin" if kind == "fin" else "rst")
            if kind == "double cut":  # the second in the handshake or the recovery
                time.sleep(pause / 15)
                self._proxy.websockets[-1].cut("rst")


class Soak:
    """A client that executes, what it was told, and the verdict on that."""

    def __init__(self, options: argparse.Namespace, port: int, token: str, path: Path) -> None:
        self.random, self.faults, self._path = random.Random(options.seed), options.faults, path
        self._language = KERNELS[options.kernel]
        self.notes: Counter[str] = Counter()
        self.cuts: list[float] = []  # when there was a fault
        self.violations: list[str] = []
        self._outcomes: dict[int, str] = {}
        self._last = 0  # of the numbers of the cells
        self._in_order: list[list[int]] = []  # each sent by one thread
        self._seen: set[tuple[str, Any]] = set()
        # Where kernels end, each gets a variable of its own: a reply then tells whose it is.
        self._state = 0
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(8)
        threading.excepthook = lambda end: self._violate(f"{end.thread} died: {end.exc_value!r}")
        self.proxy = FaultProxy("127.0.0.1", port)
        config: dict[str, Any] = {"url": f"http://127.0.0.1:{port}", "auth_token": token}
        self.manager = gb.BlockingGatewayKernelManager(kernel_name=options.kernel, **config)
        self.manager.start_kernel()
        config |= {"gateway_retry_interval": 0.1, "gateway_retry_interval_max": 0.5}
        config |= {"ws_ping_interval": 0.5, "ws_ping_timeout": 0.5, "gateway_retry_max": 1000}
        config |= {"url": self.proxy.url, "kernel_id": self.manager.kernel_id}
        self.client = gb.BlockingGatewayKernelClient(**config)

    def run(self, executes: int, minutes: float) -> None:
        """All the executes; then peace, and the verdict."""
        self.client.start_channels()
        self.client.wait_for_ready(PATIENCE)
        end, faults = time.monotonic() + minutes * 60, Faults(self)
        while self._last < executes and time.monotonic() < end:
            batch = self._pool.submit(self._execute_some)
            if not is_done(batch):
                faults.stop()
                self.notes["only done when the faults stopped"] += 1
                if not is_done(batch):
                    break
                faults = Faults(self)
        faults.stop()
        if not is_done(self._pool.submit(self._execute_some)):
            self._violate(f"hung: {self.client!r}")
        time.sleep(LATE)
        self._judge()
        began = time.monotonic()
        self.client.stop_channels()
        if time.monotonic() - began > 3:
            self._violate(f"stop_channels() took {time.monotonic() - began:.1f} s")

    def executed(self) -> list[tuple[int, int]]:
        """The number and the pid of each cell that was executed, in order."""
        return [(int(number), int(pid)) for number, pid in self._lines(2)]

    def _ended(self) -> dict[int, float]:
        """When the cells ended."""
        return {int(number): float(when) for number, _, when in self._lines(3)}

    def _lines(self, fields: int) -> list[list[str]]:
        text = self._path.read_text() if self._path.exists() else ""
        return [line.split() for line in text.splitlines() if len(line.split()) == fields]

    # --- in threads of the pool ---

    def _execute_some(self) -> None:
        """One cell, three at once, several in a row, two hastily, or a long one."""
        self._go_on()
        row = partial(self._send_several, self.random.randint(2, 6), None)
        hasty = partial(self._send_several, 2, 0.02)
        kinds: list[list[Callable[[], object]]]
        kinds = [[self._ask], [self._ask] * 3, [row], [hasty], [self._display_many]]
        cells = self.random.choices(kinds, [3, 3, 3, 3, 1])[0]
        for future in [self._pool.submit(cell) for cell in cells]:
            future.result()
        self._see(self.client.iopub_channel.get_msgs())

    def _go_on(self) -> None:
        """After a restart, go on with the new kernel process."""
        while self.faults == "kernels" and not (self._state and self.client.is_alive()):
            try:
                self.client.wait_for_ready(PATIENCE)
                self._state += 1
                with suppress(gb.GatewayConnectionError):  # its reply may be lost
                    code = self._language.set_state.format(state=self._state)
                    self.client.execute(code, reply=True)
            except RuntimeError as error:  # it was restarted once more
                log.info("not ready: %s", str(error))
                self._state = 0

    def _cell(self, more: str = "") -> tuple[int, dict[str, Any]]:
        """The number of a cell, its code, which writes that, and what the reply is to contain."""
        with self._lock:
            self._last += 1
            number, pause = self._last, self.random.choice([0, 0, 0, 0.01, 0.1, 0.4])
        about = {"number": number, "pause": pause, "path": str(self._path)}
        begin, end = (part.format(**about) for part in (self._language.begin, self._language.end))
        return number, {
            "code": begin + more + end,
            "user_expressions": dict(self._language.expressions),
        }

    def _ask(self) -> None:
        number, arguments = self._cell()
        self._note_outcome(number, partial(self.client.execute, reply=True, **arguments))

    def _send_several(self, count: int, timeout: float | None) -> None:
        """Send some without waiting for replies; then take these in any order."""
        sent: list[tuple[int, str]] = []
        for number, cell in [self._cell() for _ in range(count)]:
            content = {"silent": False, "store_history": True, "allow_stdin": False, **cell}
            message = self.client._new_message("execute_request", content)
            try:
                self.client.shell_channel.send(message, timeout)
                sent.append((number, message["header"]["msg_id"]))
            except (gb.GatewayTimeout, gb.GatewayConnectionClosed, gb.KernelRestarted):
                self._outcomes[number] = "not sent"
        self._in_order.append([number for number, _ in sent])
        self.random.shuffle(sent)
        for number, msg_id in sent:
            self._note_outcome(number, partial(self.client._recv_reply, msg_id))

    def _display_many(self) -> None:
        """What is displayed comes in order, nothing twice, and what is missing is counted."""
        number, cell = self._cell(self._language.show.format(count=DISPLAYS))
        outputs: list[dict[str, Any]] = []
        interactively = partial(self.client.execute_interactive, output_hook=outputs.append)
        reply = self._note_outcome(number, partial(interactively, allow_stdin=False, **cell))
        self._see(outputs)
        if self._outcomes[number] != "done":
            return
        displayed = numbers_in(outputs)
        if displayed != sorted(set(displayed)):
            self._violate(f"{number} displayed {displayed}")
        missing = DISPLAYS + 3 - len(outputs)  # busy, execute_input and idle come, too
        counted = self.client.missing_messages(reply["parent_header"]["msg_id"])
        if counted is None or self._language is not PYTHON:  # or one message has many lines
            self.notes["counting: not known whether any are missing"] += 1
        elif counted > missing or (len(displayed) < DISPLAYS and not counted):
            self._violate(f"{number}: {counted} counted as missing, {missing} are")
        else:
            self.notes["counting: messages missing"] += missing
            self.notes["counting: ... counted"] += counted

    def _note_outcome(self, number: int, get: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Get the reply to a cell, and note what came of it; returns the reply, if there is one."""
        reply: dict[str, Any] = {}
        try:
            reply = get()
            outcome = {"ok": "done"}.get(reply["content"]["status"], reply["content"]["status"])
            self._see([reply])
        except gb.ReplyLost as lost:
            outcome = f"lost, {'executed' if lost.executed else 'unknown'}"
        except gb.KernelRestarted:
            outcome = "restarted"
        except gb.GatewayTimeout:
            outcome = "not sent"
        except Exception as error:
            outcome = repr(error)
        log.info("OUTCOME %d %s", number, outcome)
        self._outcomes[number] = outcome
        if outcome == "done":
            values = reply["content"].get("user_expressions") or {}
            found = {k: v["data"]["text/plain"] for k, v in values.items() if "data" in v}
            if self._language.expressions and found.get("cell") != str(number):
                self._violate(f"{number} got the reply to {found.get('cell')}")
            state = found.get("state") if self._language.expressions else str(self._state)
            if self._state and state != str(self._state):
                self._violate(f"{number} is from another process: {found}, not {self._state}")
        return reply

    def _see(self, messages: list[dict[str, Any]]) -> None:
        """No message comes twice; but a gateway gives two of its own the same msg_id."""
        for message in messages:
            key = message["msg_id"], message["header"]["date"]
            if key in self._seen:
                self._violate(f"{message['msg_type']} {message['msg_id']} came twice")
            self._seen.add(key)

    # --- the verdict ---

    def _violate(self, text: str) -> None:
        log.error("VIOLATION %s", text)
        self.violations.append(text)

    def _judge(self) -> None:
        numbers = [number for number, _ in self.executed()]
        times = Counter(numbers)
        for number, outcome in self._outcomes.items():
            if times[number] not in TRUE.get(outcome, ()):
                self._violate(f"{number}: {outcome}; executed {times[number]} times")
        for sent in self._in_order:
            known = [number for number in sent if self._outcomes.get(number) != "lost, unknown"]
            places = [numbers.index(number) for number in known if number in times]
            if places != sorted(places):
                self._violate(f"out of order: {sent} at {places}")
        lost = [number for number, outcome in self._outcomes.items() if "lost" in outcome]
        if self.faults == "cuts":
            ended = self._ended()
            away = [min(abs(ended[number] - cut) for cut in self.cuts) for number in lost]
            if any(seconds > ON_ITS_WAY for seconds in away):
                self._violate(f"replies were lost, {away} s after or before a cut")
        self.notes["executed twice"] = sum(count > 1 for count in times.values())
        self.notes["hung"] = self._last - len(self._outcomes)

    def table(self) -> str:
        """All the counts."""
        told = Counter(o if o in TRUE else "another error" for o in self._outcomes.values())
        rows = {"requests": self._last, **{name: told[name] for name in [*TRUE, "another error"]}}
        rows |= {"violations": len(self.violations), "messages received": len(self._seen)}
        rows |= {"websockets": len(self.proxy.websockets), **dict(sorted(self.notes.items()))}
        return "\n".join(f"  {name:<44}{count:>6}" for name, count in rows.items())


def numbers_in(messages: list[dict[str, Any]]) -> list[int]:
    """Return the numbers that were displayed, or printed, in the order of the messages."""
    texts = [
        m["content"]["data"]["text/plain"] for m in messages if m["msg_type"] == "display_data"
    ]
    texts += [m["content"]["text"] for m in messages if is_printed(m)]
    return [int(word) for text in texts for word in text.split()]


def is_printed(message: dict[str, Any]) -> bool:
    """Return True if a message is output of the kernel, and no notice of the gateway."""
    return message["msg_type"] == "stream" and message["content"]["name"] == "stdout"


def is_done(batch: Future[None]) -> bool:
    """Whether it is, in time; raises what went wrong in it."""
    if wait([batch], PATIENCE).not_done:
        return False
    batch.result()
    return True


def main() -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--executes", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    parser.add_argument("--server", choices=SERVERS, default="kg")
    parser.add_argument("--eg-python", default=sys.executable)
    parser.add_argument("--kernel", choices=KERNELS, default="python3")
    parser.add_argument("--faults", choices=KINDS, default="network")
    parser.add_argument("--work", type=Path, help="an empty directory for what is left")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for name, spec in SPECS.items():
            folder = work / "kernels" / name
            folder.mkdir(parents=True)
            (folder / "kernel.json").write_text(json.dumps(spec))
        form = "%(asctime)s.%(msecs)03d %(threadName)s %(message)s"
        logging.basicConfig(filename=work / "log", level=logging.DEBUG, format=form, datefmt="%T")
        logging.getLogger("urllib3").setLevel(logging.INFO)
        logging.getLogger("gateway_blocking").setLevel(
            logging.DEBUG
        )  # where the client's messages go
        python = options.eg_python if options.server == "eg" else sys.executable
        with serve(options.server, python, work) as (port, token):
            soak = Soak(options, port, token, work / "executed")
            try:
                soak.run(options.executes, options.minutes)
            finally:
                soak.manager.shutdown_kernel()
    what = f"{options.server} {options.kernel} {options.faults}, seed {options.seed}"
    print(f"{what}, {time.monotonic() - began:.0f} s\n{soak.table()}")
    for text in soak.violations[:20]:
        print(f"VIOLATION ({what}): {text}")
    return 1 if soak.violations else 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # where a thread hangs, the interpreter would wait for it
