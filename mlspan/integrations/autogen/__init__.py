"""AutoGen 0.7: teams, agents, models, tools, memories and code executors. Each call is a span, each run one trace.

AutoGen has no callbacks, but it has a base class for each type of component. All subclasses of these are traced,
including classes that are defined later. If an object calls itself (``run`` calls ``on_messages``, which calls
``on_messages_stream``), only the outermost call is a span. AutoGen's own spans of the same turns, tools and messages
are suppressed while mlspan records.

A handoff is a span link (``handed_off_by``) from the turn that takes over to the turn that handed over. The attribute
``mlspan.stop_reason`` says why a team stopped.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Final

from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches
from ...hooks.subclasses import trace_subclasses
from . import agents, message_context, models, tools
from .wrappers import BeginAlways, make_operation_starter, trace_async_function

__all__ = ["HOOK", "autolog"]

_MethodsByBase = Mapping[str, tuple[str, Mapping[str, BeginAlways]]]  # base class -> (its family, {method: begin})

_AGENTCHAT_METHODS: Final[_MethodsByBase] = {
    "autogen_agentchat.base:Team": ("team", {"run": agents.begin_team, "run_stream": agents.begin_team}),
    "autogen_agentchat.base:ChatAgent": (
        "agent",
        {
            "run": agents.begin_agent_run,
            "run_stream": agents.begin_agent_run,
            "on_messages": agents.begin_turn,
            "on_messages_stream": agents.begin_turn,
        },
    ),
}
_CORE_METHODS: Final[_MethodsByBase] = {
    "autogen_core.models:ChatCompletionClient": (
        "model",
        {"create": models.begin_model_call, "create_stream": models.begin_model_stream},
    ),
    "autogen_core.tools:BaseTool": ("tool", {"run_json": tools.begin_tool, "run_json_stream": tools.begin_tool_stream}),
    "autogen_core.tools:Workbench": (
        "tool",
        {"call_tool": tools.begin_workbench, "call_tool_stream": tools.begin_workbench},
    ),
    "autogen_core.memory:Memory": (
        "memory",
        {
            "query": tools.begin_memory_query,
            "update_context": tools.begin_context_update,
            "add": tools.begin_memory_add,
        },
    ),
    "autogen_core.code_executor:CodeExecutor": ("code", {"execute_code_blocks": tools.begin_code}),
}


def _make_patches(hook: Hook, families: _MethodsByBase) -> Iterator[Patch]:
    for base, (kind, begins) in families.items():
        methods = {name: make_operation_starter(hook, kind, begin) for name, begin in begins.items()}
        patch = functools.partial(trace_subclasses, methods=methods, wrap=trace_async_function)
        yield Patch(base, patch, f"calls of each {kind}")


def _install_core(hook: Hook) -> Undo:
    return apply_patches(
        [
            *_make_patches(hook, _CORE_METHODS),
            *message_context.carry_sender_context(hook),
            *message_context.suppress_framework_spans(hook, message_context.CORE_SPANS),
        ]
    )


def _install_agentchat(hook: Hook) -> Undo:
    return apply_patches(
        [
            *_make_patches(hook, _AGENTCHAT_METHODS),
            *message_context.suppress_framework_spans(hook, message_context.AGENTCHAT_SPANS),
        ]
    )


def _install_mcp(hook: Hook) -> Undo:
    return apply_patches(message_context.suppress_framework_spans(hook, message_context.MCP_SPANS))


HOOK = Hook(
    "autogen-agentchat>=0.7,<0.8",
    "autogen_agentchat",
    _install_agentchat,
    also=(
        Hook("autogen-core>=0.7,<0.8", "autogen_core", _install_core),
        Hook("autogen-ext>=0.7,<0.8", "autogen_ext.tools.mcp", _install_mcp),
    ),
)
autolog = HOOK.autolog
