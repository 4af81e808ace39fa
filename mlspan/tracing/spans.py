"""Spans of OpenTelemetry's SDK, made and written with half the work.

A :class:`LeanSpan` is the SDK's own span, with the same fields; what it leaves out is cleaning attributes that are
clean, and lists for events and links that most spans have none of. Where the SDK has fields that are not known here, or
the tracer, the sampler or a limit is none of the usual ones, the tracer starts a span of the SDK's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from math import inf
from operator import not_
from threading import Lock, RLock
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

_Fields = dict[str, Any]

(SPAN,) = set_span_in_context(INVALID_SPAN, Context())  # under which a context holds its span

_PLAIN: Final = frozenset({str, int, float, bool})  # what the SDK takes as it is
_RANDOM: Final = 2  # of a trace whose id is random, where the SDK knows of that
_FLAGS: Final = {flags: TraceFlags(flags) for flags in range(4)}
_LATER: Final = {"_events": "max_events", "_links": "max_links"}  # made when one is added -> the limit of how many
_OF_ALL: Final = {  # fields that all spans of a tracer share
    *("_sampler", "_trace_config", "_record_exception", "_set_status_on_exception", "_span_processor", "_limits"),
    *("_instrumentation_info", "_instrumentation_scope", "_status", "_end_time", "_record_end_metrics"),
}
_OWN: Final = {"_name", "_context", "_kind", "_parent", "_resource", "_start_time", "_lock", "_attributes"}
_OF_ATTRIBUTES: Final = {"_dict", "_extended_attributes", "maxlen", "dropped", "max_value_len", "_lock", "_immutable"}
_NONE: Final[Mapping[str, Any]] = {}
_new: Final = object.__new__


class LeanSpan(sdk._Span):
    """Made by :class:`Starter` alone."""

    _attributes: Any
    _resource: Any
    _events: Any
    _links: Any

    def __getattr__(self, name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(name)
        return self.__dict__.setdefault(name, BoundedList(getattr(self._limits, _LATER[name])))

    @property
    def events(self) -> Sequence[sdk.Event]:
        return tuple(self.__dict__.get("_events", ()))

    @property
    def links(self) -> Sequence[Link]:
        return tuple(self.__dict__.get("_links", ()))

    @property
    def dropped_events(self) -> int:
        return self._events.dropped if "_events" in self.__dict__ else 0

    @property
    def dropped_links(self) -> int:
        return self._links.dropped if "_links" in self.__dict__ else 0

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        bounded, mended = self._attributes, _mended(attributes)
        if mended is None or (bounded.maxlen is not None and len(bounded._dict) + len(attributes) > bounded.maxlen):
            super().set_attributes(attributes)
            return
        with self._lock:
            if self._end_time is None:
                bounded._dict.update(attributes)
                bounded._dict.update(mended)

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        room, longest = self._limits.max_link_attributes, self._limits.max_attribute_length
        fits = attributes and longest is None and (room is None or len(attributes) <= room)
        if attributes and fits and (mended := _mended(attributes)) is not None:
            self._add_link(Link(context, {**attributes, **mended}))
        else:
            super().add_link(context, attributes)

    def _readable_span(self) -> LeanSpan:
        """What processors are told of at the end. The SDK makes a copy; nothing can change us any more either."""
        return self


def _mended(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those of *attributes* that the SDK keeps in another form, in that; None where it has to look at one itself."""
    odd = list(compress(attributes, map(not_, map(_PLAIN.__contains__, map(type, attributes.values())))))
    if not odd:
        return _NONE
    mended: dict[str, Any] = {}
    for name in odd:
        value = attributes[name]
        if isinstance(value, str):
            mended[name] = str.__str__(value)
        elif type(value) in {list, tuple} and len(kinds := set(map(type, value))) <= 1 and kinds <= _PLAIN:
            mended[name] = tuple(value)
        else:
            return None
    return mended


class Draw(NamedTuple):
    """What is decided of a span before anything is read for it."""

    starter: Starter
    around: Context  # where it is to stand
    sampled: bool | None  # None: that is for the SDK to say when the span starts
    parent: SpanContext | None = None
    trace_id: int = 0
    flags: int = 0  # those of the trace that are passed on

    def start(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Span:
        """The span, as ``Tracer.start_span`` starts it; *attributes* are given away."""
        starter, around, sampled, parent, _, _ = self
        tracer, of_attributes = starter.tracer, starter.of_attributes
        if sampled is None or len(attributes) > starter.room or (mended := _mended(attributes)) is None:
            return tracer.start_span(name, around, kind, attributes)  # type: ignore[no-any-return]
        if not sampled:
            return self.dropped()
        attributes.update(mended)
        metrics, span, bounded = starter.metrics, _new(LeanSpan), _new(BoundedAttributes)
        bounded.__dict__ = {**of_attributes, "_dict": attributes, "_lock": starter.lock()}
        span.__dict__ = {
            **starter.of_all,
            "_name": name,
            "_context": self._context(),
            "_kind": kind,
            "_parent": parent,
            "_resource": tracer.resource,
            "_lock": Lock(),
            "_attributes": bounded,
            "_record_end_metrics": metrics and metrics.start_span(parent, Decision.RECORD_AND_SAMPLE),
            "_start_time": time_ns(),
        }
        tracer.span_processor.on_start(span, parent_context=around)
        return span

    def dropped(self) -> Span:
        """What stands for a span that is not recorded."""
        if self.starter.metrics is not None:
            self.starter.metrics.start_span(self.parent, Decision.DROP)
        return NonRecordingSpan(self._context())

    def _context(self) -> SpanContext:
        starter, _, sampled, parent, trace_id, flags = self
        span_id, state = starter.tracer.id_generator.generate_span_id(), None if parent is None else parent.trace_state
        return SpanContext(trace_id, span_id, False, _FLAGS[flags | bool(sampled)], state)  # is_remote


class Starter:
    """Starts the spans of one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer: Any = tracer
        self.of_all, self.of_attributes = _templates(tracer)
        most = self.of_attributes.get("maxlen")
        self.room = inf if most is None else most  # for attributes
        # The SDK's attributes once had locks that may be taken twice.
        self.lock: Any = Lock if isinstance(self.of_attributes.get("_lock"), type(Lock())) else RLock
        self.metrics: Any = getattr(tracer, "_tracer_metrics", None)
        sampler = getattr(tracer, "sampler", None)
        self._usual: Any = sampler if _follows(sampler) else self
        self._is_random: Any = getattr(getattr(tracer, "id_generator", None), "is_trace_id_random", None)
        self._passed_on = 0 if self._is_random is None else _RANDOM
        self._is_enabled: Callable[[], bool] | None = getattr(tracer, "_is_enabled", None)

    def draw(self, around: Context) -> Draw:
        """Decide whether a span below that of *around* is recorded."""
        if not self.of_all or (self._is_enabled is not None and not self._is_enabled()):
            return Draw(self, around, sampled=None)
        tracer, above = self.tracer, around.get(SPAN)
        parent: SpanContext | None = None if above is None else above.get_span_context()  # type: ignore[attr-defined]
        if parent is not None and parent.is_valid:
            trace_id, flags, sampler = parent.trace_id, parent.trace_flags, tracer.sampler
            sampled = bool(flags & 1) if sampler is self._usual else _is_sampled(sampler, parent, trace_id)
            return Draw(self, around, sampled, parent, trace_id, flags & self._passed_on)
        trace_id = tracer.id_generator.generate_trace_id()
        random = self._passed_on and self._is_random() << 1
        return Draw(self, around, _is_sampled(tracer.sampler, None, trace_id), None, trace_id, random)


def _follows(sampler: Sampler | None) -> bool:
    """Whether what stands below another span is always sampled as that is."""
    if type(sampler) is not ParentBased:
        return False
    sampled = sampler._local_parent_sampled is sampler._remote_parent_sampled is ALWAYS_ON
    return sampled and sampler._local_parent_not_sampled is sampler._remote_parent_not_sampled is ALWAYS_OFF


def _is_sampled(sampler: Sampler | None, parent: SpanContext | None, trace_id: int) -> bool | None:
    """What one of the SDK's own samplers decides; None of any other."""
    if type(sampler) is ParentBased:
        if parent is None:
            sampler = sampler._root
        elif parent.is_remote:
            sampler = sampler._remote_parent_sampled if parent.trace_flags & 1 else sampler._remote_parent_not_sampled
        else:
            sampler = sampler._local_parent_sampled if parent.trace_flags & 1 else sampler._local_parent_not_sampled
    if type(sampler) is StaticSampler:
        decision = sampler._decision
        return None if decision is Decision.RECORD_ONLY else decision is Decision.RECORD_AND_SAMPLE
    if type(sampler) is TraceIdRatioBased:
        return trace_id & sampler.TRACE_ID_LIMIT < sampler.bound
    return None


def _templates(tracer: Any) -> tuple[_Fields, _Fields]:
    """What all spans of *tracer* share, and all their attributes; nothing where a span has a field not known here."""
    if type(tracer) is not sdk.Tracer:
        return {}, {}
    probe = sdk._Span(
        "",
        SpanContext(1, 1, is_remote=False),
        sampler=tracer.sampler,
        resource=tracer.resource,
        span_processor=tracer.span_processor,
        instrumentation_info=tracer.instrumentation_info,
        limits=tracer._span_limits,
        instrumentation_scope=tracer._instrumentation_scope,
    )
    fields, of_attributes = vars(probe), vars(probe._attributes)
    known = _OWN <= fields.keys() <= _OF_ALL | _OWN | _LATER.keys() and of_attributes.keys() <= _OF_ATTRIBUTES
    if not known or of_attributes["max_value_len"] is not None:
        return {}, {}
    return {name: fields[name] for name in fields.keys() & _OF_ALL}, of_attributes
