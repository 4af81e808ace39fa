"""Translation of one span to MLflow's attribute names: type, inputs, outputs, model, tokens and cost."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, repeat
from operator import contains
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

from ...._bounded import MAX_CACHED_TEXT
from ...._guard import guard, warn_once
from ...._shape import MOST_COUNTED, get_count
from ...operations import semconv as sc
from ...operations.content import parsed_to_json, replace_surrogates, to_json
from ...operations.sessions import cut_session
from ...otel.frozen_span import EMPTY_RESOURCE, FrozenSpan
from ..cost import compute_span_cost
from ..dialects.catalog import USAGE_PREFIXES
from ..dialects.dialect import parse_attribute
from ..input_output_names import INPUT_OUTPUT_PAIRS
from ..memory import estimate_size
from .messages import make_chat_inputs, make_chat_outputs
from .names import COST, INPUTS, MODEL, OUTPUTS, SPAN_TYPE, TOKEN_USAGE
from .trainings import describe_training

Attributes = Mapping[str, Any]

PROVIDER: Final = "mlflow.llm.provider"
MESSAGE_FORMAT: Final = "mlflow.message.format"
CHAT_TOOLS: Final = "mlflow.chat.tools"
MISSING_PARENT: Final = "mlspan.missing_parent"  # of a span stored as a root: its parent's id, 16 hexadecimal digits
PREVIEW: Final = "mlspan.preview"  # of a root that holds but its trace's previews, until the real one replaces it
UNCOUNTED_USAGE: Final = "mlspan.uncounted_usage"  # likewise, its own tokens, which count nowhere
UNREADABLE: Final = "mlspan.unreadable"  # what of a span could not be put in MLflow's names, and why
# The attributes whose value is JSON text.
JSON_ATTRIBUTES: Final = frozenset(
    {SPAN_TYPE, INPUTS, OUTPUTS, TOKEN_USAGE, COST, MODEL, PROVIDER, MESSAGE_FORMAT, CHAT_TOOLS, UNREADABLE}
    | {UNCOUNTED_USAGE}
)
_NUMBERS: Final = frozenset({int, float, bool})
MAX_SESSION_LENGTH: Final = 250  # a longer one is refused, with all that is in the same request

# For a span with tokens and no cost, MLflow looks up prices on the network. It accepts this as a cost without a number.
_UNKNOWN_COST: Final = '{"input_cost": NaN, "output_cost": NaN, "total_cost": NaN}'

_SPAN_TYPES: Final = {
    sc.CHAT: "CHAT_MODEL",
    sc.GENERATE_CONTENT: "CHAT_MODEL",
    sc.TEXT_COMPLETION: "LLM",
    sc.EMBEDDINGS: "EMBEDDING",
    sc.RETRIEVAL: "RETRIEVER",
    sc.EXECUTE_TOOL: "TOOL",
    sc.INVOKE_AGENT: "AGENT",
    sc.CREATE_AGENT: "AGENT",
    sc.INVOKE_WORKFLOW: "WORKFLOW",
    sc.FETCH_RESPONSE: "LLM",
    sc.PLAN: "CHAIN",
    **dict.fromkeys(sc.MEMORY_OPERATIONS, "MEMORY"),
    sc.HANDLE_CONVERSATION_TURN: "AGENT",
    "execute_task": "TASK",  # of LangGraph, by OpenLLMetry
    "rerank": "RERANKER",
    "response": "LLM",
}
_PARAMETERS: Final = {  # shown beside the messages, under OpenAI's names
    sc.REQUEST_TEMPERATURE: "temperature",
    sc.REQUEST_TOP_P: "top_p",
    sc.REQUEST_MAX_TOKENS: "max_tokens",
    sc.REQUEST_SEED: "seed",
    sc.REQUEST_CHOICE_COUNT: "n",
    sc.REQUEST_REASONING_LEVEL: "reasoning_effort",
}


class TranslatedSpan(FrozenSpan):
    """A translated span.

    *stored* is its OTLP form or None; *added* holds the attributes and events to append to that.
    """

    stored: bytes | None = None
    added: tuple[Attributes, Sequence[Event]] = ({}, ())
    counts: tuple[Attributes, Attributes | None] | None = None  # tokens and cost, if known


def translate_span(span: ReadableSpan, attributes: Attributes, *, stored: bytes | None = None) -> TranslatedSpan:
    """Return *span* translated, with MLflow's attributes beside *attributes*.

    *stored* is the span's OTLP form, given if *attributes* are the span's own.
    """
    name, own = storable(span.name), attributes
    attributes = _storable_values(attributes)
    usage = _read_token_usage(attributes)
    cost = None if usage is None else compute_span_cost(attributes)
    kept, named = _remove_harmful_attributes(attributes), _build_mlflow_attributes(attributes, usage, cost)
    if usage is None and (sc.USAGE_INPUT_TOKENS in kept or sc.USAGE_OUTPUT_TOKENS in kept):
        kept = _set_counts_aside(kept)
    translation = replace_attributes(span, {**kept, **named}, name)
    if usage is not None:
        translation.counts = usage, cost
    if sc.COUNTED_BY in own:  # an agent that adds up the calls below it
        return remove_counts(translation, str(own[sc.COUNTED_BY]))
    if kept is own and name == span.name:
        translation.stored, translation.added = stored, (named, translation.events[len(span.events) :])
    return translation


def remove_counts(span: TranslatedSpan, counted_by: int | str) -> TranslatedSpan:
    """Return *span* without tokens and cost, which *counted_by* has; what they were stays to be read."""
    usage, _ = span.counts or (None, None)
    attributes = {
        name: value
        for name, value in (span.attributes or {}).items()
        if not name.startswith(USAGE_PREFIXES) and name not in {TOKEN_USAGE, COST}
    }
    attributes[sc.COUNTED_BY] = counted_by if isinstance(counted_by, str) else f"{counted_by:016x}"
    if usage is not None:
        attributes[UNCOUNTED_USAGE] = to_json(usage)
    made = TranslatedSpan.copy_span(span, attributes=attributes)
    made.stored = made.counts = None
    return made


def _set_counts_aside(attributes: Attributes) -> Attributes:
    """Return *attributes* with counts that are none, such as negative ones, as a text: MLflow would add them up."""
    counts = {name: value for name, value in attributes.items() if name.startswith(USAGE_PREFIXES)}
    others = {name: value for name, value in attributes.items() if name not in counts}
    return others | {UNCOUNTED_USAGE: to_json({name: str(value) for name, value in counts.items()})}


def measure_span(span: TranslatedSpan) -> int:
    """Return about how many bytes a span takes in a request."""
    return len(span.stored) if span.stored is not None else estimate_size(span)


def measure_spans(spans: Iterable[TranslatedSpan]) -> int:
    """Return about how many bytes *spans* take in a request."""
    return sum(map(measure_span, spans))


def replace_attributes(span: ReadableSpan, attributes: Attributes, name: str | None = None) -> TranslatedSpan:
    """Return *span* with these attributes and this name, and no resource: of that, MLflow keeps the tags of a trace."""
    made = TranslatedSpan.from_span(
        span,
        name=span.name if name is None else name,
        attributes=attributes,
        events=_add_exception_event(span),
        links=span.links,
        resource=EMPTY_RESOURCE,
        status=_status(span.status),
    )
    made.stored = made.counts = None  # of *span*, if it was translated before
    return made


def storable(text: str) -> str:
    """Return *text* as every database of MLflow's takes it: PostgreSQL's have no NUL, and none has half a character."""
    if "\0" in text:
        warn_once("mlspan: MLflow's databases may have no NUL characters: they are stored as \u2400")
        text = text.replace("\0", "\u2400")
    return replace_surrogates(text)


_NUL_IN_JSON: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _storable_value(value: Any) -> Any:
    if isinstance(value, str):
        if "\\u0000" in value and value.startswith(("{", "[", '"')):
            value = _NUL_IN_JSON.sub(lambda found: found[1] + storable("\0"), value)
        return storable(value)
    return tuple(map(_storable_value, value)) if isinstance(value, (list, tuple)) else value


def _are_storable(values: Collection[Any]) -> bool:
    """Return True if *values* are numbers, texts and tuples of texts in which nothing has to be mended.

    It runs in C, as a loop would take several times as long.
    """
    if not _STORABLE_TYPES.issuperset(map(type, values)):
        return False
    texts = [*filter(str.__instancecheck__, values), *chain.from_iterable(filter(tuple.__instancecheck__, values))]
    try:
        is_ascii = all(map(str.isascii, texts))
    except TypeError:  # a tuple of something else
        return False
    return is_ascii and not any(map(contains, texts, _NULS)) and not any(map(contains, texts, _ESCAPED_NULS))


_STORABLE_TYPES: Final = frozenset({str, int, float, bool, tuple})
_NULS: Final = repeat("\0")
_ESCAPED_NULS: Final = repeat("\\u0000")


def _storable_values(attributes: Attributes) -> Attributes:
    """Return *attributes* itself where there is nothing to mend."""
    if _are_storable(attributes.values()) and "\0" not in "".join(attributes):
        return attributes
    mended = {}
    for name, value in attributes.items():
        kind = type(value)
        if (kind is str and value.isascii() and "\0" not in value and "\\u0000" not in value) or kind in _NUMBERS:
            continue
        if (form := _storable_value(value)) != value:
            mended[name] = form
    if not mended and "\0" not in "".join(attributes):
        return attributes
    return {storable(name): mended.get(name, value) for name, value in attributes.items()}


def _status(status: Status) -> Status:
    why = status.description
    return status if not why or (left := storable(why)) == why else Status(status.status_code, left)


def _add_exception_event(span: ReadableSpan) -> tuple[Event, ...]:
    """Return the events of *span*. A failure without an exception gets one, as the viewer shows failures by that."""
    events = tuple(map(_storable_event, span.events))
    if span.status.status_code is not StatusCode.ERROR or any(event.name == "exception" for event in events):
        return events
    attributes = span.attributes or {}
    said = {
        "exception.type": storable(str(attributes.get(sc.ERROR_TYPE, sc.ERROR_OTHER))),
        "exception.message": storable(span.status.description or ""),
    }
    return (*events, Event("exception", said, span.end_time))


def _storable_event(event: Event) -> Event:
    name, own = storable(event.name), event.attributes or {}
    attributes = _storable_values(own)
    return event if name == event.name and attributes is own else Event(name, attributes, event.timestamp)


def _remove_harmful_attributes(attributes: Attributes) -> Attributes:
    """Return *attributes* without MLflow's own trace attributes and with session ids cut, as others damage a trace."""
    cut = {
        name: cut_session(attributes[name], MAX_SESSION_LENGTH) or ""
        for name in (sc.SESSION_ID, sc.CONVERSATION_ID)
        if name in attributes
    }
    if "mlflow." not in "\n".join(attributes) and all(attributes[name] == text for name, text in cut.items()):
        return attributes
    return {key: value for key, value in attributes.items() if not key.startswith("mlflow.trace")} | cut


def read_resource_tags(resource: Resource) -> Iterator[tuple[str, str]]:
    """Yield the tags that MLflow makes of a resource, except for those that tell a person nothing."""
    for key, value in resource.attributes.items():
        is_dull = key.startswith(("service.instance.id", "telemetry.", "mlflow."))
        if not is_dull and not (key == "service.name" and str(value).startswith("unknown_service")):
            yield key, value if isinstance(value, str) else to_json(value)


@lru_cache(maxsize=1024)
def _quote_short_text(text: str) -> str:
    return to_json(text)


def _build_mlflow_attributes(
    attributes: Attributes, usage: Attributes | None, cost: Attributes | None
) -> dict[str, str]:
    inputs, outputs, is_chat, unreadable = _read_inputs_and_outputs(attributes)
    named: dict[str, Any] = {
        SPAN_TYPE: find_span_type(attributes),
        INPUTS: inputs,
        OUTPUTS: outputs,
        MESSAGE_FORMAT: "openai" if is_chat else None,
        CHAT_TOOLS: inputs.get("tools") if is_chat and isinstance(inputs, dict) else None,
        MODEL: attributes.get(sc.RESPONSE_MODEL) or attributes.get(sc.REQUEST_MODEL),
        PROVIDER: attributes.get(sc.PROVIDER),
        TOKEN_USAGE: usage,
        UNREADABLE: unreadable,
    }
    written = {
        key: _quote_short_text(value) if type(value) is str and len(value) < MAX_CACHED_TEXT else parsed_to_json(value)
        for key, value in named.items()
        if value is not None
    }
    if usage is not None:
        written[COST] = _UNKNOWN_COST if cost is None else parsed_to_json(cost)
    return written


def find_span_type(attributes: Attributes) -> str:
    """Return MLflow's span type, such as CHAT_MODEL; UNKNOWN for a plain step and for an operation that is unknown."""
    operation = attributes.get(sc.OPERATION)
    if operation is not None:
        is_generation = sc.USAGE_OUTPUT_TOKENS in attributes
        return _SPAN_TYPES.get(str(operation).lower(), "LLM" if is_generation else "UNKNOWN")
    kind = str(attributes.get(sc.KIND, "step"))
    return "UNKNOWN" if kind == "step" else kind.upper()


def bare(span: ReadableSpan, attributes: Attributes, error: BaseException | None) -> TranslatedSpan:
    """Return *span* with as much as can be said of one whose translation has failed, and what has failed."""
    kept = {name: value for name, value in attributes.items() if not name.startswith("mlflow.")}
    why = to_json(f"all but what was recorded ({type(error).__name__})")
    return replace_attributes(span, {**kept, SPAN_TYPE: to_json("UNKNOWN"), UNREADABLE: why})


def _read_inputs_and_outputs(attributes: Attributes) -> tuple[Any, Any, bool, str | None]:
    """Return inputs, outputs, whether they are a chat, and what of them could not be read: that is as recorded."""
    with (reading := guard("reading a span's content for MLflow")):
        return *_read(attributes), None
    asked, answered = attributes.get(sc.INPUT_MESSAGES), attributes.get(sc.OUTPUT_MESSAGES)
    return asked, answered, False, f"inputs and outputs ({type(reading.error).__name__})"


def _read(attributes: Attributes) -> tuple[Any, Any, bool]:
    get = attributes.get
    messages, answer = get(sc.INPUT_MESSAGES), get(sc.OUTPUT_MESSAGES)
    if messages is not None or answer is not None:
        inputs = make_chat_inputs(messages, get(sc.SYSTEM_INSTRUCTIONS), get(sc.TOOL_DEFINITIONS))
        if inputs is not None:
            model = {"model": get(sc.REQUEST_MODEL)} if get(sc.REQUEST_MODEL) else {}
            inputs |= model | {short: it for name, short in _PARAMETERS.items() if (it := get(name)) is not None}
        return inputs, make_chat_outputs(answer), True
    for asked, got in INPUT_OUTPUT_PAIRS:
        if asked in attributes or got in attributes:
            outputs = parse_attribute(get(got))
            return (
                parse_attribute(get(asked)),
                _convert_documents(outputs) if got == sc.RETRIEVAL_DOCUMENTS else outputs,
                False,
            )
    return *describe_training(attributes), False


def _convert_documents(found: Any) -> Any:
    """Return documents in the form that the viewer shows: ``page_content``, ``metadata`` and ``id``."""
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        return found
    taken = ("id", "content", "page_content")
    return [
        {
            "page_content": item.get("content", item.get("page_content", "")),
            "metadata": {
                **(known if isinstance(known := item.get("metadata"), dict) else {}),
                **{k: v for k, v in item.items() if k not in (*taken, "metadata")},
            },
            "id": item.get("id"),
        }
        for item in found
    ]


def _read_token_usage(attributes: Attributes) -> dict[str, int] | None:
    """Return MLflow's token counts. Input tokens include those read from the cache."""
    given, made = get_count(attributes, sc.USAGE_INPUT_TOKENS), get_count(attributes, sc.USAGE_OUTPUT_TOKENS)
    if given is None and made is None:
        return None
    given, made = given or 0, made or 0
    usage = {"input_tokens": given, "output_tokens": made, "total_tokens": min(given + made, MOST_COUNTED)}
    for name, short in (
        (sc.USAGE_CACHE_READ_INPUT_TOKENS, "cache_read_input_tokens"),
        (sc.USAGE_CACHE_WRITE_INPUT_TOKENS, "cache_creation_input_tokens"),
    ):
        if (count := get_count(attributes, name)) is not None:
            usage[short] = count
    return usage
