"""Calls to models: Haystack's generators and embedders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ..._shape import get_count, get_field, get_fields, get_integer, get_list, get_nested, list_items, list_texts
from ...hooks.openai_format import FINISH_REASONS
from ...hooks.requests import (
    find_provider_by_host,
    read_chat_usage,
    read_host_and_port,
    read_provider_usage,
    set_parameters,
)
from ...tracing.operations.message_drafts import UNTOLD_REASON, OutputDraft
from ...tracing.operations.records import Chat, Embeddings, ModelCall
from .messages import read_messages, read_parts, read_tools

_PROVIDERS: Final = {  # how the class of a generator or embedder begins -> value of gen_ai.provider.name
    "AmazonBedrock": "aws.bedrock",
    "Anthropic": "anthropic",
    "AzureOpenAI": "azure.ai.openai",
    "Cohere": "cohere",
    "Google": "gcp.gemini",
    "HuggingFace": "huggingface",
    "Mistral": "mistral_ai",
    "Nvidia": "nvidia",
    "Ollama": "ollama",
    "OpenAI": "openai",
    "OpenRouter": "openrouter",
    "TogetherAI": "together",
    "VertexAI": "gcp.vertex_ai",
    "Watsonx": "ibm.watsonx.ai",
}
_MODELS: Final = ("model", "azure_deployment", "model_name")  # where a component keeps the model's name
_ADDRESSES: Final = ("api_base_url", "azure_endpoint", "base_url", "url")


def _set_model(record: ModelCall, owner: object, kind: str) -> None:
    """Read which model a component is set to, and where it is."""
    record.model = next((found for name in _MODELS if (found := get_nested(owner, name, str))), None)
    url = next((found for name in _ADDRESSES if (found := get_nested(owner, name, str))), None)
    record.server_address, record.server_port = read_host_and_port(url)
    by_class = next((name for start, name in _PROVIDERS.items() if kind.startswith(start)), None)
    record.provider = find_provider_by_host(record.server_address or "") or by_class or "unknown"


def begin_chat(owner: object, kind: str, *, capture: bool) -> tuple[Chat, Any, Any]:
    """Begin a call of a generator.

    Args:
        owner: the generator; None where Haystack does not tell.
        kind: the name of its class.
        capture: whether content is recorded.
    """
    record = Chat(draft=OutputDraft(kept=capture), outer=True)
    _set_model(record, owner, kind)
    return record, partial(_read_chat_input, owner=owner, capture=capture), read_replies


def _read_chat_input(record: Chat, given: Mapping[str, object], *, owner: object, capture: bool) -> None:
    options = {**get_fields(get_field(owner, "generation_kwargs")), **get_fields(given.get("generation_kwargs"))}
    set_parameters(record, options)
    if (count := get_integer(options, "n")) != 1:
        record.choice_count = count
    stop = options.get("stop")
    record.stop_sequences = list_texts([stop] if isinstance(stop, str) else stop) or None
    if given.get("streaming_callback") is not None or get_field(owner, "streaming_callback") is not None:
        record.stream = True
    if capture:
        record.input = read_messages(given.get("messages", given.get("prompt")))
        offered = given.get("tools")
        record.tools = read_tools(get_field(owner, "tools") if offered is None else offered) or None


def read_replies(record: Chat, given: Mapping[str, object]) -> None:
    """Read the replies of a generator: messages with facts of their own, or texts with facts beside them."""
    facts = get_list(given, "meta")
    for index, reply in enumerate(list_items(given.get("replies"))):
        choice = record.draft.get_choice(index)
        if isinstance(reply, str):
            choice.add_text(reply)
            meta = facts[index] if index < len(facts) else None
        else:
            for part in read_parts(reply):
                choice.add_part(part)
            meta = get_field(reply, "meta")
        reason = get_nested(meta, "finish_reason", str) or get_nested(meta, "stop_reason", str)
        choice.finish_reason = FINISH_REASONS.get(reason or "", reason) or UNTOLD_REASON
        record.response_model = get_nested(meta, "model", str) or record.response_model
        record.response_id = get_nested(meta, "id", str) or record.response_id
        if index == 0:
            _read_usage(record, get_field(meta, "usage"))


def _read_usage(record: Chat, usage: object) -> None:
    """Read the tokens of a reply: under OpenAI's names, whoever the provider is, or under the provider's own.

    Amazon Bedrock's input leaves out what is cached, which its total includes.
    """
    known = get_fields(usage)
    if "prompt_tokens" not in known:
        read_provider_usage(record, usage)
        return
    cached = [get_count(known, f"cache_{what}_input_tokens") for what in ("read", "write", "creation")]
    read, written = cached[0], next((one for one in cached[1:] if one is not None), None)
    counts = [get_count(known, name) or 0 for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    apart = (read or 0) + (written or 0)
    if apart and counts[2] == counts[0] + counts[1] + apart:
        known = {**known, "prompt_tokens": counts[0] + apart}
    read_chat_usage(record, known)
    record.cache_read_tokens = record.cache_read_tokens if read is None else read
    record.cache_write_tokens = record.cache_write_tokens if written is None else written


def begin_embeddings(owner: object, kind: str, *, capture: bool) -> tuple[Embeddings, Any, Any]:
    """Begin a call of an embedder of a text or of documents; the arguments are those of :func:`begin_chat`."""
    record = Embeddings(outer=True, dimensions=get_nested(owner, "dimensions", int))
    _set_model(record, owner, kind)

    def read_input(record: Embeddings, given: Mapping[str, Any]) -> None:
        if capture:
            documents = list_items(given.get("documents"))
            texts = [text for one in documents if (text := get_nested(one, "content", str)) is not None]
            record.input = given["text"] if isinstance(given.get("text"), str) else texts

    return record, read_input, _read_vectors


def _read_vectors(record: Embeddings, given: Mapping[str, object]) -> None:
    """Read how long the vectors are, and what they have cost."""
    first = next(iter(list_items(given.get("documents"))), None)
    vector = given.get("embedding") or get_field(first, "embedding")
    if isinstance(vector, list):
        record.dimensions = len(vector)
    meta = given.get("meta")
    record.response_model = get_nested(meta, "model", str)
    read_provider_usage(record, get_field(meta, "usage"))
