"""The command line: ``jupyter gateway`` and its subcommands.

Each subcommand has a module of its own, named after it: ``exec``, ``run``, ``status``.  To add one,
write such a module with a subclass of :class:`.Command`, and add a row to the table in ``app``.
``interrupt`` is a short example.

The subcommands share these modules:

``app``
    The application: the table of subcommands, signals, and the exit status.
``command``
    The base classes of subcommands: options, the gateway, the kernel, the report of errors.
``errors``
    Exit statuses, and the errors that stand for them.
``argv``, ``kernel_lookup``, ``started``
    The command line, the kernel that an ID means, the record of kernels that were started.
``terminal``, ``files``
    Output to the terminal, and files that are read and replaced.

``run`` and ``exec`` also share these:

``jobs``, ``script_job``, ``notebook_job``
    The execution of one file on a kernel that is ready.
``batch``, ``progress``, ``outcomes``
    The execution of several files, its display, and its result.
``program``, ``kernel_program``
    Scripts as programs: their arguments, and the code that executes them inside a Python kernel.
``parameters``, ``destinations``, ``notebook_file``
    Parameters of notebooks, where notebooks are written, and how they are read and repaired.

A subcommand is imported when it is called, and an optional package when it is used.
"""

from .app import GatewayApp, main

__all__ = ["GatewayApp", "main"]
