"""Google's Agent Development Kit: requests and answers as JSON of Gemini's client, under names of its own."""

from __future__ import annotations

from typing import Any, Final

from ...._shape import get_field, get_nested, is_a
from ...operations import semconv as sc
from ...operations.content import to_json
from .dialect import Dialect, ForeignSpan, JsonObject, list_values
from .messages import convert_parts, write_messages

_PARAMETERS: Final = {
    "temperature": sc.REQUEST_TEMPERATURE,
    "top_p": sc.REQUEST_TOP_P,
    "max_output_tokens": sc.REQUEST_MAX_TOKENS,
    "seed": sc.REQUEST_SEED,
}


def _read(span: ForeignSpan) -> JsonObject:
    found = {**_read_request(span.parse("gcp.vertex.agent.llm_request"))}
    found |= _read_response(span.parse("gcp.vertex.agent.llm_response"))
    if span.name.startswith("call_llm"):
        found[sc.OPERATION] = sc.GENERATE_CONTENT
    elif span.name.startswith("invocation"):
        found[sc.OPERATION] = sc.INVOKE_WORKFLOW
    elif span.name.startswith("agent_run"):
        found[sc.OPERATION] = sc.INVOKE_AGENT
    elif span.name.startswith("execute_tool"):
        found[sc.OPERATION] = sc.EXECUTE_TOOL
    for theirs, ours in (
        ("gcp.vertex.agent.tool_call_args", sc.TOOL_CALL_ARGUMENTS),
        ("gcp.vertex.agent.tool_response", sc.TOOL_CALL_RESULT),
    ):
        if span.get(theirs) not in (None, "", "N/A"):
            found[ours] = span.get(theirs)
    return found


def _read_request(request: Any) -> JsonObject:
    config = get_field(request, "config")
    system = get_field(config, "system_instruction")
    parts = convert_parts(get_field(system, "parts") or system)
    declared = [
        declaration
        for tool in list_values(get_field(config, "tools"))
        for declaration in list_values(get_field(tool, "function_declarations"))
    ]
    tools = [_describe_declaration(one) for one in declared if isinstance(one, dict)]
    found = {
        sc.REQUEST_MODEL: get_nested(request, "model", str),
        sc.SYSTEM_INSTRUCTIONS: to_json(parts) if parts else None,
        sc.INPUT_MESSAGES: write_messages(get_field(request, "contents"), "user"),
        sc.TOOL_DEFINITIONS: to_json(tools) if tools else None,
    }
    given = {ours: get_field(config, theirs) for theirs, ours in _PARAMETERS.items()}
    found |= {name: value for name, value in given.items() if is_a(value, (int, float))}
    return {name: value for name, value in found.items() if value is not None}


def _describe_declaration(declared: JsonObject) -> JsonObject:
    parameters = declared.get("parameters_json_schema", declared.get("parameters"))
    named = {key: declared[key] for key in ("name", "description") if declared.get(key)}
    return {"type": "function", **named, **({"parameters": parameters} if parameters else {})}


def _read_response(response: Any) -> JsonObject:
    content, usage = get_field(response, "content"), get_field(response, "usage_metadata")
    found = {
        sc.OUTPUT_MESSAGES: write_messages(content, "assistant") if content else None,
        sc.RESPONSE_MODEL: get_nested(response, "model_version", str),
        sc.USAGE_INPUT_TOKENS: get_nested(usage, "prompt_token_count", int),
        sc.USAGE_OUTPUT_TOKENS: get_nested(usage, "candidates_token_count", int),
    }
    return {name: value for name, value in found.items() if value is not None}


GOOGLE_ADK: Final = Dialect(
    scopes=("gcp.vertex.agent",),
    prefixes=("gcp.vertex.agent.",),
    names={"gcp.vertex.agent.session_id": sc.SESSION_ID},
    read=_read,
    content=(
        *("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args"),
        *("gcp.vertex.agent.tool_response", "gcp.vertex.agent.data"),
    ),
)
