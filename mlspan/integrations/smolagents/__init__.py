"""smolagents: runs of agents with their steps and plans, models, tools, managed agents and the Python executor.

smolagents has no hook of its own. The methods of its base classes are traced, of all their subclasses, also of those
that are defined later. A class that calls the method it overrides makes one span.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from ...hooks.hook import Hook
from ...hooks.patching import CallStarter, Patch, Undo, apply_patches, trace_method
from ...hooks.subclasses import trace_subclasses
from ...hooks.threads import carry_contexts
from . import agents, models, tools
from .wrappers import trace_steps

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {
    "_step_stream": "the steps of agents, and which call to a model has asked for a tool",
    "_generate_planning_step": "the plans of agents",
}
_POOLS: Final = ("smolagents.agents:ThreadPoolExecutor", "smolagents.local_python_executor:ThreadPoolExecutor")


def _list_families(hook: Hook) -> Iterator[tuple[str, dict[str, CallStarter], str]]:
    """Yield base classes, how the operations of their methods are started, and what is lost without them."""
    methods = {
        "run": CallStarter(agents.start_agent_run, hook),
        "_step_stream": CallStarter(agents.start_step, hook),
        "_generate_planning_step": CallStarter(agents.start_plan, hook),
        "execute_tool_call": CallStarter(tools.start_asked_tool, hook),
    }
    yield "smolagents.agents:MultiStepAgent", methods, "runs of agents"
    calls = {
        "generate": CallStarter(models.start_generate, hook),
        "generate_stream": CallStarter(models.start_stream, hook),
    }
    yield "smolagents.models:Model", calls, "calls of models"
    code = {"__call__": CallStarter(tools.start_code, hook)}
    yield "smolagents.local_python_executor:PythonExecutor", code, "code that agents run"


def _list_patches(hook: Hook) -> Iterator[Patch]:
    for base, methods, loss in _list_families(hook):
        yield Patch(base, partial(trace_subclasses, methods=methods, wrap=trace_steps), loss)
    # Subclasses of tools inherit this one, and have an __init_subclass__ that leaves no room for ours.
    start = CallStarter(tools.start_tool, hook)
    yield Patch("smolagents.tools:Tool.__call__", partial(trace_method, start=start), "calls of tools")
    for pool in _POOLS:
        yield Patch(pool, carry_contexts, "the parent of what threads do", is_optional=True)


def _install(hook: Hook) -> Undo:
    return apply_patches(_list_patches(hook))


HOOK = Hook("smolagents>=1.20,<2", "smolagents", _install)
autolog = HOOK.autolog
