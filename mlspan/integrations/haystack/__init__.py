"""Haystack 3: pipelines, components, agents and tools, as Haystack tells its own tracers of them.

Haystack calls ``haystack.tracing.tracer`` for each run and hands it what goes in and comes out. That object passes the
calls on to the tracer that the application has enabled. mlspan stands in front of it: an application's own tracer sees
what it would see without mlspan, and ``is_tracing_enabled()`` returns what it would return.

Haystack does not tell its tracers which object runs. Its functions that open a span know it, and are watched for that.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from ...hooks.hook import Hook
from ...hooks.patching import (
    CallStarter,
    Patch,
    Undo,
    apply_patches,
    observe_method,
    patch_when_imported,
    replace_method,
    trace_method,
)
from ...hooks.subclasses import trace_subclasses
from ...hooks.threads import carry_contexts
from .components import trace_components
from .contexts import keep_own_context
from .runs import ResumingCall, TracedRun, open_tool_call, trace_run, wrap_current_span

__all__ = ["HOOK", "autolog"]

PRIVATE_NAMES: Final[dict[str, str]] = {
    "_create_component_span": "the model and the server that a component of a pipeline is set to",
    "_create_agent_span": "the model and the server that an agent is set to",
    "_create_tool_span": "which call to a model has asked for a tool",
}
_PIPELINE: Final = "haystack.core.pipeline.pipeline:Pipeline"
_AGENT: Final = "haystack.components.agents.agent"
_TOOL_CALLING: Final = "haystack.components.agents.tool_calling"
# Modules whose components work in threads that do not know the caller's context.
_THREADED: Final = (
    "haystack.components.extractors.image.llm_document_content_extractor",
    "haystack.components.extractors.llm_metadata_extractor",
    "haystack.components.fetchers.link_content",
    "haystack.components.retrievers.multi_query_embedding_retriever",
    "haystack.components.retrievers.multi_query_text_retriever",
    "haystack.components.retrievers.multi_retriever",
)


def _note_arguments_at(place: str, private: str, **fields: tuple[str, int]) -> Patch:
    """Return the patch of a function that opens a span: it tells the run what it was given.

    Args:
        place: the class or module of the function, with the mark behind it.
        private: the function.
        fields: by a field of the run, the argument that it gets: its name and its position.
    """

    def note_arguments(args: Any, kwargs: Any, run: object) -> None:
        if isinstance(run, TracedRun):
            for field, (name, index) in fields.items():
                setattr(run, field, kwargs[name] if name in kwargs else args[index])

    watch = functools.partial(observe_method, callback=note_arguments)
    return Patch(f"{place}{private}", watch, PRIVATE_NAMES[private])


def _list_core_patches(hook: Hook) -> Iterator[Patch]:
    trace = functools.partial(replace_method, make=functools.partial(trace_run, hook))
    yield Patch("haystack.tracing.tracer:ProxyTracer.trace", trace, "all runs", is_required=True)
    current = functools.partial(replace_method, make=wrap_current_span)
    yield Patch("haystack.tracing.tracer:ProxyTracer.current_span", current, "what the program adds to its spans")
    base = "haystack.core.pipeline.base:PipelineBase."
    yield _note_arguments_at(base, "_create_component_span", owner=("instance", 1))
    components = functools.partial(trace_components, hook)
    yield Patch(
        "haystack.core.component.component:ComponentMeta.__call__", components, "components outside of pipelines"
    )
    resume = functools.partial(trace_method, start=CallStarter(ResumingCall))
    yield Patch(f"{_PIPELINE}.run", resume, "the link from a pipeline that goes on to the run that has paused")
    steps = functools.partial(replace_method, make=keep_own_context)
    yield Patch(f"{_PIPELINE}.run_async_generator", steps, "that a pipeline's span is current in its own steps alone")


def _list_later_patches(hook: Hook) -> Iterator[Patch]:
    """Yield patches of modules that ``import haystack`` does not import."""
    yield _note_arguments_at(f"{_AGENT}:Agent.", "_create_agent_span", owner=("self", 0))
    yield _note_arguments_at(f"{_TOOL_CALLING}:", "_create_tool_span", owner=("tool", 0), tool_call=("tool_call", 1))
    methods = dict.fromkeys(("invoke", "invoke_async"), CallStarter(open_tool_call, hook))
    tools = functools.partial(trace_subclasses, methods=methods)
    yield Patch("haystack.tools.tool:Tool", tools, "why a tool has failed")
    for module in _THREADED:
        loss = "the parent of what its threads do"
        yield Patch(f"{module}:ThreadPoolExecutor", carry_contexts, loss, is_optional=True)


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        undo.callback(apply_patches(_list_core_patches(hook)))
        undo.callback(patch_when_imported(_list_later_patches(hook)))
        return undo.pop_all().close


HOOK = Hook("haystack-ai>=3,<4", "haystack", _install)
autolog = HOOK.autolog
