"""CrewAI: crews, flows, agents, tasks, calls to models, tools, memory and knowledge, by the events of its event bus.

With the hook of a client on, such as OpenAI's or LiteLLM's, the request that CrewAI has the client make is the same
call. CrewAI's own telemetry goes on as it was: it has a provider of its own, and its spans are no part of ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import get_current_span, set_span_in_context

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method, trace_method
from ...tracing.operations.call_context import use_context
from .boundaries import list_boundaries
from .events import observe_event
from .runs import crewai_runs, find_outside
from .tools import begin_query, note_contents

__all__ = ["HOOK", "autolog"]

_BUS: Final = "crewai.events.event_bus:CrewAIEventsBus"
_REMEMBER: Final = "crewai.memory.unified_memory:Memory.remember_many"
# A private name of CrewAI, and what is lost where a version lacks it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_safe_telemetry_operation": "that CrewAI's own telemetry keeps its traces apart from ours",
}
_outlasting: Final[list[Undo]] = []  # of a bus that is watched for the ends of runs, the hook being off
_TELEMETRY: Final = "crewai.telemetry.telemetry:Telemetry._safe_telemetry_operation"


def _watch_bus(hook: Hook, target: str) -> Undo:
    """Have each event observed where it is emitted, after CrewAI has given it its ids."""

    def wrap_emit(original: Callable[..., Any], enabled: list[bool]) -> object:
        @functools.wraps(original)
        def emit_event(bus: object, source: object, event: object) -> object:
            result = original(bus, source, event)
            if enabled:
                _note_event(hook, source, event)
            return result

        return emit_event

    return _outlast_runs(replace_method(target, wrap_emit))


def _watch_async_bus(hook: Hook, target: str) -> Undo:
    def wrap_emit_async(original: Callable[..., Any], enabled: list[bool]) -> object:
        @functools.wraps(original)
        async def emit_event_async(bus: Any, source: Any, event: Any) -> object:
            result = await original(bus, source, event)
            if enabled:
                _note_event(hook, source, event)
            return result

        return emit_event_async

    return _outlast_runs(replace_method(target, wrap_emit_async))


def _note_event(hook: Hook, source: object, event: object) -> None:
    observe_event(hook, source, event)
    if _outlasting and not crewai_runs:
        with guard("ending to watch CrewAI"):
            _stop_watching()


def _outlast_runs(undo: Undo) -> Undo:
    """Return what has the bus watched until the runs that are open have ended, and then calls *undo*."""

    def undo_later() -> None:
        _outlasting.append(undo)
        if not crewai_runs:
            _stop_watching()

    return undo_later


def _stop_watching() -> None:
    while True:
        try:
            undo = _outlasting.pop()
        except IndexError:  # another thread was faster
            return
        undo()


def _keep_apart(target: str) -> Undo:
    """Have CrewAI's own telemetry start its spans below the span that is current outside of CrewAI, and not ours."""

    def wrap_telemetry(original: Callable[..., Any], enabled: list[bool]) -> object:
        @functools.wraps(original)
        def run_telemetry(*args: object, **kwargs: object) -> object:
            outside = find_outside() if enabled else None
            if outside is None:
                return original(*args, **kwargs)
            with use_context(set_span_in_context(get_current_span(outside))):
                return original(*args, **kwargs)

        return run_telemetry

    return replace_method(target, wrap_telemetry)


def _install(hook: Hook) -> Undo:
    _stop_watching()  # an event would be observed twice
    trace_query = functools.partial(trace_method, start=hook.make_starter(begin_query))
    watch, watch_async = functools.partial(_watch_bus, hook), functools.partial(_watch_async_bus, hook)
    return apply_patches(
        [
            Patch(f"{_BUS}.emit", watch, "all runs of CrewAI", is_required=True),
            Patch(f"{_BUS}.aemit", watch_async, "events that are emitted asynchronously"),
            Patch("crewai.knowledge.knowledge:Knowledge.query", trace_query, "queries of knowledge"),
            Patch("crewai.knowledge.knowledge:Knowledge.aquery", trace_query, "asynchronous queries of knowledge"),
            Patch(_REMEMBER, functools.partial(replace_method, make=note_contents), "what is saved to a memory"),
            Patch(_TELEMETRY, _keep_apart, PRIVATE_NAMES["_safe_telemetry_operation"], is_optional=True),
            *list_boundaries(),
        ]
    )


HOOK = Hook("crewai>=1.15.23,<2", "crewai", _install)
autolog = HOOK.autolog
