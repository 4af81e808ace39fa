"""Messages in the forms of many SDKs, as messages of the conventions.

An SDK writes down what its provider's client takes and gives: OpenAI's, Anthropic's, Gemini's and Bedrock's parts, or
parts of its own. The key that only such a part has tells which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from ...operations.content import to_json
from .dialect import JsonObject, list_values, parse_attribute, sort_by_index

_ROLES: Final = {"model": "assistant", "ai": "assistant", "human": "user", "developer": "system", "function": "tool"}


def write_messages(messages: object, role: str) -> str | None:
    """Return *messages* of any SDK as an attribute of the conventions; None if there are none.

    *role* applies to those that name none.
    """
    converted = [convert_message(message, role) for message in list_values(messages)]
    converted = [message for message in converted if message["parts"]]
    return to_json(converted) if converted else None


def convert_message(message: object, role: str) -> JsonObject:
    """Return one message of any SDK in the conventions' form."""
    if not isinstance(message, dict):
        return {"role": role, "parts": convert_parts(message)}
    if isinstance(nested := message.get("message"), dict):
        message = {**message, **nested}
    named = message.get("role") or message.get("type")
    role = _ROLES.get(named, named) if isinstance(named, str) and named != "message" else role
    parts = [part for name in ("parts", "content", "contents") for part in convert_parts(message.get(name))]
    call_id = message.get("tool_call_id") or (message.get("id") if role == "tool" else None)
    if role == "tool" and call_id and not any(part.get("type") == "tool_call_response" for part in parts):
        parts = [{"type": "tool_call_response", "id": str(call_id), "response": join_texts(parts)}]
    calls = parse_attribute(message.get("tool_calls"))
    called = [part.get("id") for part in parts if part.get("type") == "tool_call"]  # an id may be anything
    for call in calls if isinstance(calls, list) else sort_by_index(calls):
        converted = convert_call(call)
        parts += [] if converted["id"] in called else [converted]
    reason = message.get("finish_reason") or message.get("stop_reason")
    return {"role": role, "parts": parts, **({"finish_reason": str(reason)} if reason else {})}


def convert_parts(content: object) -> list[JsonObject]:
    """Return the parts of a message's content: of a text, a list of parts, or OpenInference's numbered ones."""
    if isinstance(content, str):
        parsed = parse_attribute(content)
        if not _holds_parts(parsed):
            return [{"type": "text", "content": content}] if content else []
        content = parsed
    if isinstance(content, dict):
        content = sort_by_index(content) or [content]
    if not isinstance(content, (list, tuple)):
        return [] if content is None else [{"type": "text", "content": str(content)}]
    return [part for each in content if (part := convert_part(each)) is not None]


def _holds_parts(content: object) -> bool:
    """Return whether JSON is parts and not an answer that is JSON itself."""
    if not isinstance(content, list) or not content:
        return False
    known = _BY_TYPE.keys() | {"blob", "uri", "file"}
    return all(
        isinstance(one, dict) and (_is_known(one.get("type"), known) or one.keys() <= _BY_KEY.keys()) for one in content
    )


def _is_known(kind: object, known: Collection[str]) -> bool:
    return isinstance(kind, str) and kind in known


def convert_part(part: object) -> JsonObject | None:
    """Return one part in the conventions' form; one that is unknown as it is."""
    if not isinstance(part, dict):
        return {"type": "text", "content": str(part)} if part not in (None, "") else None
    if isinstance(numbered := part.get("message_content"), dict):  # OpenInference's
        part = {**part, **numbered}
        if part.get("type") == "text" and not part.get("text"):
            return None
    kind = part.get("type")
    reader = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    if reader is None:
        reader = next((read for key, read in _BY_KEY.items() if part.get(key) is not None), None)
    return part if reader is None else reader(part)


def _convert_text(part: JsonObject) -> JsonObject:
    said = part.get("content", part.get("text"))
    return {"type": "reasoning" if part.get("thought") is True else "text", "content": write_text(said)}


def _convert_reasoning(part: JsonObject) -> JsonObject:
    text = part.get("thinking") or part.get("text") or part.get("content") or ""
    inner = part.get("reasoningContent")
    if isinstance(inner, dict):
        said = inner.get("reasoningText", inner)
        text = said.get("text", "") if isinstance(said, dict) else said
    return {"type": "reasoning", "content": str(text)}


def convert_call(call: object) -> JsonObject:
    """Return a tool call of any SDK as a part."""
    found: JsonObject = call if isinstance(call, dict) else {}
    for key in ("tool_call", "toolUse", "function_call", "functionCall"):
        if isinstance(inner := found.get(key), dict):
            found = {"id": found.get("id"), **inner}
    function = inner if isinstance(inner := found.get("function"), dict) else found
    names = (function.get(key) for key in ("name", "toolName", "tool_name"))
    given = [function[key] for key in ("arguments", "input", "args") if key in function]
    ids = (found.get(key) for key in ("call_id", "id", "toolUseId", "toolCallId", "tool_call_id"))
    name = next(filter(None, names), "")
    arguments = parse_attribute(given[0]) if given else None
    return {"type": "tool_call", "id": next(filter(None, ids), None), "name": str(name), "arguments": arguments}


def _convert_response(part: JsonObject) -> JsonObject:
    """Return a tool's answer of any SDK as a part."""
    found = part
    for key in ("toolResult", "function_response", "functionResponse"):
        if isinstance(inner := found.get(key), dict):
            found = inner
    ids = (found.get(key) for key in ("call_id", "id", "tool_use_id", "toolUseId", "toolCallId", "tool_call_id"))
    said = next((found[key] for key in ("response", "result", "content", "output") if found.get(key) is not None), None)
    if isinstance(said, dict) and "value" in said and "type" in said:  # Vercel's
        said = said["value"]
    parts = convert_parts(said) if isinstance(said, list) else []
    if parts and all(one.get("type") == "text" for one in parts):
        said = join_texts(parts)
    return {"type": "tool_call_response", "id": next(filter(None, ids), None), "response": said}


def join_texts(parts: Iterable[JsonObject]) -> str:
    """Return the texts among *parts*, a line each."""
    return "\n".join(write_text(part.get("content")) for part in parts if part.get("type") == "text")


def write_text(value: object) -> str:
    """Return text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else to_json(value)


def _convert_image(part: JsonObject) -> JsonObject:
    """Return a picture, given as an address or as base64."""
    source = part.get("source")
    if isinstance(source, dict) and source.get("type") == "base64":
        return {
            "type": "blob",
            "modality": "image",
            "mime_type": source.get("media_type"),
            "content": source.get("data"),
        }
    found: Any = source if isinstance(source, dict) else part.get("image_url", part.get("image"))
    while isinstance(found, dict):
        found = found.get("url", found.get("image", found.get("data")))
    address = str(found or "")
    head, is_inline, data = address.partition(";base64,")
    if is_inline and head.startswith("data:"):
        return {"type": "blob", "modality": "image", "mime_type": head[len("data:") :], "content": data}
    return {"type": "uri", "modality": "image", "uri": address}


def _convert_inline_data(part: JsonObject) -> JsonObject:
    data = part.get("inline_data") or part.get("inlineData")
    data = data if isinstance(data, dict) else {"data": data}
    mime_type = str(data.get("mime_type", data.get("mimeType", "")))
    return {
        "type": "blob",
        "modality": mime_type.partition("/")[0],
        "mime_type": mime_type,
        "content": data.get("data"),
    }


_Reader = Callable[[JsonObject], JsonObject]
_BY_TYPE: Final[dict[str, _Reader]] = {
    **dict.fromkeys(("text", "input_text", "output_text"), _convert_text),
    **dict.fromkeys(("reasoning", "thinking"), _convert_reasoning),
    **dict.fromkeys(("tool_call", "tool_use", "tool-call", "function_call"), convert_call),
    **dict.fromkeys(("tool_call_response", "tool_result", "tool-result", "function_call_output"), _convert_response),
    **dict.fromkeys(("image", "image_url", "input_image"), _convert_image),
}
_BY_KEY: Final[dict[str, _Reader]] = {
    "text": _convert_text,
    "toolUse": convert_call,
    "function_call": convert_call,
    "functionCall": convert_call,
    "toolResult": _convert_response,
    "function_response": _convert_response,
    "functionResponse": _convert_response,
    "reasoningContent": _convert_reasoning,
    "inline_data": _convert_inline_data,
    "inlineData": _convert_inline_data,
}
