"""The spans that we start, beside those of the SDK's own tracer: only the time that they take is another."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from mlspan.tracing.otel.fast_span import FastSpan, SpanStarter

START: dict[str, Any] = {"gen_ai.operation.name": "chat", "server.port": 80}
MORE: dict[str, Any] = {"temperature": 0.5, "stream": True, "reasons": ["stop", "length"], "server.port": 81}
REMOTE = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(3), trace_state=TraceState([("vendor", "1")]))


class Seen(SpanProcessor):
    """What a processor receives, as it was then."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append({"attributes": dict(span.attributes), "name": span.name, "around": parent_context})

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def describe_span(span: ReadableSpan) -> dict[str, Any]:
    """All that a span says, but for its ids and times."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time >= span.start_time
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "events": [(event.name, dict(event.attributes or {})) for event in span.events],
        "links": [(link.context, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "parent": parent,
        "trace": context.trace_id if parent else None,
        "flags": (context.trace_flags, context.trace_state, context.is_remote, context.is_valid),
        "resource": span.resource,
        "scope": span.instrumentation_scope,
    }


def nothing(_: Span) -> None: ...


def everything(span: Span) -> None:
    span.set_attributes(MORE)
    span.set_attribute("one", "more")
    span.add_event("happened", {"a": 1})
    span.add_link(REMOTE, {"why": "test"})
    span.record_exception(ValueError("no"))
    span.update_name("other")
    span.set_status(Status(StatusCode.ERROR, "bad"))


def odd(span: Span) -> None:
    """Values that the SDK turns into others."""
    span.set_attributes({"set": {1}, "bytes": b"x", "none": None, "mixed": [1, {2}], "nested": {"a": [1]}})  # type: ignore[dict-item]


def too_many(span: Span) -> None:
    span.set_attributes({f"a{number}": number for number in range(200)})


def after_the_end(span: Span) -> None:
    span.end()
    span.set_attributes({"late": 1})
    span.set_attribute("later", 1)


Change = Callable[[Span], None]


@pytest.fixture(params=[None, REMOTE, SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1))])
def around(request: pytest.FixtureRequest) -> otel.Context:
    """Where a span is to stand: nowhere, below another process's, below one of this process's."""
    base = otel.Context()
    return base if request.param is None else trace.set_span_in_context(NonRecordingSpan(request.param), base)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [nothing, everything, odd, too_many, after_the_end])
@pytest.mark.parametrize(
    "limits", [SpanLimits(), SpanLimits(max_span_attributes=3), SpanLimits(max_attribute_length=2)]
)
@pytest.mark.parametrize("attributes", [START, {"set": {1}}, {}], ids=["plain", "odd", "none"])
def test_a_span_is_as_the_sdk_makes_it(
    around: otel.Context, change: Change, limits: SpanLimits, attributes: Mapping[str, Any]
) -> None:
    """Whatever is done to it, wherever it stands: processors see the same at its start and at its end."""
    seen = Seen()
    provider = TracerProvider(resource=Resource({"a": 1}), span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(seen)
    tracer = provider.get_tracer("mlspan", "1")
    ours = SpanStarter(tracer).decide_sampling(around).start_span("chat", SpanKind.CLIENT, dict(attributes))
    theirs = tracer.start_span("chat", around, SpanKind.CLIENT, dict(attributes))
    for span in (ours, theirs):
        change(span)
        if span.is_recording():
            span.end()
    assert seen.started[0] == seen.started[1]
    (first, second) = map(describe_span, seen.ended)
    assert first == second


def test_most_spans_are_lean() -> None:
    """With what the SDK installed here has, and its usual settings, the quick way is taken."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("mlspan")
    span = SpanStarter(tracer).decide_sampling(otel.Context()).start_span("chat", SpanKind.CLIENT, dict(START))
    assert isinstance(span, FastSpan)
    span.end()
    assert not {"_events", "_links"} & vars(span).keys()


class Odd(Sampler):
    """Somebody's own, which reads attributes and adds one."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        attributes = kwargs.get("attributes") or args[4]
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {**attributes, "sampler": "odd"})

    def get_description(self) -> str:
        return "odd"


def test_a_sampler_of_somebody_elses_is_asked() -> None:
    """It is given the attributes of the start, and what it adds is on the span."""
    seen = Seen()
    provider = TracerProvider(sampler=Odd(), shutdown_on_exit=False)
    provider.add_span_processor(seen)
    sampling = SpanStarter(provider.get_tracer("mlspan")).decide_sampling(otel.Context())
    assert sampling.sampled is None
    sampling.start_span("chat", SpanKind.CLIENT, dict(START)).end()
    assert dict(seen.ended[0].attributes or {}) == {**START, "sampler": "odd"}


@pytest.mark.parametrize(
    "sampler",
    [
        *(ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased(0.5), TraceIdRatioBased(0.0), ParentBased(ALWAYS_OFF)),
        *(ParentBased(ALWAYS_ON), ParentBased(TraceIdRatioBased(0.5)), ParentBased(TraceIdRatioBased(0.0))),
        ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
    ],
    ids=lambda it: it.get_description(),
)
@pytest.mark.parametrize("flags", [None, 0, 1])
@pytest.mark.parametrize("remote", [True, False])
def test_what_is_drawn_is_what_the_sampler_says(sampler: Sampler, flags: int | None, remote: bool) -> None:
    """For roots and below parents of all kinds, trace by trace."""
    tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("mlspan")
    starter, dice = SpanStarter(tracer), random.Random(1)
    for _ in range(50):
        trace_id = dice.getrandbits(128)
        starter.tracer.id_generator.generate_trace_id = lambda trace_id=trace_id: trace_id
        around = otel.Context()
        if flags is not None:
            parent = SpanContext(trace_id, 5, is_remote=remote, trace_flags=TraceFlags(flags))
            around = trace.set_span_in_context(NonRecordingSpan(parent), around)
        ours, theirs = starter.decide_sampling(around), tracer.start_span("chat", around)
        assert ours.sampled is theirs.is_recording()
        started = ours.start_span("chat", SpanKind.CLIENT, {})
        for span in (started, theirs):
            assert span.get_span_context().trace_id == trace_id
            assert span.get_span_context().trace_flags == theirs.get_span_context().trace_flags
            span.end()
