"""The events of CrewAI that start and end a span, as a table.

``observe_event`` is called with every event, in the thread and task that has emitted it, where the current span is that
of the code which runs. A handler of CrewAI's bus would be called later, in another thread, and out of order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...tracing.operations.records import Chat, Record, Workflow
from ...tracing.runtime import get_runtime
from . import models, records, tools
from .runs import CrewRun, Subject, crewai_runs, end_run, find_current_run, find_run_id, read_failure, start_run

_guard: Final = guard("recording an event of CrewAI")

ReadEnd = Callable[[Any, Any], None]  # reads the event of an end into the record


class _Kind(NamedTuple):
    """A kind of run.

    Attributes:
        make: returns the record, from whoever emits the event, the event, and whether content is recorded.
        ends: the types of the events that end such a run well, each with what reads it.
        failures: the types of those that end it otherwise.
        key: the field of an event that tells what the run is about, beside who emits it.
    """

    make: Callable[..., Record]
    ends: Mapping[str, ReadEnd]
    failures: tuple[str, ...] = ()
    key: str | None = None


def _read_nothing(_record: object, _event: object) -> None: ...


_KINDS: Final[Mapping[str, _Kind]] = {
    "crew_kickoff_started": _Kind(
        records.make_crew, {"crew_kickoff_completed": records.read_crew_output}, ("crew_kickoff_failed",)
    ),
    "crew_train_started": _Kind(
        records.make_iterations, {"crew_train_completed": _read_nothing}, ("crew_train_failed",)
    ),
    "crew_test_started": _Kind(records.make_iterations, {"crew_test_completed": _read_nothing}, ("crew_test_failed",)),
    "task_started": _Kind(records.make_task, {"task_completed": records.read_crew_output}, ("task_failed",)),
    "agent_execution_started": _Kind(
        records.make_agent, {"agent_execution_completed": records.read_agent_output}, ("agent_execution_error",)
    ),
    "lite_agent_execution_started": _Kind(
        records.make_agent,
        {"lite_agent_execution_completed": records.read_agent_output},
        ("lite_agent_execution_error",),
    ),
    "agent_reasoning_started": _Kind(
        records.make_plan, {"agent_reasoning_completed": records.read_plan}, ("agent_reasoning_failed",)
    ),
    "flow_started": _Kind(
        records.make_flow,
        {"flow_finished": records.read_flow_result, "flow_paused": records.read_pause},
        ("flow_failed",),
    ),
    "method_execution_started": _Kind(
        records.make_method,
        {"method_execution_finished": records.read_method_end, "method_execution_paused": records.read_pause},
        ("method_execution_failed",),
        key="method_name",
    ),
    "flow_input_requested": _Kind(records.make_question, {"flow_input_received": records.read_reply}),
    "human_feedback_requested": _Kind(records.make_question, {"human_feedback_received": records.read_reply}),
    "llm_call_started": _Kind(
        models.make_model_call, {"llm_call_completed": models.read_completed_call}, ("llm_call_failed",), key="call_id"
    ),
    "llm_guardrail_started": _Kind(
        records.make_guardrail, {"llm_guardrail_completed": records.read_verdict}, ("llm_guardrail_failed",)
    ),
    "tool_usage_started": _Kind(
        tools.make_tool_record, {"tool_usage_finished": tools.read_tool_end}, ("tool_usage_error",), key="tool_name"
    ),
    "memory_query_started": _Kind(
        tools.make_search, {"memory_query_completed": tools.read_memories}, ("memory_query_failed",)
    ),
    "memory_save_started": _Kind(tools.make_save, {"memory_save_completed": _read_nothing}, ("memory_save_failed",)),
}
_ENDS: Final = {end: (start, read) for start, kind in _KINDS.items() for end, read in kind.ends.items()} | {
    end: (start, None) for start, kind in _KINDS.items() for end in kind.failures
}
_CHUNKS: Final = frozenset({"llm_stream_chunk", "llm_thinking_chunk"})
_FLOW_STARTS: Final = frozenset({"flow_started", "method_execution_started"})
_INNER_FLOWS: Final = frozenset({"AgentExecutor", "EncodingFlow", "RecallFlow"})  # that CrewAI is made of


def observe_event(hook: Hook, source: object, event: object) -> None:
    """Start or end the run that *event* tells of; errors of ours are logged and reach nobody.

    While the hook is off, runs that are open end as ever, and none starts.
    """
    with _guard:
        event_type = get_nested(event, "type", str) or ""
        if event_type in _KINDS:
            is_on = hook.is_installed and hook.should_record()
            if is_on and not (event_type in _FLOW_STARTS and _is_machinery(source)):
                _handle_start(event_type, source, event)
        elif event_type in _ENDS:
            _handle_end(event_type, source, event)
        elif event_type in _CHUNKS:
            if (run := crewai_runs.find_run(find_run_id(_make_subject("llm_call_started", source, event)))) is not None:
                models.read_chunk(run, event)
        elif event_type == "conversation_turn_started":
            _note_session(event)


def _is_machinery(source: object) -> bool:
    """Return whether *source* is one of the flows that CrewAI's own agents and memories are made of."""
    cls = type(source)
    return cls.__name__ in _INNER_FLOWS and cls.__module__.startswith("crewai.") and hasattr(cls, "kickoff_async")


def _make_subject(event_type: str, source: object, event: object) -> Subject:
    """Return what a run is about: the call, or else whoever emits its events, and the method or tool."""
    field = _KINDS[event_type].key
    key: Hashable = None if field is None else str(get_field(event, field))
    return Subject(event_type, key if field == "call_id" else (id(source), key))


def _handle_start(event_type: str, source: object, event: Any) -> None:
    if (now := get_runtime()) is None:
        return
    record = _KINDS[event_type].make(source, event, capture_content=now.policy.capture)
    if event_type == "flow_started" and (paused := get_nested(source, "_pending_feedback_context.flow_id", str)):
        record.add_cause("resumes", paused)
    start_run(event, _make_subject(event_type, source, event), record)


def _handle_end(event_type: str, source: object, event: Any) -> None:
    start, read = _ENDS[event_type]
    id = find_run_id(_make_subject(start, source, event))
    run = crewai_runs.find_run(id)
    if run is None or run.operation is None:
        return
    if read is None:
        models.read_broken_stream(run)
        models.add_usages(run)
        end_run(id, read_failure(event, run))
        return
    record: Any = run.operation.record
    if isinstance(record, Chat):
        tools.note_asked(get_field(event, "response"))
        read(record, event)
        models.add_usages(run)
    elif run.operation.captures_content or not hasattr(record, "output"):
        read(record, event)
    else:
        _read_without_content(run, read, event)
    end_run(id)


def _read_without_content(run: CrewRun, read: ReadEnd, event: object) -> None:
    """Read an end, but not what it says."""
    if run.operation is not None:
        record: Any = run.operation.record
        before = record.output
        read(record, event)
        record.output = before


def _note_session(event: object) -> None:
    """Note the session of a conversation, of which a run of its flow is one turn."""
    run = find_current_run("flow_started")
    if run is not None and run.operation is not None and isinstance(record := run.operation.record, Workflow):
        record.conversation = get_nested(event, "session_id", str)


PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_pending_feedback_context": "the link of a flow that goes on to the run that was paused",
}
