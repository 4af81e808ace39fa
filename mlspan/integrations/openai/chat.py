"""Endpoints for chat completions and for legacy completions: requests, whole answers and chunks."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import get_field, get_fields, get_list, get_nested, get_text
from ...hooks.openai_format import read_openai_part
from ...hooks.requests import CHAT_USAGE, REQUEST_PARAMETERS, read_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import (
    ChoiceDraft,
    Message,
    OutputDraft,
    Part,
    make_tool_call,
    make_tool_call_response,
)
from ...tracing.operations.plain_values import KeptList
from ...tracing.operations.records import Chat, Observe, sees_errors
from ._read import OpenAIRequest, RequestBody, read_tool_definitions
from .stream_usage import ask_for_usage, hide_usage


def begin_chat(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /chat/completions``."""
    body, content = ask.body, ask.capture_content
    chat = Chat(
        **ask.read_server_fields(), draft=OutputDraft(kept=content), extra={sc.OPENAI_API_TYPE: "chat_completions"}
    )
    set_parameters(chat, body, _REQUEST_FIELDS)
    if not _RARE_PARAMETERS.isdisjoint(body):
        _read_rare_parameters(chat, body)
    if content:
        chat.input = _read_request_messages(get_list(body, "messages"))
        chat.tools = read_tool_definitions(body, "tools", "functions")
    return chat, _choose_observer(ask, chat)


def begin_completion(ask: OpenAIRequest) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /completions``, whose prompts are text or token ids."""
    chat = Chat(operation=sc.TEXT_COMPLETION, **ask.read_server_fields(), draft=OutputDraft(kept=ask.capture_content))
    set_parameters(chat, ask.body, _REQUEST_FIELDS)
    if not _RARE_PARAMETERS.isdisjoint(ask.body):
        _read_rare_parameters(chat, ask.body)
    if ask.capture_content:
        prompt = ask.body.get("prompt")
        prompts = prompt if isinstance(prompt, list) and all(isinstance(one, str) for one in prompt) else [prompt]
        chat.input = [{"role": "user", "parts": [_read_prompt(one)]} for one in prompts if one is not None]
    return chat, _choose_observer(ask, chat)


def _read_prompt(raw: object) -> Part:
    """Read a prompt of a completion: text, or a list of token ids."""
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    return {"type": "tokens", "content": raw}


def _choose_observer(ask: OpenAIRequest, chat: Chat) -> Observe[Chat]:
    """Return the observer of the answer; with ``include_usage``, ask for the usage of a stream and hide its chunk."""
    if ask.body.get("stream") is not True:
        return _observe_chat
    chat.stream = True
    return _observe_and_hide_usage if ask_for_usage(ask) else _observe_chat


_REQUEST_FIELDS: Final = {
    **REQUEST_PARAMETERS,
    "model": ("model", str),
}  # field of the body -> field of the record, and its type
_RARE_PARAMETERS: Final = frozenset({"modalities", "n", "response_format", "service_tier", "stop"})


def _read_rare_parameters(chat: Chat, body: RequestBody) -> None:
    """Read the parameters that have to be converted; most requests have none of them."""
    if (count := get_nested(body, "n", int)) != 1:
        chat.choice_count = count
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [text for text in get_list(body, "stop") if isinstance(text, str)]
    chat.stop_sequences = stops or None
    if (tier := get_nested(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if "audio" in get_list(body, "modalities"):
        chat.output_type = "speech"
    else:
        kind = get_nested(body, "response_format.type", str)
        chat.output_type = {"json_object": "json", "json_schema": "json", "text": "text"}.get(kind or "")


@sees_errors
def _observe_chat(chat: Chat, got: object) -> None:
    """Read a ChatCompletion, a chunk of one, either of them as plain JSON, or an error that carries one."""
    if chat.response_id and _append_text_chunk(chat.draft, got):
        return
    if isinstance(got, BaseException):
        got = getattr(got, "completion", None)  # of LengthFinishReasonError and ContentFilterFinishReasonError
    answer = get_fields(got)
    if not chat.response_id:
        chat.response_id, chat.response_model = get_text(answer, "id"), get_text(answer, "model")
        if tier := get_text(answer, "service_tier"):
            chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
        if fingerprint := get_text(answer, "system_fingerprint"):
            chat.extra[sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
    choices = answer.get("choices")
    if isinstance(choices, list):
        for raw in choices:
            choice = get_fields(raw)
            index = choice.get("index")
            _observe_choice(chat.draft.get_choice(index if isinstance(index, int) else 0), choice)
    if (usage := answer.get("usage")) is not None:
        read_usage(chat, usage, *CHAT_USAGE)


_observe_and_hide_usage: Final = hide_usage(_observe_chat)


def _append_text_chunk(draft: OutputDraft, got: Any) -> bool:
    """Append a chunk that holds text and nothing else, as nearly all do; return False for any other.

    This takes half the time that reading such a chunk field by field takes.
    """
    try:
        (choice,) = got.choices
        delta = choice.delta
        if (
            delta.__pydantic_fields_set__ != _CONTENT_ALONE
            or delta.__pydantic_extra__
            or choice.finish_reason
            or got.usage
        ):
            return False
        if (piece := delta.content) and isinstance(piece, str) and isinstance(choice.index, int):
            draft.get_choice(choice.index).add_text(piece)
            return True
    except (AttributeError, TypeError, ValueError):  # it is no chunk, or has another shape
        pass
    return False


_CONTENT_ALONE: Final = {"content"}


def _observe_choice(choice: ChoiceDraft, got: RequestBody) -> None:
    """Read one choice of an answer or of a chunk."""
    if isinstance(reason := got.get("finish_reason"), str):
        choice.finish_reason = reason
    if (said := got.get("delta")) is not None:
        _observe_message(choice, said, whole=False)
    elif (said := got.get("message")) is not None:
        _observe_message(choice, said, whole=True)
    elif isinstance(piece := got.get("text"), str):  # a legacy completion
        choice.add_text(piece)


def _observe_message(choice: ChoiceDraft, raw: object, *, whole: bool) -> None:
    """Read a message, or with *whole* False a chunk of one: text, reasoning, tool calls and sound."""
    said = get_fields(raw)
    # Reasoning of compatible servers stands in pydantic's extra fields, as the client's model declares no such field.
    more = said if said is raw else getattr(raw, "__pydantic_extra__", None)
    if more:
        for name in ("reasoning_content", "reasoning"):
            if thought := get_text(more, name):
                choice.add_text(thought, "reasoning")
                break
    for name in ("content", "refusal"):
        if piece := get_text(said, name):
            choice.add_text(piece)
    if calls := said.get("tool_calls"):
        for slot, call in enumerate(calls if isinstance(calls, list) else ()):
            _observe_tool_call(choice, slot, call)
    if called := said.get("function_call"):
        choice.add_tool_call(0, None, get_nested(called, "name", str), get_nested(called, "arguments", str))
    if audio := said.get("audio") or (more and more.get("audio")):
        _observe_audio(choice, audio, whole=whole)


def _observe_tool_call(choice: ChoiceDraft, slot: int, call: Any) -> None:
    """Read a tool call or a piece of one; *slot* is its place in the list, for those that have no index."""
    function = get_field(call, "function") or get_field(call, "custom")
    index = get_nested(call, "index", int)
    choice.add_tool_call(
        slot if index is None else index,
        get_nested(call, "id", str),
        get_nested(function, "name", str),
        get_nested(function, "arguments", str) or get_nested(function, "input", str),
    )


def _observe_audio(choice: ChoiceDraft, audio: object, *, whole: bool) -> None:
    """Read the transcript of a sound, and with *whole* the sound itself."""
    if transcript := get_nested(audio, "transcript", str):
        choice.add_text(transcript)
    if whole and (data := get_nested(audio, "data", str)):  # a chunk's piece of a sound cannot be played by itself
        choice.add_part({"type": "blob", "modality": "audio", "content": data})


def _read_request_messages(raws: list[Any]) -> list[Message]:
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
            "parts": [make_tool_call_response(_join_texts(content), get_nested(raw, "tool_call_id", str))],
        }
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts.extend(read_openai_part(raw) for raw in content)
    if refusal := get_nested(raw, "refusal", str):
        parts.append({"type": "text", "content": refusal})
    for call in get_list(raw, "tool_calls"):
        function = get_field(call, "function") or get_field(call, "custom")
        arguments = get_nested(function, "arguments", str) or get_nested(function, "input", str)
        parts.append(make_tool_call(get_nested(function, "name", str) or "", arguments, get_nested(call, "id", str)))
    if called := get_field(raw, "function_call"):
        parts.append(make_tool_call(get_nested(called, "name", str) or "", get_nested(called, "arguments", str)))
    if audio := get_nested(raw, "audio.id", str):
        parts.append({"type": "file", "modality": "audio", "file_id": audio})
    message: Message = {"role": role, "parts": parts}
    if name := get_nested(raw, "name", str):
        message["name"] = name
    return message


_PLAIN_MESSAGE_KEYS: Final = {"role", "content"}  # most messages have no other keys
_PLAIN_MESSAGE_ROLES: Final = ("user", "assistant", "system", "developer")


def _join_texts(content: object) -> object:
    """Join the text parts of a tool's answer; return any other content as it is."""
    if isinstance(content, list) and all(isinstance(get_nested(part, "text", str), str) for part in content):
        return "".join(part["text"] for part in content)
    return content
