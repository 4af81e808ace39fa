"""Calls of CrewAI to models, by LiteLLM or by a provider's own client, and their streams."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..._shape import get_field, get_list, get_nested
from ...hooks.litellm_names import find_litellm_provider
from ...hooks.openai_format import dump_model
from ...hooks.requests import find_provider_by_url, read_provider_usage, read_usage
from ...tracing.operations.content import to_json
from ...tracing.operations.records import Chat
from ..openai.methods import make_chat
from .runs import CrewRun, find_current_run

_PROVIDERS: Final = {  # CrewAI's own names, where they differ from the conventions' and from LiteLLM's
    "azure": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "claude": "anthropic",
    "google": "gcp.gemini",
}
_PARAMETERS: Final = (
    *("temperature", "top_p", "max_tokens", "stream", "seed", "frequency_penalty", "presence_penalty", "n", "tools"),
)
_USAGE: Final = {  # of all providers; the input includes what was cached
    "prompt_tokens": "input_tokens",
    "prompt_token_count": "input_tokens",
    "input_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens",
    "cached_prompt_tokens": "cache_read_tokens",
    "cache_creation_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
}


def make_model_call(source: object, event: object, *, capture_content: bool) -> Chat:
    """Return the record of a call to a model; the request of the provider's client is the same call."""
    url = next((url for name in ("base_url", "api_base") if (url := get_nested(source, name, str))), None)
    provider, model = _split_model(source, get_nested(event, "model", str))
    body = {name: value for name in _PARAMETERS if (value := get_field(event, name)) is not None}
    body |= {"model": model, "messages": _read_messages(event), "stop": get_field(event, "stop_sequences")}
    if get_field(source, "is_litellm") is not True:
        body |= {name: _restore_values(body[name]) for name in ("messages", "tools") if name in body}
    named = find_provider_by_url(url) or _PROVIDERS.get(provider) or find_litellm_provider(provider)
    chat = make_chat(named, url, body, capture_content=capture_content)
    chat.outer = True
    if get_field(source, "response_format") is not None:
        chat.output_type = "json"
    return chat


def _split_model(source: object, model: str | None) -> tuple[str, str | None]:
    """Return CrewAI's name of the provider, and the provider's name of the model."""
    named, prefix = get_nested(source, "provider", str), (model or "").partition("/")[0]
    if model is not None and "/" in model and (named in {None, prefix} or get_field(source, "is_litellm") is True):
        return prefix, model.partition("/")[2]
    return named or "openai", model


def _read_messages(event: object) -> list[object]:
    messages = get_field(event, "messages")
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else get_list(event, "messages")


def _restore_values(value: object, depth: int = 0) -> object:
    """Return *value* with what CrewAI has written as Python code: all that is five levels deep."""
    if depth == _WRITTEN_DEPTH:
        return _parse_code(value) if isinstance(value, str) else value
    if isinstance(value, list):
        return [_restore_values(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {name: _restore_values(one, depth + 1) for name, one in value.items()}
    return value


_WRITTEN_DEPTH: Final = 5


def _parse_code(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # what an object says of itself
        return text


def read_completed_call(chat: Chat, event: object) -> None:
    """Read the answer of a call that has come to its end."""
    _read_usage(chat, get_field(event, "usage"))
    chat.response_id = get_nested(event, "response_id", str)
    chat.draft.get_choice().finish_reason = get_nested(event, "finish_reason", str)
    response = get_field(event, "response")
    has_run_tool = get_nested(event, "call_type.value", str) == "tool_call" and not list_tool_calls(response)
    if not has_run_tool:  # else this is what the tool has returned that has run inside of the call
        read_model_response(chat, response)


def read_model_response(chat: Chat, response: object) -> None:
    """Read what a model has said: a text, tools that it asks for, or an object."""
    choice = chat.draft.get_choice()
    calls = list_tool_calls(response)
    for id, name, arguments in calls:
        choice.add_tool_call(None, id, name, arguments if isinstance(arguments, str) else to_json(arguments))
    if isinstance(response, str):
        choice.add_text(response)
    elif response is not None and not calls:
        choice.add_text(to_json(dump_model(response)))


def _read_usage(chat: Chat, usage: object) -> None:
    if get_field(usage, "inputTokens") is not None:  # Bedrock's, whose input leaves out what was cached
        read_provider_usage(chat, usage)
    else:
        read_usage(chat, usage, _USAGE)


def note_request_usage(usage: object) -> None:
    """Note the tokens of a request, for the call to a model that the caller is inside."""
    if (run := find_current_run("llm_call_started")) is not None:
        run.usages.append(usage)


def add_usages(run: CrewRun) -> None:
    """Give a call the tokens of its requests, of which there may be several, or one although the call has failed."""
    if not run.usages or run.operation is None or not isinstance(chat := run.operation.record, Chat):
        return
    requests = []
    for usage in run.usages:
        _read_usage(request := Chat(), usage)
        requests.append(request)
    for field in dict.fromkeys(_USAGE.values()):
        counts = [count for one in requests if (count := getattr(one, field)) is not None]
        if counts:
            setattr(chat, field, sum(counts))


def list_tool_calls(response: object) -> list[tuple[str | None, str, object]]:
    """Return id, name and arguments of the tool calls in an answer, in the format of whichever provider."""
    return [*_iterate_calls(response)] if isinstance(response, list) else []


def _iterate_calls(calls: list[object]) -> Iterator[tuple[str | None, str, object]]:
    for call in calls:
        known = call.get("function") if isinstance(call, Mapping) and "function" in call else call
        inner = get_field(known, "function_call") or get_field(call, "function") or known
        name = get_nested(inner, "name", str)
        if name is None:
            continue
        id = next((id for key in ("call_id", "id", "toolUseId") if (id := get_nested(call, key, str))), None)
        asked = (get_field(inner, key) for key in ("arguments", "input", "args"))
        yield id, name, next((value for value in asked if value is not None), {})


def read_chunk(run: CrewRun, event: Any) -> None:
    """Read a chunk of a streamed answer, of which nothing else is told if it breaks off."""
    operation = run.operation
    if operation is None or not isinstance(chat := operation.record, Chat):
        return
    if chat.time_to_first_chunk is None:
        operation.note_first_chunk()
        chat.stream = True
    else:
        operation.note_chunk()
    if event.type == "llm_stream_chunk" and operation.captures_content:
        run.pieces.append(get_nested(event, "chunk", str) or "")


def read_broken_stream(run: CrewRun) -> None:
    """Read what a call has said that ends without an answer."""
    if run.pieces and run.operation is not None and isinstance(chat := run.operation.record, Chat):
        chat.draft.get_choice().add_text("".join(run.pieces))
