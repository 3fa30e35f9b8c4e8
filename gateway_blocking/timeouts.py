"""Timeouts and intervals that are not options, in seconds.

Two kinds of modules keep their own: those of the engine, beside the code that waits, and
``reaper_process``, which runs without the package.
"""

from __future__ import annotations

__all__ = [
    "BUSY_TIMEOUT",
    "CONSOLE_REPLY_TIMEOUT",
    "CONSOLE_SILENCE",
    "CREDENTIALS_CHECK_TIMEOUT",
    "DEATH_GRACE",
    "DEATH_NOTICE_TIMEOUT",
    "DRAIN_INTERVAL",
    "EXIT_DELETE_TIMEOUT",
    "GATEWAY_EXIT_TIMEOUT",
    "GATEWAY_KERNELS_TIMEOUT",
    "GIVE_BACK_TIMEOUT",
    "HISTORY_TIMEOUT",
    "IDLE_GRACE",
    "INTERRUPT_TIMEOUT",
    "KERNEL_INFO_TIMEOUT",
    "KERNEL_LIST_PAUSE",
    "KERNEL_LIST_PAUSE_MAX",
    "KERNEL_POLL_TIMEOUT",
    "LOCK_SLICE",
    "PLAIN_HTTP_TIMEOUT",
    "POOL_CHECK_TIMEOUT",
    "POOL_CHECK_TIMEOUT_MIN",
    "POOL_CLOSE_TIMEOUT",
    "POOL_END_ATTEMPTS",
    "POOL_INTERRUPT_TIMEOUT",
    "POOL_START_PAUSE",
    "POOL_START_PAUSE_MAX",
    "POOL_WATCH_INTERVAL",
    "PROGRESS_INTERVAL",
    "PROGRESS_LINE_INTERVAL",
    "PROMPT_SLICE",
    "READY_TIMEOUT",
    "REAPER_START_TIMEOUT",
    "RESTART_PAUSE",
    "RESTART_PAUSE_MAX",
    "RESTART_TIMEOUT",
    "RETRY_JITTER",
    "RETRY_PAUSE",
    "RETRY_PAUSE_MAX",
    "SEARCH_AWAY",
    "SEARCH_PAUSE",
    "SEARCH_TIMEOUT",
    "SEARCH_TIMEOUT_MIN",
    "SETUP_TIMEOUT",
    "SIGTERM_AFTER_FORK",
    "SIGTERM_REPEATED",
    "STATUS_PATIENCE",
    "STATUS_REPLY_TIMEOUT",
    "STATUS_REQUEST_TIMEOUT",
    "STATUS_TLS_TIMEOUT",
    "TLS_PATIENCE",
    "TLS_PROBE_TIMEOUT",
    "TRANSFER_CLEANUP_TIMEOUT",
    "UP_PAUSE",
    "UP_PAUSE_MAX",
    "UP_TIMEOUT",
    "YIELD_INTERVAL",
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
SEARCH_AWAY = 10.0
"""End of the search for such a kernel, if the gateway has been away for so long."""
SEARCH_PAUSE = 0.5
"""First pause between two requests for a kernel whose start was not answered."""
SEARCH_TIMEOUT = 5.0
"""One request for such a kernel, if there is that much time."""
SEARCH_TIMEOUT_MIN = 0.05
"""One request for such a kernel, if there is no time left."""
GIVE_BACK_TIMEOUT = 5.0
"""Shutting down a kernel whose start was interrupted, which may still be starting."""

# --- waits in users' threads ----------------------------------------------------------------------

LOCK_SLICE = 1.0
"""Longest single wait, which on Windows no signal interrupts."""
PROMPT_SLICE = 0.5
"""Wait for an answer on standard input before it is checked if the question is still open."""

# --- a kernel's state and replies -----------------------------------------------------------------

KERNEL_POLL_TIMEOUT = 1.5
"""One request for the state of a kernel whose websocket is open."""
TRANSFER_CLEANUP_TIMEOUT = 5.0
"""Removal of the part of a file that a failed transfer has left on the kernel's machine."""
INTERRUPT_TIMEOUT = 10.0
"""Request that interrupts code which did not end within its own timeout."""
IDLE_GRACE = 10.0
"""Wait for the "idle" of an execution after its reply, which a lost connection may swallow."""
DEATH_GRACE = 3.0
"""Delay of a kernel's death for coroutines: nbclient polls the kernel every second."""
YIELD_INTERVAL = 0.02
"""Time that a coroutine takes messages before it lets the event loop run."""
DRAIN_INTERVAL = 0.01
"""Time in which a task of nbclient takes at least one message of those that are queued."""

# --- a pool of kernels ----------------------------------------------------------------------------

SETUP_TIMEOUT = 600.0
"""Setup code of a new kernel, which may load a large model."""
POOL_CHECK_TIMEOUT = 2.0
"""Reply of an idle kernel to its health check; measured: 2 to 5 ms."""
POOL_CHECK_TIMEOUT_MIN = 0.25
"""Such a reply, if the caller's own timeout has almost passed."""
POOL_INTERRUPT_TIMEOUT = 5.0
"""Reply of a kernel that came back busy, after an interrupt."""
POOL_START_PAUSE, POOL_START_PAUSE_MAX = 0.5, 10.0
"""Pauses after a kernel could not be started, or not be shut down."""
POOL_END_ATTEMPTS = 20
"""Attempts to shut a kernel down, in three minutes; then it is left to the end of the process."""
POOL_WATCH_INTERVAL = 5.0
"""Looks at what the connections of idle kernels have heard; no request is sent."""
POOL_CLOSE_TIMEOUT = 30.0
"""Shutdown of all kernels of a pool that is closed."""

# --- the end of a process -------------------------------------------------------------------------

REAPER_START_TIMEOUT = 5.0
"""Start of the reaper's process, which runs a bare Python."""
EXIT_DELETE_TIMEOUT = 10.0
"""Deletion of one kernel at exit; of all kernels, if the reaper deletes those that are left."""
SIGTERM_AFTER_FORK = 0.01
"""Delay of a SIGTERM that arrives during a fork, which Python would drop."""
SIGTERM_REPEATED = 1.0
"""Time in which a second SIGTERM belongs to the first one."""

# --- the embedded gateway -------------------------------------------------------------------------

GATEWAY_EXIT_TIMEOUT = 5.0
"""Exit of the gateway after it was asked to; then it is killed."""
GATEWAY_KERNELS_TIMEOUT = 15.0
"""Time that the gateway has to stop its kernels."""

# --- the command line -----------------------------------------------------------------------------

READY_TIMEOUT = 60.0
"""Start of a new kernel until it replies."""
BUSY_TIMEOUT = 2.0
"""Reply of a running kernel before a command says that it waits for it."""
KERNEL_INFO_TIMEOUT = 60.0
"""Reply of a kernel that tells its language before a notebook runs."""
DEATH_NOTICE_TIMEOUT = 1.0
"""Notice of a kernel's death after its connection is lost."""
PROGRESS_INTERVAL = 0.25
"""Polls of the connections while files run."""
PROGRESS_LINE_INTERVAL = 10.0
"""Lines of progress, if the terminal has no progress bar."""
CONSOLE_REPLY_TIMEOUT = 10.0
"""Reply of a kernel that is asked if the code at the prompt is complete."""
HISTORY_TIMEOUT = 5.0
"""Reply of a kernel that is asked for its history, which some kernels ignore."""
CONSOLE_SILENCE = 2.0
"""Silence after a reply from which on no more output is expected."""
STATUS_PATIENCE = 2.0
"""Silence of a check of ``jupyter gateway status`` before it says what it waits for."""
STATUS_REQUEST_TIMEOUT = 10.0
"""Connection and response to ``jupyter gateway status``, if no option sets their timeouts."""
STATUS_TLS_TIMEOUT = 10.0
"""TLS handshake of ``jupyter gateway status``."""
STATUS_REPLY_TIMEOUT = 30.0
"""Reply to the empty executions of ``jupyter gateway status --kernel``."""
