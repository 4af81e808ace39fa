"""Messages of the GenAI conventions in the form of OpenAI's, which MLflow's viewer shows as a chat."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from ...operations.content import to_json
from ..dialects.dialect import parse_attribute

JsonObject = dict[str, Any]

DEFAULT_MIME_TYPES: Final = {"image": "image/png", "audio": "audio/wav"}  # by modality, for parts without a type
ATTACHMENT_SCHEME: Final = "mlflow-attachment://"
_QUESTION_NAMES: Final = (
    "question",
    "message",
    "prompt",
    "query",
    "ask",
    "text",
    "title",
    "description",
    "msg",
    "prefix",
)
_ROLES: Final = {"user", "assistant", "system", "tool"}  # with any other role the viewer shows no chat


def make_chat_inputs(messages: Any, system: Any, tools: Any) -> JsonObject | None:
    """Return ``{"messages": [...], "tools": [...]}``; None if nothing was recorded."""
    converted = [] if system is None else _convert_messages([{"role": "system", "parts": system}])
    converted += _convert_messages(messages)
    if not converted:
        return None
    inputs: JsonObject = {"messages": converted}
    if offered := [_convert_tool(tool) for tool in _as_list(tools) if isinstance(tool, dict)]:
        inputs["tools"] = offered
    return inputs


def make_chat_outputs(messages: Any) -> JsonObject | None:
    """Return ``{"choices": [{"index", "message", "finish_reason"}]}`` as in a chat completion; None if empty."""
    choices = []
    for index, message in enumerate(_as_list(messages)):
        for converted in _convert_message(message, "assistant"):
            reason = _word(message, "finish_reason") if isinstance(message, dict) else None
            reason = "tool_calls" if reason == "tool_call" else reason
            choices.append({"index": index, "message": converted, "finish_reason": reason})
    return {"choices": choices} if choices else None


def _convert_messages(messages: Any) -> list[JsonObject]:
    return [converted for message in _as_list(messages) for converted in _convert_message(message, "user")]


def _as_list(value: Any) -> list[Any]:
    value = value if type(value) is list else parse_attribute(value)
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _convert_message(message: Any, role: str) -> list[JsonObject]:
    """One message, or several: each tool's response is a message of its own there."""
    if not isinstance(message, dict):  # text that was cut, or that another SDK wrote
        return [{"role": role, "content": as_text(message)}]
    role = _word(message, "role") or role
    role = role if role in _ROLES else "system" if role == "developer" else "user"
    parts = _as_list(message["parts"] if "parts" in message else message.get("content"))
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text" and not message.get("name"):
        return [{"role": role, "content": as_text(parts[0].get("content"))}]  # what most of them are
    content: list[JsonObject] = []
    calls: list[JsonObject] = []
    answers: list[JsonObject] = []
    reasoning: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind == "tool_call":
            calls.append(_convert_tool_call(part))
        elif kind == "tool_call_response":
            text = as_text(part.get("response", part.get("result")))
            answers.append({"role": "tool", "tool_call_id": as_text(part.get("id")), "content": text})
        elif kind == "reasoning":
            reasoning.append(as_text(part.get("content")))
        else:
            content.append(_convert_part(part))
    if answers and not content and not calls:
        return answers
    converted: JsonObject = {
        "role": role,
        "content": _flatten_content(content) or ("" if calls else as_text(_flatten_content(content))),
    }
    if calls:
        converted["tool_calls"] = calls
    if reasoning:
        converted["reasoning_content"] = "\n".join(reasoning)
    if name := _word(message, "name"):
        converted["name"] = name
    return [converted, *answers]


def _word(known: JsonObject, name: str) -> str | None:
    """Return the text under *name*, if it is text."""
    found = known.get(name)
    return found if isinstance(found, str) else None


def _flatten_content(content: list[JsonObject]) -> Any:
    """Return one string if all parts are text, as in most chats; else the parts."""
    if all(part["type"] == "text" for part in content):
        return "\n".join(part["text"] for part in content)
    return content


def _convert_part(part: Any) -> JsonObject:
    """Return one part of a message as OpenAI's content part. Parts without an equivalent become text."""
    if not isinstance(part, dict):
        return {"type": "text", "text": as_text(part)}
    kind, modality = _word(part, "type"), _word(part, "modality")
    data = _word(part, "content") if kind == "blob" else None
    mime_type = _word(part, "mime_type") or DEFAULT_MIME_TYPES.get(modality or "", "")
    if data and modality == "image":
        return {"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{data}"}}
    if data and modality == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": mime_type.rpartition("/")[2]}}
    if kind == "uri" and modality == "audio" and str(part.get("uri")).startswith(ATTACHMENT_SCHEME):
        return {
            "type": "input_audio",
            "input_audio": {"data": str(part["uri"]), "format": mime_type.rpartition("/")[2]},
        }
    if kind == "uri" and modality == "image":
        return {"type": "image_url", "image_url": {"url": str(part.get("uri"))}}
    if kind == "text":
        return {"type": "text", "text": as_text(part.get("content"))}
    if kind in {"blob", "uri", "file"}:
        what = part.get("uri") or part.get("file_id") or part.get("cut") or mime_type
        return {"type": "text", "text": f"[{modality or 'file'}: {what}]"}
    return {"type": "text", "text": to_json(part)}


def _convert_tool_call(part: JsonObject) -> JsonObject:
    arguments = part.get("arguments")
    function = {"name": as_text(part.get("name")), "arguments": "{}" if arguments is None else as_text(arguments)}
    return {"id": as_text(part.get("id")), "type": "function", "function": function}


def _convert_tool(tool: JsonObject) -> JsonObject:
    if "function" in tool or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def as_text(value: Any) -> str:
    """Return text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else to_json(value)


def preview_request(inputs: Any) -> str | None:
    """Return what a person would call the question: the last user message of a chat, else the only argument, or all."""
    messages = inputs.get("messages") if isinstance(inputs, dict) else inputs
    if _are_messages(messages):
        users = [message for message in messages if message["role"] == "user"] or messages
        return _preview_message(users[-1])
    arguments = list(inputs.values()) if isinstance(inputs, dict) else []
    return as_text(arguments[0] if len(arguments) == 1 else inputs) or None


def preview_answer(outputs: Any) -> str | None:
    """Return what a person would call the answer: the first choice or the last message, else all of the outputs.

    Of what waits for a person, it is the question.
    """
    if isinstance(outputs, dict):
        if isinstance(asked := outputs.get("__interrupt__"), list):  # LangGraph's
            return "; ".join(filter(None, map(_preview_question, asked))) or as_text(outputs)
        if outputs.keys() == {"waits_for", "asks"}:  # LlamaIndex's
            return _preview_question(outputs["asks"]) or as_text(outputs["waits_for"]) or None
        if _are_messages(outputs.get("messages")):
            return _preview_message(outputs["messages"][-1])
        if (message := _first_choice(outputs)) is not None:
            return _preview_message(message)
    alone = [outputs] if isinstance(outputs, dict) and "content" in outputs else outputs  # a step that ends in messages
    return _preview_message(alone[-1]) if _are_messages(alone) else as_text(outputs) or None


def _preview_question(asked: Any) -> str:
    """Return what a person is asked: the text under one of the usual names, the tools to be allowed, or all of it."""
    if not isinstance(asked, dict):
        return as_text(asked)
    requests = asked.get("action_requests", asked.get("action_request"))  # of LangChain's agents, now and before 1.0
    requests = requests if isinstance(requests, list) else [requests]
    if tools := [_preview_tool_request(one) for one in requests if isinstance(one, dict)]:
        return "; ".join(tools)
    found = next((asked[name] for name in _QUESTION_NAMES if isinstance(asked.get(name), str) and asked[name]), None)
    texts = [one for one in asked.values() if isinstance(one, str) and one]
    return found or (texts[0] if len(texts) == 1 and len(asked) == 1 else as_text(asked))


def _preview_tool_request(one: JsonObject) -> str:
    """Return the call of a tool that a person is to allow, as ``name(arguments)``."""
    return f"{as_text(one.get('name', one.get('action')))}({as_text(one.get('args', one.get('arguments')))})"


def _first_choice(outputs: Any) -> JsonObject | None:
    """Return the message of the first choice of a chat completion; None where it is not one."""
    choices = outputs.get("choices") if isinstance(outputs, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    return message if isinstance(message, dict) else None


def _are_messages(value: Any) -> TypeGuard[list[JsonObject]]:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def _preview_message(message: JsonObject) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(_shown(part) for part in content if isinstance(part, dict))
    calls = message.get("tool_calls")
    named = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    functions = [function for function in named if isinstance(function, dict)]
    called = [f"{as_text(each.get('name'))}({as_text(each.get('arguments'))})" for each in functions]
    return " ".join(filter(None, [as_text(content), *called])) or as_text(message)


def _shown(part: JsonObject) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else f"[{as_text(part.get('type'))}]"


def server_request_preview(inputs: Any) -> str | None:
    """Return what MLflow takes for the question of a chat: None of no inputs, "" where that is not simply text."""
    if inputs is None:
        return None
    messages = inputs.get("messages") if isinstance(inputs, dict) else None
    users = [message for message in messages if message["role"] == "user"] if _are_messages(messages) else []
    return _read_plain_content(users[-1]) if users else ""


def server_answer_preview(outputs: Any) -> str | None:
    """Return the same of the answer."""
    if outputs is None:
        return None
    message = _first_choice(outputs)
    return "" if message is None else _read_plain_content(message)


def _read_plain_content(message: JsonObject) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""
