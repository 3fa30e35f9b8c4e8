"""The exceptions that this package raises.

::

    GatewayError
    ├── GatewayConnectionError (ConnectionError)     it cannot be reached, or the connection broke
    │   ├── GatewayConnectionClosed (RuntimeError)   the websocket is closed; ``__cause__`` says why
    │   └── ReplyLost (RuntimeError)                 one reply is lost; says whether its request ran
    ├── GatewayTimeout (TimeoutError)                a timeout passed
    │   ├── KernelNotReady (RuntimeError)            ... in ``wait_for_ready``
    │   └── PoolTimeout                              ... before a pool had a kernel for the caller
    ├── GatewayHTTPError                             the gateway refused a request
    │   ├── GatewayAuthError                         401, 403
    │   │   └── KernelsNotListed                     403 for the list of kernels only
    │   ├── GatewayFull                              403 for a start: the limit is reached
    │   ├── NoSuchKernel (KeyError)                  404 for a kernel
    │   ├── NoSuchSession (KeyError)                 404 for a session, or it is not in the table
    │   └── NoSuchKernelSpec (kernelspec.NoSuchKernel)   404 for a kernelspec, or an unknown name
    ├── DeadKernelError (RuntimeError)               the kernel died, and will not reply
    │   ├── KernelRestarted                          it runs again, but its state is lost
    │   └── KernelGone (NoSuchKernel)                it was shut down or culled
    ├── ExecutionError (RuntimeError)                the code raised an exception, or was skipped
    ├── NoKernel (RuntimeError)                      no kernel was started, or it was shut down
    ├── PoolClosed (RuntimeError)                    the pool is closed, or was not opened
    ├── PoolSetupFailed (RuntimeError)               the setup code of a pool failed
    ├── RemoteNotSupported (NotImplementedError)     the call makes sense for a local kernel only
    ├── MessageTooLarge (ValueError)                 the message is larger than a gateway accepts
    └── WireError (ValueError)                       a frame is malformed

The standard bases let code that was written for ``jupyter_client`` catch these exceptions: a
:exc:`TimeoutError`, a :exc:`RuntimeError`, a :exc:`KeyError` or a ``NoSuchKernel`` of
``jupyter_client.kernelspec`` there is one here.  If no message arrives in time on a channel, the
exception is :exc:`queue.Empty`, as in ``jupyter_client``.  The underlying error is always
``__cause__``.  No text contains a token, a password or the value of a header.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_client import kernelspec

from .deprecation import deprecated_names
from .escape import plain_text, printable

__all__ = [
    "DeadKernelError",
    "ExecutionError",
    "GatewayAuthError",
    "GatewayConnectionClosed",
    "GatewayConnectionError",
    "GatewayError",
    "GatewayFull",
    "GatewayHTTPError",
    "GatewayTimeout",
    "KernelGone",
    "KernelNotReady",
    "KernelRestarted",
    "KernelsNotListed",
    "MessageTooLarge",
    "NoKernel",
    "NoSuchKernel",
    "NoSuchKernelSpec",
    "NoSuchSession",
    "PoolClosed",
    "PoolSetupFailed",
    "PoolTimeout",
    "RemoteNotSupported",
    "ReplyLost",
    "WireError",
    "copy_for_raise",
]


class GatewayError(Exception):
    """Base class of all exceptions of this package.

    Attributes
    ----------
    advice : str
        Advice about the error; "" if there is none.  ``str(error)`` ends with it.
    execution : Execution or None
        The outputs that came before, if ``run()`` of a client raised the error.
    """

    execution: Any = None

    def __init__(self, text: str = "", *, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice

    def __str__(self) -> str:
        # KeyError would quote its text, and OSError would look for an errno in it.  The text may
        # contain names, IDs and messages of a server, which must not control a terminal.
        text = str(self.args[0]) if self.args else ""
        return printable("; ".join(filter(None, (text, self.advice))))


class GatewayConnectionError(GatewayError, ConnectionError):
    """The gateway cannot be reached, or the connection to it broke."""


class GatewayConnectionClosed(GatewayConnectionError, RuntimeError):
    """The websocket to the kernel is closed; ``__cause__`` says why.

    The exception is a :exc:`RuntimeError`, too, because nbclient and callers of
    ``jupyter_server.gateway`` catch that if a connection is gone.
    """


class ReplyLost(GatewayConnectionError, RuntimeError):
    """No reply to a request will come: it was lost with the connection, or cannot be read.

    The connection is open, and other requests are not affected.

    Attributes
    ----------
    msg_id : str
        ID of the request.
    executed : bool or None
        True if the kernel executed the request, once.  None if it is unknown whether the kernel
        executed the request once or not at all.
    """

    def __init__(
        self, text: str, *, msg_id: str = "", executed: bool | None = None, advice: str = ""
    ) -> None:
        super().__init__(text, advice=advice)
        self.msg_id = msg_id
        self.executed = executed


class GatewayTimeout(GatewayError, TimeoutError):
    """A timeout passed before the response or the reply came."""


class KernelNotReady(GatewayTimeout, RuntimeError):
    """The timeout of ``wait_for_ready`` passed; jupyter_client raises a RuntimeError there."""


class PoolTimeout(GatewayTimeout):
    """A pool had no kernel for a caller within the timeout; ``__cause__`` is the last failure."""


class GatewayHTTPError(GatewayError):
    """The gateway refused a request, or failed to handle it.

    Attributes
    ----------
    method, url : str
        The request; the URL is without user name, password and query.
    status_code : int
        HTTP status of the response.
    reason : str
        The gateway's ``reason``, or the HTTP reason phrase.
    message : str
        The gateway's ``message``, or the beginning of a body that is not JSON.
    """

    def __init__(
        self,
        text: str,
        *,
        method: str = "",
        url: str = "",
        status_code: int = 0,
        reason: str = "",
        message: str = "",
        advice: str = "",
    ) -> None:
        super().__init__(text, advice=advice)
        self.method = method
        self.url = url
        self.status_code = status_code
        self.reason = reason
        self.message = message


class GatewayAuthError(GatewayHTTPError):
    """401 or 403: the credentials are missing or wrong, or do not permit the request."""


class KernelsNotListed(GatewayAuthError):
    """403 for the list of kernels: the gateway does not permit listing, and the login is valid.

    Each kernel can still be reached by its whole ID.
    """


class GatewayFull(GatewayHTTPError):
    """403 for a start: the gateway's limit of kernels, in all or for this user, is reached."""


class NoSuchKernel(GatewayHTTPError, KeyError):
    """The gateway has no kernel with this ID: it was shut down or culled, or never existed."""


class NoSuchSession(GatewayHTTPError, KeyError):
    """The server has no session with this ID: it was deleted, or never existed."""


class NoSuchKernelSpec(GatewayHTTPError, kernelspec.NoSuchKernel):
    """The gateway has no kernelspec with this name.

    The exception is the one that jupyter_client raises for a local kernelspec, ``NoSuchKernel`` of
    ``jupyter_client.kernelspec``, and so a :exc:`KeyError`, too.

    Attributes
    ----------
    name : str
        Name of the kernelspec.
    """

    def __init__(self, text: str, *, name: str = "", **response: Any) -> None:
        super().__init__(text, **response)
        self.name = name


class DeadKernelError(GatewayError, RuntimeError):
    """The kernel died or was removed, and will not reply to pending requests."""


class KernelRestarted(DeadKernelError):
    """The kernel was restarted: it runs, but its variables and pending replies are lost."""


class KernelGone(DeadKernelError, NoSuchKernel):
    """The kernel was shut down or culled, and the gateway does not know it any more."""


class ExecutionError(GatewayError, RuntimeError):
    """The code raised an exception in the kernel, or the kernel skipped the code.

    Attributes
    ----------
    ename, evalue : str
        Name and text of the exception.
    traceback : list of str
        The traceback as the kernel formats it, usually with ANSI colours.
    """

    def __init__(self, ename: str = "", evalue: str = "", traceback: Sequence[str] = ()) -> None:
        super().__init__()
        self.args = (ename, evalue, traceback)  # for pickle
        self.ename = ename
        self.evalue = evalue
        self.traceback = list(traceback)

    def __str__(self) -> str:
        lines = [plain_text(line) for part in self.traceback for line in part.splitlines()]
        text = f"{self.ename}: {self.evalue}" if self.evalue else self.ename
        return "\n".join(map(printable, lines or [text]))


class NoKernel(GatewayError, RuntimeError):
    """The manager has no kernel: none was started, or it was shut down.

    The text contains ``No kernel is running!``, which nbclient looks for.
    """


class PoolClosed(GatewayError, RuntimeError):
    """The pool of kernels is closed, or was not opened."""


class PoolSetupFailed(GatewayError, RuntimeError):
    """The setup code of a pool failed in a new kernel; ``__cause__`` is what it raised."""


class RemoteNotSupported(GatewayError, NotImplementedError):
    """The call makes sense for a kernel on this machine only (ports, signals, files)."""


class MessageTooLarge(GatewayError, ValueError):
    """The message is larger than a gateway accepts, and was not sent."""


class WireError(GatewayError, ValueError):
    """A frame does not follow its protocol."""


_E = TypeVar("_E", bound=BaseException)


def copy_for_raise(error: _E) -> _E:
    """Return a copy of `error` to raise, with the same cause and without a traceback.

    One event, such as a lost connection, ends many calls in many threads.  An exception object
    that is raised several times would collect the traceback of each place that raises it.
    """
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again.with_traceback(None)


if TYPE_CHECKING:
    NotRemotelyPossible = RemoteNotSupported
else:
    __getattr__ = deprecated_names(__name__, {"NotRemotelyPossible": RemoteNotSupported})
