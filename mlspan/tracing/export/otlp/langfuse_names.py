"""Langfuse's names for what a span says: an observation's type, its input and output, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...._shape import get_count
from ...operations import semconv as sc
from ...operations.content import to_json
from ..cost import compute_span_cost
from ..dialects.messages import write_text
from ..input_output_names import read_sides

_GENERATIONS: Final = (sc.CHAT, sc.TEXT_COMPLETION, sc.GENERATE_CONTENT, sc.FETCH_RESPONSE)
_TYPES: Final = {
    **dict.fromkeys(_GENERATIONS, "generation"),
    sc.EMBEDDINGS: "embedding",
    sc.RETRIEVAL: "retriever",
    sc.EXECUTE_TOOL: "tool",
    sc.INVOKE_AGENT: "agent",
    sc.CREATE_AGENT: "agent",
    sc.HANDLE_CONVERSATION_TURN: "agent",
    sc.INVOKE_WORKFLOW: "chain",
    sc.PLAN: "chain",
    **dict.fromkeys(("chain", "node", "parser", "reranker"), "chain"),
    **dict.fromkeys(("agent", "tool", "retriever", "embedding", "evaluator", "guardrail"), None),
}
_COUNTS: Final = (sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS)
_PARAMETERS: Final = {
    name: name.removeprefix("gen_ai.request.")
    for name in (
        *(sc.REQUEST_TEMPERATURE, sc.REQUEST_TOP_P, sc.REQUEST_TOP_K, sc.REQUEST_MAX_TOKENS, sc.REQUEST_SEED),
        *(sc.REQUEST_FREQUENCY_PENALTY, sc.REQUEST_PRESENCE_PENALTY, sc.REQUEST_CHOICE_COUNT),
    )
}


def rename_to_langfuse(attributes: Mapping[str, Any], *, is_root: bool) -> Iterator[tuple[str, Any]]:
    """Yield what a span says in Langfuse's names.

    Args:
        attributes: the span's, with the conventions' messages of an agent.
        is_root: whether it is the root of its trace, of which it then tells question, answer and tags.
    """
    kind = str(attributes.get(sc.OPERATION) or attributes.get(sc.KIND) or "")
    yield "langfuse.observation.type", _TYPES.get(kind, "span") or kind
    for side, value in read_sides(attributes):
        text = write_text(value)
        yield f"langfuse.observation.{side}", text
        if is_root:
            yield f"langfuse.trace.{side}", text
    session = attributes.get(sc.SESSION_ID) or attributes.get(sc.CONVERSATION_ID)
    for name, known in (("langfuse.session.id", session), ("langfuse.user.id", attributes.get(sc.USER_ID))):
        if known is not None:
            yield name, known
    if is_root:
        for name, value in attributes.items():
            if name.startswith(sc.TAG_PREFIX):
                yield f"langfuse.trace.metadata.{name.removeprefix(sc.TAG_PREFIX)}", value
    yield from _describe_model_call(attributes)


def _describe_model_call(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield model, parameters, tokens and cost of a call to a model; nothing of an agent, which sums up."""
    if attributes.get(sc.OPERATION) not in {*_GENERATIONS, sc.EMBEDDINGS}:
        return
    model = attributes.get(sc.RESPONSE_MODEL) or attributes.get(sc.REQUEST_MODEL)
    if model is not None:
        yield "langfuse.observation.model.name", model
    parameters = {short: attributes[name] for name, short in _PARAMETERS.items() if name in attributes}
    if parameters:
        yield "langfuse.observation.model.parameters", to_json(parameters)
    if usage := _split_usage(attributes):
        yield "langfuse.observation.usage_details", to_json(usage)
        cost = compute_span_cost(attributes)
        if cost is not None:
            yield "langfuse.observation.cost_details", to_json({"total": cost["total_cost"]})


def _split_usage(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens by kind, as Langfuse adds them up: the input is without that of a cache."""
    names = (sc.USAGE_CACHE_READ_INPUT_TOKENS, sc.USAGE_CACHE_WRITE_INPUT_TOKENS, *_COUNTS)
    read, written, given, made = [get_count(attributes, name) or 0 for name in names]
    if not given and not made:
        return {}
    usage = {"input": max(given - read - written, 0), "output": made, "total": given + made}
    kinds = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    return usage | {kind: number for kind, number in kinds.items() if number}
