"""One span that is too large, of a bad type or refused takes no neighbour along, and can be looked at."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from servers.program import environment, run
from servers.receiver import Receiver, once

from mlspan import tracing
from mlspan.tracing.export import self_metrics
from mlspan.tracing.export.otlp.codec import (
    MAX_SPAN_BYTES,
    build_export_request,
    decode_span,
    encode_each_span,
    split_export_request,
)


@pytest.fixture
def configured(receiver: Receiver, tmp_path: Path, tracing_off: None) -> Path:
    spool = tmp_path / "spool"
    tracing.configure(tracking_uri=receiver.url, otlp_endpoint=receiver.url, spool_dir=spool)
    return spool


def work(*names: str) -> None:
    for name in names:
        with tracing.span(name, kind="tool") as span:
            span.output = "done"


@pytest.mark.parametrize("refusal", [400, 413, 422])
def test_a_refused_span_is_set_aside(receiver: Receiver, configured: Path, refusal: int) -> None:
    """What a backend refuses is found among its neighbours, which are stored; ``dead`` has it, with the reason."""
    receiver.poison, receiver.refusal = "execute_tool poison", refusal
    work(*map(str, range(9)), "poison", *map(str, range(9, 20)))
    result = tracing.flush(20)
    assert [(bool(one), one.stored, sum(one.set_aside.values())) for one in result.destinations] == [(False, 20, 1)] * 2
    assert (receiver.otlp, receiver.mlflow) == (once(20), once(20))
    dead = tracing.dead(spool_dir=configured)
    assert sorted((one.sink, one.name) for one in dead) == [
        ("mlflow", "execute_tool poison"),
        ("otlp", "execute_tool poison"),
    ]
    assert all(f"answers {refusal}" in one.reason for one in dead)
    (span,) = dead[0].spans()
    assert span.attributes["gen_ai.tool.call.result"] == "done"
    assert f"{span.context.trace_id:032x}" == dead[0].trace_id


def test_a_server_that_reads_no_gzip(receiver: Receiver, configured: Path) -> None:
    """What it refuses as gzip is sent once as it is, and so is all that follows; where it reads gzip, nothing is."""
    receiver.reads_gzip = False
    for name in ("0", "1", "2"):
        work(name)
        assert tracing.flush(20)
    assert (receiver.mlflow, receiver.gzipped) == (once(3), 1)
    assert list(tracing.dead(spool_dir=configured)) == []


def test_a_span_that_makes_the_server_fail(
    receiver: Receiver, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers 500 to one span only is not away: the others are stored, each once, that one set aside."""
    receiver.poison, receiver.refusal = "execute_tool poison", 500
    work(*map(str, range(9)), "poison", *map(str, range(9, 20)))
    for _ in range(6):
        tracing.flush(10)
    assert (receiver.otlp, receiver.mlflow.keys()) == (once(20), once(20).keys())  # MLflow may have replaced one
    assert {one.sink for one in tracing.dead(spool_dir=configured)} == {"mlflow", "otlp"}


def test_a_server_that_is_down_makes_nothing_poison(receiver: Receiver, configured: Path) -> None:
    """However often it fails, as long as it takes nothing, nothing is set aside."""
    receiver.mode = 500
    work(*map(str, range(20)))
    for _ in range(6):
        assert not tracing.flush(10)
    receiver.mode = "ok"
    assert tracing.flush(10)
    assert (receiver.otlp, receiver.mlflow) == (once(20), once(20))
    assert tracing.dead(spool_dir=configured) == []


def test_who_may_not_write_is_told_and_loses_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """401 and 403 are one line each; what was not taken waits for somebody who may."""
    receiver.mode = 403
    spool = tmp_path / "spool"
    done = run("work(0, 10)", environment(spool, receiver.url, receiver.url))
    assert sorted("answers 403" in line for line in done.stderr.splitlines()) == [False, True, True]
    receiver.mode = "ok"
    assert tracing.drain(spool_dir=spool).sent == 20
    assert (receiver.otlp, receiver.mlflow) == (once(10), once(10))


def test_a_picture_of_20_mb(receiver: Receiver, configured: Path) -> None:
    """A span that is too large is cut and says so; its neighbours are as they were."""
    work("0")
    with tracing.span("big"):
        trace.get_current_span().set_attributes({"gen_ai.x": "x" * 20_000_000, "y": 1})
        work("1")
    work("2")
    assert tracing.flush(30)
    assert receiver.otlp == {**once(3), "big": 1}
    assert receiver.mlflow == {**once(3), "big": 1}
    assert max(map(len, receiver.bodies)) < MAX_SPAN_BYTES
    (big,) = [
        decode_span(packed).attributes
        for body in receiver.bodies
        if b"mlflow.spanType" not in body and b'"trace_info"' not in body
        for packed in split_export_request(body)
        if decode_span(packed).name == "big"
    ]
    assert big["gen_ai.x"].endswith("… [cut: 20000000 characters in all]")
    assert big["y"] == 1


def test_spans_of_any_kind_come_back_as_they_were() -> None:
    """Packed and unpacked, a span is the same: ids, parent, times, attributes of every type, events, links, status."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("scope", "1.2", "https://schema", {"a": 1})
    with tracer.start_as_current_span("parent") as parent:
        said = {"s": "é", "i": -1, "f": 0.5, "b": True, "l": ("x", "y"), "n": (1, 2)}
        child = tracer.start_span("child", attributes=said)
        child.add_event("event", {"k": "v"})
        child.add_link(parent.get_span_context(), {"why": "test"})
        child.record_exception(ValueError("bad"))
        child.end()
    ended = [child._readable_span(), parent._readable_span()]
    packed = encode_each_span(ended)
    assert [decode_span(one).to_json() for one in packed] == [span.to_json() for span in ended]
    assert [decode_span(one).instrumentation_scope for one in packed] == [span.instrumentation_scope for span in ended]
    assert list(split_export_request(build_export_request(packed))) == packed


def test_what_otlp_cannot_say(caplog: pytest.LogCaptureFixture) -> None:
    """A lone surrogate, an integer beyond 64 bits, an object: text, and no other attribute or span is lost."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    odd, fine = (tracer.start_span(name) for name in ("odd", "fine"))
    for span in (odd, fine):
        span.end()
    bad: Any = odd._readable_span()
    bad._attributes = {"surrogate": "\ud800", "huge": 2**70, "object": {1: 2}, "fine": 1}
    packed = encode_each_span([bad, fine._readable_span()])
    assert decode_span(packed[0]).attributes == {"surrogate": "?", "huge": str(2**70), "object": "{1: 2}", "fine": 1}
    assert decode_span(packed[1]).name == "fine"
    assert len(packed[0].span) < MAX_SPAN_BYTES


def test_counts_as_metrics(receiver: Receiver, configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken, refused and waits can be read from the application's own MeterProvider."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(self_metrics, "_has_instruments", False)
    monkeypatch.setattr(self_metrics, "_counters", self_metrics._counters[-1:])
    monkeypatch.setattr(self_metrics.metrics, "get_meter", provider.get_meter)
    self_metrics.create_instruments("1")
    monkeypatch.setattr(self_metrics, "swallowed_errors", Counter({"writing content": 3}))
    receiver.poison = "execute_tool poison"
    work("0", "poison", "1")
    tracing.flush(20)
    receiver.mode = 500
    work("2", "3")
    tracing.flush(5)
    found = {
        (
            metric.name,
            point.attributes["otel.component.type"],
            point.attributes.get("error.type", point.attributes.get("mlspan.place")),
        ): point.value
        for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found == {
        ("otel.sdk.exporter.span.exported", "mlspan_mlflow", None): 2,
        ("otel.sdk.exporter.span.exported", "mlspan_otlp", None): 2,
        ("otel.sdk.exporter.span.exported", "mlspan", "refused"): 2,
        ("otel.sdk.processor.span.queue.size", "mlspan", None): 2,
        ("mlspan.errors", "mlspan", "writing content"): 3,
    }
    receiver.mode = "ok"
    until = time.monotonic() + 10
    while not tracing.flush(5) and time.monotonic() < until:
        time.sleep(0.1)
    provider.shutdown()
