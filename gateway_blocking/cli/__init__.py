"""The command line: ``jupyter gateway``, with a subcommand for each thing to do.

``app``
    The application, its subcommands, and how it ends.
``command``
    What all subcommands share: options, gateway, kernel, errors and exit statuses.
``terminal``, ``files``
    What is written to people, and what is read and written on disk.

Every other module has the subcommands that its name says.  They are imported when they are asked
for, and the optional packages where they are used.
"""

from .app import GatewayApp, main

__all__ = ["GatewayApp", "main"]
