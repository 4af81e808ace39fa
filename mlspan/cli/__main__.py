"""Entry point of ``python -m mlspan.cli``."""

from . import main

if __name__ == "__main__":
    main()
