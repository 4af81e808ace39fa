"""Calls of DSPy to language models, whichever engine makes the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._shape import find_known, get_field, get_list, get_nested, read_amount
from ...hooks.litellm_names import find_litellm_provider
from ...hooks.openai_format import dump_model
from ...hooks.requests import find_provider_by_url, read_chat_usage, read_provider_usage
from ...tracing.operations import semconv as sc
from ...tracing.operations.content import to_json
from ...tracing.operations.records import Chat
from ..openai.methods import make_chat


def make_model_call(instance: object, inputs: Mapping[str, Any], *, capture_content: bool) -> Chat:
    """Return the record of a call to a language model; the request of the engine's client is the same call."""
    named = get_nested(instance, "model", str) or ""
    prefix, slash, rest = named.partition("/")
    provider, model = (find_litellm_provider(prefix), rest) if slash else ("openai", named or None)
    asked = {**(get_field(instance, "kwargs") or {}), **(inputs.get("kwargs") or {})}
    url = find_known(get_nested(asked, name, str) for name in ("api_base", "base_url"))
    body = {**asked, "model": model, "messages": _read_prompt_messages(inputs)}
    chat = make_chat(find_provider_by_url(url) or provider, url, body, capture_content=capture_content)
    chat.outer = True
    if get_field(instance, "model_type") == "text":
        chat.operation = sc.TEXT_COMPLETION
    if asked.get("response_format") is not None:
        chat.output_type = "json"
    return chat


def _read_prompt_messages(inputs: Mapping[str, object]) -> list[object]:
    """Return the messages of a call, in OpenAI's format; its prompt may be a text or a request with messages."""
    if messages := inputs.get("messages"):
        return list(messages) if isinstance(messages, (list, tuple)) else []
    prompt = inputs.get("prompt")
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    told = [{"role": "system", "content": text}] if (text := get_nested(prompt, "system", str)) else []
    return [*told, *(_read_request_message(one) for one in (get_field(prompt, "messages") or ()))]


def _read_request_message(message: object) -> dict[str, object]:
    parts = get_field(message, "parts") or get_field(message, "content")
    texts = [get_nested(part, "text", str) for part in parts] if isinstance(parts, (list, tuple)) else [parts]
    return {"role": get_field(message, "role"), "content": "\n".join(str(text) for text in texts if text is not None)}


def read_outputs(chat: Chat, outputs: object) -> None:
    """Read what a call returns: a list of answers, each a text or a dict, or one response."""
    answers = outputs if isinstance(outputs, list) else [outputs]
    for index, answer in enumerate(one for one in answers if one is not None):
        choice = chat.draft.get_choice(index)
        if isinstance(answer, str):
            choice.add_text(answer)
            continue
        if thought := get_nested(answer, "reasoning_content", str):
            choice.add_text(thought, "reasoning")
        if text := get_nested(answer, "text", str):
            choice.add_text(text)
        for call in get_list(answer, "tool_calls"):
            function = get_field(call, "function") or call
            arguments = get_field(function, "arguments")
            told = arguments if isinstance(arguments, str) else to_json(dump_model(arguments))
            choice.add_tool_call(None, get_nested(call, "id", str), get_nested(function, "name", str), told)


def read_model_result(chat: Chat, result: object) -> None:
    """Read what DSPy knows of a call besides its answers: tokens, cost, model, id, and why it has ended."""
    chat.response_model = get_nested(result, "response_model", str)
    raw = get_field(result, "raw")
    responses = get_field(result, "responses") or ()
    chat.response_id = get_nested(raw, "id", str) or next(
        (id for one in responses if (id := get_nested(one, "id", str))), None
    )
    for index, one in enumerate(get_list(raw, "choices") or [*responses]):
        chat.draft.get_choice(index).finish_reason = get_nested(one, "finish_reason", str)
    if get_field(result, "cache_hit") is True:  # nobody is billed for it
        chat.extra["mlspan.dspy.cached"] = True
        chat.extra[sc.USAGE_COST] = 0.0
        return
    usage = get_field(result, "usage")
    if get_field(usage, "prompt_tokens") is not None:
        read_chat_usage(chat, usage)
    elif usage:
        read_provider_usage(chat, usage)
    if cost := read_amount(get_field(result, "cost")):
        chat.extra[sc.USAGE_ESTIMATED_COST] = cost
