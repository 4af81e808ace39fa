"""Calls of LiteLLM's functions: chats, text completions, responses, embeddings and rerankings.

Their arguments and their answers are OpenAI's. What LiteLLM itself knows of a call stands in ``_hidden_params`` of the
answer, or of a chunk: the provider, the server, what the call costs by its own list, and the tokens of a stream that
was not asked for them. LiteLLM counts cached tokens and reasoning as the conventions do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ..._shape import get_count, get_field, get_fields, get_nested, get_told_fields, list_items, read_amount
from ...hooks.call import BegunCall, Call
from ...hooks.litellm_names import find_litellm_provider
from ...hooks.openai_format import dump_model, read_openai_prompt
from ...hooks.requests import find_provider_by_url, read_chat_usage, read_server_fields
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.records import Chat, Embeddings, ModelCall, Observe, ProviderRequest, sees_errors
from ..openai.methods import (
    append_told_text,
    make_chat,
    make_embeddings,
    make_response,
    observe_chat,
    observe_embeddings,
    observe_response,
)
from . import routing

# Private names of LiteLLM's answers, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_hidden_params": "the provider of a model without a prefix, LiteLLM's cost, and tokens that were not asked for",
}

# Flags of a synchronous function that is called as one half of an asynchronous call, which is recorded as a whole.
_HALVES: Final = frozenset({"acompletion", "atext_completion", "aembedding", "aresponses", "arerank"})
_TELL_COST: Final = frozenset({"openrouter", "perplexity"})  # whose answers tell what the provider charges


def is_half(asked: Mapping[str, Any]) -> bool:
    """Return whether a synchronous function is called as one half of an asynchronous call."""
    return not _HALVES.isdisjoint(asked) and any(asked.get(name) is True for name in _HALVES)


def begin_chat(call: Call) -> BegunCall | None:
    """Begin the record of ``completion`` or ``acompletion``; with fallbacks each try is a call of its own."""
    if is_half(call.kwargs):
        return None
    if call.kwargs.get("fallbacks"):
        return routing.begin_routed(call)
    chat = _make_chat(call, {**call.kwargs, "messages": call.argument("messages")})
    if isinstance(call.kwargs.get("response_format"), type):  # a pydantic model, which the answer has to follow
        chat.output_type = "json"
    return chat, _observe_chat


def begin_text(call: Call) -> tuple[Chat, Observe[Chat]] | None:
    """Begin the record of ``text_completion``, whose prompt is a text or a list of texts."""
    if is_half(call.kwargs):
        return None
    chat = _make_chat(call, call.kwargs)
    chat.operation = sc.TEXT_COMPLETION
    if call.capture_content:
        prompt = call.argument("prompt")
        chat.input = [{"role": "user", "parts": [read_openai_prompt(one)]} for one in list_items(prompt) or [prompt]]
    return chat, _observe_chat


def _make_chat(call: Call, asked: Mapping[str, Any]) -> Chat:
    target = _find_call_target(call)
    chat = make_chat(
        target.provider, target.url, {**asked, "model": target.model}, capture_content=call.capture_content
    )
    chat.outer = True
    if target.completes_text:
        chat.operation = sc.TEXT_COMPLETION
    return chat


def begin_response(call: Call) -> tuple[Chat, Observe[Chat]] | None:
    """Begin the record of ``responses``: sent as it is, or as a chat where the provider has none."""
    if is_half(call.kwargs):
        return None
    target = _find_call_target(call)
    body = {**call.kwargs, "model": target.model, "input": call.argument("input")}
    chat = make_response(target.provider, target.url, body, capture_content=call.capture_content)
    chat.outer = True
    return chat, _observe_response


def begin_embeddings(call: Call) -> tuple[Embeddings, Observe[Embeddings]] | None:
    """Begin the record of ``embedding``."""
    if is_half(call.kwargs):
        return None
    target = _find_call_target(call)
    body = {"model": target.model, "input": call.argument("input")}
    record = make_embeddings(target.provider, target.url, body, capture_content=call.capture_content)
    record.outer, record.dimensions = True, call.argument("dimensions", want=int)
    return record, _observe_embeddings


def begin_rerank(call: Call) -> tuple[ProviderRequest, Observe[ProviderRequest]] | None:
    """Begin the record of ``rerank``."""
    if is_half(call.kwargs):
        return None
    target = _find_call_target(call)
    server = read_server_fields(target.url)
    record = ProviderRequest(type="reranker", name="rerank", provider=target.provider, model=target.model, **server)
    if call.capture_content:
        record.input = {name: call.argument(name) for name in ("query", "documents")}
    return record, _observe_rerank


class _Target(NamedTuple):
    """Whom a call asks.

    Attributes:
        provider: by the conventions' name.
        model: without LiteLLM's prefix for the provider.
        url: of the server, where the caller names it.
        completes_text: whether the prefix says that completions of the model are no chats.
    """

    provider: str
    model: str | None
    url: str | None
    completes_text: bool


def _find_call_target(call: Call) -> _Target:
    model, named = call.argument("model", want=str), call.argument("custom_llm_provider", want=str)
    url = call.argument("api_base", want=str) or call.argument("base_url", want=str)
    provider, short = _split_model(model, named) if model is not None else (named, None)
    known = find_provider_by_url(url) if url else None
    is_text = model is not None and model.startswith("text-completion-")
    return _Target(known or find_litellm_provider(provider or "openai"), short, url, is_text)


@lru_cache(maxsize=1024)
def _split_model(model: str, provider: str | None) -> tuple[str | None, str]:
    """Return LiteLLM's name of the provider, None if it is not known yet, and the provider's name of the model."""
    litellm = sys.modules.get("litellm")
    prefix, slash, rest = model.partition("/")
    if provider is not None:
        return provider, rest if slash and prefix == provider else model
    if slash and prefix in list_items(getattr(litellm, "provider_list", None)):
        return prefix, rest
    return get_nested(get_field(getattr(litellm, "model_cost", None), model), "litellm_provider", str), model


@sees_errors
def _observe_chat(chat: Chat, got: object) -> None:
    """Read a whole answer, a chunk, or an error."""
    if chat.response_id and (_append_text_chunk(chat.draft, got) or append_told_text(chat.draft, got)):
        return  # what is known besides it the first chunk has told, or the last one will
    observe_chat(chat, got)
    if (usage := get_fields(got).get("usage")) is not None:
        _read_cache_counts(chat, usage)
    if not isinstance(got, BaseException):
        _read_hidden(chat, got)


def _append_text_chunk(draft: OutputDraft, got: Any) -> bool:
    """Append a chunk of LiteLLM's that holds text and nothing else, as nearly all do; return False for any other.

    Of its models the fields that OpenAI has are pydantic's extra ones, set to None where an answer does not tell them.
    """
    try:
        (raw_choice,) = got.__dict__["choices"]
        choice = raw_choice.__pydantic_extra__
        delta = choice["delta"]
        said, more = delta.__pydantic_extra__, got.__pydantic_extra__
        piece, index = said["content"], choice["index"]
        if (
            type(piece) is str
            and piece
            and type(index) is int
            and len(choice) == _PLAIN_CHOICE
            and choice["finish_reason"] is None
            and choice["logprobs"] is None
            and [*said.values()].count(None) == len(said) - 1
            and not any(delta.__dict__.values())
            and not any(more.values())
        ):
            draft.append_text(piece, index)
            return True
    except (AttributeError, KeyError, TypeError, ValueError):  # it is no chunk, or has another shape
        pass
    return False


_PLAIN_CHOICE: Final = 4  # fields of a choice: index, delta, finish_reason and logprobs


def _observe_response(chat: Chat, got: object) -> None:
    """Read a whole response, or an event of its stream."""
    observe_response(chat, got)
    _read_hidden(chat, got)


def _observe_embeddings(record: Embeddings, got: object) -> None:
    observe_embeddings(record, got)
    _read_hidden(record, got)


def _observe_rerank(record: ProviderRequest, got: object) -> None:
    record.output = [dump_model(one) for one in list_items(get_field(got, "results"))]


def _read_cache_counts(chat: Chat, usage: object) -> None:
    """Read cached tokens where LiteLLM has them by Anthropic's names: they are a part of the input that it counts."""
    known = get_told_fields(usage)
    if _CACHE_NAMES.isdisjoint(known):
        return
    details = get_fields(known.get("prompt_tokens_details"))
    if read := get_count(known, "cache_read_input_tokens"):
        chat.cache_read_tokens = read
    if written := get_count(known, "cache_creation_input_tokens") or get_count(details, "cache_creation_tokens"):
        chat.cache_write_tokens = written
    if long := get_nested(details, "cache_creation_token_details.ephemeral_1h_input_tokens", int):
        chat.extra[sc.USAGE_LONG_CACHE_WRITE_INPUT_TOKENS] = long
    if read or written:  # LiteLLM then leaves cached text out of the input's text
        chat.text_input_tokens = None


_CACHE_NAMES: Final = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "prompt_tokens_details"})


def _read_hidden(record: ModelCall, got: object) -> None:
    """Read what LiteLLM knows of the call besides the answer."""
    private = getattr(got, "__pydantic_private__", None)  # asking the model itself takes pydantic a search
    hidden = private.get("_hidden_params") if isinstance(private, dict) else None
    if hidden is None:
        hidden = getattr(got, "_hidden_params", None)  # of an answer that is no model of pydantic's
    known = hidden if isinstance(hidden, dict) else {}
    if record.server_address is None and (url := known.get("api_base")):
        for name, value in read_server_fields(url).items():
            setattr(record, name, value)
    named = known.get("custom_llm_provider")
    if record.provider == "openai" and isinstance(named, str) and named != "openai":  # it was not known before
        record.provider = find_litellm_provider(named)
    if isinstance(record, Chat) and record.input_tokens is None:
        _read_hidden_usage(record, known.get("usage"))
    _read_cost(record, known)


def _read_hidden_usage(chat: Chat, usage: object) -> None:
    """Read the tokens of a stream that was not asked for them; zeros stand for a server that tells none."""
    if get_nested(usage, "prompt_tokens", int) or get_nested(usage, "completion_tokens", int):
        read_chat_usage(chat, usage)
        _read_cache_counts(chat, usage)
        chat.input_tokens = chat.input_tokens or None  # older versions forget what the first event tells


def _read_cost(record: ModelCall, known: Mapping[str, Any]) -> None:
    """Read what a call costs: nothing out of LiteLLM's cache, else by its own price list, which is an estimate."""
    told: Any = record.extra.get(sc.USAGE_COST) if "extra" in vars(record) else None
    if told is not None and record.provider not in _TELL_COST:  # LiteLLM writes its own estimate into the usage, too
        record.extra[sc.USAGE_ESTIMATED_COST] = record.extra.pop(sc.USAGE_COST)
    if known.get("cache_hit") is True:
        record.extra[sc.USAGE_COST] = 0.0
    elif cost := read_amount(known.get("response_cost")):  # a zero stands for a model without a price
        record.extra[sc.USAGE_ESTIMATED_COST] = cost
