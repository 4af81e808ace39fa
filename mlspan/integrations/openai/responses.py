"""Endpoints of the Responses API: whole answers, streams, and answers that are made in the background.

An answer that is fetched later counts no tokens, as the request that made it has counted them.
"""

from __future__ import annotations

from typing import Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.openai_format import dump_model, read_openai_part
from ...hooks.requests import read_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import (
    ChoiceDraft,
    Message,
    OutputDraft,
    Part,
    make_tool_call,
    make_tool_call_response,
    parse_json,
)
from ...tracing.operations.records import Chat, Fetch, Observe
from ._read import OpenAIRequest, read_tool_definitions


def begin_response(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /responses``."""
    body = ask.body
    chat = Chat(
        **ask.read_server_fields(),
        draft=OutputDraft(kept=ask.capture_content),
        conversation=get_nested(body, "conversation", str) or get_nested(body, "conversation.id", str),
        reasoning_level=get_nested(body, "reasoning.effort", str),
        output_type=_OUTPUT_TYPES.get(get_nested(body, "text.format.type", str) or ""),
        stream=True if body.get("stream") is True else None,
        extra={sc.OPENAI_API_TYPE: "responses"},
    )
    set_parameters(chat, body, _REQUEST_FIELDS)
    if (tier := get_nested(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if ask.capture_content:
        chat.input = read_input_messages(body.get("input"))
        chat.tools = read_tool_definitions(body, "tools")
        if instructions := get_nested(body, "instructions", str):
            chat.system = [{"type": "text", "content": instructions}]
    return chat, observe_response


_OUTPUT_TYPES: Final = {"json_object": "json", "json_schema": "json", "text": "text"}
_REQUEST_FIELDS: Final[dict[str, tuple[str, object]]] = {
    "max_output_tokens": ("max_tokens", int),
    "model": ("model", str),
    "previous_response_id": ("previous_response", str),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
}


def begin_fetch(ask: OpenAIRequest, response_id: str) -> tuple[Fetch, Observe[Fetch]]:
    """Begin the record of ``GET /responses/{id}``, also as a stream, or of ``POST /responses/{id}/cancel``."""
    return Fetch(
        **ask.read_server_fields(), response_id=response_id, draft=OutputDraft(kept=ask.capture_content)
    ), _observe_fetch


def _observe_fetch(fetch: Fetch, got: object) -> None:
    """Read a fetched Response, or an event of its stream that holds one."""
    response = get_field(got, "response") or got
    if status := get_nested(response, "status", str):
        fetch.status = status
        fetch.response_model = get_nested(response, "model", str)
        if output := get_list(response, "output"):
            fetch.draft = _draft_output(output, status, response, capture_content=fetch.draft.kept)
            fetch.finish_reasons = fetch.draft.list_finish_reasons()


def observe_response(chat: Chat, got: object) -> None:
    """Read a Response, one event of its stream, or either of them as plain JSON."""
    kind = get_nested(got, "type", str)
    if kind is None or kind == "response.create":
        _observe_response_state(chat, got)
    elif (response := get_field(got, "response")) is not None:
        _observe_response_state(chat, response)
    elif said := _TEXT_EVENTS.get(kind):
        if isinstance(text := get_field(got, "delta"), str):
            chat.draft.get_choice().add_text(text, said)  # type: ignore[arg-type]  # the table holds nothing but part types
    elif kind in _ARGUMENT_EVENTS:
        chat.draft.get_choice().add_tool_call(
            get_nested(got, "output_index", int) or 0, None, None, get_nested(got, "delta", str)
        )
    elif kind == "response.output_item.added":
        item = get_field(got, "item")
        if get_field(item, "type") in {"function_call", "custom_tool_call"}:
            slot = get_nested(got, "output_index", int) or 0
            chat.draft.get_choice().add_tool_call(
                slot, get_nested(item, "call_id", str), get_nested(item, "name", str), None
            )
    elif kind == "response.output_item.done":
        item = get_field(got, "item")
        if get_field(item, "type") not in _STREAMED_ITEM_TYPES:
            _add_item(chat.draft.get_choice(), item)


_TEXT_EVENTS: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.audio.transcript.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}
_ARGUMENT_EVENTS: Final = {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
_STREAMED_ITEM_TYPES: Final = {"message", "reasoning", "function_call", "custom_tool_call"}


def _observe_response_state(chat: Chat, response: object) -> None:
    """Read a response in its present state; one that has ended replaces what was read of its events."""
    chat.response_id = get_nested(response, "id", str) or chat.response_id
    chat.response_model = get_nested(response, "model", str) or chat.response_model
    if tier := get_nested(response, "service_tier", str):
        chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if chat.conversation is None:
        chat.conversation = get_nested(response, "conversation.id", str)
    if (error := get_field(response, "error")) is not None:
        chat.failure = (get_nested(error, "code", str) or "_OTHER", get_nested(error, "message", str) or "")
    read_usage(chat, get_field(response, "usage"), _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)
    status = get_nested(response, "status", str)
    if status in {"completed", "incomplete", "failed", "cancelled"}:
        chat.draft = _draft_output(get_list(response, "output"), status, response, capture_content=chat.draft.kept)
    elif status is not None:
        chat.extra[sc.RESPONSE_STATUS] = status  # queued or in progress: the answer has to be fetched later
    if status is not None and status not in {"queued", "in_progress"}:
        chat.extra.pop(sc.RESPONSE_STATUS, None)


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_tokens_details",
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
}
_OUTPUT_DETAILS: Final = {"in": "output_tokens_details", "reasoning_tokens": "reasoning_tokens"}


def _draft_output(output: list[object], status: str, response: object, *, capture_content: bool) -> OutputDraft:
    """Return the output of an ended response as a draft, with its finish reason."""
    draft = OutputDraft(kept=capture_content)
    choice = draft.get_choice()
    for item in output:
        _add_item(choice, item)
    reason = get_nested(response, "incomplete_details.reason", str)
    if status == "completed":
        choice.finish_reason = "tool_calls" if draft.call_ids else "stop"
    elif status == "incomplete":
        choice.finish_reason = {"max_output_tokens": "length"}.get(reason or "", reason)
    return draft


def _add_item(choice: ChoiceDraft, item: object) -> None:
    """Add an item of a response's output to *choice*."""
    kind = get_nested(item, "type", str)
    if kind == "message":
        for raw in get_list(item, "content"):
            choice.add_part(read_openai_part(raw if isinstance(raw, dict) else dump_model(raw)))
    else:
        for piece in read_item_parts(item, kind or "unknown"):
            choice.add_part(piece)


def read_item_parts(item: object, kind: str) -> list[Part]:
    """Return the message parts of an item that is no message, of a request's input or of a response's output."""
    id = get_nested(item, "call_id", str) or get_nested(item, "id", str)
    if kind in {"function_call", "custom_tool_call"}:
        arguments = get_nested(item, "arguments", str) or get_nested(item, "input", str)
        return [make_tool_call(get_nested(item, "name", str) or "", arguments, id)]
    if kind.endswith("_output"):  # of a tool that the caller has run: a function, a custom tool, a computer, a shell
        return [make_tool_call_response(_read_tool_output(get_field(item, "output")), id)]
    if kind == "reasoning":
        texts = [get_nested(raw, "text", str) for raw in [*get_list(item, "content"), *get_list(item, "summary")]]
        return [{"type": "reasoning", "content": text} for text in texts if text]
    if kind in _CALLER_TOOLS:
        known = dump_model(get_field(item, "action") or get_field(item, "operation"))
        return [make_tool_call(_CALLER_TOOLS[kind], known, id)]
    if kind == "compaction":
        return [{"type": "compaction", "content": ""}]
    return _read_server_tool(item, kind, id)


_CALLER_TOOLS: Final = {  # built-in tools that the caller runs
    "computer_call": "computer",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
}
_SERVER_TOOLS: Final = {  # built-in tools that the provider runs -> name, fields of the call, fields of its result
    "web_search_call": ("web_search", ("action", "status"), ()),
    "file_search_call": ("file_search", ("queries", "status"), ("results",)),
    "code_interpreter_call": ("code_interpreter", ("code", "container_id", "status"), ("outputs",)),
    "image_generation_call": ("image_generation", ("revised_prompt", "status"), ("result",)),
    "mcp_call": ("", ("server_label", "arguments"), ("output", "error")),
    "mcp_list_tools": ("mcp_list_tools", ("server_label",), ("tools", "error")),
    "mcp_approval_request": ("", ("server_label", "arguments"), ()),
    "tool_search_call": ("tool_search", ("arguments", "status"), ()),
}


def _read_server_tool(item: object, kind: str, id: str | None) -> list[Part]:
    """Return the call of a tool that the provider has run, and its result; an item of an unknown type as it is."""
    if kind not in _SERVER_TOOLS:
        raw = dump_model(item)
        return [
            {"type": kind, "content": {k: v for k, v in raw.items() if k != "type"} if isinstance(raw, dict) else raw}
        ]
    name, asked, given = _SERVER_TOOLS[kind]
    call: dict[str, object] = {"type": "server_tool_call", "name": name or get_nested(item, "name", str) or kind}
    call["server_tool_call"] = {"type": kind, **_pick_fields(item, asked)}
    answer = _pick_fields(item, given)
    if isinstance(picture := answer.get("result"), str):
        answer["result"] = {"base64_bytes": len(picture)}  # the size alone: pictures are large
    parts = [call]
    if answer:
        parts.append({"type": "server_tool_call_response", "server_tool_call_response": {"type": kind, **answer}})
    for one in parts:
        if id is not None:
            one["id"] = id
    return parts  # type: ignore[return-value]  # the schemas of both parts are open


def _pick_fields(item: object, names: tuple[str, ...]) -> dict[str, object]:
    """Return those of the fields called *names* that *item* has, as plain data; arguments are parsed as JSON."""
    found = {name: get_field(item, name) for name in names}
    read = {
        name: [dump_model(one) for one in value] if isinstance(value, list) else dump_model(value)
        for name, value in found.items()
        if value is not None
    }
    if isinstance(arguments := read.get("arguments"), str):
        read["arguments"] = parse_json(arguments)
    return read


def _read_tool_output(output: object) -> object:
    """Return a tool's output: a list of text parts is joined, anything else becomes plain data."""
    if isinstance(output, list):
        texts = [get_nested(one, "text", str) for one in output]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else [dump_model(one) for one in output]  # type: ignore[arg-type]  # all are text
    return dump_model(output)


def read_input_messages(given: object) -> list[Message]:
    """Read the input of a request: a text, or a list of messages and other items."""
    if isinstance(given, str):
        return [{"role": "user", "parts": [{"type": "text", "content": given}]}]
    return [read_input_message(item) for item in given] if isinstance(given, list) else []


def read_input_message(item: object) -> Message:
    """Read an item of a request's input as a message."""
    kind, role, content = get_nested(item, "type", str), get_nested(item, "role", str), get_field(item, "content")
    if role is None or kind not in {None, "message"}:
        role = "tool" if (kind or "").endswith("_output") else "assistant"
        return {"role": role, "parts": read_item_parts(item, kind or "unknown")}
    if isinstance(content, str):
        return {"role": role, "parts": [{"type": "text", "content": content}]}
    parts = [
        read_openai_part(raw if isinstance(raw, (dict, str)) else dump_model(raw)) for raw in get_list(item, "content")
    ]
    return {"role": role, "parts": parts}
