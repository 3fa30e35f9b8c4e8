"""``python -m gateway_blocking`` is ``jupyter gateway``."""

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
