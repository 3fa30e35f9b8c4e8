"""Every exception this package raises on purpose.

::

    GatewayError
    ├── GatewayConnectionError (ConnectionError)     could not reach it, or it broke
    │   ├── GatewayConnectionClosed (RuntimeError)   for good; ``__cause__`` says why
    │   └── ReplyLost (RuntimeError)                 of one request; says whether it was executed
    ├── GatewayTimeout (TimeoutError)                a deadline passed
    │   └── KernelNotReady (RuntimeError)            ... in ``wait_for_ready``
    ├── GatewayHTTPError                             the gateway answered, and said no
    │   ├── GatewayAuthError                         401, 403
    │   │   └── KernelsNotListed                     403 on the list, and only there
    │   ├── GatewayFull                              403 on a start: as many kernels as it may run
    │   ├── NoSuchKernel (KeyError)                  404 on a kernel
    │   ├── NoSuchSession (KeyError)                 404 on a session, or one that is not kept
    │   └── NoSuchKernelSpec (kernelspec.NoSuchKernel)   404 on one, or an unknown name
    ├── DeadKernelError (RuntimeError)               the kernel is gone, its reply never comes
    │   ├── KernelRestarted                          it is alive again, but its state is lost
    │   └── KernelGone (NoSuchKernel)                it was shut down or culled
    ├── NoKernel (RuntimeError)                      nothing was started yet, or it was shut down
    ├── RemoteNotSupported (NotImplementedError)     has a meaning for a local kernel only
    ├── MessageTooLarge (ValueError)                 more than the gateway accepts in one message
    └── WireError (ValueError)                       a malformed frame

The other bases let code that was written for ``jupyter_client`` catch them: what was a
:exc:`TimeoutError`, a :exc:`RuntimeError`, a :exc:`KeyError` or the ``NoSuchKernel`` of
``jupyter_client.kernelspec`` there is one here.  Nothing
arriving in time on a channel is :exc:`queue.Empty`, as ever.  What went wrong underneath is
always ``__cause__``, and no message contains a token, a password or a header's value.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_client import kernelspec

from .deprecation import deprecated_names
from .escape import printable

__all__ = [
    "DeadKernelError",
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
    "RemoteNotSupported",
    "ReplyLost",
    "WireError",
    "copy_for_raise",
]


class GatewayError(Exception):
    """The base of every error here.

    Attributes
    ----------
    advice : str
        What to do about it, if that is known; it stands at the end of the text, too.
    """

    advice: str = ""

    def __str__(self) -> str:
        # KeyError would quote its message and OSError would look for an errno in it.  Names, ids
        # and messages of a server are part of it: they must not command a terminal or fake a line.
        return printable(self.args[0]) if self.args else ""


class GatewayConnectionError(GatewayError, ConnectionError):
    """The gateway could not be reached, or the connection to it broke."""


class GatewayConnectionClosed(GatewayConnectionError, RuntimeError):
    """The websocket to the kernel is closed for good; ``__cause__`` says why.

    A :exc:`RuntimeError` too, because that is what nbclient and callers of
    ``jupyter_server.gateway`` catch when a connection is gone.
    """


class ReplyLost(GatewayConnectionError, RuntimeError):
    """No reply to a request will come: it was lost with the connection, or cannot be read.

    The connection is open, and the kernel as it was; other requests are not concerned.

    Attributes
    ----------
    msg_id : str
        The request.
    executed : bool or None
        True where the kernel certainly executed it, once; None where nobody can know whether it
        did, once or not at all.
    """

    def __init__(self, text: str, *, msg_id: str = "", executed: bool | None = None) -> None:
        super().__init__(text)
        self.msg_id = msg_id
        self.executed = executed


class GatewayTimeout(GatewayError, TimeoutError):
    """A deadline passed before the answer came."""


class KernelNotReady(GatewayTimeout, RuntimeError):
    """``wait_for_ready`` ran out of time (jupyter_client raises a RuntimeError there)."""


class GatewayHTTPError(GatewayError):
    """The gateway answered a request with an error.

    Attributes
    ----------
    method, url : str
        The request; the URL is without user name, password and query.
    status_code : int
        The HTTP status of the answer.
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
    ) -> None:
        super().__init__(text)
        self.method = method
        self.url = url
        self.status_code = status_code
        self.reason = reason
        self.message = message


class GatewayAuthError(GatewayHTTPError):
    """401 or 403: the credentials are missing, wrong, or not enough for this."""


class KernelsNotListed(GatewayAuthError):
    """403 on the list of kernels: the gateway lets no one list them, and the login is fine.

    Each kernel can still be reached by its whole ID.
    """


class GatewayFull(GatewayHTTPError):
    """403 on a start: the gateway runs as many kernels as it may, in all or for this user."""


class NoSuchKernel(GatewayHTTPError, KeyError):
    """The gateway knows no kernel of this id: it was shut down, culled, or never there."""


class NoSuchSession(GatewayHTTPError, KeyError):
    """There is no session of this id: it was deleted, or never there."""


class NoSuchKernelSpec(GatewayHTTPError, kernelspec.NoSuchKernel):
    """The gateway has no kernelspec of this name.

    Also the exception that jupyter_client raises for a local kernelspec, ``NoSuchKernel`` of
    ``jupyter_client.kernelspec``, and so a :exc:`KeyError`.

    Attributes
    ----------
    name : str
        The kernelspec that was asked for.
    """

    def __init__(self, text: str, *, name: str = "", **answer: Any) -> None:
        super().__init__(text, **answer)
        self.name = name


class DeadKernelError(GatewayError, RuntimeError):
    """The kernel died or was removed; what was asked of it will never be answered."""


class KernelRestarted(DeadKernelError):
    """The kernel was restarted: it is alive, but its variables and pending replies are lost."""


class KernelGone(DeadKernelError, NoSuchKernel):
    """The kernel was shut down or culled, by whomever: the gateway does not know it any more."""


class NoKernel(GatewayError, RuntimeError):
    """The manager has no kernel: none was started, or it was shut down.

    The text contains ``No kernel is running!``, which nbclient looks for.
    """


class RemoteNotSupported(GatewayError, NotImplementedError):
    """The call means something for a kernel on this machine only (ports, signals, files)."""


class MessageTooLarge(GatewayError, ValueError):
    """The message is larger than a gateway accepts, and was not sent."""


class WireError(GatewayError, ValueError):
    """A frame that does not follow its protocol."""


_E = TypeVar("_E", bound=BaseException)


def copy_for_raise(error: _E) -> _E:
    """Return a copy of `error` to raise, with its cause and without another thread's traceback.

    One event, such as a lost connection, ends many calls in many threads, and a raised
    exception object collects the traceback of each place that raises it.
    """
    again = copy.copy(error)
    again.__cause__ = error.__cause__
    return again.with_traceback(None)


if TYPE_CHECKING:
    NotRemotelyPossible = RemoteNotSupported
else:
    __getattr__ = deprecated_names(__name__, {"NotRemotelyPossible": RemoteNotSupported})
