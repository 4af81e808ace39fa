"""Translation of one span to MLflow's attribute names: type, inputs, outputs, model, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import StatusCode

from .. import semconv as sc
from ..content import to_json
from .cost import price
from .mlflow_messages import chat_inputs, chat_outputs, parsed
from .still import NOTHING, Still

Attributes = Mapping[str, Any]

SPAN_TYPE: Final = "mlflow.spanType"
INPUTS: Final = "mlflow.spanInputs"
OUTPUTS: Final = "mlflow.spanOutputs"
USAGE: Final = "mlflow.chat.tokenUsage"
COST: Final = "mlflow.llm.cost"
_WORD: Final = 64  # characters: longer texts are rarely repeated
LONGEST_SESSION: Final = 250  # characters; a server refuses a longer one with the whole request

# For a span with tokens and no cost, MLflow looks up prices on the network. It accepts this as a cost without a number.
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
_PARAMETERS: Final = {  # shown beside the messages, under OpenAI's names
    sc.REQUEST_TEMPERATURE: "temperature",
    sc.REQUEST_TOP_P: "top_p",
    sc.REQUEST_MAX_TOKENS: "max_tokens",
    sc.REQUEST_SEED: "seed",
    sc.REQUEST_CHOICE_COUNT: "n",
    sc.REQUEST_REASONING_LEVEL: "reasoning_effort",
}


class Told(Still):
    """A translated span.

    *stored* is its OTLP form or None; *added* holds the attributes and events to append to that.
    """

    stored: bytes | None = None
    added: tuple[Attributes, Sequence[Event]] = ({}, ())
    counts: tuple[Attributes, Attributes | None] | None = None  # tokens and cost, if known


def translated(span: ReadableSpan, attributes: Attributes, *, counts: bool = True, stored: bytes | None = None) -> Told:
    """Return *span* translated, with MLflow's attributes beside *attributes*. Without *counts* its tokens are removed.

    *stored* is the span's OTLP form, given if *attributes* are the span's own.
    """
    if not counts:
        attributes = {key: value for key, value in attributes.items() if not key.startswith("gen_ai.usage.")}
    usage = _usage(attributes)
    cost = None if usage is None else price(attributes)
    kept, named = _stripped(attributes), _named(attributes, usage, cost)
    translation = with_attributes(span, {**kept, **named})
    if usage is not None:
        translation.counts = usage, cost
    if counts and kept is attributes:
        translation.stored, translation.added = stored, (named, translation.events[len(span.events) :])
    return translation


def with_attributes(span: ReadableSpan, attributes: Attributes) -> Told:
    """Return *span* with other *attributes* and without its resource, which MLflow keeps in the trace's tags."""
    changed = {"_attributes": attributes, "_events": _events(span), "_links": span.links, "_resource": NOTHING}
    return Told.of(span, **changed, stored=None, counts=None)


def _events(span: ReadableSpan) -> tuple[Event, ...]:
    """Return the events of *span*.

    A failure without an exception event gets one, as the viewer marks failures by it.
    """
    if span.status.status_code is not StatusCode.ERROR or any(event.name == "exception" for event in span.events):
        return tuple(span.events)
    attributes = span.attributes or {}
    exception = {
        "exception.type": str(attributes.get(sc.ERROR_TYPE, "_OTHER")),
        "exception.message": span.status.description or "",
    }
    return (*span.events, Event("exception", exception, span.end_time))


def _stripped(attributes: Attributes) -> Attributes:
    """Return *attributes* without MLflow's own trace attributes and with session ids cut, as others damage a trace."""
    cut = {
        name: str(attributes[name])[:LONGEST_SESSION]
        for name in (sc.SESSION_ID, sc.CONVERSATION_ID)
        if name in attributes
    }
    if "mlflow." not in "\n".join(attributes) and all(attributes[name] == text for name, text in cut.items()):
        return attributes
    return {key: value for key, value in attributes.items() if not key.startswith("mlflow.trace")} | cut


def told(resource: Resource) -> Iterator[tuple[str, str]]:
    """Yield the tags that MLflow makes of a resource, except for those that tell a person nothing."""
    for key, value in resource.attributes.items():
        is_dull = key.startswith(("service.instance.id", "telemetry.", "mlflow."))
        if not is_dull and not (key == "service.name" and str(value).startswith("unknown_service")):
            yield key, value if isinstance(value, str) else to_json(value)


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return to_json(text)


def _named(attributes: Attributes, usage: Attributes | None, cost: Attributes | None) -> dict[str, str]:
    """Return MLflow's attributes for a span, each as JSON text."""
    inputs, outputs, is_chat = _said(attributes)
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
    written = {
        key: _quoted(value) if type(value) is str and len(value) < _WORD else to_json(value)
        for key, value in named.items()
        if value is not None
    }
    if usage is not None:
        written[COST] = _UNPRICED if cost is None else to_json(cost)
    return written


def span_type(attributes: Attributes) -> str:
    """Return MLflow's span type, such as CHAT_MODEL; UNKNOWN for a plain step."""
    operation = attributes.get(sc.OPERATION)
    if operation is not None:
        return _TYPES.get(str(operation), str(operation).upper())
    kind = str(attributes.get(sc.KIND, "step"))
    return "UNKNOWN" if kind == "step" else kind.upper()


def _said(attributes: Attributes) -> tuple[Any, Any, bool]:
    """Return inputs, outputs, and True if they are a chat."""
    get = attributes.get
    messages, answer = get(sc.INPUT_MESSAGES), get(sc.OUTPUT_MESSAGES)
    if messages is not None or answer is not None:
        inputs = chat_inputs(messages, get(sc.SYSTEM_INSTRUCTIONS), get(sc.TOOL_DEFINITIONS))
        if inputs is not None:
            model = {"model": get(sc.REQUEST_MODEL)} if get(sc.REQUEST_MODEL) else {}
            inputs |= model | {short: it for name, short in _PARAMETERS.items() if (it := get(name)) is not None}
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
    """Return documents in the form that the viewer shows: ``page_content``, ``metadata`` and ``id``."""
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
    """Return MLflow's token counts. Input tokens include those read from the cache."""
    input_tokens, output_tokens = attributes.get(sc.USAGE_INPUT_TOKENS), attributes.get(sc.USAGE_OUTPUT_TOKENS)
    if not isinstance(input_tokens, int) and not isinstance(output_tokens, int):
        return None
    input_tokens, output_tokens = input_tokens or 0, output_tokens or 0
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    for name, short in (
        (sc.USAGE_CACHE_READ_INPUT_TOKENS, "cache_read_input_tokens"),
        (sc.USAGE_CACHE_WRITE_INPUT_TOKENS, "cache_creation_input_tokens"),
    ):
        if isinstance(count := attributes.get(name), int):
            usage[short] = count
    return usage
