"""Endpoints for chat completions and for legacy completions: requests, whole answers and chunks."""

from __future__ import annotations

from typing import Any, Final

from ..._shape import dig, fields, get, items, text
from ...hooks.openai_format import PARAMETERS, part
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Choice, Draft, Message, Part, tool_call, tool_call_response
from ...tracing.operations.records import HIDE, Chat, Observe, sees_errors
from ._read import Ask, Body, count, fill, tools


def begin(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /chat/completions``."""
    body, content = ask.body, ask.content
    chat = Chat(**ask.server(), draft=Draft(kept=content), extra={sc.OPENAI_API_TYPE: "chat_completions"})
    fill(chat, body, _FIELDS)
    if not _RARE.isdisjoint(body):
        _begin_rare(chat, body)
    if content:
        chat.input = list(map(_message, items(body, "messages")))
        chat.tools = tools(body, "tools", "functions")
    return chat, _observing(ask, chat)


def begin_completion(ask: Ask) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of ``POST /completions``, whose prompts are text or token ids."""
    chat = Chat(operation=sc.TEXT_COMPLETION, **ask.server(), draft=Draft(kept=ask.content))
    fill(chat, ask.body, _FIELDS)
    if not _RARE.isdisjoint(ask.body):
        _begin_rare(chat, ask.body)
    if ask.content:
        prompt = ask.body.get("prompt")
        prompts = prompt if isinstance(prompt, list) and all(isinstance(one, str) for one in prompt) else [prompt]
        chat.input = [{"role": "user", "parts": [_prompt(one)]} for one in prompts if one is not None]
    return chat, _observing(ask, chat)


def _prompt(raw: Any) -> Part:
    """Read a prompt of a completion: text, or a list of token ids."""
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    return {"type": "tokens", "content": raw}


def _observing(ask: Ask, chat: Chat) -> Observe[Chat]:
    """Return the observer of the answer; with ``include_usage``, ask for the usage of a stream and hide its chunk."""
    body, options = ask.body, ask.options
    if body.get("stream") is not True:
        return _observe
    chat.stream = True
    if ask.settings.get("include_usage") and dig(body, "stream_options.include_usage", bool) is None:
        asked = {**(body.get("stream_options") or {}), "include_usage": True}
        options.json_data = {**options.json_data, "stream_options": asked}
        return _observe_and_hide_usage
    return _observe


_FIELDS: Final = {**PARAMETERS, "model": ("model", str)}  # field of the body -> field of the record, and its type
_RARE: Final = frozenset({"modalities", "n", "response_format", "service_tier", "stop"})


def _begin_rare(chat: Chat, body: Body) -> None:
    """Read the parameters that have to be converted; most requests have none of them."""
    if (count := dig(body, "n", int)) != 1:
        chat.choice_count = count
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else [text for text in items(body, "stop") if isinstance(text, str)]
    chat.stop_sequences = stops or None
    if (tier := dig(body, "service_tier", str)) not in {None, "auto"}:
        chat.extra[sc.OPENAI_REQUEST_SERVICE_TIER] = tier
    if "audio" in items(body, "modalities"):
        chat.output_type = "speech"
    else:
        kind = dig(body, "response_format.type", str)
        chat.output_type = {"json_object": "json", "json_schema": "json", "text": "text"}.get(kind or "")


@sees_errors
def _observe(chat: Chat, got: Any) -> None:
    """Read a ChatCompletion, a chunk of one, either of them as plain JSON, or an error that carries one."""
    if chat.response_id and _goes_on(chat.draft, got):
        return
    if isinstance(got, BaseException):
        got = getattr(got, "completion", None)  # of LengthFinishReasonError and ContentFilterFinishReasonError
    answer = fields(got)
    if not chat.response_id:
        chat.response_id, chat.response_model = text(answer, "id"), text(answer, "model")
        if tier := text(answer, "service_tier"):
            chat.extra[sc.OPENAI_RESPONSE_SERVICE_TIER] = tier
        if fingerprint := text(answer, "system_fingerprint"):
            chat.extra[sc.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = fingerprint
    choices = answer.get("choices")
    if isinstance(choices, list):
        for raw in choices:
            choice = fields(raw)
            index = choice.get("index")
            _observe_choice(chat.draft.choice(index if isinstance(index, int) else 0), choice)
    if (usage := answer.get("usage")) is not None:
        count(chat, usage, _USAGE, _INPUT_DETAILS, _OUTPUT_DETAILS)


@sees_errors
def _observe_and_hide_usage(chat: Chat, got: Any) -> object:
    """Read a chunk, and hide from the caller the one that holds nothing but the usage."""
    _observe(chat, got)
    return HIDE if get(got, "usage") is not None and not get(got, "choices") else None


def _goes_on(draft: Draft, got: Any) -> bool:
    """Append a chunk that holds text and nothing else, as nearly all do; return False for any other.

    This takes half the time that reading such a chunk field by field takes.
    """
    try:
        (choice,) = got.choices
        delta = choice.delta
        if delta.__pydantic_fields_set__ != _TEXT or delta.__pydantic_extra__ or choice.finish_reason or got.usage:
            return False
        if (piece := delta.content) and isinstance(piece, str) and isinstance(choice.index, int):
            draft.choice(choice.index).say(piece)
            return True
    except (AttributeError, TypeError, ValueError):  # it is no chunk, or has another shape
        pass
    return False


_TEXT: Final = {"content"}


def _observe_choice(choice: Choice, got: Body) -> None:
    """Read one choice of an answer or of a chunk."""
    if isinstance(reason := got.get("finish_reason"), str):
        choice.finish_reason = reason
    if (said := got.get("delta")) is not None:
        _observe_said(choice, said, whole=False)
    elif (said := got.get("message")) is not None:
        _observe_said(choice, said, whole=True)
    elif isinstance(piece := got.get("text"), str):  # a legacy completion
        choice.say(piece)


def _observe_said(choice: Choice, raw: Any, *, whole: bool) -> None:
    """Read a message, or with *whole* False a chunk of one: text, reasoning, tool calls and sound."""
    said = fields(raw)
    # Reasoning of compatible servers stands in pydantic's extra fields, as the client's model declares no such field.
    more = said if said is raw else getattr(raw, "__pydantic_extra__", None)
    if more:
        for name in ("reasoning_content", "reasoning"):
            if thought := text(more, name):
                choice.say(thought, "reasoning")
                break
    for name in ("content", "refusal"):
        if piece := text(said, name):
            choice.say(piece)
    if calls := said.get("tool_calls"):
        for slot, call in enumerate(calls if isinstance(calls, list) else ()):
            _observe_call(choice, slot, call)
    if called := said.get("function_call"):
        choice.call(0, None, dig(called, "name", str), dig(called, "arguments", str))
    if audio := said.get("audio") or (more and more.get("audio")):
        _observe_audio(choice, audio, whole=whole)


def _observe_call(choice: Choice, slot: int, call: Any) -> None:
    """Read a tool call or a piece of one; *slot* is its place in the list, for those that have no index."""
    function = get(call, "function") or get(call, "custom")
    index = dig(call, "index", int)
    choice.call(
        slot if index is None else index,
        dig(call, "id", str),
        dig(function, "name", str),
        dig(function, "arguments", str) or dig(function, "input", str),
    )


def _observe_audio(choice: Choice, audio: Any, *, whole: bool) -> None:
    """Read the transcript of a sound, and with *whole* the sound itself."""
    if transcript := dig(audio, "transcript", str):
        choice.say(transcript)
    if whole and (data := dig(audio, "data", str)):  # a chunk's piece of a sound cannot be played by itself
        choice.add({"type": "blob", "modality": "audio", "content": data})


_USAGE: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_INPUT_DETAILS: Final = {
    "in": "prompt_tokens_details",
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "audio_input_tokens",
}
_OUTPUT_DETAILS: Final = {
    "in": "completion_tokens_details",
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "audio_output_tokens",
}


def _message(raw: Any) -> Message:
    """Read a message of a request, as a dict or a client's model."""
    if isinstance(raw, dict) and raw.keys() == _PLAIN and isinstance(raw["content"], str) and raw["role"] in _SPEAKERS:
        return {"role": raw["role"], "parts": [{"type": "text", "content": raw["content"]}]}
    role, content = dig(raw, "role", str) or "user", get(raw, "content")
    if role in {"tool", "function"}:
        return {"role": "tool", "parts": [tool_call_response(_texts(content), dig(raw, "tool_call_id", str))]}
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts.extend(part(raw) for raw in content)
    if refusal := dig(raw, "refusal", str):
        parts.append({"type": "text", "content": refusal})
    for call in items(raw, "tool_calls"):
        function = get(call, "function") or get(call, "custom")
        arguments = dig(function, "arguments", str) or dig(function, "input", str)
        parts.append(tool_call(dig(function, "name", str) or "", arguments, dig(call, "id", str)))
    if called := get(raw, "function_call"):
        parts.append(tool_call(dig(called, "name", str) or "", dig(called, "arguments", str)))
    if audio := dig(raw, "audio.id", str):
        parts.append({"type": "file", "modality": "audio", "file_id": audio})
    message: Message = {"role": role, "parts": parts}
    if name := dig(raw, "name", str):
        message["name"] = name
    return message


_PLAIN: Final = {"role", "content"}  # most messages have no other keys
_SPEAKERS: Final = ("user", "assistant", "system", "developer")


def _texts(content: Any) -> Any:
    """Join the text parts of a tool's answer; return any other content as it is."""
    if isinstance(content, list) and all(isinstance(dig(part, "text", str), str) for part in content):
        return "".join(part["text"] for part in content)
    return content
