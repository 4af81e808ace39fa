"""Boundaries: the calls after which nothing may be left of CrewAI's runs in the caller's context.

CrewAI reports no end of what is cancelled or interrupted, and some ends in another task than the start. So the calls in
which runs start are wrapped: what is open when such a call raises ends with that exception, and the caller's span is
current again.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from typing import Final

from opentelemetry import context as otel

from ..._guard import guard
from ...hooks.patching import Patch, Undo, observe_method, replace_method, trace_method
from ...tracing.operations.control_flow import is_generator_close
from ...tracing.operations.records import Chat
from .models import add_usages, note_request_usage, read_model_response
from .runs import READER_KEY, Boundary, StreamReader, crewai_runs, end_run
from .tools import note_asked

# Private names of CrewAI, each with what is lost where a version lacks it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_execute_method": "that the method of a flow has been cancelled, while the flow goes on",
    "_track_token_usage_internal": (
        "the tokens of a call of LiteLLM that asks for a tool, and of the first of several requests in a call"
    ),
}
_EXECUTE_METHOD: Final = "crewai.flow.flow:Flow._execute_method"
_TRACK_USAGE: Final = "crewai.llms.base_llm:BaseLLM._track_token_usage_internal"
_CALLS: Final = (
    "crewai.crew:Crew.kickoff",
    "crewai.crew:Crew.akickoff",
    "crewai.flow.flow:Flow.kickoff_async",
    "crewai.flow.flow:Flow.resume_async",
    "crewai.agent.core:Agent.kickoff",
    "crewai.agent.core:Agent.kickoff_async",
    "crewai.agent.core:Agent.execute_task",
    "crewai.agent.core:Agent.aexecute_task",
    "crewai.task:Task.execute_sync",
    "crewai.task:Task.aexecute_sync",
    "crewai.memory.unified_memory:Memory.remember",
    "crewai.memory.unified_memory:Memory.recall",
    "crewai.tools.tool_usage:ToolUsage.use",
)
# Since 1.15.23 each call to a model passes these two, and before the methods of its class.
_MODEL_CALLS: Final = (
    "crewai.llms.base_llm:run_with_rate_limit_retry",
    "crewai.llms.base_llm:arun_with_rate_limit_retry",
)
_GENERATORS: Final = (
    "crewai.crew:create_async_chunk_generator",
    "crewai.utilities.streaming:create_async_frame_generator",
)
_LOST: Final = "the end of what is cancelled, and the caller's own span after it"
_LOST_READER: Final = "that a stream which is read no further is no failure"
_guard: Final = guard("ending a call of CrewAI to a model")


class _ModelBoundary(Boundary):
    """A call to a model. CrewAI's class for LiteLLM reports no end of one whose answer asks for a tool."""

    def record_result(self, value: object, *, awaited: bool = False) -> object:
        """Return the result of the call, after ending the run with it if that is still open."""
        with _guard:
            for id in self.list_open_ids("llm_call_started"):
                run = crewai_runs.find_run(id)
                if run is not None and run.operation is not None and isinstance(chat := run.operation.record, Chat):
                    note_asked(value)
                    read_model_response(chat, value)
                    add_usages(run)
                    end_run(id)
        return super().record_result(value, awaited=awaited)


def _start_model_boundary(_args: object, _kwargs: object) -> Boundary:
    return _ModelBoundary()


def _start_boundary(_args: object, _kwargs: object) -> Boundary:
    return Boundary()


_wrap_call: Final = functools.partial(trace_method, start=_start_boundary)
_wrap_model_call: Final = functools.partial(trace_method, start=_start_model_boundary)


def _watch_usage(target: str) -> Undo:
    return observe_method(
        target, lambda args, kwargs, _: note_request_usage(args[1] if len(args) > 1 else kwargs.get("usage_data"))
    )


def _wrap_stream_generator(target: str) -> Undo:
    return replace_method(target, _note_reader)


def _note_reader(original: Callable[..., AsyncIterator[object]], enabled: list[bool]) -> object:
    """Wrap the generator of a stream, which runs the crew in a task and cancels that once it is read no further."""

    @functools.wraps(original)
    async def read_items(*args: object, **kwargs: object) -> AsyncIterator[object]:
        items = original(*args, **kwargs)
        if not enabled:
            async for item in items:
                yield item
            return
        reader, before = StreamReader(), otel.get_current()
        try:
            otel.attach(otel.set_value(READER_KEY, reader))
            try:
                item = await anext(items)  # the task starts here, with a copy of this context
            finally:
                otel.attach(before)
            while True:
                yield item
                item = await anext(items)
        except StopAsyncIteration:
            return
        except BaseException as error:
            reader.has_left = is_generator_close(error)
            raise
        finally:
            await items.aclose()  # type: ignore[attr-defined]  # it is a generator

    return read_items


def list_boundaries() -> list[Patch]:
    """Return the patches of all boundaries."""
    return [
        *(Patch(target, _wrap_call, _LOST) for target in _CALLS),
        *(Patch(target, _wrap_model_call, _LOST, is_optional=True) for target in _MODEL_CALLS),
        Patch(_EXECUTE_METHOD, _wrap_call, PRIVATE_NAMES["_execute_method"], is_optional=True),
        Patch(_TRACK_USAGE, _watch_usage, PRIVATE_NAMES["_track_token_usage_internal"], is_optional=True),
        *(Patch(target, _wrap_stream_generator, _LOST_READER, is_optional=True) for target in _GENERATORS),
    ]
