"""A span in MLflow's names: its type, inputs, outputs, model, tokens and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from .. import semconv as sc
from ..content import to_json
from .cost import Cost, cost
from .mlflow_messages import chat_inputs, chat_outputs, parsed

Attributes = Mapping[str, Any]

SPAN_TYPE: Final = "mlflow.spanType"
INPUTS: Final = "mlflow.spanInputs"
OUTPUTS: Final = "mlflow.spanOutputs"
USAGE: Final = "mlflow.chat.tokenUsage"
COST: Final = "mlflow.llm.cost"
LONGEST_SESSION: Final = 250  # a longer one is refused, with all that is in the same request

# Where a span has tokens and no cost, MLflow looks for the price on the network. This is a cost to it, yet no number.
_UNPRICED: Final = '{"input_cost": NaN, "output_cost": NaN, "total_cost": NaN}'

_TYPES: Final = {
    sc.CHAT: "CHAT_MODEL",
    "generate_content": "CHAT_MODEL",
    sc.TEXT_COMPLETION: "LLM",
    sc.EMBEDDINGS: "EMBEDDING",
    sc.RETRIEVAL: "RETRIEVER",
    sc.EXECUTE_TOOL: "TOOL",
    sc.INVOKE_AGENT: "AGENT",
    sc.CREATE_AGENT: "AGENT",
    sc.INVOKE_WORKFLOW: "WORKFLOW",
    sc.FETCH_RESPONSE: "LLM",
}
_PARAMETERS: Final = {  # shown beside the messages, under the names that OpenAI gives them
    sc.REQUEST_TEMPERATURE: "temperature",
    sc.REQUEST_TOP_P: "top_p",
    sc.REQUEST_MAX_TOKENS: "max_tokens",
    sc.REQUEST_SEED: "seed",
    sc.REQUEST_CHOICE_COUNT: "n",
    sc.REQUEST_REASONING_LEVEL: "reasoning_effort",
}


def translated(span: ReadableSpan, *, counts: bool = True) -> ReadableSpan:
    """*span* with MLflow's attributes beside its own; without its tokens where they do not count."""
    attributes = span.attributes or {}
    if not counts:
        attributes = {key: value for key, value in attributes.items() if not key.startswith("gen_ai.usage.")}
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=_resource(span.resource),
        attributes={**_stripped(attributes), **_named(attributes)},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _stripped(attributes: Attributes) -> Attributes:
    """What harms a trace there: MLflow's own names from elsewhere, and a session id that is too long."""
    kept = {key: value for key, value in attributes.items() if not key.startswith("mlflow.trace")}
    for name in (sc.SESSION_ID, sc.CONVERSATION_ID):
        if name in kept:
            kept[name] = str(kept[name])[:LONGEST_SESSION]
    return kept


def _resource(resource: Resource) -> Resource:
    """MLflow shows every resource attribute as a tag of the trace: those that say nothing to a person are left out."""
    dull = ("service.instance.id", "telemetry.")
    named = {key: value for key, value in resource.attributes.items() if not key.startswith(dull)}
    if str(named.get("service.name", "")).startswith("unknown_service"):
        del named["service.name"]
    return Resource(named)


def _named(attributes: Attributes) -> dict[str, str]:
    inputs, outputs, is_chat = _said(attributes)
    usage = _usage(attributes)
    named: dict[str, Any] = {
        SPAN_TYPE: span_type(attributes),
        INPUTS: inputs,
        OUTPUTS: outputs,
        "mlflow.message.format": "openai" if is_chat else None,
        "mlflow.chat.tools": inputs.get("tools") if is_chat and isinstance(inputs, dict) else None,
        "mlflow.llm.model": attributes.get(sc.RESPONSE_MODEL) or attributes.get(sc.REQUEST_MODEL),
        "mlflow.llm.provider": attributes.get(sc.PROVIDER),
        USAGE: usage,
    }
    written = {key: to_json(value) for key, value in named.items() if value is not None}
    if usage is not None:
        price = _cost(attributes, usage)
        written[COST] = _UNPRICED if price is None else to_json(price)
    return written


def span_type(attributes: Attributes) -> str:
    operation = attributes.get(sc.OPERATION)
    if operation is not None:
        return _TYPES.get(str(operation), str(operation).upper())
    kind = str(attributes.get(sc.KIND, "step"))
    return "UNKNOWN" if kind == "step" else kind.upper()


def _said(attributes: Attributes) -> tuple[Any, Any, bool]:
    """Inputs, outputs, and whether they are a chat."""
    get = attributes.get
    messages, answer = get(sc.INPUT_MESSAGES), get(sc.OUTPUT_MESSAGES)
    if messages is not None or answer is not None:
        inputs = chat_inputs(messages, get(sc.SYSTEM_INSTRUCTIONS), get(sc.TOOL_DEFINITIONS))
        if inputs is not None:
            model = {"model": get(sc.REQUEST_MODEL)} if get(sc.REQUEST_MODEL) else {}
            inputs |= model | {short: get(name) for name, short in _PARAMETERS.items() if get(name) is not None}
        return inputs, chat_outputs(answer), True
    for asked, got in _PAIRS:
        if asked in attributes or got in attributes:
            outputs = parsed(get(got))
            return parsed(get(asked)), _documents(outputs) if got == sc.RETRIEVAL_DOCUMENTS else outputs, False
    return None, None, False


_PAIRS: Final = [
    (sc.TOOL_CALL_ARGUMENTS, sc.TOOL_CALL_RESULT),
    (sc.RETRIEVAL_QUERY, sc.RETRIEVAL_DOCUMENTS),
    (sc.INPUT, sc.OUTPUT),
    (sc.FIT_PARAMS, sc.FIT_METRICS),
]


def _documents(found: Any) -> Any:
    """What the viewer shows as documents: ``page_content``, ``metadata`` and ``id``."""
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        return found
    taken = ("id", "content", "page_content")
    return [
        {
            "page_content": item.get("content", item.get("page_content", "")),
            "metadata": {
                **item.get("metadata", {}),
                **{k: v for k, v in item.items() if k not in (*taken, "metadata")},
            },
            "id": item.get("id"),
        }
        for item in found
    ]


def _usage(attributes: Attributes) -> dict[str, int] | None:
    """MLflow's token counts: input includes what was read from the cache."""
    given, taken = attributes.get(sc.USAGE_INPUT_TOKENS), attributes.get(sc.USAGE_OUTPUT_TOKENS)
    if not isinstance(given, int) and not isinstance(taken, int):
        return None
    given, taken = given or 0, taken or 0
    usage = {"input_tokens": given, "output_tokens": taken, "total_tokens": given + taken}
    for name, short in (
        (sc.USAGE_CACHE_READ_INPUT_TOKENS, "cache_read_input_tokens"),
        (sc.USAGE_CACHE_WRITE_INPUT_TOKENS, "cache_creation_input_tokens"),
    ):
        if isinstance(count := attributes.get(name), int):
            usage[short] = count
    return usage


def _cost(attributes: Attributes, usage: dict[str, int]) -> Cost | None:
    for model in (attributes.get(sc.RESPONSE_MODEL), attributes.get(sc.REQUEST_MODEL)):
        if isinstance(model, str):
            provider = attributes.get(sc.PROVIDER)
            found = cost(
                provider if isinstance(provider, str) else None,
                model,
                usage["input_tokens"],
                usage["output_tokens"],
                usage.get("cache_read_input_tokens", 0),
                usage.get("cache_creation_input_tokens", 0),
            )
            if found is not None:
                return found
    return None
