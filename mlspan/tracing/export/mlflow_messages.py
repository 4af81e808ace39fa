"""Messages of the GenAI conventions in the form of OpenAI's, which MLflow's viewer shows as a chat."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ..content import to_json

Json = dict[str, Any]

MIME_TYPES: Final = {"image": "image/png", "audio": "audio/wav"}  # by modality, for parts without a type
ATTACHED: Final = "mlflow-attachment://"
_ROLES: Final = {"user", "assistant", "system", "tool"}  # with any other role the viewer shows no chat


def parsed(value: Any) -> Any:
    """Return the value of an attribute: JSON text is parsed, the structures of other SDKs are returned."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def chat_inputs(messages: Any, system: Any, tools: Any) -> Json | None:
    """Return ``{"messages": [...], "tools": [...]}``; None if nothing was recorded."""
    converted = [] if system is None else _messages([{"role": "system", "parts": system}])
    converted += _messages(messages)
    if not converted:
        return None
    inputs: Json = {"messages": converted}
    if offered := [_tool(tool) for tool in _list(tools) if isinstance(tool, dict)]:
        inputs["tools"] = offered
    return inputs


def chat_outputs(messages: Any) -> Json | None:
    """Return ``{"choices": [{"index", "message", "finish_reason"}]}`` as in a chat completion; None if empty."""
    choices = []
    for index, message in enumerate(_list(messages)):
        for converted in _message(message, "assistant"):
            reason = message.get("finish_reason") if isinstance(message, dict) else None
            reason = "tool_calls" if reason == "tool_call" else reason
            choices.append({"index": index, "message": converted, "finish_reason": reason})
    return {"choices": choices} if choices else None


def _messages(messages: Any) -> list[Json]:
    return [converted for message in _list(messages) for converted in _message(message, "user")]


def _list(value: Any) -> list[Any]:
    value = value if type(value) is list else parsed(value)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _message(message: Any, role: str) -> list[Json]:
    """Return one message, or several: in OpenAI's form each tool response is a message of its own."""
    if not isinstance(message, dict):  # text that was cut, or written by another SDK
        return [{"role": role, "content": str(message)}]
    role = message.get("role") or role
    role = role if role in _ROLES else "system" if role == "developer" else "user"
    parts = _list(message["parts"] if "parts" in message else message.get("content"))
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text" and not message.get("name"):
        return [{"role": role, "content": str(parts[0].get("content", ""))}]  # the common case, without the work below
    content: list[Json] = []
    calls: list[Json] = []
    answers: list[Json] = []
    reasoning: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind == "tool_call":
            calls.append(_tool_call(part))
        elif kind == "tool_call_response":
            text = as_text(part.get("response", part.get("result")))
            answers.append({"role": "tool", "tool_call_id": str(part.get("id") or ""), "content": text})
        elif kind == "reasoning":
            reasoning.append(str(part.get("content", "")))
        else:
            content.append(_content(part))
    if answers and not content and not calls:
        return answers
    converted: Json = {"role": role, "content": _flat(content) or ("" if calls else as_text(_flat(content)))}
    if calls:
        converted["tool_calls"] = calls
    if reasoning:
        converted["reasoning_content"] = "\n".join(reasoning)
    if name := message.get("name"):
        converted["name"] = name
    return [converted, *answers]


def _flat(content: list[Json]) -> Any:
    """Return one string if all parts are text, as in most chats; else the parts."""
    if all(part["type"] == "text" for part in content):
        return "\n".join(part["text"] for part in content)
    return content


def _content(part: Any) -> Json:
    """Return one part of a message as OpenAI's content part. Parts without an equivalent become text."""
    if not isinstance(part, dict):
        return {"type": "text", "text": as_text(part)}
    kind, modality = part.get("type"), part.get("modality")
    data = part.get("content") if kind == "blob" else None
    mime_type = part.get("mime_type") or MIME_TYPES.get(modality or "", "")
    if data and modality == "image":
        return {"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{data}"}}
    if data and modality == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": mime_type.rpartition("/")[2]}}
    if kind == "uri" and modality == "audio" and str(part.get("uri")).startswith(ATTACHED):
        return {"type": "input_audio", "input_audio": {"data": part["uri"], "format": mime_type.rpartition("/")[2]}}
    if kind == "uri" and modality == "image":
        return {"type": "image_url", "image_url": {"url": str(part.get("uri"))}}
    if kind == "text":
        return {"type": "text", "text": str(part.get("content", ""))}
    if kind in {"blob", "uri", "file"}:
        what = part.get("uri") or part.get("file_id") or part.get("cut") or mime_type
        return {"type": "text", "text": f"[{modality or 'file'}: {what}]"}
    return {"type": "text", "text": to_json(part)}


def _tool_call(part: Json) -> Json:
    arguments = part.get("arguments")
    function = {"name": str(part.get("name") or ""), "arguments": "{}" if arguments is None else as_text(arguments)}
    return {"id": str(part.get("id") or ""), "type": "function", "function": function}


def _tool(tool: Json) -> Json:
    if "function" in tool or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def as_text(value: Any) -> str:
    """Return text unchanged, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else to_json(value)


def last_request(inputs: Any) -> str | None:
    """Return the text of the question: the last user message, else the only argument, else all inputs."""
    if not isinstance(inputs, dict) or not isinstance(messages := inputs.get("messages"), list):
        arguments = list(inputs.values()) if isinstance(inputs, dict) else []
        return as_text(arguments[0] if len(arguments) == 1 else inputs) or None
    users = [message for message in messages if message.get("role") == "user"] or messages
    return _preview(users[-1]) if users else None


def first_answer(outputs: Any) -> str | None:
    """Return the text of the answer: the first choice or the last message, else all outputs."""
    if isinstance(outputs, dict) and "__interrupt__" not in outputs and _are_messages(outputs.get("messages")):
        return _preview(outputs["messages"][-1])
    if not isinstance(outputs, dict) or not isinstance(choices := outputs.get("choices"), list):
        return as_text(outputs) or None
    return _preview(choices[0]["message"]) if choices else None


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def _preview(message: Json) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = " ".join(part.get("text", f"[{part.get('type')}]") for part in content if isinstance(part, dict))
    functions = [call.get("function") or {} for call in message.get("tool_calls") or () if isinstance(call, dict)]
    called = [f"{function.get('name')}({function.get('arguments')})" for function in functions]
    return " ".join(filter(None, [as_text(content), *called]))


def plain_request(inputs: Any) -> str | None:
    """Return the preview that MLflow's server would make of the request, if it is plain text.

    None without inputs; "" if it is not plain text.
    """
    if inputs is None:
        return None
    messages = inputs.get("messages") if isinstance(inputs, dict) else None
    users = [message for message in messages or () if message.get("role") == "user"]
    return _plain(users[-1]) if users else ""


def plain_answer(outputs: Any) -> str | None:
    """Return the preview that MLflow's server would make of the answer, as for the request."""
    if outputs is None:
        return None
    choices = outputs.get("choices") if isinstance(outputs, dict) else None
    return _plain(choices[0]["message"]) if choices else ""


def _plain(message: Json) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""
