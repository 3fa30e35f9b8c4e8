"""One peer in a process of its own: ``python tests/benchmarks/worker.py PEER``.

Each line of standard input is a work as JSON, ``{"work": ..., arguments}``; each line of standard
output is what was found, why the peer cannot do it, or what went wrong.  It ends when its input
does, also in the middle of a work.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from typing import Any

import peers


def read(lines: queue.SimpleQueue[str]) -> None:
    """Pass the lines on, and end with them."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def do(peer: peers.Peer, work: str, **arguments: Any) -> dict[str, Any]:
    """Do one work."""
    for name in (work, f"{work} {arguments.get('kind')}"):
        if name in peer.cannot:
            return {"cannot": peer.cannot[name]}
    try:
        return {"found": getattr(peer, work)(**arguments)}
    except Exception as error:  # whatever it is, the other peers go on
        return {"failed": repr(error), "trace": traceback.format_exc()}


def main() -> None:
    """Do one work after the other."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a peer prints is no answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=read, args=(lines,), daemon=True).start()
    peer = peers.load(sys.argv[1])
    while True:
        answers.write(json.dumps(do(peer, **json.loads(lines.get()))) + "\n")


if __name__ == "__main__":
    main()
