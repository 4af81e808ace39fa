"""Fast spans: spans of OpenTelemetry's SDK that are made and written with half the SDK's work.

A :class:`FastSpan` is the SDK's own span with the same fields. It does not clean attributes that are clean, and has no
lists for events and links, which most spans lack. The tracer starts a span of the SDK's own instead if the SDK has
fields that are not known here, or if the tracer, the sampler or a limit is an unusual one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import compress
from math import inf
from operator import attrgetter, methodcaller, not_
from random import getrandbits
from threading import Lock, RLock
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from .compat import (
    FAST_SPANS,
    HAS_FAST_SPAN_PARTS,
    BoundedAttributes,
    BoundedList,
    SdkSpan,
    report_missing,
    report_unknown,
)
from .known_samplers import decide_by_sampler, find_root_decision, follows_parent

_SpanFields = dict[str, Any]

(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())  # the key under which a context holds its span

_SCALAR_TYPES: Final = frozenset({str, int, float, bool})  # types that the SDK stores as they are
_KNOWN_SCALARS: Final[Mapping[type, bool]] = dict.fromkeys(_SCALAR_TYPES, True)
_RANDOM_TRACE_FLAG: Final = 2  # the trace flag for a random trace id, in SDKs that have it
_TRACE_FLAGS: Final = {flags: TraceFlags(flags) for flags in range(4)}
_SHARED_FIELDS: Final = {  # fields whose value all spans of a tracer share
    *("_sampler", "_trace_config", "_record_exception", "_set_status_on_exception", "_span_processor", "_limits"),
    *("_instrumentation_info", "_instrumentation_scope", "_status", "_end_time", "_record_end_metrics"),
}
_OWN_FIELDS: Final = {"_name", "_context", "_kind", "_parent", "_resource", "_start_time", "_lock", "_attributes"}
_REQUIRED_SHARED_FIELDS: Final = {"_limits", "_span_processor", "_sampler"}  # read by the SDK or here
_BOUNDED_ATTRIBUTES_FIELDS: Final = {
    "_dict",
    "_extended_attributes",
    "maxlen",
    "dropped",
    "max_value_len",
    "_lock",
    "_immutable",
}
_NO_CHANGES: Final[Mapping[str, object]] = {}
_new_object: Final = object.__new__
_new_tuple: Final = tuple.__new__
_NO_TRACE_STATE: Final = TraceState.get_default()
_IS_VALID_INDEX: Final = 5  # index in a SpanContext, which is a tuple


class FastSpan(SdkSpan):  # type: ignore[misc]  # a class of the SDK, or a stand-in
    """The SDK's span with less work. Only :class:`SpanStarter` makes it, from a class of each tracer's own."""

    _attributes: Any
    _resource: object
    _events: object = ()  # the SDK's list after the first event
    _links: Any = ()  # the SDK's list after the first link that may exceed a limit

    @property
    def dropped_events(self) -> int:
        return getattr(self._events, "dropped", 0)

    @property
    def dropped_links(self) -> int:
        return getattr(self._links, "dropped", 0)

    def _add_event(self, event: object) -> None:
        if type(self._events) is tuple:
            self._events = BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Link) -> None:
        if type(self._links) is tuple:
            self._links = BoundedList.from_seq(self._limits.max_links, self._links)
        super()._add_link(link)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        bounded, converted = self._attributes, _convert_attributes(attributes)
        if converted is None or (bounded.maxlen is not None and len(bounded._dict) + len(attributes) > bounded.maxlen):
            super().set_attributes(attributes)
            return
        with self._lock:
            if self._end_time is None:
                bounded._dict.update(attributes)
                bounded._dict.update(converted)

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        if (
            attributes
            and self._has_room_for_link(attributes)
            and (converted := _convert_attributes(attributes)) is not None
        ):
            with self._lock:
                if self._end_time is None and type(self._links) is tuple:
                    self._links = (*self._links, Link(context, {**attributes, **converted}))
                    return
        super().add_link(context, attributes)

    def _has_room_for_link(self, attributes: Mapping[str, object]) -> bool:
        """Return whether one more link with these attributes is within all limits."""
        limits = self._limits
        room, most = limits.max_link_attributes, limits.max_links
        fits = limits.max_attribute_length is None and (room is None or len(attributes) <= room)
        return fits and (most is None or len(self._links) < most)

    def _readable_span(self) -> FastSpan:
        """Return the span itself for the processors. The SDK makes a copy, but an ended span cannot change any more."""
        return self


def backdate_span(span: Span, start: int) -> None:
    """Set the start of a span, in nanoseconds since the epoch. One that the SDK itself has made keeps its own."""
    if isinstance(span, FastSpan):
        span._start_time = start


def _convert_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the converted values of those *attributes* that the SDK stores in another form.

    Return None if the SDK itself has to look at one of them.
    """
    if _SCALAR_TYPES.issuperset(map(type, attributes.values())):  # as at most starts, at a quarter of the loop's cost
        return _NO_CHANGES
    converted: dict[str, object] = {}
    is_odd = map(not_, map(_KNOWN_SCALARS.get, map(type, attributes.values())))  # in C: most are scalars
    for name, value in compress(attributes.items(), is_odd):
        if (kind := type(value)) is list or kind is tuple:
            if len(kinds := set(map(type, value))) > 1 or not kinds <= _SCALAR_TYPES:
                return None
            converted_value: object = tuple(value)
        elif isinstance(value, str):
            converted_value = str.__str__(value)
        else:
            return None
        converted[name] = converted_value
    return converted


class SamplingDecision(NamedTuple):
    """The sampling decision for a span, made before anything is read for it."""

    starter: SpanStarter
    around: Context  # the context of the new span
    sampled: bool | None  # None: the SDK decides when the span starts
    parent: SpanContext | None = None
    trace_id: int = 0
    flags: int = 0  # trace flags that are passed on from the parent
    state: TraceState = _NO_TRACE_STATE

    def start_span(self, name: str, kind: SpanKind, attributes: dict[str, object]) -> Span:
        """Start the span, as ``Tracer.start_span`` does. *attributes* become the span's own dict."""
        starter, around, sampled, parent, trace_id, flags, state = self
        tracer = starter.tracer
        if (
            sampled is None
            or len(attributes) > starter.max_attributes
            or (converted := _convert_attributes(attributes)) is None
        ):
            return tracer.start_span(name, around, kind, attributes)  # type: ignore[no-any-return]
        if not sampled:
            return self.make_unrecorded_span()
        attributes.update(converted)
        metrics, bounded = starter.metrics, _new_object(starter.attributes_class)
        span: FastSpan = _new_object(starter.span_class)
        bounded._dict, bounded._lock = attributes, starter.make_attributes_lock()
        span_id = starter.generate_span_id() or tracer.id_generator.generate_span_id()
        # As in _make_span_context, without another call.
        context = _new_tuple(SpanContext, (trace_id, span_id, False, _TRACE_FLAGS[flags | 1], state, True))
        span._name, span._context, span._kind, span._parent = name, context, kind, parent
        span._resource, span._lock, span._attributes = tracer.resource, Lock(), bounded
        if metrics is not None:
            span._record_end_metrics = metrics.start_span(parent, Decision.RECORD_AND_SAMPLE)
        span._start_time = time_ns()
        tracer.span_processor.on_start(span, parent_context=around)
        return span

    def make_unrecorded_span(self) -> Span:
        """Return the span that stands for one that is not recorded."""
        if self.starter.metrics is not None:
            self.starter.metrics.start_span(self.parent, Decision.DROP)
        return NonRecordingSpan(self._make_span_context())

    def _make_span_context(self) -> SpanContext:
        """Return the new span's context. SpanContext's own constructor would check the values that are made here."""
        starter, _, sampled, _, trace_id, flags, state = self
        span_id = starter.generate_span_id() or starter.tracer.id_generator.generate_span_id()
        return _new_tuple(SpanContext, (trace_id, span_id, False, _TRACE_FLAGS[flags | bool(sampled)], state, True))


class SpanStarter:
    """The starter of one tracer's spans."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer: Any = tracer
        shared_fields, attributes_fields = _read_shared_fields(tracer)
        self._knows_all_fields = bool(shared_fields)
        # Values that all spans share are attributes of their class.
        self.span_class: Any = type(FastSpan.__name__, (FastSpan,), shared_fields)
        self.attributes_class: Any = type(BoundedAttributes.__name__, (BoundedAttributes,), attributes_fields)
        max_attributes = attributes_fields.get("maxlen")
        self.max_attributes = inf if max_attributes is None else max_attributes  # per span
        # Attributes of older SDKs have reentrant locks.
        self.make_attributes_lock: Any = Lock if isinstance(attributes_fields.get("_lock"), type(Lock())) else RLock
        metrics = getattr(tracer, "_tracer_metrics", None)
        self.metrics: Any = None if type(metrics).__name__.startswith("NoOp") else metrics
        sampler = getattr(tracer, "sampler", None)
        generator = getattr(tracer, "id_generator", None)
        own = type(generator) is RandomIdGenerator
        self.generate_span_id: Callable[[], int] = (
            partial(getrandbits, 64) if own else getattr(generator, "generate_span_id", int)
        )
        self._parent_following_sampler: object = sampler if follows_parent(sampler) else self
        self._is_random: Any = getattr(generator, "is_trace_id_random", None)
        self._passed_on_flags = 0 if self._is_random is None else _RANDOM_TRACE_FLAG
        self._is_enabled: Callable[[object], bool] | None = None
        if hasattr(tracer, "_is_enabled"):  # newer SDKs can turn a tracer off
            read = hasattr(tracer, "_tracer_config")  # reading the field is cheaper than the call
            self._is_enabled = attrgetter("_tracer_config.is_enabled") if read else methodcaller("_is_enabled")
        self._random_generator: object = generator if own else self  # that need not be asked whether its ids are random
        # The sampler that decides the same of every root, and what that is.
        self._known_sampler, self._root_decision = find_root_decision(sampler)

    def decide_sampling(self, around: Context) -> SamplingDecision:
        """Decide whether a span below the span of *around* is recorded."""
        tracer: Any = self.tracer
        if not self._knows_all_fields or (self._is_enabled is not None and not self._is_enabled(tracer)):
            return SamplingDecision(self, around, sampled=None)
        current_span: Any = around.get(SPAN_KEY)
        if type(current_span) is self.span_class:
            parent = current_span._context
        else:
            parent = None if current_span is None else current_span.get_span_context()
        if parent is not None and parent[_IS_VALID_INDEX]:
            trace_id, _, _, flags, state, _ = parent  # each property would be a call
            sampler = tracer.sampler
            sampled = (
                bool(flags & 1)
                if sampler is self._parent_following_sampler
                else decide_by_sampler(sampler, parent, trace_id)
            )
            return _new_tuple(
                SamplingDecision, (self, around, sampled, parent, trace_id, flags & self._passed_on_flags, state)
            )
        generator, sampler, flags = tracer.id_generator, tracer.sampler, self._passed_on_flags
        trace_id = generator.generate_trace_id()
        if flags and generator is not self._random_generator:
            flags = self._is_random() << 1
        is_known = sampler is self._known_sampler
        sampled = self._root_decision if is_known else decide_by_sampler(sampler, None, trace_id)
        return _new_tuple(SamplingDecision, (self, around, sampled, None, trace_id, flags, _NO_TRACE_STATE))


def _read_shared_fields(tracer: Any) -> tuple[_SpanFields, _SpanFields]:
    """Return the fields that all spans of *tracer* share, and those that all their attributes share.

    Both are empty if spans have a field that is not known here.
    """
    if type(tracer) is not sdk.Tracer:
        return {}, {}
    if not HAS_FAST_SPAN_PARTS:  # reported by compat
        return {}, {}
    try:
        probe = _make_probe(tracer)
        fields, attributes_fields = vars(probe), vars(probe._attributes)
    except (AttributeError, TypeError) as error:  # a field of the tracer, or a parameter, that is gone
        report_missing(getattr(error, "name", None) or str(error), FAST_SPANS)
        return {}, {}
    as_tuple = (1, 1, False, TraceFlags.DEFAULT, _NO_TRACE_STATE, True)
    if not fields.keys() >= _OWN_FIELDS or tuple(probe._context) != as_tuple:
        report_missing(min(_OWN_FIELDS - fields.keys(), default="_context"), FAST_SPANS)
        return {}, {}
    unknown = fields.keys() - _SHARED_FIELDS - _OWN_FIELDS - {"_events", "_links"}
    unknown |= attributes_fields.keys() - _BOUNDED_ATTRIBUTES_FIELDS
    missing = _REQUIRED_SHARED_FIELDS - fields.keys() | {"_dict"} - attributes_fields.keys()
    if unknown or missing:
        if missing:
            report_missing(min(missing), FAST_SPANS)
        else:
            report_unknown(unknown)
        return {}, {}
    if attributes_fields["max_value_len"] is not None:
        return {}, {}
    return {name: fields[name] for name in fields.keys() & _SHARED_FIELDS}, attributes_fields


def _make_probe(tracer: Any) -> Any:
    """Return a span of the SDK that is never ended, as *tracer* would make it."""
    return SdkSpan(
        "",
        SpanContext(1, 1, is_remote=False),
        sampler=tracer.sampler,
        resource=tracer.resource,
        span_processor=tracer.span_processor,
        instrumentation_info=tracer.instrumentation_info,
        limits=tracer._span_limits,
        instrumentation_scope=tracer._instrumentation_scope,
    )
