"""Microsoft's Agent Framework, which traces itself: its spans of agents, models, tools and workflows join mlspan's."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from ..hooks.hook import Hook
from ..hooks.joined_spans import join_tracer_getter, turn_spans_on
from ..hooks.patching import Patch, Undo, apply_patches

__all__ = ["HOOK", "autolog"]

_MODULE = "agent_framework.observability"


def _enable_spans(_: str) -> Undo:
    """Turn the framework's spans on, which has no effect if the program has called ``disable_instrumentation()``."""
    settings = importlib.import_module(_MODULE).OBSERVABILITY_SETTINGS
    return turn_spans_on(settings, "enable_instrumentation", "enable_sensitive_data")


def _install(hook: Hook) -> Undo:
    def list_patches() -> Iterator[Patch]:
        yield join_tracer_getter(hook, f"{_MODULE}:get_tracer", "all spans of Agent Framework")
        yield Patch(f"{_MODULE}:OBSERVABILITY_SETTINGS", _enable_spans, "all spans of Agent Framework")

    return apply_patches(list_patches())


HOOK = Hook("agent-framework-core>=1.10,<2", "agent_framework", _install)
autolog = HOOK.autolog
