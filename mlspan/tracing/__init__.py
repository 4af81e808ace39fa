"""Configure where traces go and what they may contain, and record spans of your own.

The functions listed in ``__all__`` are the public interface. They are imported when one of them is first used, so that
what needs a name of this package alone, such as the command line, does not wait for OpenTelemetry's SDK.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .exit_handler import register_exit_handler

if TYPE_CHECKING:
    from .api import (
        FlushResult,
        Keep,
        Spend,
        configure,
        current_trace_id,
        dead,
        doctor,
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
    "doctor",
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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_exit_handler()
