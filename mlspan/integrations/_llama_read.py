"""LlamaIndex's messages, answers, nodes and events in the words of the conventions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from .._shape import dig, get, is_a
from ..tracing import semconv as sc
from ..tracing.messages import loads
from ..tracing.records import Chat, Embeddings, Observe
from ._llama_answer import Heard, observe
from ._llama_messages import message, said
from ._parts import tool

_PROVIDERS: Final = {  # the name of LlamaIndex's package -> the conventions'
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
    """By the package that the class comes from: the user's own subclass of OpenAI's is OpenAI's still."""
    for cls in type(owner).__mro__:
        package, _, rest = cls.__module__.removeprefix("llama_index.").partition(".")
        if package in {"llms", "embeddings", "multi_modal_llms"} and cls.__module__.startswith("llama_index."):
            name = rest.partition(".")[0]
            return _PROVIDERS.get(name, name)
    name = type(owner).__name__
    return name.removesuffix("Embedding").removesuffix("LLM").lower() or "unknown"


def model(owner: Any) -> str | None:
    for name in ("model", "model_name", "deployment_name"):
        if (found := dig(owner, name, str)) and found != "unknown":
            return found
    with suppress(Exception):  # a property that looks the model up in a table, and fails where it is not in there
        found = dig(owner, "metadata.model_name", str)
        return found if found != "unknown" else None
    return None


def _is_chat(owner: Any) -> bool:
    with suppress(Exception):  # as above
        return owner.metadata.is_chat_model is True
    return True


def _server(owner: Any) -> dict[str, Any]:
    url = dig(owner, "api_base", str) or dig(owner, "base_url", str) or dig(owner, "azure_endpoint", str)
    parts = urlsplit(url or "")
    if not parts.hostname:
        return {}
    with suppress(ValueError):  # a port that is no number
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        return {"server_address": parts.hostname, "server_port": port}
    return {"server_address": parts.hostname}


def chat(owner: Any, method: str, arguments: Mapping[str, Any], *, kept: bool) -> tuple[Chat, Observe[Chat]]:
    """A call of ``chat``, ``complete`` or one of their kin."""
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
    record.draft = Heard(record, kept=kept)
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
    if kept:
        prompt = given.get("prompt") or (arguments.get("args") or ("",))[0]
        asked = messages if messages is not None else [prompt]
        record.input = [message(one) for one in asked] if isinstance(asked, (list, tuple)) else None
        offered = given.get("tools")
        record.tools = [tool(one) for one in offered] if isinstance(offered, list) and offered else None
    return record, observe


def embeddings(owner: Any, arguments: Mapping[str, Any], *, kept: bool) -> tuple[Embeddings, Observe[Embeddings]]:
    record = Embeddings(provider=provider(owner), model=model(owner), outer=True, **_server(owner))
    if kept:
        record.input = next(
            (arguments[name] for name in ("texts", "queries", "text", "query") if name in arguments), None
        )
    return record, _observe_vectors


def _observe_vectors(record: Embeddings, vectors: Any) -> None:
    """One vector or several, of lists or arrays; a sparse one, which is a dict, has no dimension to tell."""
    first = vectors[0] if isinstance(vectors, (list, tuple)) and vectors else None
    vector: Any = vectors if is_a(first, (int, float)) else first
    if hasattr(vector, "__len__") and not isinstance(vector, Mapping):
        record.dimensions = len(vector)


def query(raw: Any) -> Any:
    """What a query, a QueryBundle or a message asks."""
    return raw if isinstance(raw, str) else dig(raw, "query_str", str) or dig(raw, "content", str) or plain(raw)


def document(raw: Any) -> dict[str, Any]:
    """A NodeWithScore, or a node: the scores of some retrievers are unknown."""
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
    return [document(one) for one in raw] if isinstance(raw, list) else []


def plain(value: Any, depth: int = 0) -> Any:
    """What goes into or comes out of a step, as small plain data: events by their fields, messages by what they say."""
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
    return any(cls.__name__ == "Event" and cls.__module__.startswith("workflows") for cls in type(value).__mro__)


_UNTOLD: Final = frozenset({"ctx", "memory", "raw"})  # machinery


def fields(event: Any, depth: int = 0) -> dict[str, Any]:
    """The fields of an event, those that its class does not declare included."""
    own = {name: getattr(event, name, None) for name in type(event).model_fields if not name.startswith("_")}
    extra = getattr(event, "_data", None)
    told = {**own, **(extra if isinstance(extra, dict) else {})}
    if type(event).__name__ == "StopEvent" and "result" not in told:
        told["result"] = getattr(event, "result", None)
    return {k: plain(v, depth + 1) for k, v in told.items() if k not in _UNTOLD and v is not None and v != []}


def conversation(memory: Any) -> str | None:
    """The id under which a memory keeps its messages, unless it is the one that all memories share."""
    key = dig(memory, "session_id", str) or dig(memory, "chat_store_key", str)
    return key if key != "chat_history" else None


def text(raw: Any) -> Any:
    """The text of an answer, of whatever kind; never of a stream, which reading would use up."""
    for path in ("response", "message.content", "content", "text"):
        if (found := dig(raw, path, str)) is not None:
            return found
    if hasattr(answer := get(raw, "response"), "blocks"):  # of an agent
        return dig(answer, "content", str)
    return loads(raw) if isinstance(raw, str) and raw[:1] in {"{", "["} else plain(raw)
