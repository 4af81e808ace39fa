"""Libraries that trace themselves: their spans join ours, with a TracerProvider of the application and without."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import ProxyTracerProvider

from mlspan import tracing
from mlspan.hooks import Hook
from mlspan.hooks.joined_spans import (
    join_trace_module,
    join_tracer_getter,
    join_tracers,
    make_provider,
    record_provider,
)
from mlspan.hooks.patching import Undo, apply_patches
from mlspan.testing import Spans

TRACE = "selftracer:trace"


def install(hook: Hook) -> Undo:
    patches = [*join_tracers(hook, ["selftracer:tracer"], "its spans")]
    return apply_patches([*patches, join_tracer_getter(hook, "selftracer:get_tracer", "its spans")])


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A library that has asked for its tracer before there was a provider, and one that asks for each span."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)  # the test's own provider would take the spans
    module = types.ModuleType("selftracer")
    module.tracer = ProxyTracerProvider().get_tracer("selftracer", "1.2")  # type: ignore[attr-defined]
    module.get_tracer = lambda: trace.ProxyTracer("selftracer")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "selftracer", module)
    monkeypatch.setattr("mlspan.hooks.hook.importlib.metadata.version", lambda _: "1.2")
    return module


@pytest.fixture
def hook(library: types.ModuleType) -> Iterator[Hook]:
    made = Hook("selftracer>=1,<2", "selftracer", install)
    yield made
    made.autolog(disable=True)


def work(library: types.ModuleType) -> None:
    with library.tracer.start_as_current_span("agent"):
        library.get_tracer().start_span("model").end()


def test_its_spans_are_recorded(spans: Spans, library: types.ModuleType, hook: Hook) -> None:
    work(library)
    hook.autolog()
    work(library)
    agent, model = spans.all
    assert (agent.name, model.name) == ("agent", "model")
    assert model.parent is not None
    assert agent.context is not None
    assert model.parent.span_id == agent.context.span_id
    scope = agent.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("selftracer", "1.2")


def test_it_is_silent_again(spans: Spans, library: types.ModuleType, hook: Hook) -> None:
    """With ``log_traces=False`` and after ``disable=True``; the library's tracer is what it was."""
    hook.autolog(log_traces=False)
    work(library)
    hook.autolog()
    hook.autolog(disable=True)
    work(library)
    assert spans.all == []
    assert library.tracer._real_tracer is None


def test_a_tracer_of_the_application_is_left_alone(spans: Spans, library: types.ModuleType, hook: Hook) -> None:
    library.tracer = own = trace.NoOpTracer()
    hook.autolog()
    work(library)
    assert library.tracer is own
    assert [span.name for span in spans.all] == ["model"]


def test_a_provider_for_a_library_that_takes_one(spans: Spans, hook: Hook) -> None:
    tracer = make_provider(hook).get_tracer("taker", instrumenting_library_version="3")
    tracer.start_span("first").end()  # the hook is off
    hook.autolog()
    tracer.start_span("second").end()
    (span,) = spans.all
    assert span.name == "second"
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.version == "3"


PROGRAM = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mlspan import tracing
from mlspan.tracing.otel.joined_tracer import JoinedTracerProvider

tracing.configure(tracking_uri="none")
tracer = JoinedTracerProvider(tracing.tracer_provider, lambda: True).get_tracer("library")
tracer.start_span("before").end()
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer.start_span("after").end()
print([span.name for span in exporter.get_finished_spans()])
tracing.shutdown()
tracer.start_span("late").end()
"""


def test_a_provider_that_is_set_later_is_followed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['after']\n", "")


def test_a_library_that_asks_for_a_tracer_at_each_span(spans: Spans, library: types.ModuleType) -> None:
    """It calls ``trace.get_tracer`` itself; nobody else sees another module, and the library has its own back."""
    library.trace = trace  # type: ignore[attr-defined]
    hook = Hook("selftracer>=1,<2", "selftracer", lambda it: apply_patches([join_trace_module(it, TRACE, "spans")]))
    hook.autolog()
    library.trace.get_tracer("selftracer.turn").start_span("turn").end()
    trace.get_tracer("somebody.else").start_span("other").end()
    assert [span.name for span in spans.all] == ["turn"]
    assert library.trace is not trace
    assert library.trace.SpanKind is trace.SpanKind
    hook.autolog(disable=True)
    assert library.trace is trace


def test_a_provider_that_only_one_library_has(spans: Spans) -> None:
    """Its spans are recorded beside those of the provider in use, also with other settings, until that is undone."""
    provider = TracerProvider()
    undo = record_provider(provider)
    try:
        provider.get_tracer("library").start_span("first").end()
        tracing.configure(tracking_uri="none", service_name="anew")
        provider.get_tracer("library").start_span("second").end()
    finally:
        undo()
    provider.get_tracer("library").start_span("third").end()
    assert [span.name for span in spans.all] == ["first", "second"]
    record_provider(trace.NoOpTracerProvider())()  # takes no processors
