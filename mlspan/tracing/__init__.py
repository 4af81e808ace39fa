"""Configure where traces go and what they may contain, and record spans of your own.

The functions listed in ``__all__`` are the public interface. They are imported when one of them is first used, so that
what needs a name of this package alone, such as the command line, does not wait for OpenTelemetry's SDK.
"""

from __future__ import annotations

import atexit
import importlib
import sys
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import (
        FlushResult,
        Keep,
        Spend,
        configure,
        current_trace_id,
        dead,
        drain,
        expectation,
        feedback,
        flush,
        model,
        on_cost,
        request_id,
        run,
        session,
        shutdown,
        span,
        spend,
        tags,
        trace,
        trace_url,
        tracer_provider,
        user,
        wrap,
    )

__all__ = [
    "FlushResult",
    "Keep",
    "Spend",
    "configure",
    "current_trace_id",
    "dead",
    "drain",
    "expectation",
    "feedback",
    "flush",
    "model",
    "on_cost",
    "request_id",
    "run",
    "session",
    "shutdown",
    "span",
    "spend",
    "tags",
    "trace",
    "trace_url",
    "tracer_provider",
    "user",
    "wrap",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        api = importlib.import_module(f"{__name__}.api")
        globals().update({one: getattr(api, one) for one in __all__})
        return globals()[name]
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def _handle_exit() -> None:
    """Hand the end of the process to the runtime, where there is one by then."""
    runtime = sys.modules.get(f"{__name__}.runtime")
    if runtime is not None:
        runtime.handle_exit()


weakref.finalize(_handle_exit, int)  # the handler of weakref comes first, as ExitWatcher says
atexit.register(_handle_exit)  # now: Python calls no handler that is registered while it calls them


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
