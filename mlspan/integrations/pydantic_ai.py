"""Pydantic AI, which traces itself: its spans of agents, models and tools join mlspan's, with their content.

It is turned on as ``Agent.instrument_all()`` does. Agents that have been given settings of their own keep those, and
so does a program that has called ``Agent.instrument_all`` with settings.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from .._private_names import report_missing_name
from ..hooks.hook import Hook
from ..hooks.joined_spans import is_content_wanted, make_provider
from ..hooks.patching import Patch, Undo, apply_patches, remember_undo

__all__ = ["HOOK", "autolog"]

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_instrument_default": "what the program has set by Agent.instrument_all() itself: it is turned off with autolog",
}


def _install(hook: Hook) -> Undo:
    def instrument(target: str) -> Undo:
        agent: Any = importlib.import_module(target.partition(":")[0]).Agent
        if not hasattr(agent, "_instrument_default"):
            report_missing_name("pydantic-ai", "_instrument_default", PRIVATE_NAMES["_instrument_default"])
        before = getattr(agent, "_instrument_default", False)
        if not isinstance(before, bool):  # the program's own settings
            return remember_undo(lambda: None)
        settings_class = importlib.import_module("pydantic_ai.models.instrumented").InstrumentationSettings
        ours = settings_class(tracer_provider=make_provider(hook), include_content=is_content_wanted())
        agent.instrument_all(ours)

        def undo() -> None:
            if getattr(agent, "_instrument_default", ours) is ours:
                agent.instrument_all(before)

        return remember_undo(undo)

    return apply_patches([Patch("pydantic_ai.agent:Agent.instrument_all", instrument, "spans of agents")])


HOOK = Hook("pydantic-ai-slim>=1.40,<3", "pydantic_ai", _install)
autolog = HOOK.autolog
