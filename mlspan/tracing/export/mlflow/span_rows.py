"""Rows of spans for a bulk insert, as MLflow's ``log_spans`` writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

from ...._bounded import CACHED_TYPES, MAX_CACHED_TEXT
from ...._guard import guard
from ...operations.content import to_json
from ..dialects.catalog import is_own_span
from .names import COST, INPUTS, MODEL, OUTPUTS, SPAN_TYPE, TOKEN_USAGE
from .spans import PROVIDER, replace_attributes

Row = dict[str, Any]

TRACE_REQUEST_ID: Final = "mlflow.traceRequestId"
_QUOTE: Final = '"'
_JSON_OPENINGS: Final = ("{", "[", '"')
_IN_ROWS: Final = (MODEL, PROVIDER, COST)  # attributes that have columns of their own
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode  # with MLflow's spaces: its filters search this text


class SpanContent(NamedTuple):
    """The JSON text that MLflow stores for a span, and attributes in it as JSON text: those of the row at least."""

    text: str
    attributes: Mapping[str, Any]
    has_new_totals: bool = False  # MLflow has found inputs, outputs, tokens or cost in another library's span


class StoredForm(NamedTuple):
    """The form in which MLflow's ``log_spans`` stores a span, which depends on MLflow's version."""

    names_kind: bool  # since 3.18
    strips_text: bool  # text that is JSON is stored as what it holds; since 3.18 only a server does that


class SpanRows:
    """Builds rows of spans of one experiment. It holds those functions of MLflow's that bound their values."""

    def __init__(self, experiment_id: str) -> None:
        from mlflow.store.tracking.utils.trace_analytics import bounded_model_dimension, finite_float_or_none

        self._experiment_id = int(experiment_id)
        self._bound_name, self._bound_number = bounded_model_dimension, finite_float_or_none

    def build_row(self, trace_id: str, span: ReadableSpan, content: SpanContent) -> Row:
        """Return the row of *span*, whose content is *content*."""
        get, number = content.attributes.get, self._bound_number
        cost = _parse_json(get(COST))
        cost = cost if isinstance(cost, dict) else {}
        context: Any = span.get_span_context()
        return {
            "trace_id": trace_id,
            "experiment_id": self._experiment_id,
            "span_id": f"{context.span_id:016x}",
            "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
            "name": span.name,
            "type": _parse_short((span.attributes or {}).get(SPAN_TYPE)),
            "status": span.status.status_code.name,
            "start_time_unix_nano": span.start_time,
            "end_time_unix_nano": span.end_time,
            "content": content.text,
            "input_cost": number(cost.get("input_cost")),
            "output_cost": number(cost.get("output_cost")),
            "total_cost": number(cost.get("total_cost")),
            "model_name": self._bound_name(_parse_short(get(MODEL))),
            "model_provider": self._bound_name(_parse_short(get(PROVIDER))),
        }


@lru_cache(maxsize=1)
def find_stored_form() -> StoredForm:
    """Have MLflow make what it would store of a small span, and return what that shows."""
    from mlflow.entities import Span

    try:
        from mlflow.tracing.otel.translation import translate_span_when_storing
    except ImportError:  # an old MLflow stores spans as they come
        return StoredForm(names_kind=False, strips_text=False)
    context = SpanContext(1, 1, is_remote=False)
    attributes = {TRACE_REQUEST_ID: to_json(f"tr-{1:032x}"), "text": to_json("[]")}
    resource = Resource({})  # the default one is made by threads, which cannot start as the interpreter ends
    with guard("asking MLflow how it stores a span"):
        span = ReadableSpan("probe", context, resource=resource, attributes=attributes, start_time=1)
        stored = translate_span_when_storing(Span(span))
        return StoredForm("kind" in stored, strips_text=stored["attributes"]["text"] == "[]")
    return StoredForm(names_kind=False, strips_text=True)


def build_content(trace_id: str, span: ReadableSpan) -> SpanContent:
    """Return what MLflow stores for *span*."""
    if is_own_span(span):
        return _build_own_content(trace_id, span)
    from mlflow.entities import Span
    from mlflow.tracing.otel.translation import translate_span_when_storing

    # MLflow's translation knows the attribute names of a dozen other SDKs.
    content = dict(translate_span_when_storing(Span(prepare_for_database(span, trace_id))))
    attributes, before = content["attributes"], span.attributes or {}
    is_new = any(name in attributes and name not in before for name in (INPUTS, OUTPUTS, TOKEN_USAGE, COST))
    return SpanContent(_encode(content), attributes, is_new)


def _build_own_content(trace_id: str, span: ReadableSpan) -> SpanContent:
    """Return the content of one of our own spans. It already holds all attributes that MLflow would derive.

    The text is put together from attributes that are encoded already: of most, a span before had the same.
    """
    context: Any = span.get_span_context()
    attributes = {**(span.attributes or {}), TRACE_REQUEST_ID: to_json(trace_id)}
    encoded = [
        _encode_short(key, value)
        if type(value) in CACHED_TYPES or (type(value) is str and len(value) < MAX_CACHED_TEXT)
        else _encode_attribute(key, value)
        for key, value in attributes.items()
    ]
    parent = f'"{_id_to_base64(span.parent.span_id, 8)}"' if span.parent else "null"
    start, end = ("null" if at is None else at for at in (span.start_time, span.end_time))
    events = _encode([_build_event(event) for event in span.events]) if span.events else "[]"
    links = _encode([_build_link(link) for link in span.links]) if span.links else "[]"
    kind = f'"kind": "SPAN_KIND_{span.kind.name}", ' if find_stored_form().names_kind else ""
    text = (
        f'{{"trace_id": "{_id_to_base64(context.trace_id, 16)}", "span_id": "{_id_to_base64(context.span_id, 8)}", '
        f'"parent_span_id": {parent}, "name": {_encode(span.name)}, {kind}"start_time_unix_nano": {start}, '
        f'"end_time_unix_nano": {end}, "events": {events}, '
        f'"status": {{"code": "STATUS_CODE_{span.status.status_code.name}", '
        f'"message": {_encode(span.status.description or "")}}}, '
        f'"attributes": {{{", ".join(encoded)}}}, "links": {links}}}'
    )
    return SpanContent(
        text, {name: _convert_to_json(name, attributes[name]) for name in _IN_ROWS if name in attributes}
    )


def _build_event(event: Event) -> Row:
    return {"name": event.name, "time_unix_nano": event.timestamp, "attributes": dict(event.attributes or {})}


def _build_link(link: Link) -> Row:
    return {
        "trace_id": f"tr-{link.context.trace_id:032x}",
        "span_id": f"{link.context.span_id:016x}",
        "attributes": dict(link.attributes) if link.attributes else None,
    }


def _encode_attribute(key: str, value: Any) -> str:
    """Return an attribute as a member of a JSON object: its value is a text, which is JSON itself."""
    return f"{_encode(key)}: {_encode(_convert_to_json(key, value))}"


def _convert_to_json(key: str, value: Any) -> str:
    """Return a value as JSON text.

    Text that is JSON itself (an object, a list, a string) is kept, as MLflow does.
    """
    if key.startswith("mlflow."):
        text = str(value)
        value = _parse_json(text) if text.startswith(_QUOTE) else None
    else:
        text = to_json(value)
    return value if isinstance(value, str) and _holds_json(value) else text


def _holds_json(text: str) -> bool:
    return text.lstrip().startswith(_JSON_OPENINGS) and _parse_json(text) is not text


def _parse_json(text: Any) -> Any:
    """Return the value of JSON text; anything else unchanged."""
    try:
        return orjson.loads(text)  # a fifth of the time
    except (TypeError, ValueError):  # or JSON of Python's own, with NaN or half a character
        pass
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


_encode_short: Final = lru_cache(maxsize=4096, typed=True)(_encode_attribute)
_parse_short: Final = lru_cache(maxsize=256, typed=True)(_parse_json)


def _id_to_base64(id: int, length: int) -> str:
    return base64.b64encode(id.to_bytes(length, "big")).decode("ascii")


def prepare_for_database(span: ReadableSpan, trace_id: str) -> ReadableSpan:
    """Return *span* as ``log_spans`` needs it, so that a database has what a server stores of it.

    Text that is JSON itself is then structure, which MLflow's pages show as such and its filters find.
    """
    prepared = prepare_for_mlflow_span(span, trace_id)
    if find_stored_form().strips_text:
        return prepared
    own = span.attributes or {}
    stripped = {
        key: _convert_to_json(key, value)
        for key, value in own.items()
        if isinstance(value, str) and key != TRACE_REQUEST_ID  # which says where MLflow stores the span
    }
    return replace_attributes(prepared, {**(prepared.attributes or {}), **stripped})


def prepare_for_mlflow_span(span: ReadableSpan, trace_id: str) -> ReadableSpan:
    """Return *span* as MLflow's Span class needs it: each attribute as JSON text, with the trace's id among them."""
    attributes = {
        key: value if key.startswith("mlflow.") else to_json(value) for key, value in (span.attributes or {}).items()
    }
    return replace_attributes(span, {**attributes, TRACE_REQUEST_ID: to_json(trace_id)})
