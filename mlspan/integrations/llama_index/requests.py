"""Readers of LlamaIndex's models, requests, nodes and events, which return records and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from ..._shape import dig, get, is_a
from ...hooks.openai_format import tool
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import loads
from ...tracing.operations.records import Chat, Embeddings, Observe
from .messages import message, said
from .responses import Heard, observe

_PROVIDERS: Final = {  # name of LlamaIndex's package -> value of gen_ai.provider.name
    "azure_inference": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "openai_like": "openai",
    "vertex": "gcp.vertex_ai",
}
_FLOATS: Final = ("temperature", "top_p", "frequency_penalty", "presence_penalty")


def provider(owner: object) -> str:
    """Return the provider of a model by the LlamaIndex package that its class, or a parent of it, comes from.

    A model of the user's own is named after its class.
    """
    for cls in type(owner).__mro__:
        package, _, rest = cls.__module__.removeprefix("llama_index.").partition(".")
        if package in {"llms", "embeddings", "multi_modal_llms"} and cls.__module__.startswith("llama_index."):
            name = rest.partition(".")[0]
            return _PROVIDERS.get(name, name)
    name = type(owner).__name__
    return name.removesuffix("Embedding").removesuffix("LLM").lower() or "unknown"


def model(owner: Any) -> str | None:
    """Return the name of a model; None if it has none."""
    for name in ("model", "model_name", "deployment_name"):
        if (found := dig(owner, name, str)) and found != "unknown":
            return found
    with suppress(Exception):  # the property looks the model up in a table, and raises if it is not in there
        found = dig(owner, "metadata.model_name", str)
        return found if found != "unknown" else None
    return None


def _is_chat(owner: Any) -> bool:
    """Return whether a model chats, rather than completes texts; True if it does not say."""
    with suppress(Exception):  # as above
        return owner.metadata.is_chat_model is True
    return True


def _server(owner: Any) -> dict[str, Any]:
    """Return the record's fields ``server_address`` and ``server_port``, as far as the model knows its URL."""
    url = dig(owner, "api_base", str) or dig(owner, "base_url", str) or dig(owner, "azure_endpoint", str)
    parts = urlsplit(url or "")
    if not parts.hostname:
        return {}
    with suppress(ValueError):  # the port is no number
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        return {"server_address": parts.hostname, "server_port": port}
    return {"server_address": parts.hostname}


def chat(owner: Any, method: str, arguments: Mapping[str, Any], *, capture_content: bool) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a call of ``chat``, ``complete`` or one of their asynchronous and streaming variants.

    Args:
        owner: the model.
        method: the name of the method.
        arguments: the arguments of the call by name.
        capture_content: whether content is recorded.
    """
    given = {**arguments, **(arguments.get("kwargs") or {})}
    messages = given.get("messages")
    is_chat = messages is not None or _is_chat(owner)
    record = Chat(
        operation=sc.CHAT if is_chat else sc.TEXT_COMPLETION,
        provider=provider(owner),
        model=model(owner),
        stream=True if "stream" in method else None,
        outer=True,
        **_server(owner),
    )
    record.draft = Heard(record, capture_content=capture_content)
    for name in _FLOATS:
        value = given[name] if name in given else get(owner, name)
        if is_a(value, (int, float)):
            setattr(record, name, float(value))
    record.max_tokens = dig(given, "max_tokens", int) or dig(owner, "max_tokens", int)
    record.seed = dig(given, "seed", int)
    if str(dig(given, "response_format.type", str)).startswith("json"):
        record.output_type = "json"
    stop = given.get("stop")
    record.stop_sequences = [one for one in stop if isinstance(one, str)] if isinstance(stop, list) and stop else None
    if capture_content:
        prompt = given.get("prompt") or (arguments.get("args") or ("",))[0]
        asked = messages if messages is not None else [prompt]
        record.input = [message(one) for one in asked] if isinstance(asked, (list, tuple)) else None
        offered = given.get("tools")
        record.tools = [tool(one) for one in offered] if isinstance(offered, list) and offered else None
    return record, observe


def embeddings(
    owner: Any, arguments: Mapping[str, Any], *, capture_content: bool
) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of a call of an embedding model."""
    record = Embeddings(provider=provider(owner), model=model(owner), outer=True, **_server(owner))
    if capture_content:
        record.input = next(
            (arguments[name] for name in ("texts", "queries", "text", "query") if name in arguments), None
        )
    return record, _observe_vectors


def _observe_vectors(record: Embeddings, vectors: Any) -> None:
    """Read the number of dimensions of one vector or several, lists or arrays.

    A sparse vector is a dict, and has no number of dimensions.
    """
    first = vectors[0] if isinstance(vectors, (list, tuple)) and vectors else None
    vector: Any = vectors if is_a(first, (int, float)) else first
    if hasattr(vector, "__len__") and not isinstance(vector, Mapping):
        record.dimensions = len(vector)


def query(raw: Any) -> Any:
    """Return the text of a query, a QueryBundle or a message; any other object as plain data."""
    return raw if isinstance(raw, str) else dig(raw, "query_str", str) or dig(raw, "content", str) or plain(raw)


def document(raw: Any) -> dict[str, Any]:
    """Return a NodeWithScore or a node as a dict of id, score, content and metadata.

    A node without a score gets 1.0, as the conventions require a score.
    """
    node, score = get(raw, "node") or raw, get(raw, "score")
    content = getattr(node, "text", None)
    if content is None and callable(read := getattr(node, "get_content", None)):
        content = read()
    return {
        "id": str(get(node, "node_id") or get(node, "id_") or ""),
        "score": float(score) if is_a(score, (int, float)) else 1.0,
        "content": content,
        "metadata": dict(get(node, "metadata") or {}),
    }


def documents(raw: Any) -> list[dict[str, Any]]:
    """Return a list of nodes as dicts; an empty list if *raw* is no list."""
    return [document(one) for one in raw] if isinstance(raw, list) else []


def plain(value: Any, depth: int = 0) -> Any:
    """Return the input or output of a step as small plain data, for JSON.

    Events become dicts of their fields, messages OpenAI's dicts of role and content, nodes dicts of text and metadata.
    Values nested deeper than 20 levels become text, and objects of other classes stay as they are.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if depth > _DEEPEST:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, depth + 1) for one in value]
    if hasattr(value, "blocks") and hasattr(value, "role"):
        return said(value)
    if hasattr(value, "node") and hasattr(value, "score"):
        return document(value)
    if is_event(value):
        return {"event": type(value).__name__, **fields(value, depth)}
    return value


_DEEPEST: Final = 20


def is_event(value: object) -> bool:
    """Return whether *value* is an event of a workflow."""
    return any(cls.__name__ == "Event" and cls.__module__.startswith("workflows") for cls in type(value).__mro__)


_UNTOLD: Final = frozenset({"ctx", "memory", "raw"})  # fields of events that hold LlamaIndex's own objects


def fields(event: Any, depth: int = 0) -> dict[str, Any]:
    """Return the fields of an event as plain data, declared or not; empty ones and internal objects are left out."""
    own = {name: getattr(event, name, None) for name in type(event).model_fields if not name.startswith("_")}
    extra = getattr(event, "_data", None)
    found = {**own, **(extra if isinstance(extra, dict) else {})}
    if type(event).__name__ == "StopEvent" and "result" not in found:
        found["result"] = getattr(event, "result", None)
    return {k: plain(v, depth + 1) for k, v in found.items() if k not in _UNTOLD and v is not None and v != []}


def conversation(memory: Any) -> str | None:
    """Return the id under which a memory keeps its messages; None if it is LlamaIndex's default, which all share."""
    key = dig(memory, "session_id", str) or dig(memory, "chat_store_key", str)
    return key if key != "chat_history" else None


def text(raw: Any) -> Any:
    """Return the text of an answer of any class, or the answer as plain data.

    Only strings are read: reading a stream would take its chunks from the caller.
    """
    for path in ("response", "message.content", "content", "text"):
        if (found := dig(raw, path, str)) is not None:
            return found
    if hasattr(answer := get(raw, "response"), "blocks"):  # an agent's answer holds a message
        return dig(answer, "content", str)
    return loads(raw) if isinstance(raw, str) and raw[:1] in {"{", "["} else plain(raw)
