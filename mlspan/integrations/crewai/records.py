"""Records of crews, tasks, agents, flows, guardrails and people, made from CrewAI's events."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import dump_model
from ...tracing.operations import semconv as sc
from ...tracing.operations.agent_records import Plan
from ...tracing.operations.records import Agent, NamedRecord, Step, Workflow

_MAX_NAME: Final = 80  # characters of a name that a program may have given; a longer one is a description


def make_crew(source: object, event: object, *, capture_content: bool) -> Workflow:
    """Return the record of a crew. Without inputs its input is what its tasks ask."""
    record = Workflow(name=get_nested(event, "crew_name", str))
    if (process := get_nested(source, "process.value", str)) is not None:
        record.extra["mlspan.crewai.process"] = process
    if roles := [role for agent in get_list(source, "agents") if (role := get_nested(agent, "role", str))]:
        record.extra["mlspan.crewai.agents"] = roles
    if capture_content:
        inputs = get_field(event, "inputs")
        asked = [get_nested(task, "description", str) for task in get_list(source, "tasks")]
        record.input = inputs or (asked[0] if len(asked) == 1 else asked)
    return record


def read_crew_output(record: NamedRecord, event: object) -> None:
    """Read the output of a crew or a task: its text, or the object that it was asked to be."""
    output = get_field(event, "output")
    structured = get_field(output, "json_dict") or get_field(output, "pydantic")
    record.output = dump_model(structured) if structured else get_field(output, "raw")


def make_task(source: object, event: Any, *, capture_content: bool) -> Step:
    """Return the record of a task, which only has a name if the program has given it one."""
    record = Step(type="task", name=_limit_name(get_nested(source, "name", str)) or "task")
    if capture_content:
        record.input = get_nested(source, "description", str)
        expected = get_nested(source, "expected_output", str)
        if expected or event.context:
            asked = {"description": record.input, "expected_output": expected, "context": event.context or None}
            record.input = {name: value for name, value in asked.items() if value}
    return record


def _limit_name(name: str | None) -> str | None:
    return name if name and len(name) <= _MAX_NAME else None


def make_agent(source: object, event: object, *, capture_content: bool) -> Agent:
    """Return the record of an agent's turn, for a task or by itself."""
    role = get_nested(source, "role", str) or get_nested(event, "agent_info.role", str)
    record = Agent(name=role.strip() if role else None)
    record.description = get_nested(source, "goal", str) or get_nested(event, "agent_info.goal", str)
    if capture_content:
        record.input = get_field(event, "task_prompt") or get_field(event, "messages")
    return record


def make_flow(_source: object, event: object, *, capture_content: bool) -> Workflow:
    """Return the record of a flow."""
    record = Workflow(name=get_nested(event, "flow_name", str))
    if capture_content:
        record.input = get_field(event, "inputs")
    return record


def make_method(_source: object, event: Any, *, capture_content: bool) -> Step:
    """Return the record of a flow's method, which is linked to the method that has triggered it."""
    record = Step(type="node", name=event.method_name)
    if (trigger := get_nested(event, "triggered_by_event_id", str)) is not None:
        record.add_cause("triggered_by", trigger)
    if capture_content:
        record.input = get_field(event, "params") or None
    return record


def read_method_end(record: NamedRecord, event: Any) -> None:
    """Read the result of a method, whose event is what triggers the next ones."""
    record.add_offer("triggered_by", event.event_id, anywhere=False)
    read_flow_result(record, event)


def read_flow_result(record: NamedRecord, event: object) -> None:
    """Read the result of a flow, or of one of its methods."""
    record.output = dump_model(get_field(event, "result"))


def read_agent_output(record: NamedRecord, event: object) -> None:
    """Read the text that an agent has answered."""
    record.output = get_field(event, "output")


def read_pause(record: NamedRecord, event: object) -> None:
    """Read what a flow that is paused asks a person; the run that goes on is linked to this one."""
    record.extra[sc.INTERRUPTED] = True
    record.output = get_field(event, "message")
    if (flow_id := get_nested(event, "flow_id", str)) is not None:
        record.add_offer("resumes", flow_id)


def make_plan(_source: object, event: object, *, capture_content: bool) -> Plan:
    """Return the record of an agent that plans before it works."""
    _ = capture_content
    return Plan(name=get_nested(event, "agent_role", str))


def read_plan(record: NamedRecord, event: object) -> None:
    """Read the plan."""
    record.output = get_field(event, "plan")


def make_guardrail(_source: object, event: object, *, capture_content: bool) -> Step:
    """Return the record of a guardrail, which is a function or a question to a model."""
    is_function = get_field(event, "guardrail_type") == "function"
    record = Step(type="guardrail", name=(is_function and get_nested(event, "guardrail_name", str)) or "guardrail")
    if capture_content and not is_function:
        record.input = get_nested(event, "guardrail_name", str)
    return record


def read_verdict(record: NamedRecord, event: Any) -> None:
    """Read what a guardrail has decided. That it rejects an answer is no failure of its own."""
    said = {"success": event.success, "result": dump_model(event.result), "error": event.error}
    record.output = {name: value for name, value in said.items() if value is not None}


def make_question(_source: object, event: Any, *, capture_content: bool) -> Step:
    """Return the record of a question to a person, whose answer a flow waits for."""
    record = Step(type="human", name="ask a person")
    if capture_content:
        asked = {"message": event.message, "output": dump_model(get_field(event, "output"))}
        record.input = {name: value for name, value in asked.items() if value is not None}
    return record


def read_reply(record: NamedRecord, event: object) -> None:
    """Read what the person has said, and what follows from it."""
    said = get_field(event, "response") if hasattr(event, "response") else get_field(event, "feedback")
    outcome = get_nested(event, "outcome", str)
    record.output = {"feedback": said, "outcome": outcome} if outcome else said


def make_iterations(_source: object, event: Any, *, capture_content: bool) -> Step:
    """Return the record of a training or a test of a crew, which runs it several times."""
    record = Step(type="train" if event.type == "crew_train_started" else "test", name=event.crew_name)
    if capture_content:
        record.input = get_field(event, "inputs")
    return record
