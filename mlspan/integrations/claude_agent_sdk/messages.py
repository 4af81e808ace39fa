"""Messages of the Claude Agent SDK, and what they say: prompts, answers of the model, calls of tools, results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..._shape import get_count, get_field, get_list, get_nested, is_a, list_items, read_amount
from ...hooks.anthropic_format import read_content
from ...hooks.call import Call
from ...hooks.openai_format import FINISH_REASONS
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import make_server_tool_call, make_server_tool_response
from ...tracing.operations.records import Agent, Chat, Observe, Tool

AGENT_NAME: Final = "claude_code"


def begin_turn(call: Call) -> tuple[Agent, Observe[Agent]]:
    """Begin the record of a turn, whose prompt is a text or a stream of messages, which is not read here."""
    agent = Agent(name=AGENT_NAME)
    options = call.argument("options") or (getattr(call.args[0], "options", None) if call.args else None)
    agent.model = get_nested(options, "model", str)
    if call.capture_content and isinstance(prompt := call.argument("prompt"), str):
        agent.input = prompt
    return agent, read_result_message if call.capture_content else _read_result_without_content


def read_result_message(agent: Agent, result: object) -> None:
    """Read a ``ResultMessage``: how the turn has ended, its tokens, which include those of subagents, and its cost."""
    _read_result_without_content(agent, result)
    structured = get_field(result, "structured_output")
    agent.output = structured if structured is not None else get_nested(result, "result", str)


def _read_result_without_content(agent: Agent, result: object) -> None:
    agent.conversation = get_nested(result, "session_id", str) or agent.conversation
    models = get_field(result, "model_usage")
    if isinstance(models, dict) and len(models) == 1:
        (agent.model,) = (str(name) for name in models)
    if reason := get_nested(result, "stop_reason", str):
        agent.finish_reasons = [FINISH_REASONS.get(reason, reason)]
    _read_usage(agent, get_field(result, "usage"))
    if (cost := read_amount(get_field(result, "total_cost_usd"))) is not None:
        agent.extra[sc.USAGE_COST] = cost
    if get_field(result, "is_error") is True:
        agent.failure = _read_failure(result)


def _read_usage(agent: Agent, usage: object) -> None:
    """Read the tokens of a turn; the input includes what was cached, which is counted beside it."""
    known = usage if isinstance(usage, dict) else {}
    if (given := get_count(known, "input_tokens")) is not None:
        read = get_count(known, "cache_read_input_tokens") or 0
        written = get_count(known, "cache_creation_input_tokens") or 0
        agent.input_tokens = given + read + written
        agent.extra |= {sc.USAGE_CACHE_READ_INPUT_TOKENS: read, sc.USAGE_CACHE_WRITE_INPUT_TOKENS: written}
    agent.output_tokens = get_count(known, "output_tokens")


def _read_failure(result: object) -> tuple[str, str]:
    """Return type and message of the failure that a result tells."""
    status, kind = get_field(result, "api_error_status"), get_nested(result, "subtype", str)
    errors = [one for one in get_list(result, "errors") if isinstance(one, str)]
    named = str(status) if is_a(status, int) else kind if kind not in {None, "success"} else sc.ERROR_OTHER
    return named or sc.ERROR_OTHER, "; ".join(errors) or get_nested(result, "result", str) or ""


def make_chat(messages: list[object], *, capture_content: bool) -> Chat:
    """Return the record of a call to the model, from the ``AssistantMessage``s of its answer, one for each block.

    Their usage is what was known when the answer began, so the tokens are those of the result alone.
    """
    first, last = messages[0], messages[-1]
    chat = Chat(provider="anthropic", draft=OutputDraft(kept=capture_content))
    chat.model = chat.response_model = get_nested(first, "model", str)
    chat.response_id = get_nested(first, "message_id", str)
    choice = chat.draft.get_choice()
    for message in messages:
        for block in list_items(get_field(message, "content")):
            _add_block(chat, block)
        if error := get_nested(message, "error", str):
            chat.failure = (error, "")
    reason = get_nested(last, "stop_reason", str) or ("tool_use" if chat.draft.call_ids else "end_turn")
    choice.finish_reason = "error" if chat.failure else FINISH_REASONS.get(reason, reason)
    return chat


def _add_block(chat: Chat, block: object) -> None:
    """Add a block of an answer: they are told apart by their classes, whose names the SDK keeps."""
    choice, kind = chat.draft.get_choice(), type(block).__name__
    if kind == "TextBlock" and (text := get_nested(block, "text", str)):
        choice.add_text(text)
    elif kind == "ThinkingBlock" and (thought := get_nested(block, "thinking", str)):
        choice.add_text(thought, "reasoning")
    elif kind == "ToolUseBlock":
        name, identifier = get_nested(block, "name", str), get_nested(block, "id", str)
        choice.add_tool_call(None, identifier, name, to_json(get_field(block, "input")))
    elif kind == "ServerToolUseBlock":
        arguments = {"arguments": get_field(block, "input")}
        name = get_nested(block, "name", str) or "server_tool"
        choice.add_part(make_server_tool_call(name, arguments, get_nested(block, "id", str)))
    elif kind == "ServerToolResultBlock":
        told = {"content": get_field(block, "content")}
        choice.add_part(make_server_tool_response("server_tool", told, get_nested(block, "tool_use_id", str)))


def list_blocks(message: object, kind: str) -> list[object]:
    """Return the blocks of a message that are of the class *kind*."""
    return [block for block in list_items(get_field(message, "content")) if type(block).__name__ == kind]


def make_tool(name: str | None, call_id: str, arguments: object, *, capture_content: bool) -> Tool:
    """Return the record of a call of a tool."""
    tool = Tool(name=name, call_id=call_id)
    tool.type = "function"
    if capture_content and isinstance(arguments, Mapping):
        tool.input = dict(arguments)
    return tool


def read_tool_result(tool: Tool, block: object, *, capture_content: bool) -> None:
    """Read what a tool has returned, a text or a list of blocks."""
    content = get_field(block, "content")
    parts: list[Any] = list(read_content(content)) if isinstance(content, list) else []
    texts = [str(part["content"]) for part in parts if part["type"] == "text"]
    said = "".join(texts) if parts and len(texts) == len(parts) else parts or content
    if capture_content:
        tool.output = said
    if get_field(block, "is_error") is True:
        tool.failure = (sc.ERROR_OTHER, said if isinstance(said, str) else "")
