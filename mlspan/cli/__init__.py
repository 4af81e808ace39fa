"""The ``mlspan`` command, on typer and rich, which nothing else of mlspan imports."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Exit code 0: well; 1: something found wrong, or failed; 2: not called as it should be."""
    from .app import app

    app(prog_name="mlspan")
