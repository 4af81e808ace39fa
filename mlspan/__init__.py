"""mlspan: one line turns every LLM, chain, agent and training call into an OpenTelemetry span and an MLflow trace.

PYTEST_DONT_REWRITE: no assertion here is a test's, and a program that pytest is started by may have imported this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import integrations, tracing
    from .integrations import autolog

__all__ = ["__version__", "autolog", "integrations", "tracing"]


def load_ipython_extension(shell: Any) -> None:
    """Turn autolog on for ``%load_ext mlspan``, and show after each cell what the cell has recorded."""
    from .notebook import load_extension

    load_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Stop showing cells for ``%unload_ext mlspan``."""
    from .notebook import unload_extension

    unload_extension(shell)


def __getattr__(name: str) -> Any:
    if name in {"integrations", "tracing"}:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "autolog":
        from .integrations import autolog

        return autolog
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
