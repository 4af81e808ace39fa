"""LiveKit Agents, which traces itself: its spans of sessions, turns, models and tools join mlspan's.

A TracerProvider that the program gives to LiveKit, or that LiveKit makes for its cloud, keeps the spans; mlspan has
them from there.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from .._private_names import report_missing_name
from ..hooks.hook import Hook
from ..hooks.joined_spans import make_provider, record_provider
from ..hooks.patching import Patch, Undo, apply_patches, observe_method, remember_undo
from ..tracing.otel.joined_tracer import lend_tracer

__all__ = ["HOOK", "autolog"]

_MODULE: Final = "livekit.agents.telemetry.traces"
_LOSS: Final = "all spans of LiveKit"
# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_tracer": "spans of LiveKit, unless it has a TracerProvider",
    "_tracer_provider": "spans of LiveKit whose TracerProvider was set before autolog()",
}


def _install(hook: Hook) -> Undo:
    recorded: list[Undo] = []  # of the providers that LiveKit has been given

    def record_given_provider(provider: Any) -> None:
        recorded.append(record_provider(provider))

    def undo() -> None:
        while recorded:
            recorded.pop()()

    def join_tracer(target: str) -> Undo:
        tracer = importlib.import_module(target.partition(":")[0]).tracer
        for name, loss in PRIVATE_NAMES.items():
            if not hasattr(tracer, name):
                report_missing_name("livekit-agents", name, loss)
        record_given_provider(getattr(tracer, "_tracer_provider", None))
        remember_undo(undo)
        stop = lend_tracer(getattr(tracer, "_tracer", None), make_provider(hook))

        def stop_and_undo() -> None:
            stop()
            undo()

        return stop_and_undo

    def watch_providers(target: str) -> Undo:
        return observe_method(target, lambda args, kwargs, _: record_given_provider([*args[1:], *kwargs.values()][0]))

    return apply_patches(
        [
            Patch(f"{_MODULE}:tracer", join_tracer, _LOSS),
            Patch(f"{_MODULE}:_DynamicTracer.set_provider", watch_providers, _LOSS),
        ]
    )


HOOK = Hook("livekit-agents>=1.8,<2", "livekit.agents", _install)
autolog = HOOK.autolog
