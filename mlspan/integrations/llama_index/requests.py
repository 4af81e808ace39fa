"""Readers of LlamaIndex's models, requests, nodes and events, which return records and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from ..._shape import get_field, get_nested, is_a
from ...hooks.embeddings import observe_vectors
from ...hooks.openai_format import read_openai_tool
from ...hooks.requests import read_server_fields, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import parse_json
from ...tracing.operations.records import Chat, Embeddings, Observe
from .messages import format_chat_message, read_chat_message
from .responses import AnswerDraft, observe_llm_answer

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_data": "fields that an event has beyond those that its class declares",
}

_PROVIDERS_BY_PACKAGE: Final = {  # name of LlamaIndex's package -> value of gen_ai.provider.name
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
_FLOAT_PARAMETERS: Final = {
    name: (name, float) for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
}


def find_package_provider(owner: object) -> str:
    """Return the provider of a model by the LlamaIndex package that its class, or a parent of it, comes from.

    A model of the user's own is named after its class.
    """
    for cls in type(owner).__mro__:
        package, _, rest = cls.__module__.removeprefix("llama_index.").partition(".")
        if package in {"llms", "embeddings", "multi_modal_llms"} and cls.__module__.startswith("llama_index."):
            name = rest.partition(".")[0]
            return _PROVIDERS_BY_PACKAGE.get(name, name)
    name = type(owner).__name__
    return name.removesuffix("Embedding").removesuffix("LLM").lower() or "unknown"


def read_model_name(owner: object) -> str | None:
    """Return the name of a model; None if it has none."""
    for name in ("model", "model_name", "deployment_name"):
        if (found := get_nested(owner, name, str)) and found != "unknown":
            return found
    with suppress(Exception):  # the property looks the model up in a table, and raises if it is not in there
        found = get_nested(owner, "metadata.model_name", str)
        return found if found != "unknown" else None
    return None


def _is_chat_model(owner: Any) -> bool:
    """Return whether a model chats, rather than completes texts; True if it does not say."""
    with suppress(Exception):  # as above
        return owner.metadata.is_chat_model is True
    return True


def _read_server_fields(owner: Any) -> dict[str, Any]:
    """Return the record's fields ``server_address`` and ``server_port``, as far as the model knows its URL."""
    url = (
        get_nested(owner, "api_base", str)
        or get_nested(owner, "base_url", str)
        or get_nested(owner, "azure_endpoint", str)
    )
    return read_server_fields(url)


def begin_llm_call(
    owner: object, method: str, arguments: Mapping[str, Any], *, capture_content: bool
) -> tuple[Chat, Observe[Chat]]:
    """Begin the record of a call of ``chat``, ``complete`` or one of their asynchronous and streaming variants.

    Args:
        owner: the model.
        method: the name of the method.
        arguments: the arguments of the call by name.
        capture_content: whether content is recorded.
    """
    given = {**arguments, **(arguments.get("kwargs") or {})}
    messages = given.get("messages")
    is_chat = messages is not None or _is_chat_model(owner)
    record = Chat(
        operation=sc.CHAT if is_chat else sc.TEXT_COMPLETION,
        provider=find_package_provider(owner),
        model=read_model_name(owner),
        stream=True if "stream" in method else None,
        outer=True,
        **_read_server_fields(owner),
    )
    record.draft = AnswerDraft(record, capture_content=capture_content)
    asked = {name: given[name] if name in given else get_field(owner, name) for name in _FLOAT_PARAMETERS}
    set_parameters(record, asked, _FLOAT_PARAMETERS)
    record.max_tokens = get_nested(given, "max_tokens", int) or get_nested(owner, "max_tokens", int)
    record.seed = get_nested(given, "seed", int)
    if str(get_nested(given, "response_format.type", str)).startswith("json"):
        record.output_type = "json"
    stop = given.get("stop")
    record.stop_sequences = [one for one in stop if isinstance(one, str)] if isinstance(stop, list) and stop else None
    if capture_content:
        prompt = given.get("prompt") or (arguments.get("args") or ("",))[0]
        said = messages if messages is not None else [prompt]
        record.input = [read_chat_message(one) for one in said] if isinstance(said, (list, tuple)) else None
        offered = given.get("tools")
        record.tools = [read_openai_tool(one) for one in offered] if isinstance(offered, list) and offered else None
    return record, observe_llm_answer


def begin_embedding_call(
    owner: object, arguments: Mapping[str, object], *, capture_content: bool
) -> tuple[Embeddings, Observe[Embeddings]]:
    """Begin the record of a call of an embedding model."""
    record = Embeddings(
        provider=find_package_provider(owner), model=read_model_name(owner), outer=True, **_read_server_fields(owner)
    )
    if capture_content:
        record.input = next(
            (arguments[name] for name in ("texts", "queries", "text", "query") if name in arguments), None
        )
    return record, observe_vectors


def read_query_text(raw: object) -> object:
    """Return the text of a query, a QueryBundle or a message; any other object as plain data."""
    return (
        raw
        if isinstance(raw, str)
        else get_nested(raw, "query_str", str) or get_nested(raw, "content", str) or simplify_step_value(raw)
    )


def format_node(raw: object) -> dict[str, object]:
    """Return a NodeWithScore or a node as a dict of id, score, content and metadata.

    A node without a score gets 1.0, as the conventions require a score.
    """
    node, score = get_field(raw, "node") or raw, get_field(raw, "score")
    content = getattr(node, "text", None)
    if content is None and callable(read := getattr(node, "get_content", None)):
        content = read()
    return {
        "id": str(get_field(node, "node_id") or get_field(node, "id_") or ""),
        "score": float(score) if is_a(score, (int, float)) else 1.0,
        "content": content,
        "metadata": dict(get_field(node, "metadata") or {}),
    }


def format_nodes(raw: object) -> list[dict[str, object]]:
    """Return a list of nodes as dicts; an empty list if *raw* is no list."""
    return [format_node(one) for one in raw] if isinstance(raw, list) else []


def simplify_step_value(value: object, depth: int = 0) -> Any:
    """Return the input or output of a step as small plain data, for JSON.

    Events become dicts of their fields, messages OpenAI's dicts of role and content, nodes dicts of text and metadata.
    Values nested deeper than 20 levels become text, and objects of other classes stay as they are.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if depth > _MAX_DEPTH:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): simplify_step_value(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [simplify_step_value(one, depth + 1) for one in value]
    kind = _find_own_class(type(value))  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
    if kind == "ChatMessage":
        return format_chat_message(value)
    if kind == "NodeWithScore":
        return format_node(value)
    if is_workflow_event(value):
        return {"event": type(value).__name__, **read_event_fields(value, depth)}
    return value


_MAX_DEPTH: Final = 20


@lru_cache(maxsize=1000)
def _find_own_class(cls: type) -> str | None:
    """Return which of the classes that have a form of their own *cls* is or inherits from; None if it is none.

    Attributes would not tell: an answer with a model of the user's seems to have every one.
    """
    names = {one.__name__ for one in cls.__mro__ if one.__module__.startswith("llama_index")}
    return next((name for name in ("ChatMessage", "NodeWithScore") if name in names), None)


def is_workflow_event(value: object) -> bool:
    """Return whether *value* is an event of a workflow."""
    return any(cls.__name__ == "Event" and cls.__module__.startswith("workflows") for cls in type(value).__mro__)


_SKIPPED_FIELDS: Final = frozenset({"ctx", "memory", "raw"})  # fields of events that hold LlamaIndex's own objects


def read_event_fields(event: Any, depth: int = 0) -> dict[str, object]:
    """Return the fields of an event as plain data, declared or not; empty ones and internal objects are left out."""
    own = {name: getattr(event, name, None) for name in type(event).model_fields if not name.startswith("_")}
    extra = getattr(event, "_data", None)
    found = {**own, **(extra if isinstance(extra, dict) else {})}
    if type(event).__name__ == "StopEvent" and "result" not in found:
        found["result"] = getattr(event, "result", None)
    return {
        k: simplify_step_value(v, depth + 1)
        for k, v in found.items()
        if k not in _SKIPPED_FIELDS and v is not None and v != []
    }


def find_conversation_id(memory: object) -> str | None:
    """Return the id under which a memory keeps its messages; None if it is LlamaIndex's default, which all share."""
    key = get_nested(memory, "session_id", str) or get_nested(memory, "chat_store_key", str)
    return key if key != "chat_history" else None


def read_answer_text(raw: object) -> object:
    """Return the text of an answer of any class, or the answer as plain data.

    An answer that holds a model of the user's is that model. An agent's structured answer stands beside its text. Only
    strings are read: reading a stream would take its chunks from the caller.
    """
    answer = get_field(raw, "response")
    if isinstance(answer, str):
        return answer
    if answer is not None and _find_own_class(type(answer)) == "ChatMessage":  # type: ignore[arg-type]  # as above
        said, structured = get_nested(answer, "content", str), get_field(raw, "structured_response")
        return said if structured is None else {"response": said, "structured_response": structured}
    if answer is not None and any(cls.__name__ == "PydanticResponse" for cls in type(raw).__mro__):
        return answer
    for path in ("message.content", "content", "text"):
        if (found := get_nested(raw, path, str)) is not None:
            return found
    return parse_json(raw) if isinstance(raw, str) and raw[:1] in {"{", "["} else simplify_step_value(raw)
