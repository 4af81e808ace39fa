"""Names that receivers of OTLP read, on spans of ours as they are sent: MLflow and the disk do not get them.

Agents and workflows get the conventions' messages for what they were asked and answered, which is in ``mlspan.input``
and ``mlspan.output`` and may be any value. On demand, or by the receiver, all spans get OpenInference's or Langfuse's
names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from ...._guard import guard
from ...._shape import MOST_COUNTED, get_count
from ...operations import semconv as sc
from ...operations.content import to_json
from ..dialects.dialect import JsonObject, list_values, parse_attribute
from ..dialects.messages import convert_message, join_texts, write_text
from ..input_output_names import read_sides
from ..types import EncodedSpan
from .codec import decode_span
from .encoder import extend_encoded_span
from .langfuse_names import rename_to_langfuse

OPENINFERENCE: Final = "openinference"
LANGFUSE: Final = "langfuse"
_LANGFUSE_PATH: Final = "/api/public/otel"
_OURS: Final = b"\x0a\x06mlspan"  # the name in an encoded scope
_AGENTS: Final = (sc.INVOKE_AGENT.encode(), sc.INVOKE_WORKFLOW.encode())
_KINDS: Final = {
    **dict.fromkeys((sc.CHAT, sc.TEXT_COMPLETION, sc.GENERATE_CONTENT, sc.FETCH_RESPONSE), "LLM"),
    sc.EMBEDDINGS: "EMBEDDING",
    sc.RETRIEVAL: "RETRIEVER",
    sc.EXECUTE_TOOL: "TOOL",
    sc.INVOKE_AGENT: "AGENT",
    sc.CREATE_AGENT: "AGENT",
    "reranker": "RERANKER",
    "guardrail": "GUARDRAIL",
}
_TOKENS: Final = "llm.token_count."
_RENAMED: Final = {
    sc.PROVIDER: "llm.provider",
    sc.USAGE_INPUT_TOKENS: "llm.token_count.prompt",
    sc.USAGE_OUTPUT_TOKENS: "llm.token_count.completion",
    sc.USAGE_CACHE_READ_INPUT_TOKENS: "llm.token_count.prompt_details.cache_read",
    sc.USAGE_CACHE_WRITE_INPUT_TOKENS: "llm.token_count.prompt_details.cache_write",
    sc.TOOL_NAME: "tool.name",
    sc.TOOL_DESCRIPTION: "tool.description",
    sc.AGENT_NAME: "agent.name",
    sc.CONVERSATION_ID: "session.id",
}
_COUNTS: Final = frozenset({sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS})


def add_receiver_names(encoded: EncodedSpan, names: str | None) -> EncodedSpan:
    """Return a span with the names that receivers read beside its own; another library's span as it is.

    *names* is OPENINFERENCE, LANGFUSE, or anything else for neither.
    """
    is_named = names in {OPENINFERENCE, LANGFUSE}
    if _OURS not in encoded.scope or not (is_named or any(word in encoded.span for word in _AGENTS)):
        return encoded
    with guard("naming what a span says for an OTLP receiver"):
        return _add_names(encoded, names)
    return encoded


def find_receiver_names(endpoint: str) -> str | None:
    """Return the dialect of the receiver behind *endpoint*, if its address tells: Langfuse's path, or Arize's hosts."""
    try:
        url = urlsplit(endpoint)
        host = url.hostname or ""
    except ValueError:
        return None
    if url.path.startswith(_LANGFUSE_PATH) or host.endswith("langfuse.com"):
        return LANGFUSE
    return OPENINFERENCE if host.endswith("arize.com") else None


def _add_names(encoded: EncodedSpan, names: str | None) -> EncodedSpan:
    span = decode_span(encoded)
    attributes = span.attributes or {}
    added: dict[str, Any] = dict(_build_agent_messages(attributes))
    found, theirs = {**attributes, **added}, {}
    if names == OPENINFERENCE:
        theirs = {**dict(_rename_to_openinference(found)), **dict(_flatten_messages(found))}
    elif names == LANGFUSE:
        theirs = dict(rename_to_langfuse(found, is_root=span.parent is None))
    added |= {name: value for name, value in theirs.items() if name not in attributes}
    return encoded._replace(span=extend_encoded_span(encoded.span, added, ())) if added else encoded


def _build_agent_messages(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the conventions' messages of an agent or a workflow that has none."""
    if attributes.get(sc.OPERATION) not in {sc.INVOKE_AGENT, sc.INVOKE_WORKFLOW}:
        return
    for own, name, role in ((sc.INPUT, sc.INPUT_MESSAGES, "user"), (sc.OUTPUT, sc.OUTPUT_MESSAGES, "assistant")):
        if own in attributes and name not in attributes:
            messages = _make_messages(parse_attribute(attributes[own]), role)
            if messages:
                yield name, to_json(messages if role == "user" else messages[-1:])


def _make_messages(value: Any, role: str) -> list[JsonObject]:
    """Return any value as messages: those that it holds, else its text, or that of the only thing in it."""
    inside = value.get("messages") if isinstance(value, dict) else value
    if isinstance(inside, list) and inside and all(isinstance(one, dict) and _is_message(one) for one in inside):
        return [message for one in inside if (message := convert_message(one, role))["parts"]]
    if isinstance(value, dict) and _is_message(value):
        return [convert_message(value, role)]
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    text = write_text(value) if value is not None else ""
    return [{"role": role, "parts": [{"type": "text", "content": text}]}] if text else []


def _is_message(value: JsonObject) -> bool:
    return ("role" in value or "type" in value) and ("content" in value or "parts" in value)


def _rename_to_openinference(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a span says in OpenInference's names, but for the messages of a chat."""
    if sc.COUNTED_BY in attributes:  # its tokens are those of other spans
        attributes = {name: it for name, it in attributes.items() if name not in _COUNTS}
    yield "openinference.span.kind", _KINDS.get(str(attributes.get(sc.OPERATION) or attributes.get(sc.KIND)), "CHAIN")
    for ours, theirs in _RENAMED.items():
        value = get_count(attributes, ours) if theirs.startswith(_TOKENS) else attributes.get(ours)
        if value is not None:
            yield theirs, value
    counts = [get_count(attributes, name) for name in (sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS)]
    known = [count for count in counts if count is not None]
    if known:
        yield f"{_TOKENS}total", min(sum(known), MOST_COUNTED)
    model = attributes.get(sc.RESPONSE_MODEL) or attributes.get(sc.REQUEST_MODEL)
    if model is not None:
        yield ("embedding.model_name" if attributes.get(sc.OPERATION) == sc.EMBEDDINGS else "llm.model_name"), model
    for side, value in read_sides(attributes):
        text, is_json = _read_shown(value, side)
        yield f"{side}.value", text
        yield f"{side}.mime_type", "application/json" if is_json else "text/plain"


def _read_shown(value: Any, side: str) -> tuple[str, bool]:
    """Return what a person reads of an input or an output, and whether it is JSON: of messages the last one's text."""
    found = parse_attribute(value)
    if isinstance(found, list) and found and all(isinstance(one, dict) and "parts" in one for one in found):
        wanted = [one for one in found if one.get("role") == ("user" if side == "input" else "assistant")] or found
        if text := _read_message_text(wanted[-1]):
            return text, False
    return (found, False) if isinstance(found, str) else (write_text(value), True)


def _read_message_text(message: JsonObject) -> str:
    return join_texts(part for part in list_values(message.get("parts")) if isinstance(part, dict))


def _flatten_messages(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the messages of a chat, one attribute for each field."""
    if _KINDS.get(str(attributes.get(sc.OPERATION))) != "LLM":
        return
    system = [{"role": "system", "parts": attributes.get(sc.SYSTEM_INSTRUCTIONS)}]
    asked = (system if sc.SYSTEM_INSTRUCTIONS in attributes else []) + list_values(attributes.get(sc.INPUT_MESSAGES))
    for side, messages in (("input", asked), ("output", list_values(attributes.get(sc.OUTPUT_MESSAGES)))):
        for number, one in enumerate(messages):
            message = convert_message(one, "user")
            prefix = f"llm.{side}_messages.{number}.message"
            yield f"{prefix}.role", str(message["role"])
            if text := _read_message_text(message):
                yield f"{prefix}.content", text
            calls = [part for part in message["parts"] if part.get("type") == "tool_call"]
            for at, call in enumerate(calls):
                function = f"{prefix}.tool_calls.{at}.tool_call.function"
                yield f"{function}.name", write_text(call.get("name"))
                yield f"{function}.arguments", write_text(call.get("arguments"))
            answers = [part for part in message["parts"] if part.get("type") == "tool_call_response"]
            if answers:
                yield f"{prefix}.tool_call_id", write_text(answers[0].get("id"))
                yield f"{prefix}.content", write_text(answers[0].get("response", answers[0].get("result")))
