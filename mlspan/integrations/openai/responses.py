"""Endpoints of the Responses API: whole answers, streams, and answers that are made in the background.

An answer that is fetched later counts no tokens, as the request that made it has counted them.
"""

from __future__ import annotations

from typing import Any, Final

from ..._shape import dig, get, items
from ...hooks.openai_format import part, plain
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Choice, Draft, Message, Part, loads, tool_call, tool_call_response
from ...tracing.operations.records import Chat, Fetch, Observe
from ._read import Ask, count, fill, tools


def begin(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /responses``."""
    body = ask.body
    chat = Chat(
        **ask.server(),
        draft=Draft(kept=ask.content),
        conversation=dig(body, "conversation", str) or dig(body, "conversation.id", str),
        reasoning_level=dig(body, "reasoning.effort", str),
        output_type=_OUTPUT_TYPES.get(dig(body, "text.format.type", str) or ""),
        stream=True if body.get("stream") is True else None,
        extra={sc.OPENAI_API_TYPE: "responses"},
    )
    fill(chat, body, _FIELDS)
    if (tier := dig(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if ask.content:
        chat.input = messages(body.get("input"))
        chat.tools = tools(body, "tools")
        if instructions := dig(body, "instructions", str):
            chat.system = [{"type": "text", "content": instructions}]
    return chat, observe


_OUTPUT_TYPES: Final = {"json_object": "json", "json_schema": "json", "text": "text"}
_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "max_output_tokens": ("max_tokens", int),
    "model": ("model", str),
    "previous_response_id": ("previous_response", str),
    "temperature": ("temperature", float),
    "top_p": ("top_p", float),
}


def begin_fetch(ask: Ask, response_id: str) -> tuple[Fetch, Observe[Fetch]]:
    """Begin the record of ``GET /responses/{id}``, also as a stream, or of ``POST /responses/{id}/cancel``."""
    return Fetch(**ask.server(), response_id=response_id, draft=Draft(kept=ask.content)), _observe_fetch


def _observe_fetch(fetch: Fetch, got: Any) -> None:
    """Read a fetched Response, or an event of its stream that holds one."""
    response = get(got, "response") or got
    if status := dig(response, "status", str):
        fetch.status = status
        fetch.response_model = dig(response, "model", str)
        if output := items(response, "output"):
            fetch.draft = _drafted(output, status, response, capture_content=fetch.draft.kept)
            fetch.finish_reasons = fetch.draft.finish_reasons()


def observe(chat: Chat, got: Any) -> None:
    """Read a Response, one event of its stream, or either of them as plain JSON."""
    kind = dig(got, "type", str)
    if kind is None or kind == "response.create":
        _observe_whole(chat, got)
    elif (response := get(got, "response")) is not None:
        _observe_whole(chat, response)
    elif said := _SAID.get(kind):
        if isinstance(text := get(got, "delta"), str):
            chat.draft.choice().say(text, said)  # type: ignore[arg-type]  # the table holds nothing but part types
    elif kind in _ARGUMENTS:
        chat.draft.choice().call(dig(got, "output_index", int) or 0, None, None, dig(got, "delta", str))
    elif kind == "response.output_item.added":
        item = get(got, "item")
        if get(item, "type") in {"function_call", "custom_tool_call"}:
            slot = dig(got, "output_index", int) or 0
            chat.draft.choice().call(slot, dig(item, "call_id", str), dig(item, "name", str), None)
    elif kind == "response.output_item.done":
        item = get(got, "item")
        if get(item, "type") not in _TOLD_IN_PIECES:
            _add(chat.draft.choice(), item)


_SAID: Final = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.audio.transcript.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
}
_ARGUMENTS: Final = {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
_TOLD_IN_PIECES: Final = {"message", "reasoning", "function_call", "custom_tool_call"}


def _observe_whole(chat: Chat, response: Any) -> None:
    """Read a response in its present state; one that has ended replaces what was read of its events."""
    chat.response_id = dig(response, "id", str) or chat.response_id
    chat.response_model = dig(response, "model", str) or chat.response_model
    if tier := dig(response, "service_tier", str):
        chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
    if chat.conversation is None:
        chat.conversation = dig(response, "conversation.id", str)
    status = dig(response, "status", str)
    if status in {"completed", "incomplete", "failed", "cancelled"}:
        chat.draft = _drafted(items(response, "output"), status, response, capture_content=chat.draft.kept)
    elif status is not None:
        chat.extra[sc.RESPONSE_STATUS] = status  # queued or in progress: the answer has to be fetched later
    if status is not None and status not in {"queued", "in_progress"}:
        chat.extra.pop(sc.RESPONSE_STATUS, None)
    if (error := get(response, "error")) is not None:
        chat.failure = (dig(error, "code", str) or "_OTHER", dig(error, "message", str) or "")
    count(chat, get(response, "usage"), _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)


_USAGE: Final = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "input_tokens_details",
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
}
_OUTPUT_DETAILS: Final = {"in": "output_tokens_details", "reasoning_tokens": "reasoning_tokens"}


def _drafted(output: list[Any], status: str, response: Any, *, capture_content: bool) -> Draft:
    """Return the output of an ended response as a draft, with its finish reason."""
    draft = Draft(kept=capture_content)
    choice = draft.choice()
    for item in output:
        _add(choice, item)
    reason = dig(response, "incomplete_details.reason", str)
    if status == "completed":
        choice.finish_reason = "tool_calls" if draft.call_ids else "stop"
    elif status == "incomplete":
        choice.finish_reason = {"max_output_tokens": "length"}.get(reason or "", reason)
    return draft


def _add(choice: Choice, item: Any) -> None:
    """Add an item of a response's output to *choice*."""
    kind = dig(item, "type", str)
    if kind == "message":
        for raw in items(item, "content"):
            choice.add(part(raw if isinstance(raw, dict) else plain(raw)))
    else:
        for piece in parts_of(item, kind or "unknown"):
            choice.add(piece)


def parts_of(item: Any, kind: str) -> list[Part]:
    """Return the message parts of an item that is no message, of a request's input or of a response's output."""
    id = dig(item, "call_id", str) or dig(item, "id", str)
    if kind in {"function_call", "custom_tool_call"}:
        arguments = dig(item, "arguments", str) or dig(item, "input", str)
        return [tool_call(dig(item, "name", str) or "", arguments, id)]
    if kind.endswith("_output"):  # of a tool that the caller has run: a function, a custom tool, a computer, a shell
        return [tool_call_response(_read_tool_output(get(item, "output")), id)]
    if kind == "reasoning":
        texts = [dig(raw, "text", str) for raw in [*items(item, "content"), *items(item, "summary")]]
        return [{"type": "reasoning", "content": text} for text in texts if text]
    if kind in _BY_CALLER:
        known = plain(get(item, "action") or get(item, "operation"))
        return [tool_call(_BY_CALLER[kind], known, id)]
    if kind == "compaction":
        return [{"type": "compaction", "content": ""}]
    return _by_server(item, kind, id)


_BY_CALLER: Final = {  # built-in tools that the caller runs
    "computer_call": "computer",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
}
_BY_SERVER: Final = {  # built-in tools that the provider runs -> name, fields of the call, fields of its result
    "web_search_call": ("web_search", ("action", "status"), ()),
    "file_search_call": ("file_search", ("queries", "status"), ("results",)),
    "code_interpreter_call": ("code_interpreter", ("code", "container_id", "status"), ("outputs",)),
    "image_generation_call": ("image_generation", ("revised_prompt", "status"), ("result",)),
    "mcp_call": ("", ("server_label", "arguments"), ("output", "error")),
    "mcp_list_tools": ("mcp_list_tools", ("server_label",), ("tools", "error")),
    "mcp_approval_request": ("", ("server_label", "arguments"), ()),
    "tool_search_call": ("tool_search", ("arguments", "status"), ()),
}


def _by_server(item: Any, kind: str, id: str | None) -> list[Part]:
    """Return the call of a tool that the provider has run, and its result; an item of an unknown type as it is."""
    if kind not in _BY_SERVER:
        raw = plain(item)
        return [
            {"type": kind, "content": {k: v for k, v in raw.items() if k != "type"} if isinstance(raw, dict) else raw}
        ]
    name, asked, given = _BY_SERVER[kind]
    call: dict[str, Any] = {"type": "server_tool_call", "name": name or dig(item, "name", str) or kind}
    call["server_tool_call"] = {"type": kind, **_named(item, asked)}
    answer = _named(item, given)
    if isinstance(picture := answer.get("result"), str):
        answer["result"] = {"base64_bytes": len(picture)}  # the size alone: pictures are large
    parts = [call]
    if answer:
        parts.append({"type": "server_tool_call_response", "server_tool_call_response": {"type": kind, **answer}})
    for one in parts:
        if id is not None:
            one["id"] = id
    return parts  # type: ignore[return-value]  # the schemas of both parts are open


def _named(item: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return those of the fields called *names* that *item* has, as plain data; arguments are parsed as JSON."""
    found = {name: get(item, name) for name in names}
    read = {
        name: [plain(one) for one in value] if isinstance(value, list) else plain(value)
        for name, value in found.items()
        if value is not None
    }
    if isinstance(arguments := read.get("arguments"), str):
        read["arguments"] = loads(arguments)
    return read


def _read_tool_output(output: Any) -> Any:
    """Return a tool's output: a list of text parts is joined, anything else becomes plain data."""
    if isinstance(output, list):
        texts = [dig(one, "text", str) for one in output]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else [plain(one) for one in output]  # type: ignore[arg-type]  # all are text
    return plain(output)


def messages(given: Any) -> list[Message]:
    """Read the input of a request: a text, or a list of messages and other items."""
    if isinstance(given, str):
        return [{"role": "user", "parts": [{"type": "text", "content": given}]}]
    return [message(item) for item in given] if isinstance(given, list) else []


def message(item: Any) -> Message:
    """Read an item of a request's input as a message."""
    kind, role, content = dig(item, "type", str), dig(item, "role", str), get(item, "content")
    if role is None or kind not in {None, "message"}:
        role = "tool" if (kind or "").endswith("_output") else "assistant"
        return {"role": role, "parts": parts_of(item, kind or "unknown")}
    if isinstance(content, str):
        return {"role": role, "parts": [{"type": "text", "content": content}]}
    parts = [part(raw if isinstance(raw, (dict, str)) else plain(raw)) for raw in items(item, "content")]
    return {"role": role, "parts": parts}
