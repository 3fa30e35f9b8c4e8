"""The result of one execution: its outputs, its error, and what is known of its end."""

from __future__ import annotations

import base64
import binascii
import html
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .collector import Output
from .errors import ExecutionError, GatewayError, copy_for_raise
from .escape import plain_text

__all__ = ["Execution", "Image", "KernelException", "Status"]

Status = Literal["ok", "error", "aborted", "timeout", "died", "lost"]

_PREFERRED = ("text/plain", "text/markdown", "text/latex", "application/json", "text/html")

_EXTENSIONS = {"image/jpeg": ".jpg", "image/svg+xml": ".svg"}


class Image(NamedTuple):
    """An image among the outputs."""

    mime: str
    data: bytes


class KernelException(NamedTuple):
    """The exception that ended the code, as the kernel describes it."""

    ename: str
    evalue: str
    traceback: list[str]


@dataclass(frozen=True, repr=False)
class Execution:
    """The result of one execution of code in a kernel.

    It is immutable, can be pickled, and needs neither kernel nor connection.

    Attributes
    ----------
    status : str
        ``"ok"``; ``"error"``: the code raised an exception; ``"aborted"``: the kernel skipped it,
        because an earlier request failed; ``"timeout"``: it did not end in time; ``"died"``: the
        kernel died or was restarted; ``"lost"``: the reply was lost with the connection.
    code : str
        The code.
    execution_count : int or None
        The number of the execution in the kernel, if it is known.
    outputs : list of dict
        The outputs as ``nbformat`` describes those of a code cell.  Streams are merged;
        ``clear_output`` and ``update_display_data`` are applied.
    error : KernelException or None
        ``ename``, ``evalue`` and ``traceback`` of the exception that ended the code.
    complete : bool or None
        True if all output came, False if some is known to be missing, None if it is not known.
    truncated : bool
        Whether output was cut because of `max_output`.
    running : bool
        Whether the code may still run in the kernel.
    detail : str
        What happened, if the status is neither ``"ok"`` nor ``"error"``; else ``""``.
    started, ended : datetime
        When the request was sent, and when this result was made (UTC, by the client's clock).
    msg_id, kernel_id : str
        The request and the kernel.
    user_expressions : dict
        The results of the expressions that were passed, as the kernel sent them.
    exception : GatewayError or None
        What :meth:`raise_for_error` raises, if it is not an :exc:`.ExecutionError`.
    """

    status: Status
    code: str
    execution_count: int | None
    outputs: list[Output]
    error: KernelException | None
    complete: bool | None
    truncated: bool
    running: bool
    detail: str
    started: datetime
    ended: datetime
    msg_id: str
    kernel_id: str
    user_expressions: dict[str, Any]
    exception: GatewayError | None = field(default=None, compare=False)
    _wait: Callable[[float | None], Execution] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        count = "" if self.execution_count is None else f" [{self.execution_count}]"
        return (
            f"<Execution{count}: {self.status}, {len(self.outputs)} outputs, {self.duration:.3g} s>"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_wait": None}
        if self.exception is not None:  # without its cause, which may refer to a socket
            state["exception"] = copy_for_raise(self.exception)
            state["exception"].__cause__ = None
        return state

    # --- the outputs ----------------------------------------------------------------------------

    @property
    def ok(self) -> bool:
        """True if the code ended without an exception."""
        return self.status == "ok"

    @property
    def duration(self) -> float:
        """Seconds from the sending of the request to its end."""
        return (self.ended - self.started).total_seconds()

    def _stream(self, name: str) -> str:
        return "".join(output["text"] for output in self.outputs if output.get("name") == name)

    @property
    def stdout(self) -> str:
        """The text on standard output."""
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        """The text on standard error."""
        return self._stream("stderr")

    @property
    def result(self) -> dict[str, Any] | None:
        """The MIME bundle of the last expression, or None if it has none."""
        results = [each for each in self.outputs if each["output_type"] == "execute_result"]
        return dict(results[-1]["data"]) if results else None

    @property
    def displays(self) -> list[dict[str, Any]]:
        """The MIME bundles that the code displayed, without the result."""
        displays = (each for each in self.outputs if each["output_type"] == "display_data")
        return [dict(each["data"]) for each in displays]

    @property
    def images(self) -> list[Image]:
        """The images among displays and result, each in the first of its formats."""
        return [image for output in self.outputs for image in _images(output)[:1]]

    def text(self, ansi: bool = False, prefer: Sequence[str] = _PREFERRED) -> str:
        r"""Return all outputs as one text, for a language model or a log.

        Parameters
        ----------
        ansi : bool
            Whether ANSI colours, carriage returns and backspaces stay as they came.  Otherwise
            they are removed or applied, as a terminal applies them: of a progress bar, its last
            state remains.
        prefer : sequence of str
            MIME types: of each display and result, the first of them is used.  If there is none,
            the text names what is there instead, as in ``[image/png, 10,240 bytes]``.
        """
        whole, was_stream = "", True
        for output in self.outputs:
            is_stream = output["output_type"] == "stream"
            if whole and not whole.endswith("\n") and not (is_stream and was_stream):
                whole += "\n"
            whole += _as_text(output, prefer)
            was_stream = is_stream
        return whole if ansi else plain_text(whole)

    def __str__(self) -> str:
        return self.text()

    # --- other forms ----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dict that ``json.dumps`` accepts."""
        names = ("ename", "evalue", "traceback")
        error = dict(zip(names, self.error, strict=True)) if self.error else None
        whole = {
            "status": self.status,
            "ok": self.ok,
            "code": self.code,
            "execution_count": self.execution_count,
            "outputs": self.outputs,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "result": self.result,
            "text": self.text(),
            "error": error,
            "complete": self.complete,
            "truncated": self.truncated,
            "running": self.running,
            "detail": self.detail,
            "started": self.started.isoformat(),
            "ended": self.ended.isoformat(),
            "msg_id": self.msg_id,
            "kernel_id": self.kernel_id,
            "user_expressions": self.user_expressions,
        }
        return {name: _strict(value) for name, value in whole.items()}

    def to_cell(self) -> dict[str, Any]:
        """Return code and outputs as a code cell of nbformat 4.5."""
        return {
            "cell_type": "code",
            "id": re.sub("[^a-zA-Z0-9-_]", "", self.msg_id)[-64:] or "cell",
            "metadata": {},
            "source": self.code,
            "execution_count": self.execution_count,
            "outputs": self.outputs,
        }

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write images and HTML into a folder, which is made; return the paths of the files.

        The files are named by the number of the output: ``001.png``, ``002.html``.

        Raises
        ------
        OSError
            The folder cannot be made, or a file cannot be written.
        """
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        saved = []
        for number, output in enumerate(self.outputs, 1):
            for suffix, data in _files(output):
                path = where / f"{number:03}{suffix}"
                path.write_bytes(data)
                saved.append(path)
        return saved

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = [f"<pre>{html.escape(self.text())}</pre>"]
        for image in self.images:
            data = base64.b64encode(image.data).decode()
            shown.append(f'<img src="data:{image.mime};base64,{data}">')
        return {"text/plain": self.text(), "text/html": "\n".join(shown)}

    # --- errors and waits -----------------------------------------------------------------------

    def raise_for_error(self) -> Execution:
        """Return this object if the code ended well; otherwise raise an exception.

        The attribute ``execution`` of the exception is this object, with all that came before.

        Raises
        ------
        ExecutionError
            The code raised an exception, or the kernel skipped it.
        GatewayTimeout
            The code did not end in time.
        DeadKernelError, ReplyLost, GatewayConnectionClosed
            The kernel died, or the reply was lost.
        """
        if self.ok:
            return self
        if self.exception is not None:
            error: GatewayError = copy_for_raise(self.exception)
        elif self.error is not None:
            error = ExecutionError(*self.error)
        else:
            error = ExecutionError("Aborted", self.detail)
        error.execution = self
        raise error

    def wait(self, timeout: float | None = None) -> Execution:
        """Return the result of code that went on after its timeout (``on_timeout="leave"``).

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; by default as long as the kernel lives.

        Returns
        -------
        Execution
            The whole result, or another one with the status ``"timeout"``, for which you can wait
            again.  It is this object if there is nothing to wait for.
        """
        return self if self._wait is None else self._wait(timeout)


# --- outputs as text, images and files ------------------------------------------------------------


def _as_text(output: Output, prefer: Sequence[str]) -> str:
    kind = output["output_type"]
    if kind == "stream":
        return str(output["text"])
    if kind == "error":
        return "\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}"
    data = output["data"]
    for mime in prefer:
        if mime in data:
            return data[mime] if isinstance(data[mime], str) else json.dumps(data[mime])
    sizes = (f"{mime}, {len(_bytes(mime, value)):,} bytes" for mime, value in data.items())
    return f"[{'; '.join(sizes)}]"


def _bytes(mime: str, value: object) -> bytes:
    """Return the content of one format; b"" if it is not valid base64."""
    text = value if isinstance(value, str) else json.dumps(value)
    if mime.startswith("image/") and mime != "image/svg+xml":
        try:
            return base64.b64decode(text)
        except (binascii.Error, ValueError):
            return b""
    return text.encode("utf-8", "surrogatepass")


def _images(output: Output) -> list[Image]:
    """Return an output's image, in each of the formats that it came in."""
    data = output.get("data", {})
    found = [Image(mime, _bytes(mime, data[mime])) for mime in data if mime.startswith("image/")]
    return [image for image in found if image.data]


def _files(output: Output) -> list[tuple[str, bytes]]:
    """Return suffix and content of each file that an output is saved as."""
    files = [
        (_EXTENSIONS.get(image.mime, f".{re.sub('[^a-z0-9]', '', image.mime[6:]) or 'img'}"), image)
        for image in _images(output)
    ]
    saved = [(suffix, image.data) for suffix, image in files]
    page = output.get("data", {}).get("text/html")
    return [*saved, (".html", page.encode("utf-8", "replace"))] if isinstance(page, str) else saved


def _strict(value: Any) -> Any:
    """Return a copy of a value as strict JSON has it, in which no number is NaN or infinite."""
    if isinstance(value, dict):
        return {str(name): _strict(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
