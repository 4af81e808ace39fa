"""Spans of OpenTelemetry's SDK, made and written with half the work.

A :class:`LeanSpan` is the SDK's own span, with the same fields; what it leaves out is cleaning attributes that are
clean, and lists for events and links that most spans have none of. Where the SDK has fields that are not known here, or
the tracer, the sampler or a limit is none of the usual ones, the tracer starts a span of the SDK's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from operator import attrgetter, methodcaller
from random import getrandbits
from threading import Lock, RLock
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
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
    TraceState,
    set_span_in_context,
)

_Fields = dict[str, Any]

(SPAN,) = set_span_in_context(INVALID_SPAN, Context())  # under which a context holds its span

_PLAIN: Final = frozenset({str, int, float, bool})  # what the SDK takes as it is
_RANDOM: Final = 2  # of a trace whose id is random, where the SDK knows of that
_FLAGS: Final = {flags: TraceFlags(flags) for flags in range(4)}
_OF_ALL: Final = {  # fields that all spans of a tracer share
    *("_sampler", "_trace_config", "_record_exception", "_set_status_on_exception", "_span_processor", "_limits"),
    *("_instrumentation_info", "_instrumentation_scope", "_status", "_end_time", "_record_end_metrics"),
}
_OWN: Final = {"_name", "_context", "_kind", "_parent", "_resource", "_start_time", "_lock", "_attributes"}
_OF_ATTRIBUTES: Final = {"_dict", "_extended_attributes", "maxlen", "dropped", "max_value_len", "_lock", "_immutable"}
_NONE: Final[Mapping[str, Any]] = {}
_new: Final = object.__new__
_new_tuple: Final = tuple.__new__
_NO_STATE: Final = TraceState.get_default()
_IS_VALID: Final = 5  # in a SpanContext, which is a tuple


class LeanSpan(sdk._Span):
    """Made by :class:`Starter` alone, of a class of each tracer's own."""

    _attributes: Any
    _resource: Any
    _events: Any = ()  # a list of the SDK's from the first one on
    _links: Any = ()  # likewise from the first one on that may be too much

    @property
    def dropped_events(self) -> int:
        return getattr(self._events, "dropped", 0)

    @property
    def dropped_links(self) -> int:
        return getattr(self._links, "dropped", 0)

    def _add_event(self, event: Any) -> None:
        if type(self._events) is tuple:
            self._events = BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Link) -> None:
        if type(self._links) is tuple:
            self._links = BoundedList.from_seq(self._limits.max_links, self._links)
        super()._add_link(link)

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
        if attributes and self._takes_link(attributes) and (mended := _mended(attributes)) is not None:
            with self._lock:
                if self._end_time is None and type(self._links) is tuple:
                    self._links = (*self._links, Link(context, {**attributes, **mended}))
                    return
        super().add_link(context, attributes)

    def _takes_link(self, attributes: Mapping[str, Any]) -> bool:
        """Whether one more link, with these, is none too many."""
        limits = self._limits
        room, most = limits.max_link_attributes, limits.max_links
        fits = limits.max_attribute_length is None and (room is None or len(attributes) <= room)
        return fits and (most is None or len(self._links) < most)

    def _readable_span(self) -> LeanSpan:
        """What processors are told of at the end. The SDK makes a copy; nothing can change us any more either."""
        return self


def _mended(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those of *attributes* that the SDK keeps in another form, in that; None where it has to look at one itself."""
    mended: dict[str, Any] | None = None
    for name, value in attributes.items():
        if (kind := type(value)) in _PLAIN:
            continue
        if kind is list or kind is tuple:
            if len(kinds := set(map(type, value))) > 1 or not kinds <= _PLAIN:
                return None
            form: Any = tuple(value)
        elif isinstance(value, str):
            form = str.__str__(value)
        else:
            return None
        if mended is None:
            mended = {}
        mended[name] = form
    return _NONE if mended is None else mended


class Draw(NamedTuple):
    """What is decided of a span before anything is read for it."""

    starter: Starter
    around: Context  # where it is to stand
    sampled: bool | None  # None: that is for the SDK to say when the span starts
    parent: SpanContext | None = None
    trace_id: int = 0
    flags: int = 0  # those of the trace that are passed on
    state: TraceState = _NO_STATE

    def start(self, name: str, kind: SpanKind, attributes: dict[str, Any]) -> Span:
        """The span, as ``Tracer.start_span`` starts it; *attributes* are given away."""
        starter, around, sampled, parent, *_ = self
        tracer = starter.tracer
        if sampled is None or len(attributes) > starter.room or (mended := _mended(attributes)) is None:
            return tracer.start_span(name, around, kind, attributes)  # type: ignore[no-any-return]
        if not sampled:
            return self.dropped()
        attributes.update(mended)
        metrics, bounded = starter.metrics, _new(starter.attributes_class)
        span: LeanSpan = _new(starter.span_class)
        bounded._dict, bounded._lock = attributes, starter.lock()
        span._name, span._context, span._kind, span._parent = name, self._context(), kind, parent
        span._resource, span._lock, span._attributes = tracer.resource, Lock(), bounded
        if metrics is not None:
            span._record_end_metrics = metrics.start_span(parent, Decision.RECORD_AND_SAMPLE)
        span._start_time = time_ns()
        tracer.span_processor.on_start(span, parent_context=around)
        return span

    def dropped(self) -> Span:
        """What stands for a span that is not recorded."""
        if self.starter.metrics is not None:
            self.starter.metrics.start_span(self.parent, Decision.DROP)
        return NonRecordingSpan(self._context())

    def _context(self) -> SpanContext:
        """As SpanContext's own constructor, which checks what we have made ourselves, would make it."""
        starter, _, sampled, _, trace_id, flags, state = self
        span_id = starter.span_id() or starter.tracer.id_generator.generate_span_id()
        return _new_tuple(SpanContext, (trace_id, span_id, False, _FLAGS[flags | bool(sampled)], state, True))


class Starter:
    """Starts the spans of one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer: Any = tracer
        of_all, of_attributes = _templates(tracer)
        self._known = bool(of_all)
        # What all spans share stands in their class.
        self.span_class: Any = type(LeanSpan.__name__, (LeanSpan,), of_all)
        self.attributes_class: Any = type(BoundedAttributes.__name__, (BoundedAttributes,), of_attributes)
        most = of_attributes.get("maxlen")
        self.room = inf if most is None else most  # for attributes
        # The SDK's attributes once had locks that may be taken twice.
        self.lock: Any = Lock if isinstance(of_attributes.get("_lock"), type(Lock())) else RLock
        metrics = getattr(tracer, "_tracer_metrics", None)
        self.metrics: Any = None if type(metrics).__name__.startswith("NoOp") else metrics
        sampler = getattr(tracer, "sampler", None)
        generator = getattr(tracer, "id_generator", None)
        own = type(generator) is RandomIdGenerator
        self.span_id: Callable[[], int] = (
            partial(getrandbits, 64) if own else getattr(generator, "generate_span_id", int)
        )
        self._usual: Any = sampler if _follows(sampler) else self
        self._is_random: Any = getattr(generator, "is_trace_id_random", None)
        self._passed_on = 0 if self._is_random is None else _RANDOM
        self._is_on: Callable[[Any], bool] | None = None
        if hasattr(tracer, "_is_enabled"):  # an SDK that can turn a tracer off
            read = hasattr(tracer, "_tracer_config")  # for less than to call it takes
            self._is_on = attrgetter("_tracer_config.is_enabled") if read else methodcaller("_is_enabled")

    def draw(self, around: Context) -> Draw:
        """Decide whether a span below that of *around* is recorded."""
        tracer: Any = self.tracer
        if not self._known or (self._is_on is not None and not self._is_on(tracer)):
            return Draw(self, around, sampled=None)
        above: Any = around.get(SPAN)
        if type(above) is self.span_class:
            parent = above._context
        else:
            parent = None if above is None else above.get_span_context()
        if parent is not None and parent[_IS_VALID]:
            trace_id, _, _, flags, state, _ = parent  # by its properties, each is a call
            sampler = tracer.sampler
            sampled = bool(flags & 1) if sampler is self._usual else _is_sampled(sampler, parent, trace_id)
            return _new_tuple(Draw, (self, around, sampled, parent, trace_id, flags & self._passed_on, state))
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
    as_tuple = (1, 1, False, TraceFlags.DEFAULT, _NO_STATE, True)
    if tuple(probe._context) != as_tuple:  # type: ignore[arg-type]  # it has one
        return {}, {}
    known = _OWN <= fields.keys() <= _OF_ALL | _OWN | {"_events", "_links"} and of_attributes.keys() <= _OF_ATTRIBUTES
    if not known or of_attributes["max_value_len"] is not None:
        return {}, {}
    return {name: fields[name] for name in fields.keys() & _OF_ALL}, of_attributes
