"""jupyter_client's blocking API for kernels behind a Jupyter gateway."""

from ._version import __version__

__all__ = ["__version__"]
