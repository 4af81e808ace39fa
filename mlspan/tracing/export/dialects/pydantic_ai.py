"""Pydantic AI: the conventions, and names of its own for what an agent was asked and answered."""

from __future__ import annotations

from typing import Any, Final

from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values
from .messages import convert_message, write_messages


def _read(span: ForeignSpan) -> JsonObject:
    if span.name in {"agent run", "invoke_agent"} or span.get("pydantic_ai.all_messages") is not None:
        return {sc.OPERATION: sc.INVOKE_AGENT, **_read_agent(span)}
    if span.name in {"running tool", "running output function"}:
        return {sc.OPERATION: sc.EXECUTE_TOOL}
    return _read_event_list(list_values(span.get("events")))


def _read_agent(span: ForeignSpan) -> JsonObject:
    """Return what the agent was asked, with the conversation before, and its last answer."""
    listed = list_values(span.get("pydantic_ai.all_messages")) or list_values(span.get("all_messages_events"))
    messages = [convert_message(message, "user") for message in listed]
    first = span.get("pydantic_ai.new_message_index")
    first = first if isinstance(first, int) else 0
    asked = next((i for i in range(first, len(messages)) if messages[i]["role"] == "assistant"), len(messages))
    answer: Any = [message for message in messages[asked:] if message["role"] == "assistant"][-1:]
    if (result := span.get("final_result")) is not None:
        answer = [{"role": "assistant", "content": result if isinstance(result, str) else to_json(result)}]
    found = {
        sc.INPUT_MESSAGES: write_messages(messages[:asked], "user"),
        sc.OUTPUT_MESSAGES: write_messages(answer, "assistant"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _read_event_list(events: list[Any]) -> JsonObject:
    """Return the messages of a request, which earlier versions write as a list of events in one attribute."""
    named = [event for event in events if isinstance(event, dict)]
    found = {
        sc.INPUT_MESSAGES: write_messages([one for one in named if one.get("event.name") != "gen_ai.choice"], "user"),
        sc.OUTPUT_MESSAGES: write_messages(
            [one for one in named if one.get("event.name") == "gen_ai.choice"], "assistant"
        ),
    }
    return {name: value for name, value in found.items() if value is not None}


PYDANTIC_AI: Final = Dialect(
    scopes=("pydantic-ai", "pydantic_ai"),
    prefixes=("pydantic_ai.", "model_request_parameters"),
    names={
        "agent_name": sc.AGENT_NAME,
        "gen_ai.aggregated_usage.input_tokens": sc.USAGE_INPUT_TOKENS,
        "gen_ai.aggregated_usage.output_tokens": sc.USAGE_OUTPUT_TOKENS,
        "tool_arguments": sc.TOOL_CALL_ARGUMENTS,
        "tool_response": sc.TOOL_CALL_RESULT,
    },
    read=_read,
    content=(
        *("pydantic_ai.all_messages", "all_messages_events", "final_result", "tool_arguments", "tool_response"),
        *("events", "model_request_parameters", "logfire.msg", "pydantic_ai.variable_instructions"),
    ),
)
