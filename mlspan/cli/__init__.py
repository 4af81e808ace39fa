"""The ``mlspan`` command, which draws with rich. Nothing else in mlspan imports that."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Exit codes: 0 for success, 1 for a failure or a problem found, 2 for a usage error."""
    from .app import run_app

    run_app()
