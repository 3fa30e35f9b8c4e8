"""Timeouts and intervals that are no options, in seconds unless the name says otherwise."""

from __future__ import annotations

__all__ = [
    "CREDENTIALS_CHECK_TIMEOUT",
    "GIVE_BACK_TIMEOUT",
    "KERNEL_LIST_PAUSE",
    "KERNEL_LIST_PAUSE_MAX",
    "LOCK_SLICE",
    "LOOK_PAUSE",
    "LOOK_TIMEOUT",
    "LOOK_TIMEOUT_MIN",
    "PLAIN_HTTP_TIMEOUT",
    "RESTART_PAUSE",
    "RESTART_PAUSE_MAX",
    "RESTART_TIMEOUT",
    "RETRY_JITTER",
    "RETRY_PAUSE",
    "RETRY_PAUSE_MAX",
    "TLS_PATIENCE",
    "TLS_PROBE_TIMEOUT",
    "SIGTERM_AFTER_FORK",
    "SIGTERM_REPEATED",
    "UP_PAUSE",
    "UP_PAUSE_MAX",
    "UP_TIMEOUT",
]

# --- REST requests --------------------------------------------------------------------------------

RETRY_PAUSE = 0.1
"""First pause before a request is sent again: a proxy that reloads is away for about that long."""
RETRY_PAUSE_MAX = 5.0
"""Longest pause before a request is sent again, if no ``Retry-After`` asks for a longer one."""
RETRY_JITTER = 0.5
"""Part of such a pause by which it may be longer at random."""
CREDENTIALS_CHECK_TIMEOUT = 5.0
"""Request that finds out whether a 403 concerns the credentials or only what was asked."""

# --- TLS ------------------------------------------------------------------------------------------

TLS_PATIENCE = 3.0
"""Silence in a TLS handshake after which the port is asked whether it speaks plain HTTP."""
PLAIN_HTTP_TIMEOUT = 1.0
"""Answer to that question: a port that speaks HTTP has just accepted a connection."""
TLS_PROBE_TIMEOUT = 2.0
"""Handshake that finds out whether a port that did not answer HTTP speaks TLS."""

# --- a gateway that starts ------------------------------------------------------------------------

UP_TIMEOUT = 5.0
"""One request to a gateway that may still be starting."""
UP_PAUSE, UP_PAUSE_MAX = 0.1, 1.0
"""Pauses between these requests."""

# --- kernels --------------------------------------------------------------------------------------

KERNEL_LIST_PAUSE, KERNEL_LIST_PAUSE_MAX = 0.1, 0.8
"""Pauses before the list of kernels is requested again: a start disturbs it for 0.15 s at most."""
RESTART_TIMEOUT = 10.0
"""Time that a gateway has to restart a kernel that died; measured: 40 to 250 ms."""
RESTART_PAUSE, RESTART_PAUSE_MAX = 0.05, 0.5
"""Pauses before a request is sent again that met such a restart."""
LOOK_PAUSE = 0.5
"""First pause between two requests for a kernel whose start was not answered."""
LOOK_TIMEOUT = 5.0
"""One request for such a kernel, if there is that much time."""
LOOK_TIMEOUT_MIN = 0.05
"""One request for such a kernel, if there is no time left."""
GIVE_BACK_TIMEOUT = 5.0
"""Shutting down a kernel whose start was interrupted, which may still be starting."""

# --- locks --------------------------------------------------------------------------------------

LOCK_SLICE = 1.0
"""Longest single wait for a lock, which on Windows no signal interrupts."""

# --- signals --------------------------------------------------------------------------------------

SIGTERM_AFTER_FORK = 0.01
"""Delay of a SIGTERM that arrives during a fork, which Python would drop."""
SIGTERM_REPEATED = 1.0
"""Time in which a second SIGTERM belongs to the first one."""
