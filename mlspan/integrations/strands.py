"""Strands Agents, which trace themselves: their spans of agents, models and tools join mlspan's."""

from __future__ import annotations

import sys
from typing import Any, Final

from ..hooks.hook import Hook
from ..hooks.joined_spans import make_provider
from ..hooks.patching import Patch, Undo, apply_patches, observe_method, remember_undo

__all__ = ["HOOK", "autolog"]

_MODULE = "strands.telemetry.tracer"
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_tracer_instance": "spans of agents that were made before autolog()",
}


def _install(hook: Hook) -> Undo:
    joined: list[tuple[Any, Any]] = []  # Strands makes one tracer a process; each with the tracer that it has had
    provider = make_provider(hook)

    def join_tracer(tracer: Any) -> None:
        joined.append((tracer, tracer.tracer))
        tracer.tracer = provider.get_tracer(tracer.service_name)

    def undo() -> None:
        for tracer, own in joined:
            tracer.tracer = own
        joined.clear()

    def watch_tracers(target: str) -> Undo:
        stop = observe_method(target, lambda args, _kwargs, _result: join_tracer(args[0]))
        if (made := getattr(sys.modules[_MODULE], "_tracer_instance", None)) is not None:
            join_tracer(made)
        remember_undo(undo)

        def stop_and_undo() -> None:
            stop()
            undo()

        return stop_and_undo

    return apply_patches([Patch(f"{_MODULE}:Tracer.__init__", watch_tracers, "all spans of Strands")])


HOOK = Hook("strands-agents>=1.30,<2", "strands", _install)
autolog = HOOK.autolog
