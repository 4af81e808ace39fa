"""Messages of chat completions, OpenAI's and compatible servers': of requests, whole answers and chunks."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_fields, get_list, get_nested, get_text
from ...hooks.openai_format import dump_model, read_openai_part
from ...tracing.operations.content import to_json
from ...tracing.operations.message_drafts import ChoiceDraft
from ...tracing.operations.messages import BlobPart, Message, Part, make_tool_call, make_tool_call_response
from ...tracing.operations.plain_values import KeptList
from ._read import RequestBody


def observe_message(choice: ChoiceDraft, raw: object, *, whole: bool, mime_type: str | None = None) -> None:
    """Read a message, or with *whole* False a chunk of one: text, reasoning, tool calls, sound and citations.

    *mime_type* is that of its sound, which the answer itself does not tell.
    """
    said = get_fields(raw)
    if not _REASONING_FIELDS.isdisjoint(said) and (thought := _read_reasoning(said)):
        choice.add_text(thought, "reasoning")
    for name in ("content", "refusal"):
        if isinstance(piece := said.get(name), str):
            if piece:
                choice.add_text(piece)
        elif isinstance(piece, list):
            _observe_parts(choice, piece)
    if calls := said.get("tool_calls"):
        for call in calls if isinstance(calls, list) else ():
            _observe_tool_call(choice, call)
    if called := said.get("function_call"):
        choice.add_tool_call(0, None, get_nested(called, "name", str), get_nested(called, "arguments", str))
    if audio := said.get("audio"):
        _observe_audio(choice, audio, mime_type, whole=whole)
    if (found := said.get("annotations")) and isinstance(found, list):
        choice.add_annotations([dump_model(one) for one in found])


_REASONING_FIELDS: Final = {"reasoning_content", "reasoning", "reasoning_details"}


def _read_reasoning(said: RequestBody) -> str | None:
    """Return the reasoning in a message's fields, under the name that its server has for it; None without any."""
    if _REASONING_FIELDS.isdisjoint(said):  # as in most messages
        return None
    for name in ("reasoning_content", "reasoning"):
        if thought := get_text(said, name):
            return thought
    details = said.get("reasoning_details")  # OpenRouter's, whose pieces are texts, summaries or encrypted
    if not isinstance(details, list):
        return None
    texts = [get_nested(one, "text", str) or get_nested(one, "summary", str) for one in details]
    return "".join(text for text in texts if text) or None


def _observe_parts(choice: ChoiceDraft, pieces: list[object]) -> None:
    """Read content that is a list of parts, as Mistral's reasoning models answer."""
    for piece in pieces:
        part = read_openai_part(piece if isinstance(piece, (dict, str)) else dump_model(piece))
        content = part.get("content")
        if part["type"] in {"text", "reasoning"} and isinstance(content, str):
            choice.add_text(content, part["type"])  # type: ignore[arg-type]  # it is one of the two
        else:
            choice.add_part(part)


def _observe_tool_call(choice: ChoiceDraft, call: object) -> None:
    """Read a tool call or a piece of one."""
    function = get_field(call, "function") or get_field(call, "custom")
    choice.add_tool_call(
        get_nested(call, "index", int),
        _read_call_id(call),
        get_nested(function, "name", str),
        arguments if isinstance(arguments := _read_arguments(function), str | None) else to_json(arguments),
    )


def _read_call_id(call: object) -> str | None:
    """Return the id of a tool call. Gemini's are empty, and Mistral's client has a word for one that is missing."""
    return None if (found := get_nested(call, "id", str)) in {"", "null"} else found


def _read_arguments(function: object) -> object:
    """Return the arguments of a tool call: JSON, or from some clients what it says, a dict."""
    found = get_field(function, "arguments")
    return found if isinstance(found, (str, dict)) and found else get_nested(function, "input", str)


def _observe_audio(choice: ChoiceDraft, audio: object, mime_type: str | None, *, whole: bool) -> None:
    """Read the transcript of a sound, and with *whole* the sound itself, of the *mime_type* that was asked for."""
    if transcript := get_nested(audio, "transcript", str):
        choice.add_text(transcript)
    if whole and (data := get_nested(audio, "data", str)):  # a chunk's piece of a sound cannot be played by itself
        sound: BlobPart = {"type": "blob", "modality": "audio", "content": data}
        if mime_type is not None:
            sound["mime_type"] = mime_type
        choice.add_part(sound)


def read_request_messages(raws: list[Any]) -> list[Message]:
    """Read the messages of a request. Most have nothing but texts, which need not be looked through again."""
    messages: list[Message] = KeptList()
    for raw in raws:
        if not (
            type(raw) is dict
            and raw.keys() == _PLAIN_MESSAGE_KEYS
            and type(raw["content"]) is str
            and raw["role"] in _PLAIN_MESSAGE_ROLES
        ):
            return list(map(_read_request_message, raws))
        messages.append({"role": raw["role"], "parts": [{"type": "text", "content": raw["content"]}]})
    return messages


def _read_request_message(raw: object) -> Message:
    """Read a message of a request, as a dict or a client's model."""
    role, content = get_nested(raw, "role", str) or "user", get_field(raw, "content")
    if role in {"tool", "function"}:
        return {
            "role": "tool",
            "parts": [make_tool_call_response(_join_tool_answer(content), get_nested(raw, "tool_call_id", str))],
        }
    parts: list[Part] = []
    if thought := _read_reasoning(get_fields(raw)):  # some servers want it back
        parts.append({"type": "reasoning", "content": thought})
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts.extend(read_openai_part(raw) for raw in content)
    if refusal := get_nested(raw, "refusal", str):
        parts.append({"type": "text", "content": refusal})
    for call in get_list(raw, "tool_calls"):
        function = get_field(call, "function") or get_field(call, "custom")
        name = get_nested(function, "name", str) or ""
        parts.append(make_tool_call(name, _read_arguments(function), get_nested(call, "id", str)))
    if called := get_field(raw, "function_call"):
        parts.append(make_tool_call(get_nested(called, "name", str) or "", get_nested(called, "arguments", str)))
    if audio := get_nested(raw, "audio.id", str):
        parts.append({"type": "file", "modality": "audio", "file_id": audio})
    message: Message = {"role": role, "parts": parts}
    if speaker := get_nested(raw, "name", str):
        message["name"] = speaker
    return message


_PLAIN_MESSAGE_KEYS: Final = {"role", "content"}  # most messages have no other keys
_PLAIN_MESSAGE_ROLES: Final = ("user", "assistant", "system", "developer")


def _join_tool_answer(content: object) -> object:
    """Join the text parts of a tool's answer; return any other content as it is."""
    texts = [get_nested(part, "text", str) for part in content] if isinstance(content, list) else [None]
    return content if None in texts else "".join(text for text in texts if text)
